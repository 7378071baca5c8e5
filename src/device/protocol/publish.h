/* SPDX-License-Identifier: Apache-2.0 */
/* publish.h - the producer's steps: take a free slot from the pool, publish it filled. Host only.
 */
#ifndef GPUQ_PROTOCOL_PUBLISH_H
#define GPUQ_PROTOCOL_PUBLISH_H

#include "device/protocol/channel.h"

#define GQ_POOL_CLOSED UINT64_C(1) /* in the pool's head, which holds position << 1 */

/*
 * One step of taking `min` to `max` free slots, or none, of consecutive positions from *pos on;
 * their words are the ids of the messages to come.
 *
 * @return whether it is decided: *n were taken. 0 with *closed false means that at one instant
 * fewer than `min` slots were free: the pool has no holes, so there is no release in flight that
 * one would have to wait out. False: step again.
 */
GQ_FN bool gq_pool_try_pop(const struct gq_word_ring *pool, uint64_t *pos, uint64_t *ids,
			   uint32_t min, uint32_t max, uint32_t *n, bool *closed)
{
	uint64_t head = gq_load_acquire_u64(pool->head); /* [intake.look]: sees the stop's close */
	uint64_t word = 0;
	uint32_t found = 0;

	*n = 0;
	*pos = head >> 1;
	*closed = (head & GQ_POOL_CLOSED) != 0;
	if (*closed)
		return true;
	for (; found < max; found++) {
		/* [pool.take] acquire: the previous owner is done with the slot.
		 * Sequentially consistent for a producer that waits for room: [sleep.look]. */
		word = gq_load_seq_cst_u64(gq_word_ring_entry(pool, *pos + found));
		if (!gq_word_ring_is_at(pool, word, *pos + found))
			break;
		ids[found] = word;
	}
	if (found < min) /* nothing published there yet; else: our head was old */
		return gq_word_ring_is_at(pool, word, *pos + found - gq_word_ring_size(pool));
	GQ_WINDOW();
	/* [intake.close]: against other poppers and the stop's close, which makes it fail. */
	if (!gq_cas_acq_rel_u64(pool->head, head, head + 2 * (uint64_t)found))
		return false;
	*n = found;
	return true;
}

/* Take up to `max` free slots. @return how many; 0: none is free, or the pool is closed. */
GQ_FN uint32_t gq_pool_pop(const struct gq_word_ring *pool, uint64_t *ids, uint32_t max,
			   bool *closed)
{
	uint64_t pos;
	uint32_t n;

	while (!gq_pool_try_pop(pool, &pos, ids, 1, max, &n, closed))
		;
	return n;
}

/* Hand `n` filled slots of one class over, in order. */
GQ_FN void gq_publish(const struct gq_channel *ch, uint32_t priority, const uint64_t *ids,
		      uint32_t n)
{
	const struct gq_word_ring *r = &ch->ready[priority];
	/* [tail.read] acquire: pairs with [tail.raise] */
	uint64_t pos = gq_load_acquire_u64(r->tail);

	for (uint32_t i = 0; i < n; i++) {
		gq_word_ring_put(r, &pos, ids[i] & r->value_mask);
		if (GQ_HAS_BAR1 && ch->hints != NULL) {
			GQ_WINDOW(); /* the next lap's may come first: then that one is overwritten
				      */
			/* [hint.write] release: what the slot's producer has seen. */
			gq_store_release_u64(gq_hint_at(ch, priority, pos - 1),
					     gq_word_ring_tag(r, pos - 1) |
						     (ids[i] & r->value_mask));
		}
	}
	if (GQ_HAS_BAR1 && ch->hints != NULL)
		gq_push_stores();
	GQ_WINDOW();
	gq_word_ring_raise_tail(r, pos);
}

#endif /* GPUQ_PROTOCOL_PUBLISH_H */
