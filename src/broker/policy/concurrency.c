/* SPDX-License-Identifier: Apache-2.0 */
/* concurrency.c - limits that are learned, after TCP Vegas and Netflix's concurrency-limits. */
#include "concurrency.h"

#include "random.h"

#include <math.h>

#define SECOND UINT64_C(1000000000)

enum { MOST = 1 << 20, PROBE_FACTOR = 30, LONG_WINDOW = 600 };

static uint32_t or32(uint32_t value, uint32_t standard)
{
	return value != 0 ? value : standard;
}

static uint64_t or64(uint64_t value, uint64_t standard)
{
	return value != 0 ? value : standard;
}

bool gq__concurrency_init(struct gq_concurrency *c, const struct gq_concurrency_config *config,
			  uint64_t now_ns)
{
	struct gq_concurrency_config s = *config;
	const bool vegas = s.kind == GQ_CONCURRENCY_VEGAS;

	s.first = or32(s.first, 20);
	s.least = or32(s.least, vegas ? 1 : 20);
	s.most = or32(s.most, vegas ? 1000 : 200);
	s.timeout_ns = or64(s.timeout_ns, 5 * SECOND);
	s.window_ns = or64(s.window_ns, SECOND);
	s.window_samples = or32(s.window_samples, 10);
	s.ignore_ns = or64(s.ignore_ns, 100000);
	if ((unsigned int)s.kind >= GQ_CONCURRENCY_KINDS || s.least > s.first || s.first > s.most ||
	    s.most > MOST)
		return false;
	*c = (struct gq_concurrency){
		.config = s,
		.limit = s.first,
		.probe_at = PROBE_FACTOR * s.first,
		.window_from_ns = now_ns,
	};
	return true;
}

uint32_t gq__concurrency_limit(const struct gq_concurrency *c)
{
	return c->limit >= 1 ? (uint32_t)c->limit : 1;
}

/* ---- Vegas ---- */

/* What was fastest once may be so no more. With the limit as it is, a service that is always asked
 * for more would be measured while requests wait in it, each time a few more. */
static double probe(struct gq_concurrency *c, double took, uint64_t *random)
{
	const double limit = c->probed_from;

	if (limit <= 0) {
		c->probed_from = c->limit;
		return c->limit / 2;
	}
	c->probed_from = 0;
	c->since_probe = 0;
	c->probe_at = (double)PROBE_FACTOR * limit * (0.5 + 0.5 * gq_random_unit(random));
	if (took > 0)
		c->fastest_ns = took;
	return limit;
}

static double vegas(struct gq_concurrency *c, double took, uint64_t *random)
{
	const double limit = c->limit;
	const double step = fmax(1, log10(limit));
	double queued;

	if (++c->since_probe >= c->probe_at)
		return probe(c, took, random);
	if (took > 0 && (c->fastest_ns <= 0 || took < c->fastest_ns)) {
		c->fastest_ns = took;
		return limit;
	}
	if (c->losses != 0)
		return limit - step;
	if (c->most_in_flight * 2.0 < limit)
		return limit; /* it was not used */
	queued = ceil(limit * (1 - c->fastest_ns / took));
	if (queued <= step)
		return limit + 6 * step;
	if (queued < 3 * step)
		return limit + step;
	return queued > 6 * step ? limit - step : limit;
}

/* ---- the others ---- */

static double gradient2(struct gq_concurrency *c, double took)
{
	const double weight = 2.0 / (LONG_WINDOW + 1);
	double gradient;

	if (took <= 0)
		return c->limit; /* nothing but losses, of which it knows nothing */
	c->long_ns = c->long_ns > 0 ? c->long_ns * (1 - weight) + took * weight : took;
	if (c->long_ns / took > 2)
		c->long_ns *= 0.95; /* it was slow for long, and recovers */
	if (c->most_in_flight * 2.0 < c->limit)
		return c->limit;
	gradient = fmax(0.5, fmin(1, 1.5 * c->long_ns / took));
	return c->limit * 0.8 + 0.2 * (c->limit * gradient + 4);
}

static double aimd(const struct gq_concurrency *c, double took)
{
	if (c->losses != 0 || took > (double)c->config.timeout_ns)
		return c->limit * 0.9;
	return c->most_in_flight * 2.0 >= c->limit ? c->limit + 1 : c->limit;
}

/* ---- windows ---- */

static void end_window(struct gq_concurrency *c, uint64_t now_ns, uint64_t *random)
{
	const double took = c->samples != 0 ? c->sum_ns / c->samples : 0;
	double limit;

	if (c->config.kind == GQ_CONCURRENCY_VEGAS)
		limit = vegas(c, took, random);
	else if (c->config.kind == GQ_CONCURRENCY_GRADIENT2)
		limit = gradient2(c, took);
	else
		limit = aimd(c, took);
	c->limit = fmax(c->config.least, fmin(c->config.most, limit));
	c->window_from_ns = now_ns;
	c->samples = c->losses = 0;
	c->sum_ns = 0;
	c->most_in_flight = 0;
}

static bool end_if_due(struct gq_concurrency *c, uint32_t in_flight, uint64_t now_ns,
		       uint64_t *random)
{
	const uint32_t limit = gq__concurrency_limit(c), most = c->config.window_samples;

	/* It falls by ends alone: who looks before each of them sees the most. */
	if (in_flight > c->most_in_flight)
		c->most_in_flight = in_flight;
	if (c->samples + c->losses < (limit < most ? limit : most) || now_ns <= c->window_from_ns ||
	    now_ns - c->window_from_ns < c->config.window_ns)
		return false;
	end_window(c, now_ns, random);
	return true;
}

bool gq__concurrency_answered(struct gq_concurrency *c, uint32_t in_flight, uint64_t took_ns,
			      uint64_t now_ns, uint64_t *random)
{
	const bool is_older = now_ns < c->window_from_ns || took_ns > now_ns - c->window_from_ns;

	/* While the fastest is measured, one that went before has waited behind more. */
	if (took_ns >= c->config.ignore_ns && !(c->probed_from > 0 && is_older)) {
		c->sum_ns += (double)took_ns;
		c->samples++;
	}
	return end_if_due(c, in_flight, now_ns, random);
}

bool gq__concurrency_lost(struct gq_concurrency *c, uint32_t in_flight, uint64_t now_ns,
			  uint64_t *random)
{
	c->losses++;
	return end_if_due(c, in_flight, now_ns, random);
}
