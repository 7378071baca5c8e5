/* SPDX-License-Identifier: Apache-2.0 */
/* queue.h - the queue as the host sees it; private to the library. */
#ifndef GPUQ_HOST_QUEUE_H
#define GPUQ_HOST_QUEUE_H

#include <pthread.h>

#include "device/device.h"
#include "device/protocol/protocol.h"
#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/base/memory.h"
#include "host/base/nvtx.h"
#include "host/processor/processor.h"
#include "host/trace/trace.h"
#include "host/wait/wait.h"

#include <gpuq/gpuq.h>
#include <gpuq/ring.h>

/*
 * A slot's life, as its record's state word tells it: position << shift of the id that has it (or
 * had it last) plus a phase. Every change of owner is one compare-and-swap of this word or one
 * hand-over through a ring, so two threads that take one result cannot both have it.
 *
 *   FREE -> RESERVED or QUEUED   the producer that popped it (plain store: it owns the slot)
 *   RESERVED -> QUEUED           q_commit          RESERVED -> FREE     q_abort
 *   RESERVED -> REVOKED          q_stop            REVOKED -> FREE      q_abort
 *   QUEUED -> DONE               the reaper        QUEUED -> FREE       the reaper, discarding
 *   DONE -> POLLED               q_poll_*          DONE, POLLED -> FREE who takes the result
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

/* The host's own word on a slot, on a line that consumers never touch. */
struct gq_record {
	uint64_t state;   /* [state.write], [state.read] */
	uint64_t tag;     /* of the finished message; written by the reaper before the state */
	uint64_t outcome; /* likewise */
	/* With GQ_SLOT_DESCRIBED: what the reaper drops a reference of; its producer's before
	 * [message.publish].
	 */
	MessageDescriptor descriptor;
	uint64_t reserved[2];
};
GQ_STATIC_ASSERT(sizeof(struct gq_record) == 64, "a record is a line");

/* Who wants to know of calls. */
enum gq_watched {
	GQ_WATCHED_BY_TOOL = 1u << 0,  /* a range in a profiler */
	GQ_WATCHED_BY_TRACE = 1u << 1, /* when the call began */
};

/* A slot's neighbours in the list of those that finished; both 0 also if it is not in it, or alone.
 */
struct gq_neighbours {
	uint32_t next, previous;
};
GQ_STATIC_ASSERT(sizeof(struct gq_neighbours) == sizeof(uint64_t), "one of the queue's words each");

/*
 * What a call that does not wait passes over at most: completions it takes notice of, finished
 * messages that are not to be polled. So what others have left undone cannot make it long.
 */
enum { GQ_MOST_AT_ONCE = 1024 };

/* Written under the reap lock, read relaxed by q_stats(). */
struct gq_reaped {
	uint64_t finished, failed, expired, cancelled, discarded;
};

struct GpuQueue {
	/* Constant after q_init(). */
	/* Of the process that made it: see gq__generation; GQ_GENERATION_FAILED once the device
	 * has failed, so that one load tells both. */
	uint64_t generation;
	uint32_t watched;       /* gq_watched; beside what every call reads */
	struct gq_trace *trace; /* NULL: none */
	struct gq_channel ch;
	struct gq_word_ring pool;
	struct gq_record *records;
	uint64_t slot_mask; /* the bits of an id below its position */
	uint64_t start_pos; /* where all positions began */
	uint64_t made_in;   /* as `generation` was before a failure */
	uint64_t *words;    /* memory of all ring entries */
	size_t words_bytes, slots_bytes, results_bytes;
	void *user;      /* our copy of processor_data */
	QueueConfig cfg; /* as resolved */
	struct gq_processor processor;
	const struct gq_device *device;
	void *device_state; /* the device's own */
	uint64_t copy_from; /* bytes from which the device copies messages */
	void *code; /* our own, kept loaded for our threads' sake: the library may be in a plug-in
		     */
	char reason[192], device_name[64], transport[32];

	/* Positions, each written by one kind of party, on lines of their own. */
	struct {
		GQ_ALIGNED(GQ_LINE) uint64_t head;
		GQ_ALIGNED(GQ_LINE) uint64_t tail;
	} pool_pos, ready_pos[GQ_CLASSES], done_pos;

