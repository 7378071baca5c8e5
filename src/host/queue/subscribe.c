/* SPDX-License-Identifier: Apache-2.0 */
/* subscribe.c - the ways to be told of completions: q_subscribe(), q_on_completion(). */
#include "host/base/sys.h"
#include "host/notify/subscription.h"
#include "host/queue/filter.h"
#include "host/queue/handle.h"
#include "host/queue/hooks.h"
#include "host/queue/teller.h"

/* ---- subscribing ----------------------------------------------------------------------------- */

/* Under the reap lock. @return false: there are as many as there may be. */
static bool list(struct gq_teller *t, NotifyHandle handle, const CompletionFilter *filter)
{
	if (t->n_told == Q_MAX_COMPLETION_SUBSCRIPTIONS)
		gq__tell_purge(t);
	if (t->n_told == Q_MAX_COMPLETION_SUBSCRIPTIONS)
		return false;
	t->told[t->n_told++] = (struct gq_told){ .handle = handle, .filter = *filter };
	return true;
}

static QueueStatus too_many(void)
{
	return gq__failf(Q_ERR_LIMIT,
			 "the queue has %u subscriptions to its completions; allowed: "
			 "as many",
			 Q_MAX_COMPLETION_SUBSCRIPTIONS);
}

/* Under the control lock. */
static QueueStatus subscribe(GpuQueue *q, struct gq_teller *t, const CompletionFilter *filter,
			     uint32_t capacity, NotifyPolicy policy, NotifySubscription **out)
{
	NotifySubscription *sub;
	NotifyHandle handle;
	bool ended, listed = false;
	QueueStatus status = q_notify_register(t->nq, "completions", &handle);

	if (status != Q_OK)
		return status == Q_ERR_LIMIT ? too_many() : status;
	status = q_notify_subscribe(t->nq, handle, capacity, policy, &sub);
	if (status != Q_OK) {
		q_notify_unregister(t->nq, handle);
		return status;
	}
	gq__notify_own_handle(sub);
	pthread_mutex_lock(&q->reap_lock);
	ended = t->ended;
	if (!ended)
		listed = list(t, handle, filter);
	pthread_mutex_unlock(&q->reap_lock);
	if (listed) {
		*out = sub;
		return Q_OK;
	}
	q_notify_unsubscribe(sub);
	return ended ? gq__fail(Q_ERR_SHUTDOWN, GQ_NOTHING_TO_TELL) : too_many();
}

QueueStatus q_subscribe(GpuQueue *q, const CompletionFilter *filter, uint32_t capacity,
			NotifyPolicy policy, NotifySubscription **out)
{
	CompletionFilter checked;
	struct gq_teller *t;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out is NULL; allowed: where to put the subscription");
	GQ_RETURN_IF_REFUSED(gq__check_filter(filter, &checked));
	GQ_NO_CANCEL();
	pthread_mutex_lock(&q->control_lock);
	t = gq__teller_of(q, &status);
	if (t != NULL)
		status = subscribe(q, t, &checked, capacity, policy, out);
	pthread_mutex_unlock(&q->control_lock);
	return status;
}

/* ---- hooks
 * --------------------------------------------------------------------------------------- */

QueueStatus q_on_completion(GpuQueue *q, const CompletionFilter *filter,
			    void (*fn)(const Completion *completion, void *user), void *user,
			    uint64_t *out_hook)
{
	struct gq_hook hook = { .fn = fn, .user = user };
	CompletionFilter checked;
	struct gq_hooks *h = NULL;
	struct gq_teller *t;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (fn == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "fn is NULL; allowed: a function");
	GQ_RETURN_IF_REFUSED(gq__check_filter(filter, &checked));
	GQ_NO_CANCEL();
	pthread_mutex_lock(&q->control_lock);
	t = gq__teller_of(q, &status);
	if (t != NULL)
		h = gq__hooks_of(q, t, &status);
	if (h != NULL)
		status = gq__add_hook(h, &checked, &hook);
	pthread_mutex_unlock(&q->control_lock);
	if (status == Q_OK && out_hook != NULL)
		*out_hook = hook.number;
	return status;
}
