/* SPDX-License-Identifier: Apache-2.0 */
/* shares.h - which shards of a stream a process reads: leases in Redis, shared out evenly. */
#ifndef GPUQ_REDIS_SHARES_H
#define GPUQ_REDIS_SHARES_H

#include "redis.h"

/*
 * The hash {S}:workers:GROUP has the consumers that live, each with the time until which it counts
 * as alive; the hash {S}:shards:GROUP has the owner of each shard. A process renews its line
 * every third of `ttl_ms`, and is told which shards it may read. Two processes that read one shard,
 * as after a pause of one of them, do no harm: entries are leased one by one.
 */
struct shares {
	struct place place; /* of the two hashes */
	char *workers_key;
	char *shards_key;
	const char *consumer;
	uint32_t shards;
	uint64_t ttl_ms;
	struct link link;
	struct words words;
	bool over; /* Redis refuses for good */
	uint64_t ask_at_ms;
	uint32_t attempt;  /* failures in a row */
	uint32_t comrades; /* processes that live, this one included, as of the last answer */
	uint64_t random;
};

/** False: no memory. */
bool shares_init(struct shares *s, const struct place *p, const char *group, const char *consumer,
		 uint64_t ttl_ms, uint64_t random);
void shares_free(struct shares *s);

/**
 * Ask, if it is time, which shards to read; `leave`: none, and this process counts no more.
 * True: `mine[i]` says it of each shard. False: not asked, or no answer; what was said last holds.
 */
bool shares_ask(struct shares *s, bool leave, bool *mine);

#endif /* GPUQ_REDIS_SHARES_H */
