/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open.h - what a queue needs before it has memory: the device, the processor's image, and how many
 * blocks of it are resident at once.
 */
#ifndef GPUQ_CUDA_HOST_OPEN_H
#define GPUQ_CUDA_HOST_OPEN_H

#include "device/cuda/host/state.h"

/* Whether a grid could stay, by the process's environment. */
bool gq__open_check_environment(void);
/* Find the device, and compile the processor if it is source, which takes seconds. */
bool gq__open_find(struct gq_cuda *c);
/* Context, streams and image, and how many blocks there are to be; no grid may be resident. What is
 * there after a failure, gq__open_unload() gives back. */
bool gq__open_load(struct gq_cuda *c);
/* Streams and image; in the current context, no grid resident. */
void gq__open_unload(struct gq_cuda *c);
/* Launch the image's other kernel, in a stream of its own, in the current context.
 * @param info          where it writes what the image is, or NULL
 * @param shared_bytes  that its block is to have; beyond 48 KiB when no grid is resident at first
 * @return the driver's answer */
int gq__open_launch_canary(struct gq_cuda *c, struct gq_image_info *info, uint32_t shared_bytes);

#endif /* GPUQ_CUDA_HOST_OPEN_H */
