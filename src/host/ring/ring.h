/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - the handle of a ring, as one process has it; private to the library. Shared memory:
 * layout.h.
 */
#ifndef GPUQ_RING_RING_H
#define GPUQ_RING_RING_H

#include "device/protocol/protocol.h"
#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/region/region.h"
#include "host/ring/layout.h"
#include "host/shm/peer.h"
#include "host/wait/poll_fd.h"
#include "host/wait/wait.h"

#include <gpuq/ring.h>

#include <pthread.h>

/* Messages one way: a pool of free cells, and for each class a ring of cells that hold a message.
 */
struct gq_box {
	struct gq_word_ring pool;
	struct gq_word_ring ready[GQ_CLASSES];
	uint64_t *reused; /* single mode: see reuse.h */
	uint32_t classes;
	uint32_t slot_mask;  /* cells - 1 */
	uint32_t cell_bytes; /* the most that a cell can hold */
	bool touches;        /* receivers write lines back: see gq_touch() */
	uint64_t *number;    /* of each cell: sequence + 1 of its latest message */
	uint64_t *described; /* GQ_DESCRIPTOR_WORDS a cell; NULL where there are no descriptors */
	uint64_t *chain;     /* with Q_RING_LARGE, else NULL */
	uint64_t *sequence;  /* NULL: the pool's position counts messages */
	uint8_t *cells;
	uint64_t stride;
	uint64_t start_pos;
	uint64_t *send_role, *receive_role;
	enum gq_op send_op, receive_op;
};

static inline uint64_t gq_box_cells(const struct gq_box *b)
{
	return (uint64_t)b->slot_mask + 1;
}

/* The slot in an entry's word, and its kind. */
static inline uint32_t gq_entry_slot(const struct gq_box *b, uint64_t word)
{
	return (uint32_t)(word >> GQ_SLOT_SHIFT) & b->slot_mask;
}

static inline uint32_t gq_entry_kind(uint64_t word)
{
	return (uint32_t)(word >> GQ_LENGTH_BITS) & ((1u << GQ_KIND_BITS) - 1);
}

/* What a thread knows of a box from its own puts: for each ring a position at which an extent
 * begins, and all before which are published. */
struct gq_box_hints {
	uint64_t pool;
	uint64_t ready[GQ_CLASSES];
	/* Single mode, of the sender: where it takes free cells, and up to where there are some.
	 * See reuse.h. */
	const struct gq_word_ring *source;
	uint64_t *reused;
	uint64_t received;
};

/* How messages of a box have come to a thread that receives them. See slip.h. */
struct gq_ring_pace {
	uint32_t streak;    /* messages received since a receive has found nothing */
	uint32_t rest;      /* so many more receives do not wait for the senders to get ahead */
	uint32_t untried;   /* messages in short runs since the last wait */
	uint32_t trials;    /* waits that no long run has followed; at most GQ_SLIP_TRIALS */
	uint32_t next_slot; /* where the next message probably is */
};

/* What this process keeps for a thread that is bound to a peer. Only that thread uses it. */
struct gq_ring_local {
	GQ_ALIGNED(GQ_LINE) struct gq_ring_peer *peer;
	uint64_t role; /* 1 + the peer's index: see gq_ring_signals */
	struct gq_box_hints messages;
	struct gq_box_hints completions;
	struct gq_ring_pace message_pace;
	struct gq_ring_pace completion_pace;
	/* See slip.h. */
	uint32_t send_rest;  /* so many more sends do not wait for the receivers */
	uint64_t free_until; /* up to this position of the pool it is far from empty */
	/* The front of each class where this thread has last found nothing: while head and word
	 * are these, there is nothing. See glance(). */
	struct gq_ring_nothing {
		uint64_t head, word;
		const uint64_t *entry;
	} nothing[GQ_CLASSES];
};

/* How often a receiver has passed over each class: one line for each peer of the handle. */
struct gq_ring_ageing {
	GQ_ALIGNED(GQ_LINE) struct gq_ageing ageing;
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
	struct gq_poll_fd poll;        /* q_ring_fd() */
	struct gq_ring_local *local;   /* of each peer */
	struct gq_ring_ageing *ageing; /* with Q_RING_AGEING, else NULL */
	/* Threads that are bound: see handles.c. */
	RingQueue *listed_after; /* in the list of live handles; under its lock */
	/* The `owner` of each peer that a thread has bound through this handle; under the lock. */
	uint64_t bound[GQ_RING_PEERS];
	uint64_t told_unjudged; /* 1: the log says that some threads cannot be judged from here */
	/* Watching peers: see gq__ring_watch(). */
	GQ_ALIGNED(GQ_LINE) uint64_t next_watch_ns;
	uint64_t watching; /* 1: a thread of this handle is inside; guards what is below */
	uint64_t step_ns;  /* not 0: a repair is under way and wants to be looked at so often */
	uint64_t fenced_since_ns; /* not 0: when membarrier was refused; not guarded */
	uint64_t next_scan_ns;
	struct gq_ring_inquest *inquest; /* the repair; NULL: none */
	uint64_t seen_op[GQ_RING_PEERS];
};

/* Why a handle is refused: Q_ERR_INVALID_ARG or Q_ERR_UNSUPPORTED, with q_last_error() set. */
QueueStatus gq__ring_refuse_handle(const RingQueue *r);

/* Whether this process may use the handle. Fork safety costs each call this one load. */
static inline QueueStatus gq_ring_enter(const RingQueue *r)
{
	if (__builtin_expect(r == NULL || r->generation != gq__generation, 0))
		return gq__ring_refuse_handle(r);
	return Q_OK;
}

static inline uint64_t gq_ring_peer_index(const RingQueue *r, const struct gq_ring_peer *peer)
{
	return (uint64_t)(peer - r->head->peer);
}

static inline struct gq_box_hints *gq_ring_hints_of(const RingQueue *r, const struct gq_box *b,
						    struct gq_ring_local *local)
{
	return b == &r->messages ? &local->messages : &local->completions;
}

static inline struct gq_ring_pace *gq_ring_pace_of(const RingQueue *r, const struct gq_box *b,
						   struct gq_ring_local *local)
{
	return b == &r->messages ? &local->message_pace : &local->completion_pace;
}

/* ---- what a peer is doing -------------------------------------------------------------------- */

static inline uint64_t gq_ring_op_of(const struct gq_ring_peer *peer)
{
	return gq_load_acquire_u64(&peer->op); /* [operation.read] */
}

static inline bool gq_ring_is_inside(uint64_t op)
{
	return (op & GQ_OP_MASK) != GQ_OP_IDLE;
}

#endif /* GPUQ_RING_RING_H */
