/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - a ring as its users' processes see it; private to the library.
 *
 * The memory of a ring may be shared with processes that die or lie. What is in it is described by
 * the structs "in shared memory"; everything else here is private to the process, computed from a
 * configuration that was checked once. Nothing read from shared memory is used as an index, a
 * length or a loop's bound before it has been masked or clamped with private values.
 */
#ifndef GPUQ_HOST_RING_H
#define GPUQ_HOST_RING_H

#include "device/protocol/protocol.h"
#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/region/region.h"
#include "host/shm/peer.h"
#include "host/wait/wait.h"

#include <gpuq/ring.h>

#include <pthread.h>

/* ---- in shared memory ------------------------------------------------------------------------ */

#define GQ_RING_MAGIC   UINT64_C(0x676e697271757067) /* "gpuqring" */
#define GQ_RING_VERSION 3u
#define GQ_RING_PEERS   Q_RING_MAX_THREADS

/* What the ring is: written by q_ring_create(), constant from `ready` on. */
struct gq_ring_setup {
	uint64_t magic;
	uint64_t ready; /* GQ_RING_MAGIC, last: [setup.write] release, [setup.read] acquire */
	uint64_t bytes;
	uint64_t start_pos;
	uint64_t reserved0;
	uint32_t version;
	uint32_t ring_size;
	uint32_t max_msg_size;
	uint32_t schema;
	uint32_t flags;
	uint32_t ageing_limit;
	uint64_t made_in; /* 1 + gq__generation of its maker: where private memory means something
			   */
	uint32_t reserved[14];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_setup) == GQ_LINE, "layout is shared between processes");

enum gq_ring_state {
	GQ_RING_OPEN = 0,
	GQ_RING_CLOSED,  /* nothing new is accepted; who is inside a send may still publish */
	GQ_RING_SETTLED, /* nor can they: what is not there now will not come */
};

/* Read by every call and written rarely. */
struct gq_ring_signals {
	uint64_t state;      /* gq_ring_state; only ever raised */
	uint32_t data_armed; /* odd: a receiver may sleep on it until something is sent */
	uint32_t room_armed; /* odd: a sender may sleep on it until an entry is free */
	uint64_t reserved0;
	uint64_t fenced; /* 1: a process without membarrier is here: everybody makes fences */
	/* Single mode: 1 + the peer of the thread that sends, receives, of each box. */
	uint64_t role[4];
	uint64_t reserved[8];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_signals) == GQ_LINE, "layout is shared between processes");

struct gq_ring_repair {
	uint64_t holder; /* owner word of the peer whose thread changes the ring: see
			    repair.c */
	uint64_t repairs;
	uint64_t reclaimed;
	uint64_t epoch;    /* counts what was done under the lock */
	uint64_t bindings; /* peers bound so far: makes each `owner` another one */
	uint64_t reserved[11];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_repair) == GQ_LINE, "layout is shared between processes");

/* What a thread is doing with the ring, in the low bits of its peer's `op`; a count above. */
enum gq_op { GQ_OP_IDLE = 0, GQ_OP_SEND, GQ_OP_RECEIVE, GQ_OP_COMPLETE, GQ_OP_POLL };
#define GQ_OP_MASK UINT64_C(7)
#define GQ_OP_NEXT UINT64_C(8)

/*
 * A thread that uses the ring: who it is, what it is at, and what it has counted. Written by that
 * thread only, so counting costs no locked operation; by others only once it is dead.
 */
struct gq_ring_peer {
	/* gq_op; [operation.end], [operation.read]. Counts on over all owners: never set back */
	uint64_t op;
	/* Single mode: what the operation will have done when it is complete (see repair.c).
	 */
	uint64_t plan_op;   /* the op that the plan is of, written last */
	uint64_t plan_what; /* class | entries << 8 | slots << 32 */
	uint64_t plan_ready_pos;
	uint64_t plan_pool_pos;
	uint64_t bytes_sent;
	uint64_t bytes_received;
	uint64_t descriptors;
	uint64_t discarded;
	uint64_t full;
	uint64_t empty;
	uint64_t refused;
	struct gq_peer_identity identity; /* the thread; `owner` 0: the peer is free */
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_peer) == GQ_LINE, "layout is shared between processes");

