/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.c - messages into a ring: cells are taken from the pool, filled, and published in the ring
 * of their class. Completions go the same way, through a box of their own.
 */
#include "host/ring/close.h"
#include "host/ring/step.h"

/* ---- taking cells ---------------------------------------------------------------------------- */

/* Take up to `max` free slots, at least `min` or none. *n is 0 if there are none, or if others
 * overtake all the time. @return false: damaged. */
GQ_ALWAYS_INLINE bool pop_many(const struct gq_box *b, uint64_t *pos, uint64_t *ids, uint32_t min,
			       uint32_t max, uint32_t *n)
{
	bool closed;

	*n = 0;
	for (int i = 0; i < GQ_TRIES; i++) {
		if (gq_pool_try_pop(&b->pool, pos, ids, min, max, n, &closed))
			return true;
		if (gq_load_acquire_u64(b->pool.head) >> 1 == *pos)
			return false; /* no other thread has moved the head */
	}
	*n = 0;
	return true;
}

/* The same, and the head stays where it is until the messages are published. @return how many. */
GQ_ALWAYS_INLINE uint32_t pop_single(const struct gq_box *b, uint64_t *pos, uint64_t *ids,
				     uint32_t min, uint32_t max)
{
	uint32_t n = 0;

	*pos = gq_load_relaxed_u64(b->pool.head) >> 1;
	for (; n < max; ++n) {
		/* [pool.take] acquire: pairs with [pool.return]. */
		ids[n] = gq_load_acquire_u64(gq_word_ring_entry(&b->pool, *pos + n));
		if (!gq_word_ring_is_at(&b->pool, ids[n], *pos + n))
			break;
	}
	return n < min ? 0 : n;
}

/* The number of the first of `n` messages whose slots were popped at `pos`. Without Q_RING_LARGE a
 * message takes one slot, so the pool's position counts them; it has 63 bits. */
GQ_ALWAYS_INLINE uint64_t take_numbers_many(const struct gq_box *b, uint64_t pos, uint32_t n)
{
	return b->sequence == NULL ? (pos - b->start_pos) & (UINT64_MAX >> 1)
				   : gq_fetch_add_relaxed_u64(b->sequence, n);
}

GQ_ALWAYS_INLINE uint64_t take_numbers_single(const struct gq_box *b, uint64_t pos, uint32_t n)
{
	uint64_t first;

	if (b->sequence == NULL)
		return (pos - b->start_pos) & (UINT64_MAX >> 1);
	first = gq_load_relaxed_u64(b->sequence);
	gq_store_relaxed_u64(b->sequence, first + n);
	return first;
}

/* ---- filling them ---------------------------------------------------------------------------- */

/* Copy one message into the slots popped for it, and make its entry. */
GQ_ALWAYS_INLINE uint64_t fill(const struct gq_box *b, const struct gq_sending *s,
			       const EnqueueItem *item, const uint64_t *ids, uint32_t parts,
			       uint64_t number)
{
	const uint32_t first = gq_pool_slot(b, ids[0]);

	gq_store_relaxed_u64(&b->number[first], number + 1);
	if (s->descriptor != NULL) {
		gq_store_descriptor(b, first, s->descriptor);
		return gq_entry_value(first, sizeof(*s->descriptor), GQ_KIND_DESCRIPTOR);
	}
	if (parts == 1)
		return gq_entry_value(first, item->len, 0); /* its bytes: copy_in() */
	for (uint32_t i = 0; i < parts; i++) {
		const uint64_t from = (uint64_t)i * b->cell_bytes;
		const uint64_t len =
			item->len - from < b->cell_bytes ? item->len - from : b->cell_bytes;
		const uint64_t link =
			i + 1 == parts ? GQ_PART_FINAL
				       : GQ_PART_CONTINUES | (uint64_t)gq_pool_slot(b, ids[i + 1])
								     << GQ_PART_SLOT_SHIFT;

		/* The number of every part, for repairs: see repair.c. */
		gq_store_relaxed_u64(&b->number[gq_pool_slot(b, ids[i])], number + 1);
		memcpy(gq_cell_at(b, gq_pool_slot(b, ids[i])), (const uint8_t *)item->data + from,
		       len);
		gq_store_relaxed_u64(&b->chain[gq_pool_slot(b, ids[i])], link | len);
	}
	return gq_entry_value(first, 0, GQ_KIND_PARTS);
}

/*
 * Copy messages of one slot each into their cells. Messages that fill their cells and follow each
 * other both in the caller's memory and in the ring are copied in one go. A batch that is an array
 * usually is so, and then a store that waits for its line to come from another core waits together
 * with many others.
 */
