/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - the CUDA device: the table of calls that a queue makes (struct gq_device). Its
 * consumers are the blocks of a resident grid.
 *
 * On a message's way no driver call is made but the launch that wakes a parked grid and, for
 * messages that are copied, those of transport.c. Host and grid share pinned host memory; what only
 * the grid touches is device memory. All of it is allocated before the first launch and freed when
 * the grid has left. docs/design/cuda.md has the argument.
 */
#include "device/cuda/host/abandon.h"
#include "device/cuda/host/call.h"
#include "device/cuda/host/launch.h"
#include "device/cuda/host/open.h"
#include "device/cuda/host/ping.h"
#include "device/cuda/host/quiet.h"
#include "device/cuda/host/regions.h"
#include "device/cuda/host/start.h"
#include "device/cuda/host/tally.h"
#include "device/cuda/host/transport.h"
#include "device/cuda/host/view.h"
#include "device/cuda/host/watch.h"
#include "device/protocol/batch.h"
#include "host/base/memory.h"
#include "host/base/sys.h"

enum { TEND_NS = 1000000 }; /* how often the driver is asked */

/* ---- memory ---------------------------------------------------------------------------------- */

static void *alloc(GpuQueue *q, size_t bytes, const char *what)
{
	struct gq_cuda *c = gq_cuda_of(q);
	void *memory;
	bool quiet = gq__quiet_begin(c, GQ_QUIET_OTHERS);

	memory = quiet ? gq__cuda_allocate_pinned(c, bytes, what) : NULL;
	if (!quiet)
		gq__quiet_refuse("allocating");
	gq__quiet_end(c, GQ_QUIET_OTHERS);
	return memory;
}

/* The grid has left: see gq__cuda_start(). */
static void free_memory(GpuQueue *q, void *memory, size_t bytes)
{
	struct gq_cuda *c = gq_cuda_of(q);

	(void)bytes;
	if (memory == NULL)
		return;
	if (!gq__quiet_begin(c, GQ_QUIET_OTHERS))
		gq__log(Q_LOG_WARNING, "CUDA: freeing memory waits for another queue's message");
	if (gq__context_enter_to_free(c)) {
		gq__transport_settle(c);
		c->cu->cuMemFreeHost(memory);
		gq_context_leave(c);
	}
	gq__quiet_end(c, GQ_QUIET_OTHERS);
}

/* ---- open and close -------------------------------------------------------------------------- */

static bool open_cuda(GpuQueue *q)
{
	struct gq_cuda *c;
	bool opened = false;

	if (!gq__open_check_environment())
		return false;
	c = gq__alloc(sizeof(*c), "the CUDA device");
	if (c == NULL)
		return false;
	c->q = q;
	c->generation = gq__generation;
	c->cu = gq__cuda_driver();
	if (c->cu == NULL) {
		gq__free(c, sizeof(*c));
		return false;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->copy_lock, NULL);
	c->copy_from = UINT32_MAX;
	q->device_state = c;
	if (!gq__tune_read(&c->tune) || !gq__open_find(c))
		return false;
	if (gq__quiet_begin(c, GQ_QUIET_OTHERS)) /* loading a module allocates */
		opened = gq__open_load(c);
	else
		gq__quiet_refuse("loading the processor");
	gq__quiet_end(c, GQ_QUIET_OTHERS);
	return opened;
}

/* What the driver has given. The queue's grid has left. */
static void free_all(struct gq_cuda *c)
{
	const enum gq_quiet whose = c->regions != 0 ? GQ_QUIET_PROCESS : GQ_QUIET_OTHERS;

	gq__quiet_begin(c, whose);
	gq__tally_log(c);
	if (gq__context_enter_to_free(c)) {
		gq__transport_free(c);
		gq__regions_unbind(c);
		gq__view_free(c);
		gq__open_unload(c);
		gq_context_leave(c);
	}
	c->cu->cuDevicePrimaryCtxRelease(c->device);
	gq__quiet_end(c, whose);
}

static void close_cuda(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);

	if (c == NULL)
		return;
	if (c->context != NULL)
		free_all(c);
	pthread_mutex_destroy(&c->copy_lock);
	pthread_mutex_destroy(&c->lock);
	gq__free(c, sizeof(*c));
	q->device_state = NULL;
}

