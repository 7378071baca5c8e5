/* SPDX-License-Identifier: Apache-2.0 */
/*
 * needs.c - what a request needs of the worker that takes it: words as in a capability (FILTER).
 *
 * What a worker can do is known from its registration, so whether one of an op can take a request
 * is, too: if none can, waiting is of no use, and the request is told so at once. Who can is looked
 * for once, and again only after one has come or gone: one that waits is looked at often. How
 * loaded a worker is changes: if all that can are too loaded, it may try again.
 */
#include "router.h"

bool needs_read(const struct gq_frame *f, struct gq_capability *want, struct answer *a)
{
	const struct gq_view *words = &f->tlv[GQ_TLV_FILTER];
	enum gq_capability_status status;

	*want = (struct gq_capability){ 0 };
	if (!gq_frame_has(f, GQ_TLV_FILTER))
		return true;
	status = gq__capability_parse((const char *)words->data, words->bytes, want, NULL);
	if (status == GQ_CAPABILITY_OK)
		return true;
	*a = (struct answer){ .status = GQ_WIRE_INVALID,
			      .text = gq__capability_status_text(status) };
	return false;
}

static bool can_do(const struct router *r, uint32_t place, const struct gq_capability *want)
{
	const struct gq_service *s = &r->registry.services[place];

	return s->priority >= want->priority_least && gq__capability_meets(&s->can, want);
}

bool needs_find(const struct router *r, struct request *q, const struct gq_capability *want)
{
	const struct gq_places *joined = &r->groups[q->group]->balance.joined;

	q->able = *joined;
	for (uint32_t i = gq_places_next(joined, 0); i < GQ_PLACES;
	     i = gq_places_next(joined, i + 1))
		if (!can_do(r, i, want))
			gq_places_remove(&q->able, i);
	q->load_most = want->load_most;
	q->able_at = r->joins;
	return !gq_places_empty(&q->able);
}

static bool is_loaded(const struct router *r, const struct request *q, uint32_t place)
{
	return q->load_most != 0 &&
	       gq__load_permille(&r->registry.services[place].load) > q->load_most;
}

enum gq_wire_status needs_leave(const struct router *r, struct request *q, const struct gq_frame *f,
				struct gq_places *can, uint64_t *surplus)
{
	struct gq_capability want;
	struct answer a;

	if (q->able_at != r->joins || surplus != NULL)
		(void)needs_read(f, &want, &a); /* it was good */
	if (q->able_at != r->joins)
		(void)needs_find(r, q, &want);
	*can = gq_places_and(can, &q->able);
	if (gq_places_empty(can))
		return GQ_WIRE_NOT_FOUND;
	for (uint32_t i = gq_places_next(can, 0); i < GQ_PLACES; i = gq_places_next(can, i + 1)) {
		if (is_loaded(r, q, i))
			gq_places_remove(can, i);
		else if (surplus != NULL)
			surplus[i] = gq__capability_surplus(&r->registry.services[i].can, &want);
	}
	return gq_places_empty(can) ? GQ_WIRE_OVERLOADED : GQ_WIRE_SUCCESS;
}
