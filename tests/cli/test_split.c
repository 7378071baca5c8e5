/* SPDX-License-Identifier: Apache-2.0 */
/* test_split.c - the splitter against the plainest possible one, with bytes coming in any amounts.
 */
#include "split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST_MESSAGES 20000

/* What came out: offset and length in the file are known, and whether it was too long. */
struct found {
	size_t at;
	size_t bytes;
	uint64_t number;
	bool too_long;
};

static struct found expected[MOST_MESSAGES];

static uint64_t random_state;

static uint32_t next_random(uint32_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

/* The whole file is in memory: no state, no buffer. */
static size_t split_plainly(const uint8_t *file, size_t size, enum split_mode mode, size_t piece,
			    size_t limit, struct found *out)
{
	const uint8_t separator = mode == SPLIT_NUL ? '\0' : '\n';
	size_t count = 0;
	size_t at = 0;

	while (at < size) {
		size_t bytes = 0;
		size_t skip = 0;

		if (mode != SPLIT_BYTES) {
			while (at + bytes < size && file[at + bytes] != separator)
				bytes++;
			skip = at + bytes < size ? 1 : 0;
		} else {
			bytes = size - at < piece ? size - at : piece;
		}
		out[count] = (struct found){ .at = at, .bytes = bytes, .too_long = bytes > limit };
		out[count].number = mode == SPLIT_BYTES ? at : count + 1;
		count++;
		at += bytes + skip;
	}
	return count;
}

/* Feed the file in amounts of 1 to `most_read` and compare message by message. */
static void check_file(struct split *s, const uint8_t *file, size_t size, size_t most_read,
		       size_t expected_count)
{
	size_t fed = 0;
	size_t count = 0;
	bool ended = false;

	split_begin(s);
	for (;;) {
		struct split_piece piece;
		const enum split_step step = split_next(s, &piece);

		if (step == SPLIT_DONE)
			break;
		if (step == SPLIT_MORE) {
			size_t room;
			uint8_t *to = split_room(s, &room);
			size_t bytes = 1 + next_random((uint32_t)most_read);

			assert_false(ended);
			assert_true(room > 0);
			if (bytes > room)
				bytes = room;
			if (bytes > size - fed)
				bytes = size - fed;
			if (bytes > 0)
				memcpy(to, file + fed, bytes);
			split_filled(s, bytes);
			fed += bytes;
			if (bytes == 0) {
				split_end(s);
				ended = true;
			}
			continue;
		}
		assert_true(count < expected_count);
		assert_int_equal(step == SPLIT_TOO_LONG, expected[count].too_long);
		assert_int_equal(piece.number, expected[count].number);
		if (step == SPLIT_MESSAGE) {
			assert_int_equal(piece.bytes, expected[count].bytes);
			if (piece.bytes > 0)
				assert_memory_equal(piece.data, file + expected[count].at,
						    (size_t)piece.bytes);
		} else {
			assert_int_equal(piece.bytes, expected[count].bytes);
		}
		count++;
	}
	assert_int_equal(count, expected_count);
	assert_int_equal(fed, size);
}

static void check(enum split_mode mode, size_t piece, size_t limit, const uint8_t *file,
		  size_t size, size_t most_read)
{
	const size_t count = split_plainly(file, size, mode, piece, limit, expected);
	struct split s;

	assert_true(split_init(&s, mode, piece, limit));
	/* twice: the second file begins where the first has left the buffer */
	check_file(&s, file, size, most_read, count);
	check_file(&s, file, size, most_read, count);
	split_free(&s);
}

static void check_text(enum split_mode mode, size_t piece, size_t limit, const char *text)
{
	for (size_t most_read = 1; most_read < 4; most_read++)
		check(mode, piece, limit, (const uint8_t *)text, strlen(text), most_read);
}

static void edges_of_lines(void **state)
{
	(void)state;
	check_text(SPLIT_LINES, 0, 4, "");
	check_text(SPLIT_LINES, 0, 4, "\n");
	check_text(SPLIT_LINES, 0, 4, "\n\n");
	check_text(SPLIT_LINES, 0, 4, "a");
	check_text(SPLIT_LINES, 0, 4, "a\n");
	check_text(SPLIT_LINES, 0, 4, "abcd\nabcde\nabcd");
	check_text(SPLIT_LINES, 0, 4, "abcde");
	check_text(SPLIT_LINES, 0, 4, "abcdefghi\n");
	check_text(SPLIT_LINES, 0, 4, "a\r\n\r\nb\r");
	check(SPLIT_LINES, 0, 4, (const uint8_t *)"a\0b\n\0", 5, 1);
}

static void edges_of_pieces(void **state)
{
	(void)state;
	check_text(SPLIT_BYTES, 3, 3, "");
	check_text(SPLIT_BYTES, 3, 3, "ab");
	check_text(SPLIT_BYTES, 3, 3, "abc");
	check_text(SPLIT_BYTES, 3, 9, "abcd");
	check_text(SPLIT_BYTES, 1, 1, "ab\n\n");
}

static void edges_of_records(void **state)
{
	(void)state;
	check_text(SPLIT_NUL, 0, 4, "");
	check_text(SPLIT_NUL, 0, 4, "a\nb");
	check(SPLIT_NUL, 0, 4, (const uint8_t *)"", 1, 1);
	check(SPLIT_NUL, 0, 4, (const uint8_t *)"\0", 2, 1);
	check(SPLIT_NUL, 0, 4, (const uint8_t *)"a\n\0bcde\0fghij\0k", 16, 1);
}

static void random_files_with_random_reads(void **state)
{
	enum { MOST = 600000 };
	uint8_t *file = malloc(MOST);

	(void)state;
	assert_non_null(file);
	for (unsigned int round = 0; round < 60; round++) {
		const enum split_mode mode = (enum split_mode)(round % 3);
		const uint32_t newline_in = 40 + next_random(20000);
		const size_t limit = 1 + next_random(round % 2 ? 300 : 200000);
		size_t piece = 50 + next_random(5000);
		/* larger than the splitter's buffer, every other time */
		const size_t size = next_random(round % 4 < 2 ? 2000 : MOST);

		if (piece > limit)
			piece = limit;
		if (size / piece >= MOST_MESSAGES)
			piece = limit < 1000 ? limit : 1000;
		if (mode == SPLIT_BYTES && size / piece >= MOST_MESSAGES)
			continue;
		for (size_t i = 0; i < size; i++)
			file[i] = next_random(newline_in) != 0 ? (uint8_t)next_random(256)
				  : mode == SPLIT_NUL          ? '\0'
							       : '\n';
		check(mode, piece, limit, file, size, round % 5 ? 300000 : 700);
	}
	free(file);
}

static void an_endless_line_is_dropped_in_bounded_memory(void **state)
{
	struct split s;
	struct split_piece piece;
	uint64_t fed = 0;

	(void)state;
	assert_true(split_init(&s, SPLIT_LINES, 0, 100));
	split_begin(&s);
	while (fed < (uint64_t)300 * 1024 * 1024) {
		size_t room;
		uint8_t *to = split_room(&s, &room);

		assert_true(room > 0);
		memset(to, 'x', room);
		split_filled(&s, room);
		fed += room;
		assert_int_equal(split_next(&s, &piece), SPLIT_MORE);
	}
	split_end(&s);
	assert_int_equal(split_next(&s, &piece), SPLIT_TOO_LONG);
	assert_int_equal(piece.bytes, fed);
	assert_int_equal(split_next(&s, &piece), SPLIT_DONE);
	split_free(&s);
}

static void a_file_given_up_leaves_nothing_behind(void **state)
{
	(void)state;
	for (int mode = SPLIT_LINES; mode <= SPLIT_BYTES; mode++) {
		struct split s;
		struct split_piece piece;
		size_t room;

		assert_true(split_init(&s, (enum split_mode)mode, 10, 10));
		split_begin(&s);
		memcpy(split_room(&s, &room), "abc", 3);
		split_filled(&s, 3);
		assert_int_equal(split_next(&s, &piece), SPLIT_MORE);
		split_begin(&s);
		memcpy(split_room(&s, &room), "d", 1);
		split_filled(&s, 1);
		split_end(&s);
		assert_int_equal(split_next(&s, &piece), SPLIT_MESSAGE);
		assert_int_equal(piece.bytes, 1);
		assert_int_equal(piece.number, mode == SPLIT_BYTES ? 0 : 1);
		split_free(&s);
	}
}

static void messages_stay_valid_across_files(void **state)
{
	struct split s;
	struct split_piece first;
	struct split_piece second;
	size_t room;

	(void)state;
	assert_true(split_init(&s, SPLIT_LINES, 0, 100));
	split_begin(&s);
	memcpy(split_room(&s, &room), "one\ntwo", 7);
	split_filled(&s, 7);
	split_end(&s);
	assert_int_equal(split_next(&s, &first), SPLIT_MESSAGE);
	assert_int_equal(split_next(&s, &second), SPLIT_MESSAGE);
	assert_int_equal(split_next(&s, &second), SPLIT_DONE);
	split_begin(&s);
	assert_int_equal(split_next(&s, &second), SPLIT_MORE);
	assert_memory_equal(first.data, "one", 3);
	split_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edges_of_lines),
		cmocka_unit_test(edges_of_pieces),
		cmocka_unit_test(edges_of_records),
		cmocka_unit_test(random_files_with_random_reads),
		cmocka_unit_test(an_endless_line_is_dropped_in_bounded_memory),
		cmocka_unit_test(a_file_given_up_leaves_nothing_behind),
		cmocka_unit_test(messages_stay_valid_across_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
