/* SPDX-License-Identifier: Apache-2.0 */
/* retry.c - attempts, delays and the budget of retries. */
#include "retry.h"

#include "random.h"

#define ATTEMPTS 4u
#define BASE_NS  UINT64_C(20000000)
#define CAP_NS   UINT64_C(1000000000)

enum { BUDGET_FULL = 100, BUDGET_STOPS = 50, FAILURE_TAKES = 10, RETRIES_LEAST = 3 };

void gq__retry_budget_init(struct gq_retry_budget *budget)
{
	*budget = (struct gq_retry_budget){ .tenths = BUDGET_FULL };
}

void gq__retry_succeeded(struct gq_retry_budget *budget)
{
	budget->tenths += budget->tenths < BUDGET_FULL;
}

void gq__retry_began(struct gq_retry_budget *budget)
{
	budget->retrying++;
}

void gq__retry_ended(struct gq_retry_budget *budget)
{
	budget->retrying -= budget->retrying > 0;
}

enum gq_retry_kind gq__retry_kind(enum gq_wire_status status, bool seen)
{
	switch (status) {
	case GQ_WIRE_OVERLOADED:
	case GQ_WIRE_RATE_LIMITED:
	case GQ_WIRE_SHUTTING_DOWN:
	case GQ_WIRE_CHECKSUM:
	case GQ_WIRE_BREAKER_OPEN:
	case GQ_WIRE_FD_EXHAUSTED:
	case GQ_WIRE_LOST:
	case GQ_WIRE_INTERNAL:
		return seen ? GQ_RETRY_IDEMPOTENT : GQ_RETRY_SAFE;
	default:
		return GQ_RETRY_NEVER;
	}
}

uint64_t gq__retry_delay(const struct gq_retry_config *config, uint32_t attempt, uint64_t before_ns,
			 uint64_t *random)
{
	const uint64_t base = config->base_ns != 0 ? config->base_ns : BASE_NS;
	const uint64_t cap = config->cap_ns != 0 ? config->cap_ns : CAP_NS;
	const uint32_t doublings = attempt > 0 ? attempt - 1 : 0;
	uint64_t delay = base < cap ? base : cap;
	uint64_t most;

	if (config->jitter == GQ_JITTER_DECORRELATED) {
		before_ns = before_ns > delay ? before_ns : delay;
		most = before_ns > cap / 3 ? cap : before_ns * 3;
		most = most > delay ? most : delay;
		return delay + gq_random_below(random, most - delay + 1);
	}
	for (uint32_t i = 0; i < doublings && delay < cap; i++)
		delay = delay > cap / 2 ? cap : delay * 2;
	switch (config->jitter) {
	case GQ_JITTER_EQUAL:
		return delay / 2 + gq_random_below(random, delay - delay / 2 + 1);
	case GQ_JITTER_PM20:
		return delay - delay / 5 + gq_random_below(random, delay / 5 * 2 + 1);
	case GQ_JITTER_NONE:
		return delay;
	default:
		return gq_random_below(random, delay + 1);
	}
}

static void take(struct gq_retry_budget *budget)
{
	budget->tenths -= budget->tenths < FAILURE_TAKES ? budget->tenths : FAILURE_TAKES;
}

void gq__retry_died(struct gq_retry_budget *budget)
{
	take(budget);
}

/*
 * Whether the budget has room for a retry, after this failure. All that a dead worker had may go on
 * at once: there are no more of them than it had room for, and each death costs a token.
 */
static bool within_budget(const struct gq_retry_budget *budget, const struct gq_retry_case *failed)
{
	const uint32_t fifth = failed->in_flight / 5;

	return budget->tenths > BUDGET_STOPS &&
	       (failed->died || budget->retrying < (fifth > RETRIES_LEAST ? fifth : RETRIES_LEAST));
}

enum gq_retry_verdict gq__retry_decide(const struct gq_retry_config *config,
				       struct gq_retry_budget *budget,
				       const struct gq_retry_case *failed, uint64_t now_ns,
				       uint64_t *random, uint64_t *out_delay_ns)
{
	const uint32_t attempts = config->attempts != 0 ? config->attempts : ATTEMPTS;
	const enum gq_retry_kind kind = gq__retry_kind(failed->status, failed->seen);
	uint64_t delay;

	if (kind == GQ_RETRY_NEVER)
		return GQ_RETRY_FINAL;
	/* A want of descriptors has cost nobody anything, and says nothing of the others. */
	if (failed->status != GQ_WIRE_FD_EXHAUSTED && !failed->died)
		take(budget);
	if (failed->after_ns < 0)
		return GQ_RETRY_REFUSED;
	if (kind == GQ_RETRY_IDEMPOTENT && !failed->idempotent)
		return GQ_RETRY_HARM;
	if (failed->attempts >= attempts)
		return GQ_RETRY_SPENT;
	if (!within_budget(budget, failed))
		return GQ_RETRY_BUDGET;
	delay = gq__retry_delay(config, failed->attempts, failed->before_ns, random);
	if (failed->after_ns > 0)
		delay = (uint64_t)failed->after_ns;
	if (now_ns >= failed->deadline_ns || delay >= failed->deadline_ns - now_ns)
		return GQ_RETRY_LATE;
	*out_delay_ns = delay;
	return GQ_RETRY_GO;
}
