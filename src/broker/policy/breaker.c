/* SPDX-License-Identifier: Apache-2.0 */
/* breaker.c - the states of a circuit breaker. */
#include "breaker.h"

#include "random.h"

#include <stddef.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)

static uint32_t or32(uint32_t value, uint32_t standard)
{
	return value != 0 ? value : standard;
}

static uint64_t or64(uint64_t value, uint64_t standard)
{
	return value != 0 ? value : standard;
}

bool gq__breaker_init(struct gq_breaker *b, const struct gq_breaker_config *config, uint64_t now_ns)
{
	struct gq_breaker_config c = *config;

	c.consecutive = or32(c.consecutive, 5);
	c.rate_percent = or32(c.rate_percent, 50);
	c.rate_calls = or32(c.rate_calls, 20);
	c.bucket_ns = or64(c.bucket_ns, SECOND);
	c.open_ns = or64(c.open_ns, 30 * SECOND);
	c.open_most_ns = or64(c.open_most_ns, 300 * SECOND);
	c.trials = or32(c.trials, 5);
	c.at_once = or32(c.at_once, 2);
	c.trial_ns = or64(c.trial_ns, 30 * SECOND);
	c.half_open_ns = or64(c.half_open_ns, 30 * SECOND);
	c.sweep_ns = or64(c.sweep_ns, 10 * SECOND);
	if (c.rate_percent > 100 || c.slow_percent > 100 || c.trials > GQ_BREAKER_TRIALS_MAX)
		return false;
	memset(b, 0, sizeof(*b));
	b->config = c;
	b->episode = 1;
	b->since_ns = now_ns;
	b->swept_ns = now_ns;
	return true;
}

/* Trials that are still out when an episode ends count as given back. */
static void end_trials(struct gq_breaker *b)
{
	for (uint32_t i = 0; i < GQ_BREAKER_TRIALS_MAX; i++) {
		b->permits_back += b->trials[i].serial != 0;
		b->trials[i].serial = 0;
	}
	b->issued = 0;
	b->good = 0;
	b->bad = 0;
}

static void become(struct gq_breaker *b, enum gq_breaker_state state, uint64_t now_ns)
{
	end_trials(b);
	b->state = state;
	b->in_a_row = 0;
	b->since_ns = now_ns;
	b->swept_ns = now_ns;
	b->until_ns = UINT64_MAX;
	b->episode++;
	b->transitions++;
	memset(b->buckets, 0, sizeof(b->buckets));
}

static void open_up(struct gq_breaker *b, uint64_t now_ns, uint64_t *random)
{
	const struct gq_breaker_config *c = &b->config;
	uint64_t wait = c->open_ns;

	b->trips += b->trips < UINT32_MAX;
	if (!c->fixed) {
		wait = c->open_ns > c->open_most_ns / b->trips ? c->open_most_ns
							       : c->open_ns * b->trips;
		wait = wait - wait / 10 + gq_random_below(random, wait / 5 + 1);
	}
	become(b, GQ_BREAKER_OPEN, now_ns);
	b->until_ns = now_ns + wait;
}

/* A trial that nobody has given back in time. */
static void take_back(struct gq_breaker *b, uint64_t now_ns)
{
	for (uint32_t i = 0; i < GQ_BREAKER_TRIALS_MAX; i++) {
		if (b->trials[i].serial != 0 && now_ns >= b->trials[i].until_ns) {
			b->trials[i].serial = 0;
			b->permits_back++;
			b->issued--; /* it has told nothing: another may try in its place */
		}
	}
}

void gq__breaker_tick(struct gq_breaker *b, uint64_t now_ns, uint64_t *random)
{
	if (b->state == GQ_BREAKER_OPEN && now_ns >= b->until_ns) {
		become(b, GQ_BREAKER_HALF_OPEN, now_ns);
		b->until_ns = now_ns + b->config.half_open_ns;
	} else if (b->state == GQ_BREAKER_HALF_OPEN) {
		take_back(b, now_ns);
		if (now_ns >= b->until_ns)
			open_up(b, now_ns, random);
	} else if (b->state == GQ_BREAKER_CLOSED && now_ns > b->swept_ns) {
		const uint64_t sweeps = (now_ns - b->swept_ns) / b->config.sweep_ns;

		b->trips = sweeps < b->trips ? b->trips - (uint32_t)sweeps : 0;
		b->swept_ns += sweeps * b->config.sweep_ns;
	}
}

/* A place for a trial, or -1: none is allowed now. */
static int trial_place(const struct gq_breaker *b)
{
	uint32_t out = 0;
	int place = -1;

	for (int i = 0; i < GQ_BREAKER_TRIALS_MAX; i++) {
		out += b->trials[i].serial != 0;
		if (b->trials[i].serial == 0 && place < 0)
			place = i;
	}
	return b->issued < b->config.trials && out < b->config.at_once ? place : -1;
}

