/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent.h - rings of extents: one word for a run of neighbouring cells; private to the ring.
 *
 * An extent is a run of 1 to GQ_MAX_RUN cells whose slots follow each other. Positions count cells.
 * An extent of n cells at position p takes the positions p to p + n - 1, and only word p is
 * written: its tag says "published at p", its value says which cells. The next extent begins at p +
 * n.
 *
 *   A head is one word: the position of the extent at the front, and how many of its cells are
 *   taken (gq_head_of()). Takers walk from extent to extent, from the head on, and take with one
 *   swap of the head. It may take an extent in part.
 *
 *   A putter swaps the word at the end of what is published: from an old word to its own. It finds
 *   the end by a walk from its hint, the position behind its last put. A hint, a tail, and what a
 *   walk steps on is always a position at which an extent begins. So a word with an older tag says
 *   that nothing has been published there yet, and a word with a newer tag that the walk is a lap
 *   late and has to begin again, at the tail.
 *
 *   The tail is raised only where a put crosses a multiple of min(64, N) positions, by the putter
 * or by the next one that walks past. So it is less than N + GQ_MAX_RUN behind the end, and the
 * word at the tail is not overwritten while the tail is there.
 *
 * A ring for N cells has 2 N words. The word of an extent that is taken in part is needed until the
 * rest is taken. At most N positions are in use from the first cell that is not taken on, which is
 * up to n - 1 < N positions behind the word: so the position that is 2 N further on is not.
 *
 * Words inside of an extent stay as they were, from whatever lap. A tag repeats after 2^41
 * positions, and tags are compared as older and newer within half of that. So in one lap of 1024
 * the putter writes the words inside of its extents as well (gq_extent_wipe()), with the tag of the
 * lap before: such a word says what it said before, "nothing yet", and is young.
 */
#ifndef GPUQ_RING_EXTENT_H
#define GPUQ_RING_EXTENT_H

#include "host/ring/ring.h"

/* Steps are compiled once for each mode and for the most common call, so that what is constant in a
 * call costs nothing. */
#define GQ_ALWAYS_INLINE static inline __attribute__((always_inline))

/* Neighbouring cells. */
struct gq_run {
	uint32_t slot; /* the first one's */
	uint32_t n;
};

/* ---- the word of an extent ------------------------------------------------------------------- */

/* `n` neighbouring cells of one kind; if n > 1, of kind 0 and a length below 2^16. */
GQ_ALWAYS_INLINE uint64_t gq_entry_value(uint64_t slot, uint64_t len, uint64_t kind)
{
	return slot << GQ_SLOT_SHIFT | kind << GQ_LENGTH_BITS | len;
}

GQ_ALWAYS_INLINE uint64_t gq_run_value(uint64_t slot, uint32_t n, uint64_t len)
{
	return n == 1 ? gq_entry_value(slot, len, 0)
		      : gq_entry_value(slot, (uint64_t)(n - 1) << GQ_RUN_LENGTH_BITS | len,
				       GQ_KIND_RUN);
}

/* How many cells, as the word says: 1 to GQ_MAX_RUN. */
GQ_ALWAYS_INLINE uint32_t gq_extent_count(uint64_t word)
{
	return __builtin_expect(gq_entry_kind(word) == GQ_KIND_RUN, 0)
		       ? ((uint32_t)word >> GQ_RUN_LENGTH_BITS & (GQ_MAX_RUN - 1)) + 1
		       : 1;
}

/* Whether the word is from before `pos` was published. */
GQ_ALWAYS_INLINE bool gq_extent_is_older(const struct gq_word_ring *r, uint64_t word, uint64_t pos)
{
	return (int64_t)((word & ~r->value_mask) - gq_word_ring_tag(r, pos)) < 0;
}

/* ---- heads ----------------------------------------------------------------------------------- */

#define GQ_HEAD_SHIFT 6u
#define GQ_HEAD_MASK  ((UINT64_C(1) << GQ_HEAD_SHIFT) - 1)

/* Differences of positions, where a head takes part: it has these bits of a position. */
#define GQ_POSITION_MASK (UINT64_MAX >> GQ_HEAD_SHIFT)

GQ_ALWAYS_INLINE uint64_t gq_head_of(uint64_t pos)
{
	return pos << GQ_HEAD_SHIFT;
}

/* The position of the extent at the front. */
GQ_ALWAYS_INLINE uint64_t gq_head_start(uint64_t head)
{
	return head >> GQ_HEAD_SHIFT;
}

/* The position of the first cell that is not taken. */
GQ_ALWAYS_INLINE uint64_t gq_head_pos(uint64_t head)
{
	return gq_head_start(head) + (head & GQ_HEAD_MASK);
}

