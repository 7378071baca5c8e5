/* SPDX-License-Identifier: Apache-2.0 */
/* test_list_elements.c - messages of a list, told apart by their bytes. */
#include "redis/policy/list_elements.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What Redis would answer: `count` strings; NULL stands for something that is no string. */
static redisReply *answer(const char *const *texts, size_t count)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	char line[64];

	redisReaderFeed(reader, line, (size_t)snprintf(line, sizeof(line), "*%zu\r\n", count));
	for (size_t i = 0; i < count; i++) {
		const int len = texts[i] ? snprintf(line, sizeof(line), "$%zu\r\n%s\r\n",
						    strlen(texts[i]), texts[i])
					 : snprintf(line, sizeof(line), ":1\r\n");

		redisReaderFeed(reader, line, (size_t)len);
	}
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	redisReaderFree(reader);
	assert_non_null(reply);
	return reply;
}

/* An element of its own. */
static struct element element(const char *text)
{
	redisReply *reply = answer(&text, 1);
	struct element e = { .reply = reply->element[0] };

	reply->element[0] = NULL;
	freeReplyObject(reply);
	element_digest(&e);
	return e;
}

static uint64_t beginning(const char *text)
{
	struct element e = element(text);
	const uint64_t value = element_id(&e, 0).ms;

	freeReplyObject(e.reply);
	return value;
}

static void the_digest_is_what_sha256sum_writes(void **state)
{
	struct element e = element("abc");
	char text[DIGEST_TEXT];

	(void)state;
	digest_text(e.digest, text);
	assert_string_equal(text,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	freeReplyObject(e.reply);
}

static void equal_messages_have_ids_of_their_own(void **state)
{
	struct element a = element("a");
	struct element b = element("a");

	(void)state;
	assert_true(element_id(&a, 1).ms == element_id(&b, 2).ms);
	assert_false(stream_id_equal(element_id(&a, 1), element_id(&b, 2)));
	freeReplyObject(a.reply);
	freeReplyObject(b.reply);
}

static void what_is_taken_is_the_oldest_of_the_equal_ones(void **state)
{
	struct elements list = { .count = 0 };
	struct element e;

	(void)state;
	assert_true(elements_push(&list, element("a")));
	assert_true(elements_push(&list, element("b")));
	assert_true(elements_push(&list, element("a")));
	list.at[0].deliveries = 1;
	assert_false(elements_take(&list, (struct stream_id){ .ms = 1 }, &e));
	assert_true(elements_take(&list, (struct stream_id){ .ms = beginning("a") }, &e));
	assert_int_equal(e.deliveries, 0);
	assert_int_equal(list.count, 2);
	freeReplyObject(e.reply);
	assert_true(elements_take(&list, (struct stream_id){ .ms = beginning("a") }, &e));
	assert_int_equal(e.deliveries, 1);
	freeReplyObject(e.reply);
	assert_string_equal(list.at[0].reply->str, "b");
	elements_clear(&list);
	assert_int_equal(list.count, 0);
}

static void it_grows(void **state)
{
	struct elements list = { .count = 0 };

	(void)state;
	for (int i = 0; i < 600; i++)
		assert_true(elements_push(&list, element("x")));
	assert_int_equal(list.count, 600);
	elements_clear(&list);
	elements_clear(&list);
}

static void unknown_are_those_that_are_not_held(void **state)
{
	const char *const own[] = { "c", "b", NULL, "b", "b", "a" };
	uint64_t held[] = { beginning("b"), beginning("gone"), beginning("a"), beginning("b") };
	redisReply *reply = answer(own, 6);
	struct elements out = { .count = 0 };

	(void)state;
	assert_true(elements_unknown(reply, held, 4, &out));
	assert_int_equal(out.count, 2);
	assert_string_equal(out.at[0].reply->str, "c");
	assert_string_equal(out.at[1].reply->str, "b");
	freeReplyObject(reply);
	elements_clear(&out);
}

static void what_is_held_may_be_less_and_more_than_all(void **state)
{
	const char *const own[] = { "a" };
	uint64_t least = 0;
	uint64_t most = UINT64_MAX;
	struct elements out = { .count = 0 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		redisReply *reply = answer(own, 1);

		assert_true(elements_unknown(reply, i == 0 ? &least : &most, 1, &out));
		freeReplyObject(reply);
	}
	assert_int_equal(out.count, 2);
	elements_clear(&out);
}

static void with_nothing_held_all_are_unknown(void **state)
{
	const char *const own[] = { "same", "same" };
	redisReply *reply = answer(own, 2);
	struct elements out = { .count = 0 };
	uint64_t none = 0;

	(void)state;
	assert_true(elements_unknown(reply, &none, 0, &out));
	assert_int_equal(out.count, 2);
	freeReplyObject(reply);
	elements_clear(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_digest_is_what_sha256sum_writes),
		cmocka_unit_test(equal_messages_have_ids_of_their_own),
		cmocka_unit_test(what_is_taken_is_the_oldest_of_the_equal_ones),
		cmocka_unit_test(it_grows),
		cmocka_unit_test(unknown_are_those_that_are_not_held),
		cmocka_unit_test(what_is_held_may_be_less_and_more_than_all),
		cmocka_unit_test(with_nothing_held_all_are_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
