/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_share.c - how much of an op's workers one user may have (user_percent). gpuqd is a
 * process of its own; callers and workers are connections of this one thread, which answers only
 * what a case says.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CAPACITY = 4, ROOM = 16 };

static struct daemon d;

/* `words` follow the keys of [services]. */
static void configure(const char *words, bool begins)
{
	char keys[400];

	snprintf(keys, sizeof(keys),
		 "socket_mode = 0666\nheartbeat_ms = 60s\ncheck_ms = 10\n"
		 "check_timeout_ms = 60s\n%s",
		 words);
	(begins ? daemon_set_up : daemon_reload)(&d, "", keys);
}

static void begin(const char *words)
{
	configure(words, true);
	assert_int_equal(chmod(d.folder, 0755), 0);
}

static void end(void)
{
	services_await_count(d.broker, "inside", 0);
	daemon_tear_down(&d);
}

static uint64_t submit(BrokerClient *c, const char *op)
{
	const BrokerCall call = { .service = op, .timeout_ms = LONG_MS };
	uint64_t id;

	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	return id;
}

static void submit_many(BrokerClient *c, const char *op, unsigned n)
{
	while (n-- > 0)
		(void)submit(c, op);
}

static void comes(BrokerClient *c, BrokerClient *w, BrokerRequest *to, unsigned n)
{
	services_await_just(d.broker, c, w, to, n);
}

static void answer(BrokerClient *w, BrokerRequest *q, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_status(q_service_reply(w, &q[i], Q_REASON_OK, NULL, 0), Q_OK);
}

static void all_end_as(BrokerClient *c, unsigned n, QueueStatus status)
{
	while (n-- > 0)
		(void)await_end(c, 0, status, NULL);
}

static void all_end(BrokerClient *c, unsigned n)
{
	all_end_as(c, n, Q_OK);
}

