/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrivals.h - how often each user may connect: a limiter (limiter.h) for each user that has
 * connected lately. Pure; of a fixed size.
 */
#ifndef GPUQ_BROKER_POLICY_ARRIVALS_H
#define GPUQ_BROKER_POLICY_ARRIVALS_H

#include "limiter.h"

enum { GQ_ARRIVALS_USERS = 256 };

struct gq_arrivals {
	uint64_t rate, burst;
	uint32_t users;
	uint32_t uid[GQ_ARRIVALS_USERS];
	struct gq_limiter limiter[GQ_ARRIVALS_USERS];
};

/**
 * Nobody has come yet.
 * @param rate, burst  of each user, as gq__limiter_init() takes them: in range
 */
void gq__arrivals_init(struct gq_arrivals *a, uint64_t rate, uint64_t burst);

/** Another rate from now on, for those who have come already, too. */
void gq__arrivals_set(struct gq_arrivals *a, uint64_t rate, uint64_t burst, uint64_t now_ns);

/**
 * A user comes. Of more than GQ_ARRIVALS_USERS the one that has most left is forgotten, which is
 * one that has all left, unless so many come at once.
 * @param out_retry_ns  if it has come too often: after how long it may come again
 * @return whether it may come in; if so, it counts
 */
bool gq__arrivals_pass(struct gq_arrivals *a, uint32_t uid, uint64_t now_ns,
		       uint64_t *out_retry_ns);

#endif /* GPUQ_BROKER_POLICY_ARRIVALS_H */
