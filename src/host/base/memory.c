/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - the library's allocations. */
#include "host/base/memory.h"

#include "device/protocol/protocol.h"
#include "host/base/error.h"
#include "host/base/fault.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FROM_KERNEL_BYTES = 128 * 1024 };

static uint64_t live_bytes;

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

	if (gq__fault() || size < bytes) { /* size has wrapped */
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
