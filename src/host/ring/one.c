/* SPDX-License-Identifier: Apache-2.0 */
/*
 * one.c - the calls that move one message or one completion: what most calls do.
 *
 * The most common message, which lies in one cell, has a way of its own, without arrays of runs and
 * parts: one function for each mode, to which the call's checks jump, and which the call's answer
 * comes from. Whatever is not so (a swap lost, a long message, a descriptor, ageing, a close) ends
 * its operation and begins again on the general way, out of line.
 */
#include "host/ring/answer.h"
#include "host/ring/front.h"
#include "host/ring/poll_fd.h"
#include "host/ring/reuse.h"
#include "host/ring/slip.h"

/* ---- sending --------------------------------------------------------------------------------- */

/* Take one cell. @return false: not at once; *full: not at all, there is none. */
GQ_ALWAYS_INLINE bool pop_one_many(const struct gq_box *b, uint64_t *pos, uint32_t *slot,
				   bool *full)
{
	uint64_t next;
	const uint64_t head = gq_load_acquire_u64(b->pool.head), start = gq_head_start(head);
	/* [pool.take] acquire: the previous owner is done with the cell. */
	const uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(&b->pool, start));
	const uint32_t taken = (uint32_t)(head & GQ_HEAD_MASK), count = gq_extent_count(word);

	*full = false;
	if (__builtin_expect(!gq_word_ring_is_at(&b->pool, word, start), 0)) {
		/* Nothing has been published there yet, so the head is still there, too. */
		*full = gq_extent_is_older(&b->pool, word, start);
		return false;
	}
	*pos = start + taken;
	*slot = gq_head_slot(b, word, head);
	next = head + 1;
	if (taken + 1 >= count) { /* the last one of the extent; a liar's has none behind it */
		next = gq_head_of(start + count);
		gq_extent_touch(&b->pool, start, count);
	}
	GQ_WINDOW();
	/* Relaxed: the swap only excludes; what we read came with [pool.take]. */
	return gq_cas_relaxed_device_u64(b->pool.head, head, next);
}

/* The same in single mode. */
GQ_ALWAYS_INLINE bool pop_one_single(const struct gq_box *b, struct gq_ring_local *local,
				     struct gq_box_hints *hints, uint32_t *slot, bool *full)
{
	uint64_t head = gq_load_relaxed_u64(hints->reused), word;
	uint32_t taken, count;

	*full = false;
	if (!gq_reuse_knows(hints, head)) {
		*full = !gq__ring_look_for_cells(b, local, hints, hints == &local->messages);
		if (*full)
			return false;
		head = gq_load_relaxed_u64(hints->reused);
	}
	word = gq_load_relaxed_u64(gq_head_entry(hints->source, head));
	if (__builtin_expect(gq_is_in_parts(b, word), 0))
		return false;
	taken = (uint32_t)(head & GQ_HEAD_MASK);
	count = gq_extent_count(word);
	*slot = gq_head_slot(b, word, head);
	/* As gq_reuse_take() */
	gq_store_relaxed_u64(hints->reused, taken + 1 < count
						    ? head + 1
						    : gq_head_of(gq_head_start(head) + count));
	return true;
}

/* The one message did not go at once: it goes the general way. */
static __attribute__((noinline)) QueueStatus
send_slowly(RingQueue *r, struct gq_ring_peer *peer, const void *data, size_t len, uint32_t class)
{
	struct gq_attempt a = { .sending = { .class = class },
				.item = { .data = data, .len = len },
				.parts = 1 };

	op_end(peer);
	return gq__ring_send_once(r, &a);
}

/* The same of a completion. */
static __attribute__((noinline)) QueueStatus
complete_slowly(RingQueue *r, struct gq_ring_peer *peer, const void *data, size_t len)
{
	const struct gq_sending sending = { 0 };
	const EnqueueItem item = { .data = data, .len = len };
	uint32_t accepted;
	QueueStatus status;

	op_end(peer);
	status = gq_ring_send_to(r, &r->completions, &sending, &item, 1, 1, &accepted);
	return status == Q_ERR_FULL ? gq__ring_answer_unpolled(r) : status;
}

static __attribute__((noinline)) QueueStatus send_without_room(RingQueue *r,
							       struct gq_ring_peer *peer)
{
	end_without_room(true, peer);
	return gq__ring_answer_no_room(r);
}

static __attribute__((noinline)) QueueStatus give_up(RingQueue *r, struct gq_box *b,
						     struct gq_ring_local *local, bool barred,
						     uint64_t pos, uint32_t slot)
{
	const QueueStatus status = gq__ring_give_up_one(r, b, local, barred, pos, slot);

	if (status != Q_ERR_FULL)
		return status;
	return b == &r->messages ? gq__ring_answer_no_room(r) : gq__ring_answer_unpolled(r);
}