	GQ_ALIGNED(GQ_LINE) uint64_t control; /* gq_control; written under control_lock */

	/* Who sleeps, until what happens. */
	GQ_ALIGNED(GQ_LINE) struct gq_event work; /* consumers: a message was published */
	GQ_ALIGNED(GQ_LINE) struct gq_event room; /* producers: a slot was, or can be, freed */
	GQ_ALIGNED(GQ_LINE) struct gq_event any;  /* pollers: a message has completed */
	GQ_ALIGNED(GQ_LINE)
	struct gq_event resumed; /* paused consumers: the control word changed */
	GQ_ALIGNED(GQ_LINE)
	struct gq_event answered; /* pause and stop: a consumer acknowledged or left */

	/* Reaping: completions become states and finished ids. */
	GQ_ALIGNED(GQ_LINE) pthread_mutex_t reap_lock;
	/* The finished list: slots in completion order, those taken by id among them until they
	 * are in the way or finish again. A slot's number + 1; 0: none. */
	struct gq_neighbours *finished;
	uint64_t finished_first; /* written under the lock, read relaxed without */
	uint64_t finished_last;
	bool settled; /* the queue is closed, and nothing can finish any more */
	struct gq_reaped reaped;
	/* The completion that was next when gq__torn_ns() looked, and not whole; 0: it was. */
	uint64_t torn_pos, torn_since_ns;
	bool given_up; /* gq__fail_all() has been here */
	/* completion_fd has been written; under the lock, read without ([wake.look]) */
	uint32_t fd_readable;
	int completion_fd; /* -1 until asked for */
	pthread_t fd_thread;
	uint32_t fd_quit;           /* asks fd_thread to end */
	struct gq_event fd_cleared; /* fd_thread: the descriptor was made unreadable */

	/* Control: pause, resume, stop. */
	GQ_ALIGNED(GQ_LINE) pthread_mutex_t control_lock;
	uint32_t pausers; /* that wait for the pause of this epoch; under the lock */
	bool paused;      /* every consumer has acknowledged */
	bool stopping;    /* q_stop() has begun */
	bool stopped;     /* and has ended with Q_OK */
	uint64_t live_consumers;
	uint64_t refs;     /* the handle and every consumer; who drops the last frees */
	char failure[400]; /* what the device died of; [failure.write], [failure.read] */
	uint32_t failed;

	/* Rare events, counted where they happen. */
	GQ_ALIGNED(GQ_LINE) struct {
		uint64_t dropped_full, retries, timed_out, aborted, unused, reserved_now, wakeups;
		uint64_t discards; /* messages accepted, or reserved, that free their slot */
	} count;

	/* Messages by descriptor. `described` counts those inside and the calls that enqueue one;
	 * GQ_REBINDING keeps them out while `regions` changes ([table.leave], [table.enter]). */
	RegionTable *regions;
	uint64_t described;
};

#define GQ_REBINDING (UINT64_C(1) << 63)

/* ---- entry checks ------------------------------------------------------------------------ */

QueueStatus gq__refuse_handle(const GpuQueue *q);

#define GQ_GENERATION_FAILED UINT64_MAX

/* The one load that every call pays for fork safety and device failures. */
static inline QueueStatus gq_enter(const GpuQueue *q)
{
	if (__builtin_expect(q == NULL || gq_load_relaxed_u64(&q->generation) != gq__generation, 0))
		return gq__refuse_handle(q);
	return Q_OK;
}

/* The same for what can be asked after the device has failed, too. */
static inline QueueStatus gq_enter_to_look(const GpuQueue *q)
{
	return q != NULL && q->made_in == gq__generation ? Q_OK : gq__refuse_handle(q);
}

/* The device has failed: waiting is over. gq__device_failed() is the status. */
static inline bool gq_failed(const GpuQueue *q)
{
	/* [failure.read], [sleep.look] */
	return __builtin_expect(gq_load_seq_cst_u32(&q->failed) != 0, 0);
}

QueueStatus gq__device_failed(const GpuQueue *q);

#define GQ_ENTER(q)                                                                                \
	do {                                                                                       \
		QueueStatus entered_ = gq_enter(q);                                                \
		if (entered_ != Q_OK)                                                              \
			return entered_;                                                           \
	} while (0)

