/* SPDX-License-Identifier: Apache-2.0 */
/* test_metrics.c - the text of a page of metrics. */
#include "program/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void values_stand_below_what_they_mean(void **state)
{
	struct metrics_page p = { .used = 0 };

	(void)state;
	metrics_begin(&p, "a_total", "counter", "What it counts.");
	metrics_value(&p, "a_total", NULL, NULL, 3);
	metrics_value(&p, "a_total", "name", "quote\" slash\\ line\n", 1e15);
	metrics_value(&p, "a_total", "name", "unknown", NAN);
	assert_string_equal(p.text,
			    "# HELP a_total What it counts.\n"
			    "# TYPE a_total counter\n"
			    "a_total 3\n"
			    "a_total{name=\"quote\\\" slash\\\\ line\\n\"} 1000000000000000\n"
			    "a_total{name=\"unknown\"} NaN\n");
	metrics_free(&p);
}

static void a_histogram_counts_up_to_each_bound(void **state)
{
	static const double bounds[] = { 0.5, 1 };
	struct metrics_histogram h = { .bounds = bounds, .count = 2 };
	struct metrics_page p = { .used = 0 };

	(void)state;
	metrics_add(&h, 0.5);
	metrics_add(&h, 0.75);
	metrics_add(&h, 8);
	metrics_buckets(&p, "h", &h);
	assert_string_equal(p.text, "h_bucket{le=\"0.5\"} 1\n"
				    "h_bucket{le=\"1\"} 2\n"
				    "h_bucket{le=\"+Inf\"} 3\n"
				    "h_sum 9.25\n"
				    "h_count 3\n");
	metrics_free(&p);
}

static void bounds_rise_and_fit(void **state)
{
	(void)state;
	assert_true(METRICS_SECONDS <= METRICS_BUCKETS && METRICS_ITEMS <= METRICS_BUCKETS);
	for (size_t i = 1; i < METRICS_SECONDS; i++)
		assert_true(metrics_seconds[i] > metrics_seconds[i - 1]);
	for (size_t i = 1; i < METRICS_ITEMS; i++)
		assert_true(metrics_items[i] > metrics_items[i - 1]);
}

static void a_page_grows(void **state)
{
	struct metrics_page p = { .used = 0 };

	(void)state;
	for (int i = 0; i < 5000; i++)
		metrics_value(&p, "name", NULL, NULL, 1);
	assert_false(p.failed);
	assert_int_equal(p.used, 5000 * strlen("name 1\n"));
	assert_int_equal(strlen(p.text), p.used);
	metrics_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_stand_below_what_they_mean),
		cmocka_unit_test(a_histogram_counts_up_to_each_bound),
		cmocka_unit_test(bounds_rise_and_fit),
		cmocka_unit_test(a_page_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
