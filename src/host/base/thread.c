/* SPDX-License-Identifier: Apache-2.0 */
/* thread.c - starting the library's own threads. */
#include "host/base/thread.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"

#include <signal.h>

/*
 * What a thread of ours leaves to the application's threads: every signal but those that tell of
 * the thread's own doing. A fault in a processor must reach the program's handler: blocked, the
 * kernel ends the process at once. SIGPROF is how profilers that sample threads ask each of them;
 * it stays as the starting thread has it, for a program that waits for it blocks it everywhere.
 * SIGABRT can be blocked: abort() unblocks it for itself, and one from outside is the
 * application's.
 */
static void choose_blocked(sigset_t *blocked)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
	sigset_t now;

	sigfillset(blocked);
	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(blocked, own[i]);
	if (pthread_sigmask(SIG_SETMASK, NULL, &now) == 0 && sigismember(&now, SIGPROF) == 0)
		sigdelset(blocked, SIGPROF);
}

int gq__start_thread(pthread_t *thread, void *(*run)(void *), void *arg, const char *name)
{
	sigset_t blocked, before;
	int rc;

	if (gq__fault())
		return EAGAIN;
	choose_blocked(&blocked);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	rc = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		pthread_setname_np(*thread, name);
	return rc;
}
