/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - stop, pause, resume, drain. */
#include "host/base/sys.h"
#include "host/queue/await.h"
#include "host/queue/handle.h"
#include "host/queue/reap.h"
#include "host/queue/tend.h"
#include "host/queue/wake.h"

/* ---- the control word ------------------------------------------------------------------------ */

/* Under the control lock. The exchange is sequentially consistent, as a consumer that is about to
 * sleep looks at the word ([sleep.look]). */
static uint64_t set_control(GpuQueue *q, uint64_t flags)
{
	uint64_t epoch = (q->control >> GQ_CONTROL_EPOCH_SHIFT) + 1;
	uint64_t control = epoch << GQ_CONTROL_EPOCH_SHIFT | flags;

	/* [control.write] release: pairs with [control.read] */
	gq_exchange_seq_cst_u64(&q->control, control);
	/* [control.write]: the copy that a GPU's consumers read */
	if (q->ch.control != &q->control)
		gq_exchange_seq_cst_u64(q->ch.control, control);
	if (q->device->controlled != NULL)
		q->device->controlled(q);
	return control;
}

static uint64_t control_flags(const GpuQueue *q)
{
	return q->control & ((UINT64_C(1) << GQ_CONTROL_EPOCH_SHIFT) - 1);
}

static QueueStatus stopped_error(void)
{
	return gq__fail(Q_ERR_SHUTDOWN, "the queue has been, or is being, stopped");
}

/* ---- pause, resume --------------------------------------------------------------------------- */

QueueStatus q_pause(GpuQueue *q, uint32_t timeout_ms)
{
	struct gq_wait wait;
	uint64_t control;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_PAUSE, timeout_ms);
	pthread_mutex_lock(&q->control_lock);
	if (q->stopping) {
		pthread_mutex_unlock(&q->control_lock);
		return stopped_error();
	}
	if ((q->control & GQ_CONTROL_PAUSE) == 0) {
		set_control(q, GQ_CONTROL_PAUSE);
		q->pausers = 0; /* calls that wait for an earlier pause have been overtaken */
	}
	control = q->control;
	q->pausers++;
	pthread_mutex_unlock(&q->control_lock);
	gq_event_broadcast(&q->work); /* sleepers must acknowledge too */

	gq_wait_begin(q, &wait, &q->answered, gq__deadline_ns(timeout_ms), GQ_SPIN_NS);
	while (!q->device->acknowledged(q, control) &&
	       gq_load_seq_cst_u64(&q->control) == control && !gq_failed(q) && gq__wait_next(&wait))
		;
	gq__wait_end(&wait);

	pthread_mutex_lock(&q->control_lock);
	if (q->control == control)
		q->pausers--;
	if (q->control != control) {
		status = q->stopping ? stopped_error()
				     : gq__fail(Q_ERR_CANCELLED,
						"q_resume() came before the pause was complete");
	} else if (gq_failed(q)) {
		status = gq__device_failed(q);
	} else if (q->device->acknowledged(q, control)) {
		q->paused = true;
		status = Q_OK;
	} else {
		if (q->pausers == 0) /* the last call to give up withdraws it */
			set_control(q, 0);
		status = gq__fail(Q_ERR_TIMEOUT,
				  "not every consumer stood still within timeout_ms; the pause is "
				  "withdrawn");
	}
	pthread_mutex_unlock(&q->control_lock);
	if (status == Q_ERR_TIMEOUT) {
		gq_event_broadcast(&q->resumed);
		if (q->device->resumed != NULL) /* unless another pause stands */
			q->device->resumed(q);
	}
	if (status == Q_OK && q->device->paused != NULL)
		q->device->paused(q);
	return status;
}

/* Under the control lock. */
static void resume(GpuQueue *q)
{
	q->paused = false;
	if ((q->control & GQ_CONTROL_PAUSE) != 0)
		set_control(q, control_flags(q) & ~(uint64_t)GQ_CONTROL_PAUSE);
}

QueueStatus q_preload(GpuQueue *q, void (*load)(void *user), void *user)
{
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_PRELOAD, 0);
	if (load == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "load is NULL; allowed: a function");
	if (q->device->preload != NULL)
		return q->device->preload(q, load, user);
	GQ_NO_CANCEL();
	load(user);
	return Q_OK;
}

QueueStatus q_resume(GpuQueue *q)
{
	bool refused;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_RESUME, 0);
	pthread_mutex_lock(&q->control_lock);
	refused = q->stopping;
	if (!refused)
		resume(q);
	pthread_mutex_unlock(&q->control_lock);
	if (refused)
		return stopped_error();
	gq_event_broadcast(&q->resumed);
	gq_event_broadcast(&q->answered); /* calls that still wait for the pause */
	if (q->device->resumed != NULL)
		q->device->resumed(q);
	return Q_OK;
}

/* ---- drain ----------------------------------------------------------------------------------- */

/*
 * Wait, slot by slot, until every message accepted before the call has finished. A slot is waited
 * for once, so later traffic cannot keep this from ending.
 */
static bool wait_for_accepted(GpuQueue *q, uint64_t deadline_ns)
{
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		uint64_t state = gq_load_seq_cst_u64(&q->host_slots[i].state);

		if (gq_phase_of(state) == GQ_QUEUED &&
		    !gq__wait_state_change(q, i, state, deadline_ns))
			return false;
	}
	return true;
}

