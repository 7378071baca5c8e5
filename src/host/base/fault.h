/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h - what tests change in the library: a resource fails, positions begin near a wrap,
 * another thread comes between two steps. */
#ifndef GPUQ_BASE_FAULT_H
#define GPUQ_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Fault injection: code that can fail for want of a resource asks gq__fault() first. After
 * gq__fault_set(n) the n-th question (from 1) is answered true, and no other; 0 is off.
 */
bool gq__fault(void);
void gq__fault_set(unsigned n);

/* Where the positions of queues and rings begin. Read when one is made. */
extern uint64_t gq__start_pos;

#if defined(GPUQ_CHAOS)
/* What this thread does in every window of the protocol (GQ_WINDOW()), in place of a random delay:
 * with it a test is the other thread that comes between, each time. NULL: the delay. */
extern _Thread_local void (*gq__in_window)(void);
#endif

#endif /* GPUQ_BASE_FAULT_H */
