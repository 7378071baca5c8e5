/* SPDX-License-Identifier: Apache-2.0 */
/* lost.h - which cells a dead thread has left nowhere, and putting them back; private to the ring.
 */
#ifndef GPUQ_RING_LOST_H
#define GPUQ_RING_LOST_H

#include "host/ring/ring.h"

/* Whether such an operation has messages in its hands; if not, it has completions. */
static inline bool gq_op_moves_messages(uint64_t op)
{
	return (op & GQ_OP_MASK) == GQ_OP_SEND || (op & GQ_OP_MASK) == GQ_OP_RECEIVE;
}

/* Read a box's rings, and mark the cells that are in one of them: found[slot] = 1. */
void gq__ring_mark_found(const RingQueue *r, const struct gq_box *b, uint8_t *found);

/*
 * Under the lock of repairs: put back every cell that no reading has found and whose number is the
 * same as before the first one.
 */
void gq__ring_put_back_lost(RingQueue *r, const struct gq_box *b, const uint64_t *number,
			    const uint8_t *found);

/*
 * Single mode, under the lock of repairs, after the death of the sender: all cells but those of
 * published messages are free again. @param used  room for a byte of each cell
 */
void gq__ring_free_unsent(const RingQueue *r, const struct gq_box *b, uint8_t *used);

#endif /* GPUQ_RING_LOST_H */
