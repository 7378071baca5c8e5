/* SPDX-License-Identifier: Apache-2.0 */
/* take.c - finished messages by id: read their results, take them, release them. */
#include "host/queue/fd.h"
#include "host/queue/finished.h"
#include "host/queue/handle.h"
#include "host/queue/outcome.h"
#include "host/queue/tend.h"

#include <inttypes.h>
#include <string.h>

/* ---- taking by id ---------------------------------------------------------------------------- */

/*
 * The state of a message that has finished. It reaps if the message has not.
 * @return Q_OK; Q_ERR_NOT_READY; Q_ERR_NOT_FOUND.
 */
static QueueStatus find_finished(GpuQueue *q, uint64_t msg_id, uint64_t *state)
{
	for (int look = 0; look < 2; look++) {
		*state = gq_look_up(q, msg_id); /* [state.read] */
		switch (gq_phase_of(*state)) {
		case GQ_FREE:
			return gq__unknown_message();
		case GQ_DONE:
		case GQ_POLLED:
			return Q_OK;
		default:
			if (look == 0)
				gq__reap(q, false);
		}
	}
	gq_tend(q);
	return gq__fail(Q_ERR_NOT_READY, "the message has not finished yet");
}

/* Become the thread that takes a finished message. It owns the slot until gq__free_slots(). */
static bool win(GpuQueue *q, uint64_t msg_id, uint64_t state)
{
	return gq_cas_seq_cst_u64(&gq_host_slot_of(q, msg_id)->state, state,
				  gq_state(q, msg_id, GQ_FREE));
}

static bool has_sixty_fourth(const GpuQueue *q, const uint64_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((ids[i] & (63 * (q->slot_mask + 1))) == 0)
			return true;
	return false;
}

/* Results were taken by id: if the last was among them that a readable descriptor announced, clear
 * that. Also clear the front of the finished list, so that a program which takes by id alone leaves
 * a poller little to pass over; one of 64 messages asks for it. */
static void taken_by_id(GpuQueue *q, const uint64_t *ids, size_t n)
{
	uint32_t left = 128;

	if (gq_load_relaxed_u64(&q->finished_first) != 0 && has_sixty_fourth(q, ids, n) &&
	    pthread_mutex_trylock(&q->reap_lock) == 0) {
		gq_first_unpolled(q, &left);
		pthread_mutex_unlock(&q->reap_lock);
	}
	if (!gq_fd_is_readable(q))
		return;
	pthread_mutex_lock(&q->reap_lock);
	gq__clear_fd(q);
	pthread_mutex_unlock(&q->reap_lock);
}

static void give_back(GpuQueue *q, uint64_t msg_id)
{
	gq_free_slot(q, msg_id);
	taken_by_id(q, &msg_id, 1);
}

static QueueStatus how_it_ended(uint32_t outcome)
{
	const QueueStatus status = gq_status_of(outcome);
	const uint32_t reported = gq_reported_status(outcome);

	if (status == Q_OK)
		return Q_OK;
	if (reported != 0)
		return gq__failf(status, "the processor reported failure: its status is %" PRIu32,
				 reported);
	/* (A message that failed with the device is not taken: gq_enter() refuses.) */
	return gq__fail(status, status == Q_ERR_FAILED
					? "the processor's result is longer than result_bytes"
					: q_status_string(status));
}

static QueueStatus try_dequeue(GpuQueue *q, uint64_t msg_id, void *out_buf, size_t room,
			       size_t *out_len)
{
	for (;;) {
		uint64_t state;
		QueueStatus status = find_finished(q, msg_id, &state);
		Completion done;
		uint32_t outcome;

		if (status != Q_OK)
			return status;
		done = gq_completion_of(q, msg_id);
		if (done.result_len > room) {
			if (gq_look_up(q, msg_id) == 0)
				continue; /* taken meanwhile: the words read may be the next
					     message's */
			*out_len = done.result_len;
			return gq__failf(Q_ERR_BUFFER_TOO_SMALL,
					 "out_buf has room for %zu bytes; the result has %" PRIu32,
					 room, done.result_len);
		}
		if (!win(q, msg_id, state))
			continue;
		if (done.result_len != 0)
			memcpy(out_buf, done.result, done.result_len);
		*out_len = done.result_len;
		outcome = gq_outcome_in(q, msg_id);
		give_back(q, msg_id);
		return how_it_ended(outcome);
	}
}

QueueStatus q_try_dequeue_result(GpuQueue *q, uint64_t msg_id, void *out_buf, size_t *inout_len)
{
	size_t room;

	if (inout_len == NULL) {
		GQ_RETURN_IF_REFUSED(gq_enter(q));
		return gq__fail(Q_ERR_INVALID_ARG,
				"inout_len is NULL; allowed: the room in out_buf");
	}
	room = *inout_len;
	*inout_len = 0;
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (out_buf == NULL && room != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "out_buf is NULL with *inout_len %zu; allowed: NULL only with 0",
				 room);
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_TAKE, msg_id);
	return try_dequeue(q, msg_id, out_buf, room, inout_len);
}

