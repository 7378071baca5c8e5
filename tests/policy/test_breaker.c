/* SPDX-License-Identifier: Apache-2.0 */
/* test_breaker.c - when a breaker opens, and that it always gets out of it. */
#include "policy_test.h"

#include "broker/policy/breaker.h"

#include <pthread.h>

static uint64_t random_state = SEED;

static void make(struct gq_breaker *b)
{
	const struct gq_breaker_config config = { 0 };

	assert_true(gq__breaker_init(b, &config, 0));
}

static struct gq_permit get(struct gq_breaker *b, uint64_t now)
{
	struct gq_permit permit;

	assert_true(gq__breaker_try(b, now, &random_state, &permit, NULL));
	return permit;
}

static bool may(struct gq_breaker *b, uint64_t now)
{
	struct gq_permit permit;

	return gq__breaker_try(b, now, &random_state, &permit, NULL);
}

static void give(struct gq_breaker *b, const struct gq_permit *permit,
		 enum gq_breaker_outcome outcome, uint64_t now)
{
	gq__breaker_done(b, permit, outcome, MS, true, now, &random_state);
}

static void call(struct gq_breaker *b, enum gq_breaker_outcome outcome, uint64_t now)
{
	const struct gq_permit permit = get(b, now);

	give(b, &permit, outcome, now);
}

/* In this state, with the next fault the last that it bears; at time 0. */
static void put(struct gq_breaker *b, enum gq_breaker_state state)
{
	make(b);
	if (state == GQ_BREAKER_CLOSED || state == GQ_BREAKER_METRICS) {
		gq__breaker_force(b, state, 0, &random_state);
		for (int i = 0; i < 4; i++)
			call(b, GQ_OUTCOME_FAULT, 0);
	} else if (state == GQ_BREAKER_HALF_OPEN) {
		gq__breaker_force(b, GQ_BREAKER_OPEN, 0, &random_state);
		b->until_ns = 0;
		call(b, GQ_OUTCOME_FAULT, 0);
		for (int i = 0; i < 3; i++)
			call(b, GQ_OUTCOME_OK, 0);
	} else {
		gq__breaker_force(b, state, 0, &random_state);
	}
	assert_int_equal(b->state, state);
}

enum event {
	OK,
	FAULT,
	NOTHING,
	SECOND_LATER,
	LONG_AFTER,
	TO_CLOSED,
	TO_OPEN,
	TO_FORCED,
	TO_DISABLED,
	TO_METRICS,
	TO_HALF,
	EVENTS
};

static void cb_1_every_event_in_every_state(void **state)
{
	enum { C, O, H, F, D, M };
	static const uint8_t becomes[GQ_BREAKER_STATES][EVENTS] = {
		/*      ok fault none 1s later closed open forced disabled metrics half */
		[C] = { C, O, C, C, C, C, O, F, D, M, C },
		[O] = { O, O, O, O, H, C, O, F, D, M, O },
		[H] = { C, O, H, H, O, C, O, F, D, M, H },
		[F] = { F, F, F, F, F, C, O, F, D, M, F },
		[D] = { D, D, D, D, D, C, O, F, D, M, D },
		[M] = { M, M, M, M, M, C, O, F, D, M, M },
	};
	static const enum gq_breaker_state order[EVENTS] = {
		[TO_CLOSED] = GQ_BREAKER_CLOSED,   [TO_OPEN] = GQ_BREAKER_OPEN,
		[TO_FORCED] = GQ_BREAKER_FORCED,   [TO_DISABLED] = GQ_BREAKER_DISABLED,
		[TO_METRICS] = GQ_BREAKER_METRICS, [TO_HALF] = GQ_BREAKER_HALF_OPEN,
	};

	(void)state;
	for (int from = 0; from < GQ_BREAKER_STATES; from++) {
		for (int event = 0; event < EVENTS; event++) {
			struct gq_breaker b;
			struct gq_permit permit;

			put(&b, (enum gq_breaker_state)from);
			if (event <= NOTHING) {
				const bool refuses = from == O || from == F;

				assert_int_equal(
					gq__breaker_try(&b, 0, &random_state, &permit, NULL),
					!refuses);
				if (!refuses)
					give(&b, &permit, (enum gq_breaker_outcome)event, 0);
			} else if (event == SECOND_LATER || event == LONG_AFTER) {
				gq__breaker_tick(&b, event == LONG_AFTER ? 33 * S : S,
						 &random_state);
			} else {
				gq__breaker_force(&b, order[event], 0, &random_state);
			}
			if (b.state != (enum gq_breaker_state)becomes[from][event])
				fail_msg("%s, event %d: %s",
					 gq__breaker_state_text((enum gq_breaker_state)from), event,
					 gq__breaker_state_text(b.state));
		}
	}
}

