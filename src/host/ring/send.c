/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.c - messages into a ring: cells are taken from the pool (in single mode from what has been
 * received), filled, and published in the ring of their class. Completions go the same way, through
 * a box of their own.
 */
#include "host/ring/close.h"
#include "host/ring/reuse.h"
#include "host/ring/slip.h"
#include "host/ring/step.h"

/* ---- taking cells ---------------------------------------------------------------------------- */

/* Cells taken from the pool, by runs. */
struct popped {
	uint64_t pos; /* of the first cell */
	uint32_t n;   /* cells */
	uint32_t count;
	struct gq_run run[GQ_MAX_PARTS];
};

/* Find up to `max` free cells, from *head on, which moves past them. @return the last word read. */
GQ_ALWAYS_INLINE uint64_t find_cells(const struct gq_box *b, uint64_t *head, struct popped *p,
				     uint32_t max)
{
	struct gq_run run;
	uint64_t word, start;

	p->pos = gq_head_pos(*head);
	p->n = p->count = 0;
	do {
		/* [pool.take] acquire: the previous owner is done with the cells. Sequentially
		 * consistent for a sender that waits for room: [sleep.look]. */
		word = gq_load_seq_cst_u64(gq_head_entry(&b->pool, *head));
		if (!gq_head_is_at(&b->pool, word, *head))
			break;
		start = gq_head_start(*head);
		run = gq_head_take(b, word, head, max - p->n);
		if (gq_head_start(*head) != start)
			gq_extent_touch(&b->pool, start, gq_extent_count(word));
		add_run(p->run, &p->count, run);
		p->n += run.n;
	} while (p->n < max);
	return word;
}

/* Take up to `max` free cells, at least `min` or none. p->n is 0 if there are none, or if others
 * overtake all the time. @return false: damaged. */
GQ_ALWAYS_INLINE bool pop_many(const struct gq_box *b, struct popped *p, uint32_t min, uint32_t max)
{
	for (int i = 0; i < GQ_TRIES; i++) {
		const uint64_t head = gq_load_acquire_u64(b->pool.head);
		uint64_t next = head;
		const uint64_t word = find_cells(b, &next, p, max);

		if (p->n >= min) {
			GQ_WINDOW();
			/* Relaxed: the swap only excludes; what we read came with [pool.take]. */
			if (__builtin_expect(gq_cas_relaxed_device_u64(b->pool.head, head, next),
					     1))
				return true;
		} else if (gq_extent_is_older(&b->pool, word, gq_head_start(next))) {
			break; /* nothing is published there yet: full */
		} else if (gq_load_acquire_u64(b->pool.head) == head) {
			return false; /* no other thread has moved the head */
		}
	}
	p->n = 0;
	return true;
}

bool gq__ring_look_for_cells(const struct gq_box *b, struct gq_ring_local *local,
			     struct gq_box_hints *hints, bool waits)
{
	if (waits)
		gq_slip_reuse(b, local);
	return gq_reuse_look(b, hints);
}

/* Single mode: put cells that were taken and are not used into the pool, which is the sender's. */
static __attribute__((noinline)) void give_back_single(const struct gq_box *b,
						       const struct popped *p)
{
	uint64_t values[GQ_MAX_PARTS];

	for (uint32_t i = 0; i < p->count; i++)
		values[i] = gq_run_value(p->run[i].slot, p->run[i].n, 0);
	put_single(&b->pool, values, p->count);
}

/* The same in single mode. */
GQ_ALWAYS_INLINE void pop_single(const struct gq_box *b, struct gq_ring_local *local,
				 struct gq_box_hints *hints, struct popped *p, uint32_t min,
				 uint32_t max)
{
	struct gq_run run;

	p->n = p->count = 0;
	while (p->n < max) {
		if (!gq_reuse_knows(hints, gq_load_relaxed_u64(hints->reused)) &&
		    !gq__ring_look_for_cells(b, local, hints,
					     p->n == 0 && hints == &local->messages))
			break;
		run = gq_reuse_take(b, hints, max - p->n);
		add_run(p->run, &p->count, run);
		p->n += run.n;
	}
	if (__builtin_expect(p->n < min, 0)) {
		give_back_single(b, p);
		p->n = 0;
	}
}

/* ---- filling them ---------------------------------------------------------------------------- */

/* The slot of a popped cell. A walk over all of them costs no more than their number and the runs'.
 */
GQ_ALWAYS_INLINE uint32_t slot_at(const struct popped *p, uint32_t *run, uint32_t *i)
{
	uint32_t slot = p->run[*run].slot + *i;

	if (++*i == p->run[*run].n) {
		++*run;
		*i = 0;
	}
	return slot;
}

