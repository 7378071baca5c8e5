/* SPDX-License-Identifier: Apache-2.0 */
/* test_slots.c - keys and slots, CLUSTER SLOTS, MOVED and ASK, also such as make no sense. */
#include "redis/policy/slots.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct server_name asked = { .host = "asked.example", .port = 7000 };

static uint32_t slot_of(const char *key)
{
	return slots_of_key(key, strlen(key));
}

static struct slots *new_slots(void)
{
	struct slots *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	return s;
}

static bool read_text(struct slots *s, const char *bytes)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	bool ok;

	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, bytes, strlen(bytes)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	ok = slots_read(s, reply, &asked);
	freeReplyObject(reply);
	redisReaderFree(reader);
	return ok;
}

static void is_at(const struct slots *s, uint32_t slot, const char *host, uint16_t port)
{
	const struct server_name *name = slots_find(s, slot);

	assert_non_null(name);
	assert_string_equal(name->host, host);
	assert_int_equal(name->port, port);
}

/* The slots are those that CLUSTER KEYSLOT of a real server says. */
static void keys_have_the_slots_that_redis_gives_them(void **state)
{
	(void)state;
	assert_int_equal(slots_crc16("123456789", 9), 0x31c3);
	assert_int_equal(slot_of(""), 0);
	assert_int_equal(slot_of("foo"), 12182);
	assert_int_equal(slot_of("{foo}:results"), 12182);
	assert_int_equal(slot_of("a{foo}b{bar}"), 12182);
	assert_int_equal(slot_of("foo{}{bar}"), 8363); /* empty braces: all of it */
	assert_int_equal(slot_of("foo{{bar}}zap"), 4015);
	assert_int_equal(slot_of("foo{bar"), 15278); /* no second brace: all of it */
	assert_int_equal(slots_of_key("\0{a\0b}", 6), slots_of_key("a\0b", 3));
}

static void the_reply_to_cluster_slots_is_taken_over(void **state)
{
	struct slots *s = new_slots();

	(void)state;
	assert_null(slots_find(s, 0));
	assert_true(read_text(s, "*2\r\n"
				 "*4\r\n:0\r\n:8191\r\n"
				 "*3\r\n$4\r\nhost\r\n:7001\r\n$2\r\nid\r\n"
				 "*2\r\n$4\r\nback\r\n:7004\r\n"
				 "*3\r\n:8200\r\n:16383\r\n*2\r\n$3\r\n::1\r\n:7002\r\n"));
	is_at(s, 0, "host", 7001);
	is_at(s, 8191, "host", 7001);
	assert_null(slots_find(s, 8192)); /* in the gap */
	assert_null(slots_find(s, 8199));
	is_at(s, 8200, "::1", 7002);
	is_at(s, 16383, "::1", 7002);
	assert_null(slots_find(s, 16384));
	assert_int_equal(s->count, 2);       /* replicas are none of them */
	assert_true(read_text(s, "*0\r\n")); /* a cluster without slots */
	assert_null(slots_find(s, 0));
	free(s);
}

static void a_server_without_a_name_is_the_one_that_was_asked(void **state)
{
	static const char *const hosts[] = { "$-1\r\n", "$0\r\n\r\n", "$1\r\n?\r\n" };
	struct slots *s = new_slots();
	char text[128];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), "*1\r\n*3\r\n:5\r\n:5\r\n*2\r\n%s:7009\r\n", hosts[i]);
		assert_true(read_text(s, text));
		is_at(s, 5, "asked.example", 7009);
	}
	free(s);
}

