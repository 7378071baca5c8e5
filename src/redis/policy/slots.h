/* SPDX-License-Identifier: Apache-2.0 */
/* slots.h - a cluster's slot map: which of its servers has a key. Pure: it asks nobody. */
#ifndef GPUQ_REDIS_SLOTS_H
#define GPUQ_REDIS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redisReply; /* hiredis.h */

#define SLOTS         16384u
#define SLOTS_SERVERS 1024u /* servers of a cluster; its authors advise no more than 1000 */

struct server_name {
	char host[256];
	uint16_t port;
};

struct slots {
	uint16_t owner[SLOTS]; /* index of a server and 1; 0: nobody has it, as far as is known */
	struct server_name servers[SLOTS_SERVERS];
	uint32_t count;
};

/** The slot of a key: CRC16 of the part in its first braces, or of all of it. */
uint32_t slots_of_key(const void *key, size_t bytes);

/** CRC16 as Redis has it (XMODEM). */
uint16_t slots_crc16(const void *bytes, size_t count);

void slots_clear(struct slots *s);

/**
 * Take over what a server says to CLUSTER SLOTS: [[first, last, [host, port, ...], ...], ...]. Of
 * each range the first server, its master, counts. A server that gives no host of its own, which
 * Redis allows, is the one that was asked. False: the reply makes no sense, and nothing changes.
 */
bool slots_read(struct slots *s, const struct redisReply *reply, const struct server_name *asked);

/** Who has a slot, or NULL. */
const struct server_name *slots_find(const struct slots *s, uint32_t slot);

/* "MOVED 3999 127.0.0.1:6381": another server has the slot; "ASK ...": for the next command. */
struct redirect {
	bool moved; /* else ASK */
	uint32_t slot;
	struct server_name to; /* empty host: the one that said so */
};

/** Reads the text of such an error; false: it is none. */
bool slots_redirect(const char *error, struct redirect *out);

/** Take over what a MOVED says. False: there is no room for one more server. */
bool slots_moved(struct slots *s, const struct redirect *r, const struct server_name *asked);

#endif /* GPUQ_REDIS_SLOTS_H */
