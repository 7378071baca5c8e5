/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind.c - a ring's threads and their peers.
 *
 * A thread has a peer of a ring for each handle through which it has used it. It gets one at its
 * first call and gives it back when it ends, or when the handle is destroyed. Whoever ends without
 * that (killed, replaced by execve()) leaves it bound; when no peer is free any more, those of
 * dead threads are taken over, if it is certain that they are dead: see peer.h.
 *
 * Who writes `peer.owner`: a thread that binds, from 0 to its own word or from a dead thread's;
 * the thread itself, when it gives back, or another one of its process for it when the handle is
 * destroyed; who repairs, and q_ring_recover(), from a dead thread's to 0. Always by
 * compare-and-swap, and no word comes again: so of two that mean to do something to a peer one
 * does it, and who had looked at an earlier binding does nothing.
 *
 * What a process knows of its own bindings is private: a list of live handles, in each the words
 * that its threads own, and in each thread a table of its bindings. One lock is over all of it; it
 * is taken to bind, to give back, to make and to destroy a handle, and not on the way of a message.
 */
#include "host/ring/ring.h"

#include "host/base/fault.h"
#include "host/base/memory.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- handles that live ----------------------------------------------------------------------- */

enum { LISTS = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static RingQueue *live[LISTS]; /* by serial */
static pthread_key_t at_thread_end;
static bool has_key;

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

/* In a child too: the handles are its parent's, and gq__generation says so. */
static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

static void thread_ends(void *table);

static void prepare(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
	/* Without one, the peers of threads that end wait until they are found dead. */
	has_key = !gq__fault() && pthread_key_create(&at_thread_end, thread_ends) == 0;
}

void gq__ring_list(RingQueue *r)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, prepare);
	pthread_mutex_lock(&lock);
	r->listed_after = live[r->serial % LISTS];
	live[r->serial % LISTS] = r;
	pthread_mutex_unlock(&lock);
}

static RingQueue *find_live(uint64_t serial)
{
	RingQueue *r = live[serial % LISTS];

	while (r != NULL && r->serial != serial)
		r = r->listed_after;
	return r != NULL && r->generation == gq__generation ? r : NULL;
}

/* ---- giving back ----------------------------------------------------------------------------- */

static bool is_idle(uint64_t op)
{
	return (op & GQ_OP_MASK) == GQ_OP_IDLE;
}

static uint64_t op_of(const struct gq_ring_peer *peer)
{
	return gq_load_acquire_u64(&peer->op); /* [operation.read] */
}

/* Some programs unmap a ring and destroy its handle later, or never. */
static bool is_mapped(const RingQueue *r)
{
	const size_t into_page = (uintptr_t)r->head % (size_t)sysconf(_SC_PAGESIZE);
	unsigned char resident[sizeof(*r->head) / 4096 + 3]; /* a byte a page, of 4096 or more */

	return mincore((uint8_t *)r->head - into_page, sizeof(*r->head) + into_page, resident) == 0;
}

/* Under the lock. A peer that is inside an operation is left to who repairs. */
static void give_back(RingQueue *r, uint32_t i, uint64_t owner)
{
	struct gq_ring_peer *peer = &r->head->peer[i];

	if (r->bound[i] == owner)
		r->bound[i] = 0;
	if (gq_load_relaxed_u64(&peer->identity.owner) == owner && is_idle(op_of(peer)))
		gq_cas_acq_rel_u64(&peer->identity.owner, owner, 0);
}

void gq__ring_unlist(RingQueue *r)
{
	pthread_mutex_lock(&lock);
	for (RingQueue **at = &live[r->serial % LISTS]; *at != NULL; at = &(*at)->listed_after) {
		if (*at == r) {
			*at = r->listed_after;
			break;
		}
	}
	if (r->generation == gq__generation && (r->owned || is_mapped(r)))
		for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
			if (r->bound[i] != 0)
				give_back(r, i, r->bound[i]);
	pthread_mutex_unlock(&lock);
}

/* ---- the calling thread's bindings ----------------------------------------------------------- */

