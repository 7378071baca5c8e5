/* SPDX-License-Identifier: Apache-2.0 */
/* quiet.h - all grids leave for a moment, so that a queue may call the driver. */
#ifndef GPUQ_CUDA_HOST_QUIET_H
#define GPUQ_CUDA_HOST_QUIET_H

#include "device/cuda/host/state.h"

#define GQ_QUIET_TIMEOUT_NS UINT64_C(2000000000) /* how long a grid may take to leave */

/* Whose grids leave. */
enum gq_quiet {
	GQ_QUIET_OTHERS,  /* the other queues of the GPU; the queue's own grid is not resident */
	GQ_QUIET_GPU,     /* all queues of the GPU */
	GQ_QUIET_PROCESS, /* all queues of the process, on every GPU */
};

/*
 * Send these grids away, keep others from being launched, and wait until they have left. Takes the
 * lock of such sections, which gq__quiet_end(), with the same arguments, gives back. Calls of these
 * queues go on: what they publish waits, a pause finds that all stand still.
 * @return false: a grid did not leave in time. Call gq__quiet_end() all the same.
 */
bool gq__quiet_begin(const struct gq_cuda *c, enum gq_quiet whose);
/* Bring the grids back. */
void gq__quiet_end(const struct gq_cuda *c, enum gq_quiet whose);
/* Between the two: the next of the other queues of the GPU, behind `after` (NULL: the first). */
struct gq_cuda *gq__quiet_next(const struct gq_cuda *c, const struct gq_cuda *after);
/* The error for when a grid did not leave. @param what  what the driver was to be asked for */
QueueStatus gq__quiet_refuse(const char *what);
/* gq__quiet_begin() for a running queue, whose own grid is among them.
 * @return not Q_OK: a grid did not leave, or this queue has failed; gq__quiet_end() all the same */
QueueStatus gq__quiet_try(struct gq_cuda *c, enum gq_quiet whose, const char *what);

/* The queue is about to have a grid. In a section. */
void gq__quiet_enlist(struct gq_cuda *c);
/* Its grid has left for good. Waits for a section's end. */
void gq__quiet_unlist(struct gq_cuda *c);

/* From now on, when the process ends, grids that are left are told to leave. */
void gq__quiet_at_exit(void);

#endif /* GPUQ_CUDA_HOST_QUIET_H */
