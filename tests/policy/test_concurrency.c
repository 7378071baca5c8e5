/* SPDX-License-Identifier: Apache-2.0 */
/* test_concurrency.c - limits find where waiting begins. */
#include "policy_test.h"

#include "broker/policy/concurrency.h"

/*
 * A service that runs `knee` requests at once, each for `run` ns, and has as many on their way as
 * the limit lets: those beyond the knee wait in line.
 */
enum { LINE = 1 << 16 };

struct service {
	struct gq_concurrency c;
	uint64_t began[LINE]; /* of those on their way, first come first */
	uint32_t head;
	uint32_t tail;
	uint64_t now;
	uint64_t random;
	uint32_t knee;
};

/* For so many windows of a second, each request takes `run`; arrivals never end. Returns the mean
 * limit of the last ten. */
static double run_for(struct service *s, uint32_t windows, uint64_t run)
{
	const uint64_t until = s->now + windows * S;
	double sum = 0;
	uint32_t count = 0;

	while (s->now < until) {
		while (s->tail - s->head < gq__concurrency_limit(&s->c))
			s->began[s->tail++ % LINE] = s->now;
		/* The service ends one every run / knee, if it is full; with fewer they take as
		 * long as one. */
		const uint32_t there = s->tail - s->head;
		const uint64_t began = s->began[s->head % LINE];

		if (there == 0)
			return 0; /* never: a limit is 1 at least */
		s->now += run / (there < s->knee ? there : s->knee);
		if (s->now < began + run)
			s->now = began + run;
		s->head++;
		(void)gq__concurrency_answered(&s->c, there, s->now - began, s->now, &s->random);
		if (until - s->now <= 10 * S) {
			sum += gq__concurrency_limit(&s->c);
			count++;
		}
	}
	return sum / count;
}

static void rl_5_vegas_settles_near_the_knee_and_recovers(void **state)
{
	const struct gq_concurrency_config config = { .kind = GQ_CONCURRENCY_VEGAS };
	struct service *s = calloc(1, sizeof(*s));
	double limit;

	(void)state;
	assert_non_null(s);
	assert_true(gq__concurrency_init(&s->c, &config, 0));
	s->random = SEED;
	s->knee = 100;
	limit = run_for(s, 30, 50 * MS);
	print_message("knee 100: %.1f after 30 windows\n", limit);
	assert_true(limit >= 80 && limit <= 120);
	limit = run_for(s, 1500, 200 * MS); /* four times as slow */
	print_message("knee 100, slower: %.1f after 1500 windows\n", limit);
	assert_true(limit >= 80 && limit <= 150); /* what it probes with has waited a little */
	free(s);
}

/* Ends so many requests at a time; @return whether the last end may have changed the limit. */
static bool answer(struct gq_concurrency *c, uint32_t n, uint64_t took, uint64_t now)
{
	uint64_t random = SEED;
	bool changed = false;

	for (; n > 0; n--)
		changed = gq__concurrency_answered(c, n, took, now, &random);
	return changed;
}

static bool lose(struct gq_concurrency *c, uint32_t n, uint64_t now)
{
	uint64_t random = SEED;
	bool changed = false;

	for (; n > 0; n--)
		changed = gq__concurrency_lost(c, n, now, &random) || changed;
	return changed;
}

static void aimd_and_gradient_fall_and_rise(void **state)
{
	static const enum gq_concurrency_kind kinds[] = { GQ_CONCURRENCY_AIMD,
							  GQ_CONCURRENCY_GRADIENT2 };

	(void)state;
	for (int k = 0; k < 2; k++) {
		const struct gq_concurrency_config config = { .kind = kinds[k], .first = 100 };
		struct gq_concurrency c;
		uint64_t now = 0;
		uint32_t before;

		assert_true(gq__concurrency_init(&c, &config, 0));
		for (int phase = 0; phase < 3; phase++) {
			const uint64_t took = phase == 1 ? 20 * S : 10 * MS;

			before = gq__concurrency_limit(&c);
			for (int window = 0; window < 20; window++) {
				now += S + 1;
				(void)answer(&c, gq__concurrency_limit(&c), took, now);
			}
			if (phase == 1)
				assert_true(gq__concurrency_limit(&c) < before);
			else
				assert_true(gq__concurrency_limit(&c) > before);
		}
	}
}

static void short_times_and_few_samples_say_nothing(void **state)
{
	const struct gq_concurrency_config config = { 0 };
	const struct gq_concurrency_config wrong = { .first = 5, .least = 6 };
	struct gq_concurrency c;
	uint64_t random = SEED;

	(void)state;
	assert_false(gq__concurrency_init(&c, &wrong, 0));
	assert_true(gq__concurrency_init(&c, &config, 0));
	for (uint64_t i = 0; i < 1000; i++)
		assert_false(gq__concurrency_answered(&c, 20, i % 200 == 0 ? MS : 99 * US, i * S,
						      &random));
	assert_int_equal(gq__concurrency_limit(&c), 20);
	assert_int_equal(c.samples, 5);
}

