/* SPDX-License-Identifier: Apache-2.0 */
/* claim.h - a consumer's steps: claim a message, and decide what is to become of it. */
#ifndef GPUQ_PROTOCOL_CLAIM_H
#define GPUQ_PROTOCOL_CLAIM_H

#include "device/protocol/channel.h"

/*
 * Starvation guard: a waiting class that one consumer has passed over this often, each time for a
 * higher one, gets that consumer's next claim. Below that, order between classes is strict. The
 * guard's own claims are not counted: with n consumers a message at the front of its class is
 * passed over at most n * (GQ_PASS_LIMIT + 2) times; once more each where hints can be missed.
 * Units of a CUDA grid take on past the limit what is claimed already, while two others look for
 * the class.
 */
#define GQ_PASS_LIMIT 256u

struct gq_ageing { /* each consumer has its own, zero to begin with */
	uint32_t passed[GQ_CLASSES];
};

/* Whether anything may be waiting. Sequentially consistent, as the sleeper's second look
 * ([sleep.look]). */
GQ_FN bool gq_word_ring_may_hold(const struct gq_word_ring *r)
{
	uint64_t pos = gq_load_relaxed_device_u64(r->head);
	uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(r, pos)); /* [sleep.look] */

	return !gq_word_ring_is_at(r, word, pos - gq_word_ring_size(r));
}

GQ_FN bool gq_work_waits(const struct gq_channel *ch)
{
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		if (gq_word_ring_may_hold(&ch->ready[c]))
			return true;
	return false;
}

/*
 * Where a look found a class empty: the entry at its head, and the word that was there. No head
 * goes past an entry that is not published, so while that word is the same the class is empty
 * still, whoever claims of it.
 */
struct gq_empty {
	const uint64_t *entry;
	uint64_t word;
};

/*
 * What a consumer remembers from one claim to the next; zero to begin with. While messages come in
 * one class alone, a look at each of the others is a load of the entry where it was found empty.
 */
struct gq_claimer {
	struct gq_ageing ageing;
	bool alone;                        /* at the last look only this class held anything: */
	uint32_t priority;                 /* the class */
	struct gq_empty empty[GQ_CLASSES]; /* where that look found the others empty */
};

/* Relaxed: a word that is the same says that nothing was published; else the claim looks again. */
GQ_FN bool gq_is_still_empty(const struct gq_empty *e)
{
	return gq_load_relaxed_u64(e->entry) == e->word;
}

GQ_STATIC_ASSERT(GQ_CLASSES == 4, "three others");
GQ_FN bool gq_others_are_still_empty(const struct gq_claimer *k)
{
	return gq_is_still_empty(&k->empty[(k->priority + 1) % GQ_CLASSES]) &&
	       gq_is_still_empty(&k->empty[(k->priority + 2) % GQ_CLASSES]) &&
	       gq_is_still_empty(&k->empty[(k->priority + 3) % GQ_CLASSES]);
}

/* The slot at the front of one class; or GQ_NONE, and *empty says where. See the entry published,
 * copy it, claim it. */
GQ_FN uint32_t gq_claim_or_note(const struct gq_word_ring *r, uint64_t slot_mask,
				struct gq_empty *empty)
{
	for (;;) {
		uint64_t pos = gq_load_relaxed_device_u64(r->head);
		const uint64_t *entry = gq_word_ring_entry(r, pos);
		/* [message.claim] acquire: slot and payload; pairs with [message.publish] */
		uint64_t word = gq_load_acquire_u64(entry);

		if (!gq_word_ring_is_at(r, word, pos)) {
			if (!gq_word_ring_is_at(r, word, pos - gq_word_ring_size(r)))
				continue; /* our cursor was old */
			empty->entry = entry;
			empty->word = word;
			return GQ_NONE;
		}
		GQ_WINDOW();
		/* Relaxed: exclusion is all it is for; what the claimer reads comes with
		 * [message.claim]. The entry is reused only after this slot has been completed,
		 * returned and published. */
		if (gq_cas_relaxed_device_u64(r->head, pos, pos + 1))
			return (uint32_t)(gq_word_ring_value(r, word) & slot_mask);
	}
}

