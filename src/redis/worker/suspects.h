/* SPDX-License-Identifier: Apache-2.0 */
/* suspects.h - what outlives a worker that its device, or a processor, has killed. */
#ifndef GPUQ_REDIS_SUSPECTS_H
#define GPUQ_REDIS_SUSPECTS_H

#include "redis/policy/entry.h"
#include "redis/policy/search.h"

#include <stdbool.h>
#include <stdint.h>

#define CONSUMER_BYTES 128

/*
 * A fault in a processor on a CPU thread raises SIGSEGV or the like; a fault on a GPU leaves its
 * context useless. Either way the process starts itself anew by execve(2), under the same process
 * number. This memory is a memfd that the new program maps again.
 *
 * Only the worker's own thread writes it, but for `deaths` and `reason` of the first one, which the
 * handler of a fatal signal writes, on whatever thread, as its last act before execve(2).
 */
struct suspects {
	char consumer[CONSUMER_BYTES];
	uint32_t capacity;
	uint32_t deaths;
	int32_t reason;      /* the signal; 0: the queue said that its device failed */
	uint32_t stopping;   /* it had been asked to end */
	uint32_t group_runs; /* the top group of the search is in the queue */
	uint64_t taken;      /* messages taken in so far, for --max-messages */
	struct search search;
	struct stream_id *running; /* by lease: in the queue and not finished; 0-0: none */
	struct suspect *list;      /* the search's */
};

/**
 * New memory for `count` workers of one process, or that of the process before (*out_reborn).
 * Returns the first one's; NULL: it says why on stderr.
 */
struct suspects *suspects_open(uint32_t capacity, uint32_t count, bool *out_reborn);

/** That of another one. */
struct suspects *suspects_at(struct suspects *first, uint32_t number);

/** From now on a fatal signal starts the program anew, with these arguments. */
bool suspects_arm(struct suspects *s, char **argv);

/** Start the program anew. Returns only if that fails. */
void suspects_restart(struct suspects *s);

/** The program that was started anew has its signals blocked; let them in. */
void suspects_unblock(void);

#endif /* GPUQ_REDIS_SUSPECTS_H */
