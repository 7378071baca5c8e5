/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.c - the calls that move messages: what they check, wait for and say. Moving is send.c and
 * receive.c.
 */
#include "host/base/sys.h"
#include "host/ring/bind.h"
#include "host/ring/close.h"
#include "host/ring/extent.h"
#include "host/ring/fence.h"
#include "host/ring/move.h"
#include "host/ring/poll_fd.h"
#include "host/ring/repair.h"

#include <inttypes.h>
#include <string.h>

/* ---- what calls share ------------------------------------------------------------------------ */

/* The class of a priority, or GQ_NONE with the error set. */
static uint32_t class_of(QueuePriority priority)
{
	if (priority == Q_PRIORITY_DEFAULT)
		priority = Q_PRIORITY_NORMAL;
	if ((unsigned)priority <= Q_PRIORITY_URGENT)
		return (uint32_t)priority - Q_PRIORITY_LOW;
	gq__failf(Q_ERR_INVALID_ARG, "priority is %u; must be 0 to %u", (unsigned)priority,
		  Q_PRIORITY_URGENT);
	return GQ_NONE;
}

/* Ask the schema's validator. It is code of the program: see sys.h. */
static QueueStatus validate(const RingQueue *r, const void *data, size_t len)
{
	GQ_NO_CANCEL();
	return r->validate(data, len, r->validate_user);
}

/* Check one message. `i` names it in errors when there are several. */
static QueueStatus check_item(RingQueue *r, const EnqueueItem *item, size_t i, size_t count)
{
	const uint64_t max = (uint64_t)r->cfg.max_msg_size * r->max_parts;
	QueueStatus status;

	if (__builtin_expect(item->data == NULL && item->len != 0, 0))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "data%s is NULL but len is %zu (item %zu of %zu)",
				 count > 1 ? " of an item" : "", item->len, i, count);
	if (__builtin_expect(item->len > max || item->len > UINT32_MAX, 0))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "len is %zu; at most %" PRIu64 " bytes (%" PRIu32
				 " entries) fit in a message of this ring (item %zu of %zu)",
				 item->len, max, r->max_parts, i, count);
	if (__builtin_expect(r->validate != NULL, 0)) {
		status = validate(r, item->data, item->len);
		if (status != Q_OK) {
			struct gq_ring_peer *peer = gq_ring_peer_of(r);

			if (peer != NULL)
				gq_ring_tally(&peer->refused, 1);
			return gq__failf(status,
					 "the validator of schema %" PRIu32
					 " refused the message (item %zu of %zu)",
					 r->cfg.schema, i, count);
		}
	}
	return Q_OK;
}

/*
 * Whether each of these messages can go as it is, in one cell: check_item() would let it pass and
 * ask no validator. False says nothing.
 */
GQ_ALWAYS_INLINE bool are_plain(const RingQueue *r, const EnqueueItem *items, size_t count)
{
	const size_t max = r->cfg.max_msg_size;

	if (__builtin_expect(r->validate != NULL, 0))
		return false;
	for (size_t i = 0; i < count; i++)
		if (__builtin_expect(items[i].data == NULL || items[i].len > max, 0))
			return false;
	return true;
}

/* What a call that can wait tries again and again. */
struct attempt {
	QueueStatus (*once)(RingQueue *r, struct attempt *a);
	struct gq_sending sending;
	EnqueueItem item;
	uint32_t parts;
	struct gq_receiving receiving;
};

/*
 * While the answer is `busy`, sleep on `armed` until another thread wakes it, and try again.
 *
 * A sleep lasts 100 ms at most, and less while a repair is under way: a peer that has died neither
 * wakes other threads nor gives back what it had.
 */
static QueueStatus try_until(RingQueue *r, struct attempt *a, uint32_t *armed, QueueStatus busy,
			     uint32_t timeout_ms)
{
	QueueStatus status = busy; /* it has been tried */
	struct gq_wait wait;

	gq__wait_begin_shared(&wait, armed, gq__deadline_ns(timeout_ms), gq_ring_nap_ns(r));
	while (status == busy && gq__wait_next(&wait)) {
		/* [sleep.look]: before the second look. */
		const uint64_t nap_ns = gq_ring_reach_before_look(r, &wait);

		status = a->once(r, a);
		wait.nap_ns = gq_ring_nap_ns(r) < nap_ns ? gq_ring_nap_ns(r) : nap_ns;
	}
	gq__wait_end(&wait);
	return status == busy ? gq__fail(Q_ERR_TIMEOUT, busy == Q_ERR_FULL
								? "timed out: no room in the ring"
								: "timed out: nothing was sent")
			      : status;
}

