/* SPDX-License-Identifier: Apache-2.0 */
/* bytes.h - copying into a pipe's memory and out of it; private to the pipe. */
#ifndef GPUQ_PIPE_BYTES_H
#define GPUQ_PIPE_BYTES_H

#include "host/pipe/pipe.h"

/* Put n bytes at `offset` of the stream, at most the capacity. */
void gq__pipe_put(const struct gq_pipe_source *s, uint64_t offset, const uint8_t *from, uint64_t n);

/*
 * Take n bytes from `offset` of the stream, at most the capacity. Where the policy overwrites, they
 * may be torn: the caller looks at `begin` afterwards ([pipe.copy]).
 */
void gq__pipe_get(const struct gq_pipe_source *s, uint64_t offset, uint8_t *to, uint64_t n);

#endif /* GPUQ_PIPE_BYTES_H */
