/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_sessions.c - sessions whose service is computed and not remembered, and strict ones,
 * that go to no other. gpuqd is a process of its own; caller and workers are connections of this
 * one thread.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
	c = NULL;
	for (unsigned i = 0; i < WORKERS; i++) {
		q_broker_close(w[i]);
		w[i] = NULL;
	}
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

/* ---- strict ---------------------------------------------------------------------------------- */

static void has_lost_its_home(unsigned session)
{
	const BrokerReply reply = await_end(c, submit(session), Q_ERR_NOT_FOUND, NULL);

	assert_string_equal(reply.text, "its session's service has gone");
}

static void has_no_home_now(unsigned session, QueueStatus status)
{
	const BrokerReply reply = await_end(c, submit(session), status, NULL);

	assert_string_equal(reply.text, "its session's service cannot take it now");
	assert_true(reply.may_retry);
	assert_in_range(reply.retry_after_ms, 1, 60000);
}

static void st_5_a_strict_session_goes_to_its_worker_or_nowhere(void **state)
{
	unsigned home;
	char name[8];

	(void)state;
	configure("strict", true);
	connect_all(0);
	home = home_of(7);
	snprintf(name, sizeof(name), "w%u", home);
	order(Q_ORDER_DRAIN, name, 0);
	has_no_home_now(7, Q_ERR_FULL);
	for (unsigned i = 100; i < 100 + WORKERS; i++) /* those that begin do so elsewhere */
		assert_int_not_equal(home_of(i), home);
	order(Q_ORDER_DRAIN, name, LONG_MS); /* and goes on with its sessions */
	assert_int_equal(home_of(7), home);
	order(Q_ORDER_RESUME, name, 0);
	assert_int_equal(home_of(7), home);
	order(Q_ORDER_BREAKER_OPEN, name, 0);
	has_no_home_now(7, Q_ERR_NOT_READY);
	order(Q_ORDER_BREAKER_RESET, name, 0);
	assert_int_equal(home_of(7), home);
	q_broker_close(w[home]);
	w[home] = NULL;
	services_await_count(d.broker, "services", WORKERS - 1);
	has_lost_its_home(7);
	connect_one(home, 4); /* knows nothing of the session */
	services_await_ready(d.broker, WORKERS);
	has_lost_its_home(7);
	(void)home_of(8);
	end();
}

static void st_5_a_strict_session_waits_for_room_at_its_worker(void **state)
{
	BrokerRequest q, kept[4];
	unsigned home;

	(void)state;
	configure("strict", true);
	connect_all(0);
	home = home_of(7);
	for (unsigned i = 0; i < 4; i++) {
		(void)submit(7);
		assert_int_equal(taker(&kept[i]), home);
	}
	(void)submit(7);
	services_settle(d.broker, c);
	nap_ms(20); /* it is looked at every 2 ms */
	for (unsigned i = 0; i < WORKERS; i++)
		assert_status(q_service_recv(w[i], &q, 0), Q_ERR_TIMEOUT);
	answer(home, &kept[0]);
	assert_int_equal(taker(&q), home);
	answer(home, &q);
	for (unsigned i = 1; i < 4; i++)
		answer(home, &kept[i]);
	for (unsigned i = 0; i < 5; i++)
		(void)await_end(c, 0, Q_OK, NULL);
	end();
}

/* Who could go anywhere would else take each place as it becomes free. */
static void st_5_a_strict_session_gets_room_before_those_that_came_later(void **state)
{
	const BrokerCall any = {
		.service = "sit", .payload = "x", .bytes = 1, .timeout_ms = LONG_MS
	};
	BrokerRequest q[WORKERS], next;
	unsigned home;
	uint64_t id;

	(void)state;
	configure("strict", true);
	c = connect_to_services(d.broker);
	for (unsigned i = 0; i < 2; i++)
		connect_one(i, 1);
	services_await_ready(d.broker, 2);
	home = home_of(7);
	for (unsigned i = 0; i < 2; i++)
		assert_status(q_broker_submit(c, &any, &id), Q_OK);
	for (unsigned i = 0; i < 2; i++)
		assert_status(q_service_recv(w[i], &q[i], LONG_MS), Q_OK);
	(void)submit(7);
	for (unsigned i = 0; i < 20; i++)
		assert_status(q_broker_submit(c, &any, &id), Q_OK);
	for (unsigned i = 0; i < 5; i++) { /* others pass it at the other worker */
		answer(1 - home, &q[1 - home]);
		assert_status(q_service_recv(w[1 - home], &q[1 - home], LONG_MS), Q_OK);
		assert_int_equal(q[1 - home].bytes, 1);
	}
	answer(home, &q[home]);
	assert_status(q_service_recv(w[home], &next, LONG_MS), Q_OK);
	assert_int_equal(next.bytes, 0); /* the session's */
	answer(home, &next);
	answer(1 - home, &q[1 - home]);
	for (unsigned left = 15; left > 0; left--)
		answer(taker(&next), &next);
	for (unsigned i = 0; i < 23; i++)
		(void)await_end(c, 0, Q_OK, NULL);
	end();
}

