/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - the pool of free slots: take slots for messages to come, and return them. Host only; a
 * grid reads the entries.
 */
#ifndef GPUQ_PROTOCOL_POOL_H
#define GPUQ_PROTOCOL_POOL_H

#include "device/protocol/slot.h"
#include "device/protocol/word_ring.h"

/*
 * A ring of extents. An extent is a run of up to `max_run` slots whose numbers follow each other;
 * positions count slots. One of n slots at position p takes the positions p to p + n - 1, and only
 * word p is written: its tag says "free at p", its value the first slot and n - 1. The next extent
 * begins at p + n. So a batch of neighbours is returned, and taken, by one swap.
 *
 *   Takers go from extent to extent, from the head on, and take by one swap of the head. They may
 *   take an extent in part: the head says where the extent at the front begins, and how many of its
 *   slots are taken.
 *
 *   Whoever returns an extent swaps the word at the end of what is free: from an old word to its
 *   own. It finds the end from the tail on, which is always a position at which an extent begins or
 *   will begin. There a word with an older tag says that nothing has been returned yet, and one
 *   with a newer tag that the walk is a lap late. Words inside of extents stay as they were; nobody
 *   reads them.
 *
 * With runs the ring has twice as many words as there are slots: the word of an extent that is
 * taken in part is needed until the rest is taken. At most N slots are free, from the first that is
 * not taken on, and that is up to n - 1 < N positions behind the word; so the position that is 2 N
 * further on is not among them.
 *
 * Where a grid reads the entries, to guess the next message's id, each is of one slot and is the
 * id, and there are as many as slots.
 */
struct gq_pool {
	struct gq_word_ring ring;
	uint32_t max_run;   /* a power of two, at most GQ_MAX_POOL_RUN and the slots */
	uint32_t id_shift;  /* an id is position << id_shift | slot */
	uint32_t order;     /* log2 of the number of slots */
	uint32_t pos_shift; /* of the head: see below */
};

#define GQ_POOL_RUN_BITS 6u
#define GQ_MAX_POOL_RUN  (1u << GQ_POOL_RUN_BITS)

/* Words of a pool of 2^order slots. */
GQ_FN uint64_t gq_pool_words(uint32_t order, bool runs)
{
	return UINT64_C(1) << (order + (runs ? 1 : 0));
}

/* ---- the head -------------------------------------------------------------------------------- */

/*
 * position of the extent at the front << pos_shift | slots of it that are taken << 1 | closed.
 * Positions are signed there. They have 57 bits with runs, as the tags of such a ring; and 63
 * without, where nothing is taken in part: the words' tags have up to 60.
 */
#define GQ_POOL_CLOSED     UINT64_C(1)
#define GQ_POOL_RUNS_SHIFT (GQ_POOL_RUN_BITS + 1)

GQ_FN uint64_t gq_pool_head_of(const struct gq_pool *pool, uint64_t start, uint32_t taken)
{
	return start << pool->pos_shift | taken << 1;
}

GQ_FN uint64_t gq_pool_start(const struct gq_pool *pool, uint64_t head)
{
	return (uint64_t)((int64_t)head >> pool->pos_shift);
}

GQ_FN uint32_t gq_pool_taken(const struct gq_pool *pool, uint64_t head)
{
	return (uint32_t)head >> 1 & (pool->max_run - 1);
}

/* How many slots are free, of a tail and a head that were read one after the other. */
GQ_FN uint64_t gq_pool_free(const struct gq_pool *pool, uint64_t tail, uint64_t head)
{
	const uint64_t pos = gq_pool_start(pool, head) + gq_pool_taken(pool, head);

	return (tail - pos) << pool->pos_shift >> pool->pos_shift;
}

/* ---- an extent's word ------------------------------------------------------------------------ */

GQ_FN uint32_t gq_pool_slot(const struct gq_pool *pool, uint64_t word)
{
	return (uint32_t)word & ((1u << pool->order) - 1);
}

