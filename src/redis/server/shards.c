/* SPDX-License-Identifier: Apache-2.0 */
/* shards.c - the names of a stream's shards, and how many there are. */
#define _GNU_SOURCE
#include "shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int shard_place(const struct place *p, uint32_t shard, struct place *out)
{
	char *name = NULL;

	*out = *p;
	if (!p->sharded)
		return EXIT_DONE;
	if (asprintf(&name, "{%s:%" PRIu32 "}", p->stream, shard) < 0) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	out->stream = name;
	out->slot = slots_of_key(name, strlen(name));
	return EXIT_DONE;
}

char *shard_key(const struct place *shard, const char *key)
{
	char *name = NULL;

	if (!shard->sharded)
		return joined(key, "");
	return asprintf(&name, "%s:%s", shard->stream, key) < 0 ? NULL : name;
}

/* The number that is to be; 0: the reply is none. */
static uint32_t number_of(const redisReply *reply)
{
	const unsigned long value =
		reply->type == REDIS_REPLY_STRING ? strtoul(reply->str, NULL, 10) : 0;

	return value <= SHARDS_MOST ? (uint32_t)value : 0;
}

static int read_number(const struct place *p, struct link *l, const char *key, uint32_t *out)
{
	redisReply *reply = link_say(l, "GET", key, NULL);

	if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_NIL))
		return refused(l, key, reply);
	*out = number_of(reply);
	if (reply->type == REDIS_REPLY_STRING && *out == 0) {
		warn_line("the key '%s' is '%.32s', must be 1 to %u: how many shards '%s' has", key,
			  reply->str, SHARDS_MOST, p->stream);
		freeReplyObject(reply);
		return EXIT_REDIS;
	}
	freeReplyObject(reply);
	return EXIT_DONE;
}

static int write_number(struct link *l, const char *key, uint32_t number)
{
	char text[16];
	redisReply *reply;

	snprintf(text, sizeof(text), "%" PRIu32, number);
	reply = link_say(l, "SET", key, text, "NX", NULL);
	if (!reply || (reply->type != REDIS_REPLY_STATUS && reply->type != REDIS_REPLY_NIL))
		return refused(l, key, reply);
	freeReplyObject(reply);
	return EXIT_DONE;
}

static int agree(struct place *p, uint32_t found)
{
	if (found == 0)
		found = p->shards != 0 ? p->shards : SHARDS_DEFAULT;
	if (p->shards != 0 && p->shards != found) {
		warn_line("--shards is %" PRIu32 ", but '%s' has %" PRIu32
			  " (the key '{%s}:shards' in Redis)",
			  p->shards, p->stream, found, p->stream);
		return EXIT_REDIS;
	}
	p->shards = found;
	return EXIT_DONE;
}

int shards_learn(struct place *p, bool make)
{
	struct link l = { .context = NULL };
	struct place board = *p;
	char *key = NULL;
	uint32_t found = 0;
	int code;

	if (!p->sharded)
		return EXIT_DONE;
	if (asprintf(&key, "{%s}:shards", p->stream) < 0) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	board.slot = slots_of_key(key, strlen(key));
	code = place_connect(&board, &l);
	if (code == EXIT_DONE && make)
		code = write_number(&l, key, p->shards != 0 ? p->shards : SHARDS_DEFAULT);
	if (code == EXIT_DONE)
		code = read_number(p, &l, key, &found);
	if (code == EXIT_DONE)
		code = agree(p, found);
	link_close(&l);
	free(key);
	return code;
}
