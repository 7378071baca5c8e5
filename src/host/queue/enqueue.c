/* SPDX-License-Identifier: Apache-2.0 */
/* enqueue.c - the producers' calls: enqueue, batch, reserve, commit, abort, cancel. */
#include "host/base/sys.h"
#include "host/queue/queue.h"
#include "host/region/region.h"

#include <inttypes.h>
#include <string.h>

static const EnqueueOptions no_options;

/* ---- validation: all of it before anything changes ------------------------------------------ */

static QueueStatus check_length(const GpuQueue *q, size_t len)
{
	if (__builtin_expect(len > q->cfg.slot_bytes, 0))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "len is %zu; allowed: 0 to %" PRIu32 " (slot_bytes)", len,
				 q->cfg.slot_bytes);
	return Q_OK;
}

static QueueStatus check_message(const GpuQueue *q, const void *data, size_t len)
{
	QueueStatus status = check_length(q, len);

	if (__builtin_expect(status != Q_OK, 0))
		return status;
	if (__builtin_expect(data == NULL && len != 0, 0))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "data is NULL with len %zu; allowed: NULL only with len 0", len);
	return Q_OK;
}

static QueueStatus check_options(const EnqueueOptions *o)
{
	if (o->priority > Q_PRIORITY_URGENT)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "priority is %" PRIu32 "; allowed: 0 (default) to 4 (urgent)",
				 o->priority);
	if ((o->flags & ~Q_ENQUEUE_DISCARD) != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "flags is %#" PRIx64 "; allowed: 0, Q_ENQUEUE_DISCARD (1)",
				 o->flags);
	for (unsigned i = 0; i < sizeof(o->reserved) / sizeof(o->reserved[0]); i++)
		if (o->reserved[i] != 0)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "reserved[%u] is %" PRIu64
					 "; allowed: 0 (is the caller newer than this library?)",
					 i, o->reserved[i]);
	return Q_OK;
}

