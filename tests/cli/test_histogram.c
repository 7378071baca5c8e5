/* SPDX-License-Identifier: Apache-2.0 */
/* test_histogram.c - quantiles against sorted values. */
#include "program/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct histogram h;

static int clear(void **state)
{
	(void)state;
	memset(&h, 0, sizeof(h));
	return 0;
}

static void empty_is_zero(void **state)
{
	(void)state;
	assert_int_equal(histogram_quantile(&h, 50, 100), 0);
	assert_int_equal(h.max, 0);
}

static void every_power_of_two_is_within_a_32nd(void **state)
{
	(void)state;
	for (unsigned int bit = 0; bit < 64; bit++) {
		for (int offset = -1; offset <= 1; offset++) {
			const uint64_t value = (UINT64_C(1) << bit) + (uint64_t)offset;
			uint64_t low;

			memset(&h, 0, sizeof(h));
			histogram_add(&h, value);
			histogram_add(&h, UINT64_MAX); /* so that max does not hide the bound */
			low = histogram_quantile(&h, 1, 2);
			assert_true(low >= value);
			assert_true(low - value <= value / 32);
		}
	}
}

static void small_values_are_exact(void **state)
{
	(void)state;
	for (uint64_t value = 0; value < 64; value++)
		histogram_add(&h, value);
	assert_int_equal(histogram_quantile(&h, 0, 100), 0);
	assert_int_equal(histogram_quantile(&h, 25, 100), 15);
	assert_int_equal(histogram_quantile(&h, 50, 100), 31);
	assert_int_equal(histogram_quantile(&h, 75, 100), 47);
	assert_int_equal(histogram_quantile(&h, 1, 1), 63);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a;
	const uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void ob_3_quantiles_of_many_values_are_within_a_32nd(void **state)
{
	enum { COUNT = 10007 };
	static uint64_t values[COUNT];
	const uint32_t parts[] = { 1, 10, 500, 900, 990, 999, 1000 };
	uint64_t random = 1;

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		values[i] = (random >> 20) >> (random >> 59); /* over many octaves */
		histogram_add(&h, values[i]);
	}
	qsort(values, COUNT, sizeof(values[0]), by_value);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const uint64_t exact = values[((uint64_t)COUNT * parts[i] + 999) / 1000 - 1];
		const uint64_t got = histogram_quantile(&h, parts[i], 1000);

		assert_true(got >= exact);
		assert_true(got - exact <= exact / 32);
	}
	assert_int_equal(histogram_quantile(&h, 1, 1), values[COUNT - 1]);
	assert_int_equal(h.max, values[COUNT - 1]);
	assert_int_equal(h.count, COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(empty_is_zero, clear),
		cmocka_unit_test_setup(every_power_of_two_is_within_a_32nd, clear),
		cmocka_unit_test_setup(small_values_are_exact, clear),
		cmocka_unit_test_setup(ob_3_quantiles_of_many_values_are_within_a_32nd, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
