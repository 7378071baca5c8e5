/* SPDX-License-Identifier: Apache-2.0 */
/* test_book.c - the lease book, on a clock of the test's own. */
#include "redis/policy/book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static uint32_t add(struct book *b, uint64_t seq, uint64_t now_ms)
{
	const struct entry e = { .id = { 1000, seq } };

	return book_add(b, &e, 1, now_ms);
}

static void an_entry_is_held_once_until_it_is_removed(void **state)
{
	struct book b;
	uint32_t lease;

	(void)state;
	assert_true(book_init(&b, 2));
	lease = add(&b, 1, 0);
	assert_int_not_equal(lease, BOOK_NONE);
	assert_int_equal(add(&b, 1, 0), BOOK_NONE);
	assert_int_equal(book_find(&b, (struct stream_id){ 1000, 1 }), lease);
	assert_int_equal(book_find(&b, (struct stream_id){ 1000, 2 }), BOOK_NONE);
	assert_int_equal(book_find(&b, (struct stream_id){ 1, 1000 }), BOOK_NONE);
	assert_int_not_equal(add(&b, 2, 0), BOOK_NONE);
	assert_int_equal(book_room(&b), 0);
	assert_int_equal(add(&b, 3, 0), BOOK_NONE);
	book_remove(&b, lease);
	assert_int_equal(book_find(&b, (struct stream_id){ 1000, 1 }), BOOK_NONE);
	assert_int_equal(book_room(&b), 1);
	assert_int_not_equal(add(&b, 3, 0), BOOK_NONE);
	book_free(&b);
}

static void it_agrees_with_a_plain_array(void **state)
{
	enum { ENTRIES = 64 };
	uint32_t model[ENTRIES];
	struct book b;
	uint32_t held = 0;

	(void)state;
	srand(1);
	assert_true(book_init(&b, 20));
	for (int i = 0; i < ENTRIES; i++)
		model[i] = BOOK_NONE;
	for (int step = 0; step < 20000; step++) {
		const int n = rand() % ENTRIES;
		const struct stream_id id = { 1000, (uint64_t)n };

		assert_int_equal(book_find(&b, id), model[n]);
		if (model[n] != BOOK_NONE) {
			book_remove(&b, model[n]);
			model[n] = BOOK_NONE;
			held--;
		} else {
			model[n] = add(&b, (uint64_t)n, 0);
			assert_int_equal(model[n] == BOOK_NONE, held == 20);
			held += model[n] != BOOK_NONE;
		}
		assert_int_equal(book_room(&b), 20 - held);
	}
	book_free(&b);
}

static void states_are_counted(void **state)
{
	struct book b;
	uint32_t lease;

	(void)state;
	assert_true(book_init(&b, 4));
	lease = add(&b, 1, 0);
	assert_int_equal(b.count[LEASE_STAGED], 1);
	book_set(&b, lease, LEASE_RUNNING, 5);
	assert_int_equal(b.count[LEASE_STAGED], 0);
	assert_int_equal(b.count[LEASE_RUNNING], 1);
	assert_int_equal(b.progress_ms, 0);
	book_set(&b, lease, LEASE_DONE, 7);
	assert_int_equal(b.count[LEASE_DONE], 1);
	assert_int_equal(b.progress_ms, 7);
	book_remove(&b, lease);
	assert_int_equal(b.count[LEASE_DONE], 0);
	book_free(&b);
}

static void a_lease_is_renewed_while_anything_finishes(void **state)
{
	struct book b;
	uint32_t slow;
	uint32_t quick;

	(void)state;
	assert_true(book_init(&b, 4));
	slow = add(&b, 1, 1000);
	quick = add(&b, 2, 1000);
	book_set(&b, slow, LEASE_RUNNING, 1000);
	book_set(&b, quick, LEASE_RUNNING, 1000);
	assert_true(book_renews(&b, slow, 600, 1599)); /* young */
	assert_false(book_renews(&b, slow, 600, 1600));
	book_set(&b, quick, LEASE_DONE, 1500);
	assert_true(book_renews(&b, slow, 600, 2099)); /* another one finished */
	assert_false(book_renews(&b, slow, 600, 2100));
	assert_true(book_renews(&b, quick, 600, 9999)); /* its result waits for Redis */
	assert_false(book_renews(&b, 3, 600, 0));       /* a free one */
	assert_true(book_renews(&b, slow, 600, 900));   /* a clock that went back */
	book_free(&b);
}

static void a_queue_that_finishes_nothing_is_stuck(void **state)
{
	struct book b;
	uint32_t old;
	uint32_t young;

	(void)state;
	assert_true(book_init(&b, 4));
	assert_false(book_stalled(&b, 600, 5000)); /* there is nothing in it */
	old = add(&b, 1, 1000);
	assert_false(book_stalled(&b, 600, 5000)); /* nor now */
	book_set(&b, old, LEASE_RUNNING, 1000);
	assert_true(book_stalled(&b, 600, 1600));
	assert_false(book_stalled(&b, 600, 1599));
	young = add(&b, 2, 1500);
	book_set(&b, young, LEASE_RUNNING, 1500);
	assert_false(book_stalled(&b, 600, 1600));
	assert_true(book_stalled(&b, 600, 2100));
	book_set(&b, young, LEASE_DONE, 2000);
	assert_false(book_stalled(&b, 600, 2100));
	assert_true(book_stalled(&b, 600, 2600));
	book_free(&b);
}

static void a_book_of_one_lease_is_freed_once(void **state)
{
	struct book b;

	(void)state;
	assert_true(book_init(&b, 1));
	book_free(&b);
	book_free(&b); /* twice is once */
	assert_int_equal(b.capacity, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_is_held_once_until_it_is_removed),
		cmocka_unit_test(it_agrees_with_a_plain_array),
		cmocka_unit_test(states_are_counted),
		cmocka_unit_test(a_lease_is_renewed_while_anything_finishes),
		cmocka_unit_test(a_queue_that_finishes_nothing_is_stuck),
		cmocka_unit_test(a_book_of_one_lease_is_freed_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
