/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - a ring as it lies in shared memory; private to the library.
 *
 * All words are little-endian. N is the ring's size (a power of two), C the number of classes (4);
 * a line is 128 bytes.
 *
 *       0  setup: what the ring is; constant once `ready` is written
 *          0 magic, 8 ready, 16 bytes, 24 start_pos, 40 version, 44 ring_size (N),
 *          48 max_msg_size, 52 schema, 56 flags, 60 ageing_limit, 64 made_in
 *     128  signals: what every call reads
 *          128 state, 136 data_armed, 140 room_armed, 152 fenced, 160 role[4]
 *     256  repair: its lock and its counts
 *          256 holder, 264 repairs, 272 reclaimed, 280 epoch, 288 bindings
 *     384  messages: positions of the box of messages; each line is written by one side
 *          +0 pool_head, +8 sequence, +128 tail[C], +160 reused[C], +256 head[C], +384 pool_tail
 *     896  completions: the same for the box of completions
 *    1408  peer[256]: a line for each thread that uses the ring
 *          +0 op, +40 counters (7 words), +96 identity (shm/peer.h)
 *   34176  the box of messages, then the box of completions; each is:
 *
 *            pool       2 N words; entry of position p: pool[p mod 2 N]
 *            ready      2 N words for each class: messages C classes, completions one
 *            number     N words, one for each cell
 *            described  3 N words (messages only): the descriptor of each cell
 *            chain      N words (messages of a ring made with Q_RING_LARGE only)
 *            up to a multiple of 128 bytes; then
 *            cells      N times max_msg_size rounded up to 64 (completions: 64), up to a multiple
 *                       of 128 bytes
 *
 * An entry is one word: a value in the low bits and above it a tag, which is made of the entry's
 * position. An entry is published if its tag is that of the position at which one looks; an older
 * tag means that nothing has been published there yet.
 *
 *      bits  0..20  length in bytes; of kind 3: 0..15 the length of each, 16..20 cells - 1
 *           21..22  kind: 0 bytes, 1 a descriptor, 2 the first of several parts, 3 bytes in
 *                   several neighbouring cells, each a message (in the pool: free)
 *               23  closed: the next message of this entry will never come (bar_classes())
 *           24..    slot (the number of the first cell), log2(N) bits; then the tag, 40 - log2(N)
 *                   bits of position / 2 N
 *
 * An entry of n cells takes n positions, and words of the others are not written. A head is the
 * position of the entry at the front << 6, and in the low bits how many of its cells are taken. A
 * tail may be up to N + 32 positions behind the end of what is published. See extent.h.
 *
 * To send a message:
 *
 *   1. `op` of one's own peer says SEND. Stop here if `state` is not OPEN.
 *   2. p = messages.pool_head >> 6. If pool[p] has the tag of p, swap the head past the first
 *      cell that is not taken, or past several: they are ours. If its tag is older: the ring is
 *      full.
 *   3. Write the cell and its number (sequence + 1).
 *   4. From t = tail[class] on, or from the end of one's own last put, go past what is published to
 *      the first entry with an older tag, and swap it to tag(t), slot, kind, length. If it says
 *      closed: give the cell back. Raise tail[class], where a multiple of min(64, N) is passed.
 *   5. `op` says idle. If data_armed is odd, wake the receivers.
 *
 * To receive a message:
 *
 *   1. `op` of one's own peer says RECEIVE.
 *   2. From the highest class down: p = head[class] >> 6. If ready[class][p] has the tag of p, it
 *      is the front. If every class has an older tag: nothing is there.
 *   3. If the message fits the buffer, swap head[class] past it: the cell is ours. Copy it.
 *   4. Put the cell into the pool, as in step 4 above.
 *   5. `op` says idle. If room_armed is odd, wake the senders.
 *
 * A ring made with Q_RING_SINGLE has one sender and one receiver at a time: each swap is a plain
 * store, and the positions are stored after the entries that they count. Nothing is put back into
 * the pool: a cell is free when the head of its class has gone past its message, and the entries
 * from reused[class] to head[class] say which cells are. See reuse.h.
 *
 * The memory may be shared with processes that die or lie. Nothing read from it is used as an
 * index, a length or a loop's bound before it has been masked or clamped with values of the
 * process's own, which were computed from a configuration that was checked once.
 */
#ifndef GPUQ_RING_LAYOUT_H
#define GPUQ_RING_LAYOUT_H

#include "device/protocol/protocol.h"
#include "host/shm/peer.h"

#include <gpuq/ring.h>

#define GQ_RING_MAGIC   UINT64_C(0x676e697271757067) /* "gpuqring" */
#define GQ_RING_VERSION 5u
#define GQ_RING_PEERS   Q_RING_MAX_THREADS

/* What the ring is: written by q_ring_create(), constant once `ready` is written. */
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
	uint64_t made_in; /* 1 + the maker's gq__generation: private memory is its own copy */
	uint32_t reserved[14];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_setup) == GQ_LINE, "layout is shared between processes");

enum gq_ring_state {
	GQ_RING_OPEN = 0,
	GQ_RING_CLOSED,  /* nothing new is accepted; a thread inside a send may still publish */
	GQ_RING_SETTLED, /* no thread can publish any more: all that will ever come is there */
};

