/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receive.c - messages out of a ring: the front is looked at, claimed, copied out, and its cells go
 * back to the pool. Completions go the same way, through a box of their own.
 */
#include "host/ring/front.h"

/* Messages that a receive has claimed, or is about to. */
struct claim {
	uint64_t words[GQ_CHUNK]; /* their entries */
	size_t at[GQ_CHUNK];      /* where in the buffer they go */
};

/* ---- choosing -------------------------------------------------------------------------------- */

/* Choose which messages from the front on are taken, and where in the buffer each goes. @return how
 * many; of 0, q->front says why. */
GQ_ALWAYS_INLINE uint32_t choose(RingQueue *r, const struct gq_box *b, const struct front *f,
				 struct gq_receiving *q, uint64_t *words, size_t *at, uint32_t max)
{
	const struct gq_word_ring *ready = &b->ready[f->class];
	uint32_t n = 0;
	size_t used = q->used;

	for (uint64_t word = f->word; n < max; n++) {
		if (n != 0) {
			/* [message.claim] */
			word = gq_load_acquire_u64(gq_word_ring_entry(ready, f->pos + n));
			if (!gq_word_ring_is_at(ready, word, f->pos + n))
				break;
			if (gq_is_in_parts(b, word) || gq_is_in_parts(b, words[0]))
				break; /* goes alone: its cells are many */
		}
		words[n] = word;
		at[n] = used;
		if (__builtin_expect(gq_is_descriptor(b, word), 0)) {
			if (!q->descriptors) {
				q->front = q->discard ? Q_ERR_UNSUPPORTED : Q_ERR_POLICY;
				break;
			}
		} else if (!q->discard) {
			const uint64_t len = bytes_of(r, b, word);

			if (used > q->cap || q->cap - used < len) {
				q->front = Q_ERR_BUFFER_TOO_SMALL;
				q->needed = len;
				break;
			}
			used = (used + len + 7) & ~(size_t)7;
		}
	}
	return n;
}

/*
 * Copy claimed messages of one cell each out, in one go: as many of the first ones as follow each
 * other both in the ring and in the buffer. @return how many.
 */
GQ_ALWAYS_INLINE uint32_t copy_cells_out(const struct gq_box *b, const uint64_t *words, uint32_t n,
					 uint8_t *to)
{
	const uint32_t slot = gq_entry_slot(b, words[0]);
	uint32_t i = 0;

	while (i + 1 < n && gq_length_of(b, words[i]) == b->stride &&
	       gq_entry_kind(words[i + 1]) == 0 && gq_entry_slot(b, words[i + 1]) == slot + (i + 1))
		i++;
	gq_copy(to, gq_cell_at(b, slot), i * b->stride + gq_length_of(b, words[i]));
	return i + 1;
}

/* Copy a claimed message of several parts out, into its room. @return its length. */
static uint32_t copy_parts_out(const RingQueue *r, const struct gq_box *b, uint64_t word,
			       uint8_t *to, size_t room)
{
	uint64_t done = 0;

	for (struct gq_chain c = gq_chain_of(r, b, word); gq_chain_next(b, &c);) {
		const uint64_t len = c.len > room - done ? room - done : c.len;

		if (len != 0)
			memcpy(to + done, gq_cell_at(b, c.slot), len);
		done += len;
	}
	return (uint32_t)done;
}

/* Say what a claimed message is. @param d  its descriptor; NULL: it has none */
GQ_ALWAYS_INLINE void tell(const struct gq_box *b, uint32_t class, uint64_t word, size_t at,
			   uint32_t len, const MessageDescriptor *d, RingMessage *m)
{
	*m = (RingMessage){ .kind = Q_MESSAGE_INLINE,
			    .length = len,
			    .priority = (QueuePriority)(class + Q_PRIORITY_LOW),
			    .offset = at };
	m->sequence = gq_load_relaxed_u64(&b->number[gq_entry_slot(b, word)]) - 1;
	if (d != NULL) {
		m->kind = Q_MESSAGE_DESCRIPTOR;
		m->descriptor = *d;
		m->offset = 0;
	}
}

