/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h - how frames come and go: all that the router asks of a transport. A transport knows
 * no peer and no request; the router knows no socket.
 *
 * A *door* is where connections of one transport begin. A *link* is the router's end of a
 * connection. Each has one descriptor that the router waits for, and a door may have another, where
 * all that its links carry comes. Who comes is looked at before anything is spent on it: accept()
 * says who it is, then the router calls begin() or refuse(), at once or after a while. All calls
 * but in_process_connect() are the router's thread's, and none waits.
 */
#ifndef GPUQ_BROKER_SERVICE_TRANSPORT_H
#define GPUQ_BROKER_SERVICE_TRANSPORT_H

#include "service.h"

#include <stddef.h>
#include <sys/types.h>

enum transport_result {
	TRANSPORT_DONE,
	TRANSPORT_NOT_NOW, /* nothing is there; or there is no room */
	TRANSPORT_FORGED,  /* what was there is not of whom it should be, and has been dropped */
	TRANSPORT_NOBODY,  /* who was there has gone already */
	TRANSPORT_SHORT,   /* no descriptor, or no memory, is left: later. errno says what */
	TRANSPORT_HELD,    /* a descriptor cannot go with it: too many are on their way */
	TRANSPORT_GONE,    /* the connection has ended */
};

struct transport;

struct link {
	const struct transport *transport;
	int fd;    /* for epoll: something has come, there may be room, or it is gone */
	int pidfd; /* of the process at the other end: can be read once that has died; -1: none */
	uid_t uid; /* whose it is, as the kernel says */
	pid_t pid; /* 0: not known */
	const char *objection; /* after accept(): why it may not come in; NULL: for all I know, it
				  may */
	void *own;             /* the transport's; so are these, until begin(): */
	uint32_t port;
	uint64_t cookie;
};

struct door {
	const struct transport *transport;
	int fd;            /* for epoll: somebody comes; -1: nobody does any more */
	uint64_t again_ns; /* the router's: it does not listen until then; 0: it does */
	bool watched;      /* the router's: epoll tells that somebody comes */
	int pump_fd;       /* for epoll: pump() has something to do; -1: never */
	void *own;         /* the transport's; NULL: it is not open */
};

struct transport {
	const char *name;
	bool passes_regions; /* a region's descriptor can go with a frame */
	bool tells_room;     /* epoll tells when a link that was full has room. Else: try again */
	bool needs_checksum; /* frames without one are refused */
	/* Where this configuration says so. A transport that it does not name leaves d->own NULL.
	 * @return false: `error` says why */
	bool (*open)(struct door *d, const struct router_config *cfg,
		     char error[ROUTER_ERROR_ROOM]);
	/* Who comes next. @return DONE: `out` says who, and begin() or refuse() follows, before
	 * stop() at the latest; NOT_NOW, FORGED, NOBODY, SHORT */
	enum transport_result (*accept)(struct door *d, struct link *out);
	/* Lets it in: from now on it has descriptors. @return DONE; NOBODY: l is no link any more;
	 * SHORT: refuse() follows */
	enum transport_result (*begin)(struct link *l);
	/* One frame is all that it is told, as far as that goes. */
	void (*refuse)(struct link *l, const void *frame, size_t bytes);
	/* Whether one that waits for begin() or refuse() has gone meanwhile, and is to be refused.
	 */
	bool (*has_left)(struct link *l);
	/* Nobody comes any more. The links stay. */
	void (*stop)(struct door *d);
	/* Carries what links say and are told, also after stop(). NULL: the kernel does.
	 * @return whether a client has yet to read what it was told before its link ended */
	bool (*pump)(struct door *d);
	/* After stop(), and when no link is left; of a door with a pump before the router's thread
	 * ends. */
	void (*free)(struct door *d);
	/* What to wait for at a link's descriptor, for epoll_ctl(): `hears`: what comes is wanted;
	 * `full`: the last send() had no room. */
	uint32_t (*events)(bool hears, bool full);
	/* One frame, of `room` bytes at most; a longer one may be cut. @return DONE, NOT_NOW,
	 * FORGED, GONE */
	enum transport_result (*receive)(struct link *l, void *to, size_t room, size_t *bytes);
	/* All of a frame, or nothing, with a copy of a descriptor (-1: none).
	 * @return DONE, NOT_NOW: there is no room, HELD, GONE */
	enum transport_result (*send)(struct link *l, const void *frame, size_t bytes, int fd);
	/* Where the end of a peer that says nothing is not told: whether it is there, to be asked
	 * now and then. @return DONE, GONE. NULL: it is told */
	enum transport_result (*look)(struct link *l);
	/* Ends the connection, and closes l->fd. */
	void (*end)(struct link *l);
};

/* Their order is that of router_transports. */
enum {
	TRANSPORT_UNIX,
	TRANSPORT_IN_PROCESS,
	TRANSPORT_NETLINK,
	TRANSPORT_CHARDEV,
	TRANSPORTS,
};

extern const struct transport *const router_transports[TRANSPORTS];
extern const struct transport unix_transport, in_process_transport, netlink_transport,
	chardev_transport;

/* ---- of sockets that keep messages apart; socket.c ---- */

/* A descriptor of a process. @return -1 */
int transport_pidfd(pid_t pid);
enum transport_result socket_begin(struct link *l);
void socket_refuse(struct link *l, const void *frame, size_t bytes);
bool socket_has_left(struct link *l);
uint32_t socket_events(bool hears, bool full);
enum transport_result socket_receive(struct link *l, void *to, size_t room, size_t *bytes);
enum transport_result socket_send(struct link *l, const void *frame, size_t bytes, int fd);
void socket_end(struct link *l);
/* What a send(), or a receive(), that failed with this errno means. */
enum transport_result socket_result(int error);
/* Whose a connected socket is. @return false: it is gone */
bool socket_owner(int fd, struct link *out);

/* ---- in_process.c ---- */

/* As router_connect(). */
int in_process_connect(struct door *d);

#endif /* GPUQ_BROKER_SERVICE_TRANSPORT_H */
