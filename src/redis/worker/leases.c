/* SPDX-License-Identifier: Apache-2.0 */
/* leases.c - pending entries: of an earlier life, of dead consumers, and one's own kept alive. */
#include "crew.h"

#include "redis/policy/backoff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 100u /* pending entries looked at in one go */

/* A line of XPENDING: [id, consumer, idle ms, deliveries]. */
struct pending {
	struct stream_id id;
	uint32_t deliveries;
};

static bool read_pending(const redisReply *line, struct pending *out)
{
	if (line->type != REDIS_REPLY_ARRAY || line->elements != 4 ||
	    line->element[0]->type != REDIS_REPLY_STRING ||
	    line->element[3]->type != REDIS_REPLY_INTEGER || line->element[3]->integer < 0 ||
	    line->element[3]->integer > UINT32_MAX)
		return false;
	out->deliveries = (uint32_t)line->element[3]->integer;
	return stream_id_parse(line->element[0]->str, line->element[0]->len, &out->id);
}

/*
 * A page of pending entries behind `*from`: all that are past the lease, or the consumer's own.
 * Returns their number; -1: none could be had. `*from` moves on, to 0-0 after the last page.
 */
static int pending_page(struct worker *w, bool own, struct stream_id *from, struct pending *page)
{
	const struct worker_options *o = w->options;
	char start[STREAM_ID_TEXT + 1] = "-";
	redisReply *reply;
	int count = 0;

	if (from->ms != 0 || from->seq != 0) {
		start[0] = '(';
		stream_id_format(*from, start + 1);
	}
	words_clear(&w->words);
	words_add(&w->words, "XPENDING");
	words_add(&w->words, o->place.stream);
	words_add(&w->words, o->group);
	if (!own) {
		words_add(&w->words, "IDLE");
		words_add_number(&w->words, o->lease_ms);
	}
	words_add(&w->words, start);
	words_add(&w->words, "+");
	words_add_number(&w->words, PAGE);
	if (own)
		words_add(&w->words, w->memory->consumer);
	reply = link_call(&w->command, &w->words);
	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		worker_refused(w, "XPENDING", reply);
		return -1;
	}
	for (size_t i = 0; i < reply->elements && i < PAGE; i++) {
		if (read_pending(reply->element[i], &page[count]))
			count++;
	}
	*from = count == (int)PAGE ? page[count - 1].id : (struct stream_id){ .ms = 0 };
	freeReplyObject(reply);
	return count;
}

/* ---- claiming -------------------------------------------------------------------------------- */

/* Begin XCLAIM; ids follow. */
static void begin_claim(struct worker *w, uint64_t min_idle_ms)
{
	words_clear(&w->words);
	words_add(&w->words, "XCLAIM");
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, w->options->group);
	words_add(&w->words, w->memory->consumer);
	words_add_number(&w->words, min_idle_ms);
}

static uint32_t deliveries_of(const struct pending *list, int count, struct stream_id id)
{
	for (int i = 0; i < count; i++) {
		if (stream_id_equal(list[i].id, id))
			return list[i].deliveries;
	}
	return 0;
}

/* Claim these, and put what comes into the batch. False: Redis refused. */
static bool claim(struct worker *w, const struct pending *list, int count, uint64_t min_idle_ms)
{
	redisReply *reply;

	begin_claim(w, min_idle_ms);
	for (int i = 0; i < count; i++)
		words_add_id(&w->words, &list[i].id);
	reply = link_call(&w->command, &w->words);
	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		worker_refused(w, "XCLAIM", reply);
		return false;
	}
	for (size_t i = 0; i < reply->elements; i++) {
		struct entry e;

		if (!entry_decode(reply->element[i], &w->options->names, &e))
			continue;
		if (intake_stage(w, &e, deliveries_of(list, count, e.id) + 1) && min_idle_ms > 0)
			w->totals.reclaimed++;
	}
	intake_hold(w, reply);
	return true;
}

/* Take over one entry, and let it look as it did: the delivery does not count yet. */
static bool claim_quietly(struct worker *w, const struct pending *p, uint64_t min_idle_ms)
{
	redisReply *reply;
	bool ok;

	begin_claim(w, min_idle_ms);
	words_add_id(&w->words, &p->id);
	words_add(&w->words, "JUSTID");
	reply = link_call(&w->command, &w->words);
	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		worker_refused(w, "XCLAIM", reply);
		return false;
	}
	ok = reply->elements == 1;
	freeReplyObject(reply);
	return ok;
}

