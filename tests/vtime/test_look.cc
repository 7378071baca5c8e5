/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_look.cc - one look of one unit, by the grid's own source: what it claims, for whom, and what
 * it tells the others. Each case sets up rings and runs, looks once and reads the counters.
 */
#include <cstdio>
#include <cstring>

#define GQ_STANDIN
#define GQ_BLOCK_THREADS        128
#define gq_standin_shared()     nullptr
#define gq_standin_barrier()    ((void)0)
#define gq_standin_block()      0u
#define gq_standin_blocks()     1u
#define gq_standin_thread()     0u
#define gq_standin_threads()    32u
#define gq_standin_clock_ns()   UINT64_C(1)
#define gq_standin_nap(ns)      ((void)(ns))
#define gq_standin_took_whole() ((void)0)
#define gq_standin_took_hint()  ((void)0)
#define gq_standin_took_near()  ((void)0)
#define gq_standin_coin()       true

#include <gpuq/processor.h>

__device__ void process_message(const MsgView &, ResultView *)
{
}

#include "device/cuda/grid/grid.cuh"

enum { ORDER = 6 };

static struct gq_grid g;
static struct gq_counters counters;
static struct gq_orders orders;
static struct gq_unit u;
static struct gq_look look;
static struct gq_ageing ageing;
static uint64_t entries[GQ_CLASSES + 1][1 << ORDER], heads[GQ_CLASSES + 1], tails[GQ_CLASSES + 1];
static uint32_t slot[GQ_OWN];
static int bad;

#define CHECK(name, what)                                                                          \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			printf("%s: not so: %s\n", name, #what);                                   \
			bad++;                                                                     \
		}                                                                                  \
	} while (0)

/* Of a grid that claims up to `feed` messages for others; all positions begin at `start`. */
static void begin(uint32_t feed, uint64_t start)
{
	const uint32_t shift = gq_id_shift(ORDER);

	memset(&counters, 0, sizeof(counters));
	memset(&ageing, 0, sizeof(ageing));
	memset(entries, 0, sizeof(entries));
	u = {};
	g = {};
	g.batch = 32;
	g.feed = feed;
	g.start_pos = start;
	g.counters = &counters;
	g.orders = &orders;
	g.ch.slot_mask = (UINT64_C(1) << shift) - 1;
	g.pool = gq_word_ring_of(entries[GQ_CLASSES], &heads[0], &tails[0], ORDER, shift, 0);
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		g.ch.ready[c] = gq_word_ring_of(entries[c], &heads[c + 1], &tails[c + 1], ORDER,
						shift + GQ_USE_BITS, ORDER);
		for (uint64_t i = 0; i <= g.ch.ready[c].mask; i++)
			*gq_word_ring_entry(&g.ch.ready[c], start + i) = gq_word_ring_tag(
				&g.ch.ready[c], start + i - gq_word_ring_size(&g.ch.ready[c]));
		counters.cursor[c] = start;
		for (uint32_t k = 0; k < GQ_RUNS; k++)
			counters.run[c][k] = gq_run_first(start, k);
	}
}

/* `n` messages of class `c` wait from position `pos` on, in slots 0, 1 ... */
static void publish(uint32_t c, uint64_t pos, uint32_t n)
{
	const struct gq_word_ring *r = &g.ch.ready[c];

	for (uint32_t i = 0; i < n; i++)
		*gq_word_ring_entry(r, pos + i) = gq_word_ring_tag(r, pos + i) | i;
}

/* Run `k` of class `c`: `n` messages that nobody has taken. */
static void claim_before(uint32_t c, uint32_t k, uint64_t pos, uint32_t n)
{
	counters.run[c][k] = gq_run_of(pos, n, 0);
	counters.cursor[c] = pos + n;
}

static uint32_t look_and_claim(void)
{
	uint64_t use = 0;

	gq_look_at_runs(&g, &look);
	gq_take_look(&g, &u, &look);
	return gq_grid_claim(&g, &u, &look, &ageing, slot, &use);
}

/* Units that know of a class that waits look in place of taking. If it no longer waits, and nothing
 * can be claimed, the next look has to be the last in vain. */
static void a_look_that_claims_nothing_says_what_waits(void)
{
	begin(4, 0);
	for (uint32_t k = 0; k < GQ_RUNS; k++)
		claim_before(1, k, 2 * k, 2);
	publish(1, 2 * GQ_RUNS, 1);
	counters.waits = 1u << 3;
	CHECK(__func__, look_and_claim() == 0);
	CHECK(__func__, counters.waits == 1u << 1);

	begin(4, 0); /* the copies that the next run would overwrite are still read */
	publish(1, 0, 3);
	counters.held[1][0] = 1;
	counters.waits = 1u << 3;
	g.batch = 1;
	CHECK(__func__, look_and_claim() == 0);
	CHECK(__func__, counters.waits == 1u << 1);
}

static void what_is_claimed_of_a_higher_class_comes_before_a_lower_one(void)
{
	begin(4, 0);
	claim_before(3, 0, 0, 2);
	publish(0, 0, 1);
	CHECK(__func__, look_and_claim() == 0);
	CHECK(__func__, counters.run[0][0] == gq_run_of(0, 1, 0)); /* claimed for whoever comes */
	CHECK(__func__, gq_run_left(counters.run[3][0]) == 2);
}

static void the_guard_counts_classes_that_are_claimed_and_not_taken(void)
{
	begin(4, 0);
	claim_before(0, 0, 0, 2);
	publish(1, 0, 1);
	ageing.passed[0] = 10;
	CHECK(__func__, look_and_claim() == 1);
	CHECK(__func__, ageing.passed[0] == 11);
}

/* A unit alone, or of a bounded grid, leaves nothing claimed behind. */
static void who_claims_for_nobody_else_takes_all_that_it_claims(uint64_t start)
{
	begin(0, start);
	publish(2, start, 40);
	CHECK(__func__, look_and_claim() == 32);
	for (uint32_t l = 0; l < 32; l++)
		CHECK(__func__, slot[l] == l);
	CHECK(__func__, counters.run[2][0] == gq_run_of(start, 32, 32));
	CHECK(__func__, counters.held[2][0] == 0);
	CHECK(__func__, gq_passed(&g) == 32);

	CHECK(__func__, look_and_claim() == 8);
	for (uint32_t l = 0; l < 8; l++)
		CHECK(__func__, slot[l] == l + 32);
	CHECK(__func__, counters.run[2][1] == gq_run_of(start + 32, 8, 8));
	CHECK(__func__, gq_passed(&g) == 40);
}

int main()
{
	(void)&gpuq_grid; /* the loop itself is not run here */
	a_look_that_claims_nothing_says_what_waits();
	what_is_claimed_of_a_higher_class_comes_before_a_lower_one();
	the_guard_counts_classes_that_are_claimed_and_not_taken();
	who_claims_for_nobody_else_takes_all_that_it_claims(0);
	who_claims_for_nobody_else_takes_all_that_it_claims(5);
	who_claims_for_nobody_else_takes_all_that_it_claims(UINT64_C(0) - 7);
	who_claims_for_nobody_else_takes_all_that_it_claims((UINT64_C(1) << 33) - 3);
	return bad != 0;
}
