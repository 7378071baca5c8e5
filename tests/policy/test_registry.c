/* SPDX-License-Identifier: Apache-2.0 */
/* test_registry.c - services come, live, change and go, and everybody learns of it. */
#include "policy_test.h"

#include "broker/policy/registry.h"

#include <stdio.h>

#define BEAT (5 * S)

static struct gq_registry *new_registry(uint32_t services)
{
	struct gq_registry *r = malloc(sizeof(*r));
	const struct gq_registry_config config = { .services = services };

	assert_non_null(r);
	assert_int_equal(gq__registry_init(r, &config), GQ_REGISTRY_OK);
	return r;
}

static void free_registry(struct gq_registry *r)
{
	gq__registry_free(r);
	free(r);
}

struct id {
	uint32_t index;
	uint64_t generation;
};

static enum gq_registry_status add(struct gq_registry *r, const char *name, uint64_t owner,
				   uint8_t proof, uint64_t now, struct id *id)
{
	struct gq_registration reg = { .name = name, .name_bytes = strlen(name), .owner = owner };

	reg.proof[0] = proof;
	return gq__registry_register(r, &reg, now, &id->index, &id->generation);
}

static enum gq_registry_status beat(struct gq_registry *r, struct id id, uint64_t now)
{
	const struct gq_load load = { 0 };

	return gq__registry_heartbeat(r, id.index, id.generation, &load, now);
}

static enum gq_service_health health(const struct gq_registry *r, struct id id)
{
	return gq__registry_at(r, id.index, id.generation)->health;
}

static void r_1_a_peer_that_is_gone_takes_its_services_along(void **state)
{
	struct gq_registry *r = new_registry(3);
	struct id a;
	struct id b;
	struct id c;

	(void)state;
	assert_int_equal(add(r, "a", 1, 0, 0, &a), GQ_REGISTRY_OK);
	assert_int_equal(add(r, "b", 2, 0, 0, &b), GQ_REGISTRY_OK);
	assert_int_equal(add(r, "c", 1, 0, 0, &c), GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_owner_gone(r, 1), 2);
	assert_int_equal(r->count, 1);
	assert_null(gq__registry_at(r, a.index, 0));
	assert_non_null(gq__registry_at(r, b.index, b.generation));
	assert_int_equal(beat(r, c, 1), GQ_REGISTRY_STALE);
	assert_int_equal(gq__registry_owner_gone(r, 1), 0);
	free_registry(r);
}

static void r_2_a_stopped_worker_is_unhealthy_after_three_beats(void **state)
{
	struct gq_registry *r = new_registry(2);
	struct id id;
	uint64_t now = 100 * S;
	uint64_t revision;

	(void)state;
	assert_int_equal(add(r, "w", 1, 0, now, &id), GQ_REGISTRY_OK);
	assert_int_equal(health(r, id), GQ_HEALTH_UNKNOWN);
	assert_false(gq__service_routable(gq__registry_at(r, id.index, 0)));
	assert_int_equal(beat(r, id, now), GQ_REGISTRY_OK);
	assert_int_equal(health(r, id), GQ_HEALTH_HEALTHY);
	assert_true(gq__service_routable(gq__registry_at(r, id.index, 0)));
	revision = r->revision;
	assert_int_equal(gq__registry_tick(r, now + 2 * BEAT - 1), now + 2 * BEAT);
	assert_int_equal(health(r, id), GQ_HEALTH_HEALTHY);
	gq__registry_tick(r, now + 2 * BEAT);
	assert_int_equal(health(r, id), GQ_HEALTH_DEGRADED);
	assert_true(gq__service_routable(gq__registry_at(r, id.index, 0)));
	gq__registry_tick(r, now + 3 * BEAT);
	assert_int_equal(health(r, id), GQ_HEALTH_UNHEALTHY);
	assert_false(gq__service_routable(gq__registry_at(r, id.index, 0)));
	now += 4 * BEAT;
	/* It goes on: a burst is one beat, two are two. */
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(beat(r, id, now + i), GQ_REGISTRY_OK);
	assert_int_equal(health(r, id), GQ_HEALTH_UNHEALTHY);
	assert_int_equal(beat(r, id, now + BEAT), GQ_REGISTRY_OK);
	assert_int_equal(health(r, id), GQ_HEALTH_HEALTHY);
	assert_int_equal(r->revision, revision + 3); /* down in two steps, up in one */
	free_registry(r);
}

