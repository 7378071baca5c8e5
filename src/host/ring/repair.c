/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair.c - peers that die.
 *
 * Death leaves no hole in any ring: a message is published, and an entry taken, by one store. What
 * it can leave is cells that nobody has any more: those in the hands of the thread that died. A
 * thread is inside an operation while its peer's `op` says so; who finds one that has said so for
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
 * same, is in no living hands: and so it stays, until somebody puts it back.
 *
 * Nobody waits for a grace period. What has been found out so far is kept in the handle, and
 * whoever comes by (finds no room; waits for it) looks once whether the period is over, and goes on
 * from there: a thread that is stopped inside an operation delays the repair, and nobody.
 *
 * Any number of handles may be finding out at once, for finding out changes nothing. What changes
 * the ring is done under `repair.holder`, by one call from beginning to end, without waiting: then
 * `repair.epoch` is counted up, and whoever has begun to find out under an earlier epoch starts
 * over. If the holder dies, who takes the lock over counts the epoch up as well: what the dead one
 * had put back is found in the pool.
 *
 * A verdict of death is one on a thread, and it is the operation that matters: it counts if the
 * peer says the same owner and the same operation after the verdict as before it, and is compared
 * again, both words, wherever it is used. (`op` counts on over all owners of a peer, so an
 * operation is the same if the word is.) Whose life is not known is waited for like the living:
 * then nothing is reclaimed until it leaves, and nobody is refused anything.
 */
#include "host/ring/move.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/shm/barrier.h"

#include <pthread.h>
#include <string.h>

enum {
	WATCH_NS = 100 * 1000 * 1000, /* a thread inside one operation for so long is looked at */
	STEP_NS = 1000 * 1000, /* between two looks whether a grace period is over, at first */
	DRAIN_NS = 10 * 1000 * 1000,
	STEP_ENTRIES = 1 << 16, /* of rings, that one call reads at most, or one reading */
	READINGS = 3,
};

bool gq__ring_reach(RingQueue *r)
{
	uint64_t since, now;

	if (gq__barrier())
		return true;
	/*
	 * Refused, perhaps since a moment ago (a seccomp filter). From now on everybody makes a
	 * fence when it begins; who has looked at the flag before that had stored its `op` by then,
	 * if only into its core's store buffer, which drains by itself, within microseconds, and
	 * at the latest when the thread is taken off its core.
	 */
	if (gq_load_seq_cst_u64(&r->head->signals.fenced) == 0)
		gq_exchange_seq_cst_u64(&r->head->signals.fenced, 1);
	now = gq__now_ns();
	since = gq_load_relaxed_u64(&r->fenced_since_ns);
	if (since == 0) {
		gq_store_relaxed_u64(&r->fenced_since_ns, now);
		return false;
	}
	return now - since >= DRAIN_NS;
}

static uint64_t op_of(const struct gq_ring_peer *peer)
{
	return gq_load_acquire_u64(&peer->op); /* [operation.read] */
}

static bool is_inside(uint64_t op)
{
	return (op & GQ_OP_MASK) != GQ_OP_IDLE;
}

/* Whether it has messages in its hands, or completions. */
static bool moves_messages(uint64_t op)
{
	return (op & GQ_OP_MASK) == GQ_OP_SEND || (op & GQ_OP_MASK) == GQ_OP_RECEIVE;
}

/* ---- a closed ring --------------------------------------------------------------------------- */

/* Single mode: whether no thread is inside a send that may have begun before the close. */
static bool nobody_sends(RingQueue *r)
{
	/* Whoever has begun has said so by now: by this, or by a fence of its own. */
	if (!gq__ring_reach(r))
		return false;
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if ((op_of(&r->head->peer[i]) & GQ_OP_MASK) == GQ_OP_SEND)
			return false;
	return true;
}

bool gq__ring_settle(RingQueue *r)
{
	uint64_t *state = &r->head->signals.state;

	if (gq_load_seq_cst_u64(state) == GQ_RING_SETTLED) /* [settled.read] */
		return true;
	if (r->single ? !nobody_sends(r) : !gq__ring_bar(&r->messages))
		return false;
	/* [settled.write] release: all that will ever be in the ring. [wake.look] */
	gq_cas_seq_cst_u64(state, GQ_RING_CLOSED, GQ_RING_SETTLED);
	gq__flag_wake_shared(&r->head->signals.data_armed);
	return true;
}

