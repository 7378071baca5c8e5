/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_gpuq.c - libgpuq's rings, through the same public calls as any application.
 *
 *   single, many   Q_RING_SINGLE, and the default of many senders and many receivers
 *   descriptor_*   the message stays in an immutable region: sent, received, resolved, its first
 *                  and last 8 bytes read, and released; one message a call
 *   submit         `batch` messages of 64 bytes sent, received by the other core and completed
 *                  there, by one call for all that a receive has got, and the completions polled;
 *                  then again
 */
#include "ring_workload.h"

#include <gpuq/ring.h>

#ifndef PEER
#define PEER "gpuq"
#endif

/* Refused for want of room or messages is false; anything else is a fault. */
ALWAYS_INLINE bool moved(QueueStatus status, QueueStatus refused)
{
	if (__builtin_expect(status != Q_OK && status != refused, 0))
		bench_die("status %d: %s", (int)status, q_last_error());
	return status == Q_OK;
}

static void *open_ring(uint32_t size, uint32_t flags)
{
	const RingConfig cfg = { .ring_size = BENCH_SLOTS, .max_msg_size = size, .flags = flags };
	RingQueue *ring;

	moved(q_ring_create(&cfg, NULL, 0, &ring), Q_OK);
	return ring;
}

static void close_ring(void *ring)
{
	q_ring_destroy(ring);
}

/* ---- messages copied in and out -------------------------------------------------------------- */

ALWAYS_INLINE unsigned push_one(void *r, const void *src, unsigned n, unsigned size)
{
	(void)n;
	return moved(q_ring_send(r, src, size, Q_PRIORITY_NORMAL), Q_ERR_FULL);
}

ALWAYS_INLINE unsigned pop_one(void *r, void *dst, unsigned n, unsigned size)
{
	size_t len = size;

	(void)n;
	return moved(q_ring_recv(r, dst, &len), Q_ERR_EMPTY);
}

ALWAYS_INLINE unsigned push_many(void *r, const void *src, unsigned n, unsigned size)
{
	EnqueueItem items[RW_MAX_BATCH];
	size_t sent = 0;

	for (unsigned i = 0; i < n; i++) {
		items[i].data = (const char *)src + (size_t)i * size;
		items[i].len = size;
	}
	moved(q_ring_send_batch(r, items, n, Q_PRIORITY_NORMAL, &sent), Q_ERR_FULL);
	return (unsigned)sent;
}

/* The messages lie side by side in dst, as their sizes are multiples of 8. */
ALWAYS_INLINE unsigned pop_many(void *r, void *dst, unsigned n, unsigned size)
{
	RingMessage messages[RW_MAX_BATCH];
	size_t got = 0;

	moved(q_ring_recv_batch(r, dst, (size_t)n * size, messages, n, &got), Q_ERR_EMPTY);
	return (unsigned)got;
}

#define GPUQ_CALL(NAME, CALL, SIZE, BUFFER)                                                        \
	ALWAYS_INLINE unsigned NAME##_##SIZE(void *r, BUFFER buf, unsigned n)                      \
	{                                                                                          \
		return CALL(r, buf, n, SIZE);                                                      \
	}
#define GPUQ_OPEN(NAME, SIZE, FLAGS)                                                               \
	static void *NAME##_##SIZE(void)                                                           \
	{                                                                                          \
		return open_ring(SIZE, FLAGS);                                                     \
	}
#define GPUQ_SIZE(SIZE)                                                                            \
	GPUQ_CALL(push_one, push_one, SIZE, const void *)                                          \
	GPUQ_CALL(pop_one, pop_one, SIZE, void *)                                                  \
	GPUQ_CALL(push_many, push_many, SIZE, const void *)                                        \
	GPUQ_CALL(pop_many, pop_many, SIZE, void *)                                                \
	GPUQ_OPEN(single, SIZE, Q_RING_SINGLE)                                                     \
	GPUQ_OPEN(many, SIZE, 0)
GPUQ_SIZE(64)
GPUQ_SIZE(256)
GPUQ_SIZE(2048)

#define PUSH_ONE(SIZE)  push_one_##SIZE
#define POP_ONE(SIZE)   pop_one_##SIZE
#define PUSH_MANY(SIZE) push_many_##SIZE
#define POP_MANY(SIZE)  pop_many_##SIZE
#define SINGLE(SIZE)    single_##SIZE
#define MANY(SIZE)      many_##SIZE
#define CLOSE(SIZE)     close_ring

RING_BODIES_B1(copy, PUSH_ONE, POP_ONE)
RING_BODIES_B32(copy, PUSH_MANY, POP_MANY)

static const struct ring_case single[] = { RING_CASES(copy, "single", SINGLE, CLOSE, NO_PORTS) };
static const struct ring_case many[] = { RING_CASES(copy, "many", MANY, CLOSE, NO_PORTS) };

/* ---- descriptors ----------------------------------------------------------------------------- */

enum { DESCRIBED = 16 }; /* messages of each producer that lie in the region, sent in turn */

