/* SPDX-License-Identifier: Apache-2.0 */
/* post.h - messages on their way to shards, or to a master that may change, until Redis has them.
 */
#ifndef GPUQ_REDIS_POST_H
#define GPUQ_REDIS_POST_H

#include "redis.h"

#define POST_MOST 256u /* messages that are under way */

struct parcel {
	void *bytes; /* a copy: it may have to go once more */
	size_t count;
	uint32_t shard;
	bool written; /* there will be a reply, if the connection lives */
};

struct post {
	struct place *places; /* of the shards, or the one stream */
	struct link *links;
	uint32_t shards;
	const char *field;
	uint64_t maxlen;
	bool by_payload; /* equal messages go to the same shard; else each to the next one */
	uint32_t turn;
	struct words words;
	struct parcel parcels[POST_MOST];
	uint32_t under_way;
	size_t bytes_under_way;
	bool broken[SHARDS_MOST]; /* nothing more goes to this one before post_flush() */
	bool leave[SHARDS_MOST];  /* its server is not the right one any more */
	uint64_t *sent;           /* counts what Redis has confirmed */
	bool again_said;
};

/** `p` is resolved, and its shards are known. Says what is wrong. Free it in any case. */
int post_open(struct post *o, const struct place *p);
void post_close(struct post *o);

/** Send one message; what Redis has confirmed is counted at once or later. */
int post_add(struct post *o, const void *payload, size_t bytes);

/**
 * Wait until all are confirmed. What was refused because its server is not the right one any more,
 * or is out of reach, goes again, for half a minute: then one that was taken, and whose answer got
 * lost, is there twice.
 */
int post_flush(struct post *o);

#endif /* GPUQ_REDIS_POST_H */
