/* SPDX-License-Identifier: Apache-2.0 */
/* outcome.c - what came of the messages: results, retries, dead letters. */
#include "outcome.h"

#include "crew.h"

#include "redis/policy/backoff.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GROUP_BYTES ((size_t)8 << 20) /* of results in it, from which no more are added */
#define DEAD_MOST   10000u            /* dead letters that are kept, roughly */

enum fate { FATE_PUBLISH, FATE_RETRY, FATE_BURY, FATE_HAND_BACK };

static enum fate fate_of(const struct worker *w, const struct lease *l)
{
	if (l->status == Q_OK)
		return FATE_PUBLISH;
	if (l->status == Q_ERR_CANCELLED)
		return FATE_HAND_BACK;
	return l->deliveries >= w->options->max_deliveries ? FATE_BURY : FATE_RETRY;
}

/* Finished, and not for publish.c to send: they are dealt with here, in groups. */
static uint32_t waiting(const struct worker *w)
{
	return w->list ? w->finished_count : w->finished_count - w->publishable;
}

/* ---- collecting ------------------------------------------------------------------------------ */

static void finish(const struct crew *crew, const Completion *c, uint64_t now)
{
	uint32_t lease;
	struct worker *w = crew_owner(crew, c->tag, &lease);
	struct lease *l = &w->book.leases[lease];

	l->status = c->status;
	l->result = c->result;
	l->result_bytes = c->result_len;
	if (c->status == Q_ERR_FAILED)
		q_processor_status(w->queue, c->msg_id, &l->verdict);
	w->memory->running[lease] = (struct stream_id){ .ms = 0 };
	search_clear(&w->memory->search, w->memory->list, l->id);
	if (w->memory->search.groups == 0)
		w->memory->group_runs = 0;
	book_set(&w->book, lease, LEASE_DONE, now);
	w->finished[w->finished_count++] = lease;
	if (fate_of(w, l) == FATE_PUBLISH)
		w->publishable++;
	if (waiting(w) > 0)
		batch_add(&w->group, 1, clock_ns() / 1000u);
}

void outcome_collect(struct worker *w)
{
	Completion list[64];
	size_t count = 0;
	const uint64_t now = now_ms();

	do {
		if (q_poll_results(w->queue, list, 64, &count) != Q_OK) {
			poison_restart(w, q_last_error());
			return;
		}
		for (size_t i = 0; i < count; i++)
			finish(w->crew, &list[i], now);
		if (count > 0)
			crew_progress(w->crew, now);
	} while (count == 64);
}

/* The entry is no longer ours to care for: its slot is free again. */
static void let_go(struct worker *w, uint32_t lease)
{
	q_release(w->queue, w->book.leases[lease].msg_id);
	worker_forget(w, lease);
}

/* ---- groups of leases ------------------------------------------------------------------------ */

static void choose(const struct worker *w, enum fate fate, struct group *g)
{
	uint64_t bytes = 0;

	g->count = 0;
	for (uint32_t i = 0; i < w->finished_count && g->count < GROUP_MOST; i++) {
		const struct lease *l = &w->book.leases[w->finished[i]];

		if (fate_of(w, l) != fate)
			continue;
		if (bytes > GROUP_BYTES)
			return;
		bytes += l->result_bytes;
		g->leases[g->count++] = w->finished[i];
	}
}

static void part_with(struct worker *w, uint32_t lease, uint8_t fate)
{
	if (fate_of(w, &w->book.leases[lease]) == FATE_PUBLISH)
		w->publishable--;
	if (fate != SETTLED_REST)
		let_go(w, lease);
}

void outcome_close(struct worker *w, const struct group *g, const uint8_t *settled)
{
	uint32_t kept = 0;
	uint32_t at = 0;

	for (uint32_t i = 0; i < w->finished_count; i++) {
		const uint32_t lease = w->finished[i];
		const bool chosen = at < g->count && g->leases[at] == lease;
		const uint8_t fate = chosen ? settled[at++] : SETTLED_NOT;

		if (fate == SETTLED_NOT)
			w->finished[kept++] = lease;
		else
			part_with(w, lease, fate);
	}
	w->finished_count = kept;
}

