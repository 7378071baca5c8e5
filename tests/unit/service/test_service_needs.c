/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_needs.c - requests that say what their worker must be able to do: they go to no
 * other. gpuqd is a process of its own; caller and workers are connections of this one thread.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct daemon d;

static void begin(const char *words)
{
	char keys[256];

	snprintf(keys, sizeof(keys), "window = 256\nheartbeat_ms = 60000\n%s", words);
	daemon_set_up(&d, "", keys);
}

static void end(void)
{
	services_await_count(d.broker, "inside", 0);
	daemon_tear_down(&d);
}

/* One that takes requests when this returns. */
static BrokerClient *worker(const char *name, const char *can, uint32_t capacity, uint8_t priority)
{
	const BrokerService s = {
		.name = name, .capability = can, .capacity = capacity, .priority = priority
	};
	BrokerClient *w = connect_worker(d.broker, &s);

	assert_status(q_service_heartbeat(w, NULL), Q_OK);
	return w;
}

static uint64_t submit_call(BrokerClient *c, const BrokerCall *call)
{
	uint64_t id = 0;

	assert_status(q_broker_submit(c, call, &id), Q_OK);
	return id;
}

static uint64_t submit(BrokerClient *c, const char *needs)
{
	return submit_call(c, &(BrokerCall){ .service = "embed",
					     .payload = "x",
					     .bytes = 1,
					     .needs = needs,
					     .timeout_ms = LONG_MS });
}

/* Takes a request, and answers it with this text. */
static void serve(BrokerClient *w, const char *text)
{
	BrokerRequest q;

	assert_status(q_service_recv(w, &q, LONG_MS), Q_OK);
	assert_status(q_service_reply(w, &q, Q_REASON_OK, text, strlen(text)), Q_OK);
}

static void nothing_comes(BrokerClient *w)
{
	BrokerRequest q;

	assert_int_equal(q_service_recv(w, &q, 0), Q_ERR_TIMEOUT);
}

static void r_a_request_goes_only_to_a_worker_that_has_what_it_needs(void **state)
{
	static const char *const large_ones[] = { "dims=1024", "dims=128..2048",
						  "types=f16", "types=f32,f16 dims=600",
						  "tag=gpu",   "op=embed:4",
						  "batch=64",  "priority=200" };
	static const char *const impossible[] = { "dims=4096",    "types=i8", "tag=gpu tag=fpga",
						  "op=embed:5",   "dims=64",  "batch=65",
						  "priority=201", "op=other", "slot=1 types=i8" };
	static const char *const nonsense[][2] = {
		{ "fast", "an unknown key, or a word that is not key=value" },
		{ "tag=a dims=0", "not a number, or out of its range" },
		{ "types=f64", "not one of f32, f16, i8, i16, binary" },
	};
	enum { LARGE = sizeof(large_ones) / sizeof(large_ones[0]) };
	uint64_t ids[LARGE];
	BrokerClient *c, *small, *large;
	BrokerReply r;

	(void)state;
	begin("");
	c = connect_to_services(d.broker);
	small = worker("small", "op=embed:3 dims=128..512 types=f32 batch=8", 64, 100);
	large = worker("large", "op=embed:4 dims=128..2048 types=f32,f16 tag=gpu batch=64", 64,
		       200);
	services_await_ready(d.broker, 2);
	for (int i = 0; i < LARGE; i++)
		ids[i] = submit(c, large_ones[i]);
	for (int i = 0; i < LARGE; i++)
		serve(large, "large");
	for (int i = 0; i < LARGE; i++)
		(void)await_end(c, ids[i], Q_OK, "large");
	ids[0] = submit(c, "op=embed:3");
	serve(small, "small");
	(void)await_end(c, ids[0], Q_OK, "small");
	for (size_t i = 0; i < sizeof(impossible) / sizeof(impossible[0]); i++) {
		r = await_end(c, submit(c, impossible[i]), Q_ERR_NOT_FOUND, NULL);
		assert_int_equal(r.reason, Q_REASON_NOT_FOUND);
		assert_string_equal(r.text, "no service that does this has what the request needs");
		assert_false(r.may_have_run);
	}
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		r = await_end(c, submit(c, nonsense[i][0]), Q_ERR_INVALID_ARG, NULL);
		assert_string_equal(r.text, nonsense[i][1]);
	}
	q_broker_close(large);
	services_await_count(d.broker, "services", 1);
	(void)await_end(c, submit(c, "tag=gpu"), Q_ERR_NOT_FOUND, NULL);
	ids[0] = submit(c, "dims=256 types=f32");
	serve(small, "small");
	(void)await_end(c, ids[0], Q_OK, "small");
	q_broker_close(small);
	q_broker_close(c);
	end();
}

