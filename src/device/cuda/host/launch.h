/* SPDX-License-Identifier: Apache-2.0 */
/* launch.h - launching the grid, ordering it to leave, and finding out whether it has left. */
#ifndef GPUQ_CUDA_HOST_LAUNCH_H
#define GPUQ_CUDA_HOST_LAUNCH_H

#include "device/cuda/host/state.h"

/* All of these under the lock. */

/* Whether the driver says that a kernel is in the queue's stream; of a dead context it says other
 * things. */
bool gq__launch_is_resident(struct gq_cuda *c);
/* Whether the launched grid has left. An error fails the queue, and a dead grid has left. */
bool gq__launch_has_left(struct gq_cuda *c);
/* Whether no grid is there, and none comes unless another thread lets it: it was sent away, or is
 * not launched any more, or was never launched. */
bool gq__launch_is_away(struct gq_cuda *c);
/* What the grid has decided about parking. If it is just looking, wait for what comes of it. */
enum gq_park gq__launch_park(struct gq_cuda *c);

/* Launch a grid. The last one has left or is about to: the stream orders them. */
bool gq__launch_next(struct gq_cuda *c);
/* Launch a grid if the last one has parked, or a bounded one if enough messages wait, unless
 * something forbids it. @param awaited  a thread waits for messages: of a bounded one any is enough
 */
void gq__launch_wake(struct gq_cuda *c, bool awaited);
/* Order the grid to leave between two messages. */
void gq__launch_order_away(struct gq_cuda *c);
/* Whether a grid that was ordered to leave has. Of a dead context the driver is asked again. */
bool gq__launch_has_gone(struct gq_cuda *c);
/*
 * Order the grid to leave between two messages, and wait until it has.
 * @return false: a message takes longer than that. The order stands, and the next launch will run
 *         behind the old grid.
 */
bool gq__launch_send_away(struct gq_cuda *c, uint64_t deadline_ns);
/* A grid that was sent away comes back. */
void gq__launch_bring_back(struct gq_cuda *c);

#endif /* GPUQ_CUDA_HOST_LAUNCH_H */
