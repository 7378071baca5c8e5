/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_check.c - what only a GPU can prove, for scripts/gpu-check: contents, chaos, times.
 *
 *   gpu_check [--processor NAME] [--messages N] [--seconds N] [--repeat N]
 *             [smoke] [probe|content|chaos|times|tune]...
 *   gpu_check starts
 *
 * Every run first says what the device is, and `probe` does nothing else; smoke is for a first
 * look: smoke.c. Prints PASS or FAIL a check, and one JSON line a measurement. `content` ends when
 * it has sent --messages messages or run for --seconds, whichever comes first, and says how many it
 * sent. --repeat is the number that the lines of `times` carry. The processor echoes: "echo" is the
 * one we ship; "test" runs through the stand-in driver, where the times mean nothing. Exit status:
 * 0 all passed, 1 not, 4 something hung, 5 no message came back, 77 there is no CUDA device, or no
 * NVRTC for a processor's source.
 */
#include "gpu_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HUNG_S = 20 };

const char *processor = "echo";
static uint64_t messages = 1000000;
static unsigned seconds = 120, repeat;
static unsigned failures;
static uint64_t alive_ns;
static const char *doing = "start";
void (*on_hang)(void);

void verdict(bool good, const char *what, const char *detail)
{
	printf("%s %s%s%s\n", good ? "PASS" : "FAIL", what, detail[0] != '\0' ? ": " : "", detail);
	fflush(stdout);
	failures += !good;
}

void alive(const char *what)
{
	__atomic_store_n(&doing, what, __ATOMIC_RELAXED);
	__atomic_store_n(&alive_ns, gq__now_ns(), __ATOMIC_RELAXED);
}

/* Ends the process when nobody has been alive() for long: what hangs may hold every lock. */
static void *watch(void *arg)
{
	(void)arg;
	for (;;) {
		const uint64_t last =
			__atomic_load_n(&alive_ns, __ATOMIC_RELAXED); /* before the clock */

		if (gq__now_ns() - last <= HUNG_S * UINT64_C(1000000000)) {
			nap_ms(200);
			continue;
		}
		printf("FAIL hung for %d s: %s\n", HUNG_S,
		       __atomic_load_n(&doing, __ATOMIC_RELAXED));
		fflush(stdout);
		if (on_hang != NULL)
			on_hang();
		_exit(4);
	}
	return NULL;
}

GpuQueue *open_queue(uint32_t granularity, uint32_t capacity, uint32_t slot_bytes, uint32_t park_ms)
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

/* Every message comes back once, with its content, whatever the order: `n` of them, or as many as
 * there is time for. */
static void check_content(uint32_t granularity, uint32_t slot_bytes, uint64_t n, uint64_t limit_ns)
{
	static const char *const names[] = { "thread", "warp", "block" };
	enum { BATCH = 64 };
	const uint64_t begun = gq__now_ns();
	GpuQueue *q = open_queue(granularity, 1024, slot_bytes, 0);
	uint8_t *payload = malloc((size_t)BATCH * slot_bytes), *expected = malloc(slot_bytes);
	uint64_t sent = 0, taken = 0, wrong = 0;
	bool good;
	uint64_t sum = 0, mixed = 0; /* of the numbers, and of mix(number): sent less taken */
	static char what[80];        /* the watchdog may name it later */
	char detail[200] = "";

	snprintf(what, sizeof(what), "content, %s, slots of %" PRIu32, names[granularity],
		 slot_bytes);
	if (q == NULL) {
		verdict(false, what, q_last_error());
		free(payload);
		free(expected);
		return;
	}
	while (sent < n || taken < sent) {
		EnqueueItem items[BATCH];
		Completion done[BATCH];
		uint64_t ids[BATCH];
		size_t count = 0, accepted = 0;
		QueueStatus status = Q_OK;

		if (gq__now_ns() - begun > limit_ns)
			n = sent;
		for (uint32_t i = 0; i < BATCH && sent + i < n; i++, count++) {
			items[i].data = payload + (size_t)i * slot_bytes;
			items[i].len = fill(payload + (size_t)i * slot_bytes, slot_bytes, sent + i);
		}
		if (count != 0)
			status = q_enqueue_batch(q, items, count, NULL, &accepted, 0);
		for (; accepted != 0; accepted--, sent++) {
			sum += sent;
			mixed += mix(sent);
		}
		if (status == Q_OK || status == Q_ERR_FULL)
			status = q_poll_results(q, done, BATCH, &count);
		if (status != Q_OK) {
			snprintf(detail, sizeof(detail), "%s", q_last_error());
			break;
		}
		if (count != 0)
			alive(what);
		for (size_t i = 0; i < count; i++) {
			uint64_t number = UINT64_MAX;

			if (done[i].status == Q_OK && done[i].result_len >= 8)
				memcpy(&number, done[i].result, 8);
			wrong += number >= sent ||
				 done[i].result_len != fill(expected, slot_bytes, number) ||
				 memcmp(done[i].result, expected, done[i].result_len) != 0;
			sum -= number;
			mixed -= mix(number);
			ids[i] = done[i].msg_id;
		}
		q_release_batch(q, ids, count);
		taken += count;
	}
	good = detail[0] == '\0' && wrong == 0 && sum == 0 && mixed == 0 && taken != 0;
	if (good)
		snprintf(detail, sizeof(detail), "%" PRIu64 " messages in %.1f s", taken,
			 (double)(gq__now_ns() - begun) / 1e9);
	else if (detail[0] == '\0')
		snprintf(detail, sizeof(detail), "%" PRIu64 " of %" PRIu64 " are wrong%s", wrong,
			 taken, sum != 0 || mixed != 0 ? ", and not each came back once" : "");
	verdict(good, what, detail);
	printf("{\"case\":\"content\",\"granularity\":%" PRIu32 ",\"slot_bytes\":%" PRIu32
	       ",\"messages\":%" PRIu64 ",\"wrong\":%" PRIu64 "}\n",
	       granularity, slot_bytes, taken, wrong);
	q_shutdown(q);
	free(payload);
	free(expected);
}

