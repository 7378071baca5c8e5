/* SPDX-License-Identifier: Apache-2.0 */
/* crew.c - what the workers of one process share: the queue's room, the search, the shards. */
#define _GNU_SOURCE
#include "crew.h"

#include "outcome.h"
#include "redis/server/shards.h"
#include "redis/server/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARE_MS 5000u /* a process that says nothing for so long has no shards any more */
#define LOOK_MS  300u

/* The longest command: a script's words, and four for each of 256 entries. */
#define WORDS_MOST 1400u

/* What is not published at once goes to Redis in groups of GROUP_MOST, or when the first of them
 * has waited for so long. */
#define GROUP_US 5000u

/* ---- making it ------------------------------------------------------------------------------- */

static uint32_t slots_for(const struct worker_options *o, uint32_t count)
{
	const uint32_t least = 4 * o->batch > 2 * count ? 4 * o->batch : 2 * count;
	uint32_t slots = 1;

	while (slots < least && slots < Q_MAX_CAPACITY)
		slots *= 2;
	return o->slots != 0 ? o->slots : slots;
}

/* The options of one shard: they have its keys. */
static int make_options(const struct worker_options *o, uint32_t number, struct worker_options *out)
{
	int code;

	*out = *o;
	if (!o->place.sharded)
		return EXIT_DONE;
	code = shard_place(&o->place, number, &out->place);
	if (code != EXIT_DONE)
		return code;
	out->dead = shard_key(&out->place, o->dead);
	out->results.key = shard_key(&out->place, o->results.key);
	return out->dead && out->results.key ? EXIT_DONE : EXIT_NO_QUEUE;
}

static bool make_worker(struct crew *c, uint32_t number, uint64_t random)
{
	struct worker *w = &c->workers[number];
	const uint32_t batch = c->options->batch < c->room ? c->options->batch : c->room;

	*w = (struct worker){ .options = &c->own[number], .crew = c, .number = number };
	w->leased = !c->options->place.sharded;
	w->view = watch_unknown();
	w->restarted = c->restarted;
	w->random = random + number * UINT64_C(0x9e3779b97f4a7c15);
	if (w->random == 0)
		w->random = 1;
	w->memory = suspects_at(c->memory, number);
	w->held = calloc(c->room, sizeof(redisReply *)); /* NOLINT(bugprone-sizeof-expression) */
	w->staged = calloc(c->room, sizeof(w->staged[0]));
	w->finished = calloc(c->room, sizeof(w->finished[0]));
	w->batch = (struct batch){ .most = batch, .delay_us = c->options->batch_delay_us };
	w->group = (struct batch){ .most = GROUP_MOST, .delay_us = GROUP_US };
	return w->held && w->staged && w->finished && publish_init(w) &&
	       book_init(&w->book, c->room) && words_init(&w->words, WORDS_MOST) &&
	       (c->options->mode == MODE_STREAM || list_init(w));
}

static void name_consumer(struct crew *c, uint64_t random)
{
	char host[64] = "host";
	char *name = c->memory->consumer;

	if (!c->restarted && c->options->consumer) {
		snprintf(name, CONSUMER_BYTES, "%s", c->options->consumer);
	} else if (!c->restarted) {
		gethostname(host, sizeof(host) - 1);
		snprintf(name, CONSUMER_BYTES, "%s-%d-%08" PRIx32, host, (int)getpid(),
			 (uint32_t)(random ^ (random >> 32)));
	}
	for (uint32_t i = 1; i < c->count; i++)
		memcpy(suspects_at(c->memory, i)->consumer, name, CONSUMER_BYTES);
}

static bool make_room(struct crew *c, uint64_t random)
{
	const struct worker_options *o = c->options;
	const uint64_t ttl = o->lease_ms < SHARE_MS ? o->lease_ms : SHARE_MS;

	c->memory = suspects_open(c->room, c->count, &c->restarted);
	c->workers = calloc(c->count, sizeof(c->workers[0]));
	c->own = calloc(c->count, sizeof(c->own[0]));
	if (!c->memory || !c->workers || !c->own)
		return false;
	name_consumer(c, random);
	for (uint32_t i = 0; i < c->count; i++) {
		if (make_options(o, i, &c->own[i]) != EXIT_DONE || !make_worker(c, i, random))
			return false;
	}
	return !o->place.sharded ||
	       shares_init(&c->shares, &o->place, o->group, c->memory->consumer, ttl, random);
}

