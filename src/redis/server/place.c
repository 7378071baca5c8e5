/* SPDX-License-Identifier: Apache-2.0 */
/* place.c - the options that most subcommands share: which server, which stream. */
#define _GNU_SOURCE
#include "redis.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_URL "redis://127.0.0.1:6379"

/* So often, and in such steps, a command waits for a failover to come to its end. */
#define ROLE_TRIES   20
#define ROLE_REST_MS 500

uint64_t now_ms(void)
{
	return clock_ns() / 1000000u;
}

uint64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

int parse_name(const char *command, const char *option, const char *text, const char **out)
{
	if (text[0] == '\0')
		return usage_error(command, "%s is empty, must be a name", option);
	*out = text;
	return EXIT_DONE;
}

int parse_range(const char *command, const char *option, const char *text, uint64_t least,
		uint64_t most, uint64_t *out)
{
	uint64_t value;

	if (!parse_size(text, &value) || value < least || value > most)
		return usage_error(command, "%s is '%s', must be %" PRIu64 " to %" PRIu64, option,
				   text, least, most);
	*out = value;
	return EXIT_DONE;
}

/*
 * A password of the command line shows in the list of processes, so it is kept in the environment
 * (for a restart of the worker) and taken out of the argument.
 */
static int take_url(const char *command, char *text, struct place *p)
{
	char *at = strrchr(text, '@');
	char *colon;

	if (setenv("GPUQ_REDIS_URL", text, 1) != 0) {
		warn_line("no memory for the URL");
		return EXIT_REDIS;
	}
	p->url = getenv("GPUQ_REDIS_URL");
	p->url_given = true;
	if (text[0] == '\0')
		return usage_error(command, "--url is empty, must be an address");
	if (strncmp(text, "redis://", 8) == 0 && at) {
		colon = strchr(text + 8, ':');
		if (colon && colon < at)
			memset(colon + 1, '*', (size_t)(at - colon - 1));
	}
	return EXIT_DONE;
}

static int take_shards(const char *command, const char *text, struct place *p)
{
	uint64_t value = 0;
	const int code = parse_range(command, "--shards", text, 1, SHARDS_MOST, &value);

	p->shards = (uint32_t)value;
	return code;
}

int place_option(const char *command, int option, char *text, struct place *p)
{
	switch (option) {
	case OPT_URL:
		return take_url(command, text, p);
	case OPT_SENTINEL:
		return parse_name(command, "--sentinel", text, &p->sentinel);
	case OPT_CLUSTER:
		return parse_name(command, "--cluster", text, &p->cluster);
	case OPT_SHARDS:
		return take_shards(command, text, p);
	case OPT_PASSWORD_FILE:
		return parse_name(command, "--password-file", text, &p->password_file);
	case OPT_STREAM:
		return parse_name(command, "--stream", text, &p->stream);
	default:
		return -1;
	}
}

/* The first line of the file. */
static int read_password(struct place *p)
{
	char *to = p->address.password;
	FILE *file = fopen(p->password_file, "re");
	size_t len;

	if (!file || !fgets(to, sizeof(p->address.password), file)) {
		warn_line("--password-file %s: cannot be read: %s", p->password_file,
			  file && !ferror(file) ? "it is empty" : strerror(errno));
		if (file)
			fclose(file);
		return EXIT_USAGE;
	}
	fclose(file);
	len = strcspn(to, "\r\n");
	if (len + 1 == sizeof(p->address.password)) {
		warn_line("--password-file %s: the line is longer than 254 bytes",
			  p->password_file);
		return EXIT_USAGE;
	}
	to[len] = '\0';
	p->address.has_password = true;
	return EXIT_DONE;
}

/* The password that is not in the URL. */
static int find_password(const char *command, struct place *p)
{
	const char *password = getenv("REDISCLI_AUTH");

	if (p->password_file && p->address.has_password)
		return usage_error(command, "--password-file is given, but the URL has a password");
	if (p->password_file)
		return read_password(p);
	if (!p->address.has_password && password && password[0] != '\0') {
		if (strlen(password) >= sizeof(p->address.password))
			return usage_error(command, "REDISCLI_AUTH is longer than 255 bytes");
		memcpy(p->address.password, password, strlen(password) + 1);
		p->address.has_password = true;
	}
	return EXIT_DONE;
}

static int resolve_url(const char *command, struct place *p)
{
	const char *environment = getenv("GPUQ_REDIS_URL");
	const char *wrong;

	if (!p->url)
		p->url = environment && environment[0] != '\0' ? environment : DEFAULT_URL;
	wrong = address_parse(p->url, &p->address);
	if (!wrong)
		return EXIT_DONE;
	return usage_error(command,
			   "%s %s; it is redis://[user:password@]HOST:PORT[/DB] or unix:PATH",
			   p->url_given ? "--url" : "GPUQ_REDIS_URL", wrong);
}

static int resolve_finder(const char *command, struct place *p)
{
	const char *wrong = NULL;

	if (p->sentinel && p->cluster)
		return usage_error(command, "--sentinel and --cluster: it is either");
	if (p->url_given && (p->sentinel || p->cluster))
		return usage_error(command, "--url and --%s: it is either",
				   p->sentinel ? "sentinel" : "cluster");
	if (p->sentinel) {
		wrong = finder_parse_sentinels(p->finder, p->sentinel);
		if (wrong)
			return usage_error(command, "--sentinel %s; it is NAME@HOST[:PORT],...",
					   wrong);
	} else if (p->cluster) {
		wrong = finder_parse_cluster(p->finder, p->cluster);
		if (wrong)
			return usage_error(command, "--cluster %s; it is HOST[:PORT],...", wrong);
	} else {
		return resolve_url(command, p);
	}
	return EXIT_DONE;
}

