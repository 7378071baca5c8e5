/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write.c - adding bytes to a pipe: room by the policy, the bytes, then the new end.
 *
 * Only the thread inside the gate comes here, so `end` is its own, except for the two flags that
 * whoever closes or fails the pipe may set at any time. That is why the end is moved by a
 * compare-and-swap: bytes are in the stream only if it was still open at that instant.
 */
#include "host/base/sys.h"
#include "host/pipe/bytes.h"
#include "host/pipe/pace.h"
#include "host/pipe/pipe.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* The most that is published at once, so that readers need not wait for the end of a long write;
 * and by how much a memfd grows. */
enum { PIECE_BYTES = 256 * 1024 };

/* A write under way: what is left of it. */
struct writing {
	const struct iovec *piece;
	size_t done; /* bytes of *piece */
	size_t left; /* bytes in all */
	size_t written;
};

/* ---- room ------------------------------------------------------------------------------------ */

/* Forget what all readers have read, as far as `wanted` bytes need the room. */
static void forget_read(Pipe *p, uint64_t end, uint64_t wanted)
{
	struct gq_pipe_head *head = p->source.head;
	uint64_t floor = GQ_PIPE_OFFSET, position;

	pthread_mutex_lock(&p->lock);
	for (const PipeReader *r = p->first; r != NULL; r = r->after) {
		position = gq_load_seq_cst_u64(&r->position); /* [pipe.room], [sleep.look] */
		floor = position < floor ? position : floor;
	}
	if (end + wanted - p->source.capacity < floor)
		floor = end + wanted - p->source.capacity;
	/* Without a reader nobody has read anything. */
	if (p->first != NULL && floor > gq_load_relaxed_u64(&head->begin))
		gq_store_relaxed_u64(&head->begin, floor);
	pthread_mutex_unlock(&p->lock);
}

/* Make room for up to `wanted` bytes, at most the capacity. @return for how many there is. */
static uint64_t make_room(Pipe *p, uint64_t end, uint64_t wanted)
{
	const uint64_t capacity = p->source.capacity;
	uint64_t *const begin = &p->source.head->begin;
	uint64_t room = capacity - (end - gq_load_relaxed_u64(begin));

	if (room >= wanted || p->source.policy == Q_PIPE_FAIL)
		return room;
	if (p->source.policy == Q_PIPE_WAIT) {
		forget_read(p, end, wanted);
		return capacity - (end - gq_load_relaxed_u64(begin));
	}
	/* Before the bytes are overwritten: what follows publishes it, [pipe.overwrite] to a reader
	 * that meets a new byte, [pipe.publish] to others. */
	gq_store_relaxed_u64(begin, end + wanted - capacity);
	GQ_WINDOW();
	return wanted;
}

/* Map pages that are there: one call in place of a fault for each. Linux 5.14; before that the
 * faults come. */
static void populate(const Pipe *p, uint64_t from, uint64_t to)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint8_t *const memory = (uint8_t *)p->source.head;

	from = (GQ_PIPE_HEAD_BYTES + from) / page * page;
	(void)madvise(memory + from, (size_t)(GQ_PIPE_HEAD_BYTES + to - from), MADV_POPULATE_WRITE);
}

