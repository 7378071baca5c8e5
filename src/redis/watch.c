/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c - once a second: how things stand, on a terminal and for Prometheus. */
#define _GNU_SOURCE
#include "show.h"
#include "worker.h"

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

bool watch_begin(struct worker *w)
{
	struct watch *s = &w->watch;

	s->batches = (struct metrics_histogram){ .bounds = metrics_items, .count = METRICS_ITEMS };
	s->rtt = (struct metrics_histogram){ .bounds = metrics_seconds, .count = METRICS_SECONDS };
	s->times = s->rtt;
	s->view = (struct watch_view){ .pending = NAN, .lag = NAN, .oldest_s = NAN };
	s->then_ns = clock_ns();
	s->shows = !w->options->quiet && isatty(STDERR_FILENO) == 1;
	if (s->shows) {
		shown = &s->line;
		program_before_line = clear_line;
	}
	if (!w->options->metrics)
		return true;
	s->server = metrics_serve(w->options->metrics);
	return s->server != NULL;
}

void watch_end(struct worker *w)
{
	struct watch *s = &w->watch;

	line_clear(&s->line);
	program_before_line = NULL;
	metrics_stop(s->server);
	s->server = NULL;
}

void watch_batch(struct worker *w, uint32_t count)
{
	if (count == 0)
		return;
	w->watch.items += count;
	metrics_add(&w->watch.batches, count);
}

void watch_done(struct worker *w, uint64_t since_ms, uint64_t now_ms)
{
	/* the clock of leases has whole milliseconds: rounded up */
	metrics_add(&w->watch.times, (double)(now_ms - since_ms + 1) / 1000.0);
}

/* ---- asking Redis ---------------------------------------------------------------------------- */

