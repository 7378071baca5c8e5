/* SPDX-License-Identifier: Apache-2.0 */
/* top_lines.c - the lines of `gpuq top`: what has happened between two looks at a page. */
#define _GNU_SOURCE
#include "daemon.h"

#include "program/amounts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	const char *name;
	double rate;
	uint64_t inside;
	uint32_t index, client;
};

/* Of a count that only grows: a second. */
static double rate_of(const struct top_view *t, uint64_t now, uint64_t before)
{
	const uint64_t ns = t->now.v.daemon.turned_ns - t->before.v.daemon.turned_ns;

	if (!t->has_before || ns == 0 || now < before)
		return 0;
	return (double)(now - before) * 1e9 / (double)ns;
}

static uint64_t ended_of(const struct page_queue *q)
{
	uint64_t sum = 0;

	for (uint32_t k = 0; k < PAGE_CLASSES; k++)
		sum += page_ended(q->ended[k]);
	return sum;
}

static uint64_t failed_of(const struct page_queue *q)
{
	uint64_t sum = 0;

	for (uint32_t k = 0; k < PAGE_CLASSES; k++)
		sum += page_ended(q->ended[k]) - q->ended[k][PAGE_OK];
	return sum;
}

/* The median and the 99th percentile of what has ended since the look before. */
static void times(const struct top_view *t, const uint64_t now[HISTOGRAM_BUCKETS],
		  const uint64_t before[HISTOGRAM_BUCKETS], char text[2][16])
{
	static struct histogram h;

	h.count = 0;
	h.max = UINT64_MAX;
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		const uint64_t old = t->has_before ? before[i] : 0;

		h.buckets[i] = now[i] > old ? now[i] - old : 0;
		h.count += h.buckets[i];
	}
	snprintf(text[0], 16, "-");
	snprintf(text[1], 16, "-");
	if (h.count == 0)
		return;
	format_duration(text[0], 16, histogram_quantile(&h, 50, 100));
	format_duration(text[1], 16, histogram_quantile(&h, 99, 100));
}

/* ---- sorting --------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static int by_rate(const void *a, const void *b)
{
	const double x = ((const struct row *)a)->rate, y = ((const struct row *)b)->rate;

	return x != y ? (x < y ? 1 : -1) : by_name(a, b);
}

static int by_inside(const void *a, const void *b)
{
	const uint64_t x = ((const struct row *)a)->inside, y = ((const struct row *)b)->inside;

	return x != y ? (x < y ? 1 : -1) : by_name(a, b);
}

static void sort(const struct top_view *t, struct row *rows, size_t n)
{
	static int (*const ways[TOP_SORTS])(const void *, const void *) = { by_rate, by_name,
									    by_inside };

	if (n > 1)
		qsort(rows, n, sizeof(*rows), ways[t->sort]);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void queue_line(const struct top_view *t, uint32_t i, char *line, size_t room)
{
	const struct page_queue *q = &t->now.v.queue[i], *b = &t->before.v.queue[i];
	char rate[16], bad[16], in[16], out[16], time[2][16];

	times(t, q->seconds, b->seconds, time);
	snprintf(line, room, "%-20s %-8s %7" PRIu64 " %8s %8s %7" PRIu64 " %11s %11s %9s %9s",
		 q->name,
		 q->failed != 0                                                      ? "failed"
		 : daemon_hangs(&t->now, q->turned_ns, t->now.v.daemon.queues_ended) ? "hangs"
										     : "serves",
		 q->clients, format_count(rate, 16, rate_of(t, ended_of(q), ended_of(b))),
		 format_count(bad, 16, rate_of(t, failed_of(q), failed_of(b))), page_sum(q->inside),
		 format_bytes(in, 16, rate_of(t, q->bytes_in, b->bytes_in)),
		 format_bytes(out, 16, rate_of(t, q->bytes_out, b->bytes_out)), time[0], time[1]);
}

static void emit_queues(const struct top_view *t, top_line_fn *emit, void *user)
{
	struct row rows[PAGE_QUEUES];
	char line[200];
	size_t n = 0;

	for (uint32_t i = 0; i < t->now.v.daemon.queues; i++) {
		const struct page_queue *q = &t->now.v.queue[i];

		rows[n++] = (struct row){ q->name,
					  rate_of(t, ended_of(q), ended_of(&t->before.v.queue[i])),
					  page_sum(q->inside), i, 0 };
	}
	sort(t, rows, n);
	snprintf(line, sizeof(line), "%-20s %-8s %7s %8s %8s %7s %11s %11s %9s %9s", "queue",
		 "state", "clients", "ended/s", "bad/s", "inside", "in/s", "out/s", "p50", "p99");
	emit(user, line, true);
	for (size_t i = 0; i < n; i++) {
		queue_line(t, rows[i].index, line, sizeof(line));
		emit(user, line, false);
	}
}

/* ---- clients --------------------------------------------------------------------------------- */

