/* SPDX-License-Identifier: Apache-2.0 */
/* group.c - all services that do one op, and which of them takes a request. */
#include "router.h"

#include "host/base/clock.h"

#include <stdlib.h>
#include <string.h>

#define LOADED_NS UINT64_C(1000000000) /* a load that a worker says again by then */

uint32_t group_find(const struct router *r, const void *name, size_t bytes)
{
	for (uint32_t i = 0; i < GROUPS; i++) {
		const struct group *g = r->groups[i];

		if (g != NULL && strlen(g->name.text) == bytes &&
		    memcmp(g->name.text, name, bytes) == 0)
			return i;
	}
	return GROUPS;
}

uint32_t group_make(struct router *r, const struct gq_name *name, uid_t uid)
{
	const struct gq_balance_config cfg = { .algorithm = gq__balance_named(r->cfg.balance),
					       .inner = GQ_BALANCE_LEAST_CONNECTIONS,
					       .heartbeat_ns =
						       r->cfg.heartbeat_ms * UINT64_C(1000000) };
	uint32_t i = group_find(r, name->text, strlen(name->text)), same = 0;

	if (i != GROUPS)
		return i;
	for (i = 0; i < GROUPS; i++)
		same += r->groups[i] != NULL && r->groups[i]->uid == uid;
	for (i = 0; i < GROUPS && r->groups[i] != NULL; i++)
		;
	if (i == GROUPS || same >= USER_GROUPS)
		return GROUPS;
	r->groups[i] = calloc(1, sizeof(*r->groups[i]));
	if (r->groups[i] == NULL)
		return GROUPS;
	r->groups[i]->name = *name;
	r->groups[i]->uid = uid;
	gq__retry_budget_init(&r->groups[i]->budget);
	(void)gq__balance_init(&r->groups[i]->balance, &cfg); /* it was checked at the start */
	group_configure(r, i);
	return i;
}

void group_configure(struct router *r, uint32_t group)
{
	struct group *g = r->groups[group];
	const uint32_t sessions = g->op.sessions;

	g->op = (struct router_op){ .cache = ROUTER_CACHE_NO };
	g->op_index = ROUTER_OPS;
	for (uint32_t i = 0; i < r->cfg.ops; i++) {
		if (strcmp(r->cfg.op[i].name, g->name.text) != 0)
			continue;
		g->op = r->cfg.op[i];
		g->op_index = i;
	}
	if (g->op.sessions != sessions)
		sessions_configure(g, sessions);
	gather_configure(r, g);
	share_resize(r, group);
	/* Whatever chooses, all is counted that any of them looks at. */
	g->balance.config.algorithm =
		gq__balance_named(g->op.balance[0] != '\0' ? g->op.balance : r->cfg.balance);
}

void group_put(struct router *r, uint32_t group)
{
	struct group *g = r->groups[group];

	if (g == NULL || g->members != 0 || g->waiting != 0 || sessions_stay(g))
		return;
	sessions_free(g);
	free(g);
	r->groups[group] = NULL;
}

uint32_t group_version_at(const struct router *r, uint32_t group, uint32_t place)
{
	const struct gq_service *s = gq__registry_at(&r->registry, place, 0);
	uint32_t version = 0;

	for (uint32_t i = 0; s != NULL && i < s->can.op_count; i++)
		if (strcmp(s->can.ops[i].name.text, r->groups[group]->name.text) == 0 &&
		    s->can.ops[i].version > version)
			version = s->can.ops[i].version;
	return version;
}

/* Answers of the cache are kept by it: with the last worker of a version those of it are out of
 * reach, so going back to an older version is as good as going on to a newer one. */
static void find_version(struct router *r, uint32_t group)
{
	struct group *g = r->groups[group];

	g->version = 0;
	for (uint32_t i = gq_places_next(&g->balance.joined, 0); i < GQ_PLACES;
	     i = gq_places_next(&g->balance.joined, i + 1)) {
		const uint32_t version = group_version_at(r, group, i);

		g->version = version > g->version ? version : g->version;
	}
}

void group_join(struct router *r, uint32_t group, uint32_t place, uint8_t priority)
{
	struct group *g = r->groups[group];
	const struct served *s = &r->served[place];

	g->members++;
	r->joins++;
	(void)gq__balance_join(&g->balance, place, s->capacity, priority, s->limit);
	sessions_changed(g, gq__now_ns());
	find_version(r, group);
	gather_configure(r, g);
}

void group_leave(struct router *r, uint32_t group, uint32_t place)
{
	struct group *g = r->groups[group];

	gq__balance_leave(&g->balance, place);
	g->members--;
	r->joins++;
	sessions_changed(g, gq__now_ns());
	find_version(r, group);
	gather_configure(r, g);
	share_resize(r, group);
	group_put(r, group);
}

