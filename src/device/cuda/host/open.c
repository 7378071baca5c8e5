/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open.c - what a queue needs before it has memory: the device, the processor's image, and how many
 * blocks of it are resident at once.
 */
#include "device/cuda/host/open.h"

#include "device/cuda/driver/nvrtc.h"
#include "device/cuda/host/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the device ------------------------------------------------------------------------------ */

bool gq__open_check_environment(void)
{
	const char *blocking = getenv("CUDA_LAUNCH_BLOCKING");
	const char *connections = getenv("CUDA_DEVICE_MAX_CONNECTIONS");

	if (blocking != NULL && blocking[0] != '\0' && strcmp(blocking, "0") != 0) {
		gq__failf(
			Q_ERR_UNSUPPORTED,
			"CUDA: environment variable CUDA_LAUNCH_BLOCKING is '%.32s': every launch "
			"would wait for its kernel, and the queue's does not end; allowed: unset, "
			"0",
			blocking);
		return false;
	}
	if (connections != NULL && strcmp(connections, "1") == 0)
		gq__log(Q_LOG_WARNING, "CUDA_DEVICE_MAX_CONNECTIONS is 1: kernels of other streams "
				       "may wait behind "
				       "the queue's for ever; unset it, or make it 2 to 32");
	return true;
}

static bool attribute(struct gq_cuda *c, int *value, int which)
{
	return CU(c, cuDeviceGetAttribute, value, which, c->device);
}

/* What the grid's launches, and what runs beside it, may use of the device. */
static bool find_limits(struct gq_cuda *c)
{
	int domains, bytes;

	if (!attribute(c, &domains, GQ_CU_MEM_SYNC_DOMAIN_COUNT) ||
	    !attribute(c, &bytes, GQ_CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
		return false;
	c->domains = (uint32_t)domains;
	c->full_bytes = (uint32_t)bytes;
	return true;
}

static bool find_device(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	int count = 0, n, major, minor, timeout, unified, cooperative;
	char name[40] = "";

	if (!CU(c, cuDeviceGetCount, &count))
		return false;
	if (count == 0) {
		gq__fail(Q_ERR_UNSUPPORTED, "CUDA: the driver finds no device");
		return false;
	}
	if (q->cfg.ordinal >= (uint32_t)count) {
		gq__failf(Q_ERR_INVALID_ARG, "ordinal is %" PRIu32 "; allowed: 0 to %d",
			  q->cfg.ordinal, count - 1);
		return false;
	}
	if (!CU(c, cuDeviceGet, &c->device, (int)q->cfg.ordinal) ||
	    !CU(c, cuDeviceGetName, name, (int)sizeof(name), c->device) ||
	    !attribute(c, &n, GQ_CU_MULTIPROCESSOR_COUNT) ||
	    !attribute(c, &major, GQ_CU_COMPUTE_CAPABILITY_MAJOR) ||
	    !attribute(c, &minor, GQ_CU_COMPUTE_CAPABILITY_MINOR) ||
	    !attribute(c, &timeout, GQ_CU_KERNEL_EXEC_TIMEOUT) ||
	    !attribute(c, &unified, GQ_CU_UNIFIED_ADDRESSING) ||
	    !attribute(c, &cooperative, GQ_CU_COOPERATIVE_LAUNCH) || !find_limits(c))
		return false;
	snprintf(q->device_name, sizeof(q->device_name), "%s (%d.%d)", name, major, minor);
	c->sms = (uint32_t)n;
	c->capability = (uint32_t)(10 * major + minor);
	if (timeout != 0) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "CUDA: %s has a run-time limit for kernels (it drives a display), which "
			  "would end the resident grid",
			  q->device_name);
		return false;
	}
	if (unified == 0 || cooperative == 0) {
		gq__failf(Q_ERR_UNSUPPORTED, "CUDA: %s has no %s", q->device_name,
			  unified == 0 ? "unified addressing" : "cooperative launch");
		return false;
	}
	if (q->cfg.reserve_sms >= c->sms) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "reserve_sms is %" PRIu32 "; allowed: 0 to %" PRIu32 " on %s",
			  q->cfg.reserve_sms, c->sms - 1, q->device_name);
		return false;
	}
	return true;
}

