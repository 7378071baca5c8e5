/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c - readers are opened, attached and closed; a pipe is shared. */
#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/pipe/pipe.h"
#include "host/pipe/poll_fd.h"
#include "host/pipe/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* ---- in the writer's process ----------------------------------------------------------------- */

static PipeReader *make(const struct gq_pipe_source *source)
{
	PipeReader *r = gq__alloc(sizeof(*r), "a pipe's reader");

	if (r == NULL)
		return NULL;
	r->generation = gq__generation;
	r->source = *source;
	r->sleeps_next = true;
	gq__pipe_poll_begin(r);
	return r;
}

/* Under the lock, so that a writer that needs room knows the reader before it forgets more. */
static void add(Pipe *p, PipeReader *r)
{
	const uint64_t begin = gq_load_relaxed_u64(&p->source.head->begin);

	r->pipe = p;
	r->position = begin;
	r->flags = begin != 0 ? GQ_READER_LATE : 0;
	r->after = p->first;
	if (p->first != NULL)
		p->first->before = r;
	p->first = r;
	p->opened++;
	gq_store_seq_cst_u64(&p->audience, (p->audience | GQ_AUDIENCE_HAD) + 1);
}

QueueStatus q_pipe_reader_open(Pipe *p, PipeReader **out)
{
	PipeReader *r;

	GQ_RETURN_IF_REFUSED(gq_pipe_enter(p));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	r = make(&p->source);
	if (r == NULL)
		return Q_ERR_NO_MEMORY;
	gq_fetch_add_seq_cst_u64(&p->refs, 1);
	pthread_mutex_lock(&p->lock);
	add(p, r);
	pthread_mutex_unlock(&p->lock);
	*out = r;
	return Q_OK;
}

static void leave(PipeReader *r)
{
	Pipe *p = r->pipe;

	pthread_mutex_lock(&p->lock);
	if (r->before != NULL)
		r->before->after = r->after;
	else
		p->first = r->after;
	if (r->after != NULL)
		r->after->before = r->before;
	gq_store_seq_cst_u64(&p->audience, p->audience - 1);
	if ((r->flags & GQ_READER_CUT) != 0)
		gq_fetch_add_relaxed_u64(&p->evicted, UINT64_MAX);
	pthread_mutex_unlock(&p->lock);
	gq_event_broadcast(&p->room); /* [wake.look] */
	gq__pipe_drop(p);
}

void q_pipe_reader_close(PipeReader *r)
{
	if (r == NULL || r->generation != gq__generation)
		return;
	gq__pipe_poll_end(r);
	if (r->pipe != NULL) {
		leave(r);
	} else {
		gq__pipe_author_end(&r->author);
		gq__pipe_unmap(&r->source);
	}
	gq__free(r, sizeof(*r));
}

/* ---- for other processes --------------------------------------------------------------------- */

QueueStatus q_pipe_attach(int fd, PipeReader **out)
{
	struct gq_pipe_source source;
	struct gq_pipe_trace trace;
	QueueStatus status;
	PipeReader *r;
	uint64_t begin;

	GQ_NO_CANCEL();
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	gq__watch_forks();
	status = gq__pipe_map_shared(fd, &source, &trace);
	if (status != Q_OK)
		return status;
	r = make(&source);
	if (r == NULL) {
		gq__pipe_unmap(&source);
		return Q_ERR_NO_MEMORY;
	}
	gq__pipe_author_begin(&r->author, &trace);
	(void)gq_load_acquire_u64(&source.head->end); /* [pipe.read]: `begin` no older than that */
	begin = gq_load_relaxed_u64(&source.head->begin);
	r->position = begin;
	r->flags = begin != 0 ? GQ_READER_LATE : 0;
	*out = r;
	return Q_OK;
}

/* Another open file of the memfd, which can only be read from: seals keep others from writing, too.
 */
static int open_again(int memfd)
{
	char path[64];
	int fd = -1;

	if (!gq__fault()) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
		fd = gq_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
		if (fd < 0 && errno != EMFILE && errno != ENFILE) /* no /proc */
			fd = fcntl(memfd, F_DUPFD_CLOEXEC, 0);
	}
	if (fd < 0)
		gq__failf(Q_ERR_LIMIT, "no descriptor to be had for q_pipe_share: %s",
			  strerror(errno));
	return fd;
}

int q_pipe_share(Pipe *p)
{
	QueueStatus status = Q_OK;
	int fd = -1;

	if (gq_pipe_enter(p) != Q_OK)
		return -1;
	if (p->source.policy != Q_PIPE_FAIL && p->source.policy != Q_PIPE_DROP_HISTORY) {
		gq__failf(Q_ERR_POLICY,
			  "policy is %u, must be %d or %d: the others need to know every reader",
			  (unsigned)p->source.policy, Q_PIPE_FAIL, Q_PIPE_DROP_HISTORY);
		return -1;
	}
	GQ_NO_CANCEL();
	(void)gq__pipe_gate_enter(p, GQ_FOR_EVER); /* without Q_PIPE_WAIT nobody stays inside */
	pthread_mutex_lock(&p->lock);
	if (p->fd < 0)
		status = gq__pipe_move_to_memfd(p);
	if (status == Q_OK)
		fd = open_again(p->fd);
	if (fd >= 0) /* [setup.write]: the descriptor goes out after that */
		gq_store_seq_cst_u64(&p->audience, p->audience | GQ_AUDIENCE_SHARED);
	pthread_mutex_unlock(&p->lock);
	gq__pipe_gate_leave(p);
	return fd;
}
