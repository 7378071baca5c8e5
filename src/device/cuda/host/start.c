/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start.c - the first launches of a queue: memory while no grid is resident, a launch that leaves
 * at once, a launch that stays, and what is measured with it.
 */
#include "device/cuda/host/start.h"

#include "device/cuda/host/abandon.h"
#include "device/cuda/host/call.h"
#include "device/cuda/host/fail.h"
#include "device/cuda/host/launch.h"
#include "device/cuda/host/open.h"
#include "device/cuda/host/ping.h"
#include "device/cuda/host/quiet.h"
#include "device/cuda/host/transport.h"
#include "device/cuda/host/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define START_TIMEOUT_NS UINT64_C(10000000000)

/* A kernel of one thread, in another stream. @return the driver's answer; *ns is UINT64_MAX if it
 * has not come through. */
static bool time_canary(struct gq_cuda *c, uint32_t shared_bytes, uint64_t patience_ns,
			uint64_t *ns)
{
	const uint64_t begun = gq__now_ns();
	int result = gq__open_launch_canary(c, NULL, shared_bytes);
	uint32_t step = 0;

	if (!gq__cuda_check(c->cu, "cuLaunchKernel", result))
		return false;
	do {
		result = c->cu->cuStreamQuery(c->canary_stream);
		if (result == GQ_CU_NOT_READY)
			gq__await_step(step++);
	} while (result == GQ_CU_NOT_READY && gq__now_ns() - begun < patience_ns);
	*ns = result == GQ_CU_SUCCESS ? gq__now_ns() - begun : UINT64_MAX;
	return result == GQ_CU_NOT_READY || gq__cuda_check(c->cu, "cuStreamQuery", result);
}

/* What must come through beside the grid: a kernel of one thread; and one that needs a whole
 * multiprocessor, if the grid leaves one. */
static bool run_canaries(struct gq_cuda *c)
{
	struct gq_primitives *m = &c->measured;

	if (!time_canary(c, 0, START_TIMEOUT_NS / 10, &m->canary))
		return false;
	if (m->canary == UINT64_MAX) { /* one behind it would not say more */
		gq__log(Q_LOG_WARNING, "CUDA: a kernel in another stream does not come through "
				       "beside the grid: leave multiprocessors free (reserve_sms)");
		return true;
	}
	if (c->full_bytes == 0)
		return true;
	m->canary_full = UINT64_MAX;
	if (c->blocks < c->sms &&
	    !time_canary(c, c->full_bytes, START_TIMEOUT_NS / 100, &m->canary_full))
		return false;
	if (m->canary_full == UINT64_MAX)
		gq__log(Q_LOG_INFO,
			"CUDA: a kernel that needs all the shared memory or all the registers of a "
			"multiprocessor may wait until the grid leaves: consumers is %" PRIu32
			" of %" PRIu32 " multiprocessors",
			c->blocks, c->sms);
	return true;
}

static void describe_canaries(const struct gq_primitives *m, char *text, size_t room)
{
	if (m->canary == UINT64_MAX)
		snprintf(text, room, "no kernel of another stream came through beside it");
	else if (m->canary_full == 0)
		snprintf(text, room, "a kernel in another stream took %" PRIu64 " us",
			 m->canary / 1000);
	else if (m->canary_full == UINT64_MAX)
		snprintf(text, room,
			 "a kernel in another stream took %" PRIu64
			 " us, one that fills a multiprocessor waits",
			 m->canary / 1000);
	else
		snprintf(text, room,
			 "a kernel in another stream took %" PRIu64
			 " us, one that fills a multiprocessor %" PRIu64,
			 m->canary / 1000, m->canary_full / 1000);
}

/*
 * Wait until all blocks run. The driver promises to start a kernel only while it is being called,
 * so it is asked in between.
 */
static bool await_residence(struct gq_cuda *c)
{
	const uint64_t deadline_ns = gq__now_ns() + START_TIMEOUT_NS;
	uint32_t step = 0;

	/* [report.read] acquire: pairs with [report.write]. */
	while (gq_load_acquire_u64(&c->link->report.resident) != c->launch) {
		if (gq__launch_has_left(c)) {
			/* [report.read] */
			if (!gq_has_failed(c) &&
			    gq_load_acquire_u64(&c->link->report.resident) == c->launch)
				return true; /* all blocks ran, and the grid has parked */
			if (gq_has_failed(c))
				gq__device_failed(c->q);
			else
				gq__cuda_fail_with_state(c, "the resident grid left at once");
			return false;
		}
		if (gq__now_ns() >= deadline_ns) {
			gq__cuda_fail_with_state(
				c, "not all blocks run after 10 s: is another resident "
				   "kernel on the GPU? Fewer consumers, or reserve_sms, "
				   "leave room for both");
			return false;
		}
		gq__await_step(step++);
	}
	return true;
}

/*
 * The kernel's first launch, with the order to leave at once. For this launch the driver may load
 * code or enlarge local memory, and so wait for every kernel: no other grid may be resident.
 */
