/* SPDX-License-Identifier: Apache-2.0 */
/* socket.h - what the other side of a connected socket has done. Neither call waits. */
#ifndef GPUQ_PROGRAM_SOCKET_H
#define GPUQ_PROGRAM_SOCKET_H

#include <poll.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

/* It has closed its end. */
static inline bool socket_has_hung_up(int fd)
{
	struct pollfd at = { .fd = fd };

	return poll(&at, 1, 0) > 0 && (at.revents & POLLHUP) != 0;
}

/* Something that it was sent lies in the socket yet. */
static inline bool socket_has_unread(int fd)
{
	int bytes = 0;

	return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes != 0;
}

#endif /* GPUQ_PROGRAM_SOCKET_H */