static void r_2_beats_that_nobody_missed_in_time_are_missed(void **state)
{
	struct gq_registry *r = new_registry(1);
	struct id id;

	(void)state;
	assert_int_equal(add(r, "w", 1, 0, 0, &id), GQ_REGISTRY_OK);
	assert_int_equal(beat(r, id, 0), GQ_REGISTRY_OK);
	assert_int_equal(beat(r, id, 3 * BEAT), GQ_REGISTRY_OK); /* no tick in between */
	assert_int_equal(health(r, id), GQ_HEALTH_UNHEALTHY);
	assert_int_equal(beat(r, id, 300 * S + 3 * BEAT), GQ_REGISTRY_STALE);
	assert_int_equal(r->count, 0);
	assert_int_equal(gq__registry_tick(r, 400 * S), UINT64_MAX);
	free_registry(r);
}

static void r_2_checks_have_thresholds_in_a_row(void **state)
{
	struct gq_registry *r = new_registry(1);
	struct id id;

	(void)state;
	assert_int_equal(add(r, "w", 1, 0, 0, &id), GQ_REGISTRY_OK);
	assert_int_equal(beat(r, id, 0), GQ_REGISTRY_OK);
	for (int i = 0; i < 2; i++) {
		gq__registry_checked(r, id.index, id.generation, false);
		assert_int_equal(health(r, id), GQ_HEALTH_DEGRADED);
	}
	gq__registry_checked(r, id.index, id.generation, true);
	gq__registry_checked(r, id.index, id.generation, false);
	gq__registry_checked(r, id.index, id.generation, false);
	assert_int_equal(health(r, id), GQ_HEALTH_DEGRADED);
	gq__registry_checked(r, id.index, id.generation, false);
	assert_int_equal(health(r, id), GQ_HEALTH_UNHEALTHY);
	gq__registry_checked(r, id.index, id.generation, true);
	assert_int_equal(health(r, id), GQ_HEALTH_UNHEALTHY);
	gq__registry_checked(r, id.index, id.generation, true);
	assert_int_equal(health(r, id), GQ_HEALTH_HEALTHY);
	/* Whom nobody checks any more is as well as its heartbeats say, and begins anew. */
	for (int i = 0; i < 3; i++)
		gq__registry_checked(r, id.index, id.generation, false);
	assert_int_equal(health(r, id), GQ_HEALTH_UNHEALTHY);
	assert_int_equal(gq__registry_unchecked(r, id.index, id.generation), GQ_REGISTRY_OK);
	assert_int_equal(health(r, id), GQ_HEALTH_HEALTHY);
	gq__registry_checked(r, id.index, id.generation, false);
	assert_int_equal(health(r, id), GQ_HEALTH_DEGRADED);
	assert_int_equal(gq__registry_unchecked(r, id.index, id.generation + 1),
			 GQ_REGISTRY_NOT_FOUND);
	free_registry(r);
}

static void load_changes_the_state_with_hysteresis(void **state)
{
	static const struct {
		uint32_t cpu;
		uint32_t depth;
		enum gq_service_state state;
	} steps[] = {
		{ 700, 0, GQ_SERVICE_READY },
		{ 701, 0, GQ_SERVICE_BUSY },
		{ 601, 0, GQ_SERVICE_BUSY },
		{ 600, 0, GQ_SERVICE_READY },
		{ 0, 95, GQ_SERVICE_OVERLOADED },
		{ 0, 81, GQ_SERVICE_OVERLOADED },
		{ 0, 80, GQ_SERVICE_BUSY },
		{ 0, 0, GQ_SERVICE_READY },
		{ 0, UINT32_MAX, GQ_SERVICE_OVERLOADED },
	};
	struct gq_registry *r = new_registry(1);
	struct gq_load load = { .capacity = 100 };
	struct id id;

	(void)state;
	assert_int_equal(add(r, "w", 1, 0, 0, &id), GQ_REGISTRY_OK);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		load.cpu = steps[i].cpu;
		load.depth = steps[i].depth;
		assert_int_equal(gq__registry_heartbeat(r, id.index, id.generation, &load, i),
				 GQ_REGISTRY_OK);
		assert_int_equal(gq__registry_at(r, id.index, 0)->state, steps[i].state);
	}
	load.cpu = 1001;
	assert_int_equal(gq__registry_heartbeat(r, id.index, id.generation, &load, 99),
			 GQ_REGISTRY_LOAD);
	gq__registry_stop(r, id.index, id.generation, GQ_SERVICE_DRAINING);
	load.cpu = 0;
	assert_int_equal(gq__registry_heartbeat(r, id.index, id.generation, &load, 100),
			 GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_at(r, id.index, 0)->state, GQ_SERVICE_DRAINING);
	free_registry(r);
}

