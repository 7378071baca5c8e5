/* SPDX-License-Identifier: Apache-2.0 */
/* await.h - waiting for messages. */
#ifndef GPUQ_QUEUE_AWAIT_H
#define GPUQ_QUEUE_AWAIT_H

#include "host/queue/state.h"

/*
 * Wait until the state of a slot is no longer `seen`.
 * @return false when the deadline passed first.
 */
bool gq__wait_state_change(GpuQueue *q, uint64_t id, uint64_t seen, uint64_t deadline_ns);

#endif /* GPUQ_QUEUE_AWAIT_H */
