/* SPDX-License-Identifier: Apache-2.0 */
/* fail.c - the driver has reported an error: what becomes of the queue, and what is said. */
#include "device/cuda/host/fail.h"

#include "device/cuda/host/journal.h"
#include "host/queue/reap.h"

#include <inttypes.h>
#include <stdio.h>

void gq__cuda_fail_locked(struct gq_cuda *c, const char *call, int result)
{
	GpuQueue *q = c->q;
	char what[160], ids[160];

	if (gq_has_failed(c))
		return;
	gq_grid_enter(c, GQ_GRID_FAILED);
	/* If the grid survived the error, order it to leave before its memory is freed. */
	if (c->link != NULL) {
		gq_store_release_u64(&c->link->orders.failed, 1);         /* [control.write] */
		gq_store_release_u64(&c->link->orders.depart, c->launch); /* [control.write] */
	}
	gq__cuda_describe(c->cu, result, what, sizeof(what));
	gq__reap_all(q); /* what has completed is not being processed */
	if (gq__journal_list(c, UINT64_MAX, ids, sizeof(ids)) != 0)
		snprintf(q->failure, sizeof(q->failure), "CUDA: %s: %s; being processed: msg_id %s",
			 call, what, ids);
	else
		snprintf(q->failure, sizeof(q->failure),
			 "CUDA: %s: %s; no message was being processed", call, what);
	gq__log(Q_LOG_ERROR, "%s", q->failure);
	/* [failure.write] release: the sentence. [wake.look]: waiters look at the flag. */
	gq_exchange_seq_cst_u32(&q->failed, 1);
	gq_store_release_u64(&q->generation, GQ_GENERATION_FAILED);
	gq__fail_all(q);
}

void gq__cuda_fail(struct gq_cuda *c, const char *call, int result)
{
	pthread_mutex_lock(&c->lock);
	gq__cuda_fail_locked(c, call, result);
	pthread_mutex_unlock(&c->lock);
}

void gq__cuda_fail_with_state(struct gq_cuda *c, const char *what)
{
	const struct gq_report *r = &c->link->report;

	gq__failf(Q_ERR_CUDA,
		  "CUDA: %s (launch %" PRIu64 " of %" PRIu32 " x %" PRIu32
		  " threads; reported: resident %" PRIu64 ", park %" PRIu64 ", pong %" PRIu64
		  "; ordered: control %" PRIu64 ", depart %" PRIu64 ", ping %" PRIu64 ")",
		  what, c->launch, c->blocks, c->info.block_threads,
		  gq_load_relaxed_u64(&r->resident), gq_load_relaxed_u64(&r->park),
		  gq_load_relaxed_u64(&r->pong), gq_load_relaxed_u64(&c->link->orders.control),
		  gq_load_relaxed_u64(&c->link->orders.depart),
		  gq_load_relaxed_u64(&c->link->orders.ping));
}
