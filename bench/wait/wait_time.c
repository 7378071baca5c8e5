/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait_time.c - what a round trip costs that somebody waits for, beside threads that only compute.
 *
 *     wait_time [--busy N] [--pinned] [--smoke]
 *
 * Five kinds, each with a partner thread: a byte by pipe and one back; a turn by condition variable
 * and one back; enqueue, q_wait() and the result of a queue; the same with a consumer that never
 * parks; a message by ring and one back. N threads (0) that never wait run beside them; --pinned
 * puts all threads on one CPU. Kinds take turns, in ten parts. In each part:
 *
 *   round_trip   one trip after the other for 30 ms: how long one takes in the mean. Where threads
 *                want the same CPUs, a kind that spins is fast while both of its threads have one,
 *                and slow when one has not; 30 ms hold several slices of the scheduler's, so the
 *                mean has both in the shares in which they occur. (The median of a few trips is
 *                the one or the other.) And of the trips, up to 2^20, the 99th percentile. One
 *                reading of the clock is part of each.
 *   after_pause  20 trips, each after a sleep of 0.5 to 1.5 ms, so that the partner has long waited
 *                for it: the median of these, and of all the 99th percentile.
 *
 * Before these are up to 100 trips and 50 ms that do not count. Prints JSON lines as
 * bench/README.md has them.
 */
#include <gpuq/gpuq.h>
#include <gpuq/ring.h>

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PARTS = 10, WARM = 100, PAUSED = 20, MOST = 1 << 20 };
#define PART_NS UINT64_C(30000000)
#define WARM_NS UINT64_C(50000000)

static bool smoke;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s failed: %s\n", what, q_last_error());
		exit(1);
	}
}

static void start(void *(*run)(void *arg), void *arg)
{
	pthread_t thread;

	must(pthread_create(&thread, NULL, run, arg) == 0, "pthread_create");
	pthread_detach(thread);
}

/* ---- busy threads -----------------------------------------------------------------------------
 */

static void *compute(void *arg)
{
	uint64_t n = 0;

	(void)arg;
	for (;;)
		__atomic_store_n(&n, n + 1, __ATOMIC_RELAXED);
	return NULL;
}