/* Have pages for the memfd up to `end`: without one a store would raise SIGBUS. */
static bool allocate(Pipe *p, uint64_t end)
{
	const uint64_t capacity = p->source.capacity;
	uint64_t to = end < capacity ? end : capacity;
	long rc;

	if (p->fd < 0 || to <= p->allocated)
		return true;
	if (to < p->allocated + PIECE_BYTES)
		to = p->allocated + PIECE_BYTES < capacity ? p->allocated + PIECE_BYTES : capacity;
	do
		rc = syscall(SYS_fallocate, p->fd, 0, (off_t)(GQ_PIPE_HEAD_BYTES + p->allocated),
			     (off_t)(to - p->allocated));
	while (rc != 0 && errno == EINTR);
	if (rc != 0)
		return false;
	populate(p, p->allocated, to);
	p->allocated = to;
	return true;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Put the next n bytes at `offset`. @return what is left then. */
static struct writing put(const Pipe *p, struct writing w, uint64_t offset, uint64_t n)
{
	w.left -= (size_t)n;
	w.written += (size_t)n;
	while (n != 0) {
		const uint64_t k = smaller(n, w.piece->iov_len - w.done);

		if (k != 0) /* an empty piece may have no address */
			gq__pipe_put(&p->source, offset,
				     (const uint8_t *)w.piece->iov_base + w.done, k);
		offset += k;
		n -= k;
		w.done += (size_t)k;
		if (w.done == w.piece->iov_len) {
			w.piece++;
			w.done = 0;
		}
	}
	return w;
}

/* Whether the stream takes bytes. The sentence is said by explain(). */
static QueueStatus state_of(uint64_t word)
{
	if ((word & GQ_PIPE_CLOSED) != 0)
		return Q_ERR_SHUTDOWN;
	return (word & GQ_PIPE_ERROR) != 0 ? Q_ERR_FAILED : Q_OK;
}

static bool is_broken(const Pipe *p)
{
	/* [sleep.look] for a writer that waits for room. */
	const uint64_t audience = gq_load_seq_cst_u64(&p->audience);

	return gq_pipe_readers(audience) == 0 && (audience & GQ_AUDIENCE_HAD) != 0 &&
	       (audience & GQ_AUDIENCE_SHARED) == 0;
}

/* Write as much as there is room for. @return Q_OK: all; Q_ERR_FULL, or why not. */
static QueueStatus write_some(Pipe *p, struct writing *w)
{
	struct gq_pipe_head *head = p->source.head;
	struct writing next;

	for (;;) {
		const uint64_t word = gq_load_seq_cst_u64(&head->end), end = gq_pipe_offset(word);
		const QueueStatus state = state_of(word);
		uint64_t n;

		if (state != Q_OK || w->left == 0)
			return state;
		if (is_broken(p))
			return Q_ERR_BROKEN;
		n = smaller(smaller(w->left, PIECE_BYTES), p->source.capacity);
		n = smaller(make_room(p, end, n), n);
		if (n == 0)
			return Q_ERR_FULL;
		if (!allocate(p, end + n))
			return Q_ERR_NO_MEMORY;
		next = put(p, *w, end, n);
		GQ_WINDOW();
		if (!gq_cas_seq_cst_u64(&head->end, word, word + n)) /* [pipe.publish] */
			continue; /* it has been closed, or has failed */
		*w = next;
		gq__pipe_published(p, end + n);
	}
}

/* ---- the calls ------------------------------------------------------------------------------- */

static QueueStatus write_until(Pipe *p, struct writing *w, uint64_t deadline_ns)
{
	QueueStatus status = write_some(p, w);
	struct gq_wait wait;

	if (status != Q_ERR_FULL)
		return status;
	gq_fetch_add_relaxed_u64(&p->full, 1);
	if (p->source.policy != Q_PIPE_WAIT || deadline_ns == 0)
		return status;
	gq__pipe_room_begin(p, &wait, deadline_ns);
	while (status == Q_ERR_FULL && gq__pipe_room_next(p, &wait))
		status = write_some(p, w);
	gq__wait_end(&wait);
	return status == Q_ERR_FULL ? Q_ERR_TIMEOUT : status;
}

static QueueStatus explain(const Pipe *p, QueueStatus status)
{
	switch (status) {
	case Q_ERR_SHUTDOWN:
		return gq__fail(status, "the pipe is closed");
	case Q_ERR_FAILED:
		return gq__failf(status, "the pipe has the error %d of q_pipe_set_error()",
				 (int)(uint32_t)gq_load_relaxed_u64(&p->source.head->error));
	case Q_ERR_BROKEN:
		return gq__fail(status, "nobody reads any more: all readers have been closed");
	case Q_ERR_FULL:
		return gq__fail(status, "no room in the pipe");
	case Q_ERR_TIMEOUT:
		return gq__fail(status, "timed out: no room in the pipe");
	case Q_ERR_NO_MEMORY:
		return gq__fail(status, "out of memory: no pages for the pipe's memfd");
	default:
		return status;
	}
}

/* Check the pieces. @return Q_OK, with how many bytes they have. */
static QueueStatus measure(const struct iovec *pieces, int count, size_t *out_bytes)
{
	size_t bytes = 0;

	if (count < 0 || count > IOV_MAX)
		return gq__failf(Q_ERR_INVALID_ARG, "count is %d, must be 0 to %d", count, IOV_MAX);
	if (pieces == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "pieces is NULL but count is %d", count);
	for (int i = 0; i < count; i++) {
		if (pieces[i].iov_base == NULL && pieces[i].iov_len != 0)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "iov_base is NULL but iov_len is %zu (piece %d of %d)",
					 pieces[i].iov_len, i, count);
		if (pieces[i].iov_len > SIZE_MAX - bytes)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "the pieces have more than %zu bytes in all", SIZE_MAX);
		bytes += pieces[i].iov_len;
	}
	*out_bytes = bytes;
	return Q_OK;
}

static QueueStatus write_all(Pipe *p, struct writing *w, uint32_t timeout_ms)
{
	const uint64_t deadline_ns = gq__deadline_ns(timeout_ms);
	QueueStatus status;

	/* Others than Q_PIPE_WAIT copy and leave. */
	if (!gq__pipe_gate_enter(p, p->source.policy == Q_PIPE_WAIT ? deadline_ns : GQ_FOR_EVER))
		return timeout_ms == 0 ? Q_ERR_FULL : Q_ERR_TIMEOUT;
	status = write_until(p, w, deadline_ns);
	gq__pipe_gate_leave(p);
	return status;
}

QueueStatus q_pipe_writev(Pipe *p, const struct iovec *pieces, int count, size_t *out_written,
			  uint32_t timeout_ms)
{
	struct writing w = { .piece = pieces };
	QueueStatus status;

	if (out_written != NULL)
		*out_written = 0;
	GQ_RETURN_IF_REFUSED(gq_pipe_enter(p));
	GQ_RETURN_IF_REFUSED(measure(pieces, count, &w.left));
	if (w.left == 0)
		return explain(p, state_of(gq_load_seq_cst_u64(&p->source.head->end)));
	status = write_all(p, &w, timeout_ms);
	if (out_written != NULL)
		*out_written = w.written;
	return explain(p, status);
}

QueueStatus q_pipe_write(Pipe *p, const void *data, size_t len, size_t *out_written,
			 uint32_t timeout_ms)
{
	/* The library only reads from it.
	 * NOLINTNEXTLINE(performance-no-int-to-ptr) */
	const struct iovec piece = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };

	if (data == NULL && len != 0) {
		if (out_written != NULL)
			*out_written = 0;
		GQ_RETURN_IF_REFUSED(gq_pipe_enter(p));
		return gq__failf(Q_ERR_INVALID_ARG, "data is NULL but len is %zu", len);
	}
	return q_pipe_writev(p, &piece, 1, out_written, timeout_ms);
}
