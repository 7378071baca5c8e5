/* SPDX-License-Identifier: Apache-2.0 */
/* list.c - reads messages from a list: into a list of the worker's own, or just out of it. */
#define _GNU_SOURCE
#include "list.h"

#include "crew.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNBLOCK_MS 50

/* ---- setting up ------------------------------------------------------------------------------ */

bool list_init(struct worker *w)
{
	const char *stream = w->options->place.stream;
	struct list *l = calloc(1, sizeof(*l));

	if (!l)
		return false;
	w->list = l;
	l->simple = w->options->mode == MODE_LIST_SIMPLE;
	l->own = joined3(stream, ":proc:", w->memory->consumer);
	l->alive = joined3(stream, ":alive:", w->memory->consumer);
	l->workers = joined(stream, ":workers");
	l->counts = joined(stream, ":deliveries");
	l->held = calloc(w->book.capacity, sizeof(l->held[0]));
	l->rest_until_ms = UINT64_MAX;
	return l->own && l->alive && l->workers && l->counts && l->held;
}

void list_free(struct worker *w)
{
	struct list *l = w->list;

	if (!l)
		return;
	for (uint32_t i = 0; l->held && i < w->book.capacity; i++)
		list_forget(w, i);
	elements_clear(&l->incoming);
	elements_clear(&l->aside);
	if (l->refusal)
		freeReplyObject(l->refusal);
	free(l->held);
	free(l->own);
	free(l->alive);
	free(l->workers);
	free(l->counts);
	free(l);
	w->list = NULL;
}

void list_forget(struct worker *w, uint32_t lease)
{
	if (w->list->held[lease].reply)
		freeReplyObject(w->list->held[lease].reply);
	w->list->held[lease].reply = NULL;
}

/* ---- into the book --------------------------------------------------------------------------- */

/* The element's bytes belong to its lease from now on. */
static void stage(struct worker *w, const struct element *e, struct stream_id id)
{
	struct list *l = w->list;
	const struct entry entry = {
		.id = id,
		.payload = e->reply->str,
		.payload_bytes = e->reply->len,
	};
	char text[160];

	if (e->reply->len > w->options->slot_bytes) {
		snprintf(text, sizeof(text), "the payload has %zu bytes, slots have %" PRIu32,
			 e->reply->len, w->options->slot_bytes);
		if (list_bury_element(w, e, "too_large", text))
			freeReplyObject(e->reply);
		else
			elements_push(&l->aside, *e); /* again, when Redis is back */
		return;
	}
	if (!intake_stage(w, &entry, e->deliveries + 1)) {
		elements_push(&l->aside, *e); /* no room; it comes when there is */
		return;
	}
	l->held[w->staged[w->batch.count - 1]] = *e;
}

/*
 * A message whose every delivery ended without a word is a dead letter after the last one. For that
 * one it runs alone. Returns whether it is one of these; then it is no longer the caller's.
 */
static bool is_suspect(struct worker *w, const struct element *e)
{
	const uint32_t most = w->options->max_deliveries;
	const struct stream_id id = element_id(e, ++w->list->ordinal);

	if (e->deliveries == 0 || e->deliveries + 1 < most)
		return false;
	if (e->deliveries >= most) {
		if (list_bury_element(w, e, "poison", "every delivery ended without an answer"))
			freeReplyObject(e->reply);
		else
			elements_push(&w->list->aside, *e);
		return true;
	}
	if (!search_push(&w->memory->search, w->memory->list, &id, 1))
		return false;
	elements_push(&w->list->aside, *e);
	return true;
}

/* Messages that have been read go into the batch, or aside while Redis cannot be asked. */
static void admit(struct worker *w, struct elements *list)
{
	struct list *l = w->list;
	const bool known = !l->counted || list_count(w, list->at, list->count);

	for (uint32_t i = 0; i < list->count; i++) {
		struct element *e = &list->at[i];

		if (!known || poison_searching(w))
			elements_push(&l->aside, *e);
		else if (!is_suspect(w, e))
			stage(w, e, element_id(e, ++l->ordinal));
	}
	list->count = 0;
}