/* Copy claimed messages out, or drop them, and say what they are. @return their bytes. */
GQ_ALWAYS_INLINE uint64_t take_out(RingQueue *r, const struct gq_box *b, uint32_t class,
				   const struct claim *c, uint32_t n, struct gq_receiving *q)
{
	uint32_t copied = 0, len;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++) {
		const uint64_t word = c->words[i];
		const bool described = gq_is_descriptor(b, word);
		MessageDescriptor d;

		if (__builtin_expect(described, 0)) {
			gq_load_descriptor(b, gq_entry_slot(b, word), &d);
			if (q->discard)
				gq__region_drop(r->regions, &d);
			len = d.length;
		} else if (q->discard) {
			len = (uint32_t)bytes_of(r, b, word);
		} else {
			if (gq_is_in_parts(b, word)) { /* n is 1 */
				len = copy_parts_out(r, b, word, q->buf + c->at[i],
						     q->cap - c->at[i]);
			} else {
				if (i >= copied)
					copied = i + copy_cells_out(b, &c->words[i], n - i,
								    q->buf + c->at[i]);
				len = gq_length_of(b, word);
			}
			q->used = (c->at[i] + len + 7) & ~(size_t)7;
		}
		if (q->out != NULL)
			tell(b, class, word, c->at[i], len, described ? &d : NULL,
			     &q->out[q->count + i]);
		q->needed = len;
		bytes += len;
	}
	return bytes;
}

/* The slots of claimed messages. @return how many. */
GQ_ALWAYS_INLINE uint32_t slots_of(const RingQueue *r, const struct gq_box *b,
				   const struct claim *c, uint32_t n, uint64_t *slots)
{
	uint32_t taken = 0;

	if (__builtin_expect(gq_is_in_parts(b, c->words[0]), 0)) { /* n is 1 */
		for (struct gq_chain chain = gq_chain_of(r, b, c->words[0]);
		     gq_chain_next(b, &chain);)
			slots[taken++] = chain.slot;
		return taken;
	}
	for (uint32_t i = 0; i < n; i++)
		slots[i] = gq_entry_slot(b, c->words[i]);
	return n;
}

/* ---- receiving ------------------------------------------------------------------------------- */

GQ_ALWAYS_INLINE struct gq_ageing *ageing_of(const RingQueue *r, const struct gq_box *b,
					     const struct gq_ring_peer *peer)
{
	return b == &r->messages && r->ageing != NULL
		       ? &r->ageing[gq_ring_peer_index(r, peer)].ageing
		       : NULL;
}

/* End an operation that has found no front. */
GQ_ALWAYS_INLINE QueueStatus end_without_front(RingQueue *r, const struct gq_box *b,
					       struct gq_ring_peer *peer, enum look found,
					       struct gq_receiving *q)
{
	if (found == NOTHING && b == &r->messages)
		gq_ring_tally(&peer->empty, 1);
	op_end(peer);
	if (found == DAMAGED)
		return gq_ring_damaged();
	q->front = found == NOTHING ? Q_OK : Q_ERR_EMPTY;
	return Q_ERR_EMPTY;
}

/* Choose at most as many messages as ageing allows. @return how many; of 0, the front stays. */
GQ_ALWAYS_INLINE uint32_t choose_aged(RingQueue *r, const struct gq_box *b,
				      const struct gq_ageing *ageing, const struct front *f,
				      struct gq_receiving *q, struct claim *c)
{
	uint32_t max = q->max, n;

	if (ageing != NULL && max > until_passed_over(r, ageing, f->class))
		max = until_passed_over(r, ageing, f->class);
	q->front = Q_OK;
	n = choose(r, b, f, q, c->words, c->at, max);
	if (n == 0 && q->out != NULL)
		describe(r, b, f, &q->out[q->count]);
	return n;
}

GQ_ALWAYS_INLINE void count_received(struct gq_ring_peer *peer, const struct gq_receiving *q,
				     uint32_t n, uint64_t bytes)
{
	gq_ring_tally(&peer->bytes_received, bytes);
	if (q->discard)
		gq_ring_tally(&peer->discarded, n);
}

/* Find the front, choose, and claim. @return FOUND: *n messages are claimed; if that is 0, the
 * front stays. */
GQ_ALWAYS_INLINE enum look claim_many(RingQueue *r, const struct gq_box *b,
				      const struct gq_ageing *ageing, struct front *f,
				      struct gq_receiving *q, struct claim *c, uint32_t *n)
{
	for (uint32_t tries = 0; tries < GQ_TRIES; tries++) {
		enum look found = look(r, b, ageing, f, &tries);

		if (found != FOUND)
			return found;
		*n = choose_aged(r, b, ageing, f, q, c);
		if (*n == 0) {
			/* What was read is the front's only if the front is still there. */
			if (gq_load_acquire_u64(b->ready[f->class].head) == f->pos)
				return FOUND;
			continue;
		}
		GQ_WINDOW();
		/* Relaxed: the swap only excludes; what we read came with [message.claim]. */
		if (gq_cas_relaxed_device_u64(b->ready[f->class].head, f->pos, f->pos + *n))
			return FOUND;
	}
	return OVERTAKEN;
}

