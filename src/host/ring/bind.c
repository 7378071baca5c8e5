/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind.c - binding a thread to a peer of the ring, and to a side of a single ring.
 *
 * A thread has one peer for each handle through which it has used a ring. It binds the peer in its
 * first call, and gives it back when it ends or when the handle is destroyed. A thread that is
 * killed, or replaced by execve(), leaves its peer bound. When no peer is free any more, those of
 * threads that are certainly dead are taken over: see peer.h.
 *
 * Writers of `identity.owner`: a thread that binds, from 0 or from a dead thread's word to its own;
 * that thread when it ends, or another thread of its process that destroys the handle, to 0; a
 * repair, a sweep and q_ring_recover(), from a dead thread's word to 0. Each does so by
 * compare-and-swap. So of two threads that mean to change a peer one does, and a thread that had
 * looked at an earlier binding changes nothing.
 *
 * The last holds unless the word has come back. A word repeats only after 1023 bindings of the ring
 * (or a multiple), and then only for a thread of the same id and namespace; and not while any peer
 * still describes that word (is_described_already()). A thread that had looked is wrong only if it
 * stands still from its look to its swap while the kernel gives a dead thread's id to a new thread,
 * and if at the moment when it goes on that thread holds this very peer by this very word.
 */
#include "host/ring/bind.h"

#include "host/ring/repair.h"
#include "host/ring/reuse.h"

#include <inttypes.h>

static uint64_t next_binding(RingQueue *r)
{
	return gq_fetch_add_relaxed_u64(&r->head->repair.bindings, 1) % GQ_OWNER_UNBOUND;
}

/*
 * Take an idle peer that a thread with this thread's id has bound through this handle: that was
 * this thread, or one that has ended. It occurs only if a binding could not be remembered.
 */
static struct gq_ring_peer *inherit(RingQueue *r, uint64_t me)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t owner = r->bound[i];

		if (owner != 0 && gq_owner_id(owner) == gq_owner_id(me) &&
		    !gq_ring_is_inside(gq_ring_op_of(peer)) &&
		    gq_cas_acq_rel_u64(&peer->identity.owner, owner, me))
			return peer;
	}
	return NULL;
}

static struct gq_ring_peer *take_free(RingQueue *r, uint64_t me)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];

		if (gq_load_relaxed_u64(&peer->identity.owner) == 0 &&
		    gq_cas_acq_rel_u64(&peer->identity.owner, 0, me))
			return peer;
	}
	return NULL;
}

/* Take a dead thread's peer over. *stuck: some threads have died inside an operation. */
static struct gq_ring_peer *take_over(RingQueue *r, uint64_t me, bool *stuck)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t owner = gq_load_acquire_u64(&peer->identity.owner);
		const uint64_t op = gq_ring_op_of(peer);

		/* Death is final: if the thread was idle before it was found dead and still is, it
		 * ended idle. And if the peer is another's by now, the swap fails. */
		if (gq__peer_life(&peer->identity, owner) != GQ_LIFE_DEAD)
			continue;
		if (gq_ring_is_inside(op))
			*stuck = true;
		else if (gq_ring_op_of(peer) == op &&
			 gq_cas_acq_rel_u64(&peer->identity.owner, owner, me))
			return peer;
	}
	return NULL;
}

/*
 * With each binding, look at sixteen peers in turn, and free those whose thread has ended. So the
 * dead of one namespace do not take all peers before a thread of that namespace has to look, while
 * threads of another find none that they may take over.
 */
enum { SWEPT = 16 };

static void sweep(RingQueue *r, uint64_t turn)
{
	for (uint32_t i = 0; i < SWEPT; i++) {
		struct gq_ring_peer *peer = &r->head->peer[(turn * SWEPT + i) % GQ_RING_PEERS];
		const uint64_t owner = gq_load_acquire_u64(&peer->identity.owner);
		const uint64_t op = gq_ring_op_of(peer);

		if (owner == 0 || !gq__peer_is_gone(&peer->identity, owner))
			continue;
		gq__peer_say_dead(&peer->identity, owner);
		if (!gq_ring_is_inside(op) && gq_ring_op_of(peer) == op)
			gq_cas_acq_rel_u64(&peer->identity.owner, owner, 0);
	}
}

/*
 * Whether some peer still describes a thread with this very word: a thread of the same id whose
 * binding had the same number, a thousand bindings ago. Its description would pass for ours until
 * we describe ourselves.
 */