static void se_4_a_user_has_its_share_and_another_finds_room(void **state)
{
	BrokerRequest q[ROOM];
	BrokerClient *a, *b, *w;
	uint64_t id;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	begin("user_percent = 75\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	a = connect_stranger(d.broker);
	b = connect_to_services(d.broker);
	submit_many(a, "work", 10);
	comes(a, w, q, 3);
	assert_int_equal(services_count_on(a, "waiting"), 7);
	assert_int_equal(services_count_on(a, "held"), 7);
	/* There is room for another, and 7 before him do not matter. */
	id = submit(b, "work");
	comes(a, w, q + 3, 1);
	answer(w, q + 3, 1);
	(void)await_end(b, id, Q_OK, NULL);
	/* What one of the first's leaves is for the first. */
	answer(w, q, 1);
	comes(a, w, q, 1);
	assert_int_equal(services_count_on(a, "held"), 6);
	answer(w, q, 3);
	comes(a, w, q, 3);
	answer(w, q, 3);
	comes(a, w, q, 3);
	answer(w, q, 3);
	all_end(a, 10);
	assert_int_equal(services_count_on(a, "held"), 0);
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(w);
	end();
}

static void a_share_of_an_op_is_of_all_that_its_workers_have(void **state)
{
	BrokerRequest q[ROOM], other[ROOM];
	BrokerClient *c, *w, *x;

	(void)state;
	/* The op's own key counts; that of all is for the other op. A worker has both. */
	begin("user_percent = 50\n[op work]\nuser_percent = 75\n");
	w = connect_ready_worker(d.broker, "w", "op=work op=play", CAPACITY);
	c = connect_to_services(d.broker);
	submit_many(c, "play", 3);
	comes(c, w, q, 2);
	submit_many(c, "work", 3);
	comes(c, w, q + 2, 1);
	assert_int_equal(services_count_on(c, "held"), 3);
	/* Another worker of one of them: the room is of 8, of which 6 are the user's. */
	x = connect_ready_worker(d.broker, "x", "op=work", CAPACITY);
	comes(c, x, other, 2);
	assert_int_equal(services_count_on(c, "held"), 1);
	answer(w, q, 2); /* one is at work there: a half of its room is two */
	comes(c, w, q, 1);
	answer(w, q, 1);
	answer(w, q + 2, 1);
	answer(x, other, 2);
	all_end(c, 6);
	/* Without that worker it is as before. */
	q_broker_close(x);
	services_await_ready(d.broker, 1);
	submit_many(c, "work", 4);
	comes(c, w, q, 3);
	answer(w, q, 3);
	comes(c, w, q, 1);
	answer(w, q, 1);
	all_end(c, 4);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Its worker answers the checks meanwhile. */
static void await_health(BrokerClient *c, BrokerClient *w, const char *name, const char *health)
{
	for (unsigned i = 0; strcmp(services_look(c, name).health, health) != 0; i++) {
		assert_true(i < LONG_MS);
		assert_status(q_service_heartbeat(w, NULL), Q_OK);
		nap_ms(1);
	}
}

/* Else one worker that hangs with a user's requests would keep that user from all others. */
static void what_a_worker_has_that_is_not_well_counts_no_more(void **state)
{
	BrokerRequest sick[ROOM], well[ROOM];
	BrokerClient *c, *w, *x;

	(void)state;
	begin("user_percent = 75\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	x = connect_ready_worker(d.broker, "x", "op=work", CAPACITY);
	c = connect_to_services(d.broker);
	submit_many(c, "work", 8);
	comes(c, w, sick, 3);
	comes(c, x, well, 3);
	assert_status(q_service_set_health(w, false), Q_OK);
	await_health(c, w, "w", "unhealthy");
	answer(x, well, 1);
	comes(c, x, well, 1);
	assert_int_equal(services_count_on(c, "held"), 1);
	/* It is well again, with all that it has: six of eight. */
	assert_status(q_service_set_health(w, true), Q_OK);
	await_health(c, w, "w", "healthy");
	services_settle(d.broker, c);
	assert_int_equal(services_count_on(c, "held"), 1);
	answer(x, well + 1, 1);
	comes(c, x, well + 1, 1);
	answer(x, well, 3);
	answer(w, sick, 3);
	all_end(c, 8);
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(x);
	end();
}

/* Else who asks for answers within a millisecond would have all places. */
static void what_is_late_counts_until_its_worker_has_answered(void **state)
{
	const BrokerCall brief = { .service = "work", .timeout_ms = 1 };
	BrokerRequest q[ROOM];
	BrokerClient *c, *w;
	uint64_t id;

	(void)state;
	begin("user_percent = 50\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	c = connect_to_services(d.broker);
	for (int i = 0; i < 2; i++) {
		id = submit(c, "work");
		assert_status(q_service_recv(w, &q[i], LONG_MS), Q_OK);
		assert_status(q_broker_cancel(c, id), Q_OK);
		(void)await_end(c, id, Q_ERR_CANCELLED, NULL);
	}
	assert_status(q_broker_submit(c, &brief, &id), Q_OK);
	(void)await_end(c, id, Q_ERR_EXPIRED, NULL); /* it waited: none came */
	assert_status(q_service_recv(w, &q[2], 0), Q_ERR_TIMEOUT);
	id = submit(c, "work");
	services_settle(d.broker, c);
	assert_status(q_service_recv(w, &q[2], 0), Q_ERR_TIMEOUT);
	/* Whose they are is known, also when the caller has gone. */
	q_broker_close(c);
	services_await_count(d.broker, "inside", 0);
	c = connect_to_services(d.broker);
	id = submit(c, "work");
	services_settle(d.broker, c);
	assert_status(q_service_recv(w, &q[2], 0), Q_ERR_TIMEOUT);
	answer(w, q, 1);
	comes(c, w, q, 1);
	answer(w, q, 1);
	(void)await_end(c, id, Q_OK, NULL);
	answer(w, q + 1, 1);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void a_reload_gives_more_or_less(void **state)
{
	BrokerRequest q[ROOM];
	BrokerClient *c, *w;

	(void)state;
	begin("");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	c = connect_to_services(d.broker);
	submit_many(c, "work", 4);
	comes(c, w, q, 4); /* without the key: all */
	configure("user_percent = 1\n", false);
	services_await_count(d.broker, "held", 0);
	submit_many(c, "work", 4);
	services_await_count(d.broker, "held", 4);
	answer(w, q, 3);
	comes(c, w, q, 0);
	answer(w, q + 3, 1);
	comes(c, w, q, 1); /* one at least */
	configure("user_percent = 50\n", false);
	assert_status(q_service_recv(w, &q[1], LONG_MS), Q_OK);
	assert_int_equal(services_count_on(c, "held"), 2);
	configure("[op work]\nuser_percent = 100\n", false);
	assert_status(q_service_recv(w, &q[2], LONG_MS), Q_OK);
	assert_status(q_service_recv(w, &q[3], LONG_MS), Q_OK);
	assert_int_equal(services_count_on(c, "held"), 0);
	answer(w, q, 4);
	all_end(c, 8);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* A batch is of one user's requests as far as its share goes, and of others' beyond. */
static void a_batch_has_no_more_of_a_user_than_its_share(void **state)
{
	BrokerRequest q[ROOM];
	BrokerClient *a, *b, *w;
	size_t n = 0;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	begin("user_percent = 50\n[op work]\nbatch = 4\nbatch_delay_us = 60000000\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	a = connect_stranger(d.broker);
	b = connect_to_services(d.broker);
	submit_many(a, "work", 4);
	services_settle(d.broker, a);
	assert_int_equal(services_count_on(a, "held"), 2);
	submit_many(b, "work", 2);
	assert_status(q_service_recv_batch(w, q, ROOM, &n, LONG_MS), Q_OK);
	assert_int_equal(n, 4);
	assert_int_equal(services_count_on(a, "held"), 2);
	answer(w, q, 4);
	all_end(b, 2);
	services_settle(d.broker, a);
	assert_int_equal(services_count_on(a, "held"), 0); /* they gather */
	submit_many(b, "work", 2);
	assert_status(q_service_recv_batch(w, q, ROOM, &n, LONG_MS), Q_OK);
	assert_int_equal(n, 4);
	answer(w, q, 4);
	all_end(b, 2);
	all_end(a, 4);
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(w);
	end();
}

/* What it still has counts no more: nobody sees that its worker answers. */
static void what_a_worker_has_that_has_left_counts_no_more(void **state)
{
	BrokerRequest q[ROOM], more[ROOM];
	BrokerClient *c, *w, *x;

	(void)state;
	begin("user_percent = 50\n");
	w = connect_ready_worker(d.broker, "w", "op=work op=play", CAPACITY);
	x = connect_ready_worker(d.broker, "x", "op=play", CAPACITY);
	c = connect_to_services(d.broker);
	submit_many(c, "work", 4);
	comes(c, w, q, 2);
	assert_status(q_service_unregister(w), Q_OK);
	all_end_as(c, 2, Q_ERR_NOT_FOUND); /* no other worker has this op */
	submit_many(c, "play", 3);
	comes(c, x, more, 2);
	answer(w, q, 2);
	comes(c, x, more, 0);
	answer(x, more, 2);
	comes(c, x, more, 1);
	answer(x, more, 1);
	all_end(c, 5);
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(x);
	end();
}

static void a_share_is_of_what_is_found_to_be_of_use(void **state)
{
	BrokerRequest q[ROOM];
	BrokerClient *c, *w;

	(void)state;
	begin("user_percent = 50\n[op work]\nconcurrency = vegas\n");
	w = connect_ready_worker(d.broker, "w", "op=work", 16);
	c = connect_to_services(d.broker);
	submit_many(c, "work", 4);
	comes(c, w, q, 1);
	assert_int_equal(services_count_on(c, "held"), 3);
	/* It has all of it now: a half is eight. */
	configure("user_percent = 50\n", false);
	for (int i = 1; i < 4; i++)
		assert_status(q_service_recv(w, &q[i], LONG_MS), Q_OK);
	assert_int_equal(services_count_on(c, "held"), 0);
	answer(w, q, 4);
	all_end(c, 4);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Its room has been used meanwhile. */
static void another_attempt_has_no_more_than_the_first(void **state)
{
	const BrokerCall call = { .service = "work", .timeout_ms = LONG_MS, .idempotent = true };
	BrokerRequest q[ROOM];
	BrokerClient *c, *w;
	uint64_t id;

	(void)state;
	begin("user_percent = 50\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	c = connect_to_services(d.broker);
	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	submit_many(c, "work", 2);
	comes(c, w, q, 2);
	assert_status(q_service_reply(w, &q[0], Q_REASON_INTERNAL, NULL, 0), Q_OK);
	assert_status(q_service_recv(w, &q[0], LONG_MS), Q_OK); /* the third */
	services_await_count(d.broker, "held", 1);
	comes(c, w, q + 2, 0);
	answer(w, q, 1);
	comes(c, w, q, 1);
	answer(w, q, 2);
	all_end(c, 3);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Whose connections have all ended is still the same user. */
static void what_is_late_is_of_who_has_asked(void **state)
{
	BrokerRequest q[ROOM];
	BrokerClient *a, *w;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	begin("user_percent = 50\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	a = connect_stranger(d.broker);
	submit_many(a, "work", 2);
	comes(a, w, q, 2);
	q_broker_close(a);
	services_await_count(d.broker, "inside", 0);
	a = connect_stranger(d.broker);
	submit_many(a, "work", 1);
	comes(a, w, q + 2, 0);
	assert_int_equal(services_count_on(a, "held"), 1);
	answer(w, q, 1);
	comes(a, w, q, 1);
	answer(w, q, 2);
	all_end(a, 1);
	q_broker_close(a);
	q_broker_close(w);
	end();
}

/* Else nobody would see whether it is well again: who has all that its share is may not try. */
static void what_a_worker_has_on_trial_counts_no_more(void **state)
{
	BrokerRequest q[ROOM], first[2], x;
	BrokerClient *c, *w, *other;

	(void)state;
	begin("user_percent = 50\nattempts = 1\nbreaker_open_ms = 10\n"
	      "[op play]\nuser_percent = 100\n");
	w = connect_ready_worker(d.broker, "w", "op=work op=play", 2 * CAPACITY);
	c = connect_to_services(d.broker);
	submit_many(c, "work", CAPACITY);
	comes(c, w, q, CAPACITY);
	for (int i = 0; i < 5; i++) {
		const uint64_t id = submit(c, "play");

		assert_status(q_service_recv(w, &x, LONG_MS), Q_OK);
		assert_status(q_service_reply(w, &x, Q_REASON_INTERNAL, NULL, 0), Q_OK);
		(void)await_end(c, id, Q_ERR_FAILED, NULL);
	}
	for (unsigned i = 0; strcmp(services_look(c, "w").breaker, "half_open") != 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	/* Four of nine would be all it may have. */
	other = connect_ready_worker(d.broker, "x", "op=work", 1);
	submit_many(c, "work", 1);
	comes(c, other, first, 1);
	answer(other, first, 1);
	answer(w, q, CAPACITY);
	all_end(c, CAPACITY + 1);
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(other);
	end();
}

static BrokerCall cached_call(const char *op)
{
	return (BrokerCall){
		.service = op, .payload = "x", .bytes = 1, .timeout_ms = LONG_MS, .cache = true
	};
}

/* Else its own room would be of no use to who asks for the same. */
static void nobody_joins_what_another_user_may_not_run(void **state)
{
	const BrokerCall same = cached_call("work");
	BrokerRequest q[ROOM];
	BrokerClient *a, *b, *w;
	uint64_t id[3];

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	begin("user_percent = 50\n[op work]\ncache = public\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	a = connect_stranger(d.broker);
	b = connect_to_services(d.broker);
	submit_many(a, "work", 2);
	comes(a, w, q, 2);
	assert_status(q_broker_submit(a, &same, &id[0]), Q_OK);
	assert_status(q_broker_submit(a, &same, &id[1]), Q_OK); /* its own: it joins that */
	services_settle(d.broker, a);
	assert_int_equal(services_count_on(a, "held"), 1);
	assert_status(q_broker_submit(b, &same, &id[2]), Q_OK);
	comes(b, w, q + 2, 1);
	answer(w, q + 2, 1);
	(void)await_end(b, id[2], Q_OK, NULL);
	answer(w, q, 1);
	comes(a, w, q, 1);
	/* It runs: so there is nothing to wait for. */
	assert_status(q_broker_submit(b, &same, &id[2]), Q_OK);
	comes(b, w, q + 2, 0);
	answer(w, q, 2);
	assert_true(await_end(b, id[2], Q_OK, NULL).reused);
	all_end(a, 4);
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(w);
	end();
}

/* What goes when there is room, or goes with others, is to be waited for. */
static void others_join_what_may_run(void **state)
{
	const BrokerCall same = cached_call("work"), gathers = cached_call("batch");
	BrokerRequest q[ROOM], of_batch[ROOM];
	BrokerClient *a, *b, *w, *x;
	uint64_t id;
	size_t n = 0;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	begin("user_percent = 75\n[op work]\ncache = public\n"
	      "[op batch]\ncache = public\nuser_percent = 50\nbatch = 4\n"
	      "batch_delay_us = 60000000\n");
	w = connect_ready_worker(d.broker, "w", "op=work", CAPACITY);
	x = connect_ready_worker(d.broker, "x", "op=batch", CAPACITY);
	a = connect_stranger(d.broker);
	b = connect_to_services(d.broker);
	submit_many(b, "work", 3);
	comes(b, w, q, 3);
	submit_many(a, "work", 1);
	comes(a, w, q + 3, 1);
	assert_status(q_broker_submit(a, &same, &id), Q_OK);
	services_settle(d.broker, a);
	assert_status(q_broker_submit(b, &same, &id), Q_OK);
	assert_int_equal(services_count_on(b, "cache_joined"), 1);
	submit_many(a, "batch", 1);
	assert_status(q_broker_submit(a, &gathers, &id), Q_OK);
	services_settle(d.broker, a);
	assert_status(q_broker_submit(b, &gathers, &id), Q_OK);
	assert_int_equal(services_count_on(b, "cache_joined"), 2);
	submit_many(b, "batch", 2);
	assert_status(q_service_recv_batch(x, of_batch, ROOM, &n, LONG_MS), Q_OK);
	assert_int_equal(n, 4);
	answer(x, of_batch, 4);
	answer(w, q, 4);
	comes(a, w, q, 1);
	answer(w, q, 1);
	all_end(a, 4);
	all_end(b, 7);
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(w);
	q_broker_close(x);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(se_4_a_user_has_its_share_and_another_finds_room),
		cmocka_unit_test(a_share_of_an_op_is_of_all_that_its_workers_have),
		cmocka_unit_test(what_a_worker_has_that_is_not_well_counts_no_more),
		cmocka_unit_test(what_is_late_counts_until_its_worker_has_answered),
		cmocka_unit_test(a_reload_gives_more_or_less),
		cmocka_unit_test(a_batch_has_no_more_of_a_user_than_its_share),
		cmocka_unit_test(what_a_worker_has_that_has_left_counts_no_more),
		cmocka_unit_test(a_share_is_of_what_is_found_to_be_of_use),
		cmocka_unit_test(another_attempt_has_no_more_than_the_first),
		cmocka_unit_test(what_is_late_is_of_who_has_asked),
		cmocka_unit_test(what_a_worker_has_on_trial_counts_no_more),
		cmocka_unit_test(nobody_joins_what_another_user_may_not_run),
		cmocka_unit_test(others_join_what_may_run),
	};

	return cmocka_run_group_tests_name("service_share", tests, NULL, NULL);
}
