/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - what lies in a pipe's memory, in the writer's process and in a memfd; private to the
 * library. Why the steps are in their order: docs/design/pipe.md.
 */
#ifndef GPUQ_PIPE_LAYOUT_H
#define GPUQ_PIPE_LAYOUT_H

#include "device/protocol/protocol.h"
#include "host/shm/header.h"

/*
 * A page of header, then `capacity` bytes, rounded up to whole pages: byte o of the stream lies at
 * o % capacity of them. Only the writer's process writes any of it.
 *
 *    0  header    magic, ready, bytes: see host/shm/header.h
 *   24  capacity  the pipe's max_bytes
 *   32  policy    Q_PIPE_*
 *   40  writer    its process: an owner's word of host/shm/peer.h; 0: not known
 *   48  began     that process's start
 *   56  place     where its program's stack begins (32 bits), above its time namespace (32 bits)
 *
 *  128  begin     the oldest byte kept. Moves on before bytes are overwritten
 *  136  end       offset behind the last byte (62 bits), GQ_PIPE_ERROR, GQ_PIPE_CLOSED
 *  144  error     with GQ_PIPE_ERROR: the writer's number (32 bits)
 *  152  changes   how often `end` has changed; sleepers in other processes watch it
 *
 *  256  streams   1: a reader with nothing to read had better doze (pace.h)
 *  264  beats     counted once for much; those that doze watch it
 *
 * What stands before 128 is constant once `ready` is set. A reader copies it once.
 */
struct gq_pipe_head {
	struct gq_header header;
	uint64_t capacity;
	uint64_t policy;
	uint64_t writer;
	uint64_t began;
	uint64_t place;
	GQ_ALIGNED(GQ_LINE) uint64_t begin;
	uint64_t end; /* [pipe.publish], [pipe.read] */
	uint64_t error;
	uint64_t changes;
	GQ_ALIGNED(GQ_LINE) uint64_t streams;
	uint64_t beats;
};
GQ_STATIC_ASSERT(offsetof(struct gq_pipe_head, capacity) == 24, "see above");
GQ_STATIC_ASSERT(offsetof(struct gq_pipe_head, place) == 56, "see above");
GQ_STATIC_ASSERT(offsetof(struct gq_pipe_head, begin) == 128, "see above");
GQ_STATIC_ASSERT(offsetof(struct gq_pipe_head, changes) == 152, "see above");
GQ_STATIC_ASSERT(offsetof(struct gq_pipe_head, beats) == 264, "see above");

enum { GQ_PIPE_HEAD_BYTES = 4096, GQ_PIPE_CONSTANT_BYTES = 64 };

#define GQ_PIPE_MAGIC  UINT64_C(0x3165706970717067) /* "gpqpipe1", the layout's number in it */
#define GQ_PIPE_CLOSED (UINT64_C(1) << 63)
#define GQ_PIPE_ERROR  (UINT64_C(1) << 62)
#define GQ_PIPE_OFFSET (GQ_PIPE_ERROR - 1)

static inline uint64_t gq_pipe_offset(uint64_t end)
{
	return end & GQ_PIPE_OFFSET;
}

#endif /* GPUQ_PIPE_LAYOUT_H */