static void st_5_what_a_strict_sessions_worker_fails_is_tried_there_again(void **state)
{
	BrokerRequest q;
	unsigned home;
	uint64_t id;

	(void)state;
	configure("strict", true);
	connect_all(0);
	home = home_of(7);
	id = submit(7);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(taker(&q), home);
		if (i == 1) { /* also when only its own sessions go there */
			char name[8];

			snprintf(name, sizeof(name), "w%u", home);
			order(Q_ORDER_DRAIN, name, LONG_MS);
		}
		assert_status(q_service_reply(w[home], &q, Q_REASON_OVERLOADED, NULL, 0), Q_OK);
	}
	assert_int_equal(taker(&q), home);
	answer(home, &q);
	(void)await_end(c, id, Q_OK, NULL);
	end();
}

/* They rest beside the line, more than one user may have, and count as running. */
static void what_waits_for_a_sessions_worker_keeps_nobody_else_waiting(void **state)
{
	enum { CONNECTIONS = 4, WINDOW = 1024, AT_ONCE = 256 };
	const BrokerCall strange = {
		.service = "sit", .session = "s", .session_bytes = 1, .timeout_ms = LONG_MS
	};
	const BrokerCall other = { .service = "other", .timeout_ms = LONG_MS };
	const BrokerCall any = { .service = "sit", .timeout_ms = LONG_MS };
	BrokerClient *stranger[CONNECTIONS], *x;
	BrokerRequest q;
	uint64_t id;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	daemon_set_up(&d, "",
		      "heartbeat_ms = 60000\nwindow = 1024\nsocket_mode = 0666\n[op sit]\n"
		      "sessions = strict\n");
	assert_int_equal(chmod(d.folder, 0755), 0);
	c = connect_to_services(d.broker);
	for (unsigned i = 0; i < 3; i++) /* while one has room the line moves */
		connect_one(i, 1);
	x = connect_ready_worker(d.broker, "x", "op=other", 1);
	services_await_ready(d.broker, 4);
	for (int i = 0; i < CONNECTIONS; i++)
		stranger[i] = connect_stranger(d.broker);
	for (unsigned i = 0; i < CONNECTIONS * WINDOW; i++) {
		BrokerClient *s = stranger[i / WINDOW];

		assert_status(q_broker_submit(s, &strange, &id), Q_OK);
		if (i % AT_ONCE == AT_ONCE - 1) /* or too many would be in the line */
			services_settle(d.broker, s);
	}
	assert_int_equal(services_count_on(c, "inside"), CONNECTIONS * WINDOW);
	(void)taker(&q); /* and keeps it */
	for (unsigned i = 0; i < 200; i++)
		assert_status(q_broker_submit(c, &strange, &id), Q_OK);
	(void)taker(&q);
	services_settle(d.broker, c);
	assert_int_equal(services_count_on(c, "waiting"), 0);
	/* The third has no room either now, so none of those that rest is tried. */
	assert_status(q_broker_submit(c, &any, &id), Q_OK);
	(void)taker(&q);
	for (unsigned i = 0; i < 3; i++) {
		assert_status(q_broker_submit(c, &other, &id), Q_OK);
		assert_status(q_service_recv(x, &q, LONG_MS), Q_OK);
		assert_status(q_service_reply(x, &q, Q_REASON_OK, NULL, 0), Q_OK);
		(void)await_end(c, id, Q_OK, NULL);
	}
	for (int i = 0; i < CONNECTIONS; i++)
		q_broker_close(stranger[i]);
	q_broker_close(x);
	end();
}

/* Of the first 30 that go 20 are HIGH and 10 NORMAL, though a hundred of HIGH are for a worker that
 * has no room. */
