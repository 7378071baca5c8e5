/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - how many of the requests that wait go as one batch, and when. Pure. */
#ifndef GPUQ_BROKER_POLICY_BATCH_H
#define GPUQ_BROKER_POLICY_BATCH_H

#include <stdbool.h>
#include <stdint.h>

enum { GQ_BATCH_PREFERRED = 8 };

struct gq_batch_config {
	uint32_t most;                          /* requests; 0: 1000 */
	uint64_t bytes_most;                    /* 0: no limit */
	uint32_t preferred[GQ_BATCH_PREFERRED]; /* sizes, ascending; 0: no more */
	uint64_t delay_ns; /* the oldest request waits so long for others; 0: not at all */
};

/* What waits, as far as one batch could take it. */
struct gq_batch {
	uint32_t count;
	uint64_t bytes;
	uint64_t oldest_ns;   /* when the first came */
	uint64_t deadline_ns; /* the earliest; UINT64_MAX: none */
	bool full;            /* the next one does not fit */
};

/** An empty batch. */
void gq__batch_begin(struct gq_batch *b);

/**
 * Another request, in the order in which they go.
 * @return false: it does not fit, and waits for the next batch. The first one always fits
 */
bool gq__batch_add(struct gq_batch *b, const struct gq_batch_config *config, uint64_t bytes,
		   uint64_t came_ns, uint64_t deadline_ns);

/**
 * How many of them go now: the first so many, 0: none yet. A full batch goes, one of the largest
 * preferred size, what has waited for the delay, and what would miss its deadline by waiting.
 * @param run_ns   how long a batch is likely to run
 * @param out_when when to ask again, if none goes: UINT64_MAX without requests. Written in any case
 */
uint32_t gq__batch_due(const struct gq_batch *b, const struct gq_batch_config *config,
		       uint64_t run_ns, uint64_t now_ns, uint64_t *out_when);

#endif /* GPUQ_BROKER_POLICY_BATCH_H */
