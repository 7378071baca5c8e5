/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regions.c - descriptors on a GPU: where it finds the bytes of a bound table's regions.
 *
 * Each region is looked up once, when the table is bound. Device memory and memory that is pinned
 * already are used as they are. Other memory is pinned then, for which no grid may be resident. A
 * region that is registered later is not known until the table is bound again.
 */
#include "device/cuda/host/regions.h"

#include "device/cuda/host/call.h"
#include "device/cuda/host/quiet.h"
#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/region/region.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* Memory that libgpuq has pinned, for all queues of the process that need it. */
struct pinned {
	struct pinned *next;
	uintptr_t base, end;
	uint32_t users;
};
static struct pinned *all_pinned; /* under the lock that gq__quiet_begin() takes */

/* A region that is bound: where the GPU finds it, or why it does not. */
struct gq_cuda_region {
	RegionHandle handle;
	uintptr_t base, end;
	bool on_device;
	CUdeviceptr address; /* of `base`; 0: the GPU cannot reach it, or not all of it */
	int error;           /* then: the driver's error; 0: the GPU reaches part of it */
	struct pinned *pin;  /* if libgpuq has pinned it */
};

struct found {
	struct gq_cuda_region *region;
	size_t n, room;
	bool out_of_memory;
};

/* ---- what the driver knows ------------------------------------------------------------------- */

/* Where the GPU finds the byte. @return the driver's error. */
static int find_address(struct gq_cuda *c, uintptr_t byte, bool on_device, CUdeviceptr *address)
{
	int ordinal = -1;
	int error = c->cu->cuPointerGetAttribute(address, GQ_CU_POINTER_DEVICE_ADDRESS, byte);

	if (error == GQ_CU_SUCCESS && on_device)
		error = c->cu->cuPointerGetAttribute(&ordinal, GQ_CU_POINTER_DEVICE_ORDINAL, byte);
	if (error == GQ_CU_SUCCESS && on_device && ordinal != c->device)
		error = GQ_CU_INVALID_DEVICE;
	return error;
}

/*
 * Whether the driver knows the memory: as this device's, or as pinned. It is asked for the first
 * byte and for the last, as memory that others have pinned may end anywhere. A hole between the two
 * is not found.
 * @return false: none of it, or (with `error` 0) not all
 */
static bool is_known(struct gq_cuda *c, struct gq_cuda_region *r)
{
	CUdeviceptr first = 0, last = 0;
	const int error = find_address(c, r->base, r->on_device, &first);
	const int at_end = find_address(c, r->end - 1, r->on_device, &last);

	r->address = 0;
	if (error != GQ_CU_SUCCESS && at_end != GQ_CU_SUCCESS) {
		r->error = error;
		return false;
	}
	r->error = GQ_CU_SUCCESS;
	if (error == GQ_CU_SUCCESS && at_end == GQ_CU_SUCCESS &&
	    last - first == r->end - 1 - r->base)
		r->address = first;
	return r->address != 0;
}

/* ---- pinning --------------------------------------------------------------------------------- */

/* The memory pinned by libgpuq that holds all of the region; NULL: none does. */
static struct pinned *find_pinned(const struct gq_cuda_region *r)
{
	struct pinned *p = all_pinned;

	while (p != NULL && !(p->base <= r->base && r->end <= p->end))
		p = p->next;
	return p;
}

/* Whether libgpuq has pinned part of it. */
static bool overlaps_pinned(const struct gq_cuda_region *r)
{
	const struct pinned *p = all_pinned;

	while (p != NULL && !(p->base < r->end && r->base < p->end))
		p = p->next;
	return p != NULL;
}

static void unpin(struct gq_cuda *c, struct pinned *p)
{
	struct pinned **link = &all_pinned;

	if (--p->users != 0)
		return;
	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	c->cu->cuMemHostUnregister(gq_cuda_pointer(p->base));
	gq__free(p, sizeof(*p));
}

