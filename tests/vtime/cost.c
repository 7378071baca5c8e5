/* SPDX-License-Identifier: Apache-2.0 */
/* cost.c - virtual time: what operations take, and how many there are. See vtime.h. */
#include "machine.h"

#include <stdlib.h>
#include <string.h>

static uint64_t *tag; /* a heap: when each is free */

/* Words in L2 that something is added to, and when they are free. */
static struct {
	const void *at;
	uint64_t free;
} busy[64];

void vt_begin_costs(void)
{
	memset(busy, 0, sizeof(busy)); /* no run begins with another's */
	tag = calloc(vt_m.s->costs.tags, sizeof(*tag));
}

void vt_end_costs(void)
{
	free(tag);
}

static bool is_pinned(const void *at)
{
	return (const char *)at >= vt_m.pinned && (const char *)at < vt_m.pinned_end;
}

/* When a request gets a tag; the tag is taken. */
static uint64_t take_tag(uint64_t now)
{
	const uint64_t start = tag[0] > now ? tag[0] : now;
	uint64_t i = 0;

	tag[0] = start + vt_m.s->costs.round_trip;
	for (;;) {
		uint64_t least = i;

		for (uint64_t k = 2 * i + 1; k <= 2 * i + 2 && k < vt_m.s->costs.tags; k++)
			if (tag[k] < tag[least])
				least = k;
		if (least == i)
			return start;
		const uint64_t moved = tag[i];

		tag[i] = tag[least];
		tag[least] = moved;
		i = least;
	}
}

uint32_t vt_lane(uint32_t lane)
{
	struct fiber *f = vt_current();

	if (lane == 0) {
		f->ops = f->lines = 0;
		f->clock += vt_m.s->costs.step;
	}
	f->op = 0;
	f->lane = lane;
	return lane;
}

/* @return whether this operation is the warp's, and not a lane's part of one that has begun. */
static bool begins(struct fiber *f)
{
	if (f->lane != VT_UNIFORM) {
		if (f->op < f->ops) {
			f->op++;
			return false;
		}
		if (f->ops < VT_MAX_OPS)
			f->ops++;
		f->op++;
	}
	f->clock += vt_m.s->costs.step;
	return true;
}

/* Whether the warp touches another line by it. */
static bool is_new_line(struct fiber *f, const void *at, bool store)
{
	const uintptr_t line = ((uintptr_t)at / GQ_LINE) << 1 | store;

	if (f->lane == VT_UNIFORM)
		return true;
	for (uint32_t i = 0; i < f->lines; i++)
		if (f->line[i] == line)
			return false;
	if (f->lines < VT_MAX_LINES)
		f->line[f->lines++] = line;
	return true;
}

static void wait_until(struct fiber *f, uint64_t when)
{
	if (f->clock < when)
		f->clock = when;
}

static void wait_pending(struct fiber *f, uint64_t when)
{
	f->pending = f->pending > when ? f->pending : when;
}

void vt_used(void)
{
	wait_until(vt_current(), vt_current()->pending);
}

static void load_across(struct fiber *f, const void *at, bool first, enum vt_wait wait)
{
	uint64_t *begun = &f->begun[f->lane == VT_UNIFORM || f->op > VT_MAX_OPS ? 0 : f->op - 1];
	const uint32_t requests = is_new_line(f, at, false) ? 1 : 0;
	uint64_t start;

	if (first)
		*begun = f->clock;
	start = *begun;
	for (uint32_t i = 0; i < requests; i++)
		start = take_tag(*begun);
	vt_m.counts.reads += requests;
	if (first) {
		f->clock = start;
		vt_yield(); /* the value is sampled when this returns */
		vt_m.counts.looks += wait != VT_ASYNC && f->lane != VT_UNIFORM;
		if (wait == VT_ACQUIRE)
			f->clock = start + vt_m.s->costs.round_trip;
	}
	f->pending = f->pending > start + vt_m.s->costs.round_trip
			     ? f->pending
			     : start + vt_m.s->costs.round_trip;
}

void vt_load(const void *at, enum vt_wait wait)
{
	struct fiber *f = vt_current();
	const bool first = begins(f);

	if (first)
		vt_yield();
	if (is_pinned(at)) {
		load_across(f, at, first, wait);
	} else if (first) {
		const uint64_t arrives = f->clock + vt_m.s->costs.l2;

		f->pending = f->pending > arrives ? f->pending : arrives;
		if (f->lane == VT_UNIFORM || wait == VT_ACQUIRE)
			f->clock = arrives;
	}
	if (first && f->lane == VT_UNIFORM)
		wait_until(f, f->pending); /* the next instruction uses it */
	if (first && wait == VT_ACQUIRE)
		f->clock += vt_m.s->costs.acquired;
}

