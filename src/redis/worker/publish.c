/* SPDX-License-Identifier: Apache-2.0 */
/* publish.c - results on their way to Redis, and the acknowledgements behind them. */
#include "outcome.h"

#include "redis/policy/refusal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Nobody waits for an answer. What finishes while a group is under way gathers, and is the next
 * one: so a group is small when Redis is fast and messages are few, and full when they are many. A
 * second group goes as soon as it is full, so that Redis always has something to do.
 *
 * One thread sends and takes. The server answers in the order of the commands, and each group that
 * is under way owes the answers of one stage; `order` has the groups in the order of these. A lease
 * is in w->finished, or in one group that is under way, and DONE in the book in both cases: so it
 * is renewed, and a look at the pending entries knows it. When the connection is lost its groups go
 * back into w->finished, whatever became of them: a script finds out which entries are pending
 * still, and --ack plain may write a result twice.
 */

#define UNDER_WAY 2u

enum stage {
	STAGE_RESULTS, /* plain: an answer for each result */
	STAGE_ACK,     /* plain: one, to XACK */
	STAGE_SCRIPT,  /* one, for results and acknowledgements */
};

struct sent {
	struct group group;
	uint8_t settled[GROUP_MOST];
	enum stage stage;
	uint32_t answered; /* of the stage's answers */
	redisReply *bad;   /* the first of them that was an error; NULL: none */
};

struct publishing {
	struct sent sent[UNDER_WAY];
	struct sent *order[UNDER_WAY]; /* those under way; whose answer comes next is the first */
	uint32_t count;
	uint64_t deadline_ms; /* when an answer must have come */
};

/* What is neither 0 nor 1 is not settled. */
enum { UNSETTLED = 2, ASKED = 3 };

bool publish_init(struct worker *w)
{
	w->publishing = calloc(1, sizeof(*w->publishing));
	return w->publishing != NULL;
}

void publish_free(struct worker *w)
{
	free(w->publishing);
	w->publishing = NULL;
}

bool publish_under_way(const struct worker *w)
{
	return w->publishing->count > 0;
}

uint64_t publish_deadline_ms(const struct worker *w)
{
	/* what has been read while another answer was waited for is taken at once */
	return w->command.early > 0 ? 0 : w->publishing->deadline_ms;
}

/* ---- which are under way --------------------------------------------------------------------- */

/* There is one: fewer than UNDER_WAY are under way. */
static struct sent *free_one(struct publishing *p)
{
	return p->count == 1 && p->order[0] == &p->sent[0] ? &p->sent[1] : &p->sent[0];
}

static void push(struct worker *w, struct sent *s, enum stage stage)
{
	struct publishing *p = w->publishing;

	s->stage = stage;
	s->answered = 0;
	p->order[p->count++] = s;
	p->deadline_ms = now_ms() + LINK_REPLY_MS;
}

static struct sent *pop(struct publishing *p)
{
	struct sent *s = p->order[0];

	p->count--;
	for (uint32_t i = 0; i < p->count; i++)
		p->order[i] = p->order[i + 1];
	return s;
}

/* All of them settled as `settled` says; those that are not go with the next group. */
static void close_one(struct worker *w, const struct sent *s)
{
	outcome_put_back(w, &s->group);
	outcome_published(w, &s->group, s->settled);
	outcome_close(w, &s->group, s->settled);
}

void publish_lost(struct worker *w)
{
	struct publishing *p = w->publishing;

	while (p->count > 0) { /* the first ones end up first */
		struct sent *s = p->order[--p->count];

		if (s->bad)
			freeReplyObject(s->bad);
		s->bad = NULL;
		outcome_put_back(w, &s->group);
	}
}

static bool is_ask(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "ASK ", 4) == 0;
}

/* ---- by script ------------------------------------------------------------------------------- */

static bool by_script(const struct worker *w)
{
	const struct worker_options *o = w->options;

	return o->ack != ACK_PLAIN || o->results.kind == RESULTS_LIST || o->result_ttl_s != 0;
}

