/* SPDX-License-Identifier: Apache-2.0 */
/* transport.h - how messages get to the grid: seals, the copy engine, calibration. */
#ifndef GPUQ_CUDA_HOST_TRANSPORT_H
#define GPUQ_CUDA_HOST_TRANSPORT_H

#include "device/cuda/host/state.h"

/* What a queue's channel says of sealing and reading ahead; before the grid's view is made. */
void gq__transport_plan(struct gq_cuda *c);
/* What copying needs, if messages may be copied; in the current context, no grid resident. */
bool gq__transport_prepare(struct gq_cuda *c);
/* In the current context, no grid resident. */
void gq__transport_free(struct gq_cuda *c);
/* Wait until no copy is under way, which takes microseconds; in the current context. */
void gq__transport_settle(struct gq_cuda *c);
/* Measure and choose; the first grid is resident and idle. Under the lock, in our context. */
bool gq__transport_choose(struct gq_cuda *c);
/* After choosing, without the lock: give back what copying needs if nothing will be copied. The
 * grid leaves for the moment. @return false: it does not come back. */
bool gq__transport_trim(struct gq_cuda *c);
/* Choose without measuring. */
void gq__transport_assume(struct gq_cuda *c);
/* Filled slots are about to be published. */
void gq__transport_hand_over(GpuQueue *q, const uint64_t *ids, uint32_t n);

#endif /* GPUQ_CUDA_HOST_TRANSPORT_H */
