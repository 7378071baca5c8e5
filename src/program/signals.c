/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c - an interruption asks for an orderly end; a second one does not wait for it. */
#define _GNU_SOURCE
#include "signals.h"

#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

static const int interruptions[] = { SIGINT, SIGTERM, SIGHUP };
#define INTERRUPTIONS (sizeof(interruptions) / sizeof(interruptions[0]))

/*
 * timeout(1) and some terminals deliver one interruption twice, to the process and to its group;
 * the copy must not be taken for impatience.
 */
#define SAME_SIGNAL_NS 100000000u

/* Written by the handlers, which run in one thread, and read in any: a lock-free atomic may be used
 * in both. Nothing else is published by them. */
static _Atomic int caught, hung_up;
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "a handler may use it");
static uint64_t caught_ns; /* touched by the handler only, in this one thread */
static int wake[2] = { -1, -1 };

static void on_signal(int number)
{
	const int saved = errno;

	if (caught == 0) {
		caught = number;
		caught_ns = clock_ns();
		(void)!write(wake[1], "", 1);
	} else if (clock_ns() - caught_ns >= SAME_SIGNAL_NS) {
		_exit(128 + number);
	}
	errno = saved;
}

bool signals_init(void)
{
	/* SA_RESTART: a message on stderr must not be lost half written; poll() returns anyway */
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0)
		return false;
#ifdef __SANITIZE_THREAD__
	/*
	 * GCC 12's ThreadSanitizer keeps a thread's pending signals in memory that it allocates in
	 * the thread's first blocking call. It loses a signal that comes during that allocation.
	 */
	poll(NULL, 0, 0);
#endif
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < INTERRUPTIONS; i++)
		sigaddset(&action.sa_mask, interruptions[i]);
	for (size_t i = 0; i < INTERRUPTIONS; i++) {
		struct sigaction before;

		/* nohup and background jobs of a script start us with these ignored: leave it so */
		if (sigaction(interruptions[i], NULL, &before) != 0)
			return false;
		if (before.sa_handler != SIG_IGN && sigaction(interruptions[i], &action, NULL) != 0)
			return false;
	}
	action.sa_handler = SIG_IGN;
	return sigaction(SIGPIPE, &action, NULL) == 0;
}

static void on_hup(int number)
{
	const int saved = errno;

	(void)number;
	hung_up = 1;
	(void)!write(wake[1], "", 1);
	errno = saved;
}

bool signals_hup_reloads(void)
{
	struct sigaction action = { .sa_handler = on_hup, .sa_flags = SA_RESTART };

	sigemptyset(&action.sa_mask);
	return sigaction(SIGHUP, &action, NULL) == 0;
}

bool signals_take_hup(void)
{
	char bytes[64];

	if (hung_up == 0)
		return false;
	hung_up = 0;
	/* Each SIGHUP has written a byte. If one stayed, whoever polls would never rest again. */
	while (read(wake[0], bytes, sizeof(bytes)) > 0)
		;
	if (caught != 0 || hung_up != 0) /* one that came meanwhile: its byte may be gone, too */
		(void)!write(wake[1], "", 1);
	return true;
}

int signals_caught(void)
{
	return caught;
}

int signals_fd(void)
{
	return wake[0];
}
