/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receive.c - messages out of a ring: the front is looked at, claimed, copied out, and its cells go
 * back to the pool; in single mode the head that moves past it frees them. Completions go the same
 * way, through a box of their own.
 */
#include "host/ring/front.h"
#include "host/ring/slip.h"

/* Messages of one extent, which a receive has claimed or is about to. */
struct part {
	uint64_t word;
	struct gq_run run;
	size_t at;      /* where in the buffer they go */
	uint64_t start; /* position of the extent */
	bool whole;     /* its last cell is taken */
};

struct claim {
	uint32_t n;     /* messages */
	uint32_t count; /* parts */
	bool all;       /* behind them nothing was published when they were chosen */
	struct part part[GQ_CHUNK];
};

/* ---- choosing -------------------------------------------------------------------------------- */

/* What a message takes in the buffer, so that the next one is aligned. */
GQ_ALWAYS_INLINE size_t padded(size_t len)
{
	return (len + 7) & ~(size_t)7;
}

/* How many messages of this length fit into the buffer from `used` on, of at most `n`. */
GQ_ALWAYS_INLINE uint32_t how_many_fit(const struct gq_receiving *q, size_t used, uint64_t len,
				       uint32_t n)
{
	uint32_t fit = 0;

	if (__builtin_expect(used <= q->cap && q->cap - used >= (n - 1) * padded(len) + len, 1))
		return n;
	for (; fit < n && used <= q->cap && q->cap - used >= len; used += padded(len))
		fit++;
	return fit;
}

/*
 * Choose which messages from the front on are taken, at most `max`, and where in the buffer each
 * goes. If it is less than there are, q->front may say why. @return the head behind them; without
 * any the front's.
 */
GQ_ALWAYS_INLINE uint64_t choose(RingQueue *r, const struct gq_box *b, const struct front *f,
				 struct gq_receiving *q, struct claim *c, uint32_t max)
{
	const struct gq_word_ring *ready = &b->ready[f->class];
	uint64_t head = f->head, word = f->word;
	size_t used = q->used;

	c->n = c->count = 0;
	c->all = false;
	while (c->n < max) {
		const uint64_t before = head;
		struct part *p = &c->part[c->count];

		if (c->n != 0) {
			/* [message.claim] */
			word = gq_load_acquire_u64(gq_head_entry(ready, head));
			if (!gq_head_is_at(ready, word, head)) {
				c->all = true;
				break;
			}
			if (gq_is_in_parts(b, word) || gq_is_in_parts(b, f->word))
				break; /* goes alone: its cells are many */
		}
		*p = (struct part){ .word = word, .at = used, .start = gq_head_start(head) };
		p->run = gq_head_take(b, word, &head, max - c->n);
		p->whole = gq_head_start(head) != p->start;
		if (__builtin_expect(gq_is_descriptor(b, word), 0)) {
			if (!q->descriptors) {
				q->front = q->discard ? Q_ERR_UNSUPPORTED : Q_ERR_POLICY;
				return before;
			}
		} else if (!q->discard) {
			const uint64_t len = bytes_of(r, b, word);
			const uint32_t fit = how_many_fit(q, used, len, p->run.n);

			if (__builtin_expect(fit < p->run.n, 0)) {
				q->front = Q_ERR_BUFFER_TOO_SMALL;
				q->needed = len;
				if (fit == 0)
					return before;
				head = before;
				p->run = gq_head_take(b, word, &head, fit);
				p->whole = false;
				c->n += fit;
				c->count++;
				return head;
			}
			used += fit * padded(len);
		}
		c->n += p->run.n;
		c->count++;
	}
	return head;
}

/* Copy the messages of one part out. Of those that fill their cells, all in one go. */
GQ_ALWAYS_INLINE void copy_cells_out(const struct gq_box *b, const struct part *p, uint8_t *to,
				     bool touch)
{
	const uint32_t len = gq_length_of(b, p->word);
	const size_t each = padded(len);

	if (p->run.n > 1 && len == b->stride) {
		memcpy(to, gq_cell_at(b, p->run.slot), p->run.n * b->stride);
		if (touch)
			gq_touch(gq_cell_at(b, p->run.slot), p->run.n * b->stride);
		return;
	}
	for (uint32_t i = 0; i < p->run.n; i++) {
		gq_copy(to + i * each, gq_cell_at(b, p->run.slot + i), len);
		if (touch)
			gq_touch(gq_cell_at(b, p->run.slot + i), len);
	}
}