/* ---- send ------------------------------------------------------------------------------------ */

/* Do what follows from finding no room, and say it. */
static QueueStatus answer_no_room(RingQueue *r)
{
	gq__ring_watch(r);
	/* A closed ring says SHUTDOWN, also if there is no room. [sleep.look]: for a thread that
	 * waits this is also the second look. */
	if (gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN)
		return gq__fail(Q_ERR_SHUTDOWN, "the ring is closed");
	return gq__fail(Q_ERR_FULL, "no room in the ring");
}

static QueueStatus send_once(RingQueue *r, struct attempt *a)
{
	uint32_t accepted;
	QueueStatus status =
		gq_ring_send_to(r, &r->messages, &a->sending, &a->item, 1, a->parts, &accepted);

	return status == Q_ERR_FULL ? answer_no_room(r) : status;
}

static uint32_t parts_for(const RingQueue *r, size_t len)
{
	return len <= r->cfg.max_msg_size
		       ? 1
		       : (uint32_t)((len + r->cfg.max_msg_size - 1) / r->cfg.max_msg_size);
}

/* The most common message, first of all. What is not plain goes the general way. */
QueueStatus q_ring_send(RingQueue *r, const void *data, size_t len, QueuePriority priority)
{
	const EnqueueItem item = { .data = data, .len = len };
	const uint32_t class =
		(uint32_t)(priority == Q_PRIORITY_DEFAULT ? Q_PRIORITY_NORMAL : priority) -
		Q_PRIORITY_LOW;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (__builtin_expect(class >= GQ_CLASSES || !are_plain(r, &item, 1), 0))
		return q_ring_send_timeout(r, data, len, priority, 0);
	status = r->single ? gq__ring_send_one_single(r, data, len, class)
			   : gq__ring_send_one_many(r, data, len, class);
	return __builtin_expect(status == Q_ERR_FULL, 0) ? answer_no_room(r) : status;
}

QueueStatus q_ring_send_timeout(RingQueue *r, const void *data, size_t len, QueuePriority priority,
				uint32_t timeout_ms)
{
	const char *before;
	struct attempt a;
	QueueStatus status;
	uint32_t class;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	class = class_of(priority);
	if (class == GQ_NONE)
		return Q_ERR_INVALID_ARG;
	a.item = (EnqueueItem){ .data = data, .len = len };
	status = check_item(r, &a.item, 0, 1);
	if (status != Q_OK)
		return status;
	a.parts = parts_for(r, len);
	a.sending = (struct gq_sending){ .class = class };
	if (__builtin_expect(a.parts == 1, 1)) {
		status = r->single ? gq__ring_send_one_single(r, data, len, class)
				   : gq__ring_send_one_many(r, data, len, class);
		if (__builtin_expect(status != Q_ERR_FULL, 1))
			return status;
		before = q_last_error(); /* an attempt that fails is no failure of the call */
		status = answer_no_room(r);
	} else {
		before = q_last_error();
		status = send_once(r, &a);
	}
	if (status == Q_ERR_FULL && timeout_ms != 0) {
		a.once = send_once;
		status = try_until(r, &a, &r->head->signals.room_armed, Q_ERR_FULL, timeout_ms);
	}
	return status == Q_OK ? gq__fail(Q_OK, before) : status;
}

QueueStatus q_ring_send_batch(RingQueue *r, const EnqueueItem *items, size_t count,
			      QueuePriority priority, size_t *out_sent)
{
	struct attempt a;
	QueueStatus status;
	size_t sent = 0;
	bool plain;

	if (out_sent != NULL)
		*out_sent = 0;
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (items == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "items is NULL but count is %zu", count);
	a.sending = (struct gq_sending){ .class = class_of(priority) };
	if (a.sending.class == GQ_NONE)
		return Q_ERR_INVALID_ARG;
	plain = are_plain(r, items, count);
	for (size_t i = 0; !plain && i < count; i++) {
		status = check_item(r, &items[i], i, count);
		if (status != Q_OK)
			return status;
	}
	while (sent < count) {
		uint32_t accepted, n = 0;

		if (plain)
			n = count - sent < GQ_CHUNK ? (uint32_t)(count - sent) : GQ_CHUNK;
		while (n < GQ_CHUNK && sent + n < count &&
		       items[sent + n].len <= r->cfg.max_msg_size)
			n++;
		status = gq_ring_send_to(r, &r->messages, &a.sending, &items[sent], n != 0 ? n : 1,
					 n != 0 ? 1 : parts_for(r, items[sent].len), &accepted);
		if (status == Q_ERR_FULL)
			status = answer_no_room(r);
		if (status != Q_OK)
			return status;
		sent += accepted;
		if (out_sent != NULL)
			*out_sent = sent;
	}
	return Q_OK;
}

