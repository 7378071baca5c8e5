/* SPDX-License-Identifier: Apache-2.0 */
/* arrivals.c - how often each user may connect. */
#include "arrivals.h"

void gq__arrivals_init(struct gq_arrivals *a, uint64_t rate, uint64_t burst)
{
	a->rate = rate;
	a->burst = burst;
	a->users = a->refusals = 0;
	a->refusals_since_ns = 0;
}

void gq__arrivals_set(struct gq_arrivals *a, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	a->rate = rate;
	a->burst = burst;
	for (uint32_t i = 0; i < a->users; i++)
		gq__limiter_set(&a->user[i].limiter, rate, burst, now_ns);
}

/* The place of who is forgotten. */
static uint32_t most_left(const struct gq_arrivals *a, uint64_t now_ns)
{
	uint64_t most = 0;
	uint32_t which = 0;

	for (uint32_t i = 0; i < a->users; i++) {
		const uint64_t left = gq__limiter_left(&a->user[i].limiter, now_ns);

		if (left <= most)
			continue;
		most = left;
		which = i;
	}
	return which;
}

static struct gq_arrival_user *find(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns)
{
	uint32_t i;

	for (i = 0; i < a->users; i++)
		if (a->user[i].uid == uid)
			return &a->user[i];
	if (i == GQ_ARRIVALS_USERS)
		i = most_left(a, now_ns);
	else
		a->users++;
	a->user[i] = (struct gq_arrival_user){ .uid = uid };
	gq__limiter_init(&a->user[i].limiter, a->rate, a->burst);
	return &a->user[i];
}

bool gq__arrivals_pass(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns, uint64_t *out_retry_ns)
{
	struct gq_arrival_user *u = find(a, uid, now_ns);
	const struct gq_limit limit = { &u->limiter, 1 };

	if (gq__limits_pass(&limit, 1, now_ns, out_retry_ns) != 1)
		return false;
	u->let_in = true;
	return true;
}

/* Time goes on from the last doubling that it has undone: a user that is fined again and again is
 * forgiven as fast as any other. */
static void forgive(struct gq_arrival_user *u, uint64_t now_ns)
{
	const uint64_t undone = (now_ns - u->since_ns) / GQ_ARRIVALS_FORGIVE_NS;

	if (undone < u->doublings) {
		u->doublings -= (uint32_t)undone;
		u->since_ns += undone * GQ_ARRIVALS_FORGIVE_NS;
	} else {
		u->doublings = 0;
		u->since_ns = now_ns;
	}
}

void gq__arrivals_fine(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns)
{
	struct gq_arrival_user *u = find(a, uid, now_ns);
	const uint64_t in_time = GQ_ARRIVALS_MOST_S * a->rate;
	const uint64_t most = in_time > GQ_ARRIVALS_FINE ? in_time : GQ_ARRIVALS_FINE;
	uint64_t fine;

	forgive(u, now_ns);
	fine = (uint64_t)GQ_ARRIVALS_FINE << u->doublings;
	if (fine >= most)
		fine = most;
	else if (u->let_in)
		u->doublings++;
	u->let_in = false;
	gq__limiter_charge(&u->limiter, fine, fine, now_ns);
}

uint64_t gq__arrivals_refused(struct gq_arrivals *a, uint64_t now_ns)
{
	if (now_ns > a->refusals_since_ns + GQ_ARRIVALS_FLOOD_NS) {
		a->refusals_since_ns = now_ns;
		a->refusals = 0;
	}
	if (++a->refusals < GQ_ARRIVALS_REFUSALS)
		return 0;
	a->refusals = 0;
	return now_ns + GQ_ARRIVALS_FLOOD_NS;
}
