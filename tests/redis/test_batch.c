/* SPDX-License-Identifier: Apache-2.0 */
/* test_batch.c - when a batch goes on, on a clock of the test's own. */
#include "redis/policy/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void it_wants_what_it_lacks_and_there_is_room_for(void **state)
{
	struct batch b = { .most = 10 };

	(void)state;
	assert_int_equal(batch_want(&b, 100), 10);
	assert_int_equal(batch_want(&b, 3), 3);
	batch_add(&b, 7, 0);
	assert_int_equal(batch_want(&b, 100), 3);
	batch_add(&b, 5, 0);
	assert_int_equal(batch_want(&b, 100), 0);
}

static void the_next_is_asked_for_ahead_if_this_one_goes_on(void **state)
{
	struct batch b = { .most = 10 };

	(void)state;
	assert_int_equal(batch_ahead(&b, 100, 3), 10);
	assert_int_equal(batch_ahead(&b, 12, 10), 2);
	assert_int_equal(batch_ahead(&b, 10, 10), 0);
	assert_int_equal(batch_ahead(&b, 5, 10), 0);
	b.delay_us = 1000;
	assert_int_equal(batch_ahead(&b, 100, 3), 0);
	batch_add(&b, 7, 0);
	assert_int_equal(batch_ahead(&b, 100, 3), 10);
}

static void without_a_delay_it_is_due_at_once(void **state)
{
	struct batch b = { .most = 10 };

	(void)state;
	assert_false(batch_due(&b, 100, 5));
	assert_int_equal(batch_wait_us(&b, 5), UINT64_MAX);
	batch_add(&b, 1, 5);
	assert_true(batch_due(&b, 100, 5));
	batch_reset(&b);
	assert_false(batch_due(&b, 100, 5));
}

static void with_one_it_waits_for_the_others(void **state)
{
	struct batch b = { .most = 10, .delay_us = 100 };

	(void)state;
	batch_add(&b, 1, 1000);
	assert_false(batch_due(&b, 100, 1000));
	assert_int_equal(batch_wait_us(&b, 1040), 60);
	batch_add(&b, 1, 1090); /* a later one does not make the first wait longer */
	assert_int_equal(batch_wait_us(&b, 1099), 1);
	assert_false(batch_due(&b, 100, 1099));
	assert_true(batch_due(&b, 100, 1100));
	assert_int_equal(batch_wait_us(&b, 2000), 0);
	assert_int_equal(batch_wait_us(&b, 900), 100); /* a clock that went back */
}

static void it_goes_when_it_is_full_or_there_is_no_room(void **state)
{
	struct batch b = { .most = 10, .delay_us = 1000000 };

	(void)state;
	batch_add(&b, 9, 0);
	assert_false(batch_due(&b, 1, 0));
	assert_true(batch_due(&b, 0, 0));
	batch_add(&b, 1, 0);
	assert_true(batch_due(&b, 100, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_is_asked_for_ahead_if_this_one_goes_on),
		cmocka_unit_test(it_wants_what_it_lacks_and_there_is_room_for),
		cmocka_unit_test(without_a_delay_it_is_due_at_once),
		cmocka_unit_test(with_one_it_waits_for_the_others),
		cmocka_unit_test(it_goes_when_it_is_full_or_there_is_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
