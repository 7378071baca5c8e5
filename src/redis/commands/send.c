/* SPDX-License-Identifier: Apache-2.0 */
/* send.c - `gpuq-redis send`: files, or parts of them, become entries of a stream. */
#define _GNU_SOURCE
#include "program/load.h"
#include "redis/server/post.h"
#include "redis/server/shards.h"

#include <gpuq/gpuq.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ME "send"

#define PIPELINE       256u /* entries that are under way */
#define PIPELINE_BYTES ((size_t)4 << 20)

const char send_help[] =
	"Usage: gpuq-redis send --stream S [OPTION...] [FILE...]\n"
	"\n"
	"Put messages into a Redis stream, or a list; '-', and no FILE at all, is the standard\n"
	"input.\n"
	"\n"
	"      --stream S       the stream, or the list\n"
	"      --mode M         stream or list: what S is (stream)\n"
	"  -s, --split HOW      lines, files (one message each), or a number of bytes (lines)\n"
	"      --field F        the field with the message (payload)\n"
	"      --maxlen N       let Redis drop the oldest entries beyond about N, also such as\n"
	"                       have not been processed\n"
	"      --rate N         messages per second, at most\n"
	"      --shard-by HOW   which shard a message goes to: turn, one after the other, or\n"
	"                       payload, equal messages to the same one (turn)\n" PLACE_HELP
	"  -q, --quiet          do not say how many were sent\n"
	"  -h, --help           show this text\n"
	"\n"
	"Exit codes: 0 all sent; 1 a file could not be read; 2 wrong usage; 6 Redis.\n";

enum { OPT_MAXLEN = 256, OPT_RATE, OPT_MODE, OPT_SHARD_BY };

static const struct option long_options[] = {
	COMMON_OPTIONS,
	{ "field", required_argument, NULL, OPT_FIELD },
	{ "split", required_argument, NULL, 's' },
	{ "mode", required_argument, NULL, OPT_MODE },
	{ "maxlen", required_argument, NULL, OPT_MAXLEN },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "shard-by", required_argument, NULL, OPT_SHARD_BY },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

enum split { SPLIT_LINES, SPLIT_FILES, SPLIT_BYTES };

struct sender {
	struct place place;
	struct link link;
	struct words words;
	struct post *post; /* NULL: one stream on one server */
	const char *field;
	uint64_t maxlen;
	uint64_t rate;
	uint64_t piece_bytes;
	enum split split;
	bool list;
	bool by_payload;
	bool shard_by_given;
	bool quiet;
	uint64_t sent;
	uint64_t begin_ns;
	uint32_t under_way;
	size_t bytes_under_way;
};

/* ---- sending --------------------------------------------------------------------------------- */

static int take_replies(struct sender *s)
{
	while (s->under_way > 0) {
		redisReply *reply = link_reply(&s->link);

		if (!reply || reply->type != (s->list ? REDIS_REPLY_INTEGER : REDIS_REPLY_STRING))
			return refused(&s->link, s->list ? "LPUSH" : "XADD", reply);
		freeReplyObject(reply);
		s->under_way--;
		s->sent++;
	}
	s->bytes_under_way = 0;
	return EXIT_DONE;
}

