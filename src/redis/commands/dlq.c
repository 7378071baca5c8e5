/* SPDX-License-Identifier: Apache-2.0 */
/* dlq.c - `gpuq-redis dlq`: dead letters are listed, shown, sent again, or deleted. */
#define _GNU_SOURCE
#include "redis/server/scripts.h"
#include "redis/server/shards.h"
#include "redis/server/show.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define ME   "dlq"
#define PAGE "100"

const char dlq_help[] =
	"Usage: gpuq-redis dlq ls|show|replay|purge --stream S [OPTION...] [ID...]\n"
	"\n"
	"Dead letters are messages that could not be processed. ID is the first word that ls\n"
	"prints: the letter's own id; with shards, the shard's number and '/' before it.\n"
	"\n"
	"  ls      one line each: id, the message's id, reason, deliveries, bytes, error\n"
	"  show    all about these, the message in hexadecimal\n"
	"  replay  put these back into the stream, in one step each: sent again and deleted here\n"
	"  purge   delete these\n"
	"\n"
	"      --stream S   the messages' stream; the dead letters are in the stream S:dlq\n"
	"      --dlq KEY    or in this one\n"
	"      --mode M     stream or list: what S is, for replay (stream)\n"
	"      --field F    the field that replay puts the message into (payload)\n"
	"      --all        all of them, in place of ID...\n" PLACE_HELP
	"  -h, --help       show this text\n"
	"\n"
	"Exit codes: 0 done; 1 there is no letter of an ID; 2 wrong usage; 6 Redis.\n";

enum { OPT_ALL = 256, OPT_MODE };