static const struct page_client *same_client(const struct page_queue *q,
					     const struct page_client *c)
{
	for (uint64_t i = 0; i < q->clients && i < PAGE_CLIENTS; i++)
		if (q->client[i].pid == c->pid && q->client[i].ended <= c->ended)
			return &q->client[i];
	return c;
}

static void emit_clients(const struct top_view *t, top_line_fn *emit, void *user)
{
	static struct row rows[PAGE_QUEUES * PAGE_CLIENTS];
	char line[200], rate[16];
	size_t n = 0;

	for (uint32_t i = 0; i < t->now.v.daemon.queues; i++) {
		const struct page_queue *q = &t->now.v.queue[i];

		for (uint32_t k = 0; k < q->clients && k < PAGE_CLIENTS; k++) {
			const struct page_client *c = &q->client[k];
			const struct page_client *b = same_client(&t->before.v.queue[i], c);

			rows[n++] = (struct row){ q->name, rate_of(t, c->ended, b->ended),
						  c->inside, i, k };
		}
	}
	sort(t, rows, n);
	snprintf(line, sizeof(line), "%-20s %8s %8s %12s %8s %7s", "queue", "process", "user",
		 "accepted", "ended/s", "inside");
	emit(user, line, true);
	for (size_t i = 0; i < n; i++) {
		const struct page_client *c = &t->now.v.queue[rows[i].index].client[rows[i].client];

		snprintf(line, sizeof(line),
			 "%-20s %8" PRIu64 " %8" PRIu64 " %12" PRIu64 " %8s %7" PRIu64,
			 rows[i].name, c->pid, c->uid, c->accepted,
			 format_count(rate, 16, rows[i].rate), c->inside);
		emit(user, line, false);
	}
}

/* ---- services -------------------------------------------------------------------------------- */

static const struct page_service *same_service(const struct page_services *all,
					       const struct page_service *s)
{
	for (uint64_t i = 0; i < all->services; i++)
		if (strcmp(all->service[i].name, s->name) == 0)
			return &all->service[i];
	return s;
}

static void emit_services(const struct top_view *t, top_line_fn *emit, void *user)
{
	const struct page_services *s = &t->now.v.services, *b = &t->before.v.services;
	struct row rows[PAGE_SERVICES];
	char line[240], rate[16], time[2][16];

	times(t, s->seconds, b->seconds, time);
	snprintf(line, sizeof(line),
		 "%-20s %-16s %-10s %-11s %9s %5s %8s %7s   all: %s/s, %" PRIu64
		 " inside, p50 %s, p99 %s",
		 "service", "op", "health", "breaker", "active", "limit", "done/s", "faults",
		 format_count(rate, 16, rate_of(t, page_ended(s->ended), page_ended(b->ended))),
		 s->inside, time[0], time[1]);
	emit(user, line, true);
	for (uint32_t i = 0; i < s->services; i++) {
		const struct page_service *one = &s->service[i], *old = same_service(b, one);

		rows[i] = (struct row){ one->name, rate_of(t, one->done, old->done), one->active, i,
					0 };
	}
	sort(t, rows, (size_t)s->services);
	for (uint32_t i = 0; i < s->services; i++) {
		const struct page_service *one = &s->service[rows[i].index];

		snprintf(line, sizeof(line),
			 "%-20s %-16s %-10s %-11s %4" PRIu64 "/%-4" PRIu64 " %5" PRIu64
			 " %8s %7" PRIu64,
			 one->name, one->op, one->health, one->breaker, one->active, one->capacity,
			 one->limit, format_count(rate, 16, rows[i].rate), one->faults);
		emit(user, line, false);
	}
}

void top_lines(struct top_view *t, top_line_fn *emit, void *user)
{
	char line[240];

	/* A gpuqd that was started anew counts anew. */
	t->has_before = t->before.v.daemon.pid == t->now.v.daemon.pid &&
			t->before.v.daemon.started_ns == t->now.v.daemon.started_ns;
	status_head(&t->now, line, sizeof(line));
	emit(user, line, false);
	if (t->now.v.daemon.queues != 0) {
		emit(user, "", false);
		if (t->clients)
			emit_clients(t, emit, user);
		else
			emit_queues(t, emit, user);
	}
	if (t->now.v.daemon.services[0] != '\0') {
		emit(user, "", false);
		emit_services(t, emit, user);
	}
}
