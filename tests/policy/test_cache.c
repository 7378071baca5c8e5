/* SPDX-License-Identifier: Apache-2.0 */
/* test_cache.c - what has run need not run again, and what runs is joined. */
#include "policy_test.h"

#include "broker/policy/cache.h"

#include <sodium.h>
#include <stdio.h>

static struct gq_cache *make(uint32_t entries, uint64_t bytes)
{
	struct gq_cache *c = malloc(sizeof(*c));
	struct gq_cache_config config = { .entries = entries, .bytes = bytes, .waiting = 2000 };

	assert_non_null(c);
	assert_int_not_equal(sodium_init(), -1);
	memset(config.secret, 7, sizeof(config.secret));
	assert_int_equal(gq__cache_init(c, &config), GQ_CACHE_OK);
	return c;
}

static void drop(struct gq_cache *c)
{
	uint64_t answer;

	gq__cache_flush(c);
	while (gq__cache_dropped(c, &answer))
		;
	assert_int_equal(c->count, 0);
	assert_int_equal(c->bytes, 0);
	gq__cache_free(c);
	free(c);
}

static struct gq_cache_key key_of(const struct gq_cache *c, uint32_t uid, const char *payload)
{
	const struct gq_cache_request request = {
		.uid = uid,
		.op = "embed",
		.op_bytes = 5,
		.op_version = 1,
		.payload = payload,
		.payload_bytes = strlen(payload),
	};
	struct gq_cache_key key;

	gq__cache_key(c, &request, &key);
	return key;
}

/* It runs, and the answer is kept. */
static bool fill(struct gq_cache *c, const char *payload, uint64_t answer, uint64_t bytes,
		 uint64_t now)
{
	const struct gq_cache_key key = key_of(c, 1, payload);
	uint64_t out;
	bool kept;

	assert_int_equal(gq__cache_ask(c, &key, 0, now, &out), GQ_CACHE_LEAD);
	assert_int_equal(gq__cache_done(c, &key, answer, bytes, true, now, &kept), GQ_CACHE_OK);
	return kept;
}

static bool hits(struct gq_cache *c, const char *payload, uint64_t now, uint64_t *answer)
{
	const struct gq_cache_key key = key_of(c, 1, payload);
	const enum gq_cache_status status = gq__cache_ask(c, &key, 0, now, answer);
	uint64_t leader;

	if (status == GQ_CACHE_LEAD)
		assert_false(gq__cache_failed(c, &key, &leader));
	return status == GQ_CACHE_HIT;
}

static void ca_1_a_second_identical_request_is_a_hit(void **state)
{
	struct gq_cache *c = make(0, 0);
	uint64_t answer = 0;

	(void)state;
	assert_true(fill(c, "a", 41, 100, 0));
	for (int i = 0; i < 10; i++) {
		assert_true(hits(c, "a", 1, &answer));
		assert_int_equal(answer, 41);
	}
	assert_false(hits(c, "b", 1, &answer));
	assert_int_equal(c->hits, 10);
	assert_int_equal(c->misses, 2);
	drop(c);
}

