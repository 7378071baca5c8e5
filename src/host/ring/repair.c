/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair.c - peers that die.
 *
 * A death leaves no hole in any ring: a message is published, and an entry taken, by one store. It
 * can leave cells that are nowhere: those in the hands of the thread that died. A thread is inside
 * an operation while its peer's `op` says so. A thread that finds a peer inside one operation for
 * 100 ms asks whether that thread lives. If it is dead, a repair finds out which cells are nowhere,
 * and puts them back into the pool.
 *
 * Finding out. A cell goes round: pool, hands of a sender, class ring, hands of a receiver, pool.
 * The rings can be read while other threads go on; hands cannot. The argument is about time:
 *
 *     note each cell's number; three times { read all rings; wait until every thread that was
 *     inside an operation has left it (the grace period) }; compare the numbers.
 *
 * A cell whose number is the same at the end was not given to a new message in between. So it has
 * not left the pool, except into hands from which the last grace period would have brought its new
 * number. So it has only moved forward: sender's hands, class, receiver's hands, pool. The first
 * grace period takes it out of a sender's hands. If the second reading does not find it, it is in a
 * receiver's hands; the second grace period takes it out of those and into the pool, where the
 * third reading finds it. So a cell that none of the three readings finds, and whose number is the
 * same, is in no living hands; and there it stays until a repair puts it back.
 *
 * In single mode there is nothing to find out by time: see lost.c.
 *
 * No call waits for a grace period. The handle keeps what has been found out so far. Each thread
 * that finds no room, or waits for it, looks once whether the period is over, and goes on from
 * there. A thread that is stopped inside an operation delays the repair, and delays no call.
 *
 * Any number of handles may be finding out at once, because finding out changes nothing. A change
 * of the ring is made under `repair.holder`, by one call from beginning to end, without waiting.
 * Then `repair.epoch` is counted up, and every handle that began to find out under an earlier epoch
 * starts over. If the holder dies, the thread that takes the lock over counts the epoch up as well:
 * the cells that the dead one had put back are in the pool.
 *
 * A verdict of death is about a thread, but a repair is about an operation. So a verdict counts
 * only if the peer shows the same owner and the same operation after the verdict as before it, and
 * both words are compared again wherever the verdict is used. (`op` counts on over all owners of a
 * peer, so the same word means the same operation.) A thread about which nothing is known is waited
 * for like a living one: until it leaves, nothing is reclaimed, and no call is refused.
 */
#include "host/ring/repair.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/ring/fence.h"
#include "host/ring/handles.h"
#include "host/ring/lost.h"

#include <pthread.h>
#include <string.h>

enum {
	WATCH_NS = 100 * 1000 * 1000, /* a thread inside one operation for so long is looked at */
	STEP_NS = 1000 * 1000,  /* between two looks whether a grace period is over, at first */
	STEP_ENTRIES = 1 << 16, /* how many one call reads, but for the last reading's rest */
	READINGS = 3,
};

/* ---- a repair, step by step ------------------------------------------------------------------ */

/* An operation of a thread; op 0: none. */
struct operation {
	uint64_t owner;
	uint64_t op;
};

/* A repair under way, and what it has found out. Guarded by `watching`. */
struct gq_ring_inquest {
	size_t bytes;
	uint64_t epoch; /* of the ring, when it began */
	uint64_t begun_ns;
	uint32_t readings; /* how many have been made, with their grace periods */
	bool in_grace;
	bool messages, completions; /* the boxes that may have lost cells */
	struct operation dead[GQ_RING_PEERS];
	uint64_t awaited[GQ_RING_PEERS]; /* in_grace: operations not known to have ended; 0: none */
	/* Of each cell, the messages' first; behind them, of each cell: uint8_t found[]. */
	uint64_t number[];
};

static uint64_t cells_of(const RingQueue *r)
{
	return gq_box_cells(&r->messages) + gq_box_cells(&r->completions);
}

static uint8_t *found_of(const RingQueue *r, struct gq_ring_inquest *q)
{
	return (uint8_t *)&q->number[cells_of(r)];
}

/* Whether the peer is still at this operation. */
static bool is_at(const struct gq_ring_peer *peer, const struct operation *o)
{
	/* [peer.bind] acquire: pairs with [peer.free] */
	return gq_ring_op_of(peer) == o->op &&
	       gq_load_acquire_u64(&peer->identity.owner) == o->owner;
}

/* Whether a peer's thread has died inside an operation; *o is set to that operation. */
static bool died_inside(struct gq_ring_peer *peer, gq_judge *judge, struct operation *o)
{
	o->op = gq_ring_op_of(peer);
	o->owner = gq_load_acquire_u64(&peer->identity.owner); /* [peer.bind] */
	return gq_ring_is_inside(o->op) && o->owner != 0 &&
	       judge(&peer->identity, o->owner) == GQ_LIFE_DEAD && is_at(peer, o);
}

