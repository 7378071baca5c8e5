/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.h - the steps that sends and receives share, in pairs; private to the ring.
 *
 * _many: many threads on each side. Every step is a compare-and-swap of the protocol's.
 * _single: one thread on each side (Q_RING_SINGLE). The same words are written by plain stores,
 * because each has one writer; the fence before the look for sleepers is the sleeper's
 * (gq__ring_reach()).
 *
 * Loops are bounded, whatever a peer writes into the shared words meanwhile: no call makes more
 * than about the ring's size and GQ_TRIES steps for a message. Among correct peers a step is
 * repeated only because another thread has moved a position. So:
 *
 *  - If a step fails and no position has moved, the memory is damaged.
 *  - A thread that is overtaken GQ_TRIES times in a call gives up with the answer that means "try
 *    again": no room (of a batch: what has been accepted), or nothing there. It does not call that
 *    damage, because nothing tells it from a ring on which others are fast. Nor does it happen on a
 *    correct ring: a try is lost only if another thread's swap falls between two neighbouring
 *    instructions of ours. A thread that is held up there while others go round the ring, for
 *    however long, loses one try: it finds itself lapped and goes on from the tail. If 99 of 100
 *    tries were lost, GQ_TRIES in a row would be one chance in 10^286.
 *  - A putter goes past entries that others have published, so it may take a lap more than that. A
 *    ring holds fewer entries than its size while the putter has a cell in its hands. So correct
 *    peers do not come to a position that far from the head: that is damage.
 *
 * A cell that cannot be given back for either reason is lost until a repair finds it.
 */
#ifndef GPUQ_RING_STEP_H
#define GPUQ_RING_STEP_H

#include "host/ring/bind.h"
#include "host/ring/cell.h"
#include "host/ring/fence.h"
#include "host/ring/move.h"

enum { GQ_TRIES = 1 << 16 };

static inline QueueStatus gq_ring_damaged(void)
{
	return gq__fail(Q_ERR_FAILED, "the ring's memory is damaged");
}

/* ---- the begin and the end of an operation --------------------------------------------------- */

GQ_ALWAYS_INLINE void op_begin(const RingQueue *r, struct gq_ring_peer *peer, enum gq_op op)
{
	uint64_t word = gq_load_relaxed_u64(&peer->op) & ~GQ_OP_MASK;

	gq_store_relaxed_u64(&peer->op, word + op);
	gq_ring_fence(r->head, peer);
}

GQ_ALWAYS_INLINE void op_end(struct gq_ring_peer *peer)
{
	uint64_t word = gq_load_relaxed_u64(&peer->op) & ~GQ_OP_MASK;

	/* [operation.end] release: all that the operation wrote. */
	gq_store_release_u64(&peer->op, word + GQ_OP_NEXT);
}

GQ_ALWAYS_INLINE QueueStatus begin_many(RingQueue *r, enum gq_op op, struct gq_ring_local **out)
{
	struct gq_ring_local *local = gq_ring_local_of(r);

	if (__builtin_expect(local == NULL, 0))
		return Q_ERR_LIMIT;
	*out = local;
	op_begin(r, local->peer, op);
	return Q_OK;
}

GQ_ALWAYS_INLINE QueueStatus begin_single(RingQueue *r, uint64_t *role, enum gq_op op,
					  struct gq_ring_local **out)
{
	struct gq_ring_local *local = gq_ring_local_of(r);

	if (__builtin_expect(local == NULL, 0))
		return Q_ERR_LIMIT;
	*out = local;
	if (__builtin_expect(gq_load_relaxed_u64(role) != local->role, 0)) {
		QueueStatus status = gq__ring_take_role(r, role, local, op);

		if (status != Q_OK)
			return status;
	}
	op_begin(r, local->peer, op);
	return Q_OK;
}

/* ---- waking ---------------------------------------------------------------------------------- */

/* Look for sleepers after having published, and wake them. [wake.look]: what was published is a
 * sequentially consistent swap. */
