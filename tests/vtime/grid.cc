/* SPDX-License-Identifier: Apache-2.0 */
/* grid.cc - the grid in virtual time: its source with a charge before each operation on a shared
 * word. Compiled with VT_IMAGE, a name, and Q_GRANULARITY; with VT_FENCED around a processor that
 * does not say Q_RESULT_ONLY. */
#include "device/protocol/atomics.h"

#include "vtime.h"

/* From here on each operation's name is a macro that charges first, then does it. All headers that
 * use it come behind. */
#define gq_load_relaxed_u64(w)        (vt_load(w, VT_ASYNC), gq_load_relaxed_u64(w))
#define gq_load_acquire_u64(w)        (vt_load(w, VT_ACQUIRE), gq_load_acquire_u64(w))
#define gq_load_seq_cst_u64(w)        (vt_release(), vt_load(w, VT_ACQUIRE), gq_load_seq_cst_u64(w))
#define gq_load_relaxed_device_u64(w) (vt_load(w, VT_ASYNC), gq_load_relaxed_device_u64(w))

#define gq_store_relaxed_u64(w, v)        (vt_store(w), gq_store_relaxed_u64(w, v))
#define gq_store_posted_u64(w, v)         (vt_store(w), gq_store_posted_u64(w, v))
#define gq_store_fenced_u64(w, v)         (vt_store(w), gq_store_fenced_u64(w, v))
#define gq_store_release_u64(w, v)        (vt_release(), vt_store(w), gq_store_release_u64(w, v))
#define gq_store_seq_cst_u64(w, v)        (vt_release(), vt_store(w), gq_store_seq_cst_u64(w, v))
#define gq_store_relaxed_device_u64(w, v) (vt_store(w), gq_store_relaxed_device_u64(w, v))
#define gq_fence_system()                 (vt_release(), gq_fence_system())

static inline uint64_t gq_fetch_add_relaxed_device_u64_(uint64_t *w, uint64_t v)
{
	return gq_fetch_add_relaxed_device_u64(w, v);
}
#define gq_fetch_add_relaxed_device_u64(w, v) (vt_rmw(w), gq_fetch_add_relaxed_device_u64(w, v))

static inline uint64_t vt_add(uint64_t *w, uint64_t n)
{
	uint64_t old;

	vt_rmw(w);
	old = gq_fetch_add_acquire_device_u64(w, n);
	vt_took(w, old);
	return old;
}
#define gq_fetch_add_acquire_device_u64(w, n) vt_add(w, n)
#define gq_add_relaxed_device_u64(w, n)       (vt_add_unseen(w), gq_add_relaxed_device_u64(w, n))
#define gq_add_release_device_u64(w, n)       (vt_add_unseen(w), gq_add_release_device_u64(w, n))
#define gq_fetch_add_acq_rel_device_u64(w, n) (vt_rmw(w), gq_fetch_add_acq_rel_device_u64(w, n))

/* Nothing waits for a ticket before its first use: see vt_used(). */
static inline uint64_t vt_ticket(uint64_t *w)
{
	vt_rmw_begin(w);
	return gq_fetch_add_relaxed_device_u64_(w, 1);
}
#define gq_begin_ticket(w) vt_ticket(w)

static inline bool vt_swap(uint64_t *w, uint64_t expected, uint64_t desired)
{
	bool ours;

	vt_rmw(w);
	ours = gq_cas_relaxed_device_u64(w, expected, desired);
	vt_swapped(w, ours);
	return ours;
}
#define gq_cas_relaxed_device_u64(w, e, d) vt_swap(w, e, d)
#define gq_cas_acq_rel_device_u64(w, e, d) vt_swap(w, e, d)

#undef GQ_WINDOW
#define GQ_WINDOW() vt_window(__func__)

#define GQ_STANDIN
#define GQ_STANDIN_COSTS
#define GQ_BLOCK_THREADS        128
#define gq_standin_lane(l)      vt_lane(l)
#define gq_standin_used()       vt_used()
#define gq_standin_reads(at)    vt_load(at, VT_ASYNC)
#define gq_standin_acquire(at)  vt_load(at, VT_ACQUIRE)
#define gq_standin_look(at)     vt_load(at, VT_LOOK)
#define gq_standin_acquired()   vt_acquired()
#define gq_standin_writes(to)   vt_store(to)
#define gq_standin_shared()     vt_self->shared
#define gq_standin_barrier()    __builtin_trap() /* no image of blocks */
#define gq_standin_block()      vt_self->block
#define gq_standin_blocks()     vt_self->blocks
#define gq_standin_thread()     vt_self->thread
#define gq_standin_threads()    vt_self->threads
#define gq_standin_clock_ns()   vt_clock()
#define gq_standin_nap(ns)      vt_nap(ns)
#define gq_standin_took_whole() vt_whole()
#define gq_standin_took_hint()  ((void)0)
#define gq_standin_took_near()  ((void)0)
#define gq_standin_coin()       true

#if !defined(VT_FENCED)
#define Q_RESULT_ONLY
#endif
#include <gpuq/processor.h>

#include <string.h>

/* Echo: the result is the message. */
__device__ void process_message(const MsgView &in, ResultView *out)
{
	vt_work();
	memcpy(out->out, in.payload, in.len);
	*out->out_len = in.len;
}

#include "device/cuda/grid/grid.cuh"

static void run(const struct gq_grid *g, uint64_t launch, uint64_t until)
{
	gpuq_grid(g, { launch, until });
}

extern "C" {
extern const struct vt_image VT_IMAGE;
const struct vt_image VT_IMAGE = { Q_GRANULARITY, GQ_BLOCK_THREADS, sizeof(struct gq_shared), run };
}