/* ---- times ----------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* One message at a time, from before q_enqueue() until q_poll_results() has shown its result. */
static void time_round_trips(const char *name, uint32_t size)
{
	enum { N = 20000, WARM = 1000 };
	GpuQueue *q = open_queue(1, 64, size == 0 ? 1 : size, UINT32_MAX);
	uint64_t *ns = malloc(N * sizeof(*ns));
	uint8_t *payload = calloc(1, size + 1);

	alive("round trips");
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
		verdict(false, name, q_last_error());
	} else {
		qsort(ns, N, sizeof(*ns), compare);
		printf("{\"case\":\"%s\",\"size_bytes\":%" PRIu32
		       ",\"repeat\":%u,\"runs\":%d,\"unit\":\"ns\",\"p50\":%" PRIu64
		       ",\"p99\":%" PRIu64 ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64 "}\n",
		       name, size, repeat, N, ns[N / 2], ns[N - N / 100], ns[N - N / 1000],
		       ns[N - 1]);
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
	alive("throughput");
	while (q != NULL && end - start < 1000000000) {
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
		       ",\"size_bytes\":%" PRIu32 ",\"repeat\":%u,\"batch\":%d,\"slots\":%" PRIu32
		       ",\"unit\":\"messages/s\",\"value\":%.0f,\"init_ms\":%.1f}\n",
		       granularity, size, repeat, BATCH, capacity,
		       (double)taken * 1e9 / (double)(end - start), (double)(start - begun) / 1e6);
	q_shutdown(q);
	free(payload);
}

/* Most of them as small messages, one a warp. */
static void content(void)
{
	static const struct {
		uint32_t granularity, slot_bytes, percent;
	} shares[] = {
		{ 1, 64, 60 }, { 0, 64, 25 }, { 1, 2048, 5 }, { 1, 100, 5 }, { 2, 4096, 5 }
	};
	const bool all = strcmp(processor, "echo") == 0; /* the shipped one has all three */

	for (unsigned i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
		if (all || shares[i].granularity == 1)
			check_content(shares[i].granularity, shares[i].slot_bytes,
				      (messages + 99) / 100 * shares[i].percent,
				      seconds * UINT64_C(10000000) * shares[i].percent);
}

static void times(void)
{
	static const uint32_t sizes[] = { 0, 64, 512, 2048, 65536 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		time_round_trips("round_trip", sizes[i]);
	if (strcmp(processor, "echo") == 0) { /* the same without Q_RESULT_ONLY */
		processor = "echo_all";
		for (unsigned i = 0; i < 3; i++)
			time_round_trips("round_trip_all", sizes[i]);
		processor = "echo";
	}
	time_throughput(1, 64, 4096);
	time_throughput(1, 512, 4096);
	time_throughput(1, 65536, 256);
	if (strcmp(processor, "echo") == 0)
		time_throughput(0, 64, 4096);
}

int main(int argc, char **argv)
{
	bool any = false;
	pthread_t watcher;
	QueueInfo info;
	GpuQueue *q;
	int i = 1;

	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		if (strcmp(argv[i], "--processor") == 0)
			processor = argv[i + 1];
		else if (strcmp(argv[i], "--messages") == 0)
			messages = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--repeat") == 0)
			repeat = (unsigned)strtoul(argv[i + 1], NULL, 10);
	}
	if (argc > 1 && strcmp(argv[1], "starts") == 0) /* on this system */
		return 0;
	alive("q_init");
	if (pthread_create(&watcher, NULL, watch, NULL) == 0)
		pthread_detach(watcher);
	if (i < argc && strcmp(argv[i], "smoke") == 0) {
		const int found = smoke();

		if (found != SMOKE_WORKS || ++i == argc)
			return found == SMOKE_NO_DEVICE ? 77
			       : found == SMOKE_NOTHING ? 5
							: failures != 0;
	}
	q = open_queue(1, 8, 64, 0);
	if (q == NULL) {
		const char *why = q_last_error();

		if (strstr(why, "no driver") != NULL || strstr(why, "finds no device") != NULL ||
		    strstr(why, "NVRTC, which compiles CUDA source") != NULL) {
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
		if (strcmp(what, "probe") == 0)
			continue;
		if (strcmp(what, "content") == 0)
			content();
		else if (strcmp(what, "chaos") == 0)
			chaos();
		else if (strcmp(what, "times") == 0)
			times();
		else if (strcmp(what, "tune") == 0)
			tune(seconds);
		else
			verdict(false, what,
				"no such stage: probe, content, chaos, times, tune; smoke comes "
				"first");
	}
	return failures != 0;
}
