/* SPDX-License-Identifier: Apache-2.0 */
/* results.c - `gpuq-redis results`: what the workers have written. */
#define _GNU_SOURCE
#include "redis/server/shards.h"
#include "redis/server/show.h"

#include "program/signals.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ME "results"

const char results_help[] =
	"Usage: gpuq-redis results (--stream S | --results WHERE) [OPTION...]\n"
	"\n"
	"Show the results that workers have written, in the order in which they did.\n"
	"\n"
	"      --stream S       the messages' stream: the results are in the stream S:results\n"
	"      --results WHERE  stream:KEY, hash:PREFIX or list:KEY, as the workers have it\n"
	"  -F, --follow         go on showing what comes, until interrupted (stream:KEY only)\n"
	"  -f, --format FORMAT  hex: one line of hexadecimal each; text: the bytes and a newline;\n"
	"                       raw: the bytes; json: one line with all fields, the result in\n"
	"                       hexadecimal (hex)\n" PLACE_HELP
	"  -h, --help           show this text\n"
	"\n"
	"Exit codes: 0 shown; 2 wrong usage; 3 the output could not be written; 6 Redis.\n";

static const struct option long_options[] = {
	COMMON_OPTIONS,
	{ "results", required_argument, NULL, OPT_RESULTS },
	{ "follow", no_argument, NULL, 'F' },
	{ "format", required_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

enum format { FORMAT_HEX, FORMAT_TEXT, FORMAT_RAW, FORMAT_JSON };

struct shower {
	struct place place;
	struct results_place results;
	struct link link;
	char last[64]; /* the result of a stream that was shown last */
	enum format format;
	uint64_t shown; /* results, so far */
	bool results_given;
	bool follow;
};

/* ---- one result ------------------------------------------------------------------------------ */

static void show_bytes(const struct shower *s, const char *bytes, size_t count)
{
	if (s->format == FORMAT_HEX)
		show_hex(stdout, bytes, count);
	else
		fwrite(bytes, 1, count, stdout);
	if (s->format != FORMAT_RAW)
		putchar('\n');
}

static void show_fields(struct shower *s, const redisReply *fields)
{
	static const char *const names[] = { "id", "status", "consumer", "deliveries" };
	const redisReply *result = named(fields, "result");
	const char *bytes = result && result->type == REDIS_REPLY_STRING ? result->str : "";
	const size_t count = result && result->type == REDIS_REPLY_STRING ? result->len : 0;

	s->shown++;
	if (s->format != FORMAT_JSON) {
		show_bytes(s, bytes, count);
		return;
	}
	for (int i = 0; i < 4; i++) {
		const char *text = named_text(fields, names[i]);

		printf("%s\"%s\":", i == 0 ? "{" : ",", names[i]);
		if (i < 3)
			show_json(stdout, text, strlen(text));
		else
			printf("%lld", named_number(fields, names[i], 0));
	}
	fputs(",\"result\":\"", stdout);
	show_hex(stdout, bytes, count);
	fputs("\"}\n", stdout);
}

/* ---- a stream -------------------------------------------------------------------------------- */

/* Shows a list of entries; the last one's id goes to `last`. */
static void show_entries(struct shower *s, const redisReply *list, char *last, size_t room)
{
	for (size_t i = 0; i < list->elements; i++) {
		const redisReply *e = list->element[i];

		if (e->type != REDIS_REPLY_ARRAY || e->elements != 2 ||
		    e->element[0]->type != REDIS_REPLY_STRING)
			continue;
		show_fields(s, e->element[1]);
		snprintf(last, room, "%s", e->element[0]->str);
	}
}

/* What has come since the last time; without waiting an empty answer comes at once. */
static int show_page(struct shower *s, bool wait, bool *out_any)
{
	redisReply *reply = wait ? link_say(&s->link, "XREAD", "COUNT", "1000", "BLOCK", "500",
					    "STREAMS", s->results.key, s->last, NULL)
				 : link_say(&s->link, "XREAD", "COUNT", "1000", "STREAMS",
					    s->results.key, s->last, NULL);

	*out_any = false;
	if (!reply || (reply->type != REDIS_REPLY_NIL && reply->type != REDIS_REPLY_ARRAY))
		return refused(&s->link, "XREAD", reply);
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
	    reply->element[0]->type == REDIS_REPLY_ARRAY && reply->element[0]->elements == 2) {
		show_entries(s, reply->element[0]->element[1], s->last, sizeof(s->last));
		*out_any = true;
	}
	freeReplyObject(reply);
	return EXIT_DONE;
}

/* Of several shards each is looked at in turn. */
static int show_streams(struct shower *list, uint32_t count)
{
	const struct timespec rest = { .tv_nsec = 100000000 };

	for (;;) {
		bool any = false;

		for (uint32_t i = 0; i < count; i++) {
			bool more = true;

			while (more) {
				const int code =
					show_page(&list[i], list[i].follow && count == 1, &more);

				if (code != EXIT_DONE)
					return code;
				any |= more;
				if (flush_output() != 0 || signals_caught() != 0)
					return EXIT_DONE;
				more &= count > 1;
			}
		}
		if (!any && !list[0].follow)
			return EXIT_DONE;
		if (!any && count > 1)
			nanosleep(&rest, NULL);
	}
}

/* ---- a list, and hashes ---------------------------------------------------------------------- */

/* "ID STATUS CONSUMER DELIVERIES\n" and the bytes. */
static void show_element(struct shower *s, const redisReply *element)
{
	const char *newline = memchr(element->str, '\n', element->len);
	const size_t head = newline ? (size_t)(newline - element->str) + 1 : 0;
	char id[128] = "";
	char status[32] = "";
	char consumer[128] = "";
	unsigned long deliveries = 0;

	s->shown++;
	if (s->format != FORMAT_JSON) {
		show_bytes(s, element->str + head, element->len - head);
		return;
	}
	sscanf(element->str, "%127s %31s %127s %lu", id, status, consumer, &deliveries);
	fputs("{\"id\":", stdout);
	show_json(stdout, id, strlen(id));
	fputs(",\"status\":", stdout);
	show_json(stdout, status, strlen(status));
	fputs(",\"consumer\":", stdout);
	show_json(stdout, consumer, strlen(consumer));
	printf(",\"deliveries\":%lu,\"result\":\"", deliveries);
	show_hex(stdout, element->str + head, element->len - head);
	fputs("\"}\n", stdout);
}

static int show_list(struct shower *s)
{
	char from[24];
	char to[24];

	for (long long at = 0;; at += 1000) {
		redisReply *reply;
		bool more;

		snprintf(from, sizeof(from), "%lld", at);
		snprintf(to, sizeof(to), "%lld", at + 999);
		reply = link_say(&s->link, "LRANGE", s->results.key, from, to, NULL);
		if (!reply || reply->type != REDIS_REPLY_ARRAY)
			return refused(&s->link, "LRANGE", reply);
		for (size_t i = 0; i < reply->elements; i++)
			show_element(s, reply->element[i]);
		more = reply->elements > 0;
		freeReplyObject(reply);
		if (!more)
			return EXIT_DONE;
	}
}

static int show_hash(struct shower *s, const char *key)
{
	redisReply *reply = link_say(&s->link, "HGETALL", key, NULL);

	if (!reply || reply->type != REDIS_REPLY_ARRAY)
		return refused(&s->link, "HGETALL", reply);
	show_fields(s, reply);
	freeReplyObject(reply);
	return EXIT_DONE;
}

static int show_hashes(struct shower *s)
{
	char cursor[32] = "0";
	char *pattern = joined(s->results.key, "*");
	int code = pattern ? EXIT_DONE : EXIT_REDIS;

	do {
		redisReply *reply = code == EXIT_DONE ? link_say(&s->link, "SCAN", cursor, "MATCH",
								 pattern, "COUNT", "1000", NULL)
						      : NULL;

		if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
		    reply->element[0]->type != REDIS_REPLY_STRING ||
		    reply->element[1]->type != REDIS_REPLY_ARRAY) {
			code = refused(&s->link, "SCAN", reply);
			break;
		}
		snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
		for (size_t i = 0; i < reply->element[1]->elements && code == EXIT_DONE; i++)
			code = show_hash(s, reply->element[1]->element[i]->str);
		freeReplyObject(reply);
	} while (code == EXIT_DONE && strcmp(cursor, "0") != 0);
	free(pattern);
	return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int take_format(const char *text, struct shower *s)
{
	static const char *const words[] = { "hex", "text", "raw", "json" };

	for (int i = 0; i < 4; i++) {
		if (strcmp(text, words[i]) == 0) {
			s->format = (enum format)i;
			return EXIT_DONE;
		}
	}
	return usage_error(ME, "--format is '%s', must be hex, text, raw or json", text);
}

static int take_option(int option, char *text, void *to)
{
	struct shower *s = to;
	const int code = place_option(ME, option, text, &s->place);

	if (code != -1)
		return code;
	switch (option) {
	case OPT_RESULTS:
		s->results_given = true;
		return parse_results(ME, text, &s->results);
	case 'f':
		return take_format(text, s);
	case 'F':
		s->follow = true;
		return EXIT_DONE;
	default:
		return EXIT_DONE;
	}
}

static int check(struct shower *s)
{
	if (!s->results_given && !s->place.stream)
		return usage_error(ME, "--stream or --results is required");
	if (s->results_given && s->results.kind == RESULTS_NONE)
		return usage_error(ME, "--results is 'none', which has nothing to show");
	if (s->follow && s->results_given && s->results.kind != RESULTS_STREAM)
		return usage_error(ME, "--follow needs results in a stream");
	if (!s->results_given)
		s->results.key = s->place.sharded ? joined("results", "")
						  : joined(s->place.stream, ":results");
	return s->results.key ? EXIT_DONE : EXIT_REDIS;
}

/* One for each shard; those after the first are connected, too. */
static int make_showers(const struct shower *s, struct shower *list, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int code = EXIT_DONE;

		list[i] = *s;
		snprintf(list[i].last, sizeof(list[i].last), "0-0");
		if (s->place.sharded) {
			code = shard_place(&s->place, i, &list[i].place);
			list[i].results.key = shard_key(&list[i].place, s->results.key);
		}
		if (code == EXIT_DONE && !list[i].results.key)
			code = EXIT_REDIS;
		if (code == EXIT_DONE)
			code = place_connect(&list[i].place, &list[i].link);
		if (code != EXIT_DONE)
			return code;
	}
	return EXIT_DONE;
}

