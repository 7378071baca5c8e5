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
	"was first and last; the last one first. Of queues and of services the sixteen last ones\n"
	"each are kept. They are read from a page of shared memory, so also of a gpuqd that hangs\n"
	"or has died.\n"
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

/* Of queues and of services, in one list. */
struct listed {
	const struct page_error *error;
	const char *part;
};

static int by_time(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	return (x->error->last_ns < y->error->last_ns) - (x->error->last_ns > y->error->last_ns);
}

static void add(struct listed *to, uint32_t *n, const struct page_errors *from, const char *part)
{
	for (uint32_t i = 0; i < PAGE_ERRORS; i++)
		if (from->error[i].times != 0)
			to[(*n)++] = (struct listed){ &from->error[i], part };
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
	return now_ns > then_ns ? now_ns - then_ns : 0;
}

static void show_json(const struct look *l, const struct listed *list, uint32_t n)
{
	printf("{\"times\":%" PRIu64 ",\"errors\":[",
	       l->v.clients.errors.times + l->v.services.errors.times);
	for (uint32_t i = 0; i < n; i++) {
		const struct page_error *e = list[i].error;

		printf("%s{\"part\":\"%s\",\"times\":%" PRIu64 ",\"first_age_ns\":%" PRIu64
		       ",\"last_age_ns\":%" PRIu64 ",",
		       i != 0 ? "," : "", list[i].part, e->times, since(e->first_ns, l->at_ns),
		       since(e->last_ns, l->at_ns));
		status_json_text("text", e->text);
		putchar('}');
	}
	printf("],");
	status_json_text("reload_error", l->v.daemon.reload_error);
	printf("}\n");
}

static void show_text(const struct look *l, const struct listed *list, uint32_t n)
{
	char first[16], last[16];

	if (n != 0)
		printf("%10s %12s %12s  %-8s  %s\n", "times", "first, ago", "last, ago", "of",
		       "what");
	for (uint32_t i = 0; i < n; i++) {
		const struct page_error *e = list[i].error;

		format_clock(first, sizeof(first), since(e->first_ns, l->at_ns) / 1000000000);
		format_clock(last, sizeof(last), since(e->last_ns, l->at_ns) / 1000000000);
		printf("%10" PRIu64 " %12s %12s  %-8s  %s\n", e->times, first, last, list[i].part,
		       e->text);
	}
	if (l->v.daemon.reload_error[0] != '\0')
		printf("the last reload: %s\n", l->v.daemon.reload_error);
}

int cmd_errors(int argc, char **argv)
{
	static struct look l; /* large */
	struct listed list[2 * PAGE_ERRORS];
	uint32_t n = 0;
	bool json;
	const int code = daemon_look_once("errors", errors_help, argc, argv, &l, &json);

	if (code >= 0)
		return code;
	add(list, &n, &l.v.clients.errors, "queues");
	add(list, &n, &l.v.services.errors, "services");
	qsort(list, n, sizeof(*list), by_time);
	if (json)
		show_json(&l, list, n);
	else
		show_text(&l, list, n);
	return n != 0 || l.v.daemon.reload_error[0] != '\0' ? CLI_MESSAGES_FAILED : CLI_OK;
}
