/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_dpdk.c - DPDK's rte_ring with the messages as its elements.
 *
 *   ""              rte_ring_*_elem(): the library copies, four to 32 bytes at a time
 *   zc, hts-zc      rte_ring_*_zc_*(): reserve, memcpy() into the ring, commit
 *   mt, rts, hts    the three protocols of many producers (and, in mpmc, many consumers)
 *
 * Without the EAL: the ring is in plain memory, set up by rte_ring_init().
 */
#define ALLOW_EXPERIMENTAL_API
#include "ring_workload.h"

#include <rte_config.h>

#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_ring_peek_zc.h>

static void *open_ring(unsigned size, unsigned flags)
{
	const ssize_t bytes = rte_ring_get_memsize_elem(size, BENCH_SLOTS);
	struct rte_ring *r = aligned_alloc(128, ((size_t)bytes + 127) & ~(size_t)127);

	memset(r, 0, (size_t)bytes);
	if (rte_ring_init(r, "peer", BENCH_SLOTS, flags) != 0)
		bench_die("rte_ring_init");
	return r;
}

/* With one message a call its length is a constant. */
ALWAYS_INLINE void zc_in(const struct rte_ring_zc_data *z, const unsigned char *src, unsigned size,
			 unsigned n)
{
	const unsigned n1 = n < z->n1 ? n : z->n1;

	memcpy(z->ptr1, src, (size_t)n1 * size);
	if (n > n1)
		memcpy(z->ptr2, src + (size_t)n1 * size, (size_t)(n - n1) * size);
}

ALWAYS_INLINE void zc_out(const struct rte_ring_zc_data *z, unsigned char *dst, unsigned size,
			  unsigned n)
{
	const unsigned n1 = n < z->n1 ? n : z->n1;

	memcpy(dst, z->ptr1, (size_t)n1 * size);
	if (n > n1)
		memcpy(dst + (size_t)n1 * size, z->ptr2, (size_t)(n - n1) * size);
}

#define DPDK_PUSH(MODE, SIZE)                                                                      \
	ALWAYS_INLINE unsigned MODE##_push_##SIZE(void *r, const void *src, unsigned n)            \
	{                                                                                          \
		return rte_ring_##MODE##_enqueue_burst_elem(r, src, SIZE, n, NULL);                \
	}
#define DPDK_POP(MODE, SIZE)                                                                       \
	ALWAYS_INLINE unsigned MODE##_pop_##SIZE(void *r, void *dst, unsigned n)                   \
	{                                                                                          \
		return rte_ring_##MODE##_dequeue_burst_elem(r, dst, SIZE, n, NULL);                \
	}
#define DPDK_OPEN(MODE, SIZE, FLAGS)                                                               \
	static void *MODE##_open_##SIZE(void)                                                      \
	{                                                                                          \
		return open_ring(SIZE, FLAGS);                                                     \
	}
#define DPDK_SIZE(SIZE)                                                                            \
	DPDK_PUSH(sp, SIZE)                                                                        \
	DPDK_PUSH(mp, SIZE)                                                                        \
	DPDK_PUSH(mp_rts, SIZE)                                                                    \
	DPDK_PUSH(mp_hts, SIZE)                                                                    \
	DPDK_POP(sc, SIZE)                                                                         \
	DPDK_POP(mc, SIZE)                                                                         \
	DPDK_POP(mc_rts, SIZE)                                                                     \
	DPDK_POP(mc_hts, SIZE)                                                                     \
	DPDK_OPEN(spsc, SIZE, RING_F_SP_ENQ | RING_F_SC_DEQ)                                       \
	DPDK_OPEN(mt, SIZE, RING_F_SC_DEQ)                                                         \
	DPDK_OPEN(rts, SIZE, RING_F_MP_RTS_ENQ | RING_F_SC_DEQ)                                    \
	DPDK_OPEN(hts, SIZE, RING_F_MP_HTS_ENQ | RING_F_SC_DEQ)                                    \
	DPDK_OPEN(mpmc_mt, SIZE, 0)                                                                \
	DPDK_OPEN(mpmc_rts, SIZE, RING_F_MP_RTS_ENQ | RING_F_MC_RTS_DEQ)                           \
	DPDK_OPEN(mpmc_hts, SIZE, RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ)                           \
	ALWAYS_INLINE unsigned zc_push_##SIZE(void *r, const void *src, unsigned n)                \
	{                                                                                          \
		struct rte_ring_zc_data z;                                                         \
		unsigned k = rte_ring_enqueue_zc_burst_elem_start(r, SIZE, n, &z, NULL);           \
                                                                                                   \
		if (k != 0) {                                                                      \
			zc_in(&z, src, SIZE, n == 1 ? 1 : k);                                      \
			rte_ring_enqueue_zc_elem_finish(r, k);                                     \
		}                                                                                  \
		return k;                                                                          \
	}                                                                                          \
	ALWAYS_INLINE unsigned zc_pop_##SIZE(void *r, void *dst, unsigned n)                       \
	{                                                                                          \
		struct rte_ring_zc_data z;                                                         \
		unsigned k = rte_ring_dequeue_zc_burst_elem_start(r, SIZE, n, &z, NULL);           \
                                                                                                   \
		if (k != 0) {                                                                      \
			zc_out(&z, dst, SIZE, n == 1 ? 1 : k);                                     \
			rte_ring_dequeue_zc_elem_finish(r, k);                                     \
		}                                                                                  \
		return k;                                                                          \
	}

