/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - the log of a program that has no queue. Each case is a child, because the variable
 * is read once. */
#include "host/base/log.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child with this GPUQ_LOG (NULL: unset) writes to stderr when it logs a warning and a line
 * of level info. */
static const char *logged(const char *value)
{
	static char text[512];
	int out[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t child;

	assert_int_equal(pipe(out), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (value != NULL)
			setenv("GPUQ_LOG", value, 1);
		else
			unsetenv("GPUQ_LOG");
		dup2(out[1], STDERR_FILENO);
		gq__log(Q_LOG_WARNING, "a warning");
		gq__log(Q_LOG_INFO, "by the way");
		_exit(0);
	}
	close(out[1]);
	while (n < sizeof(text) - 1 && (got = read(out[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return text;
}

static void a_program_without_a_queue_logs_what_the_variable_asks_for(void **state)
{
	(void)state;
	assert_string_equal(logged("warning"), "gpuq: warning: a warning\n");
	assert_string_equal(logged("info"), "gpuq: warning: a warning\ngpuq: info: by the way\n");
	assert_string_equal(logged("error"), "");
}

static void it_logs_nothing_where_the_variable_is_unset_empty_or_wrong(void **state)
{
	(void)state;
	assert_string_equal(logged(NULL), "");
	assert_string_equal(logged(""), "");
	assert_string_equal(logged("loud"), ""); /* q_init() refuses it by name */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_without_a_queue_logs_what_the_variable_asks_for),
		cmocka_unit_test(it_logs_nothing_where_the_variable_is_unset_empty_or_wrong),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
