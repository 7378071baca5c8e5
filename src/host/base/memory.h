/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - the library's allocations, the arithmetic of their layout, and the hooks with which
 * tests make things go wrong. */
#ifndef GPUQ_HOST_MEMORY_H
#define GPUQ_HOST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The next multiple of `to` that is not below n. */
static inline uint64_t gq_round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

static inline uint32_t gq_log2(uint32_t power_of_two)
{
	return (uint32_t)__builtin_ctz(power_of_two);
}

/*
 * Zeroed memory, aligned to GQ_LINE; from 128 KiB on straight from the kernel, so that what is
 * never touched costs nothing. NULL, with q_last_error() naming `what`, if there is none.
 */
void *gq__alloc(size_t bytes, const char *what);
void gq__free(void *memory, size_t bytes);

/*
 * Fault injection: whatever can fail for want of a resource asks gq__fault() first. After
 * gq__fault_set(n) the n-th question (from 1) is answered true, and no other; 0 is off.
 */
bool gq__fault(void);
void gq__fault_set(unsigned n);
/* Bytes and blocks from gq__alloc() not yet given to gq__free(). */
size_t gq__alloc_live_bytes(void);

#if defined(GPUQ_CHAOS)
/* What this thread does in every window of the protocol (GQ_WINDOW()), in place of a random delay:
 * with it a test is the other thread that comes between, each time. NULL: the delay. */
extern _Thread_local void (*gq__in_window)(void);
#endif

#endif /* GPUQ_HOST_MEMORY_H */