static void r_it_waits_for_such_a_worker_and_others_get_past_it(void **state)
{
	BrokerClient *c, *small, *large, *fresh;
	uint64_t first, second, other, none;
	BrokerRequest q, q2;

	(void)state;
	begin("");
	c = connect_to_services(d.broker);
	small = worker("small", "op=embed dims=128", 4, 0);
	large = worker("large", "op=embed dims=128..2048", 1, 0);
	services_await_ready(d.broker, 2);
	first = submit(c, "dims=1024");
	assert_status(q_service_recv(large, &q, LONG_MS), Q_OK);
	second = submit(c, "dims=1024");
	other = submit(c, NULL);
	none = submit(c, "");
	serve(small, "small");
	serve(small, "small");
	(void)await_end(c, other, Q_OK, "small");
	(void)await_end(c, none, Q_OK, "small");
	nothing_comes(small);
	assert_status(q_service_reply(large, &q, Q_REASON_OK, "1", 1), Q_OK);
	serve(large, "2");
	(void)await_end(c, first, Q_OK, "1");
	(void)await_end(c, second, Q_OK, "2");
	/* One that comes takes what waits for another, and one that goes gets nothing more. */
	first = submit(c, "dims=1024");
	assert_status(q_service_recv(large, &q, LONG_MS), Q_OK);
	second = submit(c, "dims=1024");
	(void)services_count_on(c, "accepted"); /* gpuqd has looked for who can do it */
	fresh = worker("fresh", "op=embed dims=1024", 1, 0);
	serve(fresh, "fresh");
	(void)await_end(c, second, Q_OK, "fresh");
	second = submit(c, "dims=1024");
	assert_status(q_service_recv(fresh, &q2, LONG_MS), Q_OK);
	other = submit(c, "dims=1024");
	assert_status(q_service_reply(fresh, &q2, Q_REASON_OK, "2", 1), Q_OK);
	serve(fresh, "3");
	(void)await_end(c, second, Q_OK, "2");
	(void)await_end(c, other, Q_OK, "3");
	q_broker_close(fresh);
	services_await_count(d.broker, "services", 2);
	assert_status(q_service_reply(large, &q, Q_REASON_OK, "1", 1), Q_OK);
	(void)await_end(c, first, Q_OK, "1");
	/* Whoever waits for a worker that goes is told so. */
	first = submit(c, "dims=1024");
	assert_status(q_service_recv(large, &q, LONG_MS), Q_OK);
	second = submit(c, "dims=1024");
	q_broker_close(large);
	(void)await_end(c, first, Q_ERR_LOST, NULL);
	(void)await_end(c, second, Q_ERR_NOT_FOUND, NULL);
	q_broker_close(small);
	q_broker_close(c);
	end();
}

static void r_a_worker_that_is_too_loaded_gets_none(void **state)
{
	const BrokerLoad busy = { .cpu = 701 }, calm = { .cpu = 700 };
	BrokerClient *c, *w;
	BrokerReply r;
	uint64_t id;

	(void)state;
	begin("");
	c = connect_to_services(d.broker);
	w = worker("w", "op=embed", 4, 0);
	assert_status(q_service_heartbeat(w, &busy), Q_OK);
	services_await_ready(d.broker, 1);
	id = submit(c, NULL); /* behind the heartbeat */
	serve(w, "w");
	(void)await_end(c, id, Q_OK, "w");
	r = await_end(c, submit(c, "load=700"), Q_ERR_FULL, NULL);
	assert_int_equal(r.retry_after_ms, 1000);
	assert_true(r.may_retry);
	assert_status(q_service_heartbeat(w, &calm), Q_OK);
	id = submit(c, NULL);
	serve(w, "w");
	(void)await_end(c, id, Q_OK, "w");
	id = submit(c, "load=700");
	serve(w, "w");
	(void)await_end(c, id, Q_OK, "w");
	q_broker_close(w);
	q_broker_close(c);
	end();
}

