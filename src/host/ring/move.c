/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move.c - messages into a ring and out of it: the steps below the calls of calls.c.
 *
 * A send takes cells from the pool, fills them, and publishes them in the ring of their class; a
 * receive looks at the front, claims it, copies it out, and returns the cells: the pool, publish
 * and claim of device/protocol/protocol.h. Completions go the same way through a second box.
 *
 * Many threads on each side: every step is the protocol's compare-and-swap. One on each side
 * (Q_RING_SINGLE): the same words with plain loads and stores, since each has one writer; what
 * would be a fence in front of the look for sleepers is paid by the sleeper (see
 * gq__barrier()).
 *
 * Loops are bounded, whatever a peer writes into the shared words meanwhile: no call makes more
 * than about the ring's size and TRIES steps a message. Among correct peers a step is repeated only
 * because another thread has moved a position. So:
 *
 *  - where a step fails and no position has moved, the memory is damaged;
 *  - a thread that is overtaken TRIES times in a call gives up with the answer that says "try
 *    again": no room (of a batch: what has been accepted), or nothing there. It is never called
 *    damage for that, as nothing tells it from a ring on which others are fast. Nor does it happen
 *    on a correct one: a try is lost only if another thread's swap falls between two neighbouring
 *    instructions of ours. A thread that is held up there for however long, while others go round
 *    the ring, loses one try: it finds itself lapped, and goes on from the tail. If 99 of 100 tries
 *    were lost, TRIES in a row would be one chance in 10^286;
 *  - a putter goes past entries that others have published, so it may take a lap more than that. A
 *    ring holds fewer than its size while the putter has a cell in its hands, so a position that
 * far from the head is not one that correct peers have come to: that is damage.
 *
 * A cell that could not be given back for either reason is lost, until a repair finds it.
 */
#include "host/ring/move.h"

#include <string.h>

enum { TRIES = 1 << 16 };

#define INLINE static inline __attribute__((always_inline))

static QueueStatus damaged(void)
{
	return gq__fail(Q_ERR_FAILED, "the ring's memory is damaged");
}

/*
 * Copy a message. Up to a cache line in at most four pieces, which overlap: a call of memcpy()
 * would take longer than the copy.
 */
INLINE void copy(uint8_t *to, const uint8_t *from, size_t n)
{
	typedef struct {
		uint64_t half[2];
	} piece; /* moved as one */

	if (n > 64 || n < sizeof(piece)) {
		if (n != 0)
			memcpy(to, from, n);
		return;
	}
	piece first, last;

	memcpy(&first, from, sizeof(piece));
	memcpy(&last, from + n - sizeof(piece), sizeof(piece));
	if (n > 2 * sizeof(piece)) {
		piece second, third;

		memcpy(&second, from + sizeof(piece), sizeof(piece));
		memcpy(&third, from + n - 2 * sizeof(piece), sizeof(piece));
		memcpy(to + sizeof(piece), &second, sizeof(piece));
		memcpy(to + n - 2 * sizeof(piece), &third, sizeof(piece));
	}
	memcpy(to, &first, sizeof(piece));
	memcpy(to + n - sizeof(piece), &last, sizeof(piece));
}

/* ---- operations ------------------------------------------------------------------------------ */

INLINE void op_begin(const RingQueue *r, struct gq_ring_peer *peer, enum gq_op op)
{
	uint64_t word = gq_load_relaxed_u64(&peer->op) & ~GQ_OP_MASK;

	gq_store_relaxed_u64(&peer->op, word + op);
	gq_ring_fence(r, peer);
}

INLINE void op_end(struct gq_ring_peer *peer)
{
	uint64_t word = gq_load_relaxed_u64(&peer->op) & ~GQ_OP_MASK;

	/* [operation.end] release: all that the operation wrote. */
	gq_store_release_u64(&peer->op, word + GQ_OP_NEXT);
}

INLINE QueueStatus begin(RingQueue *r, const bool single, uint64_t *role, enum gq_op op,
			 struct gq_ring_peer **out)
{
	struct gq_ring_peer *peer = gq_ring_peer_of(r);

	if (__builtin_expect(peer == NULL, 0))
		return Q_ERR_LIMIT;
	*out = peer;
	if (single) {
		uint64_t mine = gq_ring_peer_index(r, peer) + 1;

		if (__builtin_expect(gq_load_relaxed_u64(role) != mine, 0)) {
			QueueStatus status = gq__ring_take_role(r, role, peer, op);

			if (status != Q_OK)
				return status;
		}
	}
	op_begin(r, peer, op);
	return Q_OK;
}

