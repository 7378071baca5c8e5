/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tend.h - waiting on a queue whose consumers may be unable to wake anybody.
 *
 * A GPU cannot wake a host thread. So a thread that waits for its consumers, or looks for something
 * and does not find it, tends the device: it looks whether the device still works, and does for it
 * what no other thread does. Waits for consumers begin with gq_wait_begin() of this file; waits for
 * host threads with gq__wait_begin().
 */
#ifndef GPUQ_QUEUE_TEND_H
#define GPUQ_QUEUE_TEND_H

#include "host/queue/state.h"
#include "host/wait/wait.h"

/* How many messages have been accepted since q_init(). */
uint64_t gq__accepted(const GpuQueue *q);

/* Every 64th call of a thread tends the device. */
void gq__tend_now_and_then(GpuQueue *q);

extern const struct gq_tender gq__queue_tender, gq__queue_sleeper;

/* The caller has looked for something that consumers make, and not found it. */
static inline void gq_tend(GpuQueue *q)
{
	if (__builtin_expect(q->device->tend != NULL, 0))
		gq__tend_now_and_then(q);
}

/* A wait that has begun is for what a consumer does. */
static inline void gq_wait_tends(GpuQueue *q, struct gq_wait *w)
{
	if (q->device->tend != NULL || q->device->sleeping != NULL) {
		w->tender = q->device->tend != NULL ? &gq__queue_tender : &gq__queue_sleeper;
		w->tended = q;
	}
}

/* Begin a wait for what a consumer does. */
static inline void gq_wait_begin(GpuQueue *q, struct gq_wait *w, struct gq_event *event,
				 uint64_t deadline_ns, uint64_t spin_ns)
{
	gq__wait_begin(w, event, deadline_ns, spin_ns);
	gq_wait_tends(q, w);
}

#endif /* GPUQ_QUEUE_TEND_H */
