/* SPDX-License-Identifier: Apache-2.0 */
/* thread.c - starting the library's own threads. */
#include "host/thread.h"

#include "host/memory.h"

#include <errno.h>
#include <signal.h>

int gq__start_thread(pthread_t *thread, void *(*run)(void *), void *arg, const char *name)
{
	sigset_t all, before;
	int rc;

	if (gq__fault())
		return EAGAIN;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		pthread_setname_np(*thread, name);
	return rc;
}
