/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - what the calls that move messages check, wait for and say. */
#include "host/ring/answer.h"

#include "host/base/sys.h"
#include "host/ring/bind.h"
#include "host/ring/close.h"
#include "host/ring/fence.h"
#include "host/ring/repair.h"

#include <inttypes.h>

/* The class of a priority, or GQ_NONE with the error set. */
uint32_t gq__ring_class_of(QueuePriority priority)
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
QueueStatus gq__ring_validate(const RingQueue *r, const void *data, size_t len)
{
	GQ_NO_CANCEL();
	return r->validate(data, len, r->validate_user);
}

/* Check one message. `i` names it in errors when there are several. */
QueueStatus gq__ring_check_item(RingQueue *r, const EnqueueItem *item, size_t i, size_t count)
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
		status = gq__ring_validate(r, item->data, item->len);
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
 * While the answer is `busy`, sleep on `armed` until another thread wakes it, and try again.
 *
 * A sleep lasts 100 ms at most, and less while a repair is under way: a peer that has died neither
 * wakes other threads nor gives back what it had.
 */
QueueStatus gq__ring_try_until(RingQueue *r, struct gq_attempt *a, uint32_t *armed,
			       QueueStatus busy, uint32_t timeout_ms)
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

QueueStatus gq__ring_try(RingQueue *r, struct gq_attempt *a, uint32_t *armed, QueueStatus busy,
			 uint32_t timeout_ms)
{
	const char *before = q_last_error();
	QueueStatus status = a->once(r, a);

	if (status != busy || timeout_ms == 0)
		return status;
	status = gq__ring_try_until(r, a, armed, busy, timeout_ms);
	return status == Q_OK ? gq__fail(Q_OK, before) : status;
}

/* ---- sending ------------------------------------------------------------------------------ */

/* Do what follows from finding no room, and say it. */
QueueStatus gq__ring_answer_no_room(RingQueue *r)
{
	gq__ring_watch(r);
	/* A closed ring says SHUTDOWN, also if there is no room. [sleep.look]: for a thread that
	 * waits this is also the second look. */
	if (gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN)
		return gq__fail(Q_ERR_SHUTDOWN, "the ring is closed");
	return gq__fail(Q_ERR_FULL, "no room in the ring");
}

QueueStatus gq__ring_answer_unpolled(RingQueue *r)
{
	gq__ring_watch(r);
	return gq__fail(Q_ERR_FULL, "no room for completions: they wait to be polled");
}

QueueStatus gq__ring_send_once(RingQueue *r, struct gq_attempt *a)
{
	uint32_t accepted;
	QueueStatus status =
		gq_ring_send_to(r, &r->messages, &a->sending, &a->item, 1, a->parts, &accepted);

	return status == Q_ERR_FULL ? gq__ring_answer_no_room(r) : status;
}

/* ---- receiving ---------------------------------------------------------------------------- */

QueueStatus gq__ring_say_nothing(RingQueue *r)
{
	gq_poll_fd_settle(&r->poll);
	return gq__fail(Q_ERR_EMPTY, "nothing in the ring");
}

/* Do what follows from finding nothing, and say it. */
QueueStatus gq__ring_answer_nothing(RingQueue *r, struct gq_receiving *q)
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
	return gq__ring_say_nothing(r);
}

QueueStatus gq__ring_receive_once(RingQueue *r, struct gq_attempt *a)
{
	QueueStatus status = gq_ring_receive_from(r, &r->messages, &a->receiving);
	const char *before;

	if (__builtin_expect(status != Q_ERR_EMPTY, 1))
		return status;
	before = q_last_error(); /* an attempt that fails is no failure of the call */
	status = gq__ring_answer_nothing(r, &a->receiving);
	return status == Q_OK ? gq__fail(Q_OK, before) : status;
}

/* Say why the front stays. A call that was refused for another reason has said so already. */
QueueStatus gq__ring_explain(const struct gq_receiving *q, QueueStatus status)
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