/*
 * An entry whose every delivery ended without a word, as by the death of the worker, is a dead
 * letter after the last one. For that one it runs alone, so that its neighbours are not taken for
 * the cause. Returns whether it is one of these.
 */
static bool take_suspect(struct worker *w, const struct pending *p, uint64_t min_idle_ms)
{
	const uint32_t most = w->options->max_deliveries;
	struct search *s = &w->memory->search;

	if (p->deliveries + 1 < most || p->deliveries == 0)
		return false;
	if (p->deliveries >= most) {
		if (claim_quietly(w, p, min_idle_ms))
			outcome_bury(w, &p->id, &p->deliveries, 1, "poison",
				     "every delivery ended without an answer");
		return true;
	}
	if ((min_idle_ms == 0 || s->groups == 0) && claim_quietly(w, p, min_idle_ms))
		search_push(s, w->memory->list, &p->id, 1);
	return true;
}

/*
 * Take what may be taken of a page. Returns the number of entries that it got to: fewer than
 * `count` where there was no room for more.
 */
static int take_page(struct worker *w, const struct pending *page, int count, uint64_t min_idle_ms)
{
	struct pending list[PAGE];
	const uint32_t room = crew_room(w);
	int chosen = 0;
	int i;

	for (i = 0; i < count && worker_may_ask(w); i++) {
		if (book_find(&w->book, page[i].id) != BOOK_NONE ||
		    take_suspect(w, &page[i], min_idle_ms))
			continue;
		if ((uint32_t)chosen == room)
			break;
		list[chosen++] = page[i];
	}
	if (chosen == 0)
		return i; /* a batch that waits for others goes on waiting */
	if (!claim(w, list, chosen, min_idle_ms))
		return 0;
	intake_enqueue(w);
	return i;
}

static struct stream_id before(struct stream_id id)
{
	return id.seq > 0 ? (struct stream_id){ id.ms, id.seq - 1 }
			  : (struct stream_id){ id.ms - 1, UINT64_MAX };
}

void leases_replay(struct worker *w)
{
	struct pending page[PAGE];
	struct stream_id next = w->replay_from;
	int count;
	int taken;

	if (w->list) {
		list_replay(w);
		return;
	}
	if (w->replayed || crew_searching(w->crew) || !worker_may_ask(w) || crew_room(w) == 0)
		return;
	count = pending_page(w, true, &next, page);
	if (count < 0)
		return;
	taken = take_page(w, page, count, 0);
	if (taken < count) { /* the rest when there is room */
		w->replay_from = before(page[taken].id);
		return;
	}
	w->replay_from = next;
	w->replayed = next.ms == 0 && next.seq == 0;
}

/* What a worker hands back is taken up at once. */
void leases_next_reclaim(struct worker *w)
{
	const uint64_t half = w->options->lease_ms / 2;
	const uint64_t base = half < 500 ? half : 500;

	w->reclaim_at_ms = now_ms() + base / 2 + backoff_random(&w->random) % (base + 1);
}

/*
 * Workers that were killed leave their names in the group. One that lives reads every few seconds;
 * if it is forgotten all the same, its next read makes it known again.
 */
static void sweep(struct worker *w)
{
	const struct worker_options *o = w->options;
	redisReply *reply = NULL;

	if (now_ms() < w->sweep_at_ms)
		return;
	w->sweep_at_ms = now_ms() + 10 * o->lease_ms;
	if (script_begin(&script_sweep, &w->command, &w->words, 1)) {
		words_add(&w->words, o->place.stream);
		words_add(&w->words, o->group);
		words_add(&w->words, w->memory->consumer);
		words_add_number(&w->words, 20 * o->lease_ms);
		reply = script_call(&script_sweep, &w->command, &w->words);
	}
	/* a user of Redis who may not do this works without it */
	if (reply)
		freeReplyObject(reply);
	else
		worker_refused(w, "XINFO CONSUMERS", NULL);
}

