/* SPDX-License-Identifier: Apache-2.0 */
/* consume.h - what a consumer does to the queue: complete a message, cancel it, leave. */
#ifndef GPUQ_QUEUE_CONSUME_H
#define GPUQ_QUEUE_CONSUME_H

#include "host/queue/state.h"

/*
 * A claimed message has ended: complete it, and wake the threads that wait for that.
 * @param pos  where this thread's last completion went; the tail to begin with
 */
void gq__completed(GpuQueue *q, uint64_t *pos, uint32_t slot, uint32_t outcome);
/* A claimed message is not to run: it ends CANCELLED. */
void gq__cancel_one(GpuQueue *q, uint64_t *pos, uint32_t slot);
/* The host as a consumer that runs nothing: every message not claimed yet ends CANCELLED. */
void gq__cancel_unstarted(GpuQueue *q);
/*
 * A consumer that was asleep, or about to be, has claimed a message and is about to run it: if more
 * messages wait and other consumers sleep, it wakes one of them. That one does the same. (Not where
 * there are no more consumers than CPUs: there a publication wakes one for each of its messages.)
 * So a publication need not wake as many consumers as it has messages, and yet no consumer stays
 * asleep while messages wait, however long those that are awake run. Nothing gets lost: whoever
 * publishes wakes one sleeper at least, and that one looks after it has been woken; it finds all
 * claimed already, or claims and comes here. [wake.look]: a consumer that registers after this look
 * finds what waits by its own second look.
 */
void gq__wake_next_consumer(GpuQueue *q);
/* A consumer has left for good. */
void gq__consumer_left(GpuQueue *q);

#endif /* GPUQ_QUEUE_CONSUME_H */
