/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - `gpuq-redis bench`: the worker beside a loop that does no more than speak to Redis. */
#define _GNU_SOURCE
#include "bench.h"

#include "program/amounts.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ME "bench"

#define RUNS_MOST 64

const char bench_help[] =
	"Usage: gpuq-redis bench --stream S [OPTION...]\n"
	"\n"
	"Measure how fast a worker takes messages from this Redis, beside a loop of one thread\n"
	"that reads, writes results and acknowledges in the same batches, and does nothing else.\n"
	"The stream S and the stream S:results are made, and deleted at the end; they may not be\n"
	"there before.\n"
	"\n"
	"      --stream S        what the stream is to be called\n"
	"  -p, --processor P     what the worker runs (echo)\n"
	"      --messages N      messages of one run (50000)\n"
	"      --bytes N         bytes of a message, 8 or more (256)\n"
	"      --batch N         entries of a batch (256)\n"
	"      --runs N          runs of each side, in turns (5)\n"
	"      --latency N       messages of a run at half load (10000); 0: none\n"
	"      --case NAME       only this case; may be given several times\n"
	"      --json            one line of JSON for each figure\n"
	"      --smoke           a few messages, to see that it runs\n"
	"      --url URL, --password-file FILE   as of gpuq-redis worker\n"
	"  -h, --help            show this text\n"
	"\n"
	"Cases: ack (no results, --ack plain), plain, atomic and fenced with results in a stream.\n"
	"A line of CPU time says what a message costs this process and Redis, start included.\n"
	"The loop's own forms of atomic and fenced are MULTI and the worker's script.\n"
	"\n"
	"Exit codes: 0 measured; 2 wrong usage; 4, 5 the worker failed; 6 Redis, or S is there.\n";

enum {
	OPT_MESSAGES = 256,
	OPT_BYTES,
	OPT_BATCH,
	OPT_RUNS,
	OPT_LATENCY,
	OPT_CASE,
	OPT_JSON,
	OPT_SMOKE
};

static const struct option long_options[] = {
	COMMON_OPTIONS,
	{ "processor", required_argument, NULL, 'p' },
	{ "messages", required_argument, NULL, OPT_MESSAGES },
	{ "bytes", required_argument, NULL, OPT_BYTES },
	{ "batch", required_argument, NULL, OPT_BATCH },
	{ "runs", required_argument, NULL, OPT_RUNS },
	{ "latency", required_argument, NULL, OPT_LATENCY },
	{ "case", required_argument, NULL, OPT_CASE },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "smoke", no_argument, NULL, OPT_SMOKE },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const char *const side_names[BENCH_SIDES] = { "floor", "gpuq" };

/* ---- one run --------------------------------------------------------------------------------- */

/* What one run has shown: messages per second, and CPU time of a message in ns. */
struct figures {
	double rate;
	double own;
	double redis;
};

/* CPU time that Redis has used so far, ns. */
static int redis_time(struct bench *b, double *out)
{
	static const char *const names[] = { "used_cpu_sys:", "used_cpu_user:" };
	redisReply *reply = link_say(&b->link, "INFO", "cpu", NULL);

	if (!reply || reply->type != REDIS_REPLY_STRING)
		return refused(&b->link, "INFO", reply);
	*out = 0;
	for (size_t i = 0; i < 2; i++) {
		const char *at = strstr(reply->str, names[i]);

		*out += at ? strtod(at + strlen(names[i]), NULL) * 1e9 : 0;
	}
	freeReplyObject(reply);
	return EXIT_DONE;
}

