/* SPDX-License-Identifier: Apache-2.0 */
/* consumer.h - what a consumer of the CPU device is: a thread, and what it knows of its claims. */
#ifndef GPUQ_CPU_CONSUMER_H
#define GPUQ_CPU_CONSUMER_H

#include "device/protocol/hand.h"
#include "host/queue/state.h"

struct gq_consumer {
	/* the control word that it last stood still for ([ack.write], [ack.read]) */
	GQ_ALIGNED(GQ_LINE) uint64_t ack;
	GpuQueue *q;
	pthread_t thread;
	struct gq_ageing ageing;
	uint64_t done_pos; /* where its last completion went */
	uint32_t index;
	uint32_t neighbour; /* whose hand it looked into last */
	uint32_t claims;    /* since it last looked into all hands, though it had work */
	bool idle;          /* it has begun to wait for a message */
	bool hands_empty;   /* all are `mixed`, and since then no hand has had a message */
	uint64_t mixed;     /* messages of several classes have been seen: it fills no hand again */
	struct gq_hand hand; /* taken from by others too: a line of its own */
};

/* All of the queue's, q->cfg.consumers; NULL until the device has made them. */
static inline struct gq_consumer *gq_consumers_of(const GpuQueue *q)
{
	return q->device_state;
}

#endif /* GPUQ_CPU_CONSUMER_H */
