/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_check.c - what only a GPU can prove, for scripts/gpu-check: contents, chaos, times.
 *
 *   gpu_check [--processor NAME] [--messages N] [content|chaos|times]...
 *
 * Prints PASS or FAIL a check, and one JSON line a measurement. The processor echoes: "echo" is the
 * one we ship; "test" runs through the stand-in driver, where the times mean nothing. Exit status:
 * 0 all passed, 1 not, 77 there is no CUDA device.
 */
#include "support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *processor = "echo";
static uint64_t messages = 1000000;
static unsigned failures;

static void verdict(bool good, const char *what, const char *detail)
{
	printf("%s %s%s%s\n", good ? "PASS" : "FAIL", what, detail[0] != '\0' ? ": " : "", detail);
	fflush(stdout);
	failures += !good;
}

static GpuQueue *open_queue(uint32_t granularity, uint32_t capacity, uint32_t slot_bytes,
			    uint32_t park_ms)
{
	QueueConfig cfg = { .capacity = capacity,
			    .slot_bytes = slot_bytes,
			    .device = Q_DEVICE_CUDA,
			    .granularity = granularity,
			    .idle_park_ms = park_ms,
			    .processor = processor };

	if (strcmp(processor, "test") == 0) {
		cfg.processor_data = test_data();
		cfg.processor_data_bytes = sizeof(*test_data());
	}
	return q_init(&cfg);
}

/* ---- content -------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint32_t fill(uint8_t *to, uint32_t room, uint64_t number)
{
	const uint32_t len = 8 + (uint32_t)(mix(number) % (room - 7));

	for (uint32_t i = 0; i < len; i += 8) {
		uint64_t word = i == 0 ? number : mix(number + i);

		memcpy(to + i, &word, len - i < 8 ? len - i : 8);
	}
	return len;
}

/* Every message comes back once, with its content, whatever the order. */
static void check_content(uint32_t granularity, uint32_t slot_bytes, uint64_t n)
{
	static const char *const names[] = { "thread", "warp", "block" };
	enum { BATCH = 64 };
	GpuQueue *q = open_queue(granularity, 1024, slot_bytes, 0);
	uint8_t *payload = malloc((size_t)BATCH * slot_bytes), *expected = malloc(slot_bytes);
	uint64_t sent = 0, taken = 0, wrong = 0, sum = 0;
	char what[80], detail[200] = "";

	snprintf(what, sizeof(what), "content, %s, slots of %" PRIu32 ", %" PRIu64 " messages",
		 names[granularity], slot_bytes, n);
	if (q == NULL) {
		verdict(false, what, q_last_error());
		free(payload);
		free(expected);
		return;
	}
	while (taken < n) {
		EnqueueItem items[BATCH];
		Completion done[BATCH];
		uint64_t ids[BATCH];
		size_t count = 0, accepted = 0;
		QueueStatus status;

		for (uint32_t i = 0; i < BATCH && sent + i < n; i++, count++) {
			items[i].data = payload + (size_t)i * slot_bytes;
			items[i].len = fill(payload + (size_t)i * slot_bytes, slot_bytes, sent + i);
		}
		status = q_enqueue_batch(q, items, count, NULL, &accepted, 0);
		sent += accepted;
		if (status == Q_OK || status == Q_ERR_FULL)
			status = q_poll_results(q, done, BATCH, &count);
		if (status != Q_OK) {
			snprintf(detail, sizeof(detail), "%s", q_last_error());
			break;
		}
		for (size_t i = 0; i < count; i++) {
			uint64_t number = 0;

			if (done[i].status == Q_OK && done[i].result_len >= 8)
				memcpy(&number, done[i].result, 8);
			wrong += done[i].status != Q_OK || number >= n ||
				 done[i].result_len != fill(expected, slot_bytes, number) ||
				 memcmp(done[i].result, expected, done[i].result_len) != 0;
			sum += number;
			ids[i] = done[i].msg_id;
		}
		q_release_batch(q, ids, count);
		taken += count;
	}
	if (detail[0] == '\0' && (wrong != 0 || sum != n * (n - 1) / 2))
		snprintf(detail, sizeof(detail), "%" PRIu64 " are wrong, the numbers' sum is %s",
			 wrong, sum == n * (n - 1) / 2 ? "right" : "wrong");
	verdict(detail[0] == '\0', what, detail);
	q_shutdown(q);
	free(payload);
	free(expected);
}