struct described {
	RingQueue *ring;
	RegionTable *table;
	RegionHandle region;
	uint32_t size;
	unsigned char *base;
	/* The receiver's: how many have come of each producer. */
	uint64_t came[RW_MAX_SIDE] __attribute__((aligned(BENCH_LINE)));
};

static void *open_described(uint32_t size, uint32_t flags)
{
	const size_t bytes = (size_t)RW_MAX_SIDE * DESCRIBED * size;
	struct described *d = aligned_alloc(BENCH_LINE, sizeof(*d));

	memset(d, 0, sizeof(*d));
	d->ring = open_ring(64, flags);
	d->size = size;
	d->base = aligned_alloc(BENCH_LINE, bytes);
	memset(d->base, 0x5a, bytes);
	for (unsigned i = 0; i < RW_MAX_SIDE * DESCRIBED; i++)
		rw_stamp(d->base + (size_t)i * size, size, i);
	moved(q_region_table_create(1, &d->table), Q_OK);
	moved(q_region_register(d->table, d->base, bytes, Q_REGION_IMMUTABLE, &d->region), Q_OK);
	moved(q_ring_bind_regions(d->ring, d->table), Q_OK);
	return d;
}

static void close_described(void *p)
{
	struct described *d = p;

	q_ring_destroy(d->ring);
	q_region_table_destroy(d->table);
	free(d->base);
	free(d);
}

/* The workload's stamp says which message of the region is next; the receiver says it again. */
ALWAYS_INLINE unsigned push_described_8(void *p, const void *src, unsigned n)
{
	struct described *d = p;
	MessageDescriptor descriptor = { .region = d->region, .length = d->size };
	uint64_t v;

	(void)n;
	memcpy(&v, src, sizeof(v));
	descriptor.offset = ((v >> 56) * DESCRIBED + v % DESCRIBED) * d->size;
	return moved(q_ring_send_descriptor(d->ring, &descriptor, Q_PRIORITY_NORMAL), Q_ERR_FULL);
}

ALWAYS_INLINE unsigned pop_described_8(void *p, void *dst, unsigned n)
{
	struct described *d = p;
	const void *at = NULL;
	RingMessage m;
	uint64_t index, id, v;

	(void)n;
	if (!moved(q_ring_recv_typed(d->ring, NULL, 0, &m), Q_ERR_EMPTY))
		return 0;
	moved(q_region_resolve(d->table, &m.descriptor, &at), Q_OK);
	index = rw_check(at, d->size);
	moved(q_region_release(d->table, &m.descriptor), Q_OK);
	id = index / DESCRIBED;
	if (id >= RW_MAX_SIDE || d->came[id] % DESCRIBED != index % DESCRIBED)
		bench_die("descriptor out of order");
	v = id << 56 | d->came[id]++;
	memcpy(dst, &v, sizeof(v));
	return 1;
}

#define GPUQ_DESCRIBED(NAME, SIZE, FLAGS)                                                          \
	static void *NAME##_described_##SIZE(void)                                                 \
	{                                                                                          \
		return open_described(SIZE, FLAGS);                                                \
	}
GPUQ_DESCRIBED(single, 64, Q_RING_SINGLE)
GPUQ_DESCRIBED(single, 2048, Q_RING_SINGLE)
GPUQ_DESCRIBED(single, 65536, Q_RING_SINGLE)
GPUQ_DESCRIBED(many, 64, 0)
GPUQ_DESCRIBED(many, 2048, 0)
GPUQ_DESCRIBED(many, 65536, 0)

#define PUSH_DESCRIBED(ELEM)   push_described_##ELEM
#define POP_DESCRIBED(ELEM)    pop_described_##ELEM
#define SINGLE_DESCRIBED(SIZE) single_described_##SIZE
#define MANY_DESCRIBED(SIZE)   many_described_##SIZE
#define CLOSE_DESCRIBED(SIZE)  close_described

RING_BODIES(described, 8, 1, PUSH_DESCRIBED, POP_DESCRIBED)

#define DESCRIBED_CASE(V, SIZE, OPEN)                                                              \
	RING_CASE_SIZE(described, V, 8, SIZE, 1, OPEN, CLOSE_DESCRIBED, NO_PORTS)
#define DESCRIBED_CASES(V, OPEN)                                                                   \
	DESCRIBED_CASE(V, 64, OPEN), DESCRIBED_CASE(V, 2048, OPEN), DESCRIBED_CASE(V, 65536, OPEN)

static const struct ring_case single_described[] = { DESCRIBED_CASES("single", SINGLE_DESCRIBED) };
static const struct ring_case many_described[] = { DESCRIBED_CASES("many", MANY_DESCRIBED) };

/* ---- submit, complete, poll ------------------------------------------------------------------ */

enum { SUBMIT_BYTES = 64 };

struct submission {
	RingQueue *ring;
	unsigned batch, rounds;
	bool yield;
};

static void complete_all(RingQueue *ring, const RingMessage *messages, size_t n)
{
	RingCompletion completions[RW_MAX_BATCH];

	for (size_t i = 0; i < n; i++)
		completions[i] = (RingCompletion){ .sequence = messages[i].sequence };
	moved(q_ring_complete_batch(ring, completions, n, NULL), Q_OK);
}

