/* SPDX-License-Identifier: Apache-2.0 */
/* limiter.c - the generic cell rate algorithm (ITU-T I.371), with costs. */
#include "limiter.h"

#define SECOND     UINT64_C(1000000000)
#define BURST_MOST (UINT64_C(1) << 31)

typedef unsigned __int128 wide;

static wide fine(uint64_t ns)
{
	return (wide)ns << 32;
}

static bool in_range(uint64_t rate, uint64_t burst)
{
	return rate <= GQ_RATE_MOST && burst >= 1 && burst < BURST_MOST;
}

/* Rounded up: never more than the rate. */
static uint64_t step_of(uint64_t rate)
{
	return rate == 0 ? 0 : (uint64_t)((fine(SECOND) + rate - 1) / rate);
}

bool gq__limiter_init(struct gq_limiter *l, uint64_t rate, uint64_t burst)
{
	if (!in_range(rate, burst))
		return false;
	*l = (struct gq_limiter){ .step = step_of(rate), .burst = burst };
	return true;
}

bool gq__limiter_set(struct gq_limiter *l, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	wide most;

	if (!in_range(rate, burst))
		return false;
	l->step = step_of(rate);
	l->burst = burst;
	most = fine(now_ns) + (wide)l->step * burst;
	l->arrival = l->arrival < most ? l->arrival : most;
	return true;
}

bool gq__limiter_peek(const struct gq_limiter *l, uint64_t cost, uint64_t now_ns,
		      uint64_t *out_retry_ns)
{
	const wide now = fine(now_ns);
	const wide base = l->arrival > now ? l->arrival : now;
	const wide most = now + (wide)l->step * l->burst;
	wide then;

	if (l->step == 0)
		return true;
	if (cost > l->burst) {
		*out_retry_ns = UINT64_MAX;
		return false;
	}
	then = base + (wide)l->step * cost;
	if (then <= most)
		return true;
	*out_retry_ns = (uint64_t)((then - most + UINT32_MAX) >> 32);
	return false;
}

void gq__limiter_commit(struct gq_limiter *l, uint64_t cost, uint64_t now_ns)
{
	const wide now = fine(now_ns);

	l->arrival = (l->arrival > now ? l->arrival : now) + (wide)l->step * cost;
}

void gq__limiter_charge(struct gq_limiter *l, uint64_t cost, uint64_t most, uint64_t now_ns)
{
	const wide bound = fine(now_ns) + (wide)l->step * l->burst + (wide)l->step * most;

	gq__limiter_commit(l, cost, now_ns);
	l->arrival = l->arrival < bound ? l->arrival : bound;
}

uint64_t gq__limiter_left(const struct gq_limiter *l, uint64_t now_ns)
{
	const wide now = fine(now_ns);
	const wide base = l->arrival > now ? l->arrival : now;
	const wide most = now + (wide)l->step * l->burst;

	if (l->step == 0)
		return UINT64_MAX;
	return most > base ? (uint64_t)((most - base) / l->step) : 0;
}

uint32_t gq__limits_pass(const struct gq_limit *limits, uint32_t count, uint64_t now_ns,
			 uint64_t *out_retry_ns)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!gq__limiter_peek(limits[i].limiter, limits[i].cost, now_ns, out_retry_ns))
			return i;
	}
	for (uint32_t i = 0; i < count; i++)
		gq__limiter_commit(limits[i].limiter, limits[i].cost, now_ns);
	return count;
}