/* ---- chaos ----------------------------------------------------------------------------------- */

struct chaos {
	GpuQueue *q;
	uint32_t stop;
	uint64_t done;
	QueueStatus status;
};

static void *produce(void *arg)
{
	struct chaos *c = arg;

	while (__atomic_load_n(&c->stop, __ATOMIC_RELAXED) == 0 && c->status == Q_OK) {
		uint64_t id, back = 0;
		size_t len = sizeof(back);

		c->status = q_enqueue(c->q, &c->done, sizeof(c->done), &id, LONG_MS);
		if (c->status == Q_OK)
			c->status = q_wait(c->q, id, LONG_MS);
		if (c->status == Q_OK)
			c->status = q_try_dequeue_result(c->q, id, &back, &len);
		if (c->status == Q_OK && back != c->done)
			c->status = Q_ERR_FAILED;
		c->done++;
	}
	return NULL;
}

/* Producers go on while the queue parks, is paused, and others come and go beside it. */
static void check_chaos(void)
{
	struct chaos c[2];
	pthread_t thread[2];
	GpuQueue *q = open_queue(1, 64, 64, 1), *other;
	char detail[200] = "";

	if (q == NULL) {
		verdict(false, "chaos", q_last_error());
		return;
	}
	for (int i = 0; i < 2; i++) {
		c[i] = (struct chaos){ .q = q, .status = Q_OK };
		pthread_create(&thread[i], NULL, produce, &c[i]);
	}
	for (int i = 0; i < 50 && detail[0] == '\0'; i++) {
		if (q_pause(q, LONG_MS) != Q_OK || q_resume(q) != Q_OK)
			snprintf(detail, sizeof(detail), "pause: %s", q_last_error());
		nap_ms((unsigned)i % 5);
		if (i % 10 != 0)
			continue;
		other = open_queue(1, 8, 64, 0);
		if (other == NULL)
			snprintf(detail, sizeof(detail), "second queue: %s", q_last_error());
		q_shutdown(other);
	}
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&c[i].stop, 1, __ATOMIC_RELAXED);
		pthread_join(thread[i], NULL);
		if (c[i].status != Q_OK)
			snprintf(detail, sizeof(detail), "a producer got %s after %" PRIu64,
				 q_status_string(c[i].status), c[i].done);
	}
	for (int i = 0; i < 20 && detail[0] == '\0'; i++) {
		uint64_t id;

		nap_ms(20); /* parked */
		if (q_enqueue(q, "x", 1, &id, 0) != Q_OK || q_wait(q, id, LONG_MS) != Q_OK ||
		    q_release(q, id) != Q_OK)
			snprintf(detail, sizeof(detail), "wake: %s", q_last_error());
	}
	verdict(detail[0] == '\0', "chaos: pause, resume, park, second queues under load", detail);
	q_shutdown(q);
}

/* ---- times ------------------------------------------------------------------------------------
 */

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* One message at a time, from before q_enqueue() until q_poll_results() has shown its result. */
static void time_round_trips(uint32_t size)
{
	enum { N = 20000, WARM = 1000 };
	GpuQueue *q = open_queue(1, 64, size == 0 ? 1 : size, UINT32_MAX);
	uint64_t *ns = malloc(N * sizeof(*ns));
	uint8_t *payload = calloc(1, size + 1);

	for (int i = 0; q != NULL && i < N + WARM; i++) {
		const uint64_t begun = gq__now_ns();
		Completion done;
		size_t count = 0;

		if (q_enqueue(q, payload, size, NULL, LONG_MS) != Q_OK)
			break;
		while (count == 0 && q_poll_results(q, &done, 1, &count) == Q_OK)
			;
		if (count == 0)
			break;
		if (i >= WARM)
			ns[i - WARM] = gq__now_ns() - begun;
		q_release(q, done.msg_id);
	}
	if (q == NULL || stats_of(q).finished != N + WARM) {
		verdict(false, "round trip", q_last_error());
	} else {
		qsort(ns, N, sizeof(*ns), compare);
		printf("{\"case\":\"round_trip\",\"granularity\":\"warp\",\"size_bytes\":%" PRIu32
		       ",\"runs\":%d,\"unit\":\"ns\",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
		       ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64 "}\n",
		       size, N, ns[N / 2], ns[N - N / 100], ns[N - N / 1000], ns[N - 1]);
	}
	q_shutdown(q);
	free(payload);
	free(ns);
}

