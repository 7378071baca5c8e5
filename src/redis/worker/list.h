/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h - messages that lie in a list: read, kept safe in a list of the worker's own, recovered.
 *
 * A list's element has no id: it is its bytes. So is what a worker may do: whoever takes an element
 * out of the worker's own list, in the step that writes a result, has the right to write one result
 * of these very bytes. Equal elements are exchangeable, because they have equal results. So every
 * element gets one result, whoever dies when, although nobody can tell which of two equal ones it
 * was. The id of a result is the SHA-256 of the message in hexadecimal.
 *
 * Keys, for the list S and the worker W; all are made by workers:
 *   S:proc:W      what W has read and nobody has a result of; the oldest at the tail
 *   S:alive:W     expires when W has not been heard of for a lease
 *   S:workers     sorted set of the names of workers; the score is 0, or since when one is empty
 *   S:deliveries  hash by message: how often it was delivered and nothing came of it
 */
#ifndef GPUQ_REDIS_LIST_H
#define GPUQ_REDIS_LIST_H

#include "redis/policy/list_elements.h"
#include "redis/server/link.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

struct worker;
struct group;

/* What a worker in a list mode has beside the rest. */
struct list {
	bool simple; /* nothing is kept in Redis: at most once */
	char *own;   /* keys; see above */
	char *alive;
	char *workers;
	char *counts;
	struct element *held;     /* by lease */
	struct elements incoming; /* of the read under way */
	struct elements aside;    /* in the own list and not in the book; the oldest is the last */
	uint64_t ordinal;         /* of the last message taken in */
	uint32_t expected;        /* replies of the read under way that have not come */
	uint32_t asked;           /* messages that this read asked for */
	uint32_t got;             /* and that have come */
	redisReply *refusal;      /* the first error among them */
	uint32_t reply;           /* which reply of the read comes next */
	bool blocking;            /* the read under way waits for the first message */
	bool filled;              /* the last read got all that it asked for: there may be more */
	bool counted;             /* there are deliveries that came to nothing */
	uint64_t behind;          /* messages in the list when the read under way was answered */
	uint64_t rest_until_ms;   /* when the first of the resting ones is due */
	bool begun;               /* this process has looked into its own list once */
};

/* ---- list.c: reading ---- */

/** False: no memory. */
bool list_init(struct worker *w);
void list_free(struct worker *w);
/** After each connection: the worker can be seen by others, and looks into its own list. */
bool list_register(struct worker *w);
void list_ask(struct worker *w);
void list_take(struct worker *w);
/** No read is under way any more; what it has brought is in the own list, or aside. */
void list_stop(struct worker *w);
/** The bytes that belong to a lease are no longer needed. */
void list_forget(struct worker *w, uint32_t lease);
/** What rests and is due goes into the batch; what lies aside as well, as there is room. */
void list_step(struct worker *w);
/** The message with this id, from aside, goes into the batch. False: Redis did not answer. */
bool list_fetch(struct worker *w, struct stream_id id, bool alone);

/* ---- list_outcome.c ---- */

bool list_publish(struct worker *w, const struct group *g);
/** They rest, and are run once more by this worker. */
bool list_rest(struct worker *w, const struct group *g);
/** They go back into the list. */
bool list_return(struct worker *w, const struct group *g);
bool list_bury(struct worker *w, const struct stream_id *ids, const uint32_t *deliveries,
	       uint32_t count, const char *reason, const char *error);
/** One that is not in the book. */
bool list_bury_element(struct worker *w, const struct element *e, const char *reason,
		       const char *error);

/* ---- list_leases.c: the own list, and those of the dead ---- */

void list_replay(struct worker *w);
void list_reclaim(struct worker *w);
void list_renew(struct worker *w);
void list_hand_back(struct worker *w);
/** In the list, and in lists of workers; UINT64_MAX: not known. */
uint64_t list_pending(struct worker *w);
/** How often these were delivered before; false: Redis did not answer. */
bool list_count(struct worker *w, struct element *elements, uint32_t count);
/** That one was delivered, in Redis, before it is. */
bool list_count_delivery(struct worker *w, const struct element *e);

#endif /* GPUQ_REDIS_LIST_H */
