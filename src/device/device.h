/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - what a device must do for a queue. */
#ifndef GPUQ_DEVICE_DEVICE_H
#define GPUQ_DEVICE_DEVICE_H

#include "device/protocol/protocol.h"

#include <gpuq/gpuq.h>

/*
 * A device, as the queue knows it. Before start() the queue has resolved `cfg`, laid out its memory
 * and filled in its channel; from then on it tells the consumers what to do through the control
 * word and the events. A function that can fail sets q_last_error().
 */
struct gq_device {
	uint32_t kind; /* Q_DEVICE_* */
	/* Finds the device, checks that cfg and processor fit it, fills in cfg.consumers,
	 * .granularity and q->device_name. After a failure close() is called too. */
	bool (*open)(GpuQueue *q);
	void (*close)(GpuQueue *q);
	/* Zeroed memory that host and consumers share, aligned to GQ_LINE. */
	void *(*alloc)(GpuQueue *q, size_t bytes, const char *what);
	void (*free)(GpuQueue *q, void *memory, size_t bytes);
	/* Starts the consumers, all or none. */
	bool (*start)(GpuQueue *q);
	/* Waits until the consumers that have left have ended; `abandon`: leaves the others to
	 * themselves, each with its reference to the queue. */
	void (*join)(GpuQueue *q, bool abandon);
	/* Whether every consumer has acknowledged this very control word and stands still. */
	bool (*acknowledged)(GpuQueue *q, uint64_t control);
	/* Whether every consumer has left for good. */
	bool (*left)(GpuQueue *q);
	/* The host as a consumer that runs nothing: messages that no consumer can claim any more
	 * end CANCELLED. */
	void (*cancel_unstarted)(GpuQueue *q);

	/* A table is being bound, or unbound (NULL); no message by descriptor is inside. */
	QueueStatus (*bind)(GpuQueue *q, RegionTable *table);
	/* bind() takes some instructions: an enqueueing call may wait for it whatever its time
	 * limit says. */
	bool binds_at_once;
	/* The consumers are in another process, which may hang: no call waits for them for ever. */
	bool is_elsewhere;
	/* Where a consumer finds the bytes that a descriptor refers to, and that the host finds at
	 * `bytes`; NULL, with q_last_error() set to Q_ERR_UNSUPPORTED: it cannot read them. */
	const void *(*locate)(GpuQueue *q, const MessageDescriptor *d, const void *bytes);

	/* The rest may be NULL: the device has nothing to do, or to say, there. */

	/* Filled slots are about to be published. */
	void (*hand_over)(GpuQueue *q, const uint64_t *ids, uint32_t n);
	/* Fills in what only the device knows, for q_info(). */
	void (*describe)(GpuQueue *q, QueueInfo *out);
	/* A message has been published; called for every one. */
	void (*published)(GpuQueue *q);
	/* The control word has changed, under the control lock. */
	void (*controlled)(GpuQueue *q);
	/* A message has been asked to be cancelled; waits until that has been seen. */
	void (*cancelled)(GpuQueue *q);
	/* A host thread has registered to sleep until a consumer has done something, and is about
	 * to look once more ([sleep.look]): from now on the device wakes it. */
	void (*sleeping)(GpuQueue *q);
	/* It is no longer registered. */
	void (*awake)(GpuQueue *q);
	/* A pause is complete; a pause is over. Called without the control lock. */
	void (*paused)(GpuQueue *q);
	void (*resumed)(GpuQueue *q);
	/* Calls `load` while no consumer keeps the application from using the device for the first
	 * time: see q_preload(). NULL: none ever does. */
	QueueStatus (*preload)(GpuQueue *q, void (*load)(void *user), void *user);
	/* Called now and then by threads that wait for the device or look in vain: see
	 * host/queue/tend.h. */
	void (*tend)(GpuQueue *q);
	/* By how much the consumers' times may be off, drift apart; never less than before. NULL:
	 * their clock is the host's. */
	uint64_t (*clock_error_ns)(GpuQueue *q);
};

extern const struct gq_device gq__cpu_device, gq__cuda_device, gq__remote_device;

#endif /* GPUQ_DEVICE_DEVICE_H */
