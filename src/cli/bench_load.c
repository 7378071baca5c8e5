/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_load.c - the load of `gpuq bench`. A closed loop sends when something has ended, an open
 * one when a message is due, whatever has become of those before.
 *
 * A message's tag is the time from which its latency counts: of an open loop the time at which it
 * was due, not that at which it was sent. So a stall is in the latency of every message that was
 * due meanwhile.
 */
#define _GNU_SOURCE
#include "bench.h"

#include "program/program.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AGREEING = 3, POLLED = 256, PATIENCE_MS = 100 };
#define AGREE    0.10 /* from the mean of the three */
#define KEEPS_UP 0.95

/* What a window has seen. */
struct window {
	uint64_t ended, failed, began_ns, ended_ns;
	struct histogram latency;
};

struct state {
	GpuQueue *q;
	struct bench_plan *plan;
	const struct bench_load *load;
	struct window *now; /* the window that runs */
	uint64_t outstanding, late;
	double due_ns; /* open loop: of the next message */
	uint8_t *payload;
	EnqueueItem items[BENCH_MOST_BATCH];
};

/* ---- sending --------------------------------------------------------------------------------- */

/* SplitMix64: uniform in (0, 1]. */
static double uniform(uint64_t *random)
{
	uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0 + 0x1p-53;
}

static double gap_ns(struct bench_plan *plan, double rate)
{
	const double mean = 1e9 / rate;

	return plan->arrivals == BENCH_CONSTANT ? mean : -log(uniform(&plan->random)) * mean;
}

/* @return messages that were taken; -1: the queue has failed */
static int send(struct state *s, uint32_t n, uint64_t since_ns)
{
	const EnqueueOptions o = { .tag = since_ns };
	size_t sent = 0;
	const QueueStatus status = q_enqueue_batch_ex(s->q, s->items, n, &o, NULL, &sent, 0);

	s->outstanding += sent;
	return status == Q_OK || status == Q_ERR_FULL ? (int)sent : -1;
}

static bool send_closed(struct state *s)
{
	const uint32_t most = s->load->concurrency, batch = s->plan->batch;

	while (s->outstanding + batch <= most) {
		const int sent = send(s, batch, clock_ns());

		if (sent < 0)
			return false;
		if ((uint32_t)sent < batch)
			return true; /* the queue is full */
	}
	return true;
}

