/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - the worker's two connections, and what it does when Redis refuses. */
#include "worker.h"

#include "redis/policy/backoff.h"
#include "redis/policy/refusal.h"

#include <stdio.h>
#include <string.h>

static void disconnect(struct worker *w)
{
	link_close(&w->command);
	link_close(&w->reader);
	w->reading = false;
	w->asked = 0;
	publish_lost(w);
}

static uint32_t next_wait(struct worker *w)
{
	return backoff_reconnect_ms(w->attempt++, backoff_random(&w->random));
}

static void end(struct worker *w, int code)
{
	w->over = true;
	w->code = code;
}

static void lose_connection(struct worker *w, const char *what)
{
	const char *why = w->command.context ? w->reader.error : w->command.error;

	if (w->attempt == 0)
		warn_line("%s: %s; connecting again", what, why);
	finder_failed(w->options->place.finder);
	disconnect(w);
	w->connect_at_ms = now_ms() + next_wait(w);
}

/* ---- the handshake --------------------------------------------------------------------------- */

static bool learn_reader(struct worker *w)
{
	redisReply *reply = link_say(&w->reader, "CLIENT", "ID", NULL);

	if (!reply || reply->type != REDIS_REPLY_INTEGER) {
		worker_refused(w, "CLIENT ID", reply);
		return false;
	}
	w->reader_id = (uint64_t)reply->integer;
	freeReplyObject(reply);
	return true;
}

static bool make_group(struct worker *w)
{
	const struct worker_options *o = w->options;
	redisReply *reply = link_say(&w->command, "XGROUP", "CREATE", o->place.stream, o->group,
				     "0", "MKSTREAM", NULL);
	bool made;

	if (!reply ||
	    (reply->type == REDIS_REPLY_ERROR && refusal_of(reply->str) != REFUSAL_EXISTS)) {
		worker_refused(w, "the group cannot be made", reply);
		return false;
	}
	made = reply->type != REDIS_REPLY_ERROR;
	freeReplyObject(reply);
	if (made && w->totals.group_lost > 0)
		warn_line("the group had gone; it is made again");
	return true;
}

/* A key that the worker will write to is a stream, or not there. */
static bool is_stream(struct worker *w, const char *what, const char *key, const char *type)
{
	redisReply *reply = link_say(&w->command, "TYPE", key, NULL);

	if (!reply || reply->type != REDIS_REPLY_STATUS) {
		worker_refused(w, what, reply);
		return false;
	}
	if (strcmp(reply->str, type) != 0 && strcmp(reply->str, "none") != 0) {
		warn_line("%s: the key '%s' is a %s, must be a %s", what, key, reply->str, type);
		freeReplyObject(reply);
		end(w, EXIT_REDIS);
		return false;
	}
	freeReplyObject(reply);
	return true;
}

static bool keys_fit(struct worker *w)
{
	const struct results_place *r = &w->options->results;

	if (!is_stream(w, "--stream", w->options->place.stream, w->list ? "list" : "stream") ||
	    !is_stream(w, "--dlq", w->options->dead, "stream"))
		return false;
	if (r->kind == RESULTS_STREAM)
		return is_stream(w, "--results", r->key, "stream");
	return r->kind != RESULTS_LIST || is_stream(w, "--results", r->key, "list");
}

/*
 * Of a server that is named by its address this is a person's mistake. Sentinels, and the servers
 * of a cluster, say soon who is the master now.
 */
static void leave_replica(struct worker *w)
{
	struct finder *f = w->options->place.finder;

	if (f->kind == FIND_URL) {
		warn_line("this Redis is a replica, which takes no results: name its master");
		end(w, EXIT_REDIS);
		return;
	}
	finder_failed(f);
	snprintf(w->command.error, sizeof(w->command.error), "it is a replica now");
	link_close(&w->command);
	lose_connection(w, "ROLE");
}

/* False: it has said why, and when to try again, or that it is over. */
static bool shake_hands(struct worker *w)
{
	redisReply *role = link_say(&w->command, "ROLE", NULL);

	if (role_is_master(role)) {
		freeReplyObject(role);
		return keys_fit(w) && (w->list ? list_register(w) : make_group(w)) &&
		       learn_reader(w);
	}
	if (role && role->type == REDIS_REPLY_ARRAY) {
		freeReplyObject(role);
		leave_replica(w);
	} else {
		worker_refused(w, "ROLE", role);
	}
	return false;
}

/* ---- connections ----------------------------------------------------------------------------- */

