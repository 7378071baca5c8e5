/* SPDX-License-Identifier: Apache-2.0 */
/* poll_fd.h - the descriptor of q_ring_fd(); private to the ring. */
#ifndef GPUQ_RING_POLL_FD_H
#define GPUQ_RING_POLL_FD_H

#include "host/ring/ring.h"

/* Before the first call on a handle, and after the last. */
void gq__ring_poll_begin(RingQueue *r);
void gq__ring_poll_end(RingQueue *r);

/* A receive has found nothing, and the descriptor is readable: make it unreadable. */
void gq__ring_poll_clear(RingQueue *r);

/* To be called by a receive that has found nothing. */
static inline void gq_ring_found_nothing(RingQueue *r)
{
	if (__builtin_expect(gq_load_seq_cst_u32(&r->poll.readable) != 0, 0))
		gq__ring_poll_clear(r);
}

#endif /* GPUQ_RING_POLL_FD_H */
