/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - steps of the host and the CPU device that move many messages at once. */
#ifndef GPUQ_PROTOCOL_BATCH_H
#define GPUQ_PROTOCOL_BATCH_H

#include "device/protocol/claim.h"
#include "device/protocol/complete.h"

/* ---- complete -------------------------------------------------------------------------------- */

/* A consumer raises the tail of completions when it comes to a multiple of this, or always on a
 * ring that has not twice as many entries. */
#define GQ_LAZY_TAIL 8u

/*
 * gq_complete() by a consumer that goes on from where its last completion went, `*pos`, so it need
 * not load the tail, and raises it for several at once. The tail stays less than a lap behind: it
 * is raised past every entry of another that *pos goes past, and by GQ_LAZY_TAIL of the caller's.
 * If *pos itself has been lapped, the put begins at the tail.
 */
GQ_FN void gq_complete_next(const struct gq_channel *ch, uint64_t *pos, uint32_t slot,
			    uint32_t outcome)
{
	const struct gq_word_ring *r = &ch->done;
	const uint64_t value = gq_done_value(ch, slot, outcome), began = *pos;

	/* [message.complete]. Others may have put a lap's worth while the caller was inside a
	 * processor: then go on from the tail, and not past each of theirs. */
	while (!gq_word_ring_try_put(r, pos, value)) {
		if (*pos - began == GQ_LAZY_TAIL) {
			const uint64_t tail = gq_load_acquire_u64(r->tail); /* [tail.read] */

			*pos = (int64_t)(tail - *pos) > 0 ? tail : *pos;
		}
	}
	GQ_WINDOW();
	if (*pos % GQ_LAZY_TAIL == 0 || gq_word_ring_size(r) < UINT64_C(2) * GQ_LAZY_TAIL)
		gq_word_ring_raise_tail(r, *pos);
}

/* A consumer that has nothing to do for now leaves no tail behind. */
GQ_FN void gq_complete_rest(const struct gq_channel *ch, uint64_t pos)
{
	gq_word_ring_raise_tail(&ch->done, pos);
}

/* ---- reap ------------------------------------------------------------------------------------ */

/* A completion that has been taken off the ring, and whose message is not yet marked finished. */
struct gq_arrived {
	uint32_t slot, outcome;
};

/*
 * Up to `max` completions in order, as many gq_reap() would give one by one, up to the first with a
 * sealed result: then *sealed.
 * @return how many
 */
GQ_FN uint32_t gq_reap_plain(const struct gq_channel *ch, struct gq_arrived *arrived, uint32_t max,
			     bool *sealed)
{
	const struct gq_word_ring r = ch->done; /* a copy: stays in registers */
	const uint64_t pos = gq_load_relaxed_u64(r.head);
	uint32_t n = 0;

	*sealed = false;
	for (; n < max; n++) {
		/* [message.reap], [sleep.look]: as in gq_look_at_done() */
		const uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(&r, pos + n));
		const uint64_t value = gq_word_ring_value(&r, word);

		if (!gq_word_ring_is_at(&r, word, pos + n))
			break;
		if (__builtin_expect((value >> r.order & GQ_OUTCOME_SEALED) != 0, 0)) {
			*sealed = true;
			break;
		}
		arrived[n].slot = (uint32_t)(value & r.mask);
		arrived[n].outcome = (uint32_t)(value >> r.order);
	}
	if (n != 0)
		gq_store_relaxed_u64(r.head, pos + n);
	return n;
}

/* ---- publish --------------------------------------------------------------------------------- */

/*
 * gq_publish() by the only thread that publishes on this queue: no other writes the class's entries
 * or its tail, so nothing is swapped. Not with hints.
 *
 * The last entry is a sequentially consistent store because [wake.look] follows: consumers look at
 * entries before they sleep. A thread that waits for a GPU looks at tails; then (`by_tail`) the
 * tail's is one, too. The entries before the last are seen by a thread that sees it. The entry of a
 * lap ago is free, as a slot is in one place at a time.
 */
GQ_FN void gq_publish_alone(const struct gq_channel *ch, uint32_t priority, const uint64_t *ids,
			    uint32_t n, bool by_tail)
{
	const struct gq_word_ring r = ch->ready[priority]; /* a copy: stays in registers */
	const uint64_t pos = gq_load_relaxed_u64(r.tail);

	for (uint32_t i = 0; i < n; i++) {
		const uint64_t word = gq_word_ring_tag(&r, pos + i) | (ids[i] & r.value_mask);

		GQ_WINDOW();
		/* [message.publish] release: publishes the slot, to [message.claim]. */
		if (i + 1 < n)
			gq_store_release_u64(gq_word_ring_entry(&r, pos + i), word);
		else
			gq_store_seq_cst_u64(gq_word_ring_entry(&r, pos + i), word);
	}
	GQ_WINDOW();
	/* [tail.raise] release: pairs with [tail.read]. Sequentially consistent for [wake.look]. */
	if (by_tail)
		gq_store_seq_cst_u64(r.tail, pos + n);
	else
		gq_store_release_u64(r.tail, pos + n);
}

#endif /* GPUQ_PROTOCOL_BATCH_H */
