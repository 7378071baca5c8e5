/* SPDX-License-Identifier: Apache-2.0 */
/* registered.c - services come, say that they live, and go. */
#include "router.h"

#include "broker/page/probe.h"
#include "broker/policy/siphash.h"

#include "host/base/clock.h"
#include "host/base/log.h"

#include <gpuq/gpuq.h>

#include <string.h>

static void refuse(struct router *r, struct peer *p, const struct gq_frame *f,
		   enum gq_wire_status status, const char *text)
{
	answer_nack(r, p, f->correlation, &(struct answer){ .status = status, .text = text });
	report_error(r, "a worker was refused: %s", text);
}

static void refuse_for(struct router *r, struct peer *p, const struct gq_frame *f,
		       enum gq_registry_status status)
{
	switch (status) {
	case GQ_REGISTRY_FULL:
		refuse(r, p, f, GQ_WIRE_OVERLOADED, "there are 100 services");
		return;
	case GQ_REGISTRY_TAKEN:
		refuse(r, p, f, GQ_WIRE_DENIED, "another peer has a service of this name");
		return;
	case GQ_REGISTRY_STALE:
		refuse(r, p, f, GQ_WIRE_NOT_FOUND, "stale: a later generation has taken over");
		return;
	case GQ_REGISTRY_LOAD:
		refuse(r, p, f, GQ_WIRE_INVALID, "a load above 1000");
		return;
	case GQ_REGISTRY_NAME:
		refuse(r, p, f, GQ_WIRE_INVALID, "the name is none");
		return;
	default:
		refuse(r, p, f, GQ_WIRE_NOT_FOUND, "there is no such service");
	}
}

/* ---- how a service fares --------------------------------------------------------------------- */

static enum gq_balance_state state_of(const struct gq_service *s, const struct gq_breaker *b)
{
	if (s == NULL || s->state == GQ_SERVICE_DRAINING || s->state == GQ_SERVICE_FAILED ||
	    b->state == GQ_BREAKER_FORCED)
		return GQ_BALANCE_BARRED;
	return gq__service_routable(s) && b->state != GQ_BREAKER_OPEN ? GQ_BALANCE_WELL
								      : GQ_BALANCE_SICK;
}

void registered_sync(struct router *r, uint32_t place)
{
	const struct served *s = &r->served[place];
	const enum gq_balance_state state =
		state_of(gq__registry_at(&r->registry, place, 0), &s->breaker);

	for (uint32_t i = 0; i < s->groups; i++) {
		struct group *g = r->groups[s->group[i]];
		const bool was_well = gq_places_has(&g->balance.well, place);

		gq__balance_set(&g->balance, place, state);
		if (gq_places_has(&g->balance.well, place) != was_well)
			gather_configure(r, g);
	}
	/* A half-open breaker lets few through: what it takes else is not there. */
	share_service(r, place,
		      state == GQ_BALANCE_WELL && s->breaker.state != GQ_BREAKER_HALF_OPEN);
}

void registered_note_breaker(struct router *r, uint32_t place)
{
	struct served *s = &r->served[place];
	const bool is_open = s->breaker.state == GQ_BREAKER_OPEN;

	if (is_open != s->was_open)
		PROBE2(breaker, (const char *)r->registry.services[place].name.text, (int)is_open);
	if (is_open && !s->was_open)
		report_error(r, "service '%s' rests: its requests fail (breaker)",
			     r->registry.services[place].name.text);
	s->was_open = is_open;
}

static uint32_t permille_of(enum gq_service_health health)
{
	return health == GQ_HEALTH_HEALTHY ? 1000 : health == GQ_HEALTH_DEGRADED ? 500 : 0;
}

/* ---- coming and going ------------------------------------------------------------------------ */

