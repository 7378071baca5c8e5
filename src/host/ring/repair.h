/* SPDX-License-Identifier: Apache-2.0 */
/* repair.h - looking for peers that have died, and putting right what they left; private to the
 * ring. */
#ifndef GPUQ_RING_REPAIR_H
#define GPUQ_RING_REPAIR_H

#include "host/ring/ring.h"

/* Whether the thread that owns, or owned, an identity lives; by which repairs judge. */
typedef enum gq_life gq_judge(struct gq_peer_identity *identity, uint64_t owner);

/*
 * To be called whenever there is no room, however often: every 100 ms at most it looks for peers
 * that have died inside a call, and repairs what they left, step by step. Never waits.
 */
void gq__ring_watch(RingQueue *r);

/* The same at once, and also for threads that may have died a moment ago. */
void gq__ring_repair(RingQueue *r);

/* The same by another judge. @return whether no thread that it calls dead has anything any more;
 * false: call again, because threads that it calls alive are inside calls. */
bool gq__ring_repair_by(RingQueue *r, gq_judge *judge);

/* Free the repair under way, before the handle is freed. */
void gq__ring_forget_repair(RingQueue *r);

#endif /* GPUQ_RING_REPAIR_H */
