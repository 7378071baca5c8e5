/* SPDX-License-Identifier: Apache-2.0 */
/* stale.c - refusing a handle, or a subscription. */
#include "host/notify/subscription.h"

QueueStatus gq__notify_stale(NotifyHandle handle)
{
	if (handle == 0)
		return gq__fail(Q_ERR_INVALID_ARG,
				"handle is 0; allowed: one from q_notify_register()");
	return gq__fail(Q_ERR_STALE, "the handle has been unregistered, or never was registered");
}

QueueStatus gq__notify_enter_subscription(const NotifySubscription *sub)
{
	if (sub == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"the subscription is NULL; allowed: one from q_notify_subscribe()");
	return gq_notify_enter(sub->nq);
}
