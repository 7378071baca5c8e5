/* SPDX-License-Identifier: Apache-2.0 */
/* quiet.h - all grids leave for a moment, so that a queue may call the driver. */
#ifndef GPUQ_DEVICE_CUDA_QUIET_H
#define GPUQ_DEVICE_CUDA_QUIET_H

#include "device/cuda/host/state.h"

#define GQ_QUIET_TIMEOUT_NS UINT64_C(2000000000) /* how long a grid may take to leave */

/*
 * Send all grids of the process away but the queue's own, which is not resident. Takes the lock of
 * the list and those of its other queues, in the list's order.
 * @param self  the queue that calls, or NULL
 * @return false: one did not leave in time. Call gq__quiet_end() all the same.
 */
bool gq__quiet_begin(const struct gq_cuda *self);
/* Bring them back, and give the locks back. */
void gq__quiet_end(const struct gq_cuda *self);
/* Between the two: the other queue behind `after` (NULL: the first) in the list; NULL: none. */
struct gq_cuda *gq__quiet_next(const struct gq_cuda *self, const struct gq_cuda *after);
/* The error for when one did not leave. @param what  what the driver was to be asked for */
QueueStatus gq__quiet_refuse(const char *what);

/* Send all grids away, this queue's own too, and lock their queues. If this is not Q_OK, one did
 * not leave or this one has failed. Call gq__quiet_end_all() all the same. */
QueueStatus gq__quiet_begin_all(struct gq_cuda *c, const char *what);
void gq__quiet_end_all(void);

/* The queue is about to have a grid: put it at the end of the list, as locks are taken in the
 * list's order. Under the lock of the list, and perhaps those of its queues. */
void gq__quiet_enlist(struct gq_cuda *c);
/* Its grid has left for good. Takes the lock of the list. */
void gq__quiet_unlist(struct gq_cuda *c);

/* From now on, when the process ends, grids that are left are told to leave. */
void gq__quiet_at_exit(void);

#endif /* GPUQ_DEVICE_CUDA_QUIET_H */