/* How far `pos` is ahead of a head. */
GQ_ALWAYS_INLINE int64_t gq_head_distance(uint64_t pos, uint64_t head)
{
	return (int64_t)((pos - gq_head_pos(head)) << GQ_HEAD_SHIFT) >> GQ_HEAD_SHIFT;
}

GQ_ALWAYS_INLINE uint64_t *gq_head_entry(const struct gq_word_ring *r, uint64_t head)
{
	return gq_word_ring_entry(r, gq_head_start(head));
}

GQ_ALWAYS_INLINE bool gq_head_is_at(const struct gq_word_ring *r, uint64_t word, uint64_t head)
{
	return gq_word_ring_is_at(r, word, gq_head_start(head));
}

/* The slot of the first cell of an extent that is not taken. */
GQ_ALWAYS_INLINE uint32_t gq_head_slot(const struct gq_box *b, uint64_t word, uint64_t head)
{
	return (uint32_t)(gq_entry_slot(b, word) + (head & GQ_HEAD_MASK)) & b->slot_mask;
}

/*
 * Up to `max` cells of the extent at *head, which moves past them. Of a liar's word, cells that
 * there are: at least one.
 */
GQ_ALWAYS_INLINE struct gq_run gq_head_take(const struct gq_box *b, uint64_t word, uint64_t *head,
					    uint32_t max)
{
	const uint32_t count = gq_extent_count(word), taken = (uint32_t)(*head & GQ_HEAD_MASK);
	const uint32_t left = taken < count ? count - taken : 1;
	struct gq_run run = { .slot = gq_head_slot(b, word, *head), .n = left < max ? left : max };

	if (max == 1) { /* known when this is compiled, for the most common call */
		run.n = 1;
		*head = left > 1 ? *head + 1 : gq_head_of(gq_head_start(*head) + count);
		return run;
	}
	if (__builtin_expect(run.n > b->slot_mask + 1 - run.slot, 0))
		run.n = b->slot_mask + 1 - run.slot;
	*head = run.n < left ? *head + run.n : gq_head_of(gq_head_start(*head) + count);
	return run;
}

/* Whether anything may be there. Sequentially consistent, as the sleeper's second look. */
GQ_ALWAYS_INLINE bool gq_extent_may_hold(const struct gq_word_ring *r)
{
	const uint64_t head = gq_load_relaxed_u64(r->head);
	const uint64_t word = gq_load_seq_cst_u64(gq_head_entry(r, head)); /* [sleep.look] */

	return !gq_extent_is_older(r, word, gq_head_start(head));
}

/*
 * The last word of a line of words will not be read again before it is written in the next lap:
 * write it back as it is, see gq_touch(). By a locked operation, because this thread does not own
 * it.
 */
GQ_ALWAYS_INLINE void gq_extent_touch(const struct gq_word_ring *r, uint64_t pos, uint32_t count)
{
	if (((pos ^ (pos + count)) & ~UINT64_C(7)) != 0)
		gq_write_back_u64(gq_word_ring_entry(r, pos));
}

/* ---- putting --------------------------------------------------------------------------------- */

/* Whether an extent from `pos` to `end` calls for a raise of the tail. */
GQ_ALWAYS_INLINE bool gq_extent_crosses(const struct gq_word_ring *r, uint64_t pos, uint64_t end)
{
	const uint64_t within = r->mask >> 1 & 63; /* of a ring for N cells: min(64, N) - 1 */

	return ((pos ^ end) & ~within) != 0;
}

/* Raise the tail to `end`, all before which is published. @return the tail: `end` or beyond. */
static inline uint64_t gq_extent_raise(const struct gq_word_ring *r, uint64_t end)
{
	/* Each try that fails has seen the tail raised past a multiple of min(64, N), and less than
	 * three of these lie before `end`; only where somebody writes nonsense there are more. */
	for (uint32_t left = 4; left != 0; left--) {
		/* [tail.read] acquire: pairs with [tail.raise] */
		const uint64_t tail = gq_load_acquire_u64(r->tail);

		if (gq_pos_diff(tail, end) >= 0)
			return tail;
		/* [tail.raise] release: pairs with [tail.read] */
		if (gq_cas_seq_cst_u64(r->tail, tail, end))
			break;
	}
	return end;
}

/* In one lap of so many, words inside of extents are written. A power of two. */
#define GQ_WIPE_LAPS 1024u

/*
 * Write the words inside of an extent that the caller has published, with the tag of the lap
 * before. By a swap of an old word: a caller that stands still here changes nothing afterwards that
 * anybody has written meanwhile.
 */
static __attribute__((noinline)) void gq_extent_wipe(const struct gq_word_ring *r, uint64_t pos,
						     uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		uint64_t *entry = gq_word_ring_entry(r, pos + i);
		const uint64_t old = gq_load_relaxed_u64(entry),
			       before = pos + i - gq_word_ring_size(r);

		/* Not an extent of the lap before: a putter with an old hint may walk along it. Not
		 * where a close has barred the ring: the caller may have stood still for laps, and
		 * this be the word at its end. */
		if (gq_extent_is_older(r, old, before) && (old & GQ_CLOSED) == 0)
			/* Relaxed: it publishes nothing. */
			gq_cas_relaxed_device_u64(entry, old, gq_word_ring_tag(r, before));
	}
}

