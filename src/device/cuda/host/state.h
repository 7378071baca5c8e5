/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the CUDA device's state, which all files of this room share. */
#ifndef GPUQ_CUDA_HOST_STATE_H
#define GPUQ_CUDA_HOST_STATE_H

#include "device/cuda/driver/loader.h"
#include "device/cuda/grid/grid.h"
#include "device/cuda/host/tune.h"
#include "host/queue/queue.h"

#include <string.h>

/* The pinned host memory that host and grid share beside rings, slots and results. */
struct gq_link {
	struct gq_orders orders;
	struct gq_report report;
	uint64_t words[]; /* acknowledgements, then the journal */
};

/*
 * What the host does with the queue's grid. Under the queue's `lock`.
 *
 *   state        entered from         when
 *   STARTING     -                    q_init() makes the queue
 *   ON           STARTING             q_init() has succeeded
 *                AWAY                 a grid is launched again
 *   AWAY         ON                   the grid is ordered to leave, to be brought back
 *   ABANDONED    STARTING, ON, AWAY   q_init() has failed, or q_shutdown() ends the queue
 *   TAKEN_OVER   ON, AWAY             a stop timed out, the grid left, the host has its cursors
 *   FAILED       all others           the driver has reported an error
 *
 * In the last three nothing is launched any more. While STARTING an error of a launch is the error
 * of q_init(); later the queue has failed. ON says that the host launches when messages need it;
 * whether a grid is resident only its report and the driver know, as it parks, or is over, by
 * itself.
 */
enum gq_grid_state {
	GQ_GRID_STARTING,
	GQ_GRID_ON,
	GQ_GRID_AWAY,
	GQ_GRID_ABANDONED,
	GQ_GRID_TAKEN_OVER,
	GQ_GRID_FAILED,
};

/* What the transport was chosen by: see QueueInfo. Nanoseconds; 0: not measured. */
struct gq_primitives {
	uint64_t flag, read, release, pull, copy, copy_small;
	/* Kernels of another stream: of one thread; and of a block that needs a multiprocessor for
	 * itself. UINT64_MAX: it did not come through. */
	uint64_t canary, canary_full;
};

struct gq_cuda_region;

struct gq_cuda {
	const struct gq_cu *cu;
	GpuQueue *q;
	uint64_t generation; /* of the process that made the queue: see gq__generation */
	CUdevice device;
	uint32_t sms, capability; /* 90 is compute capability 9.0 */
	uint32_t domains;         /* of memory synchronisation */
	uint32_t full_bytes;      /* shared memory that a block may have at most; 0: not used */
	CUcontext context;        /* the primary one */
	CUmodule module;
	CUfunction kernel, canary;
	CUstream stream, canary_stream;
	struct gq_image_info info;
	struct gq_tune tune;
	/* A unit claims messages: a warp or, with Q_PER_BLOCK, a block. A place holds one message
	 * that is being processed: a unit has `grid.batch` of them. */
	uint32_t blocks, units, places;
	struct gq_grid grid; /* what a launch is given; constant after q_init() */
	CUdeviceptr counters, staging, user;
	CUstream copy_stream; /* NULL: nothing is copied */
	CUdeviceptr copied;   /* as large as the slots: copies of their payloads */
	/* Transport BAR1: device memory and the CPU's mapping of it; 0: not used. */
	CUdeviceptr mirrored, hints, mirror; /* as allocated; as the grid's channel has them */
	void *mapped;
	size_t mapped_bytes;
	uint64_t device_bytes; /* allocated; constant after start() */
	struct gq_link *link;
	size_t link_bytes;
	struct gq_journal *journal; /* in link */
	uint64_t *ack;              /* in link */
	uint64_t ahead_ns;          /* CLOCK_MONOTONIC less the device's clock, at first ... */
	uint64_t ahead_error_ns;    /* ... and by how much orders.ahead_ns may have been wrong */
	/* The shortest round trip of a question about the clock, forgotten slowly; 0: none yet. */
	uint64_t trip_ns;
	uint64_t used_trip_ns; /* of the answer that the offset is from */
	struct gq_primitives measured;
	bool is_being_measured;

	/* Launches, and asking the driver about them. */
	pthread_mutex_t lock;
	uint64_t launch; /* the number of the last; 0: none */
	enum gq_grid_state state;
	bool kept_away; /* nothing is launched, until quiet.c brings the grid back */
	uint64_t gone;  /* the launch that has left, while it is kept away; 0: not known */
	uint64_t tended_ns, watched_ns, aligned_ns, asked_ns;
	uint64_t torn_id; /* the last result that was reported not to arrive */

	/* The copy engine. */
	uint32_t copy_from; /* bytes from which messages are copied; UINT32_MAX: none */
	pthread_mutex_t copy_lock;
	uint64_t copies; /* batches handed to the copy stream; under copy_lock */

	/* A bounded grid; under the lock. */
	uint64_t covered; /* the position, of all classes together, up to which launches serve */

	/* The regions bound, sorted by id; written while no message by descriptor is inside. */
	struct gq_cuda_region *region;
	size_t regions;

	/* In the list of queues that have a grid, under the locks of quiet.c. */
	struct gq_cuda *next;
	bool is_awaited; /* it has been ordered to leave */
};

static inline struct gq_cuda *gq_cuda_of(const GpuQueue *q)
{
	return q->device_state;
}

static inline bool gq_grid_may_enter(enum gq_grid_state from, enum gq_grid_state to)
{
	switch (to) {
	case GQ_GRID_STARTING:
		return false;
	case GQ_GRID_ON:
		return from == GQ_GRID_STARTING || from == GQ_GRID_AWAY;
	case GQ_GRID_AWAY:
		return from == GQ_GRID_ON;
	case GQ_GRID_ABANDONED:
		return from == GQ_GRID_STARTING || from == GQ_GRID_ON || from == GQ_GRID_AWAY;
	case GQ_GRID_TAKEN_OVER:
		return from == GQ_GRID_ON || from == GQ_GRID_AWAY;
	case GQ_GRID_FAILED:
		return from != GQ_GRID_FAILED;
	}
	return false;
}

/* Enter a state if the table allows it, under the lock. A queue that has failed, or whose cursors
 * the host has, keeps that state: it says all that matters of a grid that is then abandoned too. */
static inline void gq_grid_enter(struct gq_cuda *c, enum gq_grid_state to)
{
	if (gq_grid_may_enter(c->state, to))
		c->state = to;
}

static inline bool gq_has_failed(const struct gq_cuda *c)
{
	return c->state == GQ_GRID_FAILED;
}

static inline bool gq_is_bounded(const struct gq_cuda *c)
{
	return c->q->cfg.bounded_messages != 0;
}

/* Under the lock. */
static inline bool gq_is_paused(const GpuQueue *q)
{
	return (gq_load_seq_cst_u64(&q->control) & GQ_CONTROL_PAUSE) != 0; /* [control.read] */
}

/* Under the lock: the stop is at its end, and may have seen that the grid has left. */
static inline bool gq_is_leaving(const GpuQueue *q)
{
	return (gq_load_seq_cst_u64(&q->control) & GQ_CONTROL_LEAVE) != 0; /* [control.read] */
}

#endif /* GPUQ_CUDA_HOST_STATE_H */
