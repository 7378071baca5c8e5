/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.c - what a message costs by how much room there is, how many are on their way, and how many
 * threads send and take.
 *
 *     sweep [--smoke] [capacity_few] [capacity_full] [outstanding] [threads]       default: all
 *
 *   capacity_few    room for 16 to 2^20 messages, of which 16 are outstanding at most
 *   capacity_full   the same room; one thread fills it and then empties it
 *   outstanding     room for 2^16 messages, of which 1 to 2^16 are outstanding at most; at 1 a
 *                   message's whole way is its cost
 *   threads         room for 1024; 1 to 8 threads send and 1 to 8 take, one or 32 messages a call
 *
 * Messages of 64 bytes; up to 32 a call, but for `threads`. A message is outstanding from before
 * its put until after its take; the taker says by a word of its own how far it is, which every way
 * pays alike. Of the queue there are threads that send and take results, and as many consumers of
 * its own as another way has takers. Senders are placed on CPUs from the first one on, takers from
 * the last one on; where they share CPUs, waits yield after 64 pauses. The sum of all values put
 * must be taken.
 */
#include "way.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 8, ROOM = 1024, FEW = 16, LARGE = 1 << 16 };

/* Put and taken are counted in messages. */
struct flow {
	const struct way *way;
	void *open;
	uint64_t each; /* a sender's */
	uint64_t window;
	unsigned senders, takers, batch;
	bool yield;
	int gate; /* counts down to 0; every thread waits for it */
	uint64_t taken __attribute__((aligned(BENCH_LINE))); /* by the only taker; or when all */
	uint64_t sum;                                        /* of the values taken */
};

struct part {
	struct flow *flow;
	unsigned number;
	int cpu;
	uint64_t begin, end;
};

