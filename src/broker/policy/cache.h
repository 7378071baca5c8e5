/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - requests that need not run again: those whose answer is there, and those that are
 * running already. Pure. The same table serves two ends: a cache of answers, and keys of
 * idempotency.
 *
 * A key is a keyed BLAKE2b-256 of all that an answer depends on. Without the secret nobody can make
 * two requests that share a key, and what is compared is all of it. The daemon keeps the answers;
 * here they are numbers. Needs libsodium, whose sodium_init() the program has called. One thread.
 */
#ifndef GPUQ_BROKER_POLICY_CACHE_H
#define GPUQ_BROKER_POLICY_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GQ_CACHE_HASH = 32, GQ_CACHE_SECRET = 32 };

enum gq_cache_status {
	GQ_CACHE_HIT,    /* the answer is there: *out_answer */
	GQ_CACHE_LEAD,   /* run it; gq__cache_done() or gq__cache_failed() follows */
	GQ_CACHE_JOINED, /* the same is running: gq__cache_next_waiter() will name this request */
	GQ_CACHE_ALONE,  /* run it, and tell nothing: the table of running ones, or of waiting ones,
			    is full. Not of a table that promises */
	GQ_CACHE_CONFLICT, /* the same key of idempotency with another request: invalid */
	GQ_CACHE_FULL,     /* of a table that promises: it has no room for the promise */
	GQ_CACHE_OK,
	GQ_CACHE_NOT_FOUND, /* nothing runs under this key */
	GQ_CACHE_CONFIG,    /* init: a limit is out of its range */
	GQ_CACHE_MEMORY,    /* init: no memory */
};

/* Zero takes the default that stands there. */
struct gq_cache_config {
	uint32_t entries; /* answers: 1000; at most 2^20 */
	uint64_t bytes;   /* of answers: 64 MiB. One of more than a sixteenth is not kept */
	uint64_t ttl_ns;  /* 300 s */
	uint32_t running; /* different requests that run: 1024; at most 2^20 */
	uint32_t waiting; /* requests that wait for one of them: 4096; at most 2^20 */
	/* Not 0: a table that promises. Nothing in it is evicted before its time, nothing runs
	 * beside it, and for each that runs there is an entry and so many bytes: the most that an
	 * answer may have. Who finds no room is told FULL. */
	uint64_t promise;
	uint8_t secret[GQ_CACHE_SECRET]; /* random, new with each start */
};

struct gq_cache_key {
	uint8_t hash[GQ_CACHE_HASH];
	uint8_t check[GQ_CACHE_HASH]; /* of idempotency: what was asked for. Else zeros */
	uint64_t payload_bytes;
};

/* What an answer depends on. */
struct gq_cache_request {
	uint32_t uid;
	bool is_public; /* the op gives everybody the same answer, and may say what others have
			   asked */
	const void *op;
	size_t op_bytes;
	uint32_t op_version;
	const void *parameters;
	size_t parameter_bytes;
	const void *payload;
	size_t payload_bytes;
};

struct gq_cache_entry;
struct gq_cache_flight;
struct gq_cache_waiter;

struct gq_cache {
	struct gq_cache_config config;
	struct gq_cache_entry *entries;
	struct gq_cache_flight *flights;
	struct gq_cache_waiter *waiters;
	uint32_t *entry_chains;
	uint32_t *flight_chains;
	uint32_t *waiter_chains;
	uint32_t places; /* of entries */
	uint32_t entry_mask;
	uint32_t flight_mask;
	uint32_t waiter_mask;
	uint32_t free_entry;
	uint32_t free_flight;
	uint32_t free_waiter;
	uint32_t dropped; /* entries whose answers are to be given back */
	uint32_t hand;    /* of the clock */
	uint32_t oldest;  /* entries by age */
	uint32_t newest;
	uint32_t running; /* that are not done */
	uint64_t count;
	uint64_t bytes;
	uint64_t hits;
	uint64_t misses;
	uint64_t coalesced;
	uint64_t evicted;
};

/** Allocates all that it ever will. OK, CONFIG, MEMORY. */
enum gq_cache_status gq__cache_init(struct gq_cache *c, const struct gq_cache_config *config);
void gq__cache_free(struct gq_cache *c);

/** The key of a request. Requests of other users have other keys, unless the op is public. */
void gq__cache_key(const struct gq_cache *c, const struct gq_cache_request *request,
		   struct gq_cache_key *out);

/** The key of a user's key of idempotency, with what it is used for. */
void gq__cache_idempotency(const struct gq_cache *c, uint32_t uid, const void *key, size_t bytes,
			   const struct gq_cache_request *request, struct gq_cache_key *out);

/**
 * A request with this key. Constant time on average.
 * @param requester   the caller's number of the request
 * @param out_answer  written on HIT; on JOINED the number of the request that runs
 * @return HIT, LEAD, JOINED, ALONE, CONFLICT, FULL
 */
enum gq_cache_status gq__cache_ask(struct gq_cache *c, const struct gq_cache_key *key,
				   uint64_t requester, uint64_t now_ns, uint64_t *out_answer);

/** Who runs under this key, if somebody does. */
bool gq__cache_leader(struct gq_cache *c, const struct gq_cache_key *key, uint64_t *out_leader);

/** Whether somebody waits for who runs under this key. */
bool gq__cache_is_awaited(struct gq_cache *c, const struct gq_cache_key *key);

/**
 * The leader has an answer. Then gq__cache_next_waiter() names those that wait for it.
 * @param bytes  of the answer, for the limit
 * @param keep   false, or too large: the answer is not kept
 * @param out_kept  whether it is kept: then it is the caller's again when gq__cache_dropped() says
 * so
 * @return OK, NOT_FOUND
 */
enum gq_cache_status gq__cache_done(struct gq_cache *c, const struct gq_cache_key *key,
				    uint64_t answer, uint64_t bytes, bool keep, uint64_t now_ns,
				    bool *out_kept);

/** Who waits for what is done, one after the other; false: no more, and the key is free. */
bool gq__cache_next_waiter(struct gq_cache *c, const struct gq_cache_key *key,
			   uint64_t *out_requester);

/** The leader has failed. True: *out_leader runs it now in its place. False: nobody waits, the key
 * is free. */
bool gq__cache_failed(struct gq_cache *c, const struct gq_cache_key *key, uint64_t *out_leader);

/** One that waits gives up. OK, NOT_FOUND. Constant time, if requesters' numbers lie close
 * together.
 */
enum gq_cache_status gq__cache_leave(struct gq_cache *c, const struct gq_cache_key *key,
				     uint64_t requester);

/** Drops all whose time is over. Constant time for each of them. */
void gq__cache_expire(struct gq_cache *c, uint64_t now_ns);

/** When the time of the oldest is over; UINT64_MAX: there is none. */
uint64_t gq__cache_due(const struct gq_cache *c);

/** An answer that is not kept any more, for the caller to free; false: none. Call it until then,
 * after each call of ask, done, expire, forget and flush. */
bool gq__cache_dropped(struct gq_cache *c, uint64_t *out_answer);

/** This answer is not true any more (false: there is none); all are not. */
bool gq__cache_forget(struct gq_cache *c, const struct gq_cache_key *key);
void gq__cache_flush(struct gq_cache *c);

/** Those answers are not true any more that `is_meant` says so of. Linear in all that there may be.
 */
void gq__cache_forget_if(struct gq_cache *c, bool (*is_meant)(uint64_t answer, uint64_t what),
			 uint64_t what);

#endif /* GPUQ_BROKER_POLICY_CACHE_H */
