/* SPDX-License-Identifier: Apache-2.0 */
/* entry.c - reads entries out of replies. Pure; whatever the reply holds, nothing is trusted. */
#include "entry.h"

#include <gpuq/gpuq.h>

#include <hiredis/hiredis.h>
#include <string.h>

/* The digits at the beginning; how many there are, 0 if the number is above `most`. */
static size_t digits(const char *text, size_t len, uint64_t most, uint64_t *out)
{
	uint64_t value = 0;
	size_t i;

	for (i = 0; i < len && text[i] >= '0' && text[i] <= '9'; i++) {
		const uint64_t digit = (uint64_t)(text[i] - '0');

		if (digit > most || value > (most - digit) / 10)
			return 0;
		value = value * 10 + digit;
	}
	*out = value;
	return i;
}

bool stream_id_parse(const char *text, size_t len, struct stream_id *out)
{
	struct stream_id id;
	const size_t ms = digits(text, len, UINT64_MAX, &id.ms);
	size_t seq;

	if (ms == 0 || ms >= len || text[ms] != '-')
		return false;
	seq = digits(text + ms + 1, len - ms - 1, UINT64_MAX, &id.seq);
	if (seq == 0 || ms + 1 + seq != len)
		return false;
	*out = id;
	return true;
}

size_t decimal_format(uint64_t value, char *to)
{
	char digit[DECIMAL_TEXT];
	size_t from = sizeof(digit);

	do {
		digit[--from] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	memcpy(to, digit + from, sizeof(digit) - from);
	return sizeof(digit) - from;
}

size_t stream_id_format(struct stream_id id, char *to)
{
	size_t len = decimal_format(id.ms, to);

	to[len++] = '-';
	len += decimal_format(id.seq, to + len);
	to[len] = '\0';
	return len;
}

static bool is_named(const redisReply *field, const char *name)
{
	return name && field->len == strlen(name) && memcmp(field->str, name, field->len) == 0;
}

static bool priority_of(const redisReply *value, uint32_t *out)
{
	static const char *const names[] = { "low", "normal", "high", "urgent" };
	uint64_t number;

	for (uint32_t i = 0; i < 4; i++) {
		if (is_named(value, names[i])) {
			*out = Q_PRIORITY_LOW + i;
			return true;
		}
	}
	if (value->len == 0 ||
	    digits(value->str, value->len, Q_PRIORITY_URGENT, &number) != value->len)
		return false;
	*out = (uint32_t)number;
	return true;
}

static void take_field(const redisReply *field, const redisReply *value,
		       const struct entry_names *names, struct entry *out)
{
	uint64_t number;

	if (is_named(field, names->payload)) {
		out->payload = value->str;
		out->payload_bytes = value->len;
	} else if (is_named(field, names->priority)) {
		if (!priority_of(value, &out->priority))
			out->wrong = "the priority is not low, normal, high, urgent or 0 to 4";
	} else if (is_named(field, names->opcode)) {
		if (value->len == 0 ||
		    digits(value->str, value->len, UINT32_MAX, &number) != value->len)
			out->wrong = "the opcode is not a number of 0 to 4294967295";
		else
			out->opcode = (uint32_t)number;
	}
}

bool entry_decode(const redisReply *reply, const struct entry_names *names, struct entry *out)
{
	const redisReply *fields;

	*out = (struct entry){ .gone = false };
	if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    reply->element[0]->type != REDIS_REPLY_STRING ||
	    !stream_id_parse(reply->element[0]->str, reply->element[0]->len, &out->id))
		return false;
	fields = reply->element[1];
	if (fields->type == REDIS_REPLY_NIL) {
		out->gone = true;
		return true;
	}
	if (fields->type != REDIS_REPLY_ARRAY || fields->elements % 2 != 0)
		return false;
	for (size_t i = 0; i < fields->elements; i++) {
		if (fields->element[i]->type != REDIS_REPLY_STRING)
			return false;
	}
	for (size_t i = 0; i < fields->elements; i += 2)
		take_field(fields->element[i], fields->element[i + 1], names, out);
	if (!out->payload)
		out->wrong = "the entry has no such field";
	return true;
}

const redisReply *entry_list(const redisReply *reply)
{
	const redisReply *stream;

	if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 1)
		return NULL;
	stream = reply->element[0];
	if (stream->type != REDIS_REPLY_ARRAY || stream->elements != 2 ||
	    stream->element[1]->type != REDIS_REPLY_ARRAY)
		return NULL;
	return stream->element[1];
}
