/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c - services, their heartbeats, and who watches them. */
#include "registry.h"

#include <stdlib.h>
#include <string.h>

#define HEARTBEAT_NS UINT64_C(5000000000)
#define FORGET_NS    UINT64_C(300000000000)

/* Loads, in 1/1000, at which a state begins; it ends a tenth lower. */
enum { BUSY_ABOVE = 700, OVERLOADED_ABOVE = 900, HYSTERESIS = 100 };

static uint32_t or_default(uint32_t value, uint32_t standard)
{
	return value != 0 ? value : standard;
}

enum gq_registry_status gq__registry_init(struct gq_registry *r,
					  const struct gq_registry_config *config)
{
	struct gq_registry_config c = *config;

	c.services = or_default(c.services, GQ_SERVICES_MAX);
	c.heartbeat_ns = c.heartbeat_ns != 0 ? c.heartbeat_ns : HEARTBEAT_NS;
	c.forget_ns = c.forget_ns != 0 ? c.forget_ns : FORGET_NS;
	c.degraded_after = or_default(c.degraded_after, 2);
	c.unhealthy_after = or_default(c.unhealthy_after, 3);
	c.healthy_after = or_default(c.healthy_after, 2);
	if (c.services > GQ_SERVICES_MAX || c.degraded_after > c.unhealthy_after)
		return GQ_REGISTRY_CONFIG;
	memset(r, 0, sizeof(*r));
	r->config = c;
	r->services = calloc(c.services, sizeof(*r->services));
	r->changes = calloc(GQ_REGISTRY_CHANGES, sizeof(*r->changes));
	if (r->services && r->changes)
		return GQ_REGISTRY_OK;
	gq__registry_free(r);
	return GQ_REGISTRY_MEMORY;
}

void gq__registry_free(struct gq_registry *r)
{
	free(r->services);
	free(r->changes);
	memset(r, 0, sizeof(*r));
}

/* What has become of a service is a revision of its own. */
static void note(struct gq_registry *r, const struct gq_service *s)
{
	struct gq_change *change = &r->changes[++r->revision % GQ_REGISTRY_CHANGES];

	change->revision = r->revision;
	change->index = (uint32_t)(s - r->services);
	change->state = s->state;
	change->health = s->health;
	change->generation = s->generation;
	change->name = s->name;
}

static void become(struct gq_registry *r, struct gq_service *s, enum gq_service_state state)
{
	enum gq_service_health health = s->by_beats;

	if (s->by_checks != GQ_HEALTH_UNKNOWN && s->by_checks > health)
		health = s->by_checks;
	if (s->state == state && s->health == health)
		return;
	s->state = state;
	s->health = health;
	note(r, s);
}

static struct gq_service *named(const struct gq_registry *r, uint32_t index, uint64_t generation,
				enum gq_registry_status *status)
{
	struct gq_service *s = index < r->config.services ? &r->services[index] : NULL;

	*status = GQ_REGISTRY_OK;
	if (s && s->state != GQ_SERVICE_NONE && s->generation == generation)
		return s;
	*status = generation != 0 && generation <= r->generation && s ? GQ_REGISTRY_STALE
								      : GQ_REGISTRY_NOT_FOUND;
	return NULL;
}

const struct gq_service *gq__registry_at(const struct gq_registry *r, uint32_t index,
					 uint64_t generation)
{
	const struct gq_service *s = index < r->config.services ? &r->services[index] : NULL;

	if (!s || s->state == GQ_SERVICE_NONE)
		return NULL;
	return generation == 0 || generation == s->generation ? s : NULL;
}

uint32_t gq__registry_find(const struct gq_registry *r, const void *name, size_t bytes)
{
	for (uint32_t i = 0; i < r->config.services; i++) {
		const struct gq_service *s = &r->services[i];

		if (s->state != GQ_SERVICE_NONE && strlen(s->name.text) == bytes &&
		    memcmp(s->name.text, name, bytes) == 0)
			return i;
	}
	return UINT32_MAX;
}

static bool may_take_over(const struct gq_service *s, const struct gq_registration *by)
{
	static const uint8_t none[GQ_PROOF_BYTES];

	if (s->owner == by->owner)
		return true;
	return memcmp(by->proof, none, sizeof(none)) != 0 &&
	       memcmp(by->proof, s->proof, sizeof(s->proof)) == 0;
}

static uint32_t free_place(const struct gq_registry *r)
{
	uint32_t i = 0;

	while (i < r->config.services && r->services[i].state != GQ_SERVICE_NONE)
		i++;
	return i;
}

