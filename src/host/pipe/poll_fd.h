/* SPDX-License-Identifier: Apache-2.0 */
/* poll_fd.h - the descriptor of q_pipe_reader_fd(); private to the pipe. */
#ifndef GPUQ_PIPE_POLL_FD_H
#define GPUQ_PIPE_POLL_FD_H

#include "host/pipe/pipe.h"

/* Before the first call on a reader, and after the last. */
void gq__pipe_poll_begin(PipeReader *r);
void gq__pipe_poll_end(PipeReader *r);

#endif /* GPUQ_PIPE_POLL_FD_H */