GQ_FN uint32_t gq_claim_from(const struct gq_word_ring *r, uint64_t slot_mask)
{
	struct gq_empty empty;

	return gq_claim_or_note(r, slot_mask, &empty);
}

/* Whether a class may hold a message; if not, *empty says where that was seen. */
GQ_FN bool gq_may_hold_or_note(const struct gq_word_ring *r, struct gq_empty *empty)
{
	const uint64_t pos = gq_load_relaxed_device_u64(r->head);

	empty->entry = gq_word_ring_entry(r, pos);
	empty->word = gq_load_relaxed_u64(empty->entry); /* counted, and no more */
	return !gq_word_ring_is_at(r, empty->word, pos - gq_word_ring_size(r));
}

/* A message of class `c` has been claimed, and higher ones were found empty: count which of the
 * lower ones were passed over. */
GQ_FN void gq_count_passed_over(const struct gq_channel *ch, struct gq_claimer *k, uint32_t c)
{
	k->ageing.passed[c] = 0;
	k->alone = true;
	k->priority = c;
	for (uint32_t d = 0; d < c; d++) {
		const bool waits = gq_may_hold_or_note(&ch->ready[d], &k->empty[d]);

		k->ageing.passed[d] = waits ? k->ageing.passed[d] + 1 : 0;
		k->alone = k->alone && !waits;
	}
}

/* Claim the next message: higher classes first, first come first served within one.
 * @param priority  the class of the message, if there is one */
GQ_FN uint32_t gq_claim_of(const struct gq_channel *ch, struct gq_claimer *k, uint32_t *priority)
{
	if (k->alone && gq_others_are_still_empty(k)) {
		*priority = k->priority;
		return gq_claim_from(&ch->ready[k->priority], ch->slot_mask);
	}
	k->alone = false;
	for (uint32_t c = 0; c < GQ_CLASSES - 1; c++) {
		if (k->ageing.passed[c] >= GQ_PASS_LIMIT) {
			uint32_t slot = gq_claim_from(&ch->ready[c], ch->slot_mask);

			k->ageing.passed[c] = 0;
			*priority = c;
			if (slot != GQ_NONE)
				return slot;
		}
	}
	for (uint32_t c = GQ_CLASSES; c-- > 0;) {
		uint32_t slot = gq_claim_or_note(&ch->ready[c], ch->slot_mask, &k->empty[c]);

		if (slot == GQ_NONE)
			continue;
		*priority = c;
		gq_count_passed_over(ch, k, c);
		return slot;
	}
	return GQ_NONE;
}

GQ_FN uint32_t gq_claim(const struct gq_channel *ch, struct gq_claimer *k)
{
	uint32_t priority;

	return gq_claim_of(ch, k, &priority);
}

/*
 * What is to become of a claimed message, decided here and nowhere else.
 * @param cancel  the slot's word of that name
 * @param now_ns  CLOCK_MONOTONIC; may be 0 when the slot has no deadline
 * @return 0: run it; else the outcome it ends with.
 */
GQ_FN uint32_t gq_decide_on(uint64_t msg_id, uint64_t cancel, uint64_t deadline_ns,
			    uint64_t control, uint64_t now_ns)
{
	if ((control & GQ_CONTROL_CANCEL) != 0 || cancel == msg_id)
		return GQ_OUTCOME_CANCELLED;
	if (deadline_ns != 0 && now_ns >= deadline_ns)
		return GQ_OUTCOME_EXPIRED;
	return 0;
}

GQ_FN uint32_t gq_decide(const struct gq_slot *slot, uint64_t control, uint64_t now_ns)
{
	/* Relaxed: the id in it says which message is meant; nothing else is published by it. */
	return gq_decide_on(slot->msg_id, gq_load_relaxed_u64(&slot->cancel), slot->deadline_ns,
			    control, now_ns);
}

/* The outcome of a message that has run. */
GQ_FN uint32_t gq_outcome_of(uint32_t status, uint32_t out_len, uint32_t cap)
{
	const uint32_t largest = GQ_OUTCOME_MAX_STATUS;

	if (status != 0)
		return (uint32_t)GQ_OUTCOME_REPORTED + (status < largest ? status : largest);
	return out_len > cap ? (uint32_t)GQ_OUTCOME_FAILED : out_len;
}

#endif /* GPUQ_PROTOCOL_CLAIM_H */
