/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_sessions.c - sessions whose service is computed and not remembered. gpuqd is a
 * process of its own; caller and workers are connections of this one thread.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { WORKERS = 8, SESSIONS = 128, SETTLE_MS = 1000 };

static struct daemon d;
static BrokerClient *c, *w[WORKERS];

static void configure(const char *sessions, bool begins)
{
	char keys[200];

	snprintf(keys, sizeof(keys), "heartbeat_ms = 60000\n[op sit]\nsessions = %s\n", sessions);
	(begins ? daemon_set_up : daemon_reload)(&d, "", keys);
}

static void connect_one(unsigned i, uint32_t capacity)
{
	char name[8];
	const BrokerService s = { .name = name, .capability = "op=sit", .capacity = capacity };

	snprintf(name, sizeof(name), "w%u", i);
	w[i] = connect_worker(d.broker, &s);
	assert_status(q_service_heartbeat(w[i], NULL), Q_OK);
}

/* All of them, beginning with `first`. */
static void connect_all(unsigned first)
{
	c = connect_to_services(d.broker);
	for (unsigned i = 0; i < WORKERS; i++)
		connect_one((first + i) % WORKERS, 4);
	services_await_ready(d.broker, WORKERS);
}

static void close_all(void)
{
	q_broker_close(c);
	for (unsigned i = 0; i < WORKERS; i++)
		q_broker_close(w[i]);
}

static void end(void)
{
	close_all();
	services_await_count(d.broker, "services", 0);
	services_await_count(d.broker, "inside", 0);
	daemon_tear_down(&d);
}

static uint64_t submit(unsigned session)
{
	const BrokerCall call = { .service = "sit",
				  .session = &session,
				  .session_bytes = sizeof(session),
				  .timeout_ms = LONG_MS };
	uint64_t id = 0;

	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	return id;
}

/* Who gets a request that has been sent. */
static unsigned taker(BrokerRequest *q)
{
	for (unsigned i = 0;; i++) {
		const unsigned at = i % WORKERS;

		if (w[at] != NULL && q_service_recv(w[at], q, 0) == Q_OK)
			return at;
		assert_true(i < WORKERS * LONG_MS);
		if (at == 0)
			nap_ms(i > WORKERS ? 1 : 0);
	}
}

static void answer(unsigned at, BrokerRequest *q)
{
	assert_status(q_service_reply(w[at], q, Q_REASON_OK, NULL, 0), Q_OK);
}

/* Where a request of a session goes. */
static unsigned home_of(unsigned session)
{
	const uint64_t id = submit(session);
	BrokerRequest q;
	const unsigned home = taker(&q);

	answer(home, &q);
	(void)await_end(c, id, Q_OK, NULL);
	return home;
}

static void find_homes(uint8_t homes[SESSIONS])
{
	for (unsigned i = 0; i < SESSIONS; i++)
		homes[i] = (uint8_t)home_of(i);
}

/* Whose sessions have another home; `but`: those of this worker do not count, WORKERS: all do. */
static unsigned moved(const uint8_t was[SESSIONS], const uint8_t is[SESSIONS], unsigned but)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SESSIONS; i++)
		n += was[i] != but && was[i] != is[i];
	return n;
}

static void await_homes(const uint8_t homes[SESSIONS])
{
	uint8_t is[SESSIONS];

	for (unsigned i = 0;; i++) {
		find_homes(is);
		if (moved(homes, is, WORKERS) == 0)
			return;
		assert_true(i < LONG_MS / 10);
		nap_ms(10);
	}
}

static void order(uint32_t kind, const char *name, uint32_t sessions_ms)
{
	const BrokerOrder o = { .kind = kind, .name = name, .timeout_ms = sessions_ms };

	if (q_broker_order(c, &o) != Q_OK)
		fail_msg("%s", q_last_error());
}

static void st_1_a_session_has_one_worker_and_each_worker_has_sessions(void **state)
{
	uint8_t homes[SESSIONS], again[SESSIONS];
	unsigned of[WORKERS] = { 0 };

	(void)state;
	configure("maglev", true);
	connect_all(0);
	find_homes(homes);
	for (unsigned i = 0; i < SESSIONS; i++)
		of[homes[i]]++;
	for (unsigned i = 0; i < WORKERS; i++)
		assert_true(of[i] > 0);
	for (unsigned i = 0; i < 3; i++) {
		find_homes(again);
		assert_int_equal(moved(homes, again, WORKERS), 0);
	}
	end();
}

static void st_3_of_one_killed_of_eight_only_its_own_sessions_move(void **state)
{
	uint8_t homes[SESSIONS], is[SESSIONS];

	(void)state;
	configure("maglev", true);
	connect_all(0);
	find_homes(homes);
	q_broker_close(w[3]);
	w[3] = NULL;
	services_await_count(d.broker, "services", WORKERS - 1);
	find_homes(is);
	for (unsigned i = 0; i < SESSIONS; i++)
		assert_int_not_equal(is[i], 3);
	nap_ms(SETTLE_MS + 100); /* it is not only walked past any more */
	find_homes(is);
	for (unsigned i = 0; i < SESSIONS; i++)
		assert_int_not_equal(is[i], 3);
	assert_true(moved(homes, is, 3) * WORKERS < SESSIONS * 2);
	connect_one(3, 4);
	await_homes(homes);
	end();
}