/* Copy a claimed message of several parts out, into its room. @return its length. */
static uint32_t copy_parts_out(const RingQueue *r, const struct gq_box *b, uint64_t word,
			       uint8_t *to, size_t room)
{
	uint64_t done = 0;

	for (struct gq_chain c = gq_chain_of(r, b, word); gq_chain_next(b, &c);) {
		const uint64_t len = c.len > room - done ? room - done : c.len;

		if (len != 0)
			memcpy(to + done, gq_cell_at(b, c.slot), len);
		done += len;
	}
	return (uint32_t)done;
}

/* Say what claimed messages of one part are. @param d  the descriptor; NULL: they have none */
GQ_ALWAYS_INLINE void tell(const struct gq_box *b, uint32_t class, const struct part *p,
			   uint32_t len, const MessageDescriptor *d, RingMessage *m)
{
	/* The messages of an extent were sent by one call, and have neighbouring numbers. */
	const uint64_t first = gq_load_relaxed_u64(&b->number[p->run.slot]) - 1;

	for (uint32_t i = 0; i < p->run.n; i++) {
		m[i] = (RingMessage){ .kind = Q_MESSAGE_INLINE,
				      .length = len,
				      .priority = (QueuePriority)(class + Q_PRIORITY_LOW),
				      .offset = p->at + i * padded(len),
				      .sequence = first + i };
	}
	if (__builtin_expect(d != NULL, 0)) {
		m->kind = Q_MESSAGE_DESCRIPTOR;
		m->descriptor = *d;
		m->offset = 0;
	}
}

/* Write the words of claimed messages back as they are: see gq_touch(). */
GQ_ALWAYS_INLINE void touch_words(const struct gq_box *b, const struct gq_word_ring *ready,
				  const struct part *p, bool number, bool single)
{
	uint64_t *first = &b->number[p->run.slot];

	/* In single mode the sender reads them again, and they stay with it. */
	if (p->whole && !single)
		gq_extent_touch(ready, p->start, gq_extent_count(p->word));
	if (number)
		gq_store_relaxed_u64(first, gq_load_relaxed_u64(first));
}

/* Copy claimed messages out, or drop them, and say what they are. @return their bytes. */
GQ_ALWAYS_INLINE uint64_t take_out(RingQueue *r, const struct gq_box *b, uint32_t class,
				   const struct claim *c, struct gq_receiving *q, bool touch)
{
	RingMessage *out = q->out != NULL ? q->out + q->count : NULL;
	uint64_t bytes = 0;
	uint32_t len;

	for (uint32_t i = 0; i < c->count; i++) {
		const struct part *p = &c->part[i];
		const bool described = gq_is_descriptor(b, p->word);
		MessageDescriptor d;

		if (__builtin_expect(described, 0)) {
			gq_load_descriptor(b, p->run.slot, &d);
			if (q->discard) {
				q->discarded = d;
				q->drops = true;
			}
			len = d.length;
		} else if (q->discard) {
			len = (uint32_t)bytes_of(r, b, p->word);
		} else {
			if (gq_is_in_parts(b, p->word)) { /* goes alone */
				len = copy_parts_out(r, b, p->word, q->buf + p->at, q->cap - p->at);
			} else {
				len = gq_length_of(b, p->word);
				copy_cells_out(b, p, q->buf + p->at, touch);
			}
			q->used = p->at + p->run.n * padded(len);
		}
		if (touch)
			touch_words(b, &b->ready[class], p, out != NULL, r->single);
		if (out != NULL) {
			tell(b, class, p, len, described ? &d : NULL, out);
			out += p->run.n;
		}
		q->needed = len;
		bytes += (uint64_t)len * p->run.n;
	}
	return bytes;
}

/* The cells of claimed messages, by runs. @return how many runs; *cells of how many cells. */
GQ_ALWAYS_INLINE uint32_t runs_of(const RingQueue *r, const struct gq_box *b, const struct claim *c,
				  struct gq_run *runs, uint32_t *cells)
{
	uint32_t count = 0;