static void come_back(struct worker *w)
{
	const uint64_t now = now_ms();
	uint64_t next = UINT64_MAX;

	if (now < w->list->rest_until_ms)
		return;
	for (uint32_t i = 0; i < w->book.capacity; i++) {
		struct lease *lease = &w->book.leases[i];

		if (lease->state != LEASE_RESTING)
			continue;
		if (lease->since_ms > now) {
			next = lease->since_ms < next ? lease->since_ms : next;
			continue;
		}
		lease->payload = w->list->held[i].reply->str;
		lease->payload_bytes = w->list->held[i].reply->len;
		lease->since_ms = now;
		lease->deliveries++;
		book_set(&w->book, i, LEASE_STAGED, now);
		w->totals.redelivered++;
		w->staged[w->batch.count] = i;
		batch_add(&w->batch, 1, clock_ns() / 1000u);
	}
	w->list->rest_until_ms = next;
}

void list_step(struct worker *w)
{
	struct list *l = w->list;
	struct elements some = { .count = 0 };
	uint32_t room;

	come_back(w);
	if (l->aside.count == 0 || poison_searching(w) || !worker_may_ask(w))
		return;
	/* of the next batch only: what is staged takes its place in the book */
	room = batch_want(&w->batch, book_room(&w->book));
	while (room-- > 0 && l->aside.count > 0)
		elements_push(&some, l->aside.at[--l->aside.count]);
	l->counted = true;
	admit(w, &some);
	elements_clear(&some);
}

bool list_fetch(struct worker *w, struct stream_id id, bool alone)
{
	struct element e;

	if (!elements_take(&w->list->aside, id, &e)) { /* somebody else's by now, or done */
		search_clear(&w->memory->search, w->memory->list, id);
		return true;
	}
	if (!list_count(w, &e, 1) || (alone && !list_count_delivery(w, &e))) {
		elements_push(&w->list->aside, e);
		return false;
	}
	stage(w, &e, id);
	if (book_find(&w->book, id) == BOOK_NONE)
		search_clear(&w->memory->search, w->memory->list, id);
	return true;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* The worker is known before anything can be in its list, whatever happens to it afterwards. */
static bool say_who(struct worker *w)
{
	words_clear(&w->words);
	words_add(&w->words, "ZADD");
	words_add(&w->words, w->list->workers);
	words_add(&w->words, "0");
	words_add(&w->words, w->memory->consumer);
	return link_append(&w->reader, &w->words);
}

static bool ask_for_length(struct worker *w, const char *command, const char *key)
{
	words_clear(&w->words);
	words_add(&w->words, command);
	words_add(&w->words, key);
	return link_append(&w->reader, &w->words);
}

static bool move_one(struct worker *w, const char *timeout)
{
	words_clear(&w->words);
	words_add(&w->words, timeout ? "BLMOVE" : "LMOVE");
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, w->list->own);
	words_add(&w->words, "RIGHT");
	words_add(&w->words, "LEFT");
	if (timeout)
		words_add(&w->words, timeout);
	return link_append(&w->reader, &w->words);
}

/* The reply that is the answer to one of several commands comes as `list->reply` counts. */
static bool ask_kept(struct worker *w, const char *timeout, uint32_t want)
{
	struct list *l = w->list;

	l->blocking = timeout != NULL;
	l->asked = want;
	if (!say_who(w))
		return false;
	for (uint32_t i = 0; i < (timeout ? 1 : want); i++) {
		if (!move_one(w, timeout))
			return false;
	}
	l->expected = (timeout ? 1 : want) + 3;
	return ask_for_length(w, "LLEN", w->options->place.stream) &&
	       ask_for_length(w, "EXISTS", l->counts);
}

/* RPOP of several, which Redis has since 6.2, does what LMPOP does since 7.0. */
static bool ask_simply(struct worker *w, const char *timeout, uint32_t want)
{
	w->list->blocking = true;
	w->list->asked = want;
	w->list->expected = want > 1 ? 3 : 2;
	words_clear(&w->words);
	words_add(&w->words, "BRPOP");
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, timeout);
	if (!link_append(&w->reader, &w->words))
		return false;
	if (want > 1) {
		words_clear(&w->words);
		words_add(&w->words, "RPOP");
		words_add(&w->words, w->options->place.stream);
		words_add_number(&w->words, want - 1);
		if (!link_append(&w->reader, &w->words))
			return false;
	}
	return ask_for_length(w, "LLEN", w->options->place.stream);
}

static void send_read(struct worker *w, bool blocking, uint32_t want)
{
	const uint64_t block = intake_block_ms(w);
	struct list *l = w->list;
	char timeout[32];
	bool ok;

	snprintf(timeout, sizeof(timeout), "%" PRIu64 ".%03" PRIu64, block / 1000, block % 1000);
	l->reply = 0;
	l->behind = 0;
	if (l->simple)
		ok = ask_simply(w, timeout, want);
	else
		ok = ask_kept(w, blocking ? timeout : NULL, want);
	intake_send(w, ok, blocking || l->simple ? block : 0);
}