/* Single mode: what this operation is about to publish, for who finishes it if we die. */
INLINE void plan(struct gq_ring_peer *peer, uint32_t class, uint64_t ready_pos, uint64_t pool_pos,
		 uint32_t entries, uint32_t slots)
{
	gq_store_relaxed_u64(&peer->plan_what, class | entries << 8 | (uint64_t)slots << 32);
	gq_store_relaxed_u64(&peer->plan_ready_pos, ready_pos);
	gq_store_relaxed_u64(&peer->plan_pool_pos, pool_pos);
	gq_store_release_u64(&peer->plan_op, gq_load_relaxed_u64(&peer->op));
}

/* Look for sleepers after having published, and wake them. */
INLINE void signal_after(RingQueue *r, struct gq_ring_peer *peer, const bool single,
			 uint32_t *armed)
{
	if (!single) {
		/* [wake.look]; what was published is a sequentially consistent swap. */
		if (__builtin_expect(gq_load_seq_cst_u32(armed) % 2 != 0, 0))
			gq__flag_wake_shared(armed);
		return;
	}
	gq_ring_fence(r, peer); /* [wake.look]: pairs with the sleeper's gq__barrier() */
	if (__builtin_expect(gq_load_relaxed_u32(armed) % 2 != 0, 0))
		gq__flag_wake_shared(armed);
}

/* ---- words of a class entry ------------------------------------------------------------------ */

INLINE uint64_t entry_value(uint64_t slot, uint64_t len, uint64_t kind)
{
	return slot << GQ_SLOT_SHIFT | kind << GQ_LENGTH_BITS | len;
}

/* As said by the entry, clamped: the entry may be a liar's. */
INLINE uint32_t length_of(const struct gq_box *b, uint64_t word)
{
	uint32_t len = (uint32_t)word & ((1u << GQ_LENGTH_BITS) - 1);

	return len > b->cell_bytes ? b->cell_bytes : len;
}

INLINE bool is_descriptor(const struct gq_box *b, uint64_t word)
{
	return b->described != NULL && gq_entry_kind(word) == GQ_KIND_DESCRIPTOR;
}

INLINE bool is_in_parts(const struct gq_box *b, uint64_t word)
{
	return b->chain != NULL && gq_entry_kind(word) == GQ_KIND_PARTS;
}

INLINE uint8_t *cell_at(const struct gq_box *b, uint32_t slot)
{
	return b->cells + slot * b->stride;
}

/* Descriptors lie in words of their own, not in cells: who peeks may read one while it changes. */
static void store_descriptor(const struct gq_box *b, uint32_t slot, const MessageDescriptor *d)
{
	uint64_t words[GQ_DESCRIPTOR_WORDS];

	memcpy(words, d, sizeof(words));
	for (uint32_t i = 0; i < GQ_DESCRIPTOR_WORDS; i++)
		gq_store_relaxed_u64(&b->described[slot * GQ_DESCRIPTOR_WORDS + i], words[i]);
}

