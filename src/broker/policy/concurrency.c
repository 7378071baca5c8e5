/* SPDX-License-Identifier: Apache-2.0 */
/* concurrency.c - limits that are learned, after TCP Vegas and Netflix's concurrency-limits. */
#include "concurrency.h"

#include "random.h"

#include <math.h>

#define SECOND UINT64_C(1000000000)

enum { SHARES = 3, MOST = 1 << 20, PROBE_FACTOR = 30, LONG_WINDOW = 600 };

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
	const bool vegas = s.kind == GQ_CONCURRENCY_VEGAS || s.kind == GQ_CONCURRENCY_FIXED;

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

static uint32_t share_of(enum gq_class class)
{
	return class <= GQ_CLASS_HIGH ? 0 : class == GQ_CLASS_NORMAL ? 1 : 2;
}

bool gq__concurrency_try(struct gq_concurrency *c, enum gq_class class)
{
	static const double parts[SHARES] = { 0.6, 0.3, 0.1 };
	const uint32_t share = share_of(class);
	const uint32_t limit = gq__concurrency_limit(c);
	const double own = ceil(parts[share] * limit);

	/* When all is taken, a share that has lent some of its own gets it, beyond the limit. */
	if (c->in_flight >= limit && c->by_share[share] >= own)
		return false;
	c->in_flight++;
	c->by_share[share]++;
	if (c->in_flight > c->most_in_flight)
		c->most_in_flight = c->in_flight;
	return true;
}

static double vegas(struct gq_concurrency *c, double took, uint64_t *random)
{
	const double limit = c->limit;
	const double step = fmax(1, log10(limit));
	double queued;

	if (++c->since_probe >= c->probe_at) {
		/* What was fastest once may be so no more. */
		c->since_probe = 0;
		c->probe_at = (double)PROBE_FACTOR * limit * (0.5 + 0.5 * gq_random_unit(random));
		c->fastest_ns = took;
		return limit;
	}
	if (c->fastest_ns <= 0 || took < c->fastest_ns) {
		c->fastest_ns = took;
		return limit;
	}
	if (c->lost)
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

static double gradient2(struct gq_concurrency *c, double took)
{
	const double weight = 2.0 / (LONG_WINDOW + 1);
	double gradient;

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
	if (c->lost || took > (double)c->config.timeout_ns)
		return c->limit * 0.9;
	return c->most_in_flight * 2.0 >= c->limit ? c->limit + 1 : c->limit;
}

static void end_window(struct gq_concurrency *c, uint64_t now_ns, uint64_t *random)
{
	const double took = c->sum_ns / c->samples;
	double limit = c->limit;

	if (c->config.kind == GQ_CONCURRENCY_VEGAS)
		limit = vegas(c, took, random);
	else if (c->config.kind == GQ_CONCURRENCY_GRADIENT2)
		limit = gradient2(c, took);
	else if (c->config.kind == GQ_CONCURRENCY_AIMD)
		limit = aimd(c, took);
	c->limit = fmax(c->config.least, fmin(c->config.most, limit));
	c->window_from_ns = now_ns;
	c->samples = 0;
	c->sum_ns = 0;
	c->most_in_flight = c->in_flight;
	c->lost = false;
}

void gq__concurrency_end(struct gq_concurrency *c, enum gq_class class, uint64_t took_ns, bool lost,
			 uint64_t now_ns, uint64_t *random)
{
	const uint32_t share = share_of(class);

	c->in_flight -= c->in_flight > 0;
	c->by_share[share] -= c->by_share[share] > 0;
	c->lost = c->lost || lost;
	if (took_ns >= c->config.ignore_ns) {
		c->sum_ns += (double)took_ns;
		c->samples++;
	}
	if (c->samples >= c->config.window_samples && now_ns > c->window_from_ns &&
	    now_ns - c->window_from_ns >= c->config.window_ns)
		end_window(c, now_ns, random);
}
