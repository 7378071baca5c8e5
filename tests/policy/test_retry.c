/* SPDX-License-Identifier: Apache-2.0 */
/* test_retry.c - what is tried again, when, and how often in all. */
#include "policy_test.h"

#include "broker/policy/retry.h"

static const struct gq_retry_config standard = { 0 };

static struct gq_retry_case lost(uint32_t attempts)
{
	return (struct gq_retry_case){
		.status = GQ_WIRE_LOST,
		.idempotent = true,
		.attempts = attempts,
		.deadline_ns = UINT64_MAX,
	};
}

static enum gq_retry_verdict decide(const struct gq_retry_case *failed, uint64_t now)
{
	struct gq_retry_budget budget;
	uint64_t random = SEED;
	uint64_t delay;

	gq__retry_budget_init(&budget);
	return gq__retry_decide(&standard, &budget, failed, now, &random, &delay);
}

static void rt_1_delays_are_those_of_the_table(void **state)
{
	static const uint64_t full_ms[] = { 20, 40, 80, 160, 320, 640, 1000, 1000 };
	struct gq_retry_config config = { .jitter = GQ_JITTER_NONE };
	uint64_t random = SEED;

	(void)state;
	for (uint32_t n = 1; n <= 8; n++) {
		const uint64_t full = full_ms[n - 1] * MS;

		config.jitter = GQ_JITTER_NONE;
		assert_int_equal(gq__retry_delay(&config, n, 0, &random), full);
		for (int i = 0; i < 1000; i++) {
			config.jitter = GQ_JITTER_FULL;
			assert_in_range(gq__retry_delay(&config, n, 0, &random), 0, full);
			config.jitter = GQ_JITTER_EQUAL;
			assert_in_range(gq__retry_delay(&config, n, 0, &random), full / 2, full);
			config.jitter = GQ_JITTER_PM20;
			assert_in_range(gq__retry_delay(&config, n, 0, &random), full / 5 * 4,
					full / 5 * 6);
			config.jitter = GQ_JITTER_DECORRELATED;
			assert_in_range(gq__retry_delay(&config, n, full, &random), 20 * MS,
					full * 3 < S ? full * 3 : S);
		}
	}
	config = (struct gq_retry_config){ .jitter = GQ_JITTER_NONE,
					   .base_ns = UINT64_MAX / 2,
					   .cap_ns = UINT64_MAX };
	assert_true(gq__retry_delay(&config, UINT32_MAX, 0, &random) == UINT64_MAX);
}

/* By other code, from serving.md's words and those of random.h. */
static void rt_1_each_jitter_has_its_known_delays(void **state)
{
	static const uint64_t known[GQ_JITTER_NONE][6] = {
		[GQ_JITTER_FULL] = { 12707561, 23313093, 75415118, 198808, 25270440, 108124727 },
		[GQ_JITTER_EQUAL] = { 16353780, 31656546, 77707559, 80099404, 172635220,
				      374062363 },
		[GQ_JITTER_PM20] = { 21083024, 41325237, 94166047, 128079523, 266108176,
				     555249890 },
		[GQ_JITTER_DECORRELATED] = { 45415121, 87750972, 249311841, 20904499, 23373090,
					     28467394 },
	};

	(void)state;
	for (int jitter = 0; jitter < GQ_JITTER_NONE; jitter++) {
		const struct gq_retry_config config = { .jitter = (enum gq_jitter)jitter };
		uint64_t random = SEED, before = 0;

		for (uint32_t n = 1; n <= 6; n++) {
			before = gq__retry_delay(&config, n, before, &random);
			assert_int_equal(before, known[jitter][n - 1]);
		}
	}
}

static void rt_1_the_same_seed_is_the_same_delays(void **state)
{
	uint64_t one = 7;
	uint64_t other = 7;
	uint64_t differ = 0;

	(void)state;
	for (uint32_t n = 1; n < 100; n++) {
		const uint64_t delay = gq__retry_delay(&standard, n % 7 + 1, 0, &one);

		differ += gq__retry_delay(&standard, n % 7 + 1, 0, &other) != delay;
	}
	assert_int_equal(differ, 0);
}

