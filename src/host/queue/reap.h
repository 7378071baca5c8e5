/* SPDX-License-Identifier: Apache-2.0 */
/* reap.h - reaping: completions become the states of messages, and the finished list. */
#ifndef GPUQ_QUEUE_REAP_H
#define GPUQ_QUEUE_REAP_H

#include "host/queue/state.h"

/*
 * The most that a call which does not wait passes over: completions that it takes notice of,
 * finished messages that are not to be polled. So the work that others have left undone cannot make
 * it long.
 */
enum { GQ_MOST_AT_ONCE = 1024 };

/* What a look for a message to poll has come to. UNDECIDED: it has passed over all it may. */
enum gq_found { GQ_FOUND_NOTHING, GQ_FOUND_SOMETHING, GQ_FOUND_UNDECIDED };

/*
 * Reap GQ_MOST_AT_ONCE of what is there.
 * @param force  also when nothing seems to wait, so as to wait for a reaper that has taken a
 *               completion and not yet said so
 * @return whether there may be more
 */
bool gq__reap(GpuQueue *q, bool force);
/* Reap all, a chunk at a time. */
void gq__reap_all(GpuQueue *q);

/*
 * Reap, then take up to `max` free slots, with no other reaper between a message's state and its
 * slot's return: a slot that is not there then is not free. It goes on until there is a slot, or no
 * completion that could free one; where no message is to be discarded that is at once.
 */
uint32_t gq__pop_reaped(GpuQueue *q, uint64_t *ids, uint32_t max, bool *closed);

/* Return slots to the pool: their messages are gone, and the caller owns them. */
void gq__free_slots(GpuQueue *q, const uint64_t *ids, uint32_t n);

static inline void gq_free_slot(GpuQueue *q, uint64_t id)
{
	gq__free_slots(q, &id, 1);
}

/*
 * What a call that polls wants, and what it has got. Of `ids` and `out` one is NULL. With
 * `take` the messages are the caller's: their state is FREE, and it reads their results and returns
 * their slots. Then `room` is what is left for results, each of which
 * begins at a multiple of GQ_RESULT_STEP bytes; one that does not fit ends the harvest and stays to
 * be polled.
 */
struct gq_harvest {
	uint64_t *ids;
	Completion *out;
	size_t max, n;
	size_t room;
	uint32_t left; /* messages that may be passed over: see GQ_MOST_AT_ONCE */
	bool take;
	bool full; /* the next one is longer than `room` */
	uint32_t next_len;
};

enum { GQ_RESULT_STEP = 16 };

/*
 * Under the reap lock: what has finished, oldest first. What is listed goes before what is still in
 * the completion ring, and that need not be listed to be handed out.
 */
void gq__harvest(GpuQueue *q, struct gq_harvest *h);

/*
 * Under the reap lock: whether polling would return something, reaping if need be, as all of a
 * chunk may have been messages to discard.
 * @param left  messages that may be passed over: discarded, or taken by id
 */
enum gq_found gq__find_unpolled(GpuQueue *q, uint32_t *left);

/*
 * The device has failed: what it has completed stands, every other accepted message ends FAILED. A
 * completion that has not arrived, or whose result has not, hides none behind it.
 */
void gq__fail_all(GpuQueue *q);

/*
 * How long the next completion has been without all of its result, as far as this has been asked.
 * Everything behind it waits, and for ever if another program has written over its bytes.
 * @param id  of its message
 * @return 0: it is whole, or there is none
 */
uint64_t gq__torn_ns(GpuQueue *q, uint64_t now_ns, uint64_t *id);

#endif /* GPUQ_QUEUE_REAP_H */
