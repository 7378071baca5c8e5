/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_reference.c - not peers, but what is attainable: the bare flag, and two textbook rings.
 *
 *   flag         one cache line bounced between the cores, two time stamps a round trip
 *   cached-idx   SPSC; each side keeps a copy of the other's index and reads it again only when the
 *                copy says full or empty
 *   slot-seq     MPSC; every slot has a sequence word, so a producer that is preempted delays the
 *                consumer and no other producer
 */
#include "ring_workload.h"

struct spsc {
	_Alignas(BENCH_LINE) uint64_t tail; /* next to write; the producer stores it */
	uint64_t head_seen;                 /* the producer's copy of head */
	_Alignas(BENCH_LINE) uint64_t head; /* next to read; the consumer stores it */
	uint64_t tail_seen;                 /* the consumer's copy of tail */
	_Alignas(BENCH_LINE) unsigned char slots[];
};

ALWAYS_INLINE unsigned ci_push(void *p, const void *src, unsigned n, unsigned size)
{
	struct spsc *r = p;
	const uint64_t tail = r->tail;
	const unsigned want = n, at = tail & (BENCH_SLOTS - 1);
	unsigned first;

	if (tail + n - r->head_seen > BENCH_SLOTS) {
		/* Pairs with the consumer's release: the slots it freed are no longer read. */
		r->head_seen = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE);
		if (tail + n - r->head_seen > BENCH_SLOTS)
			n = (unsigned)(BENCH_SLOTS - (tail - r->head_seen));
		if (n == 0)
			return 0;
	}
	first = want == 1 ? 1 : BENCH_SLOTS - at > n ? n : BENCH_SLOTS - at;
	memcpy(r->slots + (size_t)at * size, src, (size_t)first * size);
	if (want > 1 && n > first)
		memcpy(r->slots, (const char *)src + (size_t)first * size,
		       (size_t)(n - first) * size);
	__atomic_store_n(&r->tail, tail + n, __ATOMIC_RELEASE);
	return n;
}

ALWAYS_INLINE unsigned ci_pop(void *p, void *dst, unsigned n, unsigned size)
{
	struct spsc *r = p;
	const uint64_t head = r->head;
	const unsigned want = n, at = head & (BENCH_SLOTS - 1);
	unsigned first;

	if (r->tail_seen - head < n) {
		/* Pairs with the producer's release: the payload is visible below tail. */
		r->tail_seen = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
		if (r->tail_seen - head < n)
			n = (unsigned)(r->tail_seen - head);
		if (n == 0)
			return 0;
	}
	first = want == 1 ? 1 : BENCH_SLOTS - at > n ? n : BENCH_SLOTS - at;
	memcpy(dst, r->slots + (size_t)at * size, (size_t)first * size);
	if (want > 1 && n > first)
		memcpy((char *)dst + (size_t)first * size, r->slots, (size_t)(n - first) * size);
	__atomic_store_n(&r->head, head + n, __ATOMIC_RELEASE);
	return n;
}

static void *ci_open(size_t size)
{
	const size_t bytes = sizeof(struct spsc) + BENCH_SLOTS * size;

	return memset(aligned_alloc(BENCH_LINE, bytes), 0, bytes);
}

/* A slot is a line with the sequence, then the payload. */
struct mpsc {
	_Alignas(BENCH_LINE) uint64_t tail; /* next ticket; producers swap it */
	_Alignas(BENCH_LINE) uint64_t head; /* the consumer's own */
	_Alignas(BENCH_LINE) unsigned char slots[];
};

/* == position: free; == position + 1: full */
ALWAYS_INLINE uint64_t *sq_slot(struct mpsc *r, uint64_t pos, unsigned size)
{
	return (uint64_t *)(void *)(r->slots + (pos & (BENCH_SLOTS - 1)) * (size + BENCH_LINE));
}