/* @param charged  the groups that its death has cost a token; NULL: it lives, and may answer */
static void forget(struct router *r, uint32_t place, struct gq_places *charged)
{
	struct served *s = &r->served[place];

	if (s->peer == NULL)
		return;
	request_service_left(r, place, charged);
	for (uint32_t i = 0; i < s->groups; i++)
		group_leave(r, s->group[i], place);
	*s = (struct served){ 0 };
}

/* Groups that are to be joined. Each counts a member more, so that none goes before. */
struct wanted {
	uint32_t count;
	uint8_t group[GQ_CAPABILITY_OPS];
};

static void release_groups(struct router *r, const struct wanted *w)
{
	for (uint32_t i = 0; i < w->count; i++) {
		r->groups[w->group[i]]->members--;
		group_put(r, w->group[i]);
	}
}

/* The groups that it joins: one an op or, without an op, one of its own name. @return false: no
 * room, and nothing has changed */
static bool reserve_groups(struct router *r, const struct peer *p,
			   const struct gq_registration *reg, struct wanted *w)
{
	struct gq_name own = { { 0 } };
	const uint32_t n = reg->can.op_count != 0 ? reg->can.op_count : 1;

	memcpy(own.text, reg->name, reg->name_bytes);
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t group = group_make(
			r, reg->can.op_count != 0 ? &reg->can.ops[i].name : &own, p->link.uid);
		bool twice = false;

		for (uint32_t k = 0; k < w->count; k++)
			twice = twice || w->group[k] == group;
		if (twice)
			continue; /* several versions of an op */
		if (group == GROUPS) {
			release_groups(r, w);
			return false;
		}
		r->groups[group]->members++;
		w->group[w->count++] = (uint8_t)group;
	}
	return true;
}

/* A token proves that two peers of one user are the same worker, one after the other. */
static void prove(const struct router *r, const struct peer *p, const struct gq_view *token,
		  uint8_t proof[GQ_PROOF_BYTES])
{
	for (uint32_t i = 0; i < GQ_PROOF_BYTES / sizeof(uint64_t); i++) {
		const uint64_t key[2] = { r->secret[0] ^ (i + 1), r->secret[1] ^ p->link.uid };
		const uint64_t hash = gq__siphash(key, token->data, token->bytes);

		memcpy(proof + i * sizeof(hash), &hash, sizeof(hash));
	}
}

static uint32_t capacity_of(const struct gq_frame *f)
{
	const uint32_t asked = gq_frame_has(f, GQ_TLV_LOAD) ? gq__frame_u32(f, GQ_TLV_LOAD, 3) : 0;

	if (asked == 0)
		return CAPACITY_DEFAULT;
	return asked < CAPACITY_MAX ? asked : CAPACITY_MAX;
}

/* @return false: it has been refused */
static bool read_registration(struct router *r, struct peer *p, const struct gq_frame *f,
			      struct gq_registration *reg)
{
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME], *can = &f->tlv[GQ_TLV_CAPABILITY];
	const enum gq_capability_status status =
		gq__capability_parse((const char *)can->data, can->bytes, &reg->can, NULL);

	if (status != GQ_CAPABILITY_OK) {
		refuse(r, p, f, GQ_WIRE_INVALID, gq__capability_status_text(status));
		return false;
	}
	reg->name = name->data;
	reg->name_bytes = name->bytes;
	reg->owner = p->number;
	reg->priority = gq_frame_has(f, GQ_TLV_PRIORITY) ? gq__frame_u8(f, GQ_TLV_PRIORITY) : 128;
	if (gq_frame_has(f, GQ_TLV_TOKEN))
		prove(r, p, &f->tlv[GQ_TLV_TOKEN], reg->proof);
	return true;
}

