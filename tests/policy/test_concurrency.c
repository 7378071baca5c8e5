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
		while (gq__concurrency_try(&s->c, GQ_CLASS_HIGH))
			s->began[s->tail++ % LINE] = s->now;
		/* The service ends one every run / knee, if it is full; with fewer they take as
		 * long as one. */
		const uint32_t there = s->tail - s->head;
		const uint64_t began = s->began[s->head % LINE];

		s->now += run / (there < s->knee ? there : s->knee);
		if (s->now < began + run)
			s->now = began + run;
		s->head++;
		gq__concurrency_end(&s->c, GQ_CLASS_HIGH, s->now - began, false, s->now,
				    &s->random);
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

static void aimd_and_gradient_fall_and_rise(void **state)
{
	static const enum gq_concurrency_kind kinds[] = { GQ_CONCURRENCY_AIMD,
							  GQ_CONCURRENCY_GRADIENT2 };

	(void)state;
	for (int k = 0; k < 2; k++) {
		const struct gq_concurrency_config config = { .kind = kinds[k], .first = 100 };
		struct gq_concurrency c;
		uint64_t random = SEED;
		uint64_t now = 0;
		uint32_t before;

		assert_true(gq__concurrency_init(&c, &config, 0));
		for (int phase = 0; phase < 3; phase++) {
			const uint64_t took = phase == 1 ? 20 * S : 10 * MS;

			before = gq__concurrency_limit(&c);
			for (int window = 0; window < 20; window++) {
				uint32_t n = 0;

				while (gq__concurrency_try(&c, GQ_CLASS_NORMAL))
					n++;
				now += S + 1;
				for (; n > 0; n--)
					gq__concurrency_end(&c, GQ_CLASS_NORMAL, took, false, now,
							    &random);
			}
			if (phase == 1)
				assert_true(gq__concurrency_limit(&c) < before);
			else
				assert_true(gq__concurrency_limit(&c) > before);
		}
	}
}

static void idle_shares_are_lent_and_come_back(void **state)
{
	const struct gq_concurrency_config config = { .kind = GQ_CONCURRENCY_FIXED, .first = 100 };
	struct gq_concurrency c;
	uint32_t high = 0;
	uint32_t low = 0;

	(void)state;
	assert_true(gq__concurrency_init(&c, &config, 0));
	while (gq__concurrency_try(&c, GQ_CLASS_LOW))
		low++;
	assert_int_equal(low, 100); /* nobody else was there */
	while (gq__concurrency_try(&c, GQ_CLASS_HIGH))
		high++;
	assert_int_equal(high, 60); /* its own, at once */
	assert_false(gq__concurrency_try(&c, GQ_CLASS_CRITICAL));
	assert_true(gq__concurrency_try(&c, GQ_CLASS_NORMAL));
	for (uint64_t i = 0; i < 61; i++)
		gq__concurrency_end(&c, GQ_CLASS_LOW, 0, false, i, &(uint64_t){ 1 });
	assert_false(gq__concurrency_try(&c, GQ_CLASS_LOW));
	gq__concurrency_end(&c, GQ_CLASS_LOW, 0, false, 99, &(uint64_t){ 1 });
	assert_true(gq__concurrency_try(&c, GQ_CLASS_LOW));
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
	for (uint64_t i = 0; i < 1000; i++) {
		assert_true(gq__concurrency_try(&c, GQ_CLASS_LOW));
		gq__concurrency_end(&c, GQ_CLASS_LOW, i % 200 == 0 ? MS : 99 * US, true, i * S,
				    &random);
	}
	assert_int_equal(gq__concurrency_limit(&c), 20);
	assert_int_equal(c.samples, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rl_5_vegas_settles_near_the_knee_and_recovers),
		cmocka_unit_test(aimd_and_gradient_fall_and_rise),
		cmocka_unit_test(idle_shares_are_lent_and_come_back),
		cmocka_unit_test(short_times_and_few_samples_say_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