/* Write one message into the cells popped for it, and make its extent's value. */
static uint64_t fill_parts(const struct gq_box *b, const EnqueueItem *item, const struct popped *p,
			   uint64_t number)
{
	uint32_t run = 0, in_run = 0, next = slot_at(p, &run, &in_run);
	const uint32_t first = next;

	for (uint32_t i = 0; i < p->n; i++) {
		const uint32_t slot = next;
		const uint64_t from = (uint64_t)i * b->cell_bytes;
		const uint64_t len =
			item->len - from < b->cell_bytes ? item->len - from : b->cell_bytes;
		uint64_t link = GQ_PART_FINAL;

		if (i + 1 < p->n) {
			next = slot_at(p, &run, &in_run);
			link = GQ_PART_CONTINUES | (uint64_t)next << GQ_PART_SLOT_SHIFT;
		}
		/* The number of every part, for repairs: see repair.c. */
		gq_store_relaxed_u64(&b->number[slot], number + 1);
		memcpy(gq_cell_at(b, slot), (const uint8_t *)item->data + from, len);
		gq_store_relaxed_u64(&b->chain[slot], link | len);
	}
	return gq_entry_value(first, 0, GQ_KIND_PARTS);
}

/* How many of the messages from the first on go into one extent: they are of one length. *adjacent:
 * they fill their cells and follow each other in the caller's memory. */
GQ_ALWAYS_INLINE uint32_t alike(const struct gq_box *b, const EnqueueItem *items, uint32_t n,
				bool *adjacent)
{
	const size_t len = items[0].len;
	const uint8_t *next = items[0].data;
	uint32_t k = 1;

	*adjacent = true;
	if (len >> GQ_RUN_LENGTH_BITS != 0)
		return 1;
	if (len == b->stride)
		while (k < n && items[k].len == len && items[k].data == (next += len))
			k++;
	if (k < n && items[k].len == len) {
		*adjacent = false;
		while (k < n && items[k].len == len)
			k++;
	}
	return k;
}

/*
 * Copy messages of one length into neighbouring cells. Those that fill their cells and follow each
 * other in the caller's memory are copied in one go. A batch that is an array usually is so, and
 * then a store that waits for its line to come from another core waits together with many others.
 */
GQ_ALWAYS_INLINE void copy_in(const struct gq_box *b, const EnqueueItem *items, uint32_t slot,
			      uint32_t n, bool adjacent)
{
	const size_t len = items[0].len;

	if (adjacent)
		gq_copy(gq_cell_at(b, slot), items[0].data, n * len);
	else
		for (uint32_t i = 0; i < n; i++)
			gq_copy(gq_cell_at(b, slot + i), items[i].data, len);
}

/* Fill the popped cells with messages of one cell each, and make their extents. *bytes: of all of
 * them. @return how many extents. */
GQ_ALWAYS_INLINE uint32_t fill_cells(const struct gq_box *b, const EnqueueItem *items, bool row,
				     const struct popped *p, uint64_t number, uint64_t *values,
				     uint64_t *bytes)
{
	uint32_t extents = 0;

	*bytes = 0;
	for (uint32_t run = 0; run < p->count; run++) {
		uint32_t slot = p->run[run].slot, left = p->run[run].n, n;
		bool adjacent = false;

		for (; left != 0; slot += n, left -= n, items += n) {
			uint64_t *numbers = &b->number[slot];

			n = row ? left : alike(b, items, left, &adjacent);
#pragma GCC unroll 4
			for (uint32_t i = 0; i < n; i++)
				gq_store_relaxed_u64(&numbers[i], ++number);
			copy_in(b, items, slot, n, row || adjacent);
			/* Of as many cells as there are items.
			 * NOLINTNEXTLINE(clang-analyzer-core.*) */
			values[extents++] = gq_run_value(slot, n, items[0].len);
			*bytes += n * items[0].len;
		}
	}
	return extents;
}

/* Fill the popped cells: with messages, with one of several parts, or with a descriptor. *bytes: of
 * all of them. @return how many extents. */
