/* SPDX-License-Identifier: Apache-2.0 */
/* test_sticky.c - sessions stay where they began. */
#include "policy_test.h"

#include "broker/policy/siphash.h"
#include "broker/policy/sticky.h"

static const uint64_t ones[GQ_PLACES] = { 1, 1, 1, 1, 1, 1, 1, 1 };
static const uint64_t twos[GQ_PLACES] = { 2, 2, 2, 2, 2, 2, 2, 2 };
static const struct gq_places eight = { { 0xff, 0 } };

static void make(struct gq_sticky *t, uint32_t sessions, bool strict)
{
	const struct gq_sticky_config config = { .sessions = sessions,
						 .strict = strict,
						 .key = { 1, 2 } };

	assert_int_equal(gq__sticky_init(t, &config), GQ_STICKY_OK);
}

static struct gq_session named(const uint32_t *n)
{
	return (struct gq_session){ .uid = 1000, .key = n, .bytes = sizeof(*n) };
}

/* Where session n goes; a new one goes to `place`. */
static enum gq_sticky_status go(struct gq_sticky *t, uint32_t n, uint32_t place, uint64_t now,
				uint32_t *out)
{
	const struct gq_session s = named(&n);
	const enum gq_sticky_status status = gq__sticky_route(t, &s, &eight, ones, now, out);

	if (status == GQ_STICKY_NEW || status == GQ_STICKY_BROKEN) {
		assert_int_equal(gq__sticky_bind(t, &s, place, 1, now), GQ_STICKY_OK);
		*out = place;
	}
	return status;
}

static void st_1_each_session_stays_on_one_service(void **state)
{
	struct gq_sticky t;
	uint32_t home[100];
	uint64_t random = SEED;
	uint32_t first = 0;

	(void)state;
	memset(home, 0xff, sizeof(home));
	make(&t, 0, false);
	for (uint64_t i = 0; i < 10000; i++) {
		const uint32_t n = (uint32_t)gq_random_below(&random, 100);
		uint32_t out;

		if (go(&t, n, (uint32_t)gq_random_below(&random, 8), i * MS, &out) ==
		    GQ_STICKY_NEW) {
			assert_int_equal(home[n], UINT32_MAX);
			home[n] = out;
			first++;
		}
		assert_int_equal(out, home[n]);
	}
	assert_int_equal(first, 100);
	gq__sticky_free(&t);
}

static void st_1_sessions_of_others_are_others(void **state)
{
	struct gq_sticky t;
	struct gq_session s = { .uid = 1, .key = "abc", .bytes = 3 };
	char key[65] = { 0 };
	uint32_t out;

	(void)state;
	make(&t, 8, false);
	assert_int_equal(gq__sticky_bind(&t, &s, 3, 1, 0), GQ_STICKY_OK);
	s.uid = 2;
	assert_int_equal(gq__sticky_route(&t, &s, &eight, ones, 0, &out), GQ_STICKY_NEW);
	s.uid = 1;
	s.bytes = 2;
	assert_int_equal(gq__sticky_route(&t, &s, &eight, ones, 0, &out), GQ_STICKY_NEW);
	s.bytes = 0;
	assert_int_equal(gq__sticky_route(&t, &s, &eight, ones, 0, &out), GQ_STICKY_KEY);
	s.key = key;
	s.bytes = 65;
	assert_int_equal(gq__sticky_bind(&t, &s, 3, 1, 0), GQ_STICKY_KEY);
	s.bytes = 64;
	assert_int_equal(gq__sticky_bind(&t, &s, GQ_PLACES, 1, 0), GQ_STICKY_PLACE);
	assert_int_equal(gq__sticky_bind(&t, &s, 3, 1, 0), GQ_STICKY_OK);
	gq__sticky_free(&t);
}

