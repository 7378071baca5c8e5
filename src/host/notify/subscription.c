/* SPDX-License-Identifier: Apache-2.0 */
/* subscription.c - subscriptions: a ring of events each, and what happens when it is full. */
#include "host/notify/subscription.h"

#include "host/base/memory.h"
#include "host/notify/state.h"

#include <inttypes.h>

/* ---- putting: by the thread that has the place's lock ------------------------------------------
 */

/* The ring is full. @return whether there is room now. */
static bool make_room(NotifySubscription *sub, uint64_t head)
{
	struct gq_notify_place *p = sub->place;

	if (sub->policy == Q_NOTIFY_CLOSE) {
		gq_store_seq_cst_u64(&sub->ended,
				     GQ_NOTIFY_OVERFLOWED); /* [sub.end], [wake.look] */
	} else if (sub->policy != Q_NOTIFY_DROP_NEWEST) {
		/* If a receiver was faster there is room, too. */
		if (gq_cas_seq_cst_u64(&sub->head, head, head + 1)) /* [entry.take] */
			gq_store_relaxed_u64(&p->dropped, p->dropped + 1);
		return true;
	}
	gq_store_relaxed_u64(&p->dropped, p->dropped + 1);
	return false;
}

static bool put(NotifySubscription *sub, uint64_t sequence, int64_t arg)
{
	/* [entry.free] acquire: the receiver that took an entry has read it. */
	const uint64_t head = gq_load_acquire_u64(&sub->head);
	const uint64_t tail = sub->tail;
	struct gq_notify_entry *entry = &sub->entries[tail & sub->mask];

	if (gq_load_relaxed_u64(&sub->ended) != GQ_NOTIFY_GOES_ON)
		return false;
	if (tail - head >= sub->capacity && !make_room(sub, head))
		return false;
	/* [entry.write] release: a receiver that reads of this what another entry was to say finds
	 * the head moved. */
	gq_store_release_u64(&entry->sequence, sequence);
	gq_store_release_u64(&entry->arg, (uint64_t)arg);
	GQ_WINDOW();
	gq_store_release_u64(&sub->tail, tail + 1); /* [entry.put] */
	return true;
}

uint32_t gq__notify_put(struct gq_notify_place *p, uint64_t sequence, int64_t arg)
{
	uint32_t taken = 0;

	for (NotifySubscription *sub = p->first; sub != NULL; sub = sub->next)
		taken += put(sub, sequence, arg);
	return taken;
}

/* ---- taking: receivers, under the subscription's lock ------------------------------------------
 */

static bool take(NotifySubscription *sub, NotifyEvent *out)
{
	for (;;) {
		const uint64_t head = gq_load_seq_cst_u64(&sub->head);
		const struct gq_notify_entry *entry = &sub->entries[head & sub->mask];
		uint64_t sequence, arg;

		if (gq_load_acquire_u64(&sub->tail) == head) /* [entry.get] */
			return false;
		/* [entry.read] acquire: if the entry says something later, the head has moved. */
		sequence = gq_load_acquire_u64(&entry->sequence);
		arg = gq_load_acquire_u64(&entry->arg);
		GQ_WINDOW();
		/* [entry.take] release: the entry is read. It fails if the putter has dropped it.
		 */
		if (!gq_cas_seq_cst_u64(&sub->head, head, head + 1))
			continue;
		*out = (NotifyEvent){ .handle = sub->handle,
				      .sequence = sequence,
				      .arg = (int64_t)arg,
				      .lost = sequence - sub->returned - 1 };
		sub->returned = sequence;
		return true;
	}
}