static void rt_1_full_jitter_is_even(void **state)
{
	uint64_t random = SEED;
	uint32_t counts[10] = { 0 };

	(void)state;
	for (int i = 0; i < 100000; i++) {
		const uint64_t delay = gq__retry_delay(&standard, 7, 0, &random);

		counts[delay == S ? 9 : delay / (S / 10)]++;
	}
	for (int i = 0; i < 10; i++)
		assert_in_range(counts[i], 9500, 10500);
}

static void rt_2_no_attempt_begins_after_the_deadline(void **state)
{
	uint64_t random = SEED;
	uint32_t went = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct gq_retry_budget budget;
		struct gq_retry_case failed = lost(1 + (uint32_t)gq_random_below(&random, 3));
		const uint64_t now = 100 * S;
		uint64_t delay = 0;

		gq__retry_budget_init(&budget);
		failed.deadline_ns = now - 10 * MS + gq_random_below(&random, 100 * MS);
		if (gq_random_below(&random, 3) == 0)
			failed.after_ns = (int64_t)gq_random_below(&random, 100 * MS);
		if (gq__retry_decide(&standard, &budget, &failed, now, &random, &delay) ==
		    GQ_RETRY_GO) {
			assert_true(now + delay < failed.deadline_ns);
			went++;
		}
	}
	assert_in_range(went, 1000, 19000);
}

/* Requests against a backend that fails them all; how many calls it gets. */
static uint32_t storm(uint32_t offered, bool works)
{
	struct gq_retry_budget budget;
	uint64_t random = SEED;
	uint32_t calls = 0;

	gq__retry_budget_init(&budget);
	for (uint32_t i = 0; i < offered; i++) {
		for (uint32_t attempt = 1;; attempt++) {
			const struct gq_retry_case failed = lost(attempt);
			uint64_t delay;

			calls++;
			if (works && attempt > 1) {
				gq__retry_succeeded(&budget);
				break;
			}
			if (gq__retry_decide(&standard, &budget, &failed, 0, &random, &delay) !=
			    GQ_RETRY_GO)
				break;
		}
		for (int k = 0; works && k < 9; k++)
			gq__retry_succeeded(&budget); /* of ten requests one fails */
	}
	return calls;
}

static void rt_3_retries_are_never_the_load(void **state)
{
	(void)state;
	assert_in_range(storm(1000, false), 1001, 1200);
	assert_int_equal(storm(1000, true), 2000); /* one in ten is retried, and succeeds */
}

/* All that a dead worker had is tried again, but the deaths themselves have a budget. */
static void rt_4_a_death_is_one_failure_for_all_that_it_took(void **state)
{
	enum { HELD = 100 };
	struct gq_retry_budget budget;
	uint64_t random = SEED;
	uint32_t calls = 0;

	(void)state;
	gq__retry_budget_init(&budget);
	for (int death = 0; death < 100; death++) { /* of a backend that dies of all that it gets */
		struct gq_retry_case failed = lost(1);
		uint32_t again = 0;

		failed.died = true;
		failed.in_flight = HELD;
		gq__retry_died(&budget);
		for (int i = 0; i < HELD; i++) {
			uint64_t delay;

			calls++;
			if (gq__retry_decide(&standard, &budget, &failed, 0, &random, &delay) !=
			    GQ_RETRY_GO)
				continue;
			gq__retry_began(&budget);
			again++;
		}
		assert_int_equal(again, death < 4 ? HELD : 0);
		calls += again;
		while (again-- > 0)
			gq__retry_ended(&budget);
	}
	assert_in_range(calls, 100 * HELD, 100 * HELD / 10 * 12); /* RT-3 holds for deaths, too */
}

static void a_want_of_descriptors_takes_no_retries_from_others(void **state)
{
	const struct gq_retry_case failed = { .status = GQ_WIRE_FD_EXHAUSTED,
					      .attempts = 1,
					      .deadline_ns = UINT64_MAX };
	struct gq_retry_budget budget;
	uint64_t random = SEED, delay;

	(void)state;
	gq__retry_budget_init(&budget);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(gq__retry_decide(&standard, &budget, &failed, 0, &random, &delay),
				 GQ_RETRY_GO);
}