static void serve(struct router *r, struct peer *p, uint32_t place, const struct served *what,
		  uint8_t priority)
{
	const struct gq_breaker_config breaker = { .open_ns = r->cfg.breaker_open_ms *
							      UINT64_C(1000000) };
	struct served *s = &r->served[place];
	struct gq_places charged = { { 0 } };

	forget(r, place, &charged); /* the generation before */
	*s = *what;
	s->peer = p;
	peer_serves(p);
	(void)gq__breaker_init(&s->breaker, &breaker, gq__now_ns());
	order_breaker(r, place);
	s->name_hash = sessions_name(&r->registry.services[place].name);
	limit_begin(r, place);
	for (uint32_t i = 0; i < s->groups; i++)
		group_join(r, s->group[i], place, priority);
	registered_sync(r, place);
}

/* All that may be wrong comes first: who is refused changes nothing, also when it would have taken
 * a service over. */
void registered_register(struct router *r, struct peer *p, const struct gq_frame *f)
{
	struct served what = { .capacity = capacity_of(f) };
	struct gq_registration reg = { 0 };
	struct wanted wanted = { 0 };
	enum gq_registry_status status;
	const char *objection;
	struct answer denied;
	uint64_t generation;
	uint32_t place;

	if (!read_registration(r, p, f, &reg))
		return;
	if (!token_may_register(r, p, &reg, &denied)) {
		refuse(r, p, f, denied.status, denied.text);
		return;
	}
	objection = user_objection(r, p, gq__registry_find(&r->registry, reg.name, reg.name_bytes),
				   what.capacity);
	if (objection == NULL && !reserve_groups(r, p, &reg, &wanted))
		objection = "there are too many ops, or too many of this user";
	if (objection != NULL) {
		refuse(r, p, f, GQ_WIRE_OVERLOADED, objection);
		return;
	}
	status = gq__registry_register(&r->registry, &reg, gq__now_ns(), &place, &generation);
	if (status == GQ_REGISTRY_OK) {
		what.generation = generation;
		what.groups = wanted.count;
		memcpy(what.group, wanted.group, sizeof(what.group));
		serve(r, p, place, &what, reg.priority);
	}
	release_groups(r, &wanted);
	if (status != GQ_REGISTRY_OK) {
		refuse_for(r, p, f, status);
		return;
	}
	gq__log(Q_LOG_INFO, "gpuqd: service %.*s, generation %llu", (int)reg.name_bytes,
		(const char *)reg.name, (unsigned long long)generation);
	answer_ack(r, p, f->correlation, generation);
}

/* The service that a frame names, if the peer may speak for it; else it has been refused. */
static uint32_t named(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME];
	const uint32_t place = gq__registry_find(&r->registry, name->data, name->bytes);
	const uint64_t generation = gq__frame_u64(f, GQ_TLV_GENERATION, 0);

	if (place == UINT32_MAX) {
		refuse_for(r, p, f, GQ_REGISTRY_NOT_FOUND);
		return NOBODY;
	}
	if (r->served[place].generation != generation) {
		refuse_for(r, p, f, GQ_REGISTRY_STALE);
		return NOBODY;
	}
	if (r->served[place].peer != p) {
		refuse(r, p, f, GQ_WIRE_DENIED, "the service is another peer's");
		return NOBODY;
	}
	return place;
}

/* It gets nothing more, and may answer what it has. */
static void leave(struct router *r, uint32_t place)
{
	const uint64_t generation = r->served[place].generation;

	forget(r, place, NULL);
	(void)gq__registry_unregister(&r->registry, place, generation);
}

void registered_unregister(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const uint32_t place = named(r, p, f);

	if (place == NOBODY)
		return;
	leave(r, place);
	answer_ack(r, p, f->correlation, 0);
}

