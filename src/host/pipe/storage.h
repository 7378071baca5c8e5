/* SPDX-License-Identifier: Apache-2.0 */
/* storage.h - a pipe's memory: this process's own, then perhaps a memfd; private to the pipe. */
#ifndef GPUQ_PIPE_STORAGE_H
#define GPUQ_PIPE_STORAGE_H

#include "host/pipe/pipe.h"

/* What a header page and that many bytes take, in whole pages. */
uint64_t gq__pipe_bytes(uint64_t capacity);

/* Map the memory of a new pipe. @return Q_OK; Q_ERR_NO_MEMORY. */
QueueStatus gq__pipe_map_private(struct gq_pipe_source *s, uint64_t capacity, uint32_t policy);

/*
 * Move the memory into a sealed memfd, at the same addresses. Nobody may write any of it meanwhile:
 * the caller is inside the gate and holds the lock. Readers go on: they find the same bytes.
 *
 * @return Q_OK, with p->fd; Q_ERR_UNSUPPORTED, Q_ERR_NO_MEMORY: nothing has changed
 */
QueueStatus gq__pipe_move_to_memfd(Pipe *p);

/* Map another process's pipe for reading. @return as q_pipe_attach() */
QueueStatus gq__pipe_map_shared(int fd, struct gq_pipe_source *s, struct gq_pipe_trace *out);

void gq__pipe_unmap(const struct gq_pipe_source *s);

#endif /* GPUQ_PIPE_STORAGE_H */
