/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_tool.cuh - what calibrate.cu and alternatives.cu share: errors, a watchdog, kernels that end
 * by themselves, percentiles, JSON lines.
 *
 * Runtime API, linked statically, so that nothing but the driver has to be there. Exit status: 0;
 * 1 a CUDA call failed; 3 the watchdog; 77 there is no driver or no device.
 */
#ifndef GPUQ_TEST_GPU_TOOL_CUH
#define GPUQ_TEST_GPU_TOOL_CUH

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <cuda_runtime.h>
#include <unistd.h>

#define CHECK(call)                                                                                \
	do {                                                                                       \
		const cudaError_t error_ = (call);                                                 \
		if (error_ != cudaSuccess) {                                                       \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,              \
				cudaGetErrorString(error_));                                       \
			fflush(nullptr);                                                           \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static inline uint64_t now_ns()
{
	return (uint64_t)std::chrono::duration_cast<std::chrono::nanoseconds>(
		       std::chrono::steady_clock::now().time_since_epoch())
		.count();
}

/* ---- words that both sides touch ------------------------------------------------------------- */

static inline uint64_t host_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void host_store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline void relax()
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/* Polls until the word is `value`; false when it has not come in `limit_ns`. The clock is looked at
 * rarely, for it costs as much as several polls. */
static inline bool await(const uint64_t *word, uint64_t value, uint64_t limit_ns)
{
	uint64_t begun = 0;

	for (uint32_t i = 1; host_load(word) != value; i++) {
		relax();
		if (i % 65536 != 0)
			continue;
		begun = begun == 0 ? now_ns() : begun;
		if (now_ns() - begun > limit_ns)
			return false;
	}
	return true;
}

static __device__ __forceinline__ uint64_t load_acquire(const uint64_t *word)
{
	uint64_t value;

	asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
	return value;
}

static __device__ __forceinline__ uint64_t load_relaxed(const uint64_t *word)
{
	uint64_t value;

	asm volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
	return value;
}

static __device__ __forceinline__ void store_release(uint64_t *word, uint64_t value)
{
	asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

static __device__ __forceinline__ void store_relaxed(uint64_t *word, uint64_t value)
{
	asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

/* ---- no kernel outlives its time ------------------------------------------------------------- */

static __device__ __forceinline__ uint64_t device_ns()
{
	uint64_t now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}

#define KERNEL_LIMIT_NS UINT64_C(5000000000)

/* A kernel's own time limit: begin with none(), ask over() in every loop that waits. */
struct Limit {
	uint64_t begun;
	uint32_t asked;

	static __device__ __forceinline__ Limit none()
	{
		return { device_ns(), 0 };
	}
	/* The clock is looked at every 256th time: it costs more than a poll. */
	__device__ __forceinline__ bool over()
	{
		return ++asked % 256 == 0 && device_ns() - begun > KERNEL_LIMIT_NS;
	}
};

/* The process ends, with 3, when a section takes longer than it says. */
class Watchdog
{
	std::atomic<uint64_t> until{ UINT64_MAX };
	std::atomic<const char *> what{ "" };

      public:
	Watchdog()
	{
		std::thread([this] {
			for (;;) {
				std::this_thread::sleep_for(std::chrono::milliseconds(100));
				if (now_ns() < until.load())
					continue;
				printf("{\"case\":\"watchdog\",\"section\":\"%s\"}\n", what.load());
				fflush(nullptr);
				_exit(3);
			}
		}).detach();
	}
	void section(const char *name, unsigned seconds)
	{
		what = name;
		until = now_ns() + seconds * UINT64_C(1000000000);
	}
};

/* ---- memory ---------------------------------------------------------------------------------- */

/* Pinned, mapped, zeroes; one address for both sides. */
template <typename T> static T *pinned(size_t n)
{
	void *memory;

	CHECK(cudaHostAlloc(&memory, n * sizeof(T), cudaHostAllocPortable | cudaHostAllocMapped));
	memset(memory, 0, n * sizeof(T));
	return (T *)memory;
}

template <typename T> static T *on_device(size_t n)
{
	void *memory;

	CHECK(cudaMalloc(&memory, n * sizeof(T)));
	CHECK(cudaMemset(memory, 0, n * sizeof(T)));
	return (T *)memory;
}

static inline cudaStream_t new_stream()
{
	cudaStream_t stream;

	CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	return stream;
}

/* ---- figures --------------------------------------------------------------------------------- */

struct Times {
	uint64_t p50, p99, max;
	size_t n;
};

static inline Times times_of(std::vector<uint64_t> &ns)
{
	std::sort(ns.begin(), ns.end());
	return ns.empty() ? Times{ 0, 0, 0, 0 }
			  : Times{ ns[ns.size() / 2], ns[ns.size() - 1 - ns.size() / 100],
				   ns.back(), ns.size() };
}

/* One JSON object a line, without braces in the format; out at once, as we may be killed. */
__attribute__((format(printf, 1, 2))) static inline void line(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	putchar('{');
	vprintf(format, args);
	puts("}");
	va_end(args);
	fflush(stdout);
}

/* Ends with 77 and the reason where nothing can be measured. */
static inline cudaDeviceProp begin_on_gpu()
{
	cudaDeviceProp properties;
	int count = 0;
	const cudaError_t error = cudaGetDeviceCount(&count);

	if (error != cudaSuccess || count == 0) {
		printf("skipped: no GPU: %s\n",
		       error != cudaSuccess ? cudaGetErrorString(error) : "no device");
		exit(77);
	}
	CHECK(cudaSetDevice(0));
	CHECK(cudaGetDeviceProperties(&properties, 0));
	CHECK(cudaFree(nullptr));
	return properties;
}

/* ---- the bare flag --------------------------------------------------------------------------- */

/* Block 0 answers each number in `ping` with the same one in `pong`, up to `last`; the other blocks
 * poll `idle` meanwhile, without a pause. */
static __global__ void answer_pings(const uint64_t *ping, uint64_t *pong, uint64_t last,
				    const uint64_t *idle, uint64_t *resident)
{
	Limit limit = Limit::none();

	if (threadIdx.x != 0)
		return;
	atomicAdd((unsigned long long *)resident, 1ull);
	if (blockIdx.x != 0) {
		while (load_acquire(idle) == 0 && !limit.over())
			;
		return;
	}
	for (uint64_t i = 1; i <= last; i++) {
		while (load_acquire(ping) < i)
			if (limit.over())
				return;
		store_release(pong, i);
	}
}

#endif /* GPUQ_TEST_GPU_TOOL_CUH */