static bool script_words(struct worker *w, const struct group *g)
{
	const struct worker_options *o = w->options;

	if (!script_begin(&script_publish, &w->command, &w->words, 2)) {
		worker_refused(w, "the results' script", NULL);
		return false;
	}
	words_add(&w->words, o->place.stream);
	words_add(&w->words, o->results.key);
	words_add(&w->words, o->group);
	words_add(&w->words, w->memory->consumer);
	words_add(&w->words, results_kind_names[o->results.kind]);
	words_add_number(&w->words, o->result_ttl_s);
	words_add(&w->words, o->ack == ACK_FENCED ? "1" : "0");
	for (uint32_t i = 0; i < g->count; i++) {
		const struct lease *l = &w->book.leases[g->leases[i]];

		words_add_id(&w->words, &l->id);
		words_add(&w->words, "ok");
		words_add_bytes(&w->words, l->result, l->result_bytes);
		words_add_number(&w->words, l->deliveries);
	}
	return true;
}

static void take_script(struct worker *w, struct sent *s, redisReply *reply)
{
	bool failed;

	/* the server has forgotten the script, or the slot is moving: once more, with patience */
	if (reply->type == REDIS_REPLY_ERROR &&
	    (refusal_of(reply->str) == REFUSAL_NO_SCRIPT || is_ask(reply))) {
		freeReplyObject(reply);
		if (!script_words(w, &s->group)) {
			outcome_put_back(w, &s->group);
			return;
		}
		reply = script_call(&script_publish, &w->command, &w->words);
	}
	outcome_put_back(w, &s->group);
	if (outcome_answer(w, reply, "results", s->group.count, s->settled, &failed) &&
	    outcome_end(w, &s->group, s->settled, failed, reply))
		worker_answered(w);
}

/* ---- plain: results first, acknowledgements when they are there ------------------------------ */

static void result_words(struct worker *w, const struct lease *l, char *key, size_t key_bytes)
{
	const struct results_place *r = &w->options->results;
	char id[STREAM_ID_TEXT];

	words_clear(&w->words);
	if (r->kind == RESULTS_STREAM) {
		words_add(&w->words, "XADD");
		words_add(&w->words, r->key);
		words_add(&w->words, "*");
	} else {
		stream_id_format(l->id, id);
		snprintf(key, key_bytes, "%s%s", r->key, id);
		words_add(&w->words, "HSET");
		words_add(&w->words, key);
	}
	words_add(&w->words, "id");
	words_add_id(&w->words, &l->id);
	words_add(&w->words, "status");
	words_add(&w->words, "ok");
	words_add(&w->words, "result");
	words_add_bytes(&w->words, l->result, l->result_bytes);
	words_add(&w->words, "consumer");
	words_add(&w->words, w->memory->consumer);
	words_add(&w->words, "deliveries");
	words_add_number(&w->words, l->deliveries);
}

/* False: none of them is. */
static bool ack_words(struct worker *w, const struct sent *s)
{
	bool any = false;

	words_clear(&w->words);
	words_add(&w->words, "XACK");
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, w->options->group);
	for (uint32_t i = 0; i < s->group.count; i++) {
		if (s->settled[i] != SETTLED_DONE)
			continue;
		words_add_id(&w->words, &w->book.leases[s->group.leases[i]].id);
		any = true;
	}
	return any;
}

/* The results are there, as far as `settled` says. */
static void acknowledge(struct worker *w, struct sent *s)
{
	if (!worker_connected(w) || !ack_words(w, s)) {
		outcome_put_back(w, &s->group);
	} else if (link_later(&w->command, &w->words)) {
		push(w, s, STAGE_ACK);
	} else {
		outcome_put_back(w, &s->group);
		worker_refused(w, "XACK", NULL);
	}
}

static void take_ack(struct worker *w, struct sent *s, redisReply *reply)
{
	if (is_ask(reply)) {
		freeReplyObject(reply);
		ack_words(w, s);
		reply = link_call(&w->command, &w->words);
	}
	if (!reply || reply->type != REDIS_REPLY_INTEGER) {
		outcome_put_back(w, &s->group);
		worker_refused(w, "XACK", reply);
		return;
	}
	freeReplyObject(reply);
	close_one(w, s);
	worker_answered(w);
}

/*
 * Those that another server of a cluster wants go once more, each by itself: link_call() goes where
 * an ASK leads to. *bad is the first error reply of another kind. False: no connection.
 */
static bool write_asked(struct worker *w, struct sent *s, redisReply **bad)
{
	char key[512];

	for (uint32_t i = 0; i < s->group.count && !*bad; i++) {
		redisReply *reply;

		if (s->settled[i] != ASKED)
			continue;
		result_words(w, &w->book.leases[s->group.leases[i]], key, sizeof(key));
		reply = link_call(&w->command, &w->words);
		if (!reply)
			return false;
		s->settled[i] = reply->type == REDIS_REPLY_ERROR ? UNSETTLED : SETTLED_DONE;
		if (reply->type == REDIS_REPLY_ERROR)
			*bad = reply;
		else
			freeReplyObject(reply);
	}
	for (uint32_t i = 0; i < s->group.count; i++) {
		if (s->settled[i] == ASKED)
			s->settled[i] = UNSETTLED;
	}
	return true;
}

