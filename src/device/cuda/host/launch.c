/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.c - launching the grid, ordering it to leave, and finding out whether it has left.
 *
 * A grid leaves by itself when it has found nothing for a while (it parks), when its stop is at its
 * end, when it was bounded and is over; and when the host orders it to depart. The next launch goes
 * into the same stream, so it starts when the last grid has left.
 *
 * docs/design/cuda.md says why no message is lost between a grid that parks and a host that
 * publishes; tests/model/cuda_park.pml and cuda_bounded.pml check it.
 */
#include "device/cuda/host/launch.h"

#include "device/cuda/host/call.h"
#include "device/cuda/host/fail.h"
#include "host/base/sys.h"

/* While the application loads something, a call of the driver may wait for that. */
static bool is_known_to_have_left(const struct gq_cuda *c)
{
	return c->gone != 0 && c->launch == c->gone;
}

bool gq__launch_is_resident(struct gq_cuda *c)
{
	int result;

	if (is_known_to_have_left(c))
		return false;
	GQ_NO_CANCEL();
	result = c->cu->cuCtxPushCurrent(c->context);
	if (result == GQ_CU_SUCCESS) {
		result = c->cu->cuStreamQuery(c->stream);
		gq_context_leave(c);
	}
	return result == GQ_CU_NOT_READY;
}

bool gq__launch_has_left(struct gq_cuda *c)
{
	const char *call = "cuCtxPushCurrent";
	int result;

	if (c->launch == 0 || is_known_to_have_left(c) || gq_has_failed(c))
		return true;
	GQ_NO_CANCEL();
	result = c->cu->cuCtxPushCurrent(c->context);
	if (result == GQ_CU_SUCCESS) {
		call = "cuStreamQuery";
		result = c->cu->cuStreamQuery(c->stream);
		gq_context_leave(c);
	}
	if (result == GQ_CU_NOT_READY)
		return false;
	if (result != GQ_CU_SUCCESS)
		gq__cuda_fail_locked(c, call, result);
	return true;
}

/*
 * The grid's fences wait for its own stores, and not for those of the application's kernels: it is
 * launched into the other domain of memory synchronisation, where the GPU has two. Cooperative: all
 * blocks are resident at once, or none.
 */
static int launch_grid(struct gq_cuda *c, struct gq_launch *argument)
{
	void *arguments[] = { &c->grid, argument };
	struct gq_cu_launch_attribute attributes[2] = { 0 };
	struct gq_cu_launch_config config = { .grid_x = c->blocks,
					      .grid_y = 1,
					      .grid_z = 1,
					      .block_x = c->info.block_threads,
					      .block_y = 1,
					      .block_z = 1,
					      .stream = c->stream,
					      .attributes = attributes };

	if (c->tune.cooperative != 0) {
		attributes[config.n_attributes].id = GQ_CU_LAUNCH_COOPERATIVE;
		attributes[config.n_attributes++].of.value = 1;
	}
	if (c->tune.domain != 0 && c->domains > 1) {
		attributes[config.n_attributes].id = GQ_CU_LAUNCH_MEM_SYNC_DOMAIN;
		attributes[config.n_attributes++].of.value = GQ_CU_DOMAIN_REMOTE;
	}
	return c->cu->cuLaunchKernelEx(&config, c->kernel, arguments, NULL);
}

bool gq__launch_next(struct gq_cuda *c)
{
	const uint64_t number = c->launch + 1;
	struct gq_launch argument = { number, gq__accepted(c->q) };
	const char *call = "cuCtxPushCurrent";
	int result;

	GQ_NO_CANCEL();
	/* The launch itself publishes the number: see published() in device.c. */
	gq_store_relaxed_u64(&c->launch, number);
	result = c->cu->cuCtxPushCurrent(c->context);
	if (result == GQ_CU_SUCCESS) {
		call = "cuLaunchKernelEx";
		result = launch_grid(c, &argument);
		gq_context_leave(c);
	}
	if (result != GQ_CU_SUCCESS) {
		gq_store_relaxed_u64(&c->launch, number - 1);
		/* When a message wakes the grid, the call that published it has succeeded. */
		if (c->state != GQ_GRID_STARTING)
			gq__cuda_fail_locked(c, call, result);
		else
			gq__cuda_error(c->cu, call, result);
		return false;
	}
	if (c->state == GQ_GRID_AWAY)
		gq_grid_enter(c, GQ_GRID_ON);
	c->covered = argument.until;
	return true;
}

