/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c - notification queues and handles: making, registering, ending; and how subscriptions
 * end. */
#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/notify/subscription.h"

#include <inttypes.h>
#include <string.h>

/* ---- queues ---------------------------------------------------------------------------------- */

/* Places beyond max_handles, so that a thread which comes back late from waiting on an ended handle
 * keeps nobody from registering. */
enum { SPARE_PLACES = 64, DEFAULT_PER_HANDLE = 1024 };
#define DEFAULT_BYTES (UINT64_C(64) << 20)

static QueueStatus check_number(const char *field, uint32_t *value, uint32_t most,
				uint32_t otherwise)
{
	if (*value == 0)
		*value = otherwise;
	if (*value <= most)
		return Q_OK;
	return gq__failf(Q_ERR_INVALID_ARG,
			 "%s is %" PRIu32 "; allowed: 1 to %" PRIu32 ", or 0 for %" PRIu32, field,
			 *value, most, otherwise);
}

static uint64_t table_bytes(uint32_t handles)
{
	return (uint64_t)(handles + SPARE_PLACES) * sizeof(struct gq_notify_place);
}

static QueueStatus resolve(const NotifyConfig *cfg, NotifyConfig *out)
{
	*out = cfg != NULL ? *cfg : (NotifyConfig){ 0 };
	GQ_RETURN_IF_REFUSED(check_number("max_handles", &out->max_handles, Q_NOTIFY_MAX_HANDLES,
					  Q_NOTIFY_MAX_HANDLES));
	GQ_RETURN_IF_REFUSED(check_number("max_waiters", &out->max_waiters, Q_NOTIFY_MAX_WAITERS,
					  DEFAULT_PER_HANDLE));
	GQ_RETURN_IF_REFUSED(check_number("max_subscribers", &out->max_subscribers,
					  Q_NOTIFY_MAX_SUBSCRIBERS, DEFAULT_PER_HANDLE));
	if (out->flags != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "flags is 0x%" PRIx32 "; allowed: 0",
				 out->flags);
	GQ_RETURN_IF_REFUSED(GQ_CHECK_RESERVED(out, reserved));
	if (out->max_bytes == 0)
		out->max_bytes = DEFAULT_BYTES;
	if (out->max_bytes < table_bytes(out->max_handles))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "max_bytes is %" PRIu64 "; allowed: at least %" PRIu64
				 ", which max_handles %" PRIu32 " takes",
				 out->max_bytes, table_bytes(out->max_handles), out->max_handles);
	return Q_OK;
}

QueueStatus q_notify_create(const NotifyConfig *cfg, NotifyQueue **out)
{
	NotifyConfig resolved;
	NotifyQueue *nq;

	gq__watch_forks();
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out is NULL; allowed: where to put the notification queue");
	GQ_RETURN_IF_REFUSED(resolve(cfg, &resolved));
	nq = gq__alloc(sizeof(*nq), "the notification queue");
	if (nq == NULL)
		return Q_ERR_NO_MEMORY;
	nq->cfg = resolved;
	nq->n_places = resolved.max_handles + SPARE_PLACES;
	nq->bytes = table_bytes(resolved.max_handles);
	nq->places = gq__alloc(nq->bytes, "the handles");
	if (nq->places == NULL) {
		gq__free(nq, sizeof(*nq));
		return Q_ERR_NO_MEMORY;
	}
	nq->generation = gq__generation;
	nq->start_pos = gq__start_pos;
	nq->refs = 1;
	pthread_mutex_init(&nq->lock, NULL);
	*out = nq;
	return Q_OK;
}

static void drop_ref(NotifyQueue *nq)
{
	/* [ref.drop], and for the last [ref.last] */
	if (gq_fetch_add_seq_cst_u64(&nq->refs, 0 - UINT64_C(1)) != 1)
		return;
	pthread_mutex_destroy(&nq->lock);
	gq__free(nq->places, table_bytes(nq->cfg.max_handles));
	gq__free(nq, sizeof(*nq));
}

void q_notify_destroy(NotifyQueue *nq)
{
	if (nq == NULL || nq->generation != gq__generation)
		return;
	pthread_mutex_lock(&nq->lock);
	for (uint32_t i = 0; i < nq->used; i++)
		if ((nq->places[i].life & 3) == GQ_NOTIFY_OPEN)
			gq__notify_end(nq, &nq->places[i]);
	pthread_mutex_unlock(&nq->lock);
	drop_ref(nq);
}

/* ---- handles --------------------------------------------------------------------------------- */

/*
 * With the queue's lock: a place whose last life no thread is waiting in any more, taken out of the
 * list; or one that has had none. A place whose generations are used up is never listed.
 */
static struct gq_notify_place *find_place(NotifyQueue *nq)
{
	uint32_t previous = 0;

	for (uint32_t i = nq->first_free; i != 0; i = nq->places[i - 1].next_free) {
		struct gq_notify_place *p = &nq->places[i - 1];

		/* [inside.read], [sleep.look]: a thread that comes in after this load finds the
		 * life ended. */
		if (gq_load_seq_cst_u64(&p->inside) != 0) {
			previous = i;
			continue;
		}
		if (previous != 0)
			nq->places[previous - 1].next_free = p->next_free;
		else
			nq->first_free = p->next_free;
		if (nq->last_free == i)
			nq->last_free = previous;
		return p;
	}
	return nq->used < nq->n_places ? &nq->places[nq->used++] : NULL;
}