static void join(GpuQueue *q, bool abandon)
{
	struct gq_cuda *c = gq_cuda_of(q);

	pthread_mutex_lock(&c->lock);
	if (gq_has_failed(c))
		abandon = !gq__launch_send_away(c, gq__now_ns() + GQ_QUIET_TIMEOUT_NS);
	gq_grid_enter(c, GQ_GRID_ABANDONED);
	if (abandon)
		gq__abandon_grid(c); /* it stays in the list: allocating would wait for its grid */
	pthread_mutex_unlock(&c->lock);
	if (abandon)
		return;
	gq__quiet_unlist(c);
	gq__drop_ref(q);
}

/* ---- while it runs --------------------------------------------------------------------------- */

static bool acknowledged(GpuQueue *q, uint64_t control)
{
	struct gq_cuda *c = gq_cuda_of(q);
	bool all = true;

	pthread_mutex_lock(&c->lock);
	/* While the queue is paused no grid is launched (see gq__launch_wake()), so one that has
	 * left needs not acknowledge. */
	if (gq_has_failed(c) ||
	    (c->state == GQ_GRID_ON && !gq_is_bounded(c) ? gq__launch_park(c) != GQ_PARK_GONE
							 : !gq__launch_has_left(c)))
		for (uint32_t i = 0; all && i < c->units; i++)
			all = gq_load_seq_cst_u64(&c->ack[i]) == control; /* [ack.read] */
	pthread_mutex_unlock(&c->lock);
	return all;
}

/* All units stand still. The grid leaves altogether, so that the application may call what waits
 * for every kernel of the context. */
static void paused(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);

	pthread_mutex_lock(&c->lock);
	if (gq_is_paused(q) && !gq__launch_is_away(c) &&
	    !gq__launch_send_away(c, gq__now_ns() + GQ_QUIET_TIMEOUT_NS))
		gq__log(Q_LOG_WARNING, "CUDA: the paused grid is still resident");
	pthread_mutex_unlock(&c->lock);
}

static bool nothing_under_way(const GpuQueue *q)
{
	return gq__accepted(q) == gq_load_relaxed_u64(&q->reaped.finished);
}

static void resumed(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);

	pthread_mutex_lock(&c->lock);
	if (!gq_is_paused(q) && !c->kept_away) {
		if (c->state == GQ_GRID_AWAY)
			gq__launch_bring_back(c);
		else if (!nothing_under_way(q)) /* published while the pause forbade a launch */
			gq__launch_wake(c, false);
	}
	pthread_mutex_unlock(&c->lock);
}

static QueueStatus preload(GpuQueue *q, void (*load)(void *user), void *user)
{
	GQ_NO_CANCEL();
	struct gq_cuda *c = gq_cuda_of(q);
	QueueStatus status = gq__quiet_try(c, GQ_QUIET_GPU, "loading");

	if (status == Q_OK) {
		const int result = c->cu->cuCtxPushCurrent(c->context);

		if (result == GQ_CU_SUCCESS) {
			load(user);
			gq_context_leave(c);
		} else {
			status = gq__cuda_error(c->cu, "cuCtxPushCurrent", result);
		}
	}
	gq__quiet_end(c, GQ_QUIET_GPU);
	return status;
}

static bool left(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);
	bool result;

	pthread_mutex_lock(&c->lock);
	result = gq__launch_has_left(c);
	pthread_mutex_unlock(&c->lock);
	return result;
}

/* ---- after a stop that timed out ------------------------------------------------------------- */

/*
 * What units have claimed and none has taken ends here, run by run: a unit that stood still may
 * have taken of a run before all of an older one was taken. The host claims from behind the newest.
 */
static void end_runs(GpuQueue *q, const struct gq_counters *counters)
{
	uint64_t pos = gq_load_acquire_u64(q->ch.done.tail); /* [tail.read] */

	for (uint32_t i = 0; i < GQ_CLASSES; i++) {
		const uint64_t near = counters->cursor[i];
		uint64_t last = 0;

		for (uint32_t k = 0; k < GQ_RUNS; k++) {
			const uint64_t run = counters->run[i][k];
			const uint64_t end = gq_run_behind(run, near) + gq_run_count(run);

			last = end > last ? end : last;
		}
		q->ready_pos[i].head = near + last - GQ_RUN_POSITIONS / 2;
		for (uint32_t k = 0; k < GQ_RUNS; k++) {
			const uint64_t run = counters->run[i][k];

			/* The ring's own entries may be those of a later lap. */
			for (uint32_t j = gq_run_taken(run); j < gq_run_count(run); j++)
				gq__cancel_one(q, &pos,
					       (uint32_t)(counters->near[i][k][j] & q->slot_mask));
		}
	}
	gq_complete_rest(&q->ch, pos);
}

