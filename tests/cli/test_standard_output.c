/* SPDX-License-Identifier: Apache-2.0 */
/* test_standard_output.c - why a program's output could not be written, whatever else went wrong
 * since. */
#include "program/program.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

const char program_name[] = "test_standard_output";

static char bytes[256 * 1024];

/* In a process of its own, which prints to `fd` and then meets another error. @return what
 * flush_output() says in it. */
static int printed_to(int fd)
{
	const pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGPIPE, SIG_IGN);
		dup2(fd, STDOUT_FILENO);
		if (!standard_descriptors())
			_exit(255);
		fflush(stdout);
		/* more than a buffer, so that nothing of it is left for flush_output() to try */
		for (int i = 0; i < 2; i++)
			fwrite(bytes, 1, sizeof(bytes), stdout);
		(void)close(-1);
		if (errno != EBADF)
			_exit(254);
		status = flush_output();
		_exit(flush_output() == status ? status : 253);
	}
	close(fd);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_full_device_is_told_as_such(void **state)
{
	const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(printed_to(fd), ENOSPC);
}

static void a_reader_that_has_gone_is_told_as_such(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	assert_int_equal(printed_to(ends[1]), EPIPE);
}

static void an_output_that_does_not_wait_gets_all_of_it(void **state)
{
	int ends[2], status;
	pid_t reader;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	reader = fork();
	assert_true(reader >= 0);
	if (reader == 0) {
		size_t count = 0;
		ssize_t n;

		close(ends[1]);
		while ((n = read(ends[0], bytes, 1000)) > 0)
			count += (size_t)n;
		_exit(count == 2 * sizeof(bytes) ? 0 : 1);
	}
	close(ends[0]);
	assert_int_equal(printed_to(ends[1]), 0);
	assert_int_equal(waitpid(reader, &status, 0), reader);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_device_is_told_as_such),
		cmocka_unit_test(a_reader_that_has_gone_is_told_as_such),
		cmocka_unit_test(an_output_that_does_not_wait_gets_all_of_it),
	};

	return cmocka_run_group_tests_name("standard output", tests, NULL, NULL);
}