static void cb_1_half_of_twenty_calls_within_ten_seconds_open(void **state)
{
	struct gq_breaker b;

	(void)state;
	make(&b);
	for (uint64_t i = 0; i < 19; i++)
		call(&b, i % 2 ? GQ_OUTCOME_OK : GQ_OUTCOME_FAULT, i * 500 * MS);
	assert_int_equal(b.state, GQ_BREAKER_CLOSED); /* 10 of 19, but only 19 */
	call(&b, GQ_OUTCOME_OK, 9900 * MS);
	assert_int_equal(b.state, GQ_BREAKER_OPEN);
	/* The same, slower: ten buckets never have twenty calls. */
	make(&b);
	for (uint64_t i = 0; i < 200; i++)
		call(&b, i % 2 ? GQ_OUTCOME_OK : GQ_OUTCOME_FAULT, i * 600 * MS);
	assert_int_equal(b.state, GQ_BREAKER_CLOSED);
}

static void cb_1_slow_calls_open_if_so_configured(void **state)
{
	const struct gq_breaker_config config = { .slow_percent = 50, .slow_ns = 10 * MS };
	struct gq_breaker b;

	(void)state;
	assert_true(gq__breaker_init(&b, &config, 0));
	for (int i = 0; i < 20; i++) {
		const struct gq_permit permit = get(&b, 0);

		assert_int_equal(b.state, GQ_BREAKER_CLOSED);
		gq__breaker_done(&b, &permit, GQ_OUTCOME_OK, i % 2 ? 11 * MS : 10 * MS, true, 0,
				 &random_state);
	}
	assert_int_equal(b.state, GQ_BREAKER_OPEN);
}

static void cb_1_it_stays_open_longer_each_time_up_to_five_minutes(void **state)
{
	struct gq_breaker b;
	uint64_t now = 0;

	(void)state;
	make(&b);
	for (uint64_t n = 1; n <= 15; n++) {
		const uint64_t wait = (n < 10 ? n : 10) * 30 * S;

		if (n == 1) {
			for (int i = 0; i < 5; i++)
				call(&b, GQ_OUTCOME_FAULT, now);
		} else {
			call(&b, GQ_OUTCOME_FAULT, now);
			call(&b, GQ_OUTCOME_FAULT, now);
		}
		assert_int_equal(b.state, GQ_BREAKER_OPEN);
		assert_in_range(b.until_ns - now, wait / 10 * 9, wait / 10 * 11);
		now = b.until_ns;
		assert_false(may(&b, now - 1));
	}
	for (int i = 0; i < 5; i++)
		call(&b, GQ_OUTCOME_OK, now);
	assert_int_equal(b.state, GQ_BREAKER_CLOSED);
	assert_int_equal(b.trips, 15);
	gq__breaker_tick(&b, now + 35 * S, &random_state);
	assert_int_equal(b.trips, 12); /* one forgiven every ten seconds */
	gq__breaker_tick(&b, now + 1000 * S, &random_state);
	assert_int_equal(b.trips, 0);
}

static void the_classic_profile_is_a_minute_always(void **state)
{
	const struct gq_breaker_config config = { .fixed = true, .open_ns = 60 * S };
	const struct gq_breaker_config wrong = { .rate_percent = 101 };
	struct gq_breaker b;
	uint64_t now = 0;

	(void)state;
	assert_false(gq__breaker_init(&b, &wrong, 0));
	assert_true(gq__breaker_init(&b, &config, 0));
	for (int n = 0; n < 5; n++) {
		do
			call(&b, GQ_OUTCOME_FAULT, now);
		while (b.state != GQ_BREAKER_OPEN);
		assert_int_equal(b.until_ns, now + 60 * S);
		now += 60 * S;
	}
}

/* Eight threads, one breaker under a lock, every way for a request to end. */
struct crowd {
	pthread_mutex_t lock;
	struct gq_breaker b;
	uint64_t now;
	uint64_t most; /* trials of one episode, as far as they have said something or are out */
	uint32_t threads;
	bool wrong;
};

