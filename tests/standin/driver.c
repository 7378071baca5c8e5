/* SPDX-License-Identifier: Apache-2.0 */
/* driver.c - the stand-in for libcuda.so.1; see standin.h. */
#include "standin.h"

#include "device/cuda/driver/driver_api.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#define get(x)    __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define set(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)

/* The device's clock is not the host's. */
#define CLOCK_BEHIND_NS UINT64_C(123456789012345)

enum {
	MAX_DEPTH = 16,
	MAX_DEVICES = 2,
	SHARED_BYTES = 232448, /* that a block may have, if its function says so; else: */
	USUAL_SHARED_BYTES = 49152,
	GREATEST_PRIORITY = -5,
};

static uint32_t n_live, n_launches[MAX_DEVICES], n_resident[MAX_DEVICES], n_blocks[MAX_DEVICES];
static uint32_t last_launch; /* standin_launch */
static uint64_t n_wholes, n_hints, n_nears, clock_stands;
static uint32_t countdown; /* under fault_lock */
static uint32_t n_held;
static int countdown_error, broken, copies_held, canary_held, busy;
static _Thread_local bool is_busy; /* it is this thread */
static const char *failed_call;
static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;

static int version = 13000, devices = 1, sms = 9, exec_timeout, unified = 1, cooperative = 1,
	   mem_ops = 1, dma_buf = 1, domains = 4, shared_bytes_known = SHARED_BYTES;
static enum standin_bar1 bar1;

static char context_object[MAX_DEVICES]; /* the primary contexts */
static _Thread_local CUcontext stack[MAX_DEPTH];
static _Thread_local uint32_t depth;

/* ---- failing --------------------------------------------------------------------------------- */

static pid_t pid; /* of the process that called cuInit() */

static _Noreturn void misuse(const char *call, const char *what)
{
	fprintf(stderr, "stand-in driver: %s: %s\n", call, what);
	abort();
}

static int count_down(const char *call)
{
	int error = 0;

	if (get(busy) != 0 && !is_busy)
		misuse(call, "called while another thread is inside a call that may take long");
	if (pid != 0 && pid != getpid())
		return 3; /* CUDA_ERROR_NOT_INITIALIZED: unusable in the child of a fork */
	pthread_mutex_lock(&fault_lock);
	if (countdown != 0 && --countdown == 0) {
		error = countdown_error;
		failed_call = call;
	}
	pthread_mutex_unlock(&fault_lock);
	return error;
}

/* A broken context answers everything with what broke it, but can be made current. */
static int enter(const char *call)
{
	const int error = get(broken);

	return error != 0 ? error : count_down(call);
}

#define RETURN_ERROR_IF_ANY()                                                                      \
	do {                                                                                       \
		int error_ = enter(__func__);                                                      \
		if (error_ != 0)                                                                   \
			return error_;                                                             \
	} while (0)

static void nap_ns(long ns)
{
	struct timespec t = { 0, ns };

	nanosleep(&t, NULL);
}

static int current_device(const char *call)
{
	if (depth == 0)
		misuse(call, "called without a current context");
	for (int i = 0; i < MAX_DEVICES; i++)
		if (stack[depth - 1] == (CUcontext)(void *)&context_object[i])
			return i;
	misuse(call, "a context that is not the driver's");
}

/* On a GPU the call would wait for every kernel of the device's context. A broken context has none,
 * as soon as the threads here have noticed. */
static void would_wait_on(int device, const char *call)
{
	while (get(broken) != 0 && get(n_resident[device]) != 0)
		nap_ns(20000);
	if (get(n_resident[device]) != 0)
		misuse(call, "called while a kernel is resident: on a GPU it may never return");
}

static void would_wait(const char *call)
{
	would_wait_on(current_device(call), call);
}

/* What is pinned is mapped in the contexts of all devices. */
static void would_wait_everywhere(const char *call)
{
	for (int i = 0; i < MAX_DEVICES; i++)
		would_wait_on(i, call);
}

static void needs_context(const char *call)
{
	if (depth == 0)
		misuse(call, "called without a current context");
}

static void fail_nth(uint32_t n, int error)
{
	pthread_mutex_lock(&fault_lock);
	countdown = n;
	countdown_error = error;
	failed_call = NULL;
	pthread_mutex_unlock(&fault_lock);
}

static const char *which_failed(void)
{
	return failed_call;
}

static void break_context(int error)
{
	set(broken, error);
}

static uint32_t count_live(void)
{
	return get(n_live);
}

static uint32_t count_launches_on(int ordinal)
{
	return get(n_launches[ordinal]);
}

static uint32_t count_launches(void)
{
	return get(n_launches[0]) + get(n_launches[1]);
}

static uint32_t count_resident(void)
{
	return get(n_resident[0]) + get(n_resident[1]);
}

static uint32_t stack_depth(void)
{
	return depth;
}

