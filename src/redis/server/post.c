/* SPDX-License-Identifier: Apache-2.0 */
/* post.c - sends to shards, and again what a server of a cluster or an old master did not take. */
#define _GNU_SOURCE
#include "post.h"

#include "redis/policy/refusal.h"
#include "shards.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BYTES_MOST  ((size_t)4 << 20)
#define PATIENCE_MS 30000u
#define REST_MS     200

int post_open(struct post *o, const struct place *p)
{
	int code = EXIT_DONE;

	o->shards = shards_count(p);
	o->places = calloc(o->shards, sizeof(o->places[0]));
	o->links = calloc(o->shards, sizeof(o->links[0]));
	if (!o->places || !o->links || !words_init(&o->words, 16)) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	for (uint32_t i = 0; i < o->shards && code == EXIT_DONE; i++)
		code = shard_place(p, i, &o->places[i]);
	return code == EXIT_DONE ? place_connect(&o->places[0], &o->links[0]) : code;
}

void post_close(struct post *o)
{
	for (uint32_t i = 0; i < o->under_way; i++)
		free(o->parcels[i].bytes);
	for (uint32_t i = 0; i < o->shards; i++) {
		if (o->links)
			link_close(&o->links[i]);
		if (o->places && o->places[i].sharded)
			free((char *)o->places[i].stream);
	}
	words_free(&o->words);
	free(o->places);
	free(o->links);
}

static bool reach(struct post *o, uint32_t shard)
{
	struct finder *f = o->places[shard].finder;
	struct link *l = &o->links[shard];
	struct address a;

	if (o->leave[shard])
		link_close(l);
	o->leave[shard] = false;
	if (l->context)
		return true;
	if (!finder_find(f, o->places[shard].slot, &a)) {
		snprintf(l->error, sizeof(l->error), "%.255s", f->error);
		return false;
	}
	if (link_open(l, &a))
		return true;
	finder_failed(f);
	return false;
}

static void write_parcel(struct post *o, const struct parcel *p)
{
	words_clear(&o->words);
	words_add(&o->words, "XADD");
	words_add(&o->words, o->places[p->shard].stream);
	if (o->maxlen > 0) {
		words_add(&o->words, "MAXLEN");
		words_add(&o->words, "~");
		words_add_number(&o->words, o->maxlen);
	}
	words_add(&o->words, "*");
	words_add(&o->words, o->field);
	words_add_bytes(&o->words, p->bytes, p->count);
}

/* Whether it may go again. Frees the reply if so, and notes a server that is not the one. */
static bool goes_again(struct post *o, uint32_t shard, redisReply *reply)
{
	struct finder *f = o->places[shard].finder;
	struct link *l = &o->links[shard];

	if (reply && reply->type != REDIS_REPLY_ERROR)
		return false;
	if (reply) {
		const enum refusal refusal = refusal_of(reply->str);

		if (refusal != REFUSAL_WAIT && refusal != REFUSAL_ELSEWHERE)
			return false;
		snprintf(l->error, sizeof(l->error), "%.255s", reply->str);
		finder_told(f, reply->str, &l->to);
		freeReplyObject(reply);
		o->leave[shard] |= refusal == REFUSAL_ELSEWHERE;
	} else {
		finder_failed(f);
	}
	if (!o->again_said)
		warn_line("XADD: %s; trying again", l->error);
	o->again_said = true;
	return true;
}

static int send_again(struct post *o, const struct parcel *p)
{
	const struct timespec rest = { .tv_nsec = REST_MS * 1000000L };
	const uint64_t until = now_ms() + PATIENCE_MS;
	redisReply *reply;

	for (;;) {
		reply = NULL;
		if (reach(o, p->shard)) {
			write_parcel(o, p);
			reply = link_call(&o->links[p->shard], &o->words);
		}
		if (reply && reply->type == REDIS_REPLY_STRING) {
			freeReplyObject(reply);
			++*o->sent;
			return EXIT_DONE;
		}
		if (now_ms() >= until || !goes_again(o, p->shard, reply))
			return refused(&o->links[p->shard], "XADD", reply);
		nanosleep(&rest, NULL);
	}
}

int post_flush(struct post *o)
{
	bool again[POST_MOST] = { false };
	int code = EXIT_DONE;

	for (uint32_t i = 0; i < o->under_way; i++) {
		const uint32_t shard = o->parcels[i].shard;
		redisReply *reply = o->parcels[i].written ? link_reply(&o->links[shard]) : NULL;

		if (reply && reply->type == REDIS_REPLY_STRING) {
			freeReplyObject(reply);
			++*o->sent;
		} else if (code == EXIT_DONE) {
			again[i] = goes_again(o, shard, reply);
			if (!again[i])
				code = refused(&o->links[shard], "XADD", reply);
		} else if (reply) {
			freeReplyObject(reply);
		}
	}
	memset(o->broken, 0, sizeof(o->broken));
	for (uint32_t i = 0; i < o->under_way; i++) {
		if (code == EXIT_DONE && again[i])
			code = send_again(o, &o->parcels[i]);
		free(o->parcels[i].bytes);
	}
	o->under_way = 0;
	o->bytes_under_way = 0;
	return code;
}

static uint32_t choose(struct post *o, const void *payload, size_t bytes)
{
	const uint32_t turn = o->turn;

	if (o->by_payload)
		return slots_crc16(payload, bytes) % o->shards;
	o->turn = (turn + 1) % o->shards;
	return turn;
}

int post_add(struct post *o, const void *payload, size_t bytes)
{
	struct parcel *p = &o->parcels[o->under_way];

	*p = (struct parcel){ .count = bytes, .shard = choose(o, payload, bytes) };
	p->bytes = malloc(bytes > 0 ? bytes : 1);
	if (!p->bytes) {
		warn_line("no memory for a message of %zu bytes", bytes);
		return EXIT_REDIS;
	}
	memcpy(p->bytes, payload, bytes);
	o->under_way++;
	o->bytes_under_way += bytes;
	/*
	 * What cannot be sent has no reply either: post_flush() sends it again. Nothing follows it
	 * on another connection, whose replies would be taken for those of the first.
	 */
	if (!o->broken[p->shard] && reach(o, p->shard)) {
		write_parcel(o, p);
		p->written = link_append(&o->links[p->shard], &o->words);
		o->broken[p->shard] = !p->written;
	} else {
		o->broken[p->shard] = true;
	}
	return o->under_way == POST_MOST || o->bytes_under_way > BYTES_MOST ? post_flush(o)
									    : EXIT_DONE;
}