/* One message of one cell, or one completion. */
GQ_ALWAYS_INLINE QueueStatus send_one(RingQueue *r, const void *data, size_t len, uint32_t class,
				      bool messages, bool single)
{
	struct gq_box *b = messages ? &r->messages : &r->completions;
	const struct gq_word_ring *ready = &b->ready[class];
	const enum gq_op op = messages ? GQ_OP_SEND : GQ_OP_COMPLETE;
	struct gq_ring_local *local;
	struct gq_ring_peer *peer;
	struct gq_box_hints *hints;
	uint64_t pos = 0, value;
	uint32_t slot, done;
	bool barred, full, taken;
	QueueStatus status =
		single ? begin_single(r, b->send_role, op, &local) : begin_many(r, op, &local);

	if (__builtin_expect(status != Q_OK, 0))
		return status;
	peer = local->peer;
	/* [intake.look]: as in send_many(), send_single() */
	if (messages && is_closed(r))
		return send_slowly(r, peer, data, len, class);
	hints = messages ? &local->messages : &local->completions;
	if (single) {
		taken = pop_one_single(b, local, hints, &slot, &full);
	} else {
		if (messages)
			gq_slip_send(b, local);
		taken = pop_one_many(b, &pos, &slot, &full);
	}
	if (__builtin_expect(!taken, 0)) {
		if (!messages)
			return complete_slowly(r, peer, data, len);
		return full ? send_without_room(r, peer) : send_slowly(r, peer, data, len, class);
	}
	value = gq_entry_value(slot, len, 0);
	gq_store_relaxed_u64(&b->number[slot],
			     (single ? take_numbers_single(b, 1) : take_numbers_many(b, pos, 1)) +
				     1);
	gq_copy(gq_cell_at(b, slot), data, len);
	GQ_WINDOW();
	/* [message.publish]: cell, number */
	if (single) {
		put_one_single(ready, value);
	} else {
		if (__builtin_expect(!put_one_many(b, ready, &hints->ready[class], value,
						   messages ? GQ_CLOSED : 0, &done, &barred),
				     0)) {
			op_end(peer);
			return gq_ring_damaged();
		}
		if (__builtin_expect(done == 0, 0))
			return give_up(r, b, local, barred, pos, slot);
	}
	GQ_WINDOW();
	if (messages)
		gq_ring_tally(&peer->bytes_sent, len);
	op_end(peer);
	if (!messages)
		return Q_OK; /* nobody waits for completions */
	if (single)
		wake_single(r, peer, &r->head->signals.data_armed);
	else
		wake_many(&r->head->signals.data_armed);
	return Q_OK;
}

static __attribute__((noinline)) QueueStatus send_many(RingQueue *r, const void *data, size_t len,
						       uint32_t class)
{
	return send_one(r, data, len, class, true, false);
}

static __attribute__((noinline)) QueueStatus send_single(RingQueue *r, const void *data, size_t len,
							 uint32_t class)
{
	return send_one(r, data, len, class, true, true);
}

/* A message that is not plain, or for which the call may wait. */
static __attribute__((noinline)) QueueStatus send_timeout(RingQueue *r, const void *data,
							  size_t len, QueuePriority priority,
							  uint32_t timeout_ms)
{
	const uint32_t class = gq__ring_class_of(priority);
	const char *before = ""; /* an attempt that fails is no failure of the call */
	struct gq_attempt a;
	QueueStatus status;

	if (class == GQ_NONE)
		return Q_ERR_INVALID_ARG;
	a.item = (EnqueueItem){ .data = data, .len = len };
	status = gq__ring_check_item(r, &a.item, 0, 1);
	if (status != Q_OK)
		return status;
	a.parts = gq_ring_parts_for(r, len);
	a.sending = (struct gq_sending){ .class = class };
	if (timeout_ms != 0)
		before = q_last_error();
	if (__builtin_expect(a.parts == 1, 1))
		status = r->single ? send_single(r, data, len, class)
				   : send_many(r, data, len, class);
	else
		status = gq__ring_send_once(r, &a);
	if (status != Q_ERR_FULL || timeout_ms == 0)
		return status;
	a.once = gq__ring_send_once;
	status = gq__ring_try_until(r, &a, &r->head->signals.room_armed, Q_ERR_FULL, timeout_ms);
	return status == Q_OK ? gq__fail(Q_OK, before) : status;
}