/* trace.c: what is to be done at the begin of a call. @return whether a range has begun. */
bool gq__call_begin(const GpuQueue *q, enum gq_range what, uint64_t payload);

static inline bool gq_call_begin(const GpuQueue *q, enum gq_range what, uint64_t payload)
{
	return __builtin_expect(q->watched != 0, 0) && gq__call_begin(q, what, payload);
}

/* A call on a queue begins, with a range of that name to the end of the block. */
#define GQ_CALL(q, what, payload)                                                                  \
	__attribute__((cleanup(gq_range_end), unused)) const bool range_ =                         \
		gq_call_begin(q, what, payload)

/* ---- states ------------------------------------------------------------------------------ */

static inline struct gq_record *gq_record_of(const GpuQueue *q, uint64_t id)
{
	return &q->records[id & q->slot_mask];
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
 * The state of message `id`, or 0 (which reads FREE) if it was never issued or is gone.
 * Sequentially consistent: a waiter's second look ([sleep.look]); and [state.read]: what the reaper
 * wrote before.
 */
static inline uint64_t gq_look_up(const GpuQueue *q, uint64_t id)
{
	uint64_t state;

	if ((id & q->slot_mask) >= q->cfg.capacity)
		return 0;
	state = gq_load_seq_cst_u64(&gq_record_of(q, id)->state); /* [state.read] */
	return gq_state_is_of(q, state, id) ? state : 0;
}

static inline bool gq_closed(const GpuQueue *q)
{
	/* [intake.look], [sleep.look] */
	return (gq_load_seq_cst_u64(q->pool.head) & GQ_POOL_CLOSED) != 0;
}

/* ---- shared by the source files of the queue ---------------------------------------------- */

/* Where something was looked for and not found: now and then, look whether the device still works
 * and let it do what nobody else does. */
void gq__tend_now_and_then(GpuQueue *q);

static inline void gq_tend(GpuQueue *q)
{
	if (__builtin_expect(q->device->tend != NULL, 0))
		gq__tend_now_and_then(q);
}

extern const struct gq_tender gq__queue_tender;

/* It is a wait for what a consumer does. */
static inline void gq_wait_tends(GpuQueue *q, struct gq_wait *w)
{
	if (q->device->tend != NULL) {
		w->tender = &gq__queue_tender;
		w->tended = q;
	}
}

/* A wait for what a consumer does. */
static inline void gq_wait_begin(GpuQueue *q, struct gq_wait *w, struct gq_event *event,
				 uint64_t deadline_ns, uint64_t spin_ns)
{
	gq__wait_begin(w, event, deadline_ns, spin_ns);
	gq_wait_tends(q, w);
}

/* completion.c */
void gq__fail_all(GpuQueue *q);
bool gq__reap(GpuQueue *q, bool force);
void gq__reap_all(GpuQueue *q);
uint64_t gq__torn_ns(GpuQueue *q, uint64_t now_ns, uint64_t *id);
uint32_t gq__pop_reaped(GpuQueue *q, uint64_t *ids, uint32_t max, bool *closed);
void gq__free_slot(GpuQueue *q, uint64_t id);
void gq__completed(GpuQueue *q, uint32_t slot, uint32_t outcome);
void gq__wake_slot(GpuQueue *q, uint32_t slot);
bool gq__wait_state_change(GpuQueue *q, uint64_t id, uint64_t seen, uint64_t deadline_ns);
void gq__stop_fd(GpuQueue *q);

/* control.c */
bool gq__settled(const GpuQueue *q);
void gq__cancel_unstarted(GpuQueue *q);
void gq__wake_everybody(GpuQueue *q);
void gq__consumer_left(GpuQueue *q);

/* stats.c */
uint64_t gq__accepted(const GpuQueue *q);

/* Opens a device for a queue: sets q->device, q->cfg.device and q->reason. After a failure the
 * queue closes q->device, if that is set. */
typedef bool gq_choose_device_fn(GpuQueue *q, const QueueConfig *cfg);

/* queue.c */
GpuQueue *gq__make_queue(const QueueConfig *cfg, gq_choose_device_fn *choose);
void gq__drop_ref(GpuQueue *q);

/* config.c */
bool gq__resolve_config(const QueueConfig *cfg, QueueConfig *out);

#endif /* GPUQ_HOST_QUEUE_H */