/* With one at a time ten answers may take minutes. */
static void a_window_has_ten_ends_or_as_many_as_the_limit(void **state)
{
	static const struct {
		uint32_t first, ends;
	} cases[] = { { 1, 1 }, { 4, 4 }, { 10, 10 }, { 50, 10 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct gq_concurrency_config config = { .first = cases[i].first };
		struct gq_concurrency c;

		assert_true(gq__concurrency_init(&c, &config, 0));
		assert_false(answer(&c, cases[i].ends, MS, S - 1)); /* a second is not over */
		assert_true(answer(&c, 1, MS, S));
		if (cases[i].ends > 1)
			assert_false(answer(&c, cases[i].ends - 1, MS, 9 * S));
		assert_true(answer(&c, 1, MS, 9 * S));
	}
}

/* A service that answers nothing any more has no times. */
static void losses_alone_make_a_limit_fall(void **state)
{
	static const enum gq_concurrency_kind kinds[] = { GQ_CONCURRENCY_VEGAS,
							  GQ_CONCURRENCY_AIMD };
	struct gq_concurrency c;

	(void)state;
	for (int k = 0; k < 2; k++) {
		const struct gq_concurrency_config config = { .kind = kinds[k],
							      .first = 100,
							      .least = 2 };

		assert_true(gq__concurrency_init(&c, &config, 0));
		for (uint64_t window = 1; window <= 200; window++) {
			const uint32_t before = gq__concurrency_limit(&c);

			assert_true(lose(&c, 10, window * 2 * S));
			assert_true(gq__concurrency_limit(&c) <= before);
		}
		assert_int_equal(gq__concurrency_limit(&c), 2);
	}
}

/* Else what Vegas takes for a time without waiting would have waited, a little more each time. */
static void vegas_measures_the_fastest_anew_with_half_of_the_limit(void **state)
{
	const struct gq_concurrency_config config = { .first = 20 };
	struct gq_concurrency c;
	uint64_t now = 0;

	(void)state;
	assert_true(gq__concurrency_init(&c, &config, 0));
	(void)answer(&c, 20, 10 * MS, now += S);
	for (int window = 0; window < 1000 && c.probed_from <= 0; window++) /* 4 are queued */
		(void)answer(&c, 20, 12500 * US, now += S);
	assert_true(c.probed_from > 0);
	assert_int_equal(gq__concurrency_limit(&c), (uint32_t)(c.probed_from / 2));
	assert_true(c.fastest_ns < 11e6);
	/* They went before: with the whole limit. */
	assert_false(answer(&c, 20, 3 * S, now + 2 * S));
	assert_true(answer(&c, 10, 40 * MS, now + 2 * S));
	assert_true(c.fastest_ns > 39e6 && c.fastest_ns < 41e6);
	assert_true(gq__concurrency_limit(&c) >= 20);
}

/* However long more is asked for than it can do. */
static void rl_5_vegas_does_not_creep_up_to_what_is_asked_for(void **state)
{
	static const uint32_t knees[] = { 1, 4, 16 };

	(void)state;
	for (size_t i = 0; i < sizeof(knees) / sizeof(knees[0]); i++) {
		const struct gq_concurrency_config config = { .first = 1, .most = 256 };
		struct service *s = calloc(1, sizeof(*s));
		double limit, most = 0;

		assert_non_null(s);
		assert_true(gq__concurrency_init(&s->c, &config, 0));
		s->random = SEED;
		s->knee = knees[i];
		for (int hour = 0; hour < 10; hour++) {
			limit = run_for(s, 3600, 50 * MS);
			most = limit > most ? limit : most;
		}
		print_message("knee %u: at most %.1f, each hour of ten\n", knees[i], most);
		assert_true(most <= knees[i] + 16.0);
		free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rl_5_vegas_settles_near_the_knee_and_recovers),
		cmocka_unit_test(aimd_and_gradient_fall_and_rise),
		cmocka_unit_test(rl_5_vegas_does_not_creep_up_to_what_is_asked_for),
		cmocka_unit_test(vegas_measures_the_fastest_anew_with_half_of_the_limit),
		cmocka_unit_test(losses_alone_make_a_limit_fall),
		cmocka_unit_test(a_window_has_ten_ends_or_as_many_as_the_limit),
		cmocka_unit_test(short_times_and_few_samples_say_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
