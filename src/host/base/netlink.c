/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.c - messages of NETLINK_USERSOCK; see netlink.h. */
#include "netlink.h"

#include "sys.h"

#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

int gq__netlink_open(void)
{
	const int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_USERSOCK);
	const int on = 1;
	int error;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0)
		return fd;
	error = errno;
	gq_sys_close(fd);
	errno = error;
	return -1;
}

int gq__netlink_open_somewhere(void)
{
	const int fd = gq__netlink_open();
	int error = fd < 0 ? errno : EADDRINUSE;

	while (fd >= 0 && error == EADDRINUSE) {
		struct sockaddr_nl at = { .nl_family = AF_NETLINK };

		error = syscall(SYS_getrandom, &at.nl_pid, sizeof(at.nl_pid), 0) ==
					sizeof(at.nl_pid)
				? 0
				: errno;
		at.nl_pid |= UINT32_C(1) << 31; /* pids and ports of doors are below */
		if (error == 0 && bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0)
			error = errno;
	}
	if (error == 0)
		return fd;
	if (fd >= 0)
		gq_sys_close(fd);
	errno = error;
	return -1;
}

static void read_sender(struct msghdr *h, struct gq_netlink_message *m)
{
	struct ucred who;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
		    c->cmsg_len == CMSG_LEN(sizeof(who))) {
			memcpy(&who, CMSG_DATA(c), sizeof(who));
			m->uid = who.uid;
			m->gid = who.gid;
		}
}

/* Bytes that somebody was made to write there, such as a line of text, are no message. */
static bool is_exact(const struct gq_netlink_head *head, long n)
{
	return n >= (long)sizeof(*head) && head->bytes == (size_t)n && head->flags == 0 &&
	       head->unused[0] == 0 && head->unused[1] == 0;
}

bool gq__netlink_receive(int fd, struct gq_netlink_message *m, void *body, size_t room)
{
	struct gq_netlink_head head = { 0 };
	struct iovec io[2] = { { &head, sizeof(head) }, { body, room } };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
	struct sockaddr_nl from = { .nl_family = AF_NETLINK };
	struct msghdr h = { .msg_name = &from,
			    .msg_namelen = sizeof(from),
			    .msg_iov = io,
			    .msg_iovlen = 2,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	const long n = syscall(SYS_recvmsg, fd, &h, MSG_DONTWAIT);

	*m = (struct gq_netlink_message){ .uid = (uid_t)-1, .gid = (gid_t)-1 };
	if (n < 0)
		return false;
	read_sender(&h, m);
	m->port = from.nl_pid;
	if (is_exact(&head, n) && (h.msg_flags & MSG_TRUNC) == 0) {
		m->type = head.type;
		m->cookie = head.cookie;
		m->bytes = (size_t)n - sizeof(head);
	}
	return true;
}

bool gq__netlink_send(int fd, uint32_t port, enum gq_netlink_type type, uint64_t cookie,
		      const void *body, size_t bytes)
{
	struct gq_netlink_head head = { .bytes = (uint32_t)(sizeof(head) + bytes),
					.type = (uint16_t)type,
					.cookie = cookie };
	struct iovec io[2] = { { &head, sizeof(head) }, { (void *)body, bytes } };
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_pid = port };
	struct msghdr h = { .msg_name = port != 0 ? &to : NULL,
			    .msg_namelen = port != 0 ? sizeof(to) : 0,
			    .msg_iov = io,
			    .msg_iovlen = 2 };

	return syscall(SYS_sendmsg, fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) ==
	       (long)(sizeof(head) + bytes);
}

bool gq__netlink_is_taken(int probe, uint32_t port)
{
	const struct sockaddr_nl at = { .nl_family = AF_NETLINK, .nl_pid = port };

	return bind(probe, (const struct sockaddr *)&at, sizeof(at)) != 0;
}

uid_t gq__netlink_nobody(void)
{
	char text[16] = "";
	uid_t uid = 0;
	const int fd = gq_sys_open("/proc/sys/kernel/overflowuid", O_RDONLY | O_CLOEXEC, 0);
	const ssize_t n = fd >= 0 ? gq_sys_read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		gq_sys_close(fd);
	for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
		uid = 10 * uid + (uid_t)(text[i] - '0');
	return n > 0 ? uid : 65534; /* the kernel's default */
}