/* Compile the source to an image. This takes seconds, so it must not happen while the grids of
 * other queues are away. */
static bool compile_source(struct gq_cuda *c)
{
	struct gq_processor *p = &c->q->processor;
	struct gq_compilation job = { .path = c->q->cfg.processor,
				      .source = p->file,
				      .granularity = c->q->cfg.granularity,
				      .capability = c->capability };
	size_t bytes;
	void *image;

	if (!p->is_source)
		return true;
	if (!CU(c, cuDriverGetVersion, &job.driver) ||
	    gq__nvrtc_compile(&job, &image, &bytes) != Q_OK)
		return false;
	gq__free(p->file, p->file_bytes);
	p->file = image;
	p->file_bytes = bytes;
	p->is_source = false;
	return true;
}

bool gq__open_find(struct gq_cuda *c)
{
	return find_device(c) && compile_source(c);
}

/* ---- the image ------------------------------------------------------------------------------- */

static const char *const granularity_names[] = { "thread", "warp", "block" };

/* The image of the granularity that is asked for. Zero asks for Q_PER_THREAD or, if the processor
 * has no such image, for the next one that it has. */
static const void *choose_image(GpuQueue *q)
{
	const struct gq_processor *p = &q->processor;

	if (p->file != NULL)
		return p->file;
	if (q->cfg.granularity == 0 && p->device[0] == NULL)
		q->cfg.granularity = p->device[1] != NULL ? 1 : p->device[2] != NULL ? 2 : 0;
	if (p->device[q->cfg.granularity] != NULL)
		return p->device[q->cfg.granularity];
	if (p->device[0] == NULL && p->device[1] == NULL && p->device[2] == NULL)
		gq__failf(Q_ERR_UNSUPPORTED,
			  "processor: '%s' has no image for a GPU (it was built without nvcc, or "
			  "CPU_ONLY)",
			  p->name);
	else
		gq__failf(Q_ERR_UNSUPPORTED,
			  "granularity is %" PRIu32 " (%s); allowed: what processor '%s' was built "
			  "for: %s%s%s",
			  q->cfg.granularity, granularity_names[q->cfg.granularity], p->name,
			  p->device[0] != NULL ? "0 (thread) " : "",
			  p->device[1] != NULL ? "1 (warp) " : "",
			  p->device[2] != NULL ? "2 (block)" : "");
	return NULL;
}

int gq__open_launch_canary(struct gq_cuda *c, struct gq_image_info *info, uint32_t shared_bytes)
{
	CUdeviceptr at = (CUdeviceptr)(uintptr_t)info;
	void *arguments[] = { &at };

	return c->cu->cuLaunchKernel(c->canary, 1, 1, 1, 1, 1, 1, shared_bytes, c->canary_stream,
				     arguments, NULL);
}

/*
 * The canary once more, with all the shared memory that a block may have: then it needs a
 * multiprocessor for itself, with all of its registers, and so shows whether the application's
 * largest blocks find one. For the first time now, as no grid is resident. A device that does not
 * let it is not asked again.
 */
static bool try_full_canary(struct gq_cuda *c)
{
	int result = c->cu->cuFuncSetAttribute(c->canary, GQ_CU_MAX_DYNAMIC_SHARED_SIZE_BYTES,
					       (int)c->full_bytes);

	if (result == GQ_CU_SUCCESS)
		result = gq__open_launch_canary(c, NULL, c->full_bytes);
	if (result == GQ_CU_INVALID_VALUE || result == GQ_CU_LAUNCH_OUT_OF_RESOURCES ||
	    result == GQ_CU_NOT_SUPPORTED) {
		c->full_bytes = 0;
		return true;
	}
	return gq__cuda_check(c->cu, "cuFuncSetAttribute or cuLaunchKernel", result) &&
	       CU(c, cuStreamSynchronize, c->canary_stream);
}

