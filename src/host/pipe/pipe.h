/* SPDX-License-Identifier: Apache-2.0 */
/* pipe.h - the handles of a pipe, as one process has them; private to the library. */
#ifndef GPUQ_PIPE_PIPE_H
#define GPUQ_PIPE_PIPE_H

#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/pipe/author.h"
#include "host/pipe/layout.h"
#include "host/wait/poll_fd.h"
#include "host/wait/wait.h"

#include <gpuq/pipe.h>

#include <pthread.h>

/* A pipe's memory, and this process's own copy of what describes it. */
struct gq_pipe_source {
	struct gq_pipe_head *head;
	uint8_t *data;
	uint64_t capacity;
	uint64_t mapped; /* bytes at `head` */
	uint32_t policy;
};

/*
 * The writer's side. Whoever adds bytes is inside the gate: `writing`. The lock guards the list of
 * readers and `audience`, and is held by whoever closes, sets an error, moves `begin` under
 * Q_PIPE_WAIT, or replaces the memory. Never across a wait; the gate is taken before it.
 */
struct Pipe {
	uint64_t generation; /* of the process: see gq__generation */
	struct gq_pipe_source source;
	bool pooled;   /* the handle is a pool's */
	uint64_t refs; /* the writer's handle, and each open reader */
	uint64_t writing;
	struct gq_event gate;
	struct gq_event room; /* a writer sleeps on it */
	struct gq_event data; /* readers of this process sleep on it */
	pthread_mutex_t lock;
	PipeReader *first;  /* under the lock, as the next */
	uint64_t audience;  /* GQ_AUDIENCE_*; read without the lock */
	uint64_t opened;    /* under the lock */
	int fd;             /* the memfd; -1: not shared. Written in the gate and under the lock */
	uint64_t allocated; /* bytes of the memfd's data that have pages; in the gate */
	uint64_t woke_ns;   /* when the writer has last woken readers; in the gate, as the next */
	uint64_t woke_end;  /* where the stream ended then */
	uint64_t wakes;     /* how often in a row that was soon after the last time */
	uint64_t beaten;    /* where the stream ended at the last beat */
	uint64_t beaten_ns; /* when that was */
	uint64_t wanted_at; /* where it ended when `wanted` was stored; likewise */
	uint64_t waited_at; /* where it ended when the writer last slept for room; likewise */
	uint64_t wanted;    /* how far all readers must be for the sleeping writer; see pace.c */
	uint64_t full;      /* counters; relaxed */
	uint64_t lagged;
	uint64_t evicted;
};

/* Pipe.audience: how many readers are open (32 bits), and these. */
#define GQ_AUDIENCE_HAD    (UINT64_C(1) << 32) /* there was one */
#define GQ_AUDIENCE_SHARED (UINT64_C(1) << 33) /* there may be some in other processes */

static inline uint32_t gq_pipe_readers(uint64_t audience)
{
	return (uint32_t)audience;
}

struct PipeReader {
	uint64_t generation;
	struct gq_pipe_source source;
	Pipe *pipe;                   /* NULL: attached by descriptor */
	PipeReader *before, *after;   /* in the pipe's list; under its lock */
	uint64_t reading;             /* 1: a thread is inside q_pipe_read() */
	uint64_t position;            /* the next byte; written by the reading thread */
	uint64_t flags;               /* GQ_READER_*; likewise */
	uint64_t own_error;           /* GQ_READER_FAILS and the number (32 bits); 0: none */
	uint64_t failure;             /* EOWNERDEAD, EPROTO; 0: none */
	bool sleeps_next;             /* and does not doze then; the reading thread's */
	uint64_t asleep;              /* attached: odd while the reading thread may sleep */
	struct gq_pipe_author author; /* attached: the process that writes */
	struct gq_poll_fd poll;       /* q_pipe_reader_fd() */
	uint64_t poll_asleep;         /* as `asleep`, of its thread */
};

#define GQ_READER_LATE  UINT64_C(1) /* what it came too late for has not been said yet */
#define GQ_READER_CUT   UINT64_C(2) /* cut off by Q_PIPE_EVICT */
#define GQ_READER_FAILS (UINT64_C(1) << 32)

static inline bool gq_pipe_overwrites(const struct gq_pipe_source *s)
{
	return s->policy == Q_PIPE_DROP_HISTORY || s->policy == Q_PIPE_EVICT;
}

/* Why a handle is refused: with q_last_error() set. */
QueueStatus gq__pipe_refuse(bool is_null, const char *what);

static inline QueueStatus gq_pipe_enter(const Pipe *p)
{
	if (__builtin_expect(p == NULL || p->generation != gq__generation, 0))
		return gq__pipe_refuse(p == NULL, "pipe");
	return Q_OK;
}

static inline QueueStatus gq_pipe_reader_enter(const PipeReader *r)
{
	if (__builtin_expect(r == NULL || r->generation != gq__generation, 0))
		return gq__pipe_refuse(r == NULL, "reader");
	return Q_OK;
}

/* ---- life.c ---- */

/* Give one reference back. The last one frees the pipe. */
void gq__pipe_drop(Pipe *p);

/* ---- gate.c ---- */

/* Become the one that writes. @return false: the deadline has passed. */
bool gq__pipe_gate_enter(Pipe *p, uint64_t deadline_ns);
void gq__pipe_gate_leave(Pipe *p);

/* ---- look.c: what a read finds ---- */

enum gq_pipe_sight {
	GQ_SEES_NOTHING,
	GQ_SEES_DATA,
	GQ_SEES_END,
	GQ_SEES_OWN_ERROR,
	GQ_SEES_ERROR, /* the writer's, or `failure` */
	GQ_SEES_LAG,
	GQ_SEES_CUT,
};

/* position, begin: of the stream, as they were; bytes: of data, from position on. */
struct gq_pipe_view {
	uint64_t position, begin, bytes;
};

/* What a read would find now. Any thread; a thread other than the reading one may see what was. */
enum gq_pipe_sight gq__pipe_look(PipeReader *r, struct gq_pipe_view *v);

/* How many readers are in a sleep that only `changes` ends, and how to end it. */
void gq__pipe_rouse(PipeReader *r, const uint64_t *asleep, const uint64_t *while_word,
		    uint64_t value);

/* Begin to wait for the reader to find something. `asleep` is the waiting thread's; afterwards
 * gq__pipe_wait_end(). */
void gq__pipe_wait_begin(PipeReader *r, struct gq_wait *wait, uint64_t *asleep,
			 uint64_t deadline_ns);
void gq__pipe_wait_end(PipeReader *r, struct gq_wait *wait, uint64_t *asleep);

#endif /* GPUQ_PIPE_PIPE_H */
