/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move.h - what the calls ask for: moving messages into a ring (send.c) and out of it (receive.c);
 * private to the ring.
 *
 * No function here waits. EMPTY and FULL, and a front that stays, set no q_last_error().
 */
#ifndef GPUQ_RING_MOVE_H
#define GPUQ_RING_MOVE_H

#include "host/ring/ring.h"

enum { GQ_CHUNK = 32 }; /* messages that one step moves at most */

/* What is to be sent, besides bytes. */
struct gq_sending {
	uint32_t class;
	bool row; /* the messages fill their cells and follow each other in the caller's memory */
	const MessageDescriptor *descriptor; /* NULL: its bytes */
};

struct gq_receiving {
	uint8_t *buf;
	size_t cap;
	RingMessage *out; /* room for `max`; NULL: not wanted */
	uint32_t max;     /* at most GQ_CHUNK */
	bool descriptors; /* may be received */
	bool discard;     /* nothing is copied; `max` is 1 */
	bool waited;      /* see gq_slip_receive() */
	/* written */
	uint32_t count;
	bool all;      /* nothing else was there, as far as one look showed */
	size_t used;   /* of buf */
	size_t needed; /* with Q_ERR_BUFFER_TOO_SMALL */
	/* With `discard`, of a descriptor: what the caller drops then. Not before the message is
	 * received for good: a receiver that dies leaves it to the next. */
	MessageDescriptor discarded;
	bool drops;
	QueueStatus front; /* why the front stays; Q_OK: it does not, or was not reached. With
			    * Q_ERR_EMPTY, Q_ERR_EMPTY: others overtook this call all the time, so
			    * it cannot say that there is nothing */
};

/*
 * Send up to GQ_CHUNK messages of one slot each, or one message of several (parts > 1).
 * @return Q_OK: at least one, *accepted says how many; Q_ERR_FULL: also if overtaken by others all
 *         the time; Q_ERR_SHUTDOWN, ...
 */
QueueStatus gq__ring_send_many(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
			       const EnqueueItem *items, uint32_t n, uint32_t parts,
			       uint32_t *accepted);
QueueStatus gq__ring_send_single(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
				 const EnqueueItem *items, uint32_t n, uint32_t parts,
				 uint32_t *accepted);

/*
 * Receive up to q->max messages of one class.
 * @return Q_OK: at least one; Q_ERR_EMPTY; or why the front stays.
 */
QueueStatus gq__ring_receive_many(RingQueue *r, struct gq_box *b, struct gq_receiving *q);
QueueStatus gq__ring_receive_single(RingQueue *r, struct gq_box *b, struct gq_receiving *q);

/* For the sends of one.c. Single mode: all cells that were known to be free are taken. Wait a
 * little, if that may help, and look for more. @return false: there are none. */
bool gq__ring_look_for_cells(const struct gq_box *b, struct gq_ring_local *local,
			     struct gq_box_hints *hints, bool waits);

/* Many senders, `b` of either kind: end an operation whose one message has not been published, at
 * `pos`: because the ring is closed (`barred`), or because others overtook it. Its cell goes back.
 * @return Q_ERR_SHUTDOWN, Q_ERR_FULL, ... */
QueueStatus gq__ring_give_up_one(RingQueue *r, struct gq_box *b, struct gq_ring_local *local,
				 bool barred, uint64_t pos, uint32_t slot);

static inline QueueStatus gq_ring_send_to(RingQueue *r, struct gq_box *b,
					  const struct gq_sending *s, const EnqueueItem *items,
					  uint32_t n, uint32_t parts, uint32_t *accepted)
{
	return r->single ? gq__ring_send_single(r, b, s, items, n, parts, accepted)
			 : gq__ring_send_many(r, b, s, items, n, parts, accepted);
}

static inline QueueStatus gq_ring_receive_from(RingQueue *r, struct gq_box *b,
					       struct gq_receiving *q)
{
	return r->single ? gq__ring_receive_single(r, b, q) : gq__ring_receive_many(r, b, q);
}

/* The calling thread's own counters. */
static inline void gq_ring_tally(uint64_t *counter, uint64_t n)
{
	gq_store_relaxed_u64(counter, gq_load_relaxed_u64(counter) + n);
}

#endif /* GPUQ_RING_MOVE_H */
