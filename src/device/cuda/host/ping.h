/* SPDX-License-Identifier: Apache-2.0 */
/* ping.h - questions to the grid's first unit: above all what its clock shows. */
#ifndef GPUQ_CUDA_HOST_PING_H
#define GPUQ_CUDA_HOST_PING_H

#include "device/cuda/host/state.h"

/* Ask, and wait for the answer; under the lock. @return false: no answer in time. */
bool gq__ping_ask(struct gq_cuda *c, enum gq_ping what, uint64_t patience_ns, uint64_t *answer);
/* Ask, and let gq__ping_await() wait for the answer. @return the question's number */
uint64_t gq__ping_post(struct gq_cuda *c, enum gq_ping what);
/* @return false: no answer in time, or the grid has parked. */
bool gq__ping_await(struct gq_cuda *c, uint64_t ping, uint64_t patience_ns);

/*
 * Ask for the device's clock, and take the middle of the question's round trip for the time of the
 * answer, unless the trip was long. Under the lock. @return false: no answer in time.
 */
bool gq__ping_clock(struct gq_cuda *c, uint64_t patience_ns);
/* Ask until there are eight answers. One is needed: deadlines depend on it. Under the lock.
 * @return false with q_last_error() */
bool gq__ping_align(struct gq_cuda *c);
/* Now and then, under the lock, while the grid is resident. */
void gq__ping_realign(struct gq_cuda *c, uint64_t now_ns);
/* As struct gq_device says. */
uint64_t gq__ping_clock_error_ns(GpuQueue *q);

#endif /* GPUQ_CUDA_HOST_PING_H */
