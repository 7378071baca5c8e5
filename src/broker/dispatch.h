/* SPDX-License-Identifier: Apache-2.0 */
/* dispatch.h - a dispatcher's state, which its files share: dispatcher.c, serve.c, pair.c. */
#ifndef GPUQ_BROKER_DISPATCH_H
#define GPUQ_BROKER_DISPATCH_H

#include "dispatcher.h"
#include "pair.h"

#include "broker/policy/brevity.h"

#include <pthread.h>
#include <semaphore.h>

enum command_kind { COMMAND_ADD, COMMAND_REMOVE, COMMAND_TELL, COMMAND_END };

struct command {
	struct command *next;
	enum command_kind kind;
	struct client *client;
	uint64_t until_ns;
};

struct dispatcher {
	struct broker_queue cfg;
	uint32_t capacity, slot_bytes, result_bytes, consumers;
	uint32_t window;  /* of clients that come; a reload changes it */
	const void *data; /* for the queue that the thread makes */
	size_t data_bytes;
	struct client *alone; /* NULL: it serves all who come */
	note_fn *note;
	void *user;
	struct page *page; /* where it writes its counts, and which section; NULL: into `shown` */
	uint32_t section;
	uint32_t asked; /* it has been told to, and has not yet */
	GpuQueue *q;
	pthread_t thread[2];
	uint32_t last;   /* which one led at the end */
	bool abandoned;  /* the other is in a processor, and left to itself */
	sem_t over;      /* nobody touches it any more, but dispatcher_end() */
	int epoll, wake; /* `wake`: an eventfd that other threads of ours write */

	/* ---- the leader's ---- */
	struct pair *pair;
	struct client *clients;
	struct gq_fair fair; /* their users */
	bool cut; /* the last turn: clients behind one whose message took too long have had none */
	struct record **sent; /* by slot of our queue; NULL: not a client's, or of one that left */
	uint32_t inside;      /* messages in our queue */
	struct gq_brevity brevity;
	uint32_t ended;         /* since a trial has been due, less two for each one sent on */
	uint32_t passed;        /* messages run since the order of classes last stood back */
	struct record *running; /* the leader runs it, or has last */
	bool is_away;           /* a message is with the other thread, which did not come back */
	struct record *away;    /* it; NULL: its client has left */
	bool failed, failure_told, ending;
	struct page_queue *counts; /* `own`, or where they outlive this process */
	struct page_queue own;

	/* ---- the inbox ---- */
	pthread_mutex_t lock;
	struct command *inbox, **inbox_end;
	uint64_t mail; /* something is in it */
	struct page_queue shown;
};

/* ---- serve.c: one turn ---- */

enum served {
	SERVED_NOTHING, /* there was nothing to do */
	SERVED_SOME,
	SERVED_TOO_LONG, /* this thread does not lead any more: nothing of the dispatcher's is its
			    own */
};

/* What a turn takes of each client, at most, and no more than its user's portion: where messages
 * are run, not handed to the queue, the order of the classes is the dispatcher's to keep. */
struct share {
	uint32_t lowest;   /* class */
	uint32_t messages; /* at most */
};

enum served serve_completions(struct dispatcher *d);
struct share serve_share(struct dispatcher *d);
enum served serve_client(struct dispatcher *d, struct client *c, struct share share);
/* Whether a turn would find something to do for this client: the second look before sleeping. */
bool serve_would(const struct dispatcher *d, const struct client *c);
/* Forget a client's messages; what our queue still has of them is nobody's. */
void serve_forget(struct dispatcher *d, struct client *c);

#endif /* GPUQ_BROKER_DISPATCH_H */
