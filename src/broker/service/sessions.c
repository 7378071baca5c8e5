/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sessions.c - which service the requests of a session go to: the one that a table has for it since
 * its first request or, where the configuration says so, one that is computed (policy/maglev.c).
 * A request of a strict session waits for the session's service, or ends: it goes to no other.
 *
 * What is computed is the same after a restart, as it depends on names alone. Its table is of all
 * members, and who may have no requests now is walked past: so a worker that flaps moves its own
 * sessions and has nothing filled anew. Filling takes the one thread milliseconds. It waits until
 * the members have been others for SETTLE_NS, however often they change meanwhile.
 */
#include "router.h"

#include "broker/policy/siphash.h"

#include <stdlib.h>
#include <string.h>

#define SETTLE_NS UINT64_C(1000000000)

/* No secret: another gpuqd is to compute the same. "gpuq" and "maglev", as bytes. */
static const uint64_t maglev_key[2] = { UINT64_C(0x0000000071757067),
					UINT64_C(0x000076656c67616d) };

/* Sessions without memory. */
struct homes {
	struct gq_maglev table;
	struct gq_places of;       /* the members that it was filled with */
	uint64_t names[GQ_PLACES]; /* hashes of their names */
	uint64_t changed_ns;       /* when the first one has come or left since; 0: none has */
};

static struct gq_session session_of(const struct request *q, const struct gq_frame *f)
{
	return (struct gq_session){ .uid = q->caller->link.uid,
				    .key = f->tlv[GQ_TLV_SESSION].data,
				    .bytes = f->tlv[GQ_TLV_SESSION].bytes };
}

static bool is_strict(const struct group *g)
{
	return g->op.sessions == ROUTER_SESSIONS_STRICT;
}

static bool has_table(struct router *r, struct group *g)
{
	const struct gq_sticky_config cfg = { .sessions = GROUP_SESSIONS,
					      .strict = is_strict(g),
					      .key = { r->secret[0], r->secret[1] } };

	if (!g->has_sticky)
		g->has_sticky = gq__sticky_init(&g->sticky, &cfg) == GQ_STICKY_OK;
	return g->has_sticky;
}

/* Services that may go on with their sessions: those that are well, and those that drain, while
 * they may. */
static struct gq_places may_keep(const struct router *r, const struct group *g, uint64_t now_ns)
{
	struct gq_places set = g->balance.well;

	for (uint32_t i = gq_places_next(&g->balance.joined, 0); i < GQ_PLACES;
	     i = gq_places_next(&g->balance.joined, i + 1)) {
		const struct gq_service *s = &r->registry.services[i];

		if (r->served[i].sessions_until_ns > now_ns && s->health < GQ_HEALTH_UNHEALTHY &&
		    r->served[i].breaker.state != GQ_BREAKER_FORCED &&
		    r->served[i].breaker.state != GQ_BREAKER_OPEN)
			gq_places_add(&set, i);
	}
	return set;
}

/* Whether it can take this request, which may be another attempt. */
static bool suits(const struct router *r, const struct request *q, const struct gq_places *able,
		  uint32_t place)
{
	return (!gq_places_has(&q->failed, place) || is_strict(r->groups[q->group])) &&
	       gq_places_has(able, place) && group_can_read(r, q, place);
}

/* ---- by a table ------------------------------------------------------------------------------ */

/* Leaves that place and no other; GQ_PLACES: none. */
static void leave_one(struct gq_places *able, uint32_t place)
{
	const bool can = place != GQ_PLACES && gq_places_has(able, place);

	*able = (struct gq_places){ { 0 } };
	if (can)
		gq_places_add(able, place);
}

static uint32_t remembered(struct router *r, const struct request *q,
			   const struct gq_session *session, struct gq_places *able,
			   uint64_t now_ns, struct home *home)
{
	struct group *g = r->groups[q->group];
	const struct gq_places set = may_keep(r, g, now_ns);
	uint64_t generations[GQ_PLACES];
	enum gq_sticky_status status;
	uint32_t place = NOBODY;

	if (!has_table(r, g)) {
		if (is_strict(g)) /* nobody knows whether it has a home */
			leave_one(able, GQ_PLACES);
		return NOBODY;
	}
	for (uint32_t i = 0; i < GQ_PLACES; i++)
		generations[i] = r->served[i].generation;
	status = gq__sticky_route(&g->sticky, session, &set, generations, now_ns, &place);
	home->begins = status != GQ_STICKY_KEEP && status != GQ_STICKY_REFUSE;
	home->bound = !home->begins && is_strict(g);
	home->gone = home->bound && place == GQ_PLACES;
	if (home->bound)
		leave_one(able, place);
	return status == GQ_STICKY_KEEP && suits(r, q, able, place) ? place : NOBODY;
}

