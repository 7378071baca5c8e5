/* SPDX-License-Identifier: Apache-2.0 */
/* author.c - whether the process that writes a pipe lives: a pidfd, and what /proc shows. */
#include "host/pipe/author.h"

#include "device/protocol/atomics.h"
#include "host/base/clock.h"
#include "host/base/fault.h"
#include "host/base/sys.h"
#include "host/shm/peer.h"

#include <poll.h>
#include <signal.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

enum { LOOK_EVERY_NS = 100000000 };

#define LOW_32_BITS UINT64_C(0xffffffff)

struct gq_pipe_trace gq__pipe_trace_own(void)
{
	const uint64_t id = (uint64_t)getpid();
	struct gq_pipe_trace t = { .writer = gq__peer_namespace() << GQ_OWNER_ID_BITS | id };
	uint64_t stack = 0;

	if (!gq__peer_process_shown(id, &t.began, &stack))
		t.began = stack = 0;
	t.place = stack << 32 | (gq__peer_time_namespace() & LOW_32_BITS);
	return t;
}

/* Whether no process has the id. Some sandboxes refuse the question without looking. */
static bool nobody_has(uint64_t id)
{
	return syscall(SYS_kill, (pid_t)id, 0) != 0 && errno == ESRCH &&
	       syscall(SYS_kill, getpid(), 0) == 0;
}

/* Whether /proc shows another process, or another program, under the writer's id. */
static bool is_another(const struct gq_pipe_trace *t)
{
	const uint64_t time = gq__peer_time_namespace(), told = t->place >> 32;
	uint64_t began, stack;

	if (!gq__peer_process_shown(gq_owner_id(t->writer), &began, &stack))
		return false;
	if (time != 0 && time == (t->place & LOW_32_BITS) && t->began != 0 && began != 0 &&
	    began != t->began)
		return true;
	return stack != 0 && told != 0 && stack != told;
}

/* A pidfd is readable once all threads of its process have ended. */
static bool has_ended(int pidfd)
{
	struct pollfd ready = { .fd = pidfd, .events = POLLIN };
	const struct timespec none = { 0 };

	return syscall(SYS_ppoll, &ready, 1, &none, NULL, (size_t)8) == 1 &&
	       (ready.revents & POLLIN) != 0;
}

static bool look(struct gq_pipe_author *a)
{
	if (a->pidfd >= 0 ? has_ended(a->pidfd) : nobody_has(gq_owner_id(a->trace.writer)))
		return true;
	return is_another(&a->trace);
}

void gq__pipe_author_begin(struct gq_pipe_author *a, const struct gq_pipe_trace *trace)
{
	const uint64_t id = gq_owner_id(trace->writer), here = gq__peer_namespace();

	*a = (struct gq_pipe_author){ .trace = *trace, .pidfd = -1 };
	a->judged = id != 0 && here != 0 && gq_owner_namespace(trace->writer) == here;
	if (!a->judged)
		return;
	/* If the id is another process's by now, look() finds that out: the pidfd comes first. */
	a->pidfd = gq__fault() ? -1 : (int)syscall(SYS_pidfd_open, (pid_t)id, 0);
	a->dead = look(a);
}

void gq__pipe_author_end(struct gq_pipe_author *a)
{
	if (a->pidfd >= 0)
		gq_sys_close(a->pidfd);
}

bool gq__pipe_author_is_dead(struct gq_pipe_author *a)
{
	uint64_t now;

	if (!a->judged)
		return false;
	if (gq_load_relaxed_u64(&a->dead) != 0)
		return true;
	now = gq__now_ns();
	if (now < gq_load_relaxed_u64(&a->next_look_ns))
		return false;
	gq_store_relaxed_u64(&a->next_look_ns, now + LOOK_EVERY_NS);
	if (!look(a))
		return false;
	gq_store_relaxed_u64(&a->dead, 1);
	return true;
}
