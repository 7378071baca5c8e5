/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_gather.c - requests of one op that gpuqd hands to a worker as one batch. gpuqd is a
 * process of its own; caller and workers are connections of this one thread. Where a batch is not
 * to go its delay is a minute.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include "host/base/clock.h"

#include <gpuq/broker.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
	ROOM = 256,
	SOON_MS =
		LONG_MS / 4, /* before half of a request's time is over: then a batch goes anyway */
};

static struct daemon d;
static BrokerRequest got[ROOM];

/* `words` follow [op embed]. */
static void configure(const char *words, bool begins)
{
	char keys[400];

	snprintf(keys, sizeof(keys), "window = 512\nheartbeat_ms = 60000\n[op embed]\n%s", words);
	(begins ? daemon_set_up : daemon_reload)(&d, "", keys);
}

static void begin(const char *words)
{
	configure(words, true);
}

static void end(void)
{
	services_await_count(d.broker, "inside", 0);
	daemon_tear_down(&d);
}

static BrokerClient *worker_of(const char *name, const char *can, uint32_t capacity)
{
	return connect_ready_worker(d.broker, name, can, capacity);
}

static BrokerClient *worker(uint32_t capacity)
{
	BrokerClient *w = worker_of("w", "op=embed", capacity);

	services_await_ready(d.broker, 1);
	return w;
}

static uint64_t submit_call(BrokerClient *c, const BrokerCall *call)
{
	uint64_t id = 0;

	assert_status(q_broker_submit(c, call, &id), Q_OK);
	return id;
}

/* One whose text is a digit. */
static uint64_t submit(BrokerClient *c, unsigned digit)
{
	const char text[1] = { (char)('0' + digit) };

	return submit_call(c, &(BrokerCall){ .service = "embed",
					     .payload = text,
					     .bytes = 1,
					     .timeout_ms = LONG_MS });
}

static void submit_many(BrokerClient *c, unsigned first, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)submit(c, first + i);
}

/* The next batch has to be these. */
static void comes(BrokerClient *w, const char *digits)
{
	size_t n = 0;

	assert_status(q_service_recv_batch(w, got, ROOM, &n, SOON_MS), Q_OK);
	if (n != strlen(digits))
		fail_msg("%zu requests have come together, not those of '%s'", n, digits);
	for (size_t i = 0; i < n; i++)
		if (got[i].bytes < 1 || *(const char *)got[i].payload != digits[i])
			fail_msg("request %zu is '%c', not '%c'", i,
				 got[i].bytes > 0 ? *(const char *)got[i].payload : ' ', digits[i]);
}

static void nothing_comes(BrokerClient *w)
{
	size_t n = 7;

	assert_int_equal(q_service_recv_batch(w, got, ROOM, &n, 0), Q_ERR_TIMEOUT);
	assert_int_equal(n, 0);
}

static void answer(BrokerClient *w, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++)
		assert_status(q_service_reply(w, &got[i], Q_REASON_OK, got[i].payload, 1), Q_OK);
}

static void serve(BrokerClient *w, const char *digits)
{
	comes(w, digits);
	answer(w, 0, (unsigned)strlen(digits));
}

static void all_end_well(BrokerClient *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)await_end(c, 0, Q_OK, NULL);
}

static void close_both(BrokerClient *c, BrokerClient *w)
{
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void q_5_a_batch_goes_when_it_has_as_many_as_it_may(void **state)
{
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 3);
	services_settle(d.broker, c);
	nothing_comes(w);
	submit_many(c, 3, 5);
	serve(w, "0123");
	serve(w, "4567");
	all_end_well(c, 8);
	assert_int_equal(services_count_on(c, "batches"), 2);
	assert_int_equal(services_count_on(c, "batched"), 8);
	close_both(c, w);
}

