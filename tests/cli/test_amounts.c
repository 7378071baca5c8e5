/* SPDX-License-Identifier: Apache-2.0 */
/* test_amounts.c - amounts in words. */
#include "program/amounts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void bytes_have_three_figures(void **state)
{
	char to[16];

	(void)state;
	assert_string_equal(format_bytes(to, sizeof(to), 0), "0 B");
	assert_string_equal(format_bytes(to, sizeof(to), 1536), "1.5 KiB");
	assert_string_equal(format_bytes(to, sizeof(to), 200.0 * 1024 * 1024), "200 MiB");
	assert_string_equal(format_bytes(to, sizeof(to), 2e18), "1.7 EiB");
}

static void durations_have_three_figures(void **state)
{
	char to[16];

	(void)state;
	assert_string_equal(format_duration(to, sizeof(to), 850), "850 ns");
	assert_string_equal(format_duration(to, sizeof(to), 12345), "12.3 us");
	assert_string_equal(format_duration(to, sizeof(to), 4560000000), "4.56 s");
}

static void a_clock_has_hours_when_it_needs_them(void **state)
{
	char to[16];

	(void)state;
	assert_string_equal(format_clock(to, sizeof(to), 7), "0:07");
	assert_string_equal(format_clock(to, sizeof(to), 754), "12:34");
	assert_string_equal(format_clock(to, sizeof(to), 3723), "1:02:03");
	assert_string_equal(format_clock(to, sizeof(to), 36000000), "--:--");
}

static void counts_are_short(void **state)
{
	char to[16];

	(void)state;
	assert_string_equal(format_count(to, sizeof(to), 0), "0");
	assert_string_equal(format_count(to, sizeof(to), 999.4), "999");
	assert_string_equal(format_count(to, sizeof(to), 12345), "12.3k");
	assert_string_equal(format_count(to, sizeof(to), 4560000), "4.56M");
	assert_string_equal(format_count(to, sizeof(to), 250e9), "250G");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_have_three_figures),
		cmocka_unit_test(durations_have_three_figures),
		cmocka_unit_test(a_clock_has_hours_when_it_needs_them),
		cmocka_unit_test(counts_are_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
