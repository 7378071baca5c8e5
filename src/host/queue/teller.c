/* SPDX-License-Identifier: Apache-2.0 */
/*
 * teller.c - completions as events: the thread that reaps when nobody else does, and that wakes
 * those who have been told.
 */
#include "host/queue/teller.h"

#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/base/thread.h"
#include "host/queue/handle.h"
#include "host/queue/hooks.h"
#include "host/queue/reap.h"
#include "host/queue/tend.h"
#include "host/queue/wake.h"

#include <inttypes.h>
#include <string.h>

/* ---- the thread ------------------------------------------------------------------------------ */

/* What is to be woken, taken under the reap lock. */
struct fresh {
	struct gq_noted noted[Q_MAX_COMPLETION_SUBSCRIPTIONS];
	uint32_t n;
	struct gq_hooks *hooks; /* NULL: none */
	bool ends;
};

/* Under the reap lock: the end of all telling. No message is told of after this. */
static void end(struct gq_teller *t)
{
	t->ended = true;
	for (uint32_t i = 0; i < t->n_told; i++)
		q_notify_unregister(t->nq, t->told[i].handle);
	t->n_told = 0;
}

/*
 * @param settled  the queue has been found settled: no message is under way, and the lock was free
 *                 of reapers since
 * @return whether there was something
 */
static bool collect(GpuQueue *q, bool settled, struct fresh *out)
{
	struct gq_teller *t = q->teller;
	bool any;

	*out = (struct fresh){ .n = 0 };
	pthread_mutex_lock(&q->reap_lock);
	any = gq_load_relaxed_u64(&t->has_fresh) != 0;
	gq_store_relaxed_u64(&t->has_fresh, 0);
	for (uint32_t i = 0; any && i < t->n_told; i++)
		if (t->told[i].is_fresh) {
			t->told[i].is_fresh = false;
			out->noted[out->n++] = t->told[i].noted;
		}
	if (any)
		out->hooks = t->hooks;
	if (!t->ended && (settled || q->given_up)) {
		end(t);
		out->ends = true;
	}
	pthread_mutex_unlock(&q->reap_lock);
	return any || out->ends;
}

static void wake(const struct fresh *fresh)
{
	for (uint32_t i = 0; i < fresh->n; i++)
		gq_notify_wake(&fresh->noted[i]);
	if (fresh->hooks != NULL)
		gq__wake_hooks(fresh->hooks);
}

/* One look. A thorough one waits for a reaper that has taken a completion and not yet told of it.
 */
static bool attempt(GpuQueue *q, bool thorough)
{
	struct fresh fresh;
	bool more, settled = false;

	if (!thorough && !gq_done_waits(&q->ch) && gq_load_relaxed_u64(&q->teller->has_fresh) == 0)
		return false;
	if (thorough && gq_closed(q))
		settled = gq__settled(q); /* then what has finished has been reaped */
	more = gq__reap(q, thorough);
	more |= collect(q, settled, &fresh);
	wake(&fresh);
	return more;
}

static bool must_quit(const struct gq_teller *t)
{
	return gq_load_seq_cst_u32(&t->quit) != 0; /* [sleep.look] */
}

static void *tell_all(void *arg)
{
	GpuQueue *q = arg;
	struct gq_teller *t = q->teller;
	struct gq_wait wait;

	GQ_NO_CANCEL();
	gq__name_this_thread("gpuq-tell");
	while (!must_quit(t)) {
		gq_wait_begin(q, &wait, &q->any, GQ_FOR_EVER, 0);
		while (!must_quit(t) && !attempt(q, wait.registered) && gq__wait_next(&wait))
			;
		gq__wait_end(&wait);
	}
	return NULL;
}

/* ---- its life -------------------------------------------------------------------------------- */

static void set_teller(GpuQueue *q, struct gq_teller *t)
{
	pthread_mutex_lock(&q->reap_lock);
	q->teller = t;
	pthread_mutex_unlock(&q->reap_lock);
}

struct gq_teller *gq__teller_of(GpuQueue *q, QueueStatus *status)
{
	const NotifyConfig cfg = { .max_handles = Q_MAX_COMPLETION_SUBSCRIPTIONS,
				   .max_subscribers = 1,
				   .max_bytes = UINT64_MAX };
	struct gq_teller *t = q->teller;
	int rc;

	if (t != NULL)
		return t;
	t = gq__alloc(sizeof(*t), "what tells of completions");
	*status = Q_ERR_NO_MEMORY;
	if (t == NULL)
		return NULL;
	t->ended = gq_closed(q) && gq__settled(q); /* nothing completes any more */
	t->journal_head = q->start_pos;
	t->journal_tail = q->start_pos;
	*status = q_notify_create(&cfg, &t->nq);
	if (*status != Q_OK) {
		gq__free(t, sizeof(*t));
		return NULL;
	}
	set_teller(q, t);
	rc = gq__start_thread(&t->thread, tell_all, q, "gpuq-tell");
	if (rc == 0)
		return t;
	set_teller(q, NULL);
	q_notify_destroy(t->nq);
	gq__free(t, sizeof(*t));
	*status = gq__failf(Q_ERR_LIMIT, "thread that tells of completions: %s", strerror(rc));
	return NULL;
}

void gq__stop_telling(GpuQueue *q)
{
	struct gq_teller *t = q->teller;
	struct fresh fresh;

	if (t == NULL)
		return;
	gq_exchange_seq_cst_u32(&t->quit, 1); /* [wake.look] */
	gq_event_broadcast(&q->any);
	pthread_join(t->thread, NULL);
	collect(q, true, &fresh); /* a queue that is given up tells of no more */
	wake(&fresh);
	gq__stop_hooks(t);
	set_teller(q, NULL);
	q_notify_destroy(t->nq);
	gq__free(t, sizeof(*t));
}
