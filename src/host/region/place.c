/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.c - where regions lie in this process, and the addresses that the table reserves for those
 * it maps.
 *
 * A peer can lie about a region's being freed, because that is read from shared memory, while a
 * thread here reads the region's bytes. So such a lie changes only what lies at these addresses:
 * zero pages from then on. The addresses stay taken until the table is destroyed, so that thread
 * never faults. To keep them from being used up, the table maps further regions there once there
 * are very many: over the ranges that have been spare for longest. A range is a power of two of
 * pages, so what is reserved is bounded by what was registered at one time.
 */
#include "host/region/table.h"

#include "host/base/fault.h"
#include "host/base/memory.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SPARE_RANGES = 1024 };
#define SPARE_BYTES (UINT64_C(1) << 40)

/* ---- ranges: under the lock ------------------------------------------------------------------ */

static struct gq_region_range *take_spare(RegionTable *t, uint32_t order)
{
	struct gq_region_range *range = t->spare[order];

	if (range == NULL)
		return NULL;
	t->spare[order] = range->next;
	if (range->next == NULL)
		t->last_spare[order] = &t->spare[order];
	t->spares--;
	t->spare_bytes -= range->bytes;
	return range;
}

static void give_spare(RegionTable *t, struct gq_region_range *range)
{
	range->next = NULL;
	*t->last_spare[range->order] = range;
	t->last_spare[range->order] = &range->next;
	t->spares++;
	t->spare_bytes += range->bytes;
}

struct gq_region_range *gq__region_take_range(RegionTable *t, uint64_t size)
{
	const uint64_t pages = (size - 1) / (uint64_t)sysconf(_SC_PAGESIZE);
	const uint32_t order = pages == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(pages);
	const uint64_t bytes = (uint64_t)sysconf(_SC_PAGESIZE) << order;
	struct gq_region_range *range = NULL;

	if (t->spares >= SPARE_RANGES || t->spare_bytes >= SPARE_BYTES)
		range = take_spare(t, order);
	if (range != NULL)
		return range;
	range = gq__alloc(sizeof(*range), "a region's addresses");
	if (range == NULL)
		return take_spare(t, order);
	*range = (struct gq_region_range){ .base = MAP_FAILED, .bytes = bytes, .order = order };
	if (!gq__fault())
		range->base = mmap(NULL, (size_t)bytes, PROT_READ,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (range->base == MAP_FAILED) {
		gq__free(range, sizeof(*range));
		range = take_spare(t, order);
		if (range == NULL)
			gq__failf(Q_ERR_NO_MEMORY,
				  "out of memory: addresses for a region of %" PRIu64 " bytes",
				  size);
		return range;
	}
	range->all = t->ranges;
	t->ranges = range;
	return range;
}

/* If the mmap() fails, what was there stays. */
void gq__region_drop_range(RegionTable *t, struct gq_region_range *range)
{
	if (range == NULL)
		return;
	(void)mmap(range->base, (size_t)range->bytes, PROT_READ,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	give_spare(t, range);
}

void gq__region_free_ranges(RegionTable *t)
{
	while (t->ranges != NULL) {
		struct gq_region_range *range = t->ranges;

		t->ranges = range->all;
		munmap(range->base, (size_t)range->bytes);
		gq__free(range, sizeof(*range));
	}
}

/* ---- mappings -------------------------------------------------------------------------------- */

void gq__region_forget(RegionTable *t, struct gq_region_mapping *m)
{
	gq_store_relaxed_u64(&m->generation, 0);
	/* [mapping.write] release: a reader that misses this store finds the one after it. */
	gq_store_release_u64(&m->base, 0);
	gq__region_drop_range(t, m->range);
	m->range = NULL;
}

void gq__region_remember(struct gq_region_mapping *m, uint32_t generation, const void *base,
			 uint64_t size, uint64_t only_in, bool on_device)
{
	gq_store_relaxed_u64(&m->generation, 0);
	/* [mapping.write] release, these too: see gq_region_mapped_here(). */
	gq_store_release_u64(&m->base, (uint64_t)(uintptr_t)base);
	gq_store_release_u64(&m->size, size);
	gq_store_release_u64(&m->only_in, only_in);
	gq_store_release_u64(&m->on_device, on_device);
	gq_store_release_u64(&m->generation, generation); /* [mapping.write] */
}

void gq__region_forget_freed(RegionTable *t, uint32_t id)
{
	struct gq_region_mapping *m;
	uint64_t generation, state;

	if (id >= t->max_regions)
		return;
	m = &t->mapping[id];
	if (gq_load_relaxed_u64(&m->generation) == 0)
		return;
	pthread_mutex_lock(&t->lock);
	generation = m->generation;
	state = gq_load_acquire_u64(&t->entry[id].state); /* [region.read] */
	if (generation != 0 && !gq_region_is_registered(state, (uint32_t)generation))
		gq__region_forget(t, m);
	pthread_mutex_unlock(&t->lock);
}

bool gq__region_is_on_device(const RegionTable *t, const MessageDescriptor *descriptor)
{
	return descriptor->region.id < t->max_regions &&
	       gq_region_mapped_here(t, descriptor->region).on_device;
}

void gq__region_each(RegionTable *t,
		     void (*fn)(void *arg, RegionHandle region, const void *base, uint64_t size,
				bool on_device),
		     void *arg)
{
	pthread_mutex_lock(&t->lock);
	for (uint32_t i = 0; i < t->max_regions; i++) {
		const RegionHandle region = { .id = i,
					      .generation = (uint32_t)t->mapping[i].generation };
		const struct gq_region_view view = gq_region_mapped_here(t, region);

		if (region.generation != 0 && view.base != NULL)
			fn(arg, region, view.base, view.size, view.on_device);
	}
	pthread_mutex_unlock(&t->lock);
}
