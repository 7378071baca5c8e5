/* SPDX-License-Identifier: Apache-2.0 */
/* services.c - `gpuq services`: the services behind a gpuqd, their changes, and its counts. */
#define _GNU_SOURCE
#include "services.h"
#include "cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char services_help[] =
	"Usage: gpuq services [OPTION...]\n"
	"       gpuq services drain NAME [--sessions MS]\n"
	"       gpuq services resume NAME\n"
	"       gpuq services breaker open|close|reset NAME\n"
	"       gpuq services forget OP [--payload FILE [--uid NUMBER]]\n"
	"       gpuq services forget --all\n"
	"\n"
	"List the services behind a gpuqd: a line each, with the op that it does first, the\n"
	"requests that it has of those that it takes (active), and how many it gets at most\n"
	"(limit). Or give that gpuqd an order; it takes orders from its own user and from root\n"
	"and, where tokens are needed, from holders of the right admin alone.\n"
	"\n"
	"  -e, --endpoint ENDPOINT   where gpuqd has its services: unix:PATH, netlink:PORT\n"
	"                            or chardev:PATH (default: $GPUQ_BROKER)\n"
	"  -f, --filter WORDS        only those that meet it, such as 'op=embed dims=512'\n"
	"  -w, --watch               go on, with a line for each change\n"
	"  -s, --stats               what gpuqd has counted, in place of a list; always\n"
	"                            accepted = ok + failed + expired + cancelled + lost + inside\n"
	"  -h, --help                show this text\n"
	"\n"
	"Orders:\n"
	"  drain    the service gets nothing new, and finishes what it has; until resume, or\n"
	"           until it registers again. With --sessions MS, requests of sessions that it\n"
	"           has still go there for so long\n"
	"  resume   it drains no more\n"
	"  breaker  open: it gets nothing; close: it gets requests however often it fails;\n"
	"           reset: closed, knows of no fault, and decides by itself again\n"
	"  forget   the answers of an op leave the cache; with --payload that to a request of\n"
	"           these bytes (-: standard input), of the user --uid (default: this one);\n"
	"           with --all the answers of all ops\n"
	"\n"
	"Exit codes:\n"
	"  0  it has been shown; the order has been obeyed\n"
	"  1  the order was refused: there is no such service, op or answer; one may not\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  gpuqd could not be reached, or has ended\n";

static const struct option long_options[] = {
	{ "endpoint", required_argument, NULL, 'e' }, { "filter", required_argument, NULL, 'f' },
	{ "watch", no_argument, NULL, 'w' },          { "stats", no_argument, NULL, 's' },
	{ "sessions", required_argument, NULL, 'S' }, { "payload", required_argument, NULL, 'P' },
	{ "uid", required_argument, NULL, 'U' },      { "all", no_argument, NULL, 'A' },
	{ "help", no_argument, NULL, 'h' },           { NULL, 0, NULL, 0 },
};

/* @return an exit code */
static int read_number(const char *option, const char *text, uint32_t most, uint32_t *to)
{
	char *end = NULL;
	const unsigned long long n = strtoull(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || n > most)
		return usage_error("services", "%s is '%.60s'; allowed: 0 to %" PRIu32, option,
				   text, most);
	*to = (uint32_t)n;
	return CLI_OK;
}

static int parse(int argc, char **argv, struct services_options *out)
{
	int option, code = CLI_OK;

	opterr = 0;
	while (code == CLI_OK &&
	       (option = getopt_long(argc, argv, ":e:f:wsh", long_options, NULL)) != -1) {
		switch (option) {
		case 'e':
			out->endpoint = optarg;
			break;
		case 'f':
			out->filter = optarg;
			break;
		case 'w':
			out->watch = true;
			break;
		case 's':
			out->stats = true;
			break;
		case 'S':
			code = read_number("--sessions", optarg, 86400000, &out->sessions_ms);
			break;
		case 'P':
			out->payload = optarg;
			break;
		case 'U':
			code = read_number("--uid", optarg, UINT32_MAX - 1, &out->uid);
			out->has_uid = true;
			break;
		case 'A':
			out->all = true;
			break;
		case 'h':
			out->help = true;
			return CLI_OK;
		default:
			return option_error("services", option, argv);
		}
	}
	if (code != CLI_OK)
		return code;
	if (out->watch + out->stats + (out->filter != NULL) + (optind < argc) > 1)
		return usage_error("services",
				   "--watch, --stats, --filter and an order exclude each other");
	if (optind == argc &&
	    (out->all || out->payload != NULL || out->has_uid || out->sessions_ms != 0))
		return usage_error("services",
				   "--sessions, --payload, --uid and --all belong to an order");
	return CLI_OK;
}

static int failed(void)
{
	warn_line("%s", q_last_error());
	return CLI_NO_QUEUE;
}

static int show_list(BrokerClient *c, const char *filter)
{
	static BrokerServiceInfo info[128];
	size_t n;

	if (q_broker_discover(c, filter, info, 128, &n) != Q_OK)
		return failed();
	printf("%-20s %-20s %-10s %-10s %-10s %9s %5s %10s %7s\n", "service", "op", "state",
	       "health", "breaker", "active", "limit", "done", "faults");
	for (size_t i = 0; i < n && i < 128; i++)
		printf("%-20s %-20s %-10s %-10s %-10s %4" PRIu32 "/%-4" PRIu32 " %5" PRIu32
		       " %10" PRIu64 " %7" PRIu64 "\n",
		       info[i].name, info[i].op, info[i].state, info[i].health, info[i].breaker,
		       info[i].active, info[i].capacity, info[i].limit, info[i].done,
		       info[i].faults);
	return CLI_OK;
}

static int show_stats(BrokerClient *c)
{
	char text[4096];
	size_t n = sizeof(text);

	if (q_broker_stats(c, text, &n) != Q_OK)
		return failed();
	fputs(text, stdout);
	return CLI_OK;
}

static int show_changes(BrokerClient *c)
{
	for (;;) {
		BrokerServiceInfo s;
		const QueueStatus status = q_broker_watch(c, &s, UINT32_MAX);

		if (status == Q_ERR_LAGGED)
			printf("changes were missed; what is there now follows\n");
		else if (status != Q_OK)
			return failed();
		else
			printf("%s\tgeneration %" PRIu64 "\t%s\t%s\n", s.name, s.generation,
			       s.state, s.health);
		if (flush_output() != 0)
			return CLI_OUTPUT_FAILED; /* main() says why */
	}
}

int cmd_services(int argc, char **argv)
{
	struct services_options o = { 0 };
	BrokerConfig cfg = { .name = "gpuq-services" };
	BrokerOrder order = { 0 };
	BrokerClient *c;
	int code = parse(argc, argv, &o);

	if (code != CLI_OK)
		return code;
	if (o.help) {
		fputs(services_help, stdout);
		return CLI_OK;
	}
	if (optind < argc)
		code = orders_read(&o, argv + optind, argc - optind, &order);
	if (code != CLI_OK)
		return code;
	cfg.endpoint = o.endpoint;
	c = q_broker_connect(&cfg);
	if (c == NULL)
		return failed();
	if (order.kind != 0)
		code = orders_give(c, &o, &order);
	else if (o.watch)
		code = show_changes(c);
	else
		code = o.stats ? show_stats(c) : show_list(c, o.filter);
	q_broker_close(c);
	return code;
}