QueueStatus q_drain(GpuQueue *q, uint32_t timeout_ms)
{
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_DRAIN, timeout_ms);
	if (wait_for_accepted(q, gq__deadline_ns(timeout_ms)) && !gq_failed(q))
		return Q_OK;
	if (gq_failed(q))
		return gq__device_failed(q);
	return gq__fail(Q_ERR_TIMEOUT, "messages were still unfinished after timeout_ms");
}

/* ---- stop ------------------------------------------------------------------------------------ */

static void revoke_reservations(GpuQueue *q)
{
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		/* [state.read], [sleep.look] */
		uint64_t state = gq_load_seq_cst_u64(&q->host_slots[i].state);

		if (gq_phase_of(state) != GQ_RESERVED ||
		    !gq_cas_seq_cst_u64(&q->host_slots[i].state, state,
					(state & ~GQ_PHASE_MASK) | GQ_REVOKED))
			continue;
		gq_fetch_add_relaxed_u64(&q->count.reserved_now, 0 - UINT64_C(1));
		gq_wake_slot(q, i);
	}
}

/* On a closed queue: revoke and wait until all is settled. */
static bool settle(GpuQueue *q, uint64_t deadline_ns)
{
	for (uint32_t step = 0;; step++) {
		revoke_reservations(q);
		gq__reap_all(q);
		if (gq__settled(q))
			return true;
		if (!wait_for_accepted(q, deadline_ns))
			return false;
		if (gq__settled(q))
			return true;
		/* A producer is between its slot and its publication, or a taker between its
		 * result and the pool. That lasts some instructions, or until the scheduler brings
		 * it back. */
		if (gq_failed(q) || gq__now_ns() >= deadline_ns)
			return false;
		gq_tend(q);
		gq__await_step(step);
	}
}

/* The stop's time is over. From now on no message is started, and a producer that publishes
 * cancels all that wait. */
static void give_up(GpuQueue *q)
{
	pthread_mutex_lock(&q->control_lock);
	set_control(q, GQ_CONTROL_LEAVE | GQ_CONTROL_CANCEL);
	pthread_mutex_unlock(&q->control_lock);
	gq_fetch_or_seq_cst_u64(&q->work.word, GQ_EVENT_STICKY); /* [sleep.look]: then look */
	q->device->cancel_unstarted(q);
	gq__wake_everybody(q);
}

enum { ANSWER_NS = 1000000000 };

/*
 * On a settled queue no consumer is inside a processor, so all leave in no time, unless another
 * process has them, which may hang: that one gets what is left of the call's time, and no less
 * than a second, so that a call without time can succeed.
 * @return whether they have left, or the device has failed
 */
static bool await_consumers(GpuQueue *q, uint64_t deadline_ns)
{
	const uint64_t least_ns = gq__now_ns() + ANSWER_NS;
	struct gq_wait wait;
	bool left;

	if (!q->device->is_elsewhere)
		deadline_ns = GQ_FOR_EVER;
	else if (deadline_ns < least_ns)
		deadline_ns = least_ns;
	gq_wait_begin(q, &wait, &q->answered, deadline_ns, GQ_SPIN_NS);
	do
		left = q->device->left(q) || gq_failed(q);
	while (!left && gq__wait_next(&wait));
	gq__wait_end(&wait);
	return left;
}

void gq__close_intake(GpuQueue *q)
{
	gq_fetch_or_seq_cst_u64(q->pool.ring.head, GQ_POOL_CLOSED); /* [intake.close] */
	gq_fetch_or_seq_cst_u64(&q->room.word, GQ_EVENT_STICKY);
	pthread_mutex_lock(&q->control_lock);
	q->stopping = true;
	resume(q);
	pthread_mutex_unlock(&q->control_lock);
	gq__wake_everybody(q);
	if (q->device->resumed != NULL)
		q->device->resumed(q);
}

QueueStatus q_stop(GpuQueue *q, uint32_t timeout_ms)
{
	uint64_t deadline_ns;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_STOP, timeout_ms);
	deadline_ns = gq__deadline_ns(timeout_ms);
	gq__close_intake(q);
	if (!settle(q, deadline_ns)) {
		if (gq_failed(q))
			return gq__device_failed(q);
		give_up(q);
		return gq__fail(Q_ERR_TIMEOUT, "a message was still being processed after "
					       "timeout_ms; those not started are cancelled");
	}
	pthread_mutex_lock(&q->control_lock);
	if ((q->control & GQ_CONTROL_LEAVE) == 0)
		set_control(q, GQ_CONTROL_LEAVE);
	pthread_mutex_unlock(&q->control_lock);
	gq__wake_everybody(q);
	if (!await_consumers(q, deadline_ns))
		return gq__fail(Q_ERR_TIMEOUT,
				"every message has ended, but gpuqd has not answered "
				"within timeout_ms, or a second");
	if (gq_failed(q))
		return gq__device_failed(q);
	pthread_mutex_lock(&q->control_lock);
	q->stopped = true;
	pthread_mutex_unlock(&q->control_lock);
	return Q_OK;
}
