/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse.h - single mode: free cells out of what has been received; private to the ring.
 *
 * In single mode one thread receives, so of each class all before the head has been received, and
 * the entries there still say in which cells it was. One thread sends, so it may take those cells
 * again, in this order, without asking anybody. The receiver gives nothing back: its only store,
 * the head, frees the cells.
 *
 *   reused[c], written by the sender: a head in class c, as gq_head_of(). The cells before it have
 *   been taken again; those from there to the receiver's head are free.
 *
 *   The pool is the sender's as well, both its positions. In it are only the cells of a new ring,
 *   those that a sender has taken and not used, and those that a repair has found.
 *
 *   A source is the pool or a class. The sender's hints name one, and how far cells in it are known
 *   to be free. When all of these are taken, the sender looks at the heads again.
 *
 * The word of an extent is needed until the last of its cells is taken again. From reused[c] to the
 * end of class c there are at most N cells, and the extent at reused[c] begins less than
 * min(GQ_MAX_RUN, N) positions before. That is less than 2 N, so nothing newer is written over it.
 * Nobody but the sender looks at words before the head, so it may change them (gq_reuse_part()).
 *
 * A receiver that dies leaves nothing to repair: what its head has not passed is received by its
 * successor. What a sender had in its hands when it died shows in the classes: see
 * gq__ring_free_unsent().
 */
#ifndef GPUQ_RING_REUSE_H
#define GPUQ_RING_REUSE_H

#include "host/ring/cell.h"

/* Name a source, of which nothing is known yet. */
static inline void gq_reuse_begin(const struct gq_box *b, struct gq_box_hints *hints)
{
	hints->source = &b->pool;
	hints->reused = b->pool.head;
	hints->received = gq_load_relaxed_u64(hints->reused);
}

/* Whether the hints know of a free cell, where the sender is at `reused` in their source. Those of
 * a thread that has not sent for long are too old, and know of none. */
GQ_ALWAYS_INLINE bool gq_reuse_knows(const struct gq_box_hints *hints, uint64_t reused)
{
	return __builtin_expect((int64_t)(hints->received - reused) > 0, 1);
}

/* The hints know of no free cell any more: look for some. @return false: no cell is free. */
static inline bool gq_reuse_look(const struct gq_box *b, struct gq_box_hints *hints)
{
	gq_reuse_begin(b, hints);
	hints->received = gq_head_of(gq_load_relaxed_u64(b->pool.tail));
	for (uint32_t c = 0; !gq_reuse_knows(hints, gq_load_relaxed_u64(hints->reused)); c++) {
		if (c == b->classes)
			return false;
		hints->source = &b->ready[c];
		hints->reused = &b->reused[c];
		/* [cell.reuse] acquire: the receiver has read the cells. Sequentially consistent
		 * for a sender that waits for room: [sleep.look]. */
		hints->received = gq_load_seq_cst_u64(b->ready[c].head);
	}
	return true;
}

/* Take the first cell of a long message that has been received; the entry becomes that of the rest.
 */
static inline uint32_t gq_reuse_part(const struct gq_box *b, const struct gq_box_hints *hints,
				     uint64_t word)
{
	const uint64_t slots = (uint64_t)b->slot_mask << GQ_SLOT_SHIFT;
	const uint64_t start = gq_head_start(gq_load_relaxed_u64(hints->reused));
	const uint32_t slot = gq_entry_slot(b, word);
	const uint64_t link = gq_load_relaxed_u64(&b->chain[slot]);

	if ((link & GQ_PART_CONTINUES) != 0)
		gq_store_relaxed_u64(gq_word_ring_entry(hints->source, start),
				     (word & ~slots) | (link >> GQ_PART_SLOT_SHIFT & b->slot_mask)
							       << GQ_SLOT_SHIFT);
	else
		gq_store_relaxed_u64(hints->reused, gq_head_of(start + 1));
	return slot;
}

/* Take up to `max` cells that the hints know of: at least one. */
GQ_ALWAYS_INLINE struct gq_run gq_reuse_take(const struct gq_box *b,
					     const struct gq_box_hints *hints, uint32_t max)
{
	uint64_t head = gq_load_relaxed_u64(hints->reused);
	const uint64_t word = gq_load_relaxed_u64(gq_head_entry(hints->source, head));
	const uint64_t known = hints->received - head;
	struct gq_run run;

	if (__builtin_expect(gq_is_in_parts(b, word), 0))
		return (struct gq_run){ .slot = gq_reuse_part(b, hints, word), .n = 1 };
	/* Of an extent that has been received in part, that part. None of it is left only where a
	 * liar has moved the head since the caller looked. */
	if (gq_head_start(hints->received) == gq_head_start(head) && known != 0 && known < max)
		max = (uint32_t)known;
	run = gq_head_take(b, word, &head, max);
	/* Relaxed: a successor acquires all that an operation has done. */
	gq_store_relaxed_u64(hints->reused, head);
	return run;
}

#endif /* GPUQ_RING_REUSE_H */
