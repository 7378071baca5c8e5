/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervise.h - gpuqd's processes for queues: started, watched, fed with clients, started again.
 * All on the reactor's thread, but for what says otherwise.
 *
 * A process has the queues that name it in the configuration, and runs what they run. If that ends
 * it, its clients lose their connections, which the kernel closes, and nobody else notices. gpuqd
 * itself never maps a client's memory of such a queue.
 */
#ifndef GPUQ_BROKER_SUPERVISE_H
#define GPUQ_BROKER_SUPERVISE_H

#include "session.h"

struct process;

/*
 * Starts those that queues of `cfg` from `first` on name and `b` has not, and waits until they
 * serve. From the thread that starts or reloads gpuqd.
 * @return false: `error` says why; none has been started
 */
bool supervise_start(struct broker *b, const struct broker_config *cfg, uint32_t first,
		     struct process **to, uint32_t *n, char error[BROKER_ERROR_ROOM]);
/* Ends those that the reactor does not know. From that thread. */
void supervise_drop(struct process **which, uint32_t n);
/* The reactor knows them from now on. @return false: with errno */
bool supervise_take(struct broker *b, struct process *const *which, uint32_t n);

/* Who has a queue that is not gpuqd's own; NULL: nobody. */
struct process *supervise_find(const struct broker *b, const struct broker_queue *queue);
/* Why it does not, for a client. */
void supervise_explain(const struct process *p, char text[GQ_WIRE_TEXT]);
/* Gives it a client. @return false: it does not serve, or cannot take it now: try again later */
bool supervise_give(struct process *p, const struct session *s);

/* What an event is of; NULL: of no process. */
struct process *supervise_whose(const struct broker *b, const void *pointer);
/* It has said something, or has ended. Reads some of that; the event comes again. */
void supervise_hear(struct broker *b, struct process *p);
/* What all of them have said: before a quota is looked at. */
void supervise_hear_all(struct broker *b);
/* What time has brought: starts, and ends. @return ms until there is more; -1: nothing */
int supervise_turn(struct broker *b);
/* They are asked for their counts; one that has not answered for hang_ms is killed. */
void supervise_show(struct broker *b);

/* All are told to end, after what they have been told before; who has not when drain_ms and some
 * seconds are over is killed. */
void supervise_stop(struct broker *b);
bool supervise_has_ended(const struct broker *b);
/* What is left of all of them. When the thread has ended. */
void supervise_free(struct broker *b);

/* ---- reloading, in two steps ---- */

/* Has all of them make what is new. From the thread that reloads. @return false: `error` */
bool supervise_prepare(struct broker *b, const struct broker_config *cfg,
		       char error[BROKER_ERROR_ROOM]);
/* Begins with that, if it has been asked for. */
void supervise_begin_prepare(struct broker *b);
/* They have what the broker has taken over; b->cfg is it. */
void supervise_commit(struct broker *b);

#endif /* GPUQ_BROKER_SUPERVISE_H */
