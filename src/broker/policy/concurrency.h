/* SPDX-License-Identifier: Apache-2.0 */
/*
 * concurrency.h - how many requests a service should have on their way: learned from how long they
 * take. Pure. One thread.
 *
 * More at once than a service can run only makes them wait for each other; the limit is found by
 * looking for where that begins.
 */
#ifndef GPUQ_BROKER_POLICY_CONCURRENCY_H
#define GPUQ_BROKER_POLICY_CONCURRENCY_H

#include "admission.h"

enum gq_concurrency_kind {
	GQ_CONCURRENCY_VEGAS,     /* by how much longer they take than without waiting */
	GQ_CONCURRENCY_GRADIENT2, /* by how much longer they take than in the long run */
	GQ_CONCURRENCY_AIMD,      /* up by one, down by a tenth after a loss or a time-out */
	GQ_CONCURRENCY_FIXED,
	GQ_CONCURRENCY_KINDS,
};

/* Zero takes the default that stands there. */
struct gq_concurrency_config {
	enum gq_concurrency_kind kind;
	uint32_t first;          /* limit: 20 */
	uint32_t least;          /* 1; gradient2 and AIMD: 20 */
	uint32_t most;           /* 1000; gradient2 and AIMD: 200 */
	uint64_t timeout_ns;     /* AIMD: what takes longer counts as a loss; 5 s */
	uint64_t window_ns;      /* the limit changes at most so often: 1 s */
	uint32_t window_samples; /* and after so many samples: 10 */
	uint64_t ignore_ns;      /* shorter times say nothing: 100 us */
};

struct gq_concurrency {
	struct gq_concurrency_config config;
	double limit;
	double fastest_ns;  /* Vegas: without waiting; 0: not known */
	double long_ns;     /* gradient2: average in the long run; 0: not known */
	double since_probe; /* windows, Vegas */
	double probe_at;    /* windows after which the fastest is forgotten */
	uint64_t window_from_ns;
	uint32_t samples; /* of this window */
	double sum_ns;
	uint32_t most_in_flight;
	bool lost;
	uint32_t in_flight;
	uint32_t by_share[3]; /* CRITICAL and HIGH together, NORMAL, LOW */
};

/** Returns false if a limit is out of its range: least <= first <= most, most at most 2^20. */
bool gq__concurrency_init(struct gq_concurrency *c, const struct gq_concurrency_config *config,
			  uint64_t now_ns);

/**
 * Whether a request of this class may go; if so, it counts until gq__concurrency_end(). CRITICAL
 * and HIGH are sure of 60 % of the limit, NORMAL of 30, LOW of 10; what a share does not use,
 * others may.
 */
bool gq__concurrency_try(struct gq_concurrency *c, enum gq_class class);

/**
 * It has ended.
 * @param took_ns  on the device and in its queue; 0: says nothing
 * @param lost     dropped, or timed out
 * @param random   the state of the random numbers
 */
void gq__concurrency_end(struct gq_concurrency *c, enum gq_class class, uint64_t took_ns, bool lost,
			 uint64_t now_ns, uint64_t *random);

/** The limit now, at least 1. */
uint32_t gq__concurrency_limit(const struct gq_concurrency *c);

#endif /* GPUQ_BROKER_POLICY_CONCURRENCY_H */
