/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c - making a queue and taking it apart. */
#include "host/queue/queue.h"

#include "host/base/fault.h"
#include "host/base/sys.h"
#include "host/queue/config.h"
#include "host/queue/fd.h"
#include "host/queue/hooks.h"
#include "host/queue/teller.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- memory ------------------------------------------------------------------------------ */

/* Give every entry the tag of the lap before, so that it reads as taken. */
static void empty_ring(const struct gq_word_ring *r, uint64_t start)
{
	for (uint64_t i = 0; i < gq_word_ring_size(r); i++) {
		uint64_t pos = start - gq_word_ring_size(r) + i;

		*gq_word_ring_entry(r, pos) = gq_word_ring_tag(r, pos);
	}
	*r->head = start;
	*r->tail = start;
}

/* Whether slots move in runs: not where a grid reads the pool, nor where the words have their place
 * in memory that is shared with gpuqd. */
static bool has_runs(const GpuQueue *q)
{
	return q->device->kind == Q_DEVICE_CPU && !q->device->is_elsewhere;
}

static void lay_out_rings(GpuQueue *q)
{
	const uint32_t order = gq_log2(q->cfg.capacity), shift = gq_id_shift(order);
	const uint64_t n = q->cfg.capacity, start = q->start_pos;
	uint64_t *words = q->words;

	q->slot_mask = (UINT64_C(1) << shift) - 1;
	q->ch.slot_mask = q->slot_mask;
	q->pool = gq_pool_of(words, &q->pool_pos.head, &q->pool_pos.tail, order, has_runs(q));
	gq_pool_fill(&q->pool, start);
	words += gq_word_ring_size(&q->pool.ring) - n;
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		words += n;
		q->ch.ready[c] =
			gq_word_ring_of(words, &q->ready_pos[c].head, &q->ready_pos[c].tail, order,
					shift + GQ_USE_BITS, order);
		empty_ring(&q->ch.ready[c], start);
	}
	words += n;
	/* Outcome and slot leave room for the lap alone, not for the whole position. */
	q->ch.done = gq_word_ring_of(words, &q->done_pos.head, &q->done_pos.tail, order,
				     order + GQ_OUTCOME_BITS, order);
	empty_ring(&q->ch.done, start);
	q->finished = (struct gq_neighbours *)(void *)(words + n);
}

/*
 * The result areas. A result comes GQ_RESULT_OFFSET bytes behind the start of its area. Where
 * consumers are CPU threads, areas begin so that results begin lines: one of up to 64 bytes then
 * moves between two cores in one line in place of two.
 */
static bool allocate_results(GpuQueue *q)
{
	const size_t shift = q->device->kind == Q_DEVICE_CPU ? 64 - GQ_RESULT_OFFSET : 0;

	q->ch.result_stride = gq_round_up(GQ_RESULT_OFFSET + q->cfg.result_bytes, 64);
	q->results_bytes = shift + q->cfg.capacity * q->ch.result_stride;
	q->results = q->device->alloc(q, q->results_bytes, "the result areas");
	if (q->results == NULL)
		return false;
	q->ch.results = (uint8_t *)q->results + shift;
	return true;
}

static bool allocate(GpuQueue *q)
{
	const uint64_t n = q->cfg.capacity;

	q->ch.slot_stride = GQ_PAYLOAD_OFFSET + gq_round_up(q->cfg.slot_bytes, 64);
	q->slots_bytes = n * q->ch.slot_stride;
	q->words_bytes =
		(gq_pool_words(gq_log2(q->cfg.capacity), has_runs(q)) + n * (GQ_CLASSES + 1 + 1)) *
		sizeof(uint64_t);
	q->words = q->device->alloc(q, q->words_bytes, "the rings");
	if (q->words == NULL)
		return false;
	q->host_slots = gq__alloc(n * sizeof(*q->host_slots), "the host's slots");
	if (q->host_slots == NULL)
		return false;
	q->ch.slots = q->device->alloc(q, q->slots_bytes, "the message slots");
	if (q->ch.slots == NULL)
		return false;
	if (!allocate_results(q))
		return false;
	if (q->cfg.processor_data != NULL) {
		q->user = gq__alloc(q->cfg.processor_data_bytes, "processor_data");
		if (q->user == NULL)
			return false;
		memcpy(q->user, q->cfg.processor_data, q->cfg.processor_data_bytes);
	}
	if (!gq__trace_alloc(q))
		return false;
	q->ch.result_bytes = q->cfg.result_bytes;
	q->ch.control = &q->control;
	q->ch.user = q->user;
	q->ch.user_bytes = q->user != NULL ? q->cfg.processor_data_bytes : 0;
	lay_out_rings(q);
	return true;
}

