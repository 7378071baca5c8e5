/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standin_image.h - the grid around a process_message() that is defined before this is included, as
 * an image for the stand-in driver. Define STANDIN_IMAGE, its name; Q_GRANULARITY; and
 * GQ_BLOCK_THREADS if blocks are to have more than one warp.
 */
#define GQ_STANDIN
#ifndef GQ_BLOCK_THREADS
#define GQ_BLOCK_THREADS 32
#endif

#include "standin.h"

static thread_local struct standin_warp *standin_self;

static inline void *gq_standin_shared(void)
{
	return standin_self->shared;
}
static inline void gq_standin_barrier(void)
{
	standin_self->barrier(standin_self);
}
static inline uint32_t gq_standin_block(void)
{
	return standin_self->block;
}
static inline uint32_t gq_standin_blocks(void)
{
	return standin_self->blocks;
}
static inline uint32_t gq_standin_thread(void)
{
	return standin_self->thread;
}
static inline uint32_t gq_standin_threads(void)
{
	return standin_self->threads;
}
static inline uint64_t gq_standin_clock_ns(void)
{
	return standin_self->clock_ns(standin_self);
}
static inline void gq_standin_nap(uint32_t ns)
{
	standin_self->nap(standin_self, ns);
}

static inline void gq_standin_took_whole(void)
{
	standin_self->took_whole(standin_self);
}

static inline void gq_standin_took_hint(void)
{
	standin_self->took_hint(standin_self);
}

static inline void gq_standin_took_near(void)
{
	standin_self->took_near(standin_self);
}

/* Every other time. */
static inline bool gq_standin_coin(void)
{
	static thread_local bool coin;

	coin = !coin;
	return coin;
}

#include "device/cuda/grid/grid.cuh"

static void standin_grid(struct standin_warp *self, const struct gq_grid *g,
			 struct gq_launch launch)
{
	standin_self = self;
	gpuq_grid(g, launch);
}

extern "C" {
extern const struct standin_image STANDIN_IMAGE;
const struct standin_image STANDIN_IMAGE = { STANDIN_MAGIC,
					     { GQ_IMAGE_MAGIC, Q_PROTOCOL_VERSION, Q_GRANULARITY,
					       GQ_BLOCK_THREADS, (uint32_t)sizeof(struct gq_grid),
					       GQ_COUNTS, 0 },
					     sizeof(struct gq_shared),
					     standin_grid };
}