static void st_2_time_and_room_end_sessions(void **state)
{
	struct gq_sticky t;
	uint32_t out;

	(void)state;
	make(&t, 4, false);
	assert_int_equal(go(&t, 1, 1, 0, &out), GQ_STICKY_NEW);
	assert_int_equal(go(&t, 1, 2, 299 * S, &out), GQ_STICKY_KEEP); /* and slides */
	assert_int_equal(go(&t, 1, 2, 598 * S, &out), GQ_STICKY_KEEP);
	assert_int_equal(out, 1);
	assert_int_equal(go(&t, 1, 2, 898 * S, &out), GQ_STICKY_NEW);
	for (uint32_t n = 2; n <= 4; n++)
		assert_int_equal(go(&t, n, 0, 899 * S, &out), GQ_STICKY_NEW);
	assert_int_equal(go(&t, 1, 5, 900 * S, &out), GQ_STICKY_KEEP);
	assert_int_equal(t.evicted, 0);
	assert_int_equal(go(&t, 5, 0, 901 * S, &out), GQ_STICKY_NEW); /* 2 makes room */
	assert_int_equal(t.evicted, 1);
	assert_int_equal(t.count, 4);
	assert_int_equal(go(&t, 1, 0, 901 * S, &out), GQ_STICKY_KEEP);
	assert_int_equal(go(&t, 3, 0, 901 * S, &out), GQ_STICKY_KEEP);
	assert_int_equal(go(&t, 2, 0, 901 * S, &out), GQ_STICKY_NEW);
	gq__sticky_free(&t);
}

static void who_has_half_of_all_sessions_makes_room_for_its_own(void **state)
{
	const uint32_t of_others[2] = { 1, 2 };
	struct gq_sticky t;
	uint32_t out;

	(void)state;
	make(&t, 8, true);
	for (uint32_t i = 0; i < 2; i++) {
		struct gq_session s = named(&of_others[i]);

		s.uid = 77 + i;
		assert_int_equal(gq__sticky_bind(&t, &s, 5, 1, 0), GQ_STICKY_OK);
	}
	for (uint32_t n = 10; n < 100; n++)
		assert_int_equal(go(&t, n, 0, n, &out), GQ_STICKY_NEW);
	assert_int_equal(t.count, 8);
	for (uint32_t i = 0; i < 2; i++) {
		struct gq_session s = named(&of_others[i]);

		s.uid = 77 + i;
		assert_int_equal(gq__sticky_route(&t, &s, &eight, ones, 100, &out), GQ_STICKY_KEEP);
		assert_int_equal(out, 5);
	}
	assert_int_equal(go(&t, 99, 0, 101, &out), GQ_STICKY_KEEP);
	assert_int_equal(go(&t, 94, 0, 101, &out), GQ_STICKY_KEEP);
	assert_int_equal(go(&t, 93, 0, 101, &out), GQ_STICKY_NEW);
	gq__sticky_free(&t);
}

/* The table against a plain list of sessions. */
static void st_2_the_table_is_what_a_list_would_be(void **state)
{
	enum { ROOM = 16, KEYS = 40 };
	struct gq_sticky t;
	uint64_t used[KEYS] = { 0 };
	uint32_t home[KEYS];
	uint64_t random = SEED;
	uint64_t now = 1;

	(void)state;
	make(&t, ROOM, false);
	for (int i = 0; i < 50000; i++) {
		const uint32_t n = (uint32_t)gq_random_below(&random, KEYS);
		const uint32_t place = (uint32_t)gq_random_below(&random, 8);
		uint32_t live = 0;
		uint32_t oldest = KEYS;
		uint32_t out;

		now += gq_random_below(&random, 40 * S) + 1;
		for (uint32_t k = 0; k < KEYS; k++) {
			if (used[k] != 0 && now - used[k] >= 300 * S)
				used[k] = 0;
			live += used[k] != 0;
			if (used[k] != 0 && (oldest == KEYS || used[k] < used[oldest]))
				oldest = k;
		}
		assert_int_equal(go(&t, n, place, now, &out),
				 used[n] != 0 ? GQ_STICKY_KEEP : GQ_STICKY_NEW);
		if (used[n] == 0) {
			if (live == ROOM)
				used[oldest] = 0;
			home[n] = place;
		}
		assert_int_equal(out, home[n]);
		used[n] = now;
	}
	gq__sticky_free(&t);
}

