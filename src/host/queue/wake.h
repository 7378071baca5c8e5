/* SPDX-License-Identifier: Apache-2.0 */
/* wake.h - waking the threads that wait for something on a queue; and the end of all waiting. */
#ifndef GPUQ_QUEUE_WAKE_H
#define GPUQ_QUEUE_WAKE_H

#include "host/queue/state.h"
#include "host/wait/wait.h"

/* Wake the threads that sleep until this slot changes its state. */
static inline void gq_wake_slot(GpuQueue *q, uint32_t slot)
{
	uint32_t *armed = &gq_slot_at(&q->ch, slot)->armed;

	if (gq_load_seq_cst_u32(armed) % 2 != 0) /* [wake.look] */
		gq__flag_wake(armed);
}

/* Wake up to `max` sleeping consumers, and count them. */
void gq__wake_for_work(GpuQueue *q, uint32_t max);

/* Wake all sleepers of all events: the control word has changed, or the device has failed. */
void gq__wake_everybody(GpuQueue *q);

/* From now on no message is accepted: the first step of a stop (control.c). */
void gq__close_intake(GpuQueue *q);

/*
 * On a closed queue: whether every slot is free or holds a finished message or a revoked
 * reservation, so that nothing can finish any more and no wait for it can be fulfilled.
 */
bool gq__settled(const GpuQueue *q);

#endif /* GPUQ_QUEUE_WAKE_H */
