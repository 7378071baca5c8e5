/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - the CUDA device: consumers are the blocks of a resident grid.
 *
 * The message path makes no driver call but the launch that wakes a parked grid and, for messages
 * that are copied, those of transport.c. What host and grid share is pinned host memory; what only
 * the grid touches is device memory. Allocated before the first launch, freed when the grid has
 * left. docs/design.md has the argument.
 */
#include "device/cuda/host/state.h"
#include "host/base/sys.h"
#include "host/base/thread.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	DEFAULT_PARK_MS = 1000,
	DEFAULT_SCOUTS = 16,
	STAGING_BUDGET = 256 << 20, /* bytes up to which a warp gets 32 places */
	TEND_NS = 1000000,          /* how often the driver is asked */
};
#define START_TIMEOUT_NS  UINT64_C(10000000000)
#define GIVE_WAY_AFTER_NS UINT64_C(50000)
#define QUIET_TIMEOUT_NS  UINT64_C(2000000000)

/* Queues with a grid: allocating and freeing waits for every kernel of the context, so their grids
 * have to leave for a moment. */
static pthread_mutex_t live_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gq_cuda *live;

/* ---- driver calls ---------------------------------------------------------------------------- */

bool gq__cuda_check(const struct gq_cu *cu, const char *call, int result)
{
	if (__builtin_expect(result == GQ_CU_SUCCESS, 1))
		return true;
	gq__cuda_error(cu, call, result);
	return false;
}

/* To give things back, which cannot be put off: a second attempt is all there is. */
static bool begin_to_free(struct gq_cuda *c)
{
	for (int attempt = 0; attempt < 2; attempt++)
		if (c->cu->cuCtxPushCurrent(c->context) == GQ_CU_SUCCESS)
			return true;
	return false;
}

static struct gq_cuda *state_of(const GpuQueue *q)
{
	return q->device_state;
}

/* ---- failure --------------------------------------------------------------------------------- */

/*
 * The driver has reported an error: the context is dead, and with it the grid. Under the lock.
 */
static void fail_queue(struct gq_cuda *c, const char *call, int result)
{
	GpuQueue *q = c->q;
	char what[160], ids[160];

	if (c->gone_for_good)
		return;
	c->gone_for_good = true;
	/* Should it be alive after all: it must not touch what is given back. [control.write]. */
	if (c->link != NULL) {
		gq_store_release_u64(&c->link->orders.failed, 1); /* [control.write] */
		gq_store_release_u64(&c->link->orders.depart, c->launch);
	}
	gq__cuda_describe(c->cu, result, what, sizeof(what));
	if (gq__watch_list(c, UINT64_MAX, ids, sizeof(ids)) != 0)
		snprintf(q->failure, sizeof(q->failure), "CUDA: %s: %s; being processed: msg_id %s",
			 call, what, ids);
	else
		snprintf(q->failure, sizeof(q->failure),
			 "CUDA: %s: %s; no message was being processed", call, what);
	gq__log(Q_LOG_ERROR, "%s", q->failure);
	/* [failure.write] release: the sentence. [wake.look] */
	gq_exchange_seq_cst_u32(&q->failed, 1);
	gq_store_release_u64(&q->generation, GQ_GENERATION_FAILED);
	gq__fail_all(q);
}

void gq__cuda_fail(struct gq_cuda *c, const char *call, int result)
{
	pthread_mutex_lock(&c->lock);
	fail_queue(c, call, result);
	pthread_mutex_unlock(&c->lock);
}

/* Whether the driver says that a kernel is in the stream; of a dead context it says other things.
 */
static bool is_resident(struct gq_cuda *c)
{
	GQ_NO_CANCEL();
	int result = c->cu->cuCtxPushCurrent(c->context);

	if (result == GQ_CU_SUCCESS) {
		result = c->cu->cuStreamQuery(c->stream);
		gq_cuda_end(c);
	}
	return result == GQ_CU_NOT_READY;
}

/*
 * Whether the launched grid has left. Under the lock. An error fails the queue; a dead grid has
 * left.
 */
static bool has_left(struct gq_cuda *c)
{
	const char *call = "cuCtxPushCurrent";
	int result;

	if (c->launch == 0 || c->gone_for_good)
		return true;
	GQ_NO_CANCEL();
	result = c->cu->cuCtxPushCurrent(c->context);
	if (result == GQ_CU_SUCCESS) {
		call = "cuStreamQuery";
		result = c->cu->cuStreamQuery(c->stream);
		gq_cuda_end(c);
	}
	if (result == GQ_CU_NOT_READY)
		return false;
	if (result != GQ_CU_SUCCESS)
		fail_queue(c, call, result);
	return true;
}

/* ---- launch ---------------------------------------------------------------------------------- */

