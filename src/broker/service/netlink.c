/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netlink.c - the transport over NETLINK_USERSOCK; host/base/netlink.h says what goes over it. A
 * peer is a port and a user, in every message of its own. Its pid is not known.
 */
#include "transport.h"

#include "host/base/netlink.h"
#include "host/base/sys.h"

#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct line;

struct entrance {
	uint32_t mode; /* socket_mode: whom the file of a socket would let in */
	uid_t nobody;
	int probe; /* -1: there was no descriptor for it */
	struct line *lines;
};

struct line {
	struct entrance *at;
	struct line *next;
	uint32_t port; /* the peer's */
	uint64_t cookie;
	bool is_another_s; /* the port: what is sent there somebody else would read */
};

/* What a sendmsg() that failed means. */
static enum transport_result failed(int error)
{
	const enum transport_result result = socket_result(error);

	return result == TRANSPORT_HELD ? TRANSPORT_GONE : result;
}

/* ---- the door -------------------------------------------------------------------------------- */

static bool open_door(struct door *d, const struct router_config *cfg,
		      char error[ROUTER_ERROR_ROOM])
{
	const struct sockaddr_nl at = { .nl_family = AF_NETLINK, .nl_pid = cfg->netlink };
	struct entrance *e;

	if (cfg->netlink == 0)
		return true;
	e = d->own = calloc(1, sizeof(*e));
	if (e == NULL) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: out of memory");
		return false;
	}
	e->mode = cfg->socket_mode;
	e->nobody = gq__netlink_nobody();
	e->probe = gq__netlink_open();
	d->fd = gq__netlink_open();
	if (e->probe >= 0 && d->fd >= 0 &&
	    bind(d->fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return true;
	snprintf(error, ROUTER_ERROR_ROOM, "netlink port %u: %s", cfg->netlink,
		 errno == EADDRINUSE ? "another process of this network namespace has it"
				     : strerror(errno));
	return false;
}

/* As the file of a socket with this mode, and of our user and group, would; but that only the
 * peer's real user and first group are known. */
static const char *objection(const struct entrance *e, const struct gq_netlink_message *m)
{
	bool may = (e->mode & 0002) != 0;

	if (m->uid == e->nobody)
		return "its user has no number of its own in gpuqd's user namespace";
	if (m->gid == getegid())
		may = (e->mode & 0020) != 0;
	if (m->uid == geteuid())
		may = (e->mode & 0200) != 0;
	return may || m->uid == 0 ? NULL : "socket_mode does not let this user in";
}

/* A port has one socket. So a line to this port is that of this knock, which has come again as the
 * first answer was late; or one to a socket that has gone without a word.
 * @return whether it has been answered */
static bool was_answered(const struct entrance *e, const struct gq_netlink_message *m)
{
	bool same = false;

	for (struct line *line = e->lines; line != NULL; line = line->next) {
		if (line->port != m->port)
			continue;
		if (line->cookie == m->cookie)
			same = true;
		else
			line->is_another_s = true;
	}
	return same;
}

static enum transport_result accept_link(struct door *d, struct link *out)
{
	struct entrance *e = d->own;
	struct gq_netlink_message m;
	char body;

	if (!gq__netlink_receive(d->fd, &m, &body, sizeof(body)))
		return TRANSPORT_NOT_NOW;
	/* Nobody has anything else to say here. */
	if (m.type != GQ_NETLINK_KNOCK || m.bytes != 0 || m.port == 0 || m.uid == (uid_t)-1)
		return TRANSPORT_FORGED;
	if (was_answered(e, &m))
		return TRANSPORT_NOBODY;
	*out = (struct link){ .transport = &netlink_transport,
			      .fd = d->fd,
			      .pidfd = -1,
			      .uid = m.uid,
			      .objection = objection(e, &m),
			      .own = e,
			      .port = m.port,
			      .cookie = m.cookie };
	return TRANSPORT_DONE;
}

/* Since a knock that had to wait came another one has, of the same client or of the one that has
 * its port by now, and has been let in. */
static bool is_outdated(const struct entrance *e, uint32_t port)
{
	const struct line *line = e->lines;

	while (line != NULL && (line->port != port || line->is_another_s))
		line = line->next;
	return line != NULL;
}

/* Who has no room even for HERE is let go: it may knock again. */
static enum transport_result begin_link(struct link *l)
{
	struct entrance *e = l->own;
	const struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_pid = l->port };
	struct line *line;
	int fd;

	if (is_outdated(e, l->port))
		return TRANSPORT_NOBODY;
	line = calloc(1, sizeof(*line));
	fd = line != NULL ? gq__netlink_open_somewhere() : -1;
	if (fd < 0) {
		free(line);
		return TRANSPORT_SHORT;
	}
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0 ||
	    !gq__netlink_send(fd, 0, GQ_NETLINK_HERE, l->cookie, NULL, 0)) {
		gq_sys_close(fd);
		free(line);
		return TRANSPORT_NOBODY;
	}
	*line = (struct line){ .at = e, .next = e->lines, .port = l->port, .cookie = l->cookie };
	e->lines = line;
	l->fd = fd;
	l->own = line;
	return TRANSPORT_DONE;
}

