/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - a table of regions as it lies in shared memory; private to the library.
 *
 *      0  magic, ready, bytes: see shm/header.h
 *     24  version, 32 bits
 *     28  max_regions (M), 32 bits
 *     32  entry_bytes, 32 bits: 64; then 32 bits reserved
 *     40  made_in: 1 + gq__generation of the process that made the table
 *    128  entry[M], 64 bytes each: state, size, cursor, five words reserved
 *
 * All words are little-endian. To read a region of handle (id, generation): load entry[id].state
 * (acquire). If its generation is the handle's and its phase is LIVE or RETIRED, the region is
 * registered. Load size and cursor, then the state again: if the generation is another one, what
 * was read may be another region's. To hold the region, swap the state to one with one more
 * reference: then all that was read since the load belongs to it.
 *
 * The memory may be shared with processes that die or lie. Nothing read from it is used as an index
 * or a length before it has been compared with private values, and only the private mappings
 * (place.c) say which bytes are touched.
 */
#ifndef GPUQ_REGION_LAYOUT_H
#define GPUQ_REGION_LAYOUT_H

#include "device/protocol/protocol.h"

#include <gpuq/ring.h>

#define GQ_REGION_MAGIC   UINT64_C(0x6e67657271757067) /* "gpuqregn" */
#define GQ_REGION_VERSION 1u

/* What the table is: written by its creator, constant once `ready` is written. */
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
 *   FREE(g)          -> CLAIMED(g + 1)     register; no other thread touches a claimed entry
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
 * of all compare-and-swaps that would free one registration exactly one succeeds, and the thread
 * that makes it knows. No reference can be lost in it: acquire swaps from a LIVE word, so it comes
 * before the retire (which then sees it counted) or fails and finds the region retired. A
 * generation comes back after 2^32 registrations of one entry; a thread, or a handle, would have to
 * sleep that long.
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

#endif /* GPUQ_REGION_LAYOUT_H */