	*cells = 0;
	if (__builtin_expect(gq_is_in_parts(b, c->part[0].word), 0)) { /* goes alone */
		for (struct gq_chain chain = gq_chain_of(r, b, c->part[0].word);
		     gq_chain_next(b, &chain); ++*cells)
			add_run(runs, &count, (struct gq_run){ .slot = chain.slot, .n = 1 });
		return count;
	}
	for (uint32_t i = 0; i < c->count; i++)
		add_run(runs, &count, c->part[i].run);
	*cells = c->n;
	return count;
}

/* ---- receiving ------------------------------------------------------------------------------- */

GQ_ALWAYS_INLINE struct gq_ageing *ageing_of(const RingQueue *r, const struct gq_box *b,
					     const struct gq_ring_local *local)
{
	return b == &r->messages && r->ageing != NULL ? &r->ageing[local->role - 1].ageing : NULL;
}

/* End an operation that has found no front. */
GQ_ALWAYS_INLINE QueueStatus end_without_front(RingQueue *r, const struct gq_box *b,
					       struct gq_ring_local *local, enum look found,
					       struct gq_receiving *q)
{
	if (found == NOTHING) {
		gq_ring_pace_of(r, b, local)->streak = 0;
		if (b == &r->messages)
			gq_ring_tally(&local->peer->empty, 1);
	}
	op_end(local->peer);
	if (found == DAMAGED)
		return gq_ring_damaged();
	q->front = found == NOTHING ? Q_OK : Q_ERR_EMPTY;
	q->needed = 0; /* of a message that somebody else has taken meanwhile */
	return Q_ERR_EMPTY;
}

/* Choose at most as many messages as ageing allows. Of none, the front stays. @return the head
 * behind them. */
GQ_ALWAYS_INLINE uint64_t choose_aged(RingQueue *r, const struct gq_box *b,
				      const struct gq_ageing *ageing, const struct front *f,
				      struct gq_receiving *q, struct claim *c)
{
	uint32_t max = q->max;
	uint64_t head;

	if (ageing != NULL && max > until_passed_over(r, ageing, f->class))
		max = until_passed_over(r, ageing, f->class);
	q->front = Q_OK;
	head = choose(r, b, f, q, c, max);
	if (c->n == 0 && q->out != NULL)
		describe(r, b, f, &q->out[q->count]);
	return head;
}

GQ_ALWAYS_INLINE void count_received(struct gq_ring_peer *peer, const struct gq_receiving *q,
				     uint32_t n, uint64_t bytes)
{
	gq_ring_tally(&peer->bytes_received, bytes);
	if (q->discard)
		gq_ring_tally(&peer->discarded, n);
}

/* Find the front, choose, and claim. @return FOUND: c->n messages are claimed; if that is 0, the
 * front stays. */
GQ_ALWAYS_INLINE enum look claim_many(RingQueue *r, const struct gq_box *b,
				      struct gq_ring_local *local, const struct gq_ageing *ageing,
				      struct front *f, struct gq_receiving *q, struct claim *c)
{
	for (uint32_t tries = 0; tries < GQ_TRIES; tries++) {
		enum look found = look(r, b, local, ageing, f, &tries);
		uint64_t head;

		if (found != FOUND)
			return found;
		head = choose_aged(r, b, ageing, f, q, c);
		if (c->n == 0) {
			/* What was read is the front's only if the front is still there. */
			if (gq_load_acquire_u64(b->ready[f->class].head) == f->head)
				return FOUND;
			continue;
		}
		GQ_WINDOW();
		/* Relaxed: the swap only excludes; what we read came with [message.claim]. */
		if (gq_cas_relaxed_device_u64(b->ready[f->class].head, f->head, head))
			return FOUND;
	}
	return OVERTAKEN;
}