static void st_3_only_the_sessions_of_a_dead_service_move(void **state)
{
	struct gq_sticky t;
	struct gq_places seven = eight;
	uint64_t generations[GQ_PLACES];
	uint32_t moved = 0;

	(void)state;
	memcpy(generations, ones, sizeof(generations));
	make(&t, 1000, false);
	for (uint32_t n = 0; n < 800; n++) {
		const struct gq_session s = named(&n);

		assert_int_equal(gq__sticky_bind(&t, &s, n % 8, 1, 0), GQ_STICKY_OK);
	}
	gq_places_remove(&seven, 3);
	generations[5] = 2; /* a successor: not the same service */
	for (uint32_t n = 0; n < 800; n++) {
		const struct gq_session s = named(&n);
		uint32_t out = 99;
		const enum gq_sticky_status status =
			gq__sticky_route(&t, &s, &seven, generations, 0, &out);

		moved += status == GQ_STICKY_BROKEN;
		assert_int_equal(status,
				 n % 8 == 3 || n % 8 == 5 ? GQ_STICKY_BROKEN : GQ_STICKY_KEEP);
	}
	assert_int_equal(moved, 200);
	assert_int_equal(t.broken, 200);
	gq__sticky_free(&t);
}

static void hash_names(uint64_t names[GQ_PLACES])
{
	const uint64_t key[2] = { 3, 4 };

	for (uint32_t i = 0; i < GQ_PLACES; i++)
		names[i] = gq__siphash(key, &i, sizeof(i));
}

static void st_3_maglev_moves_few_others(void **state)
{
	static struct gq_maglev before;
	static struct gq_maglev after;
	struct gq_places members = eight;
	uint64_t names[GQ_PLACES];
	uint32_t counts[8] = { 0 };
	uint32_t others = 0;

	(void)state;
	hash_names(names);
	gq__maglev_fill(&before, &members, names);
	gq_places_remove(&members, 3);
	gq__maglev_fill(&after, &members, names);
	for (uint64_t k = 0; k < GQ_MAGLEV_SIZE; k++) {
		const uint32_t was = gq__maglev_at(&before, k);
		const uint32_t is = gq__maglev_at(&after, k);

		assert_int_not_equal(is, 3);
		counts[was]++;
		others += was != 3 && is != was;
	}
	for (int i = 0; i < 8; i++)
		assert_in_range(counts[i], GQ_MAGLEV_SIZE / 8, GQ_MAGLEV_SIZE / 8 + 1);
	assert_true(others < GQ_MAGLEV_SIZE * 2 / 8);
	print_message("of the others' keys %.2f %% moved\n",
		      others * 100.0 / (double)GQ_MAGLEV_SIZE);
	gq__maglev_fill(&after, &(struct gq_places){ { 0 } }, names);
	assert_int_equal(gq__maglev_at(&after, 7), GQ_PLACES);
}

/* Whoever has come first: so it is the same after a restart, and elsewhere. */
static void st_3_maglev_s_table_depends_on_names_alone(void **state)
{
	static struct gq_maglev one;
	static struct gq_maglev other;
	uint64_t names[GQ_PLACES];
	uint64_t turned[GQ_PLACES];

	(void)state;
	hash_names(names);
	for (uint32_t i = 0; i < GQ_PLACES; i++)
		turned[i] = names[(i + 3) % 8];
	gq__maglev_fill(&one, &eight, names);
	gq__maglev_fill(&other, &eight, turned);
	for (uint64_t k = 0; k < GQ_MAGLEV_SIZE; k++)
		assert_int_equal(gq__maglev_at(&one, k), (gq__maglev_at(&other, k) + 3) % 8);
}

