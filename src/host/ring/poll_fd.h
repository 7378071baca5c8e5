/* SPDX-License-Identifier: Apache-2.0 */
/* poll_fd.h - the descriptor of q_ring_fd(); private to the ring. */
#ifndef GPUQ_RING_POLL_FD_H
#define GPUQ_RING_POLL_FD_H

#include "host/ring/ring.h"

/* Before the first call on a handle, and after the last. */
void gq__ring_poll_begin(RingQueue *r);
void gq__ring_poll_end(RingQueue *r);

#endif /* GPUQ_RING_POLL_FD_H */