/* See gq__ring_receive_many(). */
GQ_ALWAYS_INLINE QueueStatus receive_many(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	const bool messages = b == &r->messages;
	bool waited = q->waited;
	struct gq_run runs[GQ_MAX_PARTS];
	uint32_t count, cells;
	uint64_t bytes;
	struct gq_ring_peer *peer;
	struct gq_ring_local *local;
	struct gq_ring_pace *pace;
	struct gq_ageing *ageing;
	struct front f = { 0 }; /* which FOUND sets; not every compiler sees it */
	struct claim c;
	enum look found;
	QueueStatus status = begin_many(r, b->receive_op, &local);

	q->front = Q_OK;
	if (status != Q_OK)
		return status;
	peer = local->peer;
	ageing = ageing_of(r, b, local);
	pace = gq_ring_pace_of(r, b, local);
	guess(b, pace);
	do
		found = claim_many(r, b, local, ageing, &f, q, &c);
	while (found == NOTHING && messages && q->count == 0 && gq_slip_receive(pace, &waited));
	if (found != FOUND)
		return end_without_front(r, b, local, found, q);
	if (c.n == 0) {
		op_end(peer);
		return q->front;
	}
	if (ageing != NULL)
		count_passed(b, ageing, f.class, c.n);
	bytes = take_out(r, b, f.class, &c, q, touches(b, pace));
	count = runs_of(r, b, &c, runs, &cells);
	GQ_WINDOW();
	if (!give_back_many(b, gq_ring_hints_of(r, b, local), runs, count)) {
		op_end(peer);
		return gq_ring_damaged();
	}
	if (messages)
		count_received(peer, q, c.n, bytes);
	op_end(peer);
	q->count += c.n;
	/* With ageing a class above may have been left for this one. */
	q->all = c.all && ageing == NULL && nothing_below(b, local, f.class);
	pace->streak += c.n;
	/* At least one cell was taken. NOLINTNEXTLINE(clang-analyzer-core.*) */
	pace->next_slot = runs[count - 1].slot + runs[count - 1].n;
	if (messages)
		wake_many(&r->head->signals.room_armed);
	return Q_OK;
}

/* See gq__ring_receive_single(). */
GQ_ALWAYS_INLINE QueueStatus receive_single(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	const bool messages = b == &r->messages;
	const struct part *last;
	bool waited = q->waited;
	uint32_t tries = 0;
	uint64_t bytes, head;
	struct gq_ring_peer *peer;
	struct gq_ring_local *local;
	struct gq_ring_pace *pace;
	struct gq_ageing *ageing;
	struct front f = { 0 }; /* which FOUND sets; not every compiler sees it */
	struct claim c;
	enum look found;
	QueueStatus status = begin_single(r, b->receive_role, b->receive_op, &local);

	q->front = Q_OK;
	if (status != Q_OK)
		return status;
	peer = local->peer;
	ageing = ageing_of(r, b, local);
	pace = gq_ring_pace_of(r, b, local);
	guess(b, pace);
	do
		found = look(r, b, local, ageing, &f, &tries);
	while (found == NOTHING && messages && q->count == 0 && gq_slip_receive(pace, &waited));
	if (found != FOUND)
		return end_without_front(r, b, local, found, q);
	head = choose_aged(r, b, ageing, &f, q, &c);
	if (c.n == 0) {
		op_end(peer);
		return q->front;
	}
	if (ageing != NULL)
		count_passed(b, ageing, f.class, c.n);
	bytes = take_out(r, b, f.class, &c, q, touches(b, pace));
	GQ_WINDOW();
	/* [cell.free] release: the cells are read. That is all that frees them: see reuse.h. */
	gq_store_release_u64(b->ready[f.class].head, head);
	if (messages)
		count_received(peer, q, c.n, bytes);
	op_end(peer);
	q->count += c.n;
	/* With ageing a class above may have been left for this one. */
	q->all = c.all && ageing == NULL && nothing_below(b, local, f.class);
	pace->streak += c.n;
	last = &c.part[c.count - 1];
	pace->next_slot = last->run.slot + last->run.n;
	if (messages)
		wake_single(r, peer, &r->head->signals.room_armed);
	return Q_OK;
}

/* ---- each for every call --------------------------------------------------------------------- */

QueueStatus gq__ring_receive_many(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	return receive_many(r, b, q);
}

QueueStatus gq__ring_receive_single(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	return receive_single(r, b, q);
}
