/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol.h - the layouts host and consumers share, and every step of the protocol between them.
 *
 * Compiled unchanged by gcc, clang, nvcc and NVRTC. docs/design.md explains the construction,
 * docs/memory-model.md has the table of its edges: every acquire and release below carries a label
 * ([message.publish], [message.claim], ...) that names it there. In short:
 *
 *   pool     Free slots sit in a ring of slot numbers. A producer pops one [pool.take] and owns
 *            the slot; the word it popped is the message's id.
 *   publish  The producer fills the slot and puts its number into the ring of the message's class
 *            by one compare-and-swap of the ring entry [message.publish], whose upper bits carry
 *            the position. Nobody reserves a place and then fills it, so there are no holes: a
 *            producer that stalls or dies before the swap delays nobody.
 *   claim    A consumer that sees the entry at a class cursor published [message.claim] claims it
 *            by advancing the cursor. Stop, cancel, deadline and priority are decided here.
 *   complete The consumer puts slot and outcome into the completion ring [message.complete]; the
 *            host reaps them in order [message.reap].
 *   park     A consumer that finds nothing registers, looks again [sleep.look], then sleeps. A
 *            publisher looks for sleepers after it has published [wake.look].
 *
 * No ring can overflow: each holds a slot at most once, and has room for all of them.
 */
#ifndef GPUQ_DEVICE_PROTOCOL_H
#define GPUQ_DEVICE_PROTOCOL_H

#include <stddef.h>

#include "device/protocol/atomics.h"

#if defined(__cplusplus)
#define GQ_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define GQ_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* Bytes: a GPU's cache line, and two of the CPU's, which it fetches in pairs. */
#define GQ_LINE       128
#define GQ_ALIGNED(n) __attribute__((aligned(n)))

#define GQ_CLASSES   4u /* priority classes: 0 low, 1 normal, 2 high, 3 urgent */
#define GQ_MAX_ORDER 20u
#define GQ_NONE      UINT32_MAX

/* ---- rings of words --------------------------------------------------------------------- */

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
	return (word & ~r->value_mask) == gq_word_ring_tag(r, pos);
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

	/* [tail.raise] release: pairs with [tail.read]. Sequentially consistent for who waits until
	 * all slots are back: [wake.look]. */
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

enum gq_put { GQ_PUT_AGAIN, GQ_PUT_DONE, GQ_PUT_BARRED };

/*
 * One step of publishing a value at the next free position, from `*pos` on, which moves past it.
 *
 * Lock-free: a failed swap means that another putter published. Whoever holds a value to put is
 * owed room by conservation (a slot is in one place at a time), so the ring is never full here.
 * Source: the entry-swap queue with a helped tail of Tsigas and Zhang (SPAA 2001), with full
 * positions in place of their two null values.
 *
 * @param bar  a bit of values, or 0: where the next free position's entry has it, nothing is put
 *             there nor behind it (see gq_word_ring_try_bar())
 */
GQ_FN enum gq_put gq_word_ring_try_put_unless(const struct gq_word_ring *r, uint64_t *pos,
					      uint64_t value, uint64_t bar)
{
	uint64_t *entry = gq_word_ring_entry(r, *pos);
	/* [tail.read] acquire: a position seen published is passed on by [tail.raise]. [class.look]
	 */
	uint64_t old = gq_load_acquire_u64(entry);

	if (gq_word_ring_is_at(r, old, *pos)) {
		/* Another's, who may stand still before raising the tail. Whoever goes past raises
		 * it, so the tail is never a lap behind. One try does: if it fails, another has
		 * raised it; so since *pos was loaded from the tail, the tail has been raised as
		 * often as *pos has gone past an entry, and is behind *pos by no more than what the
		 * caller has itself put in between: less than a lap. */
		++*pos;
		(void)gq_word_ring_try_raise(r, *pos);
	} else if (gq_word_ring_is_at(r, old, *pos - gq_word_ring_size(r))) {
		if ((old & bar) != 0)
			return GQ_PUT_BARRED;
		GQ_WINDOW();
		/* [pool.return], [message.publish], [message.complete] release: publishes the slot,
		 * to [pool.take], [message.claim], [message.reap]. Sequentially consistent because
		 * [wake.look] follows: see gq_event. */
		if (gq_cas_seq_cst_u64(entry, old, gq_word_ring_tag(r, *pos) | value)) {
			++*pos;
			return GQ_PUT_DONE;
		}
	} else {
		*pos = gq_load_acquire_u64(r->tail); /* [tail.read]: lapped meanwhile */
	}
	return GQ_PUT_AGAIN;
}

