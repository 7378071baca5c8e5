/* SPDX-License-Identifier: Apache-2.0 */
/* enqueue.c - messages that are copied in: one, or a batch; and asking to cancel one. */
#include "host/queue/produce.h"

#include <inttypes.h>

static inline QueueStatus enqueue(GpuQueue *q, const void *data, size_t len,
				  const EnqueueOptions *o, uint64_t *out_msg_id,
				  uint32_t timeout_ms)
{
	QueueStatus status = gq_check_message(q, data, len);
	uint64_t id = 0, deadline_ns = 0;
	struct gq_kind kind;
	uint32_t n;

	if (__builtin_expect(status != Q_OK, 0))
		return status;
	status = gq_take_slots(q, &id, 1, timeout_ms, &deadline_ns, &n);
	if (__builtin_expect(status != Q_OK, 0))
		return status == Q_ERR_FULL ? gq__no_room(q, timeout_ms, 1) : status;
	kind = gq_kind_of(q, o);
	gq_fill_message(q, id, &kind, data, len);
	if (out_msg_id != NULL)
		*out_msg_id = id;
	gq_publish_filled(q, kind.priority, &id, 1);
	return Q_OK;
}

/* A function of its own, so that unwatched calls need no frame for the end of the range. */
static __attribute__((noinline)) QueueStatus enqueue_watched(GpuQueue *q, const void *data,
							     size_t len, const EnqueueOptions *o,
							     uint64_t *out_msg_id,
							     uint32_t timeout_ms)
{
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_ENQUEUE, len);
	return enqueue(q, data, len, o, out_msg_id, timeout_ms);
}

/* Flattened, as it is one path from end to end. */
__attribute__((flatten)) QueueStatus q_enqueue(GpuQueue *q, const void *data, size_t len,
					       uint64_t *out_msg_id, uint32_t timeout_ms)
{
	GQ_RETURN_IF_REFUSED(gq_enter_to_produce(q));
	if (__builtin_expect(q->watched != 0, 0))
		return enqueue_watched(q, data, len, &gq__default_options, out_msg_id, timeout_ms);
	return enqueue(q, data, len, &gq__default_options, out_msg_id, timeout_ms);
}

QueueStatus q_enqueue_async(GpuQueue *q, const void *data, size_t len, uint64_t *out_msg_id)
{
	/* On the CPU device a message can be seen as soon as it is accepted. */
	return q_enqueue(q, data, len, out_msg_id, 0);
}

QueueStatus q_enqueue_ex(GpuQueue *q, const void *data, size_t len, const EnqueueOptions *options,
			 uint64_t *out_msg_id, uint32_t timeout_ms)
{
	const EnqueueOptions *o = options != NULL ? options : &gq__default_options;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_enter_to_produce(q));
	status = gq__check_options(o);
	if (status != Q_OK)
		return status;
	if (__builtin_expect(q->watched != 0, 0))
		return enqueue_watched(q, data, len, o, out_msg_id, timeout_ms);
	return enqueue(q, data, len, o, out_msg_id, timeout_ms);
}

enum { BATCH_CHUNK = 64 }; /* messages that one pool step and one tail step carry at most */

static QueueStatus check_batch(const GpuQueue *q, const EnqueueItem *items, size_t count)
{
	if (items == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "items is NULL with count %zu; allowed: NULL only with count 0",
				 count);
	if (count > SIZE_MAX / sizeof(*items))
		return gq__failf(Q_ERR_INVALID_ARG, "count is %zu; allowed: 0 to %zu", count,
				 SIZE_MAX / sizeof(*items));
	for (size_t i = 0; i < count; i++) {
		if (items[i].len > q->cfg.slot_bytes)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "items[%zu].len is %zu; allowed: 0 to %" PRIu32
					 " (slot_bytes)",
					 i, items[i].len, q->cfg.slot_bytes);
		if (items[i].data == NULL && items[i].len != 0)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "items[%zu].data is NULL with len %zu; allowed: NULL only "
					 "with len 0",
					 i, items[i].len);
	}
	return Q_OK;
}

static QueueStatus enqueue_batch(GpuQueue *q, const EnqueueItem *items, size_t count,
				 const EnqueueOptions *o, uint64_t *out_msg_ids, size_t *accepted,
				 uint32_t timeout_ms)
{
	const struct gq_kind kind = gq_kind_of(q, o);
	uint64_t ids[BATCH_CHUNK], deadline_ns = 0;
	size_t done = 0;

	while (done < count) {
		size_t left = count - done;
		uint32_t got, n;
		QueueStatus status =
			gq_take_slots(q, ids, left < BATCH_CHUNK ? (uint32_t)left : BATCH_CHUNK,
				      timeout_ms, &deadline_ns, &got);

		if (status != Q_OK)
			return status == Q_ERR_FULL ? gq__no_room(q, timeout_ms, left) : status;
		n = got; /* which stays in a register */
		for (uint32_t i = 0; i < n; i++)
			gq_fill_message(q, ids[i], &kind, items[done + i].data,
					items[done + i].len);
		if (out_msg_ids != NULL)
			memcpy(out_msg_ids + done, ids, n * sizeof(*ids));
		gq_publish_filled(q, kind.priority, ids, n);
		done += n;
		*accepted = done;
	}
	return Q_OK;
}

static QueueStatus check_and_enqueue_batch(GpuQueue *q, const EnqueueItem *items, size_t count,
					   const EnqueueOptions *o, uint64_t *out_msg_ids,
					   size_t *accepted, uint32_t timeout_ms)
{
	QueueStatus status;

	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_ENQUEUE_BATCH, count);
	status = gq__check_options(o);
	if (status == Q_OK)
		status = check_batch(q, items, count);
	if (status == Q_OK)
		status = enqueue_batch(q, items, count, o, out_msg_ids, accepted, timeout_ms);
	return status;
}

QueueStatus q_enqueue_batch_ex(GpuQueue *q, const EnqueueItem *items, size_t count,
			       const EnqueueOptions *options, uint64_t *out_msg_ids,
			       size_t *out_enqueued, uint32_t timeout_ms)
{
	const EnqueueOptions *o = options != NULL ? options : &gq__default_options;
	size_t accepted = 0;
	QueueStatus status = gq_enter_to_produce(q);

	if (status == Q_OK)
		status = check_and_enqueue_batch(q, items, count, o, out_msg_ids, &accepted,
						 timeout_ms);
	if (out_enqueued != NULL)
		*out_enqueued = accepted;
	return status;
}

QueueStatus q_enqueue_batch(GpuQueue *q, const EnqueueItem *items, size_t count,
			    uint64_t *out_msg_ids, size_t *out_enqueued, uint32_t timeout_ms)
{
	return q_enqueue_batch_ex(q, items, count, NULL, out_msg_ids, out_enqueued, timeout_ms);
}

QueueStatus q_cancel(GpuQueue *q, uint64_t msg_id)
{
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (gq_look_up(q, msg_id) == 0)
		return gq__failf(Q_ERR_NOT_FOUND,
				 "msg_id %" PRIu64 " was never issued, or is aborted or taken",
				 msg_id);
	/* A swap, not a store: the slot may hold another message meanwhile, and a store would undo
	 * the cancel of that one. */
	gq_cas_seq_cst_u64(&gq_slot_at(&q->ch, (uint32_t)(msg_id & q->slot_mask))->cancel, ~msg_id,
			   msg_id);
	if (q->device->cancelled != NULL)
		q->device->cancelled(q);
	return Q_OK;
}
