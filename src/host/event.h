/* SPDX-License-Identifier: Apache-2.0 */
/* event.h - how host threads wait: spin, yield, sleep on a futex; and how they are woken. */
#ifndef GPUQ_HOST_EVENT_H
#define GPUQ_HOST_EVENT_H

#include "device/protocol.h"

/* CLOCK_MONOTONIC, nanoseconds. */
uint64_t gq__now_ns(void);

#define GQ_FOR_EVER UINT64_MAX

/* timeout_ms from now as an absolute time: UINT32_MAX becomes GQ_FOR_EVER, 0 becomes 0. */
uint64_t gq__deadline_ns(uint32_t timeout_ms);

/* About one wake-up across cores: spinning longer than that is dearer than sleeping. */
#define GQ_SPIN_NS 50000u

/*
 * A wait, as a loop around an attempt:
 *
 *     struct gq_wait wait;
 *     gq__wait_begin(&wait, event, deadline, GQ_SPIN_NS);
 *     while (!attempt(..., wait.registered) && gq__wait_next(&wait))
 *             ;
 *     gq__wait_end(&wait);
 *
 * gq__wait_next() spins, then yields, then registers with the event and lets the caller attempt
 * once more (the second look of edge K2), then sleeps. It returns false when the deadline has
 * passed and an attempt has been made since. While `registered`, the attempt must look with
 * sequentially consistent loads and must not skip anything because another thread is at it.
 */
struct gq_wait {
	struct gq_event *event; /* what to sleep on: this ... */
	uint32_t *flag;         /* ... or a slot's `armed` word */
	uint64_t deadline_ns;
	uint64_t spin_until_ns; /* 0: not read yet */
	uint64_t spin_ns;
	uint64_t nap_ns; /* how long to sleep at a time */
	uint32_t turns;
	uint32_t key;
	bool registered;
	bool expired;
	/* A queue whose consumers cannot wake anybody: then sleep in naps, and look between. */
	struct GpuQueue *looks;
	uint64_t looks_since_ns;
	bool shared; /* the flag is in memory shared between processes */
};

void gq__wait_begin(struct gq_wait *w, struct gq_event *event, uint64_t deadline_ns,
		    uint64_t spin_ns);
void gq__wait_begin_flag(struct gq_wait *w, uint32_t *flag, uint64_t deadline_ns);
/* On a flag in shared memory; sleeps at most nap_ns at a time. */
void gq__wait_begin_shared(struct gq_wait *w, uint32_t *flag, uint64_t deadline_ns,
			   uint64_t nap_ns);
bool gq__wait_next(struct gq_wait *w);
void gq__wait_end(struct gq_wait *w);

/* Wake up to `max` sleepers of an event that gq_event_armed() found armed. @return how many. */
uint32_t gq__event_wake(struct gq_event *e, uint32_t max);

/* gq_event_armed() and gq__event_wake() of all. */
static inline void gq_event_broadcast(struct gq_event *e)
{
	if (gq_event_armed(e))
		gq__event_wake(e, UINT32_MAX);
}

/*
 * Wake everybody who sleeps on a slot's `armed` word. The word is odd while somebody may sleep and
 * each wake-up makes it even with a value it has not had: a waiter that armed for one message and
 * has not slept yet must not sleep through a later waiter's arming for the slot's next message.
 */
void gq__flag_wake(uint32_t *flag);
/* The same where the sleepers may be other processes. */
void gq__flag_wake_shared(uint32_t *flag);

/* Let another thread run. */
void gq__yield(void);

#endif /* GPUQ_HOST_EVENT_H */