static void load_descriptor(const struct gq_box *b, uint32_t slot, MessageDescriptor *d)
{
	uint64_t words[GQ_DESCRIPTOR_WORDS];

	/* Acquire: who peeks looks at the front again afterwards. */
	for (uint32_t i = 0; i < GQ_DESCRIPTOR_WORDS; i++)
		words[i] = gq_load_acquire_u64(&b->described[slot * GQ_DESCRIPTOR_WORDS + i]);
	memcpy(d, words, sizeof(words));
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Up to `max` free slots, at least `min` or none. @return false: damaged. */
INLINE bool pop(const struct gq_box *b, const bool single, uint64_t *pos, uint64_t *ids,
		uint32_t min, uint32_t max, uint32_t *n)
{
	bool closed;

	*n = 0;
	if (single) {
		*pos = gq_load_relaxed_u64(b->pool.head) >> 1;
		for (; *n < max; ++*n) {
			/* [pool.take] acquire: pairs with [pool.return]. */
			ids[*n] = gq_load_acquire_u64(gq_word_ring_entry(&b->pool, *pos + *n));
			if (!gq_word_ring_is_at(&b->pool, ids[*n], *pos + *n))
				break;
		}
		if (*n < min)
			*n = 0;
		return true;
	}
	for (int i = 0; i < TRIES; i++) {
		if (gq_pool_try_pop(&b->pool, pos, ids, min, max, n, &closed))
			return true;
		if (gq_load_acquire_u64(b->pool.head) >> 1 == *pos)
			return false; /* not overtaken: nonsense */
	}
	*n = 0; /* overtaken all the time */
	return true;
}

/* Whether no ring of cells, of which the caller has one, can have been filled up to `pos`. */
static __attribute__((noinline)) bool is_beyond(const struct gq_box *b,
						const struct gq_word_ring *ring, uint64_t pos)
{
	const uint64_t head = gq_load_acquire_u64(ring->head);
	/* The pool's head has one bit less. */
	const int64_t held = ring == &b->pool
				     ? (int64_t)((pos << 1) - (head & ~GQ_POOL_CLOSED)) >> 1
				     : gq_pos_diff(pos, head);

	return held >= (int64_t)gq_word_ring_size(ring);
}

/*
 * Many threads: put values, from the tail on. @return false: damaged. *done says how many are put;
 * fewer than `n`: the ring is barred (*barred), or overtaken all the time.
 */
INLINE bool put_all(const struct gq_box *b, const struct gq_word_ring *ring, const uint64_t *values,
		    uint32_t n, uint64_t bar, uint32_t *done, bool *barred)
{
	uint64_t pos = gq_load_acquire_u64(ring->tail); /* [tail.read] */
	uint64_t left = gq_word_ring_size(ring) + TRIES;

	*barred = false;
	for (*done = 0; *done < n; ++*done) {
		uint64_t best = pos;
		enum gq_put put;

		/* A swap that was lost is made good by going past the winner's. */
		for (uint32_t stuck = 0;; stuck++) {
			put = gq_word_ring_try_put_unless(ring, &pos, values[*done], bar);
			if (put == GQ_PUT_DONE)
				break;
			if (put == GQ_PUT_BARRED) {
				*barred = true;
				gq_word_ring_raise_tail(ring, pos);
				return true;
			}
			if (--left == 0) {
				gq_word_ring_raise_tail(ring, pos);
				return !is_beyond(b, ring, pos);
			}
			if (gq_pos_diff(pos, best) > 0) {
				best = pos;
				stuck = 0;
			} else if (stuck > 64) {
				return false;
			}
		}
	}
	gq_word_ring_raise_tail(ring, pos);
	return true;
}

/*
 * Single mode: put values at consecutive positions, the first one last. The other side looks at the
 * first only, so until it is there the line stays ours; then all of them are there.
 */
INLINE void put_backwards(const struct gq_word_ring *ring, uint64_t pos, const uint64_t *values,
			  uint32_t n)
{
	for (uint32_t i = n; i-- > 0;)
		gq_store_release_u64(gq_word_ring_entry(ring, pos + i),
				     gq_word_ring_tag(ring, pos + i) | values[i]);
}

/* Give slots back to the pool. @return false: damaged. */
INLINE bool give_back(const struct gq_box *b, const bool single, const uint64_t *slots, uint32_t n)
{
	const struct gq_word_ring *pool = &b->pool;
	bool barred;

	if (single) {
		uint64_t pos = gq_load_relaxed_u64(pool->tail);

		put_backwards(pool, pos, slots, n);        /* [pool.return] */
		gq_store_release_u64(pool->tail, pos + n); /* [tail.raise]: for who counts */
		return true;
	}
	return put_all(b, pool, slots, n, 0, &n, &barred); /* [pool.return] */
}

/* Publish entries of one class, in order. @return false: damaged. *done says how many, *barred why
 * not all: see put_all(). */
INLINE bool publish(const struct gq_box *b, const bool single, uint32_t class,
		    const uint64_t *values, uint32_t n, uint64_t bar, uint32_t *done, bool *barred)
{
	const struct gq_word_ring *ready = &b->ready[class];

	if (single) {
		uint64_t pos = gq_load_relaxed_u64(ready->tail);

		put_backwards(ready, pos, values, n); /* [message.publish]: cell, number, chain */
		gq_store_release_u64(ready->tail, pos + n); /* [tail.raise]: for who counts */
		*done = n;
		return true;
	}
	return put_all(b, ready, values, n, bar, done, barred); /* [message.publish] */
}

/* The number of the first of `n` messages whose slots were popped at `pos`. */
INLINE uint64_t take_numbers(const struct gq_box *b, const bool single, uint64_t pos, uint32_t n)
{
	uint64_t first;

	if (b->sequence == NULL) /* one slot a message: the pool counts. It has 63 bits. */
		return (pos - b->start_pos) & (UINT64_MAX >> 1);
	if (!single)
		return gq_fetch_add_relaxed_u64(b->sequence, n);
	first = gq_load_relaxed_u64(b->sequence);
	gq_store_relaxed_u64(b->sequence, first + n);
	return first;
}

/* Copy one message into the slots popped for it, and make its entry. */
INLINE uint64_t fill(const struct gq_box *b, const struct gq_sending *s, const EnqueueItem *item,
		     const uint64_t *ids, uint32_t parts, uint64_t number)
{
	const uint32_t first = gq_pool_slot(b, ids[0]);

	gq_store_relaxed_u64(&b->number[first], number + 1);
	if (s->descriptor != NULL) {
		store_descriptor(b, first, s->descriptor);
		return entry_value(first, sizeof(*s->descriptor), GQ_KIND_DESCRIPTOR);
	}
	if (parts == 1)
		return entry_value(first, item->len, 0); /* its bytes: copy_in() */
	for (uint32_t i = 0; i < parts; i++) {
		const uint64_t from = (uint64_t)i * b->cell_bytes;
		const uint64_t len =
			item->len - from < b->cell_bytes ? item->len - from : b->cell_bytes;
		const uint64_t link =
			i + 1 == parts ? GQ_PART_FINAL
				       : GQ_PART_CONTINUES | (uint64_t)gq_pool_slot(b, ids[i + 1])
								     << GQ_PART_SLOT_SHIFT;

		/* Every part's, for the repair: see repair.c. */
		gq_store_relaxed_u64(&b->number[gq_pool_slot(b, ids[i])], number + 1);
		memcpy(cell_at(b, gq_pool_slot(b, ids[i])), (const uint8_t *)item->data + from,
		       len);
		gq_store_relaxed_u64(&b->chain[gq_pool_slot(b, ids[i])], link | len);
	}
	return entry_value(first, 0, GQ_KIND_PARTS);
}

/*
 * Copy messages of one slot each into their cells: in one go, where one message that fills its cell
 * is followed by the next both in the caller's memory and in the ring. An array of messages sent in
 * a batch usually is, and a store that waits for its line to come from another core then does so
 * together with many others.
 */
INLINE void copy_in(const struct gq_box *b, const EnqueueItem *items, const uint64_t *ids,
		    uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t slot = gq_pool_slot(b, ids[i]), first = i;

		while (i + 1 < n && items[i].len == b->stride &&
		       gq_pool_slot(b, ids[i + 1]) == slot + (i + 1 - first) &&
		       items[i + 1].data == (const uint8_t *)items[i].data + b->stride)
			i++;
		copy(cell_at(b, slot), items[first].data, (i - first) * b->stride + items[i].len);
	}
}