enum gq_registry_status gq__registry_register(struct gq_registry *r,
					      const struct gq_registration *registration,
					      uint64_t now_ns, uint32_t *out_index,
					      uint64_t *out_generation)
{
	struct gq_service *s;
	uint32_t index;

	if (!gq__name_valid(registration->name, registration->name_bytes))
		return GQ_REGISTRY_NAME;
	index = gq__registry_find(r, registration->name, registration->name_bytes);
	if (index != UINT32_MAX && !may_take_over(&r->services[index], registration))
		return GQ_REGISTRY_TAKEN;
	if (index == UINT32_MAX) {
		index = free_place(r);
		if (index == r->config.services)
			return GQ_REGISTRY_FULL;
		r->count++;
	}
	s = &r->services[index];
	memset(s, 0, sizeof(*s));
	memcpy(s->name.text, registration->name, registration->name_bytes);
	s->generation = ++r->generation;
	s->owner = registration->owner;
	memcpy(s->proof, registration->proof, sizeof(s->proof));
	s->priority = registration->priority;
	s->can = registration->can;
	s->beat_at_ns = now_ns;
	s->by_beats = GQ_HEALTH_UNKNOWN;
	s->by_checks = GQ_HEALTH_UNKNOWN;
	s->state = GQ_SERVICE_STARTING;
	s->health = GQ_HEALTH_UNKNOWN;
	note(r, s);
	*out_index = index;
	*out_generation = s->generation;
	return GQ_REGISTRY_OK;
}

static void leave(struct gq_registry *r, struct gq_service *s)
{
	s->state = GQ_SERVICE_NONE;
	note(r, s);
	r->count--;
}

enum gq_registry_status gq__registry_unregister(struct gq_registry *r, uint32_t index,
						uint64_t generation)
{
	enum gq_registry_status status;
	struct gq_service *s = named(r, index, generation, &status);

	if (s)
		leave(r, s);
	return status;
}

uint32_t gq__registry_owner_gone(struct gq_registry *r, uint64_t owner)
{
	uint32_t gone = 0;

	for (uint32_t i = 0; i < r->config.services; i++) {
		struct gq_service *s = &r->services[i];

		if (s->state != GQ_SERVICE_NONE && s->owner == owner) {
			leave(r, s);
			gone++;
		}
	}
	return gone;
}

uint32_t gq__load_permille(const struct gq_load *load)
{
	uint32_t most = load->cpu > load->memory ? load->cpu : load->memory;
	uint64_t depth = load->capacity > 0 ? (uint64_t)load->depth * 1000 / load->capacity : 0;

	depth = depth < 1000 ? depth : 1000;
	most = most < 1000 ? most : 1000;
	return depth > most ? (uint32_t)depth : most;
}

/* Up at once, down only when the load is a tenth lower than where it went up. */
static enum gq_service_state state_by_load(enum gq_service_state now, const struct gq_load *load)
{
	const uint32_t permille = gq__load_permille(load);
	const uint32_t busy = now >= GQ_SERVICE_BUSY ? BUSY_ABOVE - HYSTERESIS : BUSY_ABOVE;
	const uint32_t over =
		now == GQ_SERVICE_OVERLOADED ? OVERLOADED_ABOVE - HYSTERESIS : OVERLOADED_ABOVE;

	if (permille > over)
		return GQ_SERVICE_OVERLOADED;
	return permille > busy ? GQ_SERVICE_BUSY : GQ_SERVICE_READY;
}

/*
 * A heartbeat counts as good once in half an interval: many at once do not heal. A service that was
 * not well needs several.
 */
static void count_beat(struct gq_registry *r, struct gq_service *s, uint64_t now_ns)
{
	s->beat_at_ns = now_ns;
	if (s->by_beats == GQ_HEALTH_UNKNOWN) {
		s->by_beats = GQ_HEALTH_HEALTHY;
		s->counted_at_ns = now_ns;
	} else if (s->by_beats != GQ_HEALTH_HEALTHY) {
		if (s->good_beats > 0 && now_ns - s->counted_at_ns < r->config.heartbeat_ns / 2)
			return;
		s->counted_at_ns = now_ns;
		if (++s->good_beats >= r->config.healthy_after)
			s->by_beats = GQ_HEALTH_HEALTHY;
	}
}

/* The heartbeats that did not come. */
static void miss_beats(struct gq_registry *r, struct gq_service *s, uint64_t missed)
{
	if (missed >= r->config.degraded_after) {
		s->good_beats = 0;
		if (missed >= r->config.unhealthy_after)
			s->by_beats = GQ_HEALTH_UNHEALTHY;
		else if (s->by_beats != GQ_HEALTH_UNHEALTHY)
			s->by_beats = GQ_HEALTH_DEGRADED;
	}
	become(r, s, s->state);
}

uint64_t gq__registry_tick(struct gq_registry *r, uint64_t now_ns)
{
	const uint64_t every = r->config.heartbeat_ns;
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < r->config.services; i++) {
		struct gq_service *s = &r->services[i];
		const uint64_t silent = now_ns > s->beat_at_ns ? now_ns - s->beat_at_ns : 0;
		uint64_t at;

		if (s->state == GQ_SERVICE_NONE)
			continue;
		if (silent >= r->config.forget_ns) {
			leave(r, s);
			continue;
		}
		miss_beats(r, s, silent / every);
		at = s->beat_at_ns + (silent / every + 1) * every;
		next = at < next ? at : next;
	}
	return next;
}

