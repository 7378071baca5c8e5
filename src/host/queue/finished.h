/* SPDX-License-Identifier: Apache-2.0 */
/*
 * finished.h - the finished list: slots in the order of their completions, for polling.
 *
 * A slot enters it as its message becomes DONE, and only then. So a slot that is in the list and
 * DONE holds a message whose turn to be polled it is. A message that is taken by id, without the
 * lock, leaves its slot in the list until a caller passes over it, or until the slot's next message
 * finishes, which moves it to the end. So there are never more than `capacity` slots in it, and
 * nothing has to be tidied up all at once. Everything here is under the reap lock.
 */
#ifndef GPUQ_QUEUE_FINISHED_H
#define GPUQ_QUEUE_FINISHED_H

#include "host/queue/reap.h"

static inline bool gq_is_listed(const GpuQueue *q, uint32_t slot)
{
	const struct gq_neighbours *link = &q->finished[slot];

	return link->next != 0 || link->previous != 0 || q->finished_first == slot + 1u;
}

static inline void gq_unlist(GpuQueue *q, uint32_t slot)
{
	struct gq_neighbours *link = &q->finished[slot];

	if (link->previous != 0)
		q->finished[link->previous - 1].next = link->next;
	else
		gq_store_relaxed_u64(&q->finished_first, link->next);
	if (link->next != 0)
		q->finished[link->next - 1].previous = link->previous;
	else
		q->finished_last = link->previous;
	*link = (struct gq_neighbours){ 0, 0 };
}

/* Put a slot at the end, taking it from its old place. */
static inline void gq_list(GpuQueue *q, uint32_t slot)
{
	if (gq_is_listed(q, slot))
		gq_unlist(q, slot);
	q->finished[slot].previous = (uint32_t)q->finished_last;
	if (q->finished_last != 0)
		q->finished[q->finished_last - 1].next = slot + 1;
	else
		gq_store_relaxed_u64(&q->finished_first, slot + 1u);
	q->finished_last = slot + 1u;
}

/* Whether the first in the list is there to be polled, passing over `left` others at most. */
static inline enum gq_found gq_first_unpolled(GpuQueue *q, uint32_t *left)
{
	while (q->finished_first != 0) {
		const uint32_t slot = (uint32_t)q->finished_first - 1;

		/* [state.read] */
		if (gq_phase_of(gq_load_seq_cst_u64(&q->host_slots[slot].state)) == GQ_DONE)
			return GQ_FOUND_SOMETHING;
		if (*left == 0)
			return GQ_FOUND_UNDECIDED;
		--*left;
		gq_unlist(q, slot);
	}
	return GQ_FOUND_NOTHING;
}

#endif /* GPUQ_QUEUE_FINISHED_H */
