/* SPDX-License-Identifier: Apache-2.0 */
/* fd.h - the completion descriptor: readable while there is something to poll. */
#ifndef GPUQ_QUEUE_FD_H
#define GPUQ_QUEUE_FD_H

#include "host/queue/state.h"

static inline bool gq_fd_is_readable(const GpuQueue *q)
{
	return __builtin_expect(gq_load_seq_cst_u32(&q->fd_readable) != 0, 0); /* [wake.look] */
}

/* Whether nothing has finished, as far as can be seen without the reap lock. */
static inline bool gq_nothing_to_poll(const GpuQueue *q)
{
	return gq_load_relaxed_u64(&q->finished_first) == 0 && !gq_done_waits(&q->ch) &&
	       !gq_fd_is_readable(q);
}

/* Under the reap lock, after taking from the finished list: if nothing is left to poll, the
 * descriptor must not be readable. */
void gq__clear_fd(GpuQueue *q);

/* At the end of a queue: the descriptor is closed, and its thread has ended. */
void gq__stop_fd(GpuQueue *q);

#endif /* GPUQ_QUEUE_FD_H */