struct binding {
	uint64_t serial; /* of the handle, which may be gone; 0: unused */
	uint64_t owner;
	struct gq_ring_peer *peer;
};

struct table {
	uint64_t generation; /* of the process: see gq__generation */
	uint32_t size;       /* power of two */
	uint32_t used;       /* less than half of them */
	struct binding binding[];
};

enum { FIRST_SIZE = 16 };

_Thread_local struct gq_ring_binding gq__ring_recent[GQ_RECENT];
static _Thread_local struct table *mine;

static struct binding *slot_of(struct table *t, uint64_t serial)
{
	uint64_t at = serial & (t->size - 1);

	while (t->binding[at].serial != serial && t->binding[at].serial != 0)
		at = (at + 1) & (t->size - 1);
	return &t->binding[at];
}

static struct binding *look_up(const RingQueue *r)
{
	struct binding *b;

	if (mine == NULL || mine->generation != gq__generation)
		return NULL;
	b = slot_of(mine, r->serial);
	return b->serial != 0 ? b : NULL;
}

/* Under the lock: a table of what is bound through handles that live, with room for as much again.
 * NULL: no memory. */
static struct table *renew(struct table *old)
{
	const bool usable = old != NULL && old->generation == gq__generation;
	uint32_t n = 0, size = FIRST_SIZE;
	struct table *t;

	for (uint32_t i = 0; usable && i < old->size; i++)
		n += old->binding[i].serial != 0 && find_live(old->binding[i].serial) != NULL;
	while (size < 4 * (n + 1))
		size *= 2;
	t = gq__fault() ? NULL : calloc(1, sizeof(*t) + size * sizeof(t->binding[0]));
	if (t == NULL)
		return NULL;
	t->generation = gq__generation;
	t->size = size;
	t->used = n;
	for (uint32_t i = 0; usable && i < old->size; i++)
		if (old->binding[i].serial != 0 && find_live(old->binding[i].serial) != NULL)
			*slot_of(t, old->binding[i].serial) = old->binding[i];
	free(old);
	return t;
}

/*
 * Under the lock. Without memory for it the binding is not remembered: the next call binds anew
 * (inherit()), and the end of the thread does not give it back.
 */
static void remember(const RingQueue *r, struct gq_ring_peer *peer, uint64_t owner)
{
	struct table *t = mine;

	if (t == NULL || t->generation != gq__generation || 2 * (t->used + 1) > t->size) {
		t = renew(t);
		if (t == NULL)
			return;
		mine = t;
		if (has_key)
			pthread_setspecific(at_thread_end, t);
	}
	*slot_of(t, r->serial) =
		(struct binding){ .serial = r->serial, .owner = owner, .peer = peer };
	t->used++;
}

static void give_all_back(struct table *t)
{
	for (uint32_t i = 0; t->generation == gq__generation && i < t->size; i++) {
		const struct binding *b = &t->binding[i];
		RingQueue *r = b->serial != 0 ? find_live(b->serial) : NULL;

		if (r != NULL && (r->owned || is_mapped(r)))
			give_back(r, (uint32_t)gq_ring_peer_index(r, b->peer), b->owner);
	}
}

static void forget_all(void)
{
	memset(gq__ring_recent, 0, sizeof(gq__ring_recent));
	free(mine);
	mine = NULL;
}

/* If a later destructor of the thread uses a ring, it binds again and this comes again. */
static void thread_ends(void *table)
{
	pthread_mutex_lock(&lock);
	give_all_back(table);
	pthread_mutex_unlock(&lock);
	forget_all();
}

/*
 * The process ends, or unloads the library: of the threads there are then, this one alone is
 * certain not to be inside a call. (It may have come here out of a signal handler, so it does not
 * insist on the lock.)
 */
__attribute__((destructor)) static void library_ends(void)
{
	for (int tries = 0; pthread_mutex_trylock(&lock) != 0; tries++) {
		if (tries == 1000)
			return;
		gq__await_step((uint32_t)tries);
	}
	if (mine != NULL)
		give_all_back(mine);
	if (has_key)
		pthread_key_delete(at_thread_end);
	has_key = false;
	pthread_mutex_unlock(&lock);
	forget_all();
}

