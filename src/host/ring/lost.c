/* SPDX-License-Identifier: Apache-2.0 */
/* lost.c - cells that are nowhere: reading the rings, and putting cells back. */
#include "host/ring/lost.h"

#include "host/ring/cell.h"
#include "host/ring/move.h"

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
 * Mark the cells that are in a ring from a head on. If positions and words are nonsense, so are the
 * marks. @return the position at which the walk has ended.
 *
 * At most N cells are in the ring when the head is read, at the positions from there on. The walk
 * ends where nothing is published yet, or where a word behind the first is a lap newer: then all
 * that was in the ring has been taken meanwhile. The first word may be newer although some has not:
 * an extent that has been taken in part begins before the head.
 */
static uint64_t mark_from(const RingQueue *r, const struct gq_box *b,
			  const struct gq_word_ring *ring, uint64_t head, uint8_t *found)
{
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
	return gq_head_start(head);
}

static void mark_ring(const RingQueue *r, const struct gq_box *b, const struct gq_word_ring *ring,
		      uint8_t *found)
{
	uint64_t head;

	if (settle_head(ring, &head))
		mark_from(r, b, ring, head, found);
	else
		memset(found, 1, gq_box_cells(b)); /* rather lose a cell than have it twice */
}

void gq__ring_mark_found(const RingQueue *r, const struct gq_box *b, uint8_t *found)
{
	for (uint32_t c = 0; c < b->classes; c++)
		mark_ring(r, b, &b->ready[c], found);
	mark_ring(r, b, &b->pool, found);
}

/* Put a cell back into the pool. */
static void put_back(const struct gq_box *b, uint32_t slot)
{
	const struct gq_word_ring *pool = &b->pool;
	const uint64_t value = gq_run_value(slot, 1, 0);
	uint64_t pos = gq_load_acquire_u64(pool->tail); /* [tail.read] */

	for (int tries = 0; tries < 1 << 16; tries++)
		if (gq_extent_try_put(pool, &pos, value, 1, 0) == GQ_PUT_DONE)
			return;
}

void gq__ring_put_back_lost(RingQueue *r, const struct gq_box *b, const uint64_t *number,
			    const uint8_t *found)
{
	for (uint64_t i = 0; i < gq_box_cells(b); i++) {
		if (found[i] == 0 && gq_load_acquire_u64(&b->number[i]) == number[i]) {
			put_back(b, (uint32_t)i);
			gq_fetch_add_relaxed_u64(&r->head->repair.reclaimed, 1);
		}
	}
	/* Not needed, but makes the counts by tails exact. */
	gq_extent_raise(&b->pool, gq_extent_end(&b->pool));
	for (uint32_t c = 0; c < b->classes; c++)
		gq_extent_raise(&b->ready[c], gq_extent_end(&b->ready[c]));
}

/* ---- single mode: after the death of a sender ------------------------------------------------ */

/*
 * What the dead sender has begun and not published at `end` of a class is taken away again. It put
 * the first entry of a step last, and the receiver looks at no other one before that one is there.
 * So either all entries of the step are there, or none as far as the receiver has seen.
 */
static void unpublish(const struct gq_word_ring *ready, uint64_t end)
{
	for (uint64_t pos = end + 1; pos < end + GQ_CHUNK; pos++) {
		uint64_t *entry = gq_word_ring_entry(ready, pos);

		if (gq_word_ring_is_at(ready, gq_load_relaxed_u64(entry), pos))
			gq_store_release_u64(
				entry, gq_word_ring_tag(ready, pos - gq_word_ring_size(ready)));
	}
}

/*
 * The receiver may go on meanwhile: it moves its heads, and looks at words from there to the end of
 * what is published, which stay. Nobody sends: the side is the dead thread's until its peer is
 * free. And nobody else repairs. Nothing here depends on whether it has been done before in part,
 * so a repairer may die anywhere.
 */
void gq__ring_free_unsent(const RingQueue *r, const struct gq_box *b, uint8_t *used)
{
	const uint32_t cells = (uint32_t)gq_box_cells(b);
	uint64_t pos = gq_load_relaxed_u64(b->pool.tail);

	memset(used, 0, cells);
	for (uint32_t c = 0; c < b->classes; c++) {
		const struct gq_word_ring *ready = &b->ready[c];
		const uint64_t head = gq_load_acquire_u64(ready->head); /* [cell.reuse] */
		const uint64_t end = mark_from(r, b, ready, head, used);

		GQ_WINDOW();
		unpublish(ready, end);
		gq_store_release_u64(ready->tail, end); /* [tail.raise] */
		/* What has been received by now, and is not in use again, goes into the pool. */
		gq_store_relaxed_u64(&b->reused[c], head);
	}
	GQ_WINDOW();
	gq_store_relaxed_u64(b->pool.head, gq_head_of(pos));
	for (uint32_t slot = 0, n; slot < cells; slot += n) {
		if (used[slot] != 0) {
			n = 1;
			continue;
		}
		for (n = 1; n < GQ_MAX_RUN && slot + n < cells && used[slot + n] == 0;)
			n++;
		gq_store_relaxed_u64(gq_word_ring_entry(&b->pool, pos),
				     gq_word_ring_tag(&b->pool, pos) | gq_run_value(slot, n, 0));
		pos += n;
	}
	gq_store_relaxed_u64(b->pool.tail, pos);
}
