/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fence.h - the order between "I have published" and "does a thread sleep": the side that seldom
 * needs it pays for both; private to the ring.
 */
#ifndef GPUQ_RING_FENCE_H
#define GPUQ_RING_FENCE_H

#include "host/ring/ring.h"

/*
 * The cheap half of gq__ring_reach(), in every call that moves messages. It keeps the compiler from
 * reordering, and makes a full fence of its own if the kernel refuses membarrier to some process of
 * the ring.
 */
static inline void gq_ring_fence(const struct gq_ring_head *head, struct gq_ring_peer *peer)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* pairs with gq__barrier() */
	if (__builtin_expect(gq_load_relaxed_u64(&head->signals.fenced) != 0, 0))
		gq_fetch_or_seq_cst_u64(&peer->op, 0); /* a full fence of its own */
}

/* Find out whether the kernel grants membarrier to this process; if not, set `fenced`. May sleep
 * for 10 ms. */
void gq__ring_choose_fences(RingQueue *r);

/*
 * The expensive half: when it returns true, every thread that uses the ring has executed a full
 * fence since the call began (gq__barrier()), or, if the kernel refuses membarrier, makes fences
 * itself and has been given time for those it had not made. @return false: not reached yet; call
 * again, in 10 ms at the latest.
 */
bool gq__ring_reach(RingQueue *r);

/* How long a waiter may sleep at a time: a peer that has died cannot wake it. */
static inline uint64_t gq_ring_nap_ns(const RingQueue *r)
{
	uint64_t step = gq_load_relaxed_u64(&r->step_ns);

	return step != 0 ? step : 100000000u;
}

/*
 * To be called between a sleeper's arming of a flag and its second look ([sleep.look]): single
 * mode's barrier, see wake_single(). @return how long to sleep at a time: briefly, if the other
 * side could not be reached.
 */
static inline uint64_t gq_ring_reach_before_look(RingQueue *r, const struct gq_wait *wait)
{
	const bool reached = !wait->registered || !r->single || gq__ring_reach(r);

	return reached ? gq_ring_nap_ns(r) : 1000000u;
}

#endif /* GPUQ_RING_FENCE_H */