/* ---- which cells are nowhere ----------------------------------------------------------------- */

/* Mark the cells in the pool. Positions and words may be nonsense: then so is what is marked. */
static void mark_pool(const struct gq_box *b, uint8_t *found)
{
	const uint64_t head = gq_load_acquire_u64(b->pool.head) >> 1;

	for (uint64_t i = 0; i < gq_word_ring_size(&b->pool); i++) {
		/* [pool.take] */
		uint64_t word = gq_load_acquire_u64(gq_word_ring_entry(&b->pool, head + i));

		if (gq_word_ring_is_at(&b->pool, word, head + i))
			found[gq_pool_slot(b, word)] = 1;
	}
}

/* Mark the cells of a class's messages. */
static void mark_class(const RingQueue *r, const struct gq_box *b, uint32_t class, uint8_t *found)
{
	const struct gq_word_ring *ready = &b->ready[class];
	const uint64_t head = gq_load_acquire_u64(ready->head);

	for (uint64_t i = 0; i < gq_word_ring_size(ready); i++) {
		/* [message.claim] */
		uint64_t word = gq_load_acquire_u64(gq_word_ring_entry(ready, head + i));
		uint32_t slot = gq_entry_slot(b, word);

		if (!gq_word_ring_is_at(ready, word, head + i))
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
	const struct gq_word_ring *pool = &b->pool;
	uint64_t pos = gq_load_acquire_u64(pool->tail); /* [tail.read] */

	if (r->single) {
		gq_store_release_u64(gq_word_ring_entry(pool, pos),
				     gq_word_ring_tag(pool, pos) | slot); /* [pool.return] */
		gq_store_release_u64(pool->tail, pos + 1);
		return;
	}
	for (int tries = 0; tries < 1 << 16; tries++) {
		if (gq_word_ring_try_put(pool, &pos, slot)) {
			gq_word_ring_raise_tail(pool, pos);
			return;
		}
	}
}

/* Where the entries end that are there: who dies may not have raised the tail to it. */
static uint64_t end_of(const struct gq_word_ring *ring)
{
	uint64_t pos = gq_load_acquire_u64(ring->tail); /* [tail.read] */

	for (uint64_t i = 0; i < gq_word_ring_size(ring); i++, pos++)
		if (!gq_word_ring_is_at(ring, gq_load_acquire_u64(gq_word_ring_entry(ring, pos)),
					pos))
			break;
	return pos;
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
static bool has_put(const struct gq_word_ring *ring, uint64_t pos, uint64_t n)
{
	if (gq_word_ring_is_at(ring, gq_load_acquire_u64(gq_word_ring_entry(ring, pos)), pos))
		return true;
	for (uint64_t i = 1; i < n && i < gq_word_ring_size(ring); i++)
		gq_store_release_u64(gq_word_ring_entry(ring, pos + i),
				     gq_word_ring_tag(ring, pos + i - gq_word_ring_size(ring)));
	return false;
}

static void finish_plan(RingQueue *r, struct gq_ring_peer *dead)
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

/* ---- a repair, step by step ------------------------------------------------------------------ */

/* An operation of a thread; op 0: none. */
struct operation {
	uint64_t owner;
	uint64_t op;
};

/* A repair under way: what has been found out. Guarded by `watching`. */
struct gq_ring_inquest {
	size_t bytes;
	uint64_t epoch; /* of the ring, when it began */
	uint64_t begun_ns;
	uint32_t readings; /* that have been made, with their grace periods */
	bool in_grace;
	bool messages, completions; /* in whose hands cells may have been lost */
	struct operation dead[GQ_RING_PEERS];
	uint64_t awaited[GQ_RING_PEERS]; /* in_grace: operations not known to have ended; 0: none */
	/* Behind it, for the messages' cells and then the completions': */
	uint64_t number[];
	/* uint8_t found[] */
};

static uint64_t cells_of(const RingQueue *r)
{
	return gq_word_ring_size(&r->messages.pool) + gq_word_ring_size(&r->completions.pool);
}

static uint8_t *found_of(const RingQueue *r, struct gq_ring_inquest *q)
{
	return (uint8_t *)&q->number[cells_of(r)];
}

/* Whether the peer is still at this operation. */
static bool is_at(const struct gq_ring_peer *peer, const struct operation *o)
{
	/* [peer.bind] acquire: pairs with [peer.free] */
	return op_of(peer) == o->op && gq_load_acquire_u64(&peer->identity.owner) == o->owner;
}

/* Whether a peer's thread has died inside an operation, and then which. */
static bool died_inside(struct gq_ring_peer *peer, gq_judge *judge, struct operation *o)
{
	o->op = op_of(peer);
	o->owner = gq_load_acquire_u64(&peer->identity.owner); /* [peer.bind] */
	return is_inside(o->op) && o->owner != 0 &&
	       judge(&peer->identity, o->owner) == GQ_LIFE_DEAD && is_at(peer, o);
}

/* ---- the lock: within one call --------------------------------------------------------------- */

/* Whether who has this identity will never let go of the lock. */
static bool is_gone(const RingQueue *r, uint64_t owner, gq_judge *judge)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if (gq_load_acquire_u64(&r->head->peer[i].identity.owner) ==
		    owner) /* [peer.bind] */
			return judge(&r->head->peer[i].identity, owner) == GQ_LIFE_DEAD;
	/* It has given its peer back, or another has found it dead; or it never had one. */
	return !gq_owner_is_unbound(owner) || judge(NULL, owner) == GQ_LIFE_DEAD;
}

static bool lock(RingQueue *r, uint64_t me, gq_judge *judge)
{
	struct gq_ring_repair *repair = &r->head->repair;
	uint64_t holder = gq_load_acquire_u64(&repair->holder); /* [repair.lock] */

	if (holder != 0 && (holder == me || !is_gone(r, holder, judge)))
		return false;
	/* [repair.lock] acquire: what the holder before us has done. */
	if (!gq_cas_acq_rel_u64(&repair->holder, holder, me))
		return false;
	if (holder != 0)
		gq_fetch_add_relaxed_u64(&repair->epoch, 1);
	return true;
}

static void unlock(RingQueue *r, uint64_t me)
{
	gq_cas_acq_rel_u64(&r->head->repair.holder, me, 0); /* [repair.unlock] */
}

/* ---- */

static void end_inquest(RingQueue *r)
{
	struct gq_ring_inquest *q = r->inquest;

	r->inquest = NULL;
	gq_store_relaxed_u64(&r->step_ns, 0);
	if (q != NULL)
		gq__free(q, q->bytes);
}

void gq__ring_forget_repair(RingQueue *r)
{
	end_inquest(r);
}

/* Single mode: finish what the dead had planned. @return false: not now. */
static bool finish_plans(RingQueue *r, uint64_t me, const struct gq_ring_inquest *q,
			 gq_judge *judge)
{
	bool current;

	if (!lock(r, me, judge))
		return false;
	current = gq_load_relaxed_u64(&r->head->repair.epoch) == q->epoch;
	for (uint32_t i = 0; current && i < GQ_RING_PEERS; i++)
		if (q->dead[i].op != 0 && is_at(&r->head->peer[i], &q->dead[i]))
			finish_plan(r, &r->head->peer[i]);
	unlock(r, me);
	return current;
}

/* Begin a repair, if anybody has died inside an operation. */
static void begin_inquest(RingQueue *r, uint64_t me, gq_judge *judge)
{
	const uint64_t cells = cells_of(r);
	const size_t bytes =
		sizeof(struct gq_ring_inquest) + (size_t)cells * (sizeof(uint64_t) + 1);
	struct gq_ring_inquest *q;
	bool any = false;

	end_inquest(r);
	q = gq__alloc(bytes, "the repair of a ring"); /* zeroed */
	if (q == NULL)
		return;
	q->bytes = bytes;
	q->begun_ns = gq__now_ns();
	q->epoch = gq_load_acquire_u64(&r->head->repair.epoch); /* [repair.lock] */
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct operation o;

		if (!died_inside(&r->head->peer[i], judge, &o))
			continue;
		any = true;
		q->dead[i] = o;
		/* In single mode a dead sender leaves nothing: it advances over what it has
		 * published. */
		if (r->single && (o.op & GQ_OP_MASK) != GQ_OP_RECEIVE &&
		    (o.op & GQ_OP_MASK) != GQ_OP_POLL)
			continue;
		q->messages |= moves_messages(o.op);
		q->completions |= !moves_messages(o.op);
	}
	r->inquest = q;
	if (!any || (r->single && !finish_plans(r, me, q, judge))) {
		end_inquest(r);
		return;
	}
	gq_store_relaxed_u64(&r->step_ns, STEP_NS);
	if (!q->messages && !q->completions)
		q->readings = READINGS;
	for (uint64_t i = 0; i < gq_word_ring_size(&r->messages.pool); i++)
		q->number[i] = gq_load_acquire_u64(&r->messages.number[i]);
	for (uint64_t i = gq_word_ring_size(&r->messages.pool); i < cells; i++)
		q->number[i] = gq_load_acquire_u64(
			&r->completions.number[i - gq_word_ring_size(&r->messages.pool)]);
}

