/* SPDX-License-Identifier: Apache-2.0 */
/* test_label.c - names as sha256sum(1) escapes them. */
#include "label.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *name, const char *suffix, const char *text, bool escaped)
{
	char to[LABEL_BYTES];

	assert_int_equal(label_write(to, name, suffix), escaped);
	assert_string_equal(to, text);
}

static void only_what_ends_or_escapes_a_line_is_escaped(void **state)
{
	(void)state;
	expect("plain name", "", "plain name", false);
	expect("-", "", "-", false);
	expect("tab\t \xff*\"", ":7", "tab\t \xff*\":7", false);
	expect("a\nb", "", "a\\nb", true);
	expect("a\rb", "", "a\\rb", true);
	expect("a\\b", "", "a\\\\b", true);
	expect("\\n", ":12", "\\\\n:12", true);
	expect("", "", "", false);
}

static void a_name_of_any_length_stays_within_the_buffer(void **state)
{
	static char name[100000];
	char to[LABEL_BYTES];

	(void)state;
	memset(name, '\n', sizeof(name) - 1);
	assert_true(label_write(to, name, ":18446744073709551615"));
	assert_int_equal(strlen(to), 2 * 4096 + 21);
	memset(name, 'x', sizeof(name) - 1);
	assert_false(label_write(to, name, ""));
	assert_true(strlen(to) >= 4096); /* what can be opened is whole */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_ends_or_escapes_a_line_is_escaped),
		cmocka_unit_test(a_name_of_any_length_stays_within_the_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
