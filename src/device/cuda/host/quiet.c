/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quiet.c - all grids leave for a moment, so that a queue may call the driver.
 *
 * Allocating, freeing and loading code wait for every kernel of the context, and a resident grid
 * does not end. So a queue that needs such a call first sends away the grids of the queues that
 * share its context, those on the same GPU, and brings them back after the call. What happens in
 * between may take as long as the application likes (q_preload()), so no lock of a queue is held
 * meanwhile: `kept_away` keeps everybody from launching, and what is known of the grid is not asked
 * of the driver again, which may be busy with that call. Memory of the application that is pinned
 * for descriptors is shared by all queues of the process and mapped in the contexts of all GPUs:
 * for that the grids of all GPUs leave.
 */
#include "device/cuda/host/quiet.h"

#include "device/cuda/host/launch.h"

#include <stdlib.h>

/* The queues that have a grid. The list changes under both locks; the first is held while grids are
 * kept away, for as long as that takes, and the second for some instructions. */
static pthread_mutex_t quiet_lock = PTHREAD_MUTEX_INITIALIZER,
		       live_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gq_cuda *live;
static uint64_t ending; /* 1: the process ends, nothing is brought back */

/*
 * Whether a queue of the list is one of `whose`, for the queue `c`. After a fork the list still has
 * the parent's queues, whose grids are not ours to order about.
 */
static bool is_one_of(const struct gq_cuda *listed, const struct gq_cuda *c, enum gq_quiet whose)
{
	if (listed->generation != gq__generation)
		return false;
	if (whose == GQ_QUIET_PROCESS)
		return true;
	return listed->device == c->device && (listed != c || whose == GQ_QUIET_GPU);
}

/* Order the queue's grid to leave, and let none be launched from now on. */
static void keep_away(struct gq_cuda *c)
{
	pthread_mutex_lock(&c->lock); /* it may be calibrating at this moment */
	c->kept_away = true;
	/* A queue fails also when a launch is refused, and one before it may be inside a message.
	 */
	c->is_awaited = gq_has_failed(c) ? gq__launch_is_resident(c) : !gq__launch_is_away(c);
	if (c->is_awaited)
		gq__launch_order_away(c);
	else
		c->gone = c->launch;
	pthread_mutex_unlock(&c->lock);
}

/* Wait until it has left. The lock is free between two looks, as calls of the queue need it. */
static bool await_leaving(struct gq_cuda *c, uint64_t deadline_ns)
{
	for (uint32_t step = 0;; step++) {
		bool gone;

		pthread_mutex_lock(&c->lock);
		gone = gq__launch_has_gone(c);
		if (gone)
			c->gone = c->launch;
		pthread_mutex_unlock(&c->lock);
		if (gone || gq_has_waited(gq__now_ns(), deadline_ns, step))
			return gone;
		gq__await_step(step);
	}
}

bool gq__quiet_begin(const struct gq_cuda *c, enum gq_quiet whose)
{
	uint64_t deadline_ns;
	bool all = true;

	pthread_mutex_lock(&quiet_lock);
	/* A queue that starts has its lock for seconds. The others serve until that is over. */
	for (struct gq_cuda *one = live; one != NULL; one = one->next)
		if (is_one_of(one, c, whose)) {
			pthread_mutex_lock(&one->lock);
			pthread_mutex_unlock(&one->lock);
		}
	for (struct gq_cuda *one = live; one != NULL; one = one->next)
		if (is_one_of(one, c, whose))
			keep_away(one);
	deadline_ns = gq__now_ns() + GQ_QUIET_TIMEOUT_NS;
	for (struct gq_cuda *one = live; one != NULL; one = one->next)
		if (is_one_of(one, c, whose) && one->is_awaited)
			all = await_leaving(one, deadline_ns) && all;
	return all;
}

