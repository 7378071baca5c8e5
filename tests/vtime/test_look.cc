/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_look.cc - one look of one unit, by the grid's own source: what it claims, for whom, and what
 * it tells the others. Each case sets up rings and runs, looks once and reads the counters.
 */
#include <cstdio>
#include <cstring>

static unsigned long clock_now;

#define GQ_STANDIN
#define GQ_BLOCK_THREADS        128
#define gq_standin_shared()     nullptr
#define gq_standin_barrier()    ((void)0)
#define gq_standin_block()      0u
#define gq_standin_blocks()     1u
#define gq_standin_thread()     0u
#define gq_standin_threads()    32u
#define gq_standin_clock_ns()   clock_now
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
static struct gq_journal journal[GQ_OWN];
static struct gq_shared shared;
static bool look_now;
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
	clock_now = 1;
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

static uint32_t waits(void)
{
	return counters.waits & ((1u << GQ_CLASSES) - 1);
}

/* Behind gq_look_at_runs(). */
static bool try_feed(uint32_t c)
{
	return gq_try_feed(&g, &shared, &u, 0, &look, c, &look_now);
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
}

/* The copies that the next run would overwrite are still read, or a claim of them stands still. */
static void what_a_unit_takes_itself_needs_no_copies_that_others_hold(void)
{
	begin(4, 0);
	publish(1, 0, 3);
	counters.held[1][0] = 1;
	counters.near[1][0][0] = 77;
	counters.waits = 1u << 1;
	g.batch = 1;
	g.feeders = 1;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1) && look_now); /* it claims nothing for others, and looks */
	CHECK(__func__, counters.run[1][0] == gq_run_first(0, 0));
	counters.waits = 1u << 3;
	CHECK(__func__, look_and_claim() == 1);
	CHECK(__func__, slot[0] == 0);
	CHECK(__func__, counters.run[1][0] == gq_run_of(0, 1, 1));
	CHECK(__func__, counters.held[1][0] == 1 && counters.near[1][0][0] == 77);
	CHECK(__func__, counters.waits == 1u << 1);
	CHECK(__func__, look_and_claim() == 1); /* the next word's copies are free */
	CHECK(__func__, counters.run[1][1] == gq_run_of(1, 2, 1));
	CHECK(__func__, counters.held[1][1] == 1);
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

/* ---- feeding ---- */

/* Entries up to the end of the last wanted one's line cost no read more. */
static void no_more_is_read_for_others_than_can_be_claimed()
{
	CHECK(__func__, gq_meal_of(0, 6) == 16);
	CHECK(__func__, gq_meal_of(5, 6) == 11);
	CHECK(__func__, gq_meal_of(5, 12) == 27);
	CHECK(__func__, gq_meal_of(0, 416) == GQ_FED);
	CHECK(__func__, gq_meal_of(7, 416) == GQ_FED - 1); /* an even entry comes before it */

	begin(6, 0);
	g.feeders = 1;
	publish(1, 0, 40);
	counters.waits = 1u << 1;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[1][0] == gq_run_of(0, 6, 0));
	CHECK(__func__, waits() == 1u << 1); /* there is more */
	CHECK(__func__, counters.feeding[1][0] == 0);
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[1][1] == gq_run_of(6, 3, 0)); /* one and a half of `feed` */
	CHECK(__func__, waits() == 1u << 1);
	gq_look_at_runs(&g, &look); /* as much as may be is left: the unit only says what waits */
	counters.waits = 0;
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[1][2] == gq_run_first(0, 2));
}

/* One that has been at it for so long stands still. The others go on without it. */
static void who_stands_still_loses_its_place_to_feed()
{
	begin(200, 0);
	g.feeders = 1;
	clock_now = 1000000;
	publish(1, 0, 5);
	counters.waits = 1u << 1;
	counters.feeding[1][0] = clock_now - GQ_FEED_NS;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, !try_feed(1) && counters.run[1][0] == gq_run_first(0, 0));
	clock_now++;
	CHECK(__func__, try_feed(1) && counters.run[1][0] == gq_run_of(0, 5, 0));
	CHECK(__func__, counters.feeding[1][0] == 0);
}

