/* SPDX-License-Identifier: Apache-2.0 */
/* append.c - appending to a region. */
#include "host/region/table.h"

#include <inttypes.h>

/*
 * Take a reference of a live region, whatever can be described of it.
 * @param state  what it was; or 0, which reads FREE
 * @return Q_OK; Q_ERR_STALE, without text; Q_ERR_LIMIT; Q_ERR_NOT_READY.
 */
static QueueStatus pin(RegionTable *t, RegionHandle region, uint64_t *state)
{
	int tries = 0;

	do {
		if (tries++ == GQ_REGION_TRIES)
			return gq__region_overtaken(region);
		*state = gq_region_look_up(t, region);
		if (gq_region_phase_of(*state) != GQ_REGION_LIVE)
			return Q_ERR_STALE;
		if (gq_region_references_of(*state) == GQ_REGION_MAX_REFERENCES)
			return gq__region_too_many(region);
		GQ_WINDOW();
		/* [region.write], [region.read]: as in gq__region_acquire(). */
	} while (!gq_cas_acq_rel_u64(&t->entry[region.id].state, *state,
				     *state + GQ_REGION_REFERENCE));
	return Q_OK;
}

/* Under the lock: no other thread of this process appends. The region is pinned, so the cursor is
 * its own: otherwise another process might free it and register the next one meanwhile. */
static QueueStatus append(RegionTable *t, RegionHandle region, const void *data, size_t len,
			  uint64_t *out_offset)
{
	const struct gq_region_view view = gq_region_mapped_here(t, region);
	uint64_t cursor, room;

	/* A child made by fork() has not registered it: two would append at one cursor. */
	if (view.base == NULL || t->mapping[region.id].append_in != gq__generation + 1)
		return gq__failf(Q_ERR_UNSUPPORTED,
				 "region %" PRIu32 " was not registered by this process: it cannot "
				 "append to it",
				 region.id);
	cursor = gq_region_cursor_of(t, region);
	room = gq_region_size_of(t, region);
	if (room > view.size)
		room = view.size;
	if (cursor > room)
		return gq__region_damaged("a cursor", cursor);
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
		return gq__region_no_table();
	if (out_offset == NULL)
		return gq__region_null("out_offset");
	if (data == NULL && len != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "data is NULL with len %zu; allowed: NULL only with len 0", len);
	status = pin(t, region, &state);
	if (status == Q_ERR_STALE)
		return state != 0 ? gq__region_retired(region) : gq__region_stale(t, region);
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
	gq__region_give_back(t, region);
	return status;
}