GQ_ALWAYS_INLINE void wake_many(uint32_t *armed)
{
	if (__builtin_expect(gq_load_seq_cst_u32(armed) % 2 != 0, 0))
		gq__flag_wake_shared(armed);
}

/* [wake.look]: pairs with the sleeper's gq__ring_reach(). */
GQ_ALWAYS_INLINE void wake_single(RingQueue *r, struct gq_ring_peer *peer, uint32_t *armed)
{
	gq_ring_fence(r->head, peer);
	if (__builtin_expect(gq_load_relaxed_u32(armed) % 2 != 0, 0))
		gq__flag_wake_shared(armed);
}

/* ---- putting extents into a ring --------------------------------------------------------------
 */

/* Whether correct peers cannot have filled the ring up to `pos`, as the caller holds a cell. */
static __attribute__((noinline)) bool is_beyond(const struct gq_box *b,
						const struct gq_word_ring *ring, uint64_t pos)
{
	return gq_head_distance(pos, gq_load_acquire_u64(ring->head)) >= (int64_t)gq_box_cells(b);
}

/*
 * Put extents, from the hint on, which moves past them. *done says how many are put. They are fewer
 * than `n` if the ring is barred (*barred), or if others overtake all the time. @return false:
 * damaged.
 */
GQ_ALWAYS_INLINE bool put_many(const struct gq_box *b, const struct gq_word_ring *ring,
			       uint64_t *hint, const uint64_t *values, uint32_t n, uint64_t bar,
			       uint32_t *done, bool *barred)
{
	/* [tail.read] A hint that is behind the tail, or a lap or more ahead of it, is of a thread
	 * that has put nothing here for long, or was told a lie: words and tags may have gone round
	 * since. */
	const uint64_t tail = gq_load_acquire_u64(ring->tail);
	uint64_t pos = *hint - tail < gq_word_ring_size(ring) ? *hint : tail;
	uint64_t left = gq_box_cells(b) + GQ_TRIES;

	*barred = false;
	for (*done = 0; *done < n; ++*done) {
		uint64_t best = pos;
		enum gq_put put;

		/* After a lost swap, go on past the winner's extent. */
		for (uint32_t stuck = 0;; stuck++) {
			put = gq_extent_try_put(ring, &pos, values[*done],
						gq_extent_count(values[*done]), bar);
			if (__builtin_expect(put == GQ_PUT_DONE, 1))
				break;
			if (put == GQ_PUT_BARRED) {
				*barred = true;
				return true;
			}
			if (--left == 0) {
				*hint = pos;
				return !is_beyond(b, ring, pos);
			}
			if (gq_pos_diff(pos, best) > 0) {
				best = pos;
				stuck = 0;
			} else if (stuck > 64) {
				return false;
			}
		}
	}
	*hint = pos;
	return true;
}

static __attribute__((noinline)) bool put_one_slowly(const struct gq_box *b,
						     const struct gq_word_ring *ring,
						     uint64_t *hint, uint64_t value, uint64_t bar,
						     uint32_t *done, bool *barred)
{
	return put_many(b, ring, hint, &value, 1, bar, done, barred);
}

/* The same of one cell, which mostly can be put at the hint. */
GQ_ALWAYS_INLINE bool put_one_many(const struct gq_box *b, const struct gq_word_ring *ring,
				   uint64_t *hint, uint64_t value, uint64_t bar, uint32_t *done,
				   bool *barred)
{
	uint64_t pos = *hint;

	/* [tail.read], as in put_many() */
	if (__builtin_expect(pos - gq_load_acquire_u64(ring->tail) < gq_word_ring_size(ring) &&
				     gq_extent_try_put(ring, &pos, value, 1, bar) == GQ_PUT_DONE,
			     1)) {
		*hint = pos;
		*done = 1;
		*barred = false;
		return true;
	}
	return put_one_slowly(b, ring, hint, value, bar, done, barred);
}

/*
 * Put extents one behind the other, the first one last. The other side looks at the first only, so
 * the line stays ours until it is there; and then all of them are there. @return where they end.
 */