static bool is_described_already(const RingQueue *r, uint64_t owner)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		/* [owner.read] */
		const uint64_t word = gq_load_acquire_u64(&r->head->peer[i].identity.described);

		if (word == owner || word == ~owner)
			return true;
	}
	return false;
}

/* Hints for a thread that begins: see extent.h. */
static void set_hints(const struct gq_box *b, struct gq_box_hints *hints)
{
	hints->pool = gq_load_acquire_u64(b->pool.tail); /* [tail.read] */
	for (uint32_t c = 0; c < b->classes; c++)
		hints->ready[c] = gq_load_acquire_u64(b->ready[c].tail); /* [tail.read] */
	gq_reuse_begin(b, hints);
}

static struct gq_ring_peer *bind_now(RingQueue *r, bool *stuck)
{
	uint64_t binding = next_binding(r), me = gq__peer_owner(binding);
	struct gq_ring_peer *peer;

	for (uint32_t i = 0; i < GQ_RING_PEERS && is_described_already(r, me); i++) {
		binding = next_binding(r);
		me = gq__peer_owner(binding);
	}

	gq__ring_lock_bindings();
	peer = inherit(r, me);
	sweep(r, binding);
	if (peer == NULL)
		peer = take_free(r, me);
	if (peer == NULL)
		peer = take_over(r, me, stuck);
	if (peer != NULL)
		gq__ring_remember(r, peer, me);
	gq__ring_unlock_bindings();
	if (peer == NULL)
		return NULL;
	gq__peer_describe(&peer->identity, me);
	set_hints(&r->messages, &r->local[gq_ring_peer_index(r, peer)].messages);
	set_hints(&r->completions, &r->local[gq_ring_peer_index(r, peer)].completions);
	return peer;
}

struct gq_ring_local *gq__ring_bind(RingQueue *r)
{
	struct gq_ring_peer *peer = gq__ring_look_up(r);
	struct gq_ring_local *local;
	bool stuck = false;
	uint32_t unjudged;

	if (peer == NULL) {
		peer = bind_now(r, &stuck);
		if (peer == NULL && stuck) {
			gq__ring_repair(r);
			peer = bind_now(r, &stuck);
		}
		unjudged = gq__ring_count_unjudged(r);
		if (peer == NULL) {
			gq__failf(Q_ERR_LIMIT,
				  "%u threads use this ring already; of %" PRIu32
				  " of them it cannot be known here whether they live: "
				  "q_ring_recover()",
				  GQ_RING_PEERS, unjudged);
			return NULL;
		}
	}
	local = &r->local[gq_ring_peer_index(r, peer)];
	local->peer = peer;
	local->role = gq_ring_peer_index(r, peer) + 1;
	*gq_ring_recent_of(r) = (struct gq_ring_binding){ .serial = r->serial, .local = local };
	return local;
}

/* ---- sides, in single mode ------------------------------------------------------------------ */

QueueStatus gq__ring_take_role(RingQueue *r, uint64_t *role, const struct gq_ring_local *local,
			       enum gq_op op)
{
	const uint64_t own = local->role;

	for (int tries = 0; tries < 64; tries++) {
		const uint64_t holder = gq_load_acquire_u64(role);
		struct gq_ring_peer *other;
		uint64_t owner;

		if (holder == 0 || holder > GQ_RING_PEERS) {
			if (gq_cas_acq_rel_u64(role, holder, own))
				return Q_OK;
			continue;
		}
		other = &r->head->peer[holder - 1];
		owner = gq_load_acquire_u64(&other->identity.owner);
		/* [operation.read] acquire: the positions that it left. */
		if ((gq_load_acquire_u64(&other->op) & GQ_OP_MASK) != op) {
			if (gq_cas_acq_rel_u64(role, holder, own))
				return Q_OK;
			continue;
		}
		if (gq__peer_life(&other->identity, owner) != GQ_LIFE_DEAD)
			return gq__fail(Q_ERR_POLICY,
					"two threads at once on one side of a ring made with "
					"Q_RING_SINGLE");
		gq__ring_repair(r);
	}
	return gq__fail(
		Q_ERR_POLICY,
		"the thread on this side of a ring made with Q_RING_SINGLE has died inside a "
		"call and cannot be replaced yet: try again");
}
