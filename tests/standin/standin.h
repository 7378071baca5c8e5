/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standin.h - the stand-in for libcuda.so.1: the driver's entry points that libgpuq uses, over heap
 * memory and threads, so that the CUDA device runs where there is no GPU.
 *
 * A cooperative launch runs the real grid source (src/device/cuda/grid/grid.cuh), compiled for the
 * host by standin_image.h, one thread a warp. It is stricter than a driver: what would wait for a
 * resident kernel on a GPU (allocating, freeing, loading a module) ends the process here.
 */
#ifndef GPUQ_TEST_STANDIN_H
#define GPUQ_TEST_STANDIN_H

#include "device/cuda/grid/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a warp's thread knows of itself, and what it may call. */
struct standin_warp {
	uint32_t block, blocks, thread, threads; /* `thread`: of its lane 0 in the block */
	void *shared;
	void (*barrier)(struct standin_warp *);
	uint64_t (*clock_ns)(struct standin_warp *); /* neither returns in a broken context */
	void (*nap)(struct standin_warp *, uint32_t ns);
	void (*took_whole)(struct standin_warp *); /* a message came with the look */
	void (*took_hint)(struct standin_warp *);  /* ... at the mirror */
	void (*took_near)(struct standin_warp *);  /* messages that another unit has claimed */
	void *launch;
};

/* An image, as cuModuleLoadDataEx() takes it here. */
#define STANDIN_MAGIC "gpuq stand-in\n"
struct standin_image {
	char magic[16];
	struct gq_image_info info;
	uint64_t shared_bytes;
	void (*grid)(struct standin_warp *, const struct gq_grid *, struct gq_launch launch);
};

/* For tests, by dlsym() from the library that GPUQ_LIBCUDA names. */
struct standin_control {
	/* The n-th call from now (from 1) fails with `error`; 0: none. Names of errors and popping
	 * a context are not counted: they have no failure that anybody could act on. */
	void (*fail_nth)(uint32_t n, int error);
	/* The call that failed so, or NULL. */
	const char *(*failed_call)(void);
	/* From now on every call fails with it, and kernels end; 0: the context is whole again. */
	void (*break_context)(int error);
	/* Allocations, streams, modules and retained contexts not given back. */
	uint32_t (*live)(void);
	/* Launches so far; kernels resident now. */
	uint32_t (*launches)(void);
	uint32_t (*resident)(void);
	/* Contexts on the calling thread's stack. */
	uint32_t (*depth)(void);
	/* What the device says of itself: standin_attribute. */
	void (*set)(int attribute, int value);
	/* Messages so far that needed one read across PCIe, or none. */
	uint64_t (*wholes)(void);
	/* Of these, those that needed none: found in device memory that the CPU writes. */
	uint64_t (*hints)(void);
	/* Launches so far on one of the devices. */
	uint32_t (*launches_on)(int ordinal);
	/* The device's clock stands still, at what it shows at `host_ns` of CLOCK_MONOTONIC; 0: it
	 * runs. */
	void (*stop_clock)(uint64_t host_ns);
	/* How often a unit took messages that another one had claimed. */
	uint64_t (*nears)(void);
	/* The last launch of a grid: standin_launch, bits. */
	uint32_t (*how_launched)(void);
	/* Threads that STANDIN_CANARY_HELD keeps waiting. */
	uint32_t (*held)(void);
};
enum standin_launch {
	STANDIN_COOPERATIVE = 1,
	STANDIN_REMOTE = 2, /* in the other memory synchronisation domain */
	STANDIN_FIRST = 4,  /* in a stream of the highest priority */
};
/* Others as the driver's. */
enum standin_attribute {
	STANDIN_VERSION = -1,
	STANDIN_DEVICES = -2, /* two at most; they differ in nothing but the context */
	STANDIN_BAR1 = -3,
	/* Not 0: no copy, and no value behind it, arrives, but for the first of each stream. */
	STANDIN_COPIES_HELD = -4,
	/* Not 0: a call that launches the canary of one thread beside a grid does not return. */
	STANDIN_CANARY_HELD = -5,
	/* Not 0: the calling thread is inside a call of the driver, for as long as it likes. A call
	 * of another thread, which might wait for that, ends the process. */
	STANDIN_BUSY = -6,
};

/*
 * How device memory behaves that the CPU has mapped: STANDIN_BAR1's values, also those of the
 * environment variable GPUQ_STANDIN_BAR1. It is looked at when memory is mapped; LATE, LOSSY and
 * LOST can also be changed for one another later.
 */
enum standin_bar1 {
	STANDIN_BAR1_AT_ONCE,
	STANDIN_BAR1_LATE,  /* words arrive after a while, in any order */
	STANDIN_BAR1_LOSSY, /* ... and one in eight does not, but for the line that is tested */
	STANDIN_BAR1_LOST,  /* nothing arrives */
	STANDIN_BAR1_NO_FILE,
	STANDIN_BAR1_NO_MAPPING,
	STANDIN_BAR1_OLD_DRIVER, /* which does not know the flag; otherwise AT_ONCE */
};

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_TEST_STANDIN_H */
