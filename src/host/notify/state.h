/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - what a notification queue is made of: handles, subscriptions, and who writes which
 * word. The argument why nothing is lost is in docs/design/notify.md.
 *
 * A post locks its handle by a bit of the handle's word, notes the event in each subscription,
 * claims the waiters, and publishes the next sequence, which unlocks; then it wakes. The lock is
 * never held across a system call, and no thread that waits or receives ever takes it.
 */
#ifndef GPUQ_NOTIFY_STATE_H
#define GPUQ_NOTIFY_STATE_H

#include <pthread.h>

#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/wait/wait.h"

#include <gpuq/notify.h>

/* ---- handles --------------------------------------------------------------------------------- */

/* gq_notify_place.word: the sequence, and above all the lock. */
#define GQ_NOTIFY_LOCKED UINT64_C(1)
/* Sequences have 63 bits, so that they fit above the lock, and wrap. */
#define GQ_NOTIFY_SEQUENCE (UINT64_MAX >> 1)

/* gq_notify_place.life: generation << 2, and one of these. */
enum gq_notify_phase { GQ_NOTIFY_UNUSED = 0, GQ_NOTIFY_OPEN = 1, GQ_NOTIFY_ENDED = 2 };

/* gq_notify_place.waiters: how often the waiters have been claimed, above how many wait. */
#define GQ_NOTIFY_COUNT_BITS 21u
#define GQ_NOTIFY_COUNT      ((UINT64_C(1) << GQ_NOTIFY_COUNT_BITS) - 1)
GQ_STATIC_ASSERT(Q_NOTIFY_MAX_WAITERS <= GQ_NOTIFY_COUNT, "the waiters' count fits");

/* The place of a handle in the table. A place has many lives, one after the other. */
struct gq_notify_place {
	/* What a post touches. All of the place but `waiters`, `event`, `inside` and
	 * `waiting_since_ns` is written by the thread that has the lock. */
	GQ_ALIGNED(GQ_LINE) uint64_t word; /* sequence << 1 | GQ_NOTIFY_LOCKED */
	uint64_t args[2];          /* of the latest post and of the one before, by sequence % 2 */
	uint64_t waiters;          /* claims << GQ_NOTIFY_COUNT_BITS | waiting threads */
	struct gq_event event;     /* waiters and receivers sleep on this */
	uint64_t life;             /* generation << 2 | gq_notify_phase; written with the lock */
	uint64_t base;             /* the sequence at which this life began */
	NotifySubscription *first; /* in the order in which they subscribed */

	NotifySubscription *last;
	uint32_t subscriptions;
	uint32_t descriptors; /* subscriptions that have one */
	uint64_t numbered;    /* subscriptions so far */
	uint64_t inside;      /* threads that are past the first look of a wait */
	uint64_t reached;
	uint64_t dropped;
	uint64_t waiting_since_ns;
	uint32_t next_free; /* index + 1; under the queue's lock, while ENDED */

	char hint[Q_NOTIFY_HINT_BYTES]; /* under the queue's lock */
};
GQ_STATIC_ASSERT(sizeof(struct gq_notify_place) == (size_t)2 * GQ_LINE, "a place is two lines");
GQ_STATIC_ASSERT(offsetof(struct gq_notify_place, last) == 64,
		 "what a post without subscriptions touches is one of the CPU's lines");

struct NotifyQueue {
	uint64_t generation; /* gq__generation of the process that made it */
	uint64_t start_pos;  /* where sequences and positions begin */
	NotifyConfig cfg;    /* as resolved */
	struct gq_notify_place *places;
	uint32_t n_places;

	/* Registering, unregistering, subscribing, unsubscribing; never a post, a wait, a receive.
	 */
	pthread_mutex_t lock;
	uint32_t used;                  /* places that have had a life */
	uint32_t live;                  /* handles registered */
	uint32_t first_free, last_free; /* index + 1: places to be used again, the oldest first */
	uint64_t bytes;                 /* of max_bytes in use */
	uint64_t registered;
	struct {
		uint64_t posts, reached, dropped; /* of lives that have ended */
	} past;

	uint64_t refs; /* the queue's own, and each subscription's; the last frees the memory */
};

/* ---- subscriptions --------------------------------------------------------------------------- */

struct gq_notify_entry {
	uint64_t sequence;
	uint64_t arg;
};

/* NotifySubscription.ended: why no event will come any more. */
enum gq_notify_end { GQ_NOTIFY_GOES_ON = 0, GQ_NOTIFY_SHUT = 1, GQ_NOTIFY_OVERFLOWED = 2 };