enum gq_park gq__launch_park(struct gq_cuda *c)
{
	for (uint32_t turns = 1;; turns++) {
		/* [report.read] acquire: all that the grid did before it went. */
		const uint64_t word = gq_load_acquire_u64(&c->link->report.park);
		const enum gq_park park = (enum gq_park)(word & ((1u << GQ_PARK_BITS) - 1));

		if (word >> GQ_PARK_BITS != c->launch)
			return GQ_PARK_RUNNING; /* the last launch has not begun */
		if (park != GQ_PARK_LOOKING)
			return park;
		if (turns % 256 == 0 && gq__launch_has_left(c))
			return gq_has_failed(c) ? GQ_PARK_RUNNING : GQ_PARK_GONE;
		gq__await_step(turns);
	}
}

/*
 * All bounded launches have left. They completed what they had claimed. What they covered and did
 * not claim (their time was over, or they were sent away) waits again: count it as not covered.
 */
static void cover_what_is_done(struct gq_cuda *c)
{
	gq__reap_all(c->q);
	c->covered = gq_load_relaxed_u64(&c->q->reaped.finished);
}

/*
 * Launch a bounded grid if as many messages wait, and are covered by no launch, as a launch serves;
 * or if any wait, no grid is there and a thread waits for them (`awaited`). While a grid is there,
 * that thread waits for its end: its message may be in that grid, and each look would otherwise add
 * a launch behind it.
 */
static void launch_bounded(struct gq_cuda *c, bool awaited)
{
	const bool serve_all = awaited && gq__launch_has_left(c);

	if (gq_has_failed(c))
		return;
	if (serve_all)
		cover_what_is_done(c);
	if (gq__accepted(c->q) - c->covered >= (serve_all ? 1 : c->q->cfg.bounded_messages))
		gq__launch_next(c);
}

void gq__launch_wake(struct gq_cuda *c, bool awaited)
{
	if (c->kept_away || (c->state != GQ_GRID_ON && c->state != GQ_GRID_AWAY) ||
	    gq_is_paused(c->q))
		return;
	if (gq_is_bounded(c))
		launch_bounded(c, awaited);
	else if (c->state == GQ_GRID_ON && gq__launch_park(c) == GQ_PARK_GONE && gq__launch_next(c))
		gq_fetch_add_relaxed_u64(&c->q->count.wakeups, 1);
}

void gq__launch_order_away(struct gq_cuda *c)
{
	gq_store_release_u64(&c->link->orders.depart, c->launch); /* [control.write] */
	/* Units leave from now on, and those that are inside a message will. */
	gq_grid_enter(c, GQ_GRID_AWAY);
}

bool gq__launch_has_gone(struct gq_cuda *c)
{
	/* A driver that reports an error has not said that the grid has left: ask it again. */
	return gq_has_failed(c) ? !gq__launch_is_resident(c)
				: gq__launch_has_left(c) && !gq_has_failed(c);
}

bool gq__launch_send_away(struct gq_cuda *c, uint64_t deadline_ns)
{
	gq__launch_order_away(c);
	for (uint32_t step = 0; !gq__launch_has_gone(c); step++) {
		if (gq_has_waited(gq__now_ns(), deadline_ns, step))
			return false;
		gq__await_step(step);
	}
	return true;
}

bool gq__launch_is_away(struct gq_cuda *c)
{
	if (c->launch == 0)
		return true;
	return c->state != GQ_GRID_STARTING && c->state != GQ_GRID_ON && gq__launch_has_left(c);
}

void gq__launch_bring_back(struct gq_cuda *c)
{
	/* A bounded grid that is still there may serve more of what it covers: launch behind it. */
	if (!gq_is_bounded(c) || !gq__launch_has_left(c)) {
		gq__launch_next(c);
	} else if (!gq_has_failed(c)) {
		gq_grid_enter(c, GQ_GRID_ON);
		cover_what_is_done(c);
		launch_bounded(c, false);
	}
}