/* Begin to wait until every living thread that is inside such an operation has left it. @return
 * false: not yet. */
static bool begin_grace(RingQueue *r, struct gq_ring_inquest *q)
{
	/* Whoever has begun has said so by now: by this, or by a fence of its own. */
	if (!gq__ring_reach(r))
		return false;
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		const struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t op = op_of(peer);

		q->awaited[i] =
			is_inside(op) && (moves_messages(op) ? q->messages : q->completions) &&
					!is_at(peer, &q->dead[i])
				? op
				: 0;
	}
	q->in_grace = true;
	return true;
}

/* @return false: somebody is still where it was. */
static bool end_grace(RingQueue *r, struct gq_ring_inquest *q)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		if (q->awaited[i] != 0 && op_of(&r->head->peer[i]) == q->awaited[i])
			return false;
		q->awaited[i] = 0;
	}
	q->in_grace = false;
	return true;
}

/* Put back the cells of a box that nobody has. */
static void reclaim(RingQueue *r, const struct gq_box *b, const uint64_t *number,
		    const uint8_t *found)
{
	if (r->single) /* a repairer that died had put a cell back, and not stored the tail */
		gq_store_release_u64(b->pool.tail, end_of(&b->pool));
	for (uint64_t i = 0; i < gq_word_ring_size(&b->pool); i++) {
		if (found[i] == 0 && gq_load_acquire_u64(&b->number[i]) == number[i]) {
			put_back(r, b, (uint32_t)i);
			gq_fetch_add_relaxed_u64(&r->head->repair.reclaimed, 1);
		}
	}
	if (r->single)
		return;
	/* Not needed, but what counts by tails is exact then. */
	gq_word_ring_raise_tail(&b->pool, end_of(&b->pool));
	for (uint32_t c = 0; c < b->classes; c++)
		gq_word_ring_raise_tail(&b->ready[c], end_of(&b->ready[c]));
}

