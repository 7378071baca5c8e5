/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - what a queue is made of: struct GpuQueue, and the host's word on each slot.
 *
 * One allocation holds the struct; its parts are grouped by their owner, and each group that is
 * written while messages pass begins a line of its own:
 *
 *   constant     set by gq__make_queue(), read by everybody (`generation` changes once, when the
 *                device fails)
 *   positions    pool and classes: producers, consumers and takers by compare-and-swap
 *   control      written under the control lock, read by consumers
 *   events       five, each a line: a line is written when somebody goes to sleep or is woken
 *   reaper       completions, the finished list and the counts of what has finished, under the
 *                reap lock
 *   descriptor   what q_completion_fd() and its thread share
 *   controller   pause, resume and stop, under the control lock
 *   rare counts  relaxed additions by the call that meets the event
 *   regions      the bound table, and how many messages use it
 *
 * Four arrays lie outside it: the ring entries with the finished list behind them (`words`), the
 * host's slots, the message slots and the result areas (`ch`).
 */
#ifndef GPUQ_QUEUE_STATE_H
#define GPUQ_QUEUE_STATE_H

#include <pthread.h>

#include "device/device.h"
#include "device/protocol/protocol.h"
#include "host/processor/processor.h"

#include <gpuq/gpuq.h>
#include <gpuq/ring.h>

/*
 * A slot's life, as the state word of its host slot tells it: position << shift of the id that has
 * it (or had it last) plus a phase. Every change of owner is one compare-and-swap of this word or
 * one hand-over through a ring, so two threads that take one result cannot both have it.
 *
 *   FREE -> RESERVED or QUEUED   the producer that popped it (plain store: it owns the slot)
 *   RESERVED -> QUEUED           q_commit          RESERVED -> FREE     q_abort
 *   RESERVED -> REVOKED          q_stop            REVOKED -> FREE      q_abort
 *   QUEUED -> DONE               the reaper        QUEUED -> FREE       the reaper, discarding
 *   DONE -> POLLED               q_poll_*          DONE, POLLED -> FREE the thread that takes it
 */
enum gq_phase {
	GQ_FREE = 0,
	GQ_RESERVED,
	GQ_REVOKED,
	GQ_QUEUED,
	GQ_DONE,
	GQ_POLLED,
};
#define GQ_PHASE_MASK UINT64_C(15)

/* What the host alone knows of a slot, on a line that consumers never touch. */
struct gq_host_slot {
	uint64_t state;   /* [state.write], [state.read] */
	uint64_t tag;     /* the message's; its producer writes it before the state */
	uint64_t outcome; /* of the finished message; the reaper writes it before the state */
	/* With GQ_SLOT_DESCRIBED: the reference that the reaper drops. The producer writes it
	 * before [message.publish]. */
	MessageDescriptor descriptor;
	/* gq_slot_flags, so that the reaper need not fetch the slot, which a consumer has just
	 * read. As `descriptor`. */
	uint32_t flags;
	uint32_t reserved[3];
};
GQ_STATIC_ASSERT(sizeof(struct gq_host_slot) == 64, "a host slot is a line");

/* Why a call has to note that it begins. */
enum gq_watched {
	GQ_WATCHED_BY_TOOL = 1u << 0,  /* a profiler shows it as a range */
	GQ_WATCHED_BY_TRACE = 1u << 1, /* the trace keeps the time */
};

/* A slot's neighbours in the finished list; both 0 also if it is not in the list, or alone. */
struct gq_neighbours {
	uint32_t next, previous;
};
GQ_STATIC_ASSERT(sizeof(struct gq_neighbours) == sizeof(uint64_t), "one of the queue's words each");

/* Written under the reap lock, read relaxed by q_stats(). */
struct gq_reaped {
	uint64_t finished, failed, expired, cancelled, lost, discarded;
};

struct gq_trace;
struct gq_teller;

struct GpuQueue {
	/* ---- constant after q_init() ---- */

	/* gq__generation of the process that made the queue; GQ_GENERATION_FAILED once the device
	 * has failed, so that one load tells a call both. */
	uint64_t generation;
	uint32_t watched;       /* gq_watched; beside what every call reads */
	bool one_producer;      /* Q_ONE_PRODUCER */
	struct gq_trace *trace; /* NULL: none */
	struct gq_channel ch;
	struct gq_pool pool;
	struct gq_host_slot *host_slots;
	uint64_t slot_mask; /* the bits of an id below its position */
	uint64_t start_pos; /* where all positions began */
	uint64_t made_in;   /* `generation` as it was before a failure */
	uint64_t *words;    /* the entries of all rings, then the finished list */
	void *results;      /* the memory of the result areas; `ch.results` is the first */
	size_t words_bytes, slots_bytes, results_bytes;
	void *user;      /* our copy of processor_data */
	QueueConfig cfg; /* as resolved */
	struct gq_processor processor;
	const struct gq_device *device;
	void *device_state; /* the device's own */
	uint64_t copy_from; /* bytes from which the device copies messages */
	/* How many sleeping consumers a publication wakes at most; each that then finds more to do
	 * wakes one more: gq__wake_next_consumer(). */
	uint32_t wakes_at_most;
	/* The library itself, kept loaded for its threads: it may be part of a plug-in. */
	void *code;
	char reason[192], device_name[64], transport[32];

	/* ---- positions: each has one kind of writer, and a line of its own ---- */

