/* SPDX-License-Identifier: Apache-2.0 */
/* bench_latency.c - from sending a message to seeing its result, at a given rate. */
#define _GNU_SOURCE
#include "bench.h"

#include "redis/server/show.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 1000000u /* messages are sent every millisecond, as many as are due */

/* The producer's process. A message that is sent late counts from when it was due. */
static int produce(struct bench *b, double rate)
{
	uint8_t *payload = calloc(1, b->bytes);
	const uint64_t begin = clock_ns();
	struct link l;
	uint64_t sent = 0;

	if (!payload || place_connect(&b->place, &l) != EXIT_DONE)
		return EXIT_REDIS;
	for (uint64_t tick = 1; sent < b->latency_messages; tick++) {
		const uint64_t at = begin + tick * TICK_NS;
		const struct timespec until = { .tv_sec = (time_t)(at / 1000000000u),
						.tv_nsec = (long)(at % 1000000000u) };
		uint64_t due = (uint64_t)(rate * (double)(tick * TICK_NS) * 1e-9);

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
		due = due < b->latency_messages ? due : b->latency_messages;
		if (bench_send(b, &l, payload, due - sent, at) != EXIT_DONE)
			return EXIT_REDIS;
		sent = due;
	}
	free(payload);
	link_close(&l);
	return EXIT_DONE;
}

static void count_result(const redisReply *fields, uint64_t now, struct histogram *out)
{
	const redisReply *result = named(fields, "result");
	uint64_t sent = 0;

	if (!result || result->type != REDIS_REPLY_STRING || result->len < sizeof(sent))
		return;
	memcpy(&sent, result->str, sizeof(sent));
	histogram_add(out, now > sent ? now - sent : 0);
}

/* Until all are there, or nothing has come for ten seconds. */
static int watch(struct bench *b, struct histogram *out)
{
	char last[64] = "0-0";
	int silent = 0;

	while (out->count < b->latency_messages && silent < 20) {
		redisReply *reply = link_say(&b->link, "XREAD", "COUNT", "1000", "BLOCK", "500",
					     "STREAMS", b->results, last, NULL);
		const uint64_t now = clock_ns();
		const redisReply *list = NULL;

		if (!reply || reply->type == REDIS_REPLY_ERROR)
			return refused(&b->link, "XREAD", reply);
		if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1)
			list = reply->element[0]->element[1];
		silent = list ? 0 : silent + 1;
		for (size_t i = 0; list && i < list->elements; i++) {
			count_result(list->element[i]->element[1], now, out);
			snprintf(last, sizeof(last), "%s", list->element[i]->element[0]->str);
		}
		freeReplyObject(reply);
	}
	if (out->count == b->latency_messages)
		return EXIT_DONE;
	warn_line("results are missing: %llu of %llu came", (unsigned long long)out->count,
		  (unsigned long long)b->latency_messages);
	return EXIT_QUEUE_FAILED;
}

/* The taker is ready when it waits for messages. */
static int wait_for_consumer(struct bench *b, pid_t child)
{
	for (int i = 0; i < 1000; i++) {
		redisReply *reply = link_say(&b->link, "CLIENT", "LIST", NULL);
		bool reads;

		if (!reply || reply->type != REDIS_REPLY_STRING)
			return refused(&b->link, "CLIENT LIST", reply);
		reads = strstr(reply->str, "cmd=xreadgroup") != NULL;
		freeReplyObject(reply);
		if (reads)
			return EXIT_DONE;
		if (waitpid(child, NULL, WNOHANG) != 0)
			break;
		usleep(10000);
	}
	warn_line("the consumer does not begin");
	return EXIT_QUEUE_FAILED;
}

int bench_latency(struct bench *b, enum bench_side side, enum bench_case c, double rate,
		  struct histogram *out)
{
	struct bench_time *unused = calloc(1, sizeof(*unused));
	int code = unused ? bench_clear(b) : EXIT_REDIS;
	pid_t taker;
	pid_t sender;

	memset(out, 0, sizeof(*out));
	taker = code == EXIT_DONE ? bench_start(b, side, c, b->latency_messages, unused) : -1;
	free(unused); /* the child has its own */
	if (taker < 0)
		return code == EXIT_DONE ? EXIT_QUEUE_FAILED : code;
	code = wait_for_consumer(b, taker);
	sender = code == EXIT_DONE ? fork() : -1;
	if (sender == 0)
		_exit(produce(b, rate));
	if (sender > 0) {
		code = watch(b, out);
		if (bench_wait(sender, NULL) != EXIT_DONE)
			code = EXIT_REDIS;
	}
	if (code != EXIT_DONE)
		kill(taker, SIGKILL);
	return bench_wait(taker, NULL) == EXIT_DONE ? code : EXIT_QUEUE_FAILED;
}
