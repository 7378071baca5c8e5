/* SPDX-License-Identifier: Apache-2.0 */
/* status_shards.c - how the shards of a stream stand, and which worker reads each. */
#define _GNU_SOURCE
#include "status_shards.h"

#include "redis/server/shards.h"
#include "redis/server/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shard_state {
	long long length;
	long long lag; /* -1: Redis does not know */
	long long pending;
	long long dead;
	char worker[128]; /* empty: none */
};

static int length_of(struct link *l, const char *key, long long *out)
{
	redisReply *reply = link_say(l, "XLEN", key, NULL);

	if (!reply || reply->type != REDIS_REPLY_INTEGER)
		return refused(l, key, reply);
	*out = reply->integer;
	freeReplyObject(reply);
	return EXIT_DONE;
}

/* A shard that no worker has read yet has no group: all that it has is to be read. */
static int look_at_group(struct link *l, const char *stream, const char *group,
			 struct shard_state *out)
{
	redisReply *reply;

	out->lag = out->length;
	if (out->length == 0)
		return EXIT_DONE; /* there may be no such key */
	reply = link_say(l, "XINFO", "GROUPS", stream, NULL);
	if (!reply || reply->type != REDIS_REPLY_ARRAY)
		return refused(l, stream, reply);
	for (size_t i = 0; i < reply->elements; i++) {
		if (strcmp(named_text(reply->element[i], "name"), group) != 0)
			continue;
		out->pending = named_number(reply->element[i], "pending", 0);
		out->lag = named_number(reply->element[i], "lag", -1);
	}
	freeReplyObject(reply);
	return EXIT_DONE;
}

static int look(const struct place *p, uint32_t shard, const char *group, const char *dead,
		struct shard_state *out)
{
	struct place place;
	struct link l = { .context = NULL };
	char *key = NULL;
	int code = shard_place(p, shard, &place);

	if (code != EXIT_DONE)
		return code;
	key = shard_key(&place, dead);
	code = key ? place_connect(&place, &l) : EXIT_REDIS;
	if (code == EXIT_DONE)
		code = length_of(&l, place.stream, &out->length);
	if (code == EXIT_DONE)
		code = length_of(&l, key, &out->dead);
	if (code == EXIT_DONE)
		code = look_at_group(&l, place.stream, group, out);
	link_close(&l);
	free(key);
	free((char *)place.stream);
	return code;
}

/* Who reads what, as shares.c writes it down. */
static int look_at_workers(const struct place *p, const char *group, struct shard_state *list)
{
	struct place board = *p;
	struct link l = { .context = NULL };
	redisReply *reply = NULL;
	char *key = NULL;
	int code;

	if (asprintf(&key, "{%s}:shards:%s", p->stream, group) < 0)
		return EXIT_REDIS;
	board.slot = slots_of_key(key, strlen(key));
	code = place_connect(&board, &l);
	if (code == EXIT_DONE)
		reply = link_say(&l, "HGETALL", key, NULL);
	if (code == EXIT_DONE && (!reply || reply->type != REDIS_REPLY_ARRAY)) {
		code = refused(&l, key, reply);
		reply = NULL;
	}
	for (uint32_t i = 0; code == EXIT_DONE && i < p->shards; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%" PRIu32, i);
		snprintf(list[i].worker, sizeof(list[i].worker), "%s", named_text(reply, number));
	}
	if (reply)
		freeReplyObject(reply);
	link_close(&l);
	free(key);
	return code;
}

static struct shard_state sum_of(const struct shard_state *list, uint32_t count)
{
	struct shard_state sum = { .lag = 0 };

	for (uint32_t i = 0; i < count; i++) {
		sum.length += list[i].length;
		sum.pending += list[i].pending;
		sum.dead += list[i].dead;
		sum.lag = sum.lag < 0 || list[i].lag < 0 ? -1 : sum.lag + list[i].lag;
	}
	return sum;
}

/* A number, or what stands for one that is not known. */
static const char *lag_text(long long lag, const char *unknown, char *to, size_t room)
{
	if (lag < 0)
		return unknown;
	snprintf(to, room, "%lld", lag);
	return to;
}

static void print_json(const struct place *p, const char *group, const struct shard_state *list)
{
	const struct shard_state sum = sum_of(list, p->shards);
	char lag[24];

	fputs("{\"stream\":", stdout);
	show_json(stdout, p->stream, strlen(p->stream));
	fputs(",\"group\":", stdout);
	show_json(stdout, group, strlen(group));
	printf(",\"length\":%lld,\"pending\":%lld,\"lag\":%s,\"dead_letters\":%lld,\"shards\":[",
	       sum.length, sum.pending, lag_text(sum.lag, "null", lag, sizeof(lag)), sum.dead);
	for (uint32_t i = 0; i < p->shards; i++) {
		const struct shard_state *s = &list[i];

		printf("%s{\"shard\":%" PRIu32 ",\"length\":%lld,\"pending\":%lld,\"lag\":%s,"
		       "\"dead_letters\":%lld,\"worker\":",
		       i == 0 ? "" : ",", i, s->length, s->pending,
		       lag_text(s->lag, "null", lag, sizeof(lag)), s->dead);
		if (s->worker[0] != '\0')
			show_json(stdout, s->worker, strlen(s->worker));
		else
			fputs("null", stdout);
		putchar('}');
	}
	fputs("]}\n", stdout);
}

static void print_text(const struct place *p, const char *group, const struct shard_state *list)
{
	const struct shard_state sum = sum_of(list, p->shards);
	char lag[24];

	printf("stream        %s, %" PRIu32 " shards, %lld entries\n", p->stream, p->shards,
	       sum.length);
	printf("group         %s\n", group);
	printf("not yet read  %s\n", lag_text(sum.lag, "Redis does not know", lag, sizeof(lag)));
	printf("pending       %lld\n", sum.pending);
	printf("dead letters  %lld\n", sum.dead);
	puts("shard    entries   not read    pending   dead  worker");
	for (uint32_t i = 0; i < p->shards; i++) {
		const struct shard_state *s = &list[i];

		printf("%5" PRIu32 " %10lld %10s %10lld %6lld  %s\n", i, s->length,
		       lag_text(s->lag, "?", lag, sizeof(lag)), s->pending, s->dead,
		       s->worker[0] != '\0' ? s->worker : "-");
	}
}

int status_shards(const struct place *p, const char *group, const char *dead, bool json)
{
	struct shard_state *list = calloc(p->shards, sizeof(*list));
	int code = list ? look_at_workers(p, group, list) : EXIT_REDIS;

	for (uint32_t i = 0; i < p->shards && code == EXIT_DONE; i++)
		code = look(p, i, group, dead, &list[i]);
	if (code == EXIT_DONE && json)
		print_json(p, group, list);
	else if (code == EXIT_DONE)
		print_text(p, group, list);
	free(list);
	return code;
}