QueueStatus q_ring_send(RingQueue *r, const void *data, size_t len, QueuePriority priority)
{
	const uint32_t class =
		(uint32_t)(priority == Q_PRIORITY_DEFAULT ? Q_PRIORITY_NORMAL : priority) -
		Q_PRIORITY_LOW;

	if (__builtin_expect(r == NULL || r->generation != gq__generation, 0))
		return gq__ring_refuse_handle(r);
	/* What is plain passes gq__ring_check_item(), and asks no validator. */
	if (__builtin_expect(class >= GQ_CLASSES || data == NULL || len > r->cfg.max_msg_size ||
				     r->validate != NULL,
			     0))
		return send_timeout(r, data, len, priority, 0);
	return r->single ? send_single(r, data, len, class) : send_many(r, data, len, class);
}

QueueStatus q_ring_send_timeout(RingQueue *r, const void *data, size_t len, QueuePriority priority,
				uint32_t timeout_ms)
{
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	return send_timeout(r, data, len, priority, timeout_ms);
}

static __attribute__((noinline)) QueueStatus complete_many(RingQueue *r, const RingCompletion *c)
{
	return send_one(r, c, sizeof(*c), 0, false, false);
}

static __attribute__((noinline)) QueueStatus complete_single(RingQueue *r, const RingCompletion *c)
{
	return send_one(r, c, sizeof(*c), 0, false, true);
}

QueueStatus q_ring_complete(RingQueue *r, uint64_t sequence, QueueStatus status, const void *data,
			    size_t len)
{
	RingCompletion c = { .sequence = sequence, .status = status, .length = (uint32_t)len };

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (__builtin_expect(data == NULL && len != 0, 0))
		return gq__failf(Q_ERR_INVALID_ARG, "data is NULL but len is %zu", len);
	if (__builtin_expect(len > Q_RING_INLINE_BYTES, 0))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "len is %zu; a completion carries at most %u bytes", len,
				 Q_RING_INLINE_BYTES);
	if (len != 0)
		memcpy(c.data, data, len);
	return r->single ? complete_single(r, &c) : complete_many(r, &c);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Whether a message is bytes in one cell. */
GQ_ALWAYS_INLINE bool is_plain(uint64_t word)
{
	return gq_entry_kind(word) == 0 || gq_entry_kind(word) == GQ_KIND_RUN;
}

/* A receive that has not received at once: say why, or wait. @param status, front, needed  as the
 * first try has answered */
static QueueStatus receive_later(RingQueue *r, void *buf, size_t *inout_len, QueueStatus status,
				 QueueStatus front, size_t needed, uint32_t timeout_ms)
{
	struct gq_attempt a = { .receiving = { .buf = buf,
					       .cap = *inout_len,
					       .needed = needed,
					       .max = 1,
					       .front = front } };
	const char *before = q_last_error();

	*inout_len = 0;
	if (status == Q_ERR_EMPTY)
		status = gq__ring_answer_nothing(r, &a.receiving);
	if (status == Q_ERR_EMPTY && timeout_ms != 0) {
		a.once = gq__ring_receive_once;
		status = gq__ring_try_until(r, &a, &r->head->signals.data_armed, Q_ERR_EMPTY,
					    timeout_ms);
	}
	if (status == Q_OK || status == Q_ERR_BUFFER_TOO_SMALL)
		*inout_len = a.receiving.needed;
	return status == Q_OK ? gq__fail(Q_OK, before) : gq__ring_explain(&a.receiving, status);
}

/* What receive_one() leaves goes the general way. */
static __attribute__((noinline)) QueueStatus receive_slowly(RingQueue *r, struct gq_ring_peer *peer,
							    bool waited, void *buf, size_t *len,
							    uint32_t timeout_ms)
{
	struct gq_receiving q = { .buf = buf, .cap = *len, .max = 1, .waited = waited };
	QueueStatus status;

	op_end(peer);
	status = gq_ring_receive_from(r, &r->messages, &q);
	if (status != Q_OK)
		return receive_later(r, buf, len, status, q.front, q.needed, timeout_ms);
	*len = q.needed;
	return Q_OK;
}

