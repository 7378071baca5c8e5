/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c - the memory that a queue's grid works with: what host and grid share, what only the grid
 * touches, and the grid's view of the queue (struct gq_grid).
 */
#include "device/cuda/host/view.h"

#include "device/cuda/host/call.h"
#include "device/cuda/host/transport.h"

enum {
	DEFAULT_PARK_MS = 1000,
	STAGING_BUDGET = 256 << 20, /* bytes up to which a warp gets 32 places */
};

static uint64_t park_ns_of(const QueueConfig *cfg)
{
	return cfg->idle_park_ms == UINT32_MAX || cfg->bounded_messages != 0
		       ? UINT64_MAX
		       : (uint64_t)(cfg->idle_park_ms == 0 ? DEFAULT_PARK_MS : cfg->idle_park_ms) *
				 1000000u;
}

/* How many messages a unit claims for the others: two batches for each of them. A single unit has
 * nobody to claim for, and a bounded grid must not leave anything claimed behind. */
GQ_STATIC_ASSERT(GQ_MAX_FEED == 416, "GPUQ_TUNE and docs/reference/cuda.md say the same");

static uint32_t feed_of(const struct gq_cuda *c, uint32_t batch)
{
	const uint64_t feed = 2 * (uint64_t)(c->units - 1) * batch;
	const uint32_t most = GQ_MAX_FEED;

	if (c->q->cfg.bounded_messages != 0)
		return 0;
	if (c->tune.feed != GQ_TUNE_UNSET)
		return c->units > 1 ? c->tune.feed : 0;
	return feed < most ? (uint32_t)feed : most;
}

/* How many units read for the others at once. One brings 20 million messages a second in virtual
 * time, as many as 64 units serve, or few warps of Q_PER_THREAD; there a second one serves none
 * meanwhile, or reads in vain. */
static uint32_t feeders_of(const struct gq_cuda *c, uint32_t batch)
{
	if (c->tune.feeders != GQ_TUNE_UNSET)
		return c->tune.feeders;
	return batch == 1 && c->units >= 128 ? 2 : 1;
}

bool gq__view_make(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	struct gq_grid grid = { .pool = q->pool.ring,
				.start_pos = q->start_pos,
				.bounded_ns = (uint64_t)q->cfg.bounded_ms * 1000000u,
				.park_ns = park_ns_of(&q->cfg),
				.slot_bytes = (uint32_t)gq_round_up(q->cfg.slot_bytes, 16),
				.batch = c->info.granularity == 0 ? c->tune.batch : 1,
				.scouts = c->tune.scouts,
				.nap_ns = c->tune.nap };
	struct gq_counters counters = { .done_tail = q->start_pos, .pool_lead = q->start_pos };

	gq__transport_plan(c);
	grid.ch = q->ch;
	grid.stage_result = gq_round_up(q->cfg.slot_bytes, GQ_LINE);
	/* A warp of Q_PER_THREAD puts headers where the results will be. */
	grid.stage_bytes = grid.stage_result + gq_round_up(q->cfg.result_bytes < GQ_PAYLOAD_OFFSET
								   ? GQ_PAYLOAD_OFFSET
								   : q->cfg.result_bytes,
							   GQ_LINE);
	while (grid.batch > 1 &&
	       (uint64_t)c->units * grid.batch * grid.stage_bytes > STAGING_BUDGET)
		grid.batch /= 2;
	while (grid.batch > 1 && (uint64_t)c->units * grid.batch > GQ_RUN_MAX_ASKED)
		grid.batch /= 2;
	grid.feed = feed_of(c, grid.batch);
	grid.feeders = feeders_of(c, grid.batch);
	c->places = c->units * grid.batch;
	c->link_bytes = sizeof(struct gq_link) +
			gq_round_up(c->units * sizeof(uint64_t), sizeof(struct gq_journal)) +
			c->places * sizeof(struct gq_journal);
	c->link = gq__cuda_allocate_pinned(c, c->link_bytes, "orders and reports");
	if (c->link == NULL)
		return false;
	c->link->orders.ahead_ns = c->ahead_ns;
	c->ack = c->link->words;
	c->journal = (struct gq_journal *)(void *)(c->ack + gq_round_up(c->units, 2));
	if (!gq__cuda_allocate(c, &c->counters, sizeof(counters), "the cursors") ||
	    !gq__cuda_allocate(c, &c->staging, c->places * grid.stage_bytes,
			       "messages being processed"))
		return false;
	if (!gq__transport_prepare(c))
		return false;
	if (q->user != NULL &&
	    (!gq__cuda_allocate(c, &c->user, q->cfg.processor_data_bytes, "processor_data") ||
	     !CU(c, cuMemcpyHtoDAsync, c->user, q->user, q->cfg.processor_data_bytes, c->stream)))
		return false;
	grid.orders = &c->link->orders;
	grid.report = &c->link->report;
	grid.counters = gq_cuda_pointer(c->counters);
	grid.ack = c->ack;
	grid.journal = c->tune.journal != 0 ? c->journal : NULL;
	grid.staging = gq_cuda_pointer(c->staging);
	grid.copied = gq_cuda_pointer(c->copied);
	grid.ch.hints = gq_cuda_pointer(c->hints);
	grid.ch.mirror = gq_cuda_pointer(c->mirror);
	grid.ch.mirror_stride = q->ch.mirror_stride;
	grid.ch.control = &c->link->orders.control;
	grid.ch.done.tail = &grid.counters->done_tail;
	grid.ch.user = gq_cuda_pointer(c->user);
	for (uint32_t i = 0; i < GQ_CLASSES; i++) {
		counters.cursor[i] = q->start_pos;
		for (uint32_t k = 0; k < GQ_RUNS; k++)
			counters.run[i][k] = gq_run_first(q->start_pos, k);
	}
	q->ch.control = &c->link->orders.control;
	c->grid = grid;
	return CU(c, cuMemcpyHtoDAsync, c->counters, &counters, sizeof(counters), c->stream) &&
	       CU(c, cuMemsetD8Async, c->staging, 0, c->places * grid.stage_bytes, c->stream) &&
	       CU(c, cuStreamSynchronize, c->stream);
}

void gq__view_free(struct gq_cuda *c)
{
	if (c->link != NULL)
		c->cu->cuMemFreeHost(c->link);
	if (c->user != 0)
		c->cu->cuMemFree(c->user);
	if (c->staging != 0)
		c->cu->cuMemFree(c->staging);
	if (c->counters != 0)
		c->cu->cuMemFree(c->counters);
}
