/* SPDX-License-Identifier: Apache-2.0 */
/* bench_side.c - the processes of a benchmark, and the messages that they take. */
#define _GNU_SOURCE
#include "bench.h"
#include "redis/worker/worker.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIPELINE 500u /* entries that are under way */

extern char **program_arguments; /* main.c */

const char *const bench_case_names[BENCH_CASES] = { "ack", "plain", "atomic", "fenced" };

/* ---- messages -------------------------------------------------------------------------------- */

int bench_clear(struct bench *b)
{
	redisReply *reply = link_say(&b->link, "DEL", b->place.stream, b->results, NULL);

	if (!reply || reply->type != REDIS_REPLY_INTEGER)
		return refused(&b->link, "DEL", reply);
	freeReplyObject(reply);
	reply = link_say(&b->link, "XGROUP", "CREATE", b->place.stream, "gpuq", "0", "MKSTREAM",
			 NULL);
	if (!reply || reply->type == REDIS_REPLY_ERROR)
		return refused(&b->link, "XGROUP", reply);
	freeReplyObject(reply);
	return EXIT_DONE;
}

int bench_send(struct bench *b, struct link *l, uint8_t *payload, uint64_t count, uint64_t at_ns)
{
	for (uint64_t i = 0; i < count; i++) {
		const uint64_t at = at_ns != 0 ? at_ns : clock_ns();

		memcpy(payload, &at, sizeof(at));
		words_clear(&b->words);
		words_add(&b->words, "XADD");
		words_add(&b->words, b->place.stream);
		words_add(&b->words, "*");
		words_add(&b->words, "payload");
		words_add_bytes(&b->words, payload, b->bytes);
		if (!link_append(l, &b->words))
			return EXIT_REDIS;
	}
	for (uint64_t i = 0; i < count; i++) {
		redisReply *reply = link_reply(l);

		if (!reply || reply->type != REDIS_REPLY_STRING)
			return refused(l, "XADD", reply);
		freeReplyObject(reply);
	}
	return EXIT_DONE;
}

int bench_fill(struct bench *b, struct link *l, uint64_t messages)
{
	uint8_t *payload = calloc(1, b->bytes);
	int code = payload ? EXIT_DONE : EXIT_REDIS;

	for (uint64_t done = 0; done < messages && code == EXIT_DONE;) {
		const uint64_t left = messages - done;
		const uint64_t count = left < PIPELINE ? left : PIPELINE;

		code = bench_send(b, l, payload, count, 0);
		done += count;
	}
	free(payload);
	return code;
}

/* ---- processes ------------------------------------------------------------------------------- */

static int worker(const struct bench *b, enum bench_case c, uint64_t messages,
		  struct bench_time *out)
{
	struct worker_totals totals = { .taken = 0 };
	char batch[24];
	char bytes[24];
	char most[24];
	char results[300];
	char *words[] = {
		"gpuq-redis",     "worker",
		"--stream",       (char *)b->place.stream,
		"--processor",    (char *)b->processor,
		"--batch",        batch,
		"--slot-bytes",   bytes,
		"--max-messages", most,
		"--ack",          (char *)(c == BENCH_ACK_ONLY ? "plain" : bench_case_names[c]),
		"--results",      results,
		"--quiet",        NULL
	};
	const int count = (int)(sizeof(words) / sizeof(words[0])) - 1;
	int code;

	snprintf(batch, sizeof(batch), "%" PRIu64, b->batch);
	snprintf(bytes, sizeof(bytes), "%" PRIu64, b->bytes);
	snprintf(most, sizeof(most), "%" PRIu64, messages);
	snprintf(results, sizeof(results), c == BENCH_ACK_ONLY ? "none" : "stream:%s", b->results);
	if (b->place.password_file)
		setenv("REDISCLI_AUTH", b->place.address.password, 1);
	program_arguments = words;
	optind = 0; /* the command line of bench has been read already */
	code = worker_main(count - 1, words + 1, &totals);
	*out = (struct bench_time){ .first_ns = totals.first_ns,
				    .last_ns = totals.last_ns,
				    .done = totals.done };
	return code;
}

pid_t bench_start(const struct bench *b, enum bench_side side, enum bench_case c, uint64_t messages,
		  struct bench_time *out)
{
	const pid_t child = fork();

	if (child < 0)
		warn_line("fork: %s", strerror(errno));
	if (child != 0)
		return child;
	_exit(side == BENCH_RAW ? bench_raw(b, c, messages, out) : worker(b, c, messages, out));
}

static uint64_t nanoseconds(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

int bench_wait(pid_t child, uint64_t *out_cpu_ns)
{
	struct rusage usage;
	int status = 0;

	while (wait4(child, &status, 0, &usage) < 0) {
		if (errno != EINTR)
			return EXIT_QUEUE_FAILED;
	}
	if (out_cpu_ns)
		*out_cpu_ns = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	warn_line("a part of the benchmark died of signal %d", WTERMSIG(status));
	return EXIT_QUEUE_FAILED;
}
