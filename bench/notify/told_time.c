/* SPDX-License-Identifier: Apache-2.0 */
/*
 * told_time.c - what a queue's round trip costs while somebody is told of its completions.
 *
 *     told_time [--smoke]
 *
 * 64 bytes there and back on the CPU device: q_enqueue(), q_wait(), q_try_dequeue_result(). Four
 * queues take turns:
 *
 * - nobody: nobody is told
 * - subscription: one that is never read, of all completions
 * - other tags: one of tags that no message has
 * - hook: one that does nothing
 *
 * A line of JSON a queue, as bench/README.md has them: ns a round trip, for each round the median
 * of its parts. Compiled with -DBEFORE_NOTIFY it has the first queue alone, so that it can be built
 * with a library that has no notifications.
 */
#include <gpuq/gpuq.h>
#ifndef BEFORE_NOTIFY
#include <gpuq/notify.h>
#endif

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 11, PARTS = 20, TRIPS = 200, WARM = 500 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "told_time: %s failed: %s\n", what, q_last_error());
		exit(1);
	}
}

#ifndef BEFORE_NOTIFY
static NotifySubscription *subs[2];

static void subscribe(GpuQueue *q)
{
	must(q_subscribe(q, NULL, 64, Q_NOTIFY_DROP_OLDEST, &subs[0]) == Q_OK, "q_subscribe");
}

static void subscribe_to_other_tags(GpuQueue *q)
{
	const CompletionFilter filter = { .flags = Q_FILTER_TAGS, .tag_min = 7, .tag_max = 9 };

	must(q_subscribe(q, &filter, 64, Q_NOTIFY_DROP_OLDEST, &subs[1]) == Q_OK, "q_subscribe");
}

static void do_nothing(const Completion *c, void *user)
{
	(void)c;
	(void)user;
}

static void hook(GpuQueue *q)
{
	uint64_t id;

	must(q_on_completion(q, NULL, do_nothing, NULL, &id) == Q_OK, "q_on_completion");
}
#endif

static struct kind {
	const char *name;
	void (*prepare)(GpuQueue *q);
	GpuQueue *queue;
	double ns[ROUNDS];
} kinds[] = {
	{ .name = "nobody" },
#ifndef BEFORE_NOTIFY
	{ .name = "subscription", .prepare = subscribe },
	{ .name = "other tags", .prepare = subscribe_to_other_tags },
	{ .name = "hook", .prepare = hook },
#endif
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void trip(GpuQueue *q)
{
	static char text[64];
	size_t len = sizeof(text);
	uint64_t id;

	must(q_enqueue(q, text, sizeof(text), &id, UINT32_MAX) == Q_OK, "q_enqueue");
	must(q_wait(q, id, UINT32_MAX) == Q_OK, "q_wait");
	must(q_try_dequeue_result(q, id, text, &len) == Q_OK, "q_try_dequeue_result");
}

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double measure(GpuQueue *q, int parts, int trips, int warm)
{
	double ns[PARTS];

	for (int i = 0; i < warm; i++)
		trip(q);
	for (int part = 0; part < parts; part++) {
		const uint64_t began = now_ns();

		for (int i = 0; i < trips; i++)
			trip(q);
		ns[part] = (double)(now_ns() - began) / trips;
	}
	qsort(ns, (size_t)parts, sizeof(ns[0]), by_size);
	return ns[parts / 2];
}

int main(int argc, char **argv)
{
	const QueueConfig cfg = { .capacity = 8,
				  .slot_bytes = 64,
				  .device = Q_DEVICE_CPU,
				  .consumers = 1,
				  .processor = "echo" };
	const bool smoke = argc == 2 && strcmp(argv[1], "--smoke") == 0;
	const int rounds = smoke ? 1 : ROUNDS;

	if (argc > 1 && !smoke) {
		fprintf(stderr, "usage: told_time [--smoke]\n");
		return 2;
	}
	for (int k = 0; k < KINDS; k++) {
		kinds[k].queue = q_init(&cfg);
		must(kinds[k].queue != NULL, "q_init");
		if (kinds[k].prepare != NULL)
			kinds[k].prepare(kinds[k].queue);
	}
	for (int round = 0; round < rounds; round++)
		for (int k = 0; k < KINDS; k++)
			kinds[k].ns[round] = smoke ? measure(kinds[k].queue, 1, 2, 0)
						   : measure(kinds[k].queue, PARTS, TRIPS, WARM);
	for (int k = 0; k < KINDS; k++) {
		printf("{\"case\":\"told_round_trip\",\"peer\":\"gpuq\",\"variant\":\"%s\","
		       "\"metric\":\"cost\",\"unit\":\"ns\",\"samples\":[",
		       kinds[k].name);
		for (int round = 0; round < rounds; round++)
			printf("%s%.1f", round > 0 ? "," : "", kinds[k].ns[round]);
		printf("]}\n");
		q_shutdown(kinds[k].queue);
	}
#ifndef BEFORE_NOTIFY
	q_notify_unsubscribe(subs[0]);
	q_notify_unsubscribe(subs[1]);
#endif
	return 0;
}
