/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - a connection, from accept to close, as the reactor's thread knows it. */
#ifndef GPUQ_BROKER_SESSION_H
#define GPUQ_BROKER_SESSION_H

#include "dispatcher.h"
#include "link.h"
#include "rights.h"

#include "broker/policy/arrivals.h"
#include "broker/policy/tarpit.h"

#include <pthread.h>
#include <sys/types.h>

/*
 *   NEW       accepted; waits for HELLO
 *   WAITING   for the process that has its queue
 *   GUEST     that process has it; here it is a number, and counts against its user's quota
 *   MAKING    its memory is being made
 *   OFFERED   has its memory; waits for START
 *   STARTING  the dispatcher has been asked to serve it
 *   RUNNING   it is served
 *   CLOSING   the dispatcher, or the maker of its memory, has been asked to let go of it; then its
 *             memory is given back
 *   UNREAD    the rest has gone. But the client has not taken the descriptors that it was sent out
 *             of its socket, where they keep its memory: so it counts against its user's quota
 */
enum session_state {
	SESSION_NEW,
	SESSION_WAITING,
	SESSION_GUEST,
	SESSION_MAKING,
	SESSION_OFFERED,
	SESSION_STARTING,
	SESSION_RUNNING,
	SESSION_CLOSING,
	SESSION_UNREAD
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
	uint8_t *token; /* that it has shown; NULL: none */
	uint32_t token_bytes;
	bool has_rights; /* `rights` are those of a token */
	struct rights rights;
	const struct broker_queue *queue;
	uint64_t number;         /* of the client, between gpuqd and its processes; 0: none */
	struct process *process; /* that it waits for, or whose guest it is */
	uint32_t detail;         /* what gpuqd is told when it is gone: link.h */
	struct dispatcher *dispatcher;
	bool own_dispatcher;
	bool begun; /* a tracer has been told so */
	bool given; /* it has been sent descriptors, and has not been seen to have read them */
	uint8_t *memory;
	uint64_t bytes;          /* of the memory */
	uint64_t charged, slots; /* that count against its user's quota */
	uint32_t window;         /* of its queue when it came: a reload changes that of the queue */
	struct client client;
	/* ---- pages.c: while it is MAKING or CLOSING, its threads' ---- */
	struct session *next_job;
	uint64_t allocated; /* bytes so far */
	int error;          /* why there is no memory; 0: there is */
	uint32_t abandoned; /* the reactor sets it: nobody wants the memory any more */
};

/* A thread that has sessions to do something for, one after the other. */
struct pages_thread {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct session *first, **end;
	bool quit, started;
	bool (*step)(struct session *s); /* @return whether that was all */
	enum note_kind done;
};

struct pages {
	struct pages_thread maker, unmaker;
};

struct note {
	struct note *next;
	struct client *client;
	enum note_kind kind;
	char text[BROKER_ERROR_ROOM];
};

/* A new configuration, and the dispatchers of the queues that are new in it. */
struct fresh {
	struct broker_config cfg;
	struct dispatcher *dispatcher[BROKER_MOST_QUEUES];
	struct process *process[BROKER_MOST_QUEUES]; /* those that are new */
	uint32_t processes;
};

/* A client that a process for queues has been given. */
struct adopted {
	struct adopted *next;
	int socket;
	uint64_t number;
	uint32_t best;
	struct gq_wire_hello hello;
};

struct broker {
	struct broker_config cfg;
	/* NULL: per client, or another process has it */
	struct dispatcher *dispatcher[BROKER_MOST_QUEUES];
	int epoll, listener, wake;
	bool listening; /* the socket at its path is ours */
	int lock_fd;    /* held while the socket's path is ours */
	pthread_t thread;
	struct session *sessions;
	uint32_t stopping; /* asks the thread to end */
	uint32_t ended;    /* it has */
	uint32_t told;     /* asks it to write the counts */
	struct gq_arrivals arrivals;
	struct gq_tarpit tarpit;
	uint64_t
		refusals_told_ns; /* when the log was last told of a user that connects too often */
	struct page_clients counts;
	/* Of queues of one client each: of those that have ended. */
	struct page_queue *gone[BROKER_MOST_QUEUES];
	struct page_queue sum, one; /* room for show() */
	bool stopped;               /* it has begun to */
	uint64_t accept_again_ns;
	pthread_mutex_t lock; /* of the notes, and of `fresh` */
	struct fresh *fresh;  /* a new configuration that the thread has not taken over */
	uint32_t known;       /* queues, as who reloads knows */
	struct note *notes, **notes_end;
	struct pages pages;

