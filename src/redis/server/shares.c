/* SPDX-License-Identifier: Apache-2.0 */
/* shares.c - asks Redis which shards this process may read. */
#define _GNU_SOURCE
#include "shares.h"

#include "redis/policy/backoff.h"
#include "redis/policy/refusal.h"
#include "scripts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * KEYS workers shards; ARGV consumer ttl shards leave. With m workers alive and n shards each has
 * n / m shards, and the first n % m of them, by name, one more. One that has more gives some up;
 * one that has fewer takes what is free. Answers with the number of workers and the caller's
 * shards.
 */
static struct script script_share = {
	.text = "local me, ttl, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])\n"
		"local t = redis.call('TIME')\n"
		"local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)\n"
		"if ARGV[4] == '1' then\n"
		" redis.call('HDEL', KEYS[1], me)\n"
		"else\n"
		" redis.call('HSET', KEYS[1], me, string.format('%.0f', now + ttl))\n"
		"end\n"
		"local alive, names = {}, {}\n"
		"local all = redis.call('HGETALL', KEYS[1])\n"
		"for i = 1, #all, 2 do\n"
		" if (tonumber(all[i + 1]) or 0) < now then\n"
		"  redis.call('HDEL', KEYS[1], all[i])\n"
		" else\n"
		"  alive[all[i]] = true\n"
		"  names[#names + 1] = all[i]\n"
		" end\n"
		"end\n"
		"table.sort(names)\n"
		"local owner = {}\n"
		"local list = redis.call('HGETALL', KEYS[2])\n"
		"for i = 1, #list, 2 do\n"
		" if alive[list[i + 1]] then\n"
		"  owner[list[i]] = list[i + 1]\n"
		" else\n"
		"  redis.call('HDEL', KEYS[2], list[i])\n"
		" end\n"
		"end\n"
		"local mine, free, quota = {}, {}, 0\n"
		"for s = 0, count - 1 do\n"
		" local name = tostring(s)\n"
		" if owner[name] == me then mine[#mine + 1] = name end\n"
		" if not owner[name] then free[#free + 1] = name end\n"
		"end\n"
		"for r = 1, #names do\n"
		" if names[r] == me then\n"
		"  quota = math.floor(count / #names) + (r <= count % #names and 1 or 0)\n"
		" end\n"
		"end\n"
		"while #mine > quota do\n"
		" redis.call('HDEL', KEYS[2], table.remove(mine))\n"
		"end\n"
		"while #mine < quota and #free > 0 do\n"
		" local name = table.remove(free, 1)\n"
		" redis.call('HSET', KEYS[2], name, me)\n"
		" mine[#mine + 1] = name\n"
		"end\n"
		"table.insert(mine, 1, #names)\n"
		"return mine\n",
};

bool shares_init(struct shares *s, const struct place *p, const char *group, const char *consumer,
		 uint64_t ttl_ms, uint64_t random)
{
	*s = (struct shares){ .place = *p,
			      .consumer = consumer,
			      .shards = p->shards,
			      .ttl_ms = ttl_ms,
			      .random = random | 1 };
	if (asprintf(&s->workers_key, "{%s}:workers:%s", p->stream, group) < 0)
		s->workers_key = NULL;
	if (asprintf(&s->shards_key, "{%s}:shards:%s", p->stream, group) < 0)
		s->shards_key = NULL;
	if (!s->workers_key || !s->shards_key)
		return false;
	s->place.slot = slots_of_key(s->workers_key, strlen(s->workers_key));
	return words_init(&s->words, 16);
}

void shares_free(struct shares *s)
{
	link_close(&s->link);
	words_free(&s->words);
	free(s->workers_key);
	free(s->shards_key);
}

static redisReply *ask(struct shares *s, bool leave)
{
	struct address a;

	if (!s->link.context) {
		if (!finder_find(s->place.finder, s->place.slot, &a)) {
			snprintf(s->link.error, sizeof(s->link.error), "%.255s",
				 s->place.finder->error);
			return NULL;
		}
		if (!link_open(&s->link, &a))
			return NULL;
	}
	if (!script_begin(&script_share, &s->link, &s->words, 2))
		return NULL;
	words_add(&s->words, s->workers_key);
	words_add(&s->words, s->shards_key);
	words_add(&s->words, s->consumer);
	words_add_number(&s->words, s->ttl_ms);
	words_add_number(&s->words, s->shards);
	words_add(&s->words, leave ? "1" : "0");
	return script_call(&script_share, &s->link, &s->words);
}

/*
 * Nothing depends on the answer but who reads what, so the reading goes on as it was. But a refusal
 * that no time will mend is told: who waits for shares that never come would not learn why.
 */
static void refused_share(struct shares *s, const redisReply *reply)
{
	struct finder *f = s->place.finder;
	const bool error = reply && reply->type == REDIS_REPLY_ERROR;

	if (s->attempt == 0)
		warn_line("shares of '%s': %s", s->place.stream,
			  error ? reply->str : s->link.error);
	s->over |= error && refusal_of(reply->str) == REFUSAL_FATAL;
	if (error)
		finder_told(f, reply->str, &s->link.to);
	else
		finder_failed(f);
	link_close(&s->link);
	s->ask_at_ms = now_ms() + backoff_reconnect_ms(s->attempt++, backoff_random(&s->random));
}

static void read_shares(struct shares *s, const redisReply *reply, bool *mine)
{
	memset(mine, 0, s->shards * sizeof(mine[0]));
	for (size_t i = 1; i < reply->elements; i++) {
		const redisReply *e = reply->element[i];
		const unsigned long shard =
			e->type == REDIS_REPLY_STRING ? strtoul(e->str, NULL, 10) : SHARDS_MOST;

		if (shard < s->shards)
			mine[shard] = true;
	}
	s->comrades = (uint32_t)reply->element[0]->integer;
}

bool shares_ask(struct shares *s, bool leave, bool *mine)
{
	redisReply *reply;
	bool ok;

	if (now_ms() < s->ask_at_ms && !leave)
		return false;
	reply = ask(s, leave);
	ok = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
	     reply->element[0]->type == REDIS_REPLY_INTEGER;
	if (ok) {
		read_shares(s, reply, mine);
		s->attempt = 0;
		s->ask_at_ms = now_ms() + s->ttl_ms / 3;
	} else {
		refused_share(s, reply);
	}
	if (reply)
		freeReplyObject(reply);
	return ok;
}
