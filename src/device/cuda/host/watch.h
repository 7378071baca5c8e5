/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - what the host says of the running grid, in the log and in q_info(). */
#ifndef GPUQ_CUDA_HOST_WATCH_H
#define GPUQ_CUDA_HOST_WATCH_H

#include "device/cuda/host/state.h"

/* Now and then, under the lock: say in the log what takes long. */
void gq__watch(struct gq_cuda *c, uint64_t now_ns);
/* As struct gq_device says. */
void gq__watch_describe(GpuQueue *q, QueueInfo *out);

#endif /* GPUQ_CUDA_HOST_WATCH_H */
