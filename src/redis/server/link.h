/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - a connection to Redis: opened with a limit of time, closed at the first fault. */
#ifndef GPUQ_REDIS_LINK_H
#define GPUQ_REDIS_LINK_H

#include "redis/policy/address.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_CONNECT_MS 5000
#define LINK_REPLY_MS   5000 /* a server that answers nothing for so long is frozen */
#define LINK_OWED       1024 /* commands of link_later() without a reply, at most */

struct link {
	redisContext *context; /* NULL: not connected */
	char error[256];       /* why it is not */
	bool refused;          /* that was an error reply to AUTH or SELECT, whose text this is */
	struct address to;     /* where it goes */
	struct link *asked;    /* to another server of the cluster, which an ASK has named */
	bool follows;          /* an ASK; not on a connection that one has led to */
	uint32_t owed;         /* replies to link_later() that link_take() has not returned */
	uint32_t early;        /* of these, how many have been read already; a ring: */
	uint32_t early_first;
	redisReply **early_at; /* LINK_OWED of them; NULL: none so far */
	char *out;             /* commands that have not been sent */
	size_t out_bytes;
	size_t out_room;
};

/** Connect, log in, choose the database. False: l->error says why not. */
bool link_open(struct link *l, const struct address *a);
/** The same, with another limit of time for the connection and for each reply. */
bool link_open_within(struct link *l, const struct address *a, int limit_ms);
void link_close(struct link *l);

/* A command being put together: its words, which are not copied but for numbers. */
struct words {
	const char **text;
	size_t *bytes;
	size_t count;
	size_t room;
	char (*numbers)[44];
	size_t numbers_used;
};

/** False: no memory. `room` words at most; more are a fault of the caller's. */
bool words_init(struct words *w, size_t room);
void words_free(struct words *w);
void words_clear(struct words *w);
void words_add(struct words *w, const char *text);
void words_add_bytes(struct words *w, const void *bytes, size_t count);
void words_add_number(struct words *w, uint64_t value);
struct stream_id;
void words_add_id(struct words *w, const struct stream_id *id);

/** Put a command into the line to be sent. False: the link is closed now. */
bool link_append(struct link *l, const struct words *w);

/**
 * Send what is in the line and wait for the next reply, also an error reply.
 * Returns NULL if there is none within LINK_REPLY_MS: the link is closed now. Free it with
 * freeReplyObject().
 */
redisReply *link_reply(struct link *l);

/**
 * link_append() of a command whose reply is taken later, by link_take(), while others may be asked
 * and answered. Nothing is sent yet. False: the link is closed now.
 */
bool link_later(struct link *l, const struct words *w);

/** Send what is in the line. False: the link is closed now. */
bool link_push(struct link *l);

/** Read what the socket has, which must be something. False: the link is closed now. */
bool link_receive(struct link *l);

/**
 * The next reply to link_later(), in the order of the commands; NULL: it is not here yet, or the
 * link is closed. Waits for nothing: link_receive() or link_await() brings more.
 */
redisReply *link_take(struct link *l);

/** Wait for one more reply that is owed, as link_reply() does. False: the link is closed now. */
bool link_await(struct link *l);

/**
 * Both: one command, one reply. A reply ASK, of a cluster that is moving the key's slot, is not
 * returned: the command goes once more, to the server that it names.
 */
redisReply *link_call(struct link *l, const struct words *w);

/** One command of few words; the last one is NULL. */
redisReply *link_say(struct link *l, ...) __attribute__((sentinel));

#endif /* GPUQ_REDIS_LINK_H */