/* What a sender says that a close has kept from sending all: outside of its operation. */
static __attribute__((noinline)) QueueStatus closed(RingQueue *r, bool single, uint32_t done,
						    uint32_t *accepted)
{
	if (gq_load_seq_cst_u64(&r->head->signals.state) == GQ_RING_OPEN)
		return damaged(); /* barred, and nobody has closed it */
	/* The closer may have died in the middle. In single mode receivers on a closed ring wait
	 * until nobody is inside a send. */
	if (!gq__ring_settle(r) && single)
		gq__flag_wake_shared(&r->head->signals.data_armed);
	if (done == 0)
		return gq__fail(Q_ERR_SHUTDOWN, "the ring is closed");
	gq__flag_wake_shared(&r->head->signals.data_armed); /* [wake.look] */
	*accepted = done;
	return Q_OK;
}

/* See gq__ring_send_many(). */
INLINE QueueStatus send_some(RingQueue *r, struct gq_box *b, const bool single,
			     const struct gq_sending *s, const EnqueueItem *items, uint32_t n,
			     uint32_t parts, uint32_t *accepted)
{
	uint64_t ids[GQ_MAX_PARTS], values[GQ_CHUNK], pos = 0, number, bytes = 0;
	struct gq_ring_peer *peer;
	const bool messages = b == &r->messages;
	uint32_t popped = 0, done = 0;
	bool barred = false;
	QueueStatus status = begin(r, single, b->send_role, b->send_op, &peer);

	if (status != Q_OK)
		return status;
	/* [intake.look]: having said that we are inside. Single mode: a close that we do not see
	 * here sees us. Else for the sake of speed: a close that we do not see bars what we would
	 * publish. */
	if (messages &&
	    __builtin_expect(gq_load_seq_cst_u64(&r->head->signals.state) != GQ_RING_OPEN, 0)) {
		status = Q_ERR_SHUTDOWN;
		goto give_up;
	}
	if (!pop(b, single, &pos, ids, parts, parts > 1 ? parts : n, &popped)) {
		op_end(peer);
		return damaged();
	}
	if (popped < parts || popped == 0) {
		status = Q_ERR_FULL;
		goto give_up;
	}
	if (parts > 1)
		n = 1;
	else if (popped < n)
		n = popped;
	if (parts == 1 && s->descriptor == NULL)
		copy_in(b, items, ids, n);
	number = take_numbers(b, single, pos, n);
	for (uint32_t i = 0; i < n; i++)
		values[i] = fill(b, s, &items[i], &ids[i], parts, number + i);
	GQ_WINDOW();
	if (single)
		plan(peer, s->class, gq_load_relaxed_u64(b->ready[s->class].tail), pos, n, popped);
	if (!publish(b, single, s->class, values, n, messages ? GQ_CLOSED : 0, &done, &barred)) {
		op_end(peer);
		return damaged();
	}
	if (single)
		gq_store_release_u64(b->pool.head, (pos + popped) << 1);
	GQ_WINDOW();
	if (messages) {
		for (uint32_t i = 0; i < n && i < done; i++)
			bytes += items[i].len;
		gq_ring_tally(&peer->bytes_sent, bytes);
		if (s->descriptor != NULL)
			gq_ring_tally(&peer->descriptors, done);
	}
	if (__builtin_expect(done < n, 0)) {
		/* Overtaken: as far as it came. */
		status = barred ? Q_ERR_SHUTDOWN : done == 0 ? Q_ERR_FULL : Q_OK;
		goto give_up;
	}
	op_end(peer);
	if (messages)
		signal_after(r, peer, single, &r->head->signals.data_armed);
	*accepted = n;
	return Q_OK;

give_up:
	if (!single && popped > done) {
		uint64_t back[GQ_MAX_PARTS];

		for (uint32_t i = done; i < popped; i++) {
			back[i - done] = gq_pool_slot(b, ids[i]);
			/* It has left the pool, so its number changes, to one that it has never had
			 * (sequences are below 2^63): see repair.c. */
			gq_store_relaxed_u64(&b->number[back[i - done]],
					     UINT64_C(1) << 63 | (pos + i));
		}
		give_back(b, single, back, popped - done);
	}
	if (status == Q_ERR_FULL && messages)
		gq_ring_tally(&peer->full, 1);
	op_end(peer);
	if (status == Q_ERR_SHUTDOWN)
		return closed(r, single, done, accepted);
	if (!single && popped != 0 && messages)
		signal_after(r, peer, single, &r->head->signals.room_armed);
	if (status == Q_OK) {
		if (messages)
			signal_after(r, peer, single, &r->head->signals.data_armed);
		*accepted = done;
	}
	return status; /* of FULL, who does not try again says so */
}

