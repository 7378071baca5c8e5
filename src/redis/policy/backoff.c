/* SPDX-License-Identifier: Apache-2.0 */
/* backoff.c - how long to wait before trying again. */
#include "backoff.h"

#define FIRST_MS 100u

/* 100 ms doubled so many times, at most `most`. */
static uint32_t doubled(uint32_t times, uint32_t most)
{
	uint64_t value = FIRST_MS;

	while (times-- > 0 && value < most)
		value *= 2;
	return value < most ? (uint32_t)value : most;
}

uint32_t backoff_reconnect_ms(uint32_t attempt, uint32_t random)
{
	const uint32_t ms = random % (doubled(attempt, BACKOFF_MOST_MS) + 1);

	return ms > BACKOFF_LEAST_MS ? ms : BACKOFF_LEAST_MS;
}

uint32_t backoff_retry_ms(uint32_t deliveries, uint32_t most_ms)
{
	return doubled(deliveries > 0 ? deliveries - 1 : 0, most_ms);
}

uint32_t backoff_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 32);
}
