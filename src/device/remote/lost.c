/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lost.c - gpuqd has gone: how every accepted message ends.
 *
 * From the end of the connection on gpuqd writes nothing more into the memory: either it is dead,
 * or it has let go of the memory before it closed. So what it has said is final:
 *
 *  - a completion in the ring stands;
 *  - a message that is still in its class, before the head that gpuqd has stored, has not been
 *    handed to anybody: it ends CANCELLED, and has not run;
 *  - a message whose id stands in `taken`, and that has not completed, may have run: it ends LOST.
 *
 * gpuqd stores `taken`, then the head, and only then hands the message on ([claim.write],
 * [claim.read]). The host becomes the queue's consumer, as after a stop that has timed out: a
 * producer that publishes after this cancels its own message.
 */
#include "device/remote/remote.h"

#include "device/protocol/batch.h"
#include "host/base/error.h"

/* What gpuqd had claimed, and has not completed. All that it had completed has been reaped. */
static uint64_t end_claimed(struct gq_remote *r)
{
	GpuQueue *q = r->q;
	uint64_t pos = gq_load_acquire_u64(q->ch.done.tail); /* [tail.read] */
	uint64_t n = 0;

	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		/* [state.read] */
		const uint64_t state = gq_load_seq_cst_u64(&q->host_slots[i].state);
		const uint64_t id = (state & ~q->slot_mask) | i;

		/* [claim.read]: with the end of the connection, which comes after it */
		if (gq_phase_of(state) != GQ_QUEUED || gq_load_acquire_u64(&r->taken[i]) != id)
			continue;
		gq__completed(q, &pos, i, GQ_OUTCOME_LOST);
		n++;
	}
	gq_complete_rest(&q->ch, pos);
	return n;
}

void gq__remote_lose(struct gq_remote *r, const char *why)
{
	GpuQueue *q = r->q;
	struct gq_error before;
	uint64_t n;

	gq__error_keep(&before);
	snprintf(q->failure, sizeof(q->failure), "gpuqd at %s: %s", r->path, why);
	gq_exchange_seq_cst_u32(&q->lost, 1); /* [failure.write]: the sentence */
	gq_exchange_seq_cst_u32(&r->lost, 1); /* [lost.write], [wake.look] */
	gq__close_intake(q);
	gq__cancel_unstarted(q);
	gq__reap_all(q);
	n = end_claimed(r);
	gq__log(Q_LOG_ERROR, "%s; messages that may have run: %llu", q->failure,
		(unsigned long long)n);
	gq__wake_everybody(q);
	for (uint32_t i = 0; i < q->cfg.capacity; i++)
		gq_wake_slot(q, i);
	gq__error_put_back(&before);
}
