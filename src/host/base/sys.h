/* SPDX-License-Identifier: Apache-2.0 */
/* sys.h - system calls that are no cancellation points, and how the other calls are kept from it.
 */
#ifndef GPUQ_BASE_SYS_H
#define GPUQ_BASE_SYS_H

#include "sanitize.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/*
 * No call of the library is a cancellation point: a thread that ended inside one would leave a lock
 * held, or a slot in nobody's hands. Two ways keep it so, and tests/calls checks that every
 * function of libc that is a cancellation point is reached by one of them:
 *
 * - What runs beside messages uses the calls below: syscall() is no cancellation point.
 * - What runs once (making, ending, files, loading, the log) and what calls code that is not ours
 *   (the CUDA driver, profilers, the log's sink) stands below a GQ_NO_CANCEL().
 */

static inline int gq_cancel_off(void)
{
	int before = PTHREAD_CANCEL_ENABLE;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

static inline void gq_cancel_restore(const int *before)
{
	int ignored;

	pthread_setcancelstate(*before, &ignored);
}

/* No cancellation from here to the end of the block, by whichever way it is left. */
#define GQ_NO_CANCEL()                                                                             \
	__attribute__((cleanup(gq_cancel_restore), unused)) const int cancel_before_ =             \
		gq_cancel_off()

/* As the functions of their names; a signal between does not make them fail. */

static inline int gq_sys_open(const char *path, int flags, mode_t mode)
{
	long fd;

	do
		fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	while (fd < 0 && errno == EINTR);
	return (int)fd;
}

static inline ssize_t gq_sys_read(int fd, void *to, size_t bytes)
{
	long n;

	do
		n = syscall(SYS_read, fd, to, bytes);
	while (n < 0 && errno == EINTR);
	return n;
}

static inline ssize_t gq_sys_write(int fd, const void *from, size_t bytes)
{
	long n;

	do
		n = syscall(SYS_write, fd, from, bytes);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Linux has given the descriptor back also when it says EINTR. */
static inline int gq_sys_close(int fd)
{
#if GQ_TSAN
	/* It does not see the system call, and would take a number that is used again for a race.
	 */
	GQ_NO_CANCEL();
	return close(fd);
#else
	return syscall(SYS_close, fd) == 0 || errno == EINTR ? 0 : -1;
#endif
}

/* How many descriptors this process may have. */
static inline uint64_t gq_sys_descriptors(void)
{
	struct rlimit limit = { 0, 0 };

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

/* Sleep that long, or until a signal comes. */
static inline void gq_sys_nap(long ns)
{
	const struct timespec nap = { ns / 1000000000, ns % 1000000000 };

	syscall(SYS_nanosleep, &nap, NULL);
}

/*
 * All of it, to a file that may be a pipe without readers, or as large as it may be: then the
 * thread gets no SIGPIPE and no SIGXFSZ.
 * @return 0 or an errno value
 */
int gq__write_quietly(int fd, const void *from, size_t bytes);

#endif /* GPUQ_BASE_SYS_H */
