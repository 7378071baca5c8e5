/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - the calls of a reader, wherever its writer is. */
#include "host/pipe/bytes.h"
#include "host/pipe/pace.h"
#include "host/pipe/pipe.h"

#include <errno.h>
#include <inttypes.h>

/* ---- reading --------------------------------------------------------------------------------- */

/* The reader goes on at `position`; a writer that waits for room may go on. */
static void move_to(PipeReader *r, uint64_t position)
{
	const uint64_t from = gq_load_relaxed_u64(&r->position);

	if (r->source.policy != Q_PIPE_WAIT) {
		gq_store_release_u64(&r->position, position); /* [pipe.consume] */
		return;
	}
	gq_store_seq_cst_u64(&r->position, position); /* [pipe.consume] */
	if (r->pipe != NULL)
		gq__pipe_moved(r->pipe, from, position);
}

/* Bytes were forgotten before they were read. @return whether the reader is cut off. */
static enum gq_pipe_sight lag(PipeReader *r, const struct gq_pipe_view *v)
{
	const uint64_t flags = gq_load_relaxed_u64(&r->flags);
	const bool cut = r->source.policy == Q_PIPE_EVICT && (flags & GQ_READER_LATE) == 0;

	gq_store_relaxed_u64(&r->flags, cut ? GQ_READER_CUT : 0);
	if (!cut && v->begin > v->position)
		move_to(r, v->begin);
	if (r->pipe != NULL) {
		gq_fetch_add_relaxed_u64(&r->pipe->lagged, 1);
		if (cut)
			gq_fetch_add_relaxed_u64(&r->pipe->evicted, 1);
	}
	return cut ? GQ_SEES_CUT : GQ_SEES_LAG;
}

struct reading {
	uint8_t *to;
	size_t cap, len;
	struct gq_pipe_view view;
};

static enum gq_pipe_sight read_once(PipeReader *r, struct reading *a)
{
	struct gq_pipe_view *v = &a->view;
	const enum gq_pipe_sight found = gq__pipe_look(r, v);
	uint64_t n;

	if (found == GQ_SEES_LAG)
		return lag(r, v);
	if (found != GQ_SEES_DATA)
		return found;
	n = a->cap < v->bytes ? a->cap : v->bytes;
	GQ_WINDOW();
	gq__pipe_get(&r->source, v->position, a->to, n);
	if (gq_pipe_overwrites(&r->source)) {
		/* Whether a byte of them was overwritten meanwhile: then [pipe.copy] has made the
		 * `begin` visible that was stored before. */
		v->begin = gq_load_relaxed_u64(&r->source.head->begin);
		if (v->position < v->begin)
			return lag(r, v);
	}
	move_to(r, v->position + n);
	a->len = (size_t)n;
	return found;
}

static enum gq_pipe_sight doze(PipeReader *r, struct reading *a, struct gq_wait *wait)
{
	enum gq_pipe_sight found = GQ_SEES_NOTHING;

	while (found == GQ_SEES_NOTHING && gq__pipe_doze_next(r, wait))
		found = read_once(r, a);
	gq__wait_end(wait);
	return found;
}

static enum gq_pipe_sight read_until(PipeReader *r, struct reading *a, uint32_t timeout_ms)
{
	const uint64_t deadline_ns = gq__deadline_ns(timeout_ms);
	enum gq_pipe_sight found = read_once(r, a);
	struct gq_wait wait;
	bool dozes;

	if (found != GQ_SEES_NOTHING || timeout_ms == 0)
		return found;
	dozes = gq__pipe_doze_begin(r, &wait, deadline_ns);
	if (dozes)
		found = doze(r, a, &wait);
	if (found != GQ_SEES_NOTHING)
		return found;
	gq__pipe_wait_begin(r, &wait, &r->asleep, deadline_ns);
	if (dozes)
		wait.spin_ns = 0; /* it has waited long enough for that */
	while (found == GQ_SEES_NOTHING && gq__wait_next(&wait))
		found = read_once(r, a);
	gq__pipe_wait_end(r, &wait, &r->asleep);
	return found;
}

/* ---- what it says ---------------------------------------------------------------------------- */

/* Of the writer; the number of set_error() only while that stands. */
static int writers_error(const PipeReader *r)
{
	const struct gq_pipe_head *head = r->source.head;

	if ((gq_load_acquire_u64(&head->end) & GQ_PIPE_ERROR) != 0) /* [pipe.read] */
		return (int)(uint32_t)gq_load_relaxed_u64(&head->error);
	return (int)gq_load_relaxed_u64(&r->failure);
}

