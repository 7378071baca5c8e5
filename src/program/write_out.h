/* SPDX-License-Identifier: Apache-2.0 */
/* write_out.h - all of what is written, whatever the descriptor is. */
#ifndef GPUQ_PROGRAM_WRITE_OUT_H
#define GPUQ_PROGRAM_WRITE_OUT_H

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <unistd.h>

/*
 * Waits where somebody shares the descriptor and has made it non-blocking.
 * @return 0, or an errno; then some of it may have been written
 */
static inline int write_out(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		const ssize_t n = write(fd, at, len);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
		} else if (n == 0) {
			return EIO; /* nothing was written, and nothing says why: not again */
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			struct pollfd writable = { .fd = fd, .events = POLLOUT };

			(void)poll(&writable, 1, -1);
		} else if (errno != EINTR) {
			return errno;
		}
	}
	return 0;
}

#endif /* GPUQ_PROGRAM_WRITE_OUT_H */
