/* SPDX-License-Identifier: Apache-2.0 */
/* close.h - when a closed ring is settled: nothing will come any more; private to the ring. */
#ifndef GPUQ_RING_CLOSE_H
#define GPUQ_RING_CLOSE_H

#include "host/ring/ring.h"

/* On a closed ring: whether all that will ever be in it is there. Never waits. */
bool gq__ring_settle(RingQueue *r);

#endif /* GPUQ_RING_CLOSE_H */