/* @return the driver's error. */
static int register_memory(struct gq_cuda *c, struct pinned *p, bool may_read_only)
{
	const unsigned flags = GQ_CU_MEMHOSTREGISTER_PORTABLE | GQ_CU_MEMHOSTREGISTER_DEVICEMAP;
	int error = c->cu->cuMemHostRegister(gq_cuda_pointer(p->base), p->end - p->base, flags);

	if (error != GQ_CU_SUCCESS && may_read_only) /* sealed memory is */
		error = c->cu->cuMemHostRegister(gq_cuda_pointer(p->base), p->end - p->base,
						 flags | GQ_CU_MEMHOSTREGISTER_READ_ONLY);
	return error;
}

/* Pin it, with one user so far. @return NULL, and the driver's error. */
static struct pinned *pin(struct gq_cuda *c, uintptr_t base, uintptr_t end, bool may_read_only,
			  int *error)
{
	struct pinned *p = gq__alloc(sizeof(*p), "a pinned region");

	*error = GQ_CU_OUT_OF_MEMORY;
	if (p == NULL)
		return NULL;
	*p = (struct pinned){ .base = base, .end = end, .users = 1 };
	*error = register_memory(c, p, may_read_only);
	if (*error != GQ_CU_SUCCESS) {
		gq__free(p, sizeof(*p));
		return NULL;
	}
	p->next = all_pinned;
	all_pinned = p;
	return p;
}

/* Let the region use what is pinned. */
static void use_pinned(struct gq_cuda *c, struct gq_cuda_region *r, struct pinned *p)
{
	if (!is_known(c, r))
		return;
	r->pin = p;
	p->users++;
}

/* ---- binding --------------------------------------------------------------------------------- */

static void add_region(void *arg, RegionHandle handle, const void *base, uint64_t size,
		       bool on_device)
{
	struct found *f = arg;

	if (f->n == f->room) {
		const size_t room = f->room == 0 ? 16 : 2 * f->room;
		struct gq_cuda_region *region =
			gq__fault() ? NULL : realloc(f->region, room * sizeof(*region));

		if (region == NULL) {
			f->out_of_memory = true;
			return;
		}
		f->region = region;
		f->room = room;
	}
	f->region[f->n++] = (struct gq_cuda_region){ .handle = handle,
						     .base = (uintptr_t)base,
						     .end = (uintptr_t)base + size,
						     .on_device = on_device };
}

static int by_id(const void *a, const void *b)
{
	const struct gq_cuda_region *x = a, *y = b;

	return x->handle.id < y->handle.id ? -1 : x->handle.id > y->handle.id;
}

static int by_base(const void *a, const void *b)
{
	const struct gq_cuda_region *x = a, *y = b;

	return x->base < y->base ? -1 : x->base > y->base;
}

/* Find the region where it can be reached without pinning it.
 * @return false: it has to be pinned */
static bool reach_unpinned(struct gq_cuda *c, struct gq_cuda_region *r)
{
	struct pinned *p = r->on_device ? NULL : find_pinned(r);

	if (p != NULL)
		use_pinned(c, r, p);
	else if (!r->on_device && overlaps_pinned(r))
		r->error = GQ_CU_SUCCESS; /* part of it, for another queue, which may unpin that */
	else
		return is_known(c, r) || r->on_device || r->error == GQ_CU_SUCCESS;
	return true;
}

/* Pin whole pages. Regions that have a page in common are pinned together. `r` is sorted by base.
 */
static void pin_all(struct gq_cuda *c, struct gq_cuda_region *r, size_t n, bool may_read_only)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0, next; i < n; i = next) {
		uintptr_t end = gq_round_up(r[i].end, page);
		struct pinned *p;
		int error;

		for (next = i + 1; next < n && r[next].base < end; next++)
			if (r[next].end > end)
				end = gq_round_up(r[next].end, page);
		p = pin(c, r[i].base / page * page, end, may_read_only, &error);
		for (size_t k = i; k < next; k++) {
			r[k].error = error;
			if (p != NULL)
				use_pinned(c, &r[k], p);
		}
		if (p != NULL)
			unpin(c, p); /* for good only if no region uses it */
	}
}