GQ_ALWAYS_INLINE uint64_t put_single(const struct gq_word_ring *ring, const uint64_t *values,
				     uint32_t n)
{
	const uint64_t pos = gq_load_relaxed_u64(ring->tail);
	uint64_t end = pos;

	for (uint32_t i = 1; i < n; i++)
		end += gq_extent_count(values[i - 1]);
	for (uint32_t i = n; i-- > 0; end -= i != 0 ? gq_extent_count(values[i - 1]) : 0)
		gq_store_release_u64(gq_word_ring_entry(ring, end),
				     gq_word_ring_tag(ring, end) | values[i]);
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t count = gq_extent_count(values[i]);

		if (gq_extent_wipe_is_due(ring, end, count))
			gq_extent_wipe(ring, end, count);
		end += count;
	}
	gq_store_release_u64(ring->tail, end); /* [tail.raise]: for threads that count */
	return end;
}

/* The same of one cell. */
GQ_ALWAYS_INLINE void put_one_single(const struct gq_word_ring *ring, uint64_t value)
{
	const uint64_t pos = gq_load_relaxed_u64(ring->tail);

	gq_store_release_u64(gq_word_ring_entry(ring, pos), gq_word_ring_tag(ring, pos) | value);
	gq_store_release_u64(ring->tail, pos + 1); /* [tail.raise]: for threads that count */
}

/* ---- runs of cells in a thread's hands ------------------------------------------------------- */

/* Add cells to those that are to be put: to the last run, if they follow it. */
GQ_ALWAYS_INLINE void add_run(struct gq_run *runs, uint32_t *n, struct gq_run more)
{
	if (*n != 0 && runs[*n - 1].slot + runs[*n - 1].n == more.slot &&
	    runs[*n - 1].n + more.n <= GQ_MAX_RUN)
		runs[*n - 1].n += more.n;
	else
		runs[(*n)++] = more;
}

/* Give cells back to the pool. @return false: damaged. */
GQ_ALWAYS_INLINE bool give_back_many(const struct gq_box *b, struct gq_box_hints *hints,
				     const struct gq_run *runs, uint32_t n)
{
	uint64_t values[GQ_MAX_PARTS];
	bool barred;

	for (uint32_t i = 0; i < n; i++)
		values[i] = gq_run_value(runs[i].slot, runs[i].n, 0);
	/* [pool.return] */
	return put_many(b, &b->pool, &hints->pool, values, n, 0, &n, &barred);
}

/* ---- steps of every send --------------------------------------------------------------------- */

GQ_ALWAYS_INLINE bool is_closed(const RingQueue *r)
{
	return __builtin_expect(gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN, 0);
}

/* The number of the first of `n` messages whose cells were popped at `pos`. Without Q_RING_LARGE a
 * message takes one cell, so the pool's position counts them; it has 58 bits. */
GQ_ALWAYS_INLINE uint64_t take_numbers_many(const struct gq_box *b, uint64_t pos, uint32_t n)
{
	return b->sequence == NULL ? (pos - b->start_pos) & GQ_POSITION_MASK
				   : gq_fetch_add_relaxed_u64(b->sequence, n);
}

/* Stored before the messages are published: if the sender dies, the next one's numbers are others.
 */
GQ_ALWAYS_INLINE uint64_t take_numbers_single(const struct gq_box *b, uint32_t n)
{
	const uint64_t first = gq_load_relaxed_u64(b->sequence);

	gq_store_relaxed_u64(b->sequence, first + n);
	return first;
}

/* End an operation that has found no free cell. The caller sets q_last_error(), unless it tries
 * again. */
GQ_ALWAYS_INLINE QueueStatus end_without_room(bool messages, struct gq_ring_peer *peer)
{
	if (messages)
		gq_ring_tally(&peer->full, 1);
	op_end(peer);
	return Q_ERR_FULL;
}

#endif /* GPUQ_RING_STEP_H */