static QueueStatus closed_error(void)
{
	return gq__fail(Q_ERR_SHUTDOWN, "the queue is closed for new messages: it has been, or is "
					"being, stopped");
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* Up to `max` slots if there are any, after reaping what may free some. */
static uint32_t attempt_slots(GpuQueue *q, uint64_t *ids, uint32_t max, bool *closed, bool force)
{
	uint32_t n = gq_pool_pop(&q->pool, ids, max, closed);

	if (n != 0 || *closed)
		return n;
	gq_tend(q);
	if (force) /* discarded messages free their slots only there */
		return gq__pop_reaped(q, ids, max, closed);
	gq__reap(q, false);
	return gq_pool_pop(&q->pool, ids, max, closed);
}

/*
 * Up to `max` free slots, at least one, waiting until the deadline.
 * @param n_out  how many; 0 unless Q_OK
 * @return Q_OK, Q_ERR_SHUTDOWN, or Q_ERR_FULL: none, in time.
 */
static QueueStatus take_slots(GpuQueue *q, uint64_t *ids, uint32_t max, uint32_t timeout_ms,
			      uint64_t *deadline_ns, uint32_t *n_out)
{
	struct gq_wait wait;
	uint64_t retries = 0;
	bool closed;
	uint32_t n = gq_pool_pop(&q->pool, ids, max, &closed);

	if (__builtin_expect(n == 0 && !closed, 0)) {
		if (*deadline_ns == 0 && timeout_ms != 0)
			*deadline_ns = gq__deadline_ns(timeout_ms);
		gq_wait_begin(q, &wait, &q->room, *deadline_ns, GQ_SPIN_NS);
		for (;;) {
			/* force: at timeout 0 FULL must mean full, not that another is reaping. */
			n = attempt_slots(q, ids, max, &closed, wait.registered || timeout_ms == 0);
			if (n != 0 || closed || gq_failed(q) || !gq__wait_next(&wait))
				break;
			retries++;
		}
		gq__wait_end(&wait);
		if (retries != 0)
			gq_fetch_add_relaxed_u64(&q->count.retries, retries);
	}
	*n_out = n;
	if (n == 0 && gq_failed(q))
		return gq__device_failed(q);
	if (closed)
		return closed_error();
	return n != 0 ? Q_OK : Q_ERR_FULL;
}

/* What FULL is called and counted as, `refused` items having found no slot. */
static QueueStatus no_room(GpuQueue *q, uint32_t timeout_ms, size_t refused)
{
	if (timeout_ms == 0) {
		gq_fetch_add_relaxed_u64(&q->count.dropped_full, refused);
		return gq__fail(Q_ERR_FULL, "every slot holds a message or a result not taken yet");
	}
	gq_fetch_add_relaxed_u64(&q->count.timed_out, 1);
	return gq__fail(Q_ERR_TIMEOUT, "no slot became free within timeout_ms");
}

static uint32_t class_of(const EnqueueOptions *o)
{
	return (o->priority == Q_PRIORITY_DEFAULT ? (uint32_t)Q_PRIORITY_NORMAL : o->priority) - 1;
}

/*
 * Describe the message in its slot and give it its state.
 * @param flags  GQ_SLOT_DISCARD apart, which is in the options
 */
static inline void fill(GpuQueue *q, uint64_t id, const EnqueueOptions *o, size_t len,
			uint32_t flags, enum gq_phase phase)
{
	struct gq_slot *slot = gq_slot_at(&q->ch, (uint32_t)(id & q->slot_mask));

	slot->msg_id = id;
	slot->tag = o->tag;
	slot->deadline_ns = o->deadline_ns;
	gq_store_relaxed_u64(&slot->cancel, ~id); /* a late q_cancel() may still be writing here */
	slot->len = (uint32_t)len;
	slot->opcode = o->opcode;
	slot->flags = ((o->flags & Q_ENQUEUE_DISCARD) != 0 ? GQ_SLOT_DISCARD : 0) | flags |
		      (len >= q->copy_from && flags == 0 ? GQ_SLOT_COPIED : 0);
	slot->priority = class_of(o);
	if (__builtin_expect((o->flags & Q_ENQUEUE_DISCARD) != 0, 0))
		gq_fetch_add_relaxed_u64(&q->count.discards, 1);
	/* [state.write] release: who finds the id alive finds the slot filled. */
	gq_store_release_u64(&gq_record_of(q, id)->state, gq_state(q, id, phase));
}

static void fill_message(GpuQueue *q, uint64_t id, const EnqueueOptions *o, const void *data,
			 size_t len)
{
	if (len != 0)
		memcpy(gq_payload_at(&q->ch, (uint32_t)(id & q->slot_mask)), data, len);
	fill(q, id, o, len, 0, GQ_QUEUED);
}

/* A consumer sleeps, the queue's stop has timed out, or its consumers do not sleep here. */
static __attribute__((noinline)) void wake_consumers(GpuQueue *q, uint32_t n)
{
	uint32_t woken;

	if (q->device->published != NULL) {
		q->device->published(q);
		return;
	}
	if ((gq_load_seq_cst_u64(&q->work.word) & GQ_EVENT_STICKY) != 0)
		gq__cancel_unstarted(q);
	woken = gq__event_wake(&q->work, n);
	if (woken != 0)
		gq_fetch_add_relaxed_u64(&q->count.wakeups, woken);
}

static void publish(GpuQueue *q, uint32_t priority, const uint64_t *ids, uint32_t n)
{
	if (__builtin_expect(q->trace != NULL, 0))
		gq__trace_publish(q, ids, n);
	if (q->device->hand_over != NULL)
		q->device->hand_over(q, ids, n);
	gq_publish(&q->ch, priority, ids, n); /* [message.publish] */
	if (gq_event_armed(&q->work))         /* [wake.look] */
		wake_consumers(q, n);
}

/* ---- enqueue --------------------------------------------------------------------------------- */

static QueueStatus enqueue(GpuQueue *q, const void *data, size_t len, const EnqueueOptions *o,
			   uint64_t *out_msg_id, uint32_t timeout_ms)
{
	QueueStatus status = check_message(q, data, len);
	uint64_t id = 0, deadline_ns = 0;
	uint32_t n;

	if (__builtin_expect(status != Q_OK, 0))
		return status;
	status = take_slots(q, &id, 1, timeout_ms, &deadline_ns, &n);
	if (__builtin_expect(status != Q_OK, 0))
		return status == Q_ERR_FULL ? no_room(q, timeout_ms, 1) : status;
	fill_message(q, id, o, data, len);
	if (out_msg_id != NULL)
		*out_msg_id = id;
	publish(q, class_of(o), &id, 1);
	return Q_OK;
}

/* By itself, so that the calls above it need no frame for what comes after. */
static __attribute__((noinline)) QueueStatus enqueue_watched(GpuQueue *q, const void *data,
							     size_t len, const EnqueueOptions *o,
							     uint64_t *out_msg_id,
							     uint32_t timeout_ms)
{
	GQ_CALL(q, GQ_RANGE_ENQUEUE, len);
	return enqueue(q, data, len, o, out_msg_id, timeout_ms);
}

QueueStatus q_enqueue(GpuQueue *q, const void *data, size_t len, uint64_t *out_msg_id,
		      uint32_t timeout_ms)
{
	GQ_ENTER(q);
	if (__builtin_expect(q->watched != 0, 0))
		return enqueue_watched(q, data, len, &no_options, out_msg_id, timeout_ms);
	return enqueue(q, data, len, &no_options, out_msg_id, timeout_ms);
}

QueueStatus q_enqueue_async(GpuQueue *q, const void *data, size_t len, uint64_t *out_msg_id)
{
	/* On the CPU device a message can be seen as soon as it is accepted. */
	return q_enqueue(q, data, len, out_msg_id, 0);
}

QueueStatus q_enqueue_ex(GpuQueue *q, const void *data, size_t len, const EnqueueOptions *options,
			 uint64_t *out_msg_id, uint32_t timeout_ms)
{
	const EnqueueOptions *o = options != NULL ? options : &no_options;
	QueueStatus status;

	GQ_ENTER(q);
	status = check_options(o);
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
	uint64_t ids[BATCH_CHUNK], deadline_ns = 0;
	size_t done = 0;

	while (done < count) {
		size_t left = count - done;
		uint32_t n;
		QueueStatus status =
			take_slots(q, ids, left < BATCH_CHUNK ? (uint32_t)left : BATCH_CHUNK,
				   timeout_ms, &deadline_ns, &n);

		if (status != Q_OK)
			return status == Q_ERR_FULL ? no_room(q, timeout_ms, left) : status;
		for (uint32_t i = 0; i < n; i++)
			fill_message(q, ids[i], o, items[done + i].data, items[done + i].len);
		if (out_msg_ids != NULL)
			memcpy(out_msg_ids + done, ids, n * sizeof(*ids));
		publish(q, class_of(o), ids, n);
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

	GQ_CALL(q, GQ_RANGE_ENQUEUE_BATCH, count);
	status = check_options(o);
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
	const EnqueueOptions *o = options != NULL ? options : &no_options;
	size_t accepted = 0;
	QueueStatus status = gq_enter(q);

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

/* ---- descriptors ----------------------------------------------------------------------------- */

/* Another thread is binding a table: some instructions, but on a GPU what q_bind_regions() says.
 * @return Q_OK: look again. */
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

/* A call that will use the bound table, or a message that does, comes or goes. */
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
	/* [table.leave] release: done with the table. */
	gq_fetch_add_seq_cst_u64(&q->described, 0 - UINT64_C(1));
}

QueueStatus q_bind_regions(GpuQueue *q, RegionTable *table)
{
	QueueStatus status;

	GQ_ENTER(q);
	gq__reap_all(q); /* what has finished lets go only there */
	/* [table.enter] acquire: nobody uses the old table any more. */
	if (!gq_cas_seq_cst_u64(&q->described, 0, GQ_REBINDING))
		return gq__fail(Q_ERR_NOT_READY, "a message by descriptor has not finished, or is "
						 "being enqueued");
	status = q->device->bind(q, table);
	if (status == Q_OK)
		q->regions = table;
	/* [table.leave] release: the table. Not a store: others may have counted themselves. */
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

/* The region is referenced, and stays so if this succeeds. */
static QueueStatus enqueue_referenced(GpuQueue *q, const MessageDescriptor *d, const void *bytes,
				      const EnqueueOptions *o, uint64_t *out_msg_id,
				      uint32_t timeout_ms, uint64_t deadline_ns)
{
	uint64_t id = 0;
	uint32_t n;
	QueueStatus status = take_slots(q, &id, 1, timeout_ms, &deadline_ns, &n);

	if (status != Q_OK)
		return status == Q_ERR_FULL ? no_room(q, timeout_ms, 1) : status;
	gq_slot_at(&q->ch, (uint32_t)(id & q->slot_mask))->described = bytes;
	gq_record_of(q, id)->descriptor = *d;
	fill(q, id, o, d->length, GQ_SLOT_DESCRIBED, GQ_QUEUED);
	if (out_msg_id != NULL)
		*out_msg_id = id;
	publish(q, class_of(o), &id, 1);
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
	const EnqueueOptions *o = options != NULL ? options : &no_options;
	MessageDescriptor d; /* what is checked is what is referenced */
	uint64_t deadline_ns = 0;
	QueueStatus status;

	GQ_ENTER(q);
	if (descriptor == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "descriptor is NULL");
	d = *descriptor;
	GQ_CALL(q, GQ_RANGE_ENQUEUE_DESCRIPTOR, d.length);
	status = check_options(o);
	if (status != Q_OK)
		return status;
	status = enter_described(q, timeout_ms, &deadline_ns);
	if (status != Q_OK)
		return status;
	status = enqueue_descriptor(q, &d, o, out_msg_id, timeout_ms, deadline_ns);
	if (status != Q_OK) /* else the message itself counts, until it has been reaped */
		leave_described(q);
	return status;
}

/* ---- reservations ---------------------------------------------------------------------------- */

QueueStatus q_reserve(GpuQueue *q, size_t len, const EnqueueOptions *options, void **out_payload,
		      uint64_t *out_msg_id, uint32_t timeout_ms)
{
	const EnqueueOptions *o = options != NULL ? options : &no_options;
	uint64_t id = 0, deadline_ns = 0;
	QueueStatus status;
	uint32_t n;

	GQ_ENTER(q);
	GQ_CALL(q, GQ_RANGE_RESERVE, len);
	if (out_payload == NULL || out_msg_id == NULL)
		return gq__failf(Q_ERR_INVALID_ARG, "%s is NULL; allowed: where to put it",
				 out_payload == NULL ? "out_payload" : "out_msg_id");
	status = check_options(o);
	if (status == Q_OK)
		status = check_length(q, len);
	if (status != Q_OK)
		return status;
	status = take_slots(q, &id, 1, timeout_ms, &deadline_ns, &n);
	if (status != Q_OK)
		return status == Q_ERR_FULL ? no_room(q, timeout_ms, 1) : status;
	gq_fetch_add_relaxed_u64(&q->count.reserved_now, 1);
	fill(q, id, o, len, 0, GQ_FREE);
	GQ_WINDOW();
	/* Reserve, then look whether the queue has been closed ([wake.look]): a stop closes, then
	 * looks for reservations ([sleep.look]), so one of the two revokes this one. */
	gq_exchange_seq_cst_u64(&gq_record_of(q, id)->state, gq_state(q, id, GQ_RESERVED));
	if (gq_closed(q)) {
		q_abort(q, id); /* never handed out, so not an abort to be counted */
		gq_fetch_add_relaxed_u64(&q->count.unused, 1);
		gq_fetch_add_relaxed_u64(&q->count.aborted, 0 - UINT64_C(1));
		return closed_error();
	}
	*out_payload = gq_payload_at(&q->ch, (uint32_t)(id & q->slot_mask));
	*out_msg_id = id;
	return Q_OK;
}

static QueueStatus no_reservation(uint64_t msg_id)
{
	return gq__failf(Q_ERR_NOT_FOUND, "msg_id %" PRIu64 " is not an open reservation", msg_id);
}

QueueStatus q_commit(GpuQueue *q, uint64_t msg_id)
{
	GQ_ENTER(q);
	GQ_CALL(q, GQ_RANGE_COMMIT, msg_id);
	if (gq_phase_of(gq_look_up(q, msg_id)) == GQ_RESERVED &&
	    gq_cas_seq_cst_u64(&gq_record_of(q, msg_id)->state, gq_state(q, msg_id, GQ_RESERVED),
			       gq_state(q, msg_id, GQ_QUEUED))) {
		const uint32_t index = (uint32_t)(msg_id & q->slot_mask);

		gq_fetch_add_relaxed_u64(&q->count.reserved_now, 0 - UINT64_C(1));
		publish(q, gq_slot_at(&q->ch, index)->priority, &msg_id, 1);
		gq__wake_slot(q, index); /* q_wait_enqueue() */
		return Q_OK;
	}
	if (gq_phase_of(gq_look_up(q, msg_id)) == GQ_REVOKED)
		return gq__fail(Q_ERR_SHUTDOWN, "the reservation was revoked when the queue was "
						"stopped");
	return no_reservation(msg_id);
}

QueueStatus q_abort(GpuQueue *q, uint64_t msg_id)
{
	static const enum gq_phase open[] = { GQ_RESERVED, GQ_REVOKED };

	GQ_ENTER(q);
	if (gq_look_up(q, msg_id) == 0)
		return no_reservation(msg_id);
	for (unsigned i = 0; i < 2; i++) {
		if (!gq_cas_seq_cst_u64(&gq_record_of(q, msg_id)->state,
					gq_state(q, msg_id, open[i]), gq_state(q, msg_id, GQ_FREE)))
			continue;
		if (open[i] == GQ_RESERVED)
			gq_fetch_add_relaxed_u64(&q->count.reserved_now, 0 - UINT64_C(1));
		gq_fetch_add_relaxed_u64(&q->count.aborted, 1);
		if ((gq_slot_at(&q->ch, (uint32_t)(msg_id & q->slot_mask))->flags &
		     GQ_SLOT_DISCARD) != 0)
			gq_fetch_add_relaxed_u64(&q->count.discards, 0 - UINT64_C(1));
		gq__wake_slot(q, (uint32_t)(msg_id & q->slot_mask));
		gq__free_slot(q, msg_id);
		return Q_OK;
	}
	return no_reservation(msg_id);
}

QueueStatus q_cancel(GpuQueue *q, uint64_t msg_id)
{
	GQ_ENTER(q);
	if (gq_look_up(q, msg_id) == 0)
		return gq__failf(Q_ERR_NOT_FOUND,
				 "msg_id %" PRIu64 " was never issued, or is aborted or taken",
				 msg_id);
	/* A swap, not a store: if the slot has changed hands meanwhile, this must not undo what its
	 * next message's canceller has written. */
	gq_cas_seq_cst_u64(&gq_slot_at(&q->ch, (uint32_t)(msg_id & q->slot_mask))->cancel, ~msg_id,
			   msg_id);
	return Q_OK;
}