static const struct option long_options[] = {
	COMMON_OPTIONS,
	{ "dlq", required_argument, NULL, OPT_DLQ },
	{ "field", required_argument, NULL, OPT_FIELD },
	{ "mode", required_argument, NULL, OPT_MODE },
	{ "all", no_argument, NULL, OPT_ALL },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

struct office {
	struct place place;
	struct link link;
	const char *dead;
	const char *field;
	bool list;
	char shard[16]; /* "N/" before the ids, where there are shards */
	bool all;
};

/* KEYS dead stream; ARGV field id mode. 1: sent again, 0: there is no such letter. */
static struct script script_replay = {
	.text = "local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])\n"
		"if not found[1] then return 0 end\n"
		"local fields, payload = found[1][2], ''\n"
		"for f = 1, #fields, 2 do\n"
		" if fields[f] == 'payload' then payload = fields[f + 1] end\n"
		"end\n"
		"if ARGV[3] == 'list' then redis.call('LPUSH', KEYS[2], payload)\n"
		"else redis.call('XADD', KEYS[2], '*', ARGV[1], payload) end\n"
		"redis.call('XDEL', KEYS[1], ARGV[2])\n"
		"return 1\n",
};

/* ---- what is done with one letter ------------------------------------------------------------ */

typedef int (*letter_fn)(struct office *o, const char *id, const redisReply *fields);

static int list_letter(struct office *o, const char *id, const redisReply *fields)
{
	const redisReply *payload = named(fields, "payload");

	printf("%s%s %s %s %lld %zu %s\n", o->shard, id, named_text(fields, "id"),
	       named_text(fields, "reason"), named_number(fields, "deliveries", 0),
	       payload ? payload->len : (size_t)0, named_text(fields, "error"));
	return EXIT_DONE;
}

static int show_letter(struct office *o, const char *id, const redisReply *fields)
{
	static const char *const names[] = { "id",       "reason", "error", "deliveries",
					     "consumer", "first",  "last" };
	const redisReply *payload = named(fields, "payload");

	printf("letter      %s%s\n", o->shard, id);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		printf("%-11s %s\n", names[i], named_text(fields, names[i]));
	printf("%-11s ", "payload");
	if (payload)
		show_hex(stdout, payload->str, payload->len);
	putchar('\n');
	return EXIT_DONE;
}

static int replay_letter(struct office *o, const char *id, const redisReply *fields)
{
	struct words w;
	redisReply *reply = NULL;

	(void)fields;
	if (!words_init(&w, 16))
		return EXIT_REDIS;
	if (script_begin(&script_replay, &o->link, &w, 2)) {
		words_add(&w, o->dead);
		words_add(&w, o->place.stream);
		words_add(&w, o->field);
		words_add(&w, id);
		words_add(&w, o->list ? "list" : "stream");
		reply = script_call(&script_replay, &o->link, &w);
	}
	words_free(&w);
	if (!reply || reply->type != REDIS_REPLY_INTEGER)
		return refused(&o->link, "replay", reply);
	freeReplyObject(reply);
	return EXIT_DONE;
}

static int purge_letter(struct office *o, const char *id, const redisReply *fields)
{
	redisReply *reply = link_say(&o->link, "XDEL", o->dead, id, NULL);

	(void)fields;
	if (!reply || reply->type != REDIS_REPLY_INTEGER)
		return refused(&o->link, "XDEL", reply);
	freeReplyObject(reply);
	return EXIT_DONE;
}

/* ---- which letters --------------------------------------------------------------------------- */

/* Letters from `from` to `to`, a page at most. The last one's id goes to `last`. */
static int page(struct office *o, letter_fn fn, const char *from, const char *to, char *last,
		size_t room, size_t *out_count)
{
	redisReply *reply = link_say(&o->link, "XRANGE", o->dead, from, to, "COUNT", PAGE, NULL);
	int code = EXIT_DONE;

	*out_count = 0;
	if (!reply || reply->type != REDIS_REPLY_ARRAY)
		return refused(&o->link, "XRANGE", reply);
	for (size_t i = 0; i < reply->elements && code == EXIT_DONE; i++) {
		const redisReply *e = reply->element[i];

		if (e->type != REDIS_REPLY_ARRAY || e->elements != 2 ||
		    e->element[0]->type != REDIS_REPLY_STRING)
			continue;
		snprintf(last, room, "(%s", e->element[0]->str);
		code = fn(o, e->element[0]->str, e->element[1]);
		++*out_count;
	}
	freeReplyObject(reply);
	return code;
}

static int every_letter(struct office *o, letter_fn fn)
{
	char last[64] = "-";
	size_t count;
	int code;

	do {
		char from[64];

		memcpy(from, last, sizeof(from));
		code = page(o, fn, from, "+", last, sizeof(last), &count);
	} while (code == EXIT_DONE && count > 0);
	return code;
}

static int these_letters(struct office *o, letter_fn fn, char **ids, int id_count)
{
	char last[64];
	size_t count;
	int worst = EXIT_DONE;

	for (int i = 0; i < id_count; i++) {
		const int code = page(o, fn, ids[i], ids[i], last, sizeof(last), &count);

		if (code != EXIT_DONE)
			return code;
		if (count == 0) {
			warn_line("there is no dead letter '%s' in '%s'", ids[i], o->dead);
			worst = EXIT_FOUND;
		}
	}
	return worst;
}

/* ---- the command ----------------------------------------------------------------------------- */

static const struct {
	const char *name;
	letter_fn fn;
} verbs[] = {
	{ "ls", list_letter },
	{ "show", show_letter },
	{ "replay", replay_letter },
	{ "purge", purge_letter },
};

static letter_fn find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return verbs[i].fn;
	}
	return NULL;
}

static int take_option(int option, char *text, void *to)
{
	struct office *o = to;
	const int code = place_option(ME, option, text, &o->place);

	if (code != -1)
		return code;
	if (option == OPT_DLQ)
		return parse_name(ME, "--dlq", text, &o->dead);
	if (option == OPT_FIELD)
		return parse_name(ME, "--field", text, &o->field);
	if (option == OPT_MODE) {
		o->list = strcmp(text, "list") == 0;
		if (o->list || strcmp(text, "stream") == 0)
			return EXIT_DONE;
		return usage_error(ME, "--mode is '%s', must be stream or list", text);
	}
	o->all |= option == OPT_ALL;
	return EXIT_DONE;
}

