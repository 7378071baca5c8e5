/* SPDX-License-Identifier: Apache-2.0 */
/* list_scripts.c - the scripts of the list modes. */
#include "list_scripts.h"

/*
 * Equal messages share a count, so one death counts once for all of them. What is left of messages
 * that somebody else took out of the list expires after a week.
 */
#define COUNTED                                                                                    \
	"local function counted(key, payload)\n"                                                   \
	" redis.call('HINCRBY', key, payload, 1)\n"                                                \
	" redis.call('EXPIRE', key, 604800)\n"                                                     \
	"end\n"

/* From the own list, whose newest is at the head, to where the next message is read. */
#define MOVED                                                                                      \
	"local function moved(count)\n"                                                            \
	" local n, seen = 0, {}\n"                                                                 \
	" while true do\n"                                                                         \
	"  local v = redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT')\n"                     \
	"  if not v then return n end\n"                                                           \
	"  if count and not seen[v] then counted(KEYS[5], v) end\n"                                \
	"  seen[v] = true\n"                                                                       \
	"  n = n + 1\n"                                                                            \
	" end\n"                                                                                   \
	"end\n"

/* The oldest lies at the tail, and is finished first as a rule. */
struct script script_list_publish = {
	.text = SCRIPT_WRITE
	"local how = ARGV[4]\n"
	"local counts = redis.call('EXISTS', KEYS[3]) == 1\n"
	"local answer, failed = {}, nil\n"
	"for i = 5, #ARGV, 5 do\n"
	" local payload = ARGV[i]\n"
	" if failed then\n"
	"  answer[#answer + 1] = 2\n"
	" elseif how == 'fenced' and not redis.call('LPOS', KEYS[1], payload, 'RANK', -1) then\n"
	"  answer[#answer + 1] = 0\n"
	" else\n"
	"  local r = write(ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[1], ARGV[2],\n"
	"   ARGV[3])\n"
	"  if type(r) == 'table' and r.err then\n"
	"   failed = r.err\n"
	"   answer[#answer + 1] = 2\n"
	"  else\n"
	"   if how ~= 'write' then redis.call('LREM', KEYS[1], -1, payload) end\n"
	"   if counts and how ~= 'write' then redis.call('HDEL', KEYS[3], payload) end\n"
	"   answer[#answer + 1] = 1\n"
	"  end\n"
	" end\n"
	"end\n"
	"if failed then answer[#answer + 1] = failed end\n"
	"return answer\n",
};

struct script script_list_bury = {
	.text = "local answer = {}\n"
		"for i = 5, #ARGV, 6 do\n"
		" local payload = ARGV[i]\n"
		" if ARGV[4] == 'fenced' and\n"
		"    not redis.call('LPOS', KEYS[1], payload, 'RANK', -1) then\n"
		"  answer[#answer + 1] = 0\n"
		" else\n"
		"  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'id', ARGV[i + 1],\n"
		"   'payload', payload, 'reason', ARGV[i + 2], 'error', ARGV[i + 3],\n"
		"   'deliveries', ARGV[i + 4], 'consumer', ARGV[1],\n"
		"   'first', ARGV[i + 5], 'last', ARGV[3])\n"
		"  if ARGV[4] == 'fenced' then\n"
		"   redis.call('LREM', KEYS[1], -1, payload)\n"
		"   redis.call('HDEL', KEYS[3], payload)\n"
		"  end\n"
		"  answer[#answer + 1] = 1\n"
		" end\n"
		"end\n"
		"return answer\n",
};

struct script script_list_remove = {
	.text = "local counts = redis.call('EXISTS', KEYS[2]) == 1\n"
		"local answer = {}\n"
		"for i = 1, #ARGV do\n"
		" answer[i] = redis.call('LREM', KEYS[1], -1, ARGV[i])\n"
		" if counts then redis.call('HDEL', KEYS[2], ARGV[i]) end\n"
		"end\n"
		"return answer\n",
};

struct script script_list_retry = {
	.text = COUNTED "local answer = {}\n"
			"for i = 1, #ARGV do\n"
			" if redis.call('LPOS', KEYS[1], ARGV[i], 'RANK', -1) then\n"
			"  counted(KEYS[2], ARGV[i])\n"
			"  answer[i] = 1\n"
			" else\n"
			"  answer[i] = 0\n"
			" end\n"
			"end\n"
			"return answer\n",
};

struct script script_list_return = {
	.text = "local answer = {}\n"
		"for i = 1, #ARGV do\n"
		" if redis.call('LPOS', KEYS[2], ARGV[i], 'RANK', -1) then\n"
		"  redis.call('RPUSH', KEYS[1], ARGV[i])\n"
		"  answer[i] = redis.call('LREM', KEYS[2], -1, ARGV[i])\n"
		" else\n"
		"  answer[i] = 0\n"
		" end\n"
		"end\n"
		"return answer\n",
};

struct script script_list_again = {
	.text = COUNTED "local all = redis.call('LRANGE', KEYS[1], 0, -1)\n"
			"local seen = {}\n"
			"for i = 1, #all do\n"
			" if not seen[all[i]] then counted(KEYS[2], all[i]) end\n"
			" seen[all[i]] = true\n"
			"end\n"
			"return all\n",
};

struct script script_list_recover = {
	.text = COUNTED MOVED
	"if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end\n"
	"local n = moved(true)\n"
	"local since = tonumber(redis.call('ZSCORE', KEYS[4], ARGV[1]) or 0)\n"
	"if n > 0 or since == 0 then\n"
	" redis.call('ZADD', KEYS[4], 'XX', ARGV[2], ARGV[1])\n"
	"elseif tonumber(ARGV[2]) - since > tonumber(ARGV[3]) then\n"
	" redis.call('ZREM', KEYS[4], ARGV[1])\n"
	"end\n"
	"return n\n",
};

struct script script_list_leave = {
	.text = COUNTED MOVED "for i = 2, #ARGV do\n"
			      " if redis.call('LPOS', KEYS[2], ARGV[i], 'RANK', -1) then\n"
			      "  counted(KEYS[5], ARGV[i])\n"
			      " end\n"
			      "end\n"
			      "local n = moved(false)\n"
			      "redis.call('DEL', KEYS[3])\n"
			      "redis.call('ZREM', KEYS[4], ARGV[1])\n"
			      "return n\n",
};
