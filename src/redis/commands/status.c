/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - `gpuq-redis status` and `doctor`: how a stream stands, and what endangers it. */
#define _GNU_SOURCE
#include "status.h"

#include "redis/server/shards.h"
#include "redis/server/show.h"
#include "status_shards.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char status_help[] =
	"Usage: gpuq-redis status --stream S [OPTION...]\n"
	"\n"
	"Show how many messages a stream, or a list, has, how many are pending, and with whom.\n"
	"\n"
	"      --stream S   the stream, or the list\n"
	"      --group G    the workers' group (gpuq)\n"
	"      --dlq KEY    the stream of the dead letters (S:dlq)\n"
	"      --json       one line of JSON, for programs\n" PLACE_HELP
	"  -h, --help       show this text\n"
	"\n"
	"Exit codes: 0 shown; 2 wrong usage; 6 Redis, or there is no such stream or group.\n";

const char doctor_help[] =
	"Usage: gpuq-redis doctor --stream S [OPTION...]\n"
	"\n"
	"Look for what endangers messages: a Redis that is too old, a replica, that forgets at a\n"
	"restart or drops keys when memory is short, consumers that have died with messages, dead\n"
	"letters.\n"
	"\n"
	"      --stream S   the stream\n"
	"      --group G    the workers' group (gpuq)\n"
	"      --dlq KEY    the stream of the dead letters (S:dlq)\n" PLACE_HELP
	"  -h, --help       show this text\n"
	"\n"
	"Exit codes: 0 nothing found; 1 something; 2 wrong usage; 6 Redis.\n";

enum { OPT_JSON = 256 };

#define LOOKER_OPTIONS                                                                             \
	COMMON_OPTIONS, { "group", required_argument, NULL, OPT_GROUP },                           \
		{ "dlq", required_argument, NULL, OPT_DLQ },                                       \
	{                                                                                          \
		"help", no_argument, NULL, 'h'                                                     \
	}

static const struct option status_options[] = {
	LOOKER_OPTIONS,
	{ "json", no_argument, NULL, OPT_JSON },
	{ NULL, 0, NULL, 0 },
};

static const struct option doctor_options[] = {
	LOOKER_OPTIONS,
	{ NULL, 0, NULL, 0 },
};

/* What XLEN and XINFO have said. */
struct view {
	long long length;
	long long dead;
	long long pending;
	long long lag; /* -1: Redis does not know */
	redisReply *groups;
	redisReply *consumers;
};

/* ---- the command line ------------------------------------------------------------------------ */

static int take_option(int option, char *text, void *to)
{
	struct looker *l = to;
	const int code = place_option(l->command, option, text, &l->place);

	if (code != -1)
		return code;
	if (option == OPT_GROUP)
		return parse_name(l->command, "--group", text, &l->group);
	if (option == OPT_DLQ)
		return parse_name(l->command, "--dlq", text, &l->dead);
	l->json |= option == OPT_JSON;
	return EXIT_DONE;
}

/* True: all is there to look. False: *code is the exit code. */
static bool parse(const struct option_set *set, int argc, char **argv, struct looker *l, int *code)
{
	*l = (struct looker){ .command = set->command, .group = "gpuq" };
	if (!options_read(set, argc, argv, l, code))
		return false;
	*code = optind < argc ? usage_error(set->command, "'%s' is too much: it takes options only",
					    argv[optind])
			      : place_resolve(set->command, &l->place, true);
	if (*code == EXIT_DONE)
		*code = shards_learn(&l->place, false);
	if (*code == EXIT_DONE && !l->dead)
		l->dead = l->place.sharded ? joined("dlq", "") : joined(l->place.stream, ":dlq");
	if (*code == EXIT_DONE && !l->place.sharded)
		*code = place_connect(&l->place, &l->link);
	return *code == EXIT_DONE;
}

/* ---- looking --------------------------------------------------------------------------------- */

int status_length(struct looker *l, const char *key, long long *out)
{
	redisReply *reply = link_say(&l->link, "XLEN", key, NULL);

	if (!reply || reply->type != REDIS_REPLY_INTEGER)
		return refused(&l->link, key, reply);
	*out = reply->integer;
	freeReplyObject(reply);
	return EXIT_DONE;
}