void list_ask(struct worker *w)
{
	struct list *l = w->list;
	const uint32_t want = intake_wanted(w);

	if (w->reading || w->draining || !w->replayed || want == 0 || l->aside.count > 0 ||
	    poison_searching(w) || !worker_may_ask(w))
		return;
	l->got = 0;
	send_read(w, !l->filled, want);
}

/* ---- taking ---------------------------------------------------------------------------------- */

static void take_one(struct worker *w, redisReply *reply)
{
	struct element e = { .reply = reply };

	element_digest(&e);
	elements_push(&w->list->incoming, e);
	w->list->got++;
}

/* One message, or nothing; or, of BRPOP and RPOP, an array of them. */
static void take_message(struct worker *w, redisReply *reply)
{
	const size_t first = w->list->simple && w->list->reply == 1 ? 1 : 0; /* behind the key */

	if (reply->type == REDIS_REPLY_STRING) {
		take_one(w, reply);
		return;
	}
	for (size_t i = first; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
		if (reply->element[i]->type != REDIS_REPLY_STRING)
			continue;
		take_one(w, reply->element[i]);
		reply->element[i] = NULL;
	}
	freeReplyObject(reply);
}

/* All replies of the read are here. It may have to go on: the first message is, the rest is not. */
static void read_over(struct worker *w)
{
	struct list *l = w->list;
	redisReply *refusal = l->refusal;
	const uint64_t rest = l->asked > 1 ? l->asked - 1 : 0;
	const uint64_t more = l->behind < rest ? l->behind : rest;

	l->refusal = NULL;
	w->reading = false;
	w->saw_nothing = l->incoming.count == 0 && !refusal;
	l->filled = !l->simple && l->behind > 0;
	if (refusal) {
		worker_refused(w, "reading", refusal);
	} else {
		worker_answered(w);
		if (l->blocking && !l->simple && l->got > 0 && more > 0 && !w->draining) {
			send_read(w, false, (uint32_t)more);
			return;
		}
	}
	watch_batch(&w->crew->watch, l->incoming.count);
	admit(w, &l->incoming);
}

/* Which of the read's replies this is, and what it says. */
static void take_reply(struct worker *w, redisReply *reply)
{
	struct list *l = w->list;
	const uint32_t at = l->reply++;
	const uint32_t messages = l->simple ? l->expected - 1 : l->expected - 3;
	const uint32_t first = l->simple ? 0 : 1;

	if (reply->type == REDIS_REPLY_ERROR && !l->refusal) {
		l->refusal = reply; /* the other replies are to come still */
		return;
	}
	if (at >= first && at < first + messages) {
		take_message(w, reply);
		return;
	}
	if (at == first + messages && reply->type == REDIS_REPLY_INTEGER)
		l->behind = (uint64_t)reply->integer;
	else if (at == first + messages + 1 && reply->type == REDIS_REPLY_INTEGER)
		l->counted = reply->integer != 0;
	freeReplyObject(reply);
}

void list_take(struct worker *w)
{
	struct list *l = w->list;

	if (!intake_receive(w))
		return;
	while (w->reading) {
		void *reply = NULL;

		if (redisGetReplyFromReader(w->reader.context, &reply) != REDIS_OK) {
			intake_lost(w, w->reader.context->errstr);
			return;
		}
		if (!reply)
			return;
		take_reply(w, reply);
		if (l->reply == l->expected)
			read_over(w);
	}
}

/* As intake_stop(), but what comes meanwhile is taken: it may be nowhere else. */
void list_stop(struct worker *w)
{
	char id[24];

	snprintf(id, sizeof(id), "%" PRIu64, w->reader_id);
	while (w->reading && worker_connected(w) && now_ms() < w->read_deadline_ms) {
		struct pollfd fd = { .fd = w->reader.context->fd, .events = POLLIN };
		redisReply *reply = link_say(&w->command, "CLIENT", "UNBLOCK", id, NULL);

		if (!reply)
			break;
		freeReplyObject(reply);
		if (poll(&fd, 1, UNBLOCK_MS) > 0)
			list_take(w);
	}
	link_close(&w->reader);
	w->reading = false;
}