void outcome_choose(const struct worker *w, struct group *g)
{
	choose(w, FATE_PUBLISH, g);
}

void outcome_lift(struct worker *w, const struct group *g)
{
	uint32_t kept = 0;
	uint32_t at = 0;

	for (uint32_t i = 0; i < w->finished_count; i++) {
		if (at < g->count && g->leases[at] == w->finished[i])
			at++;
		else
			w->finished[kept++] = w->finished[i];
	}
	w->finished_count = kept;
	w->publishable -= g->count;
}

void outcome_put_back(struct worker *w, const struct group *g)
{
	memmove(&w->finished[g->count], &w->finished[0],
		w->finished_count * sizeof(w->finished[0]));
	memcpy(&w->finished[0], g->leases, g->count * sizeof(w->finished[0]));
	w->finished_count += g->count;
	w->publishable += g->count;
}

/* ---- what a script has answered -------------------------------------------------------------- */

const char *const results_kind_names[4] = { "stream", "hash", "list", "none" };

bool outcome_answer(struct worker *w, redisReply *reply, const char *what, uint32_t count,
		    uint8_t *settled, bool *out_failed)
{
	*out_failed = false;
	if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements < count) {
		worker_refused(w, what, reply);
		return false;
	}
	for (uint32_t i = 0; i < count; i++)
		settled[i] = reply->element[i]->type == REDIS_REPLY_INTEGER
				     ? (uint8_t)reply->element[i]->integer
				     : 2;
	*out_failed = reply->elements > count;
	return true;
}

void outcome_refused_within(struct worker *w, const char *what, redisReply *reply)
{
	redisReply *last = reply->element[reply->elements - 1];

	last->type = REDIS_REPLY_ERROR;
	reply->elements--;
	freeReplyObject(reply);
	worker_refused(w, what, last);
}

void outcome_published(struct worker *w, const struct group *g, const uint8_t *settled)
{
	const uint64_t now = now_ms();

	w->totals.last_ns = clock_ns();
	for (uint32_t i = 0; i < g->count; i++) {
		if (settled[i] == SETTLED_DONE) {
			w->totals.done++;
			watch_done(&w->crew->watch, w->book.leases[g->leases[i]].since_ms, now);
		}
		w->totals.lost += settled[i] == 0;
	}
}

bool outcome_end(struct worker *w, const struct group *g, const uint8_t *settled, bool failed,
		 redisReply *reply)
{
	outcome_published(w, g, settled);
	outcome_close(w, g, settled);
	if (failed) {
		outcome_refused_within(w, "results", reply);
		return false;
	}
	freeReplyObject(reply);
	return true;
}

/* ---- what failed ----------------------------------------------------------------------------- */

/*
 * It stays pending, and is made to look so idle that it is past its lease when its rest is over:
 * whoever has room then takes it. What never ran goes at once, and that delivery does not count.
 */
static bool leave_pending(struct worker *w, const struct group *g, bool at_once)
{
	const struct worker_options *o = w->options;
	uint8_t settled[GROUP_MOST];
	redisReply *reply;
	bool failed;

	if (w->list)
		return at_once ? list_return(w, g) : list_rest(w, g);
	if (!script_begin(&script_keep, &w->command, &w->words, 1)) {
		worker_refused(w, "the leases' script", NULL);
		return false;
	}
	words_add(&w->words, o->place.stream);
	words_add(&w->words, o->group);
	words_add(&w->words, w->memory->consumer);
	for (uint32_t i = 0; i < g->count; i++) {
		const struct lease *l = &w->book.leases[g->leases[i]];
		const uint64_t rest = backoff_retry_ms(l->deliveries, (uint32_t)o->lease_ms);

		words_add_id(&w->words, &l->id);
		words_add_number(&w->words, at_once ? o->lease_ms + 1 : o->lease_ms - rest);
		if (at_once)
			words_add_number(&w->words, l->deliveries - 1);
		else
			words_add(&w->words, "-");
		if (now_ms() + rest < w->reclaim_at_ms)
			w->reclaim_at_ms = now_ms() + rest;
	}
	reply = script_call(&script_keep, &w->command, &w->words);
	if (!outcome_answer(w, reply, "retries", g->count, settled, &failed))
		return false;
	freeReplyObject(reply);
	for (uint32_t i = 0; i < g->count; i++)
		w->totals.lost += settled[i] == 0;
	if (at_once)
		w->totals.handed_back += g->count;
	else
		w->totals.retried += g->count;
	outcome_close(w, g, settled);
	return true;
}

