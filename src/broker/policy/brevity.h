/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brevity.h - whether a processor is quick enough for a dispatcher to run it itself. Pure.
 *
 * A message that the dispatcher runs is not handed to another thread and back, which costs more
 * than a short message does. But while it runs nothing else is done for anybody. So the dispatcher
 * runs messages itself as long as they take no longer than a limit, on the average of the last
 * dozen or so. If they take longer, or one has not been waited for, it hands some on before the
 * next trial: 64 at first, twice as many each time it happens again. As many runs in a row as the
 * next failure would cost, without one, make it half as many. So a processor that is slow costs
 * some 25 messages a trial at most, ever more seldom.
 */
#ifndef GPUQ_BROKER_POLICY_BREVITY_H
#define GPUQ_BROKER_POLICY_BREVITY_H

#include <stdbool.h>
#include <stdint.h>

enum {
	GQ_BREVITY_REST = 64,
	GQ_BREVITY_REST_MOST = 1 << 20,
	GQ_BREVITY_VERY_SHORT = 16 * 500, /* sixteen times ns */
};

struct gq_brevity {
	uint64_t limit_ns; /* 0: never */
	uint64_t mean;     /* sixteen times the mean of the last runs, in ns */
	uint32_t rest;     /* messages to hand on before the next trial */
	uint32_t penalty;  /* what `rest` will be next time */
	uint32_t short_runs;
	uint32_t seen; /* runs since the last rest, as far as GQ_BREVITY_REST */
};

/** @param limit_ns  how long a run may take on average, up to 1 s; 0: nothing is ever run */
void gq__brevity_init(struct gq_brevity *b, uint64_t limit_ns);

/** Whether the next message may be run. */
static inline bool gq_brevity_may_run(const struct gq_brevity *b)
{
	return b->limit_ns != 0 && b->rest == 0;
}

/** So many have been run, in `ns` together. If they have taken very long, as the scheduler may have
 * taken the CPU away, one of them counts as eight times the limit. */
void gq__brevity_ran(struct gq_brevity *b, uint32_t runs, uint64_t ns);

/**
 * How many may be run before the clock is read again. To read it takes as long as a very short
 * message; of such ones it is read once for eight, so what it tells is late by some microseconds.
 */
static inline uint32_t gq_brevity_unclocked(const struct gq_brevity *b)
{
	return b->seen >= GQ_BREVITY_REST && b->mean <= GQ_BREVITY_VERY_SHORT ? 8 : 1;
}

/**
 * One takes so long that it was not waited for.
 * @param used_ns  CPU time that it has had meanwhile, if it waits for nothing but a CPU; else
 * UINT64_MAX. With less than eight times the limit it counts as one that was run: a thread that
 * only has no CPU says nothing of the processor.
 */
void gq__brevity_failed(struct gq_brevity *b, uint64_t used_ns);
/** One has been handed on. */
void gq__brevity_handed_on(struct gq_brevity *b);

#endif /* GPUQ_BROKER_POLICY_BREVITY_H */