static void set_attribute(int attribute, int value)
{
	switch (attribute) {
	case STANDIN_VERSION:
		version = value;
		break;
	case STANDIN_DEVICES:
		if (value > MAX_DEVICES)
			misuse("set", "more devices than the stand-in has");
		devices = value;
		break;
	case STANDIN_COPIES_HELD:
		set(copies_held, value);
		break;
	case STANDIN_CANARY_HELD:
		set(canary_held, value);
		break;
	case STANDIN_BUSY:
		is_busy = value != 0;
		set(busy, value);
		break;
	case GQ_CU_MULTIPROCESSOR_COUNT:
		sms = value;
		break;
	case GQ_CU_KERNEL_EXEC_TIMEOUT:
		exec_timeout = value;
		break;
	case GQ_CU_UNIFIED_ADDRESSING:
		unified = value;
		break;
	case GQ_CU_COOPERATIVE_LAUNCH:
		cooperative = value;
		break;
	case GQ_CU_64_BIT_STREAM_MEM_OPS:
		mem_ops = value;
		break;
	case GQ_CU_DMA_BUF_SUPPORTED:
		dma_buf = value;
		break;
	case GQ_CU_MEM_SYNC_DOMAIN_COUNT:
		domains = value;
		break;
	case GQ_CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
		shared_bytes_known = value;
		break;
	case STANDIN_BAR1:
		set(bar1, (enum standin_bar1)value);
		break;
	default:
		misuse("set", "no such attribute");
	}
}

static uint64_t count_wholes(void)
{
	return get(n_wholes);
}

static uint64_t count_hints(void)
{
	return get(n_hints);
}

static uint64_t count_nears(void)
{
	return get(n_nears);
}

static void stop_clock(uint64_t host_ns)
{
	set(clock_stands, host_ns);
}

static uint32_t how_launched(void)
{
	return get(last_launch);
}

static uint32_t count_held(void)
{
	return get(n_held);
}

EXPORT const struct standin_control standin = { fail_nth,    which_failed,      break_context,
						count_live,  count_launches,    count_resident,
						stack_depth, set_attribute,     count_wholes,
						count_hints, count_launches_on, stop_clock,
						count_nears, how_launched,      count_held };

static void count(int by)
{
	__atomic_fetch_add(&n_live, (uint32_t)by, __ATOMIC_ACQ_REL);
}

/* ---- what the driver says of itself ---------------------------------------------------------- */

static int cuInit(unsigned int flags)
{
	const char *how = getenv("GPUQ_STANDIN_BAR1");

	RETURN_ERROR_IF_ANY();
	(void)flags;
	if (how != NULL)
		set(bar1, (enum standin_bar1)atoi(how));
	pid = getpid();
	return devices == 0 ? GQ_CU_NO_DEVICE : 0;
}

static int cuDriverGetVersion(int *out)
{
	RETURN_ERROR_IF_ANY();
	*out = version;
	return 0;
}

static int cuGetErrorName(int error, const char **text)
{
	*text = error == GQ_CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
		: error == 700               ? "CUDA_ERROR_ILLEGAL_ADDRESS"
		: error == GQ_CU_UNKNOWN     ? "CUDA_ERROR_UNKNOWN"
					     : NULL;
	return *text != NULL ? 0 : 1;
}

static int cuGetErrorString(int error, const char **text)
{
	*text = error == GQ_CU_OUT_OF_MEMORY ? "out of memory"
		: error == 700               ? "an illegal memory access was encountered"
		: error == GQ_CU_UNKNOWN     ? "unknown error"
					     : NULL;
	return *text != NULL ? 0 : 1;
}

static int cuDeviceGetCount(int *out)
{
	RETURN_ERROR_IF_ANY();
	*out = devices;
	return 0;
}

static int cuDeviceGet(CUdevice *device, int ordinal)
{
	RETURN_ERROR_IF_ANY();
	if (ordinal < 0 || ordinal >= devices)
		return GQ_CU_INVALID_DEVICE;
	*device = ordinal;
	return 0;
}

static int cuDeviceGetName(char *name, int len, CUdevice device)
{
	RETURN_ERROR_IF_ANY();
	(void)device;
	snprintf(name, (size_t)len, "Stand-in GPU");
	return 0;
}

static int cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
	RETURN_ERROR_IF_ANY();
	(void)device;
	switch (attribute) {
	case GQ_CU_MULTIPROCESSOR_COUNT:
		*value = sms;
		return 0;
	case GQ_CU_KERNEL_EXEC_TIMEOUT:
		*value = exec_timeout;
		return 0;
	case GQ_CU_UNIFIED_ADDRESSING:
		*value = unified;
		return 0;
	case GQ_CU_COOPERATIVE_LAUNCH:
		*value = cooperative;
		return 0;
	case GQ_CU_64_BIT_STREAM_MEM_OPS:
		*value = mem_ops;
		return 0;
	case GQ_CU_DMA_BUF_SUPPORTED:
		*value = dma_buf;
		return 0;
	case GQ_CU_READ_ONLY_HOST_REGISTER:
		*value = 1;
		return 0;
	case GQ_CU_MEM_SYNC_DOMAIN_COUNT:
		*value = domains;
		return 0;
	case GQ_CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
		*value = shared_bytes_known;
		return 0;
	case GQ_CU_COMPUTE_CAPABILITY_MAJOR:
		*value = 9;
		return 0;
	case GQ_CU_COMPUTE_CAPABILITY_MINOR:
		*value = 0;
		return 0;
	default:
		misuse(__func__, "an attribute that the stand-in does not know");
	}
}

