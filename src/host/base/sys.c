/* SPDX-License-Identifier: Apache-2.0 */
/* sys.c - writing without a signal to the writing thread. */
#include "host/base/sys.h"

#include <signal.h>

static int write_all(int fd, const char *from, size_t bytes)
{
	while (bytes != 0) {
		const ssize_t n = gq_sys_write(fd, from, bytes);

		if (n < 0)
			return errno;
		from += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Both signals go to the thread that writes. It blocks them, and takes back the one that its own
 * write has raised. One that was pending before stays. */
int gq__write_quietly(int fd, const void *from, size_t bytes)
{
	const struct timespec at_once = { 0, 0 };
	sigset_t ours, before, pending;
	int error;

	sigemptyset(&ours);
	sigaddset(&ours, SIGPIPE);
	sigaddset(&ours, SIGXFSZ);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &ours, &before);
	error = write_all(fd, from, bytes);
	if (error == EPIPE && sigismember(&pending, SIGPIPE) == 0)
		sigdelset(&ours, SIGXFSZ);
	else if (error == EFBIG && sigismember(&pending, SIGXFSZ) == 0)
		sigdelset(&ours, SIGPIPE);
	else
		sigemptyset(&ours);
	/* Not sigtimedwait(), which is a cancellation point. The kernel's sets have 64 bits. */
	if (sigismember(&ours, SIGPIPE) == 1 || sigismember(&ours, SIGXFSZ) == 1)
		while (syscall(SYS_rt_sigtimedwait, &ours, NULL, &at_once, (size_t)8) < 0 &&
		       errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}
