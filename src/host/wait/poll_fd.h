/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll_fd.h - a descriptor that is readable while a handle may have something for its caller.
 *
 * Whoever brings something knows nothing of descriptors: it wakes the threads that sleep. So a
 * thread of the library sleeps as a caller's would, and makes the descriptor readable when it finds
 * something. It takes nothing. A call of the handle that leaves nothing makes it unreadable again,
 * and only then does the thread go back to sleep with the callers: there is one write to the
 * descriptor per emptying, not per message.
 *
 * Nothing is lost. A call clears under the lock, and only after a look that finds nothing. What
 * comes after that look comes before the thread's own look, or finds it asleep ([wake.look],
 * [sleep.look]).
 */
#ifndef GPUQ_WAIT_POLL_FD_H
#define GPUQ_WAIT_POLL_FD_H

#include "wait.h"

#include <pthread.h>

/* What is different for each kind of handle. */
struct gq_poll_fd_kind {
	const char *call;   /* that makes it, for errors */
	const char *thread; /* the thread's name */
	bool (*finds_something)(void *handle);
	/* Sleeps as a caller does until gq_poll_fd_has_to_quit() or gq__poll_fd_announce(), which
	 * are looked at each time it has been woken. */
	void (*await)(void *handle);
	void (*rouse)(void *handle); /* ends that sleep */
};

struct gq_poll_fd {
	const struct gq_poll_fd_kind *kind;
	void *handle;
	pthread_mutex_t lock; /* held for a look and a system call, never across a wait */
	int fd;
	bool is_there; /* `fd` and `thread`; under the lock, and at the end */
	pthread_t thread;
	struct gq_event cleared; /* the thread sleeps on it while the descriptor is readable */
	uint32_t readable;       /* written under the lock */
	uint32_t quit;
};

/* Before the first call on the handle. */
void gq__poll_fd_begin(struct gq_poll_fd *p, const struct gq_poll_fd_kind *kind, void *handle);

/* After the last. `forked`: in a child, where there is no thread to end. */
void gq__poll_fd_end(struct gq_poll_fd *p, bool forked);

/* The descriptor, made by the first call. @return -1, with q_last_error() */
int gq__poll_fd_get(struct gq_poll_fd *p);

/* By the thread: makes it readable if there is something. @return whether it is readable */
bool gq__poll_fd_announce(struct gq_poll_fd *p);

static inline bool gq_poll_fd_has_to_quit(const struct gq_poll_fd *p)
{
	return gq_load_seq_cst_u32(&p->quit) != 0;
}

/* Makes it unreadable if there is nothing. */
void gq__poll_fd_clear(struct gq_poll_fd *p);

/* To be called by a call of the handle that has found nothing, or may have left nothing. */
static inline void gq_poll_fd_settle(struct gq_poll_fd *p)
{
	if (__builtin_expect(gq_load_seq_cst_u32(&p->readable) != 0, 0))
		gq__poll_fd_clear(p);
}

#endif /* GPUQ_WAIT_POLL_FD_H */
