/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atomics.h - the only way the protocol touches a shared word; the order is in the name.
 *
 * Shared words are plain uint64_t and uint32_t, valid in C, C++ and CUDA. On the host these are
 * compiler builtins, which ThreadSanitizer understands; on the device inline PTX at system scope,
 * because the host touches the same words. Operations that end in _device are for words that only
 * the consumers touch: device scope on a GPU, the same as the others on the host.
 *
 * Operations that end in _posted are for words that validate what they announce: on a GPU relaxed,
 * as a release waits for all earlier stores to have crossed PCIe; on the host a release, which is
 * free there and tells ThreadSanitizer what the validation has shown.
 *
 * On the host no edge of the queue is made by a fence: ThreadSanitizer cannot model fences, and the
 * one protocol that needs sequential consistency (publish and park, edges [wake.look]/[sleep.look])
 * gets it from _seq_cst operations. gq_push_stores() is a fence that no edge relies on: it hurries
 * hints along. Rings in single mode do rely on one (host/ring/fence.h: membarrier). A GPU has one,
 * gq_fence_system(), to release early what later posted stores announce. On the host it is nothing,
 * and the last of those stores, which ends in _fenced, is the release.
 */
#ifndef GPUQ_PROTOCOL_ATOMICS_H
#define GPUQ_PROTOCOL_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define GQ_FN static __host__ __device__ __forceinline__
#else
#define GQ_FN static inline __attribute__((always_inline))
#endif

#if defined(__CUDA_ARCH__)

/* All shared words are in global memory. An atomic operation that could also be in a block's own
 * memory is compiled twice, the second time as a loop; and a load that could be costs more. */
#define GQ_GLOBAL_(word) __cvta_generic_to_global(word)

#define GQ_DEFINE_LOAD_(name, type, constraint, ptx)                                               \
	static __device__ __forceinline__ type name(const type *word)                              \
	{                                                                                          \
		type value;                                                                        \
		asm volatile(ptx : "=" constraint(value) : "l"(GQ_GLOBAL_(word)) : "memory");      \
		return value;                                                                      \
	}
#define GQ_DEFINE_STORE_(name, type, constraint, ptx)                                              \
	static __device__ __forceinline__ void name(type *word, type value)                        \
	{                                                                                          \
		asm volatile(ptx ::"l"(GQ_GLOBAL_(word)), constraint(value) : "memory");           \
	}
#define GQ_DEFINE_CAS_(name, ptx)                                                                  \
	static __device__ __forceinline__ bool name(uint64_t *word, uint64_t expected,             \
						    uint64_t desired)                              \
	{                                                                                          \
		uint64_t old;                                                                      \
		asm volatile(ptx                                                                   \
			     : "=l"(old)                                                           \
			     : "l"(GQ_GLOBAL_(word)), "l"(expected), "l"(desired)                  \
			     : "memory");                                                          \
		return old == expected;                                                            \
	}
#define GQ_DEFINE_RMW_(name, ptx)                                                                  \
	static __device__ __forceinline__ uint64_t name(uint64_t *word, uint64_t value)            \
	{                                                                                          \
		uint64_t old;                                                                      \
		asm volatile(ptx : "=l"(old) : "l"(GQ_GLOBAL_(word)), "l"(value) : "memory");      \
		return old;                                                                        \
	}

GQ_DEFINE_LOAD_(gq_load_relaxed_u64, uint64_t, "l", "ld.relaxed.sys.global.u64 %0, [%1];")
GQ_DEFINE_LOAD_(gq_load_acquire_u64, uint64_t, "l", "ld.acquire.sys.global.u64 %0, [%1];")
GQ_DEFINE_LOAD_(gq_load_seq_cst_u64, uint64_t, "l",
		"fence.sc.sys; ld.acquire.sys.global.u64 %0, [%1];")