/* Words that every call reads and few calls write. */
struct gq_ring_signals {
	uint64_t state;      /* gq_ring_state; only ever raised */
	uint32_t data_armed; /* odd: a receiver may sleep on it until something is sent */
	uint32_t room_armed; /* odd: a sender may sleep on it until a cell is free */
	uint64_t reserved0;
	uint64_t fenced; /* 1: some process has no membarrier, so every call makes a fence */
	/* Single mode: 1 + the index of the peer that sends messages, receives them, sends
	 * completions, receives them. */
	uint64_t role[4];
	uint64_t reserved[8];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_signals) == GQ_LINE, "layout is shared between processes");

struct gq_ring_repair {
	uint64_t holder; /* `owner` of the thread that holds the lock: see repair.c */
	uint64_t repairs;
	uint64_t reclaimed;
	uint64_t epoch;    /* counts what was done under the lock */
	uint64_t bindings; /* how often a thread has bound a peer: see bind.c */
	uint64_t reserved[11];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_repair) == GQ_LINE, "layout is shared between processes");

/* What a thread is doing with the ring: the low bits of its peer's `op`; a count stands above. */
enum gq_op { GQ_OP_IDLE = 0, GQ_OP_SEND, GQ_OP_RECEIVE, GQ_OP_COMPLETE, GQ_OP_POLL };
#define GQ_OP_MASK UINT64_C(7)
#define GQ_OP_NEXT UINT64_C(8)

/*
 * A thread that uses the ring: which thread it is, what it is doing, and what it has counted. Only
 * that thread writes here, so counting takes no locked operation; other threads write only after
 * its death.
 */
struct gq_ring_peer {
	/* gq_op and a count; [operation.end], [operation.read]. No word comes twice. */
	uint64_t op;
	uint64_t reserved[4];
	uint64_t bytes_sent;
	uint64_t bytes_received;
	uint64_t descriptors;
	uint64_t discarded;
	uint64_t full;
	uint64_t empty;
	uint64_t refused;
	struct gq_peer_identity identity; /* an `owner` of 0: the peer is free */
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_peer) == GQ_LINE, "layout is shared between processes");

/* The positions of a box's rings. Each line is written by one side. */
struct gq_box_positions {
	uint64_t pool_head; /* senders */
	uint64_t sequence;  /* senders, with Q_RING_LARGE or Q_RING_SINGLE: messages accepted */
	uint64_t reserved0[14];
	uint64_t tail[GQ_CLASSES];   /* senders */
	uint64_t reused[GQ_CLASSES]; /* the sender of a single ring: see reuse.h */
	uint64_t reserved1[8];
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
GQ_STATIC_ASSERT(offsetof(struct gq_ring_head, signals.role) == 160, "layout is shared");
GQ_STATIC_ASSERT(offsetof(struct gq_ring_head, repair.bindings) == 288, "layout is shared");
GQ_STATIC_ASSERT(offsetof(struct gq_ring_head, messages) == 384, "layout is shared");
GQ_STATIC_ASSERT(offsetof(struct gq_ring_head, completions.pool_tail) == 1280, "layout is shared");
GQ_STATIC_ASSERT(offsetof(struct gq_ring_head, peer) == 1408, "layout is shared");
GQ_STATIC_ASSERT(offsetof(struct gq_ring_peer, bytes_sent) == 40, "layout is shared");
GQ_STATIC_ASSERT(offsetof(struct gq_ring_peer, identity) == 96, "layout is shared");
GQ_STATIC_ASSERT(sizeof(struct gq_ring_head) == 34176, "layout is shared between processes");

/* A completion, as the cell of a message of the completion box. */
struct gq_ring_completion {
	uint64_t sequence;
	int32_t status;
	uint32_t length;
	uint8_t data[Q_RING_INLINE_BYTES];
};
GQ_STATIC_ASSERT(sizeof(struct gq_ring_completion) == 32, "layout is shared between processes");

/*
 * The word of a class's entry. Length and slot stand in one word, so a receiver knows how much room
 * a message needs before it claims it, and a message of up to 64 bytes takes one line and three
 * words.
 */
#define GQ_LENGTH_BITS     21u
#define GQ_KIND_BITS       2u
#define GQ_KIND_DESCRIPTOR 1u /* a MessageDescriptor, in the words `described` */
#define GQ_KIND_PARTS      2u /* the cell is the first of several, linked by `chain` */
#define GQ_SLOT_SHIFT      (GQ_LENGTH_BITS + GQ_KIND_BITS + 1u)

#define GQ_KIND_RUN        3u /* several cells: their number - 1 above the length of each */
#define GQ_RUN_LENGTH_BITS 16u
#define GQ_MAX_RUN         32u /* cells of an extent: their number - 1 has five bits */

/* Says nothing of the message in the entry, but that the entry's next one will never come. */
#define GQ_CLOSED (UINT64_C(1) << (GQ_LENGTH_BITS + GQ_KIND_BITS))

#define GQ_MAX_PARTS        Q_RING_MAX_PARTS
#define GQ_DESCRIPTOR_WORDS 3u

/* A word of `chain`: one part of a message in several. Length below, next part's slot above. */
#define GQ_PART_CONTINUES  (UINT64_C(1) << 62)
#define GQ_PART_FINAL      (UINT64_C(1) << 63)
#define GQ_PART_SLOT_SHIFT 32u

/* ---- layout.c: sizes and places, computed from a checked configuration ---------------------- */

struct gq_box;

uint64_t gq__ring_required_bytes(const RingConfig *cfg);

/* Set all that the handle knows of its memory. Touches no shared memory. */
void gq__ring_lay_out(RingQueue *r, void *memory);

/* Make a new box: every cell in the pool, every class empty, all positions at `start`. */
void gq__ring_fill_box(struct gq_box *b, uint64_t start);

#endif /* GPUQ_RING_LAYOUT_H */
