/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - `gpuq bench`: how long messages take under loads that are asked for. */
#define _GNU_SOURCE
#include "bench.h"
#include "cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char bench_help[] =
	"Usage: gpuq bench [OPTION...]\n"
	"\n"
	"Load a queue, and show how many messages end and how long they take, there and back.\n"
	"The queue is one of this process, or one of a gpuqd's.\n"
	"\n"
	"Loads, each measured by itself; without any --concurrency 1..64:\n"
	"  -C, --concurrency LIST  closed loop: so many messages are outstanding at any time;\n"
	"                          numbers with commas between, or FROM..TO, doubling\n"
	"  -r, --rate LIST         open loop: messages are due so many a second, whatever becomes\n"
	"                          of those before. A message's latency counts from the time at\n"
	"                          which it was due\n"
	"  -a, --arrivals WORD     poisson (default), or constant: what is between two of them\n"
	"\n"
	"Messages and the queue:\n"
	"  -b, --bytes SIZE        of a message (default 64)\n"
	"  -B, --batch N           closed loop: messages a call, 1 to 1024 (default 1)\n"
	"  -p, --processor NAME    what runs (default echo)\n"
	"  -d, --device WORD       auto (default), cpu or cuda\n"
	"  -e, --endpoint unix:PATH[#QUEUE]\n"
	"                          the queue of a gpuqd, in place of one of this process\n"
	"      --slots N           capacity, a power of two (default 1024)\n"
	"  -c, --consumers N       of a queue of this process\n"
	"\n"
	"Windows:\n"
	"  -w, --window MS         length of a window (default 1000); the first warms up\n"
	"  -n, --windows N         at most so many (default 10), from 3. A load is done when "
	"three\n"
	"                          in a row have rates and medians within 10 percent of their "
	"mean\n"
	"\n"
	"  -f, --format WORD       table (default), csv or json, times in ns; or gnuplot: a "
	"script\n"
	"                          that plots latency by throughput, as SVG: ... | gnuplot > "
	"x.svg\n"
	"  -h, --help              show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  all loads have been measured\n"
	"  1  some messages failed\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  the queue could not be created\n"
	"  5  the queue failed while running\n";

enum { OPTION_SLOTS = 256 };

static const struct option long_options[] = {
	{ "concurrency", required_argument, NULL, 'C' },
	{ "rate", required_argument, NULL, 'r' },
	{ "arrivals", required_argument, NULL, 'a' },
	{ "bytes", required_argument, NULL, 'b' },
	{ "batch", required_argument, NULL, 'B' },
	{ "processor", required_argument, NULL, 'p' },
	{ "device", required_argument, NULL, 'd' },
	{ "endpoint", required_argument, NULL, 'e' },
	{ "slots", required_argument, NULL, OPTION_SLOTS },
	{ "consumers", required_argument, NULL, 'c' },
	{ "window", required_argument, NULL, 'w' },
	{ "windows", required_argument, NULL, 'n' },
	{ "format", required_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

struct options {
	struct bench_plan plan;
	QueueConfig cfg;
	enum bench_format format;
	bool help;
};

/* ---- options --------------------------------------------------------------------------------- */

static int number(const char *option, const char *text, uint64_t least, uint64_t most,
		  uint32_t *out)
{
	uint64_t value;

	if (!parse_size(text, &value) || value < least || value > most)
		return usage_error("bench", "%s is '%s'; allowed: %" PRIu64 " to %" PRIu64, option,
				   text, least, most);
	*out = (uint32_t)value;
	return CLI_OK;
}

static int word(const char *option, const char *text, const char *const *words, uint32_t count,
		const char *allowed, uint32_t *out)
{
	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return CLI_OK;
		}
	}
	return usage_error("bench", "%s is '%s'; allowed: %s", option, text, allowed);
}

static int add_load(struct bench_plan *plan, bool open, uint64_t value)
{
	if (plan->count == BENCH_LOADS)
		return usage_error("bench", "there are more than %d loads", BENCH_LOADS);
	plan->loads[plan->count++] = open ? (struct bench_load){ .rate = (double)value }
					  : (struct bench_load){ .concurrency = (uint32_t)value };
	return CLI_OK;
}

/* One number, or FROM..TO. */
static int add_range(struct bench_plan *plan, bool open, char *text)
{
	const char *option = open ? "--rate" : "--concurrency";
	char *dots = strstr(text, "..");
	uint32_t from = 0, to;
	int code;

	if (dots != NULL)
		*dots = '\0';
	code = number(option, text, 1, open ? 1000000000 : Q_MAX_CAPACITY, &from);
	to = from;
	if (code == CLI_OK && dots != NULL)
		code = number(option, dots + 2, from, open ? 1000000000 : Q_MAX_CAPACITY, &to);
	for (uint64_t value = from; code == CLI_OK && value <= to; value *= 2)
		code = add_load(plan, open, value);
	return code;
}

static int add_loads(struct bench_plan *plan, bool open, const char *list)
{
	char *copy = strdup(list), *rest = copy, *one;
	int code = CLI_OK;

	if (copy == NULL)
		return CLI_NO_QUEUE;
	while (code == CLI_OK && (one = strsep(&rest, ",")) != NULL)
		code = add_range(plan, open, one);
	free(copy);
	return code;
}

