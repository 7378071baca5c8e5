/* SPDX-License-Identifier: Apache-2.0 */
/* scripts.h - what Redis does in one step for us: scripts in Lua. */
#ifndef GPUQ_REDIS_SCRIPTS_H
#define GPUQ_REDIS_SCRIPTS_H

#include "link.h"

/* Lua: write one result to KEYS[2], which is of this kind. What it returns may be an error. */
#define SCRIPT_WRITE                                                                               \
	"local function write(id, status, result, deliveries, consumer, kind, ttl)\n"              \
	" if kind == 'none' then return true end\n"                                                \
	" if kind == 'stream' then\n"                                                              \
	"  return redis.pcall('XADD', KEYS[2], '*', 'id', id, 'status', status,\n"                 \
	"   'result', result, 'consumer', consumer, 'deliveries', deliveries)\n"                   \
	" end\n"                                                                                   \
	" if kind == 'list' then\n"                                                                \
	"  return redis.pcall('RPUSH', KEYS[2], id .. ' ' .. status .. ' ' .. consumer .. ' ' "    \
	"..\n"                                                                                     \
	"   deliveries .. '\\n' .. result)\n"                                                      \
	" end\n"                                                                                   \
	" local key = KEYS[2] .. id\n"                                                             \
	" local r = redis.pcall('HSET', key, 'id', id, 'status', status, 'result', result,\n"      \
	"  'consumer', consumer, 'deliveries', deliveries)\n"                                      \
	" if ttl ~= '0' and not (type(r) == 'table' and r.err) then\n"                             \
	"  redis.call('EXPIRE', key, ttl)\n"                                                       \
	" end\n"                                                                                   \
	" return r\n"                                                                              \
	"end\n"

struct script {
	const char *text;
	char sha[41]; /* empty until Redis has said it */
};

/*
 * sweep   KEYS stream; ARGV group consumer idle: takes consumers out of the group that have been
 *         idle for so long, ms, and have nothing pending; not this one.
 * publish KEYS stream results; ARGV group consumer kind ttl fenced, then of each entry: id status
 *         result deliveries. kind: stream, hash, list, none. For each entry, unless `fenced` is 1
 *         and it is not pending for the consumer: writes the result, then acknowledges. Answers
 *         with a number for each entry: 1 done, 0 not ours, 2 not tried; and, if a result could
 *         not be written, the error behind them.
 * keep    KEYS stream; ARGV group consumer, then of each entry: id idle count. Of the entries that
 *         are pending for the consumer it sets how long they have been idle, ms, and unless count
 *         is "-" how often they have been delivered. Answers with 1 or 0 for each.
 * bury    KEYS stream dead; ARGV group consumer field most last, then of each entry: id reason
 *         error deliveries. Of the entries that are pending for the consumer: writes a dead
 *         letter, acknowledges. Answers with 1 or 0 for each.
 * leave   KEYS stream; ARGV group consumer: takes the consumer out of the group if nothing is
 *         pending for it.
 */
extern struct script script_publish;
extern struct script script_keep;
extern struct script script_bury;
extern struct script script_leave;
extern struct script script_sweep;

/** Begin `w` with EVALSHA, the script's digest and `keys`; loads it if `l` has not done so. */
bool script_begin(struct script *s, struct link *l, struct words *w, unsigned int keys);

/**
 * Send what was begun so, and wait for the answer; a server that has lost its scripts gets them
 * again. NULL: the link is closed.
 */
redisReply *script_call(struct script *s, struct link *l, struct words *w);

#endif /* GPUQ_REDIS_SCRIPTS_H */
