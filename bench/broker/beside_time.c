/* SPDX-License-Identifier: Apache-2.0 */
/*
 * beside_time.c - how long the messages of an ordinary client of gpuqd take.
 *
 *     beside_time ENDPOINT SECONDS
 *
 * A thousand messages of 64 bytes a second, due at random times. Between them the client sleeps, so
 * it needs little CPU time. Each is waited for before the next, and its latency counts from the
 * time at which it was due: so one that is late makes those behind it late. The first half second
 * does not count, unless SECONDS is 0. Prints p50, p99 and p99.9 in microseconds.
 */
#define _GNU_SOURCE
#include "program/histogram.h"

#include <gpuq/gpuq.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { BYTES = 64, WARM_MS = 500 };
#define GAP_NS 1e6

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	const struct timespec t = { .tv_sec = (time_t)(ns / 1000000000),
				    .tv_nsec = (long)(ns % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
}

/* Exponential, by SplitMix64. */
static double gap_ns(uint64_t *random)
{
	uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return -log(((double)((z ^ z >> 31) >> 11) + 1) * 0x1p-53) * GAP_NS;
}

static void die(void)
{
	fprintf(stderr, "beside_time: %s\n", q_last_error());
	exit(1);
}

static void exchange(GpuQueue *q, const char payload[BYTES])
{
	uint64_t id;

	if (q_enqueue(q, payload, BYTES, &id, UINT32_MAX) != Q_OK ||
	    q_wait(q, id, UINT32_MAX) != Q_OK || q_release(q, id) != Q_OK)
		die();
}

int main(int argc, char **argv)
{
	static struct histogram h;
	const QueueConfig cfg = { .capacity = 64,
				  .slot_bytes = BYTES,
				  .device = Q_DEVICE_REMOTE,
				  .flags = Q_ONE_PRODUCER,
				  .endpoint = argc == 3 ? argv[1] : NULL };
	char payload[BYTES];
	uint64_t random = 1, seconds, count_ns, until_ns;
	double due_ns;
	GpuQueue *q;

	if (argc != 3) {
		fprintf(stderr, "usage: beside_time ENDPOINT SECONDS\n");
		return 2;
	}
	memset(payload, 'x', sizeof(payload));
	prctl(PR_SET_TIMERSLACK, 1);
	q = q_init(&cfg);
	if (q == NULL)
		die();
	seconds = strtoull(argv[2], NULL, 10);
	due_ns = (double)now_ns();
	until_ns = now_ns() + WARM_MS * UINT64_C(1000000) + seconds * 1000000000;
	count_ns = seconds != 0 ? until_ns - seconds * 1000000000 : 0;
	while (due_ns < (double)until_ns) {
		const uint64_t due = (uint64_t)due_ns;

		if (now_ns() < due)
			sleep_until(due);
		exchange(q, payload);
		if (due >= count_ns)
			histogram_add(&h, now_ns() - due);
		due_ns += gap_ns(&random);
	}
	printf("%.2f %.2f %.2f\n", (double)histogram_quantile(&h, 1, 2) / 1e3,
	       (double)histogram_quantile(&h, 99, 100) / 1e3,
	       (double)histogram_quantile(&h, 999, 1000) / 1e3);
	q_shutdown(q);
	return 0;
}