int crew_init(struct crew *c, struct worker_options *o)
{
	const uint64_t random =
		(clock_ns() * 0x9e3779b97f4a7c15u) ^ ((uint64_t)getpid() << 32) ^ 1u;

	*c = (struct crew){ .options = o, .count = shards_count(&o->place) };
	c->slots = slots_for(o, c->count);
	c->room = c->slots;
	if (c->count > 1 && c->room > 4 * o->batch)
		c->room = 4 * o->batch;
	if (c->slots < c->count)
		return usage_error("worker", "--slots is %u, must be at least the %u shards",
				   c->slots, c->count);
	if (make_room(c, random))
		return EXIT_DONE;
	warn_line("no memory");
	return EXIT_NO_QUEUE;
}

static void free_worker(struct worker *w)
{
	list_free(w);
	free(w->held);
	free(w->staged);
	free(w->finished);
	publish_free(w);
	book_free(&w->book);
	words_free(&w->words);
	link_close(&w->command);
	link_close(&w->reader);
}

void crew_free(struct crew *c)
{
	for (uint32_t i = 0; c->workers && i < c->count; i++)
		free_worker(&c->workers[i]);
	for (uint32_t i = 0; c->own && c->options->place.sharded && i < c->count; i++) {
		free((char *)c->own[i].place.stream);
		free(c->own[i].dead);
		free((char *)c->own[i].results.key);
	}
	if (c->options->place.sharded)
		shares_free(&c->shares);
	free(c->workers);
	free(c->own);
}

/* ---- the queue's room ------------------------------------------------------------------------ */

uint32_t crew_used(const struct crew *c)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < c->count; i++)
		used += c->workers[i].book.used;
	return used;
}

uint32_t crew_resting(const struct crew *c)
{
	uint32_t resting = 0;

	for (uint32_t i = 0; i < c->count; i++)
		resting += c->workers[i].book.count[LEASE_RESTING];
	return resting;
}

/*
 * What reads that are under way may bring is taken already, so what comes always has room. No
 * worker has more than its part of the slots: the shards' reads wait at the same time.
 */
uint32_t crew_room(const struct worker *w)
{
	const struct crew *c = w->crew;
	const uint32_t own = w->book.used + w->asked;
	uint32_t leased = 0;
	uint32_t taken = 0;
	uint32_t part;

	for (uint32_t i = 0; i < c->count; i++) {
		taken += c->workers[i].book.used + c->workers[i].asked;
		leased += c->workers[i].leased;
	}
	part = c->slots / (leased > 0 ? leased : 1);
	if (part > c->room)
		part = c->room;
	if (taken >= c->slots || own >= part)
		return 0;
	return part - own < c->slots - taken ? part - own : c->slots - taken;
}

uint32_t crew_left(const struct worker *w)
{
	const uint64_t most = w->options->max_messages;
	uint64_t taken = 0;

	if (most == 0)
		return UINT32_MAX;
	for (uint32_t i = 0; i < w->crew->count; i++)
		taken += w->crew->workers[i].memory->taken + w->crew->workers[i].asked;
	if (taken >= most)
		return 0;
	return most - taken < UINT32_MAX ? (uint32_t)(most - taken) : UINT32_MAX;
}

bool crew_full(const struct crew *c)
{
	uint64_t taken = 0;

	for (uint32_t i = 0; i < c->count; i++)
		taken += c->workers[i].memory->taken;
	return c->options->max_messages != 0 && taken >= c->options->max_messages;
}

/* ---- what concerns all ----------------------------------------------------------------------- */

bool crew_searching(const struct crew *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		if (c->workers[i].memory->search.groups > 0)
			return true;
	}
	return false;
}

struct worker *crew_owner(const struct crew *c, uint64_t tag, uint32_t *out_lease)
{
	*out_lease = (uint32_t)tag;
	return &c->workers[tag >> 32];
}