/* The breaker of a worker that could not do it anyway says nothing of when to come again. */
static void r_what_is_said_is_of_those_that_can_do_it(void **state)
{
	const BrokerOrder drain = { .kind = Q_ORDER_DRAIN, .name = "able" };
	const BrokerOrder open = { .kind = Q_ORDER_BREAKER_OPEN, .name = "other" };
	BrokerClient *c, *able, *other;

	(void)state;
	begin("");
	c = connect_to_services(d.broker);
	able = worker("able", "op=embed tag=gpu", 4, 0);
	other = worker("other", "op=embed", 4, 0);
	services_await_ready(d.broker, 2);
	assert_status(q_broker_order(c, &drain), Q_OK);
	assert_status(q_broker_order(c, &open), Q_OK);
	assert_int_equal(await_end(c, submit(c, NULL), Q_ERR_NOT_READY, NULL).reason,
			 Q_REASON_BREAKER);
	assert_int_equal(await_end(c, submit(c, "tag=gpu"), Q_ERR_FULL, NULL).reason,
			 Q_REASON_OVERLOADED);
	q_broker_close(able);
	q_broker_close(other);
	q_broker_close(c);
	end();
}

static void r_a_session_leaves_its_worker_only_for_what_that_cannot_do(void **state)
{
	BrokerCall call = { .service = "embed",
			    .payload = "x",
			    .bytes = 1,
			    .session = "s",
			    .session_bytes = 1,
			    .timeout_ms = LONG_MS };
	BrokerClient *c, *small, *large;
	uint64_t id;

	(void)state;
	begin("balance = priority\n");
	c = connect_to_services(d.broker);
	small = worker("small", "op=embed dims=128", 4, 200);
	large = worker("large", "op=embed dims=128..2048", 4, 100);
	services_await_ready(d.broker, 2);
	for (int i = 0; i < 3; i++) {
		const bool goes = i == 1;

		call.needs = goes ? "dims=1024" : NULL;
		id = submit_call(c, &call);
		serve(goes ? large : small, goes ? "large" : "small");
		(void)await_end(c, id, Q_OK, goes ? "large" : "small");
	}
	q_broker_close(small);
	q_broker_close(large);
	q_broker_close(c);
	end();
}

static void r_items_of_a_batch_need_it_and_answers_are_for_the_same_needs(void **state)
{
	static const BrokerItem items[3] = { { "a", 1 }, { "b", 1 }, { "c", 1 } };
	BrokerCall call = { .service = "embed",
			    .payload = "x",
			    .bytes = 1,
			    .cache = true,
			    .needs = "dims=128",
			    .timeout_ms = LONG_MS };
	BrokerClient *c, *small, *large;
	uint64_t id;

	(void)state;
	begin("[op embed]\ncache = user\n");
	c = connect_to_services(d.broker);
	small = worker("small", "op=embed dims=128", 4, 0);
	large = worker("large", "op=embed dims=1024", 4, 0);
	services_await_ready(d.broker, 2);
	id = submit_call(c, &call);
	serve(small, "small");
	(void)await_end(c, id, Q_OK, "small");
	assert_true(await_end(c, submit_call(c, &call), Q_OK, "small").reused);
	call.needs = "dims=1024";
	id = submit_call(c, &call);
	serve(large, "large");
	assert_false(await_end(c, id, Q_OK, "large").reused);
	call = (BrokerCall){ .service = "embed", .needs = "dims=1024", .timeout_ms = LONG_MS };
	assert_status(q_broker_submit_batch(c, &call, items, 3, &id), Q_OK);
	for (int i = 0; i < 3; i++)
		serve(large, "large");
	for (uint64_t i = 0; i < 3; i++)
		(void)await_end(c, id + i, Q_OK, "large");
	call.needs = "dims=4096";
	assert_status(q_broker_submit_batch(c, &call, items, 3, &id), Q_OK);
	for (uint64_t i = 0; i < 3; i++)
		(void)await_end(c, id + i, Q_ERR_NOT_FOUND, NULL);
	q_broker_close(small);
	q_broker_close(large);
	q_broker_close(c);
	end();
}