/* @return whether it is published; false: step again. */
GQ_FN bool gq_word_ring_try_put(const struct gq_word_ring *r, uint64_t *pos, uint64_t value)
{
	return gq_word_ring_try_put_unless(r, pos, value, 0) == GQ_PUT_DONE;
}

/*
 * One step of barring a ring for good: a bit in the entry of the next free position, whatever else
 * is in that word (the entry of a lap ago: taken, or in a full ring still to be taken). Putters
 * swap the very word that the bit changes, so each has published before it or finds it. Idempotent.
 *
 * @return whether it is barred, at `*pos`; false: step again.
 */
GQ_FN bool gq_word_ring_try_bar(const struct gq_word_ring *r, uint64_t *pos, uint64_t bar)
{
	uint64_t *entry = gq_word_ring_entry(r, *pos);
	uint64_t old = gq_load_acquire_u64(entry); /* [tail.read] acquire, as for a putter */

	if (gq_word_ring_is_at(r, old, *pos)) {
		++*pos;
		gq_word_ring_raise_tail(r, *pos);
	} else if (gq_word_ring_is_at(r, old, *pos - gq_word_ring_size(r))) {
		GQ_WINDOW();
		/* [class.bar] release: that the ring is closed. */
		return (old & bar) != 0 || gq_cas_seq_cst_u64(entry, old, old | bar);
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

/* ---- slots ------------------------------------------------------------------------------ */

enum gq_slot_flags {
	GQ_SLOT_DISCARD = 1u << 0,   /* free at completion */
	GQ_SLOT_DESCRIBED = 1u << 1, /* the payload is elsewhere: gq_slot.described */
	GQ_SLOT_COPIED = 1u << 2,    /* the copy engine brings the payload: gq_slot.arrival */
};

/*
 * What the producer says of its message; the payload follows at GQ_PAYLOAD_OFFSET. Written by the
 * owner of the slot before publication ([message.publish]) and read-only from then on, but for two
 * words.
 */
struct gq_slot {
	uint64_t msg_id;
	uint64_t tag;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	uint64_t cancel;      /* ~msg_id; q_cancel() swaps in msg_id, at any time */
	uint32_t len;         /* payload bytes */
	uint32_t opcode;
	uint32_t flags;    /* gq_slot_flags */
	uint32_t priority; /* class, 0 to GQ_CLASSES - 1 */
	/* odd: a host sleeps on this word until the slot completes ([sleep.look]) */
	uint32_t armed;
	uint32_t reserved0;
	union {
		uint64_t seal;            /* gq_seal_of_message(); of a long one anything */
		const uint8_t *described; /* with GQ_SLOT_DESCRIBED: the payload */
		uint64_t arrival;         /* with GQ_SLOT_COPIED: gq_counters.arrived by then */
	};
};

#define GQ_PAYLOAD_OFFSET 64u
GQ_STATIC_ASSERT(sizeof(struct gq_slot) == GQ_PAYLOAD_OFFSET, "payload follows the slot header");
GQ_STATIC_ASSERT(offsetof(struct gq_slot, len) == 32, "layout is shared with the device");
GQ_STATIC_ASSERT(offsetof(struct gq_slot, armed) == 48, "layout is shared with the device");
GQ_STATIC_ASSERT(offsetof(struct gq_slot, seal) == 56, "layout is shared with the device");

/*
 * How a message ended: in a completion, 0 to 2^24 is a result of that many bytes. Above the named
 * outcomes lies the failure that a processor has reported: its status, up to a largest one, is
 * added to GQ_OUTCOME_REPORTED.
 */
enum gq_outcome {
	GQ_OUTCOME_MAX_LEN = 1u << 24,
	GQ_OUTCOME_FAILED = GQ_OUTCOME_MAX_LEN + 1, /* not by the processor's own word */
	GQ_OUTCOME_EXPIRED,
	GQ_OUTCOME_CANCELLED,
	GQ_OUTCOME_REPORTED = GQ_OUTCOME_MAX_LEN + 16,
	GQ_OUTCOME_MAX_STATUS = 0xffff00,
};
#define GQ_OUTCOME_SEALED (1u << 25) /* beside a length: the result validates itself */
#define GQ_OUTCOME_BITS   26u
GQ_STATIC_ASSERT(GQ_OUTCOME_REPORTED + GQ_OUTCOME_MAX_STATUS < GQ_OUTCOME_SEALED,
		 "every outcome fits below the bit that says that it is sealed");

/* The status that a processor has reported its failure with; 0: it has reported none. */
GQ_FN uint32_t gq_reported_status(uint32_t outcome)
{
	return outcome > GQ_OUTCOME_REPORTED ? outcome - GQ_OUTCOME_REPORTED : 0;
}

GQ_FN bool gq_outcome_is_failure(uint32_t outcome)
{
	return outcome == GQ_OUTCOME_FAILED || gq_reported_status(outcome) != 0;
}

/*
 * Ids. The pool hands slots out in the order of its positions, and the word it hands out is the
 * id: position << shift | slot. At least four bits are left below the position, so that a slot's
 * state word can carry the position and a phase in one word.
 */
#define GQ_MIN_ID_SHIFT 4u
GQ_FN uint32_t gq_id_shift(uint32_t order)
{
	return order < GQ_MIN_ID_SHIFT ? GQ_MIN_ID_SHIFT : order;
}

/* A class entry holds the slot and, above it, so many bits of the position in the message's id: who
 * has read a slot ahead of its entry knows by them whether it is the same message. */
#define GQ_USE_BITS 20u

/* ---- seals --------------------------------------------------------------------------------- */

/*
 * A seal is a 64-bit hash of bytes and of the id they belong to, stored beside them. Who reads
 * bytes and seal in any order, while they may be being written, and finds them matching, has read
 * all of them: so neither the read of a message nor the arrival of a result needs ordering across
 * PCIe, which costs a round trip. A mismatch only says "not yet".
 *
 * Pieces of 16 bytes are multiplied under keys of their place, and the folded products added (the
 * NH family; Black et al., CRYPTO '99), so that lanes can take a piece each. `key` is random and
 * the queue's own: bytes half old and half new match with a probability of about 2^-60, whatever
 * the sender chooses. Self-verifying reads by a hash: Mitchell et al., Pilaf (USENIX ATC '13).
 */
#define GQ_PIECE 16u

GQ_FN uint64_t gq_multiply_fold(uint64_t a, uint64_t b)
{
#if defined(__CUDA_ARCH__)
	return (a * b) ^ __umul64hi(a, b);
#else
	__extension__ typedef unsigned __int128 wide;
	const wide product = (wide)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
#endif
}

/* What the words of piece `i` add to a seal. */
GQ_FN uint64_t gq_seal_piece(uint64_t key, uint32_t i, uint64_t a, uint64_t b)
{
	const uint64_t place = key + i * UINT64_C(0x9e3779b97f4a7c15);

	return gq_multiply_fold(a ^ place, b ^ (place * UINT64_C(0xd1b54a32d192ed03)));
}

/* What the id does. */
GQ_FN uint64_t gq_seal_id(uint64_t key, uint64_t msg_id)
{
	return gq_multiply_fold(msg_id ^ UINT64_C(0xa0761d6478bd642f),
				key ^ UINT64_C(0xe7037ed1a0b428db));
}

GQ_FN uint32_t gq_pieces(uint32_t bytes)
{
	return (bytes + GQ_PIECE - 1) / GQ_PIECE;
}

/* ---- control word ------------------------------------------------------------------------ */

/* Written by the host, read by every consumer before it claims ([control.write], [control.read]).
 */
enum gq_control {
	GQ_CONTROL_PAUSE = 1u << 0,  /* claim nothing; say so by acknowledging the epoch */
	GQ_CONTROL_LEAVE = 1u << 1,  /* end the loop */
	GQ_CONTROL_CANCEL = 1u << 2, /* whatever is claimed from now on ends CANCELLED */
};
#define GQ_CONTROL_EPOCH_SHIFT 8u /* epoch: counts pauses and resumes */

/* ---- the channel: all that a consumer needs ---------------------------------------------- */

/* When a consumer had a message; one a slot, written before [message.complete]. Only on a queue
 * with a trace. */
struct gq_stamp {
	uint64_t claimed_ns; /* CLOCK_MONOTONIC: just after the claim, before the message is read */
	uint64_t done_ns;    /* the processor has returned, or it was decided not to run it */
	uint64_t consumer;   /* its number; GQ_NONE: the host, which only cancels */
	uint64_t reserved;
};
GQ_STATIC_ASSERT(sizeof(struct gq_stamp) == 32, "layout is shared with the device");

struct gq_channel {
	struct gq_word_ring ready[GQ_CLASSES]; /* published, unclaimed */
	struct gq_word_ring done; /* completed, not reaped; host tail here, head there */
	uint8_t *slots;           /* struct gq_slot and payload, slot_stride apart */
	uint8_t *results;         /* result areas, result_stride apart */
	uint64_t slot_stride;
	uint64_t result_stride;
	uint64_t *control;
	const void *user; /* processor_data */
	/* one a slot; NULL: no trace. Completions release them: [message.complete] */
	struct gq_stamp *stamps;
	uint64_t slot_mask; /* the bits of an id below its position */
	uint64_t seal_key;  /* random */
	uint32_t result_bytes;
	uint32_t ahead_bytes;  /* slot bytes that a consumer may read ahead of the entry: sealed */
	uint32_t sealed_bytes; /* results up to so long carry a seal; 0: none */
	uint32_t reserved;
	/* The mirror, at its own address for each side; NULL: there is none. */
	uint64_t *hints;
	uint8_t *mirror;
	uint64_t mirror_stride;
};

GQ_FN struct gq_slot *gq_slot_at(const struct gq_channel *ch, uint32_t slot)
{
	return (struct gq_slot *)(void *)(ch->slots + slot * ch->slot_stride);
}

GQ_FN uint8_t *gq_payload_at(const struct gq_channel *ch, uint32_t slot)
{
	return ch->slots + slot * ch->slot_stride + GQ_PAYLOAD_OFFSET;
}

/* A result's seal is right before it. */
#define GQ_RESULT_OFFSET 16u

GQ_FN uint8_t *gq_result_at(const struct gq_channel *ch, uint32_t slot)
{
	return ch->results + slot * ch->result_stride + GQ_RESULT_OFFSET;
}

GQ_FN uint64_t *gq_result_seal_at(const struct gq_channel *ch, uint32_t slot)
{
	return (uint64_t *)(void *)(ch->results + slot * ch->result_stride);
}

/*
 * The words of a slot's header that its seal covers, by piece: not `cancel` and `armed`, which
 * others write at any time. The last piece is not covered at all.
 */
#define GQ_HEADER_PIECES (GQ_PAYLOAD_OFFSET / GQ_PIECE - 1)

GQ_FN uint64_t gq_seal_header_piece(uint64_t key, uint32_t i, uint64_t a, uint64_t b)
{
	return gq_seal_piece(key, i, a, i == 1 ? 0 : b);
}

/* The seal of a filled slot; host only. Costs a pass over what a consumer may read ahead. */
GQ_FN uint64_t gq_seal_of_message(const struct gq_channel *ch, const struct gq_slot *slot)
{
	const uint64_t *word = (const uint64_t *)(const void *)slot;
	const uint32_t first = GQ_PAYLOAD_OFFSET / GQ_PIECE;
	uint64_t seal = gq_seal_id(ch->seal_key, slot->msg_id);

	for (size_t i = 0; i < GQ_HEADER_PIECES; i++) /* word 3 is `cancel` */
		seal += gq_seal_header_piece(ch->seal_key, (uint32_t)i, word[2 * i],
					     i == 1 ? 0 : word[2 * i + 1]);
	for (size_t i = first; i < first + gq_pieces(slot->len); i++)
		seal += gq_seal_piece(ch->seal_key, (uint32_t)i, word[2 * i], word[2 * i + 1]);
	return seal;
}

/* Whether it can be read ahead in one piece. */
GQ_FN bool gq_is_readable_ahead(const struct gq_channel *ch, uint32_t len)
{
	return GQ_PAYLOAD_OFFSET + len <= ch->ahead_bytes;
}

/* On a queue with a trace, before the slot is completed. */
GQ_FN void gq_note_times(const struct gq_channel *ch, uint32_t slot, uint64_t claimed_ns,
			 uint64_t done_ns, uint32_t consumer)
{
	struct gq_stamp *stamp = &ch->stamps[slot];

	stamp->claimed_ns = claimed_ns;
	stamp->done_ns = done_ns;
	stamp->consumer = consumer;
}

/* ---- mirror ---------------------------------------------------------------------------------- */

/*
 * With transport BAR1 the host writes a second copy of class entries and short messages into device
 * memory, where looking is cheap. The copy is made of hints: it may be late, torn, old, or never
 * come, and nothing orders it with what it is a copy of. Believed is an entry's word, as its tag
 * names the position, and a slot whose seal fits; see docs/memory-model.md.
 */
#if defined(GPUQ_BAR1)
#define GQ_HAS_BAR1 true
#else
#define GQ_HAS_BAR1 false
#endif

#define GQ_MIRROR_LINE 64u /* bytes that the CPU writes at once */

/* Before the hints is a line for the test at the start. */
#define GQ_MIRROR_HEAD GQ_LINE

GQ_FN uint64_t *gq_hint_at(const struct gq_channel *ch, uint32_t priority, uint64_t pos)
{
	const struct gq_word_ring *r = &ch->ready[priority];

	return &ch->hints[priority * gq_word_ring_size(r) + (pos & r->mask)];
}

GQ_FN uint8_t *gq_mirror_at(const struct gq_channel *ch, uint32_t slot)
{
	return ch->mirror + slot * ch->mirror_stride;
}

/* Of a line of four pieces, whose last word is this. */
GQ_FN uint64_t gq_seal_of_line(uint64_t key, const uint64_t *word)
{
	uint64_t seal = gq_seal_id(key, word[0]);

	for (uint32_t i = 0; i < 3; i++, word += 2)
		seal += gq_seal_piece(key, i, word[0], word[1]);
	return seal + gq_seal_piece(key, 3, word[0], 0);
}

/* ---- pool: host only ---------------------------------------------------------------------- */

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
		 * Sequentially consistent for who waits for room: [sleep.look]. */
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

/* ---- publish: host only -------------------------------------------------------------------- */

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

/* ---- claim: consumers ---------------------------------------------------------------------- */

/*
 * Starvation guard: a waiting class that one consumer has passed over this often, each time for a
 * higher one, gets that consumer's next claim. Below that, order between classes is strict. The
 * guard's own claims are not counted: with n consumers a message at the front of its class is
 * passed over at most n * (GQ_PASS_LIMIT + 2) times; once more each where hints can be missed.
 */
#define GQ_PASS_LIMIT 256u

struct gq_ageing { /* one a consumer, private to it; zero to begin with */
	uint32_t passed[GQ_CLASSES];
};

/* Whether anything may be waiting. Sequentially consistent, as the sleeper's second look
 * ([sleep.look]). */
GQ_FN bool gq_word_ring_may_hold(const struct gq_word_ring *r)
{
	uint64_t pos = gq_load_relaxed_device_u64(r->head);
	uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(r, pos)); /* [sleep.look] */

	return !gq_word_ring_is_at(r, word, pos - gq_word_ring_size(r));
}

GQ_FN bool gq_work_waits(const struct gq_channel *ch)
{
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		if (gq_word_ring_may_hold(&ch->ready[c]))
			return true;
	return false;
}

/* The slot at the front of one class, or GQ_NONE. See the entry published, copy it, claim it. */
GQ_FN uint32_t gq_claim_from(const struct gq_word_ring *r, uint64_t slot_mask)
{
	for (;;) {
		uint64_t pos = gq_load_relaxed_device_u64(r->head);
		/* [message.claim] acquire: slot and payload; pairs with [message.publish] */
		uint64_t word = gq_load_acquire_u64(gq_word_ring_entry(r, pos));

		if (!gq_word_ring_is_at(r, word, pos)) {
			if (gq_word_ring_is_at(r, word, pos - gq_word_ring_size(r)))
				return GQ_NONE;
			continue; /* our cursor was old */
		}
		GQ_WINDOW();
		/* Relaxed: exclusion is all it is for; what the claimer reads comes with
		 * [message.claim]. The entry is reused only after this slot has been completed,
		 * returned and published. */
		if (gq_cas_relaxed_device_u64(r->head, pos, pos + 1))
			return (uint32_t)(gq_word_ring_value(r, word) & slot_mask);
	}
}

/* Claim the next message: higher classes first, first come first served within one. */
GQ_FN uint32_t gq_claim(const struct gq_channel *ch, struct gq_ageing *ageing)
{
	for (uint32_t c = 0; c < GQ_CLASSES - 1; c++) {
		if (ageing->passed[c] >= GQ_PASS_LIMIT) {
			uint32_t slot = gq_claim_from(&ch->ready[c], ch->slot_mask);

			ageing->passed[c] = 0;
			if (slot != GQ_NONE)
				return slot;
		}
	}
	for (uint32_t c = GQ_CLASSES; c-- > 0;) {
		uint32_t slot = gq_claim_from(&ch->ready[c], ch->slot_mask);

		if (slot == GQ_NONE)
			continue;
		ageing->passed[c] = 0;
		for (uint32_t d = 0; d < c; d++)
			ageing->passed[d] =
				gq_word_ring_may_hold(&ch->ready[d]) ? ageing->passed[d] + 1 : 0;
		return slot;
	}
	return GQ_NONE;
}

/*
 * What is to become of a claimed message, decided here and nowhere else.
 * @param cancel  the slot's word of that name
 * @param now_ns  CLOCK_MONOTONIC; may be 0 when the slot has no deadline
 * @return 0: run it; else the outcome it ends with.
 */
GQ_FN uint32_t gq_decide_on(uint64_t msg_id, uint64_t cancel, uint64_t deadline_ns,
			    uint64_t control, uint64_t now_ns)
{
	if ((control & GQ_CONTROL_CANCEL) != 0 || cancel == msg_id)
		return GQ_OUTCOME_CANCELLED;
	if (deadline_ns != 0 && now_ns >= deadline_ns)
		return GQ_OUTCOME_EXPIRED;
	return 0;
}

GQ_FN uint32_t gq_decide(const struct gq_slot *slot, uint64_t control, uint64_t now_ns)
{
	/* Relaxed: the id in it says which message is meant; nothing else is published by it. */
	return gq_decide_on(slot->msg_id, gq_load_relaxed_u64(&slot->cancel), slot->deadline_ns,
			    control, now_ns);
}

/* The outcome of a message that has run. */
GQ_FN uint32_t gq_outcome_of(uint32_t status, uint32_t out_len, uint32_t cap)
{
	const uint32_t largest = GQ_OUTCOME_MAX_STATUS;

	if (status != 0)
		return (uint32_t)GQ_OUTCOME_REPORTED + (status < largest ? status : largest);
	return out_len > cap ? (uint32_t)GQ_OUTCOME_FAILED : out_len;
}

/* ---- complete: consumers; reap: host -------------------------------------------------------- */

GQ_FN uint64_t gq_done_value(const struct gq_channel *ch, uint32_t slot, uint32_t outcome)
{
	return (uint64_t)outcome << ch->done.order | slot;
}

/* Completion where consumer and host share memory: no place is held, so no stalled consumer can
 * hide another's completion. */
GQ_FN void gq_complete(const struct gq_channel *ch, uint32_t slot, uint32_t outcome)
{
	gq_word_ring_put_one(&ch->done, gq_done_value(ch, slot, outcome));
}

/*
 * Completion across PCIe: a ticket among the consumers (device memory), then one posted store. It
 * waits for nothing if there is no result, or a sealed one, which need not arrive first.
 * @param fenced  then: gq_fence_system() has released what the processor wrote elsewhere
 */
GQ_FN void gq_complete_posted(const struct gq_channel *ch, uint32_t slot, uint32_t outcome,
			      bool fenced)
{
	const struct gq_word_ring *r = &ch->done;
	uint64_t pos = gq_fetch_add_relaxed_device_u64(r->tail, 1);
	const uint64_t word = gq_word_ring_tag(r, pos) | gq_done_value(ch, slot, outcome);

	GQ_WINDOW();
	if ((outcome <= GQ_OUTCOME_MAX_LEN && outcome != 0) || ch->stamps != NULL)
		/* [message.complete] release: publishes the result, the stamp, and all that the
		 * processor wrote. */
		gq_store_release_u64(gq_word_ring_entry(r, pos), word);
	/* [message.complete]: with the fence */
	else if (fenced)
		gq_store_fenced_u64(gq_word_ring_entry(r, pos), word);
	else
		gq_store_posted_u64(gq_word_ring_entry(r, pos), word);
}

/* Whether a completion waits to be reaped. Sequentially consistent, as a waiter's second look. */
GQ_FN bool gq_done_waits(const struct gq_channel *ch)
{
	const struct gq_word_ring *r = &ch->done;
	uint64_t pos = gq_load_relaxed_u64(r->head);

	/* [sleep.look]. A head that another reaper has moved since only makes this true. */
	return !gq_word_ring_is_at(r, gq_load_seq_cst_u64(gq_word_ring_entry(r, pos)),
				   pos - gq_word_ring_size(r));
}

/* Whether all of a sealed result has arrived; host only. */
GQ_FN bool gq_result_is_whole(const struct gq_channel *ch, uint32_t slot, uint32_t len)
{
	const uint64_t *word = (const uint64_t *)(const void *)gq_result_at(ch, slot);
	/* [seal.match] acquire: what the seal is of, where it is stored with a release
	 * ([seal.write]). */
	const uint64_t found = gq_load_acquire_u64(gq_result_seal_at(ch, slot));
	uint64_t seal = gq_seal_id(ch->seal_key, gq_slot_at(ch, slot)->msg_id);

	for (size_t i = 0; i < gq_pieces(len); i++)
		seal += gq_seal_piece(ch->seal_key, (uint32_t)i, gq_load_relaxed_u64(&word[2 * i]),
				      gq_load_relaxed_u64(&word[2 * i + 1]));
	return seal == found;
}

enum gq_arrival {
	GQ_NOT_THERE,
	GQ_TORN, /* the entry has overtaken its result */
	GQ_WHOLE,
};

/* What has arrived of the completion at `pos`; host only, under the queue's reap lock. */
GQ_FN enum gq_arrival gq_look_at_done(const struct gq_channel *ch, uint64_t pos, uint32_t *slot,
				      uint32_t *outcome)
{
	const struct gq_word_ring *r = &ch->done;
	/* [message.reap] acquire: the result. Sequentially consistent: also [sleep.look]'s look. */
	uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(r, pos));
	uint64_t value = gq_word_ring_value(r, word);

	if (!gq_word_ring_is_at(r, word, pos))
		return GQ_NOT_THERE;
	*slot = (uint32_t)(value & (gq_word_ring_size(r) - 1));
	*outcome = (uint32_t)(value >> r->order);
	if ((*outcome & GQ_OUTCOME_SEALED) == 0)
		return GQ_WHOLE;
	*outcome &= ~GQ_OUTCOME_SEALED;
	return gq_result_is_whole(ch, *slot, *outcome) ? GQ_WHOLE : GQ_TORN;
}

