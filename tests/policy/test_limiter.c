/* SPDX-License-Identifier: Apache-2.0 */
/* test_limiter.c - rates that hold exactly. */
#include "policy_test.h"

#include "broker/policy/limiter.h"

static bool pass(struct gq_limiter *l, uint64_t cost, uint64_t now)
{
	const struct gq_limit limit = { l, cost };
	uint64_t retry;

	return gq__limits_pass(&limit, 1, now, &retry) == 1;
}

static void rl_1_an_endless_stream_passes_the_burst_and_the_rate(void **state)
{
	uint64_t random = SEED;

	(void)state;
	for (int i = 0; i < 20; i++) {
		const uint64_t rate = 1 + gq_random_below(&random, i % 2 ? 100 : 1000000);
		const uint64_t burst = 1 + gq_random_below(&random, 1000);
		const uint64_t start = gq_random(&random) >> 10;
		const uint64_t seconds = 1 + 20000 / rate;
		struct gq_limiter l;
		uint64_t passed = 0;
		uint64_t now = start;

		assert_true(gq__limiter_init(&l, rate, burst));
		while (passed < 200000 && now < start + seconds * S) {
			uint64_t retry = 0;

			if (gq__limiter_peek(&l, 1, now, &retry)) {
				gq__limiter_commit(&l, 1, now);
				passed++;
			} else {
				now += retry;
			}
		}
		if (passed < 200000)
			now = start + seconds * S;
		{
			const double expected =
				(double)burst + (double)rate * (double)(now - start) * 1e-9;

			assert_true((double)passed >= expected - 1 &&
				    (double)passed <= expected + 1);
		}
	}
}

static void rl_2_a_cost_of_n_is_n_requests(void **state)
{
	uint64_t random = SEED;
	struct gq_limiter one;
	struct gq_limiter many;
	uint64_t now = 0;

	(void)state;
	assert_true(gq__limiter_init(&one, 1000, 50));
	assert_true(gq__limiter_init(&many, 1000, 50));
	for (int i = 0; i < 20000; i++) {
		const uint64_t n = 1 + gq_random_below(&random, 20);
		const bool fits = gq__limiter_left(&one, now) >= n;

		assert_int_equal(pass(&many, n, now), fits);
		for (uint64_t k = 0; fits && k < n; k++)
			assert_true(pass(&one, 1, now));
		assert_true(one.arrival == many.arrival);
		now += gq_random_below(&random, 20 * MS);
	}
}

/* A bucket of tokens, in a billionth of one, that is filled by the rate. */
static void rl_3_it_is_a_bucket_of_tokens(void **state)
{
	enum { RATE = 1000, BURST = 20 };
	uint64_t random = SEED;
	uint64_t tokens = BURST * S;
	uint64_t now = 5 * S;
	uint64_t passed = 0;
	struct gq_limiter l;

	(void)state;
	assert_true(gq__limiter_init(&l, RATE, BURST));
	for (int i = 0; i < 1000000; i++) {
		const uint64_t gap = gq_random_below(&random, 3 * MS);
		const uint64_t cost = 1 + gq_random_below(&random, 3);
		const bool fits = (tokens += gap * RATE) >= cost * S;

		now += gap;
		tokens = tokens < BURST * S ? tokens : BURST * S;
		if (pass(&l, cost, now) != (fits && tokens >= cost * S))
			fail_msg("arrival %d", i);
		if (fits) {
			tokens -= cost * S;
			passed++;
		}
	}
	assert_in_range(passed, 100000, 999999);
}

static void rl_4_a_clock_that_steps_back_gives_nothing_away(void **state)
{
	struct gq_limiter l;
	uint64_t random = SEED;
	uint32_t passed = 0;

	(void)state;
	/* To and fro within a second: the burst, and what the rate gives in that second. */
	assert_true(gq__limiter_init(&l, 10, 5));
	for (int i = 0; i < 100000; i++)
		passed += pass(&l, 1, 100 * S - gq_random_below(&random, S));
	assert_in_range(passed, 5, 5 + 10);
	assert_true(gq__limiter_init(&l, 10, 5));
	passed = 0;
	for (uint64_t i = 0; i < 100; i++)
		passed += pass(&l, 1, 100 * S - i * S);
	assert_in_range(passed, 1, 5);
}

static void rl_6_a_retry_after_that_is_obeyed_succeeds(void **state)
{
	uint64_t random = SEED;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct gq_limiter l[3];
		struct gq_limit limits[3];
		uint64_t now = gq_random(&random) >> 8;

		for (int i = 0; i < 3; i++) {
			assert_true(gq__limiter_init(&l[i], 1 + gq_random_below(&random, 1000000),
						     10 + gq_random_below(&random, 50)));
			limits[i].limiter = &l[i];
			limits[i].cost = 1 + gq_random_below(&random, 10);
		}
		for (int i = 0; i < 20; i++) {
			struct gq_limiter before[3];
			uint64_t retry = 0;
			uint64_t after;
			uint32_t which;

			memcpy(before, l, sizeof(l));
			which = gq__limits_pass(limits, 3, now, &retry);
			if (which == 3)
				continue;
			assert_memory_equal(before, l, sizeof(l)); /* all or nothing */
			after = retry;
			assert_false(gq__limiter_peek(&l[which], limits[which].cost,
						      now + after - 1, &retry));
			now += after;
			assert_true(gq__limiter_peek(&l[which], limits[which].cost, now, &retry));
		}
	}
}

static void limits_are_checked(void **state)
{
	struct gq_limiter l;
	uint64_t retry = 0;

	(void)state;
	assert_false(gq__limiter_init(&l, GQ_RATE_MOST + 1, 1));
	assert_false(gq__limiter_init(&l, 1, 0));
	assert_false(gq__limiter_init(&l, 1, UINT64_C(1) << 31));
	assert_true(gq__limiter_init(&l, 0, 1));
	for (int i = 0; i < 100; i++)
		assert_true(pass(&l, UINT64_MAX, 0));
	assert_true(gq__limiter_init(&l, 1, 5));
	assert_false(gq__limiter_peek(&l, 6, 0, &retry));
	assert_true(retry == UINT64_MAX);
	for (int i = 0; i < 5; i++)
		assert_true(pass(&l, 1, 0));
	/* A higher rate forgives what was owed at the lower one. */
	assert_true(gq__limiter_set(&l, 1000, 5, 0));
	assert_false(pass(&l, 1, MS - 1));
	assert_true(pass(&l, 1, MS));
	assert_int_equal(gq__limiter_left(&l, S), 5);
	assert_false(gq__limiter_set(&l, 1, 0, 0));
	assert_int_equal(l.burst, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rl_1_an_endless_stream_passes_the_burst_and_the_rate),
		cmocka_unit_test(rl_2_a_cost_of_n_is_n_requests),
		cmocka_unit_test(rl_3_it_is_a_bucket_of_tokens),
		cmocka_unit_test(rl_4_a_clock_that_steps_back_gives_nothing_away),
		cmocka_unit_test(rl_6_a_retry_after_that_is_obeyed_succeeds),
		cmocka_unit_test(limits_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
