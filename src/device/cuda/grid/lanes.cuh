/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lanes.cuh - what a thread of the grid is, and what it may do: blocks, units, lanes; their votes
 * and sums; loads and stores that are more than a word.
 *
 * Lanes are written out: a warp's step is a GQ_EACH_LANE loop over values declared as v[GQ_OWN].
 * On a GPU a thread owns one lane, and the loop runs once. Under the stand-in driver one thread
 * owns all 32 and runs them in turn. Everything between loops is the same in all lanes.
 */
#ifndef GPUQ_CUDA_GRID_LANES_CUH
#define GPUQ_CUDA_GRID_LANES_CUH

#include "device/cuda/grid/grid.h"

#ifndef Q_GRANULARITY
#define Q_GRANULARITY 0
#endif
#ifndef GQ_BLOCK_THREADS
#define GQ_BLOCK_THREADS (Q_GRANULARITY == 2 ? 256 : 128)
#endif

#define GQ_WARPS (GQ_BLOCK_THREADS / 32)
#define GQ_UNITS (Q_GRANULARITY == 2 ? 1 : GQ_WARPS) /* in a block */
#define GQ_DEV   static __device__ __forceinline__

#if defined(GQ_STANDIN)

/* The virtual-time model charges for these (tests/vtime); on threads they are nothing. */
#if !defined(GQ_STANDIN_COSTS)
#define gq_standin_lane(l)     (l)
#define gq_standin_used()      ((void)0)
#define gq_standin_reads(at)   ((void)(at))
#define gq_standin_acquire(at) ((void)(at))
#define gq_standin_look(at)    ((void)(at))
#define gq_standin_acquired()  ((void)0)
#define gq_standin_writes(to)  ((void)(to))
#define gq_begin_ticket(tail)  gq_take_ticket(tail, 1)
#endif

#define GQ_UNROLL
#define GQ_ROLLED
#define GQ_OWN            32
#define GQ_EACH_LANE(l)   for (uint32_t l = gq_standin_lane(0); l < 32; l = gq_standin_lane(l + 1))
#define GQ_AT(l)          (l)
#define GQ_SHARED(s)      struct gq_shared *s = (struct gq_shared *)gq_standin_shared()
#define GQ_IS_LANE_0      true
#define gq_sync_warp()    gq_standin_used()
#define gq_sync_block()   gq_standin_barrier()
#define GQ_WARP_IN_BLOCK  (gq_standin_thread() / 32)
#define GQ_BLOCK          gq_standin_block()
#define GQ_BLOCKS         gq_standin_blocks()
#define gq_rank_of(l)     (gq_standin_thread() + (l))
#define GQ_THREADS        (gq_standin_threads())
#define gq_clock_ns()     gq_standin_clock_ns()
#define gq_nap(ns)        gq_standin_nap(ns)
#define gq_result_first() gq_standin_coin()
#define gq_took_whole()   gq_standin_took_whole()
#define gq_took_hint()    gq_standin_took_hint()
#define gq_took_near()    gq_standin_took_near()

struct alignas(16) gq_wide {
	uint64_t a, b;
};

/* A GPU faults at a piece that does not begin at a multiple of its size. */
GQ_DEV void gq_must_be_aligned(const gq_wide *at)
{
	if ((uintptr_t)at % sizeof(*at) != 0)
		__builtin_trap();
}

GQ_DEV gq_wide gq_fetch_wide(const gq_wide *at)
{
	gq_standin_reads(at);
	gq_must_be_aligned(at);
	return *at;
}

GQ_DEV void gq_store_wide(gq_wide *to, gq_wide v)
{
	gq_standin_writes(to);
	gq_must_be_aligned(to);
	*to = v;
}

/* The read races by design, so ThreadSanitizer is not to see it: what is read is believed only if
 * its seal fits. */
__attribute__((noinline, no_sanitize("thread"))) static gq_wide gq_read_unseen(const gq_wide *at)
{
	gq_wide v;

	gq_must_be_aligned(at);
	v.a = __atomic_load_n(&at->a, __ATOMIC_RELAXED);
	v.b = __atomic_load_n(&at->b, __ATOMIC_RELAXED);
	return v;
}

GQ_DEV gq_wide gq_read_ahead(const gq_wide *at)
{
	gq_standin_reads(at);
	return gq_read_unseen(at);
}