/* ---- contexts -------------------------------------------------------------------------------- */

static int cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	RETURN_ERROR_IF_ANY();
	*context = (CUcontext)(void *)&context_object[device];
	count(1);
	return 0;
}

static int cuDevicePrimaryCtxRelease(CUdevice device)
{
	(void)device;
	count(-1);
	return enter(__func__);
}

static int cuCtxPushCurrent(CUcontext context)
{
	const int error = count_down(__func__);

	if (error != 0)
		return error;
	if (depth == MAX_DEPTH)
		misuse(__func__, "contexts are pushed and not popped");
	stack[depth++] = context;
	return 0;
}

static int cuCtxPopCurrent(CUcontext *context)
{
	if (depth == 0)
		misuse(__func__, "nothing to pop");
	*context = stack[--depth];
	return 0;
}

/* ---- modules --------------------------------------------------------------------------------- */

/* A function is the address of its own member: whether it has been launched. The library's locks
 * order these. */
struct module {
	const struct standin_image *image;
	bool grid, canary, flag;
	int canary_bytes; /* shared memory that it may have */
};

/* The first launch of a function may load code and enlarge local memory. */
static void launches(bool *function, const char *call)
{
	if (!*function)
		would_wait(call);
	*function = true;
}

static int cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int n, int *options,
			      void **values)
{
	struct module *loaded;

	(void)n, (void)options, (void)values;
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	would_wait(__func__);
	if (memcmp(image, STANDIN_MAGIC, sizeof(STANDIN_MAGIC)) != 0)
		return GQ_CU_NO_BINARY_FOR_GPU;
	loaded = calloc(1, sizeof(*loaded));
	memcpy(&loaded->image, &image, sizeof(image));
	loaded->canary_bytes = USUAL_SHARED_BYTES;
	*module = (CUmodule)(void *)loaded;
	count(1);
	return 0;
}

static int cuModuleGetLoadingMode(int *mode)
{
	RETURN_ERROR_IF_ANY();
	*mode = GQ_CU_MODULE_LAZY_LOADING;
	return 0;
}

static int cuModuleUnload(CUmodule module)
{
	needs_context(__func__);
	would_wait(__func__);
	free(module);
	count(-1);
	return enter(__func__);
}

static int cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
	struct module *m = (struct module *)(void *)module;

	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	if (strcmp(name, "gpuq_grid") == 0)
		*function = (CUfunction)(void *)&m->grid;
	else if (strcmp(name, "gpuq_canary") == 0)
		*function = (CUfunction)(void *)&m->canary;
	else if (strcmp(name, "tune_flag") == 0) /* of tests/gpu/echo_counted.cu */
		*function = (CUfunction)(void *)&m->flag;
	else
		return GQ_CU_NOT_FOUND;
	return 0;
}

static struct module *module_of_canary(CUfunction function)
{
	return (struct module *)(void *)((char *)(void *)function -
					 offsetof(struct module, canary));
}

static int cuFuncGetAttribute(int *value, int attribute, CUfunction function)
{
	(void)attribute, (void)function;
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	would_wait(__func__); /* it may load code */
	*value = 32;
	return 0;
}

static int cuFuncSetAttribute(CUfunction function, int attribute, int value)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	would_wait(__func__);
	if (attribute != GQ_CU_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > SHARED_BYTES)
		return GQ_CU_INVALID_VALUE;
	module_of_canary(function)->canary_bytes = value;
	return 0;
}

static int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function,
						       int block_threads, size_t shared_bytes)
{
	(void)function, (void)block_threads, (void)shared_bytes;
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	*blocks = 2;
	return 0;
}

/* ---- streams and launches -------------------------------------------------------------------- */

/* What a stream holds: a grid; or a copy or the writing of a value, which take their time; or the
 * canary, which is nothing. */
struct launch {
	struct launch *before; /* in the same stream */
	const struct standin_image *image;
	void *to; /* of a copy or a value */
	const void *from;
	size_t bytes; /* 0: a value */
	bool may_be_held;
	uint64_t value;
	struct gq_grid grid;
	struct gq_launch launch;
	uint32_t blocks, warps;
	const uint64_t *ping; /* of a kernel that answers each number in it, up to `last` */
	uint64_t *pong, last;
	bool needs_all; /* of a multiprocessor: a canary waits until one is free */
	uint32_t done;
	int device;
	pthread_t id; /* joined by the next in the stream, or with it */
	struct standin_block *block;
};

struct standin_block {
	uint32_t arrived, round, warps;
	void *shared;
};

struct stream {
	pthread_mutex_t lock;
	int device, priority;
	bool has_copied, has_written; /* a copy has come, a value */
	struct launch *last;
};

static void finish(struct launch *l)
{
	if (l == NULL)
		return;
	pthread_join(l->id, NULL);
	free(l);
}

static void end_if_broken(void)
{
	if (get(broken) != 0)
		pthread_exit(NULL);
}