/* ---- binding --------------------------------------------------------------------------------- */

static uint64_t next_binding(RingQueue *r)
{
	return gq_fetch_add_relaxed_u64(&r->head->repair.bindings, 1) % GQ_OWNER_UNBOUND;
}

/*
 * An idle peer that this handle's thread of the same id owns: that was this thread, or one that
 * has ended. Needed only where a binding could not be remembered.
 */
static struct gq_ring_peer *inherit(RingQueue *r, uint64_t me)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t owner = r->bound[i];

		if (owner != 0 && gq_owner_id(owner) == gq_owner_id(me) && is_idle(op_of(peer)) &&
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

/* A dead thread's. *stuck: some have died inside an operation. */
static struct gq_ring_peer *take_over(RingQueue *r, uint64_t me, bool *stuck)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		struct gq_ring_peer *peer = &r->head->peer[i];
		const uint64_t owner = gq_load_acquire_u64(&peer->identity.owner);
		const uint64_t op = op_of(peer);

		/* Dead for good: if it was idle before it was found dead and still is, it ended
		 * idle. And the peer is still its own, or the swap fails. */
		if (gq__peer_life(&peer->identity, owner) != GQ_LIFE_DEAD)
			continue;
		if (!is_idle(op))
			*stuck = true;
		else if (op_of(peer) == op && gq_cas_acq_rel_u64(&peer->identity.owner, owner, me))
			return peer;
	}
	return NULL;
}

/*
 * A few peers a binding, in turn: those whose owner has ended become free. So the dead of one
 * namespace do not take all peers before somebody of it has to look, while those of another find
 * none that they may take.
 */
enum { SWEPT = 16 };

static void sweep(RingQueue *r, uint64_t turn)
{
	for (uint32_t i = 0; i < SWEPT; i++) {
		struct gq_ring_peer *peer = &r->head->peer[(turn * SWEPT + i) % GQ_RING_PEERS];
		const uint64_t owner = gq_load_acquire_u64(&peer->identity.owner);
		const uint64_t op = op_of(peer);

		if (owner == 0 || !gq__peer_is_gone(&peer->identity, owner))
			continue;
		gq__peer_say_dead(&peer->identity, owner);
		if (is_idle(op) && op_of(peer) == op)
			gq_cas_acq_rel_u64(&peer->identity.owner, owner, 0);
	}
}

/*
 * Whether a peer still says something of a thread of the same word: one of the same id, whose
 * binding had the same number a thousand bindings ago. It would pass for ours until we describe
 * ourselves.
 */
static bool is_described(const RingQueue *r, uint64_t owner)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		/* [owner.read] */
		const uint64_t word = gq_load_acquire_u64(&r->head->peer[i].identity.described);

		if (word == owner || word == ~owner)
			return true;
	}
	return false;
}

static struct gq_ring_peer *bind_now(RingQueue *r, bool *stuck)
{
	uint64_t binding = next_binding(r), me = gq__peer_owner(binding);
	struct gq_ring_peer *peer;

	for (uint32_t i = 0; i < GQ_RING_PEERS && is_described(r, me); i++) {
		binding = next_binding(r);
		me = gq__peer_owner(binding);
	}

	pthread_mutex_lock(&lock);
	peer = inherit(r, me);
	sweep(r, binding);
	if (peer == NULL)
		peer = take_free(r, me);
	if (peer == NULL)
		peer = take_over(r, me, stuck);
	if (peer != NULL) {
		r->bound[gq_ring_peer_index(r, peer)] = me;
		remember(r, peer, me);
	}
	pthread_mutex_unlock(&lock);
	if (peer != NULL)
		gq__peer_describe(&peer->identity, me);
	return peer;
}

struct gq_ring_peer *gq__ring_bind(RingQueue *r)
{
	struct binding *b = look_up(r);
	struct gq_ring_peer *peer = b != NULL ? b->peer : NULL;
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
	gq__ring_recent[r->serial % GQ_RECENT] =
		(struct gq_ring_binding){ .serial = r->serial, .peer = peer };
	return peer;
}

