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

#include "device/protocol.h"
#include "host/error.h"
#include "host/event.h"
#include "host/queue.h"
#include "host/region.h"

#include <gpuq/ring.h>

/* ---- in shared memory ------------------------------------------------------------------------ */

#define GQ_RING_MAGIC   UINT64_C(0x676e697271757067) /* "gpuqring" */
#define GQ_RING_VERSION 1u
#define GQ_RECORDS      Q_RING_MAX_THREADS

/* What the ring is: written by q_ring_create(), constant from `ready` on. */
struct gq_ring_setup {
	uint64_t magic;
	uint64_t ready; /* GQ_RING_MAGIC, last: R1 release, R2 acquire */
	uint64_t bytes;
	uint64_t start_pos;
	uint64_t pid_namespace; /* identities mean something in it only */
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
	GQ_RING_CLOSED,  /* nothing new is accepted; a sender may still be inside a call */
	GQ_RING_SETTLED, /* nor is any sender inside: what is not there now will not come */
};

/* Read by every call and written rarely. */
struct gq_ring_signals {
	uint64_t state;      /* gq_ring_state; only ever raised */
	uint32_t data_armed; /* odd: a receiver may sleep on it until something is sent */
	uint32_t room_armed; /* odd: a sender may sleep on it until an entry is free */
	uint64_t foreign;    /* 1: a process of another PID namespace is here: judge nobody dead */
	uint64_t fenced;     /* 1: a process without membarrier is here: everybody makes fences */
	/* Single mode: 1 + the record of the thread that sends, receives, of each box. */
	uint64_t role[4];
	uint64_t reserved[8];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_signals) == GQ_LINE, "layout is shared between processes");

struct gq_ring_repair {
	uint64_t holder; /* identity of the thread that repairs */
	uint64_t repairs;
	uint64_t reclaimed;
	uint64_t reserved[13];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_repair) == GQ_LINE, "layout is shared between processes");

/* What a thread is doing with the ring, in the low bits of its record's `op`; a count above. */
enum gq_op { GQ_OP_IDLE = 0, GQ_OP_SEND, GQ_OP_RECEIVE, GQ_OP_COMPLETE, GQ_OP_POLL };
#define GQ_OP_MASK UINT64_C(7)
#define GQ_OP_NEXT UINT64_C(8)

/*
 * A thread that uses the ring: who it is, what it is at, and what it has counted. Written by that
 * thread only, so counting costs no locked operation; by others only once it is dead.
 */