static int check(struct office *o, const char *verb, char **ids, int count)
{
	if (strcmp(verb, "ls") == 0) {
		if (count > 0)
			return usage_error(ME, "'%s' is too much: ls lists all", ids[0]);
		o->all = true;
	}
	if (o->all && count > 0)
		return usage_error(ME, "--all and '%s': it is either", ids[0]);
	if (!o->all && count == 0)
		return usage_error(ME, "%s needs an ID, or --all", verb);
	if (!o->dead)
		o->dead = o->place.sharded ? joined("dlq", "") : joined(o->place.stream, ":dlq");
	return o->dead ? EXIT_DONE : EXIT_REDIS;
}

static int in_shard(const struct office *all, uint32_t shard, letter_fn fn, char **ids, int count)
{
	struct office o = *all;
	int code = shard_place(&all->place, shard, &o.place);

	if (code != EXIT_DONE)
		return code;
	if (o.place.sharded) {
		snprintf(o.shard, sizeof(o.shard), "%u/", shard);
		o.dead = shard_key(&o.place, all->dead);
	}
	code = o.dead ? place_connect(&o.place, &o.link) : EXIT_REDIS;
	if (code == EXIT_DONE)
		code = o.all ? every_letter(&o, fn) : these_letters(&o, fn, ids, count);
	link_close(&o.link);
	if (o.place.sharded) {
		free((char *)o.place.stream);
		free((char *)o.dead);
	}
	return code;
}

/* "N/ID": the shard, and the rest of the text. */
static int split_id(char *text, uint32_t shards, uint32_t *out_shard, char **out_id)
{
	char *slash = strchr(text, '/');
	uint64_t number = 0;

	if (slash)
		*slash = '\0';
	if (!slash || !parse_size(text, &number) || number >= shards) {
		if (slash)
			*slash = '/';
		return usage_error(ME, "'%s' must be N/ID, with N of 0 to %u", text, shards - 1);
	}
	*out_shard = (uint32_t)number;
	*out_id = slash + 1;
	return EXIT_DONE;
}

static int in_shards(const struct office *o, letter_fn fn, char **ids, int count)
{
	const uint32_t shards = shards_count(&o->place);
	int worst = EXIT_DONE;
	int code;

	if (!o->place.sharded)
		return in_shard(o, 0, fn, ids, count);
	for (uint32_t i = 0; o->all && i < shards; i++) {
		code = in_shard(o, i, fn, NULL, 0);
		if (code != EXIT_DONE)
			return code;
	}
	for (int i = 0; i < count; i++) {
		uint32_t shard = 0;
		char *id = NULL;

		code = split_id(ids[i], shards, &shard, &id);
		if (code == EXIT_DONE)
			code = in_shard(o, shard, fn, &id, 1);
		if (code != EXIT_DONE && code != EXIT_FOUND)
			return code;
		worst = code == EXIT_FOUND ? code : worst;
	}
	return worst;
}

static const struct option_set options = {
	.command = ME,
	.help = dlq_help,
	.shorts = ":h",
	.longs = long_options,
	.take = take_option,
};

int cmd_dlq(int argc, char **argv)
{
	struct office o = { .field = "payload" };
	letter_fn fn;
	int code;

	if (!options_read(&options, argc, argv, &o, &code))
		return code;
	if (optind == argc)
		return usage_error(ME, "what to do is missing: ls, show, replay or purge");
	fn = find_verb(argv[optind]);
	if (!fn)
		return usage_error(ME, "'%s' is none of ls, show, replay, purge", argv[optind]);
	code = place_resolve(ME, &o.place, true);
	if (code == EXIT_DONE && o.list)
		code = place_refuse_shards(ME, &o.place);
	if (code == EXIT_DONE)
		code = check(&o, argv[optind], argv + optind + 1, argc - optind - 1);
	if (code == EXIT_DONE)
		code = shards_learn(&o.place, false);
	if (code != EXIT_DONE)
		return code;
	return in_shards(&o, fn, argv + optind + 1, argc - optind - 1);
}