static int show_all(const struct shower *s)
{
	const uint32_t count = shards_count(&s->place);
	uint64_t shown = 0;
	struct shower *list = calloc(count, sizeof(*list));
	int code = list ? make_showers(s, list, count) : EXIT_REDIS;

	if (code == EXIT_DONE && s->follow)
		signals_init();
	if (code == EXIT_DONE && s->results.kind == RESULTS_STREAM)
		code = show_streams(list, count);
	else
		for (uint32_t i = 0; i < count && code == EXIT_DONE; i++)
			code = s->results.kind == RESULTS_LIST ? show_list(&list[i])
							       : show_hashes(&list[i]);
	for (uint32_t i = 0; list && i < count; i++) {
		shown += list[i].shown;
		link_close(&list[i].link);
		if (s->place.sharded) {
			free((char *)list[i].place.stream);
			free((char *)list[i].results.key);
		}
	}
	free(list);
	if (code == EXIT_DONE && shown == 0 && !s->follow)
		warn_line("there is no result in '%s'%s", s->results.key,
			  s->place.sharded ? " of any shard" : "");
	return code;
}

static const struct option_set options = {
	.command = ME,
	.help = results_help,
	.shorts = ":Ff:h",
	.longs = long_options,
	.take = take_option,
};

int cmd_results(int argc, char **argv)
{
	struct shower s = { .format = FORMAT_HEX };
	int code;

	if (!options_read(&options, argc, argv, &s, &code))
		return code;
	if (optind < argc)
		return usage_error(ME, "'%s' is too much: it takes options only", argv[optind]);
	code = place_resolve(ME, &s.place, false);
	if (code == EXIT_DONE)
		code = check(&s);
	if (code == EXIT_DONE)
		code = shards_learn(&s.place, false);
	return code == EXIT_DONE ? show_all(&s) : code;
}
