/* SPDX-License-Identifier: Apache-2.0 */
/* socket.c - connected to gpuqd by a socket of its path, or by one that was handed over. */
#include "transport.h"

#include "host/base/clock.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

long gq__client_socket_send(BrokerClient *c, const void *frame, size_t bytes)
{
	return syscall(SYS_sendto, c->socket, frame, bytes, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
}

/* -1: none has come, or this process has no room for it. */
static int descriptor_of(struct msghdr *m)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int fd = -1;

	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len >= CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

long gq__client_socket_receive(BrokerClient *c, void *to, size_t room, int *fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec io = { .iov_base = to, .iov_len = room };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = control };
	long n;

	/* ECONNRESET comes once, if gpuqd has closed with something of ours unread, and before what
	 * it had said. */
	do {
		m.msg_controllen = CMSG_LEN(sizeof(int)); /* for one: the kernel drops others */
		n = syscall(SYS_recvmsg, c->socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == ECONNRESET);
	*fd = n >= 0 ? descriptor_of(&m) : -1;
	return n;
}

/* A copy that a child has got by fork() would keep it alive. */
void gq__client_socket_end(BrokerClient *c)
{
	(void)syscall(SYS_shutdown, c->socket, SHUT_RDWR);
}

/* ---- unix:PATH ------------------------------------------------------------------------------- */

/* A gpuqd that accepts nobody has a backlog that fills. @return false: errno */
static bool connect_until(const BrokerClient *c, const struct sockaddr_un *address)
{
	const uint64_t deadline_ns = gq__deadline_ns(c->timeout_ms);
	int rc;

	do {
		const uint64_t now_ns = gq__now_ns();
		const uint64_t left_us =
			now_ns < deadline_ns ? (deadline_ns - now_ns) / 1000 + 1 : 1;
		const struct timeval left = { (time_t)(left_us / 1000000),
					      (suseconds_t)(left_us % 1000000) };

		if (setsockopt(c->socket, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof(left)) != 0)
			return false;
		rc = (int)syscall(SYS_connect, c->socket, address, sizeof(*address));
	} while (rc != 0 && errno == EINTR && gq__now_ns() < deadline_ns);
	return rc == 0;
}

static bool open_path(BrokerClient *c, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const size_t n = strlen(path);

	if (n == 0 || n >= sizeof(address.sun_path)) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "endpoint has a PATH of %zu bytes; allowed: unix:PATH, 1 to %zu bytes", n,
			  sizeof(address.sun_path) - 1);
		return false;
	}
	memcpy(address.sun_path, path, n + 1);
	c->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (c->socket >= 0 && connect_until(c, &address))
		return true;
	gq__failf(Q_ERR_LOST, "gpuqd's services at %s: %s", path,
		  errno == ENOENT         ? "there is no such socket: is gpuqd running?"
		  : errno == ECONNREFUSED ? "nobody listens there: has gpuqd ended?"
		  : errno == EAGAIN || errno == EINTR
			  ? "gpuqd has accepted nobody within timeout_ms"
			  : strerror(errno));
	return false;
}

const struct gq_client_transport gq__client_unix = {
	.prefix = "unix:",
	.tells_room = true,
	.open = open_path,
	.send = gq__client_socket_send,
	.receive = gq__client_socket_receive,
	.end = gq__client_socket_end,
};

/* ---- fd:NUMBER ------------------------------------------------------------------------------- */

/* @return -1: it is no number of a descriptor */
static int parse_number(const char *text)
{
	int n = 0;

	for (size_t i = 0; text[i] >= '0' && text[i] <= '9' && i < 9; i++) {
		n = 10 * n + (text[i] - '0');
		if (text[i + 1] == '\0')
			return n;
	}
	return -1;
}

static bool is_connected(int fd)
{
	int domain = 0, type = 0;
	struct sockaddr_un at;
	socklen_t room = sizeof(domain), at_room = sizeof(at);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &room) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &room) == 0 && type == SOCK_SEQPACKET &&
	       getpeername(fd, (struct sockaddr *)&at, &at_room) == 0;
}

static bool open_handed(BrokerClient *c, const char *number)
{
	const int fd = parse_number(number);

	if (fd < 0 || !is_connected(fd) || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "endpoint is 'fd:%.20s'; allowed: fd:NUMBER, the number of a SEQPACKET "
			  "socket that is connected to gpuqd",
			  number);
		return false;
	}
	c->socket = fd;
	return true;
}

const struct gq_client_transport gq__client_handed = {
	.prefix = "fd:",
	.tells_room = true,
	.open = open_handed,
	.send = gq__client_socket_send,
	.receive = gq__client_socket_receive,
	.end = gq__client_socket_end,
};
