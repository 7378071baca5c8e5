/* SPDX-License-Identifier: Apache-2.0 */
/* handle.h - what every call on a queue begins with: is the handle good, does anybody watch. */
#ifndef GPUQ_QUEUE_HANDLE_H
#define GPUQ_QUEUE_HANDLE_H

#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/base/nvtx.h"
#include "host/queue/state.h"
#include "host/trace/trace.h"

/* Why a handle is refused: it is NULL, its device has failed, or fork() has left it behind. */
QueueStatus gq__refuse_handle(const GpuQueue *q);
/* Q_ERR_CUDA, with what the device died of as the last error. */
QueueStatus gq__device_failed(const GpuQueue *q);
/* Q_ERR_NOT_FOUND, of a message id that names no live message. */
QueueStatus gq__unknown_message(void);

/* The one load that every call pays for fork safety and device failures. */
static inline QueueStatus gq_enter(const GpuQueue *q)
{
	if (__builtin_expect(q == NULL || gq_load_relaxed_u64(&q->generation) != gq__generation, 0))
		return gq__refuse_handle(q);
	return Q_OK;
}

/* The same for a call that is allowed after the device has failed, too. */
static inline QueueStatus gq_enter_to_look(const GpuQueue *q)
{
	return q != NULL && q->made_in == gq__generation ? Q_OK : gq__refuse_handle(q);
}

/* The device has failed, so waiting is over. gq__device_failed() is the status. */
static inline bool gq_failed(const GpuQueue *q)
{
	/* [failure.read], [sleep.look] */
	return __builtin_expect(gq_load_seq_cst_u32(&q->failed) != 0, 0);
}

static inline bool gq_call_begin(const GpuQueue *q, enum gq_range what, uint64_t payload)
{
	return __builtin_expect(q->watched != 0, 0) && gq__call_begin(q, what, payload);
}

/* Declares a variable that lives to the end of the block: the call has begun, for the trace and as
 * a profiler's range, and the range ends with the variable. */
#define GQ_CALL_TO_END_OF_BLOCK(q, what, payload)                                                  \
	__attribute__((cleanup(gq_range_end), unused)) const bool range_ =                         \
		gq_call_begin(q, what, payload)

#endif /* GPUQ_QUEUE_HANDLE_H */
