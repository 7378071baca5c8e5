/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - memory that requests name in place of carrying bytes: a caller makes, fills and seals
 * it, a worker maps what a request names. The memory is gpuqd's, and keeps its size, so no access
 * can fail later. What is sealed nobody can change, this side neither.
 */
#include "state.h"

#include "host/base/error.h"
#include "host/base/sys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

_Static_assert(Q_BROKER_MAX_REGION == GQ_WIRE_MESSAGE_MAX, "what gpuqd makes");

enum { ACTION_BEGIN = 1, ACTION_END = 2 };

/* ---- a worker -------------------------------------------------------------------------------- */

/* gpuqd has looked at this. But whoever reads is the one that faults. */
static bool is_sealed(int fd, uint64_t end)
{
	const int needed = F_SEAL_WRITE | F_SEAL_SHRINK;
	const int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && (seals & needed) == needed && fstat(fd, &st) == 0 &&
	       end <= (uint64_t)st.st_size;
}

uint32_t gq__broker_map(struct heard *h)
{
	const uint64_t offset = gq__frame_u64(&h->frame, GQ_TLV_REGION, 1);
	const uint64_t length = gq__frame_u64(&h->frame, GQ_TLV_REGION, 2);
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const uint64_t from = offset / page * page;
	void *map;

	if (!gq_frame_has(&h->frame, GQ_TLV_REGION) || h->map != NULL)
		return GQ_WIRE_SUCCESS;
	if (h->fd < 0)
		return GQ_WIRE_FD_EXHAUSTED;
	if (length == 0 || !is_sealed(h->fd, offset + length)) /* the frame's check: no overflow */
		return GQ_WIRE_INVALID;
	/* Private: Linux before 6.7 maps no write-sealed memfd shared. The pages are the same. */
	map = mmap(NULL, (size_t)(offset - from + length), PROT_READ, MAP_PRIVATE, h->fd,
		   (off_t)from);
	if (map == MAP_FAILED)
		return GQ_WIRE_OVERLOADED;
	h->map = map;
	h->mapped = (size_t)(offset - from + length);
	h->at = (size_t)(offset - from);
	gq_sys_close(h->fd);
	h->fd = -1;
	return GQ_WIRE_SUCCESS;
}

/* ---- a caller -------------------------------------------------------------------------------- */

static struct own_region **find(BrokerClient *c, uint64_t id)
{
	struct own_region **at = &c->regions;