GQ_ALWAYS_INLINE uint32_t fill(const struct gq_box *b, const struct gq_sending *s,
			       const EnqueueItem *items, uint32_t parts, const struct popped *p,
			       uint64_t number, uint64_t *values, uint64_t *bytes)
{
	*bytes = items[0].len;
	if (__builtin_expect(s->descriptor != NULL, 0)) {
		gq_store_relaxed_u64(&b->number[p->run[0].slot], number + 1);
		gq_store_descriptor(b, p->run[0].slot, s->descriptor);
		values[0] =
			gq_entry_value(p->run[0].slot, sizeof(*s->descriptor), GQ_KIND_DESCRIPTOR);
		return 1;
	}
	if (parts > 1) {
		values[0] = fill_parts(b, items, p, number);
		return 1;
	}
	return fill_cells(b, items, s->row, p, number, values, bytes);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* The answer of a sender that a close has kept from sending all: outside of its operation. */
static __attribute__((noinline)) QueueStatus refuse_closed(RingQueue *r, uint32_t done,
							   uint32_t *accepted)
{
	if (!is_closed(r))
		return gq_ring_damaged(); /* barred, and no thread has closed the ring */
	/* The closer may have died in the middle, so settle for it. In single mode receivers wait
	 * until no thread is inside a send. */
	if (!gq__ring_settle(r) && r->single)
		gq__flag_wake_shared(&r->head->signals.data_armed);
	if (done == 0)
		return gq__fail(Q_ERR_SHUTDOWN, "the ring is closed");
	gq__flag_wake_shared(&r->head->signals.data_armed); /* [wake.look] */
	*accepted = done;
	return Q_OK;
}

GQ_ALWAYS_INLINE void count_sent(struct gq_ring_peer *peer, const struct gq_sending *s, uint32_t n,
				 uint64_t bytes)
{
	gq_ring_tally(&peer->bytes_sent, bytes);
	if (s->descriptor != NULL)
		gq_ring_tally(&peer->descriptors, n);
}

/* Of messages of which only the first `n` are sent. */
static __attribute__((noinline)) uint64_t bytes_in(const EnqueueItem *items, uint32_t n)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		/* As many as there are items. NOLINTNEXTLINE(clang-analyzer-core.*) */
		bytes += items[i].len;
	return bytes;
}

/*
 * Many senders: end an operation that has not published all of its messages, and give back the
 * cells of the others. `status` says why; Q_OK: others overtook it after the first `done` cells.
 */
static __attribute__((noinline)) QueueStatus
give_up_many(RingQueue *r, struct gq_box *b, struct gq_ring_local *local, QueueStatus status,
	     const struct popped *p, uint32_t done, uint32_t *accepted)
{
	const bool messages = b == &r->messages;
	struct gq_ring_peer *peer = local->peer;
	struct gq_run back[GQ_MAX_PARTS];
	uint32_t count = 0, run = 0, in_run = 0;

	for (uint32_t i = 0; i < p->n; i++) {
		const uint32_t slot = slot_at(p, &run, &in_run);

		if (i < done)
			continue;
		add_run(back, &count, (struct gq_run){ .slot = slot, .n = 1 });
		/* The cell has left the pool, so its number must change, to one that it has never
		 * had (sequences are below 2^63): see repair.c. */
		gq_store_relaxed_u64(&b->number[slot], UINT64_C(1) << 63 | (p->pos + i));
	}
	if (count != 0)
		give_back_many(b, gq_ring_hints_of(r, b, local), back, count);
	if (status == Q_ERR_FULL && messages)
		gq_ring_tally(&peer->full, 1);
	op_end(peer);
	if (status == Q_ERR_SHUTDOWN)
		return refuse_closed(r, done, accepted);
	if (p->n != 0 && messages)
		wake_many(&r->head->signals.room_armed);
	if (status == Q_OK) {
		if (messages)
			wake_many(&r->head->signals.data_armed);
		*accepted = done;
	}
	return status; /* of FULL, the caller says so unless it tries again */
}

/* Publish the extents of `n` messages. *done says how many messages are there. @return as
 * put_many()
 */
GQ_ALWAYS_INLINE bool publish_many(const struct gq_box *b, struct gq_box_hints *hints,
				   uint32_t class, const uint64_t *values, uint32_t extents,
				   uint32_t n, uint64_t bar, uint32_t *done, bool *barred)
{
	uint32_t put;
	/* [message.publish]: cell, number, chain */
	const bool sound = put_many(b, &b->ready[class], &hints->ready[class], values, extents, bar,
				    &put, barred);

	*done = n;
	if (__builtin_expect(put < extents, 0))
		for (*done = 0; put > 0; put--)
			*done += gq_extent_count(values[put - 1]);
	return sound;
}