/* One answer of many. The first error, but for ASK, is kept, and told when all have come. */
static void take_result(struct sent *s, redisReply *reply)
{
	const bool refused = reply->type == REDIS_REPLY_ERROR;
	const bool asked = is_ask(reply);

	s->settled[s->answered++] = asked ? ASKED : refused ? UNSETTLED : SETTLED_DONE;
	if (refused && !asked && !s->bad) {
		s->bad = reply;
		return;
	}
	freeReplyObject(reply);
}

static void results_over(struct worker *w, struct sent *s)
{
	redisReply *bad = s->bad;

	s->bad = NULL;
	if (!write_asked(w, s, &bad)) {
		outcome_put_back(w, &s->group);
		worker_refused(w, "results", NULL);
		return;
	}
	if (bad)
		worker_refused(w, "results", bad);
	acknowledge(w, s);
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool send_results(struct worker *w, struct sent *s)
{
	char key[512];

	for (uint32_t i = 0; i < s->group.count; i++) {
		result_words(w, &w->book.leases[s->group.leases[i]], key, sizeof(key));
		if (!link_later(&w->command, &w->words))
			return false;
	}
	return true;
}

/* False: no connection; the group has not gone. */
static bool send_group(struct worker *w, struct sent *s)
{
	bool ok;

	if (by_script(w)) {
		if (!script_words(w, &s->group))
			return false;
		ok = link_later(&w->command, &w->words);
		if (ok)
			push(w, s, STAGE_SCRIPT);
	} else if (w->options->results.kind == RESULTS_NONE) {
		memset(s->settled, SETTLED_DONE, s->group.count);
		ack_words(w, s);
		ok = link_later(&w->command, &w->words);
		if (ok)
			push(w, s, STAGE_ACK);
	} else {
		ok = send_results(w, s);
		if (ok)
			push(w, s, STAGE_RESULTS);
	}
	if (!ok)
		worker_refused(w, "results", NULL);
	return ok;
}

void publish_send(struct worker *w)
{
	struct publishing *p = w->publishing;

	while (p->count < UNDER_WAY && w->publishable >= (p->count > 0 ? GROUP_MOST : 1) &&
	       worker_may_ask(w)) {
		struct sent *s = free_one(p);

		outcome_choose(w, &s->group);
		if (!send_group(w, s))
			return;
		outcome_lift(w, &s->group);
	}
	if (p->count > 0 && worker_connected(w) && !link_push(&w->command))
		worker_refused(w, "results", NULL);
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* One answer, which the first one owes. */
static void take(struct worker *w, redisReply *reply)
{
	struct publishing *p = w->publishing;
	struct sent *s = p->order[0];

	p->deadline_ms = now_ms() + LINK_REPLY_MS;
	switch (s->stage) {
	case STAGE_RESULTS:
		take_result(s, reply);
		if (s->answered == s->group.count)
			results_over(w, pop(p));
		break;
	case STAGE_ACK:
		take_ack(w, pop(p), reply);
		break;
	case STAGE_SCRIPT:
		take_script(w, pop(p), reply);
		break;
	}
}

void publish_take(struct worker *w, bool readable)
{
	struct publishing *p = w->publishing;

	if (readable && p->count > 0)
		link_receive(&w->command);
	while (p->count > 0) {
		redisReply *reply = link_take(&w->command);

		if (reply) {
			take(w, reply);
			continue;
		}
		if (!w->command.context || now_ms() >= p->deadline_ms) {
			if (w->command.context)
				snprintf(w->command.error, sizeof(w->command.error),
					 "the server did not answer in time");
			link_close(&w->command);
			worker_refused(w, "results", NULL);
		}
		return;
	}
}

void publish_flush(struct worker *w)
{
	publish_finish(w);
	while (w->publishable > 0 && worker_may_ask(w)) {
		publish_send(w);
		publish_finish(w);
	}
}

void publish_finish(struct worker *w)
{
	while (publish_under_way(w)) {
		link_push(&w->command);
		link_await(&w->command);
		publish_take(w, false);
	}
}
