/* SPDX-License-Identifier: Apache-2.0 */
/* lock.h - a lock of a file that a gpuqd which has just been killed may still have. */
#ifndef BROKER_PAGE_LOCK_H
#define BROKER_PAGE_LOCK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/file.h>
#include <time.h>

extern uint32_t lock_wait_ms; /* 2000; a test has less patience */

/*
 * Take a lock (LOCK_SH, LOCK_EX), or wait lock_wait_ms for it. A process that gpuqd was starting
 * when it was killed has a copy of its descriptors, and so its locks, until it executes its
 * program. So whoever starts another gpuqd at once would be told that the first one still runs.
 * @return false with errno; EWOULDBLOCK: another has it
 */
static inline bool lock_patiently(int fd, int how)
{
	const struct timespec nap = { .tv_nsec = 5000000 };

	for (uint32_t ms = 0; ms <= lock_wait_ms; ms += 5) {
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
