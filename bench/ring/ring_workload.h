/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_workload.h - the one workload that every ring runs.
 *
 * A peer supplies always-inline push and pop functions; RING_BODIES() stamps out thread bodies in
 * which message size, batch and both calls are compile-time constants, so that no peer pays for an
 * indirect call.
 *
 *   spsc, mpsc, mpmc   N messages go through one bounded ring of BENCH_SLOTS slots. A producer
 *                      stamps the first and last 8 bytes of each message in a private buffer and
 *                      pushes (copy in); a consumer pops into a private buffer (copy out) and
 *                      checks both stamps: FIFO order per producer, nothing lost, no torn copy.
 *                      The clock runs from when the ring has been gone round twice (its memory is
 *                      then mapped and warm) to the last message checked; with two consumers, from
 *                      the start.
 *   pingpong           one message at a time over two rings, timed per round trip once they have
 *                      been gone round twice; the two time stamps are in it (about 45 ns).
 *
 * N is sized for BENCH_RUN_MS; a run is stopped after three times that, where a peer convoys. A
 * partial push is continued, never dropped. Up to two threads spin with `pause`; more than two are
 * on two cores, so every wait outside the ring is then 64 spins and a sched_yield(). A wait inside
 * a library cannot be changed.
 */
#ifndef BENCH_RING_WORKLOAD_H
#define BENCH_RING_WORKLOAD_H

#include "harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	RW_MAX_SIDE = 2, /* producers, consumers */
	RW_MAX_BATCH = 32,
	RW_MAX_ELEM = 2048,
	RW_WARM = 2 * BENCH_SLOTS, /* messages before the clock starts */
};

/* Pushes or pops at most n messages; returns how many were moved (0: full or empty). */
typedef unsigned (*rw_push_fn)(void *port, const void *src, unsigned n);
typedef unsigned (*rw_pop_fn)(void *port, void *dst, unsigned n);

struct ring_case {
	const char *variant;
	unsigned elem; /* bytes the workload copies in and out */
	unsigned size; /* bytes a message, as reported: elem, but for descriptors */
	unsigned batch;
	void *(*open)(void);
	void (*close)(void *ring);
	void *(*producer_port)(void *ring); /* handle of a thread; NULL: the ring itself */
	void *(*consumer_port)(void *ring);
	void (*port_free)(void *port);
	void *(*producer)(void *thread);
	void *(*consumer)(void *thread);
	void *(*ping)(void *thread);
	void *(*pong)(void *thread);
};

/* One way to place producers, then consumers, on CPUs. */
struct rw_placement {
	const char *name, *text;
	int producers, consumers;
	int cpu[2 * RW_MAX_SIDE];
};

struct rw_shared {
	void *ring;
	uint64_t per_producer; /* messages */
	int producers, consumers;
	bool yield; /* sched_yield() after a short spin */
	int gate;   /* counts down to 0; every thread waits for it */
	int stop __attribute__((aligned(BENCH_LINE))); /* set by who ends the run */
	struct {
		/* Brought up to date when nothing is there. */
		uint64_t got __attribute__((aligned(BENCH_LINE)));
	} consumer[RW_MAX_SIDE];
};

struct rw_thread {
	struct rw_shared *sh;
	const struct ring_case *rc;
	int cpu;
	unsigned id;
	uint64_t begin, end, moved; /* of a consumer: clock, messages in between */
	void *back;                 /* ping-pong: the other ring */
	uint32_t *ticks;            /* ping-pong */
};

