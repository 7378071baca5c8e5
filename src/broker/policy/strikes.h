/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strikes.h - when a peer has broken the protocol too often: sixteen frames that were not taken
 * within ten seconds end the connection. Pure.
 */
#ifndef GPUQ_BROKER_POLICY_STRIKES_H
#define GPUQ_BROKER_POLICY_STRIKES_H

#include <stdbool.h>
#include <stdint.h>

enum { GQ_STRIKES_MAX = 16 };
#define GQ_STRIKES_WINDOW_NS UINT64_C(10000000000)

/* Of one connection. Zero: no strike yet. */
struct gq_strikes {
	uint64_t at_ns[GQ_STRIKES_MAX]; /* the last of them, a ring */
	uint64_t count;                 /* ever */
};

/**
 * One more. Constant time.
 * @param now_ns  of a monotonic clock
 * @return true: close the connection, for this is the sixteenth within ten seconds
 */
bool gq__strikes_add(struct gq_strikes *strikes, uint64_t now_ns);

#endif /* GPUQ_BROKER_POLICY_STRIKES_H */