static void ca_1_all_that_an_answer_depends_on_is_in_the_key(void **state)
{
	struct gq_cache *c = make(0, 0);
	const struct gq_cache_request base = { .uid = 1,
					       .op = "ab",
					       .op_bytes = 2,
					       .parameters = "cd",
					       .parameter_bytes = 2,
					       .payload = "ef",
					       .payload_bytes = 2 };
	struct gq_cache_request variants[8];
	struct gq_cache_key keys[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		variants[i] = base;
	variants[1].uid = 2;
	variants[2].op_version = 1;
	variants[3].op = "abc"; /* the same bytes, cut elsewhere */
	variants[3].op_bytes = 3;
	variants[3].parameters = "d";
	variants[3].parameter_bytes = 1;
	variants[4].parameters = "ce";
	variants[5].payload = "eg";
	variants[6].is_public = true;
	variants[7].payload_bytes = 1;
	for (int i = 0; i < 8; i++) {
		gq__cache_key(c, &variants[i], &keys[i]);
		for (int k = 0; k < i; k++)
			assert_memory_not_equal(keys[i].hash, keys[k].hash, GQ_CACHE_HASH);
	}
	c->config.secret[0] ^= 1; /* of another daemon */
	gq__cache_key(c, &base, &keys[1]);
	assert_memory_not_equal(keys[0].hash, keys[1].hash, GQ_CACHE_HASH);
	drop(c);
}

static void ca_2_a_thousand_identical_requests_are_one_run(void **state)
{
	struct gq_cache *c = make(0, 0);
	const struct gq_cache_key key = key_of(c, 1, "x");
	uint64_t out;
	uint32_t leaders = 0;
	uint64_t expected = 1;
	bool kept;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		const enum gq_cache_status status = gq__cache_ask(c, &key, i, 0, &out);

		leaders += status == GQ_CACHE_LEAD;
		assert_true(status == GQ_CACHE_LEAD || status == GQ_CACHE_JOINED);
	}
	assert_int_equal(leaders, 1);
	assert_int_equal(c->coalesced, 999);
	assert_int_equal(gq__cache_leave(c, &key, 500), GQ_CACHE_OK);
	assert_int_equal(gq__cache_leave(c, &key, 500), GQ_CACHE_NOT_FOUND);
	assert_int_equal(gq__cache_leave(c, &key, 999), GQ_CACHE_OK); /* the last in the row */
	assert_int_equal(gq__cache_ask(c, &key, 1000, 0, &out), GQ_CACHE_JOINED);
	assert_false(gq__cache_next_waiter(c, &key, &out)); /* it still runs */
	assert_int_equal(gq__cache_done(c, &key, 7, 1, true, 0, &kept), GQ_CACHE_OK);
	assert_int_equal(gq__cache_done(c, &key, 7, 1, true, 0, &kept), GQ_CACHE_NOT_FOUND);
	while (gq__cache_next_waiter(c, &key, &out)) {
		expected += expected == 500;
		expected += expected == 999;
		assert_int_equal(out, expected++);
	}
	assert_int_equal(expected, 1001);
	assert_int_equal(gq__cache_ask(c, &key, 0, 0, &out), GQ_CACHE_HIT);
	drop(c);
}

static void ca_2_a_leader_that_fails_hands_over(void **state)
{
	struct gq_cache *c = make(0, 0);
	const struct gq_cache_key key = key_of(c, 1, "x");
	uint64_t out = 0;

	(void)state;
	for (uint64_t i = 1; i <= 3; i++)
		gq__cache_ask(c, &key, i, 0, &out);
	for (uint64_t i = 2; i <= 3; i++) {
		assert_true(gq__cache_failed(c, &key, &out));
		assert_int_equal(out, i);
	}
	assert_false(gq__cache_failed(c, &key, &out));
	assert_int_equal(gq__cache_ask(c, &key, 4, 0, &out), GQ_CACHE_LEAD);
	assert_false(gq__cache_failed(c, &key, &out));
	drop(c);
}

/* Against a list of who waits, in order. */
static void ca_2_who_waits_may_leave_in_any_order(void **state)
{
	enum { MOST = 200 };
	struct gq_cache *c = make(0, 0);
	const struct gq_cache_key keys[2] = { key_of(c, 1, "a"), key_of(c, 1, "b") };
	uint64_t list[2][MOST], random = 7, out;
	uint32_t n[2] = { 0, 0 };
	bool kept;

	(void)state;
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(gq__cache_ask(c, &keys[k], 1000 + k, 0, &out), GQ_CACHE_LEAD);
	for (unsigned i = 0; i < 20000; i++) {
		const unsigned k = gq_random_below(&random, 2) != 0;

		assert_int_equal(gq__cache_is_awaited(c, &keys[k]), n[k] != 0);
		if (n[k] < MOST && gq_random_below(&random, 2) != 0) {
			assert_int_equal(gq__cache_ask(c, &keys[k], i, 0, &out), GQ_CACHE_JOINED);
			list[k][n[k]++] = i;
		} else if (n[k] != 0) {
			const uint32_t which = (uint32_t)gq_random_below(&random, n[k]);
			const uint64_t who = list[k][which];

			assert_int_equal(gq__cache_leave(c, &keys[1 - k], who), GQ_CACHE_NOT_FOUND);
			assert_int_equal(gq__cache_leave(c, &keys[k], who), GQ_CACHE_OK);
			assert_int_equal(gq__cache_leave(c, &keys[k], who), GQ_CACHE_NOT_FOUND);
			memmove(&list[k][which], &list[k][which + 1],
				(--n[k] - which) * sizeof(list[k][0]));
		}
	}
	for (unsigned k = 0; k < 2; k++) {
		assert_int_equal(gq__cache_done(c, &keys[k], 1, 1, false, 0, &kept), GQ_CACHE_OK);
		for (uint32_t i = 0; i < n[k]; i++) {
			assert_true(gq__cache_next_waiter(c, &keys[k], &out));
			assert_int_equal(out, list[k][i]);
		}
		assert_false(gq__cache_next_waiter(c, &keys[k], &out));
	}
	drop(c);
}

