/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - the worker's two connections, and what it does when Redis refuses. */
#include "worker.h"

#include "backoff.h"
#include "refusal.h"

#include <stdio.h>
#include <string.h>

static void disconnect(struct worker *w)
{
	link_close(&w->command);
	link_close(&w->reader);
	w->reading = false;
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

/* ---- the handshake --------------------------------------------------------------------------- */

/* Not a replica: those refuse writes. */
static bool is_master(struct worker *w, redisReply **out)
{
	redisReply *reply = link_say(&w->command, "ROLE", NULL);

	*out = reply;
	return reply && reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
	       reply->element[0]->type == REDIS_REPLY_STRING &&
	       strcmp(reply->element[0]->str, "master") == 0;
}

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

	if (!reply ||
	    (reply->type == REDIS_REPLY_ERROR && refusal_of(reply->str) != REFUSAL_EXISTS)) {
		worker_refused(w, "the group cannot be made", reply);
		return false;
	}
	freeReplyObject(reply);
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

/* False: it has said why, and when to try again, or that it is over. */
static bool shake_hands(struct worker *w)
{
	redisReply *role;
	bool ok = is_master(w, &role);

	if (!ok && role && role->type == REDIS_REPLY_ARRAY) {
		warn_line("this Redis is a replica, which takes no results: name its master");
		freeReplyObject(role);
		end(w, EXIT_REDIS);
		return false;
	}
	if (!ok) {
		worker_refused(w, "ROLE", role);
		return false;
	}
	freeReplyObject(role);
	return keys_fit(w) && (w->list ? list_register(w) : make_group(w)) && learn_reader(w);
}

/* ---- connections ----------------------------------------------------------------------------- */

static bool open_links(struct worker *w, const struct link **out_failed)
{
	const struct address *a = &w->options->place.address;

	*out_failed = &w->command;
	if (!link_open(&w->command, a))
		return false;
	*out_failed = &w->reader;
	return link_open(&w->reader, a);
}

static void say_unreachable(struct worker *w, const char *why)
{
	char where[ADDRESS_TEXT];

	address_show(&w->options->place.address, where);
	warn_line("Redis at %s: %s", where, why);
}

int worker_connect_first(struct worker *w)
{
	const struct link *failed;

	if (!open_links(w, &failed)) {
		say_unreachable(w, failed->error);
		return EXIT_REDIS;
	}
	w->totals.connects++;
	if (!shake_hands(w) && w->over)
		return w->code;
	return EXIT_DONE;
}

void worker_connect_again(struct worker *w)
{
	const struct link *failed;
	const uint64_t now = now_ms();

	if (now < w->connect_at_ms)
		return;
	disconnect(w);
	if (!open_links(w, &failed)) {
		if (failed->refused && refusal_of(failed->error) == REFUSAL_FATAL) {
			say_unreachable(w, failed->error);
			end(w, EXIT_REDIS);
		}
		disconnect(w);
		w->connect_at_ms = now + next_wait(w);
		return;
	}
	w->totals.connects++;
	if (shake_hands(w))
		warn_line("connected again");
}

bool worker_may_ask(const struct worker *w)
{
	return !w->over && worker_connected(w) && now_ms() >= w->resume_at_ms;
}

void worker_answered(struct worker *w)
{
	w->attempt = 0;
}

static void lose_connection(struct worker *w, const char *what)
{
	const char *why = w->command.context ? w->reader.error : w->command.error;

	if (w->attempt == 0)
		warn_line("%s: %s; connecting again", what, why);
	disconnect(w);
	w->connect_at_ms = now_ms() + next_wait(w);
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
	if (w->attempt == 0 || refusal == REFUSAL_FATAL)
		warn_line("%s: Redis says: %s", what, reply->str);
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
		if (worker_connected(w) && make_group(w))
			warn_line("the group had gone; it is made again");
		break;
	default: /* it may be better later; the entries stay leased */
		break;
	}
}
