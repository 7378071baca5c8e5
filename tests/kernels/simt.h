/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simt.h - enough of CUDA C++ to run a processor's GPU code on threads, one a GPU thread.
 *
 * Included before a kernel source that is compiled by a host compiler. The whole unit runs
 * concurrently and meets only at barriers and shuffles, so ThreadSanitizer sees what a missing
 * barrier would do; what it cannot show is a lane that a real warp's shuffle would not find.
 */
#ifndef GPUQ_TEST_SIMT_H
#define GPUQ_TEST_SIMT_H

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define __CUDACC__    1
#define __CUDA_ARCH__ 900
#define __host__
#define __device__
#define __constant__
#define __shared__      static /* one block at a time */
#define __forceinline__ inline

struct alignas(16) uint4 {
	uint32_t x, y, z, w;
};

struct simt_dim {
	uint32_t x;
};

/*
 * Sleeps until the last one is there. Threads that yield instead use up their turns: beside busy
 * threads of other programs each round of 96 then takes tens of milliseconds.
 */
struct simt_barrier {
	uint32_t size, arrived, round;
};

static inline void simt_meet(simt_barrier *barrier)
{
	const uint32_t round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);

	if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == barrier->size) {
		__atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&barrier->round, round + 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &barrier->round, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
		return;
	}
	/* It returns at once if the round is over. */
	while (__atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round)
		syscall(SYS_futex, &barrier->round, FUTEX_WAIT_PRIVATE, round, NULL, NULL, 0);
}

struct simt_warp {
	simt_barrier barrier;
	uint64_t word[32]; /* what each lane shows the others */
};

/* One block; a launch is at most 1024 threads and all of one process's launches are serial. */
static simt_warp simt_warps[32];
static simt_barrier simt_block_barrier;
static simt_dim blockDim;
static thread_local simt_dim threadIdx;

static inline void __syncwarp()
{
	simt_meet(&simt_warps[threadIdx.x / 32].barrier);
}

static inline void __syncthreads()
{
	simt_meet(&simt_block_barrier);
}

/* What lane `from` passes; out of range: the caller's own. All 32 lanes take part. */
template <typename T> static inline T simt_shuffle(T value, uint32_t from)
{
	simt_warp *warp = &simt_warps[threadIdx.x / 32];
	T other = value;

	static_assert(sizeof(T) <= sizeof(warp->word[0]), "fits a word");
	memcpy(&warp->word[threadIdx.x % 32], &value, sizeof(value));
	__syncwarp();
	if (from < 32)
		memcpy(&other, &warp->word[from], sizeof(other));
	__syncwarp();
	return other;
}

template <typename T> static inline T __shfl_sync(uint32_t, T value, int from)
{
	return simt_shuffle(value, (uint32_t)from % 32);
}

template <typename T> static inline T __shfl_up_sync(uint32_t, T value, uint32_t delta)
{
	return simt_shuffle(value, threadIdx.x % 32 - delta);
}

template <typename T> static inline T __shfl_down_sync(uint32_t, T value, uint32_t delta)
{
	return simt_shuffle(value, threadIdx.x % 32 + delta);
}

template <typename T> static inline T __shfl_xor_sync(uint32_t, T value, int mask)
{
	return simt_shuffle(value, (threadIdx.x % 32) ^ (uint32_t)mask);
}

static inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector)
{
	const uint64_t bytes = (uint64_t)y << 32 | x;
	uint32_t result = 0;

	for (uint32_t i = 0; i < 4; i++)
		result |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
	return result;
}

static inline uint32_t __float_as_uint(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/* Through memory, so that no compiler makes one operation of the two. */
static inline float __fadd_rn(float a, float b)
{
	volatile float sum = a + b;

	return sum;
}

static inline float __fmul_rn(float a, float b)
{
	volatile float product = a * b;

	return product;
}

/*
 * The unit's threads, started at its first launch: to start and join 96 of them for each message
 * costs ThreadSanitizer more than the message. They and the launcher meet before a body and after
 * it; at the end of the process they sleep before the next.
 */
static struct simt_team {
	uint32_t threads; /* 0: not started yet */
	simt_barrier before, after;
	void (*body)(void *argument);
	void *argument;
} simt_team;

static void *simt_enter(void *index)
{
	threadIdx.x = (uint32_t)(uintptr_t)index;
	for (;;) {
		simt_meet(&simt_team.before);
		simt_team.body(simt_team.argument);
		simt_meet(&simt_team.after);
	}
	return NULL;
}

static inline bool simt_start(uint32_t threads)
{
	simt_team.threads = threads;
	simt_team.before.size = simt_team.after.size = threads + 1;
	for (uint32_t i = 0; i < threads; i++) {
		pthread_t id;

		if (pthread_create(&id, NULL, simt_enter, (void *)(uintptr_t)i) != 0)
			return false; /* those that run sleep for ever: the caller gives up */
		pthread_detach(id);
	}
	return true;
}

/* Runs `body` on `threads` threads, a multiple of 32 or 1, the same at each call, and waits for
 * them. */
static inline bool simt_launch(uint32_t threads, void (*body)(void *argument), void *argument)
{
	const uint32_t lanes = threads < 32 ? threads : 32;

	if (simt_team.threads == 0 && !simt_start(threads))
		return false;
	blockDim.x = threads;
	simt_block_barrier = { threads, 0, 0 };
	for (uint32_t i = 0; i < threads; i += lanes)
		simt_warps[i / 32].barrier = { lanes, 0, 0 };
	simt_team.body = body;
	simt_team.argument = argument;
	simt_meet(&simt_team.before);
	simt_meet(&simt_team.after);
	return true;
}

#endif /* GPUQ_TEST_SIMT_H */