static void what_waits_for_a_sessions_worker_takes_no_turn_of_its_class(void **state)
{
	const unsigned session = 7;
	BrokerCall call = { .service = "sit",
			    .session = &session,
			    .session_bytes = sizeof(session),
			    .priority = 192,
			    .timeout_ms = LONG_MS };
	BrokerRequest kept, q;
	unsigned home, high = 0;
	uint64_t id;

	(void)state;
	daemon_set_up(&d, "", "heartbeat_ms = 60000\nwindow = 512\n[op sit]\nsessions = strict\n");
	c = connect_to_services(d.broker);
	for (unsigned i = 0; i < 2; i++)
		connect_one(i, 1);
	services_await_ready(d.broker, 2);
	(void)submit(session);
	home = taker(&kept);
	call.session = NULL;
	call.session_bytes = 0;
	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	assert_int_equal(taker(&q), 1 - home);
	call.session = &session;
	call.session_bytes = sizeof(session);
	for (unsigned i = 0; i < 100; i++)
		assert_status(q_broker_submit(c, &call, &id), Q_OK);
	call.session = NULL;
	call.session_bytes = 0;
	for (unsigned i = 0; i < 80; i++) {
		call.priority = i % 2 == 0 ? 192 : 128;
		assert_status(q_broker_submit(c, &call, &id), Q_OK);
	}
	services_settle(d.broker, c);
	for (unsigned i = 0; i < 30; i++) {
		answer(1 - home, &q);
		assert_int_equal(taker(&q), 1 - home);
		high += q.priority == 192;
	}
	assert_in_range(high, 16, 24);
	q_broker_close(c); /* with all that is left */
	c = NULL;
	end();
}

/* With it the op would be forgotten, and who comes next would be taken for the first. */
static void st_5_a_strict_session_outlives_the_last_worker(void **state)
{
	(void)state;
	configure("strict", true);
	c = connect_to_services(d.broker);
	connect_one(0, 4);
	services_await_ready(d.broker, 1);
	assert_int_equal(home_of(7), 0);
	q_broker_close(w[0]);
	w[0] = NULL;
	services_await_count(d.broker, "services", 0);
	(void)await_end(c, submit(7), Q_ERR_NOT_FOUND, NULL);
	connect_one(0, 4);
	services_await_ready(d.broker, 1);
	has_lost_its_home(7);
	assert_int_equal(home_of(8), 0);
	end();
}

/* Whether it ends a request that its worker cannot have; else another one takes it. */
static bool is_refused(unsigned session, unsigned home)
{
	const uint64_t id = submit(session);
	BrokerReply reply;
	BrokerRequest q;
	size_t n;

	for (unsigned i = 0; i < LONG_MS; i++) {
		for (unsigned k = 0; k < WORKERS; k++) {
			if (k == home || q_service_recv(w[k], &q, 0) != Q_OK)
				continue;
			answer(k, &q);
			(void)await_end(c, id, Q_OK, NULL);
			return false;
		}
		n = 0;
		if (q_broker_wait(c, id, NULL, &n, &reply, 1) == Q_ERR_FULL)
			return true;
	}
	fail_msg("session %u: nobody has it, and it does not end", session);
	return false;
}

/* Until a reload is there: looks at a session that nobody else looks at. */
static void await_strict(bool strict)
{
	bool is;

	for (unsigned i = 0;; i++) {
		const unsigned home = home_of(8);
		char name[8];

		snprintf(name, sizeof(name), "w%u", home);
		order(Q_ORDER_DRAIN, name, 0);
		is = is_refused(8, home);
		order(Q_ORDER_RESUME, name, 0);
		if (is == strict)
			return;
		assert_true(i < LONG_MS);
	}
}

static void a_reload_makes_sessions_strict_and_forgets_none(void **state)
{
	unsigned home, other;
	char name[8];

	(void)state;
	configure("table", true);
	connect_all(0);
	home = home_of(7);
	snprintf(name, sizeof(name), "w%u", home);
	configure("strict", false);
	await_strict(true);
	order(Q_ORDER_DRAIN, name, 0);
	has_no_home_now(7, Q_ERR_FULL);
	order(Q_ORDER_RESUME, name, 0);
	configure("table", false);
	await_strict(false);
	assert_int_equal(home_of(7), home);
	order(Q_ORDER_DRAIN, name, 0);
	other = home_of(7);
	assert_int_not_equal(other, home);
	order(Q_ORDER_RESUME, name, 0);
	assert_int_equal(home_of(7), other);
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
		cmocka_unit_test(st_5_a_strict_session_goes_to_its_worker_or_nowhere),
		cmocka_unit_test(st_5_a_strict_session_waits_for_room_at_its_worker),
		cmocka_unit_test(st_5_a_strict_session_gets_room_before_those_that_came_later),
		cmocka_unit_test(st_5_what_a_strict_sessions_worker_fails_is_tried_there_again),
		cmocka_unit_test(what_waits_for_a_sessions_worker_keeps_nobody_else_waiting),
		cmocka_unit_test(what_waits_for_a_sessions_worker_takes_no_turn_of_its_class),
		cmocka_unit_test(st_5_a_strict_session_outlives_the_last_worker),
		cmocka_unit_test(a_reload_makes_sessions_strict_and_forgets_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