	/* ---- in gpuqd itself: its processes (supervise.c) ---- */
	struct process *process[BROKER_MOST_QUEUES];
	uint32_t processes;
	int ledger_fd;             /* -1: it has never had any */
	struct page_queue *ledger; /* counts of the queues of all processes */
	struct page *shared;       /* the page that they write; NULL: it has never had any */
	uint64_t numbers;          /* of clients that have been given to them */
	bool preparing;            /* they have been asked to, and some have not answered */
	uint64_t prepare_ns;       /* since then */
	uint32_t prepare_ms;       /* and so long they may take */
	uint32_t prepare;          /* enum prepare: between who reloads and the thread */
	const struct broker_config *prepare_cfg;
	char prepare_error[BROKER_ERROR_ROOM];
	pthread_cond_t prepared;

	/* ---- in such a process ---- */
	struct adopted *adopted, **adopted_end; /* under `lock` */
};

/* ---- session.c: all on the reactor's thread ---- */

void session_accept(struct broker *b);
/* And those that had to wait, because their users connect too often. */
void session_accept_held(struct broker *b, uint64_t now_ns);
/* The socket can be read, or the peer is gone. */
void session_hear(struct session *s);
/* End the connection: at once, or when the dispatcher has let go. */
void session_end(struct session *s, uint64_t until_ns);
void session_note(struct session *s, const struct note *note);
/* What a client that waits is told, as no process can have it: it is gone then. */
void session_refuse(struct session *s, QueueStatus status, const char *text);
/* It is gone from here. */
void session_forget(struct session *s);
/* Whether an UNREAD one has read what it was sent, or closed its end: then it is gone. */
void session_look(struct session *s);
/* Whether the process that it waits for could be given it. */
bool session_pass(struct session *s);
/* A client that gpuqd has given to this process. */
void session_adopt(struct broker *b, const struct adopted *a);

/* A note_fn, `user` the broker: from a thread of gpuqd's to the reactor's. */
void broker_note(void *user, struct client *c, enum note_kind kind, const char *text);

/* ---- show.c ---- */

/* Writes what there is to see of the connections and queues, and has the dispatchers do so. */
void show_counts(struct broker *b);
/* A queue of one client, or that client, is gone. */
void show_gone(struct broker *b, const struct session *s, const struct page_queue *last);
/* A connection has been refused. @return how that counts */
enum page_refusal show_refused(struct broker *b, QueueStatus status);
/* Something went wrong, in words that are the same each time. */
void show_error(struct broker *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A client has gone, as `detail` says: LINK_GONE_*. */
void show_ended(struct broker *b, uint32_t detail);

/* ---- admit.c ---- */

/*
 * Whether a client may have what it asks for; fills in queue, bytes and slots.
 * @return Q_OK, or the status to refuse with, and `text`
 */
QueueStatus admit(struct session *s, char text[GQ_WIRE_TEXT]);
/* Whether a user may have one more connection. */
bool admit_connection(const struct broker *b, uid_t uid);
/* Whether a user has not connected too often lately; else `text` says when it may again. */
bool admit_arrival(struct broker *b, uid_t uid, char text[GQ_WIRE_TEXT]);

/* ---- pages.c: clients' memory, made and given back beside the reactor's thread ---- */

/* @return 0, or an errno value */
int pages_start(struct pages *p);
/* When nothing is left to do. */
void pages_end(struct pages *p);
/* Make the memory and the bell of a session that has been admitted: NOTE_MADE. */
void pages_make(struct pages *p, struct session *s);
/* Both sides have mapped a client's memory: it stays as it is from now on. @return false: the
 * client has sealed it, or punched holes into it */
bool pages_seal(int memfd, uint64_t bytes);
/* Give back what pages_make() has made: NOTE_UNMADE. */
void pages_unmake(struct pages *p, struct session *s);

#endif /* GPUQ_BROKER_SESSION_H */