static int measure(struct bench *b, enum bench_side side, enum bench_case c, struct figures *out)
{
	double before = 0;
	double after = 0;
	uint64_t own = 0;
	struct bench_time *time = mmap(NULL, sizeof(*time), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int code = time == MAP_FAILED ? EXIT_REDIS : bench_clear(b);
	pid_t child;

	if (code == EXIT_DONE)
		code = bench_fill(b, &b->link, b->messages);
	if (code == EXIT_DONE)
		code = redis_time(b, &before);
	if (code != EXIT_DONE)
		return code;
	child = bench_start(b, side, c, b->messages, time);
	code = child < 0 ? EXIT_QUEUE_FAILED : bench_wait(child, &own);
	if (code == EXIT_DONE)
		code = redis_time(b, &after);
	if (code == EXIT_DONE && (time->done < b->messages || time->last_ns <= time->first_ns)) {
		warn_line("%s: %" PRIu64 " of %" PRIu64 " messages were done", side_names[side],
			  time->done, b->messages);
		code = EXIT_QUEUE_FAILED;
	}
	if (code == EXIT_DONE) {
		const double done = (double)time->done;

		out->rate = done * 1e9 / (double)(time->last_ns - time->first_ns);
		out->own = (double)own / done;
		out->redis = (after - before) / done;
	}
	munmap(time, sizeof(*time));
	return code;
}

/* ---- telling --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a;
	const double y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *values, size_t count)
{
	double sorted[RUNS_MOST];

	memcpy(sorted, values, count * sizeof(values[0]));
	qsort(sorted, count, sizeof(sorted[0]), by_value);
	return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

static void print_json(const struct bench *b, enum bench_side side, enum bench_case c,
		       const char *metric, const char *unit, const double *values, size_t count)
{
	printf("{\"case\":\"redis %s\",\"peer\":\"%s\",\"metric\":\"%s\",\"unit\":\"%s\","
	       "\"size\":%" PRIu64 ",\"batch\":%" PRIu64 ",\"samples\":[",
	       bench_case_names[c], side_names[side], metric, unit, b->bytes, b->batch);
	for (size_t i = 0; i < count; i++)
		printf("%s%.0f", i == 0 ? "" : ",", values[i]);
	puts("]}");
	(void)flush_output();
}

/* ---- one case -------------------------------------------------------------------------------- */

static int run_latency(struct bench *b, enum bench_case c, double rate)
{
	struct histogram *h = malloc(sizeof(*h));
	int code = h ? EXIT_DONE : EXIT_REDIS;

	for (int side = 0; side < BENCH_SIDES && code == EXIT_DONE; side++) {
		char p50[16];
		char p99[16];
		double value;

		code = bench_latency(b, (enum bench_side)side, c, rate, h);
		if (code != EXIT_DONE)
			break;
		if (!b->json) {
			printf("        %-6s at %.0f/s: p50 %s, p99 %s\n", side_names[side], rate,
			       format_duration(p50, sizeof(p50), histogram_quantile(h, 50, 100)),
			       format_duration(p99, sizeof(p99), histogram_quantile(h, 99, 100)));
			continue;
		}
		value = (double)histogram_quantile(h, 50, 100);
		print_json(b, (enum bench_side)side, c, "p50 at half load", "ns", &value, 1);
		value = (double)histogram_quantile(h, 99, 100);
		print_json(b, (enum bench_side)side, c, "p99 at half load", "ns", &value, 1);
	}
	free(h);
	return code;
}

/* The values of all runs of one side, by what they are. */
struct runs {
	double rate[RUNS_MOST];
	double own[RUNS_MOST];
	double redis[RUNS_MOST];
};

static void tell_json(const struct bench *b, enum bench_case c, const struct runs *sides)
{
	for (int side = 0; side < BENCH_SIDES; side++) {
		const enum bench_side s = (enum bench_side)side;

		print_json(b, s, c, "throughput", "msg/s", sides[side].rate, b->runs);
		print_json(b, s, c, "CPU time", "ns", sides[side].own, b->runs);
		print_json(b, s, c, "CPU time of Redis", "ns", sides[side].redis, b->runs);
	}
}

static void tell(const struct bench *b, enum bench_case c, const struct runs *sides)
{
	const struct runs *raw = &sides[BENCH_RAW];
	const struct runs *worker = &sides[BENCH_WORKER];
	double shares[RUNS_MOST];

	for (uint64_t run = 0; run < b->runs; run++)
		shares[run] = worker->rate[run] / raw->rate[run];
	printf("%-7s worker %8.0f/s, loop %8.0f/s, share %.2f (of single runs:",
	       bench_case_names[c], median(worker->rate, b->runs), median(raw->rate, b->runs),
	       median(shares, b->runs));
	for (uint64_t run = 0; run < b->runs; run++)
		printf(" %.2f", shares[run]);
	printf(")\n        CPU time: worker %.1f us and Redis %.1f us, loop %.1f us and Redis %.1f "
	       "us\n",
	       median(worker->own, b->runs) / 1e3, median(worker->redis, b->runs) / 1e3,
	       median(raw->own, b->runs) / 1e3, median(raw->redis, b->runs) / 1e3);
	(void)flush_output();
}

static int run_case(struct bench *b, enum bench_case c)
{
	struct runs sides[BENCH_SIDES];

	for (uint64_t run = 0; run < b->runs; run++) {
		for (int side = 0; side < BENCH_SIDES; side++) {
			struct figures f;
			const int code = measure(b, (enum bench_side)side, c, &f);

			if (code != EXIT_DONE)
				return code;
			sides[side].rate[run] = f.rate;
			sides[side].own[run] = f.own;
			sides[side].redis[run] = f.redis;
		}
	}
	if (b->json)
		tell_json(b, c, sides);
	else
		tell(b, c, sides);
	/* without results nobody can see when a message was done */
	if (c == BENCH_ACK_ONLY || b->latency_messages == 0)
		return EXIT_DONE;
	return run_latency(b, c, median(sides[BENCH_WORKER].rate, b->runs) / 2);
}

/* ---- the command ----------------------------------------------------------------------------- */

static int take_case(const char *text, struct bench *b)
{
	for (int c = 0; c < BENCH_CASES; c++) {
		if (strcmp(text, bench_case_names[c]) == 0) {
			b->only[c] = true;
			return EXIT_DONE;
		}
	}
	return usage_error(ME, "--case is '%s', must be ack, plain, atomic or fenced", text);
}

static bool wanted(const struct bench *b, int which)
{
	bool any = false;

	for (int c = 0; c < BENCH_CASES; c++)
		any |= b->only[c];
	return !any || b->only[which];
}

static int take_option(int option, char *text, void *to)
{
	struct bench *b = to;
	const int code = place_option(ME, option, text, &b->place);

	if (code != -1)
		return code;
	switch (option) {
	case 'p':
		return parse_name(ME, "--processor", text, &b->processor);
	case OPT_MESSAGES:
		return parse_range(ME, "--messages", text, 1, 1000000000, &b->messages);
	case OPT_BYTES:
		return parse_range(ME, "--bytes", text, 8, 1u << 20, &b->bytes);
	case OPT_BATCH:
		return parse_range(ME, "--batch", text, 1, 65536, &b->batch);
	case OPT_RUNS:
		return parse_range(ME, "--runs", text, 1, RUNS_MOST, &b->runs);
	case OPT_LATENCY:
		return parse_range(ME, "--latency", text, 0, 1000000000, &b->latency_messages);
	case OPT_CASE:
		return take_case(text, b);
	case OPT_JSON:
		b->json = true;
		return EXIT_DONE;
	case OPT_SMOKE:
		b->messages = 2000;
		b->runs = 1;
		b->latency_messages = 200;
		return EXIT_DONE;
	default:
		return EXIT_DONE;
	}
}

/* Nobody's messages are deleted. */
static int check_keys(struct bench *b)
{
	redisReply *reply = link_say(&b->link, "EXISTS", b->place.stream, b->results, NULL);
	long long there;

	if (!reply || reply->type != REDIS_REPLY_INTEGER)
		return refused(&b->link, "EXISTS", reply);
	there = reply->integer;
	freeReplyObject(reply);
	if (there == 0)
		return EXIT_DONE;
	warn_line("the key '%s' or '%s' is there already, and would be deleted", b->place.stream,
		  b->results);
	return EXIT_REDIS;
}

static int run_all(struct bench *b)
{
	int code = check_keys(b);
	redisReply *reply;

	if (code != EXIT_DONE)
		return code;
	for (int c = 0; c < BENCH_CASES && code == EXIT_DONE; c++) {
		if (wanted(b, c))
			code = run_case(b, (enum bench_case)c);
	}
	reply = link_say(&b->link, "DEL", b->place.stream, b->results, NULL);
	if (reply)
		freeReplyObject(reply);
	return code;
}

static const struct option_set options = {
	.command = ME,
	.help = bench_help,
	.shorts = ":p:h",
	.longs = long_options,
	.take = take_option,
};

int cmd_bench(int argc, char **argv)
{
	struct bench b = {
		.processor = "echo",
		.messages = 50000,
		.bytes = 256,
		.batch = 256,
		.runs = 5,
		.latency_messages = 10000,
	};
	int code;

	if (!options_read(&options, argc, argv, &b, &code))
		return code;
	if (optind < argc)
		return usage_error(ME, "'%s' is too much: it takes options only", argv[optind]);
	if (b.place.sentinel || b.place.cluster || b.place.shards > 0)
		return usage_error(ME,
				   "--%s: a benchmark measures one server and one stream; "
				   "name the server with --url",
				   b.place.sentinel  ? "sentinel"
				   : b.place.cluster ? "cluster"
						     : "shards");
	code = place_resolve(ME, &b.place, true);
	if (code == EXIT_DONE)
		code = place_connect(&b.place, &b.link);
	if (code != EXIT_DONE)
		return code;
	b.results = joined(b.place.stream, ":results");
	if (!b.results || !words_init(&b.words, 16)) {
		warn_line("no memory");
		return EXIT_REDIS;
	}
	code = run_all(&b);
	words_free(&b.words);
	free(b.results);
	link_close(&b.link);
	return code;
}
