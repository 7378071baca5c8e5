/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_poll.c - q_ring_fd(): a descriptor that is readable while there may be something to receive.
 *
 * Senders know nothing of descriptors: they wake whoever sleeps on the ring's flag. So a thread of
 * the library sleeps there as a receiver would, and makes the descriptor readable when it finds
 * something. It takes nothing. A receive through this handle that finds the ring empty makes the
 * descriptor unreadable again, and only then does the thread go back to the flag: there is one
 * write to the descriptor per emptying, not per message.
 *
 * Nothing is lost: the receive clears under the lock, and only after a second look; what is sent
 * after that look finds the thread before its own look, or asleep on the flag (K1, K2).
 */
#include "host/ring.h"

#include "host/memory.h"
#include "host/sys.h"
#include "host/thread.h"

#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

struct gq_ring_poll {
	int fd;
	pthread_t thread;
	pthread_mutex_t lock;    /* held for a look and a system call, never across a wait */
	struct gq_event cleared; /* the thread sleeps on it while the descriptor is readable */
	uint32_t readable;       /* written under the lock */
	uint32_t quit;
};

/* Whether a receive would return something else than Q_ERR_EMPTY. */
static bool is_worth_a_look(RingQueue *r)
{
	for (uint32_t c = 0; c < r->messages.classes; c++)
		if (gq_ring_may_hold(&r->messages.ready[c])) /* K2: pairs with K1 */
			return true;
	return gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN && gq__ring_settle(r);
}

static bool has_to_quit(const struct gq_ring_poll *f)
{
	return gq_load_seq_cst_u32(&f->quit) != 0;
}

/* Make the descriptor readable if there is something. @return whether it is readable. */
static bool announce(RingQueue *r, struct gq_ring_poll *f)
{
	if (!is_worth_a_look(r))
		return false;
	pthread_mutex_lock(&f->lock);
	gq_exchange_seq_cst_u32(&f->readable, 1);
	gq_sys_event_write(f->fd);
	pthread_mutex_unlock(&f->lock);
	return true;
}

static void await_message(RingQueue *r, struct gq_ring_poll *f)
{
	struct gq_wait wait;

	gq__wait_begin_shared(&wait, &r->head->signals.data_armed, GQ_FOR_EVER, gq_ring_nap_ns(r));
	wait.spin_ns = 0; /* what this thread saves a sleeper is not worth a CPU */
	while (!has_to_quit(f) && !announce(r, f) && gq__wait_next(&wait))
		gq__ring_before_second_look(r, &wait);
	gq__wait_end(&wait);
}

static void await_cleared(struct gq_ring_poll *f)
{
	struct gq_wait wait;

	gq__wait_begin(&wait, &f->cleared, GQ_FOR_EVER, 0);
	while (!has_to_quit(f) && gq_load_seq_cst_u32(&f->readable) != 0 && gq__wait_next(&wait))
		;
	gq__wait_end(&wait);
}

static void *serve(void *arg)
{
	RingQueue *r = arg;
	struct gq_ring_poll *f = gq__ring_poll_of(r);

	while (!has_to_quit(f)) {
		await_message(r, f);
		await_cleared(f);
	}
	return NULL;
}

/* A receive has found nothing. */
void gq__ring_poll_clear(RingQueue *r)
{
	struct gq_ring_poll *f = gq__ring_poll_of(r);

	if (f == NULL || gq_load_seq_cst_u32(&f->readable) == 0)
		return;
	pthread_mutex_lock(&f->lock);
	if (f->readable != 0 && !is_worth_a_look(r)) {
		gq_sys_event_read(f->fd);
		gq_exchange_seq_cst_u32(&f->readable, 0); /* K1 */
	}
	pthread_mutex_unlock(&f->lock);
	gq_event_broadcast(&f->cleared);
}

/* ---- life ------------------------------------------------------------------------------------ */

static struct gq_ring_poll *make(RingQueue *r)
{
	struct gq_ring_poll *f = gq__alloc(sizeof(*f), "the ring's descriptor");
	int rc;

	if (f == NULL)
		return NULL;
	pthread_mutex_init(&f->lock, NULL);
	f->fd = gq__fault() ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (f->fd < 0) {
		gq__fail(Q_ERR_LIMIT, "eventfd for q_ring_fd: no descriptor to be had");
		gq__free(f, sizeof(*f));
		return NULL;
	}
	/* The thread reads r->fd: it must be there before it starts. */
	gq__ring_poll_set(r, f);
	rc = gq__start_thread(&f->thread, serve, r, "gpuq-ring-fd");
	if (rc == 0)
		return f;
	gq__ring_poll_set(r, NULL);
	gq_sys_close(f->fd);
	gq__free(f, sizeof(*f));
	gq__failf(Q_ERR_LIMIT, "thread for q_ring_fd: %s", strerror(rc));
	return NULL;
}

int q_ring_fd(RingQueue *r)
{
	static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
	struct gq_ring_poll *f;

	if (gq_ring_enter(r) != Q_OK)
		return -1;
	pthread_mutex_lock(&making);
	f = gq__ring_poll_of(r);
	if (f == NULL)
		f = make(r);
	pthread_mutex_unlock(&making);
	return f != NULL ? f->fd : -1;
}

/* The handle ends. In a forked child there is no thread to end. */
void gq__ring_poll_end(RingQueue *r)
{
	struct gq_ring_poll *f = gq__ring_poll_of(r);

	if (f == NULL)
		return;
	if (r->generation == gq__generation) {
		gq_exchange_seq_cst_u32(&f->quit, 1); /* K1 */
		gq__flag_wake_shared(&r->head->signals.data_armed);
		gq_event_broadcast(&f->cleared);
		pthread_join(f->thread, NULL);
	}
	gq_sys_close(f->fd);
	gq__free(f, sizeof(*f));
}