enum gq_registry_status gq__registry_heartbeat(struct gq_registry *r, uint32_t index,
					       uint64_t generation, const struct gq_load *load,
					       uint64_t now_ns)
{
	enum gq_registry_status status;
	struct gq_service *s = named(r, index, generation, &status);
	enum gq_service_state state;

	if (!s)
		return status;
	if (load && (load->cpu > 1000 || load->memory > 1000))
		return GQ_REGISTRY_LOAD;
	/* What the clock says about beats that did not come holds, though nobody has looked since.
	 */
	gq__registry_tick(r, now_ns);
	s = named(r, index, generation, &status);
	if (!s)
		return status;
	count_beat(r, s, now_ns);
	state = s->state == GQ_SERVICE_STARTING ? GQ_SERVICE_READY : s->state;
	if (load) {
		s->load = *load;
		s->load_at_ns = now_ns;
		if (state <= GQ_SERVICE_OVERLOADED)
			state = state_by_load(state, load);
	}
	become(r, s, state);
	return GQ_REGISTRY_OK;
}

enum gq_registry_status gq__registry_checked(struct gq_registry *r, uint32_t index,
					     uint64_t generation, bool good)
{
	enum gq_registry_status status;
	struct gq_service *s = named(r, index, generation, &status);

	if (!s)
		return status;
	if (good) {
		s->bad_checks = 0;
		s->good_checks += s->good_checks < r->config.healthy_after;
		if (s->by_checks == GQ_HEALTH_UNKNOWN || s->good_checks >= r->config.healthy_after)
			s->by_checks = GQ_HEALTH_HEALTHY;
	} else {
		s->good_checks = 0;
		s->bad_checks += s->bad_checks < r->config.unhealthy_after;
		if (s->bad_checks >= r->config.unhealthy_after)
			s->by_checks = GQ_HEALTH_UNHEALTHY;
		else if (s->by_checks != GQ_HEALTH_UNHEALTHY)
			s->by_checks = GQ_HEALTH_DEGRADED;
	}
	become(r, s, s->state);
	return GQ_REGISTRY_OK;
}

enum gq_registry_status gq__registry_unchecked(struct gq_registry *r, uint32_t index,
					       uint64_t generation)
{
	enum gq_registry_status status;
	struct gq_service *s = named(r, index, generation, &status);

	if (!s)
		return status;
	s->good_checks = s->bad_checks = 0;
	s->by_checks = GQ_HEALTH_UNKNOWN;
	become(r, s, s->state);
	return GQ_REGISTRY_OK;
}

enum gq_registry_status gq__registry_stop(struct gq_registry *r, uint32_t index,
					  uint64_t generation, enum gq_service_state state)
{
	enum gq_registry_status status;
	struct gq_service *s = named(r, index, generation, &status);

	if (s && (state == GQ_SERVICE_DRAINING || state == GQ_SERVICE_FAILED))
		become(r, s, s->state == GQ_SERVICE_FAILED ? GQ_SERVICE_FAILED : state);
	return status;
}

enum gq_registry_status gq__registry_resume(struct gq_registry *r, uint32_t index,
					    uint64_t generation)
{
	enum gq_registry_status status;
	struct gq_service *s = named(r, index, generation, &status);

	if (!s || s->state != GQ_SERVICE_DRAINING)
		return status;
	if (s->by_beats == GQ_HEALTH_UNKNOWN)
		become(r, s, GQ_SERVICE_STARTING);
	else
		become(r, s, state_by_load(GQ_SERVICE_READY, &s->load));
	return status;
}

bool gq__service_routable(const struct gq_service *s)
{
	return (s->state == GQ_SERVICE_READY || s->state == GQ_SERVICE_BUSY) &&
	       (s->health == GQ_HEALTH_HEALTHY || s->health == GQ_HEALTH_DEGRADED);
}

uint32_t gq__registry_match(const struct gq_registry *r, const struct gq_capability *want,
			    uint32_t *out, uint32_t room)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < r->config.services; i++) {
		const struct gq_service *s = &r->services[i];

		if (s->state == GQ_SERVICE_NONE || s->priority < want->priority_least ||
		    (want->load_most != 0 && gq__load_permille(&s->load) > want->load_most) ||
		    !gq__capability_meets(&s->can, want))
			continue;
		if (count < room)
			out[count] = i;
		count++;
	}
	return count;
}

enum gq_watch_result gq__registry_next(const struct gq_registry *r, uint64_t *known,
				       struct gq_change *out)
{
	if (*known >= r->revision)
		return *known == r->revision ? GQ_WATCH_NOTHING : GQ_WATCH_RESYNC;
	if (r->revision - *known > GQ_REGISTRY_CHANGES)
		return GQ_WATCH_RESYNC;
	*out = r->changes[++*known % GQ_REGISTRY_CHANGES];
	return GQ_WATCH_CHANGE;
}
