/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - a table's life: creating it, attaching to one, destroying a handle; and forks.
 *
 * The table lies in memory that processes may share (layout.h). Where a region lies is each
 * process's own knowledge, in the handle's private array of mappings (place.c). Nothing on the way
 * of a descriptor takes a lock; the handle's mutex is for changing mappings and for appending.
 */
#include "host/region/table.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/shm/header.h"
#include "host/shm/mapping.h"

#include <inttypes.h>
#include <sys/mman.h>

/* ---- forks ---------------------------------------------------------------------------------- */

/* fork() waits until no thread holds a table's lock, so that the child's copy of what it guards is
 * whole and its copy of the lock is free. */
static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static RegionTable *tables;

static void before_fork(void)
{
	pthread_mutex_lock(&tables_lock);
	for (RegionTable *t = tables; t != NULL; t = t->after)
		pthread_mutex_lock(&t->lock);
}

static void after_fork(void)
{
	for (RegionTable *t = tables; t != NULL; t = t->after)
		pthread_mutex_unlock(&t->lock);
	pthread_mutex_unlock(&tables_lock);
}

static void register_fork_handlers(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

static void link_table(RegionTable *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	gq__watch_forks();
	pthread_once(&once, register_fork_handlers);
	pthread_mutex_lock(&tables_lock);
	t->after = tables;
	t->link = &tables;
	if (tables != NULL)
		tables->link = &t->after;
	tables = t;
	pthread_mutex_unlock(&tables_lock);
}

static void unlink_table(RegionTable *t)
{
	pthread_mutex_lock(&tables_lock);
	*t->link = t->after;
	if (t->after != NULL)
		t->after->link = t->link;
	pthread_mutex_unlock(&tables_lock);
}

/* ---- a table's life ------------------------------------------------------------------------- */

static size_t required_bytes(uint32_t max_regions)
{
	return sizeof(struct gq_region_head) + max_regions * sizeof(struct gq_region_entry);
}

static bool check_max_regions(uint32_t max_regions)
{
	if (max_regions != 0 && max_regions <= Q_MAX_REGIONS)
		return true;
	gq__failf(Q_ERR_INVALID_ARG, "max_regions is %" PRIu32 "; allowed: 1 to %u", max_regions,
		  Q_MAX_REGIONS);
	return false;
}

/* A handle for a table in `memory`, which is not touched. */
static RegionTable *new_handle(uint32_t max_regions, void *memory)
{
	RegionTable *t = gq__alloc(sizeof(*t), "the table of regions");

	if (t == NULL)
		return NULL;
	t->mapping = gq__alloc(max_regions * sizeof(*t->mapping), "the mappings of regions");
	if (t->mapping == NULL) {
		gq__free(t, sizeof(*t));
		return NULL;
	}
	t->max_regions = max_regions;
	t->bytes = required_bytes(max_regions);
	t->head = memory;
	t->entry = (struct gq_region_entry *)(void *)((uint8_t *)memory + sizeof(*t->head));
	for (uint32_t i = 0; i < GQ_REGION_RANGE_ORDERS; i++)
		t->last_spare[i] = &t->spare[i];
	pthread_mutex_init(&t->lock, NULL);
	link_table(t);
	return t;
}

static void publish_head(const RegionTable *t)
{
	t->head->magic = GQ_REGION_MAGIC;
	t->head->bytes = t->bytes;
	t->head->version = GQ_REGION_VERSION;
	t->head->max_regions = t->max_regions;
	t->head->entry_bytes = sizeof(struct gq_region_entry);
	t->head->made_in = gq__generation + 1;
	/* [setup.write] release: header and zeroed entries. */
	gq_store_release_u64(&t->head->ready, GQ_REGION_MAGIC);
}

size_t q_region_table_required_memory(uint32_t max_regions)
{
	return check_max_regions(max_regions) ? required_bytes(max_regions) : 0;
}

QueueStatus q_region_table_create(uint32_t max_regions, RegionTable **out)
{
	void *memory = MAP_FAILED;
	RegionTable *t;

	if (out == NULL)
		return gq__region_null("out");
	if (!check_max_regions(max_regions))
		return Q_ERR_INVALID_ARG;
	if (!gq__fault())
		memory = mmap(NULL, required_bytes(max_regions), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return gq__failf(Q_ERR_NO_MEMORY,
				 "out of memory: %zu bytes for the regions' states",
				 required_bytes(max_regions));
	t = new_handle(max_regions, memory);
	if (t == NULL) {
		munmap(memory, required_bytes(max_regions));
		return Q_ERR_NO_MEMORY;
	}
	t->owns_memory = true;
	publish_head(t);
	*out = t;
	return Q_OK;
}

QueueStatus q_region_table_create_in(uint32_t max_regions, void *memory, size_t bytes,
				     RegionTable **out)
{
	QueueStatus status;
	bool is_private;
	RegionTable *t;

	if (out == NULL)
		return gq__region_null("out");
	if (!check_max_regions(max_regions))
		return Q_ERR_INVALID_ARG;
	if (memory == NULL)
		return gq__region_null("memory");
	status = gq__header_check_alignment(memory);
	if (status != Q_OK)
		return status;
	if (bytes < required_bytes(max_regions))
		return gq__failf(Q_ERR_NO_MEMORY,
				 "bytes is %zu; a table of %" PRIu32 " regions takes %zu", bytes,
				 max_regions, required_bytes(max_regions));
	status = gq__mapping_check(memory, required_bytes(max_regions), true, &is_private);
	if (status != Q_OK)
		return status;
	t = new_handle(max_regions, memory);
	if (t == NULL)
		return Q_ERR_NO_MEMORY;
	gq_store_release_u64(&t->head->ready, 0); /* no process attaches meanwhile */
	memset(t->head, 0, t->bytes);
	publish_head(t);
	*out = t;
	return Q_OK;
}

GQ_STATIC_ASSERT(offsetof(struct gq_region_head, ready) == offsetof(struct gq_header, ready),
		 "begins so");
GQ_STATIC_ASSERT(offsetof(struct gq_region_head, bytes) == offsetof(struct gq_header, bytes),
		 "begins so");

static const struct gq_header_kind table_kind = { .noun = "table",
						  .what = "table of regions",
						  .magic = GQ_REGION_MAGIC,
						  .head_bytes = sizeof(struct gq_region_head) };

/* Check a copied header. */
static QueueStatus check_head(const struct gq_region_head *head)
{
	if (head->version != GQ_REGION_VERSION)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the table's version is %" PRIu32 "; this library's is %u",
				 head->version, GQ_REGION_VERSION);
	if (head->entry_bytes != sizeof(struct gq_region_entry))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the table's entries have %" PRIu32 " bytes; this library's %zu",
				 head->entry_bytes, sizeof(struct gq_region_entry));
	return check_max_regions(head->max_regions) ? Q_OK : Q_ERR_INVALID_ARG;
}

QueueStatus q_region_table_attach(void *memory, size_t bytes, RegionTable **out)
{
	struct gq_region_head head;
	QueueStatus status;
	RegionTable *t;

	if (out == NULL)
		return gq__region_null("out");
	status = gq__header_read(&table_kind, memory, bytes, &head, sizeof(head));
	if (status == Q_OK)
		status = check_head(&head);
	if (status == Q_OK)
		status = gq__header_check_memory(&table_kind, memory, bytes, head.bytes,
						 required_bytes(head.max_regions), head.made_in);
	if (status != Q_OK)
		return status;
	t = new_handle(head.max_regions, memory);
	if (t == NULL)
		return Q_ERR_NO_MEMORY;
	*out = t;
	return Q_OK;
}

void q_region_table_destroy(RegionTable *t)
{
	if (t == NULL)
		return;
	unlink_table(t);
	gq__region_free_ranges(t);
	if (t->owns_memory)
		munmap(t->head, t->bytes);
	pthread_mutex_destroy(&t->lock);
	gq__free(t->mapping, t->max_regions * sizeof(*t->mapping));
	gq__free(t, sizeof(*t));
}
