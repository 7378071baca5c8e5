/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll_fd.c - q_ring_fd(): a descriptor that is readable while there may be something to receive.
 *
 * Senders know nothing of descriptors: they wake the threads that sleep on the ring's flag. So a
 * thread of the library sleeps there as a receiver would, and makes the descriptor readable when it
 * finds something. It takes nothing. A receive through this handle that finds the ring empty makes
 * the descriptor unreadable again, and only then does the thread go back to the flag: there is one
 * write to the descriptor per emptying, not per message.
 *
 * Nothing is lost. The receive clears under the lock, and only after a second look. A message that
 * is sent after that look comes before the thread's own look, or finds it asleep on the flag
 * ([wake.look], [sleep.look]).
 */
#include "host/ring/poll_fd.h"

#include "host/ring/close.h"
#include "host/ring/extent.h"
#include "host/ring/fence.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/base/thread.h"

#include <string.h>
#include <sys/eventfd.h>

/* Whether a receive would return something else than Q_ERR_EMPTY. */
static bool is_worth_a_look(RingQueue *r)
{
	for (uint32_t c = 0; c < r->messages.classes; c++)
		if (gq_extent_may_hold(&r->messages.ready[c])) /* [sleep.look] */
			return true;
	return gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN && gq__ring_settle(r);
}

static bool has_to_quit(const struct gq_ring_poll *p)
{
	return gq_load_seq_cst_u32(&p->quit) != 0;
}

/* Make the descriptor readable if there is something. @return whether it is readable. */
static bool announce(RingQueue *r)
{
	static const uint64_t one = 1;
	struct gq_ring_poll *p = &r->poll;

	if (!is_worth_a_look(r))
		return false;
	pthread_mutex_lock(&p->lock);
	gq_exchange_seq_cst_u32(&p->readable, 1);
	gq_sys_write(p->fd, &one, sizeof(one));
	pthread_mutex_unlock(&p->lock);
	return true;
}

static void await_message(RingQueue *r)
{
	struct gq_wait wait;

	gq__wait_begin_shared(&wait, &r->head->signals.data_armed, GQ_FOR_EVER, gq_ring_nap_ns(r));
	wait.spin_ns = 0; /* what a sleeper's wake-up costs is not worth a CPU */
	while (!has_to_quit(&r->poll) && !announce(r) && gq__wait_next(&wait))
		wait.nap_ns = gq_ring_reach_before_look(r, &wait);
	gq__wait_end(&wait);
}

static void await_cleared(struct gq_ring_poll *p)
{
	struct gq_wait wait;

	gq__wait_begin(&wait, &p->cleared, GQ_FOR_EVER, 0);
	while (!has_to_quit(p) && gq_load_seq_cst_u32(&p->readable) != 0 && gq__wait_next(&wait))
		;
	gq__wait_end(&wait);
}

static void *serve(void *arg)
{
	RingQueue *r = arg;

	while (!has_to_quit(&r->poll)) {
		await_message(r);
		await_cleared(&r->poll);
	}
	return NULL;
}

void gq__ring_poll_clear(RingQueue *r)
{
	struct gq_ring_poll *p = &r->poll;
	uint64_t count;

	pthread_mutex_lock(&p->lock);
	if (gq_load_seq_cst_u32(&p->readable) != 0 && !is_worth_a_look(r)) {
		gq_sys_read(p->fd, &count, sizeof(count));
		gq_exchange_seq_cst_u32(&p->readable, 0); /* [wake.look] */
	}
	pthread_mutex_unlock(&p->lock);
	gq_event_broadcast(&p->cleared);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Under the lock. */
static int make(RingQueue *r)
{
	struct gq_ring_poll *p = &r->poll;
	int rc;

	p->fd = gq__fault() ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->fd < 0) {
		gq__fail(Q_ERR_LIMIT, "eventfd for q_ring_fd: no descriptor to be had");
		return -1;
	}
	rc = gq__start_thread(&p->thread, serve, r, "gpuq-ring-fd");
	if (rc != 0) {
		gq_sys_close(p->fd);
		p->fd = -1;
		gq__failf(Q_ERR_LIMIT, "thread for q_ring_fd: error %d", rc);
		return -1;
	}
	p->is_there = true;
	return p->fd;
}

int q_ring_fd(RingQueue *r)
{
	int fd;

	if (gq_ring_enter(r) != Q_OK)
		return -1;
	pthread_mutex_lock(&r->poll.lock);
	fd = r->poll.is_there ? r->poll.fd : make(r);
	pthread_mutex_unlock(&r->poll.lock);
	return fd;
}

void gq__ring_poll_begin(RingQueue *r)
{
	pthread_mutex_init(&r->poll.lock, NULL);
	r->poll.fd = -1;
}

void gq__ring_poll_end(RingQueue *r)
{
	struct gq_ring_poll *p = &r->poll;

	if (!p->is_there)
		return;
	/* In a forked child there is no thread to end. */
	if (r->generation == gq__generation) {
		GQ_NO_CANCEL();
		gq_exchange_seq_cst_u32(&p->quit, 1); /* [wake.look] */
		gq__flag_wake_shared(&r->head->signals.data_armed);
		gq_event_broadcast(&p->cleared);
		pthread_join(p->thread, NULL);
	}
	gq_sys_close(p->fd);
}