static void a_reply_that_makes_no_sense_changes_nothing(void **state)
{
	static const char *const wrong[] = {
		"+OK\r\n",
		"*1\r\n:1\r\n",
		"*1\r\n*2\r\n:0\r\n:1\r\n",
		"*1\r\n*3\r\n$1\r\n0\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
		"*1\r\n*3\r\n:0\r\n$1\r\n1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
		"*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
		"*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n",
		"*1\r\n*3\r\n:0\r\n:9223372036854775807\r\n*2\r\n$1\r\nh\r\n:1\r\n",
		"*1\r\n*3\r\n:2\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n:1\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\nh\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:0\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:65536\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n$1\r\n1\r\n",
		"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n:1\r\n:1\r\n",
		"*2\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n:7\r\n", /* the first is good */
	};
	struct slots *s = new_slots();
	char name[400];
	char text[600];

	(void)state;
	assert_true(read_text(s, "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$4\r\nkept\r\n:1\r\n"));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (read_text(s, wrong[i]))
			fail_msg("reply %zu is accepted", i);
		is_at(s, 0, "kept", 1);
	}
	memset(name, 'n', sizeof(name));
	snprintf(text, sizeof(text), "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$256\r\n%.256s\r\n:1\r\n",
		 name);
	assert_false(read_text(s, text));
	snprintf(text, sizeof(text), "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$255\r\n%.255s\r\n:1\r\n",
		 name);
	assert_true(read_text(s, text));
	free(s);
}

/* A wrong range before good ones, and one server more than there is room for. */
static void a_map_with_one_wrong_range_changes_nothing(void **state)
{
	struct slots *s = new_slots();
	const size_t size = ((size_t)SLOTS_SERVERS + 1) * 64;
	char *text = malloc(size);

	(void)state;
	assert_non_null(text);
	assert_true(read_text(s, "*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$1\r\na\r\n:1\r\n"));
	assert_false(read_text(s, "*2\r\n*3\r\n:5\r\n:4\r\n*2\r\n$1\r\nb\r\n:1\r\n"
				  "*3\r\n:0\r\n:9\r\n*2\r\n$1\r\nb\r\n:1\r\n"));
	is_at(s, 0, "a", 1);
	for (uint32_t servers = SLOTS_SERVERS; servers <= SLOTS_SERVERS + 1; servers++) {
		size_t at = (size_t)snprintf(text, size, "*%u\r\n", servers);

		for (uint32_t i = 0; i < servers; i++)
			at += (size_t)snprintf(text + at, size - at,
					       "*3\r\n:%u\r\n:%u\r\n*2\r\n$1\r\nc\r\n:%u\r\n", i, i,
					       i + 1);
		assert_int_equal(read_text(s, text), servers == SLOTS_SERVERS);
		is_at(s, 0, "c", 1);
	}
	free(text);
	free(s);
}

/* Elements as hiredis makes them, for what is not text. */
static void a_name_with_a_zero_byte_is_refused(void **state)
{
	redisReply host = { .type = REDIS_REPLY_STRING, .str = "h\0x", .len = 3 };
	redisReply port = { .type = REDIS_REPLY_INTEGER, .integer = 1 };
	redisReply zero = { .type = REDIS_REPLY_INTEGER, .integer = 0 };
	redisReply *pair[] = { &host, &port };
	redisReply server = { .type = REDIS_REPLY_ARRAY, .elements = 2, .element = pair };
	redisReply *triple[] = { &zero, &zero, &server };
	redisReply range = { .type = REDIS_REPLY_ARRAY, .elements = 3, .element = triple };
	redisReply *ranges[] = { &range };
	redisReply all = { .type = REDIS_REPLY_ARRAY, .elements = 1, .element = ranges };
	struct slots *s = new_slots();

	(void)state;
	assert_false(slots_read(s, &all, &asked));
	host.len = 1;
	assert_true(slots_read(s, &all, &asked));
	all.elements = SLOTS + 1; /* more ranges than slots: not even looked at */
	assert_false(slots_read(s, &all, &asked));
	free(s);
}

static void redirections_are_read(void **state)
{
	struct redirect r;

	(void)state;
	assert_true(slots_redirect("MOVED 3999 127.0.0.1:6381", &r));
	assert_true(r.moved);
	assert_int_equal(r.slot, 3999);
	assert_string_equal(r.to.host, "127.0.0.1");
	assert_int_equal(r.to.port, 6381);
	assert_true(slots_redirect("ASK 16383 ::1:65535\r\n", &r));
	assert_false(r.moved);
	assert_int_equal(r.slot, 16383);
	assert_string_equal(r.to.host, "::1");
	assert_int_equal(r.to.port, 65535);
	assert_true(slots_redirect("MOVED 0 :1", &r)); /* of the one that said so */
	assert_string_equal(r.to.host, "");
}

