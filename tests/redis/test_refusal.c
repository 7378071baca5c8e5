/* SPDX-License-Identifier: Apache-2.0 */
/* test_refusal.c - what each error reply of Redis asks for; the words are Redis's own. */
#include "redis/policy/refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void each_reply_asks_for_what_the_manual_says(void **state)
{
	static const struct {
		const char *text;
		enum refusal refusal;
	} cases[] = {
		{ "LOADING Redis is loading the dataset in memory", REFUSAL_WAIT },
		{ "BUSY Redis is busy running a script.", REFUSAL_WAIT },
		{ "CLUSTERDOWN The cluster is down", REFUSAL_WAIT },
		{ "TRYAGAIN Multiple keys request during rehashing of slot", REFUSAL_WAIT },
		{ "MASTERDOWN Link with MASTER is down", REFUSAL_WAIT },
		{ "NOREPLICAS Not enough good replicas to write.", REFUSAL_WAIT },
		{ "UNBLOCKED force unblock from blocking operation", REFUSAL_WAIT },
		{ "READONLY You can't write against a read only replica.", REFUSAL_ELSEWHERE },
		{ "MOVED 3999 127.0.0.1:6381", REFUSAL_ELSEWHERE },
		{ "ASK 3999 127.0.0.1:6381", REFUSAL_ELSEWHERE },
		{ "NOGROUP No such key 's' or consumer group 'g'", REFUSAL_NO_GROUP },
		{ "OOM command not allowed when used memory > 'maxmemory'.", REFUSAL_NO_MEMORY },
		{ "NOSCRIPT No matching script. Please use EVAL.", REFUSAL_NO_SCRIPT },
		{ "BUSYGROUP Consumer Group name already exists", REFUSAL_EXISTS },
		{ "NOAUTH Authentication required.", REFUSAL_FATAL },
		{ "WRONGPASS invalid username-password pair", REFUSAL_FATAL },
		{ "NOPERM this user has no permissions", REFUSAL_FATAL },
		{ "WRONGTYPE Operation against a key", REFUSAL_FATAL },
		{ "ERR AUTH <password> called without any password configured", REFUSAL_FATAL },
		{ "ERR Client sent AUTH, but no password is set", REFUSAL_FATAL },
		{ "ERR invalid password", REFUSAL_FATAL },
		{ "ERR syntax error", REFUSAL_OTHER },
		{ "BUSYBODY", REFUSAL_OTHER },
		{ "", REFUSAL_OTHER },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (refusal_of(cases[i].text) != cases[i].refusal)
			fail_msg("'%s' gives %d", cases[i].text, (int)refusal_of(cases[i].text));
	}
}

static void an_error_within_a_script_counts_as_itself(void **state)
{
	(void)state;
	assert_int_equal(refusal_of("NOGROUP No such key script: 7f1, on @user_script:1."),
			 REFUSAL_NO_GROUP);
	assert_int_equal(refusal_of("ERR Error running script (call to f_7f): @user_script:9: "
				    "@user_script: 9: -OOM command not allowed"),
			 REFUSAL_NO_MEMORY);
	assert_int_equal(refusal_of("ERR Error running script"), REFUSAL_OTHER);
	assert_int_equal(refusal_of("ERR something -OOM else"), REFUSAL_OTHER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_reply_asks_for_what_the_manual_says),
		cmocka_unit_test(an_error_within_a_script_counts_as_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
