/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open_loop.c - how long a message takes when messages come at a given rate, whatever becomes of
 * them.
 *
 *     open_loop [--smoke]
 *
 * Messages are due at times that are fixed beforehand: a Poisson process of so many a second, as
 * independent clients make it, from a seed of the run's number. One thread sends each as soon as it
 * is due; what is late, because the one before has taken long or there was no room, goes out at
 * once, and none is left out. A message's latency is counted from the time at which it was due, not
 * from when it was sent. So a stall is in the latency of every message that should have been sent
 * meanwhile ("coordinated omission" is to lose these).
 *
 * Rings: the sender on CPU 0, the receiver on CPU 1, which polls; one way. The queue: one thread on
 * CPU 0 that sends, and takes results until the next message is due; the consumer on CPU 1; there
 * and back. Messages of 64 bytes, one a send, up to 32 a take; capacity 1024.
 *
 * Each rate is measured for all ways before the next rate. A way that falls behind, and carries
 * less than 95 percent of what is offered, is left out from there on: its backlog only grows.
 */
#include "way.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CAPACITY = 1024,
	MOST = 200000, /* messages a run, at most and at least: the 99.9th percentile needs some */
	LEAST = 10000,
	WARM = 2 * CAPACITY, /* before these, which count */
	LEAD_NS = 100000,    /* from the start to the first message, ns */
};

static const double rates[] = { 0.1, 0.2, 0.5, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32 }; /* M/s */

struct run {
	const struct way *way;
	void *open;
	size_t n;       /* messages, with those to warm up */
	uint64_t start; /* ticks */
	bool ready;     /* the receiver runs */
};

static uint64_t due[WARM + MOST];  /* ticks from the start */
static uint32_t took[WARM + MOST]; /* ticks */
static uint64_t last_taken;        /* ticks */
static uint64_t random_state;

/* SplitMix64: uniform in (0, 1]. */
static double uniform(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0 + 0x1p-53;
}

static void plan(double per_second, size_t n, unsigned seed)
{
	const double gap = 1e9 / per_second / bench_ns_per_tick(); /* ticks, in the mean */
	double at = LEAD_NS / bench_ns_per_tick();

	random_state = seed;
	for (size_t i = 0; i < n; i++) {
		due[i] = (uint64_t)at;
		at -= log(uniform()) * gap;
	}
}

/* Takes what is there, in the order in which it was sent; `taken` so far. Returns how many. */
static size_t take(const struct run *r, size_t taken)
{
	struct way_message messages[WAY_BATCH];
	const size_t n = r->way->take(r->open, messages, WAY_BATCH);
	const uint64_t now = bench_ticks();

	for (size_t i = 0; i < n; i++) {
		const uint64_t late = now - r->start - messages[i].value;

		took[taken + i] = late < UINT32_MAX ? (uint32_t)late : UINT32_MAX;
	}
	if (n > 0)
		last_taken = now;
	return n;
}

static void *receive(void *arg)
{
	struct run *r = arg;
	unsigned spins = 0;

	bench_pin(1);
	__atomic_store_n(&r->ready, true, __ATOMIC_RELEASE);
	for (size_t taken = 0; taken < r->n;) {
		const size_t n = take(r, taken);

		taken += n;
		if (n == 0)
			way_wait(bench_smoke, &spins);
	}
	return NULL;
}

/* The sender; of a queue it takes as well. */
static void send_all(const struct run *r)
{
	struct way_message message = { .value = 0 };
	size_t sent = 0, taken = 0;
	unsigned spins = 0;

	while (sent < r->n || (r->way->processes && taken < r->n)) {
		size_t moved = 0;

		if (sent < r->n && bench_ticks() - r->start >= due[sent]) {
			message.value = due[sent];
			moved = r->way->put(r->open, &message, 1);
			sent += moved;
		}
		if (r->way->processes) {
			const size_t n = take(r, taken);

			taken += n;
			moved += n;
		}
		if (moved == 0)
			way_wait(bench_smoke, &spins);
	}
}

/* One run; millions of messages a second that were carried. */
static double carry(const struct way *way, size_t n)
{
	struct run r = { .way = way, .n = n };
	pthread_t receiver;

	bench_pin(0);
	r.open = way->open(CAPACITY, 1);
	if (!way->processes) {
		if (pthread_create(&receiver, NULL, receive, &r) != 0)
			bench_die("pthread_create");
		while (!__atomic_load_n(&r.ready, __ATOMIC_ACQUIRE))
			sched_yield();
	}
	r.start = bench_ticks(); /* the receiver reads it behind the first message */
	send_all(&r);
	if (!way->processes)
		pthread_join(receiver, NULL);
	way->close(r.open);
	return (double)(n - 1) * 1e3 /
	       ((double)(last_taken - r.start - due[0]) * bench_ns_per_tick());
}

/* Whether the way keeps up. */
static bool measure(const struct way *way, double rate)
{
	const double wanted = rate * 1e3 * bench_run_ms;
	const size_t some = bench_smoke      ? 200
			    : wanted < LEAST ? LEAST
			    : wanted > MOST  ? MOST
					     : (size_t)wanted;
	const size_t warm = bench_smoke ? 0 : WARM;
	double carried[BENCH_RUNS], offered[BENCH_RUNS], shares[BENCH_RUNS];
	struct bench_latency l;
	char about[256];

	snprintf(about, sizeof(about),
		 "\"peer\":\"%s\",\"variant\":\"%s\",\"case\":\"open_loop\",\"size\":%d,"
		 "\"slots\":%d,\"trip\":\"%s\",\"load\":%.0f",
		 way->peer, way->variant, WAY_BYTES, CAPACITY,
		 way->processes ? "there and back" : "one way", rate * 1e6);
	for (int i = 0; i < bench_runs; i++) {
		plan(rate * 1e6, warm + some, (unsigned)i + 1);
		offered[i] = (double)(warm + some - 1) * 1e3 /
			     ((double)(due[warm + some - 1] - due[0]) * bench_ns_per_tick());
		BENCH_NEAR(carried[i] = carry(way, warm + some));
		shares[i] = carried[i] / offered[i];
		bench_note_latency(&l, i, took + warm, some);
	}
	bench_emit_latency_about(about, &l);
	bench_emit_about(about, "carried", "Mmsg/s", carried);
	bench_sort(shares, (size_t)bench_runs);
	return shares[bench_runs / 2] >= 0.95;
}

int main(int argc, char **argv)
{
	bool keeps_up[16];

	bench_begin(argc, argv);
	for (size_t w = 0; w < way_count; w++)
		keeps_up[w] = true;
	for (size_t i = 0; i < (bench_smoke ? 1 : sizeof(rates) / sizeof(rates[0])); i++)
		for (size_t w = 0; w < way_count; w++)
			if (keeps_up[w])
				keeps_up[w] = measure(ways[w], rates[i]);
	return 0;
}