/* See gq__ring_send_many(). */
GQ_ALWAYS_INLINE QueueStatus send_many(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
				       const EnqueueItem *items, uint32_t n, uint32_t parts,
				       uint32_t *accepted)
{
	const bool messages = b == &r->messages;
	uint64_t values[GQ_CHUNK], bytes;
	struct gq_ring_local *local;
	struct gq_ring_peer *peer;
	struct popped p;
	uint32_t extents, done;
	bool barred;
	QueueStatus status = begin_many(r, b->send_op, &local);

	if (status != Q_OK)
		return status;
	peer = local->peer;
	/* [intake.look]: only for speed. A close that we do not see bars what we would publish. */
	if (messages && is_closed(r)) {
		op_end(peer);
		return refuse_closed(r, 0, accepted);
	}
	if (messages)
		gq_slip_send(b, local);
	if (!pop_many(b, &p, parts, parts > 1 ? parts : n)) {
		op_end(peer);
		return gq_ring_damaged();
	}
	if (__builtin_expect(p.n == 0, 0))
		return end_without_room(messages, peer);
	n = parts > 1 ? 1 : p.n < n ? p.n : n; /* so that of one, n stays the constant 1 */
	extents = fill(b, s, items, parts, &p, take_numbers_many(b, p.pos, n), values, &bytes);
	GQ_WINDOW();
	if (!publish_many(b, gq_ring_hints_of(r, b, local), s->class, values, extents, n,
			  messages ? GQ_CLOSED : 0, &done, &barred)) {
		op_end(peer);
		return gq_ring_damaged();
	}
	GQ_WINDOW();
	if (messages)
		count_sent(peer, s, done,
			   __builtin_expect(done < n, 0) ? bytes_in(items, done) : bytes);
	if (__builtin_expect(done < n, 0))
		return give_up_many(r, b, local,
				    barred      ? Q_ERR_SHUTDOWN
				    : done == 0 ? Q_ERR_FULL
						: Q_OK,
				    &p, done, accepted);
	op_end(peer);
	if (messages)
		wake_many(&r->head->signals.data_armed);
	*accepted = n;
	return Q_OK;
}

/* See gq__ring_send_single(). */
GQ_ALWAYS_INLINE QueueStatus send_single(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
					 const EnqueueItem *items, uint32_t n, uint32_t parts,
					 uint32_t *accepted)
{
	const bool messages = b == &r->messages;
	uint64_t values[GQ_CHUNK], bytes;
	struct gq_ring_local *local;
	struct gq_ring_peer *peer;
	struct popped p;
	uint32_t extents;
	QueueStatus status = begin_single(r, b->send_role, b->send_op, &local);

	if (status != Q_OK)
		return status;
	peer = local->peer;
	/* [intake.look]: we have said that we are inside, so a close that we do not see here sees
	 * us. */
	if (messages && is_closed(r)) {
		op_end(peer);
		return refuse_closed(r, 0, accepted);
	}
	pop_single(b, local, gq_ring_hints_of(r, b, local), &p, parts, parts > 1 ? parts : n);
	if (p.n == 0)
		return end_without_room(messages, peer);
	n = parts > 1 ? 1 : p.n < n ? p.n : n; /* so that of one, n stays the constant 1 */
	extents = fill(b, s, items, parts, &p, take_numbers_single(b, n), values, &bytes);
	GQ_WINDOW();
	/* [message.publish]: cell, number, chain */
	put_single(&b->ready[s->class], values, extents);
	GQ_WINDOW();
	if (messages)
		count_sent(peer, s, n, bytes);
	op_end(peer);
	if (messages)
		wake_single(r, peer, &r->head->signals.data_armed);
	*accepted = n;
	return Q_OK;
}

/* Many senders: the one message has not been published. */
QueueStatus gq__ring_give_up_one(RingQueue *r, struct gq_box *b, struct gq_ring_local *local,
				 bool barred, uint64_t pos, uint32_t slot)
{
	const struct popped p = { .pos = pos, .n = 1, .count = 1, .run = { { slot, 1 } } };
	uint32_t accepted;

	return give_up_many(r, b, local, barred ? Q_ERR_SHUTDOWN : Q_ERR_FULL, &p, 0, &accepted);
}

/* ---- each for every call --------------------------------------------------------------------- */

QueueStatus gq__ring_send_many(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
			       const EnqueueItem *items, uint32_t n, uint32_t parts,
			       uint32_t *accepted)
{
	return send_many(r, b, s, items, n, parts, accepted);
}

QueueStatus gq__ring_send_single(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
				 const EnqueueItem *items, uint32_t n, uint32_t parts,
				 uint32_t *accepted)
{
	return send_single(r, b, s, items, n, parts, accepted);
}
