/* SPDX-License-Identifier: Apache-2.0 */
/* test_balance.c - which service takes a request, by each of the eight algorithms. */
#include "policy_test.h"

#include "broker/policy/balance.h"

static const struct gq_balance_request any = { 0 };

static void make(struct gq_balance *b, enum gq_balance_algorithm algorithm, uint32_t services)
{
	const struct gq_balance_config config = { .algorithm = algorithm,
						  .inner = GQ_BALANCE_ROUND_ROBIN };

	assert_int_equal(gq__balance_init(b, &config), GQ_BALANCE_OK);
	for (uint32_t i = 0; i < services; i++)
		assert_int_equal(gq__balance_join(b, i, 1, 128, 0), GQ_BALANCE_OK);
}

static uint32_t pick(struct gq_balance *b, uint64_t now, uint64_t *random)
{
	uint32_t place = GQ_PLACES;

	assert_int_equal(gq__balance_pick(b, &any, now, random, &place), GQ_BALANCE_OK);
	return place;
}

/* A request that is over at once. */
static uint32_t visit(struct gq_balance *b, uint64_t *random)
{
	const uint32_t place = pick(b, 0, random);

	gq__balance_done(b, place, 0, 0);
	return place;
}

static void lb_1_round_robin_neither_skips_nor_repeats(void **state)
{
	uint64_t random = SEED;

	(void)state;
	for (uint32_t n = 1; n <= 100; n += 9) {
		struct gq_balance b;
		uint32_t counts[100] = { 0 };

		make(&b, GQ_BALANCE_ROUND_ROBIN, n);
		for (uint32_t k = 0; k < 5 * n / 2; k++) {
			counts[visit(&b, &random)]++;
			for (uint32_t i = 0; i < n; i++)
				assert_in_range(counts[i] + 1 - counts[0] + 1, 1, 2);
		}
	}
}

/* 0 to 9 stay. Others stand between them from the beginning, leave before and behind the cursor,
 * and come again at the end. */
static void come_and_go(struct gq_balance *b, uint64_t *random)
{
	const uint32_t place = 10 + (uint32_t)gq_random_below(random, 30);

	if (gq_random_below(random, 3) == 0)
		gq__balance_leave(b, place);
	else if (gq_random_below(random, 3) == 0 && !gq_places_has(&b->joined, place))
		gq__balance_join(b, place, 1, 128, 0);
}

static void lb_1_round_robin_holds_while_others_come_and_go(void **state)
{
	uint64_t random = SEED;

	(void)state;
	for (int round = 0; round < 300; round++) {
		uint32_t counts[40] = { 0 };
		struct gq_balance b;

		make(&b, GQ_BALANCE_ROUND_ROBIN, 0);
		for (uint32_t i = 0; i < 10; i++) {
			gq__balance_join(&b, 10 + i, 1, 128, 0);
			gq__balance_join(&b, i, 1, 128, 0);
		}
		for (int k = 0; k < 300; k++) {
			come_and_go(&b, &random);
			counts[visit(&b, &random)]++;
			/* One behind the first at most, so one behind each other. */
			for (uint32_t i = 1; i < 10; i++)
				assert_in_range(counts[i] + 1 - counts[0] + 1, 1, 2);
		}
		assert_true(counts[0] > 5);
	}
}

static void lb_2_smooth_weights_interleave(void **state)
{
	static const uint32_t expected[] = { 0, 0, 1, 0, 2, 0, 0 };
	struct gq_balance b;
	uint64_t random = SEED;

	(void)state;
	make(&b, GQ_BALANCE_WEIGHTED, 0);
	gq__balance_join(&b, 0, 5, 0, 0);
	gq__balance_join(&b, 1, 1, 0, 0);
	gq__balance_join(&b, 2, 1, 0, 0);
	for (int i = 0; i < 70; i++)
		assert_int_equal(visit(&b, &random), expected[i % 7]);
	make(&b, GQ_BALANCE_WEIGHTED, 5); /* equal weights: plain round robin */
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(visit(&b, &random), i % 5);
	assert_int_equal(gq__balance_join(&b, 7, 0, 0, 0), GQ_BALANCE_WEIGHT);
	assert_int_equal(gq__balance_join(&b, 7, 1001, 0, 0), GQ_BALANCE_WEIGHT);
	assert_int_equal(gq__balance_join(&b, GQ_PLACES, 1, 0, 0), GQ_BALANCE_PLACE);
}

