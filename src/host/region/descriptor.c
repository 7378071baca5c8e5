/* SPDX-License-Identifier: Apache-2.0 */
/* descriptor.c - descriptors of regions: accepting one, reading its bytes, releasing it. */
#include "host/region/table.h"

#include <inttypes.h>

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
				const struct gq_region_view *view)
{
	const uint32_t policy = gq_region_policy_of(state);
	const char *of = "the region's bytes";
	uint64_t limit = gq_region_size_of(t, d->region);

	if (policy == Q_REGION_SLAB)
		return gq__failf(Q_ERR_POLICY,
				 "region %" PRIu32 " is a slab: its bytes are overwritten, so they "
				 "cannot be described",
				 d->region.id);
	if (policy > Q_REGION_SLAB)
		return gq__region_damaged("a policy", policy);
	if (policy == Q_REGION_APPEND_ONLY) {
		uint64_t cursor = gq_region_cursor_of(t, d->region);

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
	struct gq_region_view view;
	QueueStatus status;

	if (t == NULL)
		return gq__region_no_table();
	if (descriptor == NULL)
		return gq__region_null("descriptor");
	d = *descriptor;
	status = check_form(&d);
	if (status != Q_OK)
		return status;
	for (int tries = 0;; tries++) {
		uint64_t state = gq_region_look_up(t, d.region); /* [region.read] */

		if (tries == GQ_REGION_TRIES)
			return gq__region_overtaken(d.region);
		if (state == 0)
			return gq__region_stale(t, d.region);
		if (gq_region_phase_of(state) != GQ_REGION_LIVE)
			return gq__region_retired(d.region);
		/* If the swap succeeds, all that is read here was of this registration: the entry
		 * is claimed anew, and a mapping changed, only after the state has. */
		view = gq_region_mapped_here(t, d.region);
		status = check_extent(t, &d, state, &view);
		if (status == Q_OK && bytes != NULL && view.base == NULL)
			status = gq__region_not_mapped(d.region);
		if (status != Q_OK) /* freed meanwhile: what we read may be another's */
			return gq_region_look_up(t, d.region) != 0 ? status
								   : gq__region_stale(t, d.region);
		if (gq_region_references_of(state) == GQ_REGION_MAX_REFERENCES)
			return gq__region_too_many(d.region);
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

QueueStatus gq__region_give_back(RegionTable *t, RegionHandle region)
{
	uint64_t state, left;
	int tries = 0;

	do {
		if (tries++ == GQ_REGION_TRIES)
			return Q_ERR_NOT_READY;
		state = gq_region_look_up(t, region);
		if (state == 0)
			return Q_ERR_STALE;
		if (gq_region_references_of(state) == 0)
			return Q_ERR_INVALID_ARG;
		left = without_one(state);
		GQ_WINDOW();
		/* [region.write] release: this receiver has read the bytes, before any thread frees
		 * the region or finds it freed. */
	} while (!gq_cas_acq_rel_u64(&t->entry[region.id].state, state, left));
	if (gq_region_phase_of(left) == GQ_REGION_FREE)
		gq__region_forget_freed(t, region.id);
	return Q_OK;
}

void gq__region_drop(RegionTable *t, const MessageDescriptor *descriptor)
{
	if (t != NULL && descriptor != NULL)
		gq__region_give_back(t, descriptor->region);
}

QueueStatus q_region_release(RegionTable *t, const MessageDescriptor *descriptor)
{
	RegionHandle region;
	QueueStatus status;

	if (t == NULL)
		return gq__region_no_table();
	if (descriptor == NULL)
		return gq__region_null("descriptor");
	region = descriptor->region;
	status = gq__region_give_back(t, region);
	if (status == Q_ERR_STALE)
		return gq__region_stale(t, region);
	if (status == Q_ERR_INVALID_ARG)
		return gq__failf(status, "no descriptor of region %" PRIu32 " is outstanding",
				 region.id);
	return status == Q_ERR_NOT_READY ? gq__region_overtaken(region) : status;
}

QueueStatus q_region_resolve(RegionTable *t, const MessageDescriptor *descriptor, const void **out)
{
	MessageDescriptor d;
	struct gq_region_view view;
	QueueStatus status;
	uint64_t state;

	if (t == NULL)
		return gq__region_no_table();
	if (descriptor == NULL || out == NULL)
		return gq__region_null(out == NULL ? "out" : "descriptor");
	d = *descriptor;
	status = check_form(&d);
	if (status != Q_OK)
		return status;
	state = gq_region_look_up(t, d.region);
	if (state == 0)
		return gq__region_stale(t, d.region);
	view = gq_region_mapped_here(t, d.region);
	status = check_extent(t, &d, state, &view);
	if (gq_region_look_up(t, d.region) ==
	    0) /* freed meanwhile: what we read may be another's */
		return gq__region_stale(t, d.region);
	if (status != Q_OK)
		return status;
	if (view.base == NULL)
		return gq__region_not_mapped(d.region);
	*out = view.base + d.offset;
	return Q_OK;
}