static uint64_t host_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t device_clock_ns(void)
{
	const uint64_t stands = get(clock_stands);

	return (stands != 0 ? stands : host_clock_ns()) - CLOCK_BEHIND_NS;
}

/* A GPU's warps take no core from the host's threads. A warp that never naps, as a unit that is
 * being measured, reads the clock in every turn: here it gives way now and then. */
static uint64_t warp_clock_ns(struct standin_warp *w)
{
	static _Thread_local uint32_t turn;

	(void)w;
	end_if_broken();
	if (++turn % 32 == 0)
		sched_yield();
	return device_clock_ns();
}

static void warp_took_whole(struct standin_warp *w)
{
	(void)w;
	__atomic_add_fetch(&n_wholes, 1, __ATOMIC_RELAXED);
}

static void warp_took_hint(struct standin_warp *w)
{
	(void)w;
	__atomic_add_fetch(&n_hints, 1, __ATOMIC_RELAXED);
}

static void warp_took_near(struct standin_warp *w)
{
	(void)w;
	__atomic_add_fetch(&n_nears, 1, __ATOMIC_RELAXED);
}

static void warp_nap(struct standin_warp *w, uint32_t ns)
{
	(void)w;
	end_if_broken();
	if (ns < 1000)
		sched_yield();
	else
		nap_ns((long)ns);
}

static void warp_barrier(struct standin_warp *w)
{
	const struct launch *l = w->launch;
	struct standin_block *b = &l->block[w->block];
	const uint32_t round = get(b->round);

	if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == b->warps) {
		set(b->arrived, 0);
		set(b->round, round + 1);
		return;
	}
	while (get(b->round) == round) {
		end_if_broken();
		sched_yield();
	}
}

struct warp_thread {
	pthread_t id;
	struct launch *launch;
	struct standin_warp warp;
};

static void *run_warp(void *arg)
{
	struct warp_thread *t = arg;

	t->launch->image->grid(&t->warp, &t->launch->grid, t->launch->launch);
	return NULL;
}

/* A copy to the device reads what lies between messages, too, and the slot of a cancelled message
 * when it is the next message's. These races are by design: the bytes are not looked at then. */
__attribute__((noinline, no_sanitize("thread"))) static void read_raced(char *to, const char *from,
									size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((volatile char *)to)[i] = ((const volatile char *)from)[i];
}

static void copy_in(void *to, const void *from, size_t bytes)
{
	char *between = malloc(bytes);

	read_raced(between, from, bytes);
	memcpy(to, between, bytes);
	free(between);
}

static void answer(const struct launch *l)
{
	for (uint64_t i = 1; i <= l->last; i++) {
		while (get(*l->ping) < i && get(broken) == 0)
			sched_yield();
		set(*l->pong, i);
	}
}

/* A launch's own thread: waits for those before it, runs the warps, and ends with them. */
static void *run_launch(void *arg)
{
	struct launch *l = arg;
	const uint32_t n = l->blocks * l->warps;
	struct warp_thread *thread = NULL;

	finish(l->before);
	while (l->needs_all && get(n_blocks[l->device]) >= (uint32_t)sms && get(broken) == 0)
		nap_ns(20000);
	if (l->ping != NULL)
		answer(l);
	if (l->to != NULL) {
		do
			nap_ns(20000);
		while (l->may_be_held && get(copies_held) != 0);
		if (l->bytes != 0)
			copy_in(l->to, l->from, l->bytes);
		else
			set(*(uint64_t *)l->to, l->value);
	}
	if (l->image != NULL) {
		thread = calloc(n, sizeof(*thread));
		l->block = calloc(l->blocks, sizeof(*l->block));
		for (uint32_t b = 0; b < l->blocks; b++) {
			l->block[b].warps = l->warps;
			l->block[b].shared = calloc(1, l->image->shared_bytes);
		}
		for (uint32_t i = 0; i < n; i++) {
			struct warp_thread *t = &thread[i];

			t->launch = l;
			t->warp = (struct standin_warp){ .block = i / l->warps,
							 .blocks = l->blocks,
							 .thread = i % l->warps * 32,
							 .threads = l->warps * 32,
							 .shared = l->block[i / l->warps].shared,
							 .barrier = warp_barrier,
							 .clock_ns = warp_clock_ns,
							 .nap = warp_nap,
							 .took_whole = warp_took_whole,
							 .took_hint = warp_took_hint,
							 .took_near = warp_took_near,
							 .launch = l };
			if (pthread_create(&t->id, NULL, run_warp, t) != 0)
				misuse("launch", "no thread");
		}
		for (uint32_t i = 0; i < n; i++)
			pthread_join(thread[i].id, NULL);
		for (uint32_t b = 0; b < l->blocks; b++)
			free(l->block[b].shared);
		free(l->block);
		free(thread);
		__atomic_sub_fetch(&n_blocks[l->device], l->blocks, __ATOMIC_ACQ_REL);
		__atomic_sub_fetch(&n_resident[l->device], 1, __ATOMIC_ACQ_REL);
	}
	set(l->done, 1);
	return NULL;
}

static struct stream *stream_of(CUstream stream)
{
	return (struct stream *)(void *)stream;
}

