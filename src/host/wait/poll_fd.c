/* SPDX-License-Identifier: Apache-2.0 */
/* poll_fd.c - a descriptor that is readable while a handle may have something. */
#include "poll_fd.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/sys.h"
#include "host/base/thread.h"

#include <string.h>
#include <sys/eventfd.h>

bool gq__poll_fd_announce(struct gq_poll_fd *p)
{
	static const uint64_t one = 1;
	bool found;

	/* The lock makes this look the newest one: a call that clears looks under it, too. */
	pthread_mutex_lock(&p->lock);
	found = p->kind->finds_something(p->handle); /* [sleep.look] */
	if (found && gq_exchange_seq_cst_u32(&p->readable, 1) == 0)
		gq_sys_write(p->fd, &one, sizeof(one));
	pthread_mutex_unlock(&p->lock);
	if (found)
		gq_poll_fd_settle(p); /* a call may have taken it before it was readable */
	return gq_load_seq_cst_u32(&p->readable) != 0;
}

static void await_cleared(struct gq_poll_fd *p)
{
	struct gq_wait wait;

	gq__wait_begin(&wait, &p->cleared, GQ_FOR_EVER, 0);
	while (!gq_poll_fd_has_to_quit(p) && gq_load_seq_cst_u32(&p->readable) != 0 &&
	       gq__wait_next(&wait))
		;
	gq__wait_end(&wait);
}

static void *serve(void *arg)
{
	struct gq_poll_fd *p = arg;

	while (!gq_poll_fd_has_to_quit(p)) {
		p->kind->await(p->handle);
		await_cleared(p);
	}
	return NULL;
}

void gq__poll_fd_clear(struct gq_poll_fd *p)
{
	uint64_t count;

	pthread_mutex_lock(&p->lock);
	if (gq_load_seq_cst_u32(&p->readable) != 0 && !p->kind->finds_something(p->handle)) {
		gq_sys_read(p->fd, &count, sizeof(count));
		gq_exchange_seq_cst_u32(&p->readable, 0); /* [wake.look] */
	}
	pthread_mutex_unlock(&p->lock);
	gq_event_broadcast(&p->cleared);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Under the lock. */
static int make(struct gq_poll_fd *p)
{
	int rc;

	errno = EMFILE;
	p->fd = gq__fault() ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->fd < 0) {
		gq__failf(Q_ERR_LIMIT, "eventfd for %s: %s", p->kind->call, strerror(errno));
		return -1;
	}
	rc = gq__start_thread(&p->thread, serve, p, p->kind->thread);
	if (rc != 0) {
		gq_sys_close(p->fd);
		p->fd = -1;
		gq__failf(Q_ERR_LIMIT, "thread for %s: %s", p->kind->call, strerror(rc));
		return -1;
	}
	p->is_there = true;
	return p->fd;
}

int gq__poll_fd_get(struct gq_poll_fd *p)
{
	int fd;

	GQ_NO_CANCEL(); /* with the lock held */
	pthread_mutex_lock(&p->lock);
	fd = p->is_there ? p->fd : make(p);
	pthread_mutex_unlock(&p->lock);
	return fd;
}

void gq__poll_fd_begin(struct gq_poll_fd *p, const struct gq_poll_fd_kind *kind, void *handle)
{
	p->kind = kind;
	p->handle = handle;
	p->fd = -1;
	pthread_mutex_init(&p->lock, NULL);
}

void gq__poll_fd_end(struct gq_poll_fd *p, bool forked)
{
	if (p->is_there && !forked) {
		GQ_NO_CANCEL();
		gq_exchange_seq_cst_u32(&p->quit, 1); /* [wake.look] */
		p->kind->rouse(p->handle);
		gq_event_broadcast(&p->cleared);
		pthread_join(p->thread, NULL);
	}
	if (p->is_there)
		gq_sys_close(p->fd);
	pthread_mutex_destroy(&p->lock);
}
