/* SPDX-License-Identifier: Apache-2.0 */
/* way_rte.c - DPDK's rte_ring as a way, for one thread a side and in its mode HTS: see way.h */
#define ALLOW_EXPERIMENTAL_API
#include "way.h"

#include <stdlib.h>
#include <string.h>

#include <rte_config.h>

#include <rte_ring.h>
#include <rte_ring_elem.h>

/* As in bench/ring/peer_dpdk.c without the EAL; of exactly that capacity, like all the others. */
static void *open_rte(uint32_t capacity, unsigned flags)
{
	const ssize_t needed = rte_ring_get_memsize_elem(WAY_BYTES, 2 * capacity);
	const size_t bytes = ((size_t)needed + 127) & ~(size_t)127;
	struct rte_ring *r = needed > 0 ? aligned_alloc(128, bytes) : NULL;

	if (r == NULL)
		bench_die("no memory");
	memset(r, 0, bytes);
	if (rte_ring_init(r, "peer", capacity, flags | RING_F_EXACT_SZ) != 0)
		bench_die("rte_ring_init");
	return r;
}

static void *open_single(uint32_t capacity, unsigned consumers)
{
	(void)consumers;
	return open_rte(capacity, RING_F_SP_ENQ | RING_F_SC_DEQ);
}

static void *open_hts(uint32_t capacity, unsigned consumers)
{
	(void)consumers;
	return open_rte(capacity, RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ);
}

static size_t put_single(void *r, const struct way_message *messages, size_t n)
{
	return rte_ring_sp_enqueue_burst_elem(r, messages, WAY_BYTES, (unsigned)n, NULL);
}

static size_t take_single(void *r, struct way_message *messages, size_t n)
{
	return rte_ring_sc_dequeue_burst_elem(r, messages, WAY_BYTES, (unsigned)n, NULL);
}

static size_t put_hts(void *r, const struct way_message *messages, size_t n)
{
	return rte_ring_mp_hts_enqueue_burst_elem(r, messages, WAY_BYTES, (unsigned)n, NULL);
}

static size_t take_hts(void *r, struct way_message *messages, size_t n)
{
	return rte_ring_mc_hts_dequeue_burst_elem(r, messages, WAY_BYTES, (unsigned)n, NULL);
}

const struct way way_rte_single = { "rte_ring",  "single", true,       false,
				    open_single, free,     put_single, take_single };
const struct way way_rte_hts = {
	"rte_ring", "hts", false, false, open_hts, free, put_hts, take_hts
};
