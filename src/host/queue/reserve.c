/* SPDX-License-Identifier: Apache-2.0 */
/* reserve.c - messages written in place: reserve a slot, then commit or abort. */
#include "host/queue/produce.h"
#include "host/queue/reap.h"
#include "host/queue/wake.h"

#include <inttypes.h>

/* End a reservation that is open or revoked, and count that in `count`, which only rises: q_stats()
 * may look at any time. @return false: there is none */
static bool give_back(GpuQueue *q, uint64_t msg_id, uint64_t *count)
{
	static const enum gq_phase open[] = { GQ_RESERVED, GQ_REVOKED };

	for (unsigned i = 0; i < 2; i++) {
		if (!gq_cas_seq_cst_u64(&gq_host_slot_of(q, msg_id)->state,
					gq_state(q, msg_id, open[i]), gq_state(q, msg_id, GQ_FREE)))
			continue;
		if (open[i] == GQ_RESERVED)
			gq_fetch_add_relaxed_u64(&q->count.reserved_now, 0 - UINT64_C(1));
		gq_fetch_add_relaxed_u64(count, 1);
		if ((gq_slot_at(&q->ch, (uint32_t)(msg_id & q->slot_mask))->flags &
		     GQ_SLOT_DISCARD) != 0)
			gq_fetch_add_relaxed_u64(&q->count.discards, 0 - UINT64_C(1));
		gq_wake_slot(q, (uint32_t)(msg_id & q->slot_mask));
		gq_free_slot(q, msg_id);
		return true;
	}
	return false;
}

QueueStatus q_reserve(GpuQueue *q, size_t len, const EnqueueOptions *options, void **out_payload,
		      uint64_t *out_msg_id, uint32_t timeout_ms)
{
	const EnqueueOptions *o = options != NULL ? options : &gq__default_options;
	uint64_t id = 0, deadline_ns = 0;
	struct gq_kind kind;
	QueueStatus status;
	uint32_t n;

	GQ_RETURN_IF_REFUSED(gq_enter_to_produce(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_RESERVE, len);
	if (out_payload == NULL || out_msg_id == NULL)
		return gq__failf(Q_ERR_INVALID_ARG, "%s is NULL; allowed: where to put it",
				 out_payload == NULL ? "out_payload" : "out_msg_id");
	status = gq__check_options(o);
	if (status == Q_OK)
		status = gq_check_length(q, len);
	if (status != Q_OK)
		return status;
	status = gq_take_slots(q, &id, 1, timeout_ms, &deadline_ns, &n);
	if (status != Q_OK)
		return status == Q_ERR_FULL ? gq__no_room(q, timeout_ms, 1) : status;
	gq_fetch_add_relaxed_u64(&q->count.reserved_now, 1);
	kind = gq_kind_of(q, o);
	gq_fill(q, id, &kind, len, GQ_FREE);
	GQ_WINDOW();
	/* Reserve, then look whether the queue has been closed ([wake.look]). A stop closes it,
	 * then looks for reservations ([sleep.look]). So one of the two revokes this one. */
	gq_exchange_seq_cst_u64(&gq_host_slot_of(q, id)->state, gq_state(q, id, GQ_RESERVED));
	if (gq_closed(q)) {
		/* The caller never had it, so it is not counted as an abort. */
		(void)give_back(q, id, &q->count.unused);
		return gq__closed_error(q);
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
	GQ_RETURN_IF_REFUSED(gq_enter_to_produce(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_COMMIT, msg_id);
	if (gq_phase_of(gq_look_up(q, msg_id)) == GQ_RESERVED &&
	    gq_cas_seq_cst_u64(&gq_host_slot_of(q, msg_id)->state, gq_state(q, msg_id, GQ_RESERVED),
			       gq_state(q, msg_id, GQ_QUEUED))) {
		const uint32_t index = (uint32_t)(msg_id & q->slot_mask);

		gq_fetch_add_relaxed_u64(&q->count.reserved_now, 0 - UINT64_C(1));
		gq_publish_filled(q, gq_slot_at(&q->ch, index)->priority, &msg_id, 1);
		gq_wake_slot(q, index); /* for q_wait_enqueue() */
		return Q_OK;
	}
	if (gq_phase_of(gq_look_up(q, msg_id)) == GQ_REVOKED)
		return gq__fail(Q_ERR_SHUTDOWN, "the reservation was revoked when the queue was "
						"stopped");
	return no_reservation(msg_id);
}

QueueStatus q_abort(GpuQueue *q, uint64_t msg_id)
{
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	return gq_look_up(q, msg_id) != 0 && give_back(q, msg_id, &q->count.aborted)
		       ? Q_OK
		       : no_reservation(msg_id);
}
