/* SPDX-License-Identifier: Apache-2.0 */
/*
 * concurrency.h - how many requests a service should have on their way: learned from how long they
 * take. Pure. One thread.
 *
 * More at once than a service can run only makes them wait for each other; the limit is found by
 * looking for where that begins. Who counts the requests, and holds to the limit, is the caller.
 */
#ifndef GPUQ_BROKER_POLICY_CONCURRENCY_H
#define GPUQ_BROKER_POLICY_CONCURRENCY_H

#include <stdbool.h>
#include <stdint.h>

enum gq_concurrency_kind {
	GQ_CONCURRENCY_VEGAS,     /* by how much longer they take than without waiting */
	GQ_CONCURRENCY_GRADIENT2, /* by how much longer they take than in the long run */
	GQ_CONCURRENCY_AIMD,      /* up by one, down by a tenth after a loss or a time-out */
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
	uint32_t window_samples; /* and after so many ends, or as many as the limit: 10 */
	uint64_t ignore_ns;      /* shorter times say nothing: 100 us */
};

struct gq_concurrency {
	struct gq_concurrency_config config;
	double limit;
	double fastest_ns;  /* Vegas: without waiting; 0: not known */
	double long_ns;     /* gradient2: average in the long run; 0: not known */
	double since_probe; /* windows, Vegas */
	double probe_at;    /* windows after which the fastest is measured anew */
	double probed_from; /* the limit before that; 0: it is not being measured */
	uint64_t window_from_ns;
	uint32_t samples, losses; /* of this window */
	double sum_ns;            /* of the samples */
	uint32_t most_in_flight;
};

/** Returns false if a limit is out of its range: least <= first <= most, most at most 2^20. */
bool gq__concurrency_init(struct gq_concurrency *c, const struct gq_concurrency_config *config,
			  uint64_t now_ns);

/**
 * A request has been answered.
 * @param in_flight  requests that were on their way, this one among them
 * @param took_ns    on the device and in its queue; 0: says nothing
 * @param random     the state of the random numbers
 * @return whether the limit may be another now
 */
bool gq__concurrency_answered(struct gq_concurrency *c, uint32_t in_flight, uint64_t took_ns,
			      uint64_t now_ns, uint64_t *random);

/** The same of one that has been dropped, or timed out. */
bool gq__concurrency_lost(struct gq_concurrency *c, uint32_t in_flight, uint64_t now_ns,
			  uint64_t *random);

/** The limit now, at least 1. */
uint32_t gq__concurrency_limit(const struct gq_concurrency *c);

#endif /* GPUQ_BROKER_POLICY_CONCURRENCY_H */