/* Two entries, or orders, that lie behind one another. */
GQ_DEV gq_wide gq_load_entries(const gq_wide *at)
{
	gq_wide v;

	gq_standin_acquire(at);
	gq_must_be_aligned(at);
	v.a = __atomic_load_n(&at->a, __ATOMIC_ACQUIRE); /* [message.claim] */
	v.b = __atomic_load_n(&at->b, __ATOMIC_ACQUIRE); /* [message.claim] */
	return v;
}

/* A lane's part of a look: two entries or orders, or what is read ahead. gq_acquire_look() comes
 * behind it; here each load acquires, as ThreadSanitizer knows no fences. */
GQ_DEV gq_wide gq_look_wide(const gq_wide *at, bool ahead)
{
	gq_wide v;

	gq_standin_look(at);
	if (ahead)
		return gq_read_unseen(at);
	gq_must_be_aligned(at);
	v.a = __atomic_load_n(&at->a, __ATOMIC_ACQUIRE); /* [message.claim] */
	v.b = __atomic_load_n(&at->b, __ATOMIC_ACQUIRE); /* [message.claim] */
	return v;
}

GQ_DEV void gq_acquire_look(void)
{
	gq_standin_acquired();
}

/* Piece i of a slot that the unit has claimed. Two words of its header others may write. */
GQ_DEV gq_wide gq_fetch_piece(const gq_wide *slot, uint32_t i)
{
	const gq_wide *at = &slot[i];

	gq_standin_reads(at);
	return { i == 3 ? 0 : at->a, i == 1 ? __atomic_load_n(&at->b, __ATOMIC_RELAXED) : at->b };
}

__attribute__((noinline, no_sanitize("thread"))) static uint64_t gq_read_hint(const uint64_t *at)
{
	gq_standin_reads(at);
	return __atomic_load_n(at, __ATOMIC_ACQUIRE); /* [hint.read] */
}

/* A hint has been believed. Check that it is true; the acquire tells ThreadSanitizer what it has
 * shown. */
GQ_DEV void gq_witness(const uint64_t *entry, uint64_t word)
{
	if (gq_load_acquire_u64(entry) != word) /* [message.claim] */
		__builtin_trap();
}

GQ_DEV void gq_post_wide(gq_wide *to, gq_wide v)
{
	gq_standin_writes(to);
	gq_must_be_aligned(to);
	__atomic_store_n(&to->a, v.a, __ATOMIC_RELAXED);
	__atomic_store_n(&to->b, v.b, __ATOMIC_RELAXED);
}

/* A piece of a result, or its seal and what is behind it: the store of a GPU has both. */
GQ_DEV void gq_post_result(gq_wide *to, gq_wide v, bool seal)
{
	if (!seal) {
		gq_post_wide(to, v);
		return;
	}
	gq_must_be_aligned(to);
	__atomic_store_n(&to->b, v.b, __ATOMIC_RELAXED);
	gq_store_posted_u64(&to->a, v.a); /* [seal.write] */
}

GQ_DEV uint64_t gq_sum(const uint64_t (&v)[GQ_OWN])
{
	uint64_t sum = 0;

	gq_standin_used();
	GQ_EACH_LANE(l)
	sum += v[l];
	return sum;
}

template <typename T> GQ_DEV T gq_from(const T (&v)[GQ_OWN], uint32_t lane)
{
	gq_standin_used();
	return v[lane];
}

/* The value of lane `from`, which may be another for each lane. */
template <typename T> GQ_DEV T gq_from_other(const T (&v)[GQ_OWN], uint32_t l, uint32_t from)
{
	(void)l;
	return v[from % 32];
}

/* The halves of what lane `from` has. */
GQ_DEV uint64_t gq_a_of(const gq_wide (&v)[GQ_OWN], uint32_t from)
{
	gq_standin_used();
	return v[from].a;
}

GQ_DEV uint64_t gq_b_of(const gq_wide (&v)[GQ_OWN], uint32_t from)
{
	gq_standin_used();
	return v[from].b;
}

GQ_DEV uint64_t gq_from_other_a(const gq_wide (&v)[GQ_OWN], uint32_t l, uint32_t from)
{
	(void)l;
	return v[from % 32].a;
}

GQ_DEV uint64_t gq_from_other_b(const gq_wide (&v)[GQ_OWN], uint32_t l, uint32_t from)
{
	(void)l;
	return v[from % 32].b;
}

