/* SPDX-License-Identifier: Apache-2.0 */
/* bar1.h - device memory that the CPU writes: the mirror. */
#ifndef GPUQ_CUDA_HOST_BAR1_H
#define GPUQ_CUDA_HOST_BAR1_H

#include "device/cuda/host/state.h"

/* Allocate and map the mirror; in the current context, no grid resident. */
bool gq__bar1_prepare(struct gq_cuda *c);
/* In the current context; the grid has left. */
void gq__bar1_free(struct gq_cuda *c);
/* Whether the running grid sees what is written; under the lock. @return false with
 * q_last_error(). */
bool gq__bar1_test(struct gq_cuda *c);
/* A sealed slot is about to be published: write its mirror. */
void gq__bar1_write(const struct gq_channel *ch, uint32_t index);

#endif /* GPUQ_CUDA_HOST_BAR1_H */
