/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - a connection, from accept to close, as the reactor's thread knows it. */
#ifndef GPUQ_BROKER_SESSION_H
#define GPUQ_BROKER_SESSION_H

#include "dispatcher.h"

#include <pthread.h>
#include <sys/types.h>

/*
 *   NEW       accepted; waits for HELLO
 *   OFFERED   has its memory; waits for START
 *   STARTING  the dispatcher has been asked to serve it
 *   RUNNING   it is served
 *   CLOSING   the dispatcher has been asked to let go of it
 */
enum session_state {
	SESSION_NEW,
	SESSION_OFFERED,
	SESSION_STARTING,
	SESSION_RUNNING,
	SESSION_CLOSING
};

struct session {
	struct broker *b;
	struct session *next;
	enum session_state state;
	int socket, pidfd, bell, memfd;
	uid_t uid;
	pid_t pid;
	uint64_t since_ns; /* the client has had to speak since then */
	struct gq_wire_hello hello;
	const struct broker_queue *queue;
	struct dispatcher *dispatcher;
	bool own_dispatcher;
	uint8_t *memory;
	uint64_t bytes;          /* of the memory */
	uint64_t charged, slots; /* that count against its user's quota */
	struct client client;
};

struct note {
	struct note *next;
	struct client *client;
	enum note_kind kind;
	char text[BROKER_ERROR_ROOM];
};

struct broker {
	struct broker_config cfg;
	struct dispatcher *dispatcher[BROKER_MOST_QUEUES]; /* NULL: per client */
	int epoll, listener, wake;
	bool listening; /* the socket at its path is ours */
	int lock_fd;    /* held while the socket's path is ours */
	pthread_t thread;
	struct session *sessions;
	uint32_t stopping; /* asks the thread to end */
	bool stopped;      /* it has begun to */
	uint64_t accept_again_ns;
	pthread_mutex_t lock; /* of the notes */
	struct note *notes, **notes_end;
};

/* ---- session.c: all on the reactor's thread ---- */

void session_accept(struct broker *b);
/* The socket can be read, or the peer is gone. */
void session_hear(struct session *s);
/* End the connection: at once, or when the dispatcher has let go. */
void session_end(struct session *s, uint64_t until_ns);
void session_note(struct session *s, const struct note *note);

/* A note_fn, `user` the broker: from a dispatcher's thread to the reactor's. */
void broker_note(void *user, struct client *c, enum note_kind kind, const char *text);

/* ---- admit.c ---- */

/*
 * Whether a client may have what it asks for; fills in queue, bytes and slots.
 * @return Q_OK, or the status to refuse with, and `text`
 */
QueueStatus admit(struct session *s, char text[GQ_WIRE_TEXT]);
/* Whether a user may have one more connection. */
bool admit_connection(const struct broker *b, uid_t uid);
/* The client's memory: made, allocated, sealed, mapped. @return as admit() */
QueueStatus make_memory(struct session *s, char text[GQ_WIRE_TEXT]);

#endif /* GPUQ_BROKER_SESSION_H */