static bool send_due(struct state *s)
{
	for (uint64_t now_ns = clock_ns(); s->due_ns <= (double)now_ns;) {
		const int sent = send(s, 1, (uint64_t)s->due_ns);

		if (sent <= 0)
			return sent == 0; /* full: it stays due */
		s->due_ns += gap_ns(s->plan, s->load->rate);
	}
	return true;
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* @return messages that have ended; -1: the queue has failed */
static int take(struct state *s)
{
	Completion done[POLLED];
	uint64_t ids[POLLED], now_ns;
	size_t n = 0;

	if (q_poll_results(s->q, done, POLLED, &n) != Q_OK)
		return -1;
	if (n == 0)
		return 0;
	now_ns = clock_ns();
	for (size_t i = 0; i < n; i++) {
		ids[i] = done[i].msg_id;
		histogram_add(&s->now->latency, now_ns > done[i].tag ? now_ns - done[i].tag : 0);
		s->now->failed += done[i].status != Q_OK;
	}
	s->now->ended += n;
	s->outstanding -= n;
	return q_release_batch(s->q, ids, n) == Q_OK ? (int)n : -1;
}

/* Until something ends, or is due. @return false: the queue has failed */
static bool idle(struct state *s)
{
	uint32_t ms = PATIENCE_MS;
	QueueStatus status;

	if (s->load->concurrency == 0) {
		const double left_ns = s->due_ns - (double)clock_ns();

		if (left_ns < 2e6)
			return true; /* too soon to sleep */
		ms = (uint32_t)(left_ns / 1e6) - 1;
		ms = ms < PATIENCE_MS ? ms : PATIENCE_MS;
	}
	status = q_wait_any(s->q, ms);
	return status == Q_OK || status == Q_ERR_TIMEOUT;
}

static bool step(struct state *s)
{
	int n;

	if (!(s->load->concurrency != 0 ? send_closed(s) : send_due(s)))
		return false;
	n = take(s);
	return n >= 0 && (n != 0 || idle(s));
}

/* ---- windows --------------------------------------------------------------------------------- */

static bool run_window(struct state *s, struct window *w)
{
	const uint64_t until_ns = clock_ns() + s->plan->window_ns;

	memset(w, 0, sizeof(*w));
	s->now = w;
	w->began_ns = clock_ns();
	do {
		if (!step(s))
			return false;
		w->ended_ns = clock_ns();
	} while (w->ended_ns < until_ns);
	return true;
}

static double rate_of(const struct window *w)
{
	return (double)w->ended * 1e9 / (double)(w->ended_ns - w->began_ns);
}

static bool near(double a, double b, double c)
{
	const double mean = (a + b + c) / 3;

	return fabs(a - mean) <= AGREE * mean && fabs(b - mean) <= AGREE * mean &&
	       fabs(c - mean) <= AGREE * mean;
}

/* Rates and medians. */
static bool agree(const struct window w[AGREEING])
{
	double median[AGREEING];

	for (int i = 0; i < AGREEING; i++)
		median[i] = (double)histogram_quantile(&w[i].latency, 1, 2);
	return w[0].ended != 0 && w[1].ended != 0 && w[2].ended != 0 &&
	       near(rate_of(&w[0]), rate_of(&w[1]), rate_of(&w[2])) &&
	       near(median[0], median[1], median[2]);
}

static void merge(struct histogram *to, const struct histogram *from)
{
	to->count += from->count;
	to->max = from->max > to->max ? from->max : to->max;
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

static void sum_up(struct bench_row *row, const struct window *w, uint32_t windows)
{
	uint64_t ns = 0;

	for (uint32_t i = 0; i < windows; i++) {
		merge(&row->latency, &w[i].latency);
		row->messages += w[i].ended;
		row->failed += w[i].failed;
		ns += w[i].ended_ns - w[i].began_ns;
	}
	row->per_second = (double)row->messages * 1e9 / (double)ns;
	row->kept_up = row->load.concurrency != 0 || row->per_second >= KEEPS_UP * row->load.rate;
}

static bool drain(struct state *s)
{
	while (s->outstanding != 0) {
		const int n = take(s);
		const QueueStatus status = n == 0 ? q_wait_any(s->q, PATIENCE_MS) : Q_OK;

		if (n < 0 || (status != Q_OK && status != Q_ERR_TIMEOUT))
			return false;
	}
	return true;
}

static bool measure(struct state *s, struct bench_row *row)
{
	/* The last three; the first window of all is to warm up. */
	struct window *w = calloc(AGREEING, sizeof(*w));
	bool good = w != NULL;

	s->due_ns = (double)clock_ns();
	good = good && run_window(s, &w[0]);
	while (good && row->windows < s->plan->windows && !row->stable) {
		good = run_window(s, &w[row->windows % AGREEING]);
		row->windows++;
		row->stable = row->windows >= AGREEING && agree(w);
	}
	if (good)
		sum_up(row, w, row->windows < AGREEING ? row->windows : AGREEING);
	good = good && drain(s);
	free(w);
	return good;
}

bool bench_run(GpuQueue *q, struct bench_plan *plan, const struct bench_load *load,
	       struct bench_row *row)
{
	struct state *s = calloc(1, sizeof(*s));
	bool good = false;

	memset(row, 0, sizeof(*row));
	row->load = *load;
	if (s == NULL)
		return false;
	s->q = q;
	s->plan = plan;
	s->load = load;
	s->payload = calloc(1, plan->bytes != 0 ? plan->bytes : 1);
	for (uint32_t i = 0; i < plan->batch; i++)
		s->items[i] = (EnqueueItem){ s->payload, plan->bytes };
	if (s->payload != NULL)
		good = measure(s, row);
	free(s->payload);
	free(s);
	return good;
}