/*
 * A ring of events: the thread that has the place's lock puts, receivers take. Positions are free
 * running; an entry belongs to position % size. Only the putter writes entries and `tail`; `head`
 * is advanced by compare-and-swap, by the receiver that takes an event and by the putter that drops
 * one, so each event goes one way.
 */
struct NotifySubscription {
	/* constant, but for the links, which are under the place's lock */
	NotifyQueue *nq;
	struct gq_notify_place *place;
	NotifyHandle handle;
	struct gq_notify_entry *entries;
	uint64_t mask;     /* entries less one */
	uint64_t capacity; /* as asked, or 1 to coalesce */
	NotifyPolicy policy;
	bool owns_handle; /* unsubscribing unregisters the handle */
	uint64_t number;  /* its place in the order of the handle's subscriptions */
	NotifySubscription *next, *previous;
	bool listed;

	/* the putter's */
	GQ_ALIGNED(GQ_LINE) uint64_t tail;
	uint64_t ended;   /* gq_notify_end */
	uint64_t written; /* the clearing of the descriptor after which it has been written last */

	/* the receivers' */
	GQ_ALIGNED(GQ_LINE) uint64_t head;
	uint64_t cleared;     /* how often the descriptor has been cleared; under `lock` */
	uint64_t returned;    /* sequence of the event returned last; under `lock` */
	int fd;               /* -1: none; written under `lock` and the place's lock */
	uint64_t signalling;  /* threads about to write to the descriptor */
	pthread_mutex_t lock; /* receivers against each other; no post takes it */
};

/* ---- steps ----------------------------------------------------------------------------------- */

static inline QueueStatus gq_notify_enter(const NotifyQueue *nq)
{
	if (__builtin_expect(nq != NULL && nq->generation == gq__generation, 1))
		return Q_OK;
	return nq == NULL
		       ? gq__fail(Q_ERR_INVALID_ARG,
				  "the notification queue is NULL; allowed: one from "
				  "q_notify_create()")
		       : gq__fail(
				 Q_ERR_UNSUPPORTED,
				 "this notification queue belongs to the parent process: it cannot "
				 "be used after fork(); make a new one with q_notify_create()");
}

static inline uint64_t gq_notify_life(NotifyHandle handle, enum gq_notify_phase phase)
{
	return handle >> 32 << 2 | phase;
}

/* The place of a handle that is or was registered; NULL: it never was. */
static inline struct gq_notify_place *gq_notify_place_of(const NotifyQueue *nq, NotifyHandle handle)
{
	const uint32_t index = (uint32_t)handle;

	return index < nq->n_places ? &nq->places[index] : NULL;
}

static inline bool gq_notify_is_open(const struct gq_notify_place *p, NotifyHandle handle)
{
	/* [life.read], [sleep.look] */
	return gq_load_seq_cst_u64(&p->life) == gq_notify_life(handle, GQ_NOTIFY_OPEN);
}

/* Q_ERR_STALE, or Q_ERR_INVALID_ARG for no handle at all. */
QueueStatus gq__notify_stale(NotifyHandle handle);

/* @return the place's word, which nobody else changes until gq_notify_unlock(). */
static inline uint64_t gq_notify_lock(struct gq_notify_place *p)
{
	for (uint32_t step = 0;; step++) {
		const uint64_t word = gq_load_relaxed_u64(&p->word);

		if ((word & GQ_NOTIFY_LOCKED) == 0 &&
		    gq_cas_seq_cst_u64(&p->word, word, word | GQ_NOTIFY_LOCKED)) /* [place.lock] */
			return word;
		gq__await_step(step);
	}
}

static inline void gq_notify_unlock(struct gq_notify_place *p, uint64_t word)
{
	gq_store_release_u64(&p->word, word); /* [place.unlock] */
}

/* The sequence as a client sees it: how many posts this life has had. */
static inline uint64_t gq_notify_posts(const struct gq_notify_place *p, uint64_t word)
{
	/* [life.read]: a base of a later life comes with the end of the one before. */
	return ((word >> 1) - gq_load_acquire_u64(&p->base)) & GQ_NOTIFY_SEQUENCE;
}

/* With the lock: put an event into each subscription. @return how many took it. */
uint32_t gq__notify_put(struct gq_notify_place *p, uint64_t sequence, int64_t arg);

/* Without the lock: make the descriptors of a place's subscriptions readable that should be. */
void gq__notify_signal(struct gq_notify_place *p);

/* With the queue's lock, not the place's: the end of a handle. */
void gq__notify_end(NotifyQueue *nq, struct gq_notify_place *p);

#endif /* GPUQ_NOTIFY_STATE_H */