/* As it is defined: whatever the sets, and whoever comes and goes. */
static void lb_2_each_choice_is_the_plain_algorithm_s(void **state)
{
	int64_t credit[GQ_PLACES] = { 0 };
	struct gq_balance b;
	uint64_t random = SEED;

	(void)state;
	make(&b, GQ_BALANCE_WEIGHTED, 0);
	for (int k = 0; k < 20000; k++) {
		struct gq_places can = { { UINT64_MAX, UINT64_MAX } };
		const struct gq_balance_request request = { .can = &can };
		const uint32_t moving = (uint32_t)gq_random_below(&random, GQ_PLACES);
		uint32_t best = GQ_PLACES, out;
		int64_t sum = 0;

		if (k % 8 == 2) { /* one joins, or joins again with another weight */
			gq__balance_join(&b, moving, 1 + (uint32_t)gq_random_below(&random, 1000),
					 0, 0);
			credit[moving] = 0;
		}
		if (k % 32 == 31)
			gq__balance_leave(&b, moving);
		if (k % 4 == 0)
			can = (struct gq_places){ { gq_random(&random), gq_random(&random) } };
		for (uint32_t i = 0; i < GQ_PLACES; i++) {
			if (!gq_places_has(&b.joined, i) || !gq_places_has(&can, i))
				continue;
			credit[i] += b.members[i].weight;
			sum += b.members[i].weight;
			if (best == GQ_PLACES || credit[i] > credit[best])
				best = i;
		}
		if (gq__balance_pick(&b, &request, 0, &random, &out) != GQ_BALANCE_OK) {
			assert_int_equal(best, GQ_PLACES);
			continue;
		}
		assert_int_equal(out, best);
		credit[best] -= sum;
	}
}

/* The most loaded service by the mean load, over time: 16 services, 128 requests on the way. */
static double imbalance(enum gq_balance_algorithm algorithm)
{
	enum { SERVICES = 16, ON_THE_WAY = 128, REQUESTS = 100000 };
	const struct gq_balance_config config = { .algorithm = algorithm, .scan = 1 };
	static uint32_t at[ON_THE_WAY];
	struct gq_balance b;
	uint64_t random = SEED;
	double sum = 0;

	gq__balance_init(&b, &config);
	for (uint32_t i = 0; i < SERVICES; i++)
		gq__balance_join(&b, i, 1, 0, 0);
	for (uint32_t i = 0; i < ON_THE_WAY; i++)
		at[i] = pick(&b, 0, &random);
	for (int i = 0; i < REQUESTS; i++) {
		const uint64_t n = gq_random_below(&random, ON_THE_WAY);
		uint32_t most = 0;

		gq__balance_done(&b, at[n], 0, 0);
		at[n] = pick(&b, 0, &random);
		for (uint32_t s = 0; s < SERVICES; s++)
			most = b.members[s].active > most ? b.members[s].active : most;
		sum += most;
	}
	return sum * (double)SERVICES / ((double)REQUESTS * (double)ON_THE_WAY);
}

static void lb_3_the_better_of_two_is_much_better_than_any(void **state)
{
	const double two = imbalance(GQ_BALANCE_LEAST_CONNECTIONS);
	const double any_one = imbalance(GQ_BALANCE_RANDOM);

	(void)state;
	print_message("two %.3f, random %.3f\n", two, any_one);
	assert_true(two < 1.3);
	assert_true(any_one > 1.6);
}

static void ties_go_round(void **state)
{
	static const enum gq_balance_algorithm algorithms[] = {
		GQ_BALANCE_LEAST_CONNECTIONS,
		GQ_BALANCE_LEAST_RESPONSE,
		GQ_BALANCE_LOAD,
	};
	uint64_t random = SEED;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct gq_balance b;
		uint32_t counts[4] = { 0 };

		make(&b, algorithms[i], 4);
		for (int k = 0; k < 40; k++)
			counts[visit(&b, &random)]++;
		for (int k = 0; k < 4; k++)
			assert_int_equal(counts[k], 10);
	}
}