static void q_5_a_batch_goes_when_it_has_as_many_bytes_as_it_may(void **state)
{
	static const char text[2][40] = { "0", "1" };
	BrokerCall call = { .service = "embed", .bytes = 40, .timeout_ms = LONG_MS };
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 8\nbatch_bytes = 100\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	call.payload = text[0];
	(void)submit_call(c, &call);
	call.payload = text[1];
	(void)submit_call(c, &call);
	services_settle(d.broker, c);
	nothing_comes(w);
	(void)submit_call(c, &call); /* does not fit: so the others go */
	serve(w, "01");
	(void)submit(c, 2);
	call.bytes = 1000; /* more than a batch may have: it goes by itself */
	call.payload = (const char[1000]){ "3" };
	(void)submit_call(c, &call);
	serve(w, "12");
	serve(w, "3");
	all_end_well(c, 5);
	close_both(c, w);
}

static void q_5_a_batch_goes_when_its_first_request_has_waited_for_the_delay(void **state)
{
	BrokerClient *c, *w;
	uint64_t begin_ns;

	(void)state;
	begin("batch = 8\nbatch_delay_us = 200000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	begin_ns = gq__now_ns();
	submit_many(c, 0, 3);
	comes(w, "012");
	assert_true(gq__now_ns() - begin_ns >= UINT64_C(200000000));
	answer(w, 0, 3);
	all_end_well(c, 3);
	close_both(c, w);
}

static void q_5_without_a_delay_goes_together_what_waits_together(void **state)
{
	BrokerClient *c, *w;
	size_t n, taken;

	(void)state;
	begin("batch = 3\n");
	c = connect_to_services(d.broker);
	w = worker(3);
	(void)submit(c, 0);
	comes(w, "0"); /* nobody is waited for */
	submit_many(c, 1, 5);
	services_settle(d.broker, c);
	answer(w, 0, 1);
	for (taken = 0; taken < 5; taken += n) {
		assert_status(q_service_recv_batch(w, got, ROOM, &n, LONG_MS), Q_OK);
		assert_in_range(n, 1, 3);
		answer(w, 0, (unsigned)n);
	}
	all_end_well(c, 6);
	close_both(c, w);
}

static void q_5_a_preferred_size_goes_at_once(void **state)
{
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 8\nbatch_preferred = 3, 5\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 2);
	services_settle(d.broker, c);
	nothing_comes(w);
	(void)submit(c, 2);
	serve(w, "012");
	all_end_well(c, 3);
	close_both(c, w);
}

static void q_5_a_request_waits_for_half_of_its_time_at_most(void **state)
{
	const BrokerCall soon = {
		.service = "embed", .payload = "1", .bytes = 1, .timeout_ms = LONG_MS / 10
	};
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 8\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	(void)submit(c, 0);
	(void)submit_call(c, &soon);
	serve(w, "01");
	all_end_well(c, 2);
	close_both(c, w);
}

static void q_5_what_is_critical_takes_with_it_what_waits(void **state)
{
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 8\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 2);
	services_settle(d.broker, c);
	nothing_comes(w);
	(void)submit_call(c, &(BrokerCall){ .service = "embed",
					    .payload = "2",
					    .bytes = 1,
					    .priority = 255,
					    .timeout_ms = LONG_MS });
	serve(w, "012");
	all_end_well(c, 3);
	close_both(c, w);
}

/* One with a session, with needs, or whose bytes lie in a region: each may need another worker. */
static void what_may_need_another_worker_goes_by_itself(void **state)
{
	BrokerCall call = { .service = "embed", .timeout_ms = LONG_MS };
	BrokerRegion region;
	BrokerExtent extent = { 0 };
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 3);
	call.payload = "s";
	call.bytes = 1;
	call.session = "mine";
	call.session_bytes = 4;
	(void)submit_call(c, &call);
	serve(w, "s");
	call.session = NULL;
	call.session_bytes = 0;
	call.payload = "n";
	call.needs = "op=embed";
	(void)submit_call(c, &call);
	serve(w, "n");
	assert_status(q_broker_region_create(c, 1, &region), Q_OK);
	*(char *)region.memory = 'r';
	assert_status(q_broker_region_seal(c, region.id), Q_OK);
	extent.region = region.id;
	call.payload = NULL;
	call.needs = NULL;
	call.extent = &extent;
	(void)submit_call(c, &call);
	serve(w, "r");
	(void)submit(c, 3);
	serve(w, "0123");
	all_end_well(c, 7);
	close_both(c, w);
}