GQ_DEFINE_LOAD_(gq_load_relaxed_u32, uint32_t, "r", "ld.relaxed.sys.global.u32 %0, [%1];")
GQ_DEFINE_LOAD_(gq_load_seq_cst_u32, uint32_t, "r",
		"fence.sc.sys; ld.acquire.sys.global.u32 %0, [%1];")
GQ_DEFINE_LOAD_(gq_load_relaxed_device_u64, uint64_t, "l", "ld.relaxed.gpu.global.u64 %0, [%1];")
GQ_DEFINE_STORE_(gq_store_relaxed_u64, uint64_t, "l", "st.relaxed.sys.global.u64 [%0], %1;")
GQ_DEFINE_STORE_(gq_store_release_u64, uint64_t, "l", "st.release.sys.global.u64 [%0], %1;")
GQ_DEFINE_STORE_(gq_store_posted_u64, uint64_t, "l", "st.relaxed.sys.global.u64 [%0], %1;")
GQ_DEFINE_STORE_(gq_store_fenced_u64, uint64_t, "l", "st.relaxed.sys.global.u64 [%0], %1;")
GQ_DEFINE_STORE_(gq_store_seq_cst_u64, uint64_t, "l",
		 "fence.sc.sys; st.relaxed.sys.global.u64 [%0], %1;")
GQ_DEFINE_STORE_(gq_store_relaxed_device_u64, uint64_t, "l", "st.relaxed.gpu.global.u64 [%0], %1;")
GQ_DEFINE_CAS_(gq_cas_relaxed_device_u64, "atom.relaxed.gpu.global.cas.b64 %0, [%1], %2, %3;")
GQ_DEFINE_CAS_(gq_cas_acq_rel_device_u64, "atom.acq_rel.gpu.global.cas.b64 %0, [%1], %2, %3;")
GQ_DEFINE_RMW_(gq_fetch_add_relaxed_device_u64, "atom.relaxed.gpu.global.add.u64 %0, [%1], %2;")
GQ_DEFINE_RMW_(gq_fetch_add_acquire_device_u64, "atom.acquire.gpu.global.add.u64 %0, [%1], %2;")
GQ_DEFINE_RMW_(gq_fetch_add_acq_rel_device_u64, "atom.acq_rel.gpu.global.add.u64 %0, [%1], %2;")
/* Additions whose answer nobody waits for. */
GQ_DEFINE_STORE_(gq_add_relaxed_device_u64, uint64_t, "l",
		 "red.relaxed.gpu.global.add.u64 [%0], %1;")
GQ_DEFINE_STORE_(gq_add_release_device_u64, uint64_t, "l",
		 "red.release.gpu.global.add.u64 [%0], %1;")

/* Waits for what the caller has stored, and what has happened before as far as the caller knows. */
static __device__ __forceinline__ void gq_fence_system(void)
{
	asm volatile("fence.acq_rel.sys;" ::: "memory");
}

/* The remaining operations are the host's: nothing is read-modified-written across PCIe. They
 * exist here only so that the header compiles unchanged, and trap if a kernel ever reaches one. */
