/* SPDX-License-Identifier: Apache-2.0 */
/* finder.h - which server to connect to: the one of a URL, a sentinels' master, a slot's master. */
#ifndef GPUQ_REDIS_FINDER_H
#define GPUQ_REDIS_FINDER_H

#include "redis/policy/address.h"
#include "redis/policy/slots.h"

#include <stdbool.h>
#include <stdint.h>

enum finder_kind { FIND_URL, FIND_SENTINEL, FIND_CLUSTER };

#define SENTINEL_PORT 26379

struct finder {
	enum finder_kind kind;
	struct address base;               /* URL: the server; else its user and password */
	struct address list[ADDRESS_LIST]; /* sentinels, the last that answered first; or servers */
	uint32_t count;
	char master[256];     /* what the sentinels call it */
	struct slots *slots;  /* of a cluster */
	bool stale;           /* the slot map may be wrong */
	uint64_t asked_ms;    /* when it, or a sentinel, was last asked */
	struct address named; /* the master, as of the last answer of a sentinel */
	char error[600];      /* after a failure: why, as a sentence with the server's name */
	bool final;           /* and waiting will not mend it */
};

/** "NAME@HOST:PORT,..." or "HOST:PORT,...". Returns NULL, or what is wrong as address_parse(). */
const char *finder_parse_sentinels(struct finder *f, const char *text);
const char *finder_parse_cluster(struct finder *f, const char *text);

/**
 * Find the server; asks sentinels, or a server of the cluster, if it must. Of a cluster it is the
 * one that has `slot`. False: f->error says why not.
 */
bool finder_find(struct finder *f, uint32_t slot, struct address *out);

/**
 * Whether the sentinels name another master than `now` by now; asks one of them, every other second
 * at most. For up to ten seconds after a failover an old master that lives takes commands still,
 * and forgets them when it turns into a replica.
 */
bool finder_left(struct finder *f, const struct address *now);

/** A server that had been found cannot be reached, or is not what it was. */
void finder_failed(struct finder *f);

/** An error reply of the server at `from`: what a MOVED says is taken over. */
void finder_told(struct finder *f, const char *error, const struct address *from);

#endif /* GPUQ_REDIS_FINDER_H */
