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

int place_option(const char *command, int option, char *text, struct place *p)
{
	switch (option) {
	case OPT_URL:
		return take_url(command, text, p);
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

int place_resolve(const char *command, struct place *p, bool needs_stream)
{
	const char *password = getenv("REDISCLI_AUTH");
	const char *environment = getenv("GPUQ_REDIS_URL");
	const char *wrong;

	if (needs_stream && !p->stream)
		return usage_error(command, "--stream is required");
	if (!p->url)
		p->url = environment && environment[0] != '\0' ? environment : DEFAULT_URL;
	wrong = address_parse(p->url, &p->address);
	if (wrong)
		return usage_error(command,
				   "%s %s; it is redis://[user:password@]HOST:PORT[/DB] or "
				   "unix:PATH",
				   p->url_given ? "--url" : "GPUQ_REDIS_URL", wrong);
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

int place_connect(const struct place *p, struct link *l)
{
	char where[ADDRESS_TEXT];

	if (link_open(l, &p->address))
		return EXIT_DONE;
	address_show(&p->address, where);
	warn_line("Redis at %s: %s", where, l->error);
	return EXIT_REDIS;
}

int refused(const struct link *l, const char *what, redisReply *reply)
{
	if (!reply)
		warn_line("%s: %s", what, l->error);
	else if (reply->type == REDIS_REPLY_ERROR)
		warn_line("%s: Redis says: %s", what, reply->str);
	else
		warn_line("%s: Redis answers what was not asked for", what);
	if (reply)
		freeReplyObject(reply);
	return EXIT_REDIS;
}