#define GQ_HOST_ONLY_(type) (__trap(), (type)0)
static __device__ __forceinline__ bool gq_cas_acq_rel_u64(uint64_t *, uint64_t, uint64_t)
{
	return GQ_HOST_ONLY_(bool);
}
static __device__ __forceinline__ bool gq_cas_seq_cst_u64(uint64_t *, uint64_t, uint64_t)
{
	return GQ_HOST_ONLY_(bool);
}
static __device__ __forceinline__ uint64_t gq_fetch_add_relaxed_u64(uint64_t *, uint64_t)
{
	return GQ_HOST_ONLY_(uint64_t);
}
static __device__ __forceinline__ uint64_t gq_fetch_add_seq_cst_u64(uint64_t *, uint64_t)
{
	return GQ_HOST_ONLY_(uint64_t);
}
static __device__ __forceinline__ uint64_t gq_fetch_or_seq_cst_u64(uint64_t *, uint64_t)
{
	return GQ_HOST_ONLY_(uint64_t);
}
static __device__ __forceinline__ uint64_t gq_exchange_seq_cst_u64(uint64_t *, uint64_t)
{
	return GQ_HOST_ONLY_(uint64_t);
}
static __device__ __forceinline__ uint32_t gq_exchange_seq_cst_u32(uint32_t *, uint32_t)
{
	return GQ_HOST_ONLY_(uint32_t);
}
static __device__ __forceinline__ uint32_t gq_fetch_or_seq_cst_u32(uint32_t *, uint32_t)
{
	return GQ_HOST_ONLY_(uint32_t);
}
static __device__ __forceinline__ bool gq_cas_seq_cst_u32(uint32_t *, uint32_t, uint32_t)
{
	return GQ_HOST_ONLY_(bool);
}
static __device__ __forceinline__ void gq_write_back_u64(uint64_t *)
{
	(void)GQ_HOST_ONLY_(bool);
}

#else /* host */

#define GQ_DEFINE_LOAD_(name, type, order)                                                         \
	GQ_FN type name(const type *word)                                                          \
	{                                                                                          \
		return __atomic_load_n(word, order);                                               \
	}
#define GQ_DEFINE_STORE_(name, type, order)                                                        \
	GQ_FN void name(type *word, type value)                                                    \
	{                                                                                          \
		__atomic_store_n(word, value, order);                                              \
	}
/* Strong, because a spurious failure would read as "another producer was faster". */
#define GQ_DEFINE_CAS_(name, type, success, failure)                                               \
	GQ_FN bool name(type *word, type expected, type desired)                                   \
	{                                                                                          \
		return __atomic_compare_exchange_n(word, &expected, desired, false, success,       \
						   failure);                                       \
	}
#define GQ_DEFINE_RMW_(name, type, builtin, order)                                                 \
	GQ_FN type name(type *word, type value)                                                    \
	{                                                                                          \
		return builtin(word, value, order);                                                \
	}

/* A test makes it relaxed, as it is on a GPU, to see what is published without it. */
#ifndef GQ_POSTED_ORDER
#define GQ_POSTED_ORDER __ATOMIC_RELEASE
#endif

