/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fd.c - the completion descriptor: a thread of its own makes it readable when something can be
 * polled, and the callers that take the last result make it unreadable again.
 */
#include "host/queue/fd.h"

#include "host/base/fault.h"
#include "host/base/sys.h"
#include "host/base/thread.h"
#include "host/queue/finished.h"
#include "host/queue/handle.h"
#include "host/queue/tend.h"

#include <string.h>
#include <sys/eventfd.h>

/* An undecided look clears it, too: the descriptor's thread then decides, and makes it readable
 * again. */
void gq__clear_fd(GpuQueue *q)
{
	uint32_t left = GQ_MOST_AT_ONCE;
	uint64_t value;

	if (q->fd_readable == 0 || gq_first_unpolled(q, &left) == GQ_FOUND_SOMETHING)
		return;
	(void)gq_sys_read(q->completion_fd, &value, sizeof(value));
	gq_exchange_seq_cst_u32(&q->fd_readable, 0); /* [wake.look] */
	gq_event_broadcast(&q->fd_cleared);
}

/* Under the reap lock: make the descriptor readable if the first in the list is to be polled. */
static enum gq_found announce_first(GpuQueue *q)
{
	const uint64_t one = 1;
	uint32_t left = GQ_MOST_AT_ONCE;
	enum gq_found found = gq__find_unpolled(q, &left);

	if (found != GQ_FOUND_SOMETHING)
		return found;
	/* Set the flag, then look again ([sleep.look]): a thread that takes the last result by id
	 * takes it, then looks at the flag ([wake.look]), so one of the two sees that nothing is
	 * left. */
	gq_exchange_seq_cst_u32(&q->fd_readable, 1);
	found = gq_first_unpolled(q, &left);
	if (found == GQ_FOUND_SOMETHING)
		(void)gq_sys_write(q->completion_fd, &one, sizeof(one));
	else
		gq_exchange_seq_cst_u32(&q->fd_readable, 0);
	return found;
}

/* Make the descriptor readable if there is something to poll. @return whether it is readable. */
static bool announce(GpuQueue *q)
{
	enum gq_found found;

	do {
		pthread_mutex_lock(&q->reap_lock);
		found = q->fd_readable != 0 ? GQ_FOUND_SOMETHING : announce_first(q);
		pthread_mutex_unlock(&q->reap_lock);
	} while (found == GQ_FOUND_UNDECIDED && gq_load_seq_cst_u32(&q->fd_quit) == 0);
	return found == GQ_FOUND_SOMETHING;
}

/* The descriptor's thread. It writes once for each time the descriptor was cleared: while it is
 * readable the thread waits for it to be cleared, and completions do not wake it. */
static void *serve_fd(void *arg)
{
	GpuQueue *q = arg;
	struct gq_wait wait;

	GQ_NO_CANCEL();
	gq__name_this_thread("gpuq-fd");
	while (gq_load_seq_cst_u32(&q->fd_quit) == 0) {
		gq_wait_begin(q, &wait, &q->any, GQ_FOR_EVER, 0);
		while (gq_load_seq_cst_u32(&q->fd_quit) == 0 && !announce(q) &&
		       gq__wait_next(&wait))
			;
		gq__wait_end(&wait);
		gq__wait_begin(&wait, &q->fd_cleared, GQ_FOR_EVER, 0);
		while (gq_load_seq_cst_u32(&q->fd_quit) == 0 &&
		       gq_load_seq_cst_u32(&q->fd_readable) != 0 && gq__wait_next(&wait))
			;
		gq__wait_end(&wait);
	}
	return NULL;
}

/* Under the control lock: the eventfd, and the thread that serves it. */
static int make_fd(GpuQueue *q)
{
	int fd, rc;

	errno = EMFILE;
	fd = gq__fault() ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0) {
		gq__failf(Q_ERR_LIMIT, "eventfd for q_completion_fd: %s", strerror(errno));
		return -1;
	}
	q->completion_fd = fd;
	rc = gq__start_thread(&q->fd_thread, serve_fd, q, "gpuq-fd");
	if (rc != 0) {
		q->completion_fd = -1;
		gq_sys_close(fd);
		gq__failf(Q_ERR_LIMIT, "thread for q_completion_fd: %s", strerror(rc));
		return -1;
	}
	return fd;
}

int q_completion_fd(GpuQueue *q)
{
	int fd;

	if (gq_enter(q) != Q_OK)
		return -1;
	GQ_NO_CANCEL();
	pthread_mutex_lock(&q->control_lock);
	fd = q->completion_fd >= 0 ? q->completion_fd : make_fd(q);
	pthread_mutex_unlock(&q->control_lock);
	return fd;
}

void gq__stop_fd(GpuQueue *q)
{
	if (q->completion_fd < 0)
		return;
	gq_exchange_seq_cst_u32(&q->fd_quit, 1); /* [wake.look] */
	gq_event_broadcast(&q->any);
	gq_event_broadcast(&q->fd_cleared);
	pthread_join(q->fd_thread, NULL);
	gq_sys_close(q->completion_fd);
	q->completion_fd = -1;
}
