/* SPDX-License-Identifier: Apache-2.0 */
/*
 * author.h - the process that writes a pipe which others read, and whether it lives; private to the
 * library.
 *
 * The writer is a process and no thread: any of its threads may write, and the one that shared the
 * pipe may end. So a reader opens a pidfd of the process when it attaches, makes sure that it is
 * that of the writer and not of a later process with its id, and asks it from time to time. It
 * writes nothing anywhere, and calls no process dead without proof.
 */
#ifndef GPUQ_PIPE_AUTHOR_H
#define GPUQ_PIPE_AUTHOR_H

#include <stdbool.h>
#include <stdint.h>

/* What the writer has left in the header: see layout.h. */
struct gq_pipe_trace {
	uint64_t writer, began, place;
};

struct gq_pipe_author {
	struct gq_pipe_trace trace;
	int pidfd;             /* -1: none to be had */
	bool judged;           /* whether anything can be found out from here */
	uint64_t dead;         /* 1: proven, and final */
	uint64_t next_look_ns; /* any thread; a lost update costs a look */
};

/* What tells the calling process from others. */
struct gq_pipe_trace gq__pipe_trace_own(void);

void gq__pipe_author_begin(struct gq_pipe_author *a, const struct gq_pipe_trace *trace);
void gq__pipe_author_end(struct gq_pipe_author *a);

/* Whether the process is known to have ended, or to run another program. It looks every 100 ms.
 * Any thread. */
bool gq__pipe_author_is_dead(struct gq_pipe_author *a);

#endif /* GPUQ_PIPE_AUTHOR_H */
