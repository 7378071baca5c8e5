/* SPDX-License-Identifier: Apache-2.0 */
/* finder.c - asks sentinels for their master, and a cluster for its slots. */
#include "finder.h"

#include "link.h"
#include "program/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All are asked with the first limit of time; if that brings nothing, again with the second. */
static const int probe_ms[] = { 300, 3000 };
#define PROBES 2

#define WATCH_MS 2000u /* a sentinel is asked whether the master is another so often */

#define REFRESH_MS 500u /* the slot map is asked for at most so often */

/* ---- options --------------------------------------------------------------------------------- */

const char *finder_parse_sentinels(struct finder *f, const char *text)
{
	const char *at = strchr(text, '@');
	const size_t len = at ? (size_t)(at - text) : 0;

	if (!at)
		return "has no '@' behind the master's name";
	if (len == 0)
		return "has no master's name before the '@'";
	if (len >= sizeof(f->master))
		return "has a master's name of more than 255 bytes";
	memcpy(f->master, text, len);
	f->master[len] = '\0';
	f->kind = FIND_SENTINEL;
	return address_parse_list(at + 1, SENTINEL_PORT, f->list, &f->count);
}

const char *finder_parse_cluster(struct finder *f, const char *text)
{
	f->kind = FIND_CLUSTER;
	return address_parse_list(text, ADDRESS_PORT, f->list, &f->count);
}

/* ---- sentinels ------------------------------------------------------------------------------- */

static void note(struct finder *f, const struct address *a, const char *why)
{
	char where[ADDRESS_TEXT];

	address_show(a, where);
	snprintf(f->error, sizeof(f->error), "%s: %s", where, why);
}

/* With the password only if it is asked for: most sentinels have none, and refuse one. */
static redisReply *ask_for_master(struct finder *f, struct link *l, const struct address *sentinel,
				  int limit_ms)
{
	struct address a = *sentinel;
	redisReply *reply;

	if (!link_open_within(l, &a, limit_ms))
		return NULL;
	reply = link_say(l, "SENTINEL", "get-master-addr-by-name", f->master, NULL);
	if (!reply || reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "NOAUTH", 6) != 0 ||
	    !f->base.has_password)
		return reply;
	freeReplyObject(reply);
	link_close(l);
	memcpy(a.user, f->base.user, sizeof(a.user));
	memcpy(a.password, f->base.password, sizeof(a.password));
	a.has_password = true;
	if (!link_open_within(l, &a, limit_ms))
		return NULL;
	return link_say(l, "SENTINEL", "get-master-addr-by-name", f->master, NULL);
}

enum answer { ANSWER_NONE, ANSWER_UNKNOWN, ANSWER_MASTER };

static bool read_master(const redisReply *reply, const struct address *base, struct address *out)
{
	uint32_t port = 0;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_STRING || reply->element[0]->len == 0 ||
	    reply->element[0]->len >= sizeof(out->host))
		return false;
	port = (uint32_t)strtoul(reply->element[1]->str, NULL, 10);
	if (port < 1 || port > 65535)
		return false;
	*out = *base;
	memcpy(out->host, reply->element[0]->str, reply->element[0]->len + 1);
	out->port = (uint16_t)port;
	return true;
}

static enum answer ask_sentinel(struct finder *f, uint32_t i, int limit_ms, struct address *out)
{
	struct link l = { .context = NULL };
	redisReply *reply = ask_for_master(f, &l, &f->list[i], limit_ms);
	enum answer answer = ANSWER_NONE;

	if (!reply)
		note(f, &f->list[i], l.error);
	else if (reply->type == REDIS_REPLY_NIL)
		answer = ANSWER_UNKNOWN;
	else if (read_master(reply, &f->base, out))
		answer = ANSWER_MASTER;
	else
		note(f, &f->list[i],
		     reply->type == REDIS_REPLY_ERROR ? reply->str : "is this a sentinel?");
	if (reply)
		freeReplyObject(reply);
	link_close(&l);
	return answer;
}

static void move_to_front(struct finder *f, uint32_t i)
{
	const struct address good = f->list[i];

	memmove(&f->list[1], &f->list[0], i * sizeof(f->list[0]));
	f->list[0] = good;
}

static bool find_master(struct finder *f, struct address *out)
{
	bool unknown = false;
	char why[300];

	for (int probe = 0; probe < PROBES && !unknown; probe++) {
		for (uint32_t i = 0; i < f->count; i++) {
			const enum answer answer = ask_sentinel(f, i, probe_ms[probe], out);

			if (answer == ANSWER_MASTER) {
				move_to_front(f, i);
				f->named = *out;
				return true;
			}
			unknown |= answer == ANSWER_UNKNOWN;
		}
	}
	if (unknown) {
		snprintf(f->error, sizeof(f->error), "no sentinel knows a master '%s'", f->master);
		f->final = true;
		return false;
	}
	snprintf(why, sizeof(why), "%.299s", f->error);
	snprintf(f->error, sizeof(f->error), "no sentinel of '%s' answers: %s", f->master, why);
	return false;
}

