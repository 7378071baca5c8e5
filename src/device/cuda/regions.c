/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regions.c - descriptors on a GPU: where it finds the bytes of a bound table's regions.
 *
 * Looked up once, when the table is bound: device memory, and memory that is pinned already, as it
 * is; other memory is pinned, for which no grid may be resident. A region registered later is not
 * known until the table is bound again.
 */
#include "device/cuda/cuda.h"
#include "host/memory.h"
#include "host/region.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* Memory that we have pinned, for all queues of the process that need it. */
struct pinned {
	struct pinned *next;
	uintptr_t base, end;
	uint32_t users;
};
static struct pinned *all_pinned; /* under the lock that gq__cuda_quiet_begin() takes */

/* Memory that the GPU reaches; or that it cannot, and why. Sorted by `base`, not overlapping. */
struct gq_cuda_region {
	uintptr_t base, end;
	CUdeviceptr address; /* of `base`; 0: cannot be reached */
	int error;           /* then: the driver's */
	bool to_pin;         /* by us */
	struct pinned *pin;  /* once it is */
};

struct found {
	struct gq_cuda *c;
	struct gq_cuda_region *region;
	RegionHandle *handle; /* as many */
	size_t n, room;
	bool out_of_memory;
};

/* Whether the driver knows the memory already, as that of this device or as pinned. */
static bool is_known(struct gq_cuda *c, struct gq_cuda_region *r, bool on_device)
{
	int ordinal = -1;

	r->error = c->cu->cuPointerGetAttribute(&r->address, GQ_CU_POINTER_DEVICE_ADDRESS, r->base);
	if (r->error == GQ_CU_SUCCESS && on_device)
		r->error = c->cu->cuPointerGetAttribute(&ordinal, GQ_CU_POINTER_DEVICE_ORDINAL,
							r->base);
	if (r->error == GQ_CU_SUCCESS && on_device && ordinal != c->device)
		r->error = GQ_CU_INVALID_DEVICE;
	if (r->error != GQ_CU_SUCCESS)
		r->address = 0;
	return r->error == GQ_CU_SUCCESS;
}

/* What is pinned already and holds all of it. */
static struct pinned *find_pinned(const struct gq_cuda_region *r)
{
	struct pinned *p = all_pinned;

	while (p != NULL && !(p->base <= r->base && r->end <= p->end))
		p = p->next;
	return p;
}

static bool grow(struct found *f)
{
	const size_t room = f->room == 0 ? 16 : 2 * f->room;
	struct gq_cuda_region *region =
		gq__fault() ? NULL : realloc(f->region, room * sizeof(*region));
	RegionHandle *handle;

	if (region == NULL)
		return false;
	f->region = region;
	handle = gq__fault() ? NULL : realloc(f->handle, room * sizeof(*handle));
	if (handle == NULL)
		return false;
	f->handle = handle;
	f->room = room;
	return true;
}

static void find(void *arg, RegionHandle handle, const void *base, uint64_t size, bool on_device)
{
	struct found *f = arg;
	struct gq_cuda_region r = { .base = (uintptr_t)base, .end = (uintptr_t)base + size };

	if (find_pinned(&r) != NULL) {
		r.to_pin = true;
	} else if (!is_known(f->c, &r, on_device) && !on_device) { /* pinned by whole pages */
		const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

		r.base = r.base / page * page;
		r.end = gq_round_up(r.end, page);
		r.to_pin = true;
	}
	if (f->n == f->room && !grow(f)) {
		f->out_of_memory = true;
		return;
	}
	f->handle[f->n] = handle;
	f->region[f->n++] = r;
}

static int by_base(const void *a, const void *b)
{
	const struct gq_cuda_region *x = a, *y = b;

	return x->base < y->base ? -1 : x->base > y->base;
}

/* Several regions of one page are pinned together. */
static void merge(struct found *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->n; i++) {
		struct gq_cuda_region *last = &f->region[kept - 1], *r = &f->region[i];

		if (kept != 0 && r->base < last->end && r->to_pin && last->to_pin) {
			if (r->end > last->end)
				last->end = r->end;
		} else {
			f->region[kept++] = *r;
		}
	}
	f->n = kept;
}

static void *at(uintptr_t address)
{
	return (void *)address; // NOLINT(performance-no-int-to-ptr)
}

/* @return the driver's error. */
static int register_memory(struct gq_cuda *c, struct pinned *p, bool may_read_only)
{
	const unsigned flags = GQ_CU_MEMHOSTREGISTER_PORTABLE | GQ_CU_MEMHOSTREGISTER_DEVICEMAP;
	int error = c->cu->cuMemHostRegister(at(p->base), p->end - p->base, flags);

	if (error != GQ_CU_SUCCESS && may_read_only) /* sealed memory is */
		error = c->cu->cuMemHostRegister(at(p->base), p->end - p->base,
						 flags | GQ_CU_MEMHOSTREGISTER_READ_ONLY);
	return error;
}