/* Under the lock, the last grid having left or being about to: the stream orders them. */
static bool launch(struct gq_cuda *c)
{
	const uint64_t number = c->launch + 1;
	struct gq_launch argument = { number, gq__accepted(c->q) };
	CUdeviceptr grid = c->grid;
	void *arguments[] = { &grid, &argument };
	const char *call = "cuCtxPushCurrent";
	int result;

	GQ_NO_CANCEL();
	gq_store_relaxed_u64(&c->launch, number); /* the launch publishes it: see published() */
	result = c->cu->cuCtxPushCurrent(c->context);
	if (result == GQ_CU_SUCCESS) {
		call = "cuLaunchCooperativeKernel";
		result = c->cu->cuLaunchCooperativeKernel(c->kernel, c->blocks, 1, 1,
							  c->info.block_threads, 1, 1, 0, c->stream,
							  arguments);
		gq_cuda_end(c);
	}
	if (result != GQ_CU_SUCCESS) {
		gq_store_relaxed_u64(&c->launch, number - 1);
		if (c->started) /* a failed wake is a device failure, not the call's that woke */
			fail_queue(c, call, result);
		else
			gq__cuda_error(c->cu, call, result);
		return false;
	}
	c->departed = false;
	c->covered = argument.until;
	return true;
}

static bool is_bounded(const struct gq_cuda *c)
{
	return c->q->cfg.bounded_messages != 0;
}

/* Under the lock. What the grid has decided about parking, waiting for it while it looks. */
static enum gq_park park_of(struct gq_cuda *c)
{
	for (uint32_t turns = 1;; turns++) {
		/* [report.read] acquire: all that the grid did before it went. */
		const uint64_t word = gq_load_acquire_u64(&c->link->report.park);
		const enum gq_park park = (enum gq_park)(word & ((1u << GQ_PARK_BITS) - 1));

		if (word >> GQ_PARK_BITS != c->launch)
			return GQ_PARK_RUNNING; /* it has not begun */
		if (park != GQ_PARK_LOOKING)
			return park;
		if (turns % 256 == 0 && has_left(c))
			return c->gone_for_good ? GQ_PARK_RUNNING : GQ_PARK_GONE;
		gq__await_step(turns);
	}
}

/* Under the lock. */
static bool is_paused(const GpuQueue *q)
{
	return (gq_load_seq_cst_u64(&q->control) & GQ_CONTROL_PAUSE) != 0; /* [control.read] */
}

/* Under the lock: its stop is at its end, and has perhaps seen that the grid has left. */
static bool is_leaving(const GpuQueue *q)
{
	return (gq_load_seq_cst_u64(&q->control) & GQ_CONTROL_LEAVE) != 0; /* [control.read] */
}

static bool nothing_under_way(const GpuQueue *q)
{
	return gq__accepted(q) == gq_load_relaxed_u64(&q->reaped.finished);
}

/* Under the lock, all bounded launches having left: what they covered and have not claimed, as
 * their time was over or they were sent away, waits again. What they have claimed has completed. */
static void cover_what_is_done(struct gq_cuda *c)
{
	gq__reap_all(c->q);
	c->covered = gq_load_relaxed_u64(&c->q->reaped.finished);
}

/*
 * Under the lock: launch a bounded grid if enough messages wait that no launch covers; or any, none
 * being there, and somebody waits for them. While one is there he waits for its end: it may be what
 * his message is in, and else each look would add a launch behind it.
 */
static void launch_bounded(struct gq_cuda *c, bool awaited)
{
	const bool serve_all = awaited && has_left(c);

	if (c->gone_for_good)
		return;
	if (serve_all)
		cover_what_is_done(c);
	if (gq__accepted(c->q) - c->covered >= (serve_all ? 1 : c->q->cfg.bounded_messages))
		launch(c);
}

/* Under the lock: launch the next grid if the last has parked and nothing forbids it. */
static void wake_grid(struct gq_cuda *c, bool awaited)
{
	if (c->gone_for_good || c->taken_over || is_paused(c->q))
		return;
	if (is_bounded(c))
		launch_bounded(c, awaited);
	else if (!c->departed && park_of(c) == GQ_PARK_GONE && launch(c))
		gq_fetch_add_relaxed_u64(&c->q->count.wakeups, 1);
}

/* Under the lock: tell the grid to leave between two messages, and wait until it has. If one is too
 * long for that the order stands, and whoever brings the grid back launches behind the old one. */
static bool send_away(struct gq_cuda *c, uint64_t deadline_ns)
{
	gq_store_release_u64(&c->link->orders.depart, c->launch); /* [control.write] */
	/* A driver that reports an error has not said that the grid is gone: then it is asked
	 * again. */
	for (uint32_t step = 0;
	     c->gone_for_good ? is_resident(c) : !has_left(c) || c->gone_for_good; step++) {
		if (gq__now_ns() >= deadline_ns) {
			c->departed = true; /* units have left, and the others will */
			return false;
		}
		gq__await_step(step);
	}
	c->departed = true;
	return true;
}

