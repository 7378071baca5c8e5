/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll_fd.c - q_pipe_reader_fd(): a descriptor that is readable while a read would find something.
 *
 * Writers know nothing of descriptors: they wake the threads that sleep. So a thread of the library
 * sleeps as a reading thread would, and makes the descriptor readable when it finds something. A
 * read that leaves nothing makes it unreadable again, and only then does the thread go back to
 * sleep with the readers: there is one write to the descriptor per emptying, not per write.
 *
 * Nothing is lost. A read clears under the lock, and only after a look that finds nothing. What is
 * written after that look comes before the thread's own look, or finds it asleep ([wake.look],
 * [sleep.look]).
 */
#include "host/pipe/poll_fd.h"

#include "host/base/fault.h"
#include "host/base/sys.h"
#include "host/base/thread.h"

#include <string.h>
#include <sys/eventfd.h>

static bool has_to_quit(const struct gq_pipe_poll *p)
{
	return gq_load_seq_cst_u32(&p->quit) != 0;
}

static bool finds_something(PipeReader *r)
{
	struct gq_pipe_view view;

	return gq__pipe_look(r, &view) != GQ_SEES_NOTHING;
}

/* Make the descriptor readable if there is something. @return whether it is readable. */
static bool announce(PipeReader *r)
{
	static const uint64_t one = 1;
	struct gq_pipe_poll *p = &r->poll;
	bool found;

	/* The lock makes this look the newest one: a read that clears looks under it, too. */
	pthread_mutex_lock(&p->lock);
	found = finds_something(r);
	if (found && gq_exchange_seq_cst_u32(&p->readable, 1) == 0)
		gq_sys_write(p->fd, &one, sizeof(one));
	pthread_mutex_unlock(&p->lock);
	if (found)
		gq_pipe_poll_settle(r); /* a read may have taken it before it was readable */
	return gq_load_seq_cst_u32(&p->readable) != 0;
}

static void await_something(PipeReader *r)
{
	struct gq_pipe_poll *p = &r->poll;
	struct gq_wait wait;

	gq__pipe_wait_begin(r, &wait, &p->asleep, GQ_FOR_EVER);
	wait.spin_ns = 0; /* what a sleeper's wake-up costs is not worth a CPU */
	while (!has_to_quit(p) && !announce(r) && gq__wait_next(&wait))
		;
	gq__pipe_wait_end(r, &wait, &p->asleep);
}

static void await_cleared(struct gq_pipe_poll *p)
{
	struct gq_wait wait;

	gq__wait_begin(&wait, &p->cleared, GQ_FOR_EVER, 0);
	while (!has_to_quit(p) && gq_load_seq_cst_u32(&p->readable) != 0 && gq__wait_next(&wait))
		;
	gq__wait_end(&wait);
}

static void *serve(void *arg)
{
	PipeReader *r = arg;

	while (!has_to_quit(&r->poll)) {
		await_something(r);
		await_cleared(&r->poll);
	}
	return NULL;
}

void gq__pipe_poll_clear(PipeReader *r)
{
	struct gq_pipe_poll *p = &r->poll;
	uint64_t count;

	pthread_mutex_lock(&p->lock);
	if (gq_load_seq_cst_u32(&p->readable) != 0 && !finds_something(r)) {
		gq_sys_read(p->fd, &count, sizeof(count));
		gq_exchange_seq_cst_u32(&p->readable, 0);
	}
	pthread_mutex_unlock(&p->lock);
	gq_event_broadcast(&p->cleared); /* [wake.look] */
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Under the lock. */
static int make(PipeReader *r)
{
	struct gq_pipe_poll *p = &r->poll;
	int rc;

	p->fd = gq__fault() ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->fd < 0) {
		gq__fail(Q_ERR_LIMIT, "eventfd for q_pipe_reader_fd: no descriptor to be had");
		return -1;
	}
	rc = gq__start_thread(&p->thread, serve, r, "gpuq-pipe-fd");
	if (rc != 0) {
		gq_sys_close(p->fd);
		p->fd = -1;
		gq__failf(Q_ERR_LIMIT, "thread for q_pipe_reader_fd: %s", strerror(rc));
		return -1;
	}
	p->is_there = true;
	return p->fd;
}

int q_pipe_reader_fd(PipeReader *r)
{
	int fd;

	if (gq_pipe_reader_enter(r) != Q_OK)
		return -1;
	GQ_NO_CANCEL(); /* make() may say what failed, and we have a lock */
	pthread_mutex_lock(&r->poll.lock);
	fd = r->poll.is_there ? r->poll.fd : make(r);
	pthread_mutex_unlock(&r->poll.lock);
	return fd;
}

void gq__pipe_poll_begin(PipeReader *r)
{
	pthread_mutex_init(&r->poll.lock, NULL);
	r->poll.fd = -1;
}

void gq__pipe_poll_end(PipeReader *r)
{
	struct gq_pipe_poll *p = &r->poll;

	if (p->is_there) {
		const uint64_t quits = 1;
		uint64_t asleep_until = quits;

		GQ_NO_CANCEL();
		gq_exchange_seq_cst_u32(&p->quit, 1);
		if (r->pipe != NULL)
			gq_event_broadcast(&r->pipe->data); /* [wake.look] */
		else
			gq__pipe_rouse(r, &p->asleep, &asleep_until, quits);
		gq_event_broadcast(&p->cleared); /* [wake.look] */
		pthread_join(p->thread, NULL);
		gq_sys_close(p->fd);
	}
	pthread_mutex_destroy(&p->lock);
}