static uint32_t place_of_three(uint64_t a, uint64_t b, uint64_t c, bool *others)
{
	counters.feeding[2][0] = a;
	counters.feeding[2][1] = b;
	counters.feeding[2][2] = c;
	gq_look_at_runs(&g, &look);
	return gq_take_place_to_feed(&g, &look, 2, 3, others);
}

static void a_unit_takes_a_free_place_to_feed_and_knows_whether_others_do()
{
	bool others = false;

	begin(4, 0);
	clock_now = 1000000;
	const uint64_t now = clock_now, late = now - GQ_FEED_NS - 1;

	CHECK(__func__, place_of_three(0, 0, 0, &others) == 0 && !others);
	CHECK(__func__, counters.feeding[2][0] == now);
	CHECK(__func__, place_of_three(0, 0, now - 5, &others) == 0 && others);
	CHECK(__func__, place_of_three(now - 5, 0, 0, &others) == 1 && others);
	CHECK(__func__, place_of_three(late, late, 0, &others) == 0 && !others);
	CHECK(__func__, place_of_three(now - 5, late, now, &others) == 1 && others);
	CHECK(__func__, counters.feeding[2][1] == now);
	CHECK(__func__, place_of_three(now - 5, now, late, &others) == 2 && others);
	/* Another unit's clock is a little ahead. */
	CHECK(__func__, place_of_three(now + 9, now - 5, now, &others) == GQ_FEEDERS);
	/* It was set back while a unit stood still. */
	CHECK(__func__, place_of_three(now - 5, now + GQ_FEED_NS + 1, now, &others) == 1);
	place_of_three(now, now, now, &others);
	counters.feeding[2][1] = 0; /* since the look */
	CHECK(__func__, gq_take_place_to_feed(&g, &look, 2, 3, &others) == GQ_FEEDERS);
	place_of_three(now, 0, now, &others);
	counters.feeding[2][1] = now - 3; /* another unit has come first, since the look */
	CHECK(__func__, gq_take_place_to_feed(&g, &look, 2, 3, &others) == GQ_FEEDERS);
	CHECK(__func__, counters.feeding[2][1] == now - 3);
	/* Of several that were allowed one is still at it, in whichever place. */
	place_of_three(0, now, 0, &others);
	counters.feeding[2][0] = 0;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, gq_take_place_to_feed(&g, &look, 2, 1, &others) == GQ_FEEDERS && others);
	CHECK(__func__, gq_take_place_to_feed(&g, &look, 2, 2, &others) == 0 && others);
}

/* A read of class 1 brings three or four entries of class 3 and one or two of class 2. If it has
 * seen the end of them it goes on with class 1. */
static void the_front_of_a_higher_class_is_claimed_by_a_read_of_a_lower_one()
{
	begin(40, 3);
	g.feeders = 1;
	publish(1, 3, 5);
	publish(3, 3, 2);
	counters.waits = 1u << 1;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[3][0] == gq_run_of(3, 2, 0));
	CHECK(__func__, counters.near[3][0][0] == *gq_word_ring_entry(&g.ch.ready[3], 3));
	CHECK(__func__, counters.near[3][0][1] == *gq_word_ring_entry(&g.ch.ready[3], 4));
	CHECK(__func__, counters.held[3][0] == 2);
	CHECK(__func__, counters.run[1][0] == gq_run_of(3, 5, 0));
	CHECK(__func__, counters.waits == 0);

	publish(1, 8, 2);
	publish(3, 5, 3); /* as many as it can see: there may be more, which come first */
	counters.waits = 1u << 1;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[3][1] == gq_run_of(5, 3, 0));
	CHECK(__func__, counters.near[3][1][2] == *gq_word_ring_entry(&g.ch.ready[3], 7));
	CHECK(__func__, counters.run[1][1] == gq_run_first(3, 1));
	CHECK(__func__, waits() == (1u << 1 | 1u << 3));

	publish(2, 3, 1);
	publish(3, 8, 3); /* its cursor is even now, so it would see a fourth one */
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[3][2] == gq_run_of(8, 3, 0));
	CHECK(__func__, counters.near[3][2][2] == *gq_word_ring_entry(&g.ch.ready[3], 10));
	CHECK(__func__, counters.run[2][0] == gq_run_first(3, 0)); /* which comes next */
	CHECK(__func__, waits() == (1u << 1 | 1u << 2));

	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[2][0] == gq_run_of(3, 1, 0)); /* all it sees of class 2 */
	CHECK(__func__, counters.run[1][1] == gq_run_first(3, 1));
	CHECK(__func__, waits() == (1u << 1 | 1u << 2));

	publish(2, 4, 1);
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[2][1] == gq_run_of(4, 1, 0));
	CHECK(__func__, counters.run[1][1] == gq_run_of(8, 2, 0));
	CHECK(__func__, counters.waits == 0);
}

