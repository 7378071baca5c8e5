/* SPDX-License-Identifier: Apache-2.0 */
/* consume.c - what a consumer does to the queue: complete a message, cancel it, leave. */
#include "host/queue/consume.h"

#include "device/protocol/batch.h"
#include "host/queue/wake.h"
#include "host/wait/wait.h"

void gq__completed(GpuQueue *q, uint64_t *pos, uint32_t slot, uint32_t outcome)
{
	const bool discard = (gq_slot_at(&q->ch, slot)->flags & GQ_SLOT_DISCARD) != 0;

	/* [message.complete]; from here on the slot may have another owner */
	gq_complete_next(&q->ch, pos, slot, outcome);
	gq_wake_slot(q, slot); /* at worst this wakes its next owner in vain */
	gq_event_broadcast(&q->any);
	if (discard && gq_event_armed(&q->room)) /* a producer may reap it and take its slot */
		gq__event_wake(&q->room, 1);
}

void gq__cancel_one(GpuQueue *q, uint64_t *pos, uint32_t slot)
{
	if (q->trace != NULL) {
		const uint64_t now_ns = gq__now_ns();

		gq_note_times(&q->ch, slot, now_ns, now_ns, GQ_NONE);
	}
	gq__completed(q, pos, slot, GQ_OUTCOME_CANCELLED);
}

void gq__cancel_unstarted(GpuQueue *q)
{
	struct gq_claimer claims = { 0 };
	uint64_t pos = gq_load_acquire_u64(q->ch.done.tail); /* [tail.read] */
	uint32_t slot;

	while (gq_work_waits(&q->ch))
		while ((slot = gq_claim(&q->ch, &claims)) != GQ_NONE)
			gq__cancel_one(q, &pos, slot);
	gq_complete_rest(&q->ch, pos);
}

void gq__wake_next_consumer(GpuQueue *q)
{
	if (q->cfg.consumers <= q->wakes_at_most)
		return; /* each publication has woken as many as it has messages */
	if (gq_event_armed(&q->work) && gq_work_waits(&q->ch)) /* [wake.look] */
		gq__wake_for_work(q, 1);
}

void gq__consumer_left(GpuQueue *q)
{
	/* [ack.write], [wake.look] */
	gq_fetch_add_seq_cst_u64(&q->live_consumers, 0 - UINT64_C(1));
	gq_event_broadcast(&q->answered);
	gq_event_broadcast(&q->any);
}
