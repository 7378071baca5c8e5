/* SPDX-License-Identifier: Apache-2.0 */
/* test_address.c - addresses of Redis servers, accepted and refused. */
#include "redis/policy/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void an_address_has_its_parts(void **state)
{
	struct address a;
	char shown[ADDRESS_TEXT];

	(void)state;
	assert_null(address_parse("redis://h", &a));
	assert_string_equal(a.host, "h");
	assert_int_equal(a.port, 6379);
	assert_false(a.has_password);
	assert_null(address_parse("redis://us%65r:p%40:%2f@host.example:1234/15", &a));
	assert_string_equal(a.host, "host.example");
	assert_int_equal(a.port, 1234);
	assert_int_equal(a.database, 15);
	assert_string_equal(a.user, "user");
	assert_string_equal(a.password, "p@:/");
	assert_true(a.has_password);
	address_show(&a, shown);
	assert_string_equal(shown, "host.example:1234");
	assert_null(address_parse("redis://:a@b@h/", &a)); /* the last @ counts */
	assert_string_equal(a.password, "a@b");
	assert_string_equal(a.user, "");
	assert_null(address_parse("redis://[::1]:7", &a));
	assert_string_equal(a.host, "::1");
	assert_int_equal(a.port, 7);
	address_show(&a, shown);
	assert_string_equal(shown, "[::1]:7");
	assert_null(address_parse("redis://[::1]", &a));
	assert_int_equal(a.port, 6379);
	assert_null(address_parse("unix:/run/redis.sock", &a));
	assert_string_equal(a.path, "/run/redis.sock");
	assert_string_equal(a.host, "");
	address_show(&a, shown);
	assert_string_equal(shown, "unix:/run/redis.sock");
	assert_null(address_parse("redis://u:%4A%4a@h", &a)); /* digits of both cases */
	assert_string_equal(a.password, "JJ");
}

static void a_wrong_address_is_refused_with_a_reason(void **state)
{
	static const char *const wrong[] = {
		"",
		"h:6379",
		"http://h",
		"redis://",
		"redis:///1",
		"redis://:6379",
		"redis://h:",
		"redis://h:0",
		"redis://h:65536",
		"redis://h:6379x",
		"redis://h:99999999999999999999",
		"redis://h/x",
		"redis://h/65536",
		"redis://h/1/2",
		"redis://user@h",
		"redis://u:%@h",
		"redis://u:%4@h",
		"redis://u:%4g@h",
		"redis://u:%g4@h",
		"redis://u:%00@h",
		"redis://%zz:p@h",
		"redis://u:%-1@h",
		"redis://u:%:1@h",
		"redis://[::1",
		"redis://[::1]x",
		"redis://[]:1",
		"unix:",
	};
	struct address a;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const char *why = address_parse(wrong[i], &a);

		if (!why)
			fail_msg("'%s' is accepted", wrong[i]);
	}
}

static void what_is_too_long_is_refused(void **state)
{
	struct address a;
	char text[1024];
	char part[400];

	(void)state;
	memset(part, 'x', sizeof(part));
	snprintf(text, sizeof(text), "redis://%.255s", part);
	assert_null(address_parse(text, &a));
	snprintf(text, sizeof(text), "redis://%.256s", part);
	assert_non_null(address_parse(text, &a));
	snprintf(text, sizeof(text), "redis://%.127s:%.255s@h", part, part);
	assert_null(address_parse(text, &a));
	snprintf(text, sizeof(text), "redis://%.128s:p@h", part);
	assert_non_null(address_parse(text, &a));
	snprintf(text, sizeof(text), "redis://u:%.256s@h", part);
	assert_non_null(address_parse(text, &a));
	snprintf(text, sizeof(text), "unix:%.103s", part);
	assert_null(address_parse(text, &a));
	snprintf(text, sizeof(text), "unix:%.104s", part);
	assert_non_null(address_parse(text, &a));
}

static void a_list_of_servers_is_read(void **state)
{
	struct address list[ADDRESS_LIST];
	uint32_t count = 0;
	char text[256] = "h";

	(void)state;
	assert_null(address_parse_list("a,b:1,[::1]:2,[::2]", 26379, list, &count));
	assert_int_equal(count, 4);
	assert_string_equal(list[0].host, "a");
	assert_int_equal(list[0].port, 26379);
	assert_string_equal(list[1].host, "b");
	assert_int_equal(list[1].port, 1);
	assert_string_equal(list[2].host, "::1");
	assert_int_equal(list[2].port, 2);
	assert_int_equal(list[3].port, 26379);
	assert_false(list[3].has_password);
	for (uint32_t i = 1; i < ADDRESS_LIST; i++)
		strcat(text, ",h");
	assert_null(address_parse_list(text, 1, list, &count));
	assert_int_equal(count, ADDRESS_LIST);
	strcat(text, ",h");
	assert_non_null(address_parse_list(text, 1, list, &count));
}

static void a_wrong_list_is_refused(void **state)
{
	static const char *const wrong[] = { "",    ",",   "a,",      ",a",        "a,,b",
					     "a:0", "a:x", "a:65536", "redis://a", "u:p@a",
					     "a/1", ":1",  "[::1",    "[::1]x",    "a:" };
	struct address list[ADDRESS_LIST];
	uint32_t count = 77;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (!address_parse_list(wrong[i], 1, list, &count))
			fail_msg("'%s' is accepted", wrong[i]);
	}
	assert_int_equal(count, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_has_its_parts),
		cmocka_unit_test(a_wrong_address_is_refused_with_a_reason),
		cmocka_unit_test(what_is_too_long_is_refused),
		cmocka_unit_test(a_list_of_servers_is_read),
		cmocka_unit_test(a_wrong_list_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