/* Nothing is there: wait a little for it, or say so. */
static __attribute__((noinline)) QueueStatus receive_nothing(RingQueue *r,
							     struct gq_ring_local *local, void *buf,
							     size_t *len, uint32_t timeout_ms)
{
	bool waited = false;

	if (gq_slip_receive(&local->message_pace, &waited))
		return receive_slowly(r, local->peer, waited, buf, len, timeout_ms);
	local->message_pace.streak = 0;
	gq_ring_tally(&local->peer->empty, 1);
	op_end(local->peer);
	/* What a polling loop meets most. */
	if (timeout_ms == 0 && gq_load_seq_cst_u64(&r->head->signals.state) == GQ_RING_OPEN) {
		*len = 0;
		return gq__ring_say_nothing(r);
	}
	return receive_later(r, buf, len, Q_ERR_EMPTY, Q_OK, 0, timeout_ms);
}

/* A message of any kind, and what it is. */
static __attribute__((noinline)) QueueStatus receive_typed(RingQueue *r, bool waited, void *buf,
							   size_t cap, RingMessage *out,
							   uint32_t timeout_ms)
{
	struct gq_attempt a = { .once = gq__ring_receive_once,
				.receiving = { .buf = buf,
					       .cap = cap,
					       .out = out,
					       .max = 1,
					       .descriptors = true,
					       .waited = waited } };
	QueueStatus status =
		gq__ring_try(r, &a, &r->head->signals.data_armed, Q_ERR_EMPTY, timeout_ms);

	return status == Q_OK ? status : gq__ring_explain(&a.receiving, status);
}

/* The same, of which receive_one() has found nothing, or nothing that it takes. */
static __attribute__((noinline)) QueueStatus
receive_typed_slowly(RingQueue *r, struct gq_ring_local *local, bool nothing, void *buf, size_t cap,
		     RingMessage *out, uint32_t timeout_ms)
{
	bool waited = false;

	if (nothing && !gq_slip_receive(&local->message_pace, &waited)) {
		local->message_pace.streak = 0;
		/* What a polling loop meets most. */
		if (timeout_ms == 0 &&
		    gq_load_seq_cst_u64(&r->head->signals.state) == GQ_RING_OPEN) {
			gq_ring_tally(&local->peer->empty, 1);
			op_end(local->peer);
			return gq__ring_say_nothing(r);
		}
	}
	op_end(local->peer);
	return receive_typed(r, waited, buf, cap, out, timeout_ms);
}

/*
 * One message, of which only the bytes are wanted, or (out not NULL) what it is as well. The most
 * common one, which lies in one cell and fits, goes by a way of its own.
 */
GQ_ALWAYS_INLINE QueueStatus receive_one(RingQueue *r, void *buf, size_t *len, RingMessage *out,
					 uint32_t timeout_ms, bool single)
{
	const struct gq_box *b = &r->messages;
	const struct gq_word_ring *ready;
	struct gq_ring_local *local;
	struct gq_ring_peer *peer;
	struct front f = { 0 };
	uint64_t start, next;
	uint32_t bytes, slot, taken, count, done;
	uint8_t *cell;
	bool barred;
	enum look found;
	QueueStatus status = single ? begin_single(r, b->receive_role, GQ_OP_RECEIVE, &local)
				    : begin_many(r, GQ_OP_RECEIVE, &local);

	if (__builtin_expect(status != Q_OK, 0)) {
		*len = 0;
		return status;
	}
	peer = local->peer;
	guess(b, &local->message_pace);
	found = r->ageing == NULL ? glance(b, local, &f) : OVERTAKEN;
	bytes = gq_length_of(b, f.word);
	if (out != NULL && __builtin_expect(found != FOUND || !is_plain(f.word) || bytes > *len, 0))
		return receive_typed_slowly(r, local, found == NOTHING, buf, *len, out, timeout_ms);
	if (__builtin_expect(found == NOTHING, 0))
		return receive_nothing(r, local, buf, len, timeout_ms);
	if (__builtin_expect(found != FOUND || !is_plain(f.word), 0))
		return receive_slowly(r, peer, false, buf, len, timeout_ms);
	ready = &b->ready[f.class];
	start = gq_head_start(f.head);
	taken = (uint32_t)(f.head & GQ_HEAD_MASK);
	count = gq_extent_count(f.word);
	/* Behind the last one of the extent; a liar's has none there. */
	next = taken + 1 < count ? f.head + 1 : gq_head_of(start + count);
	if (__builtin_expect(bytes > *len, 0))
		return receive_slowly(r, peer, false, buf, len, timeout_ms);
	GQ_WINDOW();
	/* Relaxed: the swap only excludes; what we read came with [message.claim]. In single mode
	 * nobody else claims, and the head is stored when the cell has been read. */
	if (!single && __builtin_expect(!gq_cas_relaxed_device_u64(ready->head, f.head, next), 0)) {
		if (out != NULL)
			return receive_typed_slowly(r, local, false, buf, *len, out, timeout_ms);
		return receive_slowly(r, peer, false, buf, len, timeout_ms);
	}
	*len = bytes;
	slot = gq_head_slot(b, f.word, f.head);
	cell = gq_cell_at(b, slot);
	gq_copy(buf, cell, bytes);
	if (out != NULL)
		*out = (RingMessage){ .kind = Q_MESSAGE_INLINE,
				      .length = bytes,
				      .priority = (QueuePriority)(f.class + Q_PRIORITY_LOW),
				      .sequence = gq_load_relaxed_u64(&b->number[slot]) - 1 };
	if (touches(b, &local->message_pace)) {
		gq_touch(cell, bytes);
		if (out != NULL)
			gq_store_relaxed_u64(&b->number[slot], out->sequence + 1);
		if (!single && taken + 1 >= count)
			gq_extent_touch(ready, start, count);
	}
	GQ_WINDOW();
	if (single) {
		gq_store_release_u64(ready->head, next); /* [cell.free]: as in receive_single() */
	} else if (__builtin_expect(!put_one_many(b, &b->pool, &local->messages.pool,
						  gq_entry_value(slot, 0, 0), 0, &done, &barred),
				    0)) {
		op_end(peer);
		*len = 0;
		return gq_ring_damaged();
	}
	gq_ring_tally(&peer->bytes_received, bytes);
	local->message_pace.streak++;
	local->message_pace.next_slot = slot + 1;
	op_end(peer);
	if (single)
		wake_single(r, peer, &r->head->signals.room_armed);
	else
		wake_many(&r->head->signals.room_armed);
	return Q_OK;
}

