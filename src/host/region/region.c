/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - the table of regions: registering, describing, releasing, retiring.
 *
 * A region's state is one word in shared memory; region.h has its steps and why a region is freed
 * exactly once. Where a region lies is known to each process for itself, in the handle's private
 * array of mappings. Nothing on the way of a descriptor takes a lock; the handle's mutex is for
 * changing mappings and for appending.
 */
#include "host/region/region.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/fork.h"
#include "host/base/memory.h"
#include "host/shm/mapping.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Where a region is in this process. Read without a lock: `generation` is 0 while the others
 * change, and a reader that finds it the same before and after has read what belongs to it. A
 * mapping is written once a generation.
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
	struct range *range; /* where the table has mapped the region, else NULL */
	uint64_t append_in;  /* registered as append-only by this process: 1 + its gq__generation;
			      * else 0. No peer can make it so */
};

/*
 * Addresses that the table has reserved for regions it maps.
 *
 * That a region is freed is read from shared memory, so a peer can lie about it while a thread here
 * reads the region's bytes. What depends on it is therefore only what lies at these addresses: zero
 * pages from then on. The addresses themselves stay taken until the table is destroyed, so such a
 * thread never faults. So that they are not used up, the table maps further regions there: those
 * that have been spare for longest, once there are very many. A range is a power of two of pages,
 * so what is reserved is bounded by what was registered at one time.
 */
struct range {
	struct range *next; /* spare, of the same order; oldest first */
	struct range *all;
	void *base;
	uint64_t bytes;
	uint32_t order;
};
enum { RANGE_ORDERS = 64, SPARE_RANGES = 1024 };
#define SPARE_BYTES (UINT64_C(1) << 40)

struct RegionTable {
	struct gq_region_head *head;
	struct gq_region_entry *entry;
	struct gq_region_mapping *mapping;
	size_t bytes;         /* of the shared memory */
	uint32_t max_regions; /* as checked once */
	uint32_t next;        /* where to look for a free entry; under the lock */
	bool owns_memory;
	/* Under the lock. */
	struct range *ranges; /* all */
	struct range *spare[RANGE_ORDERS], **last_spare[RANGE_ORDERS];
	uint64_t spares, spare_bytes;
	pthread_mutex_t lock;
	RegionTable *after, **link; /* all tables of the process; under `tables_lock` */
};

static QueueStatus no_table(void)
{
	return gq__fail(Q_ERR_INVALID_ARG, "table is NULL; allowed: a table from "
					   "q_region_table_create() or q_region_table_attach()");
}

static QueueStatus null_error(const char *what)
{
	return gq__failf(Q_ERR_INVALID_ARG, "%s is NULL", what);
}

/* ---- forks ---------------------------------------------------------------------------------- */

/* fork() waits until nobody holds a table's lock, so that the child's copy of what it guards is
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

static QueueStatus check_memory(const void *memory)
{
	if (memory == NULL)
		return null_error("memory");
	if ((uintptr_t)memory % GQ_LINE != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "memory is %p; allowed: a multiple of %d",
				 memory, GQ_LINE);
	return Q_OK;
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
	for (uint32_t i = 0; i < RANGE_ORDERS; i++)
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
		return null_error("out");
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
		return null_error("out");
	if (!check_max_regions(max_regions))
		return Q_ERR_INVALID_ARG;
	status = check_memory(memory);
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
	gq_store_release_u64(&t->head->ready, 0); /* nobody attaches meanwhile */
	memset(t->head, 0, t->bytes);
	publish_head(t);
	*out = t;
	return Q_OK;
}

/* Of a copy: what is checked is what is used. */
static QueueStatus check_head(const struct gq_region_head *head, size_t bytes)
{
	if (head->magic != GQ_REGION_MAGIC)
		return gq__fail(Q_ERR_INVALID_ARG, "there is no table of regions in this memory");
	if (head->version != GQ_REGION_VERSION)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the table's version is %" PRIu32 "; this library's is %u",
				 head->version, GQ_REGION_VERSION);
	if (head->entry_bytes != sizeof(struct gq_region_entry))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the table's entries have %" PRIu32 " bytes; this library's %zu",
				 head->entry_bytes, sizeof(struct gq_region_entry));
	if (!check_max_regions(head->max_regions))
		return Q_ERR_INVALID_ARG;
	if (head->bytes != required_bytes(head->max_regions))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the table says it takes %" PRIu64 " bytes; one of %" PRIu32
				 " regions takes %zu",
				 head->bytes, head->max_regions, required_bytes(head->max_regions));
	if (bytes < head->bytes)
		return gq__failf(Q_ERR_NO_MEMORY, "bytes is %zu; this table takes %" PRIu64, bytes,
				 head->bytes);
	return Q_OK;
}