/* ---- the lock: within one call --------------------------------------------------------------- */

/* Whether the thread with this word will never let go of the lock. */
static bool has_left_the_lock(const RingQueue *r, uint64_t owner, gq_judge *judge)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		/* [peer.bind] */
		if (gq_load_acquire_u64(&r->head->peer[i].identity.owner) == owner)
			return judge(&r->head->peer[i].identity, owner) == GQ_LIFE_DEAD;
	/* It has given its peer back, or was found dead; or it never had a peer. */
	return !gq_owner_is_unbound(owner) || judge(NULL, owner) == GQ_LIFE_DEAD;
}

static bool lock(RingQueue *r, uint64_t me, gq_judge *judge)
{
	struct gq_ring_repair *repair = &r->head->repair;
	uint64_t holder = gq_load_acquire_u64(&repair->holder); /* [repair.lock] */

	if (holder != 0 && (holder == me || !has_left_the_lock(r, holder, judge)))
		return false;
	/* [repair.lock] acquire: what the holder before us has changed. */
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

/* ---- finding out ---------------------------------------------------------------------------- */

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

/* Begin a repair, if a thread has died inside an operation. */
static void begin_inquest(RingQueue *r, gq_judge *judge)
{
	const uint64_t cells = cells_of(r);
	const size_t bytes =
		sizeof(struct gq_ring_inquest) + (size_t)cells * (sizeof(uint64_t) + 1);
	struct gq_ring_inquest *q;
	struct gq_error before;
	bool any = false;

	end_inquest(r);
	gq__error_keep(&before);
	q = gq__alloc(bytes, "the repair of a ring"); /* zeroed */
	if (q == NULL) {
		gq__error_put_back(&before); /* no failure of the call: the next one tries again */
		return;
	}
	q->bytes = bytes;
	q->begun_ns = gq__now_ns();
	q->epoch = gq_load_acquire_u64(&r->head->repair.epoch); /* [repair.lock] */
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct operation o;

		if (!died_inside(&r->head->peer[i], judge, &o))
			continue;
		any = true;
		q->dead[i] = o;
		/* In single mode there is nothing to find out: a dead receiver has taken nothing
		 * out of the rings, and all that is in none of them was a dead sender's. */
		if (r->single)
			continue;
		q->messages |= gq_op_moves_messages(o.op);
		q->completions |= !gq_op_moves_messages(o.op);
	}
	r->inquest = q;
	if (!any) {
		end_inquest(r);
		return;
	}
	gq_store_relaxed_u64(&r->step_ns, STEP_NS);
	if (!q->messages && !q->completions)
		q->readings = READINGS;
	for (uint64_t i = 0; i < gq_box_cells(&r->messages); i++)
		q->number[i] = gq_load_acquire_u64(&r->messages.number[i]);
	for (uint64_t i = gq_box_cells(&r->messages); i < cells; i++)
		q->number[i] =
			gq_load_acquire_u64(&r->completions.number[i - gq_box_cells(&r->messages)]);
}

/* Begin to wait until every living thread that is inside such an operation has left it. @return
 * false: not yet. */
static bool begin_grace(RingQueue *r, struct gq_ring_inquest *q)
{
	/* Every thread that has begun shows it by now: by this fence, or by one of its own. */
	if (!gq__ring_reach(r))
		return false;
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		const struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t op = gq_ring_op_of(peer);

		q->awaited[i] =
			gq_ring_is_inside(op) &&
					(gq_op_moves_messages(op) ? q->messages : q->completions) &&
					!is_at(peer, &q->dead[i])
				? op
				: 0;
	}
	q->in_grace = true;
	return true;
}

/* @return false: some thread is still inside the operation that is awaited. */
static bool end_grace(RingQueue *r, struct gq_ring_inquest *q)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		if (q->awaited[i] != 0 && gq_ring_op_of(&r->head->peer[i]) == q->awaited[i])
			return false;
		q->awaited[i] = 0;
	}
	q->in_grace = false;
	return true;
}

/*
 * Single mode: take back what a dead sender had in its hands. Only while the side is still its own:
 * it is another's only if two threads have sent at once, and that one may be sending now.
 */
static void free_unsent(RingQueue *r, struct gq_ring_inquest *q, uint32_t peer, enum gq_op op)
{
	const uint64_t own = (uint64_t)peer + 1;

	if (op == GQ_OP_SEND && gq_load_acquire_u64(r->messages.send_role) == own)
		gq__ring_free_unsent(r, &r->messages, found_of(r, q));
	if (op == GQ_OP_COMPLETE && gq_load_acquire_u64(r->completions.send_role) == own)
		gq__ring_free_unsent(r, &r->completions,
				     found_of(r, q) + gq_box_cells(&r->messages));
}

