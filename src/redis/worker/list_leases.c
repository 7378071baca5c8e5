/* SPDX-License-Identifier: Apache-2.0 */
/* list_leases.c - the worker's own list: kept alive, looked into, given back; those of the dead. */
#define _GNU_SOURCE
#include "list_scripts.h"
#include "worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_MS 3600000u /* how long the name of a dead worker is kept after its last message */

/* ---- being alive ----------------------------------------------------------------------------- */

static bool say_alive(struct worker *w)
{
	redisReply *reply;
	char ms[24];

	snprintf(ms, sizeof(ms), "%" PRIu64, w->options->lease_ms);
	reply = link_say(&w->command, "SET", w->list->alive, "1", "PX", ms, NULL);
	if (!reply || reply->type == REDIS_REPLY_ERROR) {
		worker_refused(w, "SET", reply);
		return false;
	}
	freeReplyObject(reply);
	return true;
}

bool list_register(struct worker *w)
{
	struct list *l = w->list;
	redisReply *reply;

	l->filled = false;
	if (l->refusal)
		freeReplyObject(l->refusal);
	l->refusal = NULL;
	if (l->simple) { /* what has come of a read that broke off lies aside */
		while (l->incoming.count > 0)
			elements_push(&l->aside, l->incoming.at[--l->incoming.count]);
		w->replayed = true;
		return true;
	}
	/* what was being read lies in the own list, if Redis has moved it */
	elements_clear(&l->incoming);
	w->replayed = false;
	if (!say_alive(w))
		return false;
	reply = link_say(&w->command, "ZADD", l->workers, "0", w->memory->consumer, NULL);
	if (!reply || reply->type != REDIS_REPLY_INTEGER) {
		worker_refused(w, "ZADD", reply);
		return false;
	}
	freeReplyObject(reply);
	return true;
}

void list_renew(struct worker *w)
{
	const uint64_t now = now_ms();

	/* a worker that gets nothing done keeps nothing from others */
	if (w->list->simple || now < w->renew_at_ms || !worker_may_ask(w) ||
	    book_stalled(&w->book, w->options->lease_ms, now))
		return;
	w->renew_at_ms = now + w->options->lease_ms / 3;
	say_alive(w);
}

/* ---- the own list ---------------------------------------------------------------------------- */

static redisReply *own_list(struct worker *w, bool count)
{
	if (!count)
		return link_say(&w->command, "LRANGE", w->list->own, "0", "-1", NULL);
	if (!script_begin(&script_list_again, &w->command, &w->words, 2))
		return NULL;
	words_add(&w->words, w->list->own);
	words_add(&w->words, w->list->counts);
	return script_call(&script_list_again, &w->command, &w->words);
}

/*
 * At the start: what an earlier life had. After a loss of the connection: what Redis had moved when
 * nobody could hear it. All that is not in the book lies aside.
 */
void list_replay(struct worker *w)
{
	struct list *l = w->list;
	redisReply *reply;
	uint64_t *held;
	uint32_t count = 0;

	if (w->replayed || !worker_may_ask(w))
		return;
	held = calloc((size_t)w->book.capacity + 1, sizeof(held[0]));
	/* a program that started itself anew counts what runs alone, and nothing else */
	reply = held ? own_list(w, !l->begun && !w->restarted) : NULL;
	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		free(held);
		worker_refused(w, "the own list", reply);
		return;
	}
	for (uint32_t i = 0; i < w->book.capacity; i++) {
		if (w->book.leases[i].state != LEASE_FREE)
			held[count++] = w->book.leases[i].id.ms;
	}
	elements_clear(&l->aside);
	w->replayed = elements_unknown(reply, held, count, &l->aside);
	l->begun = true;
	free(held);
	freeReplyObject(reply);
}

bool list_count(struct worker *w, struct element *elements, uint32_t count)
{
	redisReply *reply;

	for (uint32_t at = 0; at < count; at += 256) {
		const uint32_t n = count - at < 256 ? count - at : 256;

		words_clear(&w->words);
		words_add(&w->words, "HMGET");
		words_add(&w->words, w->list->counts);
		for (uint32_t i = at; i < at + n; i++)
			words_add_bytes(&w->words, elements[i].reply->str, elements[i].reply->len);
		reply = link_call(&w->command, &w->words);
		if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != n) {
			worker_refused(w, "HMGET", reply);
			return false;
		}
		for (uint32_t i = 0; i < n; i++) {
			const redisReply *r = reply->element[i];

			elements[at + i].deliveries = r->type == REDIS_REPLY_STRING
							      ? (uint32_t)strtoul(r->str, NULL, 10)
							      : 0;
		}
		freeReplyObject(reply);
	}
	return true;
}

bool list_count_delivery(struct worker *w, const struct element *e)
{
	redisReply *reply;

	if (!script_begin(&script_list_retry, &w->command, &w->words, 2)) {
		worker_refused(w, "the retries' script", NULL);
		return false;
	}
	words_add(&w->words, w->list->own);
	words_add(&w->words, w->list->counts);
	words_add_bytes(&w->words, e->reply->str, e->reply->len);
	reply = script_call(&script_list_retry, &w->command, &w->words);
	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		worker_refused(w, "retries", reply);
		return false;
	}
	freeReplyObject(reply);
	return true;
}

/* ---- those of the dead ----------------------------------------------------------------------- */