static void a_wrong_redirection_is_none(void **state)
{
	static const char *const wrong[] = {
		"",
		"MOVED",
		"MOVED ",
		"MOVED 1",
		"MOVED 1 ",
		"MOVED 1 h",
		"MOVED 1 h:",
		"MOVED 1 h:0",
		"MOVED 1 h:65536",
		"MOVED 1 h:1x",
		"MOVED 16384 h:1",
		"MOVED -1 h:1",
		"MOVED x h:1",
		"MOVED  h:1",
		"ASKING 1 h:1",
		"moved 1 h:1",
		"ASK 1 h",
		"ERR MOVED 1 h:1",
		"ASK 99999999999 h:1",
		"ASK 1 h:99999999999",
	};
	struct redirect r;
	char text[400];
	char name[300];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (slots_redirect(wrong[i], &r))
			fail_msg("'%s' is accepted", wrong[i]);
	}
	memset(name, 'n', sizeof(name));
	snprintf(text, sizeof(text), "MOVED 1 %.255s:1", name);
	assert_true(slots_redirect(text, &r));
	snprintf(text, sizeof(text), "MOVED 1 %.256s:1", name);
	assert_false(slots_redirect(text, &r));
}

static void a_moved_slot_is_elsewhere_and_the_others_are_not(void **state)
{
	struct slots *s = new_slots();
	struct redirect r = { .moved = true, .slot = 7, .to = { .host = "new", .port = 1 } };

	(void)state;
	assert_true(read_text(s, "*1\r\n*3\r\n:0\r\n:100\r\n*2\r\n$3\r\nold\r\n:1\r\n"));
	assert_true(slots_moved(s, &r, &asked));
	is_at(s, 7, "new", 1);
	is_at(s, 6, "old", 1);
	is_at(s, 8, "old", 1);
	r.to.host[0] = '\0';
	assert_true(slots_moved(s, &r, &asked));
	is_at(s, 7, "asked.example", 1);
	slots_clear(s);
	assert_null(slots_find(s, 7));
	free(s);
}

static void there_are_never_more_servers_than_there_is_room_for(void **state)
{
	struct slots *s = new_slots();
	struct redirect r = { .moved = true, .to = { .host = "h" } };

	(void)state;
	for (uint32_t i = 0; i < SLOTS_SERVERS; i++) {
		r.slot = i;
		r.to.port = (uint16_t)(i + 1);
		assert_true(slots_moved(s, &r, &asked));
	}
	r.slot = 9000;
	r.to.port = 60000;
	assert_false(slots_moved(s, &r, &asked));
	assert_null(slots_find(s, 9000));
	is_at(s, SLOTS_SERVERS - 1, "h", SLOTS_SERVERS);
	r.to.port = 1; /* one that is known already */
	assert_true(slots_moved(s, &r, &asked));
	r.slot = SLOTS;
	assert_false(slots_moved(s, &r, &asked));
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_have_the_slots_that_redis_gives_them),
		cmocka_unit_test(the_reply_to_cluster_slots_is_taken_over),
		cmocka_unit_test(a_server_without_a_name_is_the_one_that_was_asked),
		cmocka_unit_test(a_reply_that_makes_no_sense_changes_nothing),
		cmocka_unit_test(a_map_with_one_wrong_range_changes_nothing),
		cmocka_unit_test(a_name_with_a_zero_byte_is_refused),
		cmocka_unit_test(redirections_are_read),
		cmocka_unit_test(a_wrong_redirection_is_none),
		cmocka_unit_test(a_moved_slot_is_elsewhere_and_the_others_are_not),
		cmocka_unit_test(there_are_never_more_servers_than_there_is_room_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
