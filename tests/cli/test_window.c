/* SPDX-License-Identifier: Apache-2.0 */
/* test_window.c - the window finds every id, in any order of finishing, and never loses an entry.
 */
#include "window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 7;

static uint32_t next_random(uint32_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

static void finish(struct window *w, uint64_t id)
{
	const Completion outcome = { .msg_id = id, .status = Q_OK, .result_len = (uint32_t)id };
	struct entry *e = window_find(w, id);

	assert_non_null(e);
	assert_int_equal(e->msg_id, id);
	assert_true(e->queued);
	window_finish(w, e, &outcome);
	assert_null(window_find(w, id));
}

/*
 * A queue of `slots` whose messages finish in any order; now and then a message that never gets
 * there. In input order entries leave from the front, else as they finish.
 */
static void run(size_t slots, uint64_t first_id, bool input_order)
{
	enum { MESSAGES = 20000 };
	struct window w;
	uint64_t *under_way = calloc(slots, sizeof(*under_way));
	uint64_t id = first_id;
	uint64_t number = 0;
	uint64_t printed = 0;
	size_t count = 0;

	assert_non_null(under_way);
	assert_true(window_init(&w, slots));
	while (number < MESSAGES || w.used > 0) {
		struct entry *e;

		if (number < MESSAGES && window_room(&w) > 0 && next_random(10) == 0) {
			e = window_add_failed(&w, 0, number++);
			if (!input_order) {
				window_drop(&w, e);
				printed++;
			}
		}
		/* what is finished holds its slot until it is printed */
		if (number < MESSAGES && window_room(&w) > 0 && count < slots && w.used < slots &&
		    next_random(3) > 0) {
			id += 1 + next_random(5);
			window_add(&w, id, 0, 0, number++);
			under_way[count++] = id;
		} else if (count > 0) {
			const size_t which = next_random((uint32_t)count);

			assert_non_null(window_quarter(&w));
			assert_int_equal(window_quarter(&w)->state, ENTRY_PENDING);
			e = window_find(&w, under_way[which]);
			assert_non_null(e);
			finish(&w, under_way[which]);
			under_way[which] = under_way[--count];
			if (!input_order) {
				window_drop(&w, e);
				printed++;
			}
		} else {
			assert_null(window_quarter(&w));
		}
		assert_int_equal(w.pending, count);
		e = input_order ? window_oldest(&w) : NULL;
		while (e && e->state == ENTRY_FINISHED) {
			assert_int_equal(e->number, printed);
			printed++;
			window_drop(&w, e);
			e = window_oldest(&w);
		}
	}
	assert_int_equal(printed, MESSAGES);
	assert_null(window_oldest(&w));
	window_free(&w);
	free(under_way);
}

static void any_order_of_finishing(void **state)
{
	(void)state;
	for (size_t slots = 1; slots <= 256; slots *= 4) {
		run(slots, 0, true);
		run(slots, 0, false);
	}
}

static void ids_may_wrap(void **state)
{
	(void)state;
	run(16, UINT64_MAX - 1000, true);
	run(16, UINT64_MAX - 1000, false);
	run(1, UINT64_MAX - 3, true);
}

static void unknown_ids_are_not_found(void **state)
{
	struct window w;

	(void)state;
	assert_true(window_init(&w, 4));
	assert_null(window_find(&w, 1));
	window_add_failed(&w, 0, 1);
	assert_null(window_find(&w, 0));
	window_add(&w, 10, 0, 0, 2);
	window_add_failed(&w, 0, 3);
	window_add(&w, 20, 0, 0, 4);
	assert_null(window_find(&w, 9));
	assert_null(window_find(&w, 11));
	assert_null(window_find(&w, 21));
	assert_int_equal(window_find(&w, 20)->number, 4);
	assert_int_equal(window_find(&w, 10)->number, 2);
	window_free(&w);
}

static void one_that_never_got_there_hides_nobody(void **state)
{
	struct window w;
	const Completion done = { .msg_id = 10 };

	(void)state;
	assert_true(window_init(&w, 4));
	window_add(&w, 10, 0, 0, 1);
	window_add_failed(&w, 0, 2); /* has id 10 too */
	window_add(&w, 11, 0, 0, 3);
	window_finish(&w, window_find(&w, 10), &done);
	window_drop(&w, window_oldest(&w));
	assert_int_equal(window_oldest(&w)->number, 2);
	assert_null(window_find(&w, 10));
	assert_int_equal(window_find(&w, 11)->number, 3);
	window_free(&w);
}

/* Files: some are one message, some several, and each finishes when it likes. */
static void a_file_of_several_messages_keeps_its_place(void **state)
{
	enum { FILES = 5000, OPEN = 8 };
	uint64_t key[OPEN];
	unsigned int left[OPEN]; /* messages to come */
	uint64_t id = 0;
	uint64_t printed = 0;
	uint32_t opened = 0;
	struct window w;

	(void)state;
	assert_true(window_init(&w, OPEN));
	memset(left, 0, sizeof(left));
	while (printed < FILES) {
		const uint32_t which = next_random(OPEN);
		struct entry *e;

		if (left[which] == 0) {
			if (opened == FILES || window_room(&w) == 0)
				goto print;
			key[which] = window_open(&w, opened++);
			left[which] = 1 + next_random(4);
			e = window_get(&w, key[which]);
			assert_int_equal(e->state, ENTRY_READING);
			assert_null(window_find(&w, key[which]));
			id++;
			window_submit(&w, e, id, id);
			goto print;
		}
		e = window_find(&w, key[which]);
		assert_non_null(e);
		assert_ptr_equal(window_get(&w, key[which]), e);
		if (--left[which] > 0) {
			const uint64_t since = e->enqueued_ns;

			window_resume(&w, e);
			assert_null(window_find(&w, key[which]));
			id++;
			window_submit(&w, e, id, id);
			assert_int_equal(e->enqueued_ns, since); /* of the first */
		} else {
			const Completion done = { .msg_id = e->msg_id };

			window_finish(&w, e, &done);
		}
	print:
		e = window_oldest(&w);
		while (e && e->state == ENTRY_FINISHED) {
			assert_int_equal(e->file, printed++);
			window_drop(&w, e);
			e = window_oldest(&w);
		}
	}
	assert_int_equal(w.pending, 0);
	window_free(&w);
}

static void a_file_that_fails_while_it_is_read_has_nothing_to_release(void **state)
{
	struct window w;
	struct entry *e;

	(void)state;
	assert_true(window_init(&w, 2));
	e = window_get(&w, window_open(&w, 0));
	window_submit(&w, e, 7, 1);
	assert_ptr_equal(window_quarter(&w), e);
	window_resume(&w, e);
	assert_null(window_quarter(&w));
	window_fail(e);
	assert_false(e->queued);
	assert_int_equal(e->state, ENTRY_FINISHED);
	assert_int_equal(w.pending, 0);
	window_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_order_of_finishing),
		cmocka_unit_test(ids_may_wrap),
		cmocka_unit_test(unknown_ids_are_not_found),
		cmocka_unit_test(one_that_never_got_there_hides_nobody),
		cmocka_unit_test(a_file_of_several_messages_keeps_its_place),
		cmocka_unit_test(a_file_that_fails_while_it_is_read_has_nothing_to_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