enum { ROUNDS = 125000 };

static void *be_one_of_many(void *arg)
{
	struct crowd *crowd = arg;
	struct gq_permit held[4];
	uint32_t count = 0;
	uint64_t random;

	pthread_mutex_lock(&crowd->lock);
	random = ++crowd->threads;
	pthread_mutex_unlock(&crowd->lock);

	for (int i = 0; i < ROUNDS; i++) {
		const uint64_t dice = gq_random(&random);

		pthread_mutex_lock(&crowd->lock);
		crowd->now += dice % 64 == 0 ? S : MS;
		if (count < 4 &&
		    gq__breaker_try(&crowd->b, crowd->now, &random, &held[count], NULL))
			count++;
		if (count == 4 || (count > 0 && dice >> 20 & 1)) {
			const struct gq_permit *permit = &held[--count];
			const unsigned int how = dice >> 24 & 7;

			if (how != 7) /* 7: it is lost */
				gq__breaker_done(&crowd->b, permit,
						 how < 3    ? GQ_OUTCOME_FAULT
						 : how == 3 ? GQ_OUTCOME_NOTHING
							    : GQ_OUTCOME_OK,
						 MS, true, crowd->now, &random);
			if (how == 6) /* and once more */
				gq__breaker_done(&crowd->b, permit, GQ_OUTCOME_OK, MS, true,
						 crowd->now, &random);
		}
		crowd->wrong |=
			crowd->b.issued > 5 || crowd->b.permits_given - crowd->b.permits_back > 2;
		crowd->most = crowd->b.issued > crowd->most ? crowd->b.issued : crowd->most;
		pthread_mutex_unlock(&crowd->lock);
	}
	return NULL;
}

static void cb_2_permits_are_conserved(void **state)
{
	struct crowd crowd = { .now = 0 };
	pthread_t threads[8];

	(void)state;
	make(&crowd.b);
	pthread_mutex_init(&crowd.lock, NULL);
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, be_one_of_many, &crowd), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&crowd.lock);
	assert_false(crowd.wrong);
	assert_true(crowd.b.permits_given > ROUNDS / 2500);
	assert_true(crowd.b.transitions > ROUNDS / 2500);
	gq__breaker_tick(&crowd.b, crowd.now + 60 * S, &random_state);
	gq__breaker_tick(&crowd.b, crowd.now + 1000 * S, &random_state);
	gq__breaker_tick(&crowd.b, crowd.now + 2000 * S, &random_state);
	assert_int_equal(crowd.b.permits_given, crowd.b.permits_back);
}

static void cb_3_half_open_lets_five_through_and_two_at_once(void **state)
{
	struct gq_breaker b;
	struct gq_permit permits[2];
	uint64_t retry = 0;
	uint32_t passed = 0;

	(void)state;
	make(&b);
	gq__breaker_force(&b, GQ_BREAKER_OPEN, 0, &random_state);
	permits[0] = get(&b, 33 * S);
	permits[1] = get(&b, 33 * S);
	for (int i = 0; i < 100; i++)
		assert_false(gq__breaker_try(&b, 34 * S, &random_state, &permits[0], &retry));
	assert_int_equal(retry, 29 * S);
	make(&b);
	gq__breaker_force(&b, GQ_BREAKER_OPEN, 0, &random_state);
	/* A fault among them, so that the verdict waits for all five. */
	for (int i = 0; i < 50 && b.state != GQ_BREAKER_CLOSED; i++) {
		permits[0] = get(&b, 33 * S);
		passed++;
		give(&b, &permits[0], i == 0 ? GQ_OUTCOME_FAULT : GQ_OUTCOME_OK, 33 * S);
	}
	assert_int_equal(passed, 5);
	assert_int_equal(b.state, GQ_BREAKER_CLOSED);
}