void leases_reclaim(struct worker *w)
{
	struct pending page[PAGE];
	struct stream_id next = w->reclaim_from;
	int count;

	if (w->list) {
		list_reclaim(w);
		return;
	}
	if (now_ms() < w->reclaim_at_ms || w->draining || !w->replayed || crew_searching(w->crew) ||
	    !worker_may_ask(w))
		return;
	leases_next_reclaim(w);
	sweep(w);
	if (!worker_may_ask(w))
		return;
	if (crew_room(w) == 0)
		return;
	count = pending_page(w, false, &next, page);
	if (count < 0)
		return;
	if (take_page(w, page, count, w->options->lease_ms) == count)
		w->reclaim_from = next;
	if (poison_searching(w)) /* the page may have more of the kind that runs alone */
		w->reclaim_from = (struct stream_id){ .ms = 0 };
	if (next.ms != 0 || next.seq != 0 || poison_searching(w))
		w->reclaim_at_ms = now_ms(); /* there are more, when this is done */
}

/* ---- keeping and giving back ----------------------------------------------------------------- */

/* One call of script_keep for entries that words_add_id() and so on have added. */
static bool keep(struct worker *w)
{
	redisReply *reply = script_call(&script_keep, &w->command, &w->words);

	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		worker_refused(w, "leases", reply);
		return false;
	}
	freeReplyObject(reply);
	return true;
}

static bool begin_keep(struct worker *w)
{
	if (!script_begin(&script_keep, &w->command, &w->words, 1)) {
		worker_refused(w, "the leases' script", NULL);
		return false;
	}
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, w->options->group);
	words_add(&w->words, w->memory->consumer);
	return true;
}

void leases_renew(struct worker *w)
{
	const uint64_t now = now_ms();
	uint32_t at = 0;

	if (w->list) {
		list_renew(w);
		return;
	}
	if (now < w->renew_at_ms || !worker_may_ask(w))
		return;
	w->renew_at_ms = now + w->options->lease_ms / 3;
	while (at < w->book.capacity) {
		uint32_t added = 0;

		if (!begin_keep(w))
			return;
		for (; at < w->book.capacity && added < 256; at++) {
			if (!book_renews(&w->book, at, w->options->lease_ms, now))
				continue;
			words_add_id(&w->words, &w->book.leases[at].id);
			words_add_number(&w->words, 0);
			words_add(&w->words, "-");
			added++;
		}
		if (added > 0 && !keep(w))
			return;
	}
}

static bool hand_back_page(struct worker *w, const struct pending *page, int count)
{
	if (!begin_keep(w))
		return false;
	for (int i = 0; i < count; i++) {
		/* what is in the queue still may have run; the rest has not */
		const bool ran = book_find(&w->book, page[i].id) != BOOK_NONE;
		const uint32_t deliveries = page[i].deliveries;

		words_add_id(&w->words, &page[i].id);
		words_add_number(&w->words, w->options->lease_ms + 1);
		words_add_number(&w->words, ran || deliveries == 0 ? deliveries : deliveries - 1);
	}
	return keep(w);
}

void leases_hand_back(struct worker *w)
{
	struct stream_id from = { .ms = 0 };
	struct pending page[PAGE];

	if (w->list) {
		list_hand_back(w);
		return;
	}
	do {
		const int count = pending_page(w, true, &from, page);

		if (count < 0 || (count > 0 && !hand_back_page(w, page, count)))
			return;
		w->totals.handed_back += (uint64_t)count;
	} while (from.ms != 0 || from.seq != 0);
	leases_leave(w);
}

void leases_leave(struct worker *w)
{
	redisReply *reply;

	if (!script_begin(&script_leave, &w->command, &w->words, 1))
		return;
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, w->options->group);
	words_add(&w->words, w->memory->consumer);
	reply = script_call(&script_leave, &w->command, &w->words);
	if (reply)
		freeReplyObject(reply);
}

uint64_t leases_pending(struct worker *w)
{
	redisReply *reply;
	uint64_t count;

	if (w->list)
		return list_pending(w);
	reply = link_say(&w->command, "XPENDING", w->options->place.stream, w->options->group,
			 NULL);
	if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 ||
	    reply->element[0]->type != REDIS_REPLY_INTEGER) {
		worker_refused(w, "XPENDING", reply);
		return UINT64_MAX;
	}
	count = (uint64_t)reply->element[0]->integer;
	freeReplyObject(reply);
	return count;
}
