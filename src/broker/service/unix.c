/* SPDX-License-Identifier: Apache-2.0 */
/* unix.c - the transport over a socket at a path, SOCK_SEQPACKET. */
#include "transport.h"

#include "host/base/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { BACKLOG = 512 };

struct at_path {
	char path[ROUTER_SOCKET_ROOM];
	int lock;
	bool ours; /* the path is: the socket is no service manager's */
};

/* What a gpuqd has left there. Anything but a socket is somebody's. */
static bool remove_old(const char *path, char error[ROUTER_ERROR_ROOM])
{
	struct stat old;

	if (lstat(path, &old) != 0)
		return true; /* bind() says what else is wrong */
	if (!S_ISSOCK(old.st_mode)) {
		snprintf(error, ROUTER_ERROR_ROOM,
			 "the services' socket is '%s', where there is something that is no "
			 "socket; allowed: a path where there is nothing, or an old socket",
			 path);
		return false;
	}
	unlink(path);
	return true;
}

static bool listen_there(struct door *d, struct at_path *a, uint32_t mode,
			 char error[ROUTER_ERROR_ROOM])
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (a->lock < 0)
		a->lock = socket_lock(a->path, error);
	if (a->lock < 0 || !remove_old(a->path, error))
		return false;
	memcpy(address.sun_path, a->path, sizeof(address.sun_path));
	d->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	a->ours =
		d->fd >= 0 && bind(d->fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
	if (a->ours && chmod(a->path, mode) == 0 && listen(d->fd, BACKLOG) == 0)
		return true;
	snprintf(error, ROUTER_ERROR_ROOM, "%s: %s", a->path, strerror(errno));
	return false;
}

static bool open_door(struct door *d, const struct router_config *cfg,
		      char error[ROUTER_ERROR_ROOM])
{
	struct at_path *a;

	if (cfg->socket[0] == '\0')
		return true;
	a = d->own = calloc(1, sizeof(*a));
	if (a == NULL) {
		if (cfg->lock > 0)
			gq_sys_close(cfg->lock);
		snprintf(error, ROUTER_ERROR_ROOM, "services: out of memory");
		return false;
	}
	memcpy(a->path, cfg->socket, sizeof(a->path));
	a->lock = cfg->lock > 0 ? cfg->lock : -1;
	if (cfg->listener == 0)
		return listen_there(d, a, cfg->socket_mode, error);
	d->fd = cfg->listener; /* who connected before we came waits in it */
	return true;
}

/* A descriptor of the process: a copy of its socket that a child holds keeps nothing alive. */
static int open_pidfd(int socket, pid_t pid)
{
	socklen_t length = sizeof(int);
	int fd = -1;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0)
		return fd;
	return transport_pidfd(pid); /* Linux before 6.5 */
}

static enum transport_result accept_link(struct door *d, struct link *out)
{
	const int fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED
			       ? TRANSPORT_NOT_NOW
			       : TRANSPORT_SHORT;
	*out = (struct link){ .transport = &unix_transport, .fd = fd, .pidfd = -1 };
	if (socket_owner(fd, out))
		return TRANSPORT_DONE;
	gq_sys_close(fd);
	return TRANSPORT_NOBODY;
}

static enum transport_result begin_link(struct link *l)
{
	l->pidfd = open_pidfd(l->fd, l->pid);
	return TRANSPORT_DONE;
}

/* Who waits in the backlog waits for whoever listens next, if the socket is a service manager's; or
 * is told by its end. */
static void stop_door(struct door *d)
{
	struct at_path *a = d->own;

	if (a->ours)
		unlink(a->path); /* the lock's file stays: another gpuqd may wait for it */
	a->ours = false;
	if (d->fd >= 0)
		gq_sys_close(d->fd);
	d->fd = -1;
}

static void free_door(struct door *d)
{
	struct at_path *a = d->own;

	if (a->lock >= 0)
		gq_sys_close(a->lock);
	free(a);
	d->own = NULL;
}

const struct transport unix_transport = {
	.name = "unix",
	.passes_regions = true,
	.tells_room = true,
	.open = open_door,
	.accept = accept_link,
	.begin = begin_link,
	.refuse = socket_refuse,
	.has_left = socket_has_left,
	.stop = stop_door,
	.free = free_door,
	.events = socket_events,
	.receive = socket_receive,
	.send = socket_send,
	.end = socket_end,
};
