/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limiter.h - how many requests, or bytes, a second: the generic cell rate algorithm. Pure. A
 * limiter is one number, the theoretical arrival time: when all that has been let through would
 * have come at the rate.
 */
#ifndef GPUQ_BROKER_POLICY_LIMITER_H
#define GPUQ_BROKER_POLICY_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

struct gq_limiter {
	unsigned __int128 arrival; /* in 2^-32 ns, so that no rate drifts */
	uint64_t step;             /* 1 / rate, in the same; 0: no limit */
	uint64_t burst;
};

#define GQ_RATE_MOST UINT64_C(1000000000000) /* a second */

/**
 * A limiter that lets a burst through at once.
 * @param rate   a second, 1 to 10^12; 0: no limit
 * @param burst  at least 1; below 2^31
 * @return false if one of them is out of its range
 */
bool gq__limiter_init(struct gq_limiter *l, uint64_t rate, uint64_t burst);

/** Another rate from now on. What was owed is not more than the new burst. False: out of range, and
 * unchanged. */
bool gq__limiter_set(struct gq_limiter *l, uint64_t rate, uint64_t burst, uint64_t now_ns);

/**
 * Whether `cost` may pass now; nothing changes.
 * @param out_retry_ns  if not: after how long it may, if nobody else passes; UINT64_MAX: never, it
 * is more than a burst
 */
bool gq__limiter_peek(const struct gq_limiter *l, uint64_t cost, uint64_t now_ns,
		      uint64_t *out_retry_ns);

/** It passes. Only after a peek that said so. */
void gq__limiter_commit(struct gq_limiter *l, uint64_t cost, uint64_t now_ns);

/**
 * It has to be paid for, whatever has passed before. What is owed is then no more than a burst and
 * `most`: so nobody is kept out for longer than `most` takes at the rate.
 */
void gq__limiter_charge(struct gq_limiter *l, uint64_t cost, uint64_t most, uint64_t now_ns);

/** How much may pass now. */
uint64_t gq__limiter_left(const struct gq_limiter *l, uint64_t now_ns);

/* One of several limits that a request has to pass. */
struct gq_limit {
	struct gq_limiter *limiter;
	uint64_t cost;
};

/**
 * A request passes all of these, in order, or none: connection, user, service, everything.
 * @return `count` if it passes; else which of them says no, with *out_retry_ns as above
 */
uint32_t gq__limits_pass(const struct gq_limit *limits, uint32_t count, uint64_t now_ns,
			 uint64_t *out_retry_ns);

#endif /* GPUQ_BROKER_POLICY_LIMITER_H */
