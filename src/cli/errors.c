/* SPDX-License-Identifier: Apache-2.0 */
/* errors.c - `gpuq errors`: what has gone wrong in a gpuqd, each thing once. */
#define _GNU_SOURCE
#include "cli.h"
#include "daemon.h"

#include "program/amounts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const char errors_help[] =
	"Usage: gpuq errors [OPTION...] [SOCKET]\n"
	"\n"
	"Show what has gone wrong in a gpuqd: each thing once, with how often it was, and when it\n"
	"was first and last; the last one first. The sixteen last ones are kept. They are read\n"
	"from a page of shared memory, so also of a gpuqd that hangs or has died.\n"
	"\n" DAEMON_HELP "\n"
	"  -j, --json  one line of JSON, for programs\n"
	"  -h, --help  show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  nothing has gone wrong\n"
	"  1  something has, and is shown\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  there is no page of counts\n";

static int by_time(const void *a, const void *b)
{
	const struct page_error *x = a, *y = b;

	return (x->last_ns < y->last_ns) - (x->last_ns > y->last_ns);
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
	return now_ns > then_ns ? now_ns - then_ns : 0;
}

static void show_json(const struct look *l, const struct page_error *error)
{
	printf("{\"times\":%" PRIu64 ",\"errors\":[", l->v.clients.errors);
	for (uint32_t i = 0; i < PAGE_ERRORS && error[i].times != 0; i++) {
		printf("%s{\"times\":%" PRIu64 ",\"first_age_ns\":%" PRIu64
		       ",\"last_age_ns\":%" PRIu64 ",",
		       i != 0 ? "," : "", error[i].times, since(error[i].first_ns, l->at_ns),
		       since(error[i].last_ns, l->at_ns));
		status_json_text("text", error[i].text);
		putchar('}');
	}
	printf("],");
	status_json_text("reload_error", l->v.daemon.reload_error);
	printf("}\n");
}

static void show_text(const struct look *l, const struct page_error *error)
{
	char first[16], last[16];

	if (error[0].times != 0)
		printf("%10s %12s %12s  %s\n", "times", "first, ago", "last, ago", "what");
	for (uint32_t i = 0; i < PAGE_ERRORS && error[i].times != 0; i++) {
		format_clock(first, sizeof(first), since(error[i].first_ns, l->at_ns) / 1000000000);
		format_clock(last, sizeof(last), since(error[i].last_ns, l->at_ns) / 1000000000);
		printf("%10" PRIu64 " %12s %12s  %s\n", error[i].times, first, last, error[i].text);
	}
	if (l->v.daemon.reload_error[0] != '\0')
		printf("the last reload: %s\n", l->v.daemon.reload_error);
}

int cmd_errors(int argc, char **argv)
{
	static struct look l; /* large */
	struct page_error *error = l.v.clients.error;
	bool json;
	const int code = daemon_look_once("errors", errors_help, argc, argv, &l, &json);

	if (code >= 0)
		return code;
	qsort(error, PAGE_ERRORS, sizeof(*error), by_time);
	if (json)
		show_json(&l, error);
	else
		show_text(&l, error);
	return error[0].times != 0 || l.v.daemon.reload_error[0] != '\0' ? CLI_MESSAGES_FAILED
									 : CLI_OK;
}