/* Who is left out is walked past: only its keys move, to all the others, and they come back. */
static void st_3_maglev_without_one_moves_its_keys_alone(void **state)
{
	static struct gq_maglev m;
	struct gq_places some = eight;
	uint64_t names[GQ_PLACES];
	uint32_t counts[8] = { 0 };

	(void)state;
	hash_names(names);
	gq__maglev_fill(&m, &eight, names);
	gq_places_remove(&some, 3);
	for (uint64_t k = 0; k < GQ_MAGLEV_SIZE; k++) {
		const uint32_t home = gq__maglev_at(&m, k);
		const uint32_t is = gq__maglev_among(&m, k, &some);

		assert_int_equal(gq__maglev_among(&m, k, &eight), home);
		if (home != 3)
			assert_int_equal(is, home);
		else
			counts[is]++;
	}
	assert_int_equal(counts[3], 0);
	for (int i = 0; i < 8; i++)
		if (i != 3) /* a seventh each would be 1170 */
			assert_in_range(counts[i], 1170 / 2, 1170 * 2);
	some = (struct gq_places){ { 1 << 5 } }; /* one is left */
	for (uint64_t k = 0; k < GQ_MAGLEV_SIZE; k++)
		assert_int_equal(gq__maglev_among(&m, k, &some), 5);
	some = (struct gq_places){ { 1 << 9 } }; /* not in the table */
	assert_int_equal(gq__maglev_among(&m, 7, &some), GQ_PLACES);
	assert_int_equal(gq__maglev_among(&m, 7, &(struct gq_places){ { 0 } }), GQ_PLACES);
	gq__maglev_fill(&m, &(struct gq_places){ { 0 } }, names);
	assert_int_equal(gq__maglev_among(&m, 7, &eight), GQ_PLACES);
}

static void st_4_a_draining_service_keeps_its_sessions_until_the_deadline(void **state)
{
	for (int strict = 0; strict < 2; strict++) {
		struct gq_sticky t;
		const uint32_t n = 7;
		const struct gq_session s = named(&n);
		struct gq_places may_keep = { { 1,
						0 } }; /* draining, so no new ones are sent there */
		uint32_t out = 99;

		(void)state;
		make(&t, 4, strict != 0);
		assert_int_equal(gq__sticky_bind(&t, &s, 0, 1, 0), GQ_STICKY_OK);
		assert_int_equal(gq__sticky_route(&t, &s, &may_keep, ones, S, &out),
				 GQ_STICKY_KEEP);
		assert_int_equal(out, 0);
		may_keep = (struct gq_places){ { 0 } }; /* its deadline has come */
		assert_int_equal(gq__sticky_route(&t, &s, &may_keep, ones, 2 * S, &out),
				 strict ? GQ_STICKY_REFUSE : GQ_STICKY_BROKEN);
		assert_int_equal(t.count, strict);
		assert_int_equal(out, 0);
		if (strict) { /* and another one is there now */
			assert_int_equal(gq__sticky_route(&t, &s, &(struct gq_places){ { 1 } },
							  twos, 2 * S, &out),
					 GQ_STICKY_REFUSE);
			assert_int_equal(out, GQ_PLACES);
		}
		gq__sticky_free(&t);
	}
}

static void the_hash_has_its_known_values(void **state)
{
	/* The reference's own: key 00..0f, messages of 0, 1, 8 and 15 bytes 00, 01, ... */
	const uint64_t key[2] = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) };
	uint8_t bytes[15];

	(void)state;
	for (uint8_t i = 0; i < 15; i++)
		bytes[i] = i;
	assert_true(gq__siphash(key, bytes, 0) == UINT64_C(0x726fdb47dd0e0e31));
	assert_true(gq__siphash(key, bytes, 1) == UINT64_C(0x74f839c593dc67fd));
	assert_true(gq__siphash(key, bytes, 8) == UINT64_C(0x93f5f5799a932462));
	assert_true(gq__siphash(key, bytes, 15) == UINT64_C(0xa129ca6149be45e5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(st_1_each_session_stays_on_one_service),
		cmocka_unit_test(st_1_sessions_of_others_are_others),
		cmocka_unit_test(who_has_half_of_all_sessions_makes_room_for_its_own),
		cmocka_unit_test(st_2_time_and_room_end_sessions),
		cmocka_unit_test(st_2_the_table_is_what_a_list_would_be),
		cmocka_unit_test(st_3_only_the_sessions_of_a_dead_service_move),
		cmocka_unit_test(st_3_maglev_moves_few_others),
		cmocka_unit_test(st_3_maglev_s_table_depends_on_names_alone),
		cmocka_unit_test(st_3_maglev_without_one_moves_its_keys_alone),
		cmocka_unit_test(st_4_a_draining_service_keeps_its_sessions_until_the_deadline),
		cmocka_unit_test(the_hash_has_its_known_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
