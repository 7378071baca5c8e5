/* SPDX-License-Identifier: Apache-2.0 */
/* recover.c - q_ring_recover(): a repair on the word of the caller that no other process lives. */
#include "host/ring/handles.h"
#include "host/ring/repair.h"

/* The judgement of q_ring_recover(): all threads of other processes are
 * dead, says its caller. */
static enum gq_life judge_as_vouched(struct gq_peer_identity *identity, uint64_t owner)
{
	if (owner == 0 || gq__ring_is_bound_here(owner))
		return gq__peer_life(identity, owner);
	if (identity != NULL)
		gq__peer_say_dead(identity, owner);
	return GQ_LIFE_DEAD;
}

static void release_the_dead(RingQueue *r)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t owner = gq_load_acquire_u64(&peer->identity.owner);
		const uint64_t op = gq_ring_op_of(peer);

		if (owner != 0 && judge_as_vouched(&peer->identity, owner) == GQ_LIFE_DEAD &&
		    !gq_ring_is_inside(op) && gq_ring_op_of(peer) == op)
			gq_cas_acq_rel_u64(&peer->identity.owner, owner, 0);
	}
}

QueueStatus q_ring_recover(RingQueue *r)
{
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	for (uint32_t tries = 0; tries < 1200; tries++) {
		bool done = gq__ring_repair_by(r, judge_as_vouched);

		release_the_dead(r);
		if (done)
			return Q_OK;
		gq__await_step(tries);
	}
	return gq__fail(Q_ERR_NOT_READY,
			"threads of this process are inside calls on the ring: again");
}
