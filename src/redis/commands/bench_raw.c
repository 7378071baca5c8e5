/* SPDX-License-Identifier: Apache-2.0 */
/* bench_raw.c - what speaking to Redis alone costs: the floor that a worker is measured against. */
#include "bench.h"
#include "redis/server/scripts.h"

#include <stdlib.h>
#include <string.h>

struct raw {
	const struct bench *b;
	enum bench_case c;
	struct link link;
	struct words words;
};

static bool ask(struct raw *r)
{
	words_clear(&r->words);
	words_add(&r->words, "XREADGROUP");
	words_add(&r->words, "GROUP");
	words_add(&r->words, "gpuq");
	words_add(&r->words, "raw");
	words_add(&r->words, "COUNT");
	words_add_number(&r->words, r->b->batch);
	words_add(&r->words, "BLOCK");
	words_add(&r->words, "2000");
	words_add(&r->words, "STREAMS");
	words_add(&r->words, r->b->place.stream);
	words_add(&r->words, ">");
	return link_append(&r->link, &r->words);
}

/* The id and the payload of an entry, as they came. */
static const redisReply *id_of(const redisReply *entry)
{
	return entry->element[0];
}

static const redisReply *payload_of(const redisReply *entry)
{
	return entry->element[1]->element[1];
}

static bool add_result(struct raw *r, const redisReply *entry)
{
	words_clear(&r->words);
	words_add(&r->words, "XADD");
	words_add(&r->words, r->b->results);
	words_add(&r->words, "*");
	words_add(&r->words, "id");
	words_add_bytes(&r->words, id_of(entry)->str, id_of(entry)->len);
	words_add(&r->words, "status");
	words_add(&r->words, "ok");
	words_add(&r->words, "result");
	words_add_bytes(&r->words, payload_of(entry)->str, payload_of(entry)->len);
	words_add(&r->words, "consumer");
	words_add(&r->words, "raw");
	words_add(&r->words, "deliveries");
	words_add(&r->words, "1");
	return link_append(&r->link, &r->words);
}

static bool acknowledge(struct raw *r, const redisReply *list)
{
	words_clear(&r->words);
	words_add(&r->words, "XACK");
	words_add(&r->words, r->b->place.stream);
	words_add(&r->words, "gpuq");
	for (size_t i = 0; i < list->elements; i++)
		words_add_bytes(&r->words, id_of(list->element[i])->str,
				id_of(list->element[i])->len);
	return link_append(&r->link, &r->words);
}

static bool one_word(struct raw *r, const char *word)
{
	words_clear(&r->words);
	words_add(&r->words, word);
	return link_append(&r->link, &r->words);
}

static bool call_script(struct raw *r, const redisReply *list)
{
	if (!script_begin(&script_publish, &r->link, &r->words, 2))
		return false;
	words_add(&r->words, r->b->place.stream);
	words_add(&r->words, r->b->results);
	words_add(&r->words, "gpuq");
	words_add(&r->words, "raw");
	words_add(&r->words, "stream");
	words_add(&r->words, "0");
	words_add(&r->words, "1");
	for (size_t i = 0; i < list->elements; i++) {
		const redisReply *e = list->element[i];

		words_add_bytes(&r->words, id_of(e)->str, id_of(e)->len);
		words_add(&r->words, "ok");
		words_add_bytes(&r->words, payload_of(e)->str, payload_of(e)->len);
		words_add(&r->words, "1");
	}
	return link_append(&r->link, &r->words);
}

/* What is done with a batch. Returns the number of replies that will come; -1: it failed. */
static int settle(struct raw *r, const redisReply *list)
{
	int replies = 1;

	if (r->c == BENCH_FENCED)
		return call_script(r, list) ? 1 : -1;
	if (r->c == BENCH_ATOMIC && !one_word(r, "MULTI"))
		return -1;
	for (size_t i = 0; r->c != BENCH_ACK_ONLY && i < list->elements; i++) {
		if (!add_result(r, list->element[i]))
			return -1;
		replies++;
	}
	if (!acknowledge(r, list))
		return -1;
	if (r->c == BENCH_ATOMIC && !one_word(r, "EXEC"))
		return -1;
	return r->c == BENCH_ATOMIC ? replies + 2 : replies;
}

static bool take_replies(struct raw *r, int count)
{
	while (count-- > 0) {
		redisReply *reply = link_reply(&r->link);

		if (!reply || reply->type == REDIS_REPLY_ERROR) {
			refused(&r->link, "bench", reply);
			return false;
		}
		freeReplyObject(reply);
	}
	return true;
}

static int loop(struct raw *r, uint64_t messages, struct bench_time *out)
{
	redisReply *reply;

	out->first_ns = clock_ns();
	if (!ask(r))
		return EXIT_REDIS;
	while (out->done < messages) {
		const redisReply *list = NULL;
		int replies = 0;

		reply = link_reply(&r->link);
		if (reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 1)
			list = reply->element[0]->element[1];
		else if (!reply || reply->type != REDIS_REPLY_NIL)
			return refused(&r->link, "XREADGROUP", reply);
		if (list) {
			replies = settle(r, list);
			out->done += list->elements;
		}
		freeReplyObject(reply);
		if (replies < 0 || (out->done < messages && !ask(r)) || !take_replies(r, replies))
			return EXIT_REDIS;
		out->last_ns = clock_ns();
	}
	return EXIT_DONE;
}

int bench_raw(const struct bench *b, enum bench_case c, uint64_t messages, struct bench_time *out)
{
	struct raw r = { .b = b, .c = c };
	int code = place_connect(&b->place, &r.link);

	if (code != EXIT_DONE)
		return code;
	if (!words_init(&r.words, 4 * b->batch + 64)) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	/* the script is there before the clock runs */
	if (c == BENCH_FENCED)
		script_begin(&script_publish, &r.link, &r.words, 2);
	code = loop(&r, messages, out);
	words_free(&r.words);
	link_close(&r.link);
	return code;
}