/* Under the lock. */
static bool is_away(struct gq_cuda *c)
{
	return c->launch == 0 || (c->departed && has_left(c));
}

/* Under the lock: a grid that was sent away comes back. */
static void bring_back(struct gq_cuda *c)
{
	if (!is_bounded(c) || !has_left(c)) { /* what that one leaves behind is not known yet */
		launch(c);
	} else if (!c->gone_for_good) {
		c->departed = false;
		cover_what_is_done(c);
		launch_bounded(c, false);
	}
}

/* ---- the others' grids ----------------------------------------------------------------------- */

/* Not those of the process that this one was forked from, nor one's own (`self`, or NULL). */
static bool is_another(const struct gq_cuda *c, const struct gq_cuda *self)
{
	return c != self && c->generation == gq__generation;
}

/* Send all other grids of the process away. @return whether all have left. */
static bool quiet_begin(const struct gq_cuda *self)
{
	uint64_t deadline_ns;
	bool all = true;

	pthread_mutex_lock(&live_lock);
	for (struct gq_cuda *c = live; c != NULL; c = c->next)
		if (is_another(c, self))
			pthread_mutex_lock(&c->lock); /* one may just be calibrating */
	deadline_ns = gq__now_ns() + QUIET_TIMEOUT_NS;
	for (struct gq_cuda *c = live; c != NULL; c = c->next)
		if (is_another(c, self) && !c->gone_for_good && !is_away(c))
			all = send_away(c, deadline_ns) && all;
	return all;
}

static void quiet_end(const struct gq_cuda *self)
{
	for (struct gq_cuda *c = live; c != NULL; c = c->next) {
		if (!is_another(c, self))
			continue;
		if (c->departed && !c->gone_for_good && !c->taken_over && !c->abandoned &&
		    !is_paused(c->q) && !is_leaving(c->q))
			bring_back(c);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&live_lock);
}

static QueueStatus refuse_noise(const char *what)
{
	return gq__failf(Q_ERR_TIMEOUT,
			 "CUDA: this or another queue of this process is inside a message for "
			 "longer than 2 s, and %s would wait for it",
			 what);
}

QueueStatus gq__cuda_quiet_begin(struct gq_cuda *c, const char *what)
{
	const bool quiet = quiet_begin(NULL); /* and locked, in the order of the list */

	if (c->gone_for_good)
		return gq__device_failed(c->q);
	return quiet ? Q_OK : refuse_noise(what);
}