/* Not sooner than the rate allows. */
static void pace(const struct sender *s)
{
	const double due = (double)(s->sent + s->under_way) * 1e9 / (double)s->rate;
	const uint64_t at = s->begin_ns + (uint64_t)due;
	const struct timespec until = { .tv_sec = (time_t)(at / 1000000000u),
					.tv_nsec = (long)(at % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

static void add_entry(struct sender *s)
{
	words_add(&s->words, "XADD");
	words_add(&s->words, s->place.stream);
	if (s->maxlen > 0) {
		words_add(&s->words, "MAXLEN");
		words_add(&s->words, "~");
		words_add_number(&s->words, s->maxlen);
	}
	words_add(&s->words, "*");
	words_add(&s->words, s->field);
}

static int send_one(struct sender *s, const void *payload, size_t bytes)
{
	if (s->rate > 0)
		pace(s);
	if (s->post) {
		const int code = post_add(s->post, payload, bytes);

		return code == EXIT_DONE && s->rate > 0 ? post_flush(s->post) : code;
	}
	words_clear(&s->words);
	if (s->list) {
		words_add(&s->words, "LPUSH");
		words_add(&s->words, s->place.stream);
	} else {
		add_entry(s);
	}
	words_add_bytes(&s->words, payload, bytes);
	if (!link_append(&s->link, &s->words))
		return refused(&s->link, s->list ? "LPUSH" : "XADD", NULL);
	s->under_way++;
	s->bytes_under_way += bytes;
	if (s->rate > 0 || s->under_way == PIPELINE || s->bytes_under_way > PIPELINE_BYTES)
		return take_replies(s);
	return EXIT_DONE;
}

/* ---- cutting --------------------------------------------------------------------------------- */

static int send_lines(struct sender *s, FILE *file)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t len;
	int code = EXIT_DONE;

	while (code == EXIT_DONE && (len = getline(&line, &room, file)) > 0) {
		if (line[len - 1] == '\n')
			len--;
		code = send_one(s, line, (size_t)len);
	}
	free(line);
	return code;
}

static int send_pieces(struct sender *s, FILE *file)
{
	char *piece = malloc(s->piece_bytes);
	size_t got;
	int code = EXIT_DONE;

	if (!piece) {
		warn_line("no memory for a piece of %" PRIu64 " bytes", s->piece_bytes);
		return EXIT_FOUND;
	}
	while (code == EXIT_DONE && (got = fread(piece, 1, s->piece_bytes, file)) > 0)
		code = send_one(s, piece, got);
	free(piece);
	return code;
}

static int send_whole(struct sender *s, const char *path)
{
	size_t bytes;
	uint8_t *data = load_file("FILE", path, true, &bytes);
	int code;

	if (!data)
		return EXIT_FOUND;
	code = send_one(s, data, bytes);
	free(data);
	return code;
}

static int send_file(struct sender *s, const char *path)
{
	FILE *file;
	int code;

	if (s->split == SPLIT_FILES)
		return send_whole(s, path);
	file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	if (!file) {
		warn_line("%s: cannot be opened: %s", path, strerror(errno));
		return EXIT_FOUND;
	}
	code = s->split == SPLIT_LINES ? send_lines(s, file) : send_pieces(s, file);
	if (ferror(file)) {
		warn_line("%s: cannot be read: %s", path, strerror(errno));
		code = code == EXIT_DONE ? EXIT_FOUND : code;
	}
	if (file != stdin)
		fclose(file);
	return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int take_split(const char *text, struct sender *s)
{
	if (strcmp(text, "lines") == 0 || strcmp(text, "files") == 0) {
		s->split = text[0] == 'l' ? SPLIT_LINES : SPLIT_FILES;
		return EXIT_DONE;
	}
	s->split = SPLIT_BYTES;
	if (!parse_size(text, &s->piece_bytes) || s->piece_bytes < 1 ||
	    s->piece_bytes > Q_MAX_SLOT_BYTES)
		return usage_error(ME, "--split is '%s', must be lines, files, or 1 to 16M", text);
	return EXIT_DONE;
}

static int take_mode(const char *text, struct sender *s)
{
	s->list = strcmp(text, "list") == 0;
	if (s->list || strcmp(text, "stream") == 0)
		return EXIT_DONE;
	return usage_error(ME, "--mode is '%s', must be stream or list", text);
}

static int take_shard_by(const char *text, struct sender *s)
{
	s->shard_by_given = true;
	s->by_payload = strcmp(text, "payload") == 0;
	if (s->by_payload || strcmp(text, "turn") == 0)
		return EXIT_DONE;
	return usage_error(ME, "--shard-by is '%s', must be turn or payload", text);
}

static int take_option(int option, char *text, void *to)
{
	struct sender *s = to;
	const int code = place_option(ME, option, text, &s->place);

	if (code != -1)
		return code;
	switch (option) {
	case OPT_FIELD:
		return parse_name(ME, "--field", text, &s->field);
	case 's':
		return take_split(text, s);
	case OPT_MODE:
		return take_mode(text, s);
	case OPT_MAXLEN:
		return parse_range(ME, "--maxlen", text, 1, UINT64_C(1) << 40, &s->maxlen);
	case OPT_RATE:
		return parse_range(ME, "--rate", text, 1, 1000000000, &s->rate);
	case OPT_SHARD_BY:
		return take_shard_by(text, s);
	case 'q':
		s->quiet = true;
		return EXIT_DONE;
	default:
		return EXIT_DONE;
	}
}

static int send_all(struct sender *s, char **files, int count)
{
	int worst = EXIT_DONE;

	s->begin_ns = clock_ns();
	for (int i = 0; i < count || (i == 0 && count == 0); i++) {
		const int code = send_file(s, count == 0 ? "-" : files[i]);

		if (code == EXIT_REDIS)
			return code;
		if (code != EXIT_DONE)
			worst = code;
	}
	if ((s->post ? post_flush(s->post) : take_replies(s)) != EXIT_DONE)
		return EXIT_REDIS;
	return worst;
}

static int connect_sender(struct sender *s)
{
	int code;

	if (!words_init(&s->words, 16)) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	if (s->list || (!s->place.sharded && s->place.finder->kind == FIND_URL))
		return place_connect(&s->place, &s->link);
	code = shards_learn(&s->place, true);
	if (code != EXIT_DONE)
		return code;
	s->post = calloc(1, sizeof(*s->post));
	if (!s->post) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	s->post->field = s->field;
	s->post->maxlen = s->maxlen;
	s->post->by_payload = s->by_payload;
	s->post->sent = &s->sent;
	return post_open(s->post, &s->place);
}

static void disconnect_sender(struct sender *s)
{
	if (s->post)
		post_close(s->post);
	free(s->post);
	words_free(&s->words);
	link_close(&s->link);
}

static const struct option_set options = {
	.command = ME,
	.help = send_help,
	.shorts = ":s:qh",
	.longs = long_options,
	.take = take_option,
};

int cmd_send(int argc, char **argv)
{
	struct sender s = { .field = "payload" };
	int code;

	if (!options_read(&options, argc, argv, &s, &code))
		return code;
	if (s.list && (s.maxlen > 0 || strcmp(s.field, "payload") != 0))
		return usage_error(ME, "--maxlen and --field are for streams, not for a list");
	code = place_resolve(ME, &s.place, true);
	if (code == EXIT_DONE && s.list)
		code = place_refuse_shards(ME, &s.place);
	if (code == EXIT_DONE && s.shard_by_given && !s.place.sharded)
		return usage_error(ME, "--shard-by is given, but the stream has no shards");
	if (code == EXIT_DONE)
		code = connect_sender(&s);
	if (code == EXIT_DONE) {
		code = send_all(&s, argv + optind, argc - optind);
		if (!s.quiet)
			fprintf(stderr, "%s: %" PRIu64 " sent\n", program_name, s.sent);
	}
	disconnect_sender(&s);
	return code;
}