/* Ask the image what it is, and the device what its clock shows. No grid may be resident: with lazy
 * loading the first launch may wait for every kernel of the context. */
static bool ask_image(struct gq_cuda *c, struct gq_image_info *info)
{
	uint64_t asked = 0;
	bool ok = true;

	for (int i = 0; ok && i < 2; i++) { /* the second is quick, and so says when it was */
		asked = gq__now_ns();
		ok = gq__cuda_check(c->cu, "cuLaunchKernel", gq__open_launch_canary(c, info, 0)) &&
		     CU(c, cuStreamSynchronize, c->canary_stream);
	}
	c->info = *info;
	c->ahead_error_ns = gq__now_ns() - asked;
	c->ahead_ns = asked + c->ahead_error_ns / 2 - info->clock_ns;
	return ok && try_full_canary(c);
}

static bool find_kernels(struct gq_cuda *c)
{
	struct gq_image_info *info;
	bool ok;

	if (c->cu->cuModuleGetFunction(&c->kernel, c->module, "gpuq_grid") != GQ_CU_SUCCESS ||
	    c->cu->cuModuleGetFunction(&c->canary, c->module, "gpuq_canary") != GQ_CU_SUCCESS) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "processor: the image of '%s' has no kernel gpuq_grid or gpuq_canary "
			  "(cuModuleGetFunction): it was not built by gpuq_add_processor()",
			  c->q->processor.name);
		return false;
	}
	info = gq__cuda_allocate_pinned(c, sizeof(*info), "what the processor's image is");
	if (info == NULL)
		return false;
	ok = ask_image(c, info);
	c->cu->cuMemFreeHost(info);
	return ok;
}

static bool load_image(struct gq_cuda *c, const void *image)
{
	const char *name = c->q->processor.name;
	static char log[1024]; /* under the lock that gq__quiet_begin() takes */
	int options[] = { GQ_CU_JIT_ERROR_LOG_BUFFER, GQ_CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
	void *values[] = { log, gq_cuda_pointer(sizeof(log)) };
	int result;

	log[0] = '\0';
	result = c->cu->cuModuleLoadDataEx(&c->module, image, 2, options, values);
	if (result != GQ_CU_SUCCESS) {
		char what[160];

		c->module = NULL;
		gq__cuda_describe(c->cu, result, what, sizeof(what));
		gq__failf(result == GQ_CU_OUT_OF_MEMORY ? Q_ERR_NO_MEMORY : Q_ERR_UNSUPPORTED,
			  "CUDA: cuModuleLoadDataEx: %s: processor '%s' on %s%s%s%.200s", what,
			  name, c->q->device_name,
			  result == GQ_CU_UNSUPPORTED_PTX_VERSION || result == GQ_CU_INVALID_PTX
				  ? "; the image is newer than the driver"
			  : result == GQ_CU_NO_BINARY_FOR_GPU
				  ? "; the image has no code for this GPU, nor PTX for it"
				  : "",
			  log[0] != '\0' ? ": " : "", log);
		return false;
	}
	if (!find_kernels(c))
		return false;
	if (c->info.magic != GQ_IMAGE_MAGIC || c->info.protocol_version != Q_PROTOCOL_VERSION ||
	    c->info.grid_bytes != sizeof(struct gq_grid)) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "processor: the image of '%s' was compiled for protocol version %" PRIu32
			  "; this libgpuq speaks version %u",
			  name, c->info.protocol_version, Q_PROTOCOL_VERSION);
		return false;
	}
	if (c->info.granularity > 2 ||
	    (c->q->cfg.granularity != 0 && c->q->cfg.granularity != c->info.granularity)) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "granularity is %" PRIu32 "; allowed: what the image of '%s' was built "
			  "for, %" PRIu32,
			  c->q->cfg.granularity, name, c->info.granularity);
		return false;
	}
	c->q->cfg.granularity = c->info.granularity;
	return true;
}

enum { DEFAULT_BLOCKS = 16 };