/* Where a box's rings are: each line written by one side. */
struct gq_box_positions {
	uint64_t pool_head; /* senders */
	uint64_t sequence;  /* senders, with Q_RING_LARGE: messages accepted */
	uint64_t reserved0[14];
	uint64_t tail[GQ_CLASSES]; /* senders */
	uint64_t reserved1[12];
	uint64_t head[GQ_CLASSES]; /* receivers */
	uint64_t reserved2[12];
	uint64_t pool_tail; /* receivers */
	uint64_t reserved3[15];
};
GQ_STATIC_ASSERT(sizeof(struct gq_box_positions) == (size_t)4 * GQ_LINE, "layout is shared");

struct gq_ring_head {
	struct gq_ring_setup setup;
	struct gq_ring_signals signals;
	struct gq_ring_repair repair;
	struct gq_box_positions messages;
	struct gq_box_positions completions;
	struct gq_ring_peer peer[GQ_RING_PEERS];
};

/* A completion, as the cell of a message of the completion box. */
struct gq_ring_completion {
	uint64_t sequence;
	int32_t status;
	uint32_t length;
	uint8_t data[Q_RING_INLINE_BYTES];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_completion) == 32, "layout is shared between processes");

/*
 * The word of a class ring's entry, below its tag (a lap): slot, closed, kind, length. With length
 * and slot in one word a receiver knows what it needs room for before it claims, and a message of
 * up to a cache line is one line and three words.
 *
 * `closed` says nothing of the message in the entry, but that the entry's next one will never come:
 * see gq__ring_bar().
 */
#define GQ_LENGTH_BITS      21u
#define GQ_KIND_BITS        2u
#define GQ_KIND_DESCRIPTOR  1u /* a MessageDescriptor, in `described` */
#define GQ_KIND_PARTS       2u /* the cell is the first of several, linked by `chain` */
#define GQ_CLOSED           (UINT64_C(1) << (GQ_LENGTH_BITS + GQ_KIND_BITS)) /* see above */
#define GQ_SLOT_SHIFT       (GQ_LENGTH_BITS + GQ_KIND_BITS + 1u)
#define GQ_MAX_PARTS        Q_RING_MAX_PARTS
#define GQ_DESCRIPTOR_WORDS 3u

/* A word of `chain`: one entry of a message in several. */
#define GQ_PART_CONTINUES  (UINT64_C(1) << 62)
#define GQ_PART_FINAL      (UINT64_C(1) << 63)
#define GQ_PART_SLOT_SHIFT 32u

/* ---- private --------------------------------------------------------------------------------- */

/* Messages one way: a pool of cells, and a ring a class of those that hold a message. */
struct gq_box {
	struct gq_word_ring pool;
	struct gq_word_ring ready[GQ_CLASSES];
	uint32_t classes;
	uint32_t cell_bytes; /* the most that a cell can hold */
	uint64_t *number;    /* a cell: sequence + 1 of the message it holds, or held last */
	uint64_t *described; /* GQ_DESCRIPTOR_WORDS a cell; NULL where there are no descriptors */
	uint64_t *chain;     /* with Q_RING_LARGE, else NULL */
	uint64_t *sequence;  /* with Q_RING_LARGE, else NULL: then it is the pool's position */
	uint8_t *cells;
	uint64_t stride;
	uint64_t start_pos;
	uint64_t *send_role, *receive_role;
	enum gq_op send_op, receive_op;
};

/* The slot in an entry's word, and its kind; the slot in a word of the pool. */
static inline uint32_t gq_entry_slot(const struct gq_box *b, uint64_t word)
{
	return (uint32_t)(word >> GQ_SLOT_SHIFT & b->pool.mask);
}

