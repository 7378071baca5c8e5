/* SPDX-License-Identifier: Apache-2.0 */
/* tally.h - what the grid has counted of its own doings. */
#ifndef GPUQ_CUDA_HOST_TALLY_H
#define GPUQ_CUDA_HOST_TALLY_H

#include "device/cuda/host/state.h"

/*
 * What the units that have left have counted, since the queue's beginning. No grid may be resident:
 * the copy would wait for it.
 * @return false if the image does not count (it was not built with Q_COUNT_GRID), or with
 *         q_last_error()
 */
bool gq__tally_read(struct gq_cuda *c, struct gq_tally *out);

/* The same, to the log, at the queue's end. */
void gq__tally_log(struct gq_cuda *c);

#endif /* GPUQ_CUDA_HOST_TALLY_H */
