/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - connections to Redis, by hiredis's blocking calls with a limit of time on each. */
#define _GNU_SOURCE
#include "link.h"

#include "redis/policy/entry.h"
#include "redis/policy/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct timeval milliseconds(int ms)
{
	return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000L };
}

void link_close(struct link *l)
{
	if (l->context)
		redisFree(l->context);
	l->context = NULL;
	for (; l->early > 0; l->early--)
		freeReplyObject(l->early_at[l->early_first++ % LINK_OWED]);
	free(l->early_at); /* NOLINT(bugprone-multi-level-implicit-pointer-conversion) */
	l->early_at = NULL;
	l->owed = 0;
	free(l->out);
	l->out = NULL;
	l->out_bytes = 0;
	l->out_room = 0;
	if (!l->asked)
		return;
	link_close(l->asked);
	free(l->asked);
	l->asked = NULL;
}

static bool lost(struct link *l, const char *text)
{
	snprintf(l->error, sizeof(l->error), "%s", text);
	link_close(l);
	return false;
}

/* hiredis says "Resource temporarily unavailable" of a time-out. */
static bool lost_by_context(struct link *l)
{
	const redisContext *c = l->context;

	if (c->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK))
		return lost(l, "the server did not answer in time");
	return lost(l, c->errstr[0] != '\0' ? c->errstr : "the connection broke");
}

/* A peer whose machine has gone is noticed although it says nothing. */
static void watch_peer(const redisContext *c)
{
	const int on = 1;
	const int idle_s = 10;
	const unsigned int user_ms = 10000;

	setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
}

/* A command of the handshake. */
static bool said(struct link *l, redisReply *reply)
{
	bool ok = reply && reply->type != REDIS_REPLY_ERROR;

	if (reply && !ok) {
		l->refused = true;
		lost(l, reply->str);
	}
	if (reply)
		freeReplyObject(reply);
	return ok;
}

static bool log_in(struct link *l, const struct address *a)
{
	char database[16];

	if (a->has_password && a->user[0] != '\0' &&
	    !said(l, link_say(l, "AUTH", a->user, a->password, NULL)))
		return false;
	if (a->has_password && a->user[0] == '\0' &&
	    !said(l, link_say(l, "AUTH", a->password, NULL)))
		return false;
	snprintf(database, sizeof(database), "%" PRIu32, a->database);
	return a->database == 0 || said(l, link_say(l, "SELECT", database, NULL));
}

static bool open_it(struct link *l, const struct address *a, int connect_ms, int reply_ms)
{
	const struct timeval connect = milliseconds(connect_ms);

	*l = (struct link){ .to = *a };
	l->context = a->path[0] != '\0' ? redisConnectUnixWithTimeout(a->path, connect)
					: redisConnectWithTimeout(a->host, a->port, connect);
	if (!l->context)
		return lost(l, "no memory");
	if (l->context->err != 0)
		return lost(l, l->context->errstr);
	/* a worker that starts itself anew must not keep a reader that nobody reads */
	fcntl(l->context->fd, F_SETFD, FD_CLOEXEC);
	if (redisSetTimeout(l->context, milliseconds(reply_ms)) != REDIS_OK)
		return lost(l, "no limit of time can be set");
	if (a->path[0] == '\0')
		watch_peer(l->context);
	l->context->reader->maxbuf = 0; /* its buffer stays: a batch is read into it each time */
	l->follows = log_in(l, a);
	return l->follows;
}

bool link_open(struct link *l, const struct address *a)
{
	return open_it(l, a, LINK_CONNECT_MS, LINK_REPLY_MS);
}

bool link_open_within(struct link *l, const struct address *a, int limit_ms)
{
	return open_it(l, a, limit_ms, limit_ms);
}

/* ---- words ----------------------------------------------------------------------------------- */

bool words_init(struct words *w, size_t room)
{
	*w = (struct words){ .room = room };
	w->text = calloc(room, sizeof(w->text[0]));
	w->bytes = calloc(room, sizeof(w->bytes[0]));
	w->numbers = calloc(room, sizeof(w->numbers[0]));
	if (w->text && w->bytes && w->numbers)
		return true;
	words_free(w);
	return false;
}