static int cuStreamCreate(CUstream *out, unsigned int flags)
{
	struct stream *s;

	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	if (flags != GQ_CU_STREAM_NON_BLOCKING)
		misuse(__func__, "a stream that waits for stream 0");
	s = calloc(1, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	s->device = current_device(__func__);
	*out = (CUstream)(void *)s;
	count(1);
	return 0;
}

static int cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	*least = 0;
	*greatest = GREATEST_PRIORITY;
	return 0;
}

static int cuStreamCreateWithPriority(CUstream *out, unsigned int flags, int priority)
{
	const int result = cuStreamCreate(out, flags);

	if (result == 0)
		stream_of(*out)->priority = priority;
	return result;
}

static int stream_is_idle(struct stream *s)
{
	int idle;

	pthread_mutex_lock(&s->lock);
	idle = s->last == NULL || get(s->last->done) != 0;
	if (idle) { /* its thread is no longer one of the process's */
		finish(s->last);
		s->last = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	return idle;
}

static int cuStreamDestroy(CUstream stream)
{
	struct stream *s = stream_of(stream);

	needs_context(__func__);
	if (!stream_is_idle(s) && s->last->image != NULL && get(broken) == 0)
		misuse(__func__, "a kernel is still in it");
	finish(s->last);
	pthread_mutex_destroy(&s->lock);
	free(s);
	count(-1);
	return enter(__func__);
}

static int cuStreamQuery(CUstream stream)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	return stream_is_idle(stream_of(stream)) ? 0 : GQ_CU_NOT_READY;
}

static int cuStreamSynchronize(CUstream stream)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	while (!stream_is_idle(stream_of(stream))) {
		if (stream_of(stream)->last->image != NULL)
			misuse(__func__, "waits for the resident kernel");
		nap_ns(20000);
	}
	return 0;
}

static int put(struct stream *s, struct launch *l)
{
	pthread_mutex_lock(&s->lock);
	if (l->to != NULL && s->last != NULL && s->last->image != NULL && get(s->last->done) == 0)
		misuse("cuMemcpy*Async", "waits behind the resident kernel");
	if (l->to != NULL) {
		bool *before = l->bytes != 0 ? &s->has_copied : &s->has_written;

		if (!*before)
			would_wait("the first copy of a stream, or its first value");
		l->may_be_held = *before;
		*before = true;
	}
	l->before = s->last; /* which it finishes */
	if (pthread_create(&l->id, NULL, run_launch, l) != 0)
		misuse("launch", "no thread");
	s->last = l;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int launch_on(struct stream *s, const struct standin_image *image, uint32_t blocks,
		     uint32_t threads, void **parameters, bool needs_all)
{
	struct launch *l = calloc(1, sizeof(*l));

	l->image = image;
	l->needs_all = needs_all;
	l->device = s->device;
	if (s->device != current_device("launch"))
		misuse("launch", "the stream is of another context");
	if (image != NULL) {
		l->grid = *(struct gq_grid *)parameters[0];
		l->launch = *(struct gq_launch *)parameters[1];
		l->blocks = blocks;
		l->warps = threads / 32;
		__atomic_add_fetch(&n_blocks[l->device], blocks, __ATOMIC_ACQ_REL);
		__atomic_add_fetch(&n_resident[l->device], 1, __ATOMIC_ACQ_REL);
		__atomic_add_fetch(&n_launches[l->device], 1, __ATOMIC_ACQ_REL);
	}
	return put(s, l);
}

static int launch_flag(struct stream *s, void **parameters)
{
	struct launch *l = calloc(1, sizeof(*l));

	l->device = s->device;
	memcpy(&l->ping, parameters[0], sizeof(l->ping));
	memcpy(&l->pong, parameters[1], sizeof(l->pong));
	memcpy(&l->last, parameters[2], sizeof(l->last));
	return put(s, l);
}

static void wait_if_held(void)
{
	__atomic_add_fetch(&n_held, 1, __ATOMIC_ACQ_REL);
	while (get(canary_held) != 0)
		nap_ns(20000);
	__atomic_sub_fetch(&n_held, 1, __ATOMIC_ACQ_REL);
}

static int cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
			  unsigned int grid_z, unsigned int block_x, unsigned int block_y,
			  unsigned int block_z, unsigned int shared_bytes, CUstream stream,
			  void **parameters, void **extra)
{
	struct module *module = module_of_canary(function);
	const struct standin_image *image;
	struct gq_image_info *info;

	(void)grid_y, (void)grid_z, (void)block_y, (void)block_z, (void)extra;
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	if ((uintptr_t)function % 16 == offsetof(struct module, flag))
		return launch_flag(stream_of(stream), parameters);
	if ((uintptr_t)function % 16 != offsetof(struct module, canary)) /* as calloc() aligns */
		misuse(__func__, "the grid needs a cooperative launch");
	if (shared_bytes > (unsigned int)module->canary_bytes)
		return GQ_CU_INVALID_VALUE;
	launches(&module->canary, __func__);
	image = module->image;
	memcpy(&info, parameters[0], sizeof(info));
	if (info != NULL) {
		*info = image->info;
		info->clock_ns = device_clock_ns();
	} else if (shared_bytes == 0) {
		wait_if_held();
	}
	return launch_on(stream_of(stream), NULL, grid_x, block_x, parameters,
			 shared_bytes > USUAL_SHARED_BYTES);
}

