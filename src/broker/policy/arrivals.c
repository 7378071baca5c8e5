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
		gq__limiter_set(&a->limiter[i], rate, burst, now_ns);
}

/* The place of who is forgotten. */
static uint32_t most_left(const struct gq_arrivals *a, uint64_t now_ns)
{
	uint64_t most = 0;
	uint32_t which = 0;

	for (uint32_t i = 0; i < a->users; i++) {
		const uint64_t left = gq__limiter_left(&a->limiter[i], now_ns);

		if (left <= most)
			continue;
		most = left;
		which = i;
	}
	return which;
}

static struct gq_limiter *of_user(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns)
{
	uint32_t i;

	for (i = 0; i < a->users; i++)
		if (a->uid[i] == uid)
			return &a->limiter[i];
	if (i == GQ_ARRIVALS_USERS)
		i = most_left(a, now_ns);
	else
		a->users++;
	a->uid[i] = uid;
	gq__limiter_init(&a->limiter[i], a->rate, a->burst);
	return &a->limiter[i];
}

bool gq__arrivals_pass(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns, uint64_t *out_retry_ns)
{
	const struct gq_limit limit = { of_user(a, uid, now_ns), 1 };

	return gq__limits_pass(&limit, 1, now_ns, out_retry_ns) == 1;
}

void gq__arrivals_fine(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns)
{
	gq__limiter_charge(of_user(a, uid, now_ns), GQ_ARRIVALS_FINE, GQ_ARRIVALS_FINE, now_ns);
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
