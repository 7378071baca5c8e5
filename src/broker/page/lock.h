/* SPDX-License-Identifier: Apache-2.0 */
/* lock.h - a lock of a file that a gpuqd which has just been killed may still have. */
#ifndef BROKER_PAGE_LOCK_H
#define BROKER_PAGE_LOCK_H

#include <errno.h>
#include <stdbool.h>
#include <sys/file.h>
#include <time.h>

enum { LOCK_TRIES = 400 }; /* of 5 ms: two seconds */

/*
 * Take a lock (LOCK_SH, LOCK_EX), or wait two seconds for it. A process that gpuqd was starting
 * when it was killed has a copy of its descriptors, and so its locks, until it executes its
 * program. So whoever starts another gpuqd at once would be told that the first one still runs.
 * @return false with errno; EWOULDBLOCK: another has it
 */
static inline bool lock_patiently(int fd, int how)
{
	const struct timespec nap = { .tv_nsec = 5000000 };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, how | LOCK_NB) == 0)
			return true;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return false;
		nanosleep(&nap, NULL);
	}
	errno = EWOULDBLOCK;
	return false;
}

#endif /* BROKER_PAGE_LOCK_H */