/* ---- what is at the front -------------------------------------------------------------------- */

struct front {
	uint32_t class;
	uint64_t pos;
	uint64_t word;
};

enum look { FOUND, NOTHING, DAMAGED, OVERTAKEN };

/* The front of one class. *tries counts those of the whole call. */
INLINE enum look look_at(const struct gq_box *b, uint32_t class, struct front *f, uint32_t *tries)
{
	const struct gq_word_ring *ready = &b->ready[class];

	for (;; ++*tries) {
		const uint64_t pos = gq_load_relaxed_u64(ready->head);
		/* [message.claim] acquire: cell, number, chain. Sequentially consistent, as it is
		 * also the sleeper's second look: [sleep.look]. */
		const uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(ready, pos));

		if (gq_word_ring_is_at(ready, word, pos - gq_word_ring_size(ready)))
			return NOTHING;
		if (gq_word_ring_is_at(ready, word, pos)) {
			*f = (struct front){ .class = class, .pos = pos, .word = word };
			return FOUND;
		}
		/* An entry is overwritten only after the head has gone past it. */
		if (gq_load_acquire_u64(ready->head) == pos)
			return DAMAGED;
		if (*tries >= TRIES)
			return OVERTAKEN;
	}
}

/* The next message to receive: the highest class's, unless one waits that has been passed over. */
INLINE enum look look(const RingQueue *r, const struct gq_box *b, const struct gq_ageing *ageing,
		      struct front *f, uint32_t *tries)
{
	enum look found;

	if (ageing != NULL) {
		for (uint32_t c = 0; c + 1 < b->classes; c++) {
			if (ageing->passed[c] < r->cfg.ageing_limit)
				continue;
			found = look_at(b, c, f, tries);
			if (found != NOTHING)
				return found;
		}
	}
	for (uint32_t c = b->classes; c-- > 0;) {
		found = look_at(b, c, f, tries);
		if (found != NOTHING)
			return found;
	}
	return NOTHING;
}

/* Count who was passed over by `n` messages of a class. */
static void count_passed(const struct gq_box *b, struct gq_ageing *ageing, uint32_t class,
			 uint32_t n)
{
	ageing->passed[class] = 0;
	for (uint32_t c = 0; c < class; c++)
		ageing->passed[c] = gq_word_ring_may_hold(&b->ready[c]) ? ageing->passed[c] + n : 0;
}