static int parse_word(int option, const char *text, struct options *o)
{
	static const char *const arrivals[] = { "poisson", "constant" };
	static const char *const devices[] = { "auto", "cpu", "cuda" };
	static const char *const formats[] = { "table", "csv", "json", "gnuplot" };
	uint32_t which = 0;
	int code;

	if (option == 'a') {
		code = word("--arrivals", text, arrivals, 2, "poisson or constant", &which);
		o->plan.arrivals = (enum bench_arrivals)which;
	} else if (option == 'f') {
		code = word("--format", text, formats, 4, "table, csv, json or gnuplot", &which);
		o->format = (enum bench_format)which;
	} else {
		static const uint32_t kinds[] = { Q_DEVICE_AUTO, Q_DEVICE_CPU, Q_DEVICE_CUDA };

		code = word("--device", text, devices, 3, "auto, cpu or cuda", &which);
		o->cfg.device = kinds[which];
	}
	return code;
}

static int parse_option(int option, const char *text, struct options *o)
{
	uint32_t ms = 0;
	int code;

	switch (option) {
	case 'C':
	case 'r':
		return add_loads(&o->plan, option == 'r', text);
	case 'b':
		return number("--bytes", text, 0, Q_MAX_SLOT_BYTES, &o->plan.bytes);
	case 'B':
		return number("--batch", text, 1, BENCH_MOST_BATCH, &o->plan.batch);
	case 'p':
		o->cfg.processor = text;
		return CLI_OK;
	case 'e':
		o->cfg.endpoint = text;
		return CLI_OK;
	case OPTION_SLOTS:
		return number("--slots", text, 1, Q_MAX_CAPACITY, &o->cfg.capacity);
	case 'c':
		return number("--consumers", text, 1, Q_MAX_CONSUMERS, &o->cfg.consumers);
	case 'w':
		code = number("--window", text, 1, 3600000, &ms);
		if (code == CLI_OK)
			o->plan.window_ns = ms * UINT64_C(1000000);
		return code;
	case 'n':
		return number("--windows", text, 3, BENCH_MOST_WINDOWS, &o->plan.windows);
	case 'h':
		o->help = true;
		return CLI_OK;
	default:
		return parse_word(option, text, o);
	}
}

static int check(struct options *o)
{
	if (o->cfg.endpoint != NULL && o->cfg.device != Q_DEVICE_AUTO)
		return usage_error("bench", "--device and --endpoint exclude each other");
	for (uint32_t i = 0; i < o->plan.count; i++) {
		const uint32_t n = o->plan.loads[i].concurrency;

		if (n > o->cfg.capacity || (n != 0 && n < o->plan.batch))
			return usage_error("bench",
					   "--concurrency is %" PRIu32 "; allowed: %" PRIu32
					   ", the batch, to %" PRIu32 ", the slots",
					   n, o->plan.batch, o->cfg.capacity);
	}
	return CLI_OK;
}

static int parse(int argc, char **argv, struct options *o)
{
	int option, code = CLI_OK;

	opterr = 0;
	while (code == CLI_OK && (option = getopt_long(argc, argv, ":C:r:a:b:B:p:d:e:c:w:n:f:h",
						       long_options, NULL)) != -1)
		code = option == '?' || option == ':' ? option_error("bench", option, argv)
						      : parse_option(option, optarg, o);
	if (code != CLI_OK || o->help)
		return code;
	if (optind < argc)
		return usage_error("bench", "'%s' is one argument too many", argv[optind]);
	for (uint32_t n = 1; o->plan.count == 0 && n <= 64 && n <= o->cfg.capacity; n *= 2)
		if (n >= o->plan.batch)
			o->plan.loads[o->plan.count++] = (struct bench_load){ .concurrency = n };
	return check(o);
}

/* ---- running --------------------------------------------------------------------------------- */

static int measure(GpuQueue *q, struct options *o)
{
	static struct bench_row row;
	int code = CLI_OK;

	bench_report_begin(o->format, q, &o->plan);
	for (uint32_t i = 0; i < o->plan.count && code != CLI_QUEUE_FAILED; i++) {
		if (!bench_run(q, &o->plan, &o->plan.loads[i], &row)) {
			warn_line("%s", q_last_error());
			code = CLI_QUEUE_FAILED;
			break;
		}
		bench_report_row(o->format, &o->plan, &row);
		if (row.failed != 0)
			code = CLI_MESSAGES_FAILED;
	}
	bench_report_end(o->format);
	return code;
}

int cmd_bench(int argc, char **argv)
{
	static struct options o = {
		.plan = { .bytes = 64,
			  .batch = 1,
			  .window_ns = UINT64_C(1000000000),
			  .windows = 10,
			  .random = 1 },
		.cfg = { .capacity = 1024, .processor = "echo", .flags = Q_ONE_PRODUCER },
	};
	GpuQueue *q;
	int code = parse(argc, argv, &o);

	if (code != CLI_OK)
		return code;
	if (o.help) {
		fputs(bench_help, stdout);
		return CLI_OK;
	}
	o.cfg.slot_bytes = o.plan.bytes != 0 ? o.plan.bytes : 1;
	if (o.cfg.endpoint != NULL) {
		o.cfg.device = Q_DEVICE_REMOTE;
		o.cfg.consumers = 0; /* gpuqd's to choose */
	}
	q = q_init(&o.cfg);
	if (q == NULL) {
		warn_lines("", q_last_error());
		return CLI_NO_QUEUE;
	}
	code = measure(q, &o);
	q_shutdown(q);
	return code;
}
