/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - when each message was where: noted by producers and consumers, kept by the reaper. */
#ifndef GPUQ_TRACE_TRACE_H
#define GPUQ_TRACE_TRACE_H

#include "device/protocol/protocol.h"
#include "host/base/nvtx.h"

#include <gpuq/gpuq.h>

/* Times are CLOCK_MONOTONIC, nanoseconds. */

/* One for each slot. The message's producer writes it before [message.publish]; the reaper zeroes
 * it once it has read it. */
struct gq_trace_entry {
	uint64_t enqueued_ns, visible_ns;
};

/* One for each message that has finished. */
struct gq_trace_record {
	uint64_t msg_id;
	uint64_t enqueued_ns, visible_ns;
	uint64_t claimed_ns, done_ns; /* 0: not known, the message was lost with the device */
	uint64_t seen_ns;
	uint32_t len, opcode, outcome;
	uint32_t consumer; /* GQ_NONE: no consumer, the host cancelled it */
	uint32_t priority; /* class */
	uint32_t discarded;
};
GQ_STATIC_ASSERT(sizeof(struct gq_trace_record) == 72,
		 "docs/guide/profiling.md says how large it is");

#define GQ_TRACE_PATH_BYTES 4096

struct gq_trace {
	struct gq_trace_entry *entry;
	size_t entry_bytes, stamps_bytes, record_bytes;
	uint64_t clock_error_ns; /* of the device when it had started */
	/* Under the reap lock; records before `used` do not change any more. */
	struct gq_trace_record *record;
	uint64_t room, used, dropped;
	char path[GQ_TRACE_PATH_BYTES]; /* GPUQ_TRACE: written by q_shutdown(); empty: not asked */
};

/* Whether GPUQ_TRACE asks for a trace. */
bool gq__trace_from_environment(void);

/* Allocate what the trace needs, if cfg asks for one. Call gq__trace_free() also after a failure.
 */
bool gq__trace_alloc(GpuQueue *q);
/* The device has started. */
void gq__trace_started(GpuQueue *q);
void gq__trace_free(GpuQueue *q);

/* The begin of a call on a queue that is watched: the time, and a range in a profiler.
 * @return whether a range has begun. */
bool gq__call_begin(const GpuQueue *q, enum gq_range what, uint64_t payload);

/* The rest is for queues with a trace only. */

/* Messages are about to be published, by the call that this thread began last: gq_call_begin(). */
void gq__trace_publish(GpuQueue *q, const uint64_t *ids, uint32_t n);
/* Under the reap lock: a message has finished. `lost`: no consumer has completed it. */
void gq__trace_finish(GpuQueue *q, uint32_t slot, uint32_t outcome, bool lost);
/* What GPUQ_TRACE asks for at the end; failures go to the log. */
void gq__trace_at_shutdown(GpuQueue *q);

#endif /* GPUQ_TRACE_TRACE_H */