/* In each lane the least value of its eight neighbours, which begin at a multiple of eight. */
GQ_DEV void gq_least_of_8(uint64_t (&v)[GQ_OWN])
{
	for (uint32_t first = 0; first < 32; first += 8) {
		uint64_t least = v[first];

		for (uint32_t l = first; l < first + 8; l++)
			least = v[l] < least ? v[l] : least;
		for (uint32_t l = first; l < first + 8; l++)
			v[l] = least;
	}
}

/* In each lane their sum. */
GQ_DEV void gq_sum_of_8(uint32_t (&v)[GQ_OWN])
{
	for (uint32_t first = 0; first < 32; first += 8) {
		uint32_t sum = 0;

		for (uint32_t l = first; l < first + 8; l++)
			sum += v[l];
		for (uint32_t l = first; l < first + 8; l++)
			v[l] = sum;
	}
}

GQ_DEV uint32_t gq_vote(const bool (&v)[GQ_OWN])
{
	uint32_t votes = 0;

	gq_standin_used();
	GQ_EACH_LANE(l)
	votes |= (uint32_t)v[l] << l;
	return votes;
}

/* The value that lane 0 has. Those of the other lanes are not looked at. */
GQ_DEV uint32_t gq_from_lane_0(uint32_t value)
{
	return value;
}

GQ_DEV uint64_t gq_wide_from_lane_0(uint64_t value)
{
	return value;
}

#else

#define GQ_UNROLL       _Pragma("unroll")
#define GQ_ROLLED       _Pragma("unroll 1")
#define GQ_OWN          1
#define GQ_EACH_LANE(l) for (uint32_t l = threadIdx.x % 32, once_ = 1; once_ != 0; once_ = l & 0)
#define GQ_AT(l)        0
#define GQ_SHARED(s)                                                                               \
	__shared__ struct gq_shared s##_;                                                          \
	struct gq_shared *s = &s##_
#define GQ_IS_LANE_0       (threadIdx.x % 32 == 0)
#define gq_sync_warp()     __syncwarp()
#define gq_sync_block()    __syncthreads()
#define GQ_WARP_IN_BLOCK   (threadIdx.x / 32)
#define GQ_BLOCK           blockIdx.x
#define GQ_BLOCKS          gridDim.x
#define gq_rank_of(l)      threadIdx.x
#define GQ_THREADS         blockDim.x
#define gq_nap(ns)         __nanosleep(ns)
/* Posted stores cross PCIe in any order; the stand-in tries both. */
#define gq_result_first()  true
/* Nothing waits for it before its first use. */
#define gq_begin_ticket(t) gq_take_ticket(t, 1)
#define gq_took_whole()    ((void)0)
#define gq_took_hint()     ((void)0)
#define gq_took_near()     ((void)0)
#define gq_witness(e, w)   ((void)(e), (void)(w))

struct __align__(16) gq_wide
{
	uint64_t a, b;
};

GQ_DEV uint64_t gq_clock_ns(void)
{
	uint64_t now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}

/* A plain load. The compiler keeps it where it is written: before the loads it is to overlap with.
 */
GQ_DEV gq_wide gq_fetch_wide(const gq_wide *at)
{
	gq_wide v;

	asm volatile("ld.global.v2.u64 {%0, %1}, [%2];"
		     : "=l"(v.a), "=l"(v.b)
		     : "l"(GQ_GLOBAL_(at))
		     : "memory");
	return v;
}

GQ_DEV void gq_store_wide(gq_wide *to, gq_wide v)
{
	*to = v;
}

/* The words of a vector access are single-copy atomic each, and so is each half of a piece. */
GQ_DEV gq_wide gq_read_ahead(const gq_wide *at)
{
	gq_wide v;

	asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
		     : "=l"(v.a), "=l"(v.b)
		     : "l"(GQ_GLOBAL_(at))
		     : "memory");
	return v;
}

/* [message.claim] acquire: of each of the two. */
GQ_DEV gq_wide gq_load_entries(const gq_wide *at)
{
	gq_wide v;

	asm volatile("ld.acquire.sys.global.v2.u64 {%0, %1}, [%2];"
		     : "=l"(v.a), "=l"(v.b)
		     : "l"(GQ_GLOBAL_(at))
		     : "memory");
	return v;
}

