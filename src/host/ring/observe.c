/* SPDX-License-Identifier: Apache-2.0 */
/* observe.c - what a ring says of itself: fill, statistics, configuration. None of it waits. */
#include "host/ring/cell.h"
#include "host/ring/handles.h"

static uint64_t clamp(int64_t value, uint64_t max)
{
	return value < 0 ? 0 : (uint64_t)value > max ? max : (uint64_t)value;
}

static uint64_t sum_since_start(const struct gq_box *b, bool tails)
{
	uint64_t sum = 0;

	for (uint32_t c = 0; c < b->classes; c++) {
		const struct gq_word_ring *ready = &b->ready[c];
		const uint64_t pos = tails ? gq_extent_end(ready)
					   : gq_head_pos(gq_load_acquire_u64(ready->head));

		sum += (pos - b->start_pos) & GQ_POSITION_MASK;
	}
	return sum;
}

uint32_t q_ring_len(RingQueue *r)
{
	uint64_t heads;

	if (gq_ring_enter(r) != Q_OK)
		return 0;
	heads = sum_since_start(&r->messages, false); /* first, so that it is never the larger */
	return (uint32_t)clamp(gq_pos_diff(sum_since_start(&r->messages, true), heads),
			       r->cfg.ring_size);
}

/* Cells of the messages of a ring in single mode that are to be received, whose messages may take
 * several; the others are free. */
static uint32_t without_a_pool(const RingQueue *r)
{
	const struct gq_box *b = &r->messages;
	const uint64_t cells = gq_box_cells(b);
	uint64_t used = 0;

	for (uint32_t c = 0; c < b->classes; c++) {
		const struct gq_word_ring *ready = &b->ready[c];
		uint64_t head = gq_load_acquire_u64(ready->head);

		while (used < cells) {
			const uint64_t word = gq_load_acquire_u64(gq_head_entry(ready, head));

			if (!gq_head_is_at(ready, word, head))
				break;
			if (gq_is_in_parts(b, word))
				for (struct gq_chain chain = gq_chain_of(r, b, word);
				     gq_chain_next(b, &chain);)
					used++;
			used += gq_head_take(b, word, &head, GQ_MAX_RUN).n -
				(gq_is_in_parts(b, word) ? 1 : 0);
		}
	}
	return (uint32_t)(used < cells ? cells - used : 0);
}

uint32_t q_ring_available(RingQueue *r)
{
	uint64_t head;

	if (gq_ring_enter(r) != Q_OK)
		return 0;
	if (r->single)
		return r->messages.chain == NULL ? r->cfg.ring_size - q_ring_len(r)
						 : without_a_pool(r);
	head = gq_load_acquire_u64(r->messages.pool.head);
	return (uint32_t)clamp(gq_head_distance(gq_extent_end(&r->messages.pool), head),
			       r->cfg.ring_size);
}

uint32_t q_ring_is_empty(RingQueue *r)
{
	return q_ring_len(r) == 0;
}

uint32_t q_ring_is_full(RingQueue *r)
{
	return q_ring_available(r) == 0;
}

uint64_t q_ring_sequence(RingQueue *r)
{
	const struct gq_box *b;

	if (gq_ring_enter(r) != Q_OK)
		return 0;
	b = &r->messages; /* see take_numbers_many() */
	if (b->sequence != NULL)
		return gq_load_acquire_u64(b->sequence);
	return (gq_head_pos(gq_load_acquire_u64(b->pool.head)) - b->start_pos) & GQ_POSITION_MASK;
}

QueueStatus q_ring_stats(RingQueue *r, RingStats *out)
{
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	*out = (RingStats){ 0 };
	out->received = sum_since_start(&r->messages, false);
	out->sent = sum_since_start(&r->messages, true);
	out->polled = sum_since_start(&r->completions, false);
	out->completed = sum_since_start(&r->completions, true);
	out->repairs = gq_load_relaxed_u64(&r->head->repair.repairs);
	out->reclaimed = gq_load_relaxed_u64(&r->head->repair.reclaimed);
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		const struct gq_ring_peer *peer = &r->head->peer[i];

		out->bytes_sent += gq_load_relaxed_u64(&peer->bytes_sent);
		out->bytes_received += gq_load_relaxed_u64(&peer->bytes_received);
		out->descriptors += gq_load_relaxed_u64(&peer->descriptors);
		out->discarded += gq_load_relaxed_u64(&peer->discarded);
		out->full += gq_load_relaxed_u64(&peer->full);
		out->empty += gq_load_relaxed_u64(&peer->empty);
		out->refused += gq_load_relaxed_u64(&peer->refused);
		out->threads += gq_load_relaxed_u64(&peer->identity.owner) != 0;
	}
	out->unjudged = gq__ring_count_unjudged(r);
	return Q_OK;
}

QueueStatus q_ring_config(RingQueue *r, RingConfig *out)
{
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	*out = r->cfg;
	return Q_OK;
}