QueueStatus q_peek_result(GpuQueue *q, uint64_t msg_id, const void **out, size_t *out_len,
			  QueueStatus *out_status)
{
	Completion done;
	uint64_t state;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	do {
		QueueStatus status = find_finished(q, msg_id, &state);

		if (status != Q_OK)
			return status;
		done = gq_completion_of(q, msg_id);
	} while (gq_look_up(q, msg_id) ==
		 0); /* taken meanwhile: the words read may be the next message's */
	if (out != NULL)
		*out = done.result;
	if (out_len != NULL)
		*out_len = done.result_len;
	if (out_status != NULL)
		*out_status = done.status;
	return Q_OK;
}

QueueStatus q_processor_status(GpuQueue *q, uint64_t msg_id, uint32_t *out_value)
{
	uint32_t outcome;
	uint64_t state;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (out_value == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out_value is NULL; allowed: where to put the value");
	do {
		QueueStatus status = find_finished(q, msg_id, &state);

		if (status != Q_OK)
			return status;
		outcome = gq_outcome_in(q, msg_id);
	} while (gq_look_up(q, msg_id) ==
		 0); /* taken meanwhile: the words read may be the next message's */
	*out_value = gq_reported_status(outcome);
	return Q_OK;
}

/* Become the thread that frees it, without reading its result. */
static QueueStatus win_finished(GpuQueue *q, uint64_t msg_id)
{
	uint64_t state;

	do {
		QueueStatus status = find_finished(q, msg_id, &state);

		if (status != Q_OK)
			return status;
	} while (!win(q, msg_id, state));
	return Q_OK;
}

QueueStatus q_release(GpuQueue *q, uint64_t msg_id)
{
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	status = win_finished(q, msg_id);
	if (status == Q_OK)
		give_back(q, msg_id);
	return status;
}

/*
 * The same in one step each, of messages that are known to have finished: from ids[] on, up to the
 * first that is not.
 * @return how many
 */
static inline uint32_t win_reaped(GpuQueue *q, const uint64_t *ids, uint32_t count)
{
	struct gq_host_slot *const host_slots = q->host_slots;
	const uint64_t slot_mask = q->slot_mask, capacity = q->cfg.capacity;
	uint32_t n = 0;

	for (; n < count; n++) {
		const uint64_t id = ids[n], slot = id & slot_mask, free = id & ~slot_mask;
		uint64_t state;

		if (slot >= capacity)
			break;
		/* Relaxed: the swap acquires. DONE and POLLED are the last two phases. */
		state = gq_load_relaxed_u64(&host_slots[slot].state);
		if (state - (free | GQ_DONE) > GQ_POLLED - GQ_DONE ||
		    !gq_cas_seq_cst_u64(&host_slots[slot].state, state, free | GQ_FREE))
			break;
	}
	return n;
}

enum { RELEASE_CHUNK = 64 }; /* slots that are returned in one go */

QueueStatus q_release_batch(GpuQueue *q, const uint64_t *ids, size_t count)
{
	/* A copy, as ids[] may lie in a result that is released with them: other bytes may be there
	 * once the first slot has been returned. */
	uint64_t chunk[RELEASE_CHUNK], failed_id = 0;
	QueueStatus first = Q_OK, status;
	size_t failed = 0;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (ids == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "ids is NULL with count %zu; allowed: NULL only with count 0",
				 count);
	for (size_t done = 0; done < count; done += RELEASE_CHUNK) {
		const uint32_t most =
			count - done < RELEASE_CHUNK ? (uint32_t)(count - done) : RELEASE_CHUNK;
		uint32_t k = 0;

		memcpy(chunk, ids + done, most * sizeof(*chunk));
		while (k < most) {
			const uint32_t n = win_reaped(q, chunk + k, most - k);

			if (n != 0) {
				gq__free_slots(q, chunk + k, n);
				taken_by_id(q, chunk + k, n);
				k += n;
				continue;
			}
			/* A message that has not been reaped, or is not there. */
			status = win_finished(q, chunk[k]);
			if (status == Q_OK) {
				give_back(q, chunk[k]);
			} else if (first == Q_OK) {
				first = status;
				failed = done + k;
				failed_id = chunk[k];
			}
			k++;
		}
	}
	if (first != Q_OK)
		gq__failf(first, "ids[%zu] is %" PRIu64 ": %s", failed, failed_id,
			  q_status_string(first));
	return first;
}
