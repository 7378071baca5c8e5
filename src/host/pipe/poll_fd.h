/* SPDX-License-Identifier: Apache-2.0 */
/* poll_fd.h - the descriptor of q_pipe_reader_fd(); private to the pipe. */
#ifndef GPUQ_PIPE_POLL_FD_H
#define GPUQ_PIPE_POLL_FD_H

#include "host/pipe/pipe.h"

/* Before the first call on a reader, and after the last. */
void gq__pipe_poll_begin(PipeReader *r);
void gq__pipe_poll_end(PipeReader *r);

/* If a read would find nothing, make the descriptor unreadable. */
void gq__pipe_poll_clear(PipeReader *r);

/* To be called once a call has taken something away from what a read finds. */
static inline void gq_pipe_poll_settle(PipeReader *r)
{
	if (__builtin_expect(gq_load_seq_cst_u32(&r->poll.readable) != 0, 0))
		gq__pipe_poll_clear(r);
}

#endif /* GPUQ_PIPE_POLL_FD_H */