GQ_ALWAYS_INLINE void copy_in(const struct gq_box *b, const EnqueueItem *items, const uint64_t *ids,
			      uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t slot = gq_pool_slot(b, ids[i]), first = i;

		while (i + 1 < n && items[i].len == b->stride &&
		       gq_pool_slot(b, ids[i + 1]) == slot + (i + 1 - first) &&
		       items[i + 1].data == (const uint8_t *)items[i].data + b->stride)
			i++;
		gq_copy(gq_cell_at(b, slot), items[first].data,
			(i - first) * b->stride + items[i].len);
	}
}

/* Fill the popped cells with `n` messages, or with one of several parts, and make their entries. */
GQ_ALWAYS_INLINE void fill_all(const struct gq_box *b, const struct gq_sending *s,
			       const EnqueueItem *items, uint32_t n, uint32_t parts,
			       const uint64_t *ids, uint64_t number, uint64_t *values)
{
	if (parts == 1 && s->descriptor == NULL)
		copy_in(b, items, ids, n);
	for (uint32_t i = 0; i < n; i++)
		values[i] = fill(b, s, &items[i], &ids[i], parts, number + i);
}

/* ---- sending --------------------------------------------------------------------------------- */

GQ_ALWAYS_INLINE bool is_closed(const RingQueue *r)
{
	return __builtin_expect(gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN, 0);
}

/* The answer of a sender that a close has kept from sending all: outside of its operation. */
static __attribute__((noinline)) QueueStatus refuse_closed(RingQueue *r, uint32_t done,
							   uint32_t *accepted)
{
	if (!is_closed(r))
		return gq_ring_damaged(); /* barred, and no thread has closed the ring */
	/* The closer may have died in the middle, so settle for it. In single mode receivers wait
	 * until no thread is inside a send. */
	if (!gq__ring_settle(r) && r->single)
		gq__flag_wake_shared(&r->head->signals.data_armed);
	if (done == 0)
		return gq__fail(Q_ERR_SHUTDOWN, "the ring is closed");
	gq__flag_wake_shared(&r->head->signals.data_armed); /* [wake.look] */
	*accepted = done;
	return Q_OK;
}

GQ_ALWAYS_INLINE void count_sent(struct gq_ring_peer *peer, const struct gq_sending *s,
				 const EnqueueItem *items, uint32_t n)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += items[i].len;
	gq_ring_tally(&peer->bytes_sent, bytes);
	if (s->descriptor != NULL)
		gq_ring_tally(&peer->descriptors, n);
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

/*
 * Many senders: end an operation that has not published all of its messages, and give back the
 * slots of the others. `status` says why; Q_OK: others overtook it after the first `done`.
 */
static __attribute__((noinline)) QueueStatus
give_up_many(RingQueue *r, struct gq_box *b, struct gq_ring_peer *peer, QueueStatus status,
	     uint64_t pos, const uint64_t *ids, uint32_t popped, uint32_t done, uint32_t *accepted)
{
	const bool messages = b == &r->messages;
	uint64_t back[GQ_MAX_PARTS];

	for (uint32_t i = done; i < popped; i++) {
		back[i - done] = gq_pool_slot(b, ids[i]);
		/* The cell has left the pool, so its number must change, to one that it has never
		 * had (sequences are below 2^63): see repair.c. */
		gq_store_relaxed_u64(&b->number[back[i - done]], UINT64_C(1) << 63 | (pos + i));
	}
	if (popped > done)
		give_back_many(b, back, popped - done);
	if (status == Q_ERR_FULL && messages)
		gq_ring_tally(&peer->full, 1);
	op_end(peer);
	if (status == Q_ERR_SHUTDOWN)
		return refuse_closed(r, done, accepted);
	if (popped != 0 && messages)
		wake_many(&r->head->signals.room_armed);
	if (status == Q_OK) {
		if (messages)
			wake_many(&r->head->signals.data_armed);
		*accepted = done;
	}
	return status; /* of FULL, the caller says so unless it tries again */
}

