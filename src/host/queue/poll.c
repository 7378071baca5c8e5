/* SPDX-License-Identifier: Apache-2.0 */
/* poll.c - whatever has finished: poll for it, or poll and take in one call. */
#include "host/base/memory.h"
#include "host/queue/fd.h"
#include "host/queue/handle.h"
#include "host/queue/reap.h"
#include "host/queue/tend.h"

#include <inttypes.h>
#include <string.h>

static QueueStatus no_count(void)
{
	return gq__fail(Q_ERR_INVALID_ARG, "out_count is NULL; allowed: where to put the count");
}

static QueueStatus no_array(size_t max_count)
{
	return gq__failf(Q_ERR_INVALID_ARG,
			 "the output array is NULL with max_count %zu; allowed: NULL only with "
			 "max_count 0",
			 max_count);
}

static void harvest(GpuQueue *q, struct gq_harvest *h)
{
	pthread_mutex_lock(&q->reap_lock);
	gq__harvest(q, h);
	/* A descriptor that somebody waits on stays readable while more is there. */
	if (q->fd_readable != 0 && h->n == h->max)
		gq__find_unpolled(q, &h->left);
	gq__clear_fd(q);
	pthread_mutex_unlock(&q->reap_lock);
}

static inline bool nothing_there(GpuQueue *q, size_t max_count)
{
	if (max_count != 0 && !gq_nothing_to_poll(q))
		return false;
	gq_tend(q);
	return true;
}

/* A function of its own, so that a poll that finds nothing needs no frame. */
static __attribute__((noinline)) QueueStatus poll_found(GpuQueue *q, uint64_t *ids, Completion *out,
							size_t max_count, size_t *out_count)
{
	struct gq_harvest h = { .ids = ids, .out = out, .max = max_count, .left = GQ_MOST_AT_ONCE };

	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_POLL, max_count);
	harvest(q, &h);
	*out_count = h.n;
	return Q_OK;
}

/* Of `ids` and `out` one is NULL. */
static inline QueueStatus poll_finished(GpuQueue *q, uint64_t *ids, Completion *out,
					size_t max_count, size_t *out_count)
{
	if (out_count != NULL)
		*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (__builtin_expect(out_count == NULL, 0))
		return no_count();
	if (__builtin_expect(ids == NULL && out == NULL && max_count != 0, 0))
		return no_array(max_count);
	if (nothing_there(q, max_count))
		return Q_OK;
	return poll_found(q, ids, out, max_count, out_count);
}

QueueStatus q_poll_completions(GpuQueue *q, uint64_t *out_msg_ids, size_t max_count,
			       size_t *out_count)
{
	return poll_finished(q, out_msg_ids, NULL, max_count, out_count);
}

QueueStatus q_poll_results(GpuQueue *q, Completion *out, size_t max_count, size_t *out_count)
{
	return poll_finished(q, NULL, out, max_count, out_count);
}

/* ---- poll and take --------------------------------------------------------------------------- */

enum { TAKE_CHUNK = 64 }; /* results that are copied, and slots returned, in one go */

/* Copy the results of messages that are the caller's, one behind the other, and return their slots.
 * @return how far the buffer is full */
static size_t copy_and_free(GpuQueue *q, Completion *out, size_t n, char *buffer, size_t bytes,
			    size_t used)
{
	uint64_t ids[TAKE_CHUNK];

	for (size_t i = 0; i < n; i++) {
		char *at = buffer + used;

		if (out[i].result_len != 0)
			memcpy(at, out[i].result, out[i].result_len);
		out[i].result = at;
		used += gq_round_up(out[i].result_len, GQ_RESULT_STEP);
		used = used < bytes ? used : bytes;
		ids[i] = out[i].msg_id;
	}
	gq__free_slots(q, ids, (uint32_t)n);
	return used;
}

static QueueStatus take_results(GpuQueue *q, Completion *out, size_t max_count, char *buffer,
				size_t buffer_bytes, size_t *out_count)
{
	struct gq_harvest h = { .take = true, .room = buffer_bytes, .left = GQ_MOST_AT_ONCE };
	size_t used = 0, n = 0;

	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_TAKE, max_count);
	do {
		h.out = out + n;
		h.n = 0;
		h.max = max_count - n < TAKE_CHUNK ? max_count - n : TAKE_CHUNK;
		harvest(q, &h);
		if (h.n != 0)
			used = copy_and_free(q, out + n, h.n, buffer, buffer_bytes, used);
		n += h.n;
	} while (h.n == TAKE_CHUNK && n < max_count);
	*out_count = n;
	if (h.full && n == 0)
		return gq__failf(Q_ERR_BUFFER_TOO_SMALL,
				 "buffer_bytes is %zu; the next result has %" PRIu32, buffer_bytes,
				 h.next_len);
	return Q_OK;
}

QueueStatus q_take_results(GpuQueue *q, Completion *out, size_t max_count, void *buffer,
			   size_t buffer_bytes, size_t *out_count)
{
	if (out_count != NULL)
		*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (out_count == NULL)
		return no_count();
	if (out == NULL && max_count != 0)
		return no_array(max_count);
	if (buffer == NULL && buffer_bytes != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "buffer is NULL with buffer_bytes %zu; allowed: NULL only with 0",
				 buffer_bytes);
	if (buffer == NULL)
		return q_poll_results(q, out, max_count, out_count);
	if (nothing_there(q, max_count))
		return Q_OK;
	return take_results(q, out, max_count, buffer, buffer_bytes, out_count);
}