	while (*at != NULL && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static QueueStatus say(BrokerClient *c, uint32_t action, uint64_t id)
{
	const uint64_t where[3] = { id };
	struct gq_frame f = { .type = GQ_MESSAGE_REGION };
	struct heard *h;
	QueueStatus status;

	gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
	gq__frame_set(&f, GQ_TLV_REGION, false, where, sizeof(where));
	status = gq__broker_ask(c, &f, &h);
	gq__broker_free(h);
	return status;
}

static int allocate(int fd, size_t bytes)
{
	int rc;

	do
		rc = fallocate(fd, 0, 0, (off_t)bytes);
	while (rc != 0 && errno == EINTR);
	return rc;
}

/* The mapping is left out in children: there it would keep the memory from being sealed. */
static QueueStatus map_to_write(struct own_region *g)
{
	struct stat st;

	if (g->fd < 0)
		return gq__fail(Q_ERR_LIMIT, "this process has no room for a descriptor");
	if (fstat(g->fd, &st) != 0 || (uint64_t)st.st_size != g->bytes)
		return gq__fail(Q_ERR_FAILED, "what gpuqd has made is no region of this size");
	if (allocate(g->fd, g->bytes) == 0)
		g->memory = mmap(NULL, g->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);
	if (g->memory != MAP_FAILED && madvise(g->memory, g->bytes, MADV_DONTFORK) == 0)
		return Q_OK;
	return gq__failf(Q_ERR_NO_MEMORY, "a region of %zu bytes: %s", g->bytes, strerror(errno));
}

static QueueStatus create(BrokerClient *c, struct own_region *g)
{
	const uint32_t action = ACTION_BEGIN;
	const uint64_t bytes = g->bytes;
	struct gq_frame f = { .type = GQ_MESSAGE_REGION };
	struct heard *h;
	QueueStatus status;

	gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
	gq__frame_set(&f, GQ_TLV_SIZE, false, &bytes, sizeof(bytes));
	status = gq__broker_ask(c, &f, &h);
	if (status == Q_OK) {
		g->id = gq__frame_u64(&h->frame, GQ_TLV_REGION, 0);
		g->fd = h->fd;
		h->fd = -1;
	}
	gq__broker_free(h);
	return status;
}

void gq__broker_give_up_region(BrokerClient *c, struct own_region **at, uint64_t asks)
{
	struct own_region *g = *at;

	*at = g->next;
	g->asks = asks;
	g->next = c->late;
	c->late = g;
}

QueueStatus q_broker_region_create(BrokerClient *c, size_t bytes, BrokerRegion *out)
{
	GQ_NO_CANCEL();
	struct own_region *g;
	QueueStatus status;
	uint64_t asks;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (bytes == 0 || bytes > Q_BROKER_MAX_REGION)
		return gq__failf(Q_ERR_INVALID_ARG, "bytes is %zu; allowed: 1 to %u", bytes,
				 Q_BROKER_MAX_REGION);
	g = malloc(sizeof(*g));
	if (g == NULL)
		return gq__fail(Q_ERR_NO_MEMORY, "out of memory");
	*g = (struct own_region){
		.next = c->regions, .fd = -1, .memory = MAP_FAILED, .bytes = bytes
	};
	c->regions = g;
	status = create(c, g);
	asks = c->last;
	if (status == Q_OK)
		status = map_to_write(g);
	if (status == Q_ERR_TIMEOUT && g->id == 0) {
		gq__broker_give_up_region(c, &c->regions, asks);
		return status;
	}
	if (status != Q_OK) {
		if (g->id != 0)
			(void)say(c, ACTION_END, g->id);
		gq__broker_drop_region(&c->regions);
		return status;
	}
	*out = (BrokerRegion){ .id = g->id, .memory = g->memory, .bytes = bytes };
	return Q_OK;
}

/* From here on the memory has no mapping of this process that could write, and gets none. */
static QueueStatus seal(struct own_region *g)
{
	int rc, error;

	if (g->readable_only)
		return Q_OK;
	if (mmap(g->memory, g->bytes, PROT_READ, MAP_FIXED | MAP_PRIVATE, g->fd, 0) == MAP_FAILED)
		return gq__failf(Q_ERR_NO_MEMORY, "region %" PRIu64 ": %s", g->id, strerror(errno));
	rc = fcntl(g->fd, F_ADD_SEALS, F_SEAL_WRITE);
	g->readable_only = rc == 0;
	if (rc == 0)
		return Q_OK;
	error = errno;
	(void)mmap(g->memory, g->bytes, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, g->fd, 0);
	(void)madvise(g->memory, g->bytes, MADV_DONTFORK);
	return gq__failf(Q_ERR_POLICY, "region %" PRIu64 " could not be sealed: %s", g->id,
			 error == EBUSY ? "somebody else has it mapped, or its pages pinned"
					: strerror(error));
}

QueueStatus q_broker_region_seal(BrokerClient *c, uint64_t region)
{
	GQ_NO_CANCEL();
	struct own_region *g;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	g = *find(c, region);
	if (g == NULL)
		return gq__failf(Q_ERR_NOT_FOUND, "there is no region %" PRIu64, region);
	if (g->fd < 0)
		return gq__failf(Q_ERR_INVALID_ARG, "region %" PRIu64 " is sealed already", region);
	status = seal(g);
	if (status == Q_OK)
		status = say(c, ACTION_BEGIN, region);
	if (status == Q_OK) {
		gq_sys_close(g->fd);
		g->fd = -1;
	}
	return status;
}

QueueStatus q_broker_region_end(BrokerClient *c, uint64_t region)
{
	GQ_NO_CANCEL();
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (*find(c, region) == NULL)
		return gq__failf(Q_ERR_NOT_FOUND, "there is no region %" PRIu64, region);
	status = say(c, ACTION_END, region);
	if (status != Q_ERR_TIMEOUT) /* then it can be tried again */
		gq__broker_drop_region(find(c, region));
	return status;
}
