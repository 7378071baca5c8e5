/* SPDX-License-Identifier: Apache-2.0 */
/* bind.h - giving each thread a peer of the ring; private to the ring. */
#ifndef GPUQ_RING_BIND_H
#define GPUQ_RING_BIND_H

#include "host/ring/handles.h"
#include "host/ring/recent.h"

/* Bind a peer to the calling thread, at its first use of the handle. @return NULL: q_last_error()
 * is set. */
struct gq_ring_local *gq__ring_bind(RingQueue *r);

/* Single mode: make the calling thread the one that sends, or receives. @return Q_OK; Q_ERR_POLICY:
 * another thread is inside such a call, or has died there and is not replaced yet. */
QueueStatus gq__ring_take_role(RingQueue *r, uint64_t *role, const struct gq_ring_local *local,
			       enum gq_op op);

/* What is kept for the calling thread, which binds at its first use of the handle. NULL:
 * q_last_error() is set. */
static inline struct gq_ring_local *gq_ring_local_of(RingQueue *r)
{
	const struct gq_ring_binding *b = gq_ring_recent_of(r);

	return __builtin_expect(b->serial == r->serial, 1) ? b->local : gq__ring_bind(r);
}

/* The calling thread's peer, or NULL, likewise. */
static inline struct gq_ring_peer *gq_ring_peer_of(RingQueue *r)
{
	struct gq_ring_local *local = gq_ring_local_of(r);

	return local == NULL ? NULL : local->peer;
}

#endif /* GPUQ_RING_BIND_H */