static void note_launch(const struct gq_cu_launch_config *config)
{
	uint32_t as = stream_of(config->stream)->priority == GREATEST_PRIORITY ? STANDIN_FIRST : 0;

	for (unsigned int i = 0; i < config->n_attributes; i++) {
		const struct gq_cu_launch_attribute *a = &config->attributes[i];

		if (a->id == GQ_CU_LAUNCH_COOPERATIVE && a->of.value == 1)
			as |= STANDIN_COOPERATIVE;
		else if (a->id == GQ_CU_LAUNCH_MEM_SYNC_DOMAIN &&
			 a->of.value == GQ_CU_DOMAIN_REMOTE && domains > 1)
			as |= STANDIN_REMOTE;
		else
			misuse("cuLaunchKernelEx", "an attribute that the stand-in does not know");
	}
	set(last_launch, as);
}

static int cuLaunchKernelEx(const struct gq_cu_launch_config *config, CUfunction function,
			    void **parameters, void **extra)
{
	struct module *module =
		(struct module *)(void *)((char *)(void *)function - offsetof(struct module, grid));
	const struct standin_image *image = module->image;

	(void)extra;
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	if (config->grid_x > (unsigned int)sms * 2 || config->block_x != image->info.block_threads)
		return GQ_CU_COOPERATIVE_LAUNCH_TOO_LARGE;
	note_launch(config);
	launches(&module->grid, __func__);
	return launch_on(stream_of(config->stream), image, config->grid_x, config->block_x,
			 parameters, false);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Memory that the driver knows: allocated or registered. */
struct known {
	struct known *next;
	uintptr_t base;
	size_t bytes;
	bool registered;
};
static struct known *known;
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;

static void remember(uintptr_t base, size_t bytes, bool registered)
{
	struct known *k = calloc(1, sizeof(*k));

	k->base = base;
	k->bytes = bytes;
	k->registered = registered;
	pthread_mutex_lock(&known_lock);
	k->next = known;
	known = k;
	pthread_mutex_unlock(&known_lock);
}

static void forget(uintptr_t base)
{
	pthread_mutex_lock(&known_lock);
	for (struct known **at = &known; *at != NULL; at = &(*at)->next) {
		struct known *k = *at;

		if (k->base != base)
			continue;
		*at = k->next;
		free(k);
		pthread_mutex_unlock(&known_lock);
		return;
	}
	misuse("free", "memory that is not the driver's");
}

static bool is_known(uintptr_t base, size_t bytes)
{
	bool found = false;

	pthread_mutex_lock(&known_lock);
	for (const struct known *k = known; k != NULL && !found; k = k->next)
		found = base >= k->base && base + bytes <= k->base + k->bytes;
	pthread_mutex_unlock(&known_lock);
	return found;
}

/* What is allocated may share a page with it here, but never on a GPU. */
static bool overlaps_registered(uintptr_t base, size_t bytes)
{
	bool found = false;

	pthread_mutex_lock(&known_lock);
	for (const struct known *k = known; k != NULL && !found; k = k->next)
		found = k->registered && base < k->base + k->bytes && k->base < base + bytes;
	pthread_mutex_unlock(&known_lock);
	return found;
}

/* Until what the stream holds is done, which must not be a grid. */
static void wait_for_copies(struct stream *s, const char *call)
{
	while (!stream_is_idle(s)) {
		pthread_mutex_lock(&s->lock);
		if (s->last != NULL && s->last->image != NULL)
			misuse(call, "waits behind the resident kernel");
		pthread_mutex_unlock(&s->lock);
		nap_ns(20000);
	}
}

static int allocate(void **out, size_t bytes)
{
	const size_t size = (bytes + GQ_LINE - 1) / GQ_LINE * GQ_LINE;

	*out = aligned_alloc(GQ_LINE, size);
	if (*out == NULL)
		return GQ_CU_OUT_OF_MEMORY;
	memset(*out, 0xa5, size); /* a driver promises nothing */
	remember((uintptr_t)*out, size, false);
	count(1);
	return 0;
}

/* ---- device memory that the CPU can map ------------------------------------------------------ */

/* An allocation of whole GPU pages: a file, which the CPU may map. */
struct mappable {
	struct mappable *next;
	uint64_t *memory; /* the device's */
	size_t bytes;
	int fd;
	/* What lies between the CPU's mapping and the device, unless words arrive at once. */
	uint64_t *shadow, *sent;
	pthread_t bus;
	bool has_bus, end;
};
static struct mappable *mappable; /* under known_lock */

enum { GPU_PAGE = 65536 };

/* Of a multiple of the GPU's page, where one begins. */
static int allocate_mappable(void **out, size_t bytes)
{
	struct mappable *m = calloc(1, sizeof(*m));
	char *room = mmap(NULL, bytes + GPU_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *base = room + (GPU_PAGE - (uintptr_t)room % GPU_PAGE) % GPU_PAGE;

	m->bytes = bytes;
	m->fd = memfd_create("stand-in GPU", MFD_CLOEXEC);
	if (room == MAP_FAILED || m->fd < 0 || ftruncate(m->fd, (off_t)bytes) != 0 ||
	    mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd, 0) != base)
		misuse("cuMemAlloc", "no memory file");
	if (base != room)
		munmap(room, (size_t)(base - room));
	munmap(base + bytes, (size_t)(room + GPU_PAGE - base));
	m->memory = (uint64_t *)(void *)base;
	memset(base, 0xa5, bytes);
	remember((uintptr_t)base, bytes, false);
	pthread_mutex_lock(&known_lock);
	m->next = mappable;
	mappable = m;
	pthread_mutex_unlock(&known_lock);
	count(1);
	*out = base;
	return 0;
}

/* Under known_lock. */
static struct mappable **find_mappable(uintptr_t base)
{
	struct mappable **at = &mappable;

	while (*at != NULL && (uintptr_t)(*at)->memory != base)
		at = &(*at)->next;
	return at;
}

/* @return whether it was one. */
static bool free_mappable(uintptr_t base)
{
	struct mappable **at, *m;

	pthread_mutex_lock(&known_lock);
	at = find_mappable(base);
	m = *at;
	if (m != NULL)
		*at = m->next;
	pthread_mutex_unlock(&known_lock);
	if (m == NULL)
		return false;
	if (m->has_bus) {
		set(m->end, true);
		pthread_join(m->bus, NULL);
		munmap(m->shadow, m->bytes);
		free(m->sent);
	}
	munmap(m->memory, m->bytes);
	close(m->fd);
	free(m);
	return true;
}

static void carry(struct mappable *m, size_t i, uint32_t chance)
{
	const uint64_t word = __atomic_load_n(&m->shadow[i], __ATOMIC_RELAXED);
	const enum standin_bar1 how = get(bar1);

	if (word == m->sent[i] || how == STANDIN_BAR1_LOST || chance % 4 == 0)
		return; /* not yet */
	m->sent[i] = word;
	/* The library tests the mapping with the line in front, so all words of that arrive: the
	 * test must not fail on a mapping that is of use. */
	if (how != STANDIN_BAR1_LOSSY || i * sizeof(word) < GQ_MIRROR_HEAD || chance / 4 % 8 != 0)
		__atomic_store_n(&m->memory[i], word, __ATOMIC_RELAXED);
}

static uint32_t xorshift(uint32_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 17;
	return *random ^= *random << 5;
}

/* Words on their way, in no order; those of the line that is tested, thousands of times, sooner. */
static void *run_bus(void *arg)
{
	struct mappable *m = arg;
	const size_t n = m->bytes / sizeof(uint64_t) - GPU_PAGE / sizeof(uint64_t),
		     head = GQ_MIRROR_HEAD / sizeof(uint64_t);
	uint32_t random = 1;

	while (!get(m->end)) {
		const size_t from = random % n;

		for (size_t i = 0; i < n; i++) {
			carry(m, (from + i) % n, xorshift(&random));
			if (i % 256 < head)
				carry(m, i % 256, xorshift(&random));
		}
		nap_ns(20000);
	}
	return NULL;
}

/* @return the file that the CPU is to map instead. */
static int start_bus(struct mappable *m)
{
	const int fd = memfd_create("stand-in bus", MFD_CLOEXEC);

	if (fd < 0 || m->has_bus || ftruncate(fd, (off_t)m->bytes) != 0)
		misuse("cuMemGetHandleForAddressRange", "no bus");
	m->shadow = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	m->sent = calloc(1, m->bytes);
	if (pthread_create(&m->bus, NULL, run_bus, m) != 0)
		misuse("cuMemGetHandleForAddressRange", "no thread");
	m->has_bus = true;
	return fd;
}

static int cuMemGetHandleForAddressRange(void *handle, CUdeviceptr address, size_t bytes, int type,
					 unsigned long long flags)
{
	const enum standin_bar1 how = get(bar1);
	struct mappable *m;

	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	would_wait(__func__);
	if (type != GQ_CU_RANGE_DMA_BUF_FD || address % GPU_PAGE != 0 || bytes % GPU_PAGE != 0)
		misuse(__func__, "not whole pages");
	if (how == STANDIN_BAR1_NO_FILE)
		return GQ_CU_NOT_SUPPORTED;
	if (how == STANDIN_BAR1_OLD_DRIVER && flags != 0)
		return GQ_CU_INVALID_VALUE;
	pthread_mutex_lock(&known_lock);
	m = *find_mappable(address);
	pthread_mutex_unlock(&known_lock);
	if (m == NULL || bytes > m->bytes)
		misuse(__func__, "not what was allocated");
	*(int *)handle = how == STANDIN_BAR1_NO_MAPPING ? eventfd(0, EFD_CLOEXEC)
			 : how == STANDIN_BAR1_AT_ONCE || how == STANDIN_BAR1_OLD_DRIVER
				 ? dup(m->fd)
				 : start_bus(m);
	return *(int *)handle >= 0 ? 0 : GQ_CU_UNKNOWN;
}

static int cuMemAlloc(CUdeviceptr *address, size_t bytes)
{
	void *memory;
	int result;

	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	would_wait(__func__);
	result = bytes != 0 && bytes % GPU_PAGE == 0 ? allocate_mappable(&memory, bytes)
						     : allocate(&memory, bytes);
	*address = (CUdeviceptr)(uintptr_t)memory;
	return result;
}

static int cuMemFree(CUdeviceptr address)
{
	needs_context(__func__);
	would_wait(__func__);
	forget(address);
	if (!free_mappable(address))
		free((void *)(uintptr_t)address);
	count(-1);
	return enter(__func__);
}

static int cuMemHostAlloc(void **address, size_t bytes, unsigned int flags)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	would_wait(__func__);
	if (flags != (GQ_CU_MEMHOSTALLOC_PORTABLE | GQ_CU_MEMHOSTALLOC_DEVICEMAP))
		misuse(__func__, "memory that the grid cannot see");
	return allocate(address, bytes);
}

