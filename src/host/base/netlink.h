/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netlink.h - one message of NETLINK_USERSOCK, unicast, and who has sent it; whether a port is
 * anybody's. A port is a number that any process of the network namespace may take while it is
 * free, so a message says by itself who sends it: the port, and the sender's real user and group.
 * It says the sender's pid, too, but as a number of the sender's own pid namespace, where any user
 * can have any: it is not looked at.
 *
 *     client                          gpuqd
 *     KNOCK                ->         at the port of the configuration
 *                          <-         HERE, from a port for this connection alone; or
 *                          <-         AWAY, from the port of the configuration: a frame says why
 *     FRAME                <->        FRAME
 *     BYE                  <->        BYE
 *
 * All messages of a connection have the cookie that the client has drawn. Once they know each
 * other's ports both sides connect() their sockets, so that the kernel refuses what others send.
 * Nobody tells when the other side has gone without a word: each looks whether its port is still
 * somebody's, without sending anything.
 */
#ifndef GPUQ_BASE_NETLINK_H
#define GPUQ_BASE_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	/* Below are the ports of sockets that have asked for none: pids. */
	GQ_NETLINK_PORT_LEAST = 4194305,
	GQ_NETLINK_PORT_MOST = 2147483647,
	GQ_NETLINK_LOOK_MS = 500, /* how often each side looks whether the other is there, and a
				     client knocks */
};

enum gq_netlink_type {
	GQ_NETLINK_NONE,         /* it is cut, or does not say what it is as it must */
	GQ_NETLINK_KNOCK = 0x10, /* the first number that the kernel has no use of its own for */
	GQ_NETLINK_HERE,
	GQ_NETLINK_AWAY,
	GQ_NETLINK_FRAME,
	GQ_NETLINK_BYE,
};

/* Before the body of each message: a struct nlmsghdr, and the cookie. */
struct gq_netlink_head {
	uint32_t bytes; /* with this head */
	uint16_t type;
	uint16_t flags;     /* 0 */
	uint32_t unused[2]; /* 0 */
	uint64_t cookie;
};

_Static_assert(sizeof(struct gq_netlink_head) == 24, "it is on the wire");

struct gq_netlink_message {
	uint32_t type; /* enum gq_netlink_type, or a number that is none of them */
	uint32_t port; /* from which it came */
	uid_t uid;     /* (uid_t)-1: the kernel does not say */
	gid_t gid;
	uint64_t cookie;
	size_t bytes; /* of the body */
};

/* A socket that does not wait, and has no port yet. @return -1: errno */
int gq__netlink_open(void);

/*
 * The same, at a port drawn at random. The kernel itself would give the pid again and again: then
 * what was meant for a connection that has just ended comes to the next one, and whoever looks
 * whether the other side is there finds the next one there.
 * @return -1: errno
 */
int gq__netlink_open_somewhere(void);

/* The next message. @return false: errno, EAGAIN: there is none */
bool gq__netlink_receive(int fd, struct gq_netlink_message *m, void *body, size_t room);

/* All of a message, or nothing. @param port  0: to whom it is connected
 * @return false: errno, EAGAIN: there is no room, ECONNREFUSED: the port is nobody's, or does not
 * take what comes from here */
bool gq__netlink_send(int fd, uint32_t port, enum gq_netlink_type type, uint64_t cookie,
		      const void *body, size_t bytes);

/*
 * Whether a port is somebody's, in the network namespace where `probe` was opened: the kernel gives
 * it to nobody else then. Costs its owner nothing, and tells it nothing.
 * @param probe  of gq__netlink_open(), for this alone. After `false` it has the port itself, and
 *               takes what is sent there: it must be closed at once
 */
bool gq__netlink_is_taken(int probe, uint32_t port);

/* The user that all are called that have no number in this user namespace. */
uid_t gq__netlink_nobody(void);

#endif /* GPUQ_BASE_NETLINK_H */