static void ca_2_full_tables_let_requests_run_alone(void **state)
{
	struct gq_cache *c = make(0, 0);
	const struct gq_cache_key key = key_of(c, 1, "x");
	uint64_t out;
	char payload[16];

	(void)state;
	assert_int_equal(gq__cache_ask(c, &key, 0, 0, &out), GQ_CACHE_LEAD);
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(gq__cache_ask(c, &key, i, 0, &out), GQ_CACHE_JOINED);
	assert_int_equal(gq__cache_ask(c, &key, 0, 0, &out), GQ_CACHE_ALONE);
	for (int i = 0; i < 1023; i++) {
		struct gq_cache_key other;

		snprintf(payload, sizeof(payload), "%d", i);
		other = key_of(c, 1, payload);
		assert_int_equal(gq__cache_ask(c, &other, 0, 0, &out), GQ_CACHE_LEAD);
	}
	{
		const struct gq_cache_key other = key_of(c, 1, "one more");

		assert_int_equal(gq__cache_ask(c, &other, 0, 0, &out), GQ_CACHE_ALONE);
	}
	drop(c);
}

static void ca_3_answers_have_a_time_and_room(void **state)
{
	struct gq_cache *c = make(4, 1600);
	uint64_t answer = 0;

	(void)state;
	assert_true(fill(c, "a", 1, 100, 0));
	assert_true(hits(c, "a", 300 * S - 1, &answer));
	assert_false(hits(c, "a", 300 * S, &answer));
	assert_true(gq__cache_dropped(c, &answer));
	assert_int_equal(answer, 1);
	assert_false(gq__cache_dropped(c, &answer));
	assert_false(fill(c, "large", 2, 101, 0)); /* more than a sixteenth */
	assert_true(fill(c, "a", 1, 1, 0));
	assert_true(fill(c, "b", 2, 1, 0));
	assert_true(fill(c, "c", 3, 1, 0));
	assert_true(fill(c, "d", 4, 1, 0));
	assert_true(hits(c, "a", 1, &answer));
	assert_true(fill(c, "e", 5, 1, 0)); /* one that was not used makes room */
	assert_true(gq__cache_dropped(c, &answer));
	assert_int_not_equal(answer, 1);
	assert_true(hits(c, "a", 1, &answer));
	assert_int_equal(c->count, 4);
	assert_int_equal(c->evicted, 1);
	drop(c);
}

static void ca_3_the_bytes_are_never_more_than_the_limit(void **state)
{
	struct gq_cache *c = make(100, 1600);
	uint64_t random = SEED;
	uint64_t given = 0;
	uint64_t back = 0;
	uint64_t answer;
	char payload[16];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(payload, sizeof(payload), "%d", i);
		given += fill(c, payload, 1, gq_random_below(&random, 100), 0);
		while (gq__cache_dropped(c, &answer))
			back++;
		assert_true(c->bytes <= 1600 && c->count <= 100);
		assert_int_equal(given, back + c->count);
	}
	assert_int_equal(given, 5000);
	drop(c);
}

static void ca_4_another_users_request_misses(void **state)
{
	struct gq_cache *c = make(0, 0);
	const struct gq_cache_key other = key_of(c, 2, "a");
	uint64_t out;

	(void)state;
	assert_true(fill(c, "a", 1, 1, 0));
	assert_int_equal(gq__cache_ask(c, &other, 0, 0, &out), GQ_CACHE_LEAD);
	assert_false(gq__cache_failed(c, &other, &out));
	drop(c);
}

