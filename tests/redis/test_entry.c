/* SPDX-License-Identifier: Apache-2.0 */
/* test_entry.c - ids and entries, out of replies as Redis sends them. */
#include "redis/policy/entry.h"

#include <gpuq/gpuq.h>

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static redisReply *reply_of(const char *bytes)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, bytes, strlen(bytes)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

static bool decode(const char *bytes, struct entry *out, redisReply **reply)
{
	static const struct entry_names names = { "payload", "prio", "op" };

	*reply = reply_of(bytes);
	return entry_decode(*reply, &names, out);
}

static void ids_are_read_and_written(void **state)
{
	static const char *const wrong[] = { "",
					     "-",
					     "1",
					     "1-",
					     "-1",
					     "1-1x",
					     "x1-1",
					     "1--1",
					     "1 -1",
					     "18446744073709551616-0",
					     "1-99999999999999999999" };
	struct stream_id id;
	char text[STREAM_ID_TEXT];
	static const char longest[] = "18446744073709551615-18446744073709551615";

	(void)state;
	assert_true(stream_id_parse("1700000000000-7", 15, &id));
	assert_int_equal(id.ms, 1700000000000);
	assert_int_equal(id.seq, 7);
	assert_true(stream_id_parse(longest, strlen(longest), &id));
	assert_int_equal(stream_id_format(id, text), strlen(longest));
	assert_string_equal(text, longest);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(stream_id_parse(wrong[i], strlen(wrong[i]), &id));
}

static void an_entry_has_its_fields(void **state)
{
	redisReply *reply;
	struct entry e;

	(void)state;
	assert_true(decode("*2\r\n$3\r\n5-6\r\n*8\r\n$1\r\nx\r\n$1\r\ny\r\n$7\r\npayload\r\n$3\r\n"
			   "a\rb\r\n$4\r\nprio\r\n$4\r\nhigh\r\n$2\r\nop\r\n$10\r\n4294967295\r\n",
			   &e, &reply));
	assert_int_equal(e.id.ms, 5);
	assert_int_equal(e.payload_bytes, 3);
	assert_memory_equal(e.payload, "a\rb", 3);
	assert_int_equal(e.priority, Q_PRIORITY_HIGH);
	assert_int_equal(e.opcode, UINT32_MAX);
	assert_null(e.wrong);
	assert_false(e.gone);
	freeReplyObject(reply);
}

static void only_fields_that_are_asked_for_count(void **state)
{
	static const struct entry_names names = { .payload = "payload" };
	redisReply *reply = reply_of("*2\r\n$3\r\n5-6\r\n*6\r\n$7\r\npaylode\r\n$1\r\nx\r\n"
				     "$4\r\nprio\r\n$4\r\nsoon\r\n$7\r\npayload\r\n$1\r\ny\r\n");
	struct entry e;

	(void)state;
	assert_true(entry_decode(reply, &names, &e));
	assert_memory_equal(e.payload, "y", 1);
	assert_null(e.wrong);
	freeReplyObject(reply);
}

static void an_entry_that_was_deleted_is_gone(void **state)
{
	redisReply *reply;
	struct entry e;

	(void)state;
	assert_true(decode("*2\r\n$3\r\n5-6\r\n*-1\r\n", &e, &reply));
	assert_true(e.gone);
	freeReplyObject(reply);
}

static void a_field_that_is_missing_or_wrong_is_named(void **state)
{
	static const char *const wrong[] = {
		"*2\r\n$3\r\n5-6\r\n*0\r\n",
		"*2\r\n$3\r\n5-6\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n",
		"*2\r\n$3\r\n5-6\r\n*4\r\n$7\r\npayload\r\n$0\r\n\r\n$4\r\nprio\r\n$4\r\nsoon\r\n",
		"*2\r\n$3\r\n5-6\r\n*4\r\n$7\r\npayload\r\n$0\r\n\r\n$4\r\nprio\r\n$1\r\n5\r\n",
		"*2\r\n$3\r\n5-6\r\n*4\r\n$7\r\npayload\r\n$0\r\n\r\n$4\r\nprio\r\n$0\r\n\r\n",
		"*2\r\n$3\r\n5-6\r\n*4\r\n$7\r\npayload\r\n$0\r\n\r\n$2\r\nop\r\n$2\r\n-1\r\n",
		"*2\r\n$3\r\n5-6\r\n*4\r\n$7\r\npayload\r\n$0\r\n\r\n$2\r\nop\r\n$0\r\n\r\n",
		("*2\r\n$3\r\n5-6\r\n*4\r\n$7\r\npayload\r\n$0\r\n\r\n$2\r\nop\r\n$"
		 "10\r\n4294967296\r\n"),
	};
	redisReply *reply;
	struct entry e;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_true(decode(wrong[i], &e, &reply));
		if (!e.wrong)
			fail_msg("%s is accepted", wrong[i]);
		freeReplyObject(reply);
	}
	assert_true(decode(
		"*2\r\n$3\r\n5-6\r\n*4\r\n$7\r\npayload\r\n$0\r\n\r\n$4\r\nprio\r\n$1\r\n4\r\n", &e,
		&reply));
	assert_int_equal(e.priority, Q_PRIORITY_URGENT);
	assert_null(e.wrong);
	assert_int_equal(e.payload_bytes, 0);
	freeReplyObject(reply);
}

static void what_is_no_entry_is_refused(void **state)
{
	static const char *const wrong[] = {
		"+OK\r\n",
		"*-1\r\n",
		"*0\r\n",
		"*1\r\n$3\r\n5-6\r\n",
		"*2\r\n:5\r\n*0\r\n",
		"*2\r\n$1\r\n5\r\n*0\r\n",
		"*2\r\n$3\r\n5-6\r\n$1\r\nx\r\n",
		"*2\r\n$3\r\n5-6\r\n*1\r\n$1\r\nx\r\n",
		"*2\r\n$3\r\n5-6\r\n*2\r\n$1\r\nx\r\n:1\r\n",
		"*2\r\n$3\r\n5-6\r\n*2\r\n*0\r\n$1\r\nx\r\n",
	};
	redisReply *reply;
	struct entry e;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (decode(wrong[i], &e, &reply))
			fail_msg("%s is accepted", wrong[i]);
		freeReplyObject(reply);
	}
	assert_false(entry_decode(NULL, &(struct entry_names){ "p", NULL, NULL }, &e));
}

static void the_entries_of_a_read_are_found(void **state)
{
	static const char *const none[] = {
		"*-1\r\n",
		"+OK\r\n",
		"*0\r\n",
		"*2\r\n*0\r\n*0\r\n",
		"*1\r\n$1\r\ns\r\n",
		"*1\r\n*1\r\n$1\r\ns\r\n",
		"*1\r\n*2\r\n$1\r\ns\r\n$1\r\nx\r\n",
	};
	redisReply *reply = reply_of("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n5-6\r\n*0\r\n");

	(void)state;
	assert_non_null(entry_list(reply));
	assert_int_equal(entry_list(reply)->elements, 1);
	freeReplyObject(reply);
	assert_null(entry_list(NULL));
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		reply = reply_of(none[i]);
		assert_null(entry_list(reply));
		freeReplyObject(reply);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_read_and_written),
		cmocka_unit_test(an_entry_has_its_fields),
		cmocka_unit_test(only_fields_that_are_asked_for_count),
		cmocka_unit_test(an_entry_that_was_deleted_is_gone),
		cmocka_unit_test(a_field_that_is_missing_or_wrong_is_named),
		cmocka_unit_test(what_is_no_entry_is_refused),
		cmocka_unit_test(the_entries_of_a_read_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