bool outcome_bury(struct worker *w, const struct stream_id *ids, const uint32_t *deliveries,
		  uint32_t count, const char *reason, const char *error)
{
	const struct worker_options *o = w->options;
	uint8_t settled[GROUP_MOST];
	redisReply *reply;
	bool failed;

	if (w->list)
		return list_bury(w, ids, deliveries, count, reason, error);
	if (!script_begin(&script_bury, &w->command, &w->words, 2)) {
		worker_refused(w, "the dead letters' script", NULL);
		return false;
	}
	words_add(&w->words, o->place.stream);
	words_add(&w->words, o->dead);
	words_add(&w->words, o->group);
	words_add(&w->words, w->memory->consumer);
	words_add(&w->words, o->names.payload);
	words_add_number(&w->words, DEAD_MOST);
	words_add_number(&w->words, wall_ms());
	for (uint32_t i = 0; i < count; i++) {
		words_add_id(&w->words, &ids[i]);
		words_add(&w->words, reason);
		words_add(&w->words, error);
		words_add_number(&w->words, deliveries[i]);
	}
	reply = script_call(&script_bury, &w->command, &w->words);
	if (!outcome_answer(w, reply, "dead letters", count, settled, &failed))
		return false;
	freeReplyObject(reply);
	for (uint32_t i = 0; i < count; i++) {
		w->totals.dead += settled[i] == 1;
		w->totals.lost += settled[i] == 0;
	}
	return true;
}

/* One by one: each has its own words from the processor. */
static bool bury_failed(struct worker *w, const struct group *g)
{
	for (uint32_t i = 0; i < g->count; i++) {
		const struct group one = { .leases = { g->leases[i] }, .count = 1 };
		const struct lease *l = &w->book.leases[g->leases[i]];
		const uint8_t settled = 1;
		char text[96];

		if (l->status == Q_ERR_FAILED)
			snprintf(text, sizeof(text), "the processor reported %" PRIu32, l->verdict);
		else
			snprintf(text, sizeof(text), "%s", q_status_string((QueueStatus)l->status));
		if (!outcome_bury(w, &l->id, &l->deliveries, 1, "failed", text))
			return false;
		outcome_close(w, &one, &settled);
	}
	return true;
}

/* A group is worth a round trip: it is full, or 5 ms old, or nothing is running that would join it.
 */
bool outcome_due(const struct worker *w)
{
	return waiting(w) > 0 && (w->book.count[LEASE_RUNNING] == 0 ||
				  batch_due(&w->group, UINT32_MAX, clock_ns() / 1000u));
}

static bool settle_some(struct worker *w)
{
	struct group g;

	if (w->list) {
		choose(w, FATE_PUBLISH, &g);
		if (g.count > 0 && !list_publish(w, &g))
			return false;
	}
	choose(w, FATE_RETRY, &g);
	if (g.count > 0 && !leave_pending(w, &g, false))
		return false;
	choose(w, FATE_HAND_BACK, &g);
	if (g.count > 0 && !leave_pending(w, &g, true))
		return false;
	choose(w, FATE_BURY, &g);
	return g.count == 0 || bury_failed(w, &g);
}

void outcome_settle(struct worker *w)
{
	if (!w->list)
		publish_send(w);
	if (!outcome_due(w))
		return;
	while (waiting(w) > 0 && worker_may_ask(w)) {
		if (!settle_some(w))
			return;
		worker_answered(w);
	}
	if (waiting(w) == 0)
		batch_reset(&w->group);
}