/* What has been found out is done. @return how many dead threads' peers are free again. */
static uint32_t conclude(RingQueue *r, uint64_t me, struct gq_ring_inquest *q, gq_judge *judge)
{
	struct gq_ring_repair *repair = &r->head->repair;
	const uint64_t cells = gq_word_ring_size(&r->messages.pool);
	uint32_t repaired = 0;

	if (!lock(r, me, judge))
		return 0; /* another is at it */
	if (gq_load_relaxed_u64(&repair->epoch) != q->epoch) {
		unlock(r, me);
		end_inquest(r); /* it has found out about cells that others have put back since */
		return 0;
	}
	GQ_WINDOW();
	if (q->messages)
		reclaim(r, &r->messages, q->number, found_of(r, q));
	GQ_WINDOW();
	if (q->completions)
		reclaim(r, &r->completions, q->number + cells, found_of(r, q) + cells);
	GQ_WINDOW();
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];

		if (q->dead[i].op == 0 || !is_at(peer, &q->dead[i]))
			continue;
		gq_store_release_u64(&peer->op, (q->dead[i].op & ~GQ_OP_MASK) + GQ_OP_NEXT);
		/* From the dead to nobody: idle, it may have been bound by another already. */
		gq_cas_acq_rel_u64(&peer->identity.owner, q->dead[i].owner, 0); /* [peer.free] */
		gq_fetch_add_relaxed_u64(&repair->repairs, 1);
		repaired++;
	}
	gq_fetch_add_relaxed_u64(&repair->epoch, 1);
	unlock(r, me);
	end_inquest(r);
	gq__flag_wake_shared(&r->head->signals.room_armed);
	gq__flag_wake_shared(&r->head->signals.data_armed);
	return repaired;
}