/* Do what follows from what was found out. @return how many dead threads' peers are free again. */
static uint32_t conclude(RingQueue *r, uint64_t me, struct gq_ring_inquest *q, gq_judge *judge)
{
	struct gq_ring_repair *repair = &r->head->repair;
	const uint64_t cells = gq_box_cells(&r->messages);
	uint32_t repaired = 0;

	if (!lock(r, me, judge))
		return 0; /* another thread repairs */
	if (gq_load_relaxed_u64(&repair->epoch) != q->epoch) {
		unlock(r, me);
		end_inquest(r); /* others have put back some of the cells that it looked for */
		return 0;
	}
	GQ_WINDOW();
	if (q->messages)
		gq__ring_put_back_lost(r, &r->messages, q->number, found_of(r, q));
	GQ_WINDOW();
	if (q->completions)
		gq__ring_put_back_lost(r, &r->completions, q->number + cells,
				       found_of(r, q) + cells);
	GQ_WINDOW();
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];

		if (q->dead[i].op == 0 || !is_at(peer, &q->dead[i]))
			continue;
		if (r->single)
			free_unsent(r, q, i, (enum gq_op)(q->dead[i].op & GQ_OP_MASK));
		GQ_WINDOW();
		gq_store_release_u64(&peer->op, (q->dead[i].op & ~GQ_OP_MASK) + GQ_OP_NEXT);
		/* From the dead thread's word: a peer that is idle may be another's already. */
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

/* Go on as far as possible without waiting or reading much. @return peers that are free again. */
static uint32_t step(RingQueue *r, uint64_t me, gq_judge *judge)
{
	struct gq_ring_inquest *q = r->inquest;
	uint64_t budget = STEP_ENTRIES;
	const uint64_t entries = gq_box_cells(&r->messages) * (r->messages.classes + 1) +
				 gq_box_cells(&r->completions) * (r->completions.classes + 1);

	while (q->readings < READINGS) {
		if (!q->in_grace) {
			if (budget == 0)
				return 0;
			budget -= entries < budget ? entries : budget;
			if (q->messages)
				gq__ring_mark_found(r, &r->messages, found_of(r, q));
			if (q->completions)
				gq__ring_mark_found(r, &r->completions,
						    found_of(r, q) + gq_box_cells(&r->messages));
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

/* ---- looking for deaths, and going on ------------------------------------------------------- */

/* Whether a thread has died inside an operation that the repair under way does not know of.
 * @param hasty  also look at operations that may just have begun */
static bool has_new_death(RingQueue *r, gq_judge *judge, bool hasty)
{
	bool suspect = false;

	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t op = gq_ring_op_of(peer);
		struct operation o;

		if (gq_ring_is_inside(op) && (hasty || op == r->seen_op[i]) &&
		    (r->inquest == NULL || !is_at(peer, &r->inquest->dead[i])))
			suspect |= died_inside(peer, judge, &o);
		r->seen_op[i] = op;
	}
	return suspect;
}

/* With `watching` held: nothing here may wait, be cancelled, or call code of the program. */
static uint32_t look_after(RingQueue *r, uint64_t me, gq_judge *judge, bool hasty)
{
	uint64_t now = gq__now_ns();
	uint32_t repaired = 0;

	if (hasty || now >= r->next_scan_ns) {
		r->next_scan_ns = now + WATCH_NS;
		if (has_new_death(r, judge, hasty))
			begin_inquest(r, judge);
	}
	if (r->inquest != NULL)
		repaired = step(r, me, judge);
	if (r->inquest != NULL) {
		/* A repair may take long: look more and more seldom. */
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

/* @return false: another thread of this handle is inside. */
static bool watch_once(RingQueue *r, gq_judge *judge, bool hasty)
{
	const uint64_t me = gq__ring_me(r);
	uint32_t repaired;
	int cancel;

	if (gq_exchange_seq_cst_u64(&r->watching, 1) != 0)
		return false;
	/* A thread cancelled in here would keep all others of this handle out for good. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	repaired = look_after(r, me, judge, hasty);
	/* [watch.leave]; the exchange above is [watch.enter] */
	gq_store_release_u64(&r->watching, 0);
	pthread_setcancelstate(cancel, NULL);
	/* Last, because the log may be code of the program. */
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
	watch_once(r, gq__peer_life, false);
}

void gq__ring_repair(RingQueue *r)
{
	watch_once(r, gq__peer_life, true);
}

bool gq__ring_repair_by(RingQueue *r, gq_judge *judge)
{
	struct operation o;

	if (!watch_once(r, judge, true))
		return false;
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if (died_inside(&r->head->peer[i], judge, &o))
			return false;
	return true;
}