/* XPENDING: [count, least id, greatest id, consumers]. */
static bool ask_pending(struct worker *w)
{
	struct watch_view *v = &w->watch.view;
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
	struct watch_view *v = &w->watch.view;
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
	struct watch_view *v = &w->watch.view;
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

static void ask(struct worker *w)
{
	const uint64_t begin = clock_ns();
	redisReply *reply = link_say(&w->command, "PING", NULL);

	if (!reply || reply->type != REDIS_REPLY_STATUS) {
		worker_refused(w, "PING", reply);
		return;
	}
	freeReplyObject(reply);
	metrics_add(&w->watch.rtt, (double)(clock_ns() - begin) * 1e-9);
	if (w->list)
		ask_list(w);
	else if (ask_pending(w))
		ask_lag(w);
}

/* ---- the page -------------------------------------------------------------------------------- */

static void one(struct metrics_page *p, const char *name, const char *type, const char *help,
		double value)
{
	metrics_begin(p, name, type, help);
	metrics_value(p, name, NULL, NULL, value);
}

/* Names that all programs of this tree have. */
static void write_common(const struct worker *w, struct metrics_page *p)
{
	static const char *const states[] = { "staged", "running", "done", "resting" };
	const struct worker_totals *t = &w->totals;
	const struct book *b = &w->book;

	metrics_begin(p, "gpuq_build_info", "gauge", "The version that runs.");
	metrics_value(p, "gpuq_build_info", "version", q_version(), 1);
	metrics_begin(p, "gpuq_requests_total", "counter", "Messages, by what became of them.");
	metrics_value(p, "gpuq_requests_total", "outcome", "ok", (double)t->done);
	metrics_value(p, "gpuq_requests_total", "outcome", "error", (double)t->dead);
	metrics_value(p, "gpuq_requests_total", "outcome", "cancelled", (double)t->handed_back);
	metrics_value(p, "gpuq_requests_total", "outcome", "lost", (double)t->lost);
	metrics_begin(p, "gpuq_request_seconds", "histogram",
		      "From reading a message to its result in Redis, in whole milliseconds.");
	metrics_buckets(p, "gpuq_request_seconds", &w->watch.times);
	metrics_begin(p, "gpuq_batch_items", "histogram", "Messages that a read has brought.");
	metrics_buckets(p, "gpuq_batch_items", &w->watch.batches);
	one(p, "gpuq_items_total", "counter", "Messages that reads have brought.",
	    (double)w->watch.items);
	one(p, "gpuq_queue_depth", "gauge", "Messages in the queue.", b->count[LEASE_RUNNING]);
	one(p, "gpuq_inflight", "gauge", "Messages that this worker holds.", b->used);
	metrics_begin(p, "gpuq_slots", "gauge", "Places for messages, by what is in them.");
	metrics_value(p, "gpuq_slots", "state", "free", book_room(b));
	for (int i = 0; i < 4; i++)
		metrics_value(p, "gpuq_slots", "state", states[i], b->count[LEASE_STAGED + i]);
	one(p, "gpuq_device_faults_total", "counter",
	    "Times that a message, or the device, killed this worker.", w->memory->deaths);
}

static void write_own(const struct worker *w, struct metrics_page *p)
{
	const struct worker_totals *t = &w->totals;
	const struct watch *s = &w->watch;

	one(p, "gpuq_redis_connected", "gauge", "1 while Redis is connected.",
	    worker_connected(w) ? 1 : 0);
	one(p, "gpuq_redis_lag", "gauge", "Messages that nobody has read; NaN: not known.",
	    s->view.lag);
	one(p, "gpuq_redis_pending", "gauge",
	    "Messages read by any worker that have no result; NaN: not known.", s->view.pending);
	one(p, "gpuq_redis_oldest_pending_age_seconds", "gauge",
	    "Age of the oldest pending message of a stream; NaN: not known.", s->view.oldest_s);
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
	    t->connects > 0 ? (double)(t->connects - 1) : 0);
	one(p, "gpuq_redis_group_lost_total", "counter", "Times that the group had gone.",
	    (double)t->group_lost);
	metrics_begin(p, "gpuq_redis_rtt_seconds", "histogram",
		      "Round trips of a small command, one a second.");
	metrics_buckets(p, "gpuq_redis_rtt_seconds", &s->rtt);
	one(p, "gpuq_redis_updated_timestamp_seconds", "gauge", "When this page was written.",
	    (double)wall_ms() / 1000.0);
}

static void write_page(struct worker *w)
{
	struct metrics_page page = { .used = 0 };

	write_common(w, &page);
	write_own(w, &page);
	metrics_publish(w->watch.server, &page);
}

/* ---- the line -------------------------------------------------------------------------------- */

static void show_line(struct worker *w, uint64_t now_ns)
{
	const struct watch *s = &w->watch;
	uint64_t reads = 0;
	char text[LINE_COLUMNS_MOST + 100];

	for (uint32_t i = 0; i <= s->batches.count; i++)
		reads += s->batches.buckets[i];
	watch_compose(
		&(struct watch_line){
			.rate = s->rate,
			.done = (double)w->totals.done,
			.pending = s->view.pending,
			.lag = s->view.lag,
			.batch = reads > 0 ? (double)s->items / (double)reads : 0,
			.redelivered = (double)w->totals.redelivered,
		},
		text, sizeof(text), line_room());
	line_draw(&w->watch.line, text, now_ns);
}

void watch_turn(struct worker *w)
{
	struct watch *s = &w->watch;
	const uint64_t now_ns = clock_ns();

	if ((!s->shows && !s->server) || now_ms() < s->due_ms)
		return;
	s->due_ms = now_ms() + EVERY_MS;
	if (worker_may_ask(w))
		ask(w);
	s->rate = (double)(w->totals.done - s->done_then) * 1e9 /
		  (double)(now_ns > s->then_ns ? now_ns - s->then_ns : 1);
	s->done_then = w->totals.done;
	s->then_ns = now_ns;
	if (s->server)
		write_page(w);
	if (s->shows)
		show_line(w, now_ns);
}
