/* SPDX-License-Identifier: Apache-2.0 */
/* abandon.h - a grid that does not leave: a thread waits until its memory can be freed. */
#ifndef GPUQ_CUDA_HOST_ABANDON_H
#define GPUQ_CUDA_HOST_ABANDON_H

#include "device/cuda/host/state.h"

/* The grid is still there, so its memory must not be freed. A thread waits until it has left, takes
 * the queue out of the list and drops the grid's reference to it. Under the lock. */
void gq__abandon_grid(struct gq_cuda *c);

#endif /* GPUQ_CUDA_HOST_ABANDON_H */