void gq__cuda_quiet_end(void)
{
	quiet_end(NULL);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/*
 * Pinned, mapped, and visible to every context. The driver gives zeroed memory to processes, but
 * does not say so of what it has pooled.
 */
void *gq__cuda_allocate_pinned(struct gq_cuda *c, size_t bytes, const char *what)
{
	void *memory = NULL;
	int result;

	if (!gq_cuda_begin(c))
		return NULL;
	result = c->cu->cuMemHostAlloc(&memory, bytes,
				       GQ_CU_MEMHOSTALLOC_PORTABLE | GQ_CU_MEMHOSTALLOC_DEVICEMAP);
	gq_cuda_end(c);
	if (result == GQ_CU_OUT_OF_MEMORY)
		gq__failf(Q_ERR_NO_MEMORY,
			  "out of memory: %zu bytes of pinned memory for %s (cuMemHostAlloc)",
			  bytes, what);
	else if (result != GQ_CU_SUCCESS)
		gq__cuda_error(c->cu, "cuMemHostAlloc", result);
	if (result != GQ_CU_SUCCESS)
		return NULL;
	memset(memory, 0, bytes);
	return memory;
}

static void *alloc(GpuQueue *q, size_t bytes, const char *what)
{
	struct gq_cuda *c = state_of(q);
	void *memory;
	bool quiet = quiet_begin(c);

	memory = quiet ? gq__cuda_allocate_pinned(c, bytes, what) : NULL;
	if (!quiet)
		refuse_noise("allocating");
	quiet_end(c);
	return memory;
}

/* The grid has left: see start(). */
static void free_memory(GpuQueue *q, void *memory, size_t bytes)
{
	struct gq_cuda *c = state_of(q);

	(void)bytes;
	if (memory == NULL)
		return;
	if (!quiet_begin(c))
		gq__log(Q_LOG_WARNING, "CUDA: freeing memory waits for another queue's message");
	if (begin_to_free(c)) {
		gq__transport_settle(c);
		c->cu->cuMemFreeHost(memory);
		gq_cuda_end(c);
	}
	quiet_end(c);
}

bool gq__cuda_allocate(struct gq_cuda *c, CUdeviceptr *out, size_t bytes, const char *what)
{
	int result = c->cu->cuMemAlloc(out, bytes);

	if (result == GQ_CU_SUCCESS) {
		c->device_bytes += bytes;
		return true;
	}
	*out = 0;
	if (result == GQ_CU_OUT_OF_MEMORY)
		gq__failf(Q_ERR_NO_MEMORY,
			  "out of memory: %zu bytes of device memory for %s (cuMemAlloc)", bytes,
			  what);
	else
		gq__cuda_error(c->cu, "cuMemAlloc", result);
	return false;
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
	if (!gq__open_find(c))
		return false;
	if (quiet_begin(c)) /* loading a module allocates */
		opened = gq__open_load(c);
	else
		refuse_noise("loading the processor");
	quiet_end(c);
	return opened;
}

static void close_cuda(GpuQueue *q)
{
	struct gq_cuda *c = state_of(q);

	if (c == NULL)
		return;
	quiet_begin(c);
	if (c->context != NULL && begin_to_free(c)) {
		gq__transport_free(c);
		gq__regions_unbind(c);
		if (c->link != NULL)
			c->cu->cuMemFreeHost(c->link);
		if (c->user != 0)
			c->cu->cuMemFree(c->user);
		if (c->staging != 0)
			c->cu->cuMemFree(c->staging);
		if (c->counters != 0)
			c->cu->cuMemFree(c->counters);
		if (c->grid != 0)
			c->cu->cuMemFree(c->grid);
		if (c->canary_stream != NULL)
			c->cu->cuStreamDestroy(c->canary_stream);
		if (c->stream != NULL)
			c->cu->cuStreamDestroy(c->stream);
		if (c->module != NULL)
			c->cu->cuModuleUnload(c->module);
		gq_cuda_end(c);
	}
	if (c->context != NULL)
		c->cu->cuDevicePrimaryCtxRelease(c->device);
	quiet_end(c);
	pthread_mutex_destroy(&c->copy_lock);
	pthread_mutex_destroy(&c->lock);
	gq__free(c, sizeof(*c));
	q->device_state = NULL;
}

/* ---- start ----------------------------------------------------------------------------------- */

static uint64_t park_ns_of(const QueueConfig *cfg)
{
	return cfg->idle_park_ms == UINT32_MAX || cfg->bounded_messages != 0
		       ? UINT64_MAX
		       : (uint64_t)(cfg->idle_park_ms == 0 ? DEFAULT_PARK_MS : cfg->idle_park_ms) *
				 1000000u;
}

/* Under live_lock with the others' grids gone, in our context. */
static bool prepare(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	struct gq_grid grid = { .pool = q->pool,
				.start_pos = q->start_pos,
				.bounded_ns = (uint64_t)q->cfg.bounded_ms * 1000000u,
				.park_ns = park_ns_of(&q->cfg),
				.slot_bytes = (uint32_t)gq_round_up(q->cfg.slot_bytes, 16),
				.batch = c->info.granularity == 0 ? 32 : 1,
				.scouts = DEFAULT_SCOUTS };
	struct gq_counters counters = { .done_tail = q->start_pos, .uses = q->start_pos };

	gq__transport_plan(c);
	grid.ch = q->ch;
	grid.stage_result = gq_round_up(q->cfg.slot_bytes, GQ_LINE);
	grid.stage_bytes = grid.stage_result + gq_round_up(q->cfg.result_bytes, GQ_LINE);
	while (grid.batch > 1 &&
	       (uint64_t)c->units * grid.batch * grid.stage_bytes > STAGING_BUDGET)
		grid.batch /= 2;
	c->places = c->units * grid.batch;
	c->link_bytes =
		sizeof(struct gq_link) + (c->units + 2 * (size_t)c->places) * sizeof(uint64_t);
	c->link = gq__cuda_allocate_pinned(c, c->link_bytes, "orders and reports");
	if (c->link == NULL)
		return false;
	c->link->orders.ahead_ns = c->ahead_ns;
	c->ack = c->link->words;
	c->journal = (struct gq_journal *)(void *)(c->ack + c->units);
	if (!gq__cuda_allocate(c, &c->counters, sizeof(counters), "the cursors") ||
	    !gq__cuda_allocate(c, &c->grid, sizeof(grid), "the grid's view") ||
	    !gq__cuda_allocate(c, &c->staging, c->places * grid.stage_bytes,
			       "messages being processed"))
		return false;
	if (!gq__transport_prepare(c))
		return false;
	if (q->user != NULL &&
	    (!gq__cuda_allocate(c, &c->user, q->cfg.processor_data_bytes, "processor_data") ||
	     !CU(c, cuMemcpyHtoDAsync, c->user, q->user, q->cfg.processor_data_bytes, c->stream)))
		return false;
	grid.orders = &c->link->orders;
	grid.report = &c->link->report;
	grid.counters = gq_cuda_at(c->counters);
	grid.ack = c->ack;
	grid.journal = c->journal;
	grid.staging = gq_cuda_at(c->staging);
	grid.copied = gq_cuda_at(c->copied);
	grid.ch.hints = gq_cuda_at(c->hints);
	grid.ch.mirror = gq_cuda_at(c->mirror);
	grid.ch.mirror_stride = q->ch.mirror_stride;
	grid.ch.control = &c->link->orders.control;
	grid.ch.done.tail = &grid.counters->done_tail;
	grid.ch.user = gq_cuda_at(c->user);
	for (uint32_t i = 0; i < GQ_CLASSES; i++)
		counters.cursor[i] = q->start_pos << 1;
	q->ch.control = &c->link->orders.control;
	return CU(c, cuMemcpyHtoDAsync, c->counters, &counters, sizeof(counters), c->stream) &&
	       CU(c, cuMemcpyHtoDAsync, c->grid, &grid, sizeof(grid), c->stream) &&
	       CU(c, cuMemsetD8Async, c->staging, 0, c->places * grid.stage_bytes, c->stream) &&
	       CU(c, cuStreamSynchronize, c->stream);
}

static bool has_parked(const struct gq_cuda *c)
{
	return gq_load_acquire_u64(&c->link->report.park) == /* [report.read] */
	       (c->launch << GQ_PARK_BITS | GQ_PARK_GONE);
}

/* ---- asking the grid ------------------------------------------------------------------------- */

uint64_t gq__cuda_post_ping(struct gq_cuda *c, enum gq_ping what)
{
	const uint64_t ping = ((c->link->orders.ping >> GQ_PING_BITS) + 1) << GQ_PING_BITS |
			      (c->is_being_measured ? GQ_PING_STAY : 0) | (uint64_t)what;

	gq_store_release_u64(&c->link->orders.ping, ping); /* [control.write] */
	return ping;
}

/* An answer comes in microseconds, and is timed: only who has waited much longer gives way. */
bool gq__cuda_await_pong(struct gq_cuda *c, uint64_t ping, uint64_t patience_ns)
{
	const uint64_t begun = gq__now_ns();
	uint64_t waited;

	do {
		gq_cpu_relax();
		if (gq_load_acquire_u64(&c->link->report.pong) == ping) /* [report.read] */
			return true;
		waited = gq__now_ns() - begun;
		if (waited > GIVE_WAY_AFTER_NS)
			sched_yield();
	} while (waited < patience_ns && !has_parked(c));
	return false;
}

bool gq__cuda_ask(struct gq_cuda *c, enum gq_ping what, uint64_t patience_ns, uint64_t *answer)
{
	if (!gq__cuda_await_pong(c, gq__cuda_post_ping(c, what), patience_ns))
		return false;
	*answer = gq_load_relaxed_u64(&c->link->report.measured_ns);
	return true;
}

void gq__cuda_fail_with_state(struct gq_cuda *c, const char *what)
{
	const struct gq_report *r = &c->link->report;

	gq__failf(Q_ERR_CUDA,
		  "CUDA: %s (launch %" PRIu64 " of %" PRIu32 " x %" PRIu32
		  " threads; reported: resident %" PRIu64 ", park %" PRIu64 ", pong %" PRIu64
		  "; ordered: control %" PRIu64 ", depart %" PRIu64 ", ping %" PRIu64 ")",
		  what, c->launch, c->blocks, c->info.block_threads,
		  gq_load_relaxed_u64(&r->resident), gq_load_relaxed_u64(&r->park),
		  gq_load_relaxed_u64(&r->pong), gq_load_relaxed_u64(&c->link->orders.control),
		  gq_load_relaxed_u64(&c->link->orders.depart),
		  gq_load_relaxed_u64(&c->link->orders.ping));
}

/* A one-thread kernel in another stream must come through beside the grid. */
static bool run_canary(struct gq_cuda *c)
{
	const uint64_t begun = gq__now_ns();
	uint32_t step = 0;
	int result;

	if (!gq__open_launch_canary(c, NULL))
		return false;
	do {
		result = c->cu->cuStreamQuery(c->canary_stream);
		if (result == GQ_CU_NOT_READY)
			gq__await_step(step++);
	} while (result == GQ_CU_NOT_READY && gq__now_ns() - begun < START_TIMEOUT_NS / 10);
	c->measured.canary = result == GQ_CU_SUCCESS ? gq__now_ns() - begun : UINT64_MAX;
	if (result == GQ_CU_NOT_READY)
		gq__log(Q_LOG_WARNING, "CUDA: a kernel in another stream does not come through "
				       "beside the grid: leave multiprocessors free (reserve_sms)");
	else if (result != GQ_CU_SUCCESS)
		gq__cuda_error(c->cu, "cuStreamQuery", result);
	return result == GQ_CU_SUCCESS || result == GQ_CU_NOT_READY;
}

/*
 * Wait until all blocks run. The driver only promises to start a kernel while it is being called.
 */
static bool await_residence(struct gq_cuda *c)
{
	const uint64_t deadline_ns = gq__now_ns() + START_TIMEOUT_NS;
	uint32_t step = 0;

	/* [report.read] acquire: pairs with [report.write]. */
	while (gq_load_acquire_u64(&c->link->report.resident) != c->launch) {
		if (has_left(c)) {
			/* [report.read] */
			if (!c->gone_for_good &&
			    gq_load_acquire_u64(&c->link->report.resident) == c->launch)
				return true; /* it came, and has parked */
			if (c->gone_for_good)
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

/* Under live_lock, and perhaps the others' locks: at the end, as locks are taken in this order. */
static void enlist(struct gq_cuda *c)
{
	struct gq_cuda **at = &live;

	while (*at != NULL)
		at = &(*at)->next;
	c->next = NULL;
	*at = c;
}

static void unlist(struct gq_cuda *c)
{
	pthread_mutex_lock(&live_lock);
	for (struct gq_cuda **at = &live; *at != NULL; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			break;
		}
	}
	pthread_mutex_unlock(&live_lock);
}

static void *wait_for_grid(void *arg)
{
	GpuQueue *q = arg;
	struct gq_cuda *c = state_of(q);
	bool left;

	GQ_NO_CANCEL();
	gq__name_this_thread("gpuq-grid");
	do {
		gq_sys_nap(5000000);
		pthread_mutex_lock(&c->lock);
		left = !is_resident(c);
		pthread_mutex_unlock(&c->lock);
	} while (!left);
	unlist(c);
	gq__drop_ref(q);
	return NULL;
}

/* The grid is still there and its memory must not go: a thread waits until it can. */
static void leave_to_itself(struct gq_cuda *c)
{
	pthread_t thread;

	if (gq__start_thread(&thread, wait_for_grid, c->q, "gpuq-grid") == 0)
		pthread_detach(thread);
	else
		gq__log(Q_LOG_ERROR, "CUDA: no thread to wait for a grid that does not leave: its "
				     "memory is kept for ever");
}

/* A process may end with live queues: their grids are told to leave, and nothing is waited for but
 * a moment. */
static void at_exit(void)
{
	const uint64_t deadline_ns = gq__now_ns() + 100000000;

	if (pthread_mutex_trylock(&live_lock) != 0)
		return;
	/* [control.write] */
	for (struct gq_cuda *c = live; c != NULL; c = c->next)
		if (c->generation == gq__generation)
			gq_store_release_u64(&c->link->orders.depart, c->launch);
	for (struct gq_cuda *c = live; c != NULL; c = c->next) {
		if (c->generation != gq__generation || pthread_mutex_trylock(&c->lock) != 0)
			continue;
		for (uint32_t step = 0; !has_left(c) && gq__now_ns() < deadline_ns; step++)
			gq__await_step(step);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&live_lock);
}

static void watch_exit(void)
{
	atexit(at_exit);
}

/*
 * The kernel's first launch, for which the driver may load code or enlarge local memory, and so
 * wait for every kernel: while the others' grids are gone, with the order to leave at once.
 */
static bool launch_and_leave(struct gq_cuda *c, uint64_t patience_ns)
{
	uint64_t deadline_ns;

	gq_store_release_u64(&c->link->orders.depart, c->launch + 1); /* [control.write] */
	if (!launch(c))
		return false;
	deadline_ns = gq__now_ns() + patience_ns;
	for (uint32_t step = 0; !has_left(c); step++) {
		if (gq__now_ns() >= deadline_ns) {
			gq__cuda_fail_with_state(c,
						 "the grid was told to leave at once, and has not");
			return false;
		}
		gq__await_step(step);
	}
	if (c->gone_for_good)
		gq__device_failed(c->q);
	return !c->gone_for_good;
}

/* Whether its kernel has yet to be launched for the first time. */
static bool is_unlaunched(const struct gq_cuda *c)
{
	return c->launch == 0 && !c->gone_for_good && !c->taken_over && !c->abandoned;
}

/*
 * While all grids are gone: the first launch of this queue's; and of bounded ones, which would come
 * beside another's grid, with their first messages. One that has no other queue beside it has none:
 * a profiler is to see launches for messages only. Other queues stand still meanwhile, and wait no
 * longer for somebody's kernel that fills the GPU than they do for a message.
 */
static bool launch_and_leave_all(struct gq_cuda *c)
{
	bool alone = true;

	for (struct gq_cuda *other = live; other != NULL; other = other->next) {
		if (!is_another(other, c))
			continue;
		alone = false;
		if (!is_unlaunched(other))
			continue;
		launch_and_leave(other, QUIET_TIMEOUT_NS);
		other->departed = true; /* what waits there is launched for by quiet_end() */
	}
	return (alone && is_bounded(c)) ||
	       launch_and_leave(c, alone ? START_TIMEOUT_NS : QUIET_TIMEOUT_NS);
}

/* The first launch that stays, and what is learnt from it. */
static bool launch_first(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	const size_t used = strlen(q->reason);
	char canary[80] = "no kernel of another stream came through beside it";
	bool ok;

	c->is_being_measured = true;
	gq__cuda_post_ping(c, GQ_PING_CLOCK); /* it stays until this is over */
	if (!launch(c) || !await_residence(c) || !gq_cuda_begin(c))
		return false;
	ok = gq__watch_align(c) && run_canary(c) && gq__transport_choose(c);
	c->is_being_measured = false;
	gq__cuda_post_ping(c, GQ_PING_CLOCK);
	gq_cuda_end(c);
	if (!ok)
		return false;
	if (c->measured.canary != UINT64_MAX)
		snprintf(canary, sizeof(canary), "a kernel in another stream took %" PRIu64 " us",
			 c->measured.canary / 1000);
	snprintf(q->reason + used, sizeof(q->reason) - used,
		 "; flag to the grid and back %" PRIu64 ".%" PRIu64 " us; %s",
		 c->measured.flag / 1000, c->measured.flag % 1000 / 100, canary);
	return true;
}

/* Nothing is launched before there is something to serve, and so nothing can be measured. */
static void begin_bounded(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	const size_t used = strlen(q->reason);

	gq__transport_assume(c);
	snprintf(q->reason + used, sizeof(q->reason) - used,
		 "; bounded: launches of %" PRIu32 " messages or %" PRIu32 " ms",
		 q->cfg.bounded_messages, q->cfg.bounded_ms);
}

static bool start(GpuQueue *q)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct gq_cuda *c = state_of(q);
	bool ok = false, left;

	pthread_once(&once, watch_exit);
	/* Whoever has published looks: see published(). */
	gq_fetch_or_seq_cst_u64(&q->work.word, GQ_EVENT_STICKY);
	if (!quiet_begin(c)) {
		refuse_noise("allocating");
	} else if (gq_cuda_begin(c)) {
		ok = prepare(c);
		gq_cuda_end(c);
	}
	if (!ok) {
		quiet_end(c);
		return false;
	}
	gq_fetch_add_seq_cst_u64(&q->refs, 1); /* the grid's */
	/* From before its launch on, others who allocate send it away. */
	enlist(c);
	pthread_mutex_lock(&c->lock);
	ok = launch_and_leave_all(c);
	quiet_end(c);
	if (ok && is_bounded(c))
		begin_bounded(c);
	else if (ok)
		ok = launch_first(c);
	c->started = ok;
	pthread_mutex_unlock(&c->lock);
	if (ok && gq__transport_trim(c))
		return true;
	pthread_mutex_lock(&c->lock);
	c->started = false;
	c->abandoned = true;
	left = c->launch == 0 || send_away(c, gq__now_ns() + QUIET_TIMEOUT_NS);
	if (!left)
		leave_to_itself(c); /* stays listed, as in join() */
	pthread_mutex_unlock(&c->lock);
	if (left) {
		unlist(c);
		gq_fetch_add_seq_cst_u64(&q->refs, 0 - UINT64_C(1));
	}
	return false;
}

static void join(GpuQueue *q, bool abandon)
{
	struct gq_cuda *c = state_of(q);

	pthread_mutex_lock(&c->lock);
	if (c->gone_for_good)
		abandon = !send_away(c, gq__now_ns() + QUIET_TIMEOUT_NS);
	c->abandoned = true;
	if (abandon)
		leave_to_itself(c); /* stays listed: whoever allocates would wait for it */
	pthread_mutex_unlock(&c->lock);
	if (abandon)
		return;
	unlist(c);
	gq__drop_ref(q);
}

/* ---- while it runs --------------------------------------------------------------------------- */

static bool acknowledged(GpuQueue *q, uint64_t control)
{
	struct gq_cuda *c = state_of(q);
	bool all = true;

	pthread_mutex_lock(&c->lock);
	/* A grid that is gone is not launched while the queue is paused: see wake_grid(). */
	if (c->gone_for_good ||
	    (is_bounded(c) || c->departed ? !has_left(c) : park_of(c) != GQ_PARK_GONE))
		for (uint32_t i = 0; all && i < c->units; i++)
			all = gq_load_seq_cst_u64(&c->ack[i]) == control; /* [ack.read] */
	pthread_mutex_unlock(&c->lock);
	return all;
}

/* All units stand still. The grid leaves altogether, so that the application may call what waits
 * for every kernel of the context. */
static void paused(GpuQueue *q)
{
	struct gq_cuda *c = state_of(q);

	pthread_mutex_lock(&c->lock);
	if (is_paused(q) && !is_away(c) && !c->gone_for_good &&
	    !send_away(c, gq__now_ns() + QUIET_TIMEOUT_NS))
		gq__log(Q_LOG_WARNING, "CUDA: the paused grid is still resident");
	pthread_mutex_unlock(&c->lock);
}

static void resumed(GpuQueue *q)
{
	struct gq_cuda *c = state_of(q);

	pthread_mutex_lock(&c->lock);
	if (!c->gone_for_good && !c->taken_over && !is_paused(q)) {
		if (c->departed)
			bring_back(c);
		else if (!nothing_under_way(q)) /* published while the pause forbade to wake */
			wake_grid(c, false);
	}
	pthread_mutex_unlock(&c->lock);
}

static bool left(GpuQueue *q)
{
	struct gq_cuda *c = state_of(q);
	bool result;

	pthread_mutex_lock(&c->lock);
	result = has_left(c);
	pthread_mutex_unlock(&c->lock);
	return result;
}

/* Under the lock, the grid having left for good: its cursors become the host's. */
static bool take_over(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	struct gq_counters counters;
	struct gq_error before;
	bool ok;

	GQ_NO_CANCEL();
	gq__error_keep(&before);
	if (!gq_cuda_begin(c)) {
		gq__error_put_back(&before);
		return false;
	}
	ok = CU(c, cuMemcpyDtoHAsync, &counters, c->counters, sizeof(counters), c->stream) &&
	     CU(c, cuStreamSynchronize, c->stream);
	gq_cuda_end(c);
	gq__error_put_back(&before);
	if (!ok)
		return false;
	for (uint32_t i = 0; i < GQ_CLASSES; i++) {
		/* The cursor has 63 bits of the position; the tail is at most a lap ahead. */
		const uint64_t tail = gq_load_acquire_u64(q->ch.ready[i].tail); /* [tail.read] */

		q->ready_pos[i].head = tail - (((tail << 1) - (counters.cursor[i] & ~1ull)) >> 1);
	}
	q->done_pos.tail = counters.done_tail;
	c->taken_over = true;
	return true;
}

/*
 * After a stop that timed out. While units are there they cancel what waits, and leave when they
 * find nothing. What is published after that is cancelled here, by whoever comes by.
 */
static void cancel_unstarted(GpuQueue *q)
{
	struct gq_cuda *c = state_of(q);

	pthread_mutex_lock(&c->lock);
	if (has_left(c) && !c->gone_for_good && (c->taken_over || take_over(c)))
		gq__cancel_unstarted(q);
	pthread_mutex_unlock(&c->lock);
}

static bool is_cancelling(const GpuQueue *q)
{
	return (gq_load_seq_cst_u64(&q->control) & GQ_CONTROL_CANCEL) != 0; /* [control.read] */
}

static void published(GpuQueue *q)
{
	struct gq_cuda *c = state_of(q);

	/* [wake.look], the LOOKING that a grid stores before its second look. Its launch's
	 * number was written before the grid began, so what is read after the word is not older. */
	const uint64_t park = gq_load_seq_cst_u64(&c->link->report.park);

	if (is_bounded(c) || (park >> GQ_PARK_BITS == gq_load_relaxed_u64(&c->launch) &&
			      (park & ((1u << GQ_PARK_BITS) - 1)) != GQ_PARK_RUNNING)) {
		pthread_mutex_lock(&c->lock);
		wake_grid(c, false);
		pthread_mutex_unlock(&c->lock);
	}
	if (is_cancelling(q))
		cancel_unstarted(q);
	if (gq_event_armed(&q->any)) /* [wake.look]: who naps long because nothing was under way */
		gq__event_wake(&q->any, UINT32_MAX);
}

static void tend(GpuQueue *q)
{
	struct gq_cuda *c = state_of(q);
	const uint64_t now_ns = gq__now_ns();

	if (now_ns - gq_load_relaxed_u64(&c->tended_ns) < TEND_NS ||
	    pthread_mutex_trylock(&c->lock) != 0)
		return;
	gq_store_relaxed_u64(&c->tended_ns, now_ns);
	if (is_bounded(c))
		wake_grid(c, true);
	else if (!has_left(c))
		gq__watch_realign(c, now_ns);
	if (!c->gone_for_good)
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
	.start = start,
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
	.tend = tend,
	.clock_error_ns = gq__watch_clock_error_ns,
};