/* How many slots, as the word says. */
GQ_FN uint32_t gq_pool_run(const struct gq_pool *pool, uint64_t word)
{
	return ((uint32_t)(word >> pool->order) & (pool->max_run - 1)) + 1;
}

GQ_FN uint64_t gq_pool_word(const struct gq_pool *pool, uint64_t pos, uint32_t slot, uint32_t n)
{
	return gq_word_ring_tag(&pool->ring, pos) | (uint64_t)(n - 1) << pool->order | slot;
}

/* 0: the word is of an extent at `pos`; less: of an earlier position, so nothing has been put there
 * yet; more: of a later one. */
GQ_FN int64_t gq_pool_age(const struct gq_pool *pool, uint64_t word, uint64_t pos)
{
	const struct gq_word_ring *r = &pool->ring;

	return (int64_t)((word & ~r->value_mask) - gq_word_ring_tag(r, pos));
}

/* ---- setting up ------------------------------------------------------------------------------ */

/* @param entry  gq_pool_words() of them */
GQ_FN struct gq_pool gq_pool_of(uint64_t *entry, uint64_t *head, uint64_t *tail, uint32_t order,
				bool runs)
{
	struct gq_pool pool;

	pool.id_shift = gq_id_shift(order);
	pool.order = order;
	pool.max_run = !runs ? 1 : order < GQ_POOL_RUN_BITS ? 1u << order : GQ_MAX_POOL_RUN;
	pool.pos_shift = runs ? GQ_POOL_RUNS_SHIFT : 1;
	/* With runs the tag leaves out what the entry's index says, and has as many bits of a
	 * position as the head. */
	pool.ring = runs ? gq_word_ring_of(entry, head, tail, order + 1,
					   order + 1 + GQ_POOL_RUNS_SHIFT, order + 1)
			 : gq_word_ring_of(entry, head, tail, order, pool.id_shift, 0);
	return pool;
}

/* All slots are free, from position `start` on. */
GQ_FN void gq_pool_fill(const struct gq_pool *pool, uint64_t start)
{
	const struct gq_word_ring *r = &pool->ring;
	const uint64_t slots = UINT64_C(1) << pool->order;

	for (uint64_t i = 0; i < gq_word_ring_size(r); i++)
		*gq_word_ring_entry(r, start + i) =
			gq_word_ring_tag(r, start + i - gq_word_ring_size(r));
	for (uint64_t i = 0; i < slots; i += pool->max_run)
		*gq_word_ring_entry(r, start + i) =
			gq_pool_word(pool, start + i, (uint32_t)i, pool->max_run);
	*r->head = gq_pool_head_of(pool, start, 0);
	*r->tail = start + slots;
}

/* ---- take ------------------------------------------------------------------------------------ */

/*
 * One step of taking up to `max` free slots, at least one, of consecutive positions; ids[] are the
 * ids of the messages to come.
 *
 * @return whether it is decided: *n were taken. 0 with *closed false means that at one instant no
 * slot was free: the pool has no holes, so there is no release in flight that one would have to
 * wait out. False: step again.
 */
GQ_FN bool gq_pool_try_pop(const struct gq_pool *pool, uint64_t *ids, uint32_t max, uint32_t *n,
			   bool *closed)
{
	const struct gq_word_ring *r = &pool->ring;
	const uint64_t head =
		gq_load_acquire_u64(r->head); /* [intake.look]: sees the stop's close */
	const uint64_t next = (UINT64_C(1) << pool->id_shift) + 1; /* position and slot */
	uint64_t start = gq_pool_start(pool, head), word;
	uint32_t taken = gq_pool_taken(pool, head), found = 0;

	*n = 0;
	*closed = (head & GQ_POOL_CLOSED) != 0;
	if (*closed)
		return true;
	do {
		uint32_t count, end;
		uint64_t id;

		GQ_WINDOW();
		/* [pool.take] acquire: the previous owner is done with the slots.
		 * Sequentially consistent for a producer that waits for room: [sleep.look]. */
		word = gq_load_seq_cst_u64(gq_word_ring_entry(r, start));
		if (!gq_word_ring_is_at(r, word, start))
			break;
		count = gq_pool_run(pool, word);
		end = count - taken < max - found ? found + (count - taken) : max;
		id = ((start + taken) << pool->id_shift) | (gq_pool_slot(pool, word) + taken);
		taken += end - found;
		for (; found < end; id += next)
			ids[found++] = id;
		if (taken == count) {
			start += count;
			taken = 0;
		}
	} while (found < max);
	if (found == 0) /* nothing is there yet; else: our head was old */
		return gq_pool_age(pool, word, start) < 0;
	GQ_WINDOW();
	/* [intake.close]: against other takers and the stop's close, which makes it fail. */
	if (!gq_cas_acq_rel_u64(r->head, head, gq_pool_head_of(pool, start, taken)))
		return false;
	*n = found;
	return true;
}

