/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ring_slip.c - when a receiver that finds nothing waits a little before it says so: see
 * slip.h. The functions alone, without a ring and without a clock.
 */
#include "support.h"

#include "host/ring/slip.h"

/* A receiver that finds `run` messages, then nothing, and so on. Of `calls` times nothing, how
 * often does it wait? */
static uint32_t waits(struct gq_ring_pace *pace, uint32_t run, uint32_t calls)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < calls; i++) {
		bool waited = false;

		pace->streak = run;
		count += gq_slip_receive(pace, &waited);
	}
	return count;
}

static void who_finds_nothing_at_all_does_not_wait(void **state)
{
	struct gq_ring_pace pace = { 0 };

	(void)state;
	assert_int_equal(waits(&pace, 0, 100000), 0);
}

static void after_a_long_run_each_waits(void **state)
{
	struct gq_ring_pace pace = { 0 };

	(void)state;
	assert_int_equal(waits(&pace, GQ_SLIP_STREAK, 10), 10);
	assert_int_equal(waits(&pace, 1000, 10), 10);
}

static void a_wait_in_vain_is_followed_by_a_rest(void **state)
{
	struct gq_ring_pace pace = { .streak = GQ_SLIP_STREAK };
	bool waited = false;

	(void)state;
	assert_true(gq_slip_receive(&pace, &waited));
	assert_false(gq_slip_receive(&pace, &waited)); /* nothing came meanwhile */
	assert_int_equal(waits(&pace, GQ_SLIP_STREAK, GQ_SLIP_RECEIVE_REST), 0);
	assert_int_equal(waits(&pace, GQ_SLIP_STREAK, 1), 1);
}

/* Messages that come singly delay few others: trials come after 64 messages, 128, ... 4096, 4096.
 */
static void trials_in_vain_become_rare(void **state)
{
	struct gq_ring_pace pace = { 0 };

	(void)state;
	assert_int_equal(waits(&pace, 1, GQ_SLIP_TRIAL - 1), 0);
	assert_int_equal(waits(&pace, 1, 1), 1);
	assert_int_equal(waits(&pace, 1, 2 * GQ_SLIP_TRIAL - 1), 0);
	assert_int_equal(waits(&pace, 1, 1), 1);
	assert_int_equal(waits(&pace, 1, 256 + 512 + 1024 + 2048), 4);
	assert_int_equal(waits(&pace, 1, 100 * 4096), 100);
	assert_int_equal(waits(&pace, 1, 4095), 0);
}

/* Lockstep: one message, then nothing. The first trial that a long run follows makes waits the
 * rule; and where it does not last, trials begin as soon as before. */
static void a_trial_ends_lockstep(void **state)
{
	struct gq_ring_pace pace = { 0 };

	(void)state;
	assert_int_equal(waits(&pace, 1, 100000), 29);
	assert_int_equal(waits(&pace, GQ_SLIP_STREAK, 20), 20);
	assert_int_equal(waits(&pace, 1, GQ_SLIP_TRIAL), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_finds_nothing_at_all_does_not_wait),
		cmocka_unit_test(after_a_long_run_each_waits),
		cmocka_unit_test(a_wait_in_vain_is_followed_by_a_rest),
		cmocka_unit_test(trials_in_vain_become_rare),
		cmocka_unit_test(a_trial_ends_lockstep),
	};

	return cmocka_run_group_tests_name("unit.ring_slip", tests, NULL, NULL);
}
