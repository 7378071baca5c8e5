/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hand.h - claiming several messages by one swap, and the hand in which a consumer holds those that
 * it has not started. Host and CPU device.
 *
 * A held message is claimed and nobody's yet: its consumer takes it from the hand when it is about
 * to start it, and any other consumer, or a stop that gives up, may take it before. All take the
 * oldest, by a swap of the hand's word, so each message is taken once and in order. Only its
 * consumer fills a hand, and only an empty one.
 *
 *   word   batch << 16 | class << 8 | next << 4 | end
 *
 * The batch counts fillings, so a swap by a thread that has read an older one's slot fails
 * (tests/model/hand.pml, BREAK_NO_BATCH). It has 48 bits.
 */
#ifndef GPUQ_PROTOCOL_HAND_H
#define GPUQ_PROTOCOL_HAND_H

#include "device/protocol/claim.h"

#define GQ_HAND_SLOTS 7u /* held; one more is started at once */

struct gq_hand {
	GQ_ALIGNED(GQ_LINE) uint64_t word;
	uint64_t slot[GQ_HAND_SLOTS];
};

GQ_FN bool gq_hand_word_is_empty(uint64_t word)
{
	return (word >> 4 & 15) == (word & 15);
}

/* Of a hand that is not empty. */
GQ_FN uint32_t gq_hand_class(uint64_t word)
{
	return (uint32_t)(word >> 8 & 15);
}

/* Sequentially consistent as the second look of a consumer that goes to sleep ([sleep.look]). */
GQ_FN uint64_t gq_hand_look(const struct gq_hand *h)
{
	return gq_load_seq_cst_u64(&h->word);
}

/* Hold `n` claimed slots, 1 to GQ_HAND_SLOTS; the hand is the caller's, and empty. Then look for
 * sleepers. */
GQ_FN void gq_hand_fill(struct gq_hand *h, uint32_t priority, const uint32_t *slots, uint32_t n)
{
	const uint64_t batch = (gq_load_relaxed_u64(&h->word) >> 16) + 1;

	for (uint32_t i = 0; i < n; i++)
		gq_store_relaxed_u64(&h->slot[i], slots[i]);
	GQ_WINDOW();
	/* [hand.fill] release: the slots, and the messages in them, through [message.claim].
	 * Sequentially consistent because [wake.look] follows. */
	gq_exchange_seq_cst_u64(&h->word, batch << 16 | (uint64_t)priority << 8 | n);
}

/* The oldest held message, which is then the caller's to start or cancel; GQ_NONE: none is held. */
GQ_FN uint32_t gq_hand_take(struct gq_hand *h)
{
	for (;;) {
		/* [hand.take] acquire: pairs with [hand.fill]; [sleep.look] */
		const uint64_t word = gq_load_seq_cst_u64(&h->word);
		uint64_t slot;

		if (gq_hand_word_is_empty(word))
			return GQ_NONE;
		slot = gq_load_relaxed_u64(&h->slot[word >> 4 & 15]);
		GQ_WINDOW();
		/* It fails if another has taken this one, or the hand has been filled again, which
		 * may have changed the slot. */
		if (gq_cas_seq_cst_u64(&h->word, word, word + 16))
			return (uint32_t)slot;
	}
}

/*
 * How many messages one of `consumers` may claim of a class at once, so that as many are left for
 * each of the others: 1, 2, 4 or 8.
 */
GQ_FN uint32_t gq_share(const struct gq_word_ring *r, uint32_t consumers)
{
	const uint64_t head = gq_load_relaxed_device_u64(r->head);
	uint32_t n = GQ_HAND_SLOTS + 1;

	for (; n > 1; n /= 2) {
		const uint64_t last = head + (uint64_t)n * consumers - 1;

		/* Relaxed: it is an estimate; the claim looks at each entry. */
		if ((uint64_t)n * consumers <= gq_word_ring_size(r) &&
		    gq_word_ring_is_at(r, gq_load_relaxed_u64(gq_word_ring_entry(r, last)), last))
			break;
	}
	return n;
}

/* Claim up to `max` messages at the front of a class by one swap, as gq_claim_from() claims one.
 * @return how many; 0: none is there */
GQ_FN uint32_t gq_claim_many(const struct gq_word_ring *r, uint64_t slot_mask, uint32_t max,
			     uint32_t *slots)
{
	for (;;) {
		const uint64_t pos = gq_load_relaxed_device_u64(r->head);
		uint64_t word = 0;
		uint32_t n = 0;

		for (; n < max; n++) {
			/* [message.claim] acquire: slot and payload; pairs with [message.publish]
			 */
			word = gq_load_acquire_u64(gq_word_ring_entry(r, pos + n));
			if (!gq_word_ring_is_at(r, word, pos + n))
				break;
			slots[n] = (uint32_t)(gq_word_ring_value(r, word) & slot_mask);
		}
		if (n == 0) {
			if (gq_word_ring_is_at(r, word, pos - gq_word_ring_size(r)))
				return 0;
			continue; /* our cursor was old */
		}
		GQ_WINDOW();
		/* Relaxed, as in gq_claim_from(): no entry before the new head has been claimed, or
		 * the head would have moved. */
		if (gq_cas_relaxed_device_u64(r->head, pos, pos + n))
			return n;
	}
}

#endif /* GPUQ_PROTOCOL_HAND_H */