/* ---- by Maglev ------------------------------------------------------------------------------- */

uint64_t sessions_name(const struct gq_name *name)
{
	return gq__siphash(maglev_key, name->text, strlen(name->text));
}

static bool is_filled_with(const struct router *r, const struct homes *h,
			   const struct gq_places *members)
{
	bool same = gq_places_equal(&h->of, members);

	for (uint32_t i = gq_places_next(members, 0); same && i < GQ_PLACES;
	     i = gq_places_next(members, i + 1))
		same = h->names[i] == r->served[i].name_hash;
	return same;
}

static void fill(const struct router *r, struct homes *h, const struct gq_places *members)
{
	h->of = *members;
	for (uint32_t i = 0; i < GQ_PLACES; i++)
		h->names[i] = r->served[i].name_hash;
	gq__maglev_fill(&h->table, members, h->names);
}

/* @return NULL: no memory */
static const struct homes *homes_of(const struct router *r, struct group *g, uint64_t now_ns)
{
	const struct gq_places *members = &g->balance.joined;
	struct homes *h = g->homes;

	if (h == NULL) {
		h = g->homes = calloc(1, sizeof(*h));
		if (h == NULL)
			return NULL;
		fill(r, h, members);
	} else if (h->changed_ns != 0 && (h->table.empty || now_ns >= h->changed_ns + SETTLE_NS)) {
		h->changed_ns = 0;
		if (!is_filled_with(r, h, members))
			fill(r, h, members);
	}
	return h;
}

static uint32_t computed(const struct router *r, const struct request *q,
			 const struct gq_session *session, const struct gq_places *able,
			 uint64_t now_ns)
{
	const bool is_session = session->bytes > 0 && session->bytes <= GQ_STICKY_KEY_MAX;
	struct group *g = r->groups[q->group];
	const struct homes *h = is_session ? homes_of(r, g, now_ns) : NULL;
	struct gq_places set = may_keep(r, g, now_ns);
	uint32_t place;

	if (h == NULL)
		return NOBODY;
	for (uint32_t i = gq_places_next(&set, 0); i < GQ_PLACES; i = gq_places_next(&set, i + 1))
		if (h->names[i] != r->served[i].name_hash || !suits(r, q, able, i))
			gq_places_remove(&set, i);
	set = gq_places_and(&set, &h->of);
	place = gq__maglev_among(&h->table, gq__session_hash(maglev_key, session), &set);
	return place != GQ_PLACES ? place : NOBODY;
}

void sessions_changed(struct group *g, uint64_t now_ns)
{
	if (g->homes != NULL && g->homes->changed_ns == 0)
		g->homes->changed_ns = now_ns;
}

/* ---- either ---------------------------------------------------------------------------------- */

uint32_t sessions_keep(struct router *r, const struct request *q, const struct gq_frame *f,
		       struct gq_places *able, uint64_t now_ns, struct home *home)
{
	struct group *g = r->groups[q->group];
	const struct gq_session session = session_of(q, f);
	uint32_t place;

	*home = (struct home){ 0 };
	place = g->op.sessions == ROUTER_SESSIONS_MAGLEV
			? computed(r, q, &session, able, now_ns)
			: remembered(r, q, &session, able, now_ns, home);
	if (place == NOBODY)
		return NOBODY;
	home->full = gq__balance_take(&g->balance, place) == GQ_BALANCE_OVERLOADED;
	return home->full ? NOBODY : place;
}

void sessions_bind(struct router *r, const struct request *q, const struct gq_frame *f,
		   uint64_t now_ns)
{
	const struct gq_session session = session_of(q, f);

	(void)gq__sticky_bind(&r->groups[q->group]->sticky, &session, q->place,
			      r->served[q->place].generation, now_ns);
}

void sessions_configure(struct group *g, uint32_t before)
{
	if (before == ROUTER_SESSIONS_MAGLEV || g->op.sessions == ROUTER_SESSIONS_MAGLEV)
		sessions_free(g);
	g->sticky.config.strict = is_strict(g);
}

bool sessions_stay(const struct group *g)
{
	return g->has_sticky && is_strict(g);
}

void sessions_free(struct group *g)
{
	if (g->has_sticky)
		gq__sticky_free(&g->sticky);
	g->has_sticky = false;
	free(g->homes);
	g->homes = NULL;
}
