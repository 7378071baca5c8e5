/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping.h - what the kernel says of memory that a caller gives: which kind of mapping it is, and
 * whether all of it is there; private to the library.
 */
#ifndef GPUQ_SHM_MAPPING_H
#define GPUQ_SHM_MAPPING_H

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A line of /proc/self/maps. */
struct gq_mapping {
	uint64_t begin, end, inode;
	uint32_t major, minor;
	bool readable, writable, shared;
	bool of_file; /* of one that others can open or hold: also a memfd; not a shared anonymous
		       */
	bool memfd;
};

/* The mappings of this process from the lowest address on. NULL, with errno set: no /proc. */
FILE *gq__mappings_open(void);
bool gq__mappings_next(FILE *file, struct gq_mapping *out);

/*
 * Whether the mapping is part of the program or of a library it has loaded. Such a file is never
 * written in place, or the program fails anyway; so its private mapping counts as private memory.
 */
bool gq__mapping_is_loaded(const struct gq_mapping *m);

/*
 * Check memory that a ring or a table is to live in, before it is touched: it is there, can be
 * written, and is not a private mapping of a file.
 *
 * Touching a page that a file does not have raises SIGBUS: beyond its end, or where its file system
 * is full. So the kernel is asked to make the pages of files writable now (MADV_POPULATE_WRITE,
 * Linux 5.14), which fails in place of that. Other memory is left untouched: the kernel does not
 * give private and shared anonymous memory out to raise SIGBUS later.
 *
 * @param all         every page; else the first and the last: the file is as long as that
 * @param is_private  whether any of it is private; false if the kernel does not say (no /proc)
 * @return Q_OK; Q_ERR_INVALID_ARG; Q_ERR_NO_MEMORY. q_last_error() is set.
 */
QueueStatus gq__mapping_check(const void *memory, size_t bytes, bool all, bool *is_private);

#endif /* GPUQ_SHM_MAPPING_H */
