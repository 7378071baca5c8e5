/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_repair.c - peers that die.
 *
 * Death leaves no hole in any ring: a message is published, and an entry taken, by one store. What
 * it can leave is cells that nobody has any more: those in the hands of the thread that died. A
 * thread is inside an operation while its record's `op` says so; who finds one that has said so for
 * 100 ms looks whether the thread lives, and if not, finds out which cells are nowhere and puts
 * them back into the pool (gq__ring_repair()).
 *
 * Finding out. A cell goes round: pool, hands of a sender, class ring, hands of a receiver, pool.
 * The rings can be read while others go on; hands cannot. The argument is about time:
 *
 *     note each cell's number; three times { read all rings; wait until every thread that was
 *     inside an operation has left it (the grace period) }; compare the numbers.
 *
 * A cell whose number is the same at the end has not been given to a new message in between, so it
 * has not left the pool, except into hands from which the last grace period would have brought its
 * new number. So it has only moved forward: sender's hands, class, receiver's hands, pool. The
 * first grace period takes it out of a sender's hands; if the second reading does not find it, it
 * is in a receiver's, which the second grace period takes it out of, into the pool, where the third
 * reading finds it. So a cell of which all three readings find nothing, and whose number is the
 * same, is in no living hands.
 *
 * One thread at a time repairs, holding `repair.holder`; if it dies, the next one starts over: what
 * it had put back is found in the pool.
 */
#include "host/ring.h"

#include "host/memory.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WATCH_NS = 100 * 1000 * 1000, GRACE_NS = 50 * 1000 * 1000 };

