/* SPDX-License-Identifier: Apache-2.0 */
/* nvtx.h - ranges and names for NVIDIA's profilers (NVTX 3); built without it: nothing. */
#ifndef GPUQ_BASE_NVTX_H
#define GPUQ_BASE_NVTX_H

#include <stdbool.h>
#include <stdint.h>

/* X(range, its name in the profiler, what its payload is) */
#define GQ_RANGE_LIST(X)                                                                           \
	X(GQ_RANGE_INIT, "q_init", "capacity")                                                     \
	X(GQ_RANGE_SHUTDOWN, "q_shutdown", "shutdown_timeout_ms")                                  \
	X(GQ_RANGE_STOP, "q_stop", "timeout_ms")                                                   \
	X(GQ_RANGE_PAUSE, "q_pause", "timeout_ms")                                                 \
	X(GQ_RANGE_RESUME, "q_resume", "0")                                                        \
	X(GQ_RANGE_PRELOAD, "q_preload", "0")                                                      \
	X(GQ_RANGE_DRAIN, "q_drain", "timeout_ms")                                                 \
	X(GQ_RANGE_ENQUEUE, "q_enqueue", "bytes")                                                  \
	X(GQ_RANGE_ENQUEUE_BATCH, "q_enqueue_batch", "messages")                                   \
	X(GQ_RANGE_ENQUEUE_DESCRIPTOR, "q_enqueue_descriptor", "bytes")                            \
	X(GQ_RANGE_RESERVE, "q_reserve", "bytes")                                                  \
	X(GQ_RANGE_COMMIT, "q_commit", "msg_id")                                                   \
	X(GQ_RANGE_POLL, "q_poll", "max_count")                                                    \
	X(GQ_RANGE_TAKE, "q_try_dequeue_result", "msg_id")                                         \
	X(GQ_RANGE_WAIT, "q_wait", "msg_id")                                                       \
	X(GQ_RANGE_WAIT_ENQUEUE, "q_wait_enqueue", "msg_id")                                       \
	X(GQ_RANGE_WAIT_ANY, "q_wait_any", "timeout_ms")

enum gq_range {
#define GQ_RANGE_ENUM(range, name, payload) range,
	GQ_RANGE_LIST(GQ_RANGE_ENUM)
#undef GQ_RANGE_ENUM
		GQ_RANGES
};

#define GQ_NVTX_DOMAIN "gpuq"

#if defined(GPUQ_HAVE_NVTX)

/*
 * Whether a profiler takes ranges; it has loaded itself with the process or never will. Constant
 * from the first gq__nvtx_begin() on, which comes before every handle: so read only with one.
 */
extern bool gq__nvtx_attached;

/* Look for a profiler, once; every call that makes a handle calls it. */
void gq__nvtx_begin(void);

void gq__range_push(enum gq_range what, uint64_t payload);
void gq__range_pop(void);
void gq__name_this_thread(const char *name);
void gq__name_stream(void *stream, const char *name);

#else

enum { gq__nvtx_attached = 0 };

static inline void gq__nvtx_begin(void)
{
}

static inline void gq__range_push(enum gq_range what, uint64_t payload)
{
	(void)what;
	(void)payload;
}

static inline void gq__range_pop(void)
{
}

static inline void gq__name_this_thread(const char *name)
{
	(void)name;
}

static inline void gq__name_stream(void *stream, const char *name)
{
	(void)stream;
	(void)name;
}

#endif /* GPUQ_HAVE_NVTX */

static inline bool gq_range_begin(enum gq_range what, uint64_t payload)
{
	if (__builtin_expect(!gq__nvtx_attached, 1))
		return false;
	gq__range_push(what, payload);
	return true;
}

static inline void gq_range_end(const bool *begun)
{
	if (__builtin_expect(*begun, 0))
		gq__range_pop();
}

/* A range from here to the end of the block, by whichever way it is left. */
#define GQ_RANGE(what, payload)                                                                    \
	__attribute__((cleanup(gq_range_end), unused)) const bool range_ =                         \
		gq_range_begin(what, payload)

#endif /* GPUQ_BASE_NVTX_H */
