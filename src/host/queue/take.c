/* SPDX-License-Identifier: Apache-2.0 */
/* take.c - finished messages: poll for them, read their results, take them. */
#include "host/queue/fd.h"
#include "host/queue/finished.h"
#include "host/queue/handle.h"
#include "host/queue/tend.h"

#include <inttypes.h>
#include <string.h>

/* ---- outcomes -------------------------------------------------------------------------------- */

static QueueStatus status_of(uint32_t outcome)
{
	if (__builtin_expect(outcome <= GQ_OUTCOME_MAX_LEN, 1))
		return Q_OK;
	return outcome == GQ_OUTCOME_EXPIRED     ? Q_ERR_EXPIRED
	       : outcome == GQ_OUTCOME_CANCELLED ? Q_ERR_CANCELLED
						 : Q_ERR_FAILED;
}

/* The outcome in a finished message's host slot. Valid if the state is still the same afterwards.
 */
static uint32_t outcome_of(const GpuQueue *q, uint64_t id)
{
	/* [state.read] acquire on top of the state's: the state is read again after this. */
	return (uint32_t)gq_load_acquire_u64(&gq_host_slot_of(q, id)->outcome);
}

/* All that polling returns of a finished message. Valid likewise. */
static Completion completion_of(const GpuQueue *q, uint64_t id)
{
	const uint32_t outcome = outcome_of(q, id);
	const QueueStatus status = status_of(outcome);

	/* [state.read] */
	return (Completion){ .msg_id = id,
			     .tag = gq_load_acquire_u64(&gq_host_slot_of(q, id)->tag),
			     .status = status,
			     .result_len = status == Q_OK ? outcome : 0,
			     .result = gq_result_at(&q->ch, (uint32_t)(id & q->slot_mask)) };
}

/* ---- polling --------------------------------------------------------------------------------- */

/* Under the reap lock: the next finished message that has been neither polled nor taken. */
static bool next_finished(GpuQueue *q, Completion *out, uint32_t *left)
{
	while (gq__find_unpolled(q, left) == GQ_FOUND_SOMETHING) {
		const uint32_t slot = (uint32_t)q->finished_first - 1;
		/* [state.read] */
		const uint64_t state = gq_load_seq_cst_u64(&q->host_slots[slot].state);
		const uint64_t id = (state & ~q->slot_mask) | slot;

		gq_unlist(q, slot);
		if (gq_phase_of(state) != GQ_DONE) /* taken by id since */
			continue;
		*out = completion_of(q, id);
		/* A thread that takes it by id swaps the same word, so one of the two gets it. */
		if (gq_cas_seq_cst_u64(&q->host_slots[slot].state, state,
				       gq_state(q, id, GQ_POLLED)))
			return true;
	}
	return false;
}

/* Into `ids` or `completions`; the other is NULL. */
static QueueStatus poll_finished(GpuQueue *q, uint64_t *ids, Completion *completions,
				 size_t max_count, size_t *out_count)
{
	uint32_t left = GQ_MOST_AT_ONCE;
	size_t n = 0;

	*out_count = 0;
	if (ids == NULL && completions == NULL && max_count != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the output array is NULL with max_count %zu; allowed: NULL only "
				 "with max_count 0",
				 max_count);
	if (max_count == 0 || gq_nothing_to_poll(q)) {
		gq_tend(q);
		return Q_OK;
	}
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_POLL, max_count);
	pthread_mutex_lock(&q->reap_lock);
	while (n < max_count) {
		Completion one;

		if (!next_finished(q, &one, &left))
			break;
		if (ids != NULL)
			ids[n] = one.msg_id;
		else
			completions[n] = one;
		n++;
	}
	gq__clear_fd(q);
	pthread_mutex_unlock(&q->reap_lock);
	*out_count = n;
	return Q_OK;
}

static QueueStatus no_count(void)
{
	return gq__fail(Q_ERR_INVALID_ARG, "out_count is NULL; allowed: where to put the count");
}

QueueStatus q_poll_completions(GpuQueue *q, uint64_t *out_msg_ids, size_t max_count,
			       size_t *out_count)
{
	if (out_count != NULL)
		*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	return out_count != NULL ? poll_finished(q, out_msg_ids, NULL, max_count, out_count)
				 : no_count();
}

QueueStatus q_poll_results(GpuQueue *q, Completion *out, size_t max_count, size_t *out_count)
{
	if (out_count != NULL)
		*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq_enter(q));
	return out_count != NULL ? poll_finished(q, NULL, out, max_count, out_count) : no_count();
}

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

/* Become the thread that takes a finished message. It owns the slot until gq__free_slot(). */
static bool win(GpuQueue *q, uint64_t msg_id, uint64_t state)
{
	return gq_cas_seq_cst_u64(&gq_host_slot_of(q, msg_id)->state, state,
				  gq_state(q, msg_id, GQ_FREE));
}

/* A result was taken by id: if it was the last that a readable descriptor announced, clear that.
 * Every 64th taking also clears the front of the finished list, so that a program which takes by id
 * alone leaves a poller little to pass over. */
static void taken_by_id(GpuQueue *q, uint64_t msg_id)
{
	const uint64_t sixty_fourth = 63 * (q->slot_mask + 1);
	uint32_t left = 128;

	if ((msg_id & sixty_fourth) == 0 && pthread_mutex_trylock(&q->reap_lock) == 0) {
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
	gq__free_slot(q, msg_id);
	taken_by_id(q, msg_id);
}

static QueueStatus how_it_ended(uint32_t outcome)
{
	const QueueStatus status = status_of(outcome);
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
		done = completion_of(q, msg_id);
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
		outcome = outcome_of(q, msg_id);
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
		done = completion_of(q, msg_id);
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
		outcome = outcome_of(q, msg_id);
	} while (gq_look_up(q, msg_id) ==
		 0); /* taken meanwhile: the words read may be the next message's */
	*out_value = gq_reported_status(outcome);
	return Q_OK;
}

QueueStatus q_release(GpuQueue *q, uint64_t msg_id)
{
	uint64_t state;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	do {
		QueueStatus status = find_finished(q, msg_id, &state);

		if (status != Q_OK)
			return status;
	} while (!win(q, msg_id, state));
	give_back(q, msg_id);
	return Q_OK;
}

QueueStatus q_release_batch(GpuQueue *q, const uint64_t *ids, size_t count)
{
	QueueStatus first = Q_OK;
	size_t failed = 0;

	GQ_RETURN_IF_REFUSED(gq_enter(q));
	if (ids == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "ids is NULL with count %zu; allowed: NULL only with count 0",
				 count);
	for (size_t i = 0; i < count; i++) {
		QueueStatus status = q_release(q, ids[i]);

		if (first == Q_OK && status != Q_OK) {
			first = status;
			failed = i;
		}
	}
	if (first != Q_OK)
		gq__failf(first, "ids[%zu] is %" PRIu64 ": %s", failed, ids[failed],
			  q_status_string(first));
	return first;
}
