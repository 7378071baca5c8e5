/* SPDX-License-Identifier: Apache-2.0 */
/* produce.c - the rare steps of the ways into a queue: refusals, a full queue, waking. */
#include "host/queue/produce.h"

#include "host/queue/consume.h"
#include "host/queue/reap.h"
#include "host/queue/tend.h"
#include "host/queue/wake.h"

#include <inttypes.h>

const EnqueueOptions gq__default_options;

/* ---- checks ---------------------------------------------------------------------------------- */

QueueStatus gq__refuse_length(const GpuQueue *q, size_t len)
{
	return gq__failf(Q_ERR_INVALID_ARG, "len is %zu; allowed: 0 to %" PRIu32 " (slot_bytes)",
			 len, q->cfg.slot_bytes);
}

QueueStatus gq__refuse_null_data(size_t len)
{
	return gq__failf(Q_ERR_INVALID_ARG,
			 "data is NULL with len %zu; allowed: NULL only with len 0", len);
}

QueueStatus gq__check_options(const EnqueueOptions *o)
{
	if (o->priority > Q_PRIORITY_URGENT)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "priority is %" PRIu32 "; allowed: 0 (default) to 4 (urgent)",
				 o->priority);
	if ((o->flags & ~Q_ENQUEUE_DISCARD) != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "flags is %#" PRIx64 "; allowed: 0, Q_ENQUEUE_DISCARD (1)",
				 o->flags);
	/* On the way of each message: a call only if there is something to say. */
	if ((o->reserved[0] | o->reserved[1] | o->reserved[2] | o->reserved[3]) != 0)
		return GQ_CHECK_RESERVED(o, reserved);
	return Q_OK;
}

QueueStatus gq__check_producer(GpuQueue *q)
{
	const uint64_t self = (uint64_t)pthread_self();

	/* Relaxed: a thread compares with itself, and whoever comes second is refused. */
	if (gq_load_relaxed_u64(&q->producer) == self || gq_cas_seq_cst_u64(&q->producer, 0, self))
		return Q_OK;
	return gq__fail(Q_ERR_POLICY, "the queue was made with Q_ONE_PRODUCER, and another thread "
				      "is its producer");
}

QueueStatus gq__closed_error(const GpuQueue *q)
{
	if (gq_load_seq_cst_u32(&q->lost) != 0) /* [failure.read] */
		return gq__failf(Q_ERR_LOST, "%s", q->failure);
	return gq__fail(Q_ERR_SHUTDOWN, "the queue is closed for new messages: it has been, or is "
					"being, stopped");
}

/* ---- a full queue ---------------------------------------------------------------------------- */

/*
 * Up to `max` slots if there are any, after reaping what may free some.
 * @param force  the answer "none" has to be exact: FULL must not mean that another thread is just
 *               reaping
 */
static uint32_t attempt_slots(GpuQueue *q, uint64_t *ids, uint32_t max, bool *closed, bool force)
{
	uint32_t n = gq_pool_pop(&q->pool, ids, max, closed);

	if (n != 0 || *closed)
		return n;
	gq_tend(q);
	GQ_WINDOW();
	/* Reaping frees slots of messages to be discarded alone; the taker reaps its own.
	 * [sleep.look]
	 */
	if (gq_load_seq_cst_u64(&q->count.discards) == 0)
		return 0;
	if (force) /* the slots of discarded messages become free only there */
		return gq__pop_reaped(q, ids, max, closed);
	gq__reap(q, false);
	return gq_pool_pop(&q->pool, ids, max, closed);
}

static QueueStatus answer(const GpuQueue *q, uint32_t n, bool closed, uint32_t *n_out)
{
	*n_out = n;
	if (n == 0 && gq_failed(q))
		return gq__device_failed(q);
	if (closed)
		return gq__closed_error(q);
	return n != 0 ? Q_OK : Q_ERR_FULL;
}

QueueStatus gq__await_slots(GpuQueue *q, uint64_t *ids, uint32_t max, uint32_t timeout_ms,
			    uint64_t *deadline_ns, uint32_t *n_out)
{
	struct gq_wait wait;
	uint64_t retries = 0;
	bool closed;
	uint32_t n;

	if (timeout_ms == 0) { /* nothing to wait for: no wait is begun */
		n = attempt_slots(q, ids, max, &closed, true);
		return answer(q, n, closed, n_out);
	}
	if (*deadline_ns == 0)
		*deadline_ns = gq__deadline_ns(timeout_ms);
	gq_wait_begin(q, &wait, &q->room, *deadline_ns, GQ_SPIN_NS);
	for (;;) {
		n = attempt_slots(q, ids, max, &closed, wait.registered);
		if (n != 0 || closed || gq_failed(q) || !gq__wait_next(&wait))
			break;
		retries++;
	}
	gq__wait_end(&wait);
	if (retries != 0)
		gq_fetch_add_relaxed_u64(&q->count.retries, retries);
	return answer(q, n, closed, n_out);
}

QueueStatus gq__no_room(GpuQueue *q, uint32_t timeout_ms, size_t refused)
{
	if (timeout_ms == 0) {
		gq_fetch_add_relaxed_u64(&q->count.dropped_full, refused);
		return gq__fail(Q_ERR_FULL, "every slot holds a message or a result not taken yet");
	}
	gq_fetch_add_relaxed_u64(&q->count.timed_out, 1);
	return gq__fail(Q_ERR_TIMEOUT, "no slot became free within timeout_ms");
}

/* ---- waking ---------------------------------------------------------------------------------- */

void gq__wake_consumers(GpuQueue *q, uint32_t n)
{
	if (q->device->published != NULL) {
		q->device->published(q);
		return;
	}
	if ((gq_load_seq_cst_u64(&q->work.word) & GQ_EVENT_STICKY) != 0)
		gq__cancel_unstarted(q);
	gq__wake_for_work(q, n < q->wakes_at_most ? n : q->wakes_at_most);
}
