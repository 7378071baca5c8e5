/* SPDX-License-Identifier: Apache-2.0 */
/* scripts.c - the scripts, and how they get to the server. */
#define _GNU_SOURCE
#include "scripts.h"

#include "redis/policy/refusal.h"

#include <string.h>

/*
 * Which of the entries from ARGV[first] on, every `step`, are pending for the consumer. One
 * XPENDING answers for all of a batch as a rule: they are neighbours. What it does not answer for
 * is asked one by one.
 */
#define OWNED                                                                                      \
	"local function owned(first, step)\n"                                                      \
	" local yes, low, high, n = {}, nil, nil, 0\n"                                             \
	" local function less(a, b)\n"                                                             \
	"  local am, as = string.match(a, '(%d+)-(%d+)')\n"                                        \
	"  local bm, bs = string.match(b, '(%d+)-(%d+)')\n"                                        \
	"  if #am ~= #bm then return #am < #bm end\n"                                              \
	"  if am ~= bm then return am < bm end\n"                                                  \
	"  if #as ~= #bs then return #as < #bs end\n"                                              \
	"  return as < bs\n"                                                                       \
	" end\n"                                                                                   \
	" for i = first, #ARGV, step do\n"                                                         \
	"  n = n + 1\n"                                                                            \
	"  if not low or less(ARGV[i], low) then low = ARGV[i] end\n"                              \
	"  if not high or less(high, ARGV[i]) then high = ARGV[i] end\n"                           \
	" end\n"                                                                                   \
	" if n == 0 then return yes end\n"                                                         \
	" local most = 2 * n + 16\n"                                                               \
	" local list = redis.call('XPENDING', KEYS[1], ARGV[1], low, high, most, ARGV[2])\n"       \
	" for i = 1, #list do yes[list[i][1]] = true end\n"                                        \
	" if #list == most then\n"                                                                 \
	"  for i = first, #ARGV, step do\n"                                                        \
	"   local id = ARGV[i]\n"                                                                  \
	"   if not yes[id] and\n"                                                                  \
	"      #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then\n"           \
	"    yes[id] = true\n"                                                                     \
	"   end\n"                                                                                 \
	"  end\n"                                                                                  \
	" end\n"                                                                                   \
	" return yes\n"                                                                            \
	"end\n"

struct script script_publish = {
	.text = OWNED SCRIPT_WRITE
	"local fenced = ARGV[5] == '1'\n"
	"local yes = fenced and owned(6, 4)\n"
	"local answer, acks, failed = {}, {}, nil\n"
	"for i = 6, #ARGV, 4 do\n"
	" local id = ARGV[i]\n"
	" if failed then\n"
	"  answer[#answer + 1] = 2\n"
	" elseif fenced and not yes[id] then\n"
	"  answer[#answer + 1] = 0\n"
	" else\n"
	"  local r = write(id, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[2], ARGV[3],\n"
	"   ARGV[4])\n"
	"  if type(r) == 'table' and r.err then\n"
	"   failed = r.err\n"
	"   answer[#answer + 1] = 2\n"
	"  else\n"
	"   acks[#acks + 1] = id\n"
	"   answer[#answer + 1] = 1\n"
	"  end\n"
	" end\n"
	"end\n"
	"for i = 1, #acks, 500 do\n"
	" redis.call('XACK', KEYS[1], ARGV[1], unpack(acks, i, math.min(i + 499, #acks)))\n"
	"end\n"
	"if failed then answer[#answer + 1] = failed end\n"
	"return answer\n",
};

struct script script_keep = {
	.text = OWNED
	"local yes = owned(3, 3)\n"
	"local answer = {}\n"
	"for i = 3, #ARGV, 3 do\n"
	" local id, idle, count = ARGV[i], ARGV[i + 1], ARGV[i + 2]\n"
	" if not yes[id] then\n"
	"  answer[#answer + 1] = 0\n"
	" else\n"
	"  if count == '-' then\n"
	"   redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', idle, 'JUSTID')\n"
	"  else\n"
	"   redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', idle,\n"
	"    'RETRYCOUNT', count, 'JUSTID')\n"
	"  end\n"
	"  answer[#answer + 1] = 1\n"
	" end\n"
	"end\n"
	"return answer\n",
};

struct script script_bury = {
	.text = OWNED "local yes = owned(6, 4)\n"
		      "local answer = {}\n"
		      "for i = 6, #ARGV, 4 do\n"
		      " local id = ARGV[i]\n"
		      " if not yes[id] then\n"
		      "  answer[#answer + 1] = 0\n"
		      " else\n"
		      "  local payload = ''\n"
		      "  local found = redis.call('XRANGE', KEYS[1], id, id)\n"
		      "  if found[1] then\n"
		      "   local fields = found[1][2]\n"
		      "   for f = 1, #fields, 2 do\n"
		      "    if fields[f] == ARGV[3] then payload = fields[f + 1] end\n"
		      "   end\n"
		      "  end\n"
		      "  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'id', id,\n"
		      "   'payload', payload, 'reason', ARGV[i + 1], 'error', ARGV[i + 2],\n"
		      "   'deliveries', ARGV[i + 3], 'consumer', ARGV[2],\n"
		      "   'first', string.match(id, '%d+'), 'last', ARGV[5])\n"
		      "  redis.call('XACK', KEYS[1], ARGV[1], id)\n"
		      "  answer[#answer + 1] = 1\n"
		      " end\n"
		      "end\n"
		      "return answer\n",
};

struct script script_leave = {
	.text = "if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then\n"
		" redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])\n"
		" return 1\n"
		"end\n"
		"return 0\n",
};

struct script script_sweep = {
	.text = "local list = redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])\n"
		"local n = 0\n"
		"for i = 1, #list do\n"
		" local c = {}\n"
		" for f = 1, #list[i], 2 do c[list[i][f]] = list[i][f + 1] end\n"
		" if c.pending == 0 and c.idle >= tonumber(ARGV[3]) and c.name ~= ARGV[2] then\n"
		"  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c.name)\n"
		"  n = n + 1\n"
		" end\n"
		"end\n"
		"return n\n",
};

static bool load(struct script *s, struct link *l)
{
	redisReply *reply = link_say(l, "SCRIPT", "LOAD", s->text, NULL);
	bool ok;

	if (!reply)
		return false;
	ok = reply->type == REDIS_REPLY_STRING && reply->len == sizeof(s->sha) - 1;
	if (ok)
		memcpy(s->sha, reply->str, sizeof(s->sha));
	freeReplyObject(reply);
	return ok;
}

bool script_begin(struct script *s, struct link *l, struct words *w, unsigned int keys)
{
	if (s->sha[0] == '\0' && !load(s, l))
		return false;
	words_clear(w);
	words_add(w, "EVALSHA");
	words_add(w, s->sha);
	words_add_number(w, keys);
	return true;
}

redisReply *script_call(struct script *s, struct link *l, struct words *w)
{
	redisReply *reply = link_call(l, w);

	if (!reply || reply->type != REDIS_REPLY_ERROR ||
	    refusal_of(reply->str) != REFUSAL_NO_SCRIPT)
		return reply;
	freeReplyObject(reply);
	w->text[0] = "EVAL";
	w->bytes[0] = 4;
	w->text[1] = s->text;
	w->bytes[1] = strlen(s->text);
	return link_call(l, w);
}