static int resolve_shards(const char *command, struct place *p)
{
	p->sharded = p->cluster || p->shards > 0;
	if (!p->sharded)
		return EXIT_DONE;
	if (!p->stream)
		return usage_error(command, "--stream is required, as the stream has shards");
	if (strpbrk(p->stream, "{}"))
		return usage_error(command,
				   "--stream is '%s'; with shards it has neither '{' nor '}'",
				   p->stream);
	return EXIT_DONE;
}

int place_refuse_shards(const char *command, const struct place *p)
{
	if (!p->sharded)
		return EXIT_DONE;
	return usage_error(command,
			   "--mode is that of a list, which has no shards: --%s is for streams",
			   p->cluster ? "cluster" : "shards");
}

int place_resolve(const char *command, struct place *p, bool needs_stream)
{
	int code;

	if (needs_stream && !p->stream)
		return usage_error(command, "--stream is required");
	p->finder = calloc(1, sizeof(*p->finder));
	if (p->finder && p->cluster)
		p->finder->slots = calloc(1, sizeof(*p->finder->slots));
	if (!p->finder || (p->cluster && !p->finder->slots)) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	code = resolve_finder(command, p);
	if (code == EXIT_DONE)
		code = find_password(command, p);
	if (code == EXIT_DONE)
		code = resolve_shards(command, p);
	p->finder->base = p->address;
	return code;
}

int parse_results(const char *command, const char *text, struct results_place *out)
{
	static const char *const kinds[] = { "stream:", "hash:", "list:" };

	if (strcmp(text, "none") == 0) {
		*out = (struct results_place){ .kind = RESULTS_NONE, .key = "" };
		return EXIT_DONE;
	}
	for (int i = 0; i < 3; i++) {
		const size_t len = strlen(kinds[i]);

		if (strncmp(text, kinds[i], len) == 0 && text[len] != '\0') {
			*out = (struct results_place){ .kind = (enum results_kind)i,
						       .key = text + len };
			return EXIT_DONE;
		}
	}
	return usage_error(command,
			   "--results is '%s', must be stream:KEY, hash:PREFIX, list:KEY or none",
			   text);
}

char *joined(const char *name, const char *suffix)
{
	char *text = NULL;

	return asprintf(&text, "%s%s", name, suffix) < 0 ? NULL : text;
}

char *joined3(const char *name, const char *middle, const char *suffix)
{
	char *text = NULL;

	return asprintf(&text, "%s%s%s", name, middle, suffix) < 0 ? NULL : text;
}

/* ---- connecting ------------------------------------------------------------------------------ */

const char *place_mismatch(const struct place *p, struct link *l)
{
	redisReply *reply;
	bool cluster;

	if (p->finder->kind == FIND_CLUSTER)
		return NULL;
	reply = link_say(l, "CLUSTER", "INFO", NULL);
	cluster = reply && reply->type == REDIS_REPLY_STRING;
	if (reply)
		freeReplyObject(reply);
	return cluster ? "is a part of a cluster: name it with --cluster" : NULL;
}

bool role_is_master(const redisReply *reply)
{
	return reply && reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
	       reply->element[0]->type == REDIS_REPLY_STRING &&
	       strcmp(reply->element[0]->str, "master") == 0;
}

/* What sentinels name may have become a replica meanwhile. */
static bool is_master(struct link *l)
{
	redisReply *reply = link_say(l, "ROLE", NULL);
	const bool ok = role_is_master(reply);

	if (reply)
		freeReplyObject(reply);
	return ok;
}

const char *refused_hint(const char *error)
{
	return strncmp(error, "NOAUTH", 6) == 0 ? " (--password-file, or REDISCLI_AUTH)" : "";
}

static int say_unreachable(const struct address *a, const char *why)
{
	char where[ADDRESS_TEXT];

	address_show(a, where);
	warn_line("Redis at %s: %s%s", where, why, refused_hint(why));
	return EXIT_REDIS;
}

int place_connect(const struct place *p, struct link *l)
{
	struct address a;
	const char *wrong;

	for (int tries = ROLE_TRIES;; tries--) {
		const struct timespec rest = { .tv_nsec = ROLE_REST_MS * 1000000L };

		if (!finder_find(p->finder, p->slot, &a)) {
			warn_line("%s", p->finder->error);
			return EXIT_REDIS;
		}
		if (!link_open(l, &a))
			return say_unreachable(&a, l->error);
		if (p->finder->kind != FIND_SENTINEL || is_master(l))
			break;
		link_close(l);
		if (tries == 0)
			return say_unreachable(&a,
					       "the sentinels call it the master, but it is none");
		nanosleep(&rest, NULL);
	}
	wrong = place_mismatch(p, l);
	if (!wrong)
		return EXIT_DONE;
	link_close(l);
	return say_unreachable(&a, wrong);
}

int refused(const struct link *l, const char *what, redisReply *reply)
{
	if (!reply)
		warn_line("%s: %s", what, l->error);
	else if (reply->type == REDIS_REPLY_ERROR)
		warn_line("%s: Redis says: %s%s", what, reply->str, refused_hint(reply->str));
	else
		warn_line("%s: Redis answers what was not asked for", what);
	if (reply)
		freeReplyObject(reply);
	return EXIT_REDIS;
}