static void least_connections_are_by_weight(void **state)
{
	struct gq_balance b;
	uint64_t random = SEED;

	(void)state;
	make(&b, GQ_BALANCE_LEAST_CONNECTIONS, 0);
	gq__balance_join(&b, 3, 3, 0, 0);
	gq__balance_join(&b, 90, 1, 0, 0);
	for (int i = 0; i < 400; i++)
		pick(&b, 0, &random);
	assert_in_range(b.members[3].active, 299, 301);
	assert_in_range(b.members[90].active, 99, 101);
}

/* Services with these service times, each as many at once as wish; 16 requests always on the way.
 */
static void lb_4_a_slow_service_gets_little(void **state)
{
	static const uint64_t takes[] = { 10 * MS, MS, MS, MS };
	struct gq_balance b;
	uint64_t random = SEED;
	uint64_t ends[16] = { 0 };
	uint64_t began[16] = { 0 };
	uint32_t at[16];
	uint32_t counts[4] = { 0 };
	uint32_t total = 0;

	(void)state;
	make(&b, GQ_BALANCE_LEAST_RESPONSE, 4);
	for (int i = 0; i < 16; i++) {
		at[i] = pick(&b, 0, &random);
		ends[i] = takes[at[i]];
	}
	for (uint64_t now = 0; now < 3 * S; now += 100 * US) {
		for (int i = 0; i < 16; i++) {
			if (ends[i] > now)
				continue;
			gq__balance_done(&b, at[i], now - began[i] + 1, now);
			at[i] = pick(&b, now, &random);
			began[i] = now;
			ends[i] = now + takes[at[i]];
			counts[at[i]] += now > S;
			total += now > S;
		}
	}
	assert_true(total > 1000);
	assert_true(counts[0] * 10 < total);
}

static void lb_4_a_new_service_gets_one_request_to_try(void **state)
{
	struct gq_balance b;
	uint64_t random = SEED;

	(void)state;
	make(&b, GQ_BALANCE_LEAST_RESPONSE, 3);
	for (uint32_t i = 0; i < 3; i++) {
		gq__balance_take(&b, i);
		gq__balance_done(&b, i, 10 * MS, S);
	}
	gq__balance_join(&b, 3, 1, 128, 0);
	for (int i = 0; i < 12; i++)
		pick(&b, S, &random);
	assert_int_equal(b.members[3].active, 1);
}

static void lb_5_old_reports_lose_their_say(void **state)
{
	struct gq_balance b;
	uint64_t random = SEED;
	uint64_t now = 1000 * S;

	(void)state;
	make(&b, GQ_BALANCE_LOAD, 2);
	gq__balance_report(&b, 0, 100, 1000, now); /* light, and heavier than that */
	gq__balance_report(&b, 1, 400, 1000, now);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pick(&b, now + 15 * S, &random), 0);
	gq__balance_report(&b, 1, 400, 1000, now + 15 * S);
	/* Older than three heartbeats it counts as 0.5, which is more than 0.4. */
	for (int i = 0; i < 4; i++)
		assert_int_equal(pick(&b, now + 15 * S + 1, &random), 1);
	/* Older than three minutes it is left out, though the other is heavy, and not before. */
	gq__balance_report(&b, 1, 1000, 0, now + 180 * S);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pick(&b, now + 180 * S, &random), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pick(&b, now + 180 * S + 1, &random), 1);
	/* Both: the fewest requests on the way. */
	make(&b, GQ_BALANCE_LOAD, 2);
	gq__balance_report(&b, 0, 0, 1000, now);
	for (int i = 0; i < 10; i++)
		pick(&b, now + 300 * S, &random);
	assert_int_equal(b.members[0].active, 5);
}

static void lb_6_one_latency_does_not_outweigh_a_full_cpu(void **state)
{
	struct gq_balance b;
	uint64_t random = SEED;

	(void)state;
	make(&b, GQ_BALANCE_LOAD, 2);
	gq__balance_report(&b, 0, 100, 1000, S);
	gq__balance_report(&b, 1, 950, 1000, S);
	for (uint32_t i = 0; i < 2; i++) {
		gq__balance_take(&b, i);
		gq__balance_done(&b, i, i == 0 ? 60 * S : 60 * MS, S);
	}
	for (int i = 0; i < 100; i++)
		assert_int_equal(pick(&b, S, &random), 0);
}

