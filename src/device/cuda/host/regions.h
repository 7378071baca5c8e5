/* SPDX-License-Identifier: Apache-2.0 */
/* regions.h - descriptors to data that the GPU can reach. */
#ifndef GPUQ_CUDA_HOST_REGIONS_H
#define GPUQ_CUDA_HOST_REGIONS_H

#include "device/cuda/host/state.h"

/* As struct gq_device says. */
QueueStatus gq__regions_bind(GpuQueue *q, RegionTable *table);
/* Where the GPU finds the descriptor's bytes, in this process `bytes`; NULL with q_last_error(). */
const void *gq__regions_locate(GpuQueue *q, const MessageDescriptor *d, const void *bytes);

/* In the current context, no grid resident. */
void gq__regions_unbind(struct gq_cuda *c);

#endif /* GPUQ_CUDA_HOST_REGIONS_H */
