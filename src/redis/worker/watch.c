/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c - once a second: how things stand, on a terminal and for Prometheus. */
#define _GNU_SOURCE
#include "crew.h"
#include "redis/server/show.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EVERY_MS 1000u

static struct line *shown; /* what stands in the way of messages on stderr */

static void clear_line(void)
{
	line_clear(shown);
}

struct watch_view watch_unknown(void)
{
	return (struct watch_view){ .pending = NAN, .lag = NAN, .oldest_s = NAN };
}

bool watch_begin(struct crew *c)
{
	struct watch *s = &c->watch;

	s->batches = (struct metrics_histogram){ .bounds = metrics_items, .count = METRICS_ITEMS };
	s->rtt = (struct metrics_histogram){ .bounds = metrics_seconds, .count = METRICS_SECONDS };
	s->times = s->rtt;
	s->then_ns = clock_ns();
	s->shows = !c->options->quiet && isatty(STDERR_FILENO) == 1;
	if (s->shows) {
		shown = &s->line;
		program_before_line = clear_line;
	}
	if (!c->options->metrics)
		return true;
	s->server = metrics_serve(c->options->metrics);
	return s->server != NULL;
}

void watch_end(struct crew *c)
{
	struct watch *s = &c->watch;

	line_clear(&s->line);
	program_before_line = NULL;
	metrics_stop(s->server);
	s->server = NULL;
}

void watch_batch(struct watch *s, uint32_t count)
{
	if (count == 0)
		return;
	s->items += count;
	metrics_add(&s->batches, count);
}

void watch_done(struct watch *s, uint64_t since_ms, uint64_t now_ms)
{
	/* the clock of leases has whole milliseconds: rounded up */
	metrics_add(&s->times, (double)(now_ms - since_ms + 1) / 1000.0);
}

/* ---- asking Redis ---------------------------------------------------------------------------- */

/* XPENDING: [count, least id, greatest id, consumers]. */
static bool ask_pending(struct worker *w)
{
	struct watch_view *v = &w->view;
	redisReply *reply = link_say(&w->command, "XPENDING", w->options->place.stream,
				     w->options->group, NULL);
	struct stream_id id;

	if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 ||
	    reply->element[0]->type != REDIS_REPLY_INTEGER) {
		worker_refused(w, "XPENDING", reply);
		return false;
	}
	v->pending = (double)reply->element[0]->integer;
	v->oldest_s = v->pending == 0 ? 0 : NAN;
	if (reply->element[1]->type == REDIS_REPLY_STRING &&
	    stream_id_parse(reply->element[1]->str, reply->element[1]->len, &id)) {
		const uint64_t now = wall_ms();

		v->oldest_s = now > id.ms ? (double)(now - id.ms) / 1000.0 : 0;
	}
	freeReplyObject(reply);
	return true;
}

static void ask_lag(struct worker *w)
{
	struct watch_view *v = &w->view;
	redisReply *reply =
		link_say(&w->command, "XINFO", "GROUPS", w->options->place.stream, NULL);

	v->lag = NAN;
	if (!reply) {
		worker_refused(w, "XINFO GROUPS", NULL);
		return;
	}
	/* a user of Redis who may not ask does not know */
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
		const redisReply *group = reply->element[i];
		long long lag;

		if (strcmp(named_text(group, "name"), w->options->group) != 0)
			continue;
		/* before Redis 7 there is none, and after a deletion in the middle it is not known
		 */
		lag = named_number(group, "lag", -1);
		v->lag = lag < 0 ? NAN : (double)lag;
	}
	freeReplyObject(reply);
}

static bool ask_list(struct worker *w)
{
	struct watch_view *v = &w->view;
	redisReply *reply = link_say(&w->command, "LLEN", w->options->place.stream, NULL);
	uint64_t sum;

	if (!reply || reply->type != REDIS_REPLY_INTEGER) {
		worker_refused(w, "LLEN", reply);
		return false;
	}
	v->lag = (double)reply->integer;
	freeReplyObject(reply);
	sum = list_pending(w);
	if (sum == UINT64_MAX)
		return false;
	/* what was read between the two is in neither, or in both */
	v->pending = (double)sum > v->lag ? (double)sum - v->lag : 0;
	return true;
}