void words_free(struct words *w)
{
	free(w->text);
	free(w->bytes);
	free(w->numbers);
	*w = (struct words){ .room = 0 };
}

void words_clear(struct words *w)
{
	w->count = 0;
	w->numbers_used = 0;
}

void words_add_bytes(struct words *w, const void *bytes, size_t count)
{
	if (w->count == w->room)
		abort(); /* the room is counted by each user of a struct words */
	w->text[w->count] = bytes ? bytes : "";
	w->bytes[w->count++] = count;
}

void words_add(struct words *w, const char *text)
{
	words_add_bytes(w, text, strlen(text));
}

void words_add_number(struct words *w, uint64_t value)
{
	char *to = w->numbers[w->numbers_used++];

	words_add_bytes(w, to, decimal_format(value, to));
}

void words_add_id(struct words *w, const struct stream_id *id)
{
	char *to = w->numbers[w->numbers_used++];

	words_add_bytes(w, to, stream_id_format(*id, to));
}

/* ---- commands -------------------------------------------------------------------------------- */

#define WORD_MORE 26u /* bytes that the protocol adds to a word: '$', a number, CR LF, CR LF */
#define OUT_KEPT  ((size_t)1 << 20)

/* '*' or '$', a number, CR LF; where it ends. */
static char *put_number(char *to, char kind, size_t value)
{
	*to++ = kind;
	to += decimal_format(value, to);
	*to++ = '\r';
	*to++ = '\n';
	return to;
}

static bool make_room(struct link *l, size_t more)
{
	size_t room = l->out_room > 0 ? l->out_room : 4096;
	char *bigger;

	if (l->out_room - l->out_bytes >= more)
		return true;
	while (room - l->out_bytes < more)
		room *= 2;
	bigger = realloc(l->out, room);
	if (!bigger)
		return false;
	l->out = bigger;
	l->out_room = room;
	return true;
}

/*
 * The command as an array of strings, in a buffer that stays. hiredis does the same in three passes
 * and frees its buffer each time, which took half of a worker's time. `bytes` NULL: strings.
 */
static bool append(struct link *l, size_t count, const char **text, const size_t *bytes)
{
	size_t more = WORD_MORE;
	char *to;

	if (!l->context)
		return false;
	for (size_t i = 0; i < count; i++)
		more += WORD_MORE + (bytes ? bytes[i] : strlen(text[i]));
	if (!make_room(l, more))
		return lost(l, "no memory");
	to = put_number(l->out + l->out_bytes, '*', count);
	for (size_t i = 0; i < count; i++) {
		const size_t len = bytes ? bytes[i] : strlen(text[i]);

		to = put_number(to, '$', len);
		memcpy(to, text[i], len);
		to += len;
		*to++ = '\r';
		*to++ = '\n';
	}
	l->out_bytes = (size_t)(to - l->out);
	return true;
}

bool link_append(struct link *l, const struct words *w)
{
	return append(l, w->count, w->text, w->bytes);
}

