/* SPDX-License-Identifier: Apache-2.0 */
/* show.c - replies of Redis as people and programs read them. */
#include "show.h"

#include <stdlib.h>
#include <string.h>

const redisReply *named(const redisReply *list, const char *name)
{
	if (!list || list->type != REDIS_REPLY_ARRAY)
		return NULL;
	for (size_t i = 0; i + 1 < list->elements; i += 2) {
		const redisReply *key = list->element[i];

		if (key->type == REDIS_REPLY_STRING && strcmp(key->str, name) == 0)
			return list->element[i + 1];
	}
	return NULL;
}

const char *named_text(const redisReply *list, const char *name)
{
	const redisReply *value = named(list, name);

	return value && value->type == REDIS_REPLY_STRING ? value->str : "";
}

long long named_number(const redisReply *list, const char *name, long long otherwise)
{
	const redisReply *value = named(list, name);

	if (value && value->type == REDIS_REPLY_INTEGER)
		return value->integer;
	if (value && value->type == REDIS_REPLY_STRING)
		return strtoll(value->str, NULL, 10);
	return otherwise;
}

void show_hex(FILE *to, const void *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = bytes;

	for (size_t i = 0; i < count; i++) {
		putc(digits[b[i] >> 4], to);
		putc(digits[b[i] & 15], to);
	}
}

void show_json(FILE *to, const char *text, size_t count)
{
	putc('"', to);
	for (size_t i = 0; i < count; i++) {
		const unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			fprintf(to, "\\u%04x", c);
		else
			putc(c, to);
	}
	putc('"', to);
}