static void set_hint(struct gq_notify_place *p, const char *hint)
{
	size_t n = hint != NULL ? strnlen(hint, sizeof(p->hint) - 1) : 0;

	if (n != 0)
		memcpy(p->hint, hint, n);
	p->hint[n] = '\0';
}

/* With the queue's lock. @return the handle of the place's next life. */
static NotifyHandle begin_life(NotifyQueue *nq, struct gq_notify_place *p)
{
	const bool first = p->life == 0;
	const uint64_t generation = (p->life >> 2) + 1;
	uint64_t word = gq_notify_lock(p); /* a post on a stale handle may be here for a moment */

	if (first)
		word = nq->start_pos << 1;
	p->reached = 0;
	p->dropped = 0;
	gq_store_release_u64(&p->base, word >> 1); /* [life.write]: the life before has ended */
	/* [life.write]: all of the above. */
	gq_store_seq_cst_u64(&p->life, generation << 2 | GQ_NOTIFY_OPEN);
	gq_notify_unlock(p, word);
	return generation << 32 | (uint64_t)(p - nq->places);
}

QueueStatus q_notify_register(NotifyQueue *nq, const char *hint, NotifyHandle *out)
{
	struct gq_notify_place *p = NULL;
	bool full;

	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL; allowed: where to put the handle");
	pthread_mutex_lock(&nq->lock);
	full = nq->live >= nq->cfg.max_handles;
	if (!full)
		p = find_place(nq);
	if (p != NULL) {
		set_hint(p, hint);
		*out = begin_life(nq, p);
		nq->live++;
		nq->registered++;
	}
	pthread_mutex_unlock(&nq->lock);
	if (p != NULL)
		return Q_OK;
	if (full)
		return gq__failf(Q_ERR_LIMIT, "max_handles is %" PRIu32 ": as many are registered",
				 nq->cfg.max_handles);
	return gq__fail(Q_ERR_LIMIT,
			"every free place is of a handle that threads have not yet come "
			"back from waiting on, or has been used 2^32 times");
}

void gq__notify_end(NotifyQueue *nq, struct gq_notify_place *p)
{
	const uint64_t generation = p->life >> 2;
	const uint32_t index = (uint32_t)(p - nq->places);
	const uint64_t word = gq_notify_lock(p);
	NotifySubscription *sub, *to_signal = NULL;

	/* [life.write], [wake.look] */
	gq_store_seq_cst_u64(&p->life, generation << 2 | GQ_NOTIFY_ENDED);
	nq->past.posts += gq_notify_posts(p, word);
	nq->past.reached += p->reached;
	nq->past.dropped += p->dropped;
	while ((sub = p->first) != NULL) {
		gq__notify_shut(sub);
		if (sub->fd >= 0) {
			sub->next = to_signal;
			to_signal = sub;
		}
	}
	gq_notify_unlock(p, word);
	gq_event_broadcast(&p->event); /* [wake.look] */
	for (sub = to_signal; sub != NULL; sub = sub->next)
		gq__notify_signal_end(sub);

	nq->live--;
	if (generation == UINT32_MAX) /* it is not used again, so that no handle comes twice */
		return;
	p->next_free = 0;
	if (nq->last_free != 0)
		nq->places[nq->last_free - 1].next_free = index + 1;
	else
		nq->first_free = index + 1;
	nq->last_free = index + 1;
}

QueueStatus q_notify_unregister(NotifyQueue *nq, NotifyHandle handle)
{
	struct gq_notify_place *p;
	bool open;

	GQ_RETURN_IF_REFUSED(gq_notify_enter(nq));
	p = gq_notify_place_of(nq, handle);
	if (p == NULL)
		return gq__notify_stale(handle);
	pthread_mutex_lock(&nq->lock);
	open = gq_notify_is_open(p, handle);
	if (open)
		gq__notify_end(nq, p);
	pthread_mutex_unlock(&nq->lock);
	return open ? Q_OK : gq__notify_stale(handle);
}

/* ---- subscriptions: their end, which may be that of a handle or of the queue
 * ---------------------- */

void q_notify_unsubscribe(NotifySubscription *sub)
{
	struct gq_notify_place *p;
	NotifyQueue *nq;
	uint64_t word;

	if (sub == NULL || sub->nq->generation != gq__generation)
		return;
	GQ_NO_CANCEL();
	nq = sub->nq;
	p = sub->place;
	pthread_mutex_lock(&nq->lock);
	nq->bytes -= gq__notify_bytes_of(sub);
	if (sub->listed && sub->owns_handle) {
		gq__notify_end(nq, p);
	} else if (sub->listed) {
		word = gq_notify_lock(p);
		gq__notify_unlist(sub);
		gq_notify_unlock(p, word);
	}
	pthread_mutex_unlock(&nq->lock);
	/* A post that found the descriptor to be written is about to have done it. [signal.read] */
	for (uint32_t step = 0; gq_load_acquire_u64(&sub->signalling) != 0; step++)
		gq__await_step(step);
	/* Not as a system call of our own: ThreadSanitizer must know of it. */
	if (sub->fd >= 0)
		close(sub->fd);
	gq__notify_free(sub);
	drop_ref(nq);
}
