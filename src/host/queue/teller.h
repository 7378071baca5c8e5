/* SPDX-License-Identifier: Apache-2.0 */
/* teller.h - the life of what tells of completions: q_subscribe(), q_on_completion(). */
#ifndef GPUQ_QUEUE_TELLER_H
#define GPUQ_QUEUE_TELLER_H

#include "host/queue/tell.h"

/* Under the control lock: the queue's teller, made if there is none. NULL, with the last error. */
struct gq_teller *gq__teller_of(GpuQueue *q, QueueStatus *status);

/* At the end of a queue: all that has finished is told, and the threads have ended. */
void gq__stop_telling(GpuQueue *q);

#endif /* GPUQ_QUEUE_TELLER_H */
