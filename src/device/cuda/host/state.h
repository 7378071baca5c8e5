/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the CUDA device's state, which all files of this room share. */
#ifndef GPUQ_DEVICE_CUDA_STATE_H
#define GPUQ_DEVICE_CUDA_STATE_H

#include "device/cuda/driver/loader.h"
#include "device/cuda/grid/grid.h"
#include "host/queue/queue.h"

#include <string.h>

/* Pinned host memory that host and grid share, but for rings, slots and results. */
struct gq_link {
	struct gq_orders orders;
	struct gq_report report;
	uint64_t words[]; /* acknowledgements, then the journal */
};

/* What the transport was chosen by: see QueueInfo. Nanoseconds; 0: not measured. */
struct gq_primitives {
	uint64_t flag, read, release, pull, copy, copy_small, canary;
};

struct gq_cuda_region;

struct gq_cuda {
	const struct gq_cu *cu;
	GpuQueue *q;
	uint64_t generation; /* as the queue's, but also once it has failed */
	CUdevice device;
	uint32_t sms, capability; /* 90 is compute capability 9.0 */
	CUcontext context;        /* the primary one */
	CUmodule module;
	CUfunction kernel, canary;
	CUstream stream, canary_stream;
	struct gq_image_info info;
	uint32_t blocks, units, places;
	CUdeviceptr grid, counters, staging, user;
	CUstream copy_stream; /* NULL: nothing is copied */
	CUdeviceptr copied;   /* as large as the slots, which it holds the payloads of */
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
	uint64_t
		trip_ns; /* of the clock's questions: the shortest, forgotten slowly; 0: none yet */
	struct gq_primitives measured;
	bool is_being_measured;

	/* Launches, and asking the driver about them. */
	pthread_mutex_t lock;
	uint64_t launch;    /* the number of the last; 0: none */
	bool started;       /* start() has succeeded */
	bool departed;      /* it was told to leave, and has to be brought back */
	bool taken_over;    /* after it: the host has the cursors */
	bool gone_for_good; /* the driver has reported an error */
	bool abandoned;     /* the handle is gone, or about to: nobody launches any more */
	uint64_t tended_ns, watched_ns, aligned_ns;
	uint64_t torn_id; /* the last result that was reported not to arrive */

	/* The copy engine. */
	uint32_t copy_from; /* bytes from which messages are copied; UINT32_MAX: none */
	pthread_mutex_t copy_lock;
	uint64_t copies; /* batches handed to the copy stream; under copy_lock */

	/* A bounded grid; under the lock. */
	uint64_t covered; /* positions, of all classes, up to which launches serve */

	/* The regions bound, by id; written while none is in use. */
	struct gq_cuda_region *region;
	size_t regions;

	struct gq_cuda *next; /* among those that have a grid */
};

static inline struct gq_cuda *gq_cuda_of(const GpuQueue *q)
{
	return q->device_state;
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

#endif /* GPUQ_DEVICE_CUDA_STATE_H */