/* Since the read began. */
static void the_front_of_a_higher_class_may_have_been_claimed_by_others()
{
	struct gq_meal meal;

	begin(40, 0);
	publish(3, 0, 2);
	gq_look_at_runs(&g, &look);
	gq_read_meal(&g, &u, &look, 1, 0, 16, &meal);
	CHECK(__func__, meal.n == 0 && meal.fronts == 1u << 3);
	counters.run[3][0] = gq_run_of(0, 1, 0); /* one of two: the other one comes first */
	CHECK(__func__, !gq_serve_front(&g, &u, &look, &meal, 1, 3, 0));
	counters.run[3][0] = gq_run_of(0, 2, 2);
	CHECK(__func__, gq_serve_front(&g, &u, &look, &meal, 1, 3, 0));
	CHECK(__func__, counters.run[3][1] == gq_run_first(0, 1));
	CHECK(__func__, counters.held[3][0] == 0 && counters.held[3][1] == 0);
}

/* All that the read has seen of it is claimed by others; but behind that there may be more. */
static void a_front_without_an_end_is_next_whoever_has_claimed_it()
{
	struct gq_meal meal;

	begin(40, 0);
	publish(3, 0, 4);
	gq_look_at_runs(&g, &look);
	gq_read_meal(&g, &u, &look, 1, 0, 16, &meal);
	counters.run[3][0] = gq_run_of(0, 4, 0);
	CHECK(__func__, !gq_serve_front(&g, &u, &look, &meal, 1, 3, 0));
}

static void a_read_that_brings_a_pause_claims_nothing()
{
	begin(40, 0);
	g.feeders = 1;
	publish(1, 0, 5);
	publish(3, 0, 1);
	counters.waits = 1u << 1;
	orders.control = GQ_CONTROL_PAUSE;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	orders.control = 0;
	CHECK(__func__, counters.run[3][0] == gq_run_first(0, 0));
	CHECK(__func__, counters.run[1][0] == gq_run_first(0, 0));
	CHECK(__func__, waits() == (1u << 1 | 1u << 3));
}

/* One and a half of `feed` is left at most, and a front counts. */
static void no_more_is_left_with_the_front_of_a_higher_class()
{
	begin(4, 0);
	g.feeders = 1;
	claim_before(1, 0, 0, 5);
	publish(1, 5, 5);
	publish(3, 0, 2);
	counters.waits = 1u << 1;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[3][0] == gq_run_first(0, 0));
	CHECK(__func__, counters.run[1][1] == gq_run_first(0, 1));
	CHECK(__func__, waits() == (1u << 1 | 1u << 3));

	counters.run[1][0] = gq_run_of(0, 5, 2); /* 3 are left, and 2 are the front: room for one */
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.run[3][0] == gq_run_of(0, 2, 0));
	CHECK(__func__, counters.run[1][1] == gq_run_of(5, 1, 0));
}

/* Copies of the front's run are still read: nothing below it is claimed before it. */
static void what_comes_first_and_cannot_be_claimed_is_next()
{
	begin(40, 0);
	g.feeders = 1;
	publish(1, 0, 5);
	publish(2, 0, 1);
	counters.held[2][0] = 1;
	counters.near[2][0][0] = 77;
	counters.waits = 1u << 1;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(1));
	CHECK(__func__, counters.near[2][0][0] == 77);
	CHECK(__func__, counters.run[2][0] == gq_run_first(0, 0));
	CHECK(__func__, counters.run[1][0] == gq_run_first(0, 0));
	CHECK(__func__, waits() == (1u << 1 | 1u << 2));
}

