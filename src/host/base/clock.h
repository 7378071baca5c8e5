/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the library's clock, and time limits on it. */
#ifndef GPUQ_BASE_CLOCK_H
#define GPUQ_BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC, nanoseconds. */
uint64_t gq__now_ns(void);

#define GQ_FOR_EVER UINT64_MAX

/* timeout_ms from now as an absolute time: UINT32_MAX becomes GQ_FOR_EVER, 0 becomes 0. */
uint64_t gq__deadline_ns(uint32_t timeout_ms);

#endif /* GPUQ_BASE_CLOCK_H */