/* Under the lock, the grid having left for good: the host takes over its cursors. */
static bool take_over(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	struct gq_counters *counters; /* too large for the stack of any thread that polls */
	struct gq_error before;
	bool ok = false;

	GQ_NO_CANCEL();
	gq__error_keep(&before);
	counters = gq__alloc(sizeof(*counters), "the grid's counters");
	if (counters != NULL && gq_context_enter(c)) {
		ok = CU(c, cuMemcpyDtoHAsync, counters, c->counters, sizeof(*counters),
			c->stream) &&
		     CU(c, cuStreamSynchronize, c->stream);
		gq_context_leave(c);
	}
	gq__error_put_back(&before);
	if (ok) {
		q->done_pos.tail = counters->done_tail;
		gq_grid_enter(c, GQ_GRID_TAKEN_OVER);
		end_runs(q, counters);
	}
	gq__free(counters, sizeof(*counters));
	return ok;
}

/*
 * A stop has timed out. While units are there they cancel what waits, and leave when they find
 * nothing. What is published after they have left is cancelled here, by any thread that publishes
 * or tends. While the grid is kept away that has to wait: it takes calls of the driver.
 */
static void cancel_unstarted(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);

	pthread_mutex_lock(&c->lock);
	if (gq__launch_has_left(c) && !gq_has_failed(c) &&
	    (c->state == GQ_GRID_TAKEN_OVER || (!c->kept_away && take_over(c))))
		gq__cancel_unstarted(q);
	pthread_mutex_unlock(&c->lock);
}

static bool is_cancelling(const GpuQueue *q)
{
	return (gq_load_seq_cst_u64(&q->control) & GQ_CONTROL_CANCEL) != 0; /* [control.read] */
}

/* ---- publishing and tending ------------------------------------------------------------------ */

static void published(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);

	/* [wake.look]: a grid stores LOOKING before its second look. The number of its launch was
	 * written before the grid began, so `launch`, read after this word, is not older. */
	const uint64_t park = gq_load_seq_cst_u64(&c->link->report.park);

	if (gq_is_bounded(c) || (park >> GQ_PARK_BITS == gq_load_relaxed_u64(&c->launch) &&
				 (park & ((1u << GQ_PARK_BITS) - 1)) != GQ_PARK_RUNNING)) {
		pthread_mutex_lock(&c->lock);
		gq__launch_wake(c, false);
		pthread_mutex_unlock(&c->lock);
	}
	if (is_cancelling(q))
		cancel_unstarted(q);
	if (gq_event_armed(&q->any)) /* [wake.look]: it naps long while nothing is under way */
		gq__event_wake(&q->any, UINT32_MAX);
}

static void tend(GpuQueue *q)
{
	struct gq_cuda *c = gq_cuda_of(q);
	const uint64_t now_ns = gq__now_ns();

	if (now_ns - gq_load_relaxed_u64(&c->tended_ns) < TEND_NS ||
	    pthread_mutex_trylock(&c->lock) != 0)
		return;
	gq_store_relaxed_u64(&c->tended_ns, now_ns);
	if (gq_is_bounded(c))
		gq__launch_wake(c, true);
	else if (!gq__launch_has_left(c))
		gq__ping_realign(c, now_ns);
	if (!gq_has_failed(c))
		gq__watch(c, now_ns);
	pthread_mutex_unlock(&c->lock);
	if (is_cancelling(q))
		cancel_unstarted(q);
}

const struct gq_device gq__cuda_device = {
	.kind = Q_DEVICE_CUDA,
	.open = open_cuda,
	.close = close_cuda,
	.alloc = alloc,
	.free = free_memory,
	.start = gq__cuda_start,
	.join = join,
	.acknowledged = acknowledged,
	.left = left,
	.cancel_unstarted = cancel_unstarted,
	.hand_over = gq__transport_hand_over,
	.bind = gq__regions_bind,
	.locate = gq__regions_locate,
	.describe = gq__watch_describe,
	.published = published,
	.paused = paused,
	.resumed = resumed,
	.preload = preload,
	.tend = tend,
	.clock_error_ns = gq__ping_clock_error_ns,
};