/* Units may feed beside one another when one has found all published that it read, six times. */
static void a_second_unit_feeds_when_one_does_not_keep_up()
{
	begin(200, 0);
	g.feeders = 2;
	for (uint64_t i = 0; i < 7; i++) {
		CHECK(__func__, gq_feeders_of(&g, &look, 1) == (i == 6 ? 2 : 1) || i == 0);
		CHECK(__func__, gq_feeders_of(&g, &look, 2) == 1 || i == 0);
		publish(1, i * GQ_FED, i == 6 ? 5 : GQ_FED);
		counters.waits |= 1u << 1;
		for (uint32_t k = 0; k < GQ_RUNS; k++) /* all that was claimed is taken */
			counters.run[1][k] += gq_run_left(counters.run[1][k]);
		memset(counters.held, 0, sizeof(counters.held));
		gq_look_at_runs(&g, &look);
		CHECK(__func__, try_feed(1));
		gq_look_at_runs(&g, &look);
	}
	CHECK(__func__, gq_feeders_of(&g, &look, 1) == 1); /* the last one has found an end */
}

/* A read of another class says nothing of this one. */
static void a_read_of_another_class_leaves_the_count()
{
	begin(200, 0);
	g.feeders = 2;
	counters.waits = 5u << gq_full_shift(1) | 1u << 3 | 1u << 1;
	publish(3, 0, GQ_FED);
	publish(1, 0, GQ_FED);
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(3));
	CHECK(__func__, (counters.waits >> gq_full_shift(1) & GQ_FULL_MAX) == 5);
	CHECK(__func__, (counters.waits >> gq_full_shift(3) & GQ_FULL_MAX) == 1);
}

/* The last of what waits is claimed: nobody is told that there is more. */
static void the_end_of_what_waits_is_told()
{
	begin(40, 3);
	g.feeders = 1;
	publish(2, 3, 5);
	counters.waits = 1u << 2;
	gq_look_at_runs(&g, &look);
	CHECK(__func__, try_feed(2));
	CHECK(__func__, counters.run[2][0] == gq_run_of(3, 5, 0));
	CHECK(__func__, counters.waits == 0);
}

static void units_that_begin_to_feed_at_once_read_one_behind_the_other(uint64_t start)
{
	uint32_t first = 0, second = 0, third = 0;
	uint64_t a, b, c;

	begin(200, start);
	g.feeders = 3;
	a = gq_place_to_feed(&g, 1, start, false, 200, &first);
	b = gq_place_to_feed(&g, 1, start, true, 200, &second);
	c = gq_place_to_feed(&g, 1, start, true, 200, &third);
	CHECK(__func__, a == start && first >= GQ_FED - 1);
	CHECK(__func__, b == a + first && second == GQ_FED);
	CHECK(__func__, c == b + second && third == GQ_FED);
	/* Where others read may be long claimed, or nobody reads any more. */
	CHECK(__func__, gq_place_to_feed(&g, 1, start + 1000, true, 200, &third) == start + 1000);
	gq_forget_fed(&g, 1, start);
	CHECK(__func__, gq_place_to_feed(&g, 1, start, true, 200, &third) == start);
}

/* ---- what units that nap are told ---- */

static bool is_called(uint64_t flags, uint64_t told_ns, uint64_t depart, uint64_t gone)
{
	counters.control = gq_told_control(flags, told_ns);
	counters.depart = depart;
	counters.gone = gone;
	gq_look_at_runs(&g, &look);
	return gq_is_called(&look, 7);
}

static void a_unit_that_naps_looks_when_it_is_told_to_or_nobody_tells()
{
	begin(4, 0);
	clock_now = 1000000;
	CHECK(__func__, !is_called(0, clock_now - 1000, 6, 6));
	CHECK(__func__, !is_called(0, clock_now - GQ_SILENCE_NS, 6, 6));
	CHECK(__func__, is_called(0, clock_now - GQ_SILENCE_NS - 1, 6, 6));
	CHECK(__func__, is_called(GQ_CONTROL_PAUSE, clock_now, 6, 6));
	CHECK(__func__, is_called(GQ_CONTROL_LEAVE, clock_now, 6, 6));
	CHECK(__func__, is_called(0, clock_now, 7, 6));
	CHECK(__func__, is_called(0, clock_now, 6, 7));
	CHECK(__func__, is_called(0, 0, 6, 6)); /* the grid has just begun */
}