static int list_of(struct looker *l, const char *what, redisReply **out)
{
	const char *group = strcmp(what, "CONSUMERS") == 0 ? l->group : NULL;
	redisReply *reply = link_say(&l->link, "XINFO", what, l->place.stream, group, NULL);

	if (reply && reply->type == REDIS_REPLY_ERROR && strstr(reply->str, "no such key")) {
		warn_line(
			"there is no stream '%s': nobody has sent to it, and no worker has read it",
			l->place.stream);
		freeReplyObject(reply);
		return EXIT_REDIS;
	}
	if (!reply || reply->type != REDIS_REPLY_ARRAY)
		return refused(&l->link, l->place.stream, reply);
	*out = reply;
	return EXIT_DONE;
}

static const redisReply *find_group(const struct looker *l, const redisReply *groups)
{
	for (size_t i = 0; groups && i < groups->elements; i++) {
		if (strcmp(named_text(groups->element[i], "name"), l->group) == 0)
			return groups->element[i];
	}
	return NULL;
}

static void free_view(struct view *v)
{
	if (v->groups)
		freeReplyObject(v->groups);
	if (v->consumers)
		freeReplyObject(v->consumers);
}

static int look(struct looker *l, struct view *v)
{
	const redisReply *group;
	int code;

	*v = (struct view){ .length = 0 };
	code = status_length(l, l->place.stream, &v->length);
	if (code == EXIT_DONE)
		code = status_length(l, l->dead, &v->dead);
	if (code == EXIT_DONE)
		code = list_of(l, "GROUPS", &v->groups);
	if (code != EXIT_DONE)
		return code;
	group = find_group(l, v->groups);
	if (!group) {
		warn_line("the stream '%s' has no group '%s': no worker has read it yet",
			  l->place.stream, l->group);
		return EXIT_REDIS;
	}
	v->pending = named_number(group, "pending", 0);
	v->lag = named_number(group, "lag", -1);
	return list_of(l, "CONSUMERS", &v->consumers);
}

/* ---- status ---------------------------------------------------------------------------------- */

static void print_lag(long long lag, const char *unknown)
{
	if (lag >= 0)
		printf("%lld", lag);
	else
		fputs(unknown, stdout);
}

static void print_json(const struct looker *l, const struct view *v)
{
	fputs("{\"stream\":", stdout);
	show_json(stdout, l->place.stream, strlen(l->place.stream));
	fputs(",\"group\":", stdout);
	show_json(stdout, l->group, strlen(l->group));
	printf(",\"length\":%lld,\"pending\":%lld,\"lag\":", v->length, v->pending);
	print_lag(v->lag, "null");
	printf(",\"dead_letters\":%lld,\"consumers\":[", v->dead);
	for (size_t i = 0; v->consumers && i < v->consumers->elements; i++) {
		const redisReply *c = v->consumers->element[i];
		const char *name = named_text(c, "name");

		fputs(i == 0 ? "{\"name\":" : ",{\"name\":", stdout);
		show_json(stdout, name, strlen(name));
		printf(",\"pending\":%lld,\"idle_ms\":%lld}", named_number(c, "pending", 0),
		       named_number(c, "idle", 0));
	}
	fputs("]}\n", stdout);
}

static void print_text(const struct looker *l, const struct view *v)
{
	printf("stream        %s, %lld entries\n", l->place.stream, v->length);
	printf("group         %s\n", l->group);
	fputs("not yet read  ", stdout);
	print_lag(v->lag, "Redis does not know");
	printf("\npending       %lld\n", v->pending);
	printf("dead letters  %lld in %s\n", v->dead, l->dead);
	printf("consumers     %zu\n", v->consumers ? v->consumers->elements : 0);
	for (size_t i = 0; v->consumers && i < v->consumers->elements; i++) {
		const redisReply *c = v->consumers->element[i];

		printf("  %s: %lld pending, last heard of %.1f s ago\n", named_text(c, "name"),
		       named_number(c, "pending", 0), (double)named_number(c, "idle", 0) / 1000.0);
	}
}

int cmd_status(int argc, char **argv)
{
	static const struct option_set options = {
		.command = "status",
		.help = status_help,
		.shorts = ":h",
		.longs = status_options,
		.take = take_option,
	};
	struct looker l;
	struct view v = { .length = 0 };
	bool list = false;
	int code;

	if (!parse(&options, argc, argv, &l, &code))
		return code;
	if (l.place.sharded)
		return status_shards(&l.place, l.group, l.dead, l.json);
	code = status_is_list(&l, &list);
	if (code == EXIT_DONE)
		code = list ? status_list(&l) : look(&l, &v);
	if (code != EXIT_DONE || list)
		;
	else if (l.json)
		print_json(&l, &v);
	else
		print_text(&l, &v);
	free_view(&v);
	link_close(&l.link);
	return code;
}