static void destroy(GpuQueue *q)
{
	void *code = q->code;

	gq__trace_free(q);
	gq__free(q->user, q->cfg.processor_data_bytes);
	gq__free(q->host_slots, q->cfg.capacity * sizeof(*q->host_slots));
	if (q->device != NULL) { /* NULL: the processor was not found, so none was chosen */
		q->device->free(q, q->results, q->results_bytes);
		q->device->free(q, q->ch.slots, q->slots_bytes);
		q->device->free(q, q->words, q->words_bytes);
		q->device->close(q);
	}
	gq__close_processor(&q->processor);
	pthread_mutex_destroy(&q->control_lock);
	pthread_mutex_destroy(&q->reap_lock);
	gq__free(q, sizeof(*q));
	gq__let_go(code);
}

void gq__drop_ref(GpuQueue *q)
{
	/* Sequentially consistent, so it is also a release of all that this party did ([ref.drop]),
	 * and for the last party an acquire of all that the others did ([ref.last]). */
	if (gq_fetch_add_seq_cst_u64(&q->refs, 0 - UINT64_C(1)) == 1)
		destroy(q);
}

/* ---- life cycle -------------------------------------------------------------------------- */

GpuQueue *gq__make_queue(const QueueConfig *cfg, gq_choose_device_fn *choose)
{
	struct gq_error before;
	QueueConfig resolved;
	GpuQueue *q;

	GQ_NO_CANCEL();
	gq__watch_forks();
	gq__nvtx_begin();
	gq__error_keep(&before);
	GQ_RANGE(GQ_RANGE_INIT, cfg != NULL ? cfg->capacity : 0);
	if (!gq__log_from_environment() || !gq__resolve_config(cfg, &resolved))
		return NULL;
	q = gq__alloc(sizeof(*q), "the queue");
	if (q == NULL)
		return NULL;
	q->refs = 1;
	q->generation = gq__generation;
	q->made_in = gq__generation;
	q->cfg = resolved;
	q->copy_from = UINT64_MAX;
	q->start_pos = gq__start_pos;
	q->one_producer = (resolved.flags & Q_ONE_PRODUCER) != 0;
	q->completion_fd = -1;
	q->watched = (gq__nvtx_attached ? GQ_WATCHED_BY_TOOL : 0) |
		     ((resolved.flags & Q_TRACE) != 0 ? GQ_WATCHED_BY_TRACE : 0);
	q->code = gq__keep_loaded(&gq__start_pos);
	pthread_mutex_init(&q->reap_lock, NULL);
	pthread_mutex_init(&q->control_lock, NULL);
	if (q->cfg.device != Q_DEVICE_REMOTE && !gq__find_processor(cfg->processor, &q->processor))
		goto drop;
	if (!choose(q, cfg) || !allocate(q) || !q->device->start(q))
		goto drop;
	gq__trace_started(q);
	gq__log(Q_LOG_INFO,
		"queue of %" PRIu32 " x %" PRIu32 " bytes on %s, processor %s, %" PRIu32
		" consumers (%s)",
		q->cfg.capacity, q->cfg.slot_bytes, q->device_name, q->processor.name,
		q->cfg.consumers, q->reason);
	gq__error_put_back(&before); /* why AUTO fell back is in `reason` */
	return q;
drop:
	gq__drop_ref(q);
	return NULL;
}

void q_shutdown(GpuQueue *q)
{
	struct gq_error before;
	bool abandon;

	if (q == NULL || q->made_in != gq__generation)
		return;
	GQ_NO_CANCEL();
	if (gq__is_hook_thread(q)) {
		gq__log(Q_LOG_ERROR, "q_shutdown: called by a hook of this queue; nothing is done");
		return;
	}
	GQ_CALL_TO_END_OF_BLOCK(q, GQ_RANGE_SHUTDOWN, q->cfg.shutdown_timeout_ms);
	gq__error_keep(&before);
	abandon = q_stop(q, q->cfg.shutdown_timeout_ms) != Q_OK && !gq_failed(q);
	if (abandon) {
		q->code = NULL; /* kept for good: a consumer cannot unload the code it runs */
		gq__log(Q_LOG_ERROR,
			"q_shutdown: a message is still being processed after %" PRIu32
			" ms; its consumer frees the queue's memory when it is done",
			q->cfg.shutdown_timeout_ms);
	}
	gq__reap_all(q);
	gq__stop_telling(q);
	/* After the last hook, which may ask for the descriptor, or clear it. From here on nobody
	 * reaps, so the bound regions are not touched. */
	gq__stop_fd(q);
	if (q->trace != NULL)
		gq__trace_at_shutdown(q);
	q->device->join(q, abandon);
	gq__drop_ref(q);
	gq__error_put_back(&before);
}