QueueStatus q_region_table_attach(void *memory, size_t bytes, RegionTable **out)
{
	const struct gq_region_head *shared = memory;
	uint64_t words[sizeof(struct gq_region_head) / sizeof(uint64_t)];
	struct gq_region_head head;
	QueueStatus status;
	bool is_private;
	RegionTable *t;

	if (out == NULL)
		return null_error("out");
	status = check_memory(memory);
	if (status != Q_OK)
		return status;
	if (bytes < sizeof(head))
		return gq__failf(Q_ERR_NO_MEMORY, "bytes is %zu; a table's header alone takes %zu",
				 bytes, sizeof(head));
	status = gq__mapping_check(memory, sizeof(head), true, &is_private);
	if (status != Q_OK)
		return status;
	/* [setup.read] acquire: header and entries. */
	if (gq_load_acquire_u64(&shared->ready) != GQ_REGION_MAGIC) {
		uint64_t magic = gq_load_relaxed_u64(&shared->magic);

		return magic == 0 || magic == GQ_REGION_MAGIC
			       ? gq__fail(Q_ERR_NOT_READY, "the table's creator has not finished")
			       : check_head(&(struct gq_region_head){ 0 }, bytes);
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = gq_load_relaxed_u64((const uint64_t *)memory + i);
	memcpy(&head, words, sizeof(head));
	status = check_head(&head, bytes);
	if (status == Q_OK)
		status = gq__mapping_check(memory, (size_t)head.bytes, false, &is_private);
	if (status != Q_OK)
		return status;
	if (is_private && head.made_in != 0 && head.made_in != gq__generation + 1)
		return gq__fail(Q_ERR_INVALID_ARG,
				"the memory is private, and its table was made by the process that "
				"forked this one, which has another copy: it must be shared");
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
	while (t->ranges != NULL) {
		struct range *range = t->ranges;

		t->ranges = range->all;
		munmap(range->base, (size_t)range->bytes);
		gq__free(range, sizeof(*range));
	}
	if (t->owns_memory)
		munmap(t->head, t->bytes);
	pthread_mutex_destroy(&t->lock);
	gq__free(t->mapping, t->max_regions * sizeof(*t->mapping));
	gq__free(t, sizeof(*t));
}

/* ---- states --------------------------------------------------------------------------------- */

static bool is_registered(uint64_t state, uint32_t generation)
{
	enum gq_region_phase phase = gq_region_phase_of(state);

	return generation != 0 && gq_region_generation_of(state) == generation &&
	       (phase == GQ_REGION_LIVE || phase == GQ_REGION_RETIRED);
}

/* The state of a region that is registered; 0, which reads FREE, if it is not. */
static uint64_t look_up(const RegionTable *t, RegionHandle region)
{
	uint64_t state;

	if (region.id >= t->max_regions)
		return 0;
	/* [region.read] acquire: size, bytes */
	state = gq_load_acquire_u64(&t->entry[region.id].state);
	return is_registered(state, region.generation) ? state : 0;
}

/* Size and cursor as they were written for the state that was read before: look_up() must give the
 * same generation afterwards, or a compare-and-swap from that state succeed. */
static uint64_t size_of(const RegionTable *t, RegionHandle region)
{
	return gq_load_acquire_u64(&t->entry[region.id].size); /* [region.read] */
}

static uint64_t cursor_of(const RegionTable *t, RegionHandle region)
{
	/* [region.read] acquire: what was appended */
	return gq_load_acquire_u64(&t->entry[region.id].cursor);
}

/* ---- mappings ------------------------------------------------------------------------------- */

GQ_STATIC_ASSERT(sizeof(void *) == sizeof(uint64_t), "a mapping's base is an address in a word");

static uint8_t *to_pointer(uint64_t address)
{
	uint8_t *p;

	memcpy(&p, &address, sizeof(p));
	return p;
}

struct view {
	uint8_t *base; /* NULL: not mapped here */
	uint64_t size;
	bool on_device;
};

static struct view mapped_here(const RegionTable *t, RegionHandle region)
{
	const struct gq_region_mapping *m = &t->mapping[region.id];
	struct view view = { 0 };
	uint64_t base, size, only_in, on_device;

	if (gq_load_acquire_u64(&m->generation) != region.generation) /* [mapping.read] */
		return view;
	/* [mapping.read] acquire, these too: who reads a later mapping's must find the generation
	 * changed. */
	base = gq_load_acquire_u64(&m->base);
	size = gq_load_acquire_u64(&m->size);
	only_in = gq_load_acquire_u64(&m->only_in);
	on_device = gq_load_acquire_u64(&m->on_device);
	if (gq_load_relaxed_u64(&m->generation) != region.generation ||
	    (only_in != 0 && only_in != gq__generation + 1))
		return view;
	view.base = to_pointer(base);
	view.size = size;
	view.on_device = on_device != 0;
	return view;
}

/* Under the lock, as everything down to forget_freed(). */
static struct range *take_spare(RegionTable *t, uint32_t order)
{
	struct range *range = t->spare[order];

	if (range == NULL)
		return NULL;
	t->spare[order] = range->next;
	if (range->next == NULL)
		t->last_spare[order] = &t->spare[order];
	t->spares--;
	t->spare_bytes -= range->bytes;
	return range;
}

static void give_spare(RegionTable *t, struct range *range)
{
	range->next = NULL;
	*t->last_spare[range->order] = range;
	t->last_spare[range->order] = &range->next;
	t->spares++;
	t->spare_bytes += range->bytes;
}

/* Addresses for `size` bytes, zero pages so far. @return NULL: none; q_last_error() is set. */
static struct range *take_range(RegionTable *t, uint64_t size)
{
	const uint64_t pages = (size - 1) / (uint64_t)sysconf(_SC_PAGESIZE);
	const uint32_t order = pages == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(pages);
	const uint64_t bytes = (uint64_t)sysconf(_SC_PAGESIZE) << order;
	struct range *range = NULL;

	if (t->spares >= SPARE_RANGES || t->spare_bytes >= SPARE_BYTES)
		range = take_spare(t, order);
	if (range != NULL)
		return range;
	range = gq__alloc(sizeof(*range), "a region's addresses");
	if (range == NULL)
		return take_spare(t, order);
	*range = (struct range){ .base = MAP_FAILED, .bytes = bytes, .order = order };
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

/* The range holds nothing any more; what was there is given back, the addresses are not. If that
 * fails, what was there stays. */
static void drop_range(RegionTable *t, struct range *range)
{
	if (range == NULL)
		return;
	(void)mmap(range->base, (size_t)range->bytes, PROT_READ,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	give_spare(t, range);
}

/* The region is gone, or said to be. */
static void forget(RegionTable *t, struct gq_region_mapping *m)
{
	gq_store_relaxed_u64(&m->generation, 0);
	/* [mapping.write] release: a reader that has read none of this is told by the next one. */
	gq_store_release_u64(&m->base, 0);
	drop_range(t, m->range);
	m->range = NULL;
}

/* Say where a region is. Its generation is new here: what was there before is no longer in use. */
static void remember(struct gq_region_mapping *m, uint32_t generation, const void *base,
		     uint64_t size, uint64_t only_in, bool on_device)
{
	gq_store_relaxed_u64(&m->generation, 0);
	/* [mapping.write] release, these too: see mapped_here(). */
	gq_store_release_u64(&m->base, (uint64_t)(uintptr_t)base);
	gq_store_release_u64(&m->size, size);
	gq_store_release_u64(&m->only_in, only_in);
	gq_store_release_u64(&m->on_device, on_device);
	gq_store_release_u64(&m->generation, generation); /* [mapping.write] */
}

/* Forget a region's mapping if the region has been freed, by whomever. */
static void forget_freed(RegionTable *t, uint32_t id)
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
	if (generation != 0 && !is_registered(state, (uint32_t)generation))
		forget(t, m);
	pthread_mutex_unlock(&t->lock);
}

/* ---- registering ---------------------------------------------------------------------------- */

static QueueStatus stale(RegionTable *t, RegionHandle region)
{
	forget_freed(t, region.id);
	if (region.id >= t->max_regions)
		return gq__failf(Q_ERR_STALE,
				 "region.id is %" PRIu32 "; this table's: 0 to %" PRIu32, region.id,
				 t->max_regions - 1);
	return gq__failf(Q_ERR_STALE,
			 "region %" PRIu32 " of generation %" PRIu32
			 " is not registered: it has been freed, or never was",
			 region.id, region.generation);
}

static QueueStatus not_mapped(RegionHandle region)
{
	return gq__failf(Q_ERR_UNSUPPORTED,
			 "region %" PRIu32 " of generation %" PRIu32
			 " is not mapped in this process: q_region_map()",
			 region.id, region.generation);
}

static QueueStatus retired(RegionHandle region)
{
	return gq__failf(Q_ERR_STALE, "region %" PRIu32 " has been retired", region.id);
}

/*
 * A step of a region's state is one compare-and-swap, tried as often as this. It fails only where
 * another thread has changed the word between two instructions of ours: a thread that stands still
 * for long loses one try by it, not many, so a correct thread does not lose as many as this in a
 * row. Against a peer that changes the word all the time it is what ends the call; and as it says
 * nothing but "try again", it would do no harm among correct ones.
 */
enum { TRIES = 1 << 16 };

static QueueStatus overtaken(RegionHandle region)
{
	return gq__failf(Q_ERR_NOT_READY,
			 "the state of region %" PRIu32 " was changed by others %d times within "
			 "this call: try again",
			 region.id, TRIES);
}

static QueueStatus too_many(RegionHandle region)
{
	return gq__failf(Q_ERR_LIMIT,
			 "%" PRIu64 " descriptors of region %" PRIu32
			 " are outstanding, as many as can be",
			 GQ_REGION_MAX_REFERENCES, region.id);
}

static QueueStatus damaged(const char *what, uint64_t value)
{
	return gq__failf(Q_ERR_FAILED, "the table's memory is damaged: %s is %" PRIu64, what,
			 value);
}

static bool check_range(const char *what, const void *base, uint64_t size)
{
	const uint64_t room = UINT64_MAX - (uint64_t)(uintptr_t)base;

	if (base == NULL)
		null_error("base");
	else if (size == 0 || size > room)
		gq__failf(Q_ERR_INVALID_ARG,
			  "%s is %" PRIu64 "; allowed at this base: 1 to %" PRIu64, what, size,
			  room);
	return base != NULL && size != 0 && size <= room;
}

static bool check_policy(RegionPolicy policy)
{
	if ((unsigned)policy <= Q_REGION_SLAB)
		return true;
	gq__failf(Q_ERR_INVALID_ARG,
		  "policy is %u; allowed: 0 (immutable), 1 (append-only), 2 (slab)",
		  (unsigned)policy);
	return false;
}

static QueueStatus no_entry(const RegionTable *t)
{
	return gq__failf(Q_ERR_LIMIT,
			 "%" PRIu32 " regions are registered, as many as the table has",
			 t->max_regions);
}

/* A free entry at or after t->next, or GQ_NONE. */
static uint32_t find_free(const RegionTable *t)
{
	for (uint32_t i = 0; i < t->max_regions; i++) {
		uint32_t id = (t->next + i) % t->max_regions;
		uint64_t state = gq_load_relaxed_u64(&t->entry[id].state);

		if (gq_region_phase_of(state) == GQ_REGION_FREE)
			return id;
	}
	return GQ_NONE;
}

/* Take a free entry. @return its handle, with generation 0 if there is none. */
static RegionHandle claim(RegionTable *t, RegionPolicy policy)
{
	/* Twice round, as entries may be lost to others; who lies gets no more of our time. */
	for (uint32_t looks = 0; looks < 2 * t->max_regions; looks++) {
		uint32_t id = t->next, generation;
		uint64_t *word = &t->entry[id].state, claimed;
		uint64_t state = gq_load_relaxed_u64(word);

		t->next = (id + 1) % t->max_regions;
		if (gq_region_phase_of(state) != GQ_REGION_FREE)
			continue;
		generation = gq_region_generation_of(state) + 1;
		if (generation == 0)
			generation = 1;
		claimed = (uint64_t)generation << GQ_REGION_GENERATION_SHIFT |
			  (uint64_t)policy << GQ_REGION_POLICY_SHIFT | GQ_REGION_CLAIMED;
		GQ_WINDOW();
		/* [region.read] acquire: whoever acquired a reference to the entry's former region
		 * has read its size. */
		if (gq_cas_acq_rel_u64(word, state, claimed))
			return (RegionHandle){ .id = id, .generation = generation };
	}
	return (RegionHandle){ 0 };
}

/* Where a new region is. */
struct place {
	void *base;
	uint64_t size;
	uint64_t only_in;    /* as in gq_region_mapping */
	struct range *range; /* the table's, else NULL */
	bool on_device;
};

/* Under the lock: from a free entry to a live region. */
static QueueStatus enter(RegionTable *t, const struct place *p, RegionPolicy policy,
			 RegionHandle *out)
{
	RegionHandle region = claim(t, policy);
	struct gq_region_entry *e = &t->entry[region.id];
	struct gq_region_mapping *m = &t->mapping[region.id];

	if (region.generation == 0)
		return no_entry(t);
	/* [region.write] release, these too: a reader that sees them must then see that the state
	 * has moved on.
	 */
	gq_store_release_u64(&e->size, p->size);
	gq_store_release_u64(&e->cursor, 0);
	forget(t, m); /* if it has not been yet: its region's state may be free by a lie */
	m->range = p->range;
	m->append_in = policy == Q_REGION_APPEND_ONLY ? gq__generation + 1 : 0;
	remember(m, region.generation, p->base, p->size, p->only_in, p->on_device);
	GQ_WINDOW();
	/* [region.write] release: size, cursor, and the bytes of an immutable region. */
	gq_store_release_u64(&e->state, (uint64_t)region.generation << GQ_REGION_GENERATION_SHIFT |
						(uint64_t)policy << GQ_REGION_POLICY_SHIFT |
						GQ_REGION_LIVE);
	*out = region;
	return Q_OK;
}

QueueStatus q_region_register(RegionTable *t, void *base, uint64_t size, RegionPolicy policy,
			      RegionHandle *out)
{
	bool shared = false;
	QueueStatus status;

	if (t == NULL)
		return no_table();
	if (out == NULL)
		return null_error("out");
	if (!check_policy(policy) || !check_range("size", base, size))
		return Q_ERR_INVALID_ARG;
	status = gq__region_look_at_memory(base, size, policy, &shared);
	/* Without /proc the caller's word must do where nobody relies on the answer. */
	if (status == Q_ERR_UNSUPPORTED && policy != Q_REGION_IMMUTABLE) {
		shared = false;
		status = Q_OK;
	}
	if (status != Q_OK)
		return status;
	pthread_mutex_lock(&t->lock);
	/* A child made by fork() gets a copy of private memory, and none of what is appended. */
	status = enter(t,
		       &(struct place){ .base = base,
					.size = size,
					.only_in = policy == Q_REGION_APPEND_ONLY && !shared
							   ? gq__generation + 1
							   : 0 },
		       policy, out);
	pthread_mutex_unlock(&t->lock);
	return status;
}

QueueStatus q_region_register_device(RegionTable *t, const void *address, uint64_t size,
				     RegionHandle *out)
{
	void *base;
	QueueStatus status;

	if (t == NULL)
		return no_table();
	if (out == NULL)
		return null_error("out");
	if (!check_range("size", address, size))
		return Q_ERR_INVALID_ARG;
	memcpy(&base, &address, sizeof(base)); /* never written through */
	pthread_mutex_lock(&t->lock);
	/* CUDA's addresses mean nothing in the child of a fork. */
	status = enter(t,
		       &(struct place){ .base = base,
					.size = size,
					.only_in = gq__generation + 1,
					.on_device = true },
		       Q_REGION_IMMUTABLE, out);
	pthread_mutex_unlock(&t->lock);
	return status;
}

bool gq__region_is_on_device(const RegionTable *t, const MessageDescriptor *descriptor)
{
	return descriptor->region.id < t->max_regions &&
	       mapped_here(t, descriptor->region).on_device;
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
		const struct view view = mapped_here(t, region);

		if (region.generation != 0 && view.base != NULL)
			fn(arg, region, view.base, view.size, view.on_device);
	}
	pthread_mutex_unlock(&t->lock);
}

/* Under the lock. */
static QueueStatus register_fd(RegionTable *t, int fd, RegionPolicy policy, RegionHandle *out)
{
	struct place p = { 0 };
	QueueStatus status;

	if (find_free(t) == GQ_NONE) /* seals cannot be taken back: look before */
		return no_entry(t);
	status = gq__region_seal_fd(fd, policy, &p.size);
	if (status != Q_OK)
		return status;
	p.range = take_range(t, p.size);
	if (p.range == NULL)
		return Q_ERR_NO_MEMORY;
	p.base = p.range->base;
	status = gq__region_map_fd(fd, policy, p.base, p.size);
	if (status == Q_OK)
		status = enter(t, &p, policy, out);
	if (status != Q_OK)
		drop_range(t, p.range);
	return status;
}

QueueStatus q_region_register_fd(RegionTable *t, int fd, RegionPolicy policy, RegionHandle *out)
{
	QueueStatus status;

	if (t == NULL)
		return no_table();
	if (out == NULL)
		return null_error("out");
	if (!check_policy(policy))
		return Q_ERR_INVALID_ARG;
	pthread_mutex_lock(&t->lock);
	status = register_fd(t, fd, policy, out);
	pthread_mutex_unlock(&t->lock);
	return status;
}

QueueStatus q_region_map(RegionTable *t, RegionHandle region, const void *base, uint64_t size)
{
	struct gq_region_mapping *m;
	QueueStatus status = Q_OK;

	if (t == NULL)
		return no_table();
	if (!check_range("size", base, size))
		return Q_ERR_INVALID_ARG;
	if (region.id >= t->max_regions)
		return stale(t, region);
	m = &t->mapping[region.id];
	pthread_mutex_lock(&t->lock);
	if (look_up(t, region) == 0) {
		status = Q_ERR_STALE;
	} else if (m->generation == region.generation) {
		/* Written once a generation: readers rely on it. */
		if (m->base != (uint64_t)(uintptr_t)base || m->size != size)
			status = gq__failf(
				Q_ERR_INVALID_ARG,
				"base and size are %p and %" PRIu64 "; the region is mapped "
				"in this process already, at %#" PRIx64 " with %" PRIu64 " bytes",
				base, size, m->base, m->size);
	} else {
		forget(t, m);
		m->append_in = 0;
		remember(m, region.generation, base, size, 0, false);
	}
	pthread_mutex_unlock(&t->lock);
	return status == Q_ERR_STALE ? stale(t, region) : status;
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static QueueStatus check_form(const MessageDescriptor *d)
{
	if (d->flags != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the descriptor's flags is %#" PRIx32 "; allowed: 0", d->flags);
	if (d->length == 0)
		return gq__fail(Q_ERR_INVALID_ARG,
				"the descriptor's length is 0; allowed: 1 to 4294967295");
	return Q_OK;
}

/* Whether a region of this state may be described from the descriptor's offset for its length. */
static QueueStatus check_extent(const RegionTable *t, const MessageDescriptor *d, uint64_t state,
				const struct view *view)
{
	const uint32_t policy = gq_region_policy_of(state);
	const char *of = "the region's bytes";
	uint64_t limit = size_of(t, d->region);

	if (policy == Q_REGION_SLAB)
		return gq__failf(Q_ERR_POLICY,
				 "region %" PRIu32 " is a slab: its bytes are overwritten, so they "
				 "cannot be described",
				 d->region.id);
	if (policy > Q_REGION_SLAB)
		return damaged("a policy", policy);
	if (policy == Q_REGION_APPEND_ONLY) {
		uint64_t cursor = cursor_of(t, d->region);

		if (cursor < limit) {
			limit = cursor;
			of = "what has been appended";
		}
	}
	if (view->base != NULL && view->size < limit) {
		limit = view->size;
		of = "what is mapped in this process";
	}
	if (d->length <= limit && d->offset <= limit - d->length)
		return Q_OK;
	return gq__failf(Q_ERR_INVALID_ARG,
			 "the descriptor's offset %" PRIu64 " and length %" PRIu32
			 " end beyond %s, "
			 "%" PRIu64,
			 d->offset, d->length, of, limit);
}

QueueStatus gq__region_acquire(RegionTable *t, const MessageDescriptor *descriptor,
			       const void **bytes)
{
	MessageDescriptor d;
	struct view view;
	QueueStatus status;

	if (t == NULL)
		return no_table();
	if (descriptor == NULL)
		return null_error("descriptor");
	d = *descriptor;
	status = check_form(&d);
	if (status != Q_OK)
		return status;
	for (int tries = 0;; tries++) {
		uint64_t state = look_up(t, d.region); /* [region.read] */

		if (tries == TRIES)
			return overtaken(d.region);
		if (state == 0)
			return stale(t, d.region);
		if (gq_region_phase_of(state) != GQ_REGION_LIVE)
			return retired(d.region);
		/* If the swap succeeds, all that is read here was of this registration: the entry
		 * is claimed anew, and a mapping changed, only after the state has. */
		view = mapped_here(t, d.region);
		status = check_extent(t, &d, state, &view);
		if (status == Q_OK && bytes != NULL && view.base == NULL)
			status = not_mapped(d.region);
		if (status != Q_OK) /* freed meanwhile: what we read may be another's */
			return look_up(t, d.region) != 0 ? status : stale(t, d.region);
		if (gq_region_references_of(state) == GQ_REGION_MAX_REFERENCES)
			return too_many(d.region);
		GQ_WINDOW();
		/* [region.write] release: what was read above was read before the entry's next use;
		 * pairs with the claim's [region.read]. */
		if (gq_cas_acq_rel_u64(&t->entry[d.region.id].state, state,
				       state + GQ_REGION_REFERENCE))
			break;
	}
	if (bytes != NULL)
		*bytes = view.base + d.offset;
	return Q_OK;
}

/* The state without one reference; FREE if nothing is left to keep it for. */
static uint64_t without_one(uint64_t state)
{
	uint64_t left = state - GQ_REGION_REFERENCE;

	if (gq_region_phase_of(left) == GQ_REGION_RETIRED && gq_region_references_of(left) == 0)
		left = (left & ~GQ_REGION_PHASE_MASK) | GQ_REGION_FREE;
	return left;
}

/* @return Q_OK; Q_ERR_STALE; Q_ERR_INVALID_ARG: no reference to give back; Q_ERR_NOT_READY. No
 * text.
 */
static QueueStatus give_back(RegionTable *t, RegionHandle region)
{
	uint64_t state, left;
	int tries = 0;

	do {
		if (tries++ == TRIES)
			return Q_ERR_NOT_READY;
		state = look_up(t, region);
		if (state == 0)
			return Q_ERR_STALE;
		if (gq_region_references_of(state) == 0)
			return Q_ERR_INVALID_ARG;
		left = without_one(state);
		GQ_WINDOW();
		/* [region.write] release: this receiver has read the bytes of whoever frees the
		 * region or finds it freed. */
	} while (!gq_cas_acq_rel_u64(&t->entry[region.id].state, state, left));
	if (gq_region_phase_of(left) == GQ_REGION_FREE)
		forget_freed(t, region.id);
	return Q_OK;
}

void gq__region_drop(RegionTable *t, const MessageDescriptor *descriptor)
{
	if (t != NULL && descriptor != NULL)
		give_back(t, descriptor->region);
}

QueueStatus q_region_release(RegionTable *t, const MessageDescriptor *descriptor)
{
	RegionHandle region;
	QueueStatus status;

	if (t == NULL)
		return no_table();
	if (descriptor == NULL)
		return null_error("descriptor");
	region = descriptor->region;
	status = give_back(t, region);
	if (status == Q_ERR_STALE)
		return stale(t, region);
	if (status == Q_ERR_INVALID_ARG)
		return gq__failf(status, "no descriptor of region %" PRIu32 " is outstanding",
				 region.id);
	return status == Q_ERR_NOT_READY ? overtaken(region) : status;
}

QueueStatus q_region_resolve(RegionTable *t, const MessageDescriptor *descriptor, const void **out)
{
	MessageDescriptor d;
	struct view view;
	QueueStatus status;
	uint64_t state;

	if (t == NULL)
		return no_table();
	if (descriptor == NULL || out == NULL)
		return null_error(out == NULL ? "out" : "descriptor");
	d = *descriptor;
	status = check_form(&d);
	if (status != Q_OK)
		return status;
	state = look_up(t, d.region);
	if (state == 0)
		return stale(t, d.region);
	view = mapped_here(t, d.region);
	status = check_extent(t, &d, state, &view);
	if (look_up(t, d.region) == 0) /* freed meanwhile: what we read may be another's */
		return stale(t, d.region);
	if (status != Q_OK)
		return status;
	if (view.base == NULL)
		return not_mapped(d.region);
	*out = view.base + d.offset;
	return Q_OK;
}

/* ---- appending ------------------------------------------------------------------------------ */

/*
 * A reference of any live region, whatever can be described of it.
 * @param state  what it was; or 0, which reads FREE
 * @return Q_OK; Q_ERR_STALE, without text; Q_ERR_LIMIT; Q_ERR_NOT_READY.
 */
static QueueStatus pin(RegionTable *t, RegionHandle region, uint64_t *state)
{
	int tries = 0;

	do {
		if (tries++ == TRIES)
			return overtaken(region);
		*state = look_up(t, region);
		if (gq_region_phase_of(*state) != GQ_REGION_LIVE)
			return Q_ERR_STALE;
		if (gq_region_references_of(*state) == GQ_REGION_MAX_REFERENCES)
			return too_many(region);
		GQ_WINDOW();
		/* [region.write], [region.read]: as in gq__region_acquire(). */
	} while (!gq_cas_acq_rel_u64(&t->entry[region.id].state, *state,
				     *state + GQ_REGION_REFERENCE));
	return Q_OK;
}

/* Under the lock: nobody else in this process appends. The region is pinned, so that the cursor is
 * its own: otherwise another process might have freed it and registered the next one meanwhile. */
static QueueStatus append(RegionTable *t, RegionHandle region, const void *data, size_t len,
			  uint64_t *out_offset)
{
	const struct view view = mapped_here(t, region);
	uint64_t cursor, room;

	/* A child made by fork() has not registered it: two would append at one cursor. */
	if (view.base == NULL || t->mapping[region.id].append_in != gq__generation + 1)
		return gq__failf(Q_ERR_UNSUPPORTED,
				 "region %" PRIu32 " was not registered by this process: it cannot "
				 "append to it",
				 region.id);
	cursor = cursor_of(t, region);
	room = size_of(t, region);
	if (room > view.size)
		room = view.size;
	if (cursor > room)
		return damaged("a cursor", cursor);
	room -= cursor;
	if (len > room)
		return gq__failf(Q_ERR_FULL, "len is %zu; the region has room for %" PRIu64 " more",
				 len, room);
	if (len != 0)
		memcpy(view.base + cursor, data, len);
	GQ_WINDOW();
	/* [region.write] release: the bytes before it. */
	gq_store_release_u64(&t->entry[region.id].cursor, cursor + len);
	*out_offset = cursor;
	return Q_OK;
}

QueueStatus q_region_append(RegionTable *t, RegionHandle region, const void *data, size_t len,
			    uint64_t *out_offset)
{
	QueueStatus status;
	uint64_t state = 0;

	if (t == NULL)
		return no_table();
	if (out_offset == NULL)
		return null_error("out_offset");
	if (data == NULL && len != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "data is NULL with len %zu; allowed: NULL only with len 0", len);
	status = pin(t, region, &state);
	if (status == Q_ERR_STALE)
		return state != 0 ? retired(region) : stale(t, region);
	if (status != Q_OK)
		return status;
	if (gq_region_policy_of(state) != Q_REGION_APPEND_ONLY) {
		status =
			gq__failf(Q_ERR_POLICY, "region %" PRIu32 " is not append-only", region.id);
	} else {
		pthread_mutex_lock(&t->lock);
		status = append(t, region, data, len, out_offset);
		pthread_mutex_unlock(&t->lock);
	}
	give_back(t, region);
	return status;
}

/* ---- retiring ------------------------------------------------------------------------------- */

QueueStatus q_region_retire(RegionTable *t, RegionHandle region)
{
	uint64_t state, next;
	int tries = 0;

	if (t == NULL)
		return no_table();
	do {
		if (tries++ == TRIES)
			return overtaken(region);
		state = look_up(t, region);
		if (state == 0)
			return stale(t, region);
		if (gq_region_phase_of(state) == GQ_REGION_RETIRED)
			return Q_OK;
		next = (state & ~GQ_REGION_PHASE_MASK) |
		       (gq_region_references_of(state) != 0 ? GQ_REGION_RETIRED : GQ_REGION_FREE);
		GQ_WINDOW();
		/* [region.write] release, [region.read] acquire: as in give_back(), if it frees. */
	} while (!gq_cas_acq_rel_u64(&t->entry[region.id].state, state, next));
	if (gq_region_phase_of(next) == GQ_REGION_FREE)
		forget_freed(t, region.id);
	return Q_OK;
}

QueueStatus q_region_info(RegionTable *t, RegionHandle region, RegionInfo *out)
{
	uint64_t state, size, cursor;
	uint32_t policy;

	if (t == NULL)
		return no_table();
	if (out == NULL)
		return null_error("out");
	if (look_up(t, region) == 0)
		return stale(t, region);
	size = size_of(t, region);
	cursor = cursor_of(t, region);
	state = look_up(t, region); /* again: what we read may be another's */
	policy = gq_region_policy_of(state);
	if (state == 0)
		return stale(t, region);
	if (policy > Q_REGION_SLAB)
		return damaged("a policy", policy);
	*out = (RegionInfo){ .size = size,
			     .cursor = policy == Q_REGION_IMMUTABLE ? size
				       : policy == Q_REGION_SLAB    ? 0
				       : cursor < size              ? cursor
								    : size,
			     .references = gq_region_references_of(state),
			     .policy = (RegionPolicy)policy,
			     .retired = gq_region_phase_of(state) == GQ_REGION_RETIRED };
	return Q_OK;
}