/* Bring back what is to run, or launch for what was published meanwhile where no grid ever was. */
static void let_back(struct gq_cuda *c)
{
	pthread_mutex_lock(&c->lock);
	c->kept_away = false;
	c->gone = 0;
	if (gq_load_relaxed_u64(&ending) == 0) {
		if (c->state == GQ_GRID_ON)
			gq__launch_wake(c, false);
		else if (c->state == GQ_GRID_AWAY && !gq_is_paused(c->q) && !gq_is_leaving(c->q))
			gq__launch_bring_back(c);
	}
	pthread_mutex_unlock(&c->lock);
}

void gq__quiet_end(const struct gq_cuda *c, enum gq_quiet whose)
{
	for (struct gq_cuda *one = live; one != NULL; one = one->next)
		if (is_one_of(one, c, whose))
			let_back(one);
	pthread_mutex_unlock(&quiet_lock);
}

struct gq_cuda *gq__quiet_next(const struct gq_cuda *c, const struct gq_cuda *after)
{
	struct gq_cuda *one = after == NULL ? live : after->next;

	while (one != NULL && !is_one_of(one, c, GQ_QUIET_OTHERS))
		one = one->next;
	return one;
}

QueueStatus gq__quiet_refuse(const char *what)
{
	return gq__failf(Q_ERR_TIMEOUT,
			 "CUDA: this or another queue of this process is inside a message for "
			 "longer than 2 s, and %s would wait for it",
			 what);
}

QueueStatus gq__quiet_try(struct gq_cuda *c, enum gq_quiet whose, const char *what)
{
	const bool quiet = gq__quiet_begin(c, whose);
	bool failed;

	pthread_mutex_lock(&c->lock);
	failed = gq_has_failed(c);
	pthread_mutex_unlock(&c->lock);
	if (failed)
		return gq__device_failed(c->q);
	return quiet ? Q_OK : gq__quiet_refuse(what);
}

/* ---- the list -------------------------------------------------------------------------------- */

void gq__quiet_enlist(struct gq_cuda *c)
{
	struct gq_cuda **at = &live;

	while (*at != NULL)
		at = &(*at)->next;
	c->next = NULL;
	pthread_mutex_lock(&live_lock);
	*at = c;
	pthread_mutex_unlock(&live_lock);
}

void gq__quiet_unlist(struct gq_cuda *c)
{
	pthread_mutex_lock(&quiet_lock);
	pthread_mutex_lock(&live_lock);
	for (struct gq_cuda **at = &live; *at != NULL; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			break;
		}
	}
	pthread_mutex_unlock(&live_lock);
	pthread_mutex_unlock(&quiet_lock);
}

/* ---- the end of the process ------------------------------------------------------------------ */

static bool lock_until(pthread_mutex_t *lock, uint64_t deadline_ns)
{
	for (uint32_t step = 0; pthread_mutex_trylock(lock) != 0; step++) {
		if (gq__now_ns() >= deadline_ns)
			return false;
		gq__await_step(step);
	}
	return true;
}

static void order_away(struct gq_cuda *c)
{
	/* [control.write] */
	gq_store_release_u64(&c->link->orders.depart, gq_load_relaxed_u64(&c->launch));
}

/* A process may end with live queues, and while grids are kept away. Order the grids to leave, and
 * wait for that a moment only: a thread that was stopped inside a call holds its lock for ever. */
static void at_exit(void)
{
	const uint64_t deadline_ns = gq__now_ns() + 100000000;

	gq_store_relaxed_u64(&ending, 1);
	if (!lock_until(&live_lock, deadline_ns))
		return;
	for (struct gq_cuda *c = live; c != NULL; c = c->next)
		if (c->generation == gq__generation)
			order_away(c);
	for (struct gq_cuda *c = live; c != NULL; c = c->next) {
		if (c->generation != gq__generation || !lock_until(&c->lock, deadline_ns))
			continue;
		order_away(c); /* it may just have been brought back */
		for (uint32_t step = 0; !gq__launch_has_left(c) && gq__now_ns() < deadline_ns;
		     step++)
			gq__await_step(step);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&live_lock);
}

static void watch_exit(void)
{
	atexit(at_exit);
}

void gq__quiet_at_exit(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_exit);
}
