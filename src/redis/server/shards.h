/* SPDX-License-Identifier: Apache-2.0 */
/* shards.h - a stream S in N shards: the streams {S:0} to {S:N-1}, each with keys of its own. */
#ifndef GPUQ_REDIS_SHARDS_H
#define GPUQ_REDIS_SHARDS_H

#include "redis.h"

#define SHARDS_DEFAULT 16u

/**
 * How many shards the stream has: the key {S}:shards says it. Where that is missing, `make` writes
 * what --shards says, else SHARDS_DEFAULT. Says what is wrong, such as another number than that of
 * --shards. Does nothing if the stream has no shards. Returns an exit code.
 */
int shards_learn(struct place *p, bool make);

/** The place of one shard, whose names are new strings. EXIT_REDIS: no memory. */
int shard_place(const struct place *p, uint32_t shard, struct place *out);

/** How many places there are: shards, or 1. */
static inline uint32_t shards_count(const struct place *p)
{
	return p->sharded ? p->shards : 1;
}

/** KEY of --results and --dlq for one shard: {S:i}:KEY. NULL: no memory. */
char *shard_key(const struct place *shard, const char *key);

#endif /* GPUQ_REDIS_SHARDS_H */
