/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - what gpuqd and its processes for queues say to each other: a message a datagram of a
 * pair of Unix SEQPACKET sockets. Both run the same program, so structs are sent as they are.
 */
#ifndef GPUQ_BROKER_LINK_H
#define GPUQ_BROKER_LINK_H

#include "broker.h"

enum { LINK_FD = 3, LINK_DESCRIPTORS = 3 };

enum link_kind {
	/* gpuqd's */
	LINK_CONFIGURE = 1, /* the first: `text` its name; descriptors: the configuration, the
			     * page, the ledger */
	LINK_CLIENT,  /* serve the client `number`, who has said `hello`, and whose messages are of
		       * the class `detail` at most; descriptor: its socket */
	LINK_SHOW,    /* write the counts into the page */
	LINK_PREPARE, /* make the queues that are new; descriptor: the configuration */
	LINK_COMMIT,  /* take it over */
	LINK_ABORT,   /* or leave it */
	LINK_STOP,    /* end; what is in the queues is waited for, for the drain_ms that it knows */
	/* the process's */
	LINK_READY,      /* it serves */
	LINK_FAILED,     /* it ends: `text` says why */
	LINK_GONE,       /* the client `number` is gone, `detail` says how */
	LINK_PREPARED,   /* the queues that are new are there */
	LINK_UNPREPARED, /* or could not be made: `text` */
};

/* Of LINK_GONE. */
enum {
	LINK_GONE_PLAIN,
	LINK_GONE_BROKEN, /* it has broken the protocol: gpuqd fines its user */
	LINK_GONE_LOST,   /* its queue has failed: nobody is fined */
	LINK_GONE_REFUSED /* and more: as a page_refusal */
};

struct link_message {
	uint32_t kind, detail;
	uint64_t number;
	union {
		struct gq_wire_hello hello;
		char text[BROKER_ERROR_ROOM];
	};
};

/*
 * Sends one. @param flags  MSG_DONTWAIT, or 0
 * @return false: with errno. From any thread.
 */
bool link_send(int socket, const struct link_message *m, const int *fds, uint32_t n, int flags);
/* The same for a message that is a kind and a text, or nothing (NULL). */
bool link_say(int socket, enum link_kind kind, const char *text, int flags);

/*
 * Receives one. @param fds  room for LINK_DESCRIPTORS; those that are not there are -1. NULL: no
 * descriptors are wanted, and the kernel closes those that come
 * @return false: with errno, which is 0 at the end of the connection
 */
bool link_receive(int socket, struct link_message *m, int *fds, int flags);

/* What a process needs of a configuration, as a file in memory; no keys are in it. @return a
 * descriptor, or -1 with errno */
int link_pack(const struct broker_config *cfg);
/* And back, as the process `name` is to have it. `fd` is closed. @return false: with errno */
bool link_unpack(int fd, struct broker_config *cfg);

/* The counts of all queues as a file in memory, which starts as zeros: a descriptor, or -1. */
int link_make_ledger(void);
/* The same, mapped. @return NULL: with errno */
struct page_queue *link_map_ledger(int fd);
void link_unmap_ledger(struct page_queue *ledger);

#endif /* GPUQ_BROKER_LINK_H */