/* The next completion in order, if there is one. One reaper at a time, under the queue's lock. */
GQ_FN bool gq_reap(const struct gq_channel *ch, uint32_t *slot, uint32_t *outcome)
{
	uint64_t pos = gq_load_relaxed_u64(ch->done.head);

	if (gq_look_at_done(ch, pos, slot, outcome) != GQ_WHOLE)
		return false;
	gq_store_relaxed_u64(ch->done.head, pos + 1);
	return true;
}

/* ---- park and wake ------------------------------------------------------------------------- */

/*
 * An event count: who sleeps until something has been published, and who wakes them.
 *
 * One word: the lower half counts wake-ups and is the futex, the upper half the registered
 * sleepers. A sleeper registers, looks again, and sleeps only if the lower half is still what it
 * was at registration. Who has published looks at the upper half ([wake.look]) and, if it is not
 * zero, bumps the lower half, wakes, and takes those it woke off the upper half. Who goes on
 * without having been woken takes itself off. So:
 *
 *  - nothing is lost: publish and look, register and look again are sequentially consistent, so
 *    at least one side sees the other; a wake-up that comes between registration and sleep has
 *    changed the futex word; and a sleeper is counted for as long as it sleeps;
 *  - no waker can keep a sleeper from others: one that stands still between its steps leaves the
 *    sleeper counted, and the next publisher wakes it;
 *  - wake-ups are bounded by sleeps, not by messages: it is the waker that takes a sleeper off, not
 *    the sleeper once it has been scheduled, so until it registers again nobody makes a system
 *    call for it. (Between registration and sleep, each publisher may make one in vain.)
 */