/* Whether one that drains has room for requests of its sessions. */
static bool session_moves(const struct router *r, const struct gq_balance *b, uint64_t now_ns)
{
	for (uint32_t i = gq_places_next(&b->joined, 0); i < GQ_PLACES;
	     i = gq_places_next(&b->joined, i + 1))
		if (r->served[i].sessions_until_ns > now_ns && !gq_places_has(&b->full, i))
			return true;
	return false;
}

bool group_moves(const struct router *r, uint32_t group, uint64_t now_ns)
{
	const struct gq_balance *b = &r->groups[group]->balance;
	const struct gq_places room = gq_places_without(&b->well, &b->full);

	return gq_places_empty(&b->well) || !gq_places_empty(&room) ||
	       (r->sessions_until_ns > now_ns && session_moves(r, b, now_ns));
}

/* ---- regions ---- */

bool group_can_read(const struct router *r, const struct request *q, uint32_t place)
{
	return q->region == NULL || r->served[place].peer->takes_regions;
}

/* Takes out those that cannot, and as long as there are others those whose worker has just had no
 * descriptor left. @return false: none is left */
static bool leave_readers(const struct router *r, const struct request *q, struct gq_places *can,
			  uint64_t now_ns)
{
	const bool some = !gq_places_empty(can);
	struct gq_places short_of = { { 0 } }, others;

	for (uint32_t i = gq_places_next(can, 0); i < GQ_PLACES; i = gq_places_next(can, i + 1)) {
		if (!group_can_read(r, q, i))
			gq_places_remove(can, i);
		else if (r->served[i].no_room_until_ns > now_ns)
			gq_places_add(&short_of, i);
	}
	others = gq_places_without(can, &short_of);
	if (!gq_places_empty(&others))
		*can = others;
	return !some || !gq_places_empty(can);
}

/* ---- choosing ---- */

static enum gq_wire_status status_of(enum gq_balance_status status)
{
	switch (status) {
	case GQ_BALANCE_OK:
		return GQ_WIRE_SUCCESS;
	case GQ_BALANCE_NOT_FOUND:
		return GQ_WIRE_NOT_FOUND;
	default:
		return GQ_WIRE_OVERLOADED;
	}
}

/* How many breakers of a group are open, for how many may be. */
static bool may_open(const struct router *r, const struct group *g)
{
	uint32_t open = 0;

	for (uint32_t i = gq_places_next(&g->balance.joined, 0); i < GQ_PLACES;
	     i = gq_places_next(&g->balance.joined, i + 1))
		open += r->served[i].breaker.state == GQ_BREAKER_OPEN;
	return gq_breaker_group_may_open(g->members, open);
}

/* A service of several ops counts in the groups of all. */
static void count_elsewhere(struct router *r, const struct request *q)
{
	const struct served *s = &r->served[q->place];

	for (uint32_t i = 0; i < s->groups; i++)
		if (s->group[i] != q->group)
			(void)gq__balance_take(&r->groups[s->group[i]]->balance, q->place);
}

/* Which of the services that can do it do not let it through, and why none is well. */
static enum gq_wire_status why_none(const struct router *r, const struct gq_places *able,
				    uint64_t now_ns, uint64_t *retry_ns)
{
	enum gq_wire_status status = GQ_WIRE_OVERLOADED;
	uint64_t until_ns = UINT64_MAX;

	for (uint32_t i = gq_places_next(able, 0); i < GQ_PLACES; i = gq_places_next(able, i + 1)) {
		const struct gq_breaker *b = &r->served[i].breaker;

		if (b->state != GQ_BREAKER_OPEN && b->state != GQ_BREAKER_HALF_OPEN &&
		    b->state != GQ_BREAKER_FORCED)
			continue;
		status = GQ_WIRE_BREAKER_OPEN;
		until_ns = b->until_ns < until_ns ? b->until_ns : until_ns;
	}
	*retry_ns = until_ns != UINT64_MAX && until_ns > now_ns ? until_ns - now_ns
								: UINT64_C(1000000000);
	return status;
}

/* Whether one of these is well and has no room. */
static bool some_are_full(const struct group *g, const struct gq_places *can)
{
	for (uint32_t i = gq_places_next(can, 0); i < GQ_PLACES; i = gq_places_next(can, i + 1))
		if (gq_places_has(&g->balance.well, i) && gq_places_has(&g->balance.full, i))
			return true;
	return false;
}

