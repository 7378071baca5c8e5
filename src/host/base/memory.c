/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - the library's allocations, and the hooks with which tests make things go wrong. */
#include "host/base/memory.h"

#include "device/protocol/protocol.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FROM_KERNEL_BYTES = 128 * 1024 };

static uint64_t live_bytes;
static uint32_t fault_countdown;

bool gq__fault(void)
{
	uint32_t left = __atomic_load_n(&fault_countdown, __ATOMIC_RELAXED);

	if (left == 0)
		return false;
	__atomic_store_n(&fault_countdown, left - 1, __ATOMIC_RELAXED);
	return left == 1;
}

void gq__fault_set(unsigned n)
{
	__atomic_store_n(&fault_countdown, n, __ATOMIC_RELAXED);
}

size_t gq__alloc_live_bytes(void)
{
	return (size_t)gq_load_relaxed_u64(&live_bytes);
}

static size_t whole_lines(size_t bytes)
{
	return (size_t)gq_round_up(bytes == 0 ? 1 : bytes, GQ_LINE);
}

void *gq__alloc(size_t bytes, const char *what)
{
	size_t size = whole_lines(bytes);
	void *memory = NULL;

	if (gq__fault() || size < bytes) { /* beyond the last whole line there is */
		memory = NULL;
	} else if (size >= FROM_KERNEL_BYTES) {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0);
		if (memory == MAP_FAILED)
			memory = NULL;
	} else {
		memory = aligned_alloc(GQ_LINE, size);
		if (memory != NULL)
			memset(memory, 0, size);
	}
	if (memory == NULL) {
		gq__failf(Q_ERR_NO_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
		return NULL;
	}
	gq_fetch_add_relaxed_u64(&live_bytes, size);
	return memory;
}

void gq__free(void *memory, size_t bytes)
{
	size_t size = whole_lines(bytes);

	if (memory == NULL)
		return;
	gq_fetch_add_relaxed_u64(&live_bytes, 0 - (uint64_t)size);
	if (size >= FROM_KERNEL_BYTES)
		munmap(memory, size);
	else
		free(memory);
}

#if defined(GPUQ_CHAOS)
/* Now and then let others run, or sleep, in the windows that the protocol must survive. */
_Thread_local void (*gq__in_window)(void);

void gq__chaos(void)
{
	static _Thread_local uint64_t state;

	if (gq__in_window != NULL) {
		gq__in_window();
		return;
	}
	if (state == 0)
		state = (uint64_t)(uintptr_t)&state | 1;
	state ^= state << 13; /* xorshift64, Marsaglia 2003 */
	state ^= state >> 7;
	state ^= state << 17;
	if (state % 64 == 0) {
		sched_yield();
	} else if (state % 4096 == 1) {
		gq_sys_nap((long)(state >> 32) % 50000);
	}
}
#endif