static void refuse_link(struct link *l, const void *frame, size_t bytes)
{
	(void)gq__netlink_send(l->fd, l->port, GQ_NETLINK_AWAY, l->cookie, frame, bytes);
}

/* Whether it is nobody's any more, as far as that can be looked at. */
static bool is_free(struct entrance *e, uint32_t port)
{
	if (e->probe < 0)
		e->probe = gq__netlink_open();
	if (e->probe < 0 || gq__netlink_is_taken(e->probe, port))
		return false;
	gq_sys_close(e->probe); /* or it would take what is sent there */
	e->probe = gq__netlink_open();
	return true;
}

static bool has_left(struct link *l)
{
	return is_free(l->own, l->port);
}

static void stop_door(struct door *d)
{
	if (d->fd >= 0)
		gq_sys_close(d->fd);
	d->fd = -1;
}

static void free_door(struct door *d)
{
	struct entrance *e = d->own;

	if (e->probe >= 0)
		gq_sys_close(e->probe);
	free(e);
	d->own = NULL;
}

/* ---- a link ---------------------------------------------------------------------------------- */

/* That there is room in the peer's socket nobody tells. */
static uint32_t events(bool hears, bool full)
{
	(void)full;
	return hears ? EPOLLIN : 0;
}

static enum transport_result receive(struct link *l, void *to, size_t room, size_t *bytes)
{
	struct line *line = l->own;
	struct gq_netlink_message m;

	if (!gq__netlink_receive(l->fd, &m, to, room))
		return errno == EAGAIN || errno == EINTR ? TRANSPORT_NOT_NOW : TRANSPORT_GONE;
	if (m.port != line->port) /* it came before connect() */
		return TRANSPORT_FORGED;
	if (m.uid != l->uid) {
		line->is_another_s = true;
		return TRANSPORT_FORGED;
	}
	/* A type that none has is no frame either, and the decoder says so of nothing. */
	*bytes = 0;
	if (m.type != GQ_NETLINK_NONE && m.cookie != line->cookie)
		return TRANSPORT_FORGED;
	if (m.type == GQ_NETLINK_BYE)
		return TRANSPORT_GONE;
	if (m.type == GQ_NETLINK_FRAME)
		*bytes = m.bytes;
	return TRANSPORT_DONE;
}

static enum transport_result send_frame(struct link *l, const void *frame, size_t bytes, int fd)
{
	const struct line *line = l->own;

	(void)fd; /* none: passes_regions */
	if (line->is_another_s)
		return TRANSPORT_GONE;
	return gq__netlink_send(l->fd, 0, GQ_NETLINK_FRAME, line->cookie, frame, bytes)
		       ? TRANSPORT_DONE
		       : failed(errno);
}

static enum transport_result look(struct link *l)
{
	const struct line *line = l->own;

	return line->is_another_s || is_free(line->at, line->port) ? TRANSPORT_GONE
								   : TRANSPORT_DONE;
}

/* A last word for which there is no room is not needed: the peer looks, too. */
static void end(struct link *l)
{
	struct line *line = l->own, **at = &line->at->lines;

	while (*at != line)
		at = &(*at)->next;
	*at = line->next;
	if (!line->is_another_s)
		(void)gq__netlink_send(l->fd, 0, GQ_NETLINK_BYE, line->cookie, NULL, 0);
	gq_sys_close(l->fd);
	free(line);
	l->own = NULL;
}

const struct transport netlink_transport = {
	.name = "netlink",
	.open = open_door,
	.accept = accept_link,
	.begin = begin_link,
	.refuse = refuse_link,
	.has_left = has_left,
	.stop = stop_door,
	.free = free_door,
	.events = events,
	.receive = receive,
	.send = send_frame,
	.look = look,
	.end = end,
};
