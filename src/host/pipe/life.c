/* SPDX-License-Identifier: Apache-2.0 */
/* life.c - the writer's handle: made, closed, failed, given back; and what it says of itself. */
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/pipe/pace.h"
#include "host/pipe/pipe.h"
#include "host/pipe/storage.h"

#include <inttypes.h>

QueueStatus gq__pipe_refuse(bool is_null, const char *what)
{
	if (is_null)
		return gq__failf(Q_ERR_INVALID_ARG, "%s is NULL", what);
	return gq__failf(Q_ERR_UNSUPPORTED,
			 "this %s was made before fork(); a child attaches by the descriptor of "
			 "q_pipe_share()",
			 what);
}

/* ---- making ---------------------------------------------------------------------------------- */

static QueueStatus check_config(const PipeConfig *cfg)
{
	if (cfg->max_bytes > Q_MAX_PIPE_BYTES)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "max_bytes is %" PRIu64 ", must be 1 to %" PRIu64
				 " (0: the default)",
				 cfg->max_bytes, Q_MAX_PIPE_BYTES);
	if (cfg->policy > Q_PIPE_EVICT)
		return gq__failf(Q_ERR_INVALID_ARG, "policy is %" PRIu32 ", must be 0 to %d",
				 cfg->policy, Q_PIPE_EVICT);
	if (cfg->flags != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "flags is %#" PRIx32 ", must be 0", cfg->flags);
	return GQ_CHECK_RESERVED(cfg, reserved);
}

QueueStatus q_pipe_create(const PipeConfig *cfg, Pipe **out)
{
	static const PipeConfig defaults;
	QueueStatus status;
	Pipe *p;

	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (cfg == NULL)
		cfg = &defaults;
	status = check_config(cfg);
	if (status != Q_OK)
		return status;
	gq__watch_forks();
	p = gq__alloc(sizeof(*p), "a pipe");
	if (p == NULL)
		return Q_ERR_NO_MEMORY;
	status = gq__pipe_map_private(&p->source,
				      cfg->max_bytes != 0 ? cfg->max_bytes : Q_DEFAULT_PIPE_BYTES,
				      cfg->policy);
	if (status != Q_OK) {
		gq__free(p, sizeof(*p));
		return status;
	}
	p->generation = gq__generation;
	p->refs = 1;
	p->fd = -1;
	pthread_mutex_init(&p->lock, NULL);
	*out = p;
	return Q_OK;
}

void gq__pipe_drop(Pipe *p)
{
	if (gq_fetch_add_seq_cst_u64(&p->refs, UINT64_MAX) != 1) /* [ref.drop], [ref.last] */
		return;
	if (p->fd >= 0)
		gq_sys_close(p->fd);
	gq__pipe_unmap(&p->source);
	pthread_mutex_destroy(&p->lock);
	gq__free(p, sizeof(*p));
}

void q_pipe_destroy(Pipe *p)
{
	if (p == NULL || p->generation != gq__generation)
		return;
	q_pipe_close(p);
	if (!p->pooled)
		gq__pipe_drop(p);
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* Everybody who waits for something that will not come. */
static void wake_all(Pipe *p)
{
	gq__pipe_wake_readers(p);
	gq_event_broadcast(&p->room); /* [wake.look] */
}

QueueStatus q_pipe_close(Pipe *p)
{
	uint64_t before;

	GQ_RETURN_IF_REFUSED(gq_pipe_enter(p));
	/* The lock: not while the memory is replaced. */
	pthread_mutex_lock(&p->lock);
	before = gq_fetch_or_seq_cst_u64(&p->source.head->end, GQ_PIPE_CLOSED); /* [pipe.publish] */
	pthread_mutex_unlock(&p->lock);
	if ((before & GQ_PIPE_CLOSED) == 0)
		wake_all(p);
	return Q_OK;
}

/* Under the lock; the writer may move the offset meanwhile. */
static void take_error_back(uint64_t *end)
{
	uint64_t word;

	do
		word = gq_load_seq_cst_u64(end);
	while (!gq_cas_seq_cst_u64(end, word, word & ~GQ_PIPE_ERROR)); /* [pipe.publish] */
}

QueueStatus q_pipe_set_error(Pipe *p, int error)
{
	struct gq_pipe_head *head;
	bool closed;

	GQ_RETURN_IF_REFUSED(gq_pipe_enter(p));
	head = p->source.head;
	pthread_mutex_lock(&p->lock);
	closed = (gq_load_seq_cst_u64(&head->end) & GQ_PIPE_CLOSED) != 0;
	if (!closed && error != 0) {
		gq_store_relaxed_u64(&head->error, (uint32_t)error);
		gq_fetch_or_seq_cst_u64(&head->end, GQ_PIPE_ERROR); /* [pipe.publish] */
	} else if (!closed) {
		take_error_back(&head->end);
	}
	pthread_mutex_unlock(&p->lock);
	if (closed)
		return gq__fail(Q_ERR_SHUTDOWN, "the pipe is closed; it ends as it did then");
	wake_all(p);
	return Q_OK;
}

/* ---- what it says of itself ------------------------------------------------------------------ */

static uint64_t slowest(const Pipe *p, uint64_t end)
{
	uint64_t least = end, position;

	for (const PipeReader *r = p->first; r != NULL; r = r->after) {
		position = gq_load_acquire_u64(&r->position); /* [pipe.room] */
		least = position < least ? position : least;
	}
	return least;
}

QueueStatus q_pipe_stats(Pipe *p, PipeStats *out)
{
	struct gq_pipe_head *head;
	uint64_t word, begin;

	GQ_RETURN_IF_REFUSED(gq_pipe_enter(p));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	head = p->source.head;
	pthread_mutex_lock(&p->lock);
	begin = gq_load_relaxed_u64(&head->begin); /* first: it is never above a later end */
	word = gq_load_seq_cst_u64(&head->end);
	*out = (PipeStats){
		.written = gq_pipe_offset(word),
		.forgotten = begin,
		.kept = gq_pipe_offset(word) - begin,
		.max_bytes = p->source.capacity,
		.slowest = slowest(p, gq_pipe_offset(word)),
		.full = gq_load_relaxed_u64(&p->full),
		.lagged = gq_load_relaxed_u64(&p->lagged),
		.opened = p->opened,
		.readers = gq_pipe_readers(p->audience),
		.evicted = (uint32_t)gq_load_relaxed_u64(&p->evicted),
		.closed = (word & GQ_PIPE_CLOSED) != 0,
		.error = (word & GQ_PIPE_ERROR) != 0
				 ? (int32_t)(uint32_t)gq_load_relaxed_u64(&head->error)
				 : 0,
	};
	pthread_mutex_unlock(&p->lock);
	return Q_OK;
}