/* See gq__ring_send_many(). */
GQ_ALWAYS_INLINE QueueStatus send_many(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
				       const EnqueueItem *items, uint32_t n, uint32_t parts,
				       uint32_t *accepted)
{
	const bool messages = b == &r->messages;
	uint64_t ids[GQ_MAX_PARTS], values[GQ_CHUNK], pos = 0;
	struct gq_ring_peer *peer;
	uint32_t popped = 0, done = 0;
	bool barred = false;
	QueueStatus status = begin_many(r, b->send_op, &peer);

	if (status != Q_OK)
		return status;
	/* [intake.look]: only for speed. A close that we do not see bars what we would publish. */
	if (messages && is_closed(r))
		return give_up_many(r, b, peer, Q_ERR_SHUTDOWN, pos, ids, 0, 0, accepted);
	if (!pop_many(b, &pos, ids, parts, parts > 1 ? parts : n, &popped)) {
		op_end(peer);
		return gq_ring_damaged();
	}
	if (popped == 0)
		return end_without_room(messages, peer);
	n = parts > 1 ? 1 : popped < n ? popped : n; /* so that of one, n stays the constant 1 */
	fill_all(b, s, items, n, parts, ids, take_numbers_many(b, pos, n), values);
	GQ_WINDOW();
	/* [message.publish]: cell, number, chain */
	if (!put_many(b, &b->ready[s->class], values, n, messages ? GQ_CLOSED : 0, &done,
		      &barred)) {
		op_end(peer);
		return gq_ring_damaged();
	}
	GQ_WINDOW();
	if (messages)
		count_sent(peer, s, items, done);
	if (__builtin_expect(done < n, 0))
		return give_up_many(r, b, peer,
				    barred      ? Q_ERR_SHUTDOWN
				    : done == 0 ? Q_ERR_FULL
						: Q_OK,
				    pos, ids, popped, done, accepted);
	op_end(peer);
	if (messages)
		wake_many(&r->head->signals.data_armed);
	*accepted = n;
	return Q_OK;
}

/* See gq__ring_send_single(). */
GQ_ALWAYS_INLINE QueueStatus send_single(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
					 const EnqueueItem *items, uint32_t n, uint32_t parts,
					 uint32_t *accepted)
{
	const bool messages = b == &r->messages;
	uint64_t ids[GQ_MAX_PARTS], values[GQ_CHUNK], pos, ready_pos;
	struct gq_ring_peer *peer;
	uint32_t popped;
	QueueStatus status = begin_single(r, b->send_role, b->send_op, &peer);

	if (status != Q_OK)
		return status;
	/* [intake.look]: we have said that we are inside, so a close that we do not see here sees
	 * us. */
	if (messages && is_closed(r)) {
		op_end(peer);
		return refuse_closed(r, 0, accepted);
	}
	popped = pop_single(b, &pos, ids, parts, parts > 1 ? parts : n);
	if (popped == 0)
		return end_without_room(messages, peer);
	n = parts > 1 ? 1 : popped < n ? popped : n; /* so that of one, n stays the constant 1 */
	fill_all(b, s, items, n, parts, ids, take_numbers_single(b, pos, n), values);
	GQ_WINDOW();
	ready_pos = gq_load_relaxed_u64(b->ready[s->class].tail);
	plan(peer, s->class, ready_pos, pos, n, popped);
	/* [message.publish]: cell, number, chain */
	put_single(&b->ready[s->class], ready_pos, values, n);
	gq_store_release_u64(b->pool.head, (pos + popped) << 1);
	GQ_WINDOW();
	if (messages)
		count_sent(peer, s, items, n);
	op_end(peer);
	if (messages)
		wake_single(r, peer, &r->head->signals.data_armed);
	*accepted = n;
	return Q_OK;
}

/* ---- each for every call, and for the call that is the most common --------------------------- */

QueueStatus gq__ring_send_many(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
			       const EnqueueItem *items, uint32_t n, uint32_t parts,
			       uint32_t *accepted)
{
	return send_many(r, b, s, items, n, parts, accepted);
}

QueueStatus gq__ring_send_single(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
				 const EnqueueItem *items, uint32_t n, uint32_t parts,
				 uint32_t *accepted)
{
	return send_single(r, b, s, items, n, parts, accepted);
}

QueueStatus gq__ring_send_one_many(RingQueue *r, const void *data, size_t len, uint32_t class)
{
	const struct gq_sending s = { .class = class };
	const EnqueueItem item = { .data = data, .len = len };
	uint32_t accepted;

	return send_many(r, &r->messages, &s, &item, 1, 1, &accepted);
}

QueueStatus gq__ring_send_one_single(RingQueue *r, const void *data, size_t len, uint32_t class)
{
	const struct gq_sending s = { .class = class };
	const EnqueueItem item = { .data = data, .len = len };
	uint32_t accepted;

	return send_single(r, &r->messages, &s, &item, 1, 1, &accepted);
}