static void one_that_drains_can_be_resumed(void **state)
{
	struct gq_registry *r = new_registry(2);
	struct gq_load load = { .cpu = 800 };
	struct id id, stale;

	(void)state;
	assert_int_equal(add(r, "x", 1, 0, 0, &id), GQ_REGISTRY_OK);
	/* Before its first heartbeat, and behind it. */
	assert_int_equal(gq__registry_stop(r, id.index, id.generation, GQ_SERVICE_DRAINING),
			 GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_resume(r, id.index, id.generation), GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_at(r, id.index, 0)->state, GQ_SERVICE_STARTING);
	assert_int_equal(gq__registry_heartbeat(r, id.index, id.generation, &load, 1),
			 GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_stop(r, id.index, id.generation, GQ_SERVICE_DRAINING),
			 GQ_REGISTRY_OK);
	assert_false(gq__service_routable(gq__registry_at(r, id.index, 0)));
	assert_int_equal(gq__registry_resume(r, id.index, id.generation), GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_at(r, id.index, 0)->state, GQ_SERVICE_BUSY);
	assert_true(gq__service_routable(gq__registry_at(r, id.index, 0)));
	/* One that has failed is not resumed, nor is one of before. */
	stale = id;
	assert_int_equal(add(r, "x", 1, 0, 0, &id), GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_resume(r, stale.index, stale.generation), GQ_REGISTRY_STALE);
	assert_int_equal(gq__registry_resume(r, 1, 0), GQ_REGISTRY_NOT_FOUND);
	assert_int_equal(gq__registry_stop(r, id.index, id.generation, GQ_SERVICE_FAILED),
			 GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_resume(r, id.index, id.generation), GQ_REGISTRY_OK);
	assert_int_equal(gq__registry_at(r, id.index, 0)->state, GQ_SERVICE_FAILED);
	free_registry(r);
}

static void r_3_a_stale_generation_changes_nothing(void **state)
{
	struct gq_registry *r = new_registry(2);
	struct id old;
	struct id now;
	uint64_t revision;

	(void)state;
	assert_int_equal(add(r, "w", 1, 7, 0, &old), GQ_REGISTRY_OK);
	assert_int_equal(add(r, "w", 2, 8, 0, &now), GQ_REGISTRY_TAKEN);
	assert_int_equal(add(r, "w", 2, 0, 0, &now), GQ_REGISTRY_TAKEN);
	assert_int_equal(add(r, "w", 2, 7, 0, &now), GQ_REGISTRY_OK); /* the same proof */
	assert_int_equal(now.index, old.index);
	assert_true(now.generation > old.generation);
	revision = r->revision;
	assert_int_equal(beat(r, old, 1), GQ_REGISTRY_STALE);
	assert_int_equal(gq__registry_checked(r, old.index, old.generation, false),
			 GQ_REGISTRY_STALE);
	assert_int_equal(gq__registry_stop(r, old.index, old.generation, GQ_SERVICE_FAILED),
			 GQ_REGISTRY_STALE);
	assert_int_equal(gq__registry_unregister(r, old.index, old.generation), GQ_REGISTRY_STALE);
	assert_int_equal(r->revision, revision);
	assert_null(gq__registry_at(r, old.index, old.generation));
	/* generations that never were, and places that are not */
	assert_int_equal(gq__registry_unregister(r, 0, 0), GQ_REGISTRY_NOT_FOUND);
	assert_int_equal(gq__registry_unregister(r, 0, 99), GQ_REGISTRY_NOT_FOUND);
	assert_int_equal(gq__registry_unregister(r, UINT32_MAX, 1), GQ_REGISTRY_NOT_FOUND);
	/* without a proof nobody but the owner takes over */
	assert_int_equal(add(r, "x", 1, 0, 0, &old), GQ_REGISTRY_OK);
	assert_int_equal(add(r, "x", 2, 0, 0, &now), GQ_REGISTRY_TAKEN);
	assert_int_equal(add(r, "x", 1, 0, 0, &now), GQ_REGISTRY_OK);
	free_registry(r);
}

