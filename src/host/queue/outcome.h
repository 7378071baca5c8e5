/* SPDX-License-Identifier: Apache-2.0 */
/* outcome.h - how a finished message ended, as its host slot tells and as a caller is told. */
#ifndef GPUQ_QUEUE_OUTCOME_H
#define GPUQ_QUEUE_OUTCOME_H

#include "host/queue/state.h"

/* How a message with this outcome has ended, in the words of the interface. */
static inline QueueStatus gq_status_of(uint32_t outcome)
{
	if (__builtin_expect(outcome <= GQ_OUTCOME_MAX_LEN, 1))
		return Q_OK;
	return outcome == GQ_OUTCOME_EXPIRED     ? Q_ERR_EXPIRED
	       : outcome == GQ_OUTCOME_CANCELLED ? Q_ERR_CANCELLED
	       : outcome == GQ_OUTCOME_LOST      ? Q_ERR_LOST
						 : Q_ERR_FAILED;
}

/* The outcome in a finished message's host slot. Valid if the state is still the same afterwards,
 * or the caller has made itself the message's only owner. */
static inline uint32_t gq_outcome_in(const GpuQueue *q, uint64_t id)
{
	/* [state.read] acquire on top of the state's: the state is read again after this. */
	return (uint32_t)gq_load_acquire_u64(&gq_host_slot_of(q, id)->outcome);
}

/* All that polling returns of a message that has ended so. The tag is valid likewise. */
static inline Completion gq_completion_with(const GpuQueue *q, uint64_t id, uint32_t outcome)
{
	const QueueStatus status = gq_status_of(outcome);

	/* [state.read] */
	return (Completion){ .msg_id = id,
			     .tag = gq_load_acquire_u64(&gq_host_slot_of(q, id)->tag),
			     .status = status,
			     .result_len = status == Q_OK ? outcome : 0,
			     .result = gq_result_at(&q->ch, (uint32_t)(id & q->slot_mask)) };
}

static inline Completion gq_completion_of(const GpuQueue *q, uint64_t id)
{
	return gq_completion_with(q, id, gq_outcome_in(q, id));
}

#endif /* GPUQ_QUEUE_OUTCOME_H */
