/* SPDX-License-Identifier: Apache-2.0 */
/* fail.h - the driver has reported an error: what becomes of the queue, and what is said. */
#ifndef GPUQ_CUDA_HOST_FAIL_H
#define GPUQ_CUDA_HOST_FAIL_H

#include "device/cuda/host/state.h"

/* The driver has reported an error: the context is dead, and the grid with it. The queue has failed
 * from now on; what it was doing goes into the sentence. */
void gq__cuda_fail(struct gq_cuda *c, const char *call, int result);
/* The same under the lock. */
void gq__cuda_fail_locked(struct gq_cuda *c, const char *call, int result);
/* q_init() fails: what is wrong, and what grid and host have said to each other so far. */
void gq__cuda_fail_with_state(struct gq_cuda *c, const char *what);

#endif /* GPUQ_CUDA_HOST_FAIL_H */
