/* SPDX-License-Identifier: Apache-2.0 */
/* start.h - the first launches of a queue. */
#ifndef GPUQ_CUDA_HOST_START_H
#define GPUQ_CUDA_HOST_START_H

#include "device/cuda/host/state.h"

/* As struct gq_device says. */
bool gq__cuda_start(GpuQueue *q);

#endif /* GPUQ_CUDA_HOST_START_H */
