/* SPDX-License-Identifier: Apache-2.0 */
/* front.h - the message that is received next: finding it, and what it is; private to the ring. */
#ifndef GPUQ_RING_FRONT_H
#define GPUQ_RING_FRONT_H

#include "host/ring/step.h"

struct front {
	uint32_t class;
	uint64_t head;
	uint64_t word;
};

enum look { FOUND, NOTHING, DAMAGED, OVERTAKEN };

/* The front of one class. *tries counts the tries of the whole call. */
GQ_ALWAYS_INLINE enum look look_at(const struct gq_box *b, uint32_t class, struct front *f,
				   uint32_t *tries)
{
	const struct gq_word_ring *ready = &b->ready[class];

	for (;; ++*tries) {
		const uint64_t head = gq_load_relaxed_u64(ready->head);
		/* [message.claim] acquire: cell, number, chain. Sequentially consistent, as it is
		 * also the sleeper's second look: [sleep.look]. */
		const uint64_t word = gq_load_seq_cst_u64(gq_head_entry(ready, head));

		if (gq_head_is_at(ready, word, head)) {
			*f = (struct front){ .class = class, .head = head, .word = word };
			return FOUND;
		}
		if (gq_extent_is_older(ready, word, gq_head_start(head)))
			return NOTHING;
		/* An entry is overwritten only after the head has gone past it. */
		if (gq_load_acquire_u64(ready->head) == head)
			return DAMAGED;
		if (*tries >= GQ_TRIES)
			return OVERTAKEN;
	}
}

/* The same, mostly: a class is empty most of the time, and then nothing of it has changed since the
 * last look. @return OVERTAKEN: look again, more closely. */
GQ_ALWAYS_INLINE enum look glance_at(const struct gq_box *b, struct gq_ring_local *local,
				     uint32_t class, struct front *f)
{
	const struct gq_word_ring *ready = &b->ready[class];
	struct gq_ring_nothing *nothing = &local->nothing[class];
	const uint64_t head = gq_load_relaxed_u64(ready->head);
	const uint64_t *entry = nothing->entry;
	uint64_t word;

	/* [message.claim], [sleep.look]: as in look_at() */
	if (head == nothing->head && entry != NULL && gq_load_seq_cst_u64(entry) == nothing->word)
		return NOTHING;
	entry = gq_head_entry(ready, head);
	word = gq_load_seq_cst_u64(entry);
	if (gq_head_is_at(ready, word, head)) {
		*f = (struct front){ .class = class, .head = head, .word = word };
		return FOUND;
	}
	if (!gq_extent_is_older(ready, word, gq_head_start(head)))
		return OVERTAKEN;
	*nothing = (struct gq_ring_nothing){ head, word, entry };
	return NOTHING;
}

/* The next message of a box without ageing, likewise. */
GQ_ALWAYS_INLINE enum look glance(const struct gq_box *b, struct gq_ring_local *local,
				  struct front *f)
{
	enum look found;

	GQ_STATIC_ASSERT(GQ_CLASSES == 4, "one after the other, so that each is a constant");
	found = glance_at(b, local, 3, f);
	if (found == NOTHING)
		found = glance_at(b, local, 2, f);
	if (found == NOTHING)
		found = glance_at(b, local, 1, f);
	if (found == NOTHING)
		found = glance_at(b, local, 0, f);
	return found;
}

/* The next message to receive: of the highest class, unless a lower one has been passed over too
 * often. */
GQ_ALWAYS_INLINE enum look look(const RingQueue *r, const struct gq_box *b,
				struct gq_ring_local *local, const struct gq_ageing *ageing,
				struct front *f, uint32_t *tries)
{
	enum look found;