static void rt_3_at_most_a_fifth_of_what_is_on_its_way_are_retries(void **state)
{
	struct gq_retry_budget budget;
	struct gq_retry_case failed = lost(1);
	uint64_t random = SEED;
	uint64_t delay;

	(void)state;
	for (uint32_t in_flight = 0; in_flight < 100; in_flight += 33) {
		const uint32_t most = in_flight / 5 > 3 ? in_flight / 5 : 3;

		gq__retry_budget_init(&budget);
		failed.in_flight = in_flight;
		for (uint32_t i = 0; i < most; i++) {
			budget.tenths = 100;
			assert_int_equal(
				gq__retry_decide(&standard, &budget, &failed, 0, &random, &delay),
				GQ_RETRY_GO);
			gq__retry_began(&budget);
		}
		budget.tenths = 100;
		assert_int_equal(gq__retry_decide(&standard, &budget, &failed, 0, &random, &delay),
				 GQ_RETRY_BUDGET);
		gq__retry_ended(&budget);
		assert_int_equal(gq__retry_decide(&standard, &budget, &failed, 0, &random, &delay),
				 GQ_RETRY_GO);
	}
}

static void each_status_is_tried_again_as_the_table_says(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < GQ_WIRE_STATUS_END; i++) {
		struct gq_retry_case failed = lost(1);
		enum gq_retry_verdict safe = GQ_RETRY_FINAL;

		failed.status = (enum gq_wire_status)i;
		switch (i) {
		case GQ_WIRE_OVERLOADED:
		case GQ_WIRE_INTERNAL:
		case GQ_WIRE_RATE_LIMITED:
		case GQ_WIRE_LOST:
		case GQ_WIRE_SHUTTING_DOWN:
		case GQ_WIRE_CHECKSUM:
		case GQ_WIRE_BREAKER_OPEN:
		case GQ_WIRE_FD_EXHAUSTED:
			safe = GQ_RETRY_GO;
			break;
		default:
			break;
		}
		failed.idempotent = false;
		assert_int_equal(decide(&failed, 0), safe); /* nobody has seen it */
		failed.seen = true;
		assert_int_equal(decide(&failed, 0), safe == GQ_RETRY_GO ? GQ_RETRY_HARM : safe);
		failed.idempotent = true;
		assert_int_equal(decide(&failed, 0), safe);
	}
}

static void the_server_has_the_last_word(void **state)
{
	struct gq_retry_budget budget;
	struct gq_retry_case failed = lost(1);
	uint64_t random = SEED;
	uint64_t delay = 0;

	(void)state;
	failed.after_ns = 5000000000;
	gq__retry_budget_init(&budget);
	assert_int_equal(gq__retry_decide(&standard, &budget, &failed, 0, &random, &delay),
			 GQ_RETRY_GO);
	assert_int_equal(delay, 5 * S);
	failed.after_ns = -1;
	assert_int_equal(decide(&failed, 0), GQ_RETRY_REFUSED);
	failed = lost(4);
	assert_int_equal(decide(&failed, 0), GQ_RETRY_SPENT);
	failed = lost(3);
	assert_int_equal(decide(&failed, 0), GQ_RETRY_GO);
	failed.deadline_ns = 5;
	assert_int_equal(decide(&failed, 5), GQ_RETRY_LATE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_1_delays_are_those_of_the_table),
		cmocka_unit_test(rt_1_each_jitter_has_its_known_delays),
		cmocka_unit_test(rt_1_the_same_seed_is_the_same_delays),
		cmocka_unit_test(rt_1_full_jitter_is_even),
		cmocka_unit_test(rt_2_no_attempt_begins_after_the_deadline),
		cmocka_unit_test(rt_3_retries_are_never_the_load),
		cmocka_unit_test(rt_4_a_death_is_one_failure_for_all_that_it_took),
		cmocka_unit_test(a_want_of_descriptors_takes_no_retries_from_others),
		cmocka_unit_test(rt_3_at_most_a_fifth_of_what_is_on_its_way_are_retries),
		cmocka_unit_test(each_status_is_tried_again_as_the_table_says),
		cmocka_unit_test(the_server_has_the_last_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
