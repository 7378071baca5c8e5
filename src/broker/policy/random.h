/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.h - random numbers from a state that the caller owns, so that a test can repeat them. Not
 * for secrets. (SplitMix64: every state is good, and it is one addition and a mix.)
 */
#ifndef GPUQ_BROKER_POLICY_RANDOM_H
#define GPUQ_BROKER_POLICY_RANDOM_H

#include <stdint.h>

/** The next number; the state may begin with anything. */
static inline uint64_t gq_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/** A number from 0 to below - 1; 0 if `below` is 0. Even to 1 part in 2^64 / below. */
static inline uint64_t gq_random_below(uint64_t *state, uint64_t below)
{
	return (uint64_t)((unsigned __int128)gq_random(state) * below >> 64);
}

/** A number of [0, 1). */
static inline double gq_random_unit(uint64_t *state)
{
	return (double)(gq_random(state) >> 11) * 0x1p-53;
}

#endif /* GPUQ_BROKER_POLICY_RANDOM_H */