void vt_acquired(void)
{
	vt_used();
	vt_current()->clock += vt_m.s->costs.acquired;
}

void vt_store(const void *at)
{
	struct fiber *f = vt_current();
	const bool new_line = is_new_line(f, at, true);

	if (begins(f))
		vt_yield();
	if (is_pinned(at)) {
		vt_m.counts.writes += new_line;
		f->stored = f->clock + vt_m.s->costs.round_trip;
	}
}

void vt_release(void)
{
	struct fiber *f = vt_current();

	vt_m.counts.releases++;
	vt_used();
	wait_until(f, f->stored);
	f->clock += vt_m.s->costs.acquired;
	vt_yield();
}

void vt_rmw_begin(const void *at)
{
	struct fiber *f = vt_current();
	const size_t i = (uintptr_t)at / sizeof(uint64_t) % 64;

	if (begins(f)) {
		vt_used();
		vt_yield();
	}
	vt_m.counts.rmws++;
	if (busy[i].at != at || f->clock > busy[i].free || f->clock + 100000 < busy[i].free)
		busy[i].free = f->clock;
	busy[i].at = at;
	busy[i].free += vt_m.s->costs.l2_busy;
	f->clock = busy[i].free;
	vt_yield();
	/* It happens here; the answer comes later. */
	wait_pending(f, f->clock + vt_m.s->costs.l2);
}

void vt_add_unseen(const void *at)
{
	const uint64_t pending = vt_current()->pending;

	vt_rmw_begin(at);
	vt_current()->pending = pending;
}

void vt_rmw(const void *at)
{
	struct fiber *f = vt_current();

	vt_rmw_begin(at);
	if (f->lane == VT_UNIFORM)
		vt_used();
}

static void claimed(const uint64_t *word, bool ours)
{
	if (word < vt_m.grid.counters->run[0] ||
	    word >= vt_m.grid.counters->run[0] + GQ_CLASSES * GQ_RUNS)
		return;
	vt_m.counts.claims++;
	vt_m.counts.failed += !ours;
	if (ours && !vt_m.s->alone) {
		uint64_t left = 0;

		for (uint32_t i = 0; i < GQ_CLASSES * GQ_RUNS; i++)
			left += gq_run_left(vt_m.grid.counters->run[i / GQ_RUNS][i % GQ_RUNS]);
		if (left > vt_m.counts.most_left)
			vt_m.counts.most_left = left;
		vt_m.counts.may_be_left = vt_m.grid.feed + vt_m.grid.feed / 2;
	}
}

static void stand_still(void)
{
	if (++vt_m.stalls == vt_m.s->stall_at)
		vt_spend(vt_m.s->stall_ns);
}

void vt_swapped(const void *at, bool ours)
{
	const uint64_t *word = at, *held = vt_m.grid.counters->held[vt_m.s->stall_class],
		       *feeding = vt_m.grid.counters->feeding[vt_m.s->stall_class];

	if (ours && word >= held && word < held + GQ_RUNS)
		vt_m.holder = vt_current();
	claimed(word, ours);
	if (ours && word >= feeding && word < feeding + GQ_FEEDERS &&
	    vt_m.s->stall_in == VT_IN_FEED)
		stand_still();
}

void vt_window(const char *function)
{
	if (vt_m.holder != vt_current() || strcmp(function, "gq_claim_run") != 0)
		return;
	vt_m.holder = NULL;
	if (vt_m.s->stall_in == VT_IN_CLAIM)
		stand_still();
}

void vt_took(const void *at, uint64_t run)
{
	const uint64_t *word = at;

	if (word < vt_m.grid.counters->run[0] ||
	    word >= vt_m.grid.counters->run[0] + GQ_CLASSES * GQ_RUNS)
		return;
	vt_m.counts.takes++;
	vt_m.counts.missed += gq_run_left(run) == 0;
}

void vt_whole(void)
{
	vt_m.counts.wholes++;
}

void vt_nap(uint32_t ns)
{
	vt_used();
	vt_spend(ns);
}

uint64_t vt_clock(void)
{
	vt_current()->clock += vt_m.s->costs.step;
	return vt_current()->clock;
}

void vt_work(void)
{
	/* Of a run with a message that hangs it is the first. */
	vt_current()->clock +=
		vt_m.s->hang_ns != 0 && vt_m.published == 1 ? vt_m.s->hang_ns : vt_m.s->costs.work;
}
