/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_c.c - what C does on the queue that python/bench/bench.py measures: one thread sends
 * batches of 256 messages of 64 bytes to "echo", another takes the results, copies them and frees
 * the slots.
 *
 * usage: bench_c BATCHES; prints messages a second.
 */
#include <gpuq/gpuq.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 256, BYTES = 64, CAPACITY = 4096 };

static size_t wanted;

static void *take(void *arg)
{
	GpuQueue *q = arg;
	Completion done[BATCH];
	uint64_t ids[BATCH];
	char copy[BATCH * BYTES];
	size_t taken = 0, n;

	while (taken < wanted && q_wait_any(q, UINT32_MAX) == Q_OK) {
		if (q_poll_results(q, done, BATCH, &n) != Q_OK)
			break;
		for (size_t i = 0; i < n; i++) {
			memcpy(copy + i * BYTES, done[i].result, done[i].result_len);
			ids[i] = done[i].msg_id;
		}
		q_release_batch(q, ids, n);
		taken += n;
	}
	return taken == wanted ? arg : NULL;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	const QueueConfig cfg = { .capacity = CAPACITY,
				  .slot_bytes = BYTES,
				  .device = Q_DEVICE_CPU,
				  .processor = "echo" };
	const size_t batches = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000;
	static char data[BATCH][BYTES];
	EnqueueItem items[BATCH];
	GpuQueue *q = q_init(&cfg);
	pthread_t thread;
	void *all;
	double begun;

	if (q == NULL || batches == 0) {
		fprintf(stderr, "bench_c: %s\n", q_last_error());
		return 1;
	}
	for (size_t i = 0; i < BATCH; i++)
		items[i] = (EnqueueItem){ data[i], BYTES };
	wanted = batches * BATCH;
	begun = seconds();
	if (pthread_create(&thread, NULL, take, q) != 0)
		return 1;
	for (size_t i = 0; i < batches; i++)
		if (q_enqueue_batch(q, items, BATCH, NULL, NULL, UINT32_MAX) != Q_OK)
			return 1;
	pthread_join(thread, &all);
	if (all == NULL)
		return 1;
	printf("%.0f\n", (double)wanted / (seconds() - begun));
	q_shutdown(q);
	return 0;
}
