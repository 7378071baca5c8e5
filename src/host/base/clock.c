/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - the library's clock, and time limits on it. */
#include "host/base/clock.h"

#include <time.h>

uint64_t gq__now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t gq__deadline_ns(uint32_t timeout_ms)
{
	if (timeout_ms == UINT32_MAX)
		return GQ_FOR_EVER;
	return timeout_ms == 0 ? 0 : gq__now_ns() + (uint64_t)timeout_ms * 1000000u;
}