/* Leaves those of a set that have what the request needs. @param surplus  NULL: of no interest */
static enum gq_wire_status leave_able(const struct router *r, struct request *q,
				      const struct gq_frame *f, struct gq_places *can,
				      uint64_t *surplus, uint64_t *retry_ns)
{
	if ((surplus == NULL && !gq_frame_has(f, GQ_TLV_FILTER)) || gq_places_empty(can))
		return GQ_WIRE_SUCCESS;
	*retry_ns = LOADED_NS;
	return needs_leave(r, q, f, can, surplus);
}

bool group_take(struct router *r, struct request *q, uint32_t place, uint64_t now_ns)
{
	struct gq_balance *b = &r->groups[q->group]->balance;
	uint64_t retry_ns;

	if (gq__balance_take(b, place) != GQ_BALANCE_OK)
		return false;
	if (!gq__breaker_try(&r->served[place].breaker, now_ns, &r->random, &q->permit,
			     &retry_ns)) {
		gq__balance_done(b, place, 0, now_ns);
		return false;
	}
	q->place = place;
	q->judged = false;
	count_elsewhere(r, q);
	return true;
}

enum gq_wire_status group_pick(struct router *r, struct request *q, const struct gq_frame *f,
			       const struct gq_places *among, uint64_t now_ns, uint64_t *retry_ns,
			       bool *only_full)
{
	struct group *g = r->groups[q->group];
	struct gq_places can = g->balance.joined, all_able;
	uint64_t room[GQ_PLACES];
	uint64_t *const surplus =
		g->balance.config.algorithm == GQ_BALANCE_CAPABILITY ? room : NULL;
	const struct gq_balance_request want = { .can = &can,
						 .avoid = &q->failed,
						 .surplus = surplus };
	struct home home = { 0 };
	uint32_t place = NOBODY;
	enum gq_wire_status able = GQ_WIRE_SUCCESS;
	enum gq_balance_status status;

	*only_full = q->bound = false;
	if (among != NULL)
		can = gq_places_and(&can, among);
	able = leave_able(r, q, f, &can, surplus, retry_ns);
	if (able != GQ_WIRE_SUCCESS)
		return able;
	if (gq_frame_has(f, GQ_TLV_SESSION))
		place = sessions_keep(r, q, f, &can, now_ns, &home);
	q->bound = home.bound;
	if (home.gone)
		return GQ_WIRE_NOT_FOUND;
	all_able = can;
	if (q->region != NULL && !leave_readers(r, q, &can, now_ns))
		return GQ_WIRE_UNSUPPORTED;
	for (;;) {
		if (place == NOBODY) {
			status = gq__balance_pick(&g->balance, &want, now_ns, &r->random, &place);
			if (status != GQ_BALANCE_OK) {
				*only_full = home.full || some_are_full(g, &can);
				q->wants = can;
				if (g->members != 0)
					return why_none(r, &all_able, now_ns, retry_ns);
				return status_of(status);
			}
		}
		if (gq__breaker_try(&r->served[place].breaker, now_ns, &r->random, &q->permit,
				    retry_ns))
			break;
		gq__balance_done(&g->balance, place, 0, now_ns);
		gq_places_remove(&can, place);
		place = NOBODY;
	}
	q->place = place;
	q->judged = false;
	if (home.begins)
		sessions_bind(r, q, f, now_ns);
	count_elsewhere(r, q);
	return GQ_WIRE_SUCCESS;
}

void group_verdict(struct router *r, struct request *q, enum gq_breaker_outcome outcome,
		   uint64_t now_ns)
{
	struct served *s = &r->served[q->place];
	const uint64_t took_ns = outcome == GQ_OUTCOME_OK ? now_ns - q->began_ns + 1 : 0;

	if (q->judged)
		return;
	q->judged = true;
	s->done += outcome == GQ_OUTCOME_OK;
	s->faults += outcome == GQ_OUTCOME_FAULT;
	gq__breaker_done(&s->breaker, &q->permit, outcome, took_ns,
			 may_open(r, r->groups[q->group]), now_ns, &r->random);
	registered_sync(r, q->place);
	registered_note_breaker(r, q->place);
}

void group_done(struct router *r, struct request *q, enum gq_breaker_outcome outcome,
		uint64_t now_ns)
{
	const struct served *s = &r->served[q->place];
	const uint64_t took_ns = outcome == GQ_OUTCOME_OK ? now_ns - q->began_ns + 1 : 0;

	group_verdict(r, q, outcome, now_ns);
	for (uint32_t i = 0; i < s->groups; i++)
		gq__balance_done(&r->groups[s->group[i]]->balance, q->place,
				 s->group[i] == q->group ? took_ns : 0, now_ns);
	if (q->state == REQUEST_LATE)
		limit_late_left(r, q->place);
	q->place = NOBODY;
	share_count(r, q);
}
