/* SPDX-License-Identifier: Apache-2.0 */
/* lost.c - cells that are nowhere: reading the rings, and putting cells back. */
#include "host/ring/lost.h"

#include "host/ring/cell.h"

#include <string.h>

/* A head whose word is still the head's, or not there yet. @return false: it moves all the time. */
static bool settle_head(const struct gq_word_ring *ring, uint64_t *head)
{
	for (int tries = 0; tries < 64; tries++) {
		uint64_t word;

		*head = gq_load_acquire_u64(ring->head);
		GQ_WINDOW();
		/* [pool.take], [message.claim] */
		word = gq_load_acquire_u64(gq_head_entry(ring, *head));
		if (gq_head_is_at(ring, word, *head) ||
		    gq_extent_is_older(ring, word, gq_head_start(*head)))
			return true;
	}
	return false;
}

/*
 * Mark the cells that are in a ring. If positions and words are nonsense, so are the marks.
 *
 * At most N cells are in the ring when the head is read, at the positions from there on. The walk
 * ends where nothing is published yet, or where a word behind the first is a lap newer: then all
 * that was in the ring has been taken meanwhile. The first word may be newer although some has not:
 * an extent that has been taken in part begins before the head.
 */
static void mark_ring(const RingQueue *r, const struct gq_box *b, const struct gq_word_ring *ring,
		      uint8_t *found)
{
	uint64_t head;

	if (!settle_head(ring, &head)) {
		memset(found, 1, gq_box_cells(b)); /* rather lose a cell than have it twice */
		return;
	}
	for (uint64_t n = 0; n < gq_box_cells(b);) {
		/* [pool.take], [message.claim] */
		const uint64_t word = gq_load_acquire_u64(gq_head_entry(ring, head));
		struct gq_run run;

		if (!gq_head_is_at(ring, word, head))
			break;
		run = gq_head_take(b, word, &head, GQ_MAX_RUN);
		for (uint32_t i = 0; i < run.n; i++)
			found[run.slot + i] = 1;
		n += run.n;
		if (ring == &b->pool || !gq_is_in_parts(b, word))
			continue;
		for (struct gq_chain c = gq_chain_of(r, b, word); gq_chain_next(b, &c);)
			found[c.slot] = 1;
	}
}

void gq__ring_mark_found(const RingQueue *r, const struct gq_box *b, uint8_t *found)
{
	for (uint32_t c = 0; c < b->classes; c++)
		mark_ring(r, b, &b->ready[c], found);
	mark_ring(r, b, &b->pool, found);
}

/* Put a cell back into the pool. In single mode the receiver is dead, or this thread is it. */
static void put_back(const RingQueue *r, const struct gq_box *b, uint32_t slot)
{
	const struct gq_word_ring *pool = &b->pool;
	const uint64_t value = gq_run_value(slot, 1, 0);
	uint64_t pos = gq_load_acquire_u64(pool->tail); /* [tail.read] */

	if (r->single) {
		gq_store_release_u64(gq_word_ring_entry(pool, pos),
				     gq_word_ring_tag(pool, pos) | value); /* [pool.return] */
		gq_store_release_u64(pool->tail, pos + 1);
		return;
	}
	for (int tries = 0; tries < 1 << 16; tries++)
		if (gq_extent_try_put(pool, &pos, value, 1, 0) == GQ_PUT_DONE)
			return;
}

/* ---- single mode: the positions of a dead thread -------------------------------------------- */

/*
 * Whether the dead thread has put its entries. If not, undo those that it had begun with.
 *
 * The positions of a side are its own words, stored after what they count. Before a thread
 * publishes, it writes down the positions as they will be (its plan); whether it has published
 * shows in the ring. It puts the first entry last, and the other side looks at no other entry
 * before that one is there. So either all entries are there, or none as far as any thread has seen,
 * and then those that are there can be taken away again.
 *
 * No other thread puts on this side, and the other side overwrites only entries of a lap before. So
 * these entries stay as they were at the death.
 */
static bool has_put(const struct gq_word_ring *ring, uint64_t pos, uint64_t n)
{
	if (gq_word_ring_is_at(ring, gq_load_acquire_u64(gq_word_ring_entry(ring, pos)), pos))
		return true;
	for (uint64_t i = 1; i < n && i < gq_word_ring_size(ring); i++)
		gq_store_release_u64(gq_word_ring_entry(ring, pos + i),
				     gq_word_ring_tag(ring, pos + i - gq_word_ring_size(ring)));
	return false;
}

void gq__ring_finish_plan(RingQueue *r, struct gq_ring_peer *dead)
{
	const enum gq_op op = (enum gq_op)(gq_ring_op_of(dead) & GQ_OP_MASK);
	struct gq_box *b = gq_op_moves_messages(op) ? &r->messages : &r->completions;
	const uint64_t what = gq_load_relaxed_u64(&dead->plan_what);
	const uint64_t class = what & 0xff, n = what >> 8;
	const uint64_t ready = gq_load_relaxed_u64(&dead->plan_ready);
	const uint64_t pool = gq_load_relaxed_u64(&dead->plan_pool);

	if (gq_load_acquire_u64(&dead->plan_op) != gq_ring_op_of(dead) || class >= b->classes)
		return; /* nothing was published */
	if (op == b->send_op) {
		bool put = has_put(&b->ready[class], ready, n);

		gq_store_release_u64(b->ready[class].tail, ready + (put ? n : 0));
		if (put)
			gq_store_release_u64(b->pool.head, pool);
	} else {
		bool put = has_put(&b->pool, pool, n);

		gq_store_release_u64(b->pool.tail, pool + (put ? n : 0));
		/* The messages that it had begun to take are lost with it; their cells are put
		 * back. */
		gq_store_release_u64(b->ready[class].head, ready);
	}
	/* Only once: a cell that is put back from here on looks as if it had been planned. */
	gq_store_release_u64(&dead->plan_op, GQ_OP_IDLE);
}

void gq__ring_put_back_lost(RingQueue *r, const struct gq_box *b, const uint64_t *number,
			    const uint8_t *found)
{
	/* A repairer may have died after it put a cell back and before it stored the tail. */
	if (r->single)
		gq_store_release_u64(b->pool.tail, gq_extent_end(&b->pool));
	for (uint64_t i = 0; i < gq_box_cells(b); i++) {
		if (found[i] == 0 && gq_load_acquire_u64(&b->number[i]) == number[i]) {
			put_back(r, b, (uint32_t)i);
			gq_fetch_add_relaxed_u64(&r->head->repair.reclaimed, 1);
		}
	}
	if (r->single)
		return;
	/* Not needed, but makes the counts by tails exact. */
	gq_extent_raise(&b->pool, gq_extent_end(&b->pool));
	for (uint32_t c = 0; c < b->classes; c++)
		gq_extent_raise(&b->ready[c], gq_extent_end(&b->ready[c]));
}