static bool launch_and_leave(struct gq_cuda *c, uint64_t patience_ns)
{
	uint64_t deadline_ns;

	gq_store_release_u64(&c->link->orders.depart, c->launch + 1); /* [control.write] */
	if (!gq__launch_next(c))
		return false;
	deadline_ns = gq__now_ns() + patience_ns;
	for (uint32_t step = 0; !gq__launch_has_left(c); step++) {
		if (gq__now_ns() >= deadline_ns) {
			gq__cuda_fail_with_state(c,
						 "the grid was told to leave at once, and has not");
			return false;
		}
		gq__await_step(step);
	}
	if (gq_has_failed(c))
		gq__device_failed(c->q);
	return !gq_has_failed(c);
}

/* Whether its kernel has yet to be launched for the first time. */
static bool is_unlaunched(const struct gq_cuda *c)
{
	return c->launch == 0 && c->state == GQ_GRID_ON;
}

/*
 * While all grids of the GPU are gone: launch this queue's kernel for the first time; and the
 * kernels of bounded queues, whose first launch would otherwise come with their first message,
 * beside another queue's grid. A bounded queue that is alone is not launched now: a profiler is to
 * see launches for messages only. Other queues stand still meanwhile, so they wait for an
 * application's kernel that fills the GPU no longer than they do for a message.
 */
static bool launch_and_leave_all(struct gq_cuda *c)
{
	bool alone = true;

	for (struct gq_cuda *other = gq__quiet_next(c, NULL); other != NULL;
	     other = gq__quiet_next(c, other)) {
		alone = false;
		pthread_mutex_lock(&other->lock);
		if (is_unlaunched(other)) {
			launch_and_leave(other, GQ_QUIET_TIMEOUT_NS);
			/* gq__quiet_end() launches for what waits there. */
			gq_grid_enter(other, GQ_GRID_AWAY);
		}
		pthread_mutex_unlock(&other->lock);
	}
	return (alone && gq_is_bounded(c)) ||
	       launch_and_leave(c, alone ? START_TIMEOUT_NS : GQ_QUIET_TIMEOUT_NS);
}

/* The first launch that stays, and what is learnt from it. */
static bool launch_first(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	const size_t used = strlen(q->reason);
	char canary[112];
	bool ok;

	c->is_being_measured = true;
	gq__ping_post(c, GQ_PING_CLOCK); /* the grid stays until this is over */
	if (!gq__launch_next(c) || !await_residence(c) || !gq_context_enter(c))
		return false;
	ok = gq__ping_align(c) && run_canaries(c) && gq__transport_choose(c);
	c->is_being_measured = false;
	gq__ping_post(c, GQ_PING_CLOCK);
	gq_context_leave(c);
	if (!ok)
		return false;
	describe_canaries(&c->measured, canary, sizeof(canary));
	snprintf(q->reason + used, sizeof(q->reason) - used,
		 "; flag to the grid and back %" PRIu64 ".%" PRIu64 " us; %s",
		 c->measured.flag / 1000, c->measured.flag % 1000 / 100, canary);
	return true;
}

/* A bounded grid is not launched before there is a message, so nothing can be measured. */
static void begin_bounded(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	const size_t used = strlen(q->reason);

	gq__transport_assume(c);
	snprintf(q->reason + used, sizeof(q->reason) - used,
		 "; bounded: launches of %" PRIu32 " messages or %" PRIu32 " ms",
		 q->cfg.bounded_messages, q->cfg.bounded_ms);
}

bool gq__cuda_start(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);
	bool ok = false, left;

	gq__quiet_at_exit();
	/* Every producer looks at the device after it has published: see published(). */
	gq_fetch_or_seq_cst_u64(&q->work.word, GQ_EVENT_STICKY);
	if (!gq__quiet_begin(c, GQ_QUIET_OTHERS)) {
		gq__quiet_refuse("allocating");
	} else if (gq_context_enter(c)) {
		ok = gq__view_make(c);
		gq_context_leave(c);
	}
	if (!ok) {
		gq__quiet_end(c, GQ_QUIET_OTHERS);
		return false;
	}
	gq_fetch_add_seq_cst_u64(&q->refs, 1); /* the grid's */
	/* From here on, other queues send the grid away before they allocate. */
	gq__quiet_enlist(c);
	pthread_mutex_lock(&c->lock);
	ok = launch_and_leave_all(c);
	gq__quiet_end(c, GQ_QUIET_OTHERS);
	if (ok && gq_is_bounded(c))
		begin_bounded(c);
	else if (ok)
		ok = launch_first(c);
	gq_grid_enter(c, ok ? GQ_GRID_ON : GQ_GRID_ABANDONED);
	pthread_mutex_unlock(&c->lock);
	if (ok && gq__transport_trim(c))
		return true;
	pthread_mutex_lock(&c->lock);
	gq_grid_enter(c, GQ_GRID_ABANDONED);
	left = c->launch == 0 || gq__launch_send_away(c, gq__now_ns() + GQ_QUIET_TIMEOUT_NS);
	if (!left)
		gq__abandon_grid(c); /* it stays in the list, as in join() */
	pthread_mutex_unlock(&c->lock);
	if (left) {
		gq__quiet_unlist(c);
		gq_fetch_add_seq_cst_u64(&q->refs, 0 - UINT64_C(1));
	}
	return false;
}
