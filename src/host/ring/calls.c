/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.c - the calls that move messages and completions, but for those that move one: one.c.
 * Moving is send.c and receive.c.
 */
#include "host/ring/answer.h"
#include "host/ring/bind.h"
#include "host/ring/extent.h"

#include <inttypes.h>

/* Whether the messages fill their cells and follow each other in the caller's memory, as those of
 * an array do. They pass gq__ring_check_item() if the first one does. */
static bool are_row(const RingQueue *r, const EnqueueItem *items, size_t count)
{
	const size_t len = items[0].len;
	const uintptr_t at = (uintptr_t)items[0].data;

	if (len != r->messages.stride || len >> GQ_RUN_LENGTH_BITS != 0)
		return false;
	for (size_t i = 1; i < count; i++)
		if (items[i].len != len || (uintptr_t)items[i].data != at + i * len)
			return false;
	return true;
}

/*
 * Whether each of these messages can go as it is, in one cell: gq__ring_check_item() would let it
 * pass and ask no validator. False says nothing. *row: see are_row().
 */
static bool are_plain(const RingQueue *r, const EnqueueItem *items, size_t count, bool *row)
{
	const size_t max = r->cfg.max_msg_size;

	*row = false;
	if (__builtin_expect(r->validate != NULL || count == 0, 0))
		return false;
	*row = are_row(r, items, count);
	for (size_t i = 0; i < (*row ? 1 : count); i++)
		if (__builtin_expect(items[i].data == NULL || items[i].len > max, 0))
			return false;
	return true;
}

/* ---- send ------------------------------------------------------------------------------------ */

QueueStatus q_ring_send_batch(RingQueue *r, const EnqueueItem *items, size_t count,
			      QueuePriority priority, size_t *out_sent)
{
	struct gq_attempt a;
	QueueStatus status;
	size_t sent = 0;
	bool plain;

	if (out_sent != NULL)
		*out_sent = 0;
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (items == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "items is NULL but count is %zu", count);
	a.sending = (struct gq_sending){ .class = gq__ring_class_of(priority) };
	if (a.sending.class == GQ_NONE)
		return Q_ERR_INVALID_ARG;
	plain = are_plain(r, items, count, &a.sending.row);
	for (size_t i = 0; !plain && i < count; i++) {
		status = gq__ring_check_item(r, &items[i], i, count);
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
					 n != 0 ? 1 : gq_ring_parts_for(r, items[sent].len),
					 &accepted);
		if (status == Q_ERR_FULL)
			status = gq__ring_answer_no_room(r);
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
	struct gq_attempt a;
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
	a.sending = (struct gq_sending){ .class = gq__ring_class_of(priority), .descriptor = &d };
	if (a.sending.class == GQ_NONE)
		return Q_ERR_INVALID_ARG;
	/* Held from here until the receiver releases it. */
	status = gq__region_acquire(r->regions, &d, r->validate != NULL ? &bytes : NULL);
	if (status != Q_OK)
		return status;
	a.item = (EnqueueItem){ .data = bytes, .len = d.length };
	if (r->validate != NULL && !gq__region_is_on_device(r->regions, &d)) {
		status = gq__ring_validate(r, bytes, d.length);
		if (status != Q_OK)
			gq__failf(status, "the validator of schema %" PRIu32 " refused the message",
				  r->cfg.schema);
	}
	if (status == Q_OK) {
		a.once = gq__ring_send_once;
		status = gq__ring_try(r, &a, &r->head->signals.room_armed, Q_ERR_FULL, timeout_ms);
	} else if (gq_ring_peer_of(r) != NULL) {
		gq_ring_tally(&gq_ring_peer_of(r)->refused, 1);
	}
	if (status != Q_OK)
		gq__region_drop(r->regions, &d);
	return status;
}

/* ---- receive --------------------------------------------------------------------------------- */

