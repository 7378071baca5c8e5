/* SPDX-License-Identifier: Apache-2.0 */
/* test_search.c - every culprit is found, in few deaths, and nobody else is accused. */
#include "redis/policy/search.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MOST 300u

struct trial {
	struct search search;
	struct suspect list[MOST];
	bool guilty[MOST];
	bool done[MOST];
	bool buried[MOST];
	uint32_t deaths;
};

static struct stream_id id_of(uint32_t n)
{
	return (struct stream_id){ 1, n };
}

/* Runs the top group in some order until it ends or kills. */
static void run_group(struct trial *t)
{
	const struct suspect *top;
	struct stream_id ids[MOST];
	struct stream_id culprit;
	const uint32_t count = search_top(&t->search, t->list, &top);

	for (uint32_t i = 0; i < count; i++)
		ids[i] = top[i].id;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t n = (uint32_t)ids[i].seq;

		if (t->guilty[n]) {
			t->deaths++;
			if (search_died(&t->search, t->list, &culprit)) {
				assert_int_equal(culprit.seq, n);
				assert_false(t->buried[n]);
				t->buried[n] = true;
			}
			return;
		}
		assert_false(t->done[n]);
		t->done[n] = true;
		search_clear(&t->search, t->list, ids[i]);
	}
}

static void search_all(struct trial *t, uint32_t count)
{
	struct stream_id ids[MOST];

	for (uint32_t i = 0; i < count; i++)
		ids[i] = id_of(i);
	t->search.capacity = MOST;
	assert_true(search_push(&t->search, t->list, ids, count));
	for (int rounds = 0; t->search.groups > 0; rounds++) {
		assert_in_range(rounds, 0, 10000);
		run_group(t);
	}
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(t->buried[i], t->guilty[i]);
		assert_int_equal(t->done[i], !t->guilty[i]);
	}
}

static void one_culprit_is_found_in_log2_deaths(void **state)
{
	(void)state;
	for (uint32_t count = 1; count <= 256; count++) {
		for (uint32_t n = 0; n < count; n += 1 + count / 16) {
			static struct trial t;

			t = (struct trial){ .deaths = 0 };
			t.guilty[n] = true;
			search_all(&t, count);
			assert_in_range(t.deaths, 1, 9); /* log2(256) + 1 */
		}
	}
}

static void several_culprits_are_found(void **state)
{
	(void)state;
	srand(7);
	for (int round = 0; round < 300; round++) {
		static struct trial t;
		const uint32_t count = 1 + (uint32_t)rand() % MOST;

		t = (struct trial){ .deaths = 0 };
		for (uint32_t i = 0; i < count; i++)
			t.guilty[i] = rand() % 20 == 0;
		search_all(&t, count);
	}
}

static void a_death_of_innocents_leaves_the_search_over(void **state)
{
	struct search s = { .capacity = 4 };
	struct suspect list[4];
	struct stream_id ids[] = { { 1, 1 }, { 1, 2 } };
	struct stream_id culprit;
	const struct suspect *top;

	(void)state;
	assert_false(search_died(&s, list, &culprit));
	search_clear(&s, list, ids[0]);
	assert_int_equal(search_top(&s, list, &top), 0);
	assert_true(search_push(&s, list, ids, 0));
	assert_int_equal(s.groups, 0);
	assert_true(search_push(&s, list, ids, 2));
	search_clear(&s, list, (struct stream_id){ 9, 9 }); /* none of them */
	assert_int_equal(search_top(&s, list, &top), 2);
	search_clear(&s, list, ids[1]);
	search_clear(&s, list, ids[0]);
	assert_int_equal(s.groups, 0);
}

static void what_has_no_room_is_refused_whole(void **state)
{
	struct search s = { .capacity = 3 };
	struct suspect list[3];
	const struct stream_id ids[] = { { 1, 1 }, { 1, 2 }, { 1, 3 }, { 1, 4 } };
	const struct suspect *top;

	(void)state;
	assert_false(search_push(&s, list, ids, 4));
	assert_true(search_push(&s, list, ids, 2));
	assert_false(search_push(&s, list, ids, 2));
	assert_true(search_push(&s, list, ids + 2, 1));
	assert_int_equal(search_top(&s, list, &top), 1);
	assert_int_equal(top[0].id.seq, 3);
}

/* The process ended between two stores of search_clear(): see search.h. */
static void an_end_in_the_middle_loses_no_suspect(void **state)
{
	struct search s = { .capacity = 4 };
	struct suspect list[4];
	const struct stream_id ids[] = { { 1, 1 }, { 1, 2 }, { 1, 3 } };
	const struct suspect *top;

	(void)state;
	assert_true(search_push(&s, list, ids, 3));
	list[0].id = list[2].id; /* and the size was not yet written */
	assert_int_equal(search_top(&s, list, &top), 3);
	search_clear(&s, list, ids[2]);
	assert_int_equal(search_top(&s, list, &top), 2);
	search_clear(&s, list, ids[2]);
	assert_int_equal(search_top(&s, list, &top), 1);
	assert_int_equal(top[0].id.seq, 2);
	list[0].size = 0; /* the last one was cleared, the group was not yet dropped */
	assert_int_equal(search_top(&s, list, &top), 0);
	assert_int_equal(s.groups, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_culprit_is_found_in_log2_deaths),
		cmocka_unit_test(several_culprits_are_found),
		cmocka_unit_test(a_death_of_innocents_leaves_the_search_over),
		cmocka_unit_test(what_has_no_room_is_refused_whole),
		cmocka_unit_test(an_end_in_the_middle_loses_no_suspect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
