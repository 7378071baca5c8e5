/* SPDX-License-Identifier: Apache-2.0 */
/* test_output.c - every format, results larger than the buffer, descriptors that resist,
 * files that are taken back. */
#define _GNU_SOURCE
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What arrived at the other end of the pipe. */
struct reader {
	int fd;
	uint8_t *data;
	size_t bytes;
};

static void *read_everything(void *arg)
{
	struct reader *r = arg;
	ssize_t got;

	while ((got = read(r->fd, r->data + r->bytes, 3001)) > 0)
		r->bytes += (size_t)got;
	return NULL;
}

static void check_format(enum output_format format, size_t result_bytes, int pipe_flags)
{
	const size_t most = 4 * result_bytes + 100000;
	struct reader r = { .data = malloc(most + 3001) };
	uint8_t *result = malloc(result_bytes + 1);
	uint8_t *expected = malloc(most);
	size_t expected_bytes = 0;
	struct output o;
	pthread_t thread;
	int fds[2];

	assert_non_null(r.data);
	assert_non_null(result);
	assert_non_null(expected);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, pipe_flags), 0);
	r.fd = fds[0];
	assert_int_equal(pthread_create(&thread, NULL, read_everything, &r), 0);
	assert_true(output_init(&o, fds[1], format));
	/* three bytes first, so that hex pairs meet the end of the buffer askew */
	assert_true(output_failed(&o, 1));
	if (format != OUTPUT_RAW)
		expected[expected_bytes++] = '\n';
	for (int round = 0; round < 2; round++) {
		const size_t bytes = round == 0 ? 0 : result_bytes;

		for (size_t i = 0; i < bytes; i++)
			result[i] = (uint8_t)(i * 7 + i / 256);
		assert_true(output_result(&o, result, bytes, NULL, 1));
		for (size_t i = 0; i < bytes; i++) {
			if (format == OUTPUT_HEX)
				expected_bytes += (size_t)snprintf(
					(char *)expected + expected_bytes, 3, "%02x", result[i]);
			else
				expected[expected_bytes++] = result[i];
		}
		if (format != OUTPUT_RAW)
			expected[expected_bytes++] = '\n';
		assert_true(output_failed(&o, 1));
		if (format != OUTPUT_RAW)
			expected[expected_bytes++] = '\n';
	}
	assert_true(output_flush(&o));
	assert_true(output_flush(&o));
	assert_true(format == OUTPUT_RAW || o.at_line_start);
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_int_equal(r.bytes, expected_bytes);
	if (expected_bytes > 0)
		assert_memory_equal(r.data, expected, expected_bytes);
	output_free(&o);
	free(expected);
	free(result);
	free(r.data);
}

static void every_format_and_size(void **state)
{
	const size_t sizes[] = { 0,      1,      131070, 131071, 131072,
				 262142, 262143, 262144, 262145, 1000000 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		check_format(OUTPUT_HEX, sizes[i], 0);
		check_format(OUTPUT_TEXT, sizes[i], 0);
		check_format(OUTPUT_RAW, sizes[i], 0);
	}
}

static void a_descriptor_that_does_not_block(void **state)
{
	(void)state;
	check_format(OUTPUT_RAW, 3000000, O_NONBLOCK);
	check_format(OUTPUT_HEX, 1000000, O_NONBLOCK);
}

static void an_error_is_kept_and_ends_the_writing(void **state)
{
	struct output o;
	const int fd = open("/dev/full", O_WRONLY);

	(void)state;
	assert_true(fd >= 0);
	assert_true(output_init(&o, fd, OUTPUT_TEXT));
	assert_true(output_result(&o, "a", 1, NULL, 1)); /* buffered */
	assert_false(output_flush(&o));
	assert_int_equal(o.error, ENOSPC);
	assert_false(output_result(&o, "a", 1, NULL, 1));
	assert_false(output_failed(&o, 1));
	assert_false(output_flush(&o));
	output_free(&o);
	close(fd);
}

static void a_reader_that_went_is_epipe(void **state)
{
	struct output o;
	int fds[2];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_true(output_init(&o, fds[1], OUTPUT_RAW));
	assert_true(output_result(&o, "a", 1, NULL, 1));
	assert_false(output_flush(&o));
	assert_int_equal(o.error, EPIPE);
	output_free(&o);
	close(fds[1]);
}

static void expect_text(enum output_format format, char separator, const struct output_label *label,
			const char *text, size_t bytes)
{
	struct output o;
	char got[64];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_true(output_init(&o, fds[1], format));
	o.separator = separator;
	assert_true(output_result(&o, "\x41\n", 2, label, 1));
	assert_true(output_flush(&o));
	assert_int_equal(read(fds[0], got, sizeof(got)), bytes);
	assert_memory_equal(got, text, bytes);
	output_free(&o);
	close(fds[0]);
	close(fds[1]);
}

static void a_label_follows_after_two_spaces(void **state)
{
	const struct output_label plain = { .text = "name" };
	const struct output_label escaped = { .text = "na\\nme", .escaped = true };

	(void)state;
	expect_text(OUTPUT_HEX, '\n', &plain, "410a  name\n", 11);
	expect_text(OUTPUT_HEX, '\n', &escaped, "\\410a  na\\nme\n", 14);
	expect_text(OUTPUT_TEXT, '\n', &plain, "A\n  name\n", 9);
}

static void only_text_ends_in_the_separator(void **state)
{
	(void)state;
	expect_text(OUTPUT_TEXT, '\0', NULL, "A\n", 3);
	expect_text(OUTPUT_HEX, '\0', NULL, "410a\n", 5);
	expect_text(OUTPUT_RAW, '\0', NULL, "A\n", 2);
}

/* A run that is refused removes what it has made, unless another has opened it meanwhile. */
static void only_what_nobody_else_has_is_taken_back(void **state)
{
	char folder[] = "/tmp/gpuq-output-XXXXXX", path[40];
	bool created, again, leases;
	int fd, other;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/results", folder);
	fd = output_open(path, &created);
	assert_true(fd >= 0 && created);
	leases = fcntl(fd, F_SETLEASE, F_WRLCK) == 0 && fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
	other = output_open(path, &again);
	assert_true(other >= 0 && !again);
	output_take_back(path, fd);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(write(other, "x", 1), 1);
	close(other);
	output_take_back(path, fd);
	assert_int_equal(access(path, F_OK), 0); /* there are results in it */
	assert_int_equal(ftruncate(fd, 0), 0);
	output_take_back(path, fd);
	assert_int_equal(access(path, F_OK), leases ? -1 : 0);
	close(fd);
	(void)unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_format_and_size),
		cmocka_unit_test(a_descriptor_that_does_not_block),
		cmocka_unit_test(an_error_is_kept_and_ends_the_writing),
		cmocka_unit_test(a_reader_that_went_is_epipe),
		cmocka_unit_test(a_label_follows_after_two_spaces),
		cmocka_unit_test(only_text_ends_in_the_separator),
		cmocka_unit_test(only_what_nobody_else_has_is_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
