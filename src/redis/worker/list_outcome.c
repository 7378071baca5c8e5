/* SPDX-License-Identifier: Apache-2.0 */
/* list_outcome.c - what came of the messages of a list: results, retries, dead letters. */
#include "list_scripts.h"
#include "outcome.h"
#include "worker.h"

#include "redis/policy/backoff.h"

#include <string.h>

#define DEAD_MOST 10000u /* dead letters that are kept, roughly */

static const struct element *element_of(const struct worker *w, uint32_t lease)
{
	return &w->list->held[lease];
}

static void add_payload(struct worker *w, const struct element *e)
{
	words_add_bytes(&w->words, e->reply->str, e->reply->len);
}

/* ---- results --------------------------------------------------------------------------------- */

static redisReply *call_publish(struct worker *w, const struct group *g, const char *how)
{
	const struct worker_options *o = w->options;
	static char ids[GROUP_MOST][DIGEST_TEXT];

	if (!script_begin(&script_list_publish, &w->command, &w->words, 3))
		return NULL;
	words_add(&w->words, w->list->own);
	words_add(&w->words, o->results.key);
	words_add(&w->words, w->list->counts);
	words_add(&w->words, w->memory->consumer);
	words_add(&w->words, results_kind_names[o->results.kind]);
	words_add_number(&w->words, o->result_ttl_s);
	words_add(&w->words, how);
	for (uint32_t i = 0; i < g->count; i++) {
		const struct lease *l = &w->book.leases[g->leases[i]];
		const struct element *e = element_of(w, g->leases[i]);

		digest_text(e->digest, ids[i]);
		add_payload(w, e);
		words_add(&w->words, ids[i]);
		words_add(&w->words, "ok");
		words_add_bytes(&w->words, l->result, l->result_bytes);
		words_add_number(&w->words, l->deliveries);
	}
	return script_call(&script_list_publish, &w->command, &w->words);
}

/* A script with two keys and the messages of a group. 1 for each that is this worker's still. */
static bool ask_each(struct worker *w, struct script *s, const char *what, const struct group *g,
		     const char *first, const char *second, uint8_t *settled)
{
	redisReply *reply;
	bool failed;

	if (!script_begin(s, &w->command, &w->words, 2)) {
		worker_refused(w, what, NULL);
		return false;
	}
	words_add(&w->words, first);
	words_add(&w->words, second);
	for (uint32_t i = 0; i < g->count; i++)
		add_payload(w, element_of(w, g->leases[i]));
	reply = script_call(s, &w->command, &w->words);
	if (!outcome_answer(w, reply, what, g->count, settled, &failed))
		return false;
	freeReplyObject(reply);
	return true;
}

/* Plain: the results are in Redis, so their messages leave the own list. */
static bool remove_written(struct worker *w, const struct group *g, const uint8_t *settled)
{
	struct group written = { .count = 0 };
	uint8_t removed[GROUP_MOST];

	for (uint32_t i = 0; i < g->count; i++) {
		if (settled[i] == SETTLED_DONE)
			written.leases[written.count++] = g->leases[i];
	}
	return ask_each(w, &script_list_remove, "acknowledging", &written, w->list->own,
			w->list->counts, removed);
}

bool list_publish(struct worker *w, const struct group *g)
{
	static const char *const hows[] = { "write", "atomic", "fenced" };
	const char *how = w->list->simple ? "write" : hows[w->options->ack];
	uint8_t settled[GROUP_MOST];
	redisReply *reply = call_publish(w, g, how);
	bool failed;

	if (!outcome_answer(w, reply, "results", g->count, settled, &failed))
		return false;
	if (!w->list->simple && w->options->ack == ACK_PLAIN && !remove_written(w, g, settled)) {
		freeReplyObject(reply);
		return false;
	}
	return outcome_end(w, g, settled, failed, reply);
}

/* ---- once more ------------------------------------------------------------------------------- */

