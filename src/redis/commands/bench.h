/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - what the parts of `gpuq-redis bench` share. */
#ifndef GPUQ_REDIS_BENCH_H
#define GPUQ_REDIS_BENCH_H

#include "redis/server/redis.h"

#include "program/histogram.h"

#include <sys/types.h>

/* What is measured: how the worker acknowledges, and where it writes results. */
enum bench_case { BENCH_ACK_ONLY, BENCH_PLAIN, BENCH_ATOMIC, BENCH_FENCED, BENCH_CASES };

/* Who does it: a loop that does no more than speak to Redis, or the worker. */
enum bench_side { BENCH_RAW, BENCH_WORKER, BENCH_SIDES };

struct bench {
	struct place place;
	struct link link; /* of the parent: fills, looks, deletes */
	struct words words;
	char *results; /* the key of the results */
	const char *processor;
	uint64_t messages;
	uint64_t bytes; /* of a message */
	uint64_t batch;
	uint64_t runs;
	uint64_t latency_messages;
	bool only[BENCH_CASES]; /* cases to measure; none: all */
	bool json;
};

/* What a child has measured, in memory that it shares with its parent. */
struct bench_time {
	uint64_t first_ns;
	uint64_t last_ns;
	uint64_t done;
};

extern const char *const bench_case_names[BENCH_CASES];

/* ---- bench_raw.c ---- */

/**
 * One consumer's loop, in which the acknowledgement of a batch and the read of the next go out
 * together. Ends after `messages`. Returns an exit code.
 */
int bench_raw(const struct bench *b, enum bench_case c, uint64_t messages, struct bench_time *out);

/* ---- bench_side.c: children ---- */

/** Start one side in a process of its own, to take `messages`; -1: it cannot be started. */
pid_t bench_start(const struct bench *b, enum bench_side side, enum bench_case c, uint64_t messages,
		  struct bench_time *out);
/** Wait for it. EXIT_DONE, or it has failed. *out_cpu_ns, unless it is NULL: its CPU time. */
int bench_wait(pid_t child, uint64_t *out_cpu_ns);
/** Stream and results are new and empty. */
int bench_clear(struct bench *b);
/**
 * One pipeline of messages of b->bytes into the stream, each beginning with `at_ns`; 0: with when
 * it is sent, CLOCK_MONOTONIC. `payload` has that many bytes, and is written to. Returns an exit
 * code.
 */
int bench_send(struct bench *b, struct link *l, uint8_t *payload, uint64_t count, uint64_t at_ns);
/** So many messages into the stream; each begins with when it was sent, CLOCK_MONOTONIC ns. */
int bench_fill(struct bench *b, struct link *l, uint64_t messages);

/* ---- bench_latency.c ---- */

/** How long from sending to seeing the result, ns, at `rate` messages per second. */
int bench_latency(struct bench *b, enum bench_side side, enum bench_case c, double rate,
		  struct histogram *out);

#endif /* GPUQ_REDIS_BENCH_H */