static __attribute__((noinline)) QueueStatus receive_many(RingQueue *r, void *buf, size_t *len,
							  uint32_t timeout_ms)
{
	return receive_one(r, buf, len, NULL, timeout_ms, false);
}

static __attribute__((noinline)) QueueStatus receive_single(RingQueue *r, void *buf, size_t *len,
							    uint32_t timeout_ms)
{
	return receive_one(r, buf, len, NULL, timeout_ms, true);
}

/* The handle is refused, or the room. */
static __attribute__((noinline)) QueueStatus refuse_receive(const RingQueue *r, size_t *inout_len)
{
	const size_t cap = inout_len == NULL ? 0 : *inout_len;

	if (inout_len == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "inout_len is NULL");
	*inout_len = 0;
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	return gq__failf(Q_ERR_INVALID_ARG, "buf is NULL but *inout_len is %zu", cap);
}

GQ_ALWAYS_INLINE QueueStatus receive_bytes(RingQueue *r, void *buf, size_t *inout_len,
					   uint32_t timeout_ms)
{
	if (__builtin_expect(inout_len == NULL || r == NULL || r->generation != gq__generation ||
				     (buf == NULL && *inout_len != 0),
			     0))
		return refuse_receive(r, inout_len);
	return r->single ? receive_single(r, buf, inout_len, timeout_ms)
			 : receive_many(r, buf, inout_len, timeout_ms);
}

QueueStatus q_ring_recv(RingQueue *r, void *buf, size_t *inout_len)
{
	return receive_bytes(r, buf, inout_len, 0);
}

QueueStatus q_ring_recv_timeout(RingQueue *r, void *buf, size_t *inout_len, uint32_t timeout_ms)
{
	return receive_bytes(r, buf, inout_len, timeout_ms);
}

static __attribute__((noinline)) QueueStatus typed_many(RingQueue *r, void *buf, size_t cap,
							RingMessage *out, uint32_t timeout_ms)
{
	return receive_one(r, buf, &cap, out, timeout_ms, false);
}

static __attribute__((noinline)) QueueStatus typed_single(RingQueue *r, void *buf, size_t cap,
							  RingMessage *out, uint32_t timeout_ms)
{
	return receive_one(r, buf, &cap, out, timeout_ms, true);
}

QueueStatus q_ring_recv_typed(RingQueue *r, void *buf, size_t cap, RingMessage *out)
{
	return q_ring_recv_typed_timeout(r, buf, cap, out, 0);
}

QueueStatus q_ring_recv_typed_timeout(RingQueue *r, void *buf, size_t cap, RingMessage *out,
				      uint32_t timeout_ms)
{
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (__builtin_expect(out == NULL, 0))
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (__builtin_expect(buf == NULL && cap != 0, 0))
		return gq__failf(Q_ERR_INVALID_ARG, "buf is NULL but cap is %zu", cap);
	return r->single ? typed_single(r, buf, cap, out, timeout_ms)
			 : typed_many(r, buf, cap, out, timeout_ms);
}
