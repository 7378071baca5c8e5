/* SPDX-License-Identifier: Apache-2.0 */
/* peer_ck.c - Concurrency Kit's ck_ring. One message a call; it has no batches. */
#include "ring_workload.h"

#include <ck_ring.h>

struct box {
	ck_ring_t ring __attribute__((aligned(BENCH_LINE)));
	unsigned char *slots;
};

static void *box_open(size_t size)
{
	struct box *b = aligned_alloc(BENCH_LINE, sizeof(*b));

	b->slots = aligned_alloc(BENCH_LINE, BENCH_SLOTS * size);
	memset(b->slots, 0, BENCH_SLOTS * size);
	ck_ring_init(&b->ring, BENCH_SLOTS);
	return b;
}

static void box_close(void *p)
{
	struct box *b = p;

	free(b->slots);
	free(b);
}

#define CK_PUSH(MODE, SIZE)                                                                        \
	ALWAYS_INLINE unsigned MODE##_push_##SIZE(void *p, const void *src, unsigned n)            \
	{                                                                                          \
		struct box *b = p;                                                                 \
                                                                                                   \
		(void)n;                                                                           \
		return ck_ring_enqueue_##MODE##_msg##SIZE(&b->ring, (void *)b->slots,              \
							  (struct msg##SIZE *)(uintptr_t)src);     \
	}
#define CK_POP(MODE, SIZE)                                                                         \
	ALWAYS_INLINE unsigned MODE##_pop_##SIZE(void *p, void *dst, unsigned n)                   \
	{                                                                                          \
		struct box *b = p;                                                                 \
                                                                                                   \
		(void)n;                                                                           \
		return ck_ring_dequeue_##MODE##_msg##SIZE(&b->ring, (void *)b->slots, dst);        \
	}
#define CK_SIZE(SIZE)                                                                              \
	struct msg##SIZE {                                                                         \
		unsigned char bytes[SIZE];                                                         \
	};                                                                                         \
	CK_RING_PROTOTYPE(msg##SIZE, msg##SIZE)                                                    \
	CK_PUSH(spsc, SIZE)                                                                        \
	CK_PUSH(mpsc, SIZE)                                                                        \
	CK_PUSH(mpmc, SIZE)                                                                        \
	CK_POP(spsc, SIZE)                                                                         \
	CK_POP(mpmc, SIZE)                                                                         \
	static void *open_##SIZE(void)                                                             \
	{                                                                                          \
		return box_open(SIZE);                                                             \
	}

CK_SIZE(64)
CK_SIZE(256)
CK_SIZE(2048)

#define OPEN(SIZE)      open_##SIZE
#define CLOSE(SIZE)     box_close
#define SPSC_PUSH(SIZE) spsc_push_##SIZE
#define MPSC_PUSH(SIZE) mpsc_push_##SIZE
#define MPMC_PUSH(SIZE) mpmc_push_##SIZE
#define SPSC_POP(SIZE)  spsc_pop_##SIZE
#define MPMC_POP(SIZE)  mpmc_pop_##SIZE

RING_BODIES_B1(spsc, SPSC_PUSH, SPSC_POP)
RING_BODIES_B1(mpsc, MPSC_PUSH, SPSC_POP)
RING_BODIES_B1(mpmc, MPMC_PUSH, MPMC_POP)

static const struct ring_case spsc[] = { RING_CASES_B1(spsc, "", OPEN, CLOSE, NO_PORTS) };
static const struct ring_case mpsc[] = { RING_CASES_B1(mpsc, "", OPEN, CLOSE, NO_PORTS) };
static const struct ring_case mpmc[] = { RING_CASES_B1(mpmc, "", OPEN, CLOSE, NO_PORTS) };

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	RW_RUN("spsc", "ck_ring", spsc);
	RW_RUN("mpsc", "ck_ring", mpsc);
	RW_RUN("mpmc", "ck_ring", mpmc);
	RW_RUN("pingpong", "ck_ring", spsc);
	return 0;
}
