/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - where a Redis server is: redis://[user:password@]HOST:PORT[/DB] or unix:PATH. */
#ifndef GPUQ_REDIS_ADDRESS_H
#define GPUQ_REDIS_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#define ADDRESS_PORT 6379 /* where none is given */

struct address {
	char host[256]; /* empty: a Unix socket */
	char path[104]; /* empty: TCP; what fits a struct sockaddr_un */
	char user[128]; /* empty: the default user */
	char password[256];
	bool has_password;
	uint16_t port;
	uint32_t database;
};

/**
 * Read an address. Percent escapes count in user and password; an IPv6 host stands in brackets.
 * Returns NULL, or what is wrong with the text as the end of a sentence ("... has no host").
 */
const char *address_parse(const char *text, struct address *out);

#define ADDRESS_LIST 32 /* servers of a list, at most */

/**
 * Read HOST[:PORT],... into addresses without user and password. Returns NULL, or what is wrong, as
 * address_parse() does.
 */
const char *address_parse_list(const char *text, uint16_t default_port, struct address *list,
			       uint32_t *out_count);

/** As it may be shown: without user and password. `to` has room for ADDRESS_TEXT bytes. */
#define ADDRESS_TEXT 300
void address_show(const struct address *a, char *to);

#endif /* GPUQ_REDIS_ADDRESS_H */