void crew_progress(struct crew *c, uint64_t now)
{
	for (uint32_t i = 0; i < c->count; i++)
		c->workers[i].book.progress_ms = now;
}

const struct worker *crew_over(const struct crew *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		if (c->workers[i].over)
			return &c->workers[i];
	}
	return NULL;
}

struct worker_totals crew_totals(const struct crew *c)
{
	struct worker_totals sum = { .taken = 0 };

	for (uint32_t i = 0; i < c->count; i++) {
		const struct worker_totals *t = &c->workers[i].totals;

		sum.taken += t->taken;
		sum.done += t->done;
		sum.retried += t->retried;
		sum.dead += t->dead;
		sum.redelivered += t->redelivered;
		sum.reclaimed += t->reclaimed;
		sum.lost += t->lost;
		sum.trimmed += t->trimmed;
		sum.handed_back += t->handed_back;
		sum.connects += t->connects;
		sum.group_lost += t->group_lost;
		if (t->taken > 0 && (sum.first_ns == 0 || t->first_ns < sum.first_ns))
			sum.first_ns = t->first_ns;
		if (t->last_ns > sum.last_ns)
			sum.last_ns = t->last_ns;
	}
	return sum;
}

/* ---- shards ---------------------------------------------------------------------------------- */

bool crew_active(const struct worker *w)
{
	return w->leased || w->reading || w->book.used > 0 || w->memory->search.groups > 0;
}

void crew_share(struct crew *c, bool leave)
{
	bool mine[SHARDS_MOST];

	if (!c->options->place.sharded || (!leave && crew_searching(c)))
		return;
	if (!shares_ask(&c->shares, leave, mine)) {
		if (c->shares.over && !crew_over(c)) {
			c->workers[0].over = true;
			c->workers[0].code = EXIT_REDIS;
		}
		return;
	}
	for (uint32_t i = 0; i < c->count; i++) {
		struct worker *w = &c->workers[i];

		if (mine[i] && !w->leased) {
			/* pending entries of our name may be left from an earlier time */
			w->replayed = false;
			w->replay_from = (struct stream_id){ .ms = 0 };
			w->saw_nothing = false;
		}
		w->leased = mine[i];
	}
}

/* Nothing is pending, and nothing lies behind what was delivered last. */
static bool is_empty(const struct worker_options *o, struct link *l)
{
	struct finder *f = o->place.finder;
	redisReply *groups = link_say(l, "XINFO", "GROUPS", o->place.stream, NULL);
	redisReply *next = NULL;
	bool empty = false;

	if (groups && groups->type == REDIS_REPLY_ERROR) {
		empty = strstr(groups->str, "no such key") != NULL;
		finder_told(f, groups->str, &l->to);
	}
	for (size_t i = 0; groups && groups->type == REDIS_REPLY_ARRAY && i < groups->elements;
	     i++) {
		const redisReply *g = groups->element[i];
		char from[64];

		if (strcmp(named_text(g, "name"), o->group) != 0 ||
		    named_number(g, "pending", 1) != 0)
			continue;
		snprintf(from, sizeof(from), "(%s", named_text(g, "last-delivered-id"));
		next = link_say(l, "XRANGE", o->place.stream, from, "+", "COUNT", "1", NULL);
		empty = next && next->type == REDIS_REPLY_ARRAY && next->elements == 0;
		break;
	}
	if (groups)
		freeReplyObject(groups);
	if (next)
		freeReplyObject(next);
	return empty;
}

static bool shard_empty(struct worker *w)
{
	const struct place *p = &w->options->place;
	struct link l = { .context = NULL };
	struct address a;
	bool empty;

	if (w->command.context)
		return is_empty(w->options, &w->command);
	if (!finder_find(p->finder, p->slot, &a) || !link_open(&l, &a)) {
		finder_failed(p->finder);
		return false;
	}
	empty = is_empty(w->options, &l);
	link_close(&l);
	return empty;
}

bool crew_empty(struct crew *c)
{
	const uint64_t now = now_ms();

	if (now < c->look_at_ms)
		return false;
	c->look_at_ms = now + LOOK_MS;
	for (uint32_t i = 0; i < c->count; i++) {
		if (!shard_empty(&c->workers[i]))
			return false;
	}
	return true;
}
