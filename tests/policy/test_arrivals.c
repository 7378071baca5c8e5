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
	gq__arrivals_set(&a, 0, 1, 2 * S);
	gq__arrivals_fine(&a, 1000, 2 * S);
	assert_int_equal(come(1000, 100, 2 * S), 100);
}

/* A user that comes as often as it can, and breaks each connection. @return when it is let in */
static uint64_t break_when_let_in(uint32_t uid, uint64_t now_ns)
{
	uint64_t retry_ns;

	while (!gq__arrivals_pass(&a, uid, now_ns, &retry_ns))
		now_ns += retry_ns;
	gq__arrivals_fine(&a, uid, now_ns);
	return now_ns;
}

enum { RATE = 100, MOST = GQ_ARRIVALS_MOST_S * RATE };

/* Of a user that breaks connections until it gets the greatest fine. @return when the last was */
static uint64_t break_many(uint32_t uid, uint64_t now_ns)
{
	for (int i = 0; i < 20; i++)
		now_ns = break_when_let_in(uid, now_ns);
	return now_ns;
}

static void whoever_breaks_it_time_after_time_is_let_in_ever_more_seldom(void **state)
{
	uint64_t now = S, fine = GQ_ARRIVALS_FINE, at;

	(void)state;
	gq__arrivals_init(&a, RATE, 1);
	now = break_when_let_in(1000, now);
	for (int i = 0; i < 6; i++) { /* that is five seconds: nothing is forgiven yet */
		at = break_when_let_in(1000, now);
		assert_int_equal(at - now, (fine + 1) * S / RATE);
		fine = 2 * fine < MOST ? 2 * fine : MOST;
		now = at;
	}
	assert_int_equal(fine, MOST); /* and no more seldom than that: */
	assert_int_equal(come(1000, 1, now + (MOST + 1) * S / RATE - 1), 0);
	assert_int_equal(come(1000, 1, now + (MOST + 1) * S / RATE), 1);
	/* What time undoes is less than what such a user brings upon itself. */
	at = now;
	for (int i = 0; i < 60; i++)
		now = break_when_let_in(1000, now);
	assert_true(now - at >= 100 * S);
	assert_int_equal(come(1001, 1, now), 1); /* others have nothing to do with it */
}

/* However many break at once: who else is of that user waits no longer. */
static void a_user_owes_no_more_than_one_fine(void **state)
{
	(void)state;
	gq__arrivals_init(&a, RATE, 25);
	for (int i = 0; i < 1000; i++)
		gq__arrivals_fine(&a, 1000, S);
	/* And is fined no harder the next time than for one that it has broken. */
	assert_int_equal(come(1000, 100, S + GQ_ARRIVALS_FINE * S / RATE), 0);
	assert_int_equal(come(1000, 100, S + (GQ_ARRIVALS_FINE + 1) * S / RATE), 1);
	gq__arrivals_set(&a, 1, 1, 10 * S); /* one a second: ten seconds is more than MOST_S */
	for (int i = 0; i < 1000; i++)
		gq__arrivals_fine(&a, 1001, 10 * S);
	assert_int_equal(come(1001, 100, (10 + GQ_ARRIVALS_FINE) * S), 0);
	assert_int_equal(come(1001, 100, (11 + GQ_ARRIVALS_FINE) * S), 1);
}

static void time_undoes_it_step_by_step(void **state)
{
	uint64_t now;

	(void)state;
	gq__arrivals_init(&a, RATE, 1);
	now = break_many(1000, S); /* 10, 20, 40, 80, 160, and 200, which is not 320 */
	now += GQ_ARRIVALS_FORGIVE_NS + 5 * S;
	now = break_when_let_in(1000, now);
	assert_int_equal(come(1000, 1, now + 161 * S / RATE - 1), 0);
	assert_int_equal(come(1000, 1, now + 161 * S / RATE), 1);
	/* Other fines do not put it off: two more steps, and one back. */
	now = break_when_let_in(1000, now + 2 * GQ_ARRIVALS_FORGIVE_NS);
	assert_int_equal(come(1000, 1, now + 81 * S / RATE - 1), 0);
	assert_int_equal(come(1000, 1, now + 81 * S / RATE), 1);
	now = break_when_let_in(1000, now + 100 * GQ_ARRIVALS_FORGIVE_NS);
	assert_int_equal(come(1000, 1, now + (GQ_ARRIVALS_FINE + 1) * S / RATE - 1), 0);
	assert_int_equal(come(1000, 1, now + (GQ_ARRIVALS_FINE + 1) * S / RATE), 1);
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
		cmocka_unit_test(whoever_breaks_it_time_after_time_is_let_in_ever_more_seldom),
		cmocka_unit_test(a_user_owes_no_more_than_one_fine),
		cmocka_unit_test(time_undoes_it_step_by_step),
		cmocka_unit_test(many_refusals_at_once_are_a_reason_to_stop_accepting),
		cmocka_unit_test(of_more_users_than_there_is_room_for_the_quiet_ones_are_forgotten),
	};

	return cmocka_run_group_tests_name("arrivals", tests, NULL, NULL);
}
