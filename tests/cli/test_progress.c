/* SPDX-License-Identifier: Apache-2.0 */
/* test_progress.c - the progress bar fits the terminal, and says what matters at any width. */
#include "progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MiB ((uint64_t)1 << 20)

static void the_bar_fits_any_width_from_20_columns(void **state)
{
	static const uint64_t totals[] = { 0, 1, 1000, 1000 * MiB, 1023 * MiB, (uint64_t)1 << 60 };
	char line[300];

	(void)state;
	for (size_t columns = 20; columns <= 200; columns++) {
		for (size_t i = 0; i < 2 * sizeof(totals) / sizeof(totals[0]); i++) {
			const uint64_t total = totals[i / 2];
			const struct progress p = { .has_total = i % 2 == 0, .total_bytes = total };

			for (double seconds = 1e-3; seconds < 1e8; seconds *= 10) {
				progress_compose(&p, line, sizeof(line), columns, total / 3,
						 12345678901234u, seconds);
				assert_true(strlen(line) <= columns);
				progress_compose(&p, line, sizeof(line), columns, total, 1,
						 seconds);
				assert_true(strlen(line) <= columns);
			}
		}
	}
}

static void at_40_columns_share_amount_rate_and_time_are_there(void **state)
{
	struct progress p = { .has_total = true, .total_bytes = 1000 * MiB };
	char line[300];

	(void)state;
	progress_compose(&p, line, sizeof(line), 39, 500 * MiB, 7, 5);
	assert_string_equal(line, " 50% 500 MiB/1.0 GiB 100 MiB/s 0:05");
	p.has_total = false;
	progress_compose(&p, line, sizeof(line), 39, 500 * MiB, 123456789, 5);
	assert_string_equal(line, "500 MiB  100 MiB/s  0:05");
}

static void at_80_columns_there_is_a_bar(void **state)
{
	const struct progress p = { .has_total = true, .total_bytes = 1000 * MiB };
	char line[300];

	(void)state;
	progress_compose(&p, line, sizeof(line), 79, 500 * MiB, 7, 5);
	assert_non_null(strstr(line, " 50% [="));
	assert_non_null(strstr(line, ">"));
	assert_non_null(strstr(line, "] 500 MiB/"));
	assert_non_null(strstr(line, "  100 MiB/s  ETA 0:05"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bar_fits_any_width_from_20_columns),
		cmocka_unit_test(at_40_columns_share_amount_rate_and_time_are_there),
		cmocka_unit_test(at_80_columns_there_is_a_bar),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