/* @return Q_OK; Q_ERR_SHUTDOWN or Q_ERR_LIMIT: the end; Q_ERR_EMPTY. */
static QueueStatus attempt(NotifySubscription *sub, NotifyEvent *out, bool last)
{
	QueueStatus status = Q_ERR_EMPTY;
	uint64_t ended;

	if (!gq_notify_has_more(sub) && !last)
		return Q_ERR_EMPTY;
	pthread_mutex_lock(&sub->lock);
	ended = gq_load_seq_cst_u64(&sub->ended); /* [sub.read]: all was put before that */
	if (take(sub, out))
		status = Q_OK;
	else if (ended != GQ_NOTIFY_GOES_ON)
		status = ended == GQ_NOTIFY_SHUT ? Q_ERR_SHUTDOWN : Q_ERR_LIMIT;
	if (sub->fd >= 0 && (status == Q_OK || status == Q_ERR_EMPTY))
		gq__notify_clear_fd(sub, status == Q_ERR_EMPTY);
	pthread_mutex_unlock(&sub->lock);
	return status;
}

static QueueStatus say(const NotifySubscription *sub, QueueStatus status, uint32_t timeout_ms)
{
	switch (status) {
	case Q_OK:
		return Q_OK;
	case Q_ERR_SHUTDOWN:
		return gq__fail(status, "the handle of this subscription has ended");
	case Q_ERR_LIMIT:
		return gq__failf(status,
				 "the subscription overflowed: its capacity is %" PRIu64
				 ", and its policy is CLOSE",
				 sub->capacity);
	default:
		return timeout_ms == 0 ? gq__fail(Q_ERR_EMPTY, "no event is there")
				       : gq__fail(Q_ERR_TIMEOUT, "timeout_ms is over");
	}
}

QueueStatus q_notify_recv(NotifySubscription *sub, NotifyEvent *out, uint32_t timeout_ms)
{
	struct gq_wait wait;
	QueueStatus status;
	NotifyEvent event;

	GQ_RETURN_IF_REFUSED(gq__notify_enter_subscription(sub));
	status = attempt(sub, &event, timeout_ms == 0);
	if (status == Q_ERR_EMPTY && timeout_ms != 0) {
		gq__wait_begin(&wait, &sub->place->event, gq__deadline_ns(timeout_ms), GQ_SPIN_NS);
		while (gq__wait_next(&wait) &&
		       (status = attempt(sub, &event, false)) == Q_ERR_EMPTY)
			;
		gq__wait_end(&wait);
		if (status == Q_ERR_EMPTY)
			status = attempt(sub, &event, true);
	}
	if (status == Q_OK && out != NULL)
		*out = event;
	return say(sub, status, timeout_ms);
}

/* ---- beginning and ending ----------------------------------------------------------------------
 */

/* The power of two that is not below. */
static uint64_t entries_for(uint64_t capacity)
{
	return capacity == 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll(capacity - 1));
}

static uint64_t entry_bytes(const NotifySubscription *sub)
{
	return (sub->mask + 1) * sizeof(struct gq_notify_entry);
}

uint64_t gq__notify_bytes_of(const NotifySubscription *sub)
{
	return sizeof(*sub) + entry_bytes(sub);
}

void gq__notify_free(NotifySubscription *sub)
{
	pthread_mutex_destroy(&sub->lock);
	gq__free(sub->entries, entry_bytes(sub));
	gq__free(sub, sizeof(*sub));
}

static NotifySubscription *make_subscription(NotifyQueue *nq, NotifyHandle handle,
					     uint32_t capacity, NotifyPolicy policy)
{
	NotifySubscription *sub = gq__alloc(sizeof(*sub), "a subscription");

	if (sub == NULL)
		return NULL;
	pthread_mutex_init(&sub->lock, NULL);
	sub->nq = nq;
	sub->place = gq_notify_place_of(nq, handle);
	sub->handle = handle;
	sub->policy = policy;
	sub->fd = -1;
	sub->cleared = 1; /* and not written since: `written` is 0 */
	sub->head = nq->start_pos;
	sub->tail = nq->start_pos;
	sub->capacity = policy == Q_NOTIFY_COALESCE ? 1 : capacity;
	sub->mask = entries_for(sub->capacity) - 1;
	sub->entries = gq__alloc(entry_bytes(sub), "a subscription's events");
	if (sub->entries != NULL)
		return sub;
	gq__notify_free(sub);
	return NULL;
}

