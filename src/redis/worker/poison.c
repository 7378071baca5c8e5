/* SPDX-License-Identifier: Apache-2.0 */
/* poison.c - the search for a message that kills the device, one group at a time. */
#include "crew.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- after a death --------------------------------------------------------------------------- */

static void say_death(const struct worker *w, uint32_t suspects)
{
	if (w->crew->memory->reason != 0)
		warn_line("signal %d (%s) while %u messages were in the queue; started anew",
			  (int)w->crew->memory->reason, strsignal(w->crew->memory->reason),
			  suspects);
	else
		warn_line("started anew; %u messages were in the queue", suspects);
}

/* All that were in the queue become one group. */
static uint32_t suspect_all(struct worker *w)
{
	struct suspects *m = w->memory;
	struct stream_id *ids = calloc(m->capacity, sizeof(ids[0]));
	uint32_t count = 0;

	for (uint32_t i = 0; ids && i < m->capacity; i++) {
		if (m->running[i].ms != 0 || m->running[i].seq != 0)
			ids[count++] = m->running[i];
	}
	if (count > 0 && !search_push(&m->search, m->list, ids, count))
		count = 0;
	free(ids);
	return count;
}

static void bury_culprit(struct worker *w, const struct stream_id *id)
{
	char text[96];
	uint32_t deliveries = 1;
	char start[STREAM_ID_TEXT];
	redisReply *reply;

	stream_id_format(*id, start);
	reply = w->list ? NULL
			: link_say(&w->command, "XPENDING", w->options->place.stream,
				   w->options->group, start, start, "1", w->memory->consumer, NULL);
	if (reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
	    reply->element[0]->type == REDIS_REPLY_ARRAY && reply->element[0]->elements == 4)
		deliveries = (uint32_t)reply->element[0]->element[3]->integer;
	if (reply)
		freeReplyObject(reply);
	if (w->crew->memory->reason != 0)
		snprintf(text, sizeof(text), "alone in the queue it raised signal %d (%s)",
			 (int)w->crew->memory->reason, strsignal(w->crew->memory->reason));
	else
		snprintf(text, sizeof(text), "alone in the queue it made the device fail");
	outcome_bury(w, id, &deliveries, 1, "poison", text);
	warn_line("message %s: %s; it is a dead letter", start, text);
}

bool poison_begin(struct worker *w)
{
	struct suspects *m = w->memory;
	struct stream_id culprit;
	struct suspect *top = NULL;
	uint32_t in_top;
	bool any = true;

	if (w->list)
		list_replay(w);
	in_top = search_top(&m->search, m->list, (const struct suspect **)&top);
	if (m->group_runs && in_top > 0) {
		say_death(w, in_top);
		if (search_died(&m->search, m->list, &culprit))
			bury_culprit(w, &culprit);
	} else {
		const uint32_t count = suspect_all(w);

		if (count > 0)
			say_death(w, count);
		any = count > 0;
	}
	m->group_runs = 0;
	memset(m->running, 0, m->capacity * sizeof(m->running[0]));
	if (w->list && w->list->simple) /* nobody has their bytes any more */
		m->search.groups = 0;
	return any;
}

bool poison_had_any(const struct worker *w)
{
	const struct suspects *m = w->memory;

	if (m->group_runs)
		return true;
	for (uint32_t i = 0; i < m->capacity; i++) {
		if (m->running[i].ms != 0 || m->running[i].seq != 0)
			return true;
	}
	return false;
}

/* ---- one group ------------------------------------------------------------------------------- */

/* How often an entry that is still pending for this worker was delivered; 0: it is not. */
static uint32_t own_deliveries(redisReply *reply)
{
	const redisReply *line;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1)
		return 0;
	line = reply->element[0];
	if (line->type != REDIS_REPLY_ARRAY || line->elements != 4 ||
	    line->element[3]->type != REDIS_REPLY_INTEGER || line->element[3]->integer <= 0)
		return 0;
	return (uint32_t)line->element[3]->integer;
}

