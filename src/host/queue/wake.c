/* SPDX-License-Identifier: Apache-2.0 */
/* wake.c - waking the threads that wait for something on a queue; and the end of all waiting. */
#include "host/queue/wake.h"

void gq__wake_for_work(GpuQueue *q, uint32_t max)
{
	const uint32_t woken = gq__event_wake(&q->work, max);

	if (woken != 0)
		gq_fetch_add_relaxed_u64(&q->count.wakeups, woken);
}

void gq__wake_everybody(GpuQueue *q)
{
	gq_event_broadcast(&q->work);
	gq_event_broadcast(&q->resumed);
	gq_event_broadcast(&q->answered);
	gq_event_broadcast(&q->room);
	gq_event_broadcast(&q->any);
}

/* The free slots are counted first. Nothing leaves a closed pool, so a slot counted as free cannot
 * be counted again as finished; if the sum is the capacity, no slot is anywhere else: with a
 * producer that has popped it and not yet published, with a consumer, or with a taker. */
bool gq__settled(const GpuQueue *q)
{
	const uint64_t tail =
		gq_load_seq_cst_u64(q->pool.ring.tail); /* [tail.read], [sleep.look] */
	const uint64_t head = gq_load_seq_cst_u64(q->pool.ring.head);
	uint64_t settled = gq_pool_free(&q->pool, tail, head);

	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		enum gq_phase phase = gq_phase_of(gq_load_acquire_u64(&q->host_slots[i].state));

		if (phase == GQ_DONE || phase == GQ_POLLED || phase == GQ_REVOKED)
			settled++;
	}
	return settled == q->cfg.capacity;
}