GQ_ALWAYS_INLINE bool gq_extent_wipe_is_due(const struct gq_word_ring *r, uint64_t pos, uint32_t n)
{
	return __builtin_expect(n > 1 && (pos & (GQ_WIPE_LAPS - 1) * gq_word_ring_size(r)) == 0, 0);
}

enum gq_put { GQ_PUT_AGAIN, GQ_PUT_DONE, GQ_PUT_BARRED };

/*
 * One step of publishing an extent at the end of what is published, from *pos on, which moves past
 * it. Lock-free: a failed swap means that another putter published. A putter is owed room by
 * conservation (a cell is in one place at a time), so the ring is never full here.
 *
 * @param count  cells of `value`
 * @param bar  a bit of values, or 0: where the word at the end has it, nothing is put there nor
 *             behind it (see gq_extent_try_bar())
 */
GQ_ALWAYS_INLINE enum gq_put gq_extent_try_put(const struct gq_word_ring *r, uint64_t *pos,
					       uint64_t value, uint32_t count, uint64_t bar)
{
	const uint64_t at = *pos;
	uint64_t *entry = gq_word_ring_entry(r, at);
	/* [tail.read] acquire: a position seen published is passed on by [tail.raise]. [class.look]
	 */
	const uint64_t old = gq_load_acquire_u64(entry);

	if (__builtin_expect(gq_extent_is_older(r, old, at), 1)) {
		if (__builtin_expect((old & bar) != 0, 0))
			return GQ_PUT_BARRED;
		GQ_WINDOW();
		/* [pool.return], [message.publish] release: publishes the cells, to [pool.take],
		 * [message.claim]. Sequentially consistent because [wake.look] follows. */
		if (__builtin_expect(
			    !gq_cas_seq_cst_u64(entry, old, gq_word_ring_tag(r, at) | value), 0))
			return GQ_PUT_AGAIN;
		GQ_WINDOW();
		*pos = at + count;
		if (gq_extent_wipe_is_due(r, at, count))
			gq_extent_wipe(r, at, count);
		if (gq_extent_crosses(r, at, *pos))
			*pos = gq_extent_raise(r, *pos);
		return GQ_PUT_DONE;
	}
	if (gq_word_ring_is_at(r, old, at)) {
		/* Another putter's extent; that putter may stand still before it raises the tail.
		 * So every putter that walks past raises it. And where others have come further, it
		 * goes on from there: a walk from an old hint is short. */
		*pos = at + gq_extent_count(old);
		if (gq_extent_crosses(r, at, *pos))
			*pos = gq_extent_raise(r, *pos);
	} else {
		*pos = gq_load_acquire_u64(r->tail); /* [tail.read]: lapped meanwhile */
	}
	return GQ_PUT_AGAIN;
}

/*
 * One step of barring a ring for good: a bit in the word at the end of what is published, whatever
 * else is in that word (an old extent, all of which is taken). Putters swap the very word that the
 * bit changes, so each has published before it or finds it. Idempotent.
 *
 * @return whether it is barred, at `*pos`; false: step again.
 */
static inline bool gq_extent_try_bar(const struct gq_word_ring *r, uint64_t *pos, uint64_t bar)
{
	uint64_t *entry = gq_word_ring_entry(r, *pos);
	const uint64_t old = gq_load_acquire_u64(entry); /* [tail.read] acquire, as for a putter */

	if (gq_word_ring_is_at(r, old, *pos)) {
		*pos = gq_extent_raise(r, *pos + gq_extent_count(old));
	} else if (gq_extent_is_older(r, old, *pos)) {
		GQ_WINDOW();
		/* [class.bar] release: that the ring is closed. */
		return (old & bar) != 0 || gq_cas_seq_cst_u64(entry, old, old | bar);
	} else {
		*pos = gq_load_acquire_u64(r->tail); /* [tail.read]: lapped meanwhile */
	}
	return false;
}

/* Where the published extents end, as far as one sees: the tail may be behind. */
static inline uint64_t gq_extent_end(const struct gq_word_ring *r)
{
	const uint64_t tail = gq_load_acquire_u64(r->tail); /* [tail.read] */
	uint64_t end = tail;

	while (end - tail < gq_word_ring_size(r)) {
		const uint64_t word = gq_load_acquire_u64(gq_word_ring_entry(r, end));

		if (!gq_word_ring_is_at(r, word, end))
			break;
		end += gq_extent_count(word);
	}
	return end;
}

#endif /* GPUQ_RING_EXTENT_H */
