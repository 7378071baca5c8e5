/* SPDX-License-Identifier: Apache-2.0 */
/*
 * word_ring.h - a ring of 64-bit words: the pool of free slots, the classes of published messages,
 * the completions, and the rings of gpuq/ring.h are all made of it.
 */
#ifndef GPUQ_PROTOCOL_WORD_RING_H
#define GPUQ_PROTOCOL_WORD_RING_H

#include "device/protocol/atomics.h"
#include "device/protocol/layout.h"

/*
 * Positions are free-running and 64-bit; entry = position & mask. An entry word carries a tag made
 * from the position in its upper bits and a value in the lower ones, so that "published" means
 * "the tag is the position's" and nothing is ever cleared. Two positions a lap apart always differ
 * in their tag; a tag repeats only after 2^(64 - shift + drop) positions.
 *
 * The words themselves (entry, head, tail) may lie in different memories; this is only a view of
 * them, constant after setup.
 */
struct gq_word_ring {
	uint64_t *entry; /* 2^order words */
	uint64_t *head;  /* next position to take; written by takers */
	uint64_t *tail;  /* a position all before which are published; written by putters */
	/* Masks and a factor in place of shifts, which by a variable count are slow: */
	uint64_t mask;       /* entries - 1 */
	uint64_t value_mask; /* the bits of a word below its tag */
	uint64_t kept;       /* the bits of a position that its tag is made of */
	uint64_t scale;      /* tag = kept bits of the position * scale */
	uint32_t order;      /* log2 of the number of entries */
	uint32_t shift;      /* bits of an entry's value */
};

/*
 * @param shift  bits of an entry's value
 * @param drop   low bits of a position that its tag leaves out; at most order, at most shift
 */
GQ_FN struct gq_word_ring gq_word_ring_of(uint64_t *entry, uint64_t *head, uint64_t *tail,
					  uint32_t order, uint32_t shift, uint32_t drop)
{
	struct gq_word_ring r;

	r.entry = entry;
	r.head = head;
	r.tail = tail;
	r.mask = (UINT64_C(1) << order) - 1;
	r.value_mask = (UINT64_C(1) << shift) - 1;
	r.kept = ~((UINT64_C(1) << drop) - 1);
	r.scale = UINT64_C(1) << (shift - drop);
	r.order = order;
	r.shift = shift;
	return r;
}

GQ_FN uint64_t gq_word_ring_size(const struct gq_word_ring *r)
{
	return r->mask + 1;
}

GQ_FN uint64_t *gq_word_ring_entry(const struct gq_word_ring *r, uint64_t pos)
{
	return &r->entry[pos & r->mask];
}

/* The tag that position `pos` gives its entry, in place. */
GQ_FN uint64_t gq_word_ring_tag(const struct gq_word_ring *r, uint64_t pos)
{
	return (pos & r->kept) * r->scale;
}

GQ_FN uint64_t gq_word_ring_value(const struct gq_word_ring *r, uint64_t word)
{
	return word & r->value_mask;
}

GQ_FN bool gq_word_ring_is_at(const struct gq_word_ring *r, uint64_t word, uint64_t pos)
{
	return (word ^ gq_word_ring_tag(r, pos)) <= r->value_mask;
}

#define GQ_WORDS_TOUCHED 8u /* of a line of the host's */

/*
 * Where putters and takers are threads of the host: the entry at `pos` has been taken. If it is the
 * last of its line, write it back as it is. A core that has only read a line leaves it shared, and
 * the next lap's putter has to ask for it. By a locked operation, as the entry
 * is not the taker's: it changes nothing, so it may come at any time, and however late.
 */
GQ_FN void gq_word_ring_touch(const struct gq_word_ring *r, uint64_t pos)
{
	if (pos % GQ_WORDS_TOUCHED == GQ_WORDS_TOUCHED - 1)
		gq_write_back_u64(gq_word_ring_entry(r, pos));
}

