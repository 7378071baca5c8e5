/* SPDX-License-Identifier: Apache-2.0 */
/* test_signals.c - signals that are noted, and what whoever polls for them sees. */
#include "program/program.h"
#include "program/signals.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

const char program_name[] = "test_signals";

static bool is_readable(void)
{
	struct pollfd signals = { .fd = signals_fd(), .events = POLLIN };

	return poll(&signals, 1, 0) == 1;
}

/* Else whoever polls until a signal comes never rests again. */
static void many_hangups_are_one_and_leave_nothing_to_read(void **state)
{
	(void)state;
	assert_false(signals_take_hup());
	for (int n = 1; n <= 1000; n = 10 * n) {
		for (int i = 0; i < n; i++)
			raise(SIGHUP);
		assert_true(is_readable());
		assert_true(signals_take_hup());
		assert_false(signals_take_hup());
		assert_false(is_readable());
	}
}

static void an_interruption_can_be_read_for_ever_whatever_hangups_come(void **state)
{
	(void)state;
	raise(SIGTERM);
	for (int i = 0; i < 100; i++) {
		raise(SIGHUP);
		assert_true(signals_take_hup());
		assert_true(is_readable());
		assert_int_equal(signals_caught(), SIGTERM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_hangups_are_one_and_leave_nothing_to_read),
		cmocka_unit_test(an_interruption_can_be_read_for_ever_whatever_hangups_come),
	};

	if (!signals_init() || !signals_hup_reloads())
		return 1;
	return cmocka_run_group_tests_name("signals", tests, NULL, NULL);
}