static void limits_are_errors_of_their_own(void **state)
{
	struct gq_registry *r = new_registry(0);
	struct gq_registry other;
	struct gq_registry_config config = { .services = 101 };
	char name[70];
	struct id id;

	(void)state;
	assert_int_equal(gq__registry_init(&other, &config), GQ_REGISTRY_CONFIG);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(add(r, name, 1, 0, 0, &id), GQ_REGISTRY_OK);
	}
	assert_int_equal(add(r, "one-more", 1, 0, 0, &id), GQ_REGISTRY_FULL);
	assert_int_equal(add(r, "s5", 1, 0, 0, &id), GQ_REGISTRY_OK);
	assert_int_equal(add(r, "", 1, 0, 0, &id), GQ_REGISTRY_NAME);
	assert_int_equal(add(r, "a/b", 1, 0, 0, &id), GQ_REGISTRY_NAME);
	memset(name, 'n', 65);
	name[65] = '\0';
	assert_int_equal(add(r, name, 1, 0, 0, &id), GQ_REGISTRY_NAME);
	free_registry(r);
}

/* What a watcher has made of the changes that it has seen. */
struct seen {
	enum gq_service_state state[GQ_SERVICES_MAX];
	enum gq_service_health health[GQ_SERVICES_MAX];
	uint64_t generation[GQ_SERVICES_MAX];
};

static void look(const struct gq_registry *r, struct seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	for (uint32_t i = 0; i < r->config.services; i++) {
		const struct gq_service *s = gq__registry_at(r, i, 0);

		if (s) {
			seen->state[i] = s->state;
			seen->health[i] = s->health;
			seen->generation[i] = s->generation;
		}
	}
}

static void apply(struct seen *seen, const struct gq_change *c)
{
	const bool gone = c->state == GQ_SERVICE_NONE;

	seen->state[c->index] = c->state;
	seen->health[c->index] = gone ? GQ_HEALTH_HEALTHY : c->health;
	seen->generation[c->index] = gone ? 0 : c->generation;
}

static void r_4_a_watchers_table_is_the_registrys_at_every_revision(void **state)
{
	struct gq_registry *r = new_registry(20);
	struct seen quick = { 0 };
	struct seen slow = { 0 };
	struct seen truth;
	struct gq_change change;
	struct id ids[20] = { 0 };
	uint64_t quick_at = 0;
	uint64_t slow_at = 0;
	uint64_t random = SEED;
	uint32_t resyncs = 0, cycles = 0;

	(void)state;
	for (uint64_t i = 0; i < 100000; i++) {
		const uint32_t n = (uint32_t)gq_random_below(&random, 20);
		char name[16];

		snprintf(name, sizeof(name), "s%u", n);
		switch (gq_random_below(&random, 4)) {
		case 0:
			add(r, name, 1, 0, i * S, &ids[n]);
			break;
		case 1:
			cycles += gq__registry_unregister(r, ids[n].index, ids[n].generation) ==
				  GQ_REGISTRY_OK;
			break;
		case 2:
			gq__registry_checked(r, ids[n].index, ids[n].generation,
					     gq_random_below(&random, 2) != 0);
			break;
		default:
			beat(r, ids[n], i * S);
		}
		while (gq__registry_next(r, &quick_at, &change) == GQ_WATCH_CHANGE)
			apply(&quick, &change);
		assert_int_equal(quick_at, r->revision);
		look(r, &truth);
		assert_memory_equal(&quick, &truth, sizeof(truth));
		if (gq_random_below(&random, 200) != 0)
			continue;
		for (enum gq_watch_result w = GQ_WATCH_CHANGE; w != GQ_WATCH_NOTHING;) {
			w = gq__registry_next(r, &slow_at, &change);
			if (w == GQ_WATCH_CHANGE) {
				apply(&slow, &change);
			} else if (w == GQ_WATCH_RESYNC) {
				look(r, &slow);
				slow_at = r->revision;
				resyncs++;
			}
		}
		assert_memory_equal(&slow, &truth, sizeof(truth));
	}
	assert_in_range(resyncs, 1, 1000);
	assert_true(cycles >= 10000);
	quick_at = r->revision + 1; /* of another daemon's life */
	assert_int_equal(gq__registry_next(r, &quick_at, &change), GQ_WATCH_RESYNC);
	free_registry(r);
}