static void one_that_ends_while_it_waits_leaves_its_place_to_another(void **state)
{
	BrokerClient *c, *gone, *w;
	uint64_t id;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	gone = connect_to_services(d.broker);
	w = worker(16);
	(void)submit(c, 0);
	id = submit(c, 1);
	(void)submit(gone, 2);
	services_settle(d.broker, gone);
	q_broker_close(gone);
	assert_status(q_broker_cancel(c, id), Q_OK);
	(void)await_end(c, id, Q_ERR_CANCELLED, NULL);
	services_await_count(d.broker, "inside", 1);
	submit_many(c, 3, 2);
	services_settle(d.broker, c);
	nothing_comes(w);
	(void)submit(c, 5);
	serve(w, "0345");
	all_end_well(c, 4);
	close_both(c, w);
}

static void one_that_is_cancelled_on_its_way_is_not_waited_for(void **state)
{
	BrokerClient *c, *w;
	uint64_t id[4];

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	for (unsigned i = 0; i < 4; i++)
		id[i] = submit(c, i);
	services_settle(d.broker, c); /* all are in the worker's socket */
	assert_status(q_broker_cancel(c, id[0]), Q_OK);
	assert_status(q_broker_cancel(c, id[3]), Q_OK);
	(void)await_end(c, id[0], Q_ERR_CANCELLED, NULL);
	(void)await_end(c, id[3], Q_ERR_CANCELLED, NULL);
	services_settle(d.broker, c);
	assert_status(q_service_heartbeat(w, NULL), Q_OK); /* hears all that has come */
	serve(w, "12");
	all_end_well(c, 2);
	close_both(c, w);
}

