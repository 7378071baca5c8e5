/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally.cuh - what a unit counts of its own doings, so that a bad figure has an explanation.
 *
 * Only images that are built with Q_COUNT_GRID count; of the others nothing here is compiled, so
 * that counting costs them nothing. A unit's first lane counts in shared memory, and adds what it
 * has to counters.tally when the unit leaves: then the host may read it.
 */
#ifndef GPUQ_CUDA_GRID_TALLY_CUH
#define GPUQ_CUDA_GRID_TALLY_CUH

#include "device/cuda/grid/lanes.cuh"

#if defined(Q_COUNT_GRID)

#define GQ_COUNTS         1u
#define GQ_TALLY_OF_UNITS struct gq_unit_tally tally[GQ_UNITS];
#define GQ_TALLY_OF_UNIT  struct gq_unit_tally *tally;

struct gq_unit_tally {
	struct gq_tally of;
	uint64_t since; /* when the phase began */
};

/* Of a block that is a unit the first warp counts. */
#define GQ_TALLIES (GQ_IS_LANE_0 && (Q_GRANULARITY != 2 || GQ_WARP_IN_BLOCK == 0))

#if defined(GQ_STANDIN)
#define gq_cycles() gq_clock_ns()
#else
GQ_DEV uint64_t gq_cycles(void)
{
	return (uint64_t)clock64();
}
#endif

#define gq_count(u, what, n)                                                                       \
	do {                                                                                       \
		if (GQ_TALLIES)                                                                    \
			(u)->tally->of.what += (n);                                                \
	} while (0)

/* What has passed since the last phase ended belongs to this one. */
#define gq_end_phase(u, what)                                                                      \
	do {                                                                                       \
		if (GQ_TALLIES) {                                                                  \
			const uint64_t now_ = gq_cycles();                                         \
                                                                                                   \
			(u)->tally->of.what += now_ - (u)->tally->since;                           \
			(u)->tally->since = now_;                                                  \
		}                                                                                  \
	} while (0)

#define gq_begin_tally(u, s, unit_in_block)                                                        \
	do {                                                                                       \
		(u)->tally = &(s)->tally[unit_in_block];                                           \
		if (GQ_TALLIES) {                                                                  \
			*(u)->tally = {};                                                          \
			(u)->tally->since = gq_cycles();                                           \
		}                                                                                  \
	} while (0)

#define gq_end_tally(g, u)                                                                         \
	do {                                                                                       \
		if (GQ_TALLIES)                                                                    \
			gq_add_tally(&(g)->counters->tally, &(u)->tally->of);                      \
	} while (0)

GQ_DEV void gq_add_tally(struct gq_tally *all, const struct gq_tally *of)
{
#define GQ_TALLY_ADD(name, what) gq_add_relaxed_device_u64(&all->name, of->name);
	GQ_TALLY_LIST(GQ_TALLY_ADD)
#undef GQ_TALLY_ADD
}

#else

#define GQ_COUNTS 0u
#define GQ_TALLY_OF_UNITS
#define GQ_TALLY_OF_UNIT
#define gq_count(u, what, n)                ((void)0)
#define gq_end_phase(u, what)               ((void)0)
#define gq_begin_tally(u, s, unit_in_block) ((void)0)
#define gq_end_tally(g, u)                  ((void)0)

#endif

#endif /* GPUQ_CUDA_GRID_TALLY_CUH */