/* How many messages of this class may be taken before another class is owed one. */
static uint32_t until_passed_over(const RingQueue *r, const struct gq_ageing *ageing,
				  uint32_t class)
{
	uint32_t left = UINT32_MAX;

	for (uint32_t c = 0; c < class; c++) {
		uint32_t passed = ageing->passed[c];
		uint32_t mine = passed < r->cfg.ageing_limit ? r->cfg.ageing_limit - passed : 1;

		left = mine < left ? mine : left;
	}
	return left;
}

/* Bytes of the inline message of an entry. Of several parts: as long as the chain makes sense. */
INLINE uint64_t bytes_of(const RingQueue *r, const struct gq_box *b, uint64_t word)
{
	uint64_t sum = 0;
	uint32_t slot = gq_entry_slot(b, word);

	if (!is_in_parts(b, word))
		return length_of(b, word);
	for (uint32_t i = 0; i < r->max_parts; i++) {
		uint64_t link = gq_load_acquire_u64(&b->chain[slot]); /* then the entry again */
		uint32_t len = (uint32_t)link & ((1u << GQ_LENGTH_BITS) - 1);

		sum += len > b->cell_bytes ? b->cell_bytes : len;
		if ((link & GQ_PART_CONTINUES) == 0)
			break;
		slot = (uint32_t)(link >> GQ_PART_SLOT_SHIFT & b->pool.mask);
	}
	return sum;
}