void gq__regions_unbind(struct gq_cuda *c)
{
	for (size_t i = 0; i < c->regions; i++)
		if (c->region[i].pin != NULL)
			unpin(c, c->region[i].pin);
	free(c->region);
	c->region = NULL;
	c->regions = 0;
}

/* In the queue's context, no grid resident. After a failure all is as it was. */
static QueueStatus bind(struct gq_cuda *c, RegionTable *table)
{
	struct found f = { 0 };
	size_t to_pin = 0;
	int read_only = 0;
	int result =
		c->cu->cuDeviceGetAttribute(&read_only, GQ_CU_READ_ONLY_HOST_REGISTER, c->device);

	if (result != GQ_CU_SUCCESS)
		return gq__cuda_error(c->cu, "cuDeviceGetAttribute", result);
	if (table != NULL)
		gq__region_each(table, add_region, &f);
	if (f.out_of_memory) {
		free(f.region);
		return gq__fail(Q_ERR_NO_MEMORY,
				"out of memory: the addresses of the regions bound");
	}
	/* First, as what is pinned now may overlap what is to be pinned. */
	gq__regions_unbind(c);
	for (size_t i = 0; i < f.n; i++) {
		if (!reach_unpinned(c, &f.region[i])) {
			const struct gq_cuda_region r = f.region[i];

			f.region[i] = f.region[to_pin];
			f.region[to_pin++] = r;
		}
	}
	if (f.n != 0) {
		qsort(f.region, to_pin, sizeof(*f.region), by_base);
		pin_all(c, f.region, to_pin, read_only != 0);
		qsort(f.region, f.n, sizeof(*f.region), by_id);
	}
	c->region = f.region;
	c->regions = f.n;
	return Q_OK;
}

QueueStatus gq__regions_bind(GpuQueue *q, RegionTable *table)
{
	GQ_NO_CANCEL();
	struct gq_cuda *c = q->device_state;
	QueueStatus status = gq__quiet_try(c, GQ_QUIET_PROCESS, "pinning memory");

	if (status == Q_OK) {
		int result = c->cu->cuCtxPushCurrent(c->context);

		if (result == GQ_CU_SUCCESS) {
			status = bind(c, table);
			gq_context_leave(c);
		} else {
			status = gq__cuda_error(c->cu, "cuCtxPushCurrent", result);
		}
	}
	gq__quiet_end(c, GQ_QUIET_PROCESS);
	return status;
}

/* ---- locating -------------------------------------------------------------------------------- */

const void *gq__regions_locate(GpuQueue *q, const MessageDescriptor *d, const void *bytes)
{
	const struct gq_cuda *c = q->device_state;
	const struct gq_cuda_region wanted = { .handle = d->region };
	const struct gq_cuda_region *r = c->regions == 0 ? NULL
							 : bsearch(&wanted, c->region, c->regions,
								   sizeof(*c->region), by_id);
	const uintptr_t begin = (uintptr_t)bytes;
	char why[160] = "only part of it is pinned (for another queue, or by the application) or "
			"the GPU's";

	/* Compare more than the address: another region may have been there when the table was
	 * bound. */
	if (r == NULL || r->handle.generation != d->region.generation || begin < r->base ||
	    begin > r->end || d->length > r->end - begin) {
		gq__fail(Q_ERR_UNSUPPORTED, "the region was registered after q_bind_regions(): "
					    "bind the table again");
		return NULL;
	}
	if (r->address == 0) {
		if (r->error != GQ_CU_SUCCESS)
			gq__cuda_describe(c->cu, r->error, why, sizeof(why));
		gq__failf(Q_ERR_UNSUPPORTED,
			  "the GPU cannot reach the region at %p (cuMemHostRegister, "
			  "cuPointerGetAttribute): %s",
			  bytes, why);
		return NULL;
	}
	return gq_cuda_pointer(r->address + (begin - r->base));
}