/* Nothing is filled anew for it. */
static void st_3_a_worker_that_flaps_moves_its_own_sessions_and_gets_them_back(void **state)
{
	uint8_t homes[SESSIONS], is[SESSIONS], first[SESSIONS];

	(void)state;
	configure("maglev", true);
	connect_all(0);
	find_homes(homes);
	for (unsigned i = 0; i < 5; i++) {
		order(Q_ORDER_DRAIN, "w5", 0);
		find_homes(is);
		assert_int_equal(moved(homes, is, 5), 0);
		for (unsigned k = 0; k < SESSIONS; k++)
			assert_int_not_equal(is[k], 5);
		if (i == 0)
			memcpy(first, is, sizeof(first));
		assert_int_equal(moved(first, is, WORKERS), 0); /* to the same ones each time */
		order(Q_ORDER_RESUME, "w5", 0);
		find_homes(is);
		assert_int_equal(moved(homes, is, WORKERS), 0);
	}
	end();
}

static void st_4_a_worker_that_drains_keeps_all_that_are_its_own_as_long_as_is_said(void **state)
{
	uint8_t homes[SESSIONS], is[SESSIONS];

	(void)state;
	configure("maglev", true);
	connect_all(0);
	find_homes(homes);
	order(Q_ORDER_DRAIN, "w2", LONG_MS);
	find_homes(is);
	assert_int_equal(moved(homes, is, WORKERS), 0);
	order(Q_ORDER_DRAIN, "w2", 0);
	find_homes(is);
	assert_int_equal(moved(homes, is, 2), 0);
	for (unsigned i = 0; i < SESSIONS; i++)
		assert_int_not_equal(is[i], 2);
	end();
}

/* It has forgotten nothing that it needs, and whoever comes first is not the first. */
static void st_after_a_restart_sessions_are_where_they_were(void **state)
{
	uint8_t homes[SESSIONS], is[SESSIONS];

	(void)state;
	configure("maglev", true);
	connect_all(0);
	find_homes(homes);
	close_all();
	assert_int_equal(daemon_end(&d, SIGTERM), 0);
	daemon_start(&d);
	connect_all(3);
	find_homes(is);
	assert_int_equal(moved(homes, is, WORKERS), 0);
	end();
}

static void st_a_session_whose_worker_is_full_comes_back_to_it(void **state)
{
	BrokerRequest q, kept[4];
	unsigned home, other;
	uint64_t id;

	(void)state;
	configure("maglev", true);
	connect_all(0);
	home = home_of(7);
	for (unsigned i = 0; i < 4; i++) {
		(void)submit(7);
		assert_int_equal(taker(&kept[i]), home);
	}
	id = submit(7);
	other = taker(&q);
	assert_int_not_equal(other, home);
	answer(other, &q);
	(void)await_end(c, id, Q_OK, NULL);
	for (unsigned i = 0; i < 4; i++) {
		answer(home, &kept[i]);
		(void)await_end(c, 0, Q_OK, NULL);
	}
	assert_int_equal(home_of(7), home);
	end();
}

static void a_reload_says_where_sessions_stay(void **state)
{
	uint8_t homes[SESSIONS], is[SESSIONS];

	(void)state;
	configure("maglev", true);
	connect_all(0);
	find_homes(homes);
	configure("table", false);
	/* Each begins anew, where the balancer sends it, and stays there. */
	for (unsigned i = 0;; i++) {
		find_homes(is);
		if (moved(homes, is, WORKERS) != 0)
			break;
		assert_true(i < LONG_MS / 10);
	}
	find_homes(is);
	order(Q_ORDER_DRAIN, "w1", 0);
	find_homes(is);
	order(Q_ORDER_RESUME, "w1", 0);
	for (unsigned i = 0; i < SESSIONS; i++) /* a table remembers where they have gone */
		assert_int_not_equal(home_of(i), 1);
	configure("maglev", false);
	await_homes(homes);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(st_1_a_session_has_one_worker_and_each_worker_has_sessions),
		cmocka_unit_test(st_3_of_one_killed_of_eight_only_its_own_sessions_move),
		cmocka_unit_test(
			st_3_a_worker_that_flaps_moves_its_own_sessions_and_gets_them_back),
		cmocka_unit_test(
			st_4_a_worker_that_drains_keeps_all_that_are_its_own_as_long_as_is_said),
		cmocka_unit_test(st_after_a_restart_sessions_are_where_they_were),
		cmocka_unit_test(st_a_session_whose_worker_is_full_comes_back_to_it),
		cmocka_unit_test(a_reload_says_where_sessions_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