bool gq__ring_barrier_register(void)
{
	return !gq__fault() &&
	       syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool gq__ring_barrier(void)
{
	/* Reaches who has registered; who could not has set `fenced`. */
	return !gq__fault() && syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

static uint64_t op_of(const struct gq_ring_record *record)
{
	return gq_load_acquire_u64(&record->op); /* U2: pairs with U1 */
}

static bool is_inside(uint64_t op)
{
	return (op & GQ_OP_MASK) != GQ_OP_IDLE;
}

/* ---- grace periods --------------------------------------------------------------------------- */

/*
 * Wait until every living thread that is inside an operation (of kind `op`; GQ_OP_IDLE: of any) has
 * left it. @return false: one has not in time, or has died since.
 */
static bool grace(RingQueue *r, enum gq_op op, const bool *dead, uint64_t deadline_ns)
{
	uint64_t ops[GQ_RECORDS];

	/* Whoever has begun has said so by now: by this, or by a fence of its own. */
	if (!gq__ring_barrier() && gq_load_seq_cst_u64(&r->head->signals.fenced) == 0)
		return false;
	for (uint32_t i = 0; i < GQ_RECORDS; i++)
		ops[i] = op_of(&r->head->record[i]);
	for (uint32_t i = 0; i < GQ_RECORDS; i++) {
		if (!is_inside(ops[i]) || (op != GQ_OP_IDLE && (ops[i] & GQ_OP_MASK) != op) ||
		    (dead != NULL && dead[i]))
			continue;
		for (uint32_t turn = 0; op_of(&r->head->record[i]) == ops[i]; turn++) {
			if (gq__now_ns() >= deadline_ns)
				return false;
			gq__await_step(turn);
		}
	}
	return true;
}

bool gq__ring_settle(RingQueue *r)
{
	uint64_t *state = &r->head->signals.state;

	if (gq_load_seq_cst_u64(state) == GQ_RING_SETTLED)
		return true;
	if (!grace(r, GQ_OP_SEND, NULL, 0))
		return false;
	gq_cas_seq_cst_u64(state, GQ_RING_CLOSED, GQ_RING_SETTLED);
	gq__flag_wake_shared(&r->head->signals.data_armed);
	return true;
}

/* ---- which cells are nowhere ----------------------------------------------------------------- */

/* Mark the cells in the pool. Positions and words may be nonsense: then so is what is marked. */
static void mark_pool(const struct gq_box *b, uint8_t *found)
{
	const uint64_t head = gq_load_acquire_u64(b->pool.head) >> 1;

	for (uint64_t i = 0; i < gq_ring_size(&b->pool); i++) {
		uint64_t word = gq_load_acquire_u64(gq_ring_entry(&b->pool, head + i)); /* P2 */

		if (gq_ring_is_at(&b->pool, word, head + i))
			found[gq_pool_slot(b, word)] = 1;
	}
}

/* Mark the cells of a class's messages. */
static void mark_class(const RingQueue *r, const struct gq_box *b, uint32_t class, uint8_t *found)
{
	const struct gq_ring *ready = &b->ready[class];
	const uint64_t head = gq_load_acquire_u64(ready->head);

	for (uint64_t i = 0; i < gq_ring_size(ready); i++) {
		uint64_t word = gq_load_acquire_u64(gq_ring_entry(ready, head + i)); /* T2 */
		uint32_t slot = gq_entry_slot(b, word);

		if (!gq_ring_is_at(ready, word, head + i))
			continue;
		found[slot] = 1;
		if (b->chain == NULL || gq_entry_kind(word) != GQ_KIND_PARTS)
			continue;
		for (uint32_t p = 0; p < r->max_parts; p++) {
			uint64_t link = gq_load_acquire_u64(&b->chain[slot]);

			found[slot] = 1;
			if ((link & GQ_PART_CONTINUES) == 0)
				break;
			slot = (uint32_t)(link >> GQ_PART_SLOT_SHIFT & b->pool.mask);
		}
	}
}

static void mark_all(const RingQueue *r, const struct gq_box *b, uint8_t *found)
{
	for (uint32_t c = 0; c < b->classes; c++)
		mark_class(r, b, c, found);
	mark_pool(b, found);
}

/* Put a cell back into the pool. In single mode the receiver is dead, or this thread is it. */
static void put_back(const RingQueue *r, const struct gq_box *b, uint32_t slot)
{
	const struct gq_ring *pool = &b->pool;
	uint64_t pos = gq_load_acquire_u64(pool->tail); /* H2: pairs with H1 */

	if (r->single) {
		gq_store_release_u64(gq_ring_entry(pool, pos),
				     gq_ring_tag(pool, pos) | slot); /* P1: pairs with P2 */
		gq_store_release_u64(pool->tail, pos + 1);
		return;
	}
	for (int tries = 0; tries < 1 << 16; tries++) {
		if (gq_ring_try_put(pool, &pos, slot)) {
			gq_ring_raise_tail(pool, pos);
			return;
		}
	}
}

/* Single mode: a repairer that died had put a cell back, and not yet stored the tail behind it. */
static void pass_tail(const struct gq_ring *pool)
{
	uint64_t pos = gq_load_acquire_u64(pool->tail);

	for (uint64_t i = 0; i < gq_ring_size(pool); i++, pos++)
		if (!gq_ring_is_at(pool, gq_load_acquire_u64(gq_ring_entry(pool, pos)), pos))
			break;
	gq_store_release_u64(pool->tail, pos);
}

/* @return false: no verdict this time. */
static bool reclaim(RingQueue *r, const struct gq_box *b, const bool *dead)
{
	const uint64_t n = gq_ring_size(&b->pool);
	const size_t bytes = n * (sizeof(uint64_t) + 1);
	uint64_t *numbers = gq__alloc(bytes, "the repair of a ring");
	const uint64_t deadline_ns = gq__now_ns() + GRACE_NS;
	uint8_t *found;
	bool decided = true;

	if (numbers == NULL)
		return false;
	if (r->single)
		pass_tail(&b->pool);
	found = (uint8_t *)(numbers + n);
	for (uint64_t i = 0; i < n; i++)
		numbers[i] = gq_load_acquire_u64(&b->number[i]);
	for (int reading = 0; decided && reading < 3; reading++) {
		mark_all(r, b, found);
		decided = grace(r, GQ_OP_IDLE, dead, deadline_ns);
	}
	for (uint64_t i = 0; decided && i < n; i++) {
		if (found[i] == 0 && gq_load_acquire_u64(&b->number[i]) == numbers[i]) {
			put_back(r, b, (uint32_t)i);
			gq_fetch_add_relaxed_u64(&r->head->repair.reclaimed, 1);
		}
	}
	gq__free(numbers, bytes);
	return decided;
}

/* ---- single mode: the positions of who died -------------------------------------------------- */

/*
 * The positions of a side are its own words, stored after what they count. Before it publishes, a
 * thread writes down the positions as they will be; whether it has published shows in the ring. It
 * puts the first entry last, and the other side looks at no other before that one is there; so all
 * of it is there, or none as far as anybody has seen, and then what is there is taken away again.
 *
 * Nobody else puts on this side, and what the other side overwrites of a ring is a lap behind:
 * these entries stay as they were at the death.
 */
static bool has_put(const struct gq_ring *ring, uint64_t pos, uint64_t n)
{
	if (gq_ring_is_at(ring, gq_load_acquire_u64(gq_ring_entry(ring, pos)), pos))
		return true;
	for (uint64_t i = 1; i < n && i < gq_ring_size(ring); i++)
		gq_store_release_u64(gq_ring_entry(ring, pos + i),
				     gq_ring_tag(ring, pos + i - gq_ring_size(ring)));
	return false;
}

static void finish_plan(RingQueue *r, struct gq_ring_record *dead)
{
	const enum gq_op op = (enum gq_op)(op_of(dead) & GQ_OP_MASK);
	struct gq_box *b = op == GQ_OP_SEND || op == GQ_OP_RECEIVE ? &r->messages : &r->completions;
	const uint64_t what = gq_load_relaxed_u64(&dead->plan_what);
	const uint64_t class = what & 0xff, entries = what >> 8 & 0xffffff, slots = what >> 32;
	const uint64_t ready_pos = gq_load_relaxed_u64(&dead->plan_ready_pos);
	const uint64_t pool_pos = gq_load_relaxed_u64(&dead->plan_pool_pos);

	if (gq_load_acquire_u64(&dead->plan_op) != op_of(dead) || class >= b->classes)
		return; /* nothing was published */
	if (op == b->send_op) {
		bool put = has_put(&b->ready[class], ready_pos, entries);

		gq_store_release_u64(b->ready[class].tail, ready_pos + (put ? entries : 0));
		gq_store_release_u64(b->pool.head, (pool_pos + (put ? slots : 0)) << 1);
	} else {
		bool put = has_put(&b->pool, pool_pos, slots);

		gq_store_release_u64(b->pool.tail, pool_pos + (put ? slots : 0));
		/* All that it had begun to take is gone with it; reclaim() finds the cells. */
		gq_store_release_u64(b->ready[class].head, ready_pos + entries);
	}
	/* Once only: what is put back from here on looks as if it had been planned. */
	gq_store_release_u64(&dead->plan_op, GQ_OP_IDLE);
}

/* ---- repair ---------------------------------------------------------------------------------- */

static bool lock(RingQueue *r, uint64_t me)
{
	uint64_t *word = &r->head->repair.holder;
	uint64_t holder = gq_load_acquire_u64(word);

	if (holder != 0 && !gq__thread_is_dead(holder))
		return false;
	return gq_cas_acq_rel_u64(word, holder, me);
}

void gq__ring_repair(RingQueue *r)
{
	const uint64_t me = gq__thread_identity();
	bool dead[GQ_RECORDS] = { false };
	bool any = false, receivers = false, pollers = false, decided = true;

	if (me == 0 || gq_load_relaxed_u64(&r->head->signals.foreign) != 0 || !lock(r, me))
		return;
	for (uint32_t i = 0; i < GQ_RECORDS; i++) {
		struct gq_ring_record *record = &r->head->record[i];
		const uint64_t op = op_of(record);

		dead[i] = is_inside(op) && gq__thread_is_dead(gq_load_relaxed_u64(&record->owner));
		if (!dead[i])
			continue;
		any = true;
		if (r->single)
			finish_plan(r, record);
		receivers |= (op & GQ_OP_MASK) == GQ_OP_RECEIVE;
		pollers |= (op & GQ_OP_MASK) == GQ_OP_POLL;
	}
	/* In single mode a dead sender leaves nothing: it advances over what it has published. */
	if (any && (!r->single || receivers))
		decided = reclaim(r, &r->messages, dead);
	if (any && decided && (!r->single || pollers))
		decided = reclaim(r, &r->completions, dead);
	for (uint32_t i = 0; decided && i < GQ_RECORDS; i++) {
		struct gq_ring_record *record = &r->head->record[i];

		if (!dead[i])
			continue;
		gq_store_release_u64(&record->op, (op_of(record) & ~GQ_OP_MASK) + GQ_OP_NEXT);
		gq_store_release_u64(&record->owner, 0);
		gq_fetch_add_relaxed_u64(&r->head->repair.repairs, 1);
		gq__log(Q_LOG_WARNING, "a thread died inside a call on a ring; repaired");
	}
	gq_store_release_u64(&r->head->repair.holder, 0);
	if (any && decided) {
		gq__flag_wake_shared(&r->head->signals.room_armed);
		gq__flag_wake_shared(&r->head->signals.data_armed);
	}
}

void gq__ring_watch(RingQueue *r)
{
	const uint64_t now = gq__now_ns();
	bool suspect = false;

	if (now < gq_load_relaxed_u64(&r->next_watch_ns) ||
	    gq_exchange_seq_cst_u64(&r->watching, 1) != 0)
		return;
	gq_store_relaxed_u64(&r->next_watch_ns, now + WATCH_NS);
	for (uint32_t i = 0; i < GQ_RECORDS; i++) {
		const struct gq_ring_record *record = &r->head->record[i];
		const uint64_t op = op_of(record);

		if (is_inside(op) && op == r->seen_op[i])
			suspect |= gq__thread_is_dead(gq_load_relaxed_u64(&record->owner));
		r->seen_op[i] = op;
	}
	if (suspect)
		gq__ring_repair(r);
	gq_store_release_u64(&r->watching, 0); /* the exchange pairs with it: W1, W2 */
}