/* Few blocks feed on what PCIe brings, and most multiprocessors are left to the application, whole:
 * a block of its own may need all registers or all shared memory of one. */
static uint32_t default_blocks(const struct gq_cuda *c, uint32_t usable)
{
	const uint32_t fewest = (c->sms - 1) / 2 < DEFAULT_BLOCKS ? (c->sms - 1) / 2
								  : (uint32_t)DEFAULT_BLOCKS,
		       blocks = fewest < usable ? fewest : usable;

	return blocks != 0 ? blocks : 1;
}

/* How many blocks the grid has, unless cfg.consumers says it. All must be resident at once. */
static bool size_grid(struct gq_cuda *c)
{
	QueueConfig *cfg = &c->q->cfg;
	const uint32_t usable = c->sms - cfg->reserve_sms;
	int each = 0;

	if (!CU(c, cuOccupancyMaxActiveBlocksPerMultiprocessor, &each, c->kernel,
		(int)c->info.block_threads, 0))
		return false;
	if (cfg->consumers == 0)
		cfg->consumers = default_blocks(c, usable);
	if (each < 1 || cfg->consumers > usable * (uint32_t)each) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "consumers is %" PRIu32 "; allowed: 0 (at most 16) to %" PRIu32
			  ", the blocks of this processor that are resident at once on %" PRIu32
			  " multiprocessors of %s",
			  cfg->consumers, usable * (uint32_t)each, usable, c->q->device_name);
		return false;
	}
	c->blocks = cfg->consumers;
	c->units = c->info.granularity == 2 ? c->blocks : c->blocks * (c->info.block_threads / 32);
	return true;
}

/* The grid's stream has the highest priority: a grid that is launched again needs room for all of
 * its blocks at once, beside an application that keeps the GPU full. */
static bool make_streams(struct gq_cuda *c)
{
	int least = 0, greatest = 0;

	if (!CU(c, cuCtxGetStreamPriorityRange, &least, &greatest))
		return false;
	if (!CU(c, cuStreamCreateWithPriority, &c->stream, GQ_CU_STREAM_NON_BLOCKING,
		c->tune.priority != 0 ? greatest : least))
		c->stream = NULL;
	if (c->stream != NULL &&
	    !CU(c, cuStreamCreate, &c->canary_stream, GQ_CU_STREAM_NON_BLOCKING))
		c->canary_stream = NULL;
	gq__name_stream(c->stream, "gpuq grid");
	gq__name_stream(c->canary_stream, "gpuq canary");
	return c->canary_stream != NULL;
}

/* Say what the driver does with kernels that are used for the first time beside the grid. */
static bool look_at_loading(const struct gq_cuda *c)
{
	int mode = 0;

	if (!CU(c, cuModuleGetLoadingMode, &mode))
		return false;
	if (mode == GQ_CU_MODULE_LAZY_LOADING && c->q->cfg.bounded_messages == 0)
		gq__log(Q_LOG_INFO,
			"CUDA: kernels are loaded when they are first used, which may wait for "
			"the queue's; use the application's own before q_init(), or while the "
			"queue is paused, or set CUDA_MODULE_LOADING=EAGER");
	return true;
}

bool gq__open_load(struct gq_cuda *c)
{
	const void *image = choose_image(c->q);

	if (image == NULL)
		return false;
	if (!CU(c, cuDevicePrimaryCtxRetain, &c->context, c->device)) {
		c->context = NULL;
		return false;
	}
	if (!gq_context_enter(c))
		return false;
	if (!make_streams(c) || !look_at_loading(c) || !load_image(c, image) || !size_grid(c)) {
		gq_context_leave(c);
		return false;
	}
	gq_context_leave(c);
	return true;
}

void gq__open_unload(struct gq_cuda *c)
{
	if (c->canary_stream != NULL)
		c->cu->cuStreamDestroy(c->canary_stream);
	if (c->stream != NULL)
		c->cu->cuStreamDestroy(c->stream);
	if (c->module != NULL)
		c->cu->cuModuleUnload(c->module);
}
