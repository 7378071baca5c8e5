/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_limit.c - how many requests a worker has at once, where gpuqd learns that. gpuqd is
 * a process of its own; caller and workers are connections of this one thread. So a limit rises
 * only by what this thread answers. It may always have risen, where that took seconds.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <stdio.h>
#include <string.h>

enum { CAPACITY = 16, ASKED = 48, NAP_MS = 10 };

static struct daemon d;

/* `words` follow the keys of [services]. */
static void configure(const char *words, bool begins)
{
	char keys[400];

	snprintf(keys, sizeof(keys), "window = 512\nheartbeat_ms = 60000\n%s", words);
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

static BrokerClient *worker(const char *name, const char *can)
{
	return worker_of(name, can, CAPACITY);
}

static void await_limit(BrokerClient *c, const char *name, uint32_t limit)
{
	for (unsigned i = 0; services_look(c, name).limit != limit; i++) {
		if (i == LONG_MS)
			fail_msg("the limit is %u, not %u", services_look(c, name).limit, limit);
		nap_ms(1);
	}
}

static void submit_for(BrokerClient *c, const char *op, uint32_t timeout_ms, unsigned n)
{
	const BrokerCall call = { .service = op, .timeout_ms = timeout_ms };
	uint64_t id;

	for (; n > 0; n--)
		assert_status(q_broker_submit(c, &call, &id), Q_OK);
}

static void submit(BrokerClient *c, const char *op, unsigned n)
{
	submit_for(c, op, LONG_MS, n);
}

/* Takes what is there. */
static unsigned take_all(BrokerClient *w, BrokerRequest *to, unsigned room)
{
	unsigned n = 0;

	while (n < room && q_service_recv(w, &to[n], 0) == Q_OK)
		n++;
	return n;
}

static void answer(BrokerClient *w, BrokerRequest *q)
{
	assert_status(q_service_reply(w, q, Q_REASON_OK, NULL, 0), Q_OK);
}

static void comes(BrokerClient *c, BrokerClient *w, BrokerRequest *to, unsigned n)
{
	services_await_just(d.broker, c, w, to, n);
}

/* Takes what is there: something, and no more than the limit. @return how much */
static unsigned take_some(BrokerClient *c, BrokerClient *w, const char *name, BrokerRequest *to)
{
	unsigned n;

	services_settle(d.broker, c);
	n = take_all(w, to, CAPACITY);
	assert_in_range(n, 1, services_look(c, name).limit);
	return n;
}

/* ---- a worker that is slow, and then is not -------------------------------------------------- */

/* A worker in the middle of its work. */
struct busy {
	BrokerClient *c, *w;
	BrokerRequest has[CAPACITY + 1];
	unsigned n, asked;
	uint32_t limit, most; /* most: that there has been */
};

/* There is always more to do than it may have. */
static void keep_asking(struct busy *b)
{
	BrokerReply r;

	while (b->asked != 0 && q_broker_wait(b->c, 0, NULL, &(size_t){ 0 }, &r, 0) == Q_OK)
		b->asked--;
	submit(b->c, "job", ASKED - b->asked);
	b->asked = ASKED;
}

static void take_what_comes(struct busy *b)
{
	b->n += take_all(b->w, b->has + b->n, CAPACITY + 1 - b->n);
	b->limit = services_look(b->c, "w").limit;
	b->most = b->limit > b->most ? b->limit : b->most;
	assert_in_range(b->limit, 1, CAPACITY);
	if (b->n > b->most)
		fail_msg("%u requests are there, with a limit of %u at most", b->n, b->most);
}

/* It runs them one after the other: the more it has the longer each takes. */
static void work_slowly(struct busy *b)
{
	keep_asking(b);
	take_what_comes(b);
	if (b->n == 0)
		return;
	nap_ms(NAP_MS);
	answer(b->w, &b->has[0]);
	memmove(&b->has[0], &b->has[1], --b->n * sizeof(b->has[0]));
}

/* It runs all at once: that takes as long as one. */
static void work_quickly(struct busy *b)
{
	keep_asking(b);
	do
		take_what_comes(b);
	while (b->n < b->limit);
	nap_ms(NAP_MS);
	while (b->n > 0)
		answer(b->w, &b->has[--b->n]);
}

static void stop_working(struct busy *b)
{
	while (b->asked != 0) {
		b->n += take_all(b->w, b->has + b->n, CAPACITY + 1 - b->n);
		while (b->n > 0)
			answer(b->w, &b->has[--b->n]);
		while (b->asked != 0 &&
		       q_broker_wait(b->c, 0, NULL, &(size_t){ 0 }, NULL, 1) == Q_OK)
			b->asked--;
	}
}

static void rl_5_a_limit_is_learned_and_rises_when_the_worker_is_quick(void **state)
{
	struct busy b = { .asked = 0 };

	(void)state;
	begin("[op job]\nconcurrency = vegas\n");
	b.c = connect_to_services(d.broker);
	b.w = worker("w", "op=job");
	assert_int_equal(services_look(b.c, "w").limit, 1);
	assert_int_equal(services_look(b.c, "w").capacity, CAPACITY);
	while (b.limit < 3) /* it begins with one */
		work_slowly(&b);
	for (unsigned i = 0; i < 500; i++) {
		work_slowly(&b);
		assert_true(b.limit < CAPACITY);
	}
	while (b.limit < CAPACITY)
		work_quickly(&b);
	while (b.limit > CAPACITY * 3 / 4)
		work_slowly(&b);
	while (b.limit < CAPACITY)
		work_quickly(&b);
	stop_working(&b);
	q_broker_close(b.c);
	q_broker_close(b.w);
	end();
}

/* ---- who says so ----------------------------------------------------------------------------- */

static void without_a_word_a_worker_has_what_it_takes(void **state)
{
	BrokerRequest got[CAPACITY + 1];
	BrokerClient *c, *w;

	(void)state;
	begin("");
	c = connect_to_services(d.broker);
	w = worker("w", "op=job");
	assert_int_equal(services_look(c, "w").limit, CAPACITY);
	submit(c, "job", CAPACITY + 4);
	comes(c, w, got, CAPACITY);
	for (unsigned i = 0; i < CAPACITY; i++)
		answer(w, &got[i]);
	comes(c, w, got, 4);
	for (unsigned i = 0; i < 4; i++)
		answer(w, &got[i]);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void a_reload_says_how_many(void **state)
{
	BrokerRequest got[CAPACITY + 1];
	BrokerClient *c, *w;
	unsigned n;

	(void)state;
	begin("");
	c = connect_to_services(d.broker);
	w = worker("w", "op=job");
	submit(c, "job", 6);
	comes(c, w, got, 6);
	configure("concurrency = vegas\n", false);
	await_limit(c, "w", 1);
	submit(c, "job", 8);
	for (unsigned i = 0; i < 5; i++) {
		answer(w, &got[i]);
		services_settle(d.broker, c);
		n = take_all(w, got + 6, 8);
		/* As long as it has more than it may, nothing comes. */
		assert_true(n == 0 || services_look(c, "w").limit > 1);
		while (n > 0)
			answer(w, &got[5 + n--]);
	}
	answer(w, &got[5]);
	n = take_some(c, w, "w", got);
	configure("concurrency = aimd\n", false);
	await_limit(c, "w", CAPACITY);
	services_settle(d.broker, c);
	n += take_all(w, got + n, 8); /* all that was left, at once */
	configure("concurrency = gradient2\n", false);
	await_limit(c, "w", 1);
	configure("", false);
	await_limit(c, "w", CAPACITY);
	while (n > 0)
		answer(w, &got[--n]);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* A service of several ops has one limit for all that it has. */
static void the_first_op_says_how_and_all_ops_count(void **state)
{
	BrokerRequest got[CAPACITY + 1];
	BrokerClient *c, *w;

	(void)state;
	begin("concurrency = vegas\n[op a]\nconcurrency = fixed\n");
	c = connect_to_services(d.broker);
	w = worker("ab", "op=a op=b");
	assert_int_equal(services_look(c, "ab").limit, CAPACITY);
	submit(c, "b", 3);
	comes(c, w, got, 3);
	for (unsigned i = 0; i < 3; i++)
		answer(w, &got[i]);
	q_broker_close(w);
	services_await_count(d.broker, "services", 0);
	w = worker("ba", "op=b op=a");
	assert_int_equal(services_look(c, "ba").limit, 1);
	submit(c, "a", 2);
	submit(c, "b", 2);
	for (unsigned ended = 0; ended < 4;) {
		unsigned n = take_some(c, w, "ba", got);

		for (ended += n; n > 0;)
			answer(w, &got[--n]);
	}
	services_settle(d.broker, c);
	assert_int_equal(services_look(c, "ba").active, 0);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Else a batch would wait for room that there never is. */
static void a_batch_is_no_larger_than_the_limit(void **state)
{
	BrokerRequest got[CAPACITY];
	BrokerClient *c, *w;
	size_t n;

	(void)state;
	begin("concurrency = vegas\n[op job]\nbatch = 8\nbatch_delay_us = 60000000\n");
	c = connect_to_services(d.broker);
	w = worker("w", "op=job");
	submit(c, "job", 3);
	for (unsigned ended = 0; ended < 3;) {
		assert_status(q_service_recv_batch(w, got, CAPACITY, &n, LONG_MS / 4), Q_OK);
		assert_in_range(n, 1, services_look(c, "w").limit);
		for (ended += (unsigned)n; n > 0;)
			answer(w, &got[--n]);
	}
	configure("[op job]\nbatch = 8\nbatch_delay_us = 60000000\n", false);
	await_limit(c, "w", CAPACITY);
	submit(c, "job", 8);
	assert_status(q_service_recv_batch(w, got, CAPACITY, &n, LONG_MS / 4), Q_OK);
	assert_int_equal(n, 8);
	for (unsigned i = 0; i < 8; i++)
		answer(w, &got[i]);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* ---- what does not end well ------------------------------------------------------------------ */

/* A worker that has had a request for heartbeat_ms has had time for it. */
static void a_request_that_expires_counts_if_its_worker_has_had_time(void **state)
{
	BrokerRequest got[CAPACITY + 1];
	BrokerClient *c, *w;

	(void)state;
	daemon_set_up(&d, "", "heartbeat_ms = 1000\nconcurrency = aimd\nbreaker_open_ms = 10\n");
	c = connect_to_services(d.broker);
	w = worker("w", "op=job");
	submit_for(c, "job", 50, CAPACITY); /* whoever asks so cannot make it fall */
	for (unsigned i = 0; i < CAPACITY; i++)
		(void)await_end(c, 0, Q_ERR_EXPIRED, NULL);
	assert_int_equal(services_look(c, "w").limit, CAPACITY);
	while (services_look(c, "w").active != 0)
		for (unsigned n = take_all(w, got, CAPACITY); n > 0; n--)
			answer(w, &got[n - 1]);
	submit_for(c, "job", 1500, CAPACITY);
	for (unsigned i = 0; i < CAPACITY; i++)
		(void)await_end(c, 0, Q_ERR_EXPIRED, NULL);
	assert_int_equal(services_look(c, "w").limit, CAPACITY * 9 / 10);
	assert_int_equal(services_look(c, "w").active, CAPACITY); /* LATE: they keep their places */
	q_broker_close(w);
	q_broker_close(c);
	end();
}

/* With one at a time it would never get another. */
static void a_request_that_a_worker_has_forgotten_takes_no_place_of_others(void **state)
{
	enum { FEW = 4 };
	BrokerRequest forgotten[FEW], got[CAPACITY];
	BrokerClient *c, *w;
	unsigned ended = 0;

	(void)state;
	begin("[op job]\nconcurrency = vegas\n");
	c = connect_to_services(d.broker);
	w = worker_of("w", "op=job", FEW);
	for (unsigned i = 0; i < FEW; i++) {
		submit_for(c, "job", 1000, 1);
		assert_status(q_service_recv(w, &forgotten[i], LONG_MS), Q_OK);
		submit_for(c, "job", 1, 1); /* as long as somebody waits for that, it waits */
		(void)await_end(c, 0, Q_ERR_EXPIRED, NULL);
		(void)await_end(c, 0, Q_ERR_EXPIRED, NULL);
		assert_int_equal(services_look(c, "w").limit, 1);
		assert_int_equal(services_look(c, "w").active, i + 1);
	}
	submit(c, "job", 2);
	services_settle(d.broker, c);
	assert_int_equal(take_all(w, got, 1), 0); /* that is all that it takes */
	for (unsigned i = 1; i < FEW; i++)
		answer(w, &forgotten[i]);
	while (ended < 2) { /* beside the one that is LATE: as the limit says */
		unsigned n = take_some(c, w, "w", got);

		for (ended += n; n > 0;)
			answer(w, &got[--n]);
	}
	for (unsigned i = 0; i < 2; i++)
		(void)await_end(c, 0, Q_OK, NULL);
	assert_int_equal(services_look(c, "w").active, 1);
	q_broker_close(w);
	q_broker_close(c);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rl_5_a_limit_is_learned_and_rises_when_the_worker_is_quick),
		cmocka_unit_test(without_a_word_a_worker_has_what_it_takes),
		cmocka_unit_test(a_reload_says_how_many),
		cmocka_unit_test(the_first_op_says_how_and_all_ops_count),
		cmocka_unit_test(a_batch_is_no_larger_than_the_limit),
		cmocka_unit_test(a_request_that_expires_counts_if_its_worker_has_had_time),
		cmocka_unit_test(a_request_that_a_worker_has_forgotten_takes_no_place_of_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