GQ_DEFINE_LOAD_(gq_load_relaxed_u64, uint64_t, __ATOMIC_RELAXED)
GQ_DEFINE_LOAD_(gq_load_acquire_u64, uint64_t, __ATOMIC_ACQUIRE)
GQ_DEFINE_LOAD_(gq_load_seq_cst_u64, uint64_t, __ATOMIC_SEQ_CST)
GQ_DEFINE_LOAD_(gq_load_relaxed_u32, uint32_t, __ATOMIC_RELAXED)
GQ_DEFINE_LOAD_(gq_load_seq_cst_u32, uint32_t, __ATOMIC_SEQ_CST)
GQ_DEFINE_LOAD_(gq_load_relaxed_device_u64, uint64_t, __ATOMIC_RELAXED)
GQ_DEFINE_STORE_(gq_store_relaxed_u64, uint64_t, __ATOMIC_RELAXED)
GQ_DEFINE_STORE_(gq_store_release_u64, uint64_t, __ATOMIC_RELEASE)
GQ_DEFINE_STORE_(gq_store_posted_u64, uint64_t, GQ_POSTED_ORDER)
GQ_DEFINE_STORE_(gq_store_fenced_u64, uint64_t, __ATOMIC_RELEASE)
GQ_DEFINE_STORE_(gq_store_seq_cst_u64, uint64_t, __ATOMIC_SEQ_CST)
GQ_DEFINE_STORE_(gq_store_relaxed_device_u64, uint64_t, __ATOMIC_RELAXED)
GQ_DEFINE_CAS_(gq_cas_acq_rel_u64, uint64_t, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
GQ_DEFINE_CAS_(gq_cas_seq_cst_u64, uint64_t, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)
GQ_DEFINE_CAS_(gq_cas_relaxed_device_u64, uint64_t, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
GQ_DEFINE_CAS_(gq_cas_acq_rel_device_u64, uint64_t, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
GQ_DEFINE_RMW_(gq_fetch_add_relaxed_u64, uint64_t, __atomic_fetch_add, __ATOMIC_RELAXED)
GQ_DEFINE_RMW_(gq_fetch_add_relaxed_device_u64, uint64_t, __atomic_fetch_add, __ATOMIC_RELAXED)
GQ_DEFINE_RMW_(gq_fetch_add_acquire_device_u64, uint64_t, __atomic_fetch_add, __ATOMIC_ACQUIRE)
GQ_DEFINE_RMW_(gq_fetch_add_acq_rel_device_u64, uint64_t, __atomic_fetch_add, __ATOMIC_ACQ_REL)
GQ_DEFINE_RMW_(gq_fetch_add_seq_cst_u64, uint64_t, __atomic_fetch_add, __ATOMIC_SEQ_CST)
GQ_DEFINE_RMW_(gq_fetch_or_seq_cst_u64, uint64_t, __atomic_fetch_or, __ATOMIC_SEQ_CST)
GQ_DEFINE_RMW_(gq_exchange_seq_cst_u64, uint64_t, __atomic_exchange_n, __ATOMIC_SEQ_CST)
GQ_DEFINE_RMW_(gq_exchange_seq_cst_u32, uint32_t, __atomic_exchange_n, __ATOMIC_SEQ_CST)
GQ_DEFINE_RMW_(gq_fetch_or_seq_cst_u32, uint32_t, __atomic_fetch_or, __ATOMIC_SEQ_CST)
GQ_DEFINE_CAS_(gq_cas_seq_cst_u32, uint32_t, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)

/*
 * Write a word of others back as it is, by one locked operation: afterwards its line is this core's
 * alone. It changes nothing and orders nothing. The compiler must not know that the operand is 0:
 * clang then makes a fence of it, which touches no line, or a load.
 */
GQ_FN void gq_write_back_u64(uint64_t *word)
{
	uint64_t nothing = 0;

	__asm__("" : "+r"(nothing));
	__atomic_fetch_or(word, nothing, __ATOMIC_RELAXED);
}

GQ_FN void gq_add_relaxed_device_u64(uint64_t *word, uint64_t value)
{
	__atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

GQ_FN void gq_add_release_device_u64(uint64_t *word, uint64_t value)
{
	__atomic_fetch_add(word, value, __ATOMIC_RELEASE);
}

GQ_FN void gq_fence_system(void)
{
}

#endif

#undef GQ_DEFINE_LOAD_
#undef GQ_DEFINE_STORE_
#undef GQ_DEFINE_CAS_
#undef GQ_DEFINE_RMW_

/* Tell the core that the caller spins. Never blocks, never yields. */
GQ_FN void gq_cpu_relax(void)
{
#if defined(__CUDA_ARCH__)
	__nanosleep(20);
#elif defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* Host only: what has been stored to write-combining memory leaves the core. */
GQ_FN void gq_push_stores(void)
{
#if defined(__CUDA_ARCH__)
#elif defined(__x86_64__)
	__asm__ volatile("sfence" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("dsb st" ::: "memory");
#endif
}

/*
 * A window in which another thread may do its worst. Stress builds (GPUQ_CHAOS) put a random
 * delay there; everywhere else it is nothing.
 */
#if defined(GPUQ_CHAOS) && !defined(__CUDACC__)
#ifdef __cplusplus
extern "C"
#endif
	void
	gq__chaos(void);
#define GQ_WINDOW() gq__chaos()
#else
#define GQ_WINDOW() ((void)0)
#endif

#endif /* GPUQ_PROTOCOL_ATOMICS_H */