/* ---- doctor ---------------------------------------------------------------------------------- */

static int found; /* what doctor has found so far */

static void finding(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void finding(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	found++;
}

/* A line "name:value" of INFO, as a text of its own; empty: there is none. */
static void info_value(const char *info, const char *name, char *to, size_t room)
{
	const size_t len = strlen(name);
	const char *at = info;

	to[0] = '\0';
	while (at && (strncmp(at, name, len) != 0 || at[len] != ':')) {
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	if (at) {
		const size_t bytes = strcspn(at + len + 1, "\r\n");

		snprintf(to, room, "%.*s", (int)bytes, at + len + 1);
	}
}

static int look_at_server(struct looker *l)
{
	redisReply *reply = link_say(&l->link, "INFO", NULL);
	char text[64];
	int major = 0;
	int minor = 0;

	if (!reply || reply->type != REDIS_REPLY_STRING)
		return refused(&l->link, "INFO", reply);
	info_value(reply->str, "redis_version", text, sizeof(text));
	if (sscanf(text, "%d.%d", &major, &minor) != 2 || major < 6 || (major == 6 && minor < 2))
		finding("Redis is version %s: 6.2 or newer is needed", text);
	info_value(reply->str, "role", text, sizeof(text));
	if (strcmp(text, "master") != 0)
		finding("this Redis is a %s: workers need its master", text);
	info_value(reply->str, "aof_enabled", text, sizeof(text));
	if (strcmp(text, "1") != 0)
		finding("appendonly is off: what Redis has not saved is lost when it restarts");
	info_value(reply->str, "maxmemory_policy", text, sizeof(text));
	if (text[0] != '\0' && strcmp(text, "noeviction") != 0)
		finding("maxmemory-policy is %s: Redis may drop the stream; set noeviction", text);
	freeReplyObject(reply);
	return EXIT_DONE;
}

static void look_at_group(const struct looker *l, const struct view *v)
{
	for (size_t i = 0; v->consumers && i < v->consumers->elements; i++) {
		const redisReply *c = v->consumers->element[i];
		const long long pending = named_number(c, "pending", 0);
		const long long idle = named_number(c, "idle", 0);

		if (pending > 0 && idle > 300000)
			finding("consumer %s has %lld messages and was last heard of %lld s ago",
				named_text(c, "name"), pending, idle / 1000);
	}
	if ((v->consumers ? v->consumers->elements : 0) == 0 && v->lag > 0)
		finding("%lld messages wait, and there is no worker", v->lag);
	if (v->dead > 0)
		finding("%lld dead letters in %s: see gpuq-redis dlq ls", v->dead, l->dead);
}

/* A server that has several shards is looked at once. */
static int examine(struct looker *l, struct address *last)
{
	struct view v = { .length = 0 };
	int code = EXIT_DONE;

	if (l->link.to.port != last->port || strcmp(l->link.to.host, last->host) != 0 ||
	    strcmp(l->link.to.path, last->path) != 0)
		code = look_at_server(l);
	*last = l->link.to;
	if (code == EXIT_DONE)
		code = look(l, &v);
	if (code == EXIT_DONE)
		look_at_group(l, &v);
	free_view(&v);
	link_close(&l->link);
	return code;
}

static int examine_shard(const struct looker *all, uint32_t shard, struct address *last)
{
	struct looker l = *all;
	int code = shard_place(&all->place, shard, &l.place);

	if (code != EXIT_DONE)
		return code;
	l.dead = shard_key(&l.place, all->dead);
	code = l.dead ? place_connect(&l.place, &l.link) : EXIT_REDIS;
	if (code == EXIT_DONE)
		code = examine(&l, last);
	free((char *)l.dead);
	free((char *)l.place.stream);
	return code;
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option_set options = {
		.command = "doctor",
		.help = doctor_help,
		.shorts = ":h",
		.longs = doctor_options,
		.take = take_option,
	};
	struct looker l;
	struct address last = { .port = 0 };
	int code;

	if (!parse(&options, argc, argv, &l, &code))
		return code;
	if (!l.place.sharded)
		code = examine(&l, &last);
	for (uint32_t i = 0; l.place.sharded && i < l.place.shards && code == EXIT_DONE; i++)
		code = examine_shard(&l, i, &last);
	if (code == EXIT_DONE) {
		if (found == 0)
			puts("nothing found");
		code = found > 0 ? EXIT_FOUND : EXIT_DONE;
	}
	return code;
}
