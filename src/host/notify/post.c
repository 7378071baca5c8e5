/* SPDX-License-Identifier: Apache-2.0 */
/* post.c - posting: an event for everybody who waits on a handle or has subscribed to it. */
#include "host/notify/post.h"

/*
 * With the lock, before the sequence moves: whoever waits now is reached by this post, and by no
 * other. A thread that begins to wait after this, and still finds the old sequence, is woken like
 * the others, and not counted.
 */
static uint64_t claim_waiters(struct gq_notify_place *p)
{
	const uint64_t seen = gq_load_seq_cst_u64(&p->waiters);

	if ((seen & GQ_NOTIFY_COUNT) == 0)
		return 0;
	/* Only a thread with the lock changes the number of claims. [waiters.claim] */
	return gq_exchange_seq_cst_u64(&p->waiters, ((seen >> GQ_NOTIFY_COUNT_BITS) + 1)
							    << GQ_NOTIFY_COUNT_BITS) &
	       GQ_NOTIFY_COUNT;
}

bool gq__notify_note(NotifyQueue *nq, NotifyHandle handle, int64_t arg, struct gq_noted *noted)
{
	struct gq_notify_place *p = gq_notify_place_of(nq, handle);
	uint64_t word, reached = 0;

	*noted = (struct gq_noted){ .place = p };
	/* The look before the lock keeps posts on stale handles out of other threads' way. */
	if (p == NULL || !gq_notify_is_open(p, handle))
		return false;
	word = gq_notify_lock(p);
	/* A life ends and begins with the lock held. */
	if (!gq_notify_is_open(p, handle)) {
		gq_notify_unlock(p, word);
		return false;
	}
	word += 2;
	/* [arg.write]: a reader of the event before goes by the other one. */
	gq_store_release_u64(&p->args[word >> 1 & 1], (uint64_t)arg);
	if (p->first != NULL) {
		reached = gq__notify_put(p, gq_notify_posts(p, word), arg);
		noted->has_descriptors = p->descriptors != 0;
	}
	reached += claim_waiters(p);
	if (reached != 0)
		gq_store_relaxed_u64(&p->reached, p->reached + reached);
	GQ_WINDOW();
	/* The lock is gone with it. [event.publish] release: the argument, the subscriptions'
	 * events, and what the poster wrote before. [wake.look]: sleepers are looked for after
	 * this. */
	gq_store_seq_cst_u64(&p->word, word);
	noted->reached = reached;
	return true;
}

QueueStatus q_notify_post(NotifyQueue *nq, NotifyHandle handle, int64_t arg, size_t *out_reached)
{
	struct gq_noted noted;

	if (out_reached != NULL)
		*out_reached = 0;
	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	if (!gq__notify_note(nq, handle, arg, &noted))
		return gq__notify_stale(handle);
	gq_notify_wake(&noted);
	if (out_reached != NULL)
		*out_reached = noted.reached;
	return Q_OK;
}