static void a_batch_is_no_larger_than_what_its_worker_takes(void **state)
{
	BrokerClient *c, *w, *other;

	(void)state;
	begin("batch = 6\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker_of("w", "op=embed", 2);
	services_await_ready(d.broker, 1);
	submit_many(c, 0, 6);
	comes(w, "01");
	services_settle(d.broker, c);
	nothing_comes(w);
	answer(w, 0, 1);
	services_settle(d.broker, c);
	nothing_comes(w); /* room for one, which would be a batch of one */
	answer(w, 1, 1);
	serve(w, "23");
	serve(w, "45");
	all_end_well(c, 6);
	q_broker_close(w);
	services_await_count(d.broker, "services", 0);
	other = worker_of("other", "op=embed batch=3", 16); /* as it has said itself */
	services_await_ready(d.broker, 1);
	submit_many(c, 0, 6);
	serve(other, "012");
	serve(other, "345");
	all_end_well(c, 6);
	close_both(c, other);
}

/* What another would take, that gets nothing now, is not waited for. */
static void a_batch_is_no_larger_than_what_one_takes_that_is_well(void **state)
{
	const BrokerOrder drain = { .kind = Q_ORDER_DRAIN, .name = "large" };
	BrokerClient *c, *w, *large;

	(void)state;
	begin("batch = 6\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker_of("w", "op=embed", 2);
	large = worker_of("large", "op=embed", 16);
	services_await_ready(d.broker, 2);
	submit_many(c, 0, 2);
	services_settle(d.broker, c);
	nothing_comes(w);
	nothing_comes(large);
	assert_status(q_broker_order(c, &drain), Q_OK);
	serve(w, "01");
	submit_many(c, 2, 2);
	serve(w, "23");
	all_end_well(c, 4);
	q_broker_close(large);
	close_both(c, w);
}

static void a_batch_waits_for_a_worker_with_room_for_all_of_it(void **state)
{
	const BrokerCall one = {
		.service = "one", .payload = "x", .bytes = 1, .timeout_ms = LONG_MS
	};
	BrokerClient *c, *w;
	BrokerRequest kept;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker_of("w", "op=embed op=one", 4);
	services_await_ready(d.broker, 1);
	(void)submit_call(c, &one);
	assert_status(q_service_recv(w, &kept, LONG_MS), Q_OK);
	submit_many(c, 0, 4);
	services_settle(d.broker, c);
	nothing_comes(w);
	assert_status(q_service_reply(w, &kept, Q_REASON_OK, NULL, 0), Q_OK);
	serve(w, "0123");
	all_end_well(c, 5);
	close_both(c, w);
}

/* A worker of two ops is never empty: after a while any room is taken. */
static void a_batch_that_never_finds_enough_room_goes_in_parts(void **state)
{
	const BrokerCall one = {
		.service = "one", .payload = "x", .bytes = 1, .timeout_ms = LONG_MS
	};
	BrokerClient *c, *w;
	size_t n, parts = 0;
	BrokerRequest kept;

	(void)state;
	begin("batch = 4\n");
	c = connect_to_services(d.broker);
	w = worker_of("w", "op=embed op=one", 4);
	services_await_ready(d.broker, 1);
	(void)submit_call(c, &one);
	assert_status(q_service_recv(w, &kept, LONG_MS), Q_OK); /* and keeps it */
	submit_many(c, 0, 4);
	while (parts < 4) {
		assert_status(q_service_recv_batch(w, got, ROOM, &n, LONG_MS), Q_OK);
		assert_in_range(n, 1, 3);
		answer(w, 0, (unsigned)n);
		parts += n;
	}
	assert_status(q_service_reply(w, &kept, Q_REASON_OK, NULL, 0), Q_OK);
	all_end_well(c, 5);
	close_both(c, w);
}

/* The request that kills its worker takes no other with it again. */
static void what_a_worker_has_died_with_is_tried_one_by_one(void **state)
{
	BrokerCall call = {
		.service = "embed", .bytes = 1, .idempotent = true, .timeout_ms = LONG_MS
	};
	BrokerClient *c, *w, *dies;

	(void)state;
	begin("batch = 3\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker_of("dies", "op=embed", 16);
	services_await_ready(d.broker, 1);
	for (unsigned i = 0; i < 3; i++) {
		call.payload = (const char[]){ (char)('0' + i) };
		(void)submit_call(c, &call);
	}
	comes(w, "012");
	dies = w;
	w = worker_of("w", "op=embed", 16);
	services_await_ready(d.broker, 2);
	q_broker_close(dies);
	for (int i = 0; i < 3; i++) {
		size_t n;

		assert_status(q_service_recv_batch(w, got, ROOM, &n, LONG_MS), Q_OK);
		assert_int_equal(n, 1);
		answer(w, 0, 1);
	}
	all_end_well(c, 3);
	close_both(c, w);
}

static void without_a_worker_they_end_at_once(void **state)
{
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 3\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 2);
	services_settle(d.broker, c);
	assert_status(q_service_unregister(w), Q_OK);
	(void)await_end(c, 0, Q_ERR_NOT_FOUND, NULL);
	(void)await_end(c, 0, Q_ERR_NOT_FOUND, NULL);
	close_both(c, w);
}

static void a_reload_says_how_large_they_are(void **state)
{
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 3);
	services_settle(d.broker, c);
	nothing_comes(w);
	configure("batch = 2\nbatch_delay_us = 60000000\n", false);
	serve(w, "01");
	(void)submit(c, 3);
	serve(w, "23");
	all_end_well(c, 4);
	close_both(c, w);
}

/* Single receives of a batch, a room that is too small, and calls that are wrong. */
static void a_worker_takes_a_batch_as_it_likes(void **state)
{
	BrokerClient *c, *w;
	BrokerRequest one;
	size_t n = 1;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 8);
	assert_status(q_service_recv_batch(w, got, 3, &n, LONG_MS), Q_OK);
	assert_int_equal(n, 3);
	answer(w, 0, 3);
	serve(w, "3");
	assert_status(q_service_recv(w, &one, LONG_MS), Q_OK);
	assert_status(q_service_reply(w, &one, Q_REASON_OK, NULL, 0), Q_OK);
	serve(w, "567");
	all_end_well(c, 8);
	n = 5;
	assert_int_equal(q_service_recv_batch(w, NULL, 1, &n, 0), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	assert_string_equal(q_last_error(), "out is NULL");
	assert_int_equal(q_service_recv_batch(w, got, 1, NULL, 0), Q_ERR_INVALID_ARG);
	assert_string_equal(q_last_error(), "out_count is NULL");
	assert_int_equal(q_service_recv_batch(w, got, 0, &n, 0), Q_ERR_INVALID_ARG);
	assert_string_equal(q_last_error(), "room is 0; allowed: 1 and more");
	assert_int_equal(q_service_recv_batch(c, got, 1, &n, 0), Q_ERR_NOT_FOUND);
	assert_int_equal(n, 0);
	close_both(c, w);
}

/* They have waited for longer than a batch waits for room: with more of them than workers can do
 * all have. A worker that has answered one still gets no batch of one. */
static void how_long_they_have_waited_before_makes_no_batch_smaller(void **state)
{
	BrokerClient *c, *w;
	uint64_t begin_ns;
	size_t n;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 1000\n");
	c = connect_to_services(d.broker);
	w = worker(4);
	submit_many(c, 0, 4);
	for (size_t had = 0; had < 4; had += n)
		assert_status(q_service_recv_batch(w, &got[had], 4, &n, LONG_MS), Q_OK);
	submit_many(c, 4, 4);
	services_settle(d.broker, c);
	nap_ms(1500);
	begin_ns = gq__now_ns();
	answer(w, 0, 1);
	services_settle(d.broker, c);
	answer(w, 1, 3);
	assert_status(q_service_recv_batch(w, got, ROOM, &n, LONG_MS), Q_OK);
	if (n != 4 && gq__now_ns() - begin_ns < UINT64_C(1000000000))
		fail_msg("a batch of %zu has gone, as soon as there was room for one", n);
	for (size_t had = n; had < 4; had += n)
		assert_status(q_service_recv_batch(w, &got[had], 4, &n, LONG_MS), Q_OK);
	answer(w, 0, 4);
	all_end_well(c, 8);
	close_both(c, w);
}

/* However long it would wait for others, a batch that is large enough waits for room no longer than
 * its requests have time. What there is room for then is soon enough for the next. */
static void a_batch_goes_in_parts_before_its_time_is_over(void **state)
{
	BrokerCall call = { .service = "one", .payload = "x", .bytes = 1, .timeout_ms = LONG_MS };
	BrokerClient *c, *w;
	BrokerRequest kept;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker_of("w", "op=embed op=one", 4);
	services_await_ready(d.broker, 1);
	(void)submit_call(c, &call);
	assert_status(q_service_recv(w, &kept, LONG_MS), Q_OK); /* and keeps it */
	call.service = "embed";
	call.timeout_ms = LONG_MS / 10;
	for (unsigned i = 0; i < 3; i++) {
		call.payload = (const char[]){ (char)('0' + i) };
		(void)submit_call(c, &call);
	}
	(void)submit(c, 3);
	serve(w, "012");
	submit_many(c, 4, 3);
	serve(w, "345"); /* does not wait for half a minute */
	(void)submit_call(c, &(BrokerCall){ .service = "embed",
					    .payload = "7",
					    .bytes = 1,
					    .priority = 255,
					    .timeout_ms = LONG_MS });
	serve(w, "67");
	assert_status(q_service_reply(w, &kept, Q_REASON_OK, NULL, 0), Q_OK);
	all_end_well(c, 9);
	close_both(c, w);
}

static void what_has_expired_goes_to_no_worker(void **state)
{
	const BrokerCall soon = {
		.service = "embed", .payload = "0", .bytes = 1, .timeout_ms = LONG_MS / 20
	};
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	(void)submit_call(c, &soon);
	services_settle(d.broker, c);
	daemon_stop(&d); /* and is late */
	nap_ms(LONG_MS / 20 + 10);
	assert_int_equal(kill(d.pid, SIGCONT), 0);
	(void)await_end(c, 0, Q_ERR_EXPIRED, NULL);
	assert_int_equal(services_count_on(c, "batched"), 0);
	nothing_comes(w);
	close_both(c, w);
}

/* Nobody comes that they could wait for. */
static void when_gpuqd_ends_they_go_at_once(void **state)
{
	BrokerClient *c, *w;

	(void)state;
	begin("batch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	submit_many(c, 0, 2);
	services_settle(d.broker, c);
	nothing_comes(w);
	assert_int_equal(kill(d.pid, SIGTERM), 0);
	serve(w, "01");
	all_end_well(c, 2);
	q_broker_close(c);
	q_broker_close(w);
	assert_int_equal(daemon_end(&d, SIGTERM), 0);
	daemon_start(&d);
	end();
}

/* Who asks for the same and has less time does not wait for one that gathers. */
static void one_with_less_time_joins_none_that_gathers(void **state)
{
	BrokerCall call = {
		.service = "embed", .payload = "0", .bytes = 1, .cache = true, .timeout_ms = LONG_MS
	};
	BrokerClient *c, *w;

	(void)state;
	begin("cache = user\nbatch = 4\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker(16);
	(void)submit_call(c, &call);
	(void)submit_call(c, &call); /* joins */
	services_settle(d.broker, c);
	call.timeout_ms = LONG_MS / 20;
	(void)submit_call(c, &call);
	serve(w, "00");
	all_end_well(c, 3);
	close_both(c, w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(q_5_a_batch_goes_when_it_has_as_many_as_it_may),
		cmocka_unit_test(q_5_a_batch_goes_when_it_has_as_many_bytes_as_it_may),
		cmocka_unit_test(q_5_a_batch_goes_when_its_first_request_has_waited_for_the_delay),
		cmocka_unit_test(q_5_without_a_delay_goes_together_what_waits_together),
		cmocka_unit_test(q_5_a_preferred_size_goes_at_once),
		cmocka_unit_test(q_5_a_request_waits_for_half_of_its_time_at_most),
		cmocka_unit_test(q_5_what_is_critical_takes_with_it_what_waits),
		cmocka_unit_test(what_may_need_another_worker_goes_by_itself),
		cmocka_unit_test(one_that_ends_while_it_waits_leaves_its_place_to_another),
		cmocka_unit_test(one_that_is_cancelled_on_its_way_is_not_waited_for),
		cmocka_unit_test(a_batch_is_no_larger_than_what_its_worker_takes),
		cmocka_unit_test(a_batch_is_no_larger_than_what_one_takes_that_is_well),
		cmocka_unit_test(a_batch_waits_for_a_worker_with_room_for_all_of_it),
		cmocka_unit_test(a_batch_that_never_finds_enough_room_goes_in_parts),
		cmocka_unit_test(how_long_they_have_waited_before_makes_no_batch_smaller),
		cmocka_unit_test(a_batch_goes_in_parts_before_its_time_is_over),
		cmocka_unit_test(what_has_expired_goes_to_no_worker),
		cmocka_unit_test(when_gpuqd_ends_they_go_at_once),
		cmocka_unit_test(one_with_less_time_joins_none_that_gathers),
		cmocka_unit_test(what_a_worker_has_died_with_is_tried_one_by_one),
		cmocka_unit_test(without_a_worker_they_end_at_once),
		cmocka_unit_test(a_reload_says_how_large_they_are),
		cmocka_unit_test(a_worker_takes_a_batch_as_it_likes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
