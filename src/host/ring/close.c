/* SPDX-License-Identifier: Apache-2.0 */
/*
 * close.c - closing a ring, and finding out when nothing will come any more.
 *
 * A closed ring is settled once no sender can publish. With many senders, a bit in the next free
 * entry of each class stops them: it is in the word that a publication swaps. Any thread may set
 * those bits, at any time after the state has left OPEN; a thread that stops in the middle is
 * completed by the next. In single mode there is no swap, so the ring is settled when no thread is
 * inside a send.
 */
#include "host/ring/close.h"

#include "host/ring/extent.h"
#include "host/ring/fence.h"
#include "host/ring/move.h"

/* Many senders: set the bit in every class. @return false: damaged. */
static bool bar_classes(const struct gq_box *b)
{
	/* A thread inside a send of a closed ring publishes at most what it has begun with. */
	const uint64_t tries = gq_box_cells(b) + (uint64_t)2 * GQ_RING_PEERS * GQ_CHUNK;

	for (uint32_t c = 0; c < b->classes; c++) {
		const struct gq_word_ring *ready = &b->ready[c];
		uint64_t pos = gq_load_acquire_u64(ready->tail), i = 0; /* [tail.read] */

		while (!gq_extent_try_bar(ready, &pos, GQ_CLOSED))
			if (++i > tries)
				return false;
	}
	return true;
}

/* Single mode: whether no thread is inside a send that may have begun before the close. */
static bool no_thread_sends(RingQueue *r)
{
	/* Every thread that has begun shows it by now: by this fence, or by one of its own. */
	if (!gq__ring_reach(r))
		return false;
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if ((gq_ring_op_of(&r->head->peer[i]) & GQ_OP_MASK) == GQ_OP_SEND)
			return false;
	return true;
}

bool gq__ring_settle(RingQueue *r)
{
	uint64_t *state = &r->head->signals.state;

	if (gq_load_seq_cst_u64(state) == GQ_RING_SETTLED) /* [settled.read] */
		return true;
	if (r->single ? !no_thread_sends(r) : !bar_classes(&r->messages))
		return false;
	/* [settled.write] release: all that will ever be in the ring. [wake.look] */
	gq_cas_seq_cst_u64(state, GQ_RING_CLOSED, GQ_RING_SETTLED);
	gq__flag_wake_shared(&r->head->signals.data_armed);
	return true;
}

QueueStatus q_ring_close(RingQueue *r)
{
	struct gq_ring_signals *signals;

	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	signals = &r->head->signals;
	/* [intake.close]; [wake.look] */
	gq_cas_seq_cst_u64(&signals->state, GQ_RING_OPEN, GQ_RING_CLOSED);
	/* Single mode, and a sender is inside: it wakes the receivers when it leaves. */
	gq__ring_settle(r);
	gq__flag_wake_shared(&signals->data_armed);
	gq__flag_wake_shared(&signals->room_armed);
	return Q_OK;
}
