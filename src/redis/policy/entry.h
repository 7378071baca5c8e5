/* SPDX-License-Identifier: Apache-2.0 */
/* entry.h - entries of a stream: their ids, and what a reply of Redis says about them. */
#ifndef GPUQ_REDIS_ENTRY_H
#define GPUQ_REDIS_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redisReply; /* hiredis.h */

/* 0-0 is the id of no entry. */
struct stream_id {
	uint64_t ms;
	uint64_t seq;
};

#define STREAM_ID_TEXT 44 /* bytes that the longest id takes, with its zero */

/** Reads "MS-SEQ". Returns false for anything else. */
bool stream_id_parse(const char *text, size_t len, struct stream_id *out);

#define DECIMAL_TEXT 20 /* digits of the greatest number */

/** Its digits, without a terminator. Returns how many they are. */
size_t decimal_format(uint64_t value, char *to);

/** Writes "MS-SEQ" and a zero; `to` has room for STREAM_ID_TEXT bytes. Returns the length. */
size_t stream_id_format(struct stream_id id, char *to);

static inline bool stream_id_equal(struct stream_id a, struct stream_id b)
{
	return a.ms == b.ms && a.seq == b.seq;
}

/* The fields of an entry that mean something to the worker; NULL: not asked for. */
struct entry_names {
	const char *payload;
	const char *priority;
	const char *opcode;
};

struct entry {
	struct stream_id id;
	const char *payload; /* of the reply; NULL: the field is missing */
	size_t payload_bytes;
	uint32_t priority; /* QueuePriority */
	uint32_t opcode;
	bool gone;         /* deleted or trimmed while it was pending: there is no content */
	const char *wrong; /* NULL, or what is wrong with a field, as a sentence */
};

/**
 * What a reply to XREADGROUP, XCLAIM or XRANGE says about one entry: [id, [field, value, ...]].
 * Returns false if the reply is no entry at all.
 */
bool entry_decode(const struct redisReply *reply, const struct entry_names *names,
		  struct entry *out);

/**
 * The entries of a reply to XREADGROUP of one stream: [[stream, [entry, ...]]].
 * Returns their array, or NULL if there is none.
 */
const struct redisReply *entry_list(const struct redisReply *reply);

#endif /* GPUQ_REDIS_ENTRY_H */