struct gq_ring_record {
	uint64_t owner; /* identity; 0: free */
	uint64_t op;    /* gq_op; U1, U2 */
	/* Single mode: what the operation will have done when it is complete (see ring_repair.c).
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
	uint64_t reserved[3];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_record) == GQ_LINE, "layout is shared between processes");

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
	struct gq_ring_record record[GQ_RECORDS];
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
 * The word of a class ring's entry, below its tag (a lap): slot, kind, length. With length and slot
 * in one word a receiver knows what it needs room for before it claims, and a message of up to a
 * cache line is one line and three words.
 */
#define GQ_LENGTH_BITS      21u
#define GQ_KIND_BITS        3u
#define GQ_KIND_DESCRIPTOR  1u /* a MessageDescriptor, in `described` */
#define GQ_KIND_PARTS       2u /* the cell is the first of several, linked by `chain` */
#define GQ_MAX_PARTS        Q_RING_MAX_PARTS
#define GQ_DESCRIPTOR_WORDS 3u

/* A word of `chain`: one entry of a message in several. */
#define GQ_PART_CONTINUES  (UINT64_C(1) << 62)
#define GQ_PART_FINAL      (UINT64_C(1) << 63)
#define GQ_PART_SLOT_SHIFT 32u

/* ---- private --------------------------------------------------------------------------------- */

/* Messages one way: a pool of cells, and a ring a class of those that hold a message. */
struct gq_box {
	struct gq_ring pool;
	struct gq_ring ready[GQ_CLASSES];
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
	return (uint32_t)(word >> (GQ_LENGTH_BITS + GQ_KIND_BITS) & b->pool.mask);
}

static inline uint32_t gq_entry_kind(uint64_t word)
{
	return (uint32_t)(word >> GQ_LENGTH_BITS) & ((1u << GQ_KIND_BITS) - 1);
}

static inline uint32_t gq_pool_slot(const struct gq_box *b, uint64_t word)
{
	return (uint32_t)(word & b->pool.mask);
}

/* What a receiver keeps to itself: the turns of the ageing bound. One a record, one line each. */
struct gq_ring_turn {
	GQ_ALIGNED(GQ_LINE) struct gq_turn turn;
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
	struct gq_ring_turn *turn; /* with Q_RING_AGEING, else NULL */
	/* Watching peers: see gq__ring_watch(). */
	GQ_ALIGNED(GQ_LINE) uint64_t next_watch_ns;
	uint64_t watching; /* 1: a thread of this handle is at it */
	uint64_t seen_op[GQ_RECORDS];
};

QueueStatus gq__ring_refuse_handle(const RingQueue *r);

/* The one load that every call pays for fork safety. */
static inline QueueStatus gq_ring_enter(const RingQueue *r)
{
	if (__builtin_expect(r == NULL || r->generation != gq__generation, 0))
		return gq__ring_refuse_handle(r);
	return Q_OK;
}

#define GQ_RING_ENTER(r)                                                                           \
	do {                                                                                       \
		QueueStatus entered_ = gq_ring_enter(r);                                           \
		if (entered_ != Q_OK)                                                              \
			return entered_;                                                           \
	} while (0)

/* ---- ring_bind.c: threads and their records -------------------------------------------------- */

/* The calling thread's record, bound at its first use of the ring. NULL: q_last_error() is set. */
struct gq_ring_record *gq__ring_bind(RingQueue *r);
/* Identity of the calling thread: its id and when it was started. 0: no /proc. */
uint64_t gq__thread_identity(void);
bool gq__thread_is_dead(uint64_t identity);
uint64_t gq__pid_namespace(void);
/* Single mode: make the calling thread the one that sends or receives. */
QueueStatus gq__ring_take_role(RingQueue *r, uint64_t *role, struct gq_ring_record *record,
			       enum gq_op op);
/* Thread-local storage in the static block: reached without a call, also in the shared library. */
extern _Thread_local struct gq_ring_binding {
	uint64_t serial;
	struct gq_ring_record *record;
} gq__ring_bindings[8];

static inline struct gq_ring_record *gq_ring_record_of(RingQueue *r)
{
	struct gq_ring_binding *b = &gq__ring_bindings[r->serial % 8];

	return __builtin_expect(b->serial == r->serial, 1) ? b->record : gq__ring_bind(r);
}

static inline uint64_t gq_ring_record_index(const RingQueue *r, const struct gq_ring_record *record)
{
	return (uint64_t)(record - r->head->record);
}

/* ---- ring_repair.c: peers that die ----------------------------------------------------------- */

/*
 * The expensive half of an asymmetric fence: when it returns, every thread of every process that
 * uses a ring has executed a full fence since the call began. The cheap half, in the calls that
 * move messages, only keeps the compiler from reordering. @return false: the kernel has no such
 * thing.
 */
bool gq__ring_barrier(void);
bool gq__ring_barrier_register(void);

static inline void gq_ring_fence(const RingQueue *r, struct gq_ring_record *record)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* pairs with gq__ring_barrier() */
	if (__builtin_expect(gq_load_relaxed_u64(&r->head->signals.fenced) != 0, 0))
		gq_fetch_or_seq_cst_u64(&record->op, 0); /* a full fence of its own */
}

/* At most every 100 ms: find peers that have died inside a call and repair what they left. */
void gq__ring_watch(RingQueue *r);
/* On a closed ring: whether no sender is inside a call any more. */
bool gq__ring_settle(RingQueue *r);
/* Single mode: the positions of one that died inside `op`. The repair lock is held. */
void gq__ring_finish_plan(RingQueue *r, struct gq_ring_record *dead);
bool gq__ring_repair_lock(RingQueue *r);
void gq__ring_repair_unlock(RingQueue *r);
void gq__ring_repair(RingQueue *r);

#endif /* GPUQ_HOST_RING_H */