QueueStatus q_ring_send_descriptor(RingQueue *r, const MessageDescriptor *descriptor,
				   QueuePriority priority)
{
	return q_ring_send_descriptor_timeout(r, descriptor, priority, 0);
}

QueueStatus q_ring_send_descriptor_timeout(RingQueue *r, const MessageDescriptor *descriptor,
					   QueuePriority priority, uint32_t timeout_ms)
{
	MessageDescriptor d; /* what is checked is what is sent */
	struct attempt a;
	const void *bytes = NULL;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (descriptor == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "descriptor is NULL");
	d = *descriptor;
	if (r->regions == NULL)
		return gq__fail(Q_ERR_UNSUPPORTED,
				"no regions are bound to this handle: q_ring_bind_regions()");
	a.parts = 1;
	a.sending = (struct gq_sending){ .class = class_of(priority), .descriptor = &d };
	if (a.sending.class == GQ_NONE)
		return Q_ERR_INVALID_ARG;
	/* Held from here until the receiver releases it. */
	status = gq__region_acquire(r->regions, &d, r->validate != NULL ? &bytes : NULL);
	if (status != Q_OK)
		return status;
	a.item = (EnqueueItem){ .data = bytes, .len = d.length };
	if (r->validate != NULL && !gq__region_is_on_device(r->regions, &d)) {
		status = validate(r, bytes, d.length);
		if (status != Q_OK)
			gq__failf(status, "the validator of schema %" PRIu32 " refused the message",
				  r->cfg.schema);
	}
	if (status == Q_OK)
		status = send_once(r, &a);
	else if (gq_ring_peer_of(r) != NULL)
		gq_ring_tally(&gq_ring_peer_of(r)->refused, 1);
	if (status == Q_ERR_FULL && timeout_ms != 0) {
		a.once = send_once;
		status = try_until(r, &a, &r->head->signals.room_armed, Q_ERR_FULL, timeout_ms);
	}
	if (status != Q_OK)
		gq__region_drop(r->regions, &d);
	return status;
}

/* ---- receive --------------------------------------------------------------------------------- */

static QueueStatus say_nothing(RingQueue *r)
{
	gq_ring_found_nothing(r);
	return gq__fail(Q_ERR_EMPTY, "nothing in the ring");
}

/* Do what follows from finding nothing, and say it. */
static QueueStatus answer_nothing(RingQueue *r, struct gq_receiving *q)
{
	if (__builtin_expect(q->front == Q_ERR_EMPTY, 0)) /* there may be something */
		return gq__fail(Q_ERR_EMPTY, "others took every message that this call saw");
	if (__builtin_expect(gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN, 0)) {
		/* Once the ring is settled nothing can come any more; then look again, for what
		 * came before that. */
		if (gq__ring_settle(r)) {
			QueueStatus status = gq_ring_receive_from(r, &r->messages, q);

			return status == Q_ERR_EMPTY && q->front != Q_ERR_EMPTY
				       ? gq__fail(Q_ERR_SHUTDOWN,
						  "the ring is closed and nothing is left in it")
				       : status;
		}
		gq__ring_watch(r);
	}
	return say_nothing(r);
}

static QueueStatus receive_once(RingQueue *r, struct attempt *a)
{
	QueueStatus status = gq_ring_receive_from(r, &r->messages, &a->receiving);

	return status == Q_ERR_EMPTY ? answer_nothing(r, &a->receiving) : status;
}

