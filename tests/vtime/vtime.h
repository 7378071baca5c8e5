/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vtime.h - virtual time: the grid's own source, compiled for the host, with a clock for each unit.
 *
 * The stand-in driver shows that the grid is right, and says nothing of its speed: there memory is
 * near and no claim fails. Here each unit is a fiber with a clock of its own. Every operation on a
 * shared word moves that clock by what it would take on a GPU, and the fiber with the smallest
 * clock runs next. So counts and times are the same in every run.
 *
 * A read across PCIe takes a round trip and one of a limited number of tags for each line. Its
 * value is sampled when it has its tag; stores are seen at once. (All of it happens half a round
 * trip later on the host's side, for reads and stores alike, so the host's clock is half a round
 * trip behind.) Operations in one loop over lanes are one operation of the warp.
 */
#ifndef GPUQ_TEST_VTIME_H
#define GPUQ_TEST_VTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a step takes, nanoseconds. */
struct vt_costs {
	uint64_t round_trip; /* a read across PCIe; a release behind a store across it */
	uint64_t tags;       /* reads of a line each that may be under way at once */
	uint64_t l2;         /* a load or an atomic operation in device memory */
	uint64_t l2_busy;    /* ... before the next one of the same word */
	uint64_t step;       /* the instructions between two operations */
	/* Those after an acquire, which empties L1: parameters behind a pointer are loaded again.
	 */
	uint64_t acquired;
	uint64_t work; /* process_message() */
};

/* What was counted, over all units. */
struct vt_counts {
	uint64_t reads, writes;  /* across PCIe: lines */
	uint64_t looks;          /* warp-wide loads of entries or orders across PCIe */
	uint64_t claims, failed; /* swaps of a run's word */
	uint64_t takes, missed;  /* additions to one; those that came too late */
	uint64_t wholes, releases, rmws;
	uint64_t most_left, may_be_left; /* claimed for others and not taken, at once */
};

/* ---- called by the grid's operations, right before each */

enum vt_wait {
	VT_ASYNC,
	VT_ACQUIRE, /* nothing overtakes it */
	VT_LOOK,    /* an acquire comes behind it: vt_acquired() */
};

uint32_t vt_lane(uint32_t lane);
void vt_used(void);
void vt_load(const void *at, enum vt_wait wait);
void vt_acquired(void); /* what has been loaded */
void vt_store(const void *at);
void vt_release(void); /* all that the unit has stored has crossed PCIe */
void vt_rmw(const void *at);
void vt_add_unseen(const void *at); /* an addition whose answer nobody waits for */
void vt_rmw_begin(const void *at);  /* its answer is waited for by vt_used() */
void vt_swapped(const void *at, bool ours);
void vt_window(const char *function); /* a GQ_WINDOW() in it */
void vt_took(const void *at, uint64_t run);
void vt_whole(void);
void vt_nap(uint32_t ns);
uint64_t vt_clock(void);
void vt_work(void);

/* What a fiber is. */
struct vt_self {
	uint32_t block, blocks, thread, threads;
	void *shared;
};
extern struct vt_self *vt_self;

/* ---- an image: grid.cc, once for each granularity */

struct gq_grid;

struct vt_image {
	uint32_t granularity, block_threads;
	size_t shared_bytes;
	void (*grid)(const struct gq_grid *, uint64_t launch, uint64_t until);
};
extern const struct vt_image vt_thread, vt_warp, vt_fenced;

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_TEST_VTIME_H */