/* As far as it goes without waiting, nor reading much. @return peers that are free again. */
static uint32_t step(RingQueue *r, uint64_t me, gq_judge *judge)
{
	struct gq_ring_inquest *q = r->inquest;
	uint64_t budget = STEP_ENTRIES;
	const uint64_t entries =
		gq_word_ring_size(&r->messages.pool) * (r->messages.classes + 1) +
		gq_word_ring_size(&r->completions.pool) * (r->completions.classes + 1);

	while (q->readings < READINGS) {
		if (!q->in_grace) {
			if (budget == 0)
				return 0;
			budget -= entries < budget ? entries : budget;
			if (q->messages)
				mark_all(r, &r->messages, found_of(r, q));
			if (q->completions)
				mark_all(r, &r->completions,
					 found_of(r, q) + gq_word_ring_size(&r->messages.pool));
			if (!begin_grace(r, q))
				return 0;
			GQ_WINDOW();
		}
		if (!end_grace(r, q))
			return 0;
		q->readings++;
	}
	return conclude(r, me, q, judge);
}

/* ---- who comes by ---------------------------------------------------------------------------- */

/* Whether somebody has died inside an operation whom the repair under way does not know of.
 * `hasty`: also in one that may just have begun. */
static bool is_suspect(RingQueue *r, gq_judge *judge, bool hasty)
{
	bool suspect = false;

	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t op = op_of(peer);
		struct operation o;

		if (is_inside(op) && (hasty || op == r->seen_op[i]) &&
		    (r->inquest == NULL || !is_at(peer, &r->inquest->dead[i])))
			suspect |= died_inside(peer, judge, &o);
		r->seen_op[i] = op;
	}
	return suspect;
}

/* Nothing in here may wait, be cancelled, or call anything of the program's: `watching` is held. */
static uint32_t look_after(RingQueue *r, uint64_t me, gq_judge *judge, bool hasty)
{
	uint64_t now = gq__now_ns();
	uint32_t repaired = 0;

	if (hasty || now >= r->next_scan_ns) {
		r->next_scan_ns = now + WATCH_NS;
		if (is_suspect(r, judge, hasty))
			begin_inquest(r, me, judge);
	}
	if (r->inquest != NULL)
		repaired = step(r, me, judge);
	if (r->inquest != NULL) {
		/* It may take long: look more and more seldom. */
		uint64_t pause = (now - r->inquest->begun_ns) / 16;

		pause = pause < STEP_NS ? STEP_NS : pause > WATCH_NS ? WATCH_NS : pause;
		gq_store_relaxed_u64(&r->step_ns, pause);
		now += pause;
	} else {
		now = r->next_scan_ns;
	}
	gq_store_relaxed_u64(&r->next_watch_ns, now < r->next_scan_ns ? now : r->next_scan_ns);
	return repaired;
}

/* @return false: another thread of this handle is at it. */
static bool come_by(RingQueue *r, gq_judge *judge, bool hasty)
{
	const uint64_t me = gq__ring_me(r);
	uint32_t repaired;
	int cancel;

	if (gq_exchange_seq_cst_u64(&r->watching, 1) != 0)
		return false;
	/* Who is cancelled in here would keep everybody of this handle out for good. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	repaired = look_after(r, me, judge, hasty);
	/* [watch.leave]; the exchange above is [watch.enter] */
	gq_store_release_u64(&r->watching, 0);
	pthread_setcancelstate(cancel, NULL);
	/* Last, for the program may have set a log of its own. */
	for (uint32_t i = 0; i < repaired; i++)
		gq__log(Q_LOG_WARNING, "a thread died inside a call on a ring; repaired");
	return true;
}

void gq__ring_watch(RingQueue *r)
{
	if (gq__now_ns() < gq_load_relaxed_u64(&r->next_watch_ns))
		return;
	if (gq_load_relaxed_u64(&r->told_unjudged) == 0)
		gq__ring_count_unjudged(r);
	come_by(r, gq__peer_life, false);
}

void gq__ring_repair(RingQueue *r)
{
	come_by(r, gq__peer_life, true);
}

bool gq__ring_repair_by(RingQueue *r, gq_judge *judge)
{
	struct operation o;

	if (!come_by(r, judge, true))
		return false;
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if (died_inside(&r->head->peer[i], judge, &o))
			return false;
	return true;
}
