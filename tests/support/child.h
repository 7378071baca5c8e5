/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - code of a test that runs in a forked child; and what the last error says. */
#ifndef TESTS_SUPPORT_CHILD_H
#define TESTS_SUPPORT_CHILD_H

#include <gpuq/gpuq.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define assert_says(text)                                                                          \
	do {                                                                                       \
		if (strstr(q_last_error(), text) == NULL)                                          \
			fail_msg("\"%s\" does not say \"%s\"", q_last_error(), text);              \
	} while (0)

/* fork(), for a child that must not outlive the test's process, also if that is killed. */
static inline pid_t fork_child(void)
{
	const pid_t parent = getpid(), child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return child;
}

/* Runs in a child, whose exit status is its verdict; a signal is a failure. */
#define in_child(...)                                                                              \
	do {                                                                                       \
		pid_t child_ = fork_child();                                                       \
		int status_;                                                                       \
		if (child_ == 0) {                                                                 \
			__VA_ARGS__                                                                \
			_exit(0);                                                                  \
		}                                                                                  \
		assert_int_equal(waitpid(child_, &status_, 0), child_);                            \
		if (!WIFEXITED(status_) || WEXITSTATUS(status_) != 0)                              \
			fail_msg("the child ended with status %#x", (unsigned)status_);            \
	} while (0)

/* In a child, in place of an assertion. */
#define need(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "in the child, line %d: %s: %s\n", __LINE__, #condition,   \
				q_last_error());                                                   \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

#endif /* TESTS_SUPPORT_CHILD_H */
