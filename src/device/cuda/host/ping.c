/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ping.c - questions to the grid's first unit: above all what its clock shows.
 */
#include "device/cuda/host/ping.h"

#include "device/cuda/host/fail.h"

#define ANSWER_TIMEOUT_NS UINT64_C(10000000)
#define GIVE_WAY_AFTER_NS UINT64_C(50000)
#define ALIGN_EVERY_NS    UINT64_C(1000000000)

static bool has_parked(const struct gq_cuda *c)
{
	return gq_load_acquire_u64(&c->link->report.park) == /* [report.read] */
	       (c->launch << GQ_PARK_BITS | GQ_PARK_GONE);
}

uint64_t gq__ping_post(struct gq_cuda *c, enum gq_ping what)
{
	const uint64_t ping = ((c->link->orders.ping >> GQ_PING_BITS) + 1) << GQ_PING_BITS |
			      (c->is_being_measured ? GQ_PING_STAY : 0) | (uint64_t)what;

	gq_store_release_u64(&c->link->orders.ping, ping); /* [control.write] */
	return ping;
}

/* An answer comes in microseconds, and is timed: give way only when it takes much longer. */
bool gq__ping_await(struct gq_cuda *c, uint64_t ping, uint64_t patience_ns)
{
	const uint64_t begun = gq__now_ns();
	uint64_t waited;
	uint32_t step = 0;

	do {
		gq_cpu_relax();
		if (gq_load_acquire_u64(&c->link->report.pong) == ping) /* [report.read] */
			return true;
		waited = gq__now_ns() - begun;
		if (waited > GIVE_WAY_AFTER_NS)
			gq__await_step(step++);
	} while (waited < patience_ns && !has_parked(c));
	return false;
}

bool gq__ping_ask(struct gq_cuda *c, enum gq_ping what, uint64_t patience_ns, uint64_t *answer)
{
	if (!gq__ping_await(c, gq__ping_post(c, what), patience_ns))
		return false;
	*answer = gq_load_relaxed_u64(&c->link->report.measured_ns);
	return true;
}

/* ---- the clock ------------------------------------------------------------------------------- */

bool gq__ping_clock(struct gq_cuda *c, uint64_t patience_ns)
{
	const uint64_t asked = gq__now_ns(), ping = gq__ping_post(c, GQ_PING_CLOCK);
	uint64_t trip;

	if (!gq__ping_await(c, ping, patience_ns))
		return false;
	c->aligned_ns = gq__now_ns();
	trip = c->aligned_ns - asked;
	/* A long trip says little of when the answer was given, so it is not used. But the shortest
	 * one so far may have been luck: let it grow, or no later trip would be short beside it. */
	if (c->trip_ns != 0 && trip >= 2 * c->trip_ns) {
		c->trip_ns += c->trip_ns / 8 + 1;
		return true;
	}
	gq_store_relaxed_u64(&c->link->orders.ahead_ns,
			     asked + trip / 2 - gq_load_relaxed_u64(&c->link->report.pong_ns));
	c->used_trip_ns = trip;
	if (trip / 2 > c->ahead_error_ns) /* other threads read this word and the next */
		gq_store_relaxed_u64(&c->ahead_error_ns, trip / 2);
	if (c->measured.flag == 0 || trip < c->measured.flag)
		gq_store_relaxed_u64(&c->measured.flag, trip);
	if (c->trip_ns == 0 || trip < c->trip_ns)
		c->trip_ns = trip;
	return true;
}

bool gq__ping_align(struct gq_cuda *c)
{
	unsigned answers = 0;

	for (unsigned i = 0; answers < 8 && i < 100; i++)
		answers += gq__ping_clock(c, ANSWER_TIMEOUT_NS);
	/* Half of twice the shortest, as longer trips did not count; but on a busy machine the
	 * bound for what counts has grown, and the trip that was used last may be longer. */
	c->ahead_error_ns =
		c->used_trip_ns / 2 > c->measured.flag ? c->used_trip_ns / 2 : c->measured.flag;
	if (answers == 0)
		gq__cuda_fail_with_state(c, "the resident grid does not answer");
	return answers != 0;
}

void gq__ping_realign(struct gq_cuda *c, uint64_t now_ns)
{
	/* A busy grid does not answer. It is asked again when it is time to, not at each call,
	 * which waits for the answer under the lock. */
	if (now_ns - c->aligned_ns <= ALIGN_EVERY_NS || now_ns - c->asked_ns <= ALIGN_EVERY_NS)
		return;
	c->asked_ns = now_ns;
	gq__ping_clock(c, 20000 + 2 * c->trip_ns);
}

/* The offset is the middle of a round trip, so it is off by half of the trip at most. What the
 * clocks drift apart before the next question comes on top. */
uint64_t gq__ping_clock_error_ns(GpuQueue *q)
{
	const struct gq_cuda *c = q->device_state;

	return gq_load_relaxed_u64(&c->ahead_error_ns);
}