/* Take up to `max` free slots. @return how many; 0: none is free, or the pool is closed. */
GQ_FN uint32_t gq_pool_pop(const struct gq_pool *pool, uint64_t *ids, uint32_t max, bool *closed)
{
	uint32_t n;

	while (!gq_pool_try_pop(pool, ids, max, &n, closed))
		;
	return n;
}

/* ---- return ---------------------------------------------------------------------------------- */

/*
 * One step of returning an extent behind what is free, from *pos on, which moves past it.
 * Lock-free, as gq_word_ring_try_put() is.
 * @return whether it is there; false: step again.
 */
GQ_FN bool gq_pool_try_put(const struct gq_pool *pool, uint64_t *pos, uint32_t slot, uint32_t n)
{
	const struct gq_word_ring *r = &pool->ring;
	uint64_t *entry = gq_word_ring_entry(r, *pos);
	/* [tail.read] acquire: a position seen free is passed on by [tail.raise]. */
	const uint64_t old = gq_load_acquire_u64(entry);
	const int64_t newer = gq_pool_age(pool, old, *pos);

	if (newer < 0) {
		GQ_WINDOW();
		/* [pool.return] release: the slots, to [pool.take]. Sequentially consistent because
		 * [wake.look] follows. */
		if (gq_cas_seq_cst_u64(entry, old, gq_pool_word(pool, *pos, slot, n))) {
			*pos += n;
			return true;
		}
	} else if (newer == 0) {
		/* Another's extent; that thread may stand still before it raises the tail. So
		 * everybody that goes past raises it; one try is enough. Of extents of one slot:
		 * see gq_word_ring_try_put(). With runs a try may raise by less than it went
		 * past; but each call begins at the tail, so that lags by no more than the slots
		 * there are, and the ring has twice as many words. */
		*pos += gq_pool_run(pool, old);
		(void)gq_word_ring_try_raise(r, *pos);
	} else {
		*pos = gq_load_acquire_u64(r->tail); /* [tail.read]: lapped meanwhile */
	}
	return false;
}

/* Put `n` free slots into the pool, at least one: neighbours by one step, and all at neighbouring
 * positions unless another thread returns some meanwhile. The tail follows once, behind the last.
 */
GQ_FN void gq_pool_return(const struct gq_pool *pool, const uint64_t *ids, uint32_t n)
{
	const uint64_t slot_mask = (UINT64_C(1) << pool->id_shift) - 1;
	/* [tail.read] acquire: pairs with [tail.raise] */
	uint64_t pos = gq_load_acquire_u64(pool->ring.tail);
	uint32_t i = 0;

	do {
		const uint32_t slot = (uint32_t)(ids[i] & slot_mask);
		uint32_t run = 1;

		for (i++; i < n && run < pool->max_run && (ids[i] & slot_mask) == slot + run; i++)
			run++;
		while (!gq_pool_try_put(pool, &pos, slot, run))
			;
	} while (i < n);
	GQ_WINDOW();
	gq_word_ring_raise_tail(&pool->ring, pos);
}

#endif /* GPUQ_PROTOCOL_POOL_H */
