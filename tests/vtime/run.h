/* SPDX-License-Identifier: Apache-2.0 */
/* run.h - a run in virtual time: what is sent through which grid, and what came of it. */
#ifndef GPUQ_TEST_VTIME_RUN_H
#define GPUQ_TEST_VTIME_RUN_H

#include "device/cuda/grid/grid.h"

#include "vtime.h"

enum vt_stall {
	VT_IN_CLAIM, /* between holding a run's copies and claiming it */
	VT_IN_FEED,  /* with a place of those that read for others, before it reads */
};

struct vt_scenario {
	const struct vt_image *image;
	struct vt_costs costs;
	uint32_t units;  /* of 4 warps a block */
	uint32_t scouts; /* gq_grid.scouts */
	bool alone;      /* each unit claims for itself, by a swap across PCIe */
	uint32_t order;  /* log2 of the capacity */
	uint32_t bytes;  /* of a message and its result */
	uint64_t messages;
	bool lone;           /* the next message is sent after the last has come back */
	bool flag;           /* no messages: a word is answered, by one warp */
	uint64_t send_ns;    /* the host's time for a message, until it is filled ... */
	uint64_t publish_ns; /* ... until it is published */
	uint64_t take_ns;    /* ... and for its completion */
	uint64_t begin_ns;   /* the grid has been idle so long */
	uint64_t every_ns;   /* a message each so many, whatever comes back; 0: as fast as may be */
	uint64_t gap_ns;     /* between the messages of a lone run, beside what is drawn */
	uint64_t hang_ns;    /* the first message of a lone run takes so long; 0: as the others */
	uint64_t park_ns;    /* gq_grid.park_ns; 0: never */
	uint32_t urgent;     /* each so-manieth message is of class 3, not 1; 0: none */
	uint64_t bounded_ns; /* gq_grid.bounded_ns: the grid leaves when all have been served */
	/* A unit stands still for so long ... */
	uint64_t stall_ns;
	enum vt_stall stall_in; /* ... at this ... */
	uint32_t stall_class;   /* ... for a class's messages ... */
	uint32_t stall_at;      /* ... the so-manieth that comes there, from 1; 0: none does */
	uint64_t limit_ns;      /* the run ends */
};

struct vt_result {
	struct vt_counts counts;
	uint64_t done;                         /* messages */
	double millions;                       /* messages a second, after the first quarter */
	uint64_t p50_ns, p99_ns;               /* from publication to its completion's reaping */
	uint64_t urgent_p50_ns, urgent_p99_ns; /* the same of urgent messages, if there are any */
	uint32_t stalls;                       /* units that came by where one is to stand still */
	uint64_t gone_ns; /* of a bounded grid: from the last of these until all have left */
};

struct vt_result vt_run(const struct vt_scenario *s);

#endif /* GPUQ_TEST_VTIME_RUN_H */
