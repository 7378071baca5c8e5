/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handles.h - what this process has of rings: its handles, and the peers that its threads have
 * bound through them; private to the ring.
 */
#ifndef GPUQ_RING_HANDLES_H
#define GPUQ_RING_HANDLES_H

#include "host/ring/ring.h"

/* Put a handle on the list of those that live: a thread that ends gives back what it has bound
 * through them. */
void gq__ring_list(RingQueue *r);

/* Take it off the list, and give back what is bound through it. */
void gq__ring_unlist(RingQueue *r);

/* The peer that the calling thread has bound through the handle, out of its table; NULL: none. */
struct gq_ring_peer *gq__ring_look_up(const RingQueue *r);

/* The `owner` word of the calling thread; one with GQ_OWNER_UNBOUND, if it has no peer. */
uint64_t gq__ring_me(RingQueue *r);

/* One lock is over all handles and bindings of the process. It is taken to bind, to give back, to
 * make and to destroy a handle, and not on the way of a message. */
void gq__ring_lock_bindings(void);
void gq__ring_unlock_bindings(void);

/* Under the lock: note that the calling thread has bound a peer. */
void gq__ring_remember(RingQueue *r, struct gq_ring_peer *peer, uint64_t owner);

/* Whether a thread of this process has bound a peer with this word, through any handle. */
bool gq__ring_is_bound_here(uint64_t owner);

/* How many peers belong to threads that cannot be judged from here. The log says so once. */
uint32_t gq__ring_count_unjudged(RingQueue *r);

#endif /* GPUQ_RING_HANDLES_H */