/* Signed distance of two free-running positions. */
GQ_FN int64_t gq_pos_diff(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b);
}

/*
 * One try to advance the tail to at least `end`; everything before it has been seen published.
 * @return whether it is there. False: another has raised it meanwhile, by one at least.
 */
GQ_FN bool gq_word_ring_try_raise(const struct gq_word_ring *r, uint64_t end)
{
	/* [tail.read] acquire: pairs with [tail.raise] */
	uint64_t tail = gq_load_acquire_u64(r->tail);

	/* [tail.raise] release: pairs with [tail.read]. Sequentially consistent for a stop that
	 * waits until all slots are back: [wake.look]. */
	return gq_pos_diff(tail, end) >= 0 || gq_cas_seq_cst_u64(r->tail, tail, end);
}

/* Advance it there. It is less than a lap behind, so as each try that fails has seen it raised, a
 * lap's tries do; only where somebody writes nonsense they do not. */
GQ_FN void gq_word_ring_raise_tail(const struct gq_word_ring *r, uint64_t end)
{
	for (uint64_t left = gq_word_ring_size(r); left != 0 && !gq_word_ring_try_raise(r, end);
	     left--)
		;
}

/*
 * One step of publishing a value at the next free position, from `*pos` on, which moves past it.
 *
 * Lock-free: a failed swap means that another putter published. A putter is owed room by
 * conservation (a slot is in one place at a time), so the ring is never full here.
 * Source: the entry-swap queue with a helped tail of Tsigas and Zhang (SPAA 2001), with full
 * positions in place of their two null values.
 * @return whether it is published; false: step again.
 */
GQ_FN bool gq_word_ring_try_put(const struct gq_word_ring *r, uint64_t *pos, uint64_t value)
{
	uint64_t *entry = gq_word_ring_entry(r, *pos);
	const uint64_t tag = gq_word_ring_tag(r, *pos);
	/* Of the position a lap before: a tag leaves out less than a lap. */
	const uint64_t before = tag - gq_word_ring_size(r) * r->scale;
	/* [tail.read] acquire: a position seen published is passed on by [tail.raise]. */
	uint64_t old = gq_load_acquire_u64(entry);

	if ((old ^ before) <= r->value_mask) {
		GQ_WINDOW();
		/* [pool.return], [message.publish], [message.complete] release: publishes the slot,
		 * to [pool.take], [message.claim], [message.reap]. Sequentially consistent because
		 * [wake.look] follows: see gq_event. */
		if (gq_cas_seq_cst_u64(entry, old, tag | value)) {
			++*pos;
			return true;
		}
	} else if ((old ^ tag) <= r->value_mask) {
		/* Another putter's entry; that putter may stand still before it raises the tail. So
		 * every putter that goes past raises it, and the tail is never a lap behind. One
		 * try is enough: if it fails, another has raised the tail. So since *pos was loaded
		 * from the tail, the tail has been raised as often as *pos has gone past an entry,
		 * and is behind *pos by no more than what the caller has itself put in between:
		 * less than a lap. */
		++*pos;
		(void)gq_word_ring_try_raise(r, *pos);
	} else {
		*pos = gq_load_acquire_u64(r->tail); /* [tail.read]: lapped meanwhile */
	}
	return false;
}

/* Publish one value. The caller raises the tail to `*pos` when it has put its last. */
GQ_FN void gq_word_ring_put(const struct gq_word_ring *r, uint64_t *pos, uint64_t value)
{
	while (!gq_word_ring_try_put(r, pos, value))
		;
}

GQ_FN void gq_word_ring_put_one(const struct gq_word_ring *r, uint64_t value)
{
	/* [tail.read] acquire: pairs with [tail.raise] */
	uint64_t pos = gq_load_acquire_u64(r->tail);

	gq_word_ring_put(r, &pos, value);
	GQ_WINDOW();
	gq_word_ring_raise_tail(r, pos);
}

#endif /* GPUQ_PROTOCOL_WORD_RING_H */