/* A sentinel that does not answer goes to the end: the next one is asked the next time. */
bool finder_left(struct finder *f, const struct address *now)
{
	const uint64_t now_ms = clock_ns() / 1000000u;
	const struct address first = f->list[0];
	struct address a;

	if (f->kind != FIND_SENTINEL)
		return false;
	if (now_ms - f->asked_ms >= WATCH_MS) {
		f->asked_ms = now_ms;
		if (ask_sentinel(f, 0, probe_ms[0], &a) == ANSWER_MASTER) {
			f->named = a;
		} else {
			memmove(&f->list[0], &f->list[1], (f->count - 1) * sizeof(f->list[0]));
			f->list[f->count - 1] = first;
		}
	}
	return f->named.port != now->port || strcmp(f->named.host, now->host) != 0;
}

/* ---- a cluster ------------------------------------------------------------------------------- */

static void name_of(const struct address *a, struct server_name *out)
{
	memcpy(out->host, a->host, sizeof(out->host));
	out->port = a->port;
}

static void address_of(const struct finder *f, const struct server_name *name, struct address *out)
{
	*out = f->base;
	memcpy(out->host, name->host, sizeof(out->host));
	out->port = name->port;
}

static bool ask_for_slots(struct finder *f, const struct address *a, int limit_ms)
{
	struct link l = { .context = NULL };
	struct server_name asked;
	redisReply *reply = NULL;
	bool ok = false;

	name_of(a, &asked);
	if (link_open_within(&l, a, limit_ms))
		reply = link_say(&l, "CLUSTER", "SLOTS", NULL);
	if (!reply) {
		note(f, a, l.error);
		f->final |= l.refused;
	} else if (reply->type == REDIS_REPLY_ERROR) {
		note(f, a, reply->str);
		f->final = strstr(reply->str, "cluster support disabled") != NULL;
		if (f->final)
			note(f, a,
			     "is a server by itself, no part of a cluster: name it with --url");
	} else if (!slots_read(f->slots, reply, &asked)) {
		note(f, a, "answers to CLUSTER SLOTS what makes no sense");
	} else {
		ok = true;
	}
	if (reply)
		freeReplyObject(reply);
	link_close(&l);
	return ok;
}

static bool ask_known(struct finder *f, int limit_ms)
{
	struct server_name *known = NULL;
	const uint32_t count = f->slots->count;
	bool ok = false;

	if (count > 0)
		known = calloc(count, sizeof(*known));
	if (known)
		memcpy(known, f->slots->servers, count * sizeof(*known));
	for (uint32_t i = 0; known && i < count && !ok; i++) {
		struct address a;

		address_of(f, &known[i], &a);
		ok = ask_for_slots(f, &a, limit_ms);
	}
	free(known);
	return ok;
}

static bool ask_listed(struct finder *f, int limit_ms)
{
	for (uint32_t i = 0; i < f->count && !f->final; i++) {
		struct address a = f->base;

		memcpy(a.host, f->list[i].host, sizeof(a.host));
		a.port = f->list[i].port;
		if (ask_for_slots(f, &a, limit_ms))
			return true;
	}
	return false;
}

/* A map that is there already serves until another is had. */
static void refresh(struct finder *f)
{
	const uint64_t now = clock_ns() / 1000000u;
	const int probes = f->slots->count == 0 ? PROBES : 1;

	if (f->slots->count > 0 && (!f->stale || now - f->asked_ms < REFRESH_MS))
		return;
	f->asked_ms = now;
	for (int probe = 0; probe < probes && !f->final; probe++) {
		if (ask_known(f, probe_ms[probe]) || ask_listed(f, probe_ms[probe])) {
			f->stale = false;
			f->final = false;
			return;
		}
	}
}

static bool find_slot(struct finder *f, uint32_t slot, struct address *out)
{
	const struct server_name *name;

	refresh(f);
	name = slots_find(f->slots, slot);
	if (name) {
		address_of(f, name, out);
		return true;
	}
	f->stale = true;
	if (f->slots->count > 0)
		snprintf(f->error, sizeof(f->error),
			 "no server of the cluster has slot %u (it is not complete)", slot);
	return false;
}

/* ---- all ------------------------------------------------------------------------------------- */

bool finder_find(struct finder *f, uint32_t slot, struct address *out)
{
	f->final = false;
	if (f->kind == FIND_SENTINEL)
		return find_master(f, out);
	if (f->kind == FIND_CLUSTER)
		return find_slot(f, slot, out);
	*out = f->base;
	return true;
}

void finder_failed(struct finder *f)
{
	f->stale = true;
}

void finder_told(struct finder *f, const char *error, const struct address *from)
{
	struct redirect r;
	struct server_name asked;

	if (f->kind != FIND_CLUSTER || !slots_redirect(error, &r) || !r.moved)
		return;
	name_of(from, &asked);
	slots_moved(f->slots, &r, &asked);
	f->stale = true;
}
