/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sticky.h - sessions that stay with the service that they began with: as a table of sessions, or
 * without memory, by Maglev's table. Pure.
 */
#ifndef GPUQ_BROKER_POLICY_STICKY_H
#define GPUQ_BROKER_POLICY_STICKY_H

#include "places.h"

#include <stddef.h>

enum {
	GQ_STICKY_MAX = 65536, /* sessions */
	GQ_STICKY_KEY_MAX = 64,
	GQ_STICKY_USERS = 1024,
	GQ_MAGLEV_SIZE = 65537, /* a prime */
};

enum gq_sticky_status {
	GQ_STICKY_KEEP,   /* the session goes on with its service */
	GQ_STICKY_NEW,    /* no session of this key: choose, then gq__sticky_bind() */
	GQ_STICKY_BROKEN, /* its service takes no requests any more: choose, then bind */
	GQ_STICKY_REFUSE, /* the same, and the session may not move: answer unavailable */
	GQ_STICKY_OK,
	GQ_STICKY_KEY,    /* a key of no bytes, or of more than 64 */
	GQ_STICKY_PLACE,  /* no such place */
	GQ_STICKY_CONFIG, /* init: more than 65536 sessions */
	GQ_STICKY_MEMORY, /* init: no memory */
};

struct gq_sticky_config {
	uint32_t sessions; /* 0: 65536 */
	uint64_t ttl_ns;   /* without a request; 0: 300 s */
	bool strict;       /* a session whose service is away is refused, until its time is over */
	uint64_t key[2];   /* random, so that nobody can make sessions collide */
};

/* Whose session. The key is the session's bytes, or the client's name. */
struct gq_session {
	uint32_t uid;
	const void *key;
	size_t bytes;
};

/** A hash of both. The key has 1 to 64 bytes. */
uint64_t gq__session_hash(const uint64_t key[2], const struct gq_session *s);

struct gq_sticky_entry;

struct gq_sticky {
	struct gq_sticky_config config;
	struct gq_sticky_entry *entries;
	uint32_t *chains;
	uint32_t mask;
	uint32_t count;
	uint32_t newest; /* a list by last use */
	uint32_t oldest;
	uint32_t free;
	uint32_t by_user[GQ_STICKY_USERS]; /* sessions, by their users' uids modulo this */
	uint64_t broken;                   /* sessions that had to move */
	uint64_t evicted;                  /* sessions that had to make room */
};

/** A table without sessions; allocates all that it ever will, 128 bytes a session. OK, CONFIG,
 * MEMORY. */
enum gq_sticky_status gq__sticky_init(struct gq_sticky *t, const struct gq_sticky_config *config);
void gq__sticky_free(struct gq_sticky *t);

/**
 * Where a request of a session goes.
 * @param may_keep     services that may go on with their sessions: the well ones, and those that
 * drain and whose deadline has not come
 * @param generations  of the service at each place now: a session does not go on with a successor
 * @param out          the place; written on KEEP, and on REFUSE: GQ_PLACES if its service is gone
 * @return KEEP, NEW, BROKEN, REFUSE, KEY
 * Constant time on average.
 */
enum gq_sticky_status gq__sticky_route(struct gq_sticky *t, const struct gq_session *session,
				       const struct gq_places *may_keep,
				       const uint64_t *generations, uint64_t now_ns, uint32_t *out);

/** The session has gone to this service, and stays. If the table is full, the session that was used
 * longest ago makes room; if the user has half of all sessions, the one of its own. OK, KEY, PLACE.
 * Constant time on average; with a full table of which the user has half, as many steps as others
 * have sessions that have not been used for longer. */
enum gq_sticky_status gq__sticky_bind(struct gq_sticky *t, const struct gq_session *session,
				      uint32_t place, uint64_t generation, uint64_t now_ns);

/* Maglev: which service a key goes to, by a table that any member of the group can compute. */
struct gq_maglev {
	uint8_t place[GQ_MAGLEV_SIZE];
	bool empty;
};

/**
 * Fills the table. Whose an entry is depends on the names alone, not on the places, and few keys
 * move when a service comes or goes.
 * @param names  a hash of the name of the service at each place, as gq__siphash() makes it
 * About GQ_MAGLEV_SIZE * log(GQ_MAGLEV_SIZE) steps: milliseconds.
 */
void gq__maglev_fill(struct gq_maglev *m, const struct gq_places *members, const uint64_t *names);

/** The place for a key's hash; GQ_PLACES if the group is empty. */
uint32_t gq__maglev_at(const struct gq_maglev *m, uint64_t hash);

/**
 * The first of some places, from a key's entry on: gq__maglev_at() if that is one of them. So keys
 * of a place that is left out spread over the others, whose keys do not move.
 * @return GQ_PLACES: none of them is in the table. As many steps on average as there are services
 *         in the table for each of them.
 */
uint32_t gq__maglev_among(const struct gq_maglev *m, uint64_t hash, const struct gq_places *some);

#endif /* GPUQ_BROKER_POLICY_STICKY_H */
