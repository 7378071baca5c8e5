/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chardev.c - connected to gpuqd by its character device; policy/chardev_wire.h says what goes over
 * it. Each call waits for gpuqd's one thread, but not for its answer to a frame: where that thread
 * hangs, so does the call, until it goes on, it ends, or this process is killed.
 */
#include "transport.h"

#include "broker/policy/chardev_wire.h"
#include "host/base/clock.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <string.h>
#include <sys/ioctl.h>

#define AGAIN_NS 2000000L /* between two tries to be taken in */

static long control(const BrokerClient *c, unsigned long number, const void *argument)
{
	return syscall(SYS_ioctl, c->socket, number, argument);
}

/* What is no gpuqd's does not know the number; gpuqd refuses a piece without bytes. */
static bool is_device(const BrokerClient *c)
{
	const struct gq_chardev_piece nothing = { .frame_bytes = 1 };

	return control(c, GQ_CHARDEV_IOCTL(GQ_CHARDEV_SEND, 0), &nothing) != 0 && errno == EINVAL;
}

static bool open_device(BrokerClient *c, const char *path)
{
	const uint64_t deadline_ns = gq__deadline_ns(c->timeout_ms);
	const char *why;

	if (path[0] == '\0') {
		gq__fail(Q_ERR_INVALID_ARG, "endpoint is 'chardev:'; allowed: chardev:PATH, the "
					    "path of gpuqd's device");
		return false;
	}
	for (;;) {
		c->socket = gq_sys_open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0);
		if (c->socket >= 0 || errno != EAGAIN || gq__now_ns() >= deadline_ns)
			break;
		gq_sys_nap(AGAIN_NS);
	}
	if (c->socket >= 0 && is_device(c))
		return true;
	why = errno == ENOENT   ? "there is no such file: is gpuqd running?"
	      : errno == EAGAIN ? "gpuqd has accepted nobody within timeout_ms"
	      : errno == ENOTTY ? "that is no device of gpuqd: has gpuqd ended?"
	      : errno == ENOTCONN || errno == ECONNABORTED ? "nobody serves it: has gpuqd ended?"
							   : strerror(errno);
	gq__failf(Q_ERR_LOST, "gpuqd's services at %s: %s", path, why);
	return false;
}

static long send_frame(BrokerClient *c, const void *frame, size_t bytes)
{
	const unsigned number = gq_chardev_number(frame, bytes);
	struct {
		struct gq_chardev_piece head;
		uint8_t data[GQ_CHARDEV_PIECE_MAX];
	} piece;

	if (bytes > GQ_CHARDEV_FRAME_MAX) {
		errno = EMSGSIZE;
		return -1;
	}
	/* One that is not taken is sent again from its start. */
	for (size_t at = 0, n; at < bytes; at += n) {
		n = bytes - at < sizeof(piece.data) ? bytes - at : sizeof(piece.data);
		piece.head.frame_bytes = (uint32_t)bytes;
		piece.head.offset = (uint32_t)at;
		memcpy(piece.data, (const uint8_t *)frame + at, n);
		if (control(c, GQ_CHARDEV_IOCTL(number, n), &piece) != 0)
			return -1;
	}
	return (long)bytes;
}

static long receive(BrokerClient *c, void *to, size_t room, int *fd)
{
	*fd = -1;
	return syscall(SYS_read, c->socket, to, room);
}

/* Also where a child has a copy of the descriptor. */
static void end(BrokerClient *c)
{
	const struct gq_chardev_piece last = { 0 };

	(void)control(c, GQ_CHARDEV_IOCTL(GQ_CHARDEV_SEND, 0), &last);
}

const struct gq_client_transport gq__client_chardev = {
	.prefix = "chardev:",
	.needs_checksum = true,
	.tells_room = true,
	.open = open_device,
	.send = send_frame,
	.receive = receive,
	.end = end,
};
