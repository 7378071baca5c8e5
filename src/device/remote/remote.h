/* SPDX-License-Identifier: Apache-2.0 */
/* remote.h - the remote device's state, which all files of this room share. */
#ifndef GPUQ_REMOTE_REMOTE_H
#define GPUQ_REMOTE_REMOTE_H

#include "device/remote/wire.h"
#include "host/queue/queue.h"

#include <pthread.h>
#include <sys/un.h>

struct gq_remote {
	GpuQueue *q;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char queue[GQ_WIRE_NAME];
	struct gq_wire_hello hello;
	struct gq_remote_layout layout;
	uint8_t *memory; /* the memfd, mapped; NULL: not yet */
	struct gq_remote_page *page;
	uint64_t *taken;  /* by slot: the id that gpuqd has claimed last */
	int socket, bell; /* -1: none */
	/* The thread that hears bells and the end of the connection. */
	pthread_t listener;
	bool listening;
	uint64_t sleepers;  /* threads registered to sleep until something completes */
	uint64_t woken_pos; /* the listener's: completions before this have woken their sleepers */
	/* not 0: the connection has ended, and the host is its own consumer ([lost.write],
	 * [lost.read]) */
	uint32_t lost;
	uint32_t closing; /* q_shutdown() ends the connection: nothing is lost */
	uint32_t heard;   /* the listener has heard the end of the connection */
};

static inline struct gq_remote *gq_remote_of(const GpuQueue *q)
{
	return q->device_state;
}

static inline bool gq_is_lost(const struct gq_remote *r)
{
	return gq_load_seq_cst_u32(&r->lost) != 0; /* [lost.read], [sleep.look] */
}

/* ---- connect.c ---- */

/* Fills in path and queue from "unix:PATH[#QUEUE]"; NULL: the default. */
bool gq__remote_parse(const char *endpoint, struct gq_remote *r);
/* Connects, says hello, and maps the memory. @return false with q_last_error() */
bool gq__remote_connect(struct gq_remote *r);
/* What follows once the queue has laid out its memory. @return as above */
bool gq__remote_begin(struct gq_remote *r, struct gq_wire_started *started);
void gq__remote_disconnect(struct gq_remote *r);

/* ---- listen.c ---- */

bool gq__remote_listen(struct gq_remote *r);
/* From now on gpuqd rings when something completes, once. Then look ([sleep.look]). */
void gq__remote_want_bell(struct gq_remote *r);

/* ---- lost.c ---- */

/* The connection has ended: every accepted message ends, and the queue is closed. */
void gq__remote_lose(struct gq_remote *r, const char *why);

#endif /* GPUQ_REMOTE_REMOTE_H */
