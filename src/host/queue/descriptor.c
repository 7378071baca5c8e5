/* SPDX-License-Identifier: Apache-2.0 */
/* descriptor.c - messages that stay in their region: the table bound to a queue, and its uses. */
#include "host/queue/produce.h"
#include "host/queue/reap.h"
#include "host/region/region.h"

#include <inttypes.h>

/* Another thread is binding a table. On a CPU device that takes some instructions, on a GPU as long
 * as q_bind_regions() says. @return Q_OK: look again. */
static QueueStatus await_binding(GpuQueue *q, uint32_t step, uint32_t timeout_ms,
				 uint64_t *deadline_ns)
{
	if (q->device->binds_at_once) {
		gq__await_step(step);
		return Q_OK;
	}
	if (timeout_ms == 0)
		return gq__fail(Q_ERR_NOT_READY, "regions are just being bound");
	if (*deadline_ns == 0)
		*deadline_ns = gq__deadline_ns(timeout_ms);
	if (gq__now_ns() >= *deadline_ns) {
		gq_fetch_add_relaxed_u64(&q->count.timed_out, 1);
		return gq__fail(Q_ERR_TIMEOUT, "regions were still being bound after timeout_ms");
	}
	gq__await_step(step);
	return Q_OK;
}

/* A call that will use the bound table begins. From here until leave_described(), or until its
 * message has been reaped, the table stays bound. */
static QueueStatus enter_described(GpuQueue *q, uint32_t timeout_ms, uint64_t *deadline_ns)
{
	QueueStatus status = Q_OK;
	uint32_t step = 0;

	/* [table.enter] acquire: the table that was bound last. */
	while (status == Q_OK && (gq_fetch_add_seq_cst_u64(&q->described, 1) & GQ_REBINDING) != 0) {
		gq_fetch_add_seq_cst_u64(&q->described, 0 - UINT64_C(1));
		status = await_binding(q, step++, timeout_ms, deadline_ns);
	}
	return status;
}

static void leave_described(GpuQueue *q)
{
	/* [table.leave] release: the caller reads the table no more. */
	gq_fetch_add_seq_cst_u64(&q->described, 0 - UINT64_C(1));
}

QueueStatus q_bind_regions(GpuQueue *q, RegionTable *table)
{
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	gq__reap_all(q); /* a finished message lets go of its region only there */
	/* [table.enter] acquire: all uses of the old table are over. */
	if (!gq_cas_seq_cst_u64(&q->described, 0, GQ_REBINDING))
		return gq__fail(Q_ERR_NOT_READY, "a message by descriptor has not finished, or is "
						 "being enqueued");
	status = q->device->bind(q, table);
	if (status == Q_OK)
		q->regions = table;
	/* [table.leave] release: the table. Not a store, as calls that wait may have counted
	 * themselves. */
	gq_fetch_add_seq_cst_u64(&q->described, GQ_REBINDING);
	return status;
}

static QueueStatus check_address(const MessageDescriptor *d, const void *bytes)
{
	if ((uintptr_t)bytes % 16 == 0)
		return Q_OK;
	return gq__failf(Q_ERR_INVALID_ARG,
			 "the descriptor's offset is %" PRIu64
			 ", its bytes are at %p; allowed: a multiple of 16",
			 d->offset, bytes);
}

/* The caller holds a reference to the region, which passes to the message if this succeeds. */
static QueueStatus enqueue_referenced(GpuQueue *q, const MessageDescriptor *d, const void *bytes,
				      const EnqueueOptions *o, uint64_t *out_msg_id,
				      uint32_t timeout_ms, uint64_t deadline_ns)
{
	struct gq_kind kind = gq_kind_of(q, o);
	uint64_t id = 0;
	uint32_t n;
	QueueStatus status = gq_take_slots(q, &id, 1, timeout_ms, &deadline_ns, &n);

	if (status != Q_OK)
		return status == Q_ERR_FULL ? gq__no_room(q, timeout_ms, 1) : status;
	gq_slot_at(&q->ch, (uint32_t)(id & q->slot_mask))->described = bytes;
	gq_host_slot_of(q, id)->descriptor = *d;
	kind.flags |= GQ_SLOT_DESCRIBED;
	gq_fill(q, id, &kind, d->length, GQ_QUEUED);
	if (out_msg_id != NULL)
		*out_msg_id = id;
	gq_publish_filled(q, kind.priority, &id, 1);
	return Q_OK;
}

static QueueStatus enqueue_descriptor(GpuQueue *q, const MessageDescriptor *d,
				      const EnqueueOptions *o, uint64_t *out_msg_id,
				      uint32_t timeout_ms, uint64_t deadline_ns)
{
	const void *bytes;
	QueueStatus status;

	if (q->regions == NULL)
		return gq__fail(Q_ERR_UNSUPPORTED,
				"no regions are bound to this queue: q_bind_regions()");
	status = gq__region_acquire(q->regions, d, &bytes);
	if (status != Q_OK)
		return status;
	status = check_address(d, bytes);
	if (status == Q_OK) {
		bytes = q->device->locate(q, d, bytes);
		status = bytes != NULL ? Q_OK : Q_ERR_UNSUPPORTED;
	}
	if (status == Q_OK)
		status = enqueue_referenced(q, d, bytes, o, out_msg_id, timeout_ms, deadline_ns);
	if (status != Q_OK)
		gq__region_drop(q->regions, d);
	return status;
}

QueueStatus q_enqueue_descriptor(GpuQueue *q, const MessageDescriptor *descriptor,
				 const EnqueueOptions *options, uint64_t *out_msg_id,
				 uint32_t timeout_ms)
{
	const EnqueueOptions *o = options != NULL ? options : &gq__default_options;
	MessageDescriptor d; /* a copy: the caller's may change between check and use */
	uint64_t deadline_ns = 0;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_enter_to_produce(q));
	if (descriptor == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "descriptor is NULL");
	d = *descriptor;
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_ENQUEUE_DESCRIPTOR, d.length);
	status = gq__check_options(o);
	if (status != Q_OK)
		return status;
	status = enter_described(q, timeout_ms, &deadline_ns);
	if (status != Q_OK)
		return status;
	status = enqueue_descriptor(q, &d, o, out_msg_id, timeout_ms, deadline_ns);
	if (status != Q_OK) /* otherwise the message itself counts until it has been reaped */
		leave_described(q);
	return status;
}
