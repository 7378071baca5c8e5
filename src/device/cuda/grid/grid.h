/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid.h - what host and resident grid share beyond the channel. Compiled by gcc, clang, nvcc and
 * NVRTC. docs/design/cuda.md, "The CUDA device", says which side writes which word and why nothing
 * is lost.
 */
#ifndef GPUQ_CUDA_GRID_GRID_H
#define GPUQ_CUDA_GRID_GRID_H

#include "device/cuda/grid/run.h"
#include "device/protocol/protocol.h"

/* ---- in pinned host memory ------------------------------------------------------------------ */

/* Written by the host. It is one line, which every look at the classes reads along with them. */
struct gq_orders {
	uint64_t control; /* gq_control: a copy of the queue's ([control.write], [control.read]) */
	/* the launch of this number, and those before it, leave between two messages
	 * ([control.write], [control.read]) */
	uint64_t depart;
	uint64_t ping; /* number << GQ_PING_BITS | gq_ping | GQ_PING_STAY; the first unit answers */
	uint64_t ahead_ns; /* CLOCK_MONOTONIC less the device's clock, modulo 2^64 */
	uint64_t ping_arrival;
	uint64_t failed; /* the device has failed: nothing that units wait for comes any more */
	uint64_t reserved[10];
};
GQ_STATIC_ASSERT(sizeof(struct gq_orders) == GQ_LINE, "a line of the GPU's");

/* What a ping asks for, beside the clock. */
enum gq_ping {
	GQ_PING_CLOCK,
	GQ_PING_READ,    /* how long a load from pinned memory takes */
	GQ_PING_RELEASE, /* a system-scope release behind a store to pinned memory */
	GQ_PING_PULL,    /* bringing the largest message from slot 0 over, by one warp */
	GQ_PING_ARRIVAL, /* answer when `arrived` has reached `ping_arrival` */
	GQ_PING_MIRROR,  /* echo GQ_MIRROR_TAGS lines of the mirror in `scratch` */
};
#define GQ_MIRROR_TAGS 256u
#define GQ_PULL_BYTES  65536u /* of it at most */
#define GQ_PING_STAY   8u     /* beside it: do not park before the next ping */
#define GQ_PING_BITS   4u

/* What the grid says of itself, beside the number of its launch. */
enum gq_park {
	GQ_PARK_RUNNING = 0,
	GQ_PARK_LOOKING = 1, /* nothing can be claimed; the second look is under way */
	GQ_PARK_GONE = 2,    /* it found nothing: the grid leaves, a publisher launches the next */
};
#define GQ_PARK_BITS 2u

/* Written by the grid. */
struct gq_report {
	uint64_t park; /* launch << GQ_PARK_BITS | gq_park; written by one unit at a time */
	/* the last launch whose blocks all run ([report.write], [report.read]) */
	uint64_t resident;
	uint64_t pong;        /* the last ping answered ([report.write], [report.read]) ... */
	uint64_t pong_ns;     /* ... and the device's clock then */
	uint64_t measured_ns; /* ... and what it asked for */
	uint64_t stalls;  /* how often the first unit, with nothing to do, was kept from running */
	uint64_t scratch; /* to measure stores with; echoes */
	uint64_t reserved[9];
};
GQ_STATIC_ASSERT(sizeof(struct gq_report) == GQ_LINE, "a line of the GPU's");

/* The message that one place of the grid has taken, or has just completed: the host reads it when
 * the grid is dead or a message hangs. */
struct gq_journal {
	GQ_ALIGNED(16) uint64_t since_ns; /* device's clock */
	/* GQ_NOTED and as many lower bits of the message's id, slot first, as a class entry has and
	 * 32 bits hold; 0: none */
	uint64_t noted;
};
#define GQ_NOTED (UINT64_C(1) << 63)

/* ---- in device memory ------------------------------------------------------------------------ */

/* What the units of an image that was built with Q_COUNT_GRID have counted, all of them together:
 * X(name, what it is). See tally.cuh. Cycles are those of a multiprocessor's clock. */
#define GQ_TALLY_LIST(X)                                                                           \
	X(messages, "messages taken")                                                              \
	X(looks, "looks across PCIe")                                                              \
	X(found, "looks that saw a message")                                                       \
	X(singles, "messages claimed by a look, one at a time")                                    \
	X(wholes, "of these, read ahead whole")                                                    \
	X(claims, "claims tried")                                                                  \
	X(failed, "claims that failed")                                                            \
	X(feeds, "reads for others")                                                               \
	X(fed, "messages claimed for others by them")                                              \
	X(takes, "takes of what is claimed")                                                       \
	X(missed, "takes that came too late")                                                      \
	X(orders, "reads of the orders alone")                                                     \
	X(naps, "naps")                                                                            \
	X(idle_cycles, "cycles of turns that found nothing")                                       \
	X(turn_cycles, "cycles of turns that found messages")                                      \
	X(fetch_cycles, "cycles of bringing messages over")                                        \
	X(run_cycles, "cycles of the processor")                                                   \
	X(deliver_cycles, "cycles of results and completions")
