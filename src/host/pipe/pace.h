/* SPDX-License-Identifier: Apache-2.0 */
/* pace.h - who is woken when, so that a stream does not cost a wake-up for each of its writes. */
#ifndef GPUQ_PIPE_PACE_H
#define GPUQ_PIPE_PACE_H

#include "host/pipe/pipe.h"

/*
 * A thread that sleeps on `data` or `changes` is woken by the next write. Where the writer comes
 * back sooner than a wake-up takes, each write then wakes all readers, and each of them comes for
 * one write: the threads do little else than wake each other. So a writer that has to wake again
 * and again says that it streams (`streams`), and a reader that has nothing to read then *dozes*:
 * it sleeps on `beats`, which the writer counts once for much. At each beat the writer judges
 * whether it still streams. Nobody depends on a beat: a doze ends by itself after DOZE_NS, and one
 * that has brought little is followed by a sleep on `data` or `changes`; the write that ends it
 * judges, too. A writer that waits for room dozes likewise, until half of the pipe is free.
 */

/* The bytes before `end` are published: wake whoever sleeps until then. Inside the gate. */
void gq__pipe_published(Pipe *p, uint64_t end);

/* Wake readers for what is no byte, or because no byte will follow. */
void gq__pipe_wake_readers(Pipe *p);

/* A wait of one sleep at most: these in place of gq__wait_begin() and gq__wait_next().
 * @return of the first: false: dozing does no good now, and no wait has begun. */
bool gq__pipe_doze_begin(PipeReader *r, struct gq_wait *wait, uint64_t deadline_ns);
bool gq__pipe_doze_next(PipeReader *r, struct gq_wait *wait);

/* A wait for room, inside the gate: this in place of gq__wait_begin() and gq__wait_next(). */
void gq__pipe_room_begin(Pipe *p, struct gq_wait *wait, uint64_t deadline_ns);
bool gq__pipe_room_next(Pipe *p, struct gq_wait *wait);

/* With Q_PIPE_WAIT: a reader has moved. Wake the writer if that has made the room it waits for. */
void gq__pipe_moved(Pipe *p, uint64_t from, uint64_t to);

#endif /* GPUQ_PIPE_PACE_H */
