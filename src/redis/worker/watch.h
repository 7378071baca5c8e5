/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - what a worker shows while it runs: a line on a terminal, and metrics. */
#ifndef GPUQ_REDIS_WATCH_H
#define GPUQ_REDIS_WATCH_H

#include "redis/policy/watch_line.h"

#include "program/line.h"
#include "program/metrics.h"

#include <stdbool.h>
#include <stdint.h>

struct crew;

/* How a stream, or one shard of it, stands. */
struct watch_view {
	double pending;  /* read by somebody, without a result; NAN: not known */
	double lag;      /* read by nobody; NAN: Redis does not know */
	double oldest_s; /* how long ago the oldest pending message was sent; NAN: not known */
};

struct watch_view watch_unknown(void);

struct watch {
	bool shows;                    /* a line on the terminal */
	struct metrics_server *server; /* NULL: there is none */
	struct line line;
	struct metrics_histogram batches; /* entries of a read */
	struct metrics_histogram rtt;     /* s, of a small command, once a second */
	struct metrics_histogram times;   /* s, from read to acknowledged */
	uint64_t due_ms;                  /* when it is looked again */
	uint64_t items;
	uint64_t done_then; /* for the rate: how many were done, and when */
	uint64_t then_ns;
	double rate; /* of the last second */
};

/** Before the first connection. False: it has said why. */
bool watch_begin(struct crew *c);
/** Each time the loop turns: once a second it asks Redis, shows the line, writes the page. */
void watch_turn(struct crew *c);
/** A read has brought so many. */
void watch_batch(struct watch *s, uint32_t count);
/** A message was taken in at `since_ms`, and its result is in Redis now. */
void watch_done(struct watch *s, uint64_t since_ms, uint64_t now_ms);
void watch_end(struct crew *c);

#endif /* GPUQ_REDIS_WATCH_H */