/* One thread enqueues batches and polls results; messages that are through, a second. */
static void time_throughput(uint32_t granularity, uint32_t size, uint32_t capacity)
{
	enum { BATCH = 128 };
	const uint64_t begun = gq__now_ns();
	GpuQueue *q = open_queue(granularity, capacity, size, UINT32_MAX);
	uint8_t *payload = calloc(1, size);
	uint64_t taken = 0, start = gq__now_ns(), end = start;
	EnqueueItem items[BATCH];

	for (int i = 0; i < BATCH; i++)
		items[i] = (EnqueueItem){ payload, size };
	while (q != NULL && end - start < 2000000000) {
		Completion done[BATCH];
		uint64_t ids[BATCH];
		size_t count = 0;

		q_enqueue_batch(q, items, BATCH, NULL, &count, 0);
		if (q_poll_results(q, done, BATCH, &count) != Q_OK)
			break;
		for (size_t i = 0; i < count; i++)
			ids[i] = done[i].msg_id;
		q_release_batch(q, ids, count);
		taken += count;
		end = gq__now_ns();
	}
	if (taken == 0)
		verdict(false, "throughput", q_last_error());
	else
		printf("{\"case\":\"throughput\",\"granularity\":%" PRIu32
		       ",\"size_bytes\":%" PRIu32 ",\"batch\":%d,\"slots\":%" PRIu32
		       ",\"unit\":\"messages/s\",\"value\":%.0f,\"init_ms\":%.1f}\n",
		       granularity, size, BATCH, capacity,
		       (double)taken * 1e9 / (double)(end - start), (double)(start - begun) / 1e6);
	q_shutdown(q);
	free(payload);
}

static void content(void)
{
	check_content(1, 64, messages);
	if (strcmp(processor, "echo") == 0) { /* the shipped one has all three */
		check_content(0, 64, messages);
		check_content(2, 4096, messages / 10);
	}
	check_content(1, 2048, messages / 10);
	check_content(1, 100, messages / 10);
}

static void times(void)
{
	static const uint32_t sizes[] = { 0, 64, 512, 2048, 65536 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		time_round_trips(sizes[i]);
	time_throughput(1, 64, 4096);
	time_throughput(1, 512, 4096);
	time_throughput(1, 65536, 256);
	if (strcmp(processor, "echo") == 0)
		time_throughput(0, 64, 4096);
}

int main(int argc, char **argv)
{
	bool any = false;
	QueueInfo info;
	GpuQueue *q;
	int i = 1;

	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		if (strcmp(argv[i], "--processor") == 0)
			processor = argv[i + 1];
		else if (strcmp(argv[i], "--messages") == 0)
			messages = strtoull(argv[i + 1], NULL, 10);
	}
	q = open_queue(1, 8, 64, 0);
	if (q == NULL) {
		const char *why = q_last_error();

		if (strstr(why, "no driver") != NULL || strstr(why, "finds no device") != NULL) {
			printf("skipped: %s\n", why);
			return 77;
		}
		verdict(false, "q_init", why);
		return 1;
	}
	q_info(q, &info);
	printf("device: %s\ntransport: %s\nbecause: %s\nconsumers: %" PRIu32 "\n", info.device_name,
	       info.transport, info.reason, info.consumers);
	q_shutdown(q);
	for (; i < argc || !any; i++) {
		const char *what = i < argc ? argv[i] : "content";

		any = true;
		if (strcmp(what, "content") == 0)
			content();
		else if (strcmp(what, "chaos") == 0)
			check_chaos();
		else if (strcmp(what, "times") == 0)
			times();
		else
			verdict(false, what, "no such stage: content, chaos, times");
	}
	return failures != 0;
}
