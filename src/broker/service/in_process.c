/* SPDX-License-Identifier: Apache-2.0 */
/*
 * in_process.c - the transport inside of one process: pairs of sockets, and no path. The thread
 * that connects makes a pair, keeps one end, and puts the other's number into a pipe, which is the
 * door.
 */
#include "transport.h"

#include "host/base/sys.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct inside {
	/* Of `in` and of what is in the pipe: threads that connect, and the router's. */
	pthread_mutex_t lock;
	int in; /* the pipe's other end; -1: nobody comes any more */
};

static bool open_door(struct door *d, const struct router_config *cfg,
		      char error[ROUTER_ERROR_ROOM])
{
	struct inside *i;
	int ends[2];

	if (!cfg->in_process)
		return true;
	i = malloc(sizeof(*i));
	if (i == NULL || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: %s", strerror(errno));
		free(i);
		return false;
	}
	pthread_mutex_init(&i->lock, NULL);
	i->in = ends[1];
	d->fd = ends[0];
	d->own = i;
	return true;
}

/* A number is written whole, or not at all, as a pipe does with so few bytes. */
static enum transport_result accept_link(struct door *d, struct link *out)
{
	struct inside *i = d->own;
	ssize_t n;
	int fd;

	pthread_mutex_lock(&i->lock);
	n = gq_sys_read(d->fd, &fd, sizeof(fd));
	pthread_mutex_unlock(&i->lock);
	if (n != (ssize_t)sizeof(fd))
		return TRANSPORT_NOT_NOW;
	/* The other end is this process's own, so its death need not be watched. */
	*out = (struct link){ .transport = &in_process_transport, .fd = fd, .pidfd = -1 };
	if (socket_owner(fd, out))
		return TRANSPORT_DONE;
	gq_sys_close(fd);
	return TRANSPORT_NOBODY;
}

int in_process_connect(struct door *d)
{
	struct inside *i = d->own;
	int ends[2], error = 0;

	if (i == NULL) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return -1;
	pthread_mutex_lock(&i->lock);
	if (i->in < 0)
		error = ECONNREFUSED;
	else if (gq_sys_write(i->in, &ends[0], sizeof(ends[0])) < 0)
		error = errno;
	pthread_mutex_unlock(&i->lock);
	if (error == 0)
		return ends[1];
	gq_sys_close(ends[0]);
	gq_sys_close(ends[1]);
	errno = error;
	return -1;
}

/* Who has connected and was not begun with is told by the end of its socket. */
static void stop_door(struct door *d)
{
	struct inside *i = d->own;
	int fd;

	pthread_mutex_lock(&i->lock);
	if (i->in >= 0)
		gq_sys_close(i->in);
	i->in = -1;
	pthread_mutex_unlock(&i->lock);
	if (d->fd < 0)
		return;
	while (gq_sys_read(d->fd, &fd, sizeof(fd)) == (ssize_t)sizeof(fd))
		gq_sys_close(fd);
	gq_sys_close(d->fd);
	d->fd = -1;
}

static void free_door(struct door *d)
{
	struct inside *i = d->own;

	pthread_mutex_destroy(&i->lock);
	free(i);
	d->own = NULL;
}

const struct transport in_process_transport = {
	.name = "in_process",
	.passes_regions = true,
	.tells_room = true,
	.open = open_door,
	.accept = accept_link,
	.begin = socket_begin,
	.refuse = socket_refuse,
	.has_left = socket_has_left,
	.stop = stop_door,
	.free = free_door,
	.events = socket_events,
	.receive = socket_receive,
	.send = socket_send,
	.end = socket_end,
};