ALWAYS_INLINE unsigned sq_push(void *p, const void *src, unsigned n, unsigned size)
{
	struct mpsc *r = p;
	uint64_t pos = __atomic_load_n(&r->tail, __ATOMIC_RELAXED);

	for (;;) {
		/* Slots become free in order: when the last one is, all n are. Acquire pairs with
		 * the consumer's release of that slot. */
		const uint64_t last = pos + n - 1;
		const uint64_t seq = __atomic_load_n(sq_slot(r, last, size), __ATOMIC_ACQUIRE);

		if (seq == last) {
			if (__atomic_compare_exchange_n(&r->tail, &pos, pos + n, true,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
				break;
		} else if ((int64_t)(seq - last) < 0) {
			if (n == 1)
				return 0;
			n /= 2;
		} else {
			pos = __atomic_load_n(&r->tail, __ATOMIC_RELAXED);
		}
	}
	for (unsigned i = 0; i < n; i++) {
		uint64_t *slot = sq_slot(r, pos + i, size);

		memcpy((char *)slot + BENCH_LINE, (const char *)src + (size_t)i * size, size);
		__atomic_store_n(slot, pos + i + 1, __ATOMIC_RELEASE);
	}
	return n;
}

ALWAYS_INLINE unsigned sq_pop(void *p, void *dst, unsigned n, unsigned size)
{
	struct mpsc *r = p;
	unsigned i;

	for (i = 0; i < n; i++) {
		uint64_t *slot = sq_slot(r, r->head, size);

		if (__atomic_load_n(slot, __ATOMIC_ACQUIRE) != r->head + 1)
			break;
		memcpy((char *)dst + (size_t)i * size, (char *)slot + BENCH_LINE, size);
		__atomic_store_n(slot, r->head + BENCH_SLOTS, __ATOMIC_RELEASE);
		r->head++;
	}
	return i;
}

static void *sq_open(unsigned size)
{
	const size_t bytes = sizeof(struct mpsc) + (size_t)BENCH_SLOTS * (size + BENCH_LINE);
	struct mpsc *r = memset(aligned_alloc(BENCH_LINE, bytes), 0, bytes);

	for (uint64_t i = 0; i < BENCH_SLOTS; i++)
		*sq_slot(r, i, size) = i;
	return r;
}

#define REFERENCE(ID, SIZE)                                                                        \
	ALWAYS_INLINE unsigned ID##_push_##SIZE(void *r, const void *src, unsigned n)              \
	{                                                                                          \
		return ID##_push(r, src, n, SIZE);                                                 \
	}                                                                                          \
	ALWAYS_INLINE unsigned ID##_pop_##SIZE(void *r, void *dst, unsigned n)                     \
	{                                                                                          \
		return ID##_pop(r, dst, n, SIZE);                                                  \
	}                                                                                          \
	static void *ID##_open_##SIZE(void)                                                        \
	{                                                                                          \
		return ID##_open(SIZE);                                                            \
	}
REFERENCE(ci, 64)
REFERENCE(ci, 256)
REFERENCE(ci, 2048)
REFERENCE(sq, 64)
REFERENCE(sq, 256)
REFERENCE(sq, 2048)

#define CI_PUSH(SIZE) ci_push_##SIZE
#define CI_POP(SIZE)  ci_pop_##SIZE
#define CI_OPEN(SIZE) ci_open_##SIZE
#define SQ_PUSH(SIZE) sq_push_##SIZE
#define SQ_POP(SIZE)  sq_pop_##SIZE
#define SQ_OPEN(SIZE) sq_open_##SIZE
#define CLOSE(SIZE)   free

RING_BODIES_B1(ci, CI_PUSH, CI_POP)
RING_BODIES_B32(ci, CI_PUSH, CI_POP)
RING_BODIES_B1(sq, SQ_PUSH, SQ_POP)
RING_BODIES_B32(sq, SQ_PUSH, SQ_POP)

static const struct ring_case ci[] = { RING_CASES(ci, "cached-idx", CI_OPEN, CLOSE, NO_PORTS) };
static const struct ring_case sq[] = { RING_CASES(sq, "slot-seq", SQ_OPEN, CLOSE, NO_PORTS) };

static void run_flag(void)
{
	const struct bench_case c = { "reference", "flag",     "pingpong", "spin",
				      "0<->1",     BENCH_LINE, 1 };
	struct bench_latency l;

	for (int r = 0; r < bench_runs; r++) {
		BENCH_NEAR(bench_flag_bounce(rw_ticks, bench_pings));
		bench_note_latency(&l, r, rw_ticks, bench_pings);
	}
	bench_emit_latency(&c, &l);
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	RW_RUN("spsc", "reference", ci);
	RW_RUN("spsc", "reference", sq);
	RW_RUN("mpsc", "reference", sq);
	if (bench_wants("pingpong"))
		run_flag();
	RW_RUN("pingpong", "reference", ci);
	RW_RUN("pingpong", "reference", sq);
	return 0;
}
