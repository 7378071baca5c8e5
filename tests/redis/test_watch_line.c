/* SPDX-License-Identifier: Apache-2.0 */
/* test_watch_line.c - the line that a worker shows on a terminal. */
#include "redis/policy/watch_line.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct watch_line busy = { 123456, 98765432, 512, 3400000, 201.5, 17 };
static const struct watch_line widest = { 9.99e17, 9.99e17, 9.99e17, 9.99e17, 65536, 9.99e17 };
static const struct watch_line fresh = { 0, 0, NAN, NAN, 0, 0 };

static void it_fits_any_width_from_20_columns(void **state)
{
	const struct watch_line *lines[] = { &busy, &widest, &fresh };
	char text[200];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (size_t columns = 20; columns <= 200; columns++) {
			watch_compose(lines[i], text, sizeof(text), columns);
			assert_true(strlen(text) <= columns);
		}
	}
}

static void at_40_columns_nothing_is_left_out(void **state)
{
	char text[200];

	(void)state;
	watch_compose(&busy, text, sizeof(text), 40);
	assert_string_equal(text, "123k/s pend 512 lag 3.4M batch 202 re 17");
	watch_compose(&busy, text, sizeof(text), 39);
	assert_string_equal(text, "123k/s p512 l3.4M b202 r17");
	watch_compose(&busy, text, sizeof(text), 20);
	assert_string_equal(text, "123k/s lag 3.4M");
}

static void with_room_it_has_words(void **state)
{
	char text[200];

	(void)state;
	watch_compose(&busy, text, sizeof(text), 80);
	assert_string_equal(
		text, "123k/s  98.8M done  512 pending  3.4M behind  batch 202  17 redelivered");
}

static void what_is_not_known_is_said(void **state)
{
	char text[200];

	(void)state;
	watch_compose(&fresh, text, sizeof(text), 40);
	assert_string_equal(text, "0/s pend ? lag ? batch 0 re 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_fits_any_width_from_20_columns),
		cmocka_unit_test(at_40_columns_nothing_is_left_out),
		cmocka_unit_test(with_room_it_has_words),
		cmocka_unit_test(what_is_not_known_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