ALWAYS_INLINE void rw_gate(struct rw_shared *sh)
{
	__atomic_sub_fetch(&sh->gate, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&sh->gate, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
}

ALWAYS_INLINE bool rw_stopped(struct rw_shared *sh)
{
	return __builtin_expect(__atomic_load_n(&sh->stop, __ATOMIC_RELAXED) != 0, 0);
}

ALWAYS_INLINE void rw_wait(bool yield, unsigned *spins)
{
	if (yield && ++*spins >= 64) {
		*spins = 0;
		sched_yield();
	} else {
		bench_pause();
	}
}

ALWAYS_INLINE void rw_stamp(unsigned char *msg, unsigned elem, uint64_t v)
{
	memcpy(msg, &v, sizeof(v));
	memcpy(msg + elem - sizeof(v), &v, sizeof(v));
}

ALWAYS_INLINE uint64_t rw_check(const unsigned char *msg, unsigned elem)
{
	uint64_t first, last;

	memcpy(&first, msg, sizeof(first));
	memcpy(&last, msg + elem - sizeof(last), sizeof(last));
	if (__builtin_expect(first != last, 0))
		bench_die("torn message");
	return first;
}

ALWAYS_INLINE void *rw_port(void *(*make)(void *), void *ring)
{
	return make != NULL ? make(ring) : ring;
}

ALWAYS_INLINE void rw_port_free(const struct ring_case *rc, void *port)
{
	if (rc->port_free != NULL)
		rc->port_free(port);
}

ALWAYS_INLINE void *rw_produce(struct rw_thread *t, rw_push_fn push, unsigned elem, unsigned batch)
{
	static __thread unsigned char buf[RW_MAX_BATCH * RW_MAX_ELEM]
		__attribute__((aligned(BENCH_LINE)));
	struct rw_shared *sh = t->sh;
	const uint64_t mine = sh->per_producer;
	uint64_t seq = 0;
	unsigned spins = 0;
	void *port;

	bench_pin(t->cpu);
	memset(buf, 0x5a, sizeof(buf));
	port = rw_port(t->rc->producer_port, sh->ring);
	rw_gate(sh);
	while (seq < mine && !rw_stopped(sh)) {
		const unsigned want = mine - seq < batch ? (unsigned)(mine - seq) : batch;
		unsigned done = 0;

		for (unsigned i = 0; i < want; i++)
			rw_stamp(buf + i * elem, elem, (uint64_t)t->id << 56 | (seq + i));
		while (done < want) {
			const unsigned k = batch == 1 ? push(port, buf, 1)
						      : push(port, buf + done * elem, want - done);

			if (k == 0) {
				if (rw_stopped(sh))
					goto out;
				rw_wait(sh->yield, &spins);
			}
			done += k;
		}
		seq += want;
	}
out:
	rw_port_free(t->rc, port);
	return NULL;
}

/* All messages have come, as far as the consumers have said: each says so before it asks. */
ALWAYS_INLINE bool rw_all_came(struct rw_shared *sh, unsigned id, uint64_t got, uint64_t total)
{
	uint64_t sum = 0;

	__atomic_store_n(&sh->consumer[id].got, got, __ATOMIC_RELAXED);
	for (int i = 0; i < sh->consumers; i++)
		sum += __atomic_load_n(&sh->consumer[i].got, __ATOMIC_RELAXED);
	return sum >= total;
}

ALWAYS_INLINE void *rw_consume(struct rw_thread *t, rw_pop_fn pop, unsigned elem, unsigned batch)
{
	static __thread unsigned char buf[RW_MAX_BATCH * RW_MAX_ELEM]
		__attribute__((aligned(BENCH_LINE)));
	struct rw_shared *sh = t->sh;
	const bool alone = sh->consumers == 1;
	const uint64_t total = sh->per_producer * (unsigned)sh->producers;
	uint64_t next[RW_MAX_SIDE] = { 0 }, got = 0, warm = 0;
	unsigned spins = 0;
	void *port;

	bench_pin(t->cpu);
	memset(buf, 0, sizeof(buf));
	port = rw_port(t->rc->consumer_port, sh->ring);
	rw_gate(sh);
	t->begin = bench_now_ns();
	while (got < total && !rw_stopped(sh)) {
		const unsigned k = pop(port, buf, batch);

		if (k == 0) {
			if (!alone && rw_all_came(sh, t->id, got, total))
				break;
			rw_wait(sh->yield, &spins);
			continue;
		}
		for (unsigned i = 0; i < k; i++) {
			const uint64_t v = rw_check(buf + i * elem, elem);
			const uint64_t seq = v & 0xffffffffffffff;
			const unsigned id = (unsigned)(v >> 56);

			if (__builtin_expect(id >= RW_MAX_SIDE ||
						     (alone ? seq != next[id] : seq < next[id]),
					     0))
				bench_die("message out of order");
			next[id] = seq + 1;
		}
		got += k;
		if (alone && warm == 0 && got >= RW_WARM && got < total) {
			warm = got;
			t->begin = bench_now_ns();
		}
	}
	t->end = bench_now_ns();
	t->moved = got - warm;
	__atomic_store_n(&sh->consumer[t->id].got, got, __ATOMIC_RELAXED);
	__atomic_store_n(&sh->stop, 1, __ATOMIC_RELAXED);
	rw_port_free(t->rc, port);
	return NULL;
}

ALWAYS_INLINE void rw_send1(void *port, rw_push_fn push, const void *msg, bool yield)
{
	unsigned spins = 0;

	while (push(port, msg, 1) == 0)
		rw_wait(yield, &spins);
}

ALWAYS_INLINE void rw_recv1(void *port, rw_pop_fn pop, void *msg, bool yield)
{
	unsigned spins = 0;

	while (pop(port, msg, 1) == 0)
		rw_wait(yield, &spins);
}

ALWAYS_INLINE void *rw_bounce(struct rw_thread *t, rw_push_fn push, rw_pop_fn pop, unsigned elem,
			      bool first)
{
	unsigned char msg[RW_MAX_ELEM] __attribute__((aligned(BENCH_LINE)));
	const bool yield = t->sh->yield;
	const unsigned warm = bench_smoke ? 0 : RW_WARM, pings = warm + bench_pings;
	void *tx, *rx;

	bench_pin(t->cpu);
	memset(msg, 0, sizeof(msg));
	tx = rw_port(t->rc->producer_port, first ? t->sh->ring : t->back);
	rx = rw_port(t->rc->consumer_port, first ? t->back : t->sh->ring);
	rw_gate(t->sh);
	for (unsigned i = 0; i < pings; i++) {
		uint64_t sent;

		if (!first) {
			rw_recv1(rx, pop, msg, yield);
			rw_send1(tx, push, msg, yield);
			continue;
		}
		sent = bench_ticks();
		rw_stamp(msg, elem, i);
		rw_send1(tx, push, msg, yield);
		rw_recv1(rx, pop, msg, yield);
		if (i >= warm)
			t->ticks[i - warm] = (uint32_t)(bench_ticks() - sent);
		if (rw_check(msg, elem) != i)
			bench_die("ping-pong lost a message");
	}
	rw_port_free(t->rc, tx);
	rw_port_free(t->rc, rx);
	return NULL;
}

/* Thread bodies of one combination of message size, batch, push and pop. */
#define RING_BODIES(ID, ELEM, BATCH, PUSH, POP)                                                    \
	static void *ID##_##ELEM##_##BATCH##_prod(void *t)                                         \
	{                                                                                          \
		return rw_produce((struct rw_thread *)t, PUSH(ELEM), ELEM, BATCH);                 \
	}                                                                                          \
	static void *ID##_##ELEM##_##BATCH##_cons(void *t)                                         \
	{                                                                                          \
		return rw_consume((struct rw_thread *)t, POP(ELEM), ELEM, BATCH);                  \
	}                                                                                          \
	static void *ID##_##ELEM##_##BATCH##_ping(void *t)                                         \
	{                                                                                          \
		return rw_bounce((struct rw_thread *)t, PUSH(ELEM), POP(ELEM), ELEM, true);        \
	}                                                                                          \
	static void *ID##_##ELEM##_##BATCH##_pong(void *t)                                         \
	{                                                                                          \
		return rw_bounce((struct rw_thread *)t, PUSH(ELEM), POP(ELEM), ELEM, false);       \
	}
#define RING_BODIES_B1(ID, PUSH, POP)                                                              \
	RING_BODIES(ID, 64, 1, PUSH, POP)                                                          \
	RING_BODIES(ID, 256, 1, PUSH, POP)                                                         \
	RING_BODIES(ID, 2048, 1, PUSH, POP)
#define RING_BODIES_B32(ID, PUSH, POP)                                                             \
	RING_BODIES(ID, 64, 32, PUSH, POP)                                                         \
	RING_BODIES(ID, 256, 32, PUSH, POP)                                                        \
	RING_BODIES(ID, 2048, 32, PUSH, POP)

/* The same as rows of a table; PORTS: producer_port, consumer_port, port_free of a size. */
#define RING_CASE_SIZE(ID, VARIANT, ELEM, SIZE, BATCH, OPEN, CLOSE, PORTS)                         \
	{                                                                                          \
		VARIANT, ELEM, SIZE, BATCH, OPEN(SIZE), CLOSE(SIZE), PORTS(SIZE),                  \
			ID##_##ELEM##_##BATCH##_prod, ID##_##ELEM##_##BATCH##_cons,                \
			ID##_##ELEM##_##BATCH##_ping, ID##_##ELEM##_##BATCH##_pong                 \
	}
#define RING_CASE(ID, V, ELEM, BATCH, OPEN, CLOSE, PORTS)                                          \
	RING_CASE_SIZE(ID, V, ELEM, ELEM, BATCH, OPEN, CLOSE, PORTS)
#define RING_CASES_B1(ID, V, OPEN, CLOSE, PORTS)                                                   \
	RING_CASE(ID, V, 64, 1, OPEN, CLOSE, PORTS), RING_CASE(ID, V, 256, 1, OPEN, CLOSE, PORTS), \
		RING_CASE(ID, V, 2048, 1, OPEN, CLOSE, PORTS)
#define RING_CASES_B32(ID, V, OPEN, CLOSE, PORTS)                                                  \
	RING_CASE(ID, V, 64, 32, OPEN, CLOSE, PORTS),                                              \
		RING_CASE(ID, V, 256, 32, OPEN, CLOSE, PORTS),                                     \
		RING_CASE(ID, V, 2048, 32, OPEN, CLOSE, PORTS)
#define RING_CASES(ID, V, OPEN, CLOSE, PORTS)                                                      \
	RING_CASES_B1(ID, V, OPEN, CLOSE, PORTS), RING_CASES_B32(ID, V, OPEN, CLOSE, PORTS)
#define NO_PORTS(SIZE) NULL, NULL, NULL

ALWAYS_INLINE void rw_start(pthread_t *tid, void *(*body)(void *), struct rw_thread *t)
{
	if (pthread_create(tid, NULL, body, t) != 0)
		bench_die("pthread_create");
}

/* One run; messages per second. */
static double rw_transfer(const struct ring_case *rc, const struct rw_placement *p, bool yield,
			  uint64_t total, unsigned cap_ms)
{
	const int threads = p->producers + p->consumers;
	struct rw_thread th[2 * RW_MAX_SIDE];
	pthread_t tid[2 * RW_MAX_SIDE];
	struct rw_shared sh;
	struct timespec cap; /* the run ends here even if not all have come */
	uint64_t begin = UINT64_MAX, end = 0, moved = 0;

	memset(&sh, 0, sizeof(sh));
	memset(th, 0, sizeof(th));
	sh.ring = rc->open();
	sh.per_producer = total / (unsigned)p->producers;
	sh.producers = p->producers;
	sh.consumers = p->consumers;
	sh.yield = yield;
	sh.gate = threads;
	for (int i = 0; i < threads; i++) {
		const bool produces = i < p->producers;

		th[i].sh = &sh;
		th[i].rc = rc;
		th[i].cpu = p->cpu[i];
		th[i].id = (unsigned)(produces ? i : i - p->producers);
		rw_start(&tid[i], produces ? rc->producer : rc->consumer, &th[i]);
	}
	clock_gettime(CLOCK_REALTIME, &cap);
	cap.tv_sec += cap_ms / 1000;
	cap.tv_nsec += cap_ms % 1000 * 1000000;
	if (cap.tv_nsec >= 1000000000) {
		cap.tv_sec++;
		cap.tv_nsec -= 1000000000;
	}
	for (int i = 0; i < threads; i++) {
		if (pthread_timedjoin_np(tid[i], NULL, &cap) == 0)
			continue;
		__atomic_store_n(&sh.stop, 1, __ATOMIC_RELAXED);
		pthread_join(tid[i], NULL);
	}
	rc->close(sh.ring);
	for (int i = p->producers; i < threads; i++) {
		begin = th[i].begin < begin ? th[i].begin : begin;
		end = th[i].end > end ? th[i].end : end;
		moved += th[i].moved;
	}
	return (double)moved * 1e9 / (double)(end - begin);
}

static void rw_run_throughput(const char *peer, const char *group, const struct ring_case *rc,
			      const struct rw_placement *p)
{
	const bool crowded = p->producers + p->consumers > 2;
	const bool yield = crowded || bench_smoke;
	const unsigned cap_ms = bench_smoke ? 20 : 3 * bench_run_ms;
	const struct bench_case c = { peer,     rc->variant,
				      group,    crowded ? "spin64+yield" : "spin",
				      p->text,  rc->size,
				      rc->batch };
	double rates[BENCH_RUNS], rate, n = RW_WARM + BENCH_SLOTS;

	if (!bench_smoke) {
		/* A short run says how many messages fill the time. */
		BENCH_NEAR(rate = rw_transfer(rc, p, yield, 20000, cap_ms));
		n = rate * bench_run_ms * 1e-3;
		n = n < 20000 ? 20000 : n;
	}
	for (int i = 0; i < bench_runs; i++)
		BENCH_NEAR(rates[i] = rw_transfer(rc, p, yield, (uint64_t)n, cap_ms) * 1e-6);
	bench_emit(&c, "rate", "Mmsg/s", rates);
}

static uint32_t rw_ticks[BENCH_PINGS]; /* of one run */

static void rw_pingpong_run(const struct ring_case *rc)
{
	struct rw_thread th[2];
	struct rw_shared sh;
	pthread_t tid[2];
	void *back = rc->open();

	memset(&sh, 0, sizeof(sh));
	memset(th, 0, sizeof(th));
	sh.ring = rc->open();
	sh.yield = bench_smoke;
	sh.gate = 2;
	for (int i = 0; i < 2; i++) {
		th[i].sh = &sh;
		th[i].rc = rc;
		th[i].cpu = i;
		th[i].back = back;
		th[i].ticks = rw_ticks;
		rw_start(&tid[i], i == 0 ? rc->ping : rc->pong, &th[i]);
	}
	pthread_join(tid[0], NULL);
	pthread_join(tid[1], NULL);
	rc->close(sh.ring);
	rc->close(back);
}

static void rw_run_pingpong(const char *peer, const char *group, const struct ring_case *rc)
{
	const struct bench_case c = { peer, rc->variant, group, "spin", "0<->1", rc->size, 1 };
	struct bench_latency l;

	for (int r = 0; r < bench_runs; r++) {
		BENCH_NEAR(rw_pingpong_run(rc));
		bench_note_latency(&l, r, rw_ticks, bench_pings);
	}
	bench_emit_latency(&c, &l);
}

/*
 * Run the cases as `group`: "spsc", "mpsc", "mpmc" or "pingpong", whatever stands before it
 * ("descriptor_spsc").
 */
static void rw_run(const char *group, const char *peer, const struct ring_case *rc, size_t n)
{
	/* Producers that share a core leave the consumer its own; or one shares the consumer's. */
	static const struct rw_placement places[] = {
		{ "spsc", "p0|c1", 1, 1, { 0, 1 } },
		{ "mpsc", "p0p0|c1", 2, 1, { 0, 0, 1 } },
		{ "mpsc", "p0|p1c1", 2, 1, { 0, 1, 1 } },
		{ "mpmc", "p0p0|c1c1", 2, 2, { 0, 0, 1, 1 } },
		{ "mpmc", "p0c0|p1c1", 2, 2, { 0, 1, 0, 1 } },
	};

	for (size_t i = 0; i < n && bench_wants(group); i++) {
		if (strstr(group, "pingpong") != NULL && rc[i].batch == 1)
			rw_run_pingpong(peer, group, &rc[i]);
		for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++)
			if (strstr(group, places[k].name) != NULL)
				rw_run_throughput(peer, group, &rc[i], &places[k]);
	}
}

#define RW_RUN(GROUP, PEER, CASES) rw_run(GROUP, PEER, CASES, sizeof(CASES) / sizeof((CASES)[0]))

#endif /* BENCH_RING_WORKLOAD_H */