static QueueStatus explain_failure(const PipeReader *r)
{
	const int error = writers_error(r);

	switch (gq_load_relaxed_u64(&r->failure)) {
	case EOWNERDEAD:
		return gq__fail(Q_ERR_FAILED,
				"the writer's process has ended and has not closed the pipe");
	case EPROTO:
		return gq__fail(Q_ERR_FAILED, "the pipe's memory holds what no pipe writes");
	default:
		return gq__failf(Q_ERR_FAILED, "the writer's error is %d", error);
	}
}

static QueueStatus explain_lag(const struct gq_pipe_view *v, bool cut)
{
	if (cut)
		return gq__failf(Q_ERR_LAGGED,
				 "this reader is cut off: it needed offset %" PRIu64
				 ", and the oldest byte kept is %" PRIu64,
				 v->position, v->begin);
	return gq__failf(Q_ERR_LAGGED,
			 "bytes were dropped before they were read; reading goes on at offset "
			 "%" PRIu64,
			 v->begin > v->position ? v->begin : v->position);
}

static QueueStatus explain(PipeReader *r, const struct reading *a, enum gq_pipe_sight found,
			   uint32_t timeout_ms)
{
	switch (found) {
	case GQ_SEES_DATA:
	case GQ_SEES_END:
		return Q_OK;
	case GQ_SEES_OWN_ERROR:
		return gq__failf(Q_ERR_FAILED, "the reader's own error is %d",
				 (int)(uint32_t)gq_load_relaxed_u64(&r->own_error));
	case GQ_SEES_ERROR:
		return explain_failure(r);
	case GQ_SEES_LAG:
	case GQ_SEES_CUT:
		return explain_lag(&a->view, found == GQ_SEES_CUT);
	default:
		return timeout_ms == 0 ? gq__fail(Q_ERR_EMPTY, "nothing in the pipe")
				       : gq__fail(Q_ERR_TIMEOUT, "timed out: nothing was written");
	}
}

/* ---- the calls ------------------------------------------------------------------------------- */

QueueStatus q_pipe_read(PipeReader *r, void *buf, size_t cap, size_t *out_len, uint32_t timeout_ms)
{
	struct reading a = { .to = buf, .cap = cap };
	QueueStatus status;
	enum gq_pipe_sight found;

	if (out_len == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out_len is NULL");
	*out_len = 0;
	GQ_RETURN_IF_REFUSED(gq_pipe_reader_enter(r));
	if (buf == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "buf is NULL");
	if (cap == 0)
		return gq__fail(Q_ERR_INVALID_ARG,
				"cap is 0, must be at least 1: length 0 is the stream's end");
	if (!gq_cas_acq_rel_u64(&r->reading, 0, 1)) /* [pipe.read_begin] */
		return gq__fail(Q_ERR_POLICY, "another thread reads from this reader");
	found = read_until(r, &a, timeout_ms);
	*out_len = a.len;
	status = explain(r, &a, found, timeout_ms);
	gq_store_release_u64(&r->reading, 0); /* [pipe.read_end] */
	gq_poll_fd_settle(&r->poll);
	return status;
}

QueueStatus q_pipe_reader_set_error(PipeReader *r, int error)
{
	const uint64_t value = error == 0 ? 0 : GQ_READER_FAILS | (uint32_t)error;

	GQ_RETURN_IF_REFUSED(gq_pipe_reader_enter(r));
	gq_exchange_seq_cst_u64(&r->own_error, value);
	if (r->pipe != NULL) {
		gq_event_broadcast(&r->pipe->data);     /* [wake.look] */
		gq__watch_wake(&r->source.head->beats); /* if it dozes */
	} else if (error != 0) { /* without one a look may find nothing, and go on sleeping */
		gq__pipe_rouse(r, &r->asleep, &r->own_error, value);
		gq__pipe_rouse(r, &r->poll_asleep, &r->own_error, value);
	}
	gq_poll_fd_settle(&r->poll);
	return Q_OK;
}

QueueStatus q_pipe_reader_error(PipeReader *r, int *out_error)
{
	uint64_t own;

	GQ_RETURN_IF_REFUSED(gq_pipe_reader_enter(r));
	if (out_error == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out_error is NULL");
	own = gq_load_seq_cst_u64(&r->own_error);
	*out_error = own != 0 ? (int)(uint32_t)own : writers_error(r);
	return Q_OK;
}

QueueStatus q_pipe_reader_offset(PipeReader *r, uint64_t *out)
{
	GQ_RETURN_IF_REFUSED(gq_pipe_reader_enter(r));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	*out = gq_load_acquire_u64(&r->position); /* [pipe.room] */
	return Q_OK;
}