struct gq_tally {
#define GQ_TALLY_MEMBER(name, what) uint64_t name;
	GQ_TALLY_LIST(GQ_TALLY_MEMBER)
#undef GQ_TALLY_MEMBER
};

#define GQ_FEEDERS 4u /* units that may read entries of a class for others at once */

/* While a grid is there only the grid touches it. It survives from launch to launch. */
struct gq_counters {
	GQ_ALIGNED(GQ_LINE) uint64_t run[GQ_CLASSES][GQ_RUNS]; /* run.h */
	/* Messages of a run whose takers have not read their entries yet, or whose claim has begun.
	 */
	GQ_ALIGNED(GQ_LINE) uint64_t held[GQ_CLASSES][GQ_RUNS];
	GQ_ALIGNED(GQ_LINE) uint64_t near[GQ_CLASSES][GQ_RUNS][GQ_DEEP]; /* their class entries */
	/* Per class a position near the end of the newest run: whole where runs have lower bits. */
	GQ_ALIGNED(GQ_LINE) uint64_t cursor[GQ_CLASSES];
	/* Classes of which a look has seen more than it claimed, a bit each; and how deep they are:
	 * gq_feeders_of(). */
	uint64_t waits;
	/* Where the next unit that reads entries of the class for others begins, if that is a
	 * little beyond what is claimed. */
	uint64_t fed[GQ_CLASSES];
	/* What the last read of the orders has brought, for units that take of runs: when it began
	 * and flags of the control word, gq_told_control(); and `depart`. */
	uint64_t control, depart;
	/* Places of the units that read for others: when the one in it began; 0: nobody. */
	GQ_ALIGNED(GQ_LINE) uint64_t feeding[GQ_CLASSES][GQ_FEEDERS];
	GQ_ALIGNED(GQ_LINE) uint64_t done_tail;
	GQ_ALIGNED(GQ_LINE) uint64_t resident; /* blocks that have started, over all launches */
	uint64_t gone;                         /* the launch that has parked */
	GQ_ALIGNED(GQ_LINE) uint64_t scouts;   /* units that look without a pause, but the first */
	/* The pool position of the next message less the positions passed. With it a unit guesses
	 * which slot the next message will be in. A wrong guess costs a round trip. */
	GQ_ALIGNED(GQ_LINE) uint64_t pool_lead;
	/* The last batch of copies that has arrived ([copy.arrive], [copy.await]); written by the
	 * driver's copy stream.
	 */
	GQ_ALIGNED(GQ_LINE) uint64_t arrived;
	GQ_ALIGNED(GQ_LINE) struct gq_tally tally; /* of units that have left */
};

/* The kernel's parameter, by value; constant. `ch.ready[].head` is not used: see run. */
struct gq_grid {
	struct gq_channel ch;
	struct gq_word_ring pool; /* its entries only: the slots of messages to come */
	const uint8_t *copied;    /* slots in device memory, where the copy engine puts payloads */
	struct gq_orders *orders;
	struct gq_report *report;
	struct gq_counters *counters;
	/* one a unit: the control word that it stands still for ([ack.write], [ack.read]) */
	uint64_t *ack;
	struct gq_journal *journal; /* one a place; NULL: none is kept */
	uint8_t *
		staging; /* `stage_bytes` a place: the message, from `stage_result` on the result */
	uint64_t stage_bytes;
	uint64_t stage_result;
	uint64_t start_pos;
	uint64_t park_ns;    /* idle time after which the grid leaves; UINT64_MAX: never */
	uint64_t bounded_ns; /* time after which a launch ends; 0: the grid is not bounded */
	uint32_t slot_bytes; /* rounded up to 16 */
	uint32_t batch;      /* messages a warp claims at once: places a unit */
	uint32_t scouts;     /* so many units look without a pause, beside the first */
	uint32_t feed;       /* so many messages are claimed for others at most: 0: none */
	uint32_t feeders;    /* so many units read entries of a class for others: GQ_FEEDERS */
	uint32_t nap_ns;     /* of a unit that has nothing to do, once it has been idle for long */
};

/* The kernel's other parameter. */
struct gq_launch {
	uint64_t number; /* from 1 */
	uint64_t until;  /* of a bounded grid: positions, of all classes, after which it leaves */
};

/* What an image says of itself: written by its kernel gpuq_canary. */
struct gq_image_info {
	uint32_t magic;
	uint32_t protocol_version;
	uint32_t granularity;
	uint32_t block_threads;
	uint32_t grid_bytes; /* sizeof(struct gq_grid) */
	uint32_t counts;     /* 1: built with Q_COUNT_GRID */
	uint64_t clock_ns;   /* the device's */
};
#define GQ_IMAGE_MAGIC 0x47505551u

#endif /* GPUQ_CUDA_GRID_GRID_H */