/* Who has no guess leaves one message to the scouts that have, once; two are a backlog. */
static void a_unit_without_a_guess_leaves_a_lone_message_once()
{
	begin(4, 0);
	g.ch.ahead_bytes = 128;
	publish(1, 0, 1);
	gq_look_at_runs(&g, &look);
	gq_take_look(&g, &u, &look);
	CHECK(__func__, look.guess == 0 && gq_may_leave_it(&g, &u, &look));
	u.has_left = true;
	CHECK(__func__, !gq_may_leave_it(&g, &u, &look));
	u.has_left = false;
	g.feed = 0; /* there is no other unit */
	CHECK(__func__, !gq_may_leave_it(&g, &u, &look));
	g.feed = 4;
	look.guess = 1;
	CHECK(__func__, !gq_may_leave_it(&g, &u, &look));
	publish(1, 1, 1);
	gq_take_look(&g, &u, &look);
	look.guess = 0;
	CHECK(__func__, !gq_may_leave_it(&g, &u, &look));
}

/* ---- the journal ---- */

static void a_unit_notes_what_it_has_and_nothing_of_its_last_batch()
{
	begin(4, 0);
	memset(journal, 0, sizeof(journal));
	g.journal = journal;
	g.batch = 16;
	u.number = 1;
	for (uint32_t l = 0; l < GQ_OWN; l++)
		slot[l] = (l + 1) << ORDER | l;
	gq_note_messages(&g, &u, slot, 5);
	for (uint32_t l = 0; l < 5; l++) {
		CHECK(__func__, journal[16 + l].noted == (GQ_NOTED | (l + 1) << ORDER | l));
		CHECK(__func__, journal[16 + l].since_ns == clock_now);
		CHECK(__func__, slot[l] == l);
	}
	CHECK(__func__, journal[15].noted == 0 && journal[21].noted == 0);
	slot[0] = 9 << ORDER;
	gq_note_messages(&g, &u, slot, 1);
	CHECK(__func__, journal[16].noted == (GQ_NOTED | 9 << ORDER));
	for (uint32_t l = 1; l < 5; l++)
		CHECK(__func__, journal[16 + l].noted == 0);
	gq_clear_journal(&g, &u);
	CHECK(__func__, journal[16].noted == 0);
}

int main()
{
	(void)&gpuq_grid; /* the loop itself is not run here */
	a_look_that_claims_nothing_says_what_waits();
	what_a_unit_takes_itself_needs_no_copies_that_others_hold();
	what_is_claimed_of_a_higher_class_comes_before_a_lower_one();
	the_guard_counts_classes_that_are_claimed_and_not_taken();
	who_claims_for_nobody_else_takes_all_that_it_claims(0);
	who_claims_for_nobody_else_takes_all_that_it_claims(5);
	who_claims_for_nobody_else_takes_all_that_it_claims(UINT64_C(0) - 7);
	who_claims_for_nobody_else_takes_all_that_it_claims((UINT64_C(1) << 33) - 3);
	no_more_is_read_for_others_than_can_be_claimed();
	who_stands_still_loses_its_place_to_feed();
	a_unit_takes_a_free_place_to_feed_and_knows_whether_others_do();
	the_front_of_a_higher_class_is_claimed_by_a_read_of_a_lower_one();
	the_front_of_a_higher_class_may_have_been_claimed_by_others();
	a_front_without_an_end_is_next_whoever_has_claimed_it();
	a_read_that_brings_a_pause_claims_nothing();
	no_more_is_left_with_the_front_of_a_higher_class();
	what_comes_first_and_cannot_be_claimed_is_next();
	a_second_unit_feeds_when_one_does_not_keep_up();
	a_read_of_another_class_leaves_the_count();
	the_end_of_what_waits_is_told();
	units_that_begin_to_feed_at_once_read_one_behind_the_other(0);
	units_that_begin_to_feed_at_once_read_one_behind_the_other(5);
	a_unit_that_naps_looks_when_it_is_told_to_or_nobody_tells();
	a_unit_without_a_guess_leaves_a_lone_message_once();
	a_unit_notes_what_it_has_and_nothing_of_its_last_batch();
	return bad != 0;
}