/* What is to be known of a message besides its bytes. */
static void describe(const RingQueue *r, const struct gq_box *b, const struct front *f,
		     uint64_t word, RingMessage *m)
{
	const uint32_t slot = gq_entry_slot(b, word);

	*m = (RingMessage){ .kind = Q_MESSAGE_INLINE,
			    .priority = (QueuePriority)(f->class + Q_PRIORITY_LOW) };
	m->sequence = gq_load_acquire_u64(&b->number[slot]) - 1; /* then the entry again */
	if (is_descriptor(b, word)) {
		m->kind = Q_MESSAGE_DESCRIPTOR;
		load_descriptor(b, slot, &m->descriptor);
		m->length = m->descriptor.length;
	} else {
		m->length = (uint32_t)bytes_of(r, b, word);
	}
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Which of the messages from the front on are taken, and where in buf they go. */
INLINE uint32_t choose(RingQueue *r, const struct gq_box *b, const struct front *f,
		       struct gq_receiving *q, uint64_t *words, size_t *at, uint32_t max)
{
	const struct gq_word_ring *ready = &b->ready[f->class];
	uint32_t n = 0;
	size_t used = q->used;

	for (uint64_t word = f->word; n < max; n++) {
		if (n != 0) {
			/* [message.claim] */
			word = gq_load_acquire_u64(gq_word_ring_entry(ready, f->pos + n));
			if (!gq_word_ring_is_at(ready, word, f->pos + n))
				break;
			if (is_in_parts(b, word) || is_in_parts(b, words[0]))
				break; /* goes alone: its cells are many */
		}
		words[n] = word;
		at[n] = used;
		if (__builtin_expect(is_descriptor(b, word), 0)) {
			if (!q->descriptors) {
				q->front = q->discard ? Q_ERR_UNSUPPORTED : Q_ERR_POLICY;
				break;
			}
		} else if (!q->discard) {
			const uint64_t len = bytes_of(r, b, word);

			if (used > q->cap || q->cap - used < len) {
				q->front = Q_ERR_BUFFER_TOO_SMALL;
				q->needed = len;
				break;
			}
			used = (used + len + 7) & ~(size_t)7;
		}
	}
	return n;
}

/*
 * Copy claimed messages of one cell each out: as many of the first ones as lie one behind the
 * other, in the ring and where they go. @return how many.
 */
INLINE uint32_t copy_out(const struct gq_box *b, const uint64_t *words, uint32_t n, uint8_t *to)
{
	const uint32_t slot = gq_entry_slot(b, words[0]);
	uint32_t i = 0;

	while (i + 1 < n && length_of(b, words[i]) == b->stride &&
	       gq_entry_kind(words[i + 1]) == 0 && gq_entry_slot(b, words[i + 1]) == slot + (i + 1))
		i++;
	copy(to, cell_at(b, slot), i * b->stride + length_of(b, words[i]));
	return i + 1;
}

/* Copy a claimed message of several parts out, into its room. @return its length. */
static uint32_t copy_parts_out(const RingQueue *r, const struct gq_box *b, uint64_t word,
			       uint8_t *to, size_t room)
{
	uint32_t slot = gq_entry_slot(b, word);
	uint64_t done = 0;

	for (uint32_t i = 0; i < r->max_parts; i++) {
		uint64_t link = gq_load_relaxed_u64(&b->chain[slot]);
		uint64_t len = link & ((1u << GQ_LENGTH_BITS) - 1);

		len = len > b->cell_bytes ? b->cell_bytes : len;
		len = len > room - done ? room - done : len;
		if (len != 0)
			memcpy(to + done, cell_at(b, slot), len);
		done += len;
		if ((link & GQ_PART_CONTINUES) == 0)
			break;
		slot = (uint32_t)(link >> GQ_PART_SLOT_SHIFT & b->pool.mask);
	}
	return (uint32_t)done;
}

/* The slots of a message of several parts. @return how many. */
static uint32_t parts_of(const RingQueue *r, const struct gq_box *b, uint64_t word, uint64_t *slots)
{
	uint32_t slot = gq_entry_slot(b, word), n = 0;

	while (n < r->max_parts) {
		uint64_t link = gq_load_relaxed_u64(&b->chain[slot]);

		slots[n++] = slot;
		if ((link & GQ_PART_CONTINUES) == 0)
			break;
		slot = (uint32_t)(link >> GQ_PART_SLOT_SHIFT & b->pool.mask);
	}
	return n;
}

/* See gq__ring_receive_many(). */
INLINE QueueStatus receive_some(RingQueue *r, struct gq_box *b, const bool single,
				struct gq_receiving *q)
{
	const bool messages = b == &r->messages;
	uint64_t words[GQ_CHUNK], slots[GQ_MAX_PARTS], bytes = 0;
	uint32_t n, taken = 0, copied = 0;
	size_t at[GQ_CHUNK];
	struct gq_ring_peer *peer;
	struct gq_ageing *ageing = NULL;
	struct front f = { 0 }; /* which FOUND sets; not every compiler sees it */
	QueueStatus status = begin(r, single, b->receive_role, b->receive_op, &peer);

	q->front = Q_OK;
	if (status != Q_OK)
		return status;
	if (messages && r->ageing != NULL)
		ageing = &r->ageing[gq_ring_peer_index(r, peer)].ageing;
	for (uint32_t tries = 0;; tries++) {
		enum look found = look(r, b, ageing, &f, &tries);
		uint32_t max = q->max;

		if (found == NOTHING) {
			if (messages)
				gq_ring_tally(&peer->empty, 1);
			op_end(peer);
			return Q_ERR_EMPTY;
		}
		if (found == DAMAGED) {
			op_end(peer);
			return damaged();
		}
		if (found == OVERTAKEN || tries >= TRIES) {
			op_end(peer);
			q->front = Q_ERR_EMPTY;
			return Q_ERR_EMPTY;
		}
		if (ageing != NULL && max > until_passed_over(r, ageing, f.class))
			max = until_passed_over(r, ageing, f.class);
		q->front = Q_OK;
		n = choose(r, b, &f, q, words, at, max);
		if (n == 0) {
			if (q->out != NULL)
				describe(r, b, &f, f.word, &q->out[q->count]);
			/* What was read is the front's only if it still is. */
			if (!single && gq_load_acquire_u64(b->ready[f.class].head) != f.pos)
				continue;
			op_end(peer);
			return q->front;
		}
		if (single)
			break;
		GQ_WINDOW();
		/* Relaxed: exclusion is all it is for; what we read came with [message.claim]. */
		if (gq_cas_relaxed_device_u64(b->ready[f.class].head, f.pos, f.pos + n))
			break;
	}
	if (ageing != NULL)
		count_passed(b, ageing, f.class, n);
	for (uint32_t i = 0; i < n; i++) {
		const bool described = is_descriptor(b, words[i]);
		RingMessage *m = q->out != NULL ? &q->out[q->count + i] : NULL;
		MessageDescriptor d;
		uint32_t len;

		if (__builtin_expect(described, 0)) {
			load_descriptor(b, gq_entry_slot(b, words[i]), &d);
			if (q->discard)
				gq__region_drop(r->regions, &d);
			len = d.length;
		} else if (q->discard) {
			len = (uint32_t)bytes_of(r, b, words[i]);
		} else {
			if (is_in_parts(b, words[i])) { /* n is 1 */
				len = copy_parts_out(r, b, words[i], q->buf + at[i],
						     q->cap - at[i]);
			} else {
				if (i >= copied)
					copied = i + copy_out(b, &words[i], n - i, q->buf + at[i]);
				len = length_of(b, words[i]);
			}
			q->used = (at[i] + len + 7) & ~(size_t)7;
		}
		if (m != NULL) {
			*m = (RingMessage){ .kind = Q_MESSAGE_INLINE,
					    .length = len,
					    .priority = (QueuePriority)(f.class + Q_PRIORITY_LOW),
					    .offset = at[i] };
			m->sequence =
				gq_load_relaxed_u64(&b->number[gq_entry_slot(b, words[i])]) - 1;
			if (described) {
				m->kind = Q_MESSAGE_DESCRIPTOR;
				m->descriptor = d;
				m->offset = 0;
			}
		}
		q->needed = len;
		bytes += len;
		if (__builtin_expect(is_in_parts(b, words[i]), 0))
			taken = parts_of(r, b, words[i], slots); /* n is 1 */
		else
			slots[taken++] = gq_entry_slot(b, words[i]);
	}
	GQ_WINDOW();
	if (single)
		plan(peer, f.class, f.pos, gq_load_relaxed_u64(b->pool.tail), n, taken);
	if (!give_back(b, single, slots, taken)) {
		op_end(peer);
		return damaged();
	}
	/* [tail.raise]: for who counts */
	if (single)
		gq_store_release_u64(b->ready[f.class].head, f.pos + n);
	if (messages) {
		gq_ring_tally(&peer->bytes_received, bytes);
		if (q->discard)
			gq_ring_tally(&peer->discarded, n);
	}
	op_end(peer);
	q->count += n;
	if (messages)
		signal_after(r, peer, single, &r->head->signals.room_armed);
	return Q_OK;
}

/* ---- closing --------------------------------------------------------------------------------- */

bool gq__ring_bar(const struct gq_box *b)
{
	/* Who is inside a send of a closed ring publishes what it has begun with, at most. */
	const uint64_t tries = gq_word_ring_size(&b->pool) + (uint64_t)2 * GQ_RING_PEERS * GQ_CHUNK;

	for (uint32_t c = 0; c < b->classes; c++) {
		const struct gq_word_ring *ready = &b->ready[c];
		uint64_t pos = gq_load_acquire_u64(ready->tail), i = 0; /* [tail.read] */

		while (!gq_word_ring_try_bar(ready, &pos, GQ_CLOSED))
			if (++i > tries)
				return false;
	}
	return true;
}

/* ---- each compiled for its mode, and for the case that most calls are ------------------------ */

QueueStatus gq__ring_send_many(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
			       const EnqueueItem *items, uint32_t n, uint32_t parts,
			       uint32_t *accepted)
{
	return send_some(r, b, false, s, items, n, parts, accepted);
}

QueueStatus gq__ring_send_single(RingQueue *r, struct gq_box *b, const struct gq_sending *s,
				 const EnqueueItem *items, uint32_t n, uint32_t parts,
				 uint32_t *accepted)
{
	return send_some(r, b, true, s, items, n, parts, accepted);
}

QueueStatus gq__ring_send_one_many(RingQueue *r, const void *data, size_t len, uint32_t class)
{
	const struct gq_sending s = { .class = class };
	const EnqueueItem item = { .data = data, .len = len };
	uint32_t accepted;

	return send_some(r, &r->messages, false, &s, &item, 1, 1, &accepted);
}

QueueStatus gq__ring_send_one_single(RingQueue *r, const void *data, size_t len, uint32_t class)
{
	const struct gq_sending s = { .class = class };
	const EnqueueItem item = { .data = data, .len = len };
	uint32_t accepted;

	return send_some(r, &r->messages, true, &s, &item, 1, 1, &accepted);
}

QueueStatus gq__ring_receive_many(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	return receive_some(r, b, false, q);
}

QueueStatus gq__ring_receive_single(RingQueue *r, struct gq_box *b, struct gq_receiving *q)
{
	return receive_some(r, b, true, q);
}

QueueStatus gq__ring_receive_one_many(RingQueue *r, void *buf, size_t *len, QueueStatus *front)
{
	struct gq_receiving q = { .buf = buf, .cap = *len, .max = 1 };
	QueueStatus status = receive_some(r, &r->messages, false, &q);

	*len = q.needed;
	*front = q.front;
	return status;
}

QueueStatus gq__ring_receive_one_single(RingQueue *r, void *buf, size_t *len, QueueStatus *front)
{
	struct gq_receiving q = { .buf = buf, .cap = *len, .max = 1 };
	QueueStatus status = receive_some(r, &r->messages, true, &q);

	*len = q.needed;
	*front = q.front;
	return status;
}