DPDK_SIZE(64)
DPDK_SIZE(256)
DPDK_SIZE(2048)

#define SP(SIZE)       sp_push_##SIZE
#define MP(SIZE)       mp_push_##SIZE
#define MP_RTS(SIZE)   mp_rts_push_##SIZE
#define MP_HTS(SIZE)   mp_hts_push_##SIZE
#define ZC(SIZE)       zc_push_##SIZE
#define SC(SIZE)       sc_pop_##SIZE
#define MC(SIZE)       mc_pop_##SIZE
#define MC_RTS(SIZE)   mc_rts_pop_##SIZE
#define MC_HTS(SIZE)   mc_hts_pop_##SIZE
#define ZC_OUT(SIZE)   zc_pop_##SIZE
#define SPSC(SIZE)     spsc_open_##SIZE
#define MT(SIZE)       mt_open_##SIZE
#define RTS(SIZE)      rts_open_##SIZE
#define HTS(SIZE)      hts_open_##SIZE
#define MPMC_MT(SIZE)  mpmc_mt_open_##SIZE
#define MPMC_RTS(SIZE) mpmc_rts_open_##SIZE
#define MPMC_HTS(SIZE) mpmc_hts_open_##SIZE
#define CLOSE(SIZE)    free

#define BODIES(ID, PUSH, POP)                                                                      \
	RING_BODIES_B1(ID, PUSH, POP)                                                              \
	RING_BODIES_B32(ID, PUSH, POP)

BODIES(spsc, SP, SC)
BODIES(zc, ZC, ZC_OUT)
BODIES(mt, MP, SC)
BODIES(rts, MP_RTS, SC)
BODIES(hts, MP_HTS, SC)
BODIES(mpmc_mt, MP, MC)
BODIES(mpmc_rts, MP_RTS, MC_RTS)
BODIES(mpmc_hts, MP_HTS, MC_HTS)

static const struct ring_case spsc[] = { RING_CASES(spsc, "", SPSC, CLOSE, NO_PORTS),
					 RING_CASES(zc, "zc", SPSC, CLOSE, NO_PORTS) };
static const struct ring_case mpsc[] = { RING_CASES(mt, "mt", MT, CLOSE, NO_PORTS),
					 RING_CASES(rts, "rts", RTS, CLOSE, NO_PORTS),
					 RING_CASES(hts, "hts", HTS, CLOSE, NO_PORTS),
					 RING_CASES(zc, "hts-zc", HTS, CLOSE, NO_PORTS) };
static const struct ring_case mpmc[] = { RING_CASES(mpmc_mt, "mt", MPMC_MT, CLOSE, NO_PORTS),
					 RING_CASES(mpmc_rts, "rts", MPMC_RTS, CLOSE, NO_PORTS),
					 RING_CASES(mpmc_hts, "hts", MPMC_HTS, CLOSE, NO_PORTS),
					 RING_CASES(zc, "hts-zc", MPMC_HTS, CLOSE, NO_PORTS) };

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	RW_RUN("spsc", "rte_ring", spsc);
	RW_RUN("mpsc", "rte_ring", mpsc);
	RW_RUN("mpmc", "rte_ring", mpmc);
	RW_RUN("pingpong", "rte_ring", spsc);
	return 0;
}
