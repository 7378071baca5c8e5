/* SPDX-License-Identifier: Apache-2.0 */
/* test_numbers.c - the numbers of the command line, accepted and refused. */
#include "cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void good_numbers(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} table[] = {
		{ "0", 0 },
		{ "1", 1 },
		{ "007", 7 },
		{ "4096", 4096 },
		{ "4K", 4096 },
		{ "4k", 4096 },
		{ "16M", 16777216 },
		{ "1m", 1048576 },
		{ "4KiB", 4096 },
		{ "4kiB", 4096 },
		{ "4KB", 4000 },
		{ "4kB", 4000 },
		{ "2MiB", 2097152 },
		{ "2MB", 2000000 },
		{ "1G", 1073741824 },
		{ "1g", 1073741824 },
		{ "1GiB", 1073741824 },
		{ "3GB", 3000000000 },
		{ "18446744073709551615", UINT64_MAX },
		{ "18446744073709551KB", UINT64_MAX - 615 },
		{ "17179869183G", UINT64_MAX - 1073741823 },
		{ "18014398509481983K", UINT64_MAX - 1023 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint64_t value = 99;

		assert_true(parse_size(table[i].text, &value));
		assert_int_equal(value, table[i].value);
	}
}

static void bad_numbers(void **state)
{
	static const char *const table[] = {
		"",
		"K",
		"-1",
		"+1",
		" 1",
		"1 ",
		"1KiB ",
		"1Ki",
		"1KIB",
		"1KBB",
		"1B",
		"1iB",
		"1T",
		"GiB",
		"1 K",
		"17179869184G",
		"18446744073709552KB",
		"0x10",
		"1.5K",
		"1e3",
		"KK",
		"1MM",
		"18446744073709551616",
		"99999999999999999999999",
		"18014398509481984K",
		"\n1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint64_t value = 99;

		assert_false(parse_size(table[i], &value));
		assert_int_equal(value, 99);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_numbers),
		cmocka_unit_test(bad_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
