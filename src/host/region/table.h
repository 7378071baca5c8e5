/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - the handle of a table of regions, as one process has it; private to this folder. */
#ifndef GPUQ_REGION_TABLE_H
#define GPUQ_REGION_TABLE_H

#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/region/region.h"

#include <pthread.h>
#include <string.h>

/* Addresses that the table has reserved for regions that it maps: see place.c. */
struct gq_region_range {
	struct gq_region_range *next; /* in the list of spare ranges of this order, oldest first */
	struct gq_region_range *all;  /* in the list of all ranges */
	void *base;
	uint64_t bytes;
	uint32_t order;
};
enum { GQ_REGION_RANGE_ORDERS = 64 };

/*
 * Where a region is in this process. It is read without a lock: `generation` is 0 while the
 * other words change, and a reader that finds it the same before and after has read words that
 * belong together. A mapping is written once for each generation.
 */
struct gq_region_mapping {
	uint64_t generation; /* of the region; 0: none. [mapping.write], [mapping.read] */
	uint64_t base;       /* an address; [mapping.write], [mapping.read] */
	uint64_t size;       /* bytes mapped here; [mapping.write], [mapping.read] */
	/* 0, or 1 + the gq__generation of the one process that can see what is there;
	 * [mapping.write], [mapping.read] */
	uint64_t only_in;
	uint64_t on_device; /* 1: memory of a GPU; [mapping.write], [mapping.read] */
	/* Under the lock. */
	struct gq_region_range *range; /* where the table has mapped the region, else NULL */
	uint64_t append_in; /* registered as append-only by this process: 1 + its gq__generation;
			     * else 0. No other process can change it */
};

struct RegionTable {
	struct gq_region_head *head;
	struct gq_region_entry *entry;
	struct gq_region_mapping *mapping;
	size_t bytes;         /* of the shared memory */
	uint32_t max_regions; /* as checked once */
	uint32_t next;        /* where to look for a free entry; under the lock */
	bool owns_memory;
	/* Under the lock. */
	struct gq_region_range *ranges; /* all */
	struct gq_region_range *spare[GQ_REGION_RANGE_ORDERS], **last_spare[GQ_REGION_RANGE_ORDERS];
	uint64_t spares, spare_bytes;
	pthread_mutex_t lock;
	RegionTable *after, **link; /* all tables of the process; under `tables_lock` */
};

/* ---- states ---------------------------------------------------------------------------------- */

static inline bool gq_region_is_registered(uint64_t state, uint32_t generation)
{
	enum gq_region_phase phase = gq_region_phase_of(state);

	return generation != 0 && gq_region_generation_of(state) == generation &&
	       (phase == GQ_REGION_LIVE || phase == GQ_REGION_RETIRED);
}

/* The state of a region; 0, which reads FREE, if it is not registered. */
static inline uint64_t gq_region_look_up(const RegionTable *t, RegionHandle region)
{
	uint64_t state;

	if (region.id >= t->max_regions)
		return 0;
	/* [region.read] acquire: size, bytes */
	state = gq_load_acquire_u64(&t->entry[region.id].state);
	return gq_region_is_registered(state, region.generation) ? state : 0;
}

/* Size and cursor as they were written for the state that was read before: gq_region_look_up() must
 * give the same generation afterwards, or a compare-and-swap from that state succeed. */
static inline uint64_t gq_region_size_of(const RegionTable *t, RegionHandle region)
{
	return gq_load_acquire_u64(&t->entry[region.id].size); /* [region.read] */
}

static inline uint64_t gq_region_cursor_of(const RegionTable *t, RegionHandle region)
{
	/* [region.read] acquire: what was appended */
	return gq_load_acquire_u64(&t->entry[region.id].cursor);
}