/* Five requests, none of which is answered before all are sent. @return how many `w` gets */
static unsigned shares(BrokerClient *c, BrokerClient *w, BrokerClient *other, const char *op)
{
	const BrokerCall call = { .service = op, .needs = "dims=128", .timeout_ms = LONG_MS };
	BrokerClient *const both[] = { w, other };
	unsigned got[2] = { 0, 0 };
	uint64_t ids[5];

	for (int i = 0; i < 5; i++)
		ids[i] = submit_call(c, &call);
	while (got[0] + got[1] < 5) {
		for (int k = 0; k < 2; k++) {
			BrokerRequest q;

			if (q_service_recv(both[k], &q, 1) != Q_OK)
				continue;
			got[k]++;
			assert_status(q_service_reply(both[k], &q, Q_REASON_OK, NULL, 0), Q_OK);
		}
	}
	for (int i = 0; i < 5; i++)
		(void)await_end(c, ids[i], Q_OK, NULL);
	return got[0];
}

static void lb_an_op_has_its_own_balance_and_the_tightest_fit_takes_all(void **state)
{
	const BrokerCall kept = { .service = "pure", .cache = true, .timeout_ms = LONG_MS };
	BrokerClient *c, *tight, *wide;
	uint64_t id;
	FILE *f;

	(void)state;
	begin("balance = round_robin\n[op pure]\ncache = user\n[op fit]\nbalance = capability\n");
	c = connect_to_services(d.broker);
	wide = worker("wide", "op=fit op=other op=pure dims=128..2048", 64, 0);
	tight = worker("tight", "op=fit op=other dims=128..256", 64, 0);
	services_await_ready(d.broker, 2);
	assert_int_equal(shares(c, tight, wide, "fit"), 5);
	assert_in_range(shares(c, tight, wide, "other"), 2, 3);
	/* A reload says how the next ones are chosen, of an op that has services. */
	id = submit_call(c, &kept);
	serve(wide, "kept");
	(void)await_end(c, id, Q_OK, "kept");
	services_await_count(d.broker, "cache_answers", 1);
	f = fopen(d.config, "a");
	assert_non_null(f);
	fputs("[op other]\nbalance = capability\n", f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(kill(d.pid, SIGHUP), 0);
	services_await_count(d.broker, "cache_answers", 0); /* as a reload empties it */
	assert_int_equal(shares(c, tight, wide, "other"), 5);
	q_broker_close(wide);
	q_broker_close(tight);
	q_broker_close(c);
	end();
}

/* Two workers with room for one request each, of which only the large one has the tag; and whoever
 * calls them. */
static BrokerClient *c, *small, *large;

/* Each has a request, and keeps it. */
static void begin_full(const char *words, BrokerRequest *of_small, BrokerRequest *of_large)
{
	begin(words);
	c = connect_to_services(d.broker);
	small = worker("small", "op=embed", 1, 0);
	large = worker("large", "op=embed tag=gpu", 1, 0);
	services_await_ready(d.broker, 2);
	(void)submit(c, "tag=gpu");
	assert_status(q_service_recv(large, of_large, LONG_MS), Q_OK);
	(void)submit(c, NULL);
	assert_status(q_service_recv(small, of_small, LONG_MS), Q_OK);
}

/* Whatever waits yet ends with its caller. */
static void end_full(void)
{
	q_broker_close(c);
	q_broker_close(small);
	q_broker_close(large);
	end();
}

static void answer(BrokerClient *w, BrokerRequest *q)
{
	assert_status(q_service_reply(w, q, Q_REASON_OK, NULL, 0), Q_OK);
}

/* Answers, and takes the next one. */
static void go_on(BrokerClient *w, BrokerRequest *q)
{
	answer(w, q);
	assert_status(q_service_recv(w, q, LONG_MS), Q_OK);
}

/* Who could go anywhere would else take each place as it becomes free. */
static void r_what_only_one_can_do_gets_room_there_before_what_came_later(void **state)
{
	BrokerRequest a, b;
	uint64_t id;

	(void)state;
	begin_full("", &a, &b);
	id = submit_call(
		c, &(BrokerCall){ .service = "embed", .needs = "tag=gpu", .timeout_ms = LONG_MS });
	for (int i = 0; i < 20; i++)
		(void)submit(c, NULL);
	for (int i = 0; i < 5; i++) { /* others pass it */
		go_on(small, &a);
		assert_int_equal(a.bytes, 1);
	}
	go_on(large, &b);
	assert_int_equal(b.bytes, 0);
	answer(large, &b);
	(void)await_end(c, id, Q_OK, NULL);
	answer(small, &a);
	for (int i = 0, left = 15; left > 0; i++) {
		BrokerClient *w = i % 2 == 0 ? small : large;

		if (q_service_recv(w, &a, 1) != Q_OK)
			continue;
		answer(w, &a);
		left--;
	}
	for (int i = 0; i < 22; i++)
		(void)await_end(c, 0, Q_OK, NULL);
	end_full();
}

/* Of the first 30 that go 20 are HIGH and 10 NORMAL, though a hundred of HIGH are for a worker that
 * has no room. */
static void what_rests_takes_no_turn_of_its_class(void **state)
{
	BrokerCall call = { .service = "embed", .priority = 192, .timeout_ms = LONG_MS };
	BrokerRequest a, b;
	unsigned high = 0;

	(void)state;
	begin_full("", &a, &b);
	call.needs = "tag=gpu";
	for (int i = 0; i < 100; i++)
		(void)submit_call(c, &call);
	call.needs = NULL;
	for (int i = 0; i < 80; i++) {
		call.priority = i % 2 == 0 ? 192 : 128;
		(void)submit_call(c, &call);
	}
	services_settle(d.broker, c);
	for (int i = 0; i < 30; i++) {
		go_on(small, &a);
		high += a.priority == 192;
	}
	assert_in_range(high, 16, 24);
	end_full();
}

/* When nobody has room any more they do not come into the line: it would be full, and others
 * refused. */
static void what_rests_is_not_in_the_line_when_that_does_not_move(void **state)
{
	enum { MANY = 200 };
	BrokerRequest a, b, q;
	BrokerClient *other;
	uint64_t id;

	(void)state;
	begin_full("queued = 60\n", &a, &b);
	other = worker("other", "op=other", 1, 0);
	services_await_ready(d.broker, 3);
	answer(small, &a);
	for (int i = 0; i < MANY; i++) {
		(void)submit(c, "tag=gpu");
		if (i % 20 == 19)
			services_settle(d.broker, c);
	}
	(void)submit(c, NULL);
	assert_status(q_service_recv(small, &a, LONG_MS), Q_OK);
	nap_ms(100); /* the time of each has come several times */
	assert_int_equal(services_count_on(c, "waiting"), 0);
	id = submit_call(c, &(BrokerCall){ .service = "other", .timeout_ms = LONG_MS });
	assert_status(q_service_recv(other, &q, LONG_MS), Q_OK);
	answer(other, &q);
	(void)await_end(c, id, Q_OK, NULL);
	answer(small, &a);
	answer(large, &b);
	for (int i = 0; i < MANY; i++)
		serve(large, "");
	for (int i = 0; i < MANY + 3; i++)
		(void)await_end(c, 0, Q_OK, NULL);
	q_broker_close(other);
	end_full();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r_a_request_goes_only_to_a_worker_that_has_what_it_needs),
		cmocka_unit_test(r_it_waits_for_such_a_worker_and_others_get_past_it),
		cmocka_unit_test(r_a_worker_that_is_too_loaded_gets_none),
		cmocka_unit_test(r_what_is_said_is_of_those_that_can_do_it),
		cmocka_unit_test(r_a_session_leaves_its_worker_only_for_what_that_cannot_do),
		cmocka_unit_test(r_items_of_a_batch_need_it_and_answers_are_for_the_same_needs),
		cmocka_unit_test(lb_an_op_has_its_own_balance_and_the_tightest_fit_takes_all),
		cmocka_unit_test(r_what_only_one_can_do_gets_room_there_before_what_came_later),
		cmocka_unit_test(what_rests_takes_no_turn_of_its_class),
		cmocka_unit_test(what_rests_is_not_in_the_line_when_that_does_not_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