/* Of `all` members of the first tier, so many are well. */
static double first_tier(uint32_t all, uint32_t well, double *third)
{
	struct gq_balance b;
	uint64_t random = SEED;
	uint32_t counts[3] = { 0 };

	make(&b, GQ_BALANCE_PRIORITY, 0);
	for (uint32_t i = 0; i < all; i++) {
		gq__balance_join(&b, i, 1, 200, 0);
		gq__balance_set(&b, i, i < well ? GQ_BALANCE_WELL : GQ_BALANCE_SICK);
	}
	gq__balance_join(&b, 101, 1, 100, 0);
	gq__balance_join(&b, 102, 1, 100, 0);
	gq__balance_set(&b, 102, GQ_BALANCE_SICK); /* half of the second tier: 70 % */
	gq__balance_join(&b, 103, 1, 0, 0);
	for (int i = 0; i < 100000; i++) {
		const uint32_t place = visit(&b, &random);

		counts[place < 100 ? 0 : place == 103 ? 2 : 1]++;
	}
	*third = counts[2] / 1e5;
	return counts[0] / 1e5;
}

static void lb_7_a_tier_spills_as_the_table_says(void **state)
{
	static const struct {
		uint32_t well; /* of 100 */
		double first;
		double third;
	} rows[] = {
		{ 100, 1, 0 },  { 72, 1, 0 },       { 71, 0.994, 0 },
		{ 50, 0.7, 0 }, { 20, 0.28, 0.02 }, { 0, 0, 0.3 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double third;
		const double first = first_tier(100, rows[i].well, &third);

		assert_true(first > rows[i].first - 0.01 && first < rows[i].first + 0.01);
		assert_true(third > rows[i].third - 0.01 && third < rows[i].third + 0.01);
	}
}

static void lb_7_a_tier_without_room_spills_all(void **state)
{
	struct gq_balance b;
	uint64_t random = SEED;

	(void)state;
	make(&b, GQ_BALANCE_PRIORITY, 0);
	gq__balance_join(&b, 0, 1, 200, 2);
	gq__balance_join(&b, 1, 1, 100, 1);
	assert_int_equal(pick(&b, 0, &random), 0);
	assert_int_equal(pick(&b, 0, &random), 0);
	assert_int_equal(pick(&b, 0, &random), 1);
	assert_int_equal(gq__balance_pick(&b, &any, 0, &random, &(uint32_t){ 0 }),
			 GQ_BALANCE_OVERLOADED);
	gq__balance_done(&b, 0, 0, 0);
	assert_int_equal(pick(&b, 0, &random), 0);
}

static void lb_8_panic_takes_the_sick_and_never_the_barred(void **state)
{
	for (int panic = 0; panic < 2; panic++) {
		const struct gq_balance_config config = { .panic = panic != 0 };
		struct gq_balance b;
		uint64_t random = SEED;
		uint32_t counts[5] = { 0 };
		uint32_t out = 77;

		(void)state;
		gq__balance_init(&b, &config);
		for (uint32_t i = 0; i < 5; i++)
			gq__balance_join(&b, i, 1, 0, 0);
		gq__balance_set(&b, 0, GQ_BALANCE_SICK);
		gq__balance_set(&b, 1, GQ_BALANCE_BARRED);
		for (int i = 0; i < 30; i++)
			counts[visit(&b, &random)]++;
		assert_int_equal(counts[0], 0); /* 3 of 5: no panic */
		gq__balance_set(&b, 2, GQ_BALANCE_SICK);
		for (int i = 0; i < 30; i++)
			counts[visit(&b, &random)]++;
		assert_int_equal(counts[0] != 0, panic); /* 2 of 5 */
		for (uint32_t i = 2; i < 5; i++)
			gq__balance_set(&b, i, GQ_BALANCE_BARRED);
		assert_int_equal(gq__balance_pick(&b, &any, 0, &random, &out),
				 panic ? GQ_BALANCE_OK : GQ_BALANCE_UNAVAILABLE);
		assert_int_equal(out, panic ? 0 : 77);
		assert_int_equal(counts[1], 0);
	}
}

static void no_match_is_not_overload(void **state)
{
	const struct gq_places can = { { 0xff00, 0 } };
	const struct gq_balance_request request = { .can = &can };
	struct gq_balance b;
	uint64_t random = SEED;
	uint32_t out;

	(void)state;
	make(&b, GQ_BALANCE_CAPABILITY, 8);
	assert_int_equal(gq__balance_pick(&b, &request, 0, &random, &out), GQ_BALANCE_NOT_FOUND);
	gq__balance_join(&b, 9, 1, 0, 1);
	assert_int_equal(gq__balance_pick(&b, &request, 0, &random, &out), GQ_BALANCE_OK);
	assert_int_equal(out, 9);
	assert_int_equal(gq__balance_pick(&b, &request, 0, &random, &out), GQ_BALANCE_OVERLOADED);
	assert_int_equal(gq__balance_take(&b, 9), GQ_BALANCE_OVERLOADED);
	assert_int_equal(gq__balance_take(&b, 10), GQ_BALANCE_PLACE);
	gq__balance_done(&b, 9, 0, 0);
	assert_int_equal(gq__balance_take(&b, 9), GQ_BALANCE_OK);
}

static void the_tightest_fit_is_taken(void **state)
{
	struct gq_balance b;
	struct gq_capability has[3];
	struct gq_capability want;
	uint64_t surplus[GQ_PLACES] = { 0 };
	struct gq_balance_request request = { .surplus = surplus };
	uint64_t random = SEED;
	uint32_t out;

	(void)state;
	make(&b, GQ_BALANCE_CAPABILITY, 3);
	gq__capability_parse("dims=1..8192 batch=1000", 23, &has[0], NULL);
	gq__capability_parse("dims=768 batch=64", 17, &has[1], NULL);
	gq__capability_parse("dims=768 batch=64", 17, &has[2], NULL);
	gq__capability_parse("dims=768 batch=10", 17, &want, NULL);
	for (int i = 0; i < 3; i++)
		surplus[i] = gq__capability_surplus(&has[i], &want);
	for (uint32_t i = 0; i < 6; i++) { /* the inner round robin between the two */
		assert_int_equal(gq__balance_pick(&b, &request, 0, &random, &out), GQ_BALANCE_OK);
		assert_int_equal(out, 1 + i % 2);
	}
}

static void a_retry_avoids_who_failed_it(void **state)
{
	struct gq_places avoid = { { 1, 0 } };
	const struct gq_balance_request request = { .avoid = &avoid };
	uint64_t random = SEED;
	uint32_t out;

	(void)state;
	for (int a = 0; a < GQ_BALANCE_ALGORITHMS; a++) {
		struct gq_balance b;

		make(&b, (enum gq_balance_algorithm)a, 2);
		for (int i = 0; i < 10; i++) {
			assert_int_equal(gq__balance_pick(&b, &request, 0, &random, &out),
					 GQ_BALANCE_OK);
			assert_int_equal(out, 1);
		}
		gq__balance_leave(&b, 1); /* rather the same than nobody */
		assert_int_equal(gq__balance_pick(&b, &request, 0, &random, &out), GQ_BALANCE_OK);
	}
}

static void random_is_even_and_names_are_found(void **state)
{
	struct gq_balance b;
	struct gq_balance_config bad = { .inner = GQ_BALANCE_PRIORITY };
	uint64_t random = SEED;
	uint32_t counts[100] = { 0 };

	(void)state;
	make(&b, GQ_BALANCE_RANDOM, 100);
	for (int i = 0; i < 100000; i++)
		counts[visit(&b, &random)]++;
	for (int i = 0; i < 100; i++)
		assert_in_range(counts[i], 800, 1200);
	assert_int_equal(gq__balance_named("least_conn"), GQ_BALANCE_LEAST_CONNECTIONS);
	assert_int_equal(gq__balance_named("best"), GQ_BALANCE_ALGORITHMS);
	assert_int_equal(gq__balance_init(&b, &bad), GQ_BALANCE_CONFIG);
}

/* Every algorithm, at random: it chooses none that it must not, and counts what is on the way. */
static void every_algorithm_respects_the_sets(void **state)
{
	uint64_t random = SEED;

	(void)state;
	for (int round = 0; round < 4000; round++) {
		const struct gq_balance_config config = {
			.algorithm = (enum gq_balance_algorithm)(round % GQ_BALANCE_ALGORITHMS),
			.inner = GQ_BALANCE_LEAST_RESPONSE,
		};
		struct gq_balance b;
		struct gq_places can = { { gq_random(&random), gq_random(&random) } };
		const struct gq_balance_request request = { .can = &can };
		enum gq_balance_status status;
		uint32_t out;

		gq__balance_init(&b, &config);
		for (uint32_t i = 0; i < gq_random_below(&random, 130); i++) {
			const uint32_t place = (uint32_t)gq_random_below(&random, GQ_PLACES);

			gq__balance_join(&b, place, 1, (uint8_t)gq_random_below(&random, 3), 1);
			gq__balance_set(&b, place,
					(enum gq_balance_state)gq_random_below(&random, 3));
			if (gq_random_below(&random, 4) == 0)
				gq__balance_take(&b, place);
		}
		for (int i = 0; i < 3; i++) {
			status = gq__balance_pick(&b, &request, 1, &random, &out);
			if (status != GQ_BALANCE_OK)
				break;
			assert_true(gq_places_has(&b.well, out) && gq_places_has(&can, out));
			assert_true(gq_places_has(&b.full, out));
			assert_int_equal(b.members[out].active, 1);
		}
	}
}

/* Who has more than it may is full until it has ended so many, and others get what comes. */
static void a_limit_that_falls_takes_nothing_back(void **state)
{
	for (int algorithm = 0; algorithm < GQ_BALANCE_ALGORITHMS; algorithm++) {
		uint64_t random = SEED;
		struct gq_balance b;

		(void)state;
		make(&b, (enum gq_balance_algorithm)algorithm, 2);
		gq__balance_limit(&b, 0, 8);
		for (int i = 0; i < 8; i++)
			assert_int_equal(gq__balance_take(&b, 0), GQ_BALANCE_OK);
		assert_true(gq_places_has(&b.full, 0));
		gq__balance_limit(&b, 0, 3);
		assert_int_equal(b.members[0].active, 8);
		for (uint32_t left = 7; left >= 3; left--) {
			gq__balance_done(&b, 0, MS, 0);
			assert_int_equal(b.members[0].active, left);
			assert_true(gq_places_has(&b.full, 0));
			assert_int_equal(visit(&b, &random), 1);
		}
		gq__balance_done(&b, 0, MS, 0);
		assert_false(gq_places_has(&b.full, 0));
		assert_int_equal(gq__balance_take(&b, 0), GQ_BALANCE_OK);
		assert_int_equal(gq__balance_take(&b, 0), GQ_BALANCE_OVERLOADED);
		gq__balance_limit(&b, 0, 4); /* it rises: there is room at once */
		assert_int_equal(gq__balance_take(&b, 0), GQ_BALANCE_OK);
		gq__balance_limit(&b, 0, 0);
		assert_false(gq_places_has(&b.full, 0));
		gq__balance_limit(&b, 2, 1); /* no member */
		assert_false(gq_places_has(&b.full, 2));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lb_1_round_robin_neither_skips_nor_repeats),
		cmocka_unit_test(lb_1_round_robin_holds_while_others_come_and_go),
		cmocka_unit_test(lb_2_smooth_weights_interleave),
		cmocka_unit_test(lb_2_each_choice_is_the_plain_algorithm_s),
		cmocka_unit_test(lb_3_the_better_of_two_is_much_better_than_any),
		cmocka_unit_test(ties_go_round),
		cmocka_unit_test(least_connections_are_by_weight),
		cmocka_unit_test(lb_4_a_slow_service_gets_little),
		cmocka_unit_test(lb_4_a_new_service_gets_one_request_to_try),
		cmocka_unit_test(lb_5_old_reports_lose_their_say),
		cmocka_unit_test(lb_6_one_latency_does_not_outweigh_a_full_cpu),
		cmocka_unit_test(lb_7_a_tier_spills_as_the_table_says),
		cmocka_unit_test(lb_7_a_tier_without_room_spills_all),
		cmocka_unit_test(lb_8_panic_takes_the_sick_and_never_the_barred),
		cmocka_unit_test(no_match_is_not_overload),
		cmocka_unit_test(the_tightest_fit_is_taken),
		cmocka_unit_test(a_retry_avoids_who_failed_it),
		cmocka_unit_test(random_is_even_and_names_are_found),
		cmocka_unit_test(every_algorithm_respects_the_sets),
		cmocka_unit_test(a_limit_that_falls_takes_nothing_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