static bool ping(struct worker *w, struct watch *s)
{
	const uint64_t begin = clock_ns();
	redisReply *reply = link_say(&w->command, "PING", NULL);

	if (!reply || reply->type != REDIS_REPLY_STATUS) {
		worker_refused(w, "PING", reply);
		return false;
	}
	freeReplyObject(reply);
	metrics_add(&s->rtt, (double)(clock_ns() - begin) * 1e-9);
	return true;
}

static void ask(struct crew *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		struct worker *w = &c->workers[i];

		if (!w->leased || !worker_may_ask(w) || !ping(w, &c->watch))
			continue;
		if (w->list)
			ask_list(w);
		else if (ask_pending(w))
			ask_lag(w);
	}
}

/* The sum of what this process reads; of the oldest the greatest. What one does not know is not
 * known. */
static struct watch_view view_of(const struct crew *c)
{
	struct watch_view sum = { .pending = 0 };

	for (uint32_t i = 0; i < c->count; i++) {
		const struct watch_view *v = &c->workers[i].view;

		if (!c->workers[i].leased)
			continue;
		sum.pending += v->pending;
		sum.lag += v->lag;
		if (!(v->oldest_s <= sum.oldest_s))
			sum.oldest_s = v->oldest_s;
	}
	return sum;
}

/* ---- the page -------------------------------------------------------------------------------- */

static void one(struct metrics_page *p, const char *name, const char *type, const char *help,
		double value)
{
	metrics_begin(p, name, type, help);
	metrics_value(p, name, NULL, NULL, value);
}

/* Names that all programs of this tree have. */
static void write_common(const struct crew *c, struct metrics_page *p)
{
	static const char *const states[] = { "staged", "running", "done", "resting" };
	const struct worker_totals sum = crew_totals(c);
	const struct worker_totals *t = &sum;
	uint32_t count[4] = { 0 };

	for (uint32_t i = 0; i < 4 * c->count; i++)
		count[i % 4] += c->workers[i / 4].book.count[LEASE_STAGED + i % 4];

	metrics_begin(p, "gpuq_build_info", "gauge", "The version that runs.");
	metrics_value(p, "gpuq_build_info", "version", q_version(), 1);
	metrics_begin(p, "gpuq_requests_total", "counter", "Messages, by what became of them.");
	metrics_value(p, "gpuq_requests_total", "outcome", "ok", (double)t->done);
	metrics_value(p, "gpuq_requests_total", "outcome", "error", (double)t->dead);
	metrics_value(p, "gpuq_requests_total", "outcome", "cancelled", (double)t->handed_back);
	metrics_value(p, "gpuq_requests_total", "outcome", "lost", (double)t->lost);
	metrics_begin(p, "gpuq_request_seconds", "histogram",
		      "From reading a message to its result in Redis, in whole milliseconds.");
	metrics_buckets(p, "gpuq_request_seconds", &c->watch.times);
	metrics_begin(p, "gpuq_batch_items", "histogram", "Messages that a read has brought.");
	metrics_buckets(p, "gpuq_batch_items", &c->watch.batches);
	one(p, "gpuq_items_total", "counter", "Messages that reads have brought.",
	    (double)c->watch.items);
	one(p, "gpuq_queue_depth", "gauge", "Messages in the queue.", count[1]);
	one(p, "gpuq_inflight", "gauge", "Messages that this worker holds.", crew_used(c));
	metrics_begin(p, "gpuq_slots", "gauge", "Places for messages, by what is in them.");
	metrics_value(p, "gpuq_slots", "state", "free", c->slots - crew_used(c));
	for (int i = 0; i < 4; i++)
		metrics_value(p, "gpuq_slots", "state", states[i], count[i]);
	one(p, "gpuq_device_faults_total", "counter",
	    "Times that a message, or the device, killed this worker.", c->memory->deaths);
}

static bool all_connected(const struct crew *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		if (c->workers[i].leased && !worker_connected(&c->workers[i]))
			return false;
	}
	return true;
}