bool link_push(struct link *l)
{
	size_t sent = 0;

	if (!l->context)
		return false;
	while (sent < l->out_bytes) {
		const ssize_t n =
			send(l->context->fd, l->out + sent, l->out_bytes - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return lost(l, "the server did not answer in time");
		if (n < 0)
			return lost(l, strerror(errno));
		sent += (size_t)n;
	}
	l->out_bytes = 0;
	if (l->out_room > OUT_KEPT) {
		free(l->out);
		l->out = NULL;
		l->out_room = 0;
	}
	return true;
}

/* The next reply of the server, whoever it is for. */
static redisReply *next_reply(struct link *l)
{
	void *reply = NULL;

	if (!link_push(l))
		return NULL;
	if (redisGetReply(l->context, &reply) == REDIS_OK && reply)
		return reply;
	lost_by_context(l);
	return NULL;
}

redisReply *link_reply(struct link *l)
{
	/* those that are owed come first: their commands did */
	while (l->context && l->early < l->owed) {
		if (!link_await(l))
			return NULL;
	}
	return l->context ? next_reply(l) : NULL;
}

/* ---- replies that are taken later ------------------------------------------------------------ */

/*
 * One thread has the link, so there is nothing to agree on but the order: the server answers in the
 * order of the commands. Replies that are owed and lie before the one that link_reply() wants are
 * put into the ring, from where link_take() takes them first.
 */

bool link_later(struct link *l, const struct words *w)
{
	if (!l->early_at)
		l->early_at = calloc(LINK_OWED,
				     sizeof(redisReply *)); /* NOLINT(bugprone-sizeof-expression) */
	if (!l->early_at)
		return lost(l, "no memory");
	if (l->owed == LINK_OWED)
		abort(); /* whoever sends counts them */
	if (!link_append(l, w))
		return false;
	l->owed++;
	return true;
}

bool link_receive(struct link *l)
{
	if (!l->context)
		return false;
	return redisBufferRead(l->context) == REDIS_OK || lost_by_context(l);
}

redisReply *link_take(struct link *l)
{
	void *reply = NULL;

	if (!l->context || l->owed == 0)
		return NULL;
	if (l->early > 0) {
		l->early--;
		reply = l->early_at[l->early_first++ % LINK_OWED];
	} else if (redisGetReplyFromReader(l->context, &reply) != REDIS_OK) {
		lost_by_context(l);
		return NULL;
	}
	l->owed -= reply != NULL;
	return reply;
}

bool link_await(struct link *l)
{
	redisReply *reply;

	if (!l->context || l->early == l->owed) /* all are here */
		return l->context != NULL;
	reply = next_reply(l);
	if (reply)
		l->early_at[(l->early_first + l->early++) % LINK_OWED] = reply;
	return reply != NULL;
}

/* ---- ASK ------------------------------------------------------------------------------------- */

/* A connection to the server that an ASK names; it is kept for the next one. */
static struct link *link_asked(struct link *l, const struct redirect *r)
{
	struct address a = l->to;

	a.port = r->to.port;
	if (r->to.host[0] != '\0')
		memcpy(a.host, r->to.host, sizeof(a.host));
	if (l->asked && l->asked->context && l->asked->to.port == a.port &&
	    strcmp(l->asked->to.host, a.host) == 0)
		return l->asked;
	if (!l->asked)
		l->asked = calloc(1, sizeof(*l->asked));
	else if (l->asked->context)
		link_close(l->asked);
	if (!l->asked || !link_open(l->asked, &a))
		return NULL;
	l->asked->follows = false;
	return l->asked;
}

/* The command once more, to where its reply says. NULL: that server does not answer. */
static redisReply *ask(struct link *l, redisReply *reply, int count, const char **text,
		       const size_t *bytes)
{
	struct redirect r;
	struct link *other;
	redisReply *leave;

	if (!slots_redirect(reply->str, &r) || r.moved)
		return reply;
	freeReplyObject(reply);
	other = link_asked(l, &r);
	leave = other ? link_say(other, "ASKING", NULL) : NULL;
	if (!leave || !append(other, (size_t)count, text, bytes)) {
		if (leave)
			freeReplyObject(leave);
		lost(l, l->asked ? l->asked->error : "no memory");
		return NULL;
	}
	freeReplyObject(leave);
	reply = link_reply(other);
	if (!reply)
		lost(l, other->error);
	return reply;
}

/* The reply to a command that has been appended. */
static redisReply *answer(struct link *l, int count, const char **text, const size_t *bytes)
{
	redisReply *reply = link_reply(l);

	if (reply && l->follows && reply->type == REDIS_REPLY_ERROR)
		reply = ask(l, reply, count, text, bytes);
	return reply;
}

redisReply *link_call(struct link *l, const struct words *w)
{
	return link_append(l, w) ? answer(l, (int)w->count, w->text, w->bytes) : NULL;
}

redisReply *link_say(struct link *l, ...)
{
	const char *text[16];
	const char *word;
	va_list list;
	int count = 0;

	va_start(list, l);
	while ((word = va_arg(list, const char *)) != NULL && count < 16)
		text[count++] = word;
	va_end(list);
	return append(l, (size_t)count, text, NULL) ? answer(l, count, text, NULL) : NULL;
}