/* A service for the oracle: what it can do, as plain sets. */
struct plain {
	bool dims[65];
	uint32_t types;
	uint32_t batch;
	uint32_t ops; /* a bit each of op0 to op3 */
	uint32_t tags;
};

static int make(struct plain *p, char *text, size_t room, uint64_t *random, bool wish)
{
	static const char *const types[] = { "f32", "f16", "i8", "i16", "binary" };
	const uint32_t low = 1 + (uint32_t)gq_random_below(random, 60);
	const uint32_t high = low + (uint32_t)gq_random_below(random, wish ? 2 : 65 - low);
	const uint32_t type = (uint32_t)gq_random_below(random, 5);
	int n;

	memset(p, 0, sizeof(*p));
	for (uint32_t d = low; d <= high; d++)
		p->dims[d] = true;
	p->types = 1u << type;
	n = snprintf(text, room, "dims=%u..%u types=%s", low, high, types[type]);
	if (!wish) {
		const uint32_t second = (uint32_t)gq_random_below(random, 5);

		p->types |= 1u << second;
		if (second != type)
			n += snprintf(text + n, room - (size_t)n, ",%s", types[second]);
	}
	if (gq_random_below(random, 2) != 0) {
		p->batch = 1 + (uint32_t)gq_random_below(random, 1000);
		n += snprintf(text + n, room - (size_t)n, " batch=%u", p->batch);
	}
	for (uint32_t i = 0; i < 4; i++) {
		if (gq_random_below(random, wish ? 6 : 2) == 0) {
			p->ops |= 1u << i;
			n += snprintf(text + n, room - (size_t)n, " op=op%u:1", i);
		}
		if (gq_random_below(random, wish ? 8 : 2) == 0) {
			p->tags |= 1u << i;
			n += snprintf(text + n, room - (size_t)n, "  tag=t%u", i);
		}
	}
	return n;
}

static bool plain_meets(const struct plain *has, const struct plain *want)
{
	for (int d = 0; d < 65; d++) {
		if (want->dims[d] && !has->dims[d])
			return false;
	}
	return (want->types & ~has->types) == 0 && (want->ops & ~has->ops) == 0 &&
	       (want->tags & ~has->tags) == 0 && (has->batch == 0 || want->batch <= has->batch);
}

static void r_5_a_filter_finds_what_brute_force_finds(void **state)
{
	struct gq_registry *r = new_registry(100);
	struct plain services[100];
	uint64_t random = SEED;
	uint64_t found = 0;
	char text[512];

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		struct gq_registration reg = { .owner = 1 };
		char name[16];
		struct id id;
		const int n = make(&services[i], text, sizeof(text), &random, false);

		assert_int_equal(gq__capability_parse(text, (size_t)n, &reg.can, NULL),
				 GQ_CAPABILITY_OK);
		reg.name = name;
		reg.name_bytes = (size_t)snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(gq__registry_register(r, &reg, 0, &id.index, &id.generation),
				 GQ_REGISTRY_OK);
		assert_int_equal(id.index, i);
	}
	for (int round = 0; round < 10000; round++) {
		struct gq_capability want;
		struct plain wish;
		uint32_t out[100];
		uint32_t expected = 0;
		const int n = make(&wish, text, sizeof(text), &random, true);
		uint32_t count;

		assert_int_equal(gq__capability_parse(text, (size_t)n, &want, NULL),
				 GQ_CAPABILITY_OK);
		count = gq__registry_match(r, &want, out, 100);
		for (uint32_t i = 0; i < 100; i++) {
			if (!plain_meets(&services[i], &wish))
				continue;
			assert_true(expected < count);
			assert_int_equal(out[expected++], i);
		}
		assert_int_equal(count, expected);
		found += count;
		assert_int_equal(gq__registry_match(r, &want, out, 0), count);
	}
	assert_in_range(found, 10000, 900000); /* neither nothing nor everything */
	free_registry(r);
}