uint64_t gq__ring_me(RingQueue *r)
{
	struct binding *b = look_up(r);

	return b != NULL ? b->owner : gq__peer_owner(GQ_OWNER_UNBOUND);
}

/* ---- who lives ------------------------------------------------------------------------------- */

/* Whether a thread of this process owns such a peer, through whichever handle. */
static bool is_bound_here(uint64_t owner)
{
	bool found = false;

	pthread_mutex_lock(&lock);
	for (int list = 0; list < LISTS; list++)
		for (const RingQueue *r = live[list]; r != NULL; r = r->listed_after)
			for (uint32_t i = 0; r->generation == gq__generation && i < GQ_RING_PEERS;
			     i++)
				found |= r->bound[i] == owner;
	pthread_mutex_unlock(&lock);
	return found;
}

/* Said once a handle. */
static void tell_of_unjudged(RingQueue *r)
{
	if (gq_exchange_seq_cst_u64(&r->told_unjudged, 1) == 0)
		gq__log(Q_LOG_WARNING,
			gq__peer_namespace() == 0
				? "this process cannot find out its PID namespace (no /proc): if a "
				  "thread dies inside a call on a ring, it is not noticed here"
				: "a ring is used from another PID namespace: if a thread there "
				  "dies inside a call, it is not noticed here");
}

uint32_t gq__ring_count_unjudged(RingQueue *r)
{
	const uint64_t here = gq__peer_namespace();
	uint32_t n = 0;

	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		const uint64_t owner = gq_load_relaxed_u64(&r->head->peer[i].identity.owner);

		n += owner != 0 && (here == 0 || gq_owner_namespace(owner) != here) &&
		     !is_bound_here(owner) &&
		     gq__peer_life(&r->head->peer[i].identity, owner) == GQ_LIFE_UNKNOWN;
	}
	if (n != 0)
		tell_of_unjudged(r);
	return n;
}

/* The judgement of q_ring_recover(): its caller vouches for all that are not of this process. */
static enum gq_life vouched(struct gq_peer_identity *identity, uint64_t owner)
{
	if (owner == 0 || is_bound_here(owner))
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
		const uint64_t op = op_of(peer);

		if (owner != 0 && vouched(&peer->identity, owner) == GQ_LIFE_DEAD && is_idle(op) &&
		    op_of(peer) == op)
			gq_cas_acq_rel_u64(&peer->identity.owner, owner, 0);
	}
}

QueueStatus q_ring_recover(RingQueue *r)
{
	GQ_RETURN_IF_REFUSED(r);
	for (uint32_t tries = 0; tries < 1200; tries++) {
		bool done = gq__ring_repair_by(r, vouched);

		release_the_dead(r);
		if (done)
			return Q_OK;
		gq__await_step(tries);
	}
	return gq__fail(Q_ERR_NOT_READY,
			"threads of this process are inside calls on the ring: again");
}

/* ---- roles, in single mode ------------------------------------------------------------------- */

QueueStatus gq__ring_take_role(RingQueue *r, uint64_t *role, struct gq_ring_peer *peer,
			       enum gq_op op)
{
	const uint64_t mine_now = gq_ring_peer_index(r, peer) + 1;

	for (int tries = 0; tries < 64; tries++) {
		const uint64_t holder = gq_load_acquire_u64(role);
		struct gq_ring_peer *other;
		uint64_t owner;

		if (holder == 0 || holder > GQ_RING_PEERS) {
			if (gq_cas_acq_rel_u64(role, holder, mine_now))
				return Q_OK;
			continue;
		}
		other = &r->head->peer[holder - 1];
		owner = gq_load_acquire_u64(&other->identity.owner);
		/* [operation.read] acquire: the positions that it left. */
		if ((gq_load_acquire_u64(&other->op) & GQ_OP_MASK) != op) {
			if (gq_cas_acq_rel_u64(role, holder, mine_now))
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
