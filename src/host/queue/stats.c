/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c - q_stats() and q_info(). */
#include "host/queue/handle.h"
#include "host/queue/reap.h"
#include "host/queue/tend.h"

#include <stdio.h>
#include <string.h>

/* a - b of two counters read at different times. */
static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/*
 * What the positions tell is not counted again on the way of a message: accepted is how far the
 * classes' tails have come, taken how far the pool's has, less what came back otherwise.
 */
QueueStatus q_stats(GpuQueue *q, QueueStats *out)
{
	uint64_t returned, aborted, discarded;

	GQ_RETURN_IF_REFUSED(gq_enter_to_look(q)); /* also after a failure */
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL; allowed: a QueueStats");
	memset(out, 0, sizeof(*out));
	gq__reap(q, false); /* so that what has finished is counted */
	/* [tail.read] */
	returned = gq_load_acquire_u64(q->pool.ring.tail) - q->start_pos - q->cfg.capacity;
	discarded = gq_load_relaxed_u64(&q->reaped.discarded);
	aborted = gq_load_relaxed_u64(&q->count.aborted);
	out->enq_count = gq__accepted(q); /* last, so as not to be less than what came back */
	out->deq_count =
		less(returned, discarded + aborted + gq_load_relaxed_u64(&q->count.unused));
	out->discarded = discarded;
	out->queue_depth = less(out->enq_count, out->deq_count + discarded);
	out->dropped_full = gq_load_relaxed_u64(&q->count.dropped_full);
	out->retries = gq_load_relaxed_u64(&q->count.retries);
	out->finished = gq_load_relaxed_u64(&q->reaped.finished);
	out->failed = gq_load_relaxed_u64(&q->reaped.failed);
	out->expired = gq_load_relaxed_u64(&q->reaped.expired);
	out->cancelled = gq_load_relaxed_u64(&q->reaped.cancelled);
	out->lost = gq_load_relaxed_u64(&q->reaped.lost);
	out->timed_out = gq_load_relaxed_u64(&q->count.timed_out);
	out->reserved_now = gq_load_relaxed_u64(&q->count.reserved_now);
	out->aborted = aborted;
	out->wakeups = gq_load_relaxed_u64(&q->count.wakeups);
	return Q_OK;
}

static uint32_t state_of(GpuQueue *q)
{
	uint32_t state;

	pthread_mutex_lock(&q->control_lock);
	state = q->stopped    ? Q_STATE_STOPPED
		: q->stopping ? Q_STATE_STOPPING
		: q->paused   ? Q_STATE_PAUSED
			      : Q_STATE_RUNNING;
	pthread_mutex_unlock(&q->control_lock);
	return state;
}

QueueStatus q_info(GpuQueue *q, QueueInfo *out)
{
	GQ_RETURN_IF_REFUSED(gq_enter_to_look(q)); /* also after a failure */
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL; allowed: a QueueInfo");
	memset(out, 0, sizeof(*out));
	out->capacity = q->cfg.capacity;
	out->slot_bytes = q->cfg.slot_bytes;
	out->result_bytes = q->cfg.result_bytes;
	out->device = q->cfg.device;
	out->ordinal = q->cfg.ordinal;
	out->granularity = q->cfg.granularity;
	out->consumers = q->cfg.consumers;
	out->reserve_sms = q->cfg.reserve_sms;
	out->idle_park_ms = q->cfg.idle_park_ms;
	out->shutdown_timeout_ms = q->cfg.shutdown_timeout_ms;
	out->state = state_of(q);
	out->protocol_version = Q_PROTOCOL_VERSION;
	out->memory_bytes = q->slots_bytes + q->results_bytes + q->words_bytes +
			    q->cfg.capacity * sizeof(*q->host_slots);
	snprintf(out->processor, sizeof(out->processor), "%s", q->processor.name);
	snprintf(out->device_name, sizeof(out->device_name), "%s", q->device_name);
	snprintf(out->transport, sizeof(out->transport), "%s", q->transport);
	snprintf(out->reason, sizeof(out->reason), "%s", q->reason);
	if (q->device->describe != NULL)
		q->device->describe(q, out);
	return Q_OK;
}