static inline uint32_t gq_entry_kind(uint64_t word)
{
	return (uint32_t)(word >> GQ_LENGTH_BITS) & ((1u << GQ_KIND_BITS) - 1);
}

static inline uint32_t gq_pool_slot(const struct gq_box *b, uint64_t word)
{
	return (uint32_t)(word & b->pool.mask);
}

/* What a receiver keeps to itself: how often it has passed over which class. One a peer, one line
 * each. */
struct gq_ring_ageing {
	GQ_ALIGNED(GQ_LINE) struct gq_ageing ageing;
};

/* The descriptor of q_ring_fd(), and the thread that serves it: see poll_fd.c. */
struct gq_ring_poll {
	pthread_mutex_t lock; /* held for a look and a system call, never across a wait */
	int fd;
	bool is_there; /* `fd` and `thread`; under the lock, and for q_ring_destroy() */
	pthread_t thread;
	struct gq_event cleared; /* the thread sleeps on it while the descriptor is readable */
	uint32_t readable;       /* written under the lock */
	uint32_t quit;
};

struct RingQueue {
	uint64_t generation; /* of the process: see gq__generation */
	uint64_t serial;     /* of the handle, never reused: key of the threads' bindings */
	RingConfig cfg;
	struct gq_ring_head *head;
	struct gq_box messages;
	struct gq_box completions;
	size_t bytes;
	bool owned;    /* the memory is the library's */
	size_t mapped; /* bytes that the library has mapped at `head`; 0: none */
	bool single;   /* Q_RING_SINGLE */
	uint32_t max_parts;
	QueueStatus (*validate)(const void *data, size_t len, void *user);
	void *validate_user;
	RegionTable *regions;
	struct gq_ring_poll poll;
	struct gq_ring_ageing *ageing; /* with Q_RING_AGEING, else NULL */
	/* Who is bound: see bind.c. */
	RingQueue *listed_after; /* in the list of live handles; under its lock */
	uint64_t
		bound[GQ_RING_PEERS]; /* `owner` of what this handle's threads own; under it, too */
	uint64_t told_unjudged;       /* 1: the log has it that there is somebody it cannot judge */
	/* Watching peers: see gq__ring_watch(). */
	GQ_ALIGNED(GQ_LINE) uint64_t next_watch_ns;
	uint64_t watching;        /* 1: a thread of this handle is at it; guards what is below */
	uint64_t step_ns;         /* not 0: a repair is under way, look at it so often */
	uint64_t fenced_since_ns; /* not 0: membarrier was refused then; not guarded */
	uint64_t next_scan_ns;
	struct gq_ring_inquest *inquest; /* the repair; NULL: none */
	uint64_t seen_op[GQ_RING_PEERS];
};

QueueStatus gq__ring_refuse_handle(const RingQueue *r);

/* The one load that every call pays for fork safety. */
static inline QueueStatus gq_ring_enter(const RingQueue *r)
{
	if (__builtin_expect(r == NULL || r->generation != gq__generation, 0))
		return gq__ring_refuse_handle(r);
	return Q_OK;
}

#define GQ_RETURN_IF_REFUSED(r)                                                                    \
	do {                                                                                       \
		QueueStatus entered_ = gq_ring_enter(r);                                           \
		if (entered_ != Q_OK)                                                              \
			return entered_;                                                           \
	} while (0)

/* ---- bind.c: threads and their peers -------------------------------------------------- */

/* The list of live handles: a thread that ends gives back what it has bound through those. */
void gq__ring_list(RingQueue *r);
/* Takes it off the list, and gives back what is bound through it. */
void gq__ring_unlist(RingQueue *r);
/* The calling thread's peer, bound at its first use of the handle. NULL: q_last_error() is set.
 */
struct gq_ring_peer *gq__ring_bind(RingQueue *r);
/* The word of the calling thread's peer; if it has none, one that names it all the same. */
uint64_t gq__ring_me(RingQueue *r);
/* Peers of threads that cannot be judged from here; the first time there are any, the log says.
 */