static void a_text_that_is_wrong_is_told_where_and_why(void **state)
{
	static const struct {
		const char *text;
		enum gq_capability_status status;
		size_t at;
	} texts[] = {
		{ "", GQ_CAPABILITY_OK, 0 },
		{ "  dims=1..8192  ", GQ_CAPABILITY_OK, 0 },
		{ "op=a dims=0", GQ_CAPABILITY_NUMBER, 5 },
		{ "dims=8193", GQ_CAPABILITY_NUMBER, 0 },
		{ "dims=2..1", GQ_CAPABILITY_RANGE, 0 },
		{ "dims=1.5", GQ_CAPABILITY_NUMBER, 0 },
		{ "dims=1..", GQ_CAPABILITY_NUMBER, 0 },
		{ "dims=1,", GQ_CAPABILITY_NUMBER, 0 },
		{ "dims=", GQ_CAPABILITY_NUMBER, 0 },
		{ "dims=99999999999999999999", GQ_CAPABILITY_NUMBER, 0 },
		{ "types=f64", GQ_CAPABILITY_TYPE, 0 },
		{ "types=f32,i8,f32", GQ_CAPABILITY_TWICE, 0 },
		{ "  types=f32   types=i8,f32", GQ_CAPABILITY_TWICE, 14 },
		{ "batch=1001", GQ_CAPABILITY_NUMBER, 0 },
		{ "batch=1 batch=1", GQ_CAPABILITY_TWICE, 8 },
		{ "op=a:0", GQ_CAPABILITY_NUMBER, 0 },
		{ "op=", GQ_CAPABILITY_NAME, 0 },
		{ "tag=a\nb", GQ_CAPABILITY_NAME, 0 },
		{ "speed=1", GQ_CAPABILITY_KEY, 0 },
		{ "dims", GQ_CAPABILITY_KEY, 0 },
		{ "priority=256", GQ_CAPABILITY_NUMBER, 0 },
		{ "dims=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", GQ_CAPABILITY_MANY, 0 },
	};
	struct gq_capability out;
	char many[300];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		size_t at = 0;

		assert_string_equal(gq__capability_status_text(gq__capability_parse(
					    texts[i].text, strlen(texts[i].text), &out, &at)),
				    gq__capability_status_text(texts[i].status));
		assert_int_equal(at, texts[i].at);
	}
	memset(many, 'x', sizeof(many));
	assert_int_equal(gq__capability_parse(many, 257, &out, NULL), GQ_CAPABILITY_LONG);
	for (size_t i = 0; i < sizeof(many); i++)
		many[i] = "a=b "[i % 4];
	assert_int_equal(gq__capability_parse(many, sizeof(many), &out, NULL), GQ_CAPABILITY_KEY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r_1_a_peer_that_is_gone_takes_its_services_along),
		cmocka_unit_test(r_2_a_stopped_worker_is_unhealthy_after_three_beats),
		cmocka_unit_test(r_2_beats_that_nobody_missed_in_time_are_missed),
		cmocka_unit_test(r_2_checks_have_thresholds_in_a_row),
		cmocka_unit_test(load_changes_the_state_with_hysteresis),
		cmocka_unit_test(one_that_drains_can_be_resumed),
		cmocka_unit_test(r_3_a_stale_generation_changes_nothing),
		cmocka_unit_test(limits_are_errors_of_their_own),
		cmocka_unit_test(r_4_a_watchers_table_is_the_registrys_at_every_revision),
		cmocka_unit_test(r_5_a_filter_finds_what_brute_force_finds),
		cmocka_unit_test(a_text_that_is_wrong_is_told_where_and_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