static void pass_gate(struct flow *f)
{
	__atomic_sub_fetch(&f->gate, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&f->gate, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
}

/* Returns how many. Several takers count by a locked addition, a single one need not. */
static size_t take(struct flow *f, uint64_t *sum)
{
	const bool alone = (f->way->processes ? f->senders : f->takers) == 1;
	struct way_message messages[WAY_BATCH];
	const size_t n = f->way->take(f->open, messages, f->batch);

	for (size_t i = 0; i < n; i++)
		*sum += messages[i].value;
	if (n > 0 && alone)
		__atomic_store_n(&f->taken, f->taken + n, __ATOMIC_RELEASE);
	else if (n > 0)
		__atomic_add_fetch(&f->taken, n, __ATOMIC_RELEASE);
	return n;
}

/* At most a call's worth, and as many as may still be outstanding. Returns how many. */
static size_t put(struct flow *f, struct way_message *messages, uint64_t sent)
{
	uint64_t n = f->each - sent < f->batch ? f->each - sent : f->batch;

	if (f->window != 0) {
		const uint64_t out = sent - __atomic_load_n(&f->taken, __ATOMIC_ACQUIRE);

		n = f->window - out < n ? f->window - out : n;
	}
	if (n == 0)
		return 0;
	for (uint64_t i = 0; i < n; i++)
		messages[i].value = sent + i;
	return f->way->put(f->open, messages, (size_t)n);
}

/* Sends its share; of the queue it also takes until all have been taken. */
static void *send_share(void *arg)
{
	struct part *p = arg;
	struct flow *f = p->flow;
	const uint64_t total = f->each * f->senders;
	struct way_message messages[WAY_BATCH];
	uint64_t sent = 0, sum = 0;
	unsigned spins = 0;

	bench_pin(p->cpu);
	memset(messages, 0x5a, sizeof(messages));
	pass_gate(f);
	p->begin = bench_now_ns();
	while (sent < f->each ||
	       (f->way->processes && __atomic_load_n(&f->taken, __ATOMIC_ACQUIRE) < total)) {
		size_t moved = sent < f->each ? put(f, messages, sent) : 0;

		sent += moved;
		if (f->way->processes)
			moved += take(f, &sum);
		if (moved == 0)
			way_wait(f->yield, &spins);
	}
	p->end = bench_now_ns();
	__atomic_add_fetch(&f->sum, sum, __ATOMIC_RELAXED);
	return NULL;
}

static void *take_share(void *arg)
{
	struct part *p = arg;
	struct flow *f = p->flow;
	const uint64_t total = f->each * f->senders;
	uint64_t sum = 0;
	unsigned spins = 0;

	bench_pin(p->cpu);
	pass_gate(f);
	p->begin = bench_now_ns();
	while (__atomic_load_n(&f->taken, __ATOMIC_RELAXED) < total)
		if (take(f, &sum) == 0)
			way_wait(f->yield, &spins);
	p->end = bench_now_ns();
	__atomic_add_fetch(&f->sum, sum, __ATOMIC_RELAXED);
	return NULL;
}

/* All of `each` of every sender; returns ns a message. */
static double run_flow(struct flow *f, uint64_t each)
{
	const unsigned takers = f->way->processes ? 0 : f->takers, all = f->senders + takers;
	struct part parts[2 * MOST_THREADS];
	pthread_t threads[2 * MOST_THREADS];
	uint64_t begin = UINT64_MAX, end = 0;

	f->each = each;
	f->taken = f->sum = 0;
	f->gate = (int)all;
	for (unsigned i = 0; i < all; i++) {
		const bool sends = i < f->senders;
		const unsigned number = sends ? i : i - f->senders;
		const unsigned cpus = (unsigned)bench_cpus();

		parts[i] = (struct part){ f, number,
					  (int)(sends ? number : cpus - 1 - number % cpus), 0, 0 };
		if (pthread_create(&threads[i], NULL, sends ? send_share : take_share, &parts[i]) !=
		    0)
			bench_die("pthread_create");
	}
	for (unsigned i = 0; i < all; i++) {
		pthread_join(threads[i], NULL);
		begin = parts[i].begin < begin ? parts[i].begin : begin;
		end = parts[i].end > end ? parts[i].end : end;
	}
	if (f->sum != each * (each - 1) / 2 * f->senders)
		bench_die("%s: what was taken is not what was put", f->way->variant);
	return (double)(end - begin) / (double)(each * f->senders);
}

/* So many messages a sender that they take bench_run_ms, after `least` to warm up. */
static void measure_flow(const char *about, struct flow *f, uint64_t least)
{
	const uint64_t warm = bench_smoke ? 100 : 4000 > least ? 4000 : least;
	double costs[BENCH_RUNS], cost;
	uint64_t each = warm;

	BENCH_NEAR(cost = run_flow(f, warm / f->senders));
	if (!bench_smoke)
		each = (uint64_t)(bench_run_ms * 1e6 / cost);
	each = each / f->senders + 1;
	for (int i = 0; i < bench_runs; i++)
		BENCH_NEAR(costs[i] = run_flow(f, each));
	bench_emit_about(about, "cost", "ns", costs);
}

/* One thread puts `room` messages and then takes them, so many times; returns ns a message. */
static double run_full(struct flow *f, uint64_t room, uint64_t rounds)
{
	struct way_message messages[WAY_BATCH];
	uint64_t sum = 0, begin, end;
	unsigned spins = 0;

	bench_pin(0);
	memset(messages, 0x5a, sizeof(messages));
	f->each = room * rounds;
	f->taken = 0;
	begin = bench_now_ns();
	for (uint64_t full = room; full <= f->each; full += room) {
		for (uint64_t sent = full - room; sent < full;)
			sent += put(f, messages, sent);
		while (f->taken < full)
			if (take(f, &sum) == 0)
				way_wait(bench_smoke, &spins);
	}
	end = bench_now_ns();
	if (sum != f->each * (f->each - 1) / 2)
		bench_die("%s: what was taken is not what was put", f->way->variant);
	return (double)(end - begin) / (double)f->each;
}

static void measure_full(const char *about, struct flow *f, uint64_t room)
{
	double costs[BENCH_RUNS], cost;
	uint64_t rounds = 1;

	f->window = room;
	BENCH_NEAR(cost = run_full(f, room, 1)); /* touches all of it */
	if (!bench_smoke)
		rounds = 1 + (uint64_t)(bench_run_ms * 1e6 / (cost * (double)room));
	for (int i = 0; i < bench_runs; i++)
		BENCH_NEAR(costs[i] = run_full(f, room, rounds));
	bench_emit_about(about, "cost", "ns", costs);
}

/* A case's parameters follow. */
#define ABOUT "\"peer\":\"%s\",\"variant\":\"%s\",\"case\":\"%s\",\"size\":64,"

static void run_capacity(const struct way *way, const char *name, uint32_t room, bool full)
{
	struct flow f = { .way = way,
			  .window = FEW,
			  .senders = 1,
			  .takers = 1,
			  .batch = WAY_BATCH,
			  .yield = bench_smoke };
	char about[256];

	snprintf(about, sizeof(about), ABOUT "\"slots\":%u", way->peer, way->variant, name,
		 (unsigned)room);
	f.open = way->open(room, 1);
	if (full)
		measure_full(about, &f, room);
	else
		measure_flow(about, &f, 2 * (uint64_t)room); /* all of it has been touched */
	way->close(f.open);
}

static void run_outstanding(const struct way *way, uint32_t most)
{
	struct flow f = { .way = way,
			  .window = most,
			  .senders = 1,
			  .takers = 1,
			  .batch = WAY_BATCH,
			  .yield = bench_smoke };
	const uint32_t room = bench_smoke ? ROOM : LARGE;
	char about[256];

	snprintf(about, sizeof(about), ABOUT "\"slots\":%u,\"outstanding\":%u", way->peer,
		 way->variant, "outstanding", (unsigned)room, (unsigned)most);
	f.open = way->open(room, 1);
	measure_flow(about, &f, 2 * (uint64_t)room);
	way->close(f.open);
}

static void run_threads(const struct way *way, unsigned senders, unsigned takers, unsigned batch)
{
	struct flow f = { .way = way,
			  .senders = senders,
			  .takers = takers,
			  .batch = batch,
			  .yield = bench_smoke || senders + takers > (unsigned)bench_cpus() };
	char about[256];

	if (way->single && senders + takers > 2)
		return;
	snprintf(about, sizeof(about),
		 ABOUT "\"slots\":%d,\"batch\":%u,\"senders\":%u,\"takers\":%u", way->peer,
		 way->variant, "threads", ROOM, batch, senders, takers);
	f.open = way->open(ROOM, takers);
	measure_flow(about, &f, 2 * ROOM);
	way->close(f.open);
}

static void sweep_capacity(const char *name, bool full)
{
	if (!bench_wants(name))
		return;
	for (uint32_t room = 16; room <= (bench_smoke ? 64 : 1 << 20); room *= 4)
		for (size_t w = 0; w < way_count; w++)
			run_capacity(ways[w], name, room, full);
}

static void sweep_outstanding(void)
{
	if (!bench_wants("outstanding"))
		return;
	for (uint32_t most = 1; most <= (bench_smoke ? 4 : LARGE); most *= most < 64 ? 2 : 4)
		for (size_t w = 0; w < way_count; w++)
			run_outstanding(ways[w], most);
}

static void sweep_threads(void)
{
	static const unsigned sets[][2] = { { 1, 1 }, { 2, 1 }, { 4, 1 }, { 8, 1 }, { 1, 2 },
					    { 1, 4 }, { 1, 8 }, { 2, 2 }, { 4, 4 }, { 8, 8 } };

	if (!bench_wants("threads"))
		return;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		for (unsigned batch = 1; batch <= WAY_BATCH; batch *= WAY_BATCH)
			for (size_t w = 0; w < way_count; w++)
				run_threads(ways[w], sets[i][0], sets[i][1], batch);
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	sweep_capacity("capacity_few", false);
	sweep_capacity("capacity_full", true);
	sweep_outstanding();
	sweep_threads();
	return 0;
}
