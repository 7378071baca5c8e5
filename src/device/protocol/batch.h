/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - steps of the host and the CPU device that move many messages at once. */
#ifndef GPUQ_PROTOCOL_BATCH_H
#define GPUQ_PROTOCOL_BATCH_H

#include "device/protocol/claim.h"
#include "device/protocol/complete.h"

/* ---- reap ------------------------------------------------------------------------------------ */

/* A completion that has been taken off the ring, and whose message is not yet marked finished. */
struct gq_arrived {
	uint32_t slot, outcome;
};

/*
 * Up to `max` completions in order, as many gq_reap() would give one by one.
 * @return how many
 */
GQ_FN uint32_t gq_reap_many(const struct gq_channel *ch, struct gq_arrived *arrived, uint32_t max)
{
	const uint64_t pos = gq_load_relaxed_u64(ch->done.head);
	uint32_t n = 0;

	while (n < max &&
	       gq_look_at_done(ch, pos + n, &arrived[n].slot, &arrived[n].outcome) == GQ_WHOLE)
		n++;
	if (n != 0)
		gq_store_relaxed_u64(ch->done.head, pos + n);
	return n;
}

/* ---- return ---------------------------------------------------------------------------------- */

/* Put `n` free slots into the pool, at neighbouring positions unless another thread returns some
 * meanwhile. The tail follows once, behind the last. */
GQ_FN void gq_pool_return(const struct gq_word_ring *pool, uint64_t slot_mask, const uint64_t *ids,
			  uint32_t n)
{
	/* [tail.read] acquire: pairs with [tail.raise] */
	uint64_t pos = gq_load_acquire_u64(pool->tail);

	for (uint32_t i = 0; i < n; i++)
		gq_word_ring_put(pool, &pos, ids[i] & slot_mask); /* [pool.return] */
	GQ_WINDOW();
	gq_word_ring_raise_tail(pool, pos);
}

#endif /* GPUQ_PROTOCOL_BATCH_H */