	struct {
		GQ_ALIGNED(GQ_LINE) uint64_t head;
		GQ_ALIGNED(GQ_LINE) uint64_t tail;
	} pool_pos, ready_pos[GQ_CLASSES], done_pos;

	/* ---- control: written under control_lock, read by consumers ---- */

	GQ_ALIGNED(GQ_LINE) uint64_t control; /* gq_control */

	/* ---- events: the sleepers of each, and what wakes them ---- */

	GQ_ALIGNED(GQ_LINE) struct gq_event work; /* consumers: a message was published */
	GQ_ALIGNED(GQ_LINE) struct gq_event room; /* producers: a slot was, or can be, freed */
	GQ_ALIGNED(GQ_LINE) struct gq_event any;  /* pollers: a message has completed */
	GQ_ALIGNED(GQ_LINE)
	struct gq_event resumed; /* paused consumers: the control word changed */
	GQ_ALIGNED(GQ_LINE)
	struct gq_event answered; /* pause and stop: a consumer acknowledged or left */

	/* ---- reaper: under reap_lock (reap.c) ---- */

	GQ_ALIGNED(GQ_LINE) pthread_mutex_t reap_lock;
	struct gq_neighbours *finished; /* the finished list: finished.h */
	uint64_t finished_first;        /* slot + 1, 0: none; read relaxed without the lock */
	uint64_t finished_last;
	bool settled; /* the queue is closed, and nothing can finish any more */
	struct gq_reaped reaped;
	/* The completion that was next when gq__torn_ns() looked, if its result had not come whole;
	 * torn_since_ns 0: it had. */
	uint64_t torn_pos, torn_since_ns;
	bool given_up; /* gq__fail_all() has ended all messages */
	/* Subscriptions and hooks; NULL: none yet. Also written under control_lock. */
	struct gq_teller *teller;

	/* ---- descriptor: q_completion_fd() and its thread (fd.c) ---- */

	uint32_t fd_readable;       /* under reap_lock, read without ([wake.look]) */
	int completion_fd;          /* -1 until asked for; under control_lock */
	pthread_t fd_thread;        /* while completion_fd is not -1 */
	uint32_t fd_quit;           /* asks fd_thread to end */
	struct gq_event fd_cleared; /* fd_thread: the descriptor was made unreadable */

	/* ---- controller: under control_lock (control.c) ---- */

	GQ_ALIGNED(GQ_LINE) pthread_mutex_t control_lock;
	uint32_t pausers; /* calls that wait for the pause of this epoch */
	bool paused;      /* every consumer has acknowledged */
	bool stopping;    /* q_stop() has begun */
	bool stopped;     /* and has ended with Q_OK */
	/* Not under the lock: consumers and the device write these. */
	uint64_t live_consumers;
	uint64_t refs;     /* the handle and every consumer; the last to drop one frees the queue */
	char failure[400]; /* the device's last error; [failure.write], [failure.read] */
	uint32_t failed;
	uint32_t lost; /* the process that had the queue has ended, and `failure` says so */

	/* ---- producer: with Q_ONE_PRODUCER the thread that enqueues; 0: none has yet ---- */

	uint64_t producer;

	/* ---- rare counts: relaxed additions by the call that meets the event ---- */

	GQ_ALIGNED(GQ_LINE) struct {
		uint64_t dropped_full, retries, timed_out, aborted, unused, reserved_now, wakeups;
		uint64_t discards; /* messages accepted, or reserved, that free their slot */
	} count;

	/* ---- regions (descriptor.c) ---- */

	/* `described` counts the messages by descriptor that are inside, and the calls that enqueue
	 * one; GQ_REBINDING keeps them out while `regions` changes ([table.leave], [table.enter]).
	 */
	RegionTable *regions;
	uint64_t described;
};

#define GQ_GENERATION_FAILED UINT64_MAX
#define GQ_REBINDING         (UINT64_C(1) << 63)

/* ---- the state word -------------------------------------------------------------------------- */

static inline struct gq_host_slot *gq_host_slot_of(const GpuQueue *q, uint64_t id)
{
	return &q->host_slots[id & q->slot_mask];
}

static inline uint64_t gq_state(const GpuQueue *q, uint64_t id, enum gq_phase phase)
{
	return (id & ~q->slot_mask) | phase;
}

static inline enum gq_phase gq_phase_of(uint64_t state)
{
	return (enum gq_phase)(state & GQ_PHASE_MASK);
}

/* Whether the state is of message `id`, alive. */
static inline bool gq_state_is_of(const GpuQueue *q, uint64_t state, uint64_t id)
{
	return ((state ^ id) & ~q->slot_mask) == 0 && gq_phase_of(state) != GQ_FREE;
}

/*
 * The state of message `id`, or 0 (which reads FREE) if it was never issued or is gone. The load is
 * sequentially consistent as a waiter's second look ([sleep.look]), and an acquire of what the
 * reaper wrote before ([state.read]).
 */
static inline uint64_t gq_look_up(const GpuQueue *q, uint64_t id)
{
	uint64_t state;

	if ((id & q->slot_mask) >= q->cfg.capacity)
		return 0;
	state = gq_load_seq_cst_u64(&gq_host_slot_of(q, id)->state); /* [state.read] */
	return gq_state_is_of(q, state, id) ? state : 0;
}

static inline bool gq_closed(const GpuQueue *q)
{
	/* [intake.look], [sleep.look] */
	return (gq_load_seq_cst_u64(q->pool.ring.head) & GQ_POOL_CLOSED) != 0;
}

#endif /* GPUQ_QUEUE_STATE_H */