bool list_rest(struct worker *w, const struct group *g)
{
	const uint64_t now = now_ms();
	uint8_t settled[GROUP_MOST];

	memset(settled, SETTLED_DONE, sizeof(settled));
	if (!w->list->simple &&
	    !ask_each(w, &script_list_retry, "retries", g, w->list->own, w->list->counts, settled))
		return false;
	for (uint32_t i = 0; i < g->count; i++) {
		struct lease *l = &w->book.leases[g->leases[i]];

		if (settled[i] == SETTLED_LOST) {
			w->totals.lost++;
			continue;
		}
		settled[i] = SETTLED_REST;
		q_release(w->queue, l->msg_id);
		l->since_ms = now + backoff_retry_ms(l->deliveries, (uint32_t)w->options->lease_ms);
		book_set(&w->book, g->leases[i], LEASE_RESTING, now);
		if (l->since_ms < w->list->rest_until_ms)
			w->list->rest_until_ms = l->since_ms;
		w->totals.retried++;
	}
	outcome_close(w, g, settled);
	return true;
}

bool list_return(struct worker *w, const struct group *g)
{
	uint8_t settled[GROUP_MOST];

	if (w->list->simple) {
		for (uint32_t i = 0; i < g->count; i++) {
			redisReply *reply;

			words_clear(&w->words);
			words_add(&w->words, "RPUSH");
			words_add(&w->words, w->options->place.stream);
			add_payload(w, element_of(w, g->leases[i]));
			reply = link_call(&w->command, &w->words);
			if (!reply || reply->type != REDIS_REPLY_INTEGER) {
				worker_refused(w, "RPUSH", reply);
				return false;
			}
			freeReplyObject(reply);
		}
		memset(settled, SETTLED_DONE, sizeof(settled));
	} else if (!ask_each(w, &script_list_return, "handing back", g, w->options->place.stream,
			     w->list->own, settled)) {
		return false;
	}
	w->totals.handed_back += g->count;
	outcome_close(w, g, settled);
	return true;
}

/* ---- dead letters ---------------------------------------------------------------------------- */

static bool bury(struct worker *w, const struct element *e, uint32_t deliveries, uint64_t first_ms,
		 const char *reason, const char *error)
{
	char id[DIGEST_TEXT];
	uint8_t settled;
	redisReply *reply;
	bool failed;

	if (!script_begin(&script_list_bury, &w->command, &w->words, 3)) {
		worker_refused(w, "the dead letters' script", NULL);
		return false;
	}
	digest_text(e->digest, id);
	words_add(&w->words, w->list->own);
	words_add(&w->words, w->options->dead);
	words_add(&w->words, w->list->counts);
	words_add(&w->words, w->memory->consumer);
	words_add_number(&w->words, DEAD_MOST);
	words_add_number(&w->words, wall_ms());
	words_add(&w->words, w->list->simple ? "write" : "fenced");
	add_payload(w, e);
	words_add(&w->words, id);
	words_add(&w->words, reason);
	words_add(&w->words, error);
	words_add_number(&w->words, deliveries);
	words_add_number(&w->words, first_ms);
	reply = script_call(&script_list_bury, &w->command, &w->words);
	if (!outcome_answer(w, reply, "dead letters", 1, &settled, &failed))
		return false;
	freeReplyObject(reply);
	w->totals.dead += settled == 1;
	w->totals.lost += settled == 0;
	return true;
}

bool list_bury_element(struct worker *w, const struct element *e, const char *reason,
		       const char *error)
{
	const bool ran = strcmp(reason, "too_large") != 0;

	return bury(w, e, ran ? e->deliveries : e->deliveries + 1, wall_ms(), reason, error);
}

bool list_bury(struct worker *w, const struct stream_id *ids, const uint32_t *deliveries,
	       uint32_t count, const char *reason, const char *error)
{
	bool ok = true;

	for (uint32_t i = 0; i < count && ok; i++) {
		const uint32_t lease = book_find(&w->book, ids[i]);
		struct element e;

		if (lease != BOOK_NONE) {
			const uint64_t age = now_ms() - w->book.leases[lease].since_ms;

			ok = bury(w, element_of(w, lease), deliveries[i], wall_ms() - age, reason,
				  error);
		} else if (elements_take(&w->list->aside, ids[i], &e)) {
			/* of one that killed the program before this one */
			ok = list_count(w, &e, 1) &&
			     bury(w, &e, e.deliveries > 0 ? e.deliveries : 1, wall_ms(), reason,
				  error);
			freeReplyObject(e.reply);
		}
	}
	return ok;
}
