/* SPDX-License-Identifier: Apache-2.0 */
/* backoff.h - how long to wait before trying again. Pure: the random number is an argument. */
#ifndef GPUQ_REDIS_BACKOFF_H
#define GPUQ_REDIS_BACKOFF_H

#include <stdint.h>

/* Never more than five tries a second, whatever the dice say. */
#define BACKOFF_LEAST_MS 200u
#define BACKOFF_MOST_MS  10000u

/**
 * Full jitter: a random time up to 100 ms doubled `attempt` times, at most 10 s, at least 200 ms.
 * @param attempt  failures in a row before this one
 * @param random   any 32 bits
 */
uint32_t backoff_reconnect_ms(uint32_t attempt, uint32_t random);

/**
 * How long a message that its processor has failed rests before it is delivered again: 100 ms,
 * doubled for each delivery before, at most `most_ms`.
 */
uint32_t backoff_retry_ms(uint32_t deliveries, uint32_t most_ms);

/** The next of a sequence of random numbers (xorshift); the state is not 0. */
uint32_t backoff_random(uint64_t *state);

#endif /* GPUQ_REDIS_BACKOFF_H */
