/* SPDX-License-Identifier: Apache-2.0 */
/* subscription.h - what the files of this room, and the queue, need of subscriptions. */
#ifndef GPUQ_NOTIFY_SUBSCRIPTION_H
#define GPUQ_NOTIFY_SUBSCRIPTION_H

#include "host/notify/state.h"

/* Whether receiving would say something: an event, or the end. */
static inline bool gq_notify_has_more(const NotifySubscription *sub)
{
	/* [event.read], [sleep.look]: what was put before the last event published is seen below.
	 */
	(void)gq_load_seq_cst_u64(&sub->place->word);
	/* [entry.get], [sub.read] */
	return gq_load_acquire_u64(&sub->tail) != gq_load_seq_cst_u64(&sub->head) ||
	       gq_load_seq_cst_u64(&sub->ended) != GQ_NOTIFY_GOES_ON;
}

/* Under the subscription's lock, with a descriptor: make it unreadable if nothing is left.
 * @param always  it may be readable although nobody is known to have written it */
void gq__notify_clear_fd(NotifySubscription *sub, bool always);

/* With the queue's lock and the place's: out of the handle's list. */
void gq__notify_unlist(NotifySubscription *sub);

/* The same, and it gives what it holds and then Q_ERR_SHUTDOWN. */
void gq__notify_shut(NotifySubscription *sub);

/* Of max_bytes. */
uint64_t gq__notify_bytes_of(const NotifySubscription *sub);

/* Nobody uses it any more, and it is in no list. */
void gq__notify_free(NotifySubscription *sub);

/* With the queue's lock, not the place's: the descriptor of a subscription that has been shut. */
void gq__notify_signal_end(NotifySubscription *sub);

/* Refuses NULL, and what another process has made. */
QueueStatus gq__notify_enter_subscription(const NotifySubscription *sub);

/* Before anybody else knows the subscription: its handle ends with it. */
void gq__notify_own_handle(NotifySubscription *sub);

#endif /* GPUQ_NOTIFY_SUBSCRIPTION_H */
