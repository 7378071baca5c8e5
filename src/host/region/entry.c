/* SPDX-License-Identifier: Apache-2.0 */
/* entry.c - a region's life: registering it, mapping it in another process, retiring it. The steps
 * of its state are in layout.h. */
#include "host/region/table.h"

#include <inttypes.h>

/* ---- registering ----------------------------------------------------------------------------- */

/* `name`: what the caller calls the beginning. */
static bool check_range(const char *name, const void *base, uint64_t size)
{
	const uint64_t room = UINT64_MAX - (uint64_t)(uintptr_t)base;

	if (base == NULL)
		gq__region_null(name);
	else if (size == 0 || size > room)
		gq__failf(Q_ERR_INVALID_ARG,
			  "size is %" PRIu64 "; allowed at this %s: 1 to %" PRIu64, size, name,
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
	/* Twice round, because other threads may take entries first; a liar gets no more of our
	 * time. */
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
		/* [region.read] acquire: every thread that held a reference to the entry's former
		 * region has read its size. */
		if (gq_cas_acq_rel_u64(word, state, claimed))
			return (RegionHandle){ .id = id, .generation = generation };
	}
	return (RegionHandle){ 0 };
}

/* Where a new region is. */
struct place {
	void *base;
	uint64_t size;
	uint64_t only_in;              /* as in gq_region_mapping */
	struct gq_region_range *range; /* the table's, else NULL */
	bool on_device;
};

/* Under the lock: make a free entry a live region. */
static QueueStatus enter(RegionTable *t, const struct place *p, RegionPolicy policy,
			 RegionHandle *out)
{
	RegionHandle region = claim(t, policy);
	struct gq_region_entry *e = &t->entry[region.id];
	struct gq_region_mapping *m = &t->mapping[region.id];

	if (region.generation == 0)
		return no_entry(t);
	/* [region.write] release, these too: a reader that sees them must then see that the state
	 * has moved on. */
	gq_store_release_u64(&e->size, p->size);
	gq_store_release_u64(&e->cursor, 0);
	gq__region_forget(t, m); /* it may still be there, if a lie made the entry free */
	m->range = p->range;
	m->append_in = policy == Q_REGION_APPEND_ONLY ? gq__generation + 1 : 0;
	gq__region_remember(m, region.generation, p->base, p->size, p->only_in, p->on_device);
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
		return gq__region_no_table();
	if (out == NULL)
		return gq__region_null("out");
	if (!check_policy(policy) || !check_range("base", base, size))
		return Q_ERR_INVALID_ARG;
	status = gq__region_look_at_memory(base, size, policy, &shared);
	/* Without /proc the caller's word must do, if no reader relies on the answer. */
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
		return gq__region_no_table();
	if (out == NULL)
		return gq__region_null("out");
	if (!check_range("address", address, size))
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
	p.range = gq__region_take_range(t, p.size);
	if (p.range == NULL)
		return Q_ERR_NO_MEMORY;
	p.base = p.range->base;
	status = gq__region_map_fd(fd, policy, p.base, p.size);
	if (status == Q_OK)
		status = enter(t, &p, policy, out);
	if (status != Q_OK)
		gq__region_drop_range(t, p.range);
	return status;
}

QueueStatus q_region_register_fd(RegionTable *t, int fd, RegionPolicy policy, RegionHandle *out)
{
	QueueStatus status;

	if (t == NULL)
		return gq__region_no_table();
	if (out == NULL)
		return gq__region_null("out");
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
		return gq__region_no_table();
	if (!check_range("base", base, size))
		return Q_ERR_INVALID_ARG;
	if (region.id >= t->max_regions)
		return gq__region_stale(t, region);
	m = &t->mapping[region.id];
	pthread_mutex_lock(&t->lock);
	if (gq_region_look_up(t, region) == 0) {
		status = Q_ERR_STALE;
	} else if (m->generation == region.generation) {
		/* A mapping is written once for each generation: readers rely on it. */
		if (m->base != (uint64_t)(uintptr_t)base || m->size != size)
			status = gq__failf(
				Q_ERR_INVALID_ARG,
				"base and size are %p and %" PRIu64 "; the region is mapped "
				"in this process already, at %#" PRIx64 " with %" PRIu64 " bytes",
				base, size, m->base, m->size);
	} else {
		gq__region_forget(t, m);
		m->append_in = 0;
		gq__region_remember(m, region.generation, base, size, 0, false);
	}
	pthread_mutex_unlock(&t->lock);
	return status == Q_ERR_STALE ? gq__region_stale(t, region) : status;
}

/* ---- retiring ------------------------------------------------------------------------------- */

QueueStatus q_region_retire(RegionTable *t, RegionHandle region)
{
	uint64_t state, next;
	int tries = 0;

	if (t == NULL)
		return gq__region_no_table();
	do {
		if (tries++ == GQ_REGION_TRIES)
			return gq__region_overtaken(region);
		state = gq_region_look_up(t, region);
		if (state == 0)
			return gq__region_stale(t, region);
		if (gq_region_phase_of(state) == GQ_REGION_RETIRED)
			return Q_OK;
		next = (state & ~GQ_REGION_PHASE_MASK) |
		       (gq_region_references_of(state) != 0 ? GQ_REGION_RETIRED : GQ_REGION_FREE);
		GQ_WINDOW();
		/* [region.write] release, [region.read] acquire: as in gq__region_give_back(), if
		 * it frees. */
	} while (!gq_cas_acq_rel_u64(&t->entry[region.id].state, state, next));
	if (gq_region_phase_of(next) == GQ_REGION_FREE)
		gq__region_forget_freed(t, region.id);
	return Q_OK;
}

QueueStatus q_region_info(RegionTable *t, RegionHandle region, RegionInfo *out)
{
	uint64_t state, size, cursor;
	uint32_t policy;

	if (t == NULL)
		return gq__region_no_table();
	if (out == NULL)
		return gq__region_null("out");
	if (gq_region_look_up(t, region) == 0)
		return gq__region_stale(t, region);
	size = gq_region_size_of(t, region);
	cursor = gq_region_cursor_of(t, region);
	state = gq_region_look_up(t, region); /* again: what we read may be another's */
	policy = gq_region_policy_of(state);
	if (state == 0)
		return gq__region_stale(t, region);
	if (policy > Q_REGION_SLAB)
		return gq__region_damaged("a policy", policy);
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
