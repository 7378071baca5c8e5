/* SPDX-License-Identifier: Apache-2.0 */
/* fence.c - fences across the processes of a ring, with membarrier or without. */
#include "host/ring/fence.h"

#include "host/base/sys.h"
#include "host/shm/barrier.h"

enum { DRAIN_NS = 10 * 1000 * 1000 };

void gq__ring_choose_fences(RingQueue *r)
{
	if (gq__barrier_register() && gq__barrier())
		return;
	gq_exchange_seq_cst_u64(&r->head->signals.fenced, 1);
	gq_store_relaxed_u64(&r->fenced_since_ns, gq__now_ns());
	/* A thread that looked at the flag before we set it ends its call within this time. */
	gq_sys_nap(10000000);
}

bool gq__ring_reach(RingQueue *r)
{
	uint64_t since, now;

	if (gq__barrier())
		return true;
	/*
	 * The kernel refuses, perhaps since a moment ago (a seccomp filter). From now on every
	 * thread makes a fence when it begins an operation. A thread that had looked at the flag
	 * before had stored its `op` by then, if only into the store buffer of its core. That
	 * buffer drains by itself within microseconds, and at the latest when the thread is taken
	 * off its core.
	 */
	if (gq_load_seq_cst_u64(&r->head->signals.fenced) == 0)
		gq_exchange_seq_cst_u64(&r->head->signals.fenced, 1);
	now = gq__now_ns();
	since = gq_load_relaxed_u64(&r->fenced_since_ns);
	if (since == 0) {
		gq_store_relaxed_u64(&r->fenced_since_ns, now);
		return false;
	}
	return now - since >= DRAIN_NS;
}
