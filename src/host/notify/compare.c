/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c - compare and wait: observe a handle's sequence, wait until it has moved. */
#include "host/notify/state.h"

#include <inttypes.h>

QueueStatus q_notify_observe(NotifyQueue *nq, NotifyHandle handle, uint64_t *out_key)
{
	struct gq_notify_place *p;
	uint64_t key;

	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	if (out_key == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out_key is NULL; allowed: where to put the key");
	p = gq_notify_place_of(nq, handle);
	if (p == NULL || !gq_notify_is_open(p, handle))
		return gq__notify_stale(handle);
	key = gq_notify_posts(p, gq_load_seq_cst_u64(&p->word)); /* [event.read] */
	if (!gq_notify_is_open(p, handle))                       /* the key may be another life's */
		return gq__notify_stale(handle);
	*out_key = key;
	return Q_OK;
}

enum look { NOT_YET, MOVED, ENDED };

/* The latest event, of a place that has no new life meanwhile. The argument is read between two
 * looks at the word: while the word says this sequence, posts write the other argument. */
static void read_latest(const struct gq_notify_place *p, NotifyHandle handle, uint64_t key,
			NotifyEvent *out)
{
	uint64_t word, arg;

	do {
		word = gq_load_seq_cst_u64(&p->word);               /* [event.read] */
		arg = gq_load_acquire_u64(&p->args[word >> 1 & 1]); /* [arg.read] */
	} while (gq_load_seq_cst_u64(&p->word) >> 1 != word >> 1);
	*out = (NotifyEvent){ .handle = handle,
			      .sequence = gq_notify_posts(p, word),
			      .arg = (int64_t)arg,
			      .lost = gq_notify_posts(p, word) - key - 1 };
}

static bool has_moved(const struct gq_notify_place *p, uint64_t key)
{
	/* [event.read], [sleep.look] */
	return gq_notify_posts(p, gq_load_seq_cst_u64(&p->word)) != key;
}

/* One look at a handle that was open when the wait began. What was posted before the end counts:
 * nothing is posted after it, so a second look at the sequence decides. */
static enum look look(const struct gq_notify_place *p, NotifyHandle handle, uint64_t key)
{
	if (has_moved(p, key))
		return MOVED;
	if (gq_notify_is_open(p, handle))
		return NOT_YET;
	return has_moved(p, key) ? MOVED : ENDED;
}

/* ---- waiters --------------------------------------------------------------------------------- */

/* A place among the waiters. @return false: all are taken. */
static bool enter_waiters(struct gq_notify_place *p, uint32_t most, uint64_t *claims)
{
	for (;;) {
		const uint64_t seen = gq_load_seq_cst_u64(&p->waiters);

		if ((seen & GQ_NOTIFY_COUNT) >= most)
			return false;
		/* Before anybody can count us: a snapshot that sees a waiter sees a time. A thread
		 * that loses the swap has written it for the one that won: they came together. */
		if ((seen & GQ_NOTIFY_COUNT) == 0)
			gq_store_relaxed_u64(&p->waiting_since_ns, gq__now_ns());
		if (!gq_cas_seq_cst_u64(&p->waiters, seen, seen + 1)) /* [sleep.look]: then look */
			continue;
		*claims = seen >> GQ_NOTIFY_COUNT_BITS;
		return true;
	}
}

/* Give the place back. @return false: a post has claimed it meanwhile, and freed it. */
static bool leave_waiters(struct gq_notify_place *p, uint64_t claims)
{
	for (;;) {
		const uint64_t seen = gq_load_seq_cst_u64(&p->waiters); /* [waiters.read] */

		if (seen >> GQ_NOTIFY_COUNT_BITS != claims)
			return false;
		if (gq_cas_seq_cst_u64(&p->waiters, seen, seen - 1))
			return true;
	}
}

/*
 * From the place among the waiters to the end of the wait. A thread that a post has claimed has
 * been counted as reached, so it returns with an event: the post is about to publish it, if it has
 * not.
 */
static enum look wait_inside(struct gq_notify_place *p, NotifyHandle handle, uint64_t key,
			     uint64_t deadline_ns, uint64_t claims)
{
	struct gq_wait wait;
	enum look found;

	gq__wait_begin(&wait, &p->event, deadline_ns, GQ_SPIN_NS);
	while ((found = look(p, handle, key)) == NOT_YET && gq__wait_next(&wait))
		;
	gq__wait_end(&wait);
	GQ_WINDOW();
	if (leave_waiters(p, claims) || found == MOVED)
		return found;
	for (uint32_t step = 0; (found = look(p, handle, key)) == NOT_YET; step++)
		gq__await_step(step);
	return found;
}

static QueueStatus wait_on(NotifyQueue *nq, struct gq_notify_place *p, NotifyHandle handle,
			   uint64_t key, NotifyEvent *out, uint32_t timeout_ms)
{
	uint64_t claims;
	enum look found;

	if (!gq_notify_is_open(p, handle))
		return gq__notify_stale(handle);
	if (!enter_waiters(p, nq->cfg.max_waiters, &claims))
		return gq__failf(Q_ERR_LIMIT,
				 "max_waiters is %" PRIu32 ": as many threads wait on this handle",
				 nq->cfg.max_waiters);
	found = wait_inside(p, handle, key, gq__deadline_ns(timeout_ms), claims);
	if (found == NOT_YET)
		return gq__fail(Q_ERR_TIMEOUT, "timeout_ms is over");
	if (found == ENDED)
		return gq__fail(Q_ERR_SHUTDOWN, "the handle was unregistered");
	if (out != NULL)
		read_latest(p, handle, key, out);
	return Q_OK;
}

/* The place has no new life until this thread has come out again. */
static QueueStatus look_inside(struct gq_notify_place *p, NotifyHandle handle, uint64_t key,
			       NotifyEvent *out)
{
	uint64_t posts;

	if (!gq_notify_is_open(p, handle))
		return gq__notify_stale(handle);
	posts = gq_notify_posts(p, gq_load_seq_cst_u64(&p->word)); /* [event.read] */
	if (key > posts)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "key is %" PRIu64 "; allowed: up to %" PRIu64
				 ", the handle's sequence",
				 key, posts);
	if (key == posts)
		return Q_ERR_EMPTY; /* which the caller says, if it is all there is to say */
	if (out != NULL)
		read_latest(p, handle, key, out);
	return Q_OK;
}

QueueStatus q_notify_wait(NotifyQueue *nq, NotifyHandle handle, uint64_t key, NotifyEvent *out,
			  uint32_t timeout_ms)
{
	struct gq_notify_place *p;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	p = gq_notify_place_of(nq, handle);
	if (p == NULL || !gq_notify_is_open(p, handle))
		return gq__notify_stale(handle);
	gq_fetch_add_seq_cst_u64(&p->inside, 1); /* then look at the life: [inside.read] */
	status = look_inside(p, handle, key, out);
	if (status == Q_ERR_EMPTY)
		status = timeout_ms != 0 ? wait_on(nq, p, handle, key, out, timeout_ms)
					 : gq__fail(status, "no post since the key was observed");
	/* [inside.leave] release: all reads of this life come before the next. */
	gq_fetch_add_seq_cst_u64(&p->inside, 0 - UINT64_C(1));
	return status;
}
