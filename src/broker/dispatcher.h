/* SPDX-License-Identifier: Apache-2.0 */
/* dispatcher.h - a queue of gpuqd's, and the thread between it and its clients. */
#ifndef GPUQ_BROKER_DISPATCHER_H
#define GPUQ_BROKER_DISPATCHER_H

#include "broker.h"
#include "client.h"

struct dispatcher;

/* What dispatchers, and the threads of pages.c, tell the reactor. */
enum note_kind {
	NOTE_MADE,   /* the client's memory is there, or why not */
	NOTE_UNMADE, /* and has been given back */
	NOTE_READY,  /* the client is served from now on; `text` is not used */
	NOTE_FAILED, /* its queue could not be made: `text` */
	NOTE_BROKEN, /* it has broken the protocol: end the connection */
	NOTE_LOST,   /* the queue has failed: end the connection */
	NOTE_GONE,   /* the dispatcher has let go of it */
	NOTE_DEVICE, /* of no client: the queue's device has failed; `text` is the queue's name */
};

/* Called by the dispatcher's thread; must not block for long. */
typedef void note_fn(void *user, struct client *c, enum note_kind kind, const char *text);

/*
 * Makes the queue and starts the thread. With `alone` the queue is made by the thread, for this one
 * client, and the thread ends with it: it was added already.
 * @param counts  where it counts, on from what stands there; NULL: in memory of its own
 */
struct dispatcher *dispatcher_start(const struct broker_queue *cfg, const struct gq_wire_hello *h,
				    struct client *alone, const void *data,
				    struct page_queue *counts, note_fn *note, void *user,
				    char error[BROKER_ERROR_ROOM]);
/* From any thread. */
void dispatcher_add(struct dispatcher *d, struct client *c);
/* Let go of a client; what is inside is cancelled or, until `until_ns`, waited for (0: not). */
void dispatcher_remove(struct dispatcher *d, struct client *c, uint64_t until_ns);
/* The window that its counts name from now on. From any thread. */
void dispatcher_set_window(struct dispatcher *d, uint32_t window);
/* Have it write its counts: into a section of a page, always the same; or, with NULL, where
 * dispatcher_counts() finds them. */
void dispatcher_show(struct dispatcher *d, struct page *page, uint32_t section);
void dispatcher_counts(struct dispatcher *d, struct page_queue *out);
/* Ends a dispatcher without clients. @param counts  its last ones, or NULL */
void dispatcher_end(struct dispatcher *d, struct page_queue *counts);
/* What its queue is; after NOTE_READY. */
void dispatcher_describe(const struct dispatcher *d, struct gq_wire_started *out);

#endif /* GPUQ_BROKER_DISPATCHER_H */
