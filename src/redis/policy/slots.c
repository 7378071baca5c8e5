/* SPDX-License-Identifier: Apache-2.0 */
/* slots.c - which server of a cluster has a key, out of what its servers say. */
#include "slots.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys ------------------------------------------------------------------------------------ */

uint16_t slots_crc16(const void *bytes, size_t count)
{
	const uint8_t *at = bytes;
	uint16_t crc = 0;

	for (size_t i = 0; i < count; i++) {
		crc ^= (uint16_t)(at[i] << 8);
		for (int bit = 0; bit < 8; bit++)
			crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
	}
	return crc;
}

uint32_t slots_of_key(const void *key, size_t bytes)
{
	const char *text = key;
	const char *open = bytes > 0 ? memchr(text, '{', bytes) : NULL;
	const char *close = open ? memchr(open, '}', (size_t)(text + bytes - open)) : NULL;

	if (close && close > open + 1)
		return slots_crc16(open + 1, (size_t)(close - open - 1)) % SLOTS;
	return slots_crc16(key, bytes) % SLOTS;
}

/* ---- servers --------------------------------------------------------------------------------- */

void slots_clear(struct slots *s)
{
	memset(s->owner, 0, sizeof(s->owner));
	s->count = 0;
}

/* The server's index and 1, made if it is new; 0: no room. */
static uint16_t index_of(struct slots *s, const struct server_name *name)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->servers[i].port == name->port && strcmp(s->servers[i].host, name->host) == 0)
			return (uint16_t)(i + 1);
	}
	if (s->count == SLOTS_SERVERS)
		return 0;
	s->servers[s->count++] = *name;
	return (uint16_t)s->count;
}

const struct server_name *slots_find(const struct slots *s, uint32_t slot)
{
	if (slot >= SLOTS || s->owner[slot] == 0)
		return NULL;
	return &s->servers[s->owner[slot] - 1];
}

static bool set_host(struct server_name *out, const char *host, size_t bytes)
{
	if (bytes >= sizeof(out->host) || memchr(host, '\0', bytes))
		return false;
	memcpy(out->host, host, bytes);
	out->host[bytes] = '\0';
	return true;
}

/* ---- CLUSTER SLOTS --------------------------------------------------------------------------- */

/* [host, port, ...]; the host is nil, empty or "?" where the server does not know it. */
static bool read_server(const redisReply *r, const struct server_name *asked,
			struct server_name *out)
{
	if (r->type != REDIS_REPLY_ARRAY || r->elements < 2 ||
	    r->element[1]->type != REDIS_REPLY_INTEGER || r->element[1]->integer < 1 ||
	    r->element[1]->integer > 65535)
		return false;
	out->port = (uint16_t)r->element[1]->integer;
	if (r->element[0]->type == REDIS_REPLY_NIL)
		return set_host(out, asked->host, strlen(asked->host));
	if (r->element[0]->type != REDIS_REPLY_STRING)
		return false;
	if (r->element[0]->len == 0 || strcmp(r->element[0]->str, "?") == 0)
		return set_host(out, asked->host, strlen(asked->host));
	return set_host(out, r->element[0]->str, r->element[0]->len);
}

static bool read_range(struct slots *s, const redisReply *r, const struct server_name *asked)
{
	struct server_name name;
	uint16_t owner;

	if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 ||
	    r->element[0]->type != REDIS_REPLY_INTEGER ||
	    r->element[1]->type != REDIS_REPLY_INTEGER || r->element[0]->integer < 0 ||
	    r->element[1]->integer >= SLOTS || r->element[0]->integer > r->element[1]->integer ||
	    !read_server(r->element[2], asked, &name))
		return false;
	owner = index_of(s, &name);
	if (owner == 0)
		return false;
	for (long long slot = r->element[0]->integer; slot <= r->element[1]->integer; slot++)
		s->owner[slot] = owner;
	return true;
}

bool slots_read(struct slots *s, const struct redisReply *reply, const struct server_name *asked)
{
	struct slots *next;
	bool ok = reply->type == REDIS_REPLY_ARRAY && reply->elements <= SLOTS;

	if (!ok)
		return false;
	next = calloc(1, sizeof(*next));
	if (!next) /* unreached: no memory */
		return false;
	for (size_t i = 0; i < reply->elements && ok; i++)
		ok = read_range(next, reply->element[i], asked);
	if (ok)
		*s = *next;
	free(next);
	return ok;
}

/* ---- MOVED and ASK --------------------------------------------------------------------------- */

/* Digits up to `end`; -1: none, or the number is above `most`. */
static long digits(const char *text, const char *end, long most)
{
	long value = 0;

	if (text == end)
		return -1;
	for (; text < end; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		value = value * 10 + (*text - '0');
		if (value > most)
			return -1;
	}
	return value;
}

bool slots_redirect(const char *error, struct redirect *out)
{
	const bool moved = strncmp(error, "MOVED ", 6) == 0;
	const char *slot = error + (moved ? 6 : 4);
	const char *space;
	const char *colon;
	const char *end;
	long number;
	long port;

	if (!moved && strncmp(error, "ASK ", 4) != 0)
		return false;
	space = strchr(slot, ' ');
	if (!space)
		return false;
	end = space + 1 + strcspn(space + 1, " \r\n");
	colon = end;
	while (colon > space + 1 && *colon != ':')
		colon--; /* the last one: an IPv6 address has more */
	number = digits(slot, space, (long)SLOTS - 1);
	if (*colon != ':')
		return false;
	port = digits(colon + 1, end, 65535);
	if (number < 0 || port < 1)
		return false;
	*out = (struct redirect){ .moved = moved, .slot = (uint32_t)number };
	out->to.port = (uint16_t)port;
	return set_host(&out->to, space + 1, (size_t)(colon - space - 1));
}

bool slots_moved(struct slots *s, const struct redirect *r, const struct server_name *asked)
{
	struct server_name name = r->to;
	uint16_t owner;

	if (name.host[0] == '\0')
		memcpy(name.host, asked->host, sizeof(name.host));
	owner = index_of(s, &name);
	if (owner == 0 || r->slot >= SLOTS)
		return false;
	s->owner[r->slot] = owner;
	return true;
}
