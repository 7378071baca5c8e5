/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - driver calls: in the queue's context, with their errors; memory of the driver's. */
#include "device/cuda/host/call.h"

#include <string.h>

bool gq__cuda_check(const struct gq_cu *cu, const char *call, int result)
{
	if (__builtin_expect(result == GQ_CU_SUCCESS, 1))
		return true;
	gq__cuda_error(cu, call, result);
	return false;
}

bool gq__context_enter_to_free(struct gq_cuda *c)
{
	for (int attempt = 0; attempt < 2; attempt++)
		if (c->cu->cuCtxPushCurrent(c->context) == GQ_CU_SUCCESS)
			return true;
	return false;
}

void *gq__cuda_allocate_pinned(struct gq_cuda *c, size_t bytes, const char *what)
{
	void *memory = NULL;
	int result;

	if (!gq_context_enter(c))
		return NULL;
	result = c->cu->cuMemHostAlloc(&memory, bytes,
				       GQ_CU_MEMHOSTALLOC_PORTABLE | GQ_CU_MEMHOSTALLOC_DEVICEMAP);
	gq_context_leave(c);
	if (result == GQ_CU_OUT_OF_MEMORY)
		gq__failf(Q_ERR_NO_MEMORY,
			  "out of memory: %zu bytes of pinned memory for %s (cuMemHostAlloc)",
			  bytes, what);
	else if (result != GQ_CU_SUCCESS)
		gq__cuda_error(c->cu, "cuMemHostAlloc", result);
	if (result != GQ_CU_SUCCESS)
		return NULL;
	memset(memory, 0, bytes);
	return memory;
}

bool gq__cuda_allocate(struct gq_cuda *c, CUdeviceptr *out, size_t bytes, const char *what)
{
	int result = c->cu->cuMemAlloc(out, bytes);

	if (result == GQ_CU_SUCCESS) {
		c->device_bytes += bytes;
		return true;
	}
	*out = 0;
	if (result == GQ_CU_OUT_OF_MEMORY)
		gq__failf(Q_ERR_NO_MEMORY,
			  "out of memory: %zu bytes of device memory for %s (cuMemAlloc)", bytes,
			  what);
	else
		gq__cuda_error(c->cu, "cuMemAlloc", result);
	return false;
}
