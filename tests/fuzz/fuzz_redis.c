/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_redis.c - a Redis that answers whatever it likes: the bytes go through hiredis's reader, and
 * every reply through what gpuq-redis reads entries and refusals with. Nothing may touch memory
 * that is not the reply's.
 */
#include "fuzz.h"

#include "redis/policy/address.h"
#include "redis/policy/entry.h"
#include "redis/policy/refusal.h"
#include "redis/policy/slots.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

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

/* A map that was taken over leads to servers that it has, and to no others. */
static void read_slots(const redisReply *reply)
{
	static const struct server_name asked = { .host = "asked", .port = 1 };
	static struct slots slots;

	if (!slots_read(&slots, reply, &asked))
		return;
	for (uint32_t slot = 0; slot <= SLOTS; slot++) {
		const struct server_name *name = slots_find(&slots, slot);

		if (name && (name->port == 0 || name->host[sizeof(name->host) - 1] != '\0'))
			abort();
		if (name && (slot == SLOTS || name >= slots.servers + slots.count))
			abort();
	}
}

static void read_redirect(const char *text)
{
	static const struct server_name asked = { .host = "asked", .port = 1 };
	static struct slots slots;
	struct redirect r;

	if (!slots_redirect(text, &r))
		return;
	if (r.slot >= SLOTS || r.to.port == 0)
		abort();
	if (slots.count == SLOTS_SERVERS)
		slots_clear(&slots);
	if (!slots_moved(&slots, &r, &asked) || !slots_find(&slots, r.slot))
		abort();
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
	read_slots(reply);
	if (reply->type == REDIS_REPLY_ERROR) {
		sink ^= (uint8_t)refusal_of(reply->str);
		read_redirect(reply->str);
	}
}

static void read_address(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char shown[ADDRESS_TEXT];
	struct address list[ADDRESS_LIST];
	uint32_t count = 0;
	struct address a;

	if (!text)
		return;
	memcpy(text, data, size);
	text[size] = '\0';
	if (!address_parse(text, &a))
		address_show(&a, shown);
	if (!address_parse_list(text, 1, list, &count))
		address_show(&list[count - 1], shown);
	sink ^= (uint8_t)slots_of_key(data, size);
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

void fuzz_one(const uint8_t *data, size_t size)
{
	redisReader *reader;
	void *reply = NULL;

	read_address(data, size);
	/* What hiredis allocates is its own affair: an array's elements before they are there. */
	fuzz_counts(false);
	reader = redisReaderCreate();
	if (!reader || claims_much(data, size) ||
	    redisReaderFeed(reader, (const char *)data, size) != REDIS_OK) {
		if (reader)
			redisReaderFree(reader);
		return;
	}
	while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) {
		fuzz_counts(true);
		read_reply(reply);
		fuzz_counts(false);
		freeReplyObject(reply);
		reply = NULL;
	}
	redisReaderFree(reader);
}