/* Say why the front stays. A call that was refused for another reason has said so already. */
static QueueStatus explain(const struct gq_receiving *q, QueueStatus status)
{
	if (status != q->front)
		return status;
	switch (status) {
	case Q_ERR_BUFFER_TOO_SMALL:
		return gq__failf(status, "the buffer holds %zu bytes; the message takes %zu",
				 q->cap, q->needed);
	case Q_ERR_POLICY:
		return gq__fail(status,
				"a descriptor is at the front: q_ring_recv_typed() takes it");
	case Q_ERR_UNSUPPORTED:
		return gq__fail(status,
				"a descriptor is at the front and no regions are bound to this "
				"handle: q_ring_bind_regions()");
	default:
		return status;
	}
}

/* A receive of one message that has not received it at once: say why, or wait for one. */
static __attribute__((noinline)) QueueStatus receive_later(RingQueue *r, void *buf, size_t cap,
							   size_t *inout_len, QueueStatus status,
							   QueueStatus front, uint32_t timeout_ms)
{
	const char *before;
	struct attempt a;

	a.receiving = (struct gq_receiving){
		.buf = buf, .cap = cap, .needed = *inout_len, .max = 1, .front = front
	};
	*inout_len = 0;
	before = q_last_error();
	if (status == Q_ERR_EMPTY)
		status = answer_nothing(r, &a.receiving);
	if (status == Q_ERR_EMPTY && timeout_ms != 0) {
		a.once = receive_once;
		status = try_until(r, &a, &r->head->signals.data_armed, Q_ERR_EMPTY, timeout_ms);
	}
	if (status == Q_OK || status == Q_ERR_BUFFER_TOO_SMALL)
		*inout_len = a.receiving.needed;
	return status == Q_OK ? gq__fail(Q_OK, before) : explain(&a.receiving, status);
}

GQ_ALWAYS_INLINE QueueStatus receive_bytes(RingQueue *r, void *buf, size_t *inout_len,
					   uint32_t timeout_ms)
{
	QueueStatus status, front;
	size_t cap;

	if (inout_len == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "inout_len is NULL");
	cap = *inout_len;
	if (__builtin_expect(r == NULL || r->generation != gq__generation, 0)) {
		*inout_len = 0;
		return gq__ring_refuse_handle(r);
	}
	if (__builtin_expect(buf == NULL && cap != 0, 0)) {
		*inout_len = 0;
		return gq__failf(Q_ERR_INVALID_ARG, "buf is NULL but *inout_len is %zu", cap);
	}
	status = r->single ? gq__ring_receive_one_single(r, buf, inout_len, &front)
			   : gq__ring_receive_one_many(r, buf, inout_len, &front);
	if (__builtin_expect(status == Q_OK, 1))
		return Q_OK;
	/* What a polling loop meets most. */
	if (status == Q_ERR_EMPTY && front == Q_OK && timeout_ms == 0 &&
	    gq_load_seq_cst_u64(&r->head->signals.state) == GQ_RING_OPEN)
		return say_nothing(r);
	return receive_later(r, buf, cap, inout_len, status, front, timeout_ms);
}

QueueStatus q_ring_recv(RingQueue *r, void *buf, size_t *inout_len)
{
	return receive_bytes(r, buf, inout_len, 0);
}

QueueStatus q_ring_recv_timeout(RingQueue *r, void *buf, size_t *inout_len, uint32_t timeout_ms)
{
	return receive_bytes(r, buf, inout_len, timeout_ms);
}

