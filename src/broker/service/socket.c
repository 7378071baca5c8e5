/* SPDX-License-Identifier: Apache-2.0 */
/* socket.c - what transports over connected sockets that keep messages apart have in common. */
#include "transport.h"

#include "host/base/sys.h"
#include "program/socket.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

int transport_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* It has all that it needs since it was accepted. */
enum transport_result socket_begin(struct link *l)
{
	(void)l;
	return TRANSPORT_DONE;
}

void socket_refuse(struct link *l, const void *frame, size_t bytes)
{
	(void)socket_send(l, frame, bytes, -1);
	socket_end(l);
}

bool socket_has_left(struct link *l)
{
	return socket_has_hung_up(l->fd);
}

/* What is not going to be read must not be told of, or epoll would tell of it for ever. */
uint32_t socket_events(bool hears, bool full)
{
	return (hears ? (uint32_t)(EPOLLIN | EPOLLRDHUP) : 0) | (full ? (uint32_t)EPOLLOUT : 0);
}

/* ETOOMANYREFS: others do not take the descriptors that they have been sent. */
enum transport_result socket_result(int error)
{
	if (error == ETOOMANYREFS)
		return TRANSPORT_HELD;
	return error == EAGAIN || error == EINTR || error == ENOBUFS || error == ENOMEM
		       ? TRANSPORT_NOT_NOW
		       : TRANSPORT_GONE;
}

enum transport_result socket_receive(struct link *l, void *to, size_t room, size_t *bytes)
{
	struct iovec io = { .iov_base = to, .iov_len = room };
	/* No room for descriptors: the kernel closes what a peer sends. */
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	const ssize_t n = recvmsg(l->fd, &m, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? TRANSPORT_NOT_NOW : TRANSPORT_GONE;
	*bytes = (size_t)n;
	return n == 0 ? TRANSPORT_GONE : TRANSPORT_DONE;
}

enum transport_result socket_send(struct link *l, const void *frame, size_t bytes, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec io = { .iov_base = (void *)frame, .iov_len = bytes };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	if (fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	n = sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == (ssize_t)bytes)
		return TRANSPORT_DONE;
	return n < 0 ? socket_result(errno) : TRANSPORT_GONE;
}

void socket_end(struct link *l)
{
	gq_sys_close(l->fd);
}

bool socket_owner(int fd, struct link *out)
{
	struct ucred who = { 0 };
	socklen_t length = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0)
		return false;
	out->uid = who.uid;
	out->pid = who.pid;
	return true;
}
