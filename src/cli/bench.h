/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - what the parts of `gpuq bench` share: a load, and what came of it. */
#ifndef GPUQ_CLI_BENCH_H
#define GPUQ_CLI_BENCH_H

#include "program/histogram.h"

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stdio.h>

enum { BENCH_LOADS = 64, BENCH_MOST_WINDOWS = 1000, BENCH_MOST_BATCH = 1024 };

enum bench_arrivals { BENCH_POISSON, BENCH_CONSTANT };

/* One point of a table. */
struct bench_load {
	uint32_t concurrency; /* closed loop: messages outstanding; 0: open loop */
	double rate;          /* open loop: messages a second */
};

struct bench_plan {
	struct bench_load loads[BENCH_LOADS];
	uint32_t count;
	uint32_t bytes, batch;
	enum bench_arrivals arrivals;
	uint64_t window_ns;
	uint32_t windows; /* at most */
	uint64_t random;
};

struct bench_row {
	struct bench_load load;
	double per_second; /* messages that have ended, in the windows that count */
	bool stable;       /* three windows agree */
	bool kept_up;      /* of an open loop: what was offered was carried */
	uint32_t windows;  /* measured */
	uint64_t messages, failed;
	struct histogram latency; /* ns */
};

/*
 * Loads the queue until three windows agree, or there were enough of them; then waits until it is
 * empty. One thread sends and takes.
 * @return false: the queue has failed, q_last_error() says why
 */
bool bench_run(GpuQueue *q, struct bench_plan *plan, const struct bench_load *load,
	       struct bench_row *row);

enum bench_format { BENCH_TABLE, BENCH_CSV, BENCH_JSON, BENCH_GNUPLOT };

void bench_report_begin(enum bench_format format, GpuQueue *q, const struct bench_plan *plan);
void bench_report_row(enum bench_format format, const struct bench_plan *plan,
		      const struct bench_row *row);
void bench_report_end(enum bench_format format);

#endif /* GPUQ_CLI_BENCH_H */