/*
 * A step of a region's state is one compare-and-swap, tried as often as this. It fails only if
 * another thread has changed the word between two instructions of ours: a thread that stands still
 * for long loses one try by that, so a correct thread does not lose as many as this in a row. The
 * bound ends a call on a table whose state a liar changes all the time; and as the answer is only
 * "try again", it would do no harm among correct peers.
 */
enum { GQ_REGION_TRIES = 1 << 16 };

/* ---- where a region is in this process ------------------------------------------------------ */

GQ_STATIC_ASSERT(sizeof(void *) == sizeof(uint64_t), "a mapping's base is an address in a word");

static inline uint8_t *gq_region_pointer(uint64_t address)
{
	uint8_t *p;

	memcpy(&p, &address, sizeof(p));
	return p;
}

struct gq_region_view {
	uint8_t *base; /* NULL: not mapped here */
	uint64_t size;
	bool on_device;
};

/* Where a region is mapped in this process, if it is. */
static inline struct gq_region_view gq_region_mapped_here(const RegionTable *t, RegionHandle region)
{
	const struct gq_region_mapping *m = &t->mapping[region.id];
	struct gq_region_view view = { 0 };
	uint64_t base, size, only_in, on_device;

	if (gq_load_acquire_u64(&m->generation) != region.generation) /* [mapping.read] */
		return view;
	/* [mapping.read] acquire, these too: a thread that reads a later mapping's words must find
	 * the generation changed. */
	base = gq_load_acquire_u64(&m->base);
	size = gq_load_acquire_u64(&m->size);
	only_in = gq_load_acquire_u64(&m->only_in);
	on_device = gq_load_acquire_u64(&m->on_device);
	if (gq_load_relaxed_u64(&m->generation) != region.generation ||
	    (only_in != 0 && only_in != gq__generation + 1))
		return view;
	view.base = gq_region_pointer(base);
	view.size = size;
	view.on_device = on_device != 0;
	return view;
}

/* ---- place.c: under the lock, but for the last ---------------------------------------------- */

/* Reserve addresses for `size` bytes; zero pages so far. @return NULL: none; q_last_error() is set.
 */
struct gq_region_range *gq__region_take_range(RegionTable *t, uint64_t size);

/* Replace what was mapped there by zero pages, and keep the addresses for later regions. */
void gq__region_drop_range(RegionTable *t, struct gq_region_range *range);

/* Unmap all, before the table is freed. */
void gq__region_free_ranges(RegionTable *t);

/* Say where a region is. Its generation is new here: what was there before is no longer in use. */
void gq__region_remember(struct gq_region_mapping *m, uint32_t generation, const void *base,
			 uint64_t size, uint64_t only_in, bool on_device);

/* Forget a mapping: the region has been freed, or is said to have been. */
void gq__region_forget(RegionTable *t, struct gq_region_mapping *m);

/* Forget a region's mapping if the region has been freed, by any process. Takes the lock. */
void gq__region_forget_freed(RegionTable *t, uint32_t id);

/* ---- refuse.c: why a call is refused. Each sets q_last_error() and returns the status. ------ */

QueueStatus gq__region_no_table(void);
QueueStatus gq__region_null(const char *what);
QueueStatus gq__region_stale(RegionTable *t, RegionHandle region); /* also forgets its mapping */
QueueStatus gq__region_not_mapped(RegionHandle region);
QueueStatus gq__region_retired(RegionHandle region);
QueueStatus gq__region_overtaken(RegionHandle region);
QueueStatus gq__region_too_many(RegionHandle region);
QueueStatus gq__region_damaged(const char *what, uint64_t value);

/* ---- descriptor.c --------------------------------------------------------------------------- */

/* Give a reference back. @return Q_OK; Q_ERR_STALE; Q_ERR_INVALID_ARG: there is none;
 * Q_ERR_NOT_READY: overtaken. q_last_error() is not set. */
QueueStatus gq__region_give_back(RegionTable *t, RegionHandle region);

#endif /* GPUQ_REGION_TABLE_H */
