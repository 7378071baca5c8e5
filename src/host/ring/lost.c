/* SPDX-License-Identifier: Apache-2.0 */
/* lost.c - cells that are nowhere: reading the rings, and putting cells back. */
#include "host/ring/lost.h"

#include "host/ring/cell.h"

/* Mark the cells in the pool. If positions and words are nonsense, so are the marks. */
static void mark_pool(const struct gq_box *b, uint8_t *found)
{
	const uint64_t head = gq_load_acquire_u64(b->pool.head) >> 1;

	for (uint64_t i = 0; i < gq_word_ring_size(&b->pool); i++) {
		/* [pool.take] */
		uint64_t word = gq_load_acquire_u64(gq_word_ring_entry(&b->pool, head + i));

		if (gq_word_ring_is_at(&b->pool, word, head + i))
			found[gq_pool_slot(b, word)] = 1;
	}
}

/* Mark the cells of a class's messages. */
static void mark_class(const RingQueue *r, const struct gq_box *b, uint32_t class, uint8_t *found)
{
	const struct gq_word_ring *ready = &b->ready[class];
	const uint64_t head = gq_load_acquire_u64(ready->head);

	for (uint64_t i = 0; i < gq_word_ring_size(ready); i++) {
		/* [message.claim] */
		uint64_t word = gq_load_acquire_u64(gq_word_ring_entry(ready, head + i));
		uint32_t slot = gq_entry_slot(b, word);

		if (!gq_word_ring_is_at(ready, word, head + i))
			continue;
		found[slot] = 1;
		if (!gq_is_in_parts(b, word))
			continue;
		for (struct gq_chain c = gq_chain_of(r, b, word); gq_chain_next(b, &c);)
			found[c.slot] = 1;
	}
}

void gq__ring_mark_found(const RingQueue *r, const struct gq_box *b, uint8_t *found)
{
	for (uint32_t c = 0; c < b->classes; c++)
		mark_class(r, b, c, found);
	mark_pool(b, found);
}

/* Put a cell back into the pool. In single mode the receiver is dead, or this thread is it. */
static void put_back(const RingQueue *r, const struct gq_box *b, uint32_t slot)
{
	const struct gq_word_ring *pool = &b->pool;
	uint64_t pos = gq_load_acquire_u64(pool->tail); /* [tail.read] */

	if (r->single) {
		gq_store_release_u64(gq_word_ring_entry(pool, pos),
				     gq_word_ring_tag(pool, pos) | slot); /* [pool.return] */
		gq_store_release_u64(pool->tail, pos + 1);
		return;
	}
	for (int tries = 0; tries < 1 << 16; tries++) {
		if (gq_word_ring_try_put(pool, &pos, slot)) {
			gq_word_ring_raise_tail(pool, pos);
			return;
		}
	}
}

/* Where the published entries end: a thread that dies may not have raised the tail to there. */
static uint64_t end_of(const struct gq_word_ring *ring)
{
	uint64_t pos = gq_load_acquire_u64(ring->tail); /* [tail.read] */

	for (uint64_t i = 0; i < gq_word_ring_size(ring); i++, pos++)
		if (!gq_word_ring_is_at(ring, gq_load_acquire_u64(gq_word_ring_entry(ring, pos)),
					pos))
			break;
	return pos;
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
	const uint64_t class = what & 0xff, entries = what >> 8 & 0xffffff, slots = what >> 32;
	const uint64_t ready_pos = gq_load_relaxed_u64(&dead->plan_ready_pos);
	const uint64_t pool_pos = gq_load_relaxed_u64(&dead->plan_pool_pos);

	if (gq_load_acquire_u64(&dead->plan_op) != gq_ring_op_of(dead) || class >= b->classes)
		return; /* nothing was published */
	if (op == b->send_op) {
		bool put = has_put(&b->ready[class], ready_pos, entries);

		gq_store_release_u64(b->ready[class].tail, ready_pos + (put ? entries : 0));
		gq_store_release_u64(b->pool.head, (pool_pos + (put ? slots : 0)) << 1);
	} else {
		bool put = has_put(&b->pool, pool_pos, slots);

		gq_store_release_u64(b->pool.tail, pool_pos + (put ? slots : 0));
		/* The messages that it had begun to take are lost with it; their cells are put
		 * back. */
		gq_store_release_u64(b->ready[class].head, ready_pos + entries);
	}
	/* Only once: a cell that is put back from here on looks as if it had been planned. */
	gq_store_release_u64(&dead->plan_op, GQ_OP_IDLE);
}

void gq__ring_put_back_lost(RingQueue *r, const struct gq_box *b, const uint64_t *number,
			    const uint8_t *found)
{
	/* A repairer may have died after it put a cell back and before it stored the tail. */
	if (r->single)
		gq_store_release_u64(b->pool.tail, end_of(&b->pool));
	for (uint64_t i = 0; i < gq_word_ring_size(&b->pool); i++) {
		if (found[i] == 0 && gq_load_acquire_u64(&b->number[i]) == number[i]) {
			put_back(r, b, (uint32_t)i);
			gq_fetch_add_relaxed_u64(&r->head->repair.reclaimed, 1);
		}
	}
	if (r->single)
		return;
	/* Not needed, but makes the counts by tails exact. */
	gq_word_ring_raise_tail(&b->pool, end_of(&b->pool));
	for (uint32_t c = 0; c < b->classes; c++)
		gq_word_ring_raise_tail(&b->ready[c], end_of(&b->ready[c]));
}
