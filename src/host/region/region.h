/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.h - the table of regions: its memory, and what rings and queues call; private to the
 * library.
 *
 * The memory of a table may be shared with processes that die or lie. What is in it is described by
 * the structs "in shared memory". Nothing read from there is used as an index or a length before it
 * has been compared with private values, and only the private mappings say which bytes are touched.
 */
#ifndef GPUQ_HOST_REGION_H
#define GPUQ_HOST_REGION_H

#include "device/protocol/protocol.h"

#include <gpuq/ring.h>

/* ---- in shared memory ---------------------------------------------------------------------- */

#define GQ_REGION_MAGIC   UINT64_C(0x6e67657271757067) /* "gpuqregn" */
#define GQ_REGION_VERSION 1u

/* What the table is: written by its creator, constant from `ready` on. */
struct gq_region_head {
	uint64_t magic;
	uint64_t ready; /* GQ_REGION_MAGIC, last: [setup.write] release, [setup.read] acquire */
	uint64_t bytes;
	uint32_t version;
	uint32_t max_regions;
	uint32_t entry_bytes;
	uint32_t reserved0;
	uint64_t made_in; /* as gq_ring_setup.made_in */
	uint64_t reserved[10];
};
GQ_STATIC_ASSERT(sizeof(struct gq_region_head) == GQ_LINE, "layout is shared between processes");
GQ_STATIC_ASSERT(offsetof(struct gq_region_head, version) == 24, "layout is shared");

/* A region. Zeroed memory reads as free and never used. */
struct gq_region_entry {
	uint64_t state;  /* below; [region.write], [region.read] */
	uint64_t size;   /* written while CLAIMED */
	uint64_t cursor; /* append-only: bytes appended; written while CLAIMED, then by appenders */
	uint64_t reserved[5];
};
GQ_STATIC_ASSERT(sizeof(struct gq_region_entry) == 64, "layout is shared between processes");
GQ_STATIC_ASSERT(offsetof(struct gq_region_entry, cursor) == 16, "layout is shared");

/*
 * An entry's state: generation << 32 | references << 4 | policy << 2 | phase. All that decides
 * whether a descriptor is accepted, and all that decides when a region is freed, is in one word, so
 * that every step is one compare-and-swap of it:
 *
 *   FREE(g)          -> CLAIMED(g + 1)     register; nobody else touches a claimed entry
 *   CLAIMED(g)       -> LIVE(g), 0 refs    register, when size and cursor are written
 *   LIVE(g), n       -> LIVE(g), n + 1     acquire: not from RETIRED; append, while it writes
 *   LIVE(g), n       -> LIVE(g), n - 1     release
 *   LIVE(g), n > 0   -> RETIRED(g), n      retire
 *   LIVE(g), 0       -> FREE(g)            retire: frees
 *   RETIRED(g), n > 1 -> RETIRED(g), n - 1 release
 *   RETIRED(g), 1    -> FREE(g)            release: frees
 *
 * Freed exactly once: the only steps into FREE(g) are the last two kinds, both from a word of a
 * registered generation g, and there is no step from FREE(g) back to any word of generation g. So
 * of all compare-and-swaps that would free one registration exactly one succeeds, and who makes it
 * knows. No reference can be lost in it: acquire swaps from a LIVE word, so it comes before the
 * retire (which then sees it counted) or fails and finds the region retired. A generation comes
 * back after 2^32 registrations of one entry; a thread, or a handle, would have to sleep that long.
 */
enum gq_region_phase {
	GQ_REGION_FREE = 0,
	GQ_REGION_CLAIMED, /* being registered; a process that dies here costs the table an entry */
	GQ_REGION_LIVE,
	GQ_REGION_RETIRED, /* only while there are references */
};
#define GQ_REGION_PHASE_MASK       UINT64_C(3)
#define GQ_REGION_POLICY_SHIFT     2u
#define GQ_REGION_REFERENCE        UINT64_C(16)
#define GQ_REGION_MAX_REFERENCES   ((UINT64_C(1) << 28) - 1)
#define GQ_REGION_GENERATION_SHIFT 32u

static inline enum gq_region_phase gq_region_phase_of(uint64_t state)
{
	return (enum gq_region_phase)(state & GQ_REGION_PHASE_MASK);
}

static inline uint32_t gq_region_policy_of(uint64_t state)
{
	return (uint32_t)(state >> GQ_REGION_POLICY_SHIFT) & 3u;
}

static inline uint64_t gq_region_references_of(uint64_t state)
{
	return state / GQ_REGION_REFERENCE & GQ_REGION_MAX_REFERENCES;
}

static inline uint32_t gq_region_generation_of(uint64_t state)
{
	return (uint32_t)(state >> GQ_REGION_GENERATION_SHIFT);
}

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

/* q_region_release() for one who has no use for a status; leaves q_last_error() alone. */
void gq__region_drop(RegionTable *t, const MessageDescriptor *descriptor);

/* ---- backing.c: what the kernel says of memory ---------------------------------------- */

/*
 * Look at the mappings of [base, base + size).
 *
 * @param policy  immutable: shared mappings must be of memfds that nobody can change; append-only:
 *                it must be writable
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

#endif /* GPUQ_HOST_REGION_H */
