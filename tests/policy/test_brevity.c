/* SPDX-License-Identifier: Apache-2.0 */
/* test_brevity.c - whether a dispatcher runs messages itself. */
#include "policy_test.h"

#include "broker/policy/brevity.h"

static void run(struct gq_brevity *b, uint64_t ns, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_true(gq_brevity_may_run(b));
		gq__brevity_ran(b, 1, ns);
	}
}

static unsigned hand_on_all(struct gq_brevity *b)
{
	unsigned n = 0;

	for (; !gq_brevity_may_run(b); n++)
		gq__brevity_handed_on(b);
	return n;
}

static void what_stays_below_the_limit_is_always_run(void **state)
{
	struct gq_brevity b;

	(void)state;
	gq__brevity_init(&b, 20 * US);
	run(&b, 19 * US, 100000);
	run(&b, 0, 100000);
	gq__brevity_init(&b, S);
	run(&b, S - 16, 1000);
	gq__brevity_init(&b, 0);
	assert_false(gq_brevity_may_run(&b));
	gq__brevity_handed_on(&b);
	assert_false(gq_brevity_may_run(&b));
}

static void what_is_long_is_handed_on_after_some_trials(void **state)
{
	struct gq_brevity b;
	unsigned n = 0;

	(void)state;
	gq__brevity_init(&b, 20 * US);
	for (; gq_brevity_may_run(&b); n++)
		gq__brevity_ran(&b, 1, 40 * US);
	assert_in_range(n, 8, 32);
	assert_int_equal(hand_on_all(&b), GQ_BREVITY_REST);
}

/* The scheduler took the CPU away for some milliseconds: that says nothing of the processor. */
static void one_that_was_interrupted_changes_nothing(void **state)
{
	struct gq_brevity b;

	(void)state;
	gq__brevity_init(&b, 20 * US);
	for (int i = 0; i < 1000; i++) {
		run(&b, US, 63);
		run(&b, 8 * MS, 1);
	}
	assert_true(gq_brevity_may_run(&b));
}

/* The same where it was not waited for. What has used its CPU, or waits for something else, is
 * long. */
static void one_that_had_no_cpu_says_nothing(void **state)
{
	struct gq_brevity b;

	(void)state;
	gq__brevity_init(&b, 20 * US);
	for (int i = 0; i < 1000; i++) {
		run(&b, US, 63);
		gq__brevity_failed(&b, 20 * US);
	}
	run(&b, US, 63);
	gq__brevity_failed(&b, 160 * US - 1);
	assert_true(gq_brevity_may_run(&b));
	gq__brevity_failed(&b, 160 * US);
	assert_int_equal(hand_on_all(&b), GQ_BREVITY_REST);
	gq__brevity_failed(&b, UINT64_MAX);
	assert_int_equal(hand_on_all(&b), 2 * GQ_BREVITY_REST);
	/* One after the other is no accident. */
	for (int i = 0; i < 3; i++)
		gq__brevity_failed(&b, 0);
	assert_false(gq_brevity_may_run(&b));
}

static void each_failure_costs_twice_as_many_and_short_ones_pay_it_back(void **state)
{
	struct gq_brevity b;
	unsigned rest = GQ_BREVITY_REST;

	(void)state;
	gq__brevity_init(&b, 20 * US);
	for (; rest < GQ_BREVITY_REST_MOST; rest *= 2) {
		gq__brevity_failed(&b, UINT64_MAX);
		assert_int_equal(hand_on_all(&b), rest);
	}
	for (int i = 0; i < 3; i++) { /* and no more than that */
		gq__brevity_failed(&b, UINT64_MAX);
		assert_int_equal(hand_on_all(&b), GQ_BREVITY_REST_MOST);
	}
	run(&b, US, GQ_BREVITY_REST_MOST);
	gq__brevity_failed(&b, UINT64_MAX);
	assert_int_equal(hand_on_all(&b), GQ_BREVITY_REST_MOST / 2);
	run(&b, US, 2 * GQ_BREVITY_REST_MOST);
	gq__brevity_failed(&b, UINT64_MAX);
	assert_int_equal(hand_on_all(&b), GQ_BREVITY_REST);
}

/* Of very short ones several are timed together: once they are known to be, and as long as they
 * are. */
static void the_clock_is_read_seldom_only_for_very_short_ones(void **state)
{
	struct gq_brevity b;
	unsigned n = 0;

	(void)state;
	gq__brevity_init(&b, 20 * US);
	for (; gq_brevity_unclocked(&b) == 1; n++)
		run(&b, 400, 1);
	assert_int_equal(n, GQ_BREVITY_REST);
	assert_int_equal(gq_brevity_unclocked(&b), 8);
	for (int i = 0; i < 1000; i++) /* none of them took the processor so long */
		gq__brevity_ran(&b, 8, i % 20 == 0 ? 8 * MS : 8 * 100);
	assert_true(gq_brevity_may_run(&b));
	for (int i = 0; i < 20; i++)
		gq__brevity_ran(&b, 8, 8 * 100);
	assert_int_equal(gq_brevity_unclocked(&b), 8);
	gq__brevity_ran(&b, 8, 8 * 10 * US); /* these did */
	assert_int_equal(gq_brevity_unclocked(&b), 1);
	assert_true(gq_brevity_may_run(&b));
	for (n = 0; gq_brevity_may_run(&b); n++)
		gq__brevity_ran(&b, 1, 40 * US);
	assert_in_range(n, 1, 32);
	(void)hand_on_all(&b);
	assert_int_equal(gq_brevity_unclocked(&b), 1); /* they may not be short any more */
	run(&b, 600, 200);
	assert_int_equal(gq_brevity_unclocked(&b), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_stays_below_the_limit_is_always_run),
		cmocka_unit_test(what_is_long_is_handed_on_after_some_trials),
		cmocka_unit_test(one_that_was_interrupted_changes_nothing),
		cmocka_unit_test(one_that_had_no_cpu_says_nothing),
		cmocka_unit_test(each_failure_costs_twice_as_many_and_short_ones_pay_it_back),
		cmocka_unit_test(the_clock_is_read_seldom_only_for_very_short_ones),
	};

	return cmocka_run_group_tests_name("brevity", tests, NULL, NULL);
}
