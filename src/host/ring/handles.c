/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handles.c - what this process has of rings: its handles, and what its threads have bound.
 *
 * All of it is private to the process: a list of live handles, in each handle the words of its
 * threads' peers, and in each thread a table of its bindings. So the end of a thread, of a handle
 * or of the process gives peers back without touching a ring that is gone.
 */
#include "host/ring/handles.h"

#include "host/base/fault.h"
#include "host/ring/recent.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

QueueStatus gq__ring_refuse_handle(const RingQueue *r)
{
	if (r == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "ring is NULL");
	return gq__fail(Q_ERR_UNSUPPORTED,
			"this handle is of the process that forked this one: attach in the child");
}

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

/* Also in the child: it keeps its parent's handles, which gq__generation tells it not to use. */
static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

static void thread_ends(void *table);

static void prepare(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
	/* Without a key, the peers of threads that end stay bound until the threads are found
	 * dead. */
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

/* A program may unmap a ring and destroy its handle later, or never. */
static bool is_mapped(const RingQueue *r)
{
	const size_t into_page = (uintptr_t)r->head % (size_t)sysconf(_SC_PAGESIZE);
	unsigned char resident[sizeof(*r->head) / 4096 +
			       3]; /* a byte for each page, of 4096 bytes or more */

	return mincore((uint8_t *)r->head - into_page, sizeof(*r->head) + into_page, resident) == 0;
}

/* Under the lock. A peer that is inside an operation is left to a repair. */
static void give_back(RingQueue *r, uint32_t i, uint64_t owner)
{
	struct gq_ring_peer *peer = &r->head->peer[i];

	if (r->bound[i] == owner)
		r->bound[i] = 0;
	if (gq_load_relaxed_u64(&peer->identity.owner) == owner &&
	    !gq_ring_is_inside(gq_ring_op_of(peer)))
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

static _Thread_local struct table *own_table;

/* Where the handle's binding is in the table, or would be. */
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

	if (own_table == NULL || own_table->generation != gq__generation)
		return NULL;
	b = slot_of(own_table, r->serial);
	return b->serial != 0 ? b : NULL;
}

/* Under the lock: make a new table of the old one's bindings through handles that live, with room
 * for as many again. @return NULL: no memory. */
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
 * Under the lock. If there is no memory, the binding is not remembered: the thread's next call
 * binds anew and inherits the peer (bind.c), and the end of the thread does not give it back.
 */
static void remember(const RingQueue *r, struct gq_ring_peer *peer, uint64_t owner)
{
	struct table *t = own_table;

	if (t == NULL || t->generation != gq__generation || 2 * (t->used + 1) > t->size) {
		t = renew(t);
		if (t == NULL)
			return;
		own_table = t;
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
	free(own_table);
	own_table = NULL;
}

/* If a later destructor of the thread uses a ring, it binds again, and this is called again. */
static void thread_ends(void *table)
{
	pthread_mutex_lock(&lock);
	give_all_back(table);
	pthread_mutex_unlock(&lock);
	forget_all();
}

/*
 * The process ends or unloads the library. Of its threads, only this one is certain not to be
 * inside a call. It may have come here out of a signal handler that holds the lock, so it gives up
 * after a while.
 */
__attribute__((destructor)) static void library_ends(void)
{
	for (int tries = 0; pthread_mutex_trylock(&lock) != 0; tries++) {
		if (tries == 1000)
			return;
		gq__await_step((uint32_t)tries);
	}
	if (own_table != NULL)
		give_all_back(own_table);
	if (has_key)
		pthread_key_delete(at_thread_end);
	has_key = false;
	pthread_mutex_unlock(&lock);
	forget_all();
}

struct gq_ring_peer *gq__ring_look_up(const RingQueue *r)
{
	struct binding *b = look_up(r);

	return b != NULL ? b->peer : NULL;
}

void gq__ring_lock_bindings(void)
{
	pthread_mutex_lock(&lock);
}

void gq__ring_unlock_bindings(void)
{
	pthread_mutex_unlock(&lock);
}

void gq__ring_remember(RingQueue *r, struct gq_ring_peer *peer, uint64_t owner)
{
	r->bound[gq_ring_peer_index(r, peer)] = owner;
	remember(r, peer, owner);
}

uint64_t gq__ring_me(RingQueue *r)
{
	struct binding *b = look_up(r);

	return b != NULL ? b->owner : gq__peer_owner(GQ_OWNER_UNBOUND);
}

/* ---- threads that cannot be judged ---------------------------------------------------------- */

bool gq__ring_is_bound_here(uint64_t owner)
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

/* Once for each handle. */
static void log_unjudged(RingQueue *r)
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
		     !gq__ring_is_bound_here(owner) &&
		     gq__peer_life(&r->head->peer[i].identity, owner) == GQ_LIFE_UNKNOWN;
	}
	if (n != 0)
		log_unjudged(r);
	return n;
}