uint32_t gq__ring_count_unjudged(RingQueue *r);
/* Single mode: make the calling thread the one that sends or receives. */
QueueStatus gq__ring_take_role(RingQueue *r, uint64_t *role, struct gq_ring_peer *peer,
			       enum gq_op op);

/* A thread's latest bindings, by handle; the others are in a table of its own (bind.c). */
struct gq_ring_binding {
	uint64_t serial;
	struct gq_ring_peer *peer;
};
enum { GQ_RECENT = 8 };
extern _Thread_local struct gq_ring_binding gq__ring_recent[GQ_RECENT];

static inline struct gq_ring_peer *gq_ring_peer_of(RingQueue *r)
{
	struct gq_ring_binding *b = &gq__ring_recent[r->serial % GQ_RECENT];

	return __builtin_expect(b->serial == r->serial, 1) ? b->peer : gq__ring_bind(r);
}

static inline uint64_t gq_ring_peer_index(const RingQueue *r, const struct gq_ring_peer *peer)
{
	return (uint64_t)(peer - r->head->peer);
}

/* ---- repair.c: peers that die ----------------------------------------------------------- */

static inline void gq_ring_fence(const RingQueue *r, struct gq_ring_peer *peer)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* pairs with gq__barrier() */
	if (__builtin_expect(gq_load_relaxed_u64(&r->head->signals.fenced) != 0, 0))
		gq_fetch_or_seq_cst_u64(&peer->op, 0); /* a full fence of its own */
}

/*
 * gq__barrier(), or, where the kernel refuses it, what stands in for it: everybody makes
 * fences from now on, and those that looked before are given time. @return false: not reached yet;
 * ask again, in 10 ms at the latest.
 */
bool gq__ring_reach(RingQueue *r);

/* Whether a thread that is, or was, a peer's owner lives; by which repairs judge. */
typedef enum gq_life gq_judge(struct gq_peer_identity *identity, uint64_t owner);

/*
 * To be called by who finds no room, however often: at most every 100 ms it looks for peers that
 * have died inside a call, and repairs what they left, step by step. Never waits.
 */
void gq__ring_watch(RingQueue *r);
/* The same at once, and also where somebody may have died a moment ago. */
void gq__ring_repair(RingQueue *r);
/* The same by another's judgement. @return whether nobody whom it holds dead has anything any more;
 * false: call again, threads that it holds alive are inside calls. */
bool gq__ring_repair_by(RingQueue *r, gq_judge *judge);
/* Before the handle is freed. */
void gq__ring_forget_repair(RingQueue *r);

/* How long a waiter may sleep at a time: a peer that has died cannot wake anybody. */
static inline uint64_t gq_ring_nap_ns(const RingQueue *r)
{
	uint64_t step = gq_load_relaxed_u64(&r->step_ns);

	return step != 0 ? step : 100000000u;
}

/* Between a sleeper's arming and its second look ([sleep.look]), see signal_after(): single mode's
 * barrier.
 * @return how long to sleep at a time: who cannot reach the other side looks again soon. */
static inline uint64_t gq__ring_reach_before_look(RingQueue *r, const struct gq_wait *wait)
{
	const bool reached = !wait->registered || !r->single || gq__ring_reach(r);

	return reached ? gq_ring_nap_ns(r) : 1000000u;
}

/* On a closed ring: whether all that will ever be in it is there. Never waits. */
bool gq__ring_settle(RingQueue *r);

/* ---- poll_fd.c: q_ring_fd() ---------------------------------------------------------------- */

void gq__ring_poll_begin(RingQueue *r);
void gq__ring_poll_end(RingQueue *r);
/* A receive has found nothing. */
void gq__ring_poll_clear(RingQueue *r);

static inline void gq_ring_found_nothing(RingQueue *r)
{
	if (__builtin_expect(gq_load_seq_cst_u32(&r->poll.readable) != 0, 0))
		gq__ring_poll_clear(r);
}

#endif /* GPUQ_HOST_RING_H */
