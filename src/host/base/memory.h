/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - the library's allocations, and the arithmetic of their layout. */
#ifndef GPUQ_BASE_MEMORY_H
#define GPUQ_BASE_MEMORY_H

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

/* Bytes and blocks from gq__alloc() not yet given to gq__free(). */
size_t gq__alloc_live_bytes(void);

#endif /* GPUQ_BASE_MEMORY_H */