/* With the queue's lock: the first event is the next one posted. */
static void list(NotifySubscription *sub)
{
	struct gq_notify_place *p = sub->place;
	const uint64_t word = gq_notify_lock(p);

	sub->returned = gq_notify_posts(p, word);
	sub->number = ++p->numbered;
	sub->previous = p->last;
	if (p->last != NULL)
		p->last->next = sub;
	else
		p->first = sub;
	p->last = sub;
	p->subscriptions++;
	sub->listed = true;
	gq_notify_unlock(p, word);
}

void gq__notify_unlist(NotifySubscription *sub)
{
	struct gq_notify_place *p = sub->place;

	if (sub->previous != NULL)
		sub->previous->next = sub->next;
	else
		p->first = sub->next;
	if (sub->next != NULL)
		sub->next->previous = sub->previous;
	else
		p->last = sub->previous;
	p->subscriptions--;
	p->descriptors -= sub->fd >= 0;
	sub->listed = false;
}

void gq__notify_shut(NotifySubscription *sub)
{
	gq__notify_unlist(sub);
	if (sub->ended == GQ_NOTIFY_GOES_ON)
		gq_store_seq_cst_u64(&sub->ended, GQ_NOTIFY_SHUT); /* [sub.end], [wake.look] */
}

/* With the queue's lock. */
static QueueStatus join(NotifyQueue *nq, NotifySubscription *sub)
{
	const uint64_t bytes = gq__notify_bytes_of(sub);

	if (!gq_notify_is_open(sub->place, sub->handle))
		return gq__notify_stale(sub->handle);
	if (sub->place->subscriptions >= nq->cfg.max_subscribers)
		return gq__failf(Q_ERR_LIMIT,
				 "max_subscribers is %" PRIu32 ": the handle has as many",
				 nq->cfg.max_subscribers);
	if (bytes > nq->cfg.max_bytes - nq->bytes)
		return gq__failf(Q_ERR_LIMIT,
				 "max_bytes is %" PRIu64 ": the subscription takes %" PRIu64
				 ", beside %" PRIu64 " in use",
				 nq->cfg.max_bytes, bytes, nq->bytes);
	nq->bytes += bytes;
	gq_fetch_add_seq_cst_u64(&nq->refs, 1);
	list(sub);
	return Q_OK;
}

static QueueStatus check(const NotifyQueue *nq, NotifyHandle handle, uint32_t capacity,
			 uint32_t policy, NotifySubscription **out)
{
	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out is NULL; allowed: where to put the subscription");
	if (capacity > Q_NOTIFY_MAX_CAPACITY)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "capacity is %" PRIu32 "; allowed: 1 to %u, or 0 for %u", capacity,
				 Q_NOTIFY_MAX_CAPACITY, Q_NOTIFY_DEFAULT_CAPACITY);
	if (policy > Q_NOTIFY_CLOSE)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "policy is %" PRIu32 "; allowed: 0 to 3, Q_NOTIFY_DROP_OLDEST, "
				 "DROP_NEWEST, COALESCE, CLOSE",
				 policy);
	if (gq_notify_place_of(nq, handle) == NULL ||
	    !gq_notify_is_open(gq_notify_place_of(nq, handle), handle))
		return gq__notify_stale(handle);
	return Q_OK;
}

QueueStatus q_notify_subscribe(NotifyQueue *nq, NotifyHandle handle, uint32_t capacity,
			       NotifyPolicy policy, NotifySubscription **out)
{
	NotifySubscription *sub;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(check(nq, handle, capacity, (uint32_t)policy, out));
	sub = make_subscription(nq, handle, capacity != 0 ? capacity : Q_NOTIFY_DEFAULT_CAPACITY,
				policy);
	if (sub == NULL)
		return Q_ERR_NO_MEMORY;
	pthread_mutex_lock(&nq->lock);
	status = join(nq, sub);
	pthread_mutex_unlock(&nq->lock);
	if (status != Q_OK)
		gq__notify_free(sub);
	else
		*out = sub;
	return status;
}

void gq__notify_own_handle(NotifySubscription *sub)
{
	sub->owns_handle = true;
}