static void ca_5_a_collision_of_64_bits_gives_no_wrong_answer(void **state)
{
	struct gq_cache *c = make(0, 0);
	struct gq_cache_key one = key_of(c, 1, "a");
	struct gq_cache_key other = one;
	struct gq_cache_key length = one;
	uint64_t out = 0;
	bool kept;

	(void)state;
	memset(other.hash + 8, 0x55, sizeof(other.hash) - 8);
	length.payload_bytes++;
	assert_int_equal(gq__cache_ask(c, &one, 1, 0, &out), GQ_CACHE_LEAD);
	assert_int_equal(gq__cache_ask(c, &other, 2, 0, &out), GQ_CACHE_LEAD);
	assert_int_equal(gq__cache_done(c, &one, 11, 1, true, 0, &kept), GQ_CACHE_OK);
	assert_int_equal(gq__cache_done(c, &other, 22, 1, true, 0, &kept), GQ_CACHE_OK);
	assert_int_equal(gq__cache_ask(c, &one, 1, 0, &out), GQ_CACHE_HIT);
	assert_int_equal(out, 11);
	assert_int_equal(gq__cache_ask(c, &other, 1, 0, &out), GQ_CACHE_HIT);
	assert_int_equal(out, 22);
	assert_int_equal(gq__cache_ask(c, &length, 1, 0, &out), GQ_CACHE_CONFLICT);
	gq__cache_forget(c, &one);
	assert_int_equal(gq__cache_ask(c, &one, 1, 0, &out), GQ_CACHE_LEAD);
	assert_false(gq__cache_failed(c, &one, &out));
	drop(c);
}

static bool is_odd(uint64_t answer, uint64_t what)
{
	return answer % 2 == what;
}

static void some_answers_are_forgotten_and_others_stay(void **state)
{
	struct gq_cache *c = make(0, 0);
	uint64_t out, dropped = 0;
	bool kept;

	(void)state;
	for (uint64_t i = 0; i < 100; i++) {
		char payload[8];
		struct gq_cache_key k;

		snprintf(payload, sizeof(payload), "%u", (unsigned)i);
		k = key_of(c, 1, payload);
		assert_int_equal(gq__cache_ask(c, &k, i, 0, &out), GQ_CACHE_LEAD);
		assert_int_equal(gq__cache_done(c, &k, i, 10, true, 0, &kept), GQ_CACHE_OK);
	}
	gq__cache_forget_if(c, is_odd, 1);
	for (; gq__cache_dropped(c, &out); dropped++)
		assert_int_equal(out % 2, 1);
	assert_int_equal(dropped, 50);
	assert_int_equal(c->count, 50);
	assert_int_equal(c->bytes, 500);
	drop(c);
}

static void rt_5_a_key_of_idempotency_runs_once(void **state)
{
	struct gq_cache *c = make(0, 0);
	const struct gq_cache_request pay = { .uid = 1, .payload = "10", .payload_bytes = 2 };
	const struct gq_cache_request other = { .uid = 1, .payload = "20", .payload_bytes = 2 };
	struct gq_cache_key first;
	struct gq_cache_key again;
	struct gq_cache_key wrong;
	struct gq_cache_key else_s;
	uint64_t out = 0;
	bool kept;

	(void)state;
	gq__cache_idempotency(c, 1, "k", 1, &pay, &first);
	gq__cache_idempotency(c, 1, "k", 1, &pay, &again);
	gq__cache_idempotency(c, 1, "k", 1, &other, &wrong);
	gq__cache_idempotency(c, 2, "k", 1, &pay, &else_s);
	assert_int_equal(gq__cache_ask(c, &first, 1, 0, &out), GQ_CACHE_LEAD);
	assert_int_equal(gq__cache_ask(c, &again, 2, 0, &out), GQ_CACHE_JOINED);
	assert_int_equal(gq__cache_ask(c, &wrong, 3, 0, &out), GQ_CACHE_CONFLICT);
	assert_int_equal(gq__cache_ask(c, &else_s, 4, 0, &out), GQ_CACHE_LEAD);
	assert_int_equal(gq__cache_done(c, &first, 9, 1, true, 0, &kept), GQ_CACHE_OK);
	assert_true(gq__cache_next_waiter(c, &first, &out));
	assert_int_equal(out, 2);
	assert_false(gq__cache_next_waiter(c, &first, &out));
	assert_int_equal(gq__cache_ask(c, &again, 5, S, &out), GQ_CACHE_HIT);
	assert_int_equal(gq__cache_ask(c, &wrong, 6, S, &out), GQ_CACHE_CONFLICT);
	assert_int_equal(gq__cache_ask(c, &again, 7, 301 * S, &out), GQ_CACHE_LEAD);
	drop(c);
}

