/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - a page of metrics for Prometheus, at http://ADDRESS/metrics.
 *
 * The program writes the page when it likes, as a rule once a second, and hands it over; a thread
 * of its own answers whoever asks, with the last one. Neither waits for the other.
 */
#ifndef GPUQ_PROGRAM_METRICS_H
#define GPUQ_PROGRAM_METRICS_H

#include "histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the page -------------------------------------------------------------------------------- */

/* A text that grows. A zeroed one is empty. */
struct metrics_page {
	char *text; /* NULL: empty */
	size_t used;
	size_t room;
	bool failed; /* no memory: it is not whole */
};

/* Values by bucket, for a histogram of the page. `bounds` rise; the last bucket has no bound. */
#define METRICS_BUCKETS 24
struct metrics_histogram {
	const double *bounds;
	uint32_t count; /* of the bounds, at most METRICS_BUCKETS */
	uint64_t buckets[METRICS_BUCKETS + 1];
	double sum;
};

/* 50 us to 30 s in steps of 1, 2.5 and 5, and from 1 on. */
extern const double metrics_seconds[];
#define METRICS_SECONDS 19
extern const double metrics_items[];
#define METRICS_ITEMS 17

void metrics_add(struct metrics_histogram *h, double value);

/** What the next values mean: `type` is "counter", "gauge" or "histogram". */
void metrics_begin(struct metrics_page *p, const char *name, const char *type, const char *help);

/**
 * A value; `label` and `text` are a label and what it says, or NULL. NAN is written as NaN. Bytes
 * of `text` that would end it are escaped.
 */
void metrics_value(struct metrics_page *p, const char *name, const char *label, const char *text,
		   double value);

/* Labels of a value, as they stand on the page. A zeroed one is none. */
struct metrics_labels {
	char text[400];
	size_t used;
};

/** One more label. What has no room is left out, and the page it is used on fails. */
void metrics_label(struct metrics_labels *l, const char *label, const char *text);

/** As metrics_value(), with any number of labels. */
void metrics_labelled(struct metrics_page *p, const char *name, const struct metrics_labels *l,
		      double value);

/**
 * A log-linear histogram of nanoseconds, in seconds, behind metrics_begin(): at metrics_seconds. A
 * value counts below a bound if its bucket does, so a bound is off by 1/32 at most.
 */
void metrics_log_linear(struct metrics_page *p, const char *name, const struct metrics_labels *l,
			const uint64_t buckets[HISTOGRAM_BUCKETS], double sum_ns);

/**
 * The same page in the format OpenMetrics 1.0: counters are named without _total where they are
 * described, and it has an end.
 * @return to be freed; NULL: no memory
 */
char *metrics_openmetrics(const char *page);

/** All of a histogram, behind metrics_begin(). */
void metrics_buckets(struct metrics_page *p, const char *name, const struct metrics_histogram *h);

void metrics_free(struct metrics_page *p);

/* ---- the server ------------------------------------------------------------------------------ */

struct metrics_server;

/** False: this build has no server. */
bool metrics_available(void);

/** NULL, or what is wrong with an address as the end of a sentence. */
const char *metrics_check(const char *address);

/**
 * Serve at HOST:PORT or unix:PATH. NULL: it says why on stderr. A socket that a dead program left
 * at PATH is replaced.
 */
struct metrics_server *metrics_serve(const char *address);

/**
 * Answer /livez and /healthz as alive until then (clock_ns()), and /readyz as ready or not. Until
 * the first call there are no such addresses. Waits for nothing.
 */
void metrics_health(struct metrics_server *s, uint64_t until_ns, bool ready);

/** The page that is answered from now on; before there is one, it is 503. Takes it over; waits for
 * nothing. */
void metrics_publish(struct metrics_server *s, struct metrics_page *p);

void metrics_stop(struct metrics_server *s);

#endif /* GPUQ_PROGRAM_METRICS_H */