QueueStatus q_ring_recv_batch(RingQueue *r, void *buf, size_t cap, RingMessage *out,
			      size_t max_count, size_t *out_count)
{
	const char *before = q_last_error();
	struct attempt a;
	QueueStatus status = Q_OK;

	if (out_count == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out_count is NULL");
	*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (buf == NULL && cap != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "buf is NULL but cap is %zu", cap);
	if (out == NULL || max_count == 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "out is %s and max_count is %zu; at least one message "
				 "must be asked for",
				 out == NULL ? "NULL" : "given", max_count);
	a.receiving =
		(struct gq_receiving){ .buf = buf, .cap = cap, .out = out, .descriptors = true };
	while (status == Q_OK && a.receiving.count < max_count && !a.receiving.all &&
	       a.receiving.count < UINT32_MAX / 2) {
		size_t left = max_count - a.receiving.count;

		a.receiving.max = left < GQ_CHUNK ? (uint32_t)left : GQ_CHUNK;
		status = a.receiving.count == 0
				 ? receive_once(r, &a)
				 : gq_ring_receive_from(r, &r->messages, &a.receiving);
	}
	*out_count = a.receiving.count;
	if (a.receiving.count != 0)
		return gq__fail(Q_OK, before);
	return explain(&a.receiving, status);
}

QueueStatus q_ring_recv_typed(RingQueue *r, void *buf, size_t cap, RingMessage *out)
{
	return q_ring_recv_typed_timeout(r, buf, cap, out, 0);
}

QueueStatus q_ring_recv_typed_timeout(RingQueue *r, void *buf, size_t cap, RingMessage *out,
				      uint32_t timeout_ms)
{
	struct attempt a;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (buf == NULL && cap != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "buf is NULL but cap is %zu", cap);
	a.receiving = (struct gq_receiving){
		.buf = buf, .cap = cap, .out = out, .max = 1, .descriptors = true
	};
	status = receive_once(r, &a);
	if (status == Q_ERR_EMPTY && timeout_ms != 0) {
		a.once = receive_once;
		status = try_until(r, &a, &r->head->signals.data_armed, Q_ERR_EMPTY, timeout_ms);
	}
	return status == Q_OK ? status : explain(&a.receiving, status);
}

QueueStatus q_ring_discard(RingQueue *r)
{
	struct attempt a;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	a.receiving = (struct gq_receiving){ .max = 1,
					     .discard = true,
					     .descriptors = r->regions != NULL };
	status = receive_once(r, &a);
	if (a.receiving.drops)
		gq__region_drop(r->regions, &a.receiving.discarded);
	return status == Q_OK ? status : explain(&a.receiving, status);
}

QueueStatus q_ring_peek(RingQueue *r, RingMessage *out)
{
	struct attempt a;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	/* To receive at most none is to describe the front. */
	a.receiving = (struct gq_receiving){ .out = out, .max = 0 };
	status = receive_once(r, &a);
	return status;
}

/* ---- completions ----------------------------------------------------------------------------- */

GQ_STATIC_ASSERT(sizeof(RingCompletion) == sizeof(struct gq_ring_completion),
		 "a completion is received in place");

QueueStatus q_ring_complete(RingQueue *r, uint64_t sequence, QueueStatus status, const void *data,
			    size_t len)
{
	const struct gq_sending sending = { 0 };
	struct gq_ring_completion c = { .sequence = sequence,
					.status = (int32_t)status,
					.length = (uint32_t)len };
	const EnqueueItem item = { .data = &c, .len = sizeof(c) };
	QueueStatus sent;
	uint32_t accepted;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (data == NULL && len != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "data is NULL but len is %zu", len);
	if (len > Q_RING_INLINE_BYTES)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "len is %zu; a completion carries at most %u bytes", len,
				 Q_RING_INLINE_BYTES);
	if (len != 0)
		memcpy(c.data, data, len);
	sent = gq_ring_send_to(r, &r->completions, &sending, &item, 1, 1, &accepted);
	if (sent != Q_ERR_FULL)
		return sent;
	gq__ring_watch(r);
	return gq__fail(Q_ERR_FULL, "no room for completions: they wait to be polled");
}

QueueStatus q_ring_poll_completions(RingQueue *r, RingCompletion *out, size_t max_count,
				    size_t *out_count)
{
	struct gq_receiving q = { .buf = (uint8_t *)out };
	const char *before = q_last_error();
	QueueStatus status = Q_OK;

	if (out_count == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out_count is NULL");
	*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (out == NULL && max_count != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "out is NULL but max_count is %zu", max_count);
	max_count = max_count > UINT32_MAX / 2 ? UINT32_MAX / 2 : max_count;
	q.cap = max_count * sizeof(*out);
	while (status == Q_OK && q.count < max_count) {
		q.max = max_count - q.count < GQ_CHUNK ? (uint32_t)(max_count - q.count) : GQ_CHUNK;
		status = gq_ring_receive_from(r, &r->completions, &q);
	}
	for (uint32_t i = 0; i < q.count; i++) /* a liar's may be longer */
		if (out[i].length > Q_RING_INLINE_BYTES)
			out[i].length = Q_RING_INLINE_BYTES;
	*out_count = q.count;
	return status == Q_ERR_EMPTY || q.count != 0 ? gq__fail(Q_OK, before) : status;
}