/* The other core: receives and completes. */
static void *serve(void *p)
{
	const struct submission *s = p;
	const uint64_t total = (uint64_t)s->rounds * s->batch;
	unsigned char buf[RW_MAX_BATCH * SUBMIT_BYTES];
	RingMessage messages[RW_MAX_BATCH];
	unsigned spins = 0;

	bench_pin(1);
	for (uint64_t done = 0; done < total;) {
		size_t got = 0;

		if (s->batch == 1)
			got = moved(q_ring_recv_typed(s->ring, buf, sizeof(buf), messages),
				    Q_ERR_EMPTY);
		else
			moved(q_ring_recv_batch(s->ring, buf, sizeof(buf), messages, RW_MAX_BATCH,
						&got),
			      Q_ERR_EMPTY);
		if (got == 0)
			rw_wait(s->yield, &spins);
		if (s->batch == 1 && got == 1)
			moved(q_ring_complete(s->ring, messages->sequence, Q_OK, NULL, 0), Q_OK);
		else if (got != 0)
			complete_all(s->ring, messages, got);
		done += got;
	}
	return NULL;
}

static void submit_round(const struct submission *s, unsigned char *buf, uint64_t *sequence)
{
	RingCompletion completions[RW_MAX_BATCH];
	unsigned spins = 0;

	for (unsigned i = 0; i < s->batch; i++)
		rw_stamp(buf + i * SUBMIT_BYTES, SUBMIT_BYTES, *sequence + i);
	if ((s->batch == 1 ? push_one(s->ring, buf, 1, SUBMIT_BYTES)
			   : push_many(s->ring, buf, s->batch, SUBMIT_BYTES)) != s->batch)
		bench_die("no room");
	for (unsigned done = 0; done < s->batch;) {
		size_t got = 0;

		moved(q_ring_poll_completions(s->ring, completions, s->batch - done, &got), Q_OK);
		if (got == 0)
			rw_wait(s->yield, &spins);
		for (size_t i = 0; i < got; i++)
			if (completions[i].sequence != (*sequence)++)
				bench_die("completion out of order");
		done += (unsigned)got;
	}
}

static void submit_once(uint32_t flags, unsigned batch, unsigned rounds, double *rate)
{
	unsigned char buf[RW_MAX_BATCH * SUBMIT_BYTES] __attribute__((aligned(BENCH_LINE)));
	struct submission s = { open_ring(SUBMIT_BYTES, flags), batch, 0, bench_smoke };
	const unsigned warm = rounds / 10;
	uint64_t sequence = 0, begin;
	pthread_t tid;

	s.rounds = rounds + warm;
	memset(buf, 0, sizeof(buf));
	if (pthread_create(&tid, NULL, serve, &s) != 0)
		bench_die("pthread_create");
	for (unsigned i = 0; i < warm; i++)
		submit_round(&s, buf, &sequence);
	begin = bench_now_ns();
	for (unsigned i = 0; i < rounds; i++) {
		const uint64_t sent = bench_ticks();

		submit_round(&s, buf, &sequence);
		rw_ticks[i] = (uint32_t)(bench_ticks() - sent);
	}
	*rate = (double)rounds * batch * 1e3 / (double)(bench_now_ns() - begin);
	pthread_join(tid, NULL);
	close_ring(s.ring);
}

static void run_submit(const char *variant, uint32_t flags, unsigned batch)
{
	const unsigned rounds = batch == 1 ? bench_pings : bench_pings / 10;
	const struct bench_case c = {
		PEER, variant, "submit", "spin", "0<->1", SUBMIT_BYTES, batch
	};
	double rates[BENCH_RUNS];
	struct bench_latency l;

	for (int r = 0; r < bench_runs; r++) {
		BENCH_NEAR(submit_once(flags, batch, rounds, &rates[r]));
		bench_note_latency(&l, r, rw_ticks, rounds);
	}
	bench_emit_latency(&c, &l);
	bench_emit(&c, "rate", "Mmsg/s", rates);
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	RW_RUN("spsc", PEER, single);
	RW_RUN("spsc", PEER, many);
	RW_RUN("mpsc", PEER, many);
	RW_RUN("mpmc", PEER, many);
	RW_RUN("pingpong", PEER, single);
	RW_RUN("pingpong", PEER, many);
	RW_RUN("descriptor_spsc", PEER, single_described);
	RW_RUN("descriptor_spsc", PEER, many_described);
	RW_RUN("descriptor_mpsc", PEER, many_described);
	RW_RUN("descriptor_pingpong", PEER, single_described);
	RW_RUN("descriptor_pingpong", PEER, many_described);
	if (bench_wants("submit")) {
		run_submit("single", Q_RING_SINGLE, 1);
		run_submit("many", 0, 1);
		run_submit("single", Q_RING_SINGLE, 32);
		run_submit("many", 0, 32);
	}
	return 0;
}
