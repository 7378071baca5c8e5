/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - the queue as the rooms above it see it: its devices, the sets, the bindings.
 *
 * It gathers what they may use; files of the queue itself include what they need.
 */
#ifndef GPUQ_QUEUE_QUEUE_H
#define GPUQ_QUEUE_QUEUE_H

#include "host/base/memory.h"
#include "host/queue/consume.h"
#include "host/queue/handle.h"
#include "host/queue/reap.h"
#include "host/queue/state.h"
#include "host/queue/tend.h"
#include "host/queue/wake.h"

/* Opens a device for a queue: sets q->device, q->cfg.device and q->reason. After a failure the
 * queue closes q->device, if that is set. */
typedef bool gq_choose_device_fn(GpuQueue *q, const QueueConfig *cfg);

/* What q_init() does, on a device that `choose` chooses. */
GpuQueue *gq__make_queue(const QueueConfig *cfg, gq_choose_device_fn *choose);

/* Give up a reference to the queue: the handle's, or a consumer's. The last frees it. */
void gq__drop_ref(GpuQueue *q);

#endif /* GPUQ_QUEUE_QUEUE_H */
