/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.h - what rings, queues and devices ask of a table of regions, and what the files of this
 * folder ask of backing.c; private to the library. Shared memory: layout.h.
 */
#ifndef GPUQ_REGION_REGION_H
#define GPUQ_REGION_REGION_H

#include "host/region/layout.h"

/* ---- for rings and queues ------------------------------------------------------------------- */

/*
 * Accept a descriptor: check it and take a reference, which gq__region_drop() or
 * q_region_release() gives back.
 *
 * @param bytes  set to the described bytes; NULL: they are not wanted, and the region need not be
 *               mapped in this process
 * @return Q_OK; Q_ERR_INVALID_ARG; Q_ERR_STALE: also a retired region; Q_ERR_POLICY;
 *         Q_ERR_UNSUPPORTED: not mapped here; Q_ERR_LIMIT: 2^28 - 1 references; Q_ERR_FAILED: the
 *         table's memory is damaged. q_last_error() is set.
 */
QueueStatus gq__region_acquire(RegionTable *t, const MessageDescriptor *descriptor,
			       const void **bytes);

/* Whether this process has registered the descriptor's region as memory of a GPU, which the host
 * must not touch. */
bool gq__region_is_on_device(const RegionTable *t, const MessageDescriptor *descriptor);

/* Call `fn` for every region that is mapped in this process, by its id, under the table's lock. */
void gq__region_each(RegionTable *t,
		     void (*fn)(void *arg, RegionHandle region, const void *base, uint64_t size,
				bool on_device),
		     void *arg);

/* q_region_release() without a status; leaves q_last_error() alone. */
void gq__region_drop(RegionTable *t, const MessageDescriptor *descriptor);

/* ---- backing.c: what the kernel says of memory ---------------------------------------- */

/*
 * Look at the mappings of [base, base + size).
 *
 * @param policy  immutable: shared mappings must be of memfds that no process can change;
 * append-only: it must be writable
 * @param shared  whether all of it is shared memory
 * @return Q_OK; Q_ERR_INVALID_ARG: not all of it is memory that can be used so; Q_ERR_POLICY: can
 *         still be written; Q_ERR_UNSUPPORTED: the kernel does not say (no /proc).
 */
QueueStatus gq__region_look_at_memory(const void *base, uint64_t size, RegionPolicy policy,
				      bool *shared);

/* Seal a memfd as its policy needs. @param size  of the file, for good */
QueueStatus gq__region_seal_fd(int fd, RegionPolicy policy, uint64_t *size);

/* Map a sealed memfd over reserved addresses. */
QueueStatus gq__region_map_fd(int fd, RegionPolicy policy, void *base, uint64_t size);

#endif /* GPUQ_REGION_REGION_H */