static void cb_4_a_permit_that_never_comes_back_does_not_wedge_it(void **state)
{
	struct gq_breaker b;
	struct gq_permit lost;

	(void)state;
	make(&b);
	gq__breaker_force(&b, GQ_BREAKER_OPEN, 0, &random_state);
	lost = get(&b, 33 * S);
	(void)get(&b, 34 * S);
	assert_false(may(&b, 63 * S - 1));
	assert_int_equal(b.state, GQ_BREAKER_HALF_OPEN);
	assert_false(may(&b, 63 * S)); /* no verdict: open again */
	assert_int_equal(b.state, GQ_BREAKER_OPEN);
	assert_int_equal(b.permits_given, b.permits_back);
	/* What comes in late belongs to no episode. */
	gq__breaker_tick(&b, 200 * S, &random_state);
	assert_int_equal(b.state, GQ_BREAKER_HALF_OPEN);
	(void)get(&b, 200 * S);
	give(&b, &lost, GQ_OUTCOME_FAULT, 200 * S);
	give(&b, &lost, GQ_OUTCOME_FAULT, 200 * S);
	assert_int_equal(b.state, GQ_BREAKER_HALF_OPEN);
	assert_int_equal(b.bad, 0);
}

static void cb_4_a_trial_that_is_cancelled_frees_its_place(void **state)
{
	struct gq_breaker b;

	(void)state;
	make(&b);
	gq__breaker_force(&b, GQ_BREAKER_OPEN, 0, &random_state);
	for (int i = 0; i < 20; i++)
		call(&b, GQ_OUTCOME_NOTHING, 33 * S);
	assert_int_equal(b.state, GQ_BREAKER_HALF_OPEN);
	for (int i = 0; i < 5; i++)
		call(&b, GQ_OUTCOME_OK, 33 * S);
	assert_int_equal(b.state, GQ_BREAKER_CLOSED);
}

static void cb_5_what_says_nothing_moves_nothing(void **state)
{
	struct gq_breaker b;

	(void)state;
	make(&b);
	for (int i = 0; i < 4; i++)
		call(&b, GQ_OUTCOME_FAULT, 0);
	for (uint64_t i = 0; i < 1000; i++)
		call(&b, GQ_OUTCOME_NOTHING, i * MS);
	assert_int_equal(b.state, GQ_BREAKER_CLOSED);
	call(&b, GQ_OUTCOME_FAULT, S); /* the fifth in a row: they did not break the row either */
	assert_int_equal(b.state, GQ_BREAKER_OPEN);
	/* Results of requests that began before it opened do not prolong it. */
	make(&b);
	{
		const struct gq_permit early = get(&b, 0);
		uint64_t until;

		for (int i = 0; i < 5; i++)
			call(&b, GQ_OUTCOME_FAULT, 0);
		until = b.until_ns;
		give(&b, &early, GQ_OUTCOME_FAULT, S);
		assert_int_equal(b.until_ns, until);
		assert_int_equal(b.trips, 1);
	}
}

static void of_a_group_at_most_half_are_open(void **state)
{
	struct gq_breaker b;

	(void)state;
	assert_true(gq_breaker_group_may_open(1, 0));
	assert_true(gq_breaker_group_may_open(2, 0));
	assert_false(gq_breaker_group_may_open(2, 1));
	assert_false(gq_breaker_group_may_open(3, 1));
	assert_true(gq_breaker_group_may_open(4, 1));
	assert_false(gq_breaker_group_may_open(4, 2));
	make(&b);
	for (int i = 0; i < 10; i++) {
		const struct gq_permit permit = get(&b, 0);

		gq__breaker_done(&b, &permit, GQ_OUTCOME_FAULT, MS, false, 0, &random_state);
	}
	assert_int_equal(b.state, GQ_BREAKER_CLOSED);
	call(&b, GQ_OUTCOME_FAULT, 0);
	assert_int_equal(b.state, GQ_BREAKER_OPEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cb_1_every_event_in_every_state),
		cmocka_unit_test(cb_1_half_of_twenty_calls_within_ten_seconds_open),
		cmocka_unit_test(cb_1_slow_calls_open_if_so_configured),
		cmocka_unit_test(cb_1_it_stays_open_longer_each_time_up_to_five_minutes),
		cmocka_unit_test(the_classic_profile_is_a_minute_always),
		cmocka_unit_test(cb_2_permits_are_conserved),
		cmocka_unit_test(cb_3_half_open_lets_five_through_and_two_at_once),
		cmocka_unit_test(cb_4_a_permit_that_never_comes_back_does_not_wedge_it),
		cmocka_unit_test(cb_4_a_trial_that_is_cancelled_frees_its_place),
		cmocka_unit_test(cb_5_what_says_nothing_moves_nothing),
		cmocka_unit_test(of_a_group_at_most_half_are_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