GQ_DEV gq_wide gq_look_wide(const gq_wide *at, bool)
{
	return gq_read_ahead(at);
}

/* [message.claim], [hint.read] acquire: of all that the thread has read by gq_look_wide() and
 * gq_read_hint(). A fence that only acquires waits for these loads alone; the other also for the
 * thread's stores. */
GQ_DEV void gq_acquire_look(void)
{
#if __CUDA_ARCH__ >= 900 && __CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1208
	asm volatile("fence.acquire.sys;" ::: "memory");
#else
	asm volatile("fence.acq_rel.sys;" ::: "memory");
#endif
}

GQ_DEV gq_wide gq_fetch_piece(const gq_wide *slot, uint32_t i)
{
	return gq_read_ahead(&slot[i]);
}

GQ_DEV uint64_t gq_read_hint(const uint64_t *at)
{
	return gq_load_relaxed_u64(at); /* [hint.read]: gq_acquire_look() comes behind it */
}

GQ_DEV void gq_post_wide(gq_wide *to, gq_wide v)
{
	asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(GQ_GLOBAL_(to)), "l"(v.a),
		     "l"(v.b)
		     : "memory");
}

/* .u64 and not .b64: so the check of the PTX can tell a result. */
GQ_DEV void gq_post_result(gq_wide *to, gq_wide v, bool)
{
	asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(GQ_GLOBAL_(to)), "l"(v.a),
		     "l"(v.b)
		     : "memory");
}

GQ_DEV uint64_t gq_sum(const uint64_t (&v)[GQ_OWN])
{
	uint64_t sum = v[0];

	GQ_UNROLL
	for (int by = 16; by != 0; by /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, by);
	return sum;
}

template <typename T> GQ_DEV T gq_from(const T (&v)[GQ_OWN], uint32_t lane)
{
	return __shfl_sync(0xffffffffu, v[0], (int)lane);
}

template <typename T> GQ_DEV T gq_from_other(const T (&v)[GQ_OWN], uint32_t l, uint32_t from)
{
	(void)l;
	return __shfl_sync(0xffffffffu, v[0], (int)from);
}

GQ_DEV uint64_t gq_a_of(const gq_wide (&v)[GQ_OWN], uint32_t from)
{
	return __shfl_sync(0xffffffffu, v[0].a, (int)from);
}

GQ_DEV uint64_t gq_b_of(const gq_wide (&v)[GQ_OWN], uint32_t from)
{
	return __shfl_sync(0xffffffffu, v[0].b, (int)from);
}

GQ_DEV uint64_t gq_from_other_a(const gq_wide (&v)[GQ_OWN], uint32_t l, uint32_t from)
{
	(void)l;
	return __shfl_sync(0xffffffffu, v[0].a, (int)from);
}

GQ_DEV uint64_t gq_from_other_b(const gq_wide (&v)[GQ_OWN], uint32_t l, uint32_t from)
{
	(void)l;
	return __shfl_sync(0xffffffffu, v[0].b, (int)from);
}

GQ_DEV void gq_least_of_8(uint64_t (&v)[GQ_OWN])
{
	GQ_UNROLL
	for (int by = 4; by != 0; by /= 2) {
		const uint64_t other = __shfl_xor_sync(0xffffffffu, v[0], by);

		v[0] = other < v[0] ? other : v[0];
	}
}

GQ_DEV void gq_sum_of_8(uint32_t (&v)[GQ_OWN])
{
	GQ_UNROLL
	for (int by = 4; by != 0; by /= 2)
		v[0] += __shfl_xor_sync(0xffffffffu, v[0], by);
}

GQ_DEV uint32_t gq_vote(const bool (&v)[GQ_OWN])
{
	return __ballot_sync(0xffffffffu, v[0]);
}

GQ_DEV uint32_t gq_from_lane_0(uint32_t value)
{
	return __shfl_sync(0xffffffffu, value, 0);
}

GQ_DEV uint64_t gq_wide_from_lane_0(uint64_t value)
{
	return __shfl_sync(0xffffffffu, value, 0);
}

#endif

/* What a lane has that loads no piece. It is always set: a register that is written under a
 * condition only is in use for as long as the grid lives, as far as the compiler knows. */
#define GQ_NO_PIECE (gq_wide{ 0, 0 })

#endif /* GPUQ_CUDA_GRID_LANES_CUH */
