/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.h - all that a consumer needs to know of a queue: where its rings, slots and results are,
 * the control word, and the mirror of transport BAR1.
 */
#ifndef GPUQ_PROTOCOL_CHANNEL_H
#define GPUQ_PROTOCOL_CHANNEL_H

#include "device/protocol/seal.h"
#include "device/protocol/slot.h"
#include "device/protocol/word_ring.h"

/* Written by the host, read by every consumer before it claims ([control.write], [control.read]).
 */
enum gq_control {
	GQ_CONTROL_PAUSE = 1u << 0,  /* claim nothing; say so by acknowledging the epoch */
	GQ_CONTROL_LEAVE = 1u << 1,  /* end the loop */
	GQ_CONTROL_CANCEL = 1u << 2, /* a message claimed from now on ends CANCELLED */
};
#define GQ_CONTROL_EPOCH_SHIFT 8u /* epoch: counts pauses and resumes */

/* ---- the channel
 * --------------------------------------------------------------------------------- */

/* When a consumer had a message; one a slot, written before [message.complete]. Only on a queue
 * with a trace. */
struct gq_stamp {
	uint64_t claimed_ns; /* CLOCK_MONOTONIC: just after the claim, before the message is read */
	uint64_t done_ns;    /* the processor has returned, or it was decided not to run it */
	uint64_t consumer;   /* its number; GQ_NONE: the host, which only cancels */
	uint64_t reserved;
};
GQ_STATIC_ASSERT(sizeof(struct gq_stamp) == 32, "layout is shared with the device");

struct gq_channel {
	struct gq_word_ring ready[GQ_CLASSES]; /* published, unclaimed */
	struct gq_word_ring done; /* completed, not reaped; host tail here, head there */
	uint8_t *slots;           /* struct gq_slot and payload, slot_stride apart */
	uint8_t *results;         /* result areas, result_stride apart */
	uint64_t slot_stride;
	uint64_t result_stride;
	uint64_t *control;
	const void *user;    /* processor_data */
	uint64_t user_bytes; /* of it */
	/* one a slot; NULL: no trace. Completions release them: [message.complete] */
	struct gq_stamp *stamps;
	uint64_t slot_mask; /* the bits of an id below its position */
	uint64_t seal_key;  /* random */
	uint32_t result_bytes;
	uint32_t ahead_bytes;  /* slot bytes that a consumer may read ahead of the entry: sealed */
	uint32_t sealed_bytes; /* results up to so long carry a seal; 0: none */
	uint32_t reserved;
	/* The mirror, at its own address for each side; NULL: there is none. */
	uint64_t *hints;
	uint8_t *mirror;
	uint64_t mirror_stride;
};

GQ_FN struct gq_slot *gq_slot_at(const struct gq_channel *ch, uint32_t slot)
{
	return (struct gq_slot *)(void *)(ch->slots + slot * ch->slot_stride);
}

GQ_FN uint8_t *gq_payload_at(const struct gq_channel *ch, uint32_t slot)
{
	return ch->slots + slot * ch->slot_stride + GQ_PAYLOAD_OFFSET;
}

/* A result's seal is right before it. */
#define GQ_RESULT_OFFSET 16u

GQ_FN uint8_t *gq_result_at(const struct gq_channel *ch, uint32_t slot)
{
	return ch->results + slot * ch->result_stride + GQ_RESULT_OFFSET;
}

GQ_FN uint64_t *gq_result_seal_at(const struct gq_channel *ch, uint32_t slot)
{
	return (uint64_t *)(void *)(ch->results + slot * ch->result_stride);
}

/*
 * The words of a slot's header that its seal covers, by piece: not `cancel` and `armed`, which
 * others write at any time. The last piece is not covered at all.
 */
#define GQ_HEADER_PIECES (GQ_PAYLOAD_OFFSET / GQ_PIECE - 1)

GQ_FN uint64_t gq_seal_header_piece(uint64_t key, uint32_t i, uint64_t a, uint64_t b)
{
	return gq_seal_piece(key, i, a, i == 1 ? 0 : b);
}

/* The seal of a filled slot; host only. Costs a pass over what a consumer may read ahead. */
GQ_FN uint64_t gq_seal_of_message(const struct gq_channel *ch, const struct gq_slot *slot)
{
	const uint64_t *word = (const uint64_t *)(const void *)slot;
	const uint32_t first = GQ_PAYLOAD_OFFSET / GQ_PIECE;
	uint64_t seal = gq_seal_id(ch->seal_key, slot->msg_id);

	for (size_t i = 0; i < GQ_HEADER_PIECES; i++) /* word 3 is `cancel` */
		seal += gq_seal_header_piece(ch->seal_key, (uint32_t)i, word[2 * i],
					     i == 1 ? 0 : word[2 * i + 1]);
	for (size_t i = first; i < first + gq_pieces(slot->len); i++)
		seal += gq_seal_piece(ch->seal_key, (uint32_t)i, word[2 * i], word[2 * i + 1]);
	return seal;
}

/* Whether it can be read ahead in one piece. */
GQ_FN bool gq_is_readable_ahead(const struct gq_channel *ch, uint32_t len)
{
	return GQ_PAYLOAD_OFFSET + len <= ch->ahead_bytes;
}

/* On a queue with a trace, before the slot is completed. */
GQ_FN void gq_note_times(const struct gq_channel *ch, uint32_t slot, uint64_t claimed_ns,
			 uint64_t done_ns, uint32_t consumer)
{
	struct gq_stamp *stamp = &ch->stamps[slot];

	stamp->claimed_ns = claimed_ns;
	stamp->done_ns = done_ns;
	stamp->consumer = consumer;
}

/* ---- the mirror
 * ---------------------------------------------------------------------------------- */

/*
 * With transport BAR1 the host writes a second copy of class entries and short messages into device
 * memory, where looking is cheap. The copy is made of hints: it may be late, torn, old, or never
 * come, and nothing orders it with what it is a copy of. Believed is an entry's word, as its tag
 * names the position, and a slot whose seal fits; see docs/design/memory-model.md.
 */
#if defined(GPUQ_BAR1)
#define GQ_HAS_BAR1 true
#else
#define GQ_HAS_BAR1 false
#endif

#define GQ_MIRROR_LINE 64u /* bytes that the CPU writes at once */

/* Before the hints is a line for the test at the start. */
#define GQ_MIRROR_HEAD GQ_LINE

GQ_FN uint64_t *gq_hint_at(const struct gq_channel *ch, uint32_t priority, uint64_t pos)
{
	const struct gq_word_ring *r = &ch->ready[priority];

	return &ch->hints[priority * gq_word_ring_size(r) + (pos & r->mask)];
}

GQ_FN uint8_t *gq_mirror_at(const struct gq_channel *ch, uint32_t slot)
{
	return ch->mirror + slot * ch->mirror_stride;
}

/* Of a line of four pieces, whose last word is this. */
GQ_FN uint64_t gq_seal_of_line(uint64_t key, const uint64_t *word)
{
	uint64_t seal = gq_seal_id(key, word[0]);

	for (uint32_t i = 0; i < 3; i++, word += 2)
		seal += gq_seal_piece(key, i, word[0], word[1]);
	return seal + gq_seal_piece(key, 3, word[0], 0);
}

#endif /* GPUQ_PROTOCOL_CHANNEL_H */
