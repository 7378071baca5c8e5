/* SPDX-License-Identifier: Apache-2.0 */
/* test_backoff.c - waits grow, stay within their bounds, and differ. */
#include "redis/policy/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void waits_grow_up_to_ten_seconds(void **state)
{
	(void)state;
	assert_int_equal(backoff_reconnect_ms(0, 0), 200);
	assert_int_equal(backoff_reconnect_ms(0, 100), 200); /* at most 5 tries a second */
	assert_int_equal(backoff_reconnect_ms(2, 400), 400);
	assert_int_equal(backoff_reconnect_ms(2, 401), 200); /* of 0 to 400 */
	assert_int_equal(backoff_reconnect_ms(7, 10000), 10000);
	assert_int_equal(backoff_reconnect_ms(UINT32_MAX, 10000), 10000);
	for (uint32_t random = 0; random < 100000; random += 77)
		assert_in_range(backoff_reconnect_ms(40, random), 200, 10000);
}

static void a_failed_message_rests_longer_each_time(void **state)
{
	(void)state;
	assert_int_equal(backoff_retry_ms(0, 60000), 100);
	assert_int_equal(backoff_retry_ms(1, 60000), 100);
	assert_int_equal(backoff_retry_ms(2, 60000), 200);
	assert_int_equal(backoff_retry_ms(5, 60000), 1600);
	assert_int_equal(backoff_retry_ms(5, 1000), 1000);
	assert_int_equal(backoff_retry_ms(UINT32_MAX, 60000), 60000);
	assert_int_equal(backoff_retry_ms(1, 50), 50);
}

static void random_numbers_differ(void **state)
{
	uint64_t random = 1;
	uint32_t seen = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		seen |= backoff_random(&random);
	assert_int_equal(seen, UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_grow_up_to_ten_seconds),
		cmocka_unit_test(a_failed_message_rests_longer_each_time),
		cmocka_unit_test(random_numbers_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
