/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cell.h - a message in its cells: what the words say of it, and copying it; private to the ring.
 *
 * Every word may be a liar's: slots are masked, lengths clamped, and chains followed for a bounded
 * number of parts.
 */
#ifndef GPUQ_RING_CELL_H
#define GPUQ_RING_CELL_H

#include "host/base/copy.h"
#include "host/ring/extent.h"

GQ_ALWAYS_INLINE uint8_t *gq_cell_at(const struct gq_box *b, uint32_t slot)
{
	return b->cells + slot * b->stride;
}

/* ---- the word of a class's entry ------------------------------------------------------------- */

/* The length in a link of a chain. */
GQ_ALWAYS_INLINE uint32_t gq_link_length(const struct gq_box *b, uint64_t link)
{
	uint32_t len = (uint32_t)link & ((1u << GQ_LENGTH_BITS) - 1);

	return len > b->cell_bytes ? b->cell_bytes : len;
}

/* The length in an entry's word: of each of its messages. */
GQ_ALWAYS_INLINE uint32_t gq_length_of(const struct gq_box *b, uint64_t word)
{
	return gq_link_length(b, gq_entry_kind(word) == GQ_KIND_RUN
					 ? word & ((1u << GQ_RUN_LENGTH_BITS) - 1)
					 : word);
}

GQ_ALWAYS_INLINE bool gq_is_descriptor(const struct gq_box *b, uint64_t word)
{
	return b->described != NULL && gq_entry_kind(word) == GQ_KIND_DESCRIPTOR;
}

GQ_ALWAYS_INLINE bool gq_is_in_parts(const struct gq_box *b, uint64_t word)
{
	return b->chain != NULL && gq_entry_kind(word) == GQ_KIND_PARTS;
}

/* ---- descriptors ----------------------------------------------------------------------------- */

/* A descriptor lies in words of its own and not in its cell: a thread that peeks may read it while
 * it changes. */
static inline void gq_store_descriptor(const struct gq_box *b, uint32_t slot,
				       const MessageDescriptor *d)
{
	uint64_t words[GQ_DESCRIPTOR_WORDS];

	memcpy(words, d, sizeof(words));
	for (uint32_t i = 0; i < GQ_DESCRIPTOR_WORDS; i++)
		gq_store_relaxed_u64(&b->described[slot * GQ_DESCRIPTOR_WORDS + i], words[i]);
}

static inline void gq_load_descriptor(const struct gq_box *b, uint32_t slot, MessageDescriptor *d)
{
	uint64_t words[GQ_DESCRIPTOR_WORDS];

	/* Acquire: a thread that peeks looks at the front again afterwards. */
	for (uint32_t i = 0; i < GQ_DESCRIPTOR_WORDS; i++)
		words[i] = gq_load_acquire_u64(&b->described[slot * GQ_DESCRIPTOR_WORDS + i]);
	memcpy(d, words, sizeof(words));
}

/* ---- a message in parts ---------------------------------------------------------------------- */

/* A walk along the cells of a message: for (c = gq_chain_of(...); gq_chain_next(b, &c);) */
struct gq_chain {
	uint32_t slot; /* this part's */
	uint32_t len;  /* its bytes */
	uint32_t next; /* slot of the next part */
	uint32_t left; /* parts that may still come */
};

static inline struct gq_chain gq_chain_of(const RingQueue *r, const struct gq_box *b, uint64_t word)
{
	return (struct gq_chain){ .next = gq_entry_slot(b, word), .left = r->max_parts };
}

static inline bool gq_chain_next(const struct gq_box *b, struct gq_chain *c)
{
	uint64_t link;

	if (c->left == 0)
		return false;
	c->slot = c->next;
	/* Acquire: a thread that peeks looks at the entry again afterwards. */
	link = gq_load_acquire_u64(&b->chain[c->slot]);
	c->len = gq_link_length(b, link);
	c->next = (uint32_t)(link >> GQ_PART_SLOT_SHIFT) & b->slot_mask;
	c->left = (link & GQ_PART_CONTINUES) != 0 ? c->left - 1 : 0;
	return true;
}

#endif /* GPUQ_RING_CELL_H */