QueueStatus q_ring_recv_batch(RingQueue *r, void *buf, size_t cap, RingMessage *out,
			      size_t max_count, size_t *out_count)
{
	const char *before = NULL;
	struct gq_attempt a;
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
		if (a.receiving.count == 0) {
			status = gq__ring_receive_once(r, &a);
			continue;
		}
		if (before == NULL) /* an attempt that fails is no failure of the call */
			before = q_last_error();
		status = gq_ring_receive_from(r, &r->messages, &a.receiving);
	}
	*out_count = a.receiving.count;
	if (a.receiving.count != 0)
		return before == NULL ? Q_OK : gq__fail(Q_OK, before);
	return gq__ring_explain(&a.receiving, status);
}

QueueStatus q_ring_discard(RingQueue *r)
{
	struct gq_attempt a;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	a.receiving = (struct gq_receiving){ .max = 1,
					     .discard = true,
					     .descriptors = r->regions != NULL };
	status = gq__ring_receive_once(r, &a);
	if (a.receiving.drops)
		gq__region_drop(r->regions, &a.receiving.discarded);
	return status == Q_OK ? status : gq__ring_explain(&a.receiving, status);
}

QueueStatus q_ring_peek(RingQueue *r, RingMessage *out)
{
	struct gq_attempt a;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	/* To receive at most none is to describe the front. */
	a.receiving = (struct gq_receiving){ .out = out, .max = 0 };
	status = gq__ring_receive_once(r, &a);
	return status;
}

/* ---- completions ----------------------------------------------------------------------------- */

GQ_STATIC_ASSERT(sizeof(RingCompletion) == sizeof(struct gq_ring_completion),
		 "a completion is received in place");

/* Send up to GQ_CHUNK completions. */
static QueueStatus complete_some(RingQueue *r, const RingCompletion *completions, uint32_t n,
				 uint32_t *accepted)
{
	const struct gq_sending sending = { 0 };
	EnqueueItem items[GQ_CHUNK];
	QueueStatus status;

	for (uint32_t i = 0; i < n; i++)
		items[i] = (EnqueueItem){ .data = &completions[i], .len = sizeof(*completions) };
	status = gq_ring_send_to(r, &r->completions, &sending, items, n, 1, accepted);
	return status == Q_ERR_FULL ? gq__ring_answer_unpolled(r) : status;
}

QueueStatus q_ring_complete_batch(RingQueue *r, const RingCompletion *completions, size_t count,
				  size_t *out_sent)
{
	QueueStatus status = Q_OK;
	uint32_t n;

	if (out_sent != NULL)
		*out_sent = 0;
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (completions == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "completions is NULL but count is %zu", count);
	for (size_t i = 0; i < count; i++)
		if (completions[i].length > Q_RING_INLINE_BYTES)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "length is %" PRIu32 "; a completion carries at most %u "
					 "bytes (item %zu of %zu)",
					 completions[i].length, Q_RING_INLINE_BYTES, i, count);
	for (size_t sent = 0; sent < count && status == Q_OK; sent += n) {
		n = count - sent < GQ_CHUNK ? (uint32_t)(count - sent) : GQ_CHUNK;
		status = complete_some(r, &completions[sent], n, &n);
		if (status == Q_OK && out_sent != NULL)
			*out_sent = sent + n;
	}
	return status;
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
	while (status == Q_OK && q.count < max_count && !q.all) {
		q.max = max_count - q.count < GQ_CHUNK ? (uint32_t)(max_count - q.count) : GQ_CHUNK;
		status = gq_ring_receive_from(r, &r->completions, &q);
	}
	for (uint32_t i = 0; i < q.count; i++) /* a liar's may be longer */
		if (out[i].length > Q_RING_INLINE_BYTES)
			out[i].length = Q_RING_INLINE_BYTES;
	*out_count = q.count;
	return status == Q_ERR_EMPTY || q.count != 0 ? gq__fail(Q_OK, before) : status;
}
