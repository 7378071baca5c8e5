/* SPDX-License-Identifier: Apache-2.0 */
/* transport.h - how a client's frames go and come: all that client.c asks of a transport. */
#ifndef GPUQ_HOST_SERVICE_TRANSPORT_H
#define GPUQ_HOST_SERVICE_TRANSPORT_H

#include "state.h"

struct gq_client_transport {
	const char *prefix;  /* of its endpoints */
	bool needs_checksum; /* frames without one are refused */
	bool tells_room;     /* poll() of c->socket tells when there is some. Else: try again */
	/* Connects within c->timeout_ms, to what follows the prefix. Descriptors in *c are closed
	 * by q_broker_close(), also after a failure. @return false with q_last_error() */
	bool (*open)(BrokerClient *c, const char *address);
	/* Of one whole frame. @return its bytes; -1 with errno: EAGAIN: there is no room. */
	long (*send)(BrokerClient *c, const void *frame, size_t bytes);
	/* `fd`: the descriptor that has come with it, the caller's; -1: none.
	 * @return a frame's bytes; 0: gpuqd has gone; -1 with errno: EAGAIN: there is none */
	long (*receive)(BrokerClient *c, void *to, size_t room, int *fd);
	/* Ends the connection, before c->socket is closed. Not in a child, whose copy of the
	 * connection does not end its parent's. */
	void (*end)(BrokerClient *c);
};

extern const struct gq_client_transport gq__client_unix, gq__client_handed, gq__client_netlink,
	gq__client_chardev;

/* ---- of connected sockets that keep messages apart ---- */

long gq__client_socket_send(BrokerClient *c, const void *frame, size_t bytes);
long gq__client_socket_receive(BrokerClient *c, void *to, size_t room, int *fd);
void gq__client_socket_end(BrokerClient *c);

#endif /* GPUQ_HOST_SERVICE_TRANSPORT_H */
