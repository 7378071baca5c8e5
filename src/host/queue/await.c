/* SPDX-License-Identifier: Apache-2.0 */
/* await.c - waiting: for a message, for any message, for a change of a slot's state. */
#include "host/queue/await.h"

#include "host/queue/fd.h"
#include "host/queue/handle.h"
#include "host/queue/reap.h"
#include "host/queue/tend.h"
#include "host/queue/wake.h"

bool gq__wait_state_change(GpuQueue *q, uint64_t id, uint64_t seen, uint64_t deadline_ns)
{
	const uint64_t *state = &gq_host_slot_of(q, id)->state;
	struct gq_wait wait;
	bool changed, more;

	gq__wait_begin_flag(&wait, &gq_slot_at(&q->ch, (uint32_t)(id & q->slot_mask))->armed,
			    deadline_ns);
	gq_wait_tends(q, &wait);
	do {
		changed = gq_load_seq_cst_u64(state) != seen; /* [state.read], [sleep.look] */
		more = false;
		if (!changed) {
			more = gq__reap(q, wait.registered || deadline_ns == 0);
			changed = gq_load_seq_cst_u64(state) != seen;
		}
	} while (!changed && !gq_failed(q) &&
		 (more ? gq__now_ns() < deadline_ns : gq__wait_next(&wait)));
	gq__wait_end(&wait);
	return changed;
}

/* q_wait() and q_wait_enqueue(): wait until the message has come to phase `until`. */
static QueueStatus wait_for(GpuQueue *q, uint64_t msg_id, enum gq_phase until, uint32_t timeout_ms)
{
	uint64_t deadline_ns = gq__deadline_ns(timeout_ms);
	uint64_t state = gq_look_up(q, msg_id);

	for (;;) {
		enum gq_phase before = gq_phase_of(state);

		if (before == GQ_FREE)
			return gq__unknown_message();
		if (before == GQ_REVOKED)
			return gq__fail(Q_ERR_SHUTDOWN, "the reservation was revoked when the "
							"queue was stopped");
		if (before >= until)
			return Q_OK;
		if (!gq__wait_state_change(q, msg_id, state, deadline_ns))
			return gq_failed(q) ? gq__device_failed(q)
					    : gq__fail(Q_ERR_TIMEOUT, "timeout_ms is over");
		if (gq_failed(q))
			return gq__device_failed(q);
		state = gq_look_up(q, msg_id);
		/* It has finished, and was taken or discarded before this look: the wait is over.
		 */
		if (gq_phase_of(state) == GQ_FREE && before == GQ_QUEUED)
			return Q_OK;
	}
}

QueueStatus q_wait(GpuQueue *q, uint64_t msg_id, uint32_t timeout_ms)
{
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_WAIT, msg_id);
	return wait_for(q, msg_id, GQ_DONE, timeout_ms);
}

QueueStatus q_wait_enqueue(GpuQueue *q, uint64_t msg_id, uint32_t timeout_ms)
{
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_WAIT_ENQUEUE, msg_id);
	return wait_for(q, msg_id, GQ_QUEUED, timeout_ms);
}

/* One look under the reap lock. `settled`: the queue has been found settled; `was_settled`: by any
 * thread so far. */
static enum gq_found look_for_unpolled(GpuQueue *q, bool settled, bool *was_settled)
{
	uint32_t left = GQ_MOST_AT_ONCE;
	enum gq_found found;

	pthread_mutex_lock(&q->reap_lock);
	if (settled)
		q->settled = true;
	*was_settled = q->settled;
	found = gq__find_unpolled(q, &left);
	pthread_mutex_unlock(&q->reap_lock);
	return found;
}

/*
 * One attempt to find something to poll. A look at every slot, once, shows that nothing can finish
 * any more; the look for something to poll after it finds what had finished before.
 * @return Q_OK: something can be polled; Q_ERR_SHUTDOWN: never again; Q_ERR_NOT_READY: look again
 *         later, with `more` at once
 */
static QueueStatus attempt_any(GpuQueue *q, bool thorough, bool *more)
{
	enum gq_found found;
	bool settled;

	*more = false;
	if (!thorough && gq_nothing_to_poll(q) && !gq_closed(q))
		return Q_ERR_NOT_READY;
	found = look_for_unpolled(q, false, &settled);
	if (found == GQ_FOUND_NOTHING && !settled && thorough && gq_closed(q) && gq__settled(q))
		found = look_for_unpolled(q, true, &settled);
	if (found == GQ_FOUND_SOMETHING)
		return Q_OK;
	*more = found == GQ_FOUND_UNDECIDED;
	return found == GQ_FOUND_NOTHING && settled ? Q_ERR_SHUTDOWN : Q_ERR_NOT_READY;
}

QueueStatus q_wait_any(GpuQueue *q, uint32_t timeout_ms)
{
	uint64_t deadline_ns;
	struct gq_wait wait;
	QueueStatus status;
	bool more;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_WAIT_ANY, timeout_ms);
	deadline_ns = gq__deadline_ns(timeout_ms);
	gq_wait_begin(q, &wait, &q->any, deadline_ns, GQ_SPIN_NS);
	do
		status = attempt_any(q, wait.registered || timeout_ms == 0, &more);
	while (status == Q_ERR_NOT_READY && !gq_failed(q) &&
	       (more ? gq__now_ns() < deadline_ns : gq__wait_next(&wait)));
	gq__wait_end(&wait);
	if (gq_failed(q))
		return gq__device_failed(q);
	if (status == Q_ERR_SHUTDOWN)
		return gq__fail(status, "the queue is stopped and nothing is left to poll");
	if (status == Q_ERR_NOT_READY)
		return gq__fail(Q_ERR_TIMEOUT, "timeout_ms is over");
	return Q_OK;
}