/* See gq__ring_receive_many(). */
GQ_ALWAYS_INLINE QueueStatus receive_many(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	const bool messages = b == &r->messages;
	uint64_t slots[GQ_MAX_PARTS], bytes;
	uint32_t n = 0;
	struct gq_ring_peer *peer;
	struct gq_ageing *ageing;
	struct front f = { 0 }; /* which FOUND sets; not every compiler sees it */
	struct claim c;
	enum look found;
	QueueStatus status = begin_many(r, b->receive_op, &peer);

	q->front = Q_OK;
	if (status != Q_OK)
		return status;
	ageing = ageing_of(r, b, peer);
	found = claim_many(r, b, ageing, &f, q, &c, &n);
	if (found != FOUND)
		return end_without_front(r, b, peer, found, q);
	if (n == 0) {
		op_end(peer);
		return q->front;
	}
	if (ageing != NULL)
		count_passed(b, ageing, f.class, n);
	bytes = take_out(r, b, f.class, &c, n, q);
	GQ_WINDOW();
	if (!give_back_many(b, slots, slots_of(r, b, &c, n, slots))) {
		op_end(peer);
		return gq_ring_damaged();
	}
	if (messages)
		count_received(peer, q, n, bytes);
	op_end(peer);
	q->count += n;
	if (messages)
		wake_many(&r->head->signals.room_armed);
	return Q_OK;
}

/* See gq__ring_receive_single(). */
GQ_ALWAYS_INLINE QueueStatus receive_single(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	const bool messages = b == &r->messages;
	uint64_t slots[GQ_MAX_PARTS], bytes;
	uint32_t n, taken, tries = 0;
	struct gq_ring_peer *peer;
	struct gq_ageing *ageing;
	struct front f = { 0 }; /* which FOUND sets; not every compiler sees it */
	struct claim c;
	enum look found;
	QueueStatus status = begin_single(r, b->receive_role, b->receive_op, &peer);

	q->front = Q_OK;
	if (status != Q_OK)
		return status;
	ageing = ageing_of(r, b, peer);
	found = look(r, b, ageing, &f, &tries);
	if (found != FOUND)
		return end_without_front(r, b, peer, found, q);
	n = choose_aged(r, b, ageing, &f, q, &c);
	if (n == 0) {
		op_end(peer);
		return q->front;
	}
	if (ageing != NULL)
		count_passed(b, ageing, f.class, n);
	bytes = take_out(r, b, f.class, &c, n, q);
	taken = slots_of(r, b, &c, n, slots);
	GQ_WINDOW();
	plan(peer, f.class, f.pos, gq_load_relaxed_u64(b->pool.tail), n, taken);
	give_back_single(b, slots, taken);
	gq_store_release_u64(b->ready[f.class].head, f.pos + n); /* for threads that count */
	if (messages)
		count_received(peer, q, n, bytes);
	op_end(peer);
	q->count += n;
	if (messages)
		wake_single(r, peer, &r->head->signals.room_armed);
	return Q_OK;
}

/* ---- each for every call, and for the call that is the most common --------------------------- */

QueueStatus gq__ring_receive_many(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	return receive_many(r, b, q);
}

QueueStatus gq__ring_receive_single(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	return receive_single(r, b, q);
}

QueueStatus gq__ring_receive_one_many(RingQueue *r, void *buf, size_t *len, QueueStatus *front)
{
	struct gq_receiving q = { .buf = buf, .cap = *len, .max = 1 };
	QueueStatus status = receive_many(r, &r->messages, &q);

	*len = q.needed;
	*front = q.front;
	return status;
}

QueueStatus gq__ring_receive_one_single(RingQueue *r, void *buf, size_t *len, QueueStatus *front)
{
	struct gq_receiving q = { .buf = buf, .cap = *len, .max = 1 };
	QueueStatus status = receive_single(r, &r->messages, &q);

	*len = q.needed;
	*front = q.front;
	return status;
}
