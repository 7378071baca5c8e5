/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c - what a notification queue holds and has done. */
#include "host/notify/state.h"

#include <string.h>

static uint32_t waiters_of(const struct gq_notify_place *p)
{
	/* Acquire: pairs with the swap in enter_waiters(). A waiter that is counted has
	 * written its time before. */
	return (uint32_t)(gq_load_acquire_u64(&p->waiters) & GQ_NOTIFY_COUNT);
}

static bool is_live(const struct gq_notify_place *p)
{
	return (p->life & 3) == GQ_NOTIFY_OPEN;
}

QueueStatus q_notify_stats(NotifyQueue *nq, NotifyStats *out)
{
	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out is NULL; allowed: where to put the counters");
	pthread_mutex_lock(&nq->lock);
	*out = (NotifyStats){ .handles = nq->live,
			      .bytes = nq->bytes,
			      .registered = nq->registered,
			      .posts = nq->past.posts,
			      .reached = nq->past.reached,
			      .dropped = nq->past.dropped };
	for (uint32_t i = 0; i < nq->used; i++) {
		const struct gq_notify_place *p = &nq->places[i];

		if (!is_live(p))
			continue;
		out->waiters += waiters_of(p);
		out->subscriptions += p->subscriptions;
		out->posts += gq_notify_posts(p, gq_load_relaxed_u64(&p->word));
		out->reached += gq_load_relaxed_u64(&p->reached);
		out->dropped += gq_load_relaxed_u64(&p->dropped);
	}
	pthread_mutex_unlock(&nq->lock);
	return Q_OK;
}

/* With the queue's lock. */
static void describe(const NotifyQueue *nq, struct gq_notify_place *p, NotifyHandleInfo *out)
{
	const uint64_t word = gq_notify_lock(p);
	const uint64_t posts = gq_notify_posts(p, word);

	*out = (NotifyHandleInfo){
		.handle = p->life >> 2 << 32 | (uint64_t)(p - nq->places),
		.sequence = posts,
		.last_arg = posts != 0 ? (int64_t)p->args[word >> 1 & 1] : 0,
		.reached = p->reached,
		.dropped = p->dropped,
		.waiters = waiters_of(p),
		.subscriptions = p->subscriptions,
	};
	gq_notify_unlock(p, word);
	if (out->waiters != 0)
		out->waiting_since_ns = gq_load_relaxed_u64(&p->waiting_since_ns);
	memcpy(out->hint, p->hint, sizeof(out->hint));
}

QueueStatus q_notify_snapshot(NotifyQueue *nq, NotifyHandleInfo *out, size_t max_count,
			      size_t *out_count)
{
	size_t n = 0;

	if (out_count != NULL)
		*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	if (out_count == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out_count is NULL; allowed: where to put the count");
	if (out == NULL && max_count != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "out is NULL with max_count %zu; allowed: NULL only with 0",
				 max_count);
	pthread_mutex_lock(&nq->lock);
	for (uint32_t i = 0; i < nq->used && n < max_count; i++)
		if (is_live(&nq->places[i]))
			describe(nq, &nq->places[i], &out[n++]);
	*out_count = nq->live;
	pthread_mutex_unlock(&nq->lock);
	return Q_OK;
}
