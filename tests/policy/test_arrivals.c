/* SPDX-License-Identifier: Apache-2.0 */
/* test_arrivals.c - how often each user may connect. */
#include "policy_test.h"

#include "broker/policy/arrivals.h"

static struct gq_arrivals a;

/* How many of so many tries at one moment come in. */
static unsigned come(uint32_t uid, unsigned n, uint64_t now_ns)
{
	unsigned in = 0;
	uint64_t retry;

	for (unsigned i = 0; i < n; i++)
		in += gq__arrivals_pass(&a, uid, now_ns, &retry);
	return in;
}

static void each_user_has_a_burst_and_a_rate_of_its_own(void **state)
{
	uint64_t now = 5 * S, retry = 0;

	(void)state;
	gq__arrivals_init(&a, 100, 20);
	assert_int_equal(come(1000, 500, now), 20);
	assert_int_equal(come(1001, 10, now), 10); /* another's flood is none of its business */
	assert_false(gq__arrivals_pass(&a, 1000, now, &retry));
	assert_int_equal(retry, 10 * MS);
	assert_false(gq__arrivals_pass(&a, 1000, now + retry - 1, &retry));
	assert_int_equal(retry, 1);
	assert_int_equal(come(1000, 500, now + 10 * MS), 1); /* who obeys is let in */
	assert_int_equal(come(1000, 500, now + S), 20);
	assert_int_equal(come(1001, 500, now + S), 20);
}

static void without_a_rate_all_come_in(void **state)
{
	(void)state;
	gq__arrivals_init(&a, 0, 1);
	assert_int_equal(come(1000, 100000, S), 100000);
}

static void a_new_rate_is_for_those_who_have_come_too(void **state)
{
	(void)state;
	gq__arrivals_init(&a, 1, 10);
	assert_int_equal(come(7, 100, S), 10);
	gq__arrivals_set(&a, 1000, 5, S);
	assert_int_equal(come(7, 100, S + 2 * MS), 2);
	assert_int_equal(come(8, 100, S), 5);
}

/* Many users at once: one that has come too often is not let off because of the others. */
static void of_more_users_than_there_is_room_for_the_quiet_ones_are_forgotten(void **state)
{
	const uint64_t now = S;

	(void)state;
	gq__arrivals_init(&a, 1, 4);
	assert_int_equal(come(1, 100, now), 4);
	for (uint32_t uid = 2; uid < 10 * GQ_ARRIVALS_USERS; uid++)
		assert_int_equal(come(uid, 1, now), 1);
	assert_int_equal(come(1, 100, now), 0);
	assert_int_equal(a.users, GQ_ARRIVALS_USERS);
}

static void whoever_broke_the_protocol_may_connect_less_often(void **state)
{
	(void)state;
	gq__arrivals_init(&a, 100, 25);
	gq__arrivals_fine(&a, 1000, S);
	assert_int_equal(come(1000, 100, S), 25 - GQ_ARRIVALS_FINE);
	assert_int_equal(come(1001, 100, S), 25);
	/* One that has nothing left owes it, */
	assert_int_equal(come(1002, 100, S), 25);
	gq__arrivals_fine(&a, 1002, S);
	assert_int_equal(come(1002, 100, S + GQ_ARRIVALS_FINE * 10 * MS), 0);
	assert_int_equal(come(1002, 100, S + (GQ_ARRIVALS_FINE + 1) * 10 * MS), 1);
	/* but however often, for no longer. */
	for (int i = 0; i < 1000; i++)
		gq__arrivals_fine(&a, 1000, S);
	assert_int_equal(come(1000, 100, S + GQ_ARRIVALS_FINE * 10 * MS), 0);
	assert_int_equal(come(1000, 100, S + (GQ_ARRIVALS_FINE + 1) * 10 * MS), 1);
	gq__arrivals_set(&a, 0, 1, 2 * S);
	gq__arrivals_fine(&a, 1000, 2 * S);
	assert_int_equal(come(1000, 100, 2 * S), 100);
}

/* A flood of refusals: then nobody is accepted for a moment. */
static void many_refusals_at_once_are_a_reason_to_stop_accepting(void **state)
{
	uint64_t now = S;

	(void)state;
	gq__arrivals_init(&a, 1, 1);
	for (unsigned round = 0; round < 3; round++, now += GQ_ARRIVALS_FLOOD_NS) {
		for (unsigned i = 1; i < GQ_ARRIVALS_REFUSALS; i++)
			assert_int_equal(gq__arrivals_refused(&a, now), 0);
		assert_int_equal(gq__arrivals_refused(&a, now), now + GQ_ARRIVALS_FLOOD_NS);
	}
	for (unsigned i = 0; i < 100; i++) { /* now and then one is none */
		now += GQ_ARRIVALS_FLOOD_NS / (GQ_ARRIVALS_REFUSALS - 2);
		assert_int_equal(gq__arrivals_refused(&a, now), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_user_has_a_burst_and_a_rate_of_its_own),
		cmocka_unit_test(without_a_rate_all_come_in),
		cmocka_unit_test(a_new_rate_is_for_those_who_have_come_too),
		cmocka_unit_test(whoever_broke_the_protocol_may_connect_less_often),
		cmocka_unit_test(many_refusals_at_once_are_a_reason_to_stop_accepting),
		cmocka_unit_test(of_more_users_than_there_is_room_for_the_quiet_ones_are_forgotten),
	};

	return cmocka_run_group_tests_name("arrivals", tests, NULL, NULL);
}