void registered_heartbeat(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const uint64_t now_ns = gq__now_ns();
	struct answer denied;
	const bool may = token_may_serve(r, p, &denied);
	const uint32_t place = may ? named(r, p, f) : NOBODY;
	const struct gq_load load = { .cpu = gq__frame_u32(f, GQ_TLV_LOAD, 0),
				      .memory = gq__frame_u32(f, GQ_TLV_LOAD, 1),
				      .depth = gq__frame_u32(f, GQ_TLV_LOAD, 2),
				      .capacity = gq__frame_u32(f, GQ_TLV_LOAD, 3) };
	const bool says = gq_frame_has(f, GQ_TLV_LOAD);
	enum gq_registry_status status;

	if (!may)
		refuse(r, p, f, denied.status, denied.text);
	if (place == NOBODY)
		return;
	status = gq__registry_heartbeat(&r->registry, place, r->served[place].generation,
					says ? &load : NULL, now_ns);
	if (status != GQ_REGISTRY_OK) {
		refuse_for(r, p, f, status);
		return;
	}
	for (uint32_t i = 0; says && i < r->served[place].groups; i++)
		gq__balance_report(&r->groups[r->served[place].group[i]]->balance, place,
				   gq__load_permille(&load),
				   permille_of(r->registry.services[place].health), now_ns);
	registered_sync(r, place);
}

void registered_peer_gone(struct router *r, struct peer *p, struct gq_places *charged)
{
	for (uint32_t i = 0; i < GQ_SERVICES_MAX; i++)
		if (r->served[i].peer == p)
			forget(r, i, charged);
	(void)gq__registry_owner_gone(&r->registry, p->number);
}

/* ---- checks ----------------------------------------------------------------------------------
 *
 * A heartbeat says that a worker turns. A check is a question, and its answer says whether the
 * worker calls itself well. What either says has to be said several times before it counts.
 */

static void note_health(struct router *r, uint32_t place)
{
	const struct gq_service *s = &r->registry.services[place];
	const bool ill = s->health == GQ_HEALTH_UNHEALTHY;

	if (ill && !r->served[place].ill)
		report_error(r, "service '%s' is unhealthy: %s", s->name.text,
			     s->by_beats == GQ_HEALTH_UNHEALTHY
				     ? "its heartbeats do not come"
				     : "it says so, or does not answer checks");
	r->served[place].ill = ill;
}

static void has_been_checked(struct router *r, uint32_t place, bool good, uint64_t now_ns)
{
	struct served *s = &r->served[place];
	const uint64_t next_ns = s->checked_ns + r->cfg.check_ms * UINT64_C(1000000);

	s->check = 0;
	s->check_due_ns = next_ns > now_ns ? next_ns : now_ns;
	(void)gq__registry_checked(&r->registry, place, s->generation, good);
	note_health(r, place);
	registered_sync(r, place);
}

/*
 * Until when it may answer. A check lies in the socket behind requests, so a worker that has some
 * is patiently waited for: its answers to those say that it turns, and it may be as silent as its
 * heartbeats may. Who has nothing to do answers at once.
 */
static uint64_t check_until_ns(const struct router *r, uint32_t place)
{
	const struct served *s = &r->served[place];
	const struct group *g = s->groups != 0 ? r->groups[s->group[0]] : NULL;
	const uint64_t beats_ns =
		r->registry.config.unhealthy_after * r->registry.config.heartbeat_ns;
	const uint64_t answered_ns = s->peer->answered_ns;
	const uint64_t since_ns = answered_ns > s->checked_ns ? answered_ns : s->checked_ns;
	uint64_t patience_ns = r->cfg.check_timeout_ms * UINT64_C(1000000);

	if (g != NULL && g->balance.members[place].active != 0 && patience_ns < beats_ns)
		patience_ns = beats_ns;
	return since_ns + patience_ns;
}

static void ask(struct router *r, uint32_t place, uint64_t now_ns)
{
	const struct gq_name *name = &r->registry.services[place].name;
	struct served *s = &r->served[place];
	struct gq_frame f = { .type = GQ_MESSAGE_HEALTH_CHECK,
			      .flags = GQ_FLAG_CHECKSUM,
			      .correlation = ++r->checks };

	gq__frame_set(&f, GQ_TLV_NAME, false, name->text, strlen(name->text));
	s->check = f.correlation;
	s->checked_ns = now_ns;
	s->check_due_ns = check_until_ns(r, place);
	(void)peer_send(r, s->peer, &f, 0);
}

