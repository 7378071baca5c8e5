/* SPDX-License-Identifier: Apache-2.0 */
/*
 * way.h - a way for messages of 64 bytes from one thread to another, whatever it is made of.
 *
 * The load programs run every way by the same loops, through these four calls. An indirect call is
 * a nanosecond or two; what is compared here pays it alike.
 */
#ifndef BENCH_WAY_H
#define BENCH_WAY_H

#include "harness.h"

#include <sched.h>

enum { WAY_BYTES = 64, WAY_BATCH = 32 };

/* The first 8 bytes are the program's own; the others are moved along. */
struct way_message {
	uint64_t value;
	unsigned char rest[WAY_BYTES - sizeof(uint64_t)];
};

struct way {
	const char *peer, *variant;
	bool single; /* of one thread that puts and one that takes, and no more */

	/*
	 * The queue: threads of its own process a message between put and take. A thread that puts
	 * also takes, as an event loop does.
	 */
	bool processes;

	void *(*open)(uint32_t capacity, unsigned consumers); /* consumers: if it processes */
	void (*close)(void *way);

	/* At most n, which is 1 to WAY_BATCH. Return how many: 0 is full, or empty. */
	size_t (*put)(void *way, const struct way_message *messages, size_t n);
	size_t (*take)(void *way, struct way_message *messages, size_t n);
};

extern const struct way way_ring, way_ring_single, way_queue, way_mutex;
extern const struct way way_rte_single, way_rte_hts; /* where BENCH_RTE is defined */

/* Nothing was moved: a pause; `yield`, where threads share CPUs: after 64 of them, sched_yield().
 */
static inline void way_wait(bool yield, unsigned *spins)
{
	if (yield && ++*spins >= 64) {
		*spins = 0;
		sched_yield();
	} else {
		bench_pause();
	}
}

/* All there are here, and how many. */
extern const struct way *const ways[];
extern const size_t way_count;

#endif /* BENCH_WAY_H */
