/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - what a device must do for a queue, and the consumer it runs. */
#ifndef GPUQ_DEVICE_DEVICE_H
#define GPUQ_DEVICE_DEVICE_H

#include <pthread.h>

#include "device/protocol.h"

#include <gpuq/gpuq.h>

/* One consumer of the CPU device: a thread. */
struct gq_consumer {
	GQ_ALIGNED(GQ_LINE) uint64_t ack; /* the control word it last stood still for (A1, A2) */
	GpuQueue *q;
	pthread_t thread;
	struct gq_turn turn;
	uint32_t index;
};

/*
 * A device. The queue's memory is laid out, its channel filled in and `cfg` resolved before
 * start(); the queue stops its consumers through the control word and the events.
 */
struct gq_device {
	const char *name;
	const char *transport;
	/* Consumers when the configuration leaves the number open. */
	uint32_t (*default_consumers)(void);
	/* Starts cfg.consumers consumers, or none: then q_last_error() is set. */
	bool (*start)(GpuQueue *q);
	/* Waits for the ends of consumers that have left; `abandon`: forgets those that have not.
	 */
	void (*join)(GpuQueue *q, bool abandon);
};

extern const struct gq_device gq__cpu_device;

#endif /* GPUQ_DEVICE_DEVICE_H */
