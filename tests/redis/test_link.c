/* SPDX-License-Identifier: Apache-2.0 */
/* test_link.c - answers that are taken later, among those that are waited for; the server is this
 * test. */
#define _GNU_SOURCE
#include "redis/server/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct pair {
	struct link link;
	struct words words;
	char folder[32];
	int listener;
	int server; /* the other end */
};

static int begin(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct address a = { .port = 0 };
	char path[64] = "";

	snprintf(p->folder, sizeof(p->folder), "/tmp/test_link.XXXXXX");
	assert_non_null(mkdtemp(p->folder));
	snprintf(path, sizeof(path), "%s/s", p->folder);
	memcpy(at.sun_path, path, sizeof(path));
	memcpy(a.path, path, sizeof(path));
	p->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(p->listener, 1), 0);
	assert_true(link_open_within(&p->link, &a, 60000));
	p->server = accept(p->listener, NULL, NULL);
	assert_true(p->server >= 0);
	assert_true(words_init(&p->words, 4));
	*state = p;
	return 0;
}

static int end(void **state)
{
	struct pair *p = *state;
	char path[64];

	link_close(&p->link);
	words_free(&p->words);
	close(p->server);
	close(p->listener);
	snprintf(path, sizeof(path), "%s/s", p->folder);
	unlink(path);
	rmdir(p->folder);
	free(p);
	return 0;
}

static void later(struct pair *p, const char *word)
{
	words_clear(&p->words);
	words_add(&p->words, word);
	assert_true(link_later(&p->link, &p->words));
}

static void answer(struct pair *p, const char *text)
{
	assert_int_equal(write(p->server, text, strlen(text)), strlen(text));
}

static void taken(struct pair *p, const char *text)
{
	redisReply *reply = link_take(&p->link);

	assert_non_null(reply);
	assert_string_equal(reply->str, text);
	freeReplyObject(reply);
}

static void a_command_is_an_array_of_its_words(void **state)
{
	struct pair *p = *state;
	static const char want[] =
		"*4\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$0\r\n\r\n$20\r\n18446744073709551615\r\n"
		"*1\r\n$1\r\nx\r\n";
	char got[256];

	words_clear(&p->words);
	words_add(&p->words, "SET");
	words_add_bytes(&p->words, "a\0b", 3);
	words_add_bytes(&p->words, NULL, 0);
	words_add_number(&p->words, UINT64_MAX);
	assert_true(link_append(&p->link, &p->words));
	later(p, "x");
	assert_true(link_push(&p->link));
	assert_int_equal(read(p->server, got, sizeof(got)), sizeof(want) - 1);
	assert_memory_equal(got, want, sizeof(want) - 1);
	assert_true(link_push(&p->link)); /* nothing is sent twice */
	assert_int_equal(recv(p->server, got, sizeof(got), MSG_DONTWAIT), -1);
}

static void what_is_owed_comes_in_its_order_around_other_answers(void **state)
{
	struct pair *p = *state;
	redisReply *reply;

	assert_null(link_take(&p->link));
	later(p, "one");
	later(p, "two");
	later(p, "three");
	answer(p, "+1\r\n+2\r\n+3\r\n+pong\r\n+4\r\n");
	assert_true(link_receive(&p->link));
	taken(p, "1");
	reply = link_say(&p->link, "PING", NULL); /* behind the two that are owed */
	assert_non_null(reply);
	assert_string_equal(reply->str, "pong");
	freeReplyObject(reply);
	assert_int_equal(p->link.early, 2);
	later(p, "four");
	taken(p, "2");
	taken(p, "3");
	taken(p, "4");
	assert_null(link_take(&p->link));
	assert_int_equal(p->link.owed, 0);
}

static void a_part_of_an_answer_is_none(void **state)
{
	struct pair *p = *state;

	later(p, "one");
	answer(p, "$3\r\nab");
	assert_true(link_receive(&p->link));
	assert_null(link_take(&p->link));
	assert_non_null(p->link.context);
	answer(p, "c\r\n");
	assert_true(link_await(&p->link));
	taken(p, "abc");
}

/* As many as may be owed, and more than once around the ring. */
static void many_are_owed(void **state)
{
	struct pair *p = *state;
	char all[LINK_OWED * 8];
	char text[16];

	for (int round = 0; round < 3; round++) {
		size_t len = 0;

		for (int i = 0; i < LINK_OWED; i++) {
			later(p, "x");
			len += (size_t)snprintf(all + len, sizeof(all) - len, "+%d\r\n", i);
		}
		answer(p, all);
		for (int i = 0; i < LINK_OWED - round; i++)
			assert_true(link_await(&p->link));
		assert_int_equal(p->link.early, LINK_OWED - round);
		for (int i = 0; i < LINK_OWED; i++) {
			snprintf(text, sizeof(text), "%d", i);
			taken(p, text);
		}
	}
}

static void a_lost_link_owes_nothing(void **state)
{
	struct pair *p = *state;

	later(p, "one");
	later(p, "two");
	answer(p, "+1\r\n");
	assert_true(link_await(&p->link));
	shutdown(p->server, SHUT_RDWR);
	assert_null(link_say(&p->link, "PING", NULL));
	assert_null(p->link.context);
	assert_int_equal(p->link.owed, 0);
	assert_null(link_take(&p->link));
	assert_false(link_await(&p->link));
	assert_false(link_push(&p->link));
	words_clear(&p->words);
	words_add(&p->words, "x");
	assert_false(link_later(&p->link, &p->words));
	assert_true(p->link.error[0] != '\0');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_command_is_an_array_of_its_words, begin, end),
		cmocka_unit_test_setup_teardown(
			what_is_owed_comes_in_its_order_around_other_answers, begin, end),
		cmocka_unit_test_setup_teardown(a_part_of_an_answer_is_none, begin, end),
		cmocka_unit_test_setup_teardown(many_are_owed, begin, end),
		cmocka_unit_test_setup_teardown(a_lost_link_owes_nothing, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