static int cuMemFreeHost(void *address)
{
	needs_context(__func__);
	would_wait(__func__);
	forget((uintptr_t)address);
	free(address);
	count(-1);
	return enter(__func__);
}

static int cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	struct launch *l;

	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	if (!is_known(to, bytes) || !is_known((uintptr_t)from, bytes)) {
		wait_for_copies(stream_of(stream), __func__); /* pageable memory: the call waits */
		memcpy((void *)(uintptr_t)to, from, bytes);
		return 0;
	}
	l = calloc(1, sizeof(*l));
	l->to = (void *)(uintptr_t)to;
	l->from = from;
	l->bytes = bytes;
	return put(stream_of(stream), l);
}

static int cuStreamWriteValue64(CUstream stream, CUdeviceptr address, uint64_t value,
				unsigned int flags)
{
	struct launch *l;

	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	if (flags != 0 || !is_known(address, sizeof(value)))
		misuse(__func__, "not a word of the device's");
	l = calloc(1, sizeof(*l));
	l->to = (void *)(uintptr_t)address;
	l->value = value;
	return put(stream_of(stream), l);
}

/* As the driver: what is pinned has the same address on the device. */
static int cuPointerGetAttribute(void *data, int attribute, CUdeviceptr address)
{
	RETURN_ERROR_IF_ANY();
	if (!is_known(address, 1))
		return GQ_CU_INVALID_VALUE;
	if (attribute == GQ_CU_POINTER_DEVICE_ADDRESS)
		memcpy(data, &address, sizeof(address));
	else if (attribute == GQ_CU_POINTER_DEVICE_ORDINAL)
		*(int *)data = 0;
	else
		misuse(__func__, "an attribute that the stand-in does not know");
	return 0;
}