/* @return when there is something to do again */
static uint64_t check(struct router *r, uint32_t place, uint64_t now_ns)
{
	struct served *s = &r->served[place];

	if (!s->peer->answers_checks || (r->cfg.check_ms == 0 && s->check == 0))
		return UINT64_MAX;
	if (s->check_due_ns == 0) /* it has registered just now */
		s->check_due_ns = now_ns + r->cfg.check_ms * UINT64_C(1000000);
	if (s->check != 0)
		s->check_due_ns = check_until_ns(r, place);
	if (now_ns >= s->check_due_ns && s->check != 0) {
		s->missed = s->check;
		has_been_checked(r, place, false, now_ns);
	} else if (now_ns >= s->check_due_ns) {
		ask(r, place, now_ns);
	}
	return s->check_due_ns;
}

/* check_ms has changed, perhaps. */
void registered_configure(struct router *r)
{
	const uint64_t due_ns = gq__now_ns() + r->cfg.check_ms * UINT64_C(1000000);

	for (uint32_t i = 0; i < GQ_SERVICES_MAX; i++) {
		struct served *s = &r->served[i];

		if (s->peer == NULL || !s->peer->answers_checks)
			continue;
		if (r->cfg.check_ms == 0) {
			s->check = s->missed = 0; /* an answer on its way is of no use */
			s->check_due_ns = 0;
			(void)gq__registry_unchecked(&r->registry, i, s->generation);
			note_health(r, i);
			registered_sync(r, i);
		} else if (s->check == 0 && s->check_due_ns > due_ns) {
			s->check_due_ns = due_ns;
		}
	}
}

/* One that says that it is well, late, has been slow and does not hang. */
static void has_answered_late(struct router *r, uint32_t place)
{
	r->served[place].missed = 0;
	(void)gq__registry_checked(&r->registry, place, r->served[place].generation, true);
	note_health(r, place);
	registered_sync(r, place);
}

void registered_checked(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const bool good = gq__frame_u32(f, GQ_TLV_HEALTH, 1) == GQ_HEALTH_HEALTHY;

	for (uint32_t i = 0; i < GQ_SERVICES_MAX; i++) {
		const struct served *s = &r->served[i];

		if (s->peer != p || f->correlation == 0)
			continue;
		if (s->check == f->correlation)
			has_been_checked(r, i, good, gq__now_ns());
		else if (s->missed == f->correlation && good)
			has_answered_late(r, i);
	}
}

uint64_t registered_tick(struct router *r, uint64_t now_ns)
{
	uint64_t next_ns = gq__registry_tick(&r->registry, now_ns), check_ns;

	for (uint32_t i = 0; i < GQ_SERVICES_MAX; i++) {
		struct served *s = &r->served[i];

		if (s->peer == NULL)
			continue;
		if (gq__registry_at(&r->registry, i, s->generation) == NULL) {
			report_error(r, "service '%s' is forgotten: no heartbeat came",
				     r->registry.services[i].name.text);
			forget(r, i, &(struct gq_places){ { 0 } }); /* silent for too long */
			continue;
		}
		note_health(r, i);
		if (!token_is_good(s->peer)) {
			leave(r, i);
			continue;
		}
		gq__breaker_tick(&s->breaker, now_ns, &r->random);
		registered_sync(r, i);
		registered_note_breaker(r, i);
		check_ns = check(r, i, now_ns);
		next_ns = check_ns < next_ns ? check_ns : next_ns;
		if ((s->breaker.state == GQ_BREAKER_OPEN ||
		     s->breaker.state == GQ_BREAKER_HALF_OPEN) &&
		    s->breaker.until_ns < next_ns)
			next_ns = s->breaker.until_ns;
	}
	return next_ns;
}