static bool open_links(struct worker *w, const struct link **out_failed)
{
	const struct place *p = &w->options->place;

	*out_failed = &w->command;
	if (!finder_find(p->finder, p->slot, &w->server)) {
		w->command = (struct link){ .context = NULL };
		snprintf(w->command.error, sizeof(w->command.error), "%.255s", p->finder->error);
		return false;
	}
	if (link_open(&w->command, &w->server)) {
		*out_failed = &w->reader;
		if (link_open(&w->reader, &w->server))
			return true;
	}
	finder_failed(p->finder);
	return false;
}

static void say_unreachable(const struct worker *w, const char *why)
{
	char where[ADDRESS_TEXT];

	if (w->server.port == 0) { /* it has not even been found: the reason has its name */
		warn_line("%s", why);
		return;
	}
	address_show(&w->server, where);
	warn_line("Redis at %s: %s%s", where, why, refused_hint(why));
}

/* The other way round, a server of a cluster, is noticed when the cluster is asked for its slots.
 */
static bool is_mismatched(struct worker *w)
{
	const char *wrong = place_mismatch(&w->options->place, &w->command);

	if (wrong) {
		say_unreachable(w, wrong);
		end(w, EXIT_REDIS);
	}
	return wrong != NULL;
}

/* A handshake that was not finished counts as no connection. */
static bool finish_connection(struct worker *w)
{
	w->totals.connects++;
	if (shake_hands(w)) {
		/* what the last read brought may not have come through */
		w->replayed = false;
		w->replay_from = (struct stream_id){ .ms = 0 };
		return true;
	}
	if (!w->over && worker_connected(w)) {
		w->connect_at_ms = w->resume_at_ms;
		disconnect(w);
	}
	return false;
}

int worker_connect_first(struct worker *w)
{
	const struct link *failed;

	w->server.port = 0;
	if (!open_links(w, &failed)) {
		say_unreachable(w, failed->error);
		return EXIT_REDIS;
	}
	if (is_mismatched(w) || (!finish_connection(w) && w->over))
		return w->code;
	return EXIT_DONE;
}

void worker_connect_again(struct worker *w)
{
	const struct link *failed;
	const uint64_t now = now_ms();
	const bool first = w->totals.connects == 0;
	char where[ADDRESS_TEXT];

	if (now < w->connect_at_ms)
		return;
	disconnect(w);
	w->server.port = 0;
	if (!open_links(w, &failed)) {
		if (failed->refused && refusal_of(failed->error) == REFUSAL_FATAL) {
			say_unreachable(w, failed->error);
			end(w, EXIT_REDIS);
		}
		disconnect(w);
		w->connect_at_ms = now + next_wait(w);
		return;
	}
	if (!finish_connection(w) || first)
		return;
	address_show(&w->server, where);
	warn_line("connected again, to %s", where);
}

void worker_watch(struct worker *w)
{
	if (!worker_connected(w) || !finder_left(w->options->place.finder, &w->server))
		return;
	snprintf(w->command.error, sizeof(w->command.error), "the sentinels name another master");
	link_close(&w->command);
	w->attempt = 0;
	lose_connection(w, "failover");
}

bool worker_may_ask(const struct worker *w)
{
	return !w->over && worker_connected(w) && now_ms() >= w->resume_at_ms;
}

void worker_answered(struct worker *w)
{
	w->attempt = 0;
}

void worker_refused(struct worker *w, const char *what, redisReply *reply)
{
	enum refusal refusal;

	if (!reply || reply->type != REDIS_REPLY_ERROR) {
		if (reply) {
			freeReplyObject(reply);
			snprintf(w->command.error, sizeof(w->command.error),
				 "Redis answers what was not asked for");
			link_close(&w->command);
		}
		lose_connection(w, what);
		return;
	}
	refusal = refusal_of(reply->str);
	finder_told(w->options->place.finder, reply->str, &w->server);
	if (w->attempt == 0 || refusal == REFUSAL_FATAL)
		warn_line("%s: Redis says: %s%s", what, reply->str, refused_hint(reply->str));
	freeReplyObject(reply);
	w->resume_at_ms = now_ms() + next_wait(w);
	switch (refusal) {
	case REFUSAL_FATAL:
		end(w, EXIT_REDIS);
		break;
	case REFUSAL_ELSEWHERE:
		disconnect(w);
		w->connect_at_ms = w->resume_at_ms;
		break;
	case REFUSAL_NO_GROUP:
		/* the stream may be another now: what it holds is new to us */
		w->totals.group_lost++;
		if (worker_connected(w))
			make_group(w);
		break;
	default: /* it may be better later; the entries stay leased */
		break;
	}
}
