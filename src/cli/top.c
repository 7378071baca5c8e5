/* SPDX-License-Identifier: Apache-2.0 */
/* top.c - `gpuq top`: what a gpuqd does, second by second. */
#define _GNU_SOURCE
#include "cli.h"
#include "daemon.h"

#include "program/signals.h"

#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char top_help[] =
	"Usage: gpuq top [OPTION...] [SOCKET]\n"
	"\n"
	"Show what a gpuqd does, again and again: messages and bytes a second of each queue, how "
	"long\n"
	"they take (median and 99th percentile of those that ended since the last time), clients,\n"
	"services. On a terminal it fills the screen: q quits, s sorts, c shows clients in place "
	"of\n"
	"queues. Elsewhere it prints the same lines.\n"
	"\n" DAEMON_HELP "\n"
	"  -d, --delay MS   how often (1000; from 10 on). gpuqd writes its counts every stats_ms\n"
	"  -n, --count N    so many times; on a terminal for ever, elsewhere too\n"
	"  -c, --clients    begin with the clients\n"
	"  -j, --json       lines of JSON, as gpuq status --json\n"
	"  -p, --plain      print lines, also on a terminal\n"
	"  -h, --help       show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  shown so many times, or until q\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  there is no page of counts, or no more\n"
	"  128 + its number: a signal ended it\n";

static const struct option long_options[] = {
	{ "delay", required_argument, NULL, 'd' },
	{ "count", required_argument, NULL, 'n' },
	{ "clients", no_argument, NULL, 'c' },
	{ "json", no_argument, NULL, 'j' },
	{ "plain", no_argument, NULL, 'p' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

struct options {
	uint64_t delay_ms, count;
	bool clients, json, plain, help;
};

static int parse(int argc, char **argv, struct options *o)
{
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":d:n:cjph", long_options, NULL)) != -1) {
		if (option == 'd') {
			if (!parse_size(optarg, &o->delay_ms) || o->delay_ms < 10 ||
			    o->delay_ms > 3600000)
				return usage_error("top", "--delay is '%s'; allowed: 10 to 3600000",
						   optarg);
		} else if (option == 'n') {
			if (!parse_size(optarg, &o->count) || o->count == 0)
				return usage_error("top", "--count is '%s'; allowed: 1 and more",
						   optarg);
		} else if (option == '?' || option == ':') {
			return option_error("top", option, argv);
		}
		o->clients |= option == 'c';
		o->json |= option == 'j';
		o->plain |= option == 'p';
		o->help |= option == 'h';
		if (o->help)
			return CLI_OK;
	}
	if (argc - optind > 1)
		return usage_error("top", "'%s' is one argument too many", argv[optind + 1]);
	return CLI_OK;
}

static void print_line(void *user, const char *line, bool heading)
{
	(void)user;
	(void)heading;
	printf("%s\n", line);
}

static int print(struct top_view *t, const char *path, const struct options *o)
{
	if (!signals_init())
		return CLI_QUEUE_FAILED;
	for (uint64_t i = 1;; i++) {
		struct pollfd signal = { .fd = signals_fd(), .events = POLLIN };
		const int code = daemon_look(path, &t->now);

		if (code != CLI_OK)
			return code;
		if (o->json)
			status_json(&t->now);
		else
			top_lines(t, print_line, NULL);
		if (flush_output() != 0)
			return CLI_OUTPUT_FAILED; /* main() says why */
		if (o->count != 0 && i >= o->count)
			return CLI_OK;
		(void)poll(&signal, 1, (int)o->delay_ms);
		if (signals_caught() != 0)
			return 128 + signals_caught();
		t->before = t->now;
		if (!o->json)
			printf("\n");
	}
}

int cmd_top(int argc, char **argv)
{
	static struct top_view t; /* large */
	struct options o = { .delay_ms = 1000 };
	char path[DAEMON_PATH];
	int code = parse(argc, argv, &o);

	if (code != CLI_OK)
		return code;
	if (o.help) {
		fputs(top_help, stdout);
		return CLI_OK;
	}
	code = daemon_find("top", argv[optind], path);
	if (code != CLI_OK)
		return code;
	t.clients = o.clients;
	code = -1;
	if (!o.json && !o.plain && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		code = top_screen(&t, path, (uint32_t)o.delay_ms, o.count);
	return code != -1 ? code : print(&t, path, &o);
}