bool gq__breaker_try(struct gq_breaker *b, uint64_t now_ns, uint64_t *random, struct gq_permit *out,
		     uint64_t *out_retry_ns)
{
	uint64_t retry = b->config.open_ns;
	bool may;

	gq__breaker_tick(b, now_ns, random);
	may = b->state != GQ_BREAKER_OPEN && b->state != GQ_BREAKER_FORCED;
	*out = (struct gq_permit){ .episode = b->episode };
	if (b->state == GQ_BREAKER_OPEN)
		retry = b->until_ns - now_ns;
	if (b->state == GQ_BREAKER_HALF_OPEN) {
		const int place = trial_place(b);

		may = place >= 0;
		retry = b->until_ns - now_ns;
		if (may) {
			out->serial = ++b->serial;
			out->trial = (uint32_t)place + 1;
			b->trials[place].serial = out->serial;
			b->trials[place].until_ns = now_ns + b->config.trial_ns;
			b->issued++;
			b->permits_given++;
		}
	}
	if (!may && out_retry_ns)
		*out_retry_ns = retry;
	return may;
}

/* Counts a call; the rates of all buckets say whether to open. */
static bool rates_are_bad(struct gq_breaker *b, enum gq_breaker_outcome outcome, bool slow,
			  uint64_t now_ns)
{
	const struct gq_breaker_config *c = &b->config;
	const uint64_t number = now_ns / c->bucket_ns;
	uint64_t calls = 0;
	uint64_t faults = 0;
	uint64_t slows = 0;
	const uint32_t at = (uint32_t)(number % GQ_BREAKER_BUCKETS);

	if (b->buckets[at].number != number)
		memset(&b->buckets[at], 0, sizeof(b->buckets[at]));
	b->buckets[at].number = number;
	b->buckets[at].calls++;
	b->buckets[at].faults += outcome == GQ_OUTCOME_FAULT;
	b->buckets[at].slow += slow;
	for (uint32_t i = 0; i < GQ_BREAKER_BUCKETS; i++) {
		if (number - b->buckets[i].number >= GQ_BREAKER_BUCKETS)
			continue;
		calls += b->buckets[i].calls;
		faults += b->buckets[i].faults;
		slows += b->buckets[i].slow;
	}
	if (calls < c->rate_calls)
		return false;
	return faults * 100 >= calls * c->rate_percent ||
	       (c->slow_percent > 0 && slows * 100 >= calls * c->slow_percent);
}

static void done_closed(struct gq_breaker *b, enum gq_breaker_outcome outcome, uint64_t latency_ns,
			bool may_open, uint64_t now_ns, uint64_t *random)
{
	const bool slow = b->config.slow_percent > 0 && latency_ns > b->config.slow_ns;
	bool bad = rates_are_bad(b, outcome, slow, now_ns);

	b->in_a_row = outcome == GQ_OUTCOME_OK ? 0 : b->in_a_row + (b->in_a_row < UINT32_MAX);
	if (outcome == GQ_OUTCOME_FAULT)
		b->swept_ns = now_ns;
	bad = bad || b->in_a_row >= b->config.consecutive;
	if (bad && may_open && b->state == GQ_BREAKER_CLOSED)
		open_up(b, now_ns, random);
}

static void done_trial(struct gq_breaker *b, const struct gq_permit *permit,
		       enum gq_breaker_outcome outcome, uint64_t now_ns, uint64_t *random)
{
	const uint32_t place = permit->trial - 1;

	if (place >= GQ_BREAKER_TRIALS_MAX || b->trials[place].serial != permit->serial)
		return;
	b->trials[place].serial = 0;
	b->permits_back++;
	if (outcome == GQ_OUTCOME_NOTHING)
		b->issued--;
	b->good += outcome == GQ_OUTCOME_OK;
	b->bad += outcome == GQ_OUTCOME_FAULT;
	if (b->bad >= 2) {
		open_up(b, now_ns, random);
	} else if (b->good + b->bad >= b->config.trials) {
		if (b->bad * 100 >= (b->good + b->bad) * b->config.rate_percent)
			open_up(b, now_ns, random);
		else
			become(b, GQ_BREAKER_CLOSED, now_ns);
	}
}

void gq__breaker_done(struct gq_breaker *b, const struct gq_permit *permit,
		      enum gq_breaker_outcome outcome, uint64_t latency_ns, bool may_open,
		      uint64_t now_ns, uint64_t *random)
{
	gq__breaker_tick(b, now_ns, random);
	if (permit->trial != 0) {
		if (permit->episode == b->episode && b->state == GQ_BREAKER_HALF_OPEN)
			done_trial(b, permit, outcome, now_ns, random);
		return; /* of an episode that is over: counted when that ended */
	}
	if (permit->episode != b->episode || outcome == GQ_OUTCOME_NOTHING)
		return;
	if (b->state == GQ_BREAKER_CLOSED || b->state == GQ_BREAKER_METRICS)
		done_closed(b, outcome, latency_ns, may_open, now_ns, random);
}

void gq__breaker_force(struct gq_breaker *b, enum gq_breaker_state state, uint64_t now_ns,
		       uint64_t *random)
{
	if (state == GQ_BREAKER_OPEN) {
		open_up(b, now_ns, random);
	} else if (state != GQ_BREAKER_HALF_OPEN && (unsigned int)state < GQ_BREAKER_STATES) {
		b->trips = 0;
		become(b, state, now_ns);
	}
}

const char *gq__breaker_state_text(enum gq_breaker_state state)
{
	static const char *const texts[GQ_BREAKER_STATES] = {
		"closed", "open", "half_open", "forced_open", "disabled", "metrics_only",
	};

	return (unsigned int)state < GQ_BREAKER_STATES ? texts[state] : "no such state";
}