struct gq_event {
	uint64_t word;
};

#define GQ_EVENT_SLEEPER (UINT64_C(1) << 32)
/* Set for good on a queue whose stop timed out: whoever publishes must take the slow path. */
#define GQ_EVENT_STICKY (UINT64_C(1) << 63)

GQ_FN uint32_t gq_event_sleepers(uint64_t word)
{
	return (uint32_t)((word & ~GQ_EVENT_STICKY) >> 32);
}

/* @return the key to sleep with. Look again, with _seq_cst loads, before sleeping. */
GQ_FN uint32_t gq_event_register(struct gq_event *e)
{
	return (uint32_t)gq_fetch_add_seq_cst_u64(&e->word, GQ_EVENT_SLEEPER); /* [sleep.look] */
}

/* Take off one who has not been woken, or those that a waker has woken. */
GQ_FN void gq_event_unregister(struct gq_event *e, uint32_t n)
{
	gq_fetch_add_seq_cst_u64(&e->word, 0 - n * GQ_EVENT_SLEEPER);
}

/* Whether who has just published must look closer. */
GQ_FN bool gq_event_armed(const struct gq_event *e)
{
	return gq_load_seq_cst_u64(&e->word) >> 32 != 0; /* [wake.look] */
}

/* Change the futex word, if there are sleepers. @return whether there are; then wake them. */
GQ_FN bool gq_event_bump(struct gq_event *e)
{
	for (;;) {
		uint64_t word = gq_load_seq_cst_u64(&e->word); /* [wake.look] */
		uint32_t bumped = (uint32_t)word + 1;          /* carries into nothing */

		if (gq_event_sleepers(word) == 0)
			return false;
		if (gq_cas_seq_cst_u64(&e->word, word, (word >> 32) << 32 | bumped))
			return true;
	}
}

#endif /* GPUQ_DEVICE_PROTOCOL_H */
