/* SPDX-License-Identifier: Apache-2.0 */
/* complete.h - the consumer completes a message, the host reaps it. */
#ifndef GPUQ_PROTOCOL_COMPLETE_H
#define GPUQ_PROTOCOL_COMPLETE_H

#include "device/protocol/channel.h"

GQ_FN uint64_t gq_done_value(const struct gq_channel *ch, uint32_t slot, uint32_t outcome)
{
	return (uint64_t)outcome << ch->done.order | slot;
}

/* Completion where consumer and host share memory: no place is held, so no stalled consumer can
 * hide another's completion. */
GQ_FN void gq_complete(const struct gq_channel *ch, uint32_t slot, uint32_t outcome)
{
	gq_word_ring_put_one(&ch->done, gq_done_value(ch, slot, outcome));
}

/*
 * Completion across PCIe: a ticket among the consumers (device memory), then one posted store. The
 * store waits for nothing if there is no result, or a sealed one, which need not arrive first.
 * @return of gq_take_ticket(): the first of `n` positions
 */
GQ_FN uint64_t gq_take_ticket(uint64_t *tail, uint32_t n)
{
	return gq_fetch_add_relaxed_device_u64(tail, n);
}

/* @param fenced  then: gq_fence_system() has released what the processor wrote elsewhere */
GQ_FN void gq_complete_at(const struct gq_channel *ch, uint64_t pos, uint32_t slot,
			  uint32_t outcome, bool fenced)
{
	const struct gq_word_ring *r = &ch->done;
	const uint64_t word = gq_word_ring_tag(r, pos) | gq_done_value(ch, slot, outcome);

	GQ_WINDOW();
	if ((outcome <= GQ_OUTCOME_MAX_LEN && outcome != 0) || ch->stamps != NULL)
		/* [message.complete] release: publishes the result, the stamp, and all that the
		 * processor wrote. */
		gq_store_release_u64(gq_word_ring_entry(r, pos), word);
	/* [message.complete]: with the fence */
	else if (fenced)
		gq_store_fenced_u64(gq_word_ring_entry(r, pos), word);
	else
		gq_store_posted_u64(gq_word_ring_entry(r, pos), word);
}

GQ_FN void gq_complete_posted(const struct gq_channel *ch, uint32_t slot, uint32_t outcome,
			      bool fenced)
{
	gq_complete_at(ch, gq_take_ticket(ch->done.tail, 1), slot, outcome, fenced);
}

/* Whether a completion waits to be reaped. Sequentially consistent, as a waiter's second look. */
GQ_FN bool gq_done_waits(const struct gq_channel *ch)
{
	const struct gq_word_ring *r = &ch->done;
	uint64_t pos = gq_load_relaxed_u64(r->head);

	/* [sleep.look]. If another reaper has moved the head since, this is true. */
	return !gq_word_ring_is_at(r, gq_load_seq_cst_u64(gq_word_ring_entry(r, pos)),
				   pos - gq_word_ring_size(r));
}

/* Whether all of a sealed result has arrived; host only. */
GQ_FN bool gq_result_is_whole(const struct gq_channel *ch, uint32_t slot, uint32_t len)
{
	const uint64_t *word = (const uint64_t *)(const void *)gq_result_at(ch, slot);
	/* [seal.match] acquire: what the seal is of, where it is stored with a release
	 * ([seal.write]). */
	const uint64_t found = gq_load_acquire_u64(gq_result_seal_at(ch, slot));
	uint64_t seal = gq_seal_id(ch->seal_key, gq_slot_at(ch, slot)->msg_id);

	for (size_t i = 0; i < gq_pieces(len); i++)
		seal += gq_seal_piece(ch->seal_key, (uint32_t)i, gq_load_relaxed_u64(&word[2 * i]),
				      gq_load_relaxed_u64(&word[2 * i + 1]));
	return seal == found;
}

enum gq_arrival {
	GQ_NOT_THERE,
	GQ_TORN, /* the entry has overtaken its result */
	GQ_WHOLE,
};

/* What has arrived of the completion at `pos`; host only, under the queue's reap lock. */
GQ_FN enum gq_arrival gq_look_at_done(const struct gq_channel *ch, uint64_t pos, uint32_t *slot,
				      uint32_t *outcome)
{
	const struct gq_word_ring *r = &ch->done;
	/* [message.reap] acquire: the result. Sequentially consistent: also [sleep.look]'s look. */
	uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(r, pos));
	uint64_t value = gq_word_ring_value(r, word);

	if (!gq_word_ring_is_at(r, word, pos))
		return GQ_NOT_THERE;
	*slot = (uint32_t)(value & (gq_word_ring_size(r) - 1));
	*outcome = (uint32_t)(value >> r->order);
	if ((*outcome & GQ_OUTCOME_SEALED) == 0)
		return GQ_WHOLE;
	*outcome &= ~GQ_OUTCOME_SEALED;
	return gq_result_is_whole(ch, *slot, *outcome) ? GQ_WHOLE : GQ_TORN;
}

/* The next completion in order, if there is one. One reaper at a time, under the queue's lock. */
GQ_FN bool gq_reap(const struct gq_channel *ch, uint32_t *slot, uint32_t *outcome)
{
	uint64_t pos = gq_load_relaxed_u64(ch->done.head);

	if (gq_look_at_done(ch, pos, slot, outcome) != GQ_WHOLE)
		return false;
	gq_store_relaxed_u64(ch->done.head, pos + 1);
	return true;
}

#endif /* GPUQ_PROTOCOL_COMPLETE_H */
