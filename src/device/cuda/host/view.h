/* SPDX-License-Identifier: Apache-2.0 */
/* view.h - the memory that a queue's grid works with, and the grid's view of the queue. */
#ifndef GPUQ_CUDA_HOST_VIEW_H
#define GPUQ_CUDA_HOST_VIEW_H

#include "device/cuda/host/state.h"

/* Allocate and fill it; in the current context, no grid resident. What is there after a failure,
 * gq__view_free() gives back. */
bool gq__view_make(struct gq_cuda *c);
/* In the current context, no grid resident. */
void gq__view_free(struct gq_cuda *c);

#endif /* GPUQ_CUDA_HOST_VIEW_H */
