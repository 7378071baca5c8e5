/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - a run: messages of one class that lie behind one another, claimed together, and taken by
 * units one by one or a few at a time.
 *
 * To claim across PCIe takes a round trip, so one unit claims for many: it puts a run into one of
 * its class's words in device memory. To take is one addition there: the word that it returns says
 * which message the unit has got, or that the run was used up. Nobody waits for the unit that
 * claimed, nor for one that has taken: a unit that hangs holds what it has taken and no more. One
 * that stands still in these steps holds the copies of a run's entries, too: then others claim for
 * themselves alone, without copies.
 *
 *   bits     what
 *   0 - 19   taken: how many of the run have been taken, or were asked for too late
 *   20 - 29  count: messages of the run
 *   30       closed: nothing can be claimed
 *   31 - 63  base: lower bits of the first one's position
 */
#ifndef GPUQ_CUDA_GRID_RUN_H
#define GPUQ_CUDA_GRID_RUN_H

#include "device/protocol/atomics.h"

/* Words of a class. The next run goes into the word behind the newest run's, if that is used up;
 * with those of all classes they are what a warp loads at once. */
#define GQ_RUNS 8u

#define GQ_DEEP 64u /* entries that there is room for: no run is longer */
#define GQ_FED  52u /* entries that a unit reads for others at once */

/* More cannot be claimed for others of a class, as then all its words are in use. */
#define GQ_MAX_FEED (GQ_RUNS * GQ_FED)

#define GQ_RUN_COUNT_SHIFT 20u
#define GQ_RUN_MAX_COUNT   1023u
#define GQ_RUN_CLOSED      (UINT64_C(1) << 30)
#define GQ_RUN_BASE_SHIFT  31u
#define GQ_RUN_POSITIONS   (UINT64_C(1) << 33) /* they count modulo this */

/* Each unit asks once for at most a batch after a run is used up: it sees that it was. So many may
 * ask in vain before `taken` would run over. */
#define GQ_RUN_MAX_ASKED ((1u << GQ_RUN_COUNT_SHIFT) - 1 - GQ_RUN_MAX_COUNT)

GQ_FN uint64_t gq_run_of(uint64_t pos, uint32_t count, uint32_t taken)
{
	return pos << GQ_RUN_BASE_SHIFT | (uint64_t)count << GQ_RUN_COUNT_SHIFT | taken;
}

GQ_FN uint64_t gq_run_base(uint64_t word)
{
	return word >> GQ_RUN_BASE_SHIFT;
}

GQ_FN uint32_t gq_run_count(uint64_t word)
{
	return (uint32_t)(word >> GQ_RUN_COUNT_SHIFT) & GQ_RUN_MAX_COUNT;
}

GQ_FN uint32_t gq_run_taken(uint64_t word)
{
	return (uint32_t)word & ((1u << GQ_RUN_COUNT_SHIFT) - 1);
}

/* Messages that no unit has taken yet. */
GQ_FN uint32_t gq_run_left(uint64_t word)
{
	const uint32_t count = gq_run_count(word), taken = gq_run_taken(word);

	return taken < count ? count - taken : 0;
}

/* How far a run begins behind position `near`, plus half of all positions: an order of runs that
 * are not further from it than that. */
GQ_FN uint64_t gq_run_behind(uint64_t word, uint64_t near)
{
	return (gq_run_base(word) - near + GQ_RUN_POSITIONS / 2) & (GQ_RUN_POSITIONS - 1);
}

/* The whole position of a run's first message. */
GQ_FN uint64_t gq_run_pos(uint64_t word, uint64_t near)
{
	return near + gq_run_behind(word, near) - GQ_RUN_POSITIONS / 2;
}

/* Before the first message, at position `pos`: used up, and in an order, of which the last word is
 * the newest. */
GQ_FN uint64_t gq_run_first(uint64_t pos, uint32_t k)
{
	return gq_run_of(pos - (GQ_RUNS - 1 - k), 0, 0);
}

#endif /* GPUQ_CUDA_GRID_RUN_H */