static double reconnects(const struct crew *c)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < c->count; i++)
		sum += c->workers[i].totals.connects > 0 ? c->workers[i].totals.connects - 1 : 0;
	return (double)sum;
}

static void write_own(const struct crew *c, struct metrics_page *p)
{
	const struct worker_totals sum = crew_totals(c);
	const struct worker_totals *t = &sum;
	const struct watch_view view = view_of(c);

	one(p, "gpuq_redis_connected", "gauge", "1 while Redis is connected.",
	    all_connected(c) ? 1 : 0);
	one(p, "gpuq_redis_lag", "gauge", "Messages that nobody has read; NaN: not known.",
	    view.lag);
	one(p, "gpuq_redis_pending", "gauge",
	    "Messages read by any worker that have no result; NaN: not known.", view.pending);
	one(p, "gpuq_redis_oldest_pending_age_seconds", "gauge",
	    "Age of the oldest pending message of a stream; NaN: not known.", view.oldest_s);
	one(p, "gpuq_redis_redeliveries_total", "counter",
	    "Messages taken that had been delivered before.", (double)t->redelivered);
	one(p, "gpuq_redis_reclaimed_total", "counter",
	    "Messages taken from workers past their lease.", (double)t->reclaimed);
	one(p, "gpuq_redis_retries_total", "counter", "Messages that failed and are run again.",
	    (double)t->retried);
	one(p, "gpuq_redis_dead_letters_total", "counter", "Dead letters written.",
	    (double)t->dead);
	one(p, "gpuq_redis_lease_lost_total", "counter",
	    "Messages that were finished when they were no longer this worker's.", (double)t->lost);
	one(p, "gpuq_redis_lost_trimmed_total", "counter",
	    "Entries that were deleted while they were pending.", (double)t->trimmed);
	one(p, "gpuq_redis_handed_back_total", "counter", "Messages given back.",
	    (double)t->handed_back);
	one(p, "gpuq_redis_reconnects_total", "counter", "Connections after the first.",
	    reconnects(c));
	one(p, "gpuq_redis_group_lost_total", "counter", "Times that the group had gone.",
	    (double)t->group_lost);
	metrics_begin(p, "gpuq_redis_rtt_seconds", "histogram",
		      "Round trips of a small command, one a second.");
	metrics_buckets(p, "gpuq_redis_rtt_seconds", &c->watch.rtt);
	one(p, "gpuq_redis_updated_timestamp_seconds", "gauge", "When this page was written.",
	    (double)wall_ms() / 1000.0);
}

static void write_page(const struct crew *c)
{
	struct metrics_page page = { .used = 0 };

	write_common(c, &page);
	write_own(c, &page);
	metrics_publish(c->watch.server, &page);
}

/* ---- the line -------------------------------------------------------------------------------- */

static void show_line(struct crew *c, uint64_t now_ns)
{
	const struct worker_totals sum = crew_totals(c);
	const struct watch_view view = view_of(c);
	const struct watch *s = &c->watch;
	uint64_t reads = 0;
	char text[LINE_COLUMNS_MOST + 100];

	for (uint32_t i = 0; i <= s->batches.count; i++)
		reads += s->batches.buckets[i];
	watch_compose(
		&(struct watch_line){
			.rate = s->rate,
			.done = (double)sum.done,
			.pending = view.pending,
			.lag = view.lag,
			.batch = reads > 0 ? (double)s->items / (double)reads : 0,
			.redelivered = (double)sum.redelivered,
		},
		text, sizeof(text), line_room());
	line_draw(&c->watch.line, text, now_ns);
}

void watch_turn(struct crew *c)
{
	struct watch *s = &c->watch;
	const uint64_t now_ns = clock_ns();
	uint64_t done;

	if ((!s->shows && !s->server) || now_ms() < s->due_ms)
		return;
	s->due_ms = now_ms() + EVERY_MS;
	ask(c);
	done = crew_totals(c).done;
	s->rate = (double)(done - s->done_then) * 1e9 /
		  (double)(now_ns > s->then_ns ? now_ns - s->then_ns : 1);
	s->done_then = done;
	s->then_ns = now_ns;
	if (s->server)
		write_page(c);
	if (s->shows)
		show_line(c, now_ns);
}