static int cuMemHostRegister(void *address, size_t bytes, unsigned int flags)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	would_wait_everywhere(__func__);
	if ((flags & ~(unsigned)GQ_CU_MEMHOSTREGISTER_READ_ONLY) !=
	    (GQ_CU_MEMHOSTREGISTER_PORTABLE | GQ_CU_MEMHOSTREGISTER_DEVICEMAP))
		misuse(__func__, "memory that the grid cannot see");
	if (overlaps_registered((uintptr_t)address, bytes))
		return 712; /* CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED */
	remember((uintptr_t)address, bytes, true);
	count(1);
	return 0;
}

static int cuMemHostUnregister(void *address)
{
	needs_context(__func__);
	would_wait_everywhere(__func__);
	forget((uintptr_t)address);
	count(-1);
	return enter(__func__);
}

/* A copy out reads words whole, also while kernels of other streams write them. */
static void copy_words(char *to, const char *from, size_t bytes)
{
	for (; bytes >= 8 && (uintptr_t)from % 8 == 0; to += 8, from += 8, bytes -= 8) {
		const uint64_t word =
			__atomic_load_n((const uint64_t *)(const void *)from, __ATOMIC_RELAXED);

		memcpy(to, &word, sizeof(word));
	}
	memcpy(to, from, bytes);
}

static int cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	wait_for_copies(stream_of(stream), __func__);
	copy_words(to, (const void *)(uintptr_t)from, bytes);
	return 0;
}

static int cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream)
{
	needs_context(__func__);
	RETURN_ERROR_IF_ANY();
	wait_for_copies(stream_of(stream), __func__);
	memset((void *)(uintptr_t)to, value, bytes);
	return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

EXPORT int cuGetProcAddress_v2(const char *name, void **out, int cuda_version, uint64_t flags,
			       int *found);

int cuGetProcAddress_v2(const char *name, void **out, int cuda_version, uint64_t flags, int *found)
{
	(void)flags, (void)found;
	RETURN_ERROR_IF_ANY();
#define ENTRY(entry, entry_version, parameters)                                                    \
	if (strcmp(name, #entry) == 0) {                                                           \
		int(*f) parameters = entry;                                                        \
		if (cuda_version != entry_version)                                                 \
			misuse(__func__, "another version than the table's");                      \
		memcpy(out, &f, sizeof(f));                                                        \
		return 0;                                                                          \
	}
	GQ_CU_ENTRIES(ENTRY)
#undef ENTRY
	return GQ_CU_NOT_FOUND;
}