static void unpin(struct gq_cuda *c, struct pinned *p)
{
	struct pinned **link = &all_pinned;

	if (--p->users != 0)
		return;
	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	c->cu->cuMemHostUnregister(at(p->base));
	gq__free(p, sizeof(*p));
}

static struct pinned *pin_anew(struct gq_cuda *c, struct gq_cuda_region *r, bool may_read_only)
{
	struct pinned *p = gq__alloc(sizeof(*p), "a pinned region");

	r->error = GQ_CU_OUT_OF_MEMORY;
	if (p == NULL)
		return NULL;
	p->base = r->base;
	p->end = r->end;
	r->error = register_memory(c, p, may_read_only);
	if (r->error != GQ_CU_SUCCESS) {
		gq__free(p, sizeof(*p));
		return NULL;
	}
	p->next = all_pinned;
	all_pinned = p;
	return p;
}

static void pin(struct gq_cuda *c, struct gq_cuda_region *r, bool may_read_only)
{
	struct pinned *p = find_pinned(r);

	if (p == NULL)
		p = pin_anew(c, r, may_read_only);
	if (p == NULL)
		return;
	p->users++;
	if (is_known(c, r, false))
		r->pin = p;
	else
		unpin(c, p);
}

void gq__regions_unbind(struct gq_cuda *c)
{
	for (size_t i = 0; i < c->regions; i++)
		if (c->region[i].pin != NULL)
			unpin(c, c->region[i].pin);
	free(c->region);
	free(c->bound);
	c->region = NULL;
	c->bound = NULL;
	c->regions = c->n_bound = 0;
}

/* No grid is resident. In our context. */
static QueueStatus bind(struct gq_cuda *c, RegionTable *table)
{
	struct found f = { .c = c };
	int read_only = 0, result;

	gq__regions_unbind(c);
	if (table == NULL)
		return Q_OK;
	result = c->cu->cuDeviceGetAttribute(&read_only, GQ_CU_READ_ONLY_HOST_REGISTER, c->device);
	if (result != GQ_CU_SUCCESS)
		return gq__cuda_error(c->cu, "cuDeviceGetAttribute", result);
	gq__region_each(table, find, &f);
	if (f.out_of_memory) {
		free(f.region);
		free(f.handle);
		return gq__fail(Q_ERR_NO_MEMORY,
				"out of memory: the addresses of the regions bound");
	}
	c->bound = f.handle;
	c->n_bound = f.n;
	if (f.n != 0)
		qsort(f.region, f.n, sizeof(*f.region), by_base);
	merge(&f);
	for (size_t i = 0; i < f.n; i++)
		if (f.region[i].to_pin)
			pin(c, &f.region[i], read_only != 0);
	c->region = f.region;
	c->regions = f.n;
	return Q_OK;
}

QueueStatus gq__regions_bind(GpuQueue *q, RegionTable *table)
{
	struct gq_cuda *c = q->device_state;
	QueueStatus status = gq__cuda_quiet_begin(c, "pinning memory");
	CUcontext ours;

	if (status == Q_OK) {
		int result = c->cu->cuCtxPushCurrent(c->context);

		if (result == GQ_CU_SUCCESS) {
			status = bind(c, table);
			c->cu->cuCtxPopCurrent(&ours);
		} else {
			status = gq__cuda_error(c->cu, "cuCtxPushCurrent", result);
		}
	}
	gq__cuda_quiet_end(c);
	return status;
}

/* ---- locating ------------------------------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
	const RegionHandle *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* Not by its address alone: another region may have been there when the table was bound. */
static bool was_bound(const struct gq_cuda *c, RegionHandle region)
{
	const RegionHandle *found =
		c->n_bound == 0 ? NULL
				: bsearch(&region, c->bound, c->n_bound, sizeof(region), by_id);

	return found != NULL && found->generation == region.generation;
}

/* The last that begins at `begin` or before. */
static const struct gq_cuda_region *around(const struct gq_cuda *c, uintptr_t begin)
{
	size_t low = 0, high = c->regions;

	while (low < high) {
		const size_t middle = (low + high) / 2;

		if (c->region[middle].base <= begin)
			low = middle + 1;
		else
			high = middle;
	}
	return low == 0 ? NULL : &c->region[low - 1];
}

const void *gq__regions_locate(GpuQueue *q, const MessageDescriptor *d, const void *bytes)
{
	const struct gq_cuda *c = q->device_state;
	const uintptr_t begin = (uintptr_t)bytes;
	const struct gq_cuda_region *r = around(c, begin);
	char why[160];

	if (r == NULL || !was_bound(c, d->region) || begin > r->end || d->length > r->end - begin) {
		gq__fail(Q_ERR_UNSUPPORTED, "the region was registered after q_bind_regions(), or "
					    "overlaps another: bind the table again");
		return NULL;
	}
	if (r->address == 0) {
		gq__cuda_describe(c->cu, r->error, why, sizeof(why));
		gq__failf(Q_ERR_UNSUPPORTED,
			  "the GPU cannot reach the region at %p (cuMemHostRegister, "
			  "cuPointerGetAttribute): %s",
			  bytes, why);
		return NULL;
	}
	return at(r->address + (begin - r->base));
}
