/* SPDX-License-Identifier: Apache-2.0 */
/* test_echo.c - the echo kernel returns what it got, and nothing of what does not fit. */
#include "runner.h"

UNITS_OF(echo);

static uint8_t bytes[70000];

static void fill_bytes(void)
{
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 167 + (i >> 8) * 13 + 1);
}

static void expect_echo(const struct unit *unit, uint32_t len, uint32_t cap)
{
	struct answer answer = ask(unit, bytes, len, NULL, cap);

	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.len, len);
	assert_memory_equal(answer.out, bytes, len);
	assert_canary_lives(answer.out + len, cap - len);
	answer_free(&answer);
}

static void echo_of_nothing_is_nothing(void **state)
{
	expect_echo(*state, 0, 64);
	expect_echo(*state, 0, 0);
}

static void echo_of_every_small_length_is_the_message(void **state)
{
	const struct unit *unit = *state;

	for (uint32_t len = 1; len <= 300; len += unit->slow ? 7 : 1)
		expect_echo(unit, len, 300);
}

static void echo_of_long_messages_is_the_message(void **state)
{
	/* Around one, four and more 16-byte words a thread. */
	static const uint32_t lens[] = { 511,  512,  513,   2047,  2048,  2049,  4095,
					 4096, 4097, 12345, 65535, 65536, 69999, 70000 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		expect_echo(*state, lens[i], 70000);
}

static void echo_fills_the_room_exactly(void **state)
{
	static const uint32_t lens[] = { 1, 15, 16, 17, 33, 64, 1000 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		expect_echo(*state, lens[i], lens[i]);
}

static void echo_that_does_not_fit_reports_its_length_and_writes_nothing(void **state)
{
	static const uint32_t lens[] = { 1, 16, 17, 1000 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct answer answer = ask(*state, bytes, lens[i], NULL, lens[i] - 1);

		assert_int_equal(answer.status, 0);
		assert_int_equal(answer.len, lens[i]);
		assert_canary_lives(answer.out, answer.cap);
		answer_free(&answer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH_UNIT(echo_of_nothing_is_nothing),
		ON_EACH_UNIT(echo_of_every_small_length_is_the_message),
		ON_EACH_UNIT(echo_of_long_messages_is_the_message),
		ON_EACH_UNIT(echo_fills_the_room_exactly),
		ON_EACH_UNIT(echo_that_does_not_fit_reports_its_length_and_writes_nothing),
	};

	fill_bytes();
	return cmocka_run_group_tests_name("kernels.echo", tests, NULL, NULL);
}