	if (ageing != NULL) {
		for (uint32_t c = 0; c + 1 < b->classes; c++) {
			if (ageing->passed[c] < r->cfg.ageing_limit)
				continue;
			found = look_at(b, c, f, tries);
			if (found != NOTHING)
				return found;
		}
	} else if (b == &r->messages) {
		found = glance(b, local, f);
		if (found != OVERTAKEN)
			return found;
	}
	for (uint32_t c = b->classes; c-- > 0;) {
		found = look_at(b, c, f, tries);
		if (found != NOTHING)
			return found;
	}
	return NOTHING;
}

/* Whether this thread remembers of each class below that there is nothing in it, and still is. */
GQ_ALWAYS_INLINE bool nothing_below(const struct gq_box *b, const struct gq_ring_local *local,
				    uint32_t class)
{
	for (uint32_t c = class; c-- > 0;) {
		const struct gq_ring_nothing *nothing = &local->nothing[c];

		if (nothing->entry == NULL ||
		    gq_load_relaxed_u64(b->ready[c].head) != nothing->head ||
		    gq_load_relaxed_u64(nothing->entry) != nothing->word)
			return false;
	}
	return true;
}

/* Count which classes were passed over by `n` messages of a class. */
static inline void count_passed(const struct gq_box *b, struct gq_ageing *ageing, uint32_t class,
				uint32_t n)
{
	ageing->passed[class] = 0;
	for (uint32_t c = 0; c < class; c++)
		ageing->passed[c] = gq_extent_may_hold(&b->ready[c]) ? ageing->passed[c] + n : 0;
}

/* How many messages of this class may be taken before another class is owed one. */
static inline uint32_t until_passed_over(const RingQueue *r, const struct gq_ageing *ageing,
					 uint32_t class)
{
	uint32_t left = UINT32_MAX;

	for (uint32_t c = 0; c < class; c++) {
		uint32_t passed = ageing->passed[c];
		uint32_t mine = passed < r->cfg.ageing_limit ? r->cfg.ageing_limit - passed : 1;

		left = mine < left ? mine : left;
	}
	return left;
}

/* Bytes of an entry's message. If it is in several parts, as far as the chain makes sense. */
GQ_ALWAYS_INLINE uint64_t bytes_of(const RingQueue *r, const struct gq_box *b, uint64_t word)
{
	uint64_t sum = 0;

	if (!gq_is_in_parts(b, word))
		return gq_length_of(b, word);
	for (struct gq_chain c = gq_chain_of(r, b, word); gq_chain_next(b, &c);)
		sum += c.len;
	return sum;
}

/* Describe the message at the front, which stays there. */
static inline void describe(const RingQueue *r, const struct gq_box *b, const struct front *f,
			    RingMessage *m)
{
	const uint64_t word = f->word;
	const uint32_t slot = gq_head_slot(b, word, f->head);

	*m = (RingMessage){ .kind = Q_MESSAGE_INLINE,
			    .priority = (QueuePriority)(f->class + Q_PRIORITY_LOW) };
	m->sequence = gq_load_acquire_u64(&b->number[slot]) - 1; /* then the entry again */
	if (gq_is_descriptor(b, word)) {
		m->kind = Q_MESSAGE_DESCRIPTOR;
		gq_load_descriptor(b, slot, &m->descriptor);
		m->length = m->descriptor.length;
	} else {
		m->length = (uint32_t)bytes_of(r, b, word);
	}
}

/*
 * Whether to write lines back. Not in the first receives after one that has found nothing: there a
 * sender waits for an answer rather than for a line.
 */
GQ_ALWAYS_INLINE bool touches(const struct gq_box *b, const struct gq_ring_pace *pace)
{
	return b->touches && pace->streak >= 2;
}

/* Cells go round in order: begin to fetch the one behind the last message's. */
GQ_ALWAYS_INLINE void guess(const struct gq_box *b, const struct gq_ring_pace *pace)
{
	__builtin_prefetch(gq_cell_at(b, pace->next_slot & b->slot_mask));
}

#endif /* GPUQ_RING_FRONT_H */
