/* SPDX-License-Identifier: Apache-2.0 */
/* yield.h - sched_yield() where it is cheap. */
#ifndef GPUQ_WAIT_YIELD_H
#define GPUQ_WAIT_YIELD_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a yield on this CPU has been slow not long ago. */
bool gq__yields_are_slow(void);

/* Yield, unless yields on this CPU have been slow. @param now  gq__now_ns(). @return whether it
 * did. */
bool gq__yield_if_cheap(uint64_t now);

#endif /* GPUQ_WAIT_YIELD_H */
