/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - the CUDA device's state, for its source files.
 *
 *   device.c       memory; launching, pausing, failing, ending; what the queue calls
 *   open.c         finding the device, loading the processor's image
 *   watch.c        what is noticed meanwhile: clocks, messages that take long; q_info()
 *   transport.c    how messages get to the grid: seals, the copy engine, calibration
 *   bar1.c         device memory that the CPU writes: the mirror
 *   regions.c      descriptors to data that the GPU can reach
 */
#ifndef GPUQ_DEVICE_CUDA_STATE_H
#define GPUQ_DEVICE_CUDA_STATE_H

#include "device/cuda/driver/loader.h"
#include "device/cuda/grid/grid.h"
#include "host/base/sys.h"
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

/* gq__fault() is asked by the stand-in driver's own countdown. */
#define CU(c, name, ...) gq__cuda_check((c)->cu, #name, (c)->cu->name(__VA_ARGS__))

/* device.c */

bool gq__cuda_check(const struct gq_cu *cu, const char *call, int result);

/* Our context becomes the thread's; the caller's comes back with gq_cuda_end(). */
static inline bool gq_cuda_begin(const struct gq_cuda *c)
{
	return CU(c, cuCtxPushCurrent, c->context);
}

static inline void gq_cuda_end(const struct gq_cuda *c)
{
	CUcontext ours;

	c->cu->cuCtxPopCurrent(&ours);
}

/* What the driver calls an address, or passes where a pointer is expected. */
static inline void *gq_cuda_at(uint64_t address)
{
	void *p;

	GQ_STATIC_ASSERT(sizeof(p) == sizeof(address), "an address is a word");
	memcpy(&p, &address, sizeof(p));
	return p;
}

/* Pinned and zeroed, in the current context or not; NULL with q_last_error(). */
void *gq__cuda_allocate_pinned(struct gq_cuda *c, size_t bytes, const char *what);
/* In the current context. */
bool gq__cuda_allocate(struct gq_cuda *c, CUdeviceptr *out, size_t bytes, const char *what);
/* q_init() fails: what is wrong, and what grid and host have said to each other so far. */
void gq__cuda_fail_with_state(struct gq_cuda *c, const char *what);
/* The driver has reported an error on the way of a message: the queue has failed. */
void gq__cuda_fail(struct gq_cuda *c, const char *call, int result);
/* Ask the grid's first unit something; under the lock. @return false: no answer in time. */
bool gq__cuda_ask(struct gq_cuda *c, enum gq_ping what, uint64_t patience_ns, uint64_t *answer);
/* A question that somebody else awaits: @return its number. */
uint64_t gq__cuda_post_ping(struct gq_cuda *c, enum gq_ping what);
bool gq__cuda_await_pong(struct gq_cuda *c, uint64_t ping, uint64_t patience_ns);
/* Send this grid and all others of the process away, so that the driver can be asked for `what`,
 * which waits for every kernel. If not Q_OK, one does not leave. End it all the same. */
QueueStatus gq__cuda_quiet_begin(struct gq_cuda *c, const char *what);
void gq__cuda_quiet_end(void);

/* open.c */

/* Whether a grid could stay, by the process's environment. */
bool gq__open_check_environment(void);
/* Find the device, and compile the processor if it is source, which takes seconds. */
bool gq__open_find(struct gq_cuda *c);
/* Context, streams and image, and how many blocks there are to be; no grid resident. What is there
 * after a failure is closed with the rest. */
bool gq__open_load(struct gq_cuda *c);
/* Launch the image's other kernel, in a stream of its own, in the current context.
 * @param info  where it writes what the image is, or NULL */
bool gq__open_launch_canary(struct gq_cuda *c, struct gq_image_info *info);

/* watch.c */

/*
 * Ask the grid's first unit for its clock, and take the middle of the question's round trip for the
 * time of the answer, unless the trip was long. Under the lock. @return false: no answer in time.
 */
bool gq__watch_ask_clock(struct gq_cuda *c, uint64_t patience_ns);
/* Eight answers, of which at least one must come through: deadlines depend on it. */
bool gq__watch_align(struct gq_cuda *c);
/* Now and then, under the lock, while the grid is resident. */
void gq__watch_realign(struct gq_cuda *c, uint64_t now_ns);
/* Now and then, under the lock: say in the log what takes long. */
void gq__watch(struct gq_cuda *c, uint64_t now_ns);
/* The messages inside since before then, as many as there is room for. @return how many. */
size_t gq__watch_list(const struct gq_cuda *c, uint64_t before_ns, char *text, size_t room);
/* As struct gq_device says. */
void gq__watch_describe(GpuQueue *q, QueueInfo *out);
uint64_t gq__watch_clock_error_ns(GpuQueue *q);

/* transport.c */

/* What a queue's channel says of sealing and reading ahead; before the grid's view is made. */
void gq__transport_plan(struct gq_cuda *c);
/* What copying needs, if it may be wanted; in the current context, no grid resident. */
bool gq__transport_prepare(struct gq_cuda *c);
/* In the current context, no grid resident. */
void gq__transport_free(struct gq_cuda *c);
/* Wait until no copy is under way, which takes microseconds; in the current context. */
void gq__transport_settle(struct gq_cuda *c);
/* Measure and choose; the first grid is resident and idle. Under the lock, in our context. */
bool gq__transport_choose(struct gq_cuda *c);
/* After choosing, without the lock: give back what copying needs if nothing will be copied. The
 * grid leaves for the moment. @return false: it does not come back. */
bool gq__transport_trim(struct gq_cuda *c);
/* Choose without measuring. */
void gq__transport_assume(struct gq_cuda *c);
/* Filled slots are about to be published. */
void gq__transport_hand_over(GpuQueue *q, const uint64_t *ids, uint32_t n);

/* bar1.c */

/* Allocate and map the mirror, if it is asked for; in the current context, no grid resident. */
bool gq__bar1_prepare(struct gq_cuda *c);
/* In the current context, the grid having left. */
void gq__bar1_free(struct gq_cuda *c);
/* Whether the running grid sees what is written; under the lock. @return false with
 * q_last_error(). */
bool gq__bar1_test(struct gq_cuda *c);
/* A sealed slot is about to be published: its mirror. */
void gq__bar1_write(const struct gq_channel *ch, uint32_t index);

/* regions.c */

QueueStatus gq__regions_bind(GpuQueue *q, RegionTable *table);
void gq__regions_unbind(struct gq_cuda *c);
/* Where the GPU finds the descriptor's bytes, in this process `bytes`; NULL with q_last_error(). */
const void *gq__regions_locate(GpuQueue *q, const MessageDescriptor *d, const void *bytes);

#endif /* GPUQ_DEVICE_CUDA_STATE_H */
