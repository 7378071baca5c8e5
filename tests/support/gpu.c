/* SPDX-License-Identifier: Apache-2.0 */
/* gpu.c - memory that the tests share with a real GPU; see gpu.h. */
#include "gpu.h"

#include "device/cuda/driver/loader.h"
#include "gpuq/gpuq.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BOUNCE_BYTES = 4096 };

static const struct gq_cu *cu;
static CUcontext context;
static CUstream stream;
static void *bounce; /* pinned: a copy to other memory would wait for more than itself */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool device_is(const char *name)
{
	const char *device = getenv("GPUQ_TEST_DEVICE");

	return device != NULL && strcmp(device, name) == 0;
}

bool on_standin(void)
{
	const char *driver = getenv("GPUQ_LIBCUDA");

	return driver != NULL && driver[0] != '\0';
}

bool on_gpu(void)
{
	return device_is("gpu");
}

bool on_cuda(void)
{
	return device_is("cuda") || on_gpu();
}

static void must(int result, const char *call)
{
	if (result == GQ_CU_SUCCESS)
		return;
	fprintf(stderr, "the tests' own %s failed: CUDA error %d\n", call, result);
	_exit(1);
}

#define CALL(name, ...) must(cu->name(__VA_ARGS__), #name)

static void leave(void)
{
	CUcontext ours;

	cu->cuCtxPopCurrent(&ours);
}

void gpu_begin(void)
{
	CUdevice device;
	int count = 0;

	cu = gq__cuda_driver();
	if (cu != NULL)
		CALL(cuDeviceGetCount, &count);
	if (count == 0) {
		printf("skipped: %s\n", cu == NULL ? q_last_error() : "CUDA: no device");
		fflush(stdout);
		_exit(77);
	}
	CALL(cuDeviceGet, &device, 0);
	CALL(cuDevicePrimaryCtxRetain, &context, device);
	CALL(cuCtxPushCurrent, context);
	CALL(cuStreamCreate, &stream, GQ_CU_STREAM_NON_BLOCKING);
	leave();
	bounce = gpu_pinned_memory(BOUNCE_BYTES);
}

void *gpu_device_memory(size_t bytes)
{
	CUdeviceptr address;
	void *p;

	CALL(cuCtxPushCurrent, context);
	CALL(cuMemAlloc, &address, bytes);
	leave();
	memcpy(&p, &address, sizeof(p));
	gpu_clear(p, bytes);
	return p;
}

void gpu_clear(void *device, size_t bytes)
{
	pthread_mutex_lock(&lock);
	CALL(cuCtxPushCurrent, context);
	CALL(cuMemsetD8Async, (CUdeviceptr)(uintptr_t)device, 0, bytes, stream);
	CALL(cuStreamSynchronize, stream);
	leave();
	pthread_mutex_unlock(&lock);
}

void *gpu_pinned_memory(size_t bytes)
{
	void *p;

	CALL(cuCtxPushCurrent, context);
	CALL(cuMemHostAlloc, &p, bytes, GQ_CU_MEMHOSTALLOC_PORTABLE | GQ_CU_MEMHOSTALLOC_DEVICEMAP);
	leave();
	return memset(p, 0, bytes);
}

void gpu_read(void *to, const void *from_device, size_t bytes)
{
	if (bytes > BOUNCE_BYTES)
		abort();
	pthread_mutex_lock(&lock);
	CALL(cuCtxPushCurrent, context);
	CALL(cuMemcpyDtoHAsync, bounce, (CUdeviceptr)(uintptr_t)from_device, bytes, stream);
	CALL(cuStreamSynchronize, stream);
	leave();
	memcpy(to, bounce, bytes);
	pthread_mutex_unlock(&lock);
}