static void pin(void)
{
	cpu_set_t allowed, one;
	size_t cpu = 0;

	must(sched_getaffinity(0, sizeof(allowed), &allowed) == 0, "sched_getaffinity");
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	must(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
}

/* ---- pipe ---------------------------------------------------------------------------------------
 */

static int there[2], back[2];

static void *answer_by_pipe(void *arg)
{
	char byte;

	(void)arg;
	while (read(there[0], &byte, 1) == 1)
		must(write(back[1], &byte, 1) == 1, "write");
	return NULL;
}

static void open_pipe(void)
{
	must(pipe(there) == 0 && pipe(back) == 0, "pipe");
	start(answer_by_pipe, NULL);
}

static void trip_by_pipe(void)
{
	char byte = 0;

	must(write(there[1], &byte, 1) == 1, "write");
	must(read(back[0], &byte, 1) == 1, "read");
}

/* ---- condition variable -------------------------------------------------------------------------
 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t went = PTHREAD_COND_INITIALIZER, came = PTHREAD_COND_INITIALIZER;
static bool theirs;

static void *answer_by_condition(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	for (;;) {
		while (!theirs)
			pthread_cond_wait(&went, &lock);
		theirs = false;
		pthread_cond_signal(&came);
	}
	return NULL;
}

static void open_condition(void)
{
	start(answer_by_condition, NULL);
}

static void trip_by_condition(void)
{
	pthread_mutex_lock(&lock);
	theirs = true;
	pthread_cond_signal(&went);
	while (theirs)
		pthread_cond_wait(&came, &lock);
	pthread_mutex_unlock(&lock);
}

/* ---- queue --------------------------------------------------------------------------------------
 */

static GpuQueue *queue, *awake_queue;

static GpuQueue *make_queue(uint32_t idle_park_ms)
{
	const QueueConfig cfg = { .capacity = 8,
				  .slot_bytes = 64,
				  .device = Q_DEVICE_CPU,
				  .consumers = 1,
				  .idle_park_ms = idle_park_ms,
				  .processor = "echo" };
	GpuQueue *q = q_init(&cfg);

	must(q != NULL, "q_init");
	return q;
}

static void trip_of(GpuQueue *q)
{
	char byte = 0;
	size_t len = sizeof(byte);
	uint64_t id;

	must(q_enqueue(q, &byte, 1, &id, UINT32_MAX) == Q_OK, "q_enqueue");
	must(q_wait(q, id, UINT32_MAX) == Q_OK, "q_wait");
	must(q_try_dequeue_result(q, id, &byte, &len) == Q_OK, "q_try_dequeue_result");
}

static void open_queue(void)
{
	queue = make_queue(0);
}

static void trip_by_queue(void)
{
	trip_of(queue);
}

/* Paused but for its parts: it would be a busy thread beside the other kinds. */
static void open_awake_queue(void)
{
	awake_queue = make_queue(UINT32_MAX);
	must(q_pause(awake_queue, UINT32_MAX) == Q_OK, "q_pause");
}

static void trip_by_awake_queue(void)
{
	trip_of(awake_queue);
}

/* ---- ring ---------------------------------------------------------------------------------------
 */

static RingQueue *ring_there, *ring_back;

static void *answer_by_ring(void *arg)
{
	char byte;

	(void)arg;
	for (;;) {
		size_t len = sizeof(byte);

		must(q_ring_recv_timeout(ring_there, &byte, &len, UINT32_MAX) == Q_OK, "recv");
		must(q_ring_send_timeout(ring_back, &byte, 1, Q_PRIORITY_DEFAULT, UINT32_MAX) ==
			     Q_OK,
		     "send");
	}
	return NULL;
}

static void open_ring(void)
{
	must(q_ring_create(NULL, NULL, 0, &ring_there) == Q_OK, "q_ring_create");
	must(q_ring_create(NULL, NULL, 0, &ring_back) == Q_OK, "q_ring_create");
	start(answer_by_ring, NULL);
}

static void trip_by_ring(void)
{
	char byte = 0;
	size_t len = sizeof(byte);

	must(q_ring_send_timeout(ring_there, &byte, 1, Q_PRIORITY_DEFAULT, UINT32_MAX) == Q_OK,
	     "send");
	must(q_ring_recv_timeout(ring_back, &byte, &len, UINT32_MAX) == Q_OK, "recv");
}

/* ---- measuring ----------------------------------------------------------------------------------
 */

static struct kind {
	const char *name;
	void (*open)(void);
	void (*trip)(void);
	const char *peer;
	unsigned parts;
	double mean[PARTS];
	size_t n, n_paused;
	uint32_t ns[MOST]; /* of trips one after the other: as many as there is room for */
	uint32_t paused[PARTS * PAUSED]; /* of trips after a pause */
} kinds[] = {
	{ "", open_pipe, trip_by_pipe, .peer = "pipe" },
	{ "", open_condition, trip_by_condition, .peer = "condition variable" },
	{ "queue", open_queue, trip_by_queue, .peer = "gpuq" },
	{ "queue, never parks", open_awake_queue, trip_by_awake_queue, .peer = "gpuq" },
	{ "rings", open_ring, trip_by_ring, .peer = "gpuq" },
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static uint32_t sample_of(uint64_t ns)
{
	return ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static void measure_part(struct kind *k)
{
	static uint32_t seed = 1;
	const bool awake = k->trip == trip_by_awake_queue;
	uint64_t begin, end, last;
	size_t trips = 0;

	if (awake)
		must(q_resume(awake_queue) == Q_OK, "q_resume");
	end = now_ns() + WARM_NS;
	for (unsigned i = 0; i < (smoke ? 2 : WARM) && now_ns() < end; i++)
		k->trip();
	begin = end = now_ns();
	do { /* the clock is read once a trip, which may take not much longer than that */
		last = end;
		k->trip();
		end = now_ns();
		if (k->n < MOST)
			k->ns[k->n++] = sample_of(end - last);
		trips++;
	} while (smoke ? trips < 2 : end - begin < PART_NS);
	k->mean[k->parts++] = (double)(end - begin) / (double)trips;
	for (unsigned i = 0; i < (smoke ? 2 : PAUSED); i++) {
		struct timespec pause = { .tv_nsec = 500000 };

		seed = seed * 1664525u + 1013904223u;
		pause.tv_nsec += (long)(seed >> 12);
		nanosleep(&pause, NULL);
		begin = now_ns();
		k->trip();
		k->paused[k->n_paused++] = sample_of(now_ns() - begin);
	}
	if (awake)
		must(q_pause(awake_queue, UINT32_MAX) == Q_OK, "q_pause");
}

static int compare(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int compare_double(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Two JSON lines as bench/README.md has them: a sample of each part, and the 99th percentile of all
 * trips. */
static void print_case(const char *name, const char *about, const char *metric, double *samples,
		       unsigned parts, uint32_t *trips, size_t n)
{
	printf("{\"case\":\"%s\",%s,\"metric\":\"%s\",\"samples\":[", name, about, metric);
	for (unsigned part = 0; part < parts; part++)
		printf("%s%.0f", part > 0 ? "," : "", samples[part]);
	qsort(samples, parts, sizeof(*samples), compare_double);
	qsort(trips, n, sizeof(*trips), compare);
	printf("],\"median\":%.0f}\n{\"case\":\"%s\",%s,\"metric\":\"p99\",\"median\":%u}\n",
	       (samples[(parts - 1) / 2] + samples[parts / 2]) / 2, name, about,
	       trips[n * 99 / 100]);
}

static void print(struct kind *k, unsigned long busy, bool pinned)
{
	const size_t each = k->n_paused / k->parts;
	double p50[PARTS];
	char about[192];

	snprintf(about, sizeof(about),
		 "\"peer\":\"%s\",\"variant\":\"%s\",\"busy\":%lu,\"cpus\":\"%s\",\"unit\":\"ns\"",
		 k->peer, k->name, busy, pinned ? "one" : "all");
	print_case("round_trip", about, "mean", k->mean, k->parts, k->ns, k->n);
	for (unsigned part = 0; part < k->parts; part++) {
		qsort(&k->paused[part * each], each, sizeof(k->paused[0]), compare);
		p50[part] = k->paused[part * each + each / 2];
	}
	print_case("after_pause", about, "p50", p50, k->parts, k->paused, k->n_paused);
}

int main(int argc, char **argv)
{
	unsigned long busy = 0;
	bool pinned = false;

	for (int i = 1; i < argc; i++) {
		char *end = NULL;

		if (strcmp(argv[i], "--pinned") == 0)
			pinned = true;
		else if (strcmp(argv[i], "--smoke") == 0)
			smoke = true;
		else if (strcmp(argv[i], "--busy") == 0 && i + 1 < argc)
			busy = strtoul(argv[++i], &end, 10);
		if ((end != NULL && (*end != '\0' || busy > 64)) ||
		    (end == NULL && strncmp(argv[i], "--", 2) != 0)) {
			fprintf(stderr,
				"usage: wait_time [--busy N, at most 64] [--pinned] [--smoke]\n");
			return 2;
		}
	}
	if (pinned)
		pin();
	for (unsigned long i = 0; i < busy; i++)
		start(compute, NULL);
	for (int k = 0; k < KINDS; k++)
		kinds[k].open();
	for (int part = 0; part < PARTS; part++)
		for (int k = 0; k < KINDS; k++)
			measure_part(&kinds[(k + part) % KINDS]);
	for (int k = 0; k < KINDS; k++)
		print(&kinds[k], busy, pinned);
	fflush(stdout);
	_exit(0); /* with threads that never end */
}
