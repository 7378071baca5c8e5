/* SPDX-License-Identifier: Apache-2.0 */
/* slot.h - a message in its slot: the header that host and consumers share, ids, and outcomes. */
#ifndef GPUQ_PROTOCOL_SLOT_H
#define GPUQ_PROTOCOL_SLOT_H

#include "device/protocol/atomics.h"
#include "device/protocol/layout.h"

#define GQ_CLASSES   4u /* priority classes: 0 low, 1 normal, 2 high, 3 urgent */
#define GQ_MAX_ORDER 20u
#define GQ_NONE      UINT32_MAX

enum gq_slot_flags {
	GQ_SLOT_DISCARD = 1u << 0,   /* free at completion */
	GQ_SLOT_DESCRIBED = 1u << 1, /* the payload is elsewhere: gq_slot.described */
	GQ_SLOT_COPIED = 1u << 2,    /* the copy engine brings the payload: gq_slot.arrival */
};

/*
 * What the producer says of its message; the payload follows at GQ_PAYLOAD_OFFSET. Written by the
 * owner of the slot before publication ([message.publish]) and read-only from then on, but for
 * three words; the consumer that has the message may also write bytes of it back as they are.
 */
struct gq_slot {
	uint64_t msg_id;
	uint64_t tag;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	uint64_t cancel;      /* ~msg_id; q_cancel() swaps in msg_id, at any time */
	uint32_t len;         /* payload bytes */
	uint32_t opcode;
	uint32_t flags;    /* gq_slot_flags */
	uint32_t priority; /* class, 0 to GQ_CLASSES - 1 */
	/* odd: a host sleeps on this word until the slot completes ([sleep.look]) */
	uint32_t armed;
	uint32_t reserved0; /* the consumer that has the message may write it */
	union {
		uint64_t seal;            /* gq_seal_of_message(); of a long one anything */
		const uint8_t *described; /* with GQ_SLOT_DESCRIBED: the payload */
		uint64_t arrival;         /* with GQ_SLOT_COPIED: gq_counters.arrived by then */
	};
};

#define GQ_PAYLOAD_OFFSET 64u
GQ_STATIC_ASSERT(sizeof(struct gq_slot) == GQ_PAYLOAD_OFFSET, "payload follows the slot header");
GQ_STATIC_ASSERT(offsetof(struct gq_slot, len) == 32, "layout is shared with the device");
GQ_STATIC_ASSERT(offsetof(struct gq_slot, armed) == 48, "layout is shared with the device");
GQ_STATIC_ASSERT(offsetof(struct gq_slot, seal) == 56, "layout is shared with the device");

/*
 * How a message ended: in a completion, 0 to 2^24 is a result of that many bytes. Above the named
 * outcomes lies the failure that a processor has reported: its status, up to a largest one, is
 * added to GQ_OUTCOME_REPORTED.
 */
enum gq_outcome {
	GQ_OUTCOME_MAX_LEN = 1u << 24,
	GQ_OUTCOME_FAILED = GQ_OUTCOME_MAX_LEN + 1, /* not by the processor's own word */
	GQ_OUTCOME_EXPIRED,
	GQ_OUTCOME_CANCELLED,
	GQ_OUTCOME_LOST, /* the process that had it has ended: it may have run */
	GQ_OUTCOME_REPORTED = GQ_OUTCOME_MAX_LEN + 16,
	GQ_OUTCOME_MAX_STATUS = 0xffff00,
};
#define GQ_OUTCOME_SEALED (1u << 25) /* beside a length: the result validates itself */
#define GQ_OUTCOME_BITS   26u
GQ_STATIC_ASSERT(GQ_OUTCOME_REPORTED + GQ_OUTCOME_MAX_STATUS < GQ_OUTCOME_SEALED,
		 "every outcome fits below the bit that says that it is sealed");

/* The status that a processor has reported its failure with; 0: it has reported none. */
GQ_FN uint32_t gq_reported_status(uint32_t outcome)
{
	return outcome > GQ_OUTCOME_REPORTED ? outcome - GQ_OUTCOME_REPORTED : 0;
}

GQ_FN bool gq_outcome_is_failure(uint32_t outcome)
{
	return outcome == GQ_OUTCOME_FAILED || gq_reported_status(outcome) != 0;
}

/*
 * Ids. The pool hands slots out in the order of its positions, and the word it hands out is the
 * id: position << shift | slot. At least four bits are left below the position, so that a slot's
 * state word can carry the position and a phase in one word.
 */
#define GQ_MIN_ID_SHIFT 4u
GQ_FN uint32_t gq_id_shift(uint32_t order)
{
	return order < GQ_MIN_ID_SHIFT ? GQ_MIN_ID_SHIFT : order;
}

/* A class entry holds the slot and, above it, so many bits of the position in the message's id. A
 * consumer that has read a slot ahead of its entry knows by them whether it is the same message. */
#define GQ_USE_BITS 20u

#endif /* GPUQ_PROTOCOL_SLOT_H */