/* Script and keys for what another worker, or this one, has. */
static bool begin_moving(struct worker *w, struct script *s, const char *own, const char *alive)
{
	if (!script_begin(s, &w->command, &w->words, 5)) {
		worker_refused(w, "the leases' script", NULL);
		return false;
	}
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, own);
	words_add(&w->words, alive);
	words_add(&w->words, w->list->workers);
	words_add(&w->words, w->list->counts);
	return true;
}

static bool recover(struct worker *w, const char *name)
{
	char *own = joined3(w->options->place.stream, ":proc:", name);
	char *alive = joined3(w->options->place.stream, ":alive:", name);
	redisReply *reply = NULL;
	bool ok;

	if (own && alive && begin_moving(w, &script_list_recover, own, alive)) {
		words_add(&w->words, name);
		words_add_number(&w->words, wall_ms());
		words_add_number(&w->words, GRACE_MS);
		reply = script_call(&script_list_recover, &w->command, &w->words);
	}
	free(own);
	free(alive);
	ok = reply && reply->type == REDIS_REPLY_INTEGER;
	if (!ok) {
		worker_refused(w, "recovering", reply);
		return false;
	}
	if (reply->integer > 0)
		w->totals.reclaimed += (uint64_t)reply->integer;
	freeReplyObject(reply);
	return true;
}

/* The names of all workers; NULL: Redis did not answer. */
static redisReply *all_workers(struct worker *w)
{
	redisReply *reply = link_say(&w->command, "ZRANGE", w->list->workers, "0", "-1", NULL);

	if (reply && reply->type == REDIS_REPLY_ARRAY)
		return reply;
	worker_refused(w, "ZRANGE", reply);
	return NULL;
}

void list_reclaim(struct worker *w)
{
	redisReply *names;

	if (w->list->simple || now_ms() < w->reclaim_at_ms || w->draining || !w->replayed ||
	    poison_searching(w) || !worker_may_ask(w))
		return;
	leases_next_reclaim(w);
	names = all_workers(w);
	if (!names)
		return;
	for (size_t i = 0; i < names->elements; i++) {
		const redisReply *name = names->element[i];
		char *alive;
		redisReply *reply;
		bool lives;

		if (name->type != REDIS_REPLY_STRING || strcmp(name->str, w->memory->consumer) == 0)
			continue;
		alive = joined3(w->options->place.stream, ":alive:", name->str);
		reply = alive ? link_say(&w->command, "EXISTS", alive, NULL) : NULL;
		free(alive);
		lives = reply && reply->type == REDIS_REPLY_INTEGER && reply->integer == 1;
		if (reply)
			freeReplyObject(reply);
		if (!lives && !recover(w, name->str))
			break;
	}
	freeReplyObject(names);
}

uint64_t list_pending(struct worker *w)
{
	redisReply *names = w->list->simple ? NULL : all_workers(w);
	uint64_t sum = 0;

	if (!names && !w->list->simple)
		return UINT64_MAX;
	for (size_t i = 0; i < (names ? names->elements : 0) + 1; i++) {
		const bool list = !names || i == names->elements;
		char *key =
			list ? joined(w->options->place.stream, "")
			     : joined3(w->options->place.stream, ":proc:", names->element[i]->str);
		redisReply *reply = key ? link_say(&w->command, "LLEN", key, NULL) : NULL;

		free(key);
		if (!reply || reply->type != REDIS_REPLY_INTEGER) {
			worker_refused(w, "LLEN", reply);
			sum = UINT64_MAX;
			break;
		}
		sum += (uint64_t)reply->integer;
		freeReplyObject(reply);
	}
	if (names)
		freeReplyObject(names);
	return sum;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Nothing is in Redis of what this worker has, so all that has no result goes back. */
static void push_back(struct worker *w)
{
	struct list *l = w->list;

	for (uint32_t i = 0; i < w->book.capacity; i++) {
		if (l->held[i].reply && elements_push(&l->aside, l->held[i]))
			l->held[i].reply = NULL;
	}
	for (uint32_t i = 0; i < l->incoming.count; i++)
		elements_push(&l->aside, l->incoming.at[i]);
	l->incoming.count = 0;
	for (uint32_t i = 0; i < l->aside.count; i++) {
		redisReply *reply;

		words_clear(&w->words);
		words_add(&w->words, "RPUSH");
		words_add(&w->words, w->options->place.stream);
		words_add_bytes(&w->words, l->aside.at[i].reply->str, l->aside.at[i].reply->len);
		reply = link_call(&w->command, &w->words);
		w->totals.handed_back += reply && reply->type == REDIS_REPLY_INTEGER;
		if (reply)
			freeReplyObject(reply);
	}
}

void list_hand_back(struct worker *w)
{
	struct list *l = w->list;
	uint32_t ran = 0;
	redisReply *reply;

	if (l->simple) {
		push_back(w);
		return;
	}
	if (!begin_moving(w, &script_list_leave, l->own, l->alive))
		return;
	words_add(&w->words, w->memory->consumer);
	for (uint32_t i = 0; i < w->book.capacity && ran < 1000; i++) {
		if (w->book.leases[i].state != LEASE_RUNNING)
			continue;
		words_add_bytes(&w->words, l->held[i].reply->str, l->held[i].reply->len);
		ran++;
	}
	reply = script_call(&script_list_leave, &w->command, &w->words);
	if (!reply || reply->type != REDIS_REPLY_INTEGER) {
		worker_refused(w, "handing back", reply);
		return;
	}
	w->totals.handed_back += (uint64_t)reply->integer;
	freeReplyObject(reply);
}
