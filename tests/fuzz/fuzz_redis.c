/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_redis.c - a Redis that answers whatever it likes: the bytes go through hiredis's reader, and
 * every reply through what gpuq-redis reads entries and refusals with. Nothing may touch memory
 * that is not the reply's.
 */
#include "redis/address.h"
#include "redis/entry.h"
#include "redis/refusal.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink; /* so that what is read counts */

static void use(const struct entry *e)
{
	char text[STREAM_ID_TEXT];
	struct stream_id again;
	const size_t len = stream_id_format(e->id, text);

	if (!stream_id_parse(text, len, &again) || !stream_id_equal(again, e->id))
		abort();
	for (size_t i = 0; i < e->payload_bytes; i++)
		sink ^= (uint8_t)e->payload[i];
	if (!e->gone && !e->payload && !e->wrong)
		abort(); /* neither a message nor a reason */
}

static void read_reply(const redisReply *reply)
{
	static const struct entry_names names = { "payload", "prio", "op" };
	const redisReply *list = entry_list(reply);
	struct entry e;

	if (entry_decode(reply, &names, &e))
		use(&e);
	for (size_t i = 0; list && i < list->elements; i++) {
		if (entry_decode(list->element[i], &names, &e))
			use(&e);
	}
	if (reply->type == REDIS_REPLY_ERROR)
		sink ^= (uint8_t)refusal_of(reply->str);
}

static void read_address(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char shown[ADDRESS_TEXT];
	struct address a;

	if (!text)
		return;
	memcpy(text, data, size);
	text[size] = '\0';
	if (!address_parse(text, &a))
		address_show(&a, shown);
	free(text);
}

/* hiredis makes room for as many elements as an array says it has; that is not what is looked for.
 */
static bool claims_much(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + 5 < size; i++) {
		if (data[i] == '*' && memchr(data + i + 1, '\r', 5) == NULL)
			return true;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	read_address(data, size);
	if (!reader || claims_much(data, size) ||
	    redisReaderFeed(reader, (const char *)data, size) != REDIS_OK) {
		if (reader)
			redisReaderFree(reader);
		return 0;
	}
	while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) {
		read_reply(reply);
		freeReplyObject(reply);
		reply = NULL;
	}
	redisReaderFree(reader);
	return 0;
}
