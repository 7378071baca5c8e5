/* SPDX-License-Identifier: Apache-2.0 */
/* layout.c - where everything of a ring lies, computed from a checked configuration. */
#include "host/ring/layout.h"

#include "host/base/memory.h"
#include "host/ring/extent.h"

enum { COMPLETION_STRIDE = 64 };

/* Cells of more bytes than half of a core's cache are not in it any more when they are written
 * again. */
enum { TOUCHED_BYTES = 512 * 1024 };

/* No two cells share a line. */
static uint64_t message_stride(const RingConfig *cfg)
{
	return gq_round_up(cfg->max_msg_size, 64);
}

/* Words that a box has for each cell: two in each ring, number, descriptor, link of a chain. */
static uint32_t words_per_cell(uint32_t classes, bool described, bool chained)
{
	return 2 * (1 + classes) + 1 + (described ? GQ_DESCRIPTOR_WORDS : 0) + (chained ? 1 : 0);
}

static uint64_t box_bytes(uint64_t n, uint32_t words, uint64_t stride)
{
	return gq_round_up(n * words * sizeof(uint64_t), GQ_LINE) +
	       gq_round_up(n * stride, GQ_LINE);
}

uint64_t gq__ring_required_bytes(const RingConfig *cfg)
{
	const bool large = (cfg->flags & Q_RING_LARGE) != 0;

	return sizeof(struct gq_ring_head) +
	       box_bytes(cfg->ring_size, words_per_cell(GQ_CLASSES, true, large),
			 message_stride(cfg)) +
	       box_bytes(cfg->ring_size, words_per_cell(1, false, false), COMPLETION_STRIDE);
}

/* The view of a ring of extents at `words`, which are moved past it. The pool's words are made like
 * those of the classes. */
static struct gq_word_ring lay_out_ring(uint64_t **words, uint64_t *head, uint64_t *tail,
					uint32_t order)
{
	struct gq_word_ring ring =
		gq_word_ring_of(*words, head, tail, order + 1, GQ_SLOT_SHIFT + order, order + 1);

	*words += (size_t)2 << order;
	return ring;
}

/* Lay a box out from `at` on. @return the first byte after it. */
static uint8_t *lay_out_box(struct gq_box *b, uint8_t *at, struct gq_box_positions *pos,
			    const RingConfig *cfg, uint32_t classes, bool described, bool chained,
			    uint64_t stride)
{
	const uint32_t order = gq_log2(cfg->ring_size);
	const uint64_t n = cfg->ring_size;
	uint64_t *words = (uint64_t *)(void *)at;

	b->classes = classes;
	b->stride = stride;
	b->slot_mask = cfg->ring_size - 1;
	b->reused = pos->reused;
	b->pool = lay_out_ring(&words, &pos->pool_head, &pos->pool_tail, order);
	for (uint32_t c = 0; c < classes; c++)
		b->ready[c] = lay_out_ring(&words, &pos->head[c], &pos->tail[c], order);
	b->number = words;
	words += n;
	if (described) {
		b->described = words;
		words += GQ_DESCRIPTOR_WORDS * n;
	}
	if (chained)
		b->chain = words;
	if (chained || (cfg->flags & Q_RING_SINGLE) != 0)
		b->sequence = &pos->sequence;
	b->cells =
		at + gq_round_up(n * words_per_cell(classes, described, chained) * sizeof(uint64_t),
				 GQ_LINE);
	b->touches = n * stride <= TOUCHED_BYTES;
	return b->cells + gq_round_up(n * stride, GQ_LINE);
}

void gq__ring_lay_out(RingQueue *r, void *memory)
{
	const RingConfig *cfg = &r->cfg;
	struct gq_ring_head *head = memory;
	uint8_t *at = (uint8_t *)memory + sizeof(*head);

	r->head = head;
	at = lay_out_box(&r->messages, at, &head->messages, cfg, GQ_CLASSES, true,
			 (cfg->flags & Q_RING_LARGE) != 0, message_stride(cfg));
	r->messages.cell_bytes = cfg->max_msg_size;
	r->messages.send_role = &head->signals.role[0];
	r->messages.receive_role = &head->signals.role[1];
	r->messages.send_op = GQ_OP_SEND;
	r->messages.receive_op = GQ_OP_RECEIVE;
	lay_out_box(&r->completions, at, &head->completions, cfg, 1, false, false,
		    COMPLETION_STRIDE);
	r->completions.cell_bytes = sizeof(struct gq_ring_completion);
	r->completions.send_role = &head->signals.role[2];
	r->completions.receive_role = &head->signals.role[3];
	r->completions.send_op = GQ_OP_COMPLETE;
	r->completions.receive_op = GQ_OP_POLL;
	r->max_parts = (cfg->flags & Q_RING_LARGE) == 0 ? 1
		       : cfg->ring_size < GQ_MAX_PARTS  ? cfg->ring_size
							: GQ_MAX_PARTS;
}

/* Nothing is in it. */
static void clear_ring(const struct gq_word_ring *ring, uint64_t start)
{
	const uint64_t words = gq_word_ring_size(ring);

	for (uint64_t i = 0; i < words; i++)
		*gq_word_ring_entry(ring, start + i) = gq_word_ring_tag(ring, start + i - words);
	*ring->head = gq_head_of(start);
	*ring->tail = start;
}

void gq__ring_fill_box(struct gq_box *b, uint64_t start)
{
	const uint32_t cells = (uint32_t)gq_box_cells(b),
		       run = cells < GQ_MAX_RUN ? cells : GQ_MAX_RUN;

	clear_ring(&b->pool, start);
	*b->pool.tail = start + cells;
	for (uint32_t i = 0; i < cells; i += run)
		*gq_word_ring_entry(&b->pool, start + i) =
			gq_word_ring_tag(&b->pool, start + i) | gq_run_value(i, run, 0);
	for (uint32_t c = 0; c < b->classes; c++) {
		clear_ring(&b->ready[c], start);
		b->reused[c] = gq_head_of(start);
	}
	for (uint32_t i = 0; i < cells; i++)
		b->number[i] = 0;
}
