/* SPDX-License-Identifier: Apache-2.0 */
/* test_tarpit.c - connections that are looked at later. */
#include "policy_test.h"

#include "broker/policy/tarpit.h"

static struct gq_tarpit t;

static int begin(void **state)
{
	(void)state;
	gq__tarpit_init(&t, UINT64_MAX);
	return 0;
}

static void each_waits_its_time_and_they_come_in_order(void **state)
{
	uint64_t now = 5 * S;

	(void)state;
	assert_int_equal(gq__tarpit_next_ns(&t), UINT64_MAX);
	assert_int_equal(gq__tarpit_due(&t, UINT64_MAX), -1);
	for (int fd = 0; fd < 3; fd++)
		assert_true(gq__tarpit_hold(&t, fd, 1000, now + (uint64_t)fd * MS));
	assert_int_equal(gq__tarpit_next_ns(&t), now + GQ_TARPIT_NS);
	assert_int_equal(gq__tarpit_due(&t, now + GQ_TARPIT_NS - 1), -1);
	assert_int_equal(gq__tarpit_due(&t, now + GQ_TARPIT_NS), 0);
	assert_int_equal(gq__tarpit_due(&t, now + GQ_TARPIT_NS), -1);
	assert_int_equal(gq__tarpit_due(&t, now + GQ_TARPIT_NS + 2 * MS), 1);
	assert_int_equal(gq__tarpit_due(&t, now + GQ_TARPIT_NS + 2 * MS), 2);
	assert_int_equal(gq__tarpit_next_ns(&t), UINT64_MAX);
}

static void a_user_has_some_places_and_others_have_theirs(void **state)
{
	int fd = 0;

	(void)state;
	for (uint32_t uid = 0; uid < GQ_TARPIT_MOST / GQ_TARPIT_MOST_OF_USER; uid++) {
		for (int i = 0; i < GQ_TARPIT_MOST_OF_USER; i++)
			assert_true(gq__tarpit_hold(&t, fd++, uid, S));
		assert_false(gq__tarpit_hold(&t, fd, uid, S));
	}
	assert_false(gq__tarpit_hold(&t, fd, 77, S)); /* there is no place at all */
	assert_int_equal(gq__tarpit_due(&t, 2 * S), 0);
	assert_int_equal(gq_tarpit_place(&t), 0);
	assert_false(gq__tarpit_hold(&t, fd, 1, 2 * S));
	assert_true(gq__tarpit_hold(&t, fd, 0, 2 * S));
	assert_int_equal(gq_tarpit_place(&t), 1); /* of the one that is due next */
}

static void none_is_kept_while_half_of_the_descriptors_are_in_use(void **state)
{
	(void)state;
	gq__tarpit_init(&t, 201);
	assert_true(gq__tarpit_hold(&t, 99, 1000, S));
	assert_false(gq__tarpit_hold(&t, 100, 1000, S));
	gq__tarpit_init(&t, 0);
	assert_false(gq__tarpit_hold(&t, 3, 1000, S));
}

static void places_are_used_again_for_ever(void **state)
{
	(void)state;
	for (int fd = 0; fd < 10 * GQ_TARPIT_MOST; fd++) {
		const uint64_t now = (uint64_t)fd * GQ_TARPIT_NS / 4;

		assert_true(gq__tarpit_hold(&t, fd, 1000, now));
		if (fd >= 4)
			assert_int_equal(gq__tarpit_due(&t, now), fd - 4);
		assert_int_equal(gq__tarpit_due(&t, now), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_waits_its_time_and_they_come_in_order, begin),
		cmocka_unit_test_setup(a_user_has_some_places_and_others_have_theirs, begin),
		cmocka_unit_test_setup(none_is_kept_while_half_of_the_descriptors_are_in_use,
				       begin),
		cmocka_unit_test_setup(places_are_used_again_for_ever, begin),
	};

	return cmocka_run_group_tests_name("tarpit", tests, NULL, NULL);
}