/* Alone is a delivery of its own, so that it counts if even this process dies of it. */
static bool count_delivery(struct worker *w, const struct stream_id *id, uint32_t deliveries)
{
	redisReply *reply;
	bool ok;

	if (!script_begin(&script_keep, &w->command, &w->words, 1))
		return false;
	words_add(&w->words, w->options->place.stream);
	words_add(&w->words, w->options->group);
	words_add(&w->words, w->memory->consumer);
	words_add_id(&w->words, id);
	words_add_number(&w->words, 0);
	words_add_number(&w->words, deliveries);
	reply = script_call(&script_keep, &w->command, &w->words);
	ok = reply && reply->type == REDIS_REPLY_ARRAY;
	if (!ok) {
		worker_refused(w, "leases", reply);
		return false;
	}
	freeReplyObject(reply);
	return true;
}

/* A suspect's payload goes into the batch. False: Redis did not answer. */
static bool fetch(struct worker *w, struct stream_id id, bool alone)
{
	const struct worker_options *o = w->options;
	char text[STREAM_ID_TEXT];
	redisReply *reply;
	uint32_t deliveries;
	struct entry e;

	if (w->list)
		return list_fetch(w, id, alone);
	stream_id_format(id, text);
	reply = link_say(&w->command, "XPENDING", o->place.stream, o->group, text, text, "1",
			 w->memory->consumer, NULL);
	if (!reply || reply->type == REDIS_REPLY_ERROR) {
		worker_refused(w, "XPENDING", reply);
		return false;
	}
	deliveries = own_deliveries(reply);
	freeReplyObject(reply);
	if (deliveries == 0) { /* somebody else's by now, or done */
		search_clear(&w->memory->search, w->memory->list, id);
		return true;
	}
	if (alone && !count_delivery(w, &id, ++deliveries))
		return false;
	reply = link_say(&w->command, "XRANGE", o->place.stream, text, text, NULL);
	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		worker_refused(w, "XRANGE", reply);
		return false;
	}
	e = (struct entry){ .id = id, .gone = true };
	if (reply->elements == 1)
		entry_decode(reply->element[0], &o->names, &e);
	if (!intake_stage(w, &e, deliveries))
		search_clear(&w->memory->search, w->memory->list, id);
	intake_hold(w, reply);
	return true;
}

/* A read that is under way could bring company. It is asked to come back. */
static void call_reader_back(struct worker *w)
{
	redisReply *reply;
	char id[24];

	if (w->called_back)
		return;
	w->called_back = true;
	snprintf(id, sizeof(id), "%" PRIu64, w->reader_id);
	reply = link_say(&w->command, "CLIENT", "UNBLOCK", id, NULL);
	if (reply && reply->type != REDIS_REPLY_ERROR)
		freeReplyObject(reply);
	else
		worker_refused(w, "CLIENT UNBLOCK", reply);
}

static bool all_called_back(const struct crew *c)
{
	bool all = true;

	for (uint32_t i = 0; i < c->count; i++) {
		struct worker *w = &c->workers[i];

		if (w->reading && worker_connected(w))
			call_reader_back(w);
		all &= !w->reading;
	}
	return all;
}

void poison_step(struct worker *w)
{
	struct suspects *m = w->memory;
	const struct suspect *top;
	uint32_t count;
	struct stream_id *ids;
	bool ok = true;

	if (crew_used(w->crew) > 0 || !poison_searching(w) || !worker_may_ask(w) ||
	    !all_called_back(w->crew))
		return;
	for (uint32_t i = 0; i < w->crew->count; i++)
		w->crew->workers[i].memory->group_runs = 0;
	count = search_top(&m->search, m->list, &top);
	ids = calloc(count, sizeof(ids[0]));
	if (!ids)
		return;
	for (uint32_t i = 0; i < count; i++)
		ids[i] = top[i].id;
	for (uint32_t i = 0; i < count && ok; i++)
		ok = fetch(w, ids[i], count == 1);
	free(ids);
	if (!ok) { /* again, when Redis is back */
		intake_drop(w);
		return;
	}
	m->group_runs = w->batch.count > 0;
	intake_enqueue(w);
}

void poison_restart(struct worker *w, const char *why)
{
	if (w->over)
		return;
	warn_line("the queue failed: %s", why);
	for (uint32_t i = 0; i < w->crew->count; i++) { /* results that are there already */
		outcome_settle(&w->crew->workers[i]);
		publish_flush(&w->crew->workers[i]);
	}
	w->crew->memory->reason = 0;
	suspects_restart(w->crew->memory);
	warn_line("the worker cannot be started anew");
	w->code = EXIT_QUEUE_FAILED;
	w->over = true;
}