/* Room is there before anything runs, and nothing goes before its time. */
static void rt_5_a_table_that_promises_refuses_and_evicts_nothing(void **state)
{
	const struct gq_cache_config config = {
		.entries = 4, .bytes = 350, .promise = 100, .running = 8, .waiting = 2, .ttl_ns = S
	};
	struct gq_cache *c = malloc(sizeof(*c));
	struct gq_cache_key keys[6];
	uint64_t out = 0;
	char payload[16];
	bool kept;

	(void)state;
	assert_non_null(c);
	assert_int_equal(gq__cache_init(c, &config), GQ_CACHE_OK);
	for (int i = 0; i < 6; i++) {
		snprintf(payload, sizeof(payload), "%d", i);
		keys[i] = key_of(c, 1, payload);
	}
	assert_int_equal(gq__cache_due(c), UINT64_MAX);
	for (int i = 0; i < 3; i++) /* a fourth answer might have 100 bytes, and there are 50 */
		assert_int_equal(gq__cache_ask(c, &keys[i], 7, 0, &out), GQ_CACHE_LEAD);
	assert_int_equal(gq__cache_ask(c, &keys[3], 7, 0, &out), GQ_CACHE_FULL);
	for (uint64_t i = 8; i < 10; i++) {
		assert_int_equal(gq__cache_ask(c, &keys[0], i, 0, &out), GQ_CACHE_JOINED);
		assert_int_equal(out, 7); /* who runs */
	}
	assert_int_equal(gq__cache_ask(c, &keys[0], 10, 0, &out), GQ_CACHE_FULL);
	assert_true(gq__cache_failed(c, &keys[0], &out));
	assert_int_equal(gq__cache_ask(c, &keys[0], 11, 0, &out), GQ_CACHE_JOINED);
	assert_int_equal(out, 8);
	for (int i = 0; i < 3; i++) { /* each is more than a sixteenth of all */
		assert_int_equal(gq__cache_done(c, &keys[i], 41, 22, true, (uint64_t)i, &kept),
				 GQ_CACHE_OK);
		assert_true(kept);
	}
	while (gq__cache_next_waiter(c, &keys[0], &out))
		;
	assert_int_equal(gq__cache_ask(c, &keys[3], 7, 3, &out), GQ_CACHE_LEAD); /* 284 are left */
	assert_int_equal(gq__cache_ask(c, &keys[4], 7, 3, &out), GQ_CACHE_FULL); /* 4 entries */
	assert_false(gq__cache_failed(c, &keys[3], &out));
	for (int i = 0; i < 3; i++)
		assert_int_equal(gq__cache_ask(c, &keys[i], 7, S - 1, &out), GQ_CACHE_HIT);
	assert_int_equal(c->evicted, 0);
	assert_int_equal(gq__cache_due(c), S);
	gq__cache_expire(c, S - 1);
	assert_false(gq__cache_dropped(c, &out));
	gq__cache_expire(c, S + 1); /* two of them, the oldest first */
	assert_int_equal(c->count, 1);
	assert_int_equal(gq__cache_due(c), S + 2);
	assert_int_equal(gq__cache_ask(c, &keys[2], 7, S + 1, &out), GQ_CACHE_HIT);
	assert_int_equal(gq__cache_ask(c, &keys[0], 7, S + 1, &out), GQ_CACHE_LEAD);
	drop(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ca_1_a_second_identical_request_is_a_hit),
		cmocka_unit_test(ca_1_all_that_an_answer_depends_on_is_in_the_key),
		cmocka_unit_test(ca_2_a_thousand_identical_requests_are_one_run),
		cmocka_unit_test(ca_2_a_leader_that_fails_hands_over),
		cmocka_unit_test(ca_2_who_waits_may_leave_in_any_order),
		cmocka_unit_test(ca_2_full_tables_let_requests_run_alone),
		cmocka_unit_test(ca_3_answers_have_a_time_and_room),
		cmocka_unit_test(ca_3_the_bytes_are_never_more_than_the_limit),
		cmocka_unit_test(ca_4_another_users_request_misses),
		cmocka_unit_test(ca_5_a_collision_of_64_bits_gives_no_wrong_answer),
		cmocka_unit_test(some_answers_are_forgotten_and_others_stay),
		cmocka_unit_test(rt_5_a_key_of_idempotency_runs_once),
		cmocka_unit_test(rt_5_a_table_that_promises_refuses_and_evicts_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
