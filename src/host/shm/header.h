/* SPDX-License-Identifier: Apache-2.0 */
/*
 * header.h - attaching to what another process has made in shared memory; private to the library.
 *
 * A ring and a table of regions both begin with the same three words. Their creator writes the rest
 * of the header, then `ready`. A process that attaches copies the header once, so that what it
 * checks is what it uses, whatever a liar writes later.
 */
#ifndef GPUQ_SHM_HEADER_H
#define GPUQ_SHM_HEADER_H

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 *    0  magic  says what is here
 *    8  ready  the same number, written last: [setup.write] release, [setup.read] acquire
 *   16  bytes  that all of it takes
 */
struct gq_header {
	uint64_t magic;
	uint64_t ready;
	uint64_t bytes;
};

/* A kind of thing in shared memory. */
struct gq_header_kind {
	const char *noun; /* in sentences: "ring" */
	const char *what; /* in "there is no ... in this memory" */
	uint64_t magic;
	size_t head_bytes; /* of all that stands before the part whose size varies */
};

/* Whether memory that a caller gives is aligned to a line. @return Q_OK; Q_ERR_INVALID_ARG. */
QueueStatus gq__header_check_alignment(const void *memory);

/*
 * * Check that there is one, and copy the header.
 *
 * @param bytes  of the caller's memory
 * @param copy   its first `copy_bytes` bytes, a multiple of 8
 * @return Q_OK; Q_ERR_INVALID_ARG; Q_ERR_NO_MEMORY: fewer bytes than a header; Q_ERR_NOT_READY: the
 *         creator has not finished. q_last_error() is set.
 */
QueueStatus gq__header_read(const struct gq_header_kind *kind, const void *memory, size_t bytes,
			    void *copy, size_t copy_bytes);

/*
 * Check the whole memory, after the copied header has been checked.
 *
 * @param said     bytes, as the header says; `takes`: as they are computed from the rest of it
 * @param made_in  1 + gq__generation of the creator; 0: not known. Private memory means the same
 *                 only to the process that made it
 * @return as gq__header_read()
 */
QueueStatus gq__header_check_memory(const struct gq_header_kind *kind, const void *memory,
				    size_t bytes, uint64_t said, uint64_t takes, uint64_t made_in);

#endif /* GPUQ_SHM_HEADER_H */
