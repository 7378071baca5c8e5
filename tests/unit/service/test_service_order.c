/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_order.c - orders to a gpuqd with services: draining, breakers, the cache; and who
 * may give them. gpuqd is a process of its own; callers and workers are connections of this one
 * thread.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct daemon d;

static void begin(void)
{
	daemon_set_up(&d, "",
		      "heartbeat_ms = 60s\nattempts = 1\nsocket_mode = 0666\n"
		      "[op pure]\ncache = user\n[op open]\ncache = public\n");
}

static BrokerClient *client(void)
{
	return connect_to_services(d.broker);
}

static BrokerClient *worker(const char *name, const char *can)
{
	const BrokerService s = { .name = name, .capability = can, .heartbeat_ms = 20 };
	BrokerClient *c = connect_worker(d.broker, &s);

	assert_status(q_service_heartbeat(c, NULL), Q_OK);
	return c;
}

static BrokerOrder named(uint32_t kind, const char *name)
{
	return (BrokerOrder){ .kind = kind, .name = name };
}

static void order(BrokerClient *c, uint32_t kind, const char *name)
{
	const BrokerOrder o = named(kind, name);

	if (q_broker_order(c, &o) != Q_OK)
		fail_msg("%s", q_last_error());
}

static uint64_t submit_call(BrokerClient *c, const BrokerCall *call)
{
	uint64_t id = 0;

	if (q_broker_submit(c, call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

static uint64_t submit(BrokerClient *c, const char *op, const char *text)
{
	const BrokerCall call = { .service = op,
				  .payload = text,
				  .bytes = strlen(text),
				  .timeout_ms = LONG_MS,
				  .cache = true };

	return submit_call(c, &call);
}

static BrokerRequest take_one(BrokerClient *w)
{
	BrokerRequest q = { 0 };

	if (q_service_recv(w, &q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	return q;
}

static void answer(BrokerClient *w, BrokerRequest *q, uint32_t reason, const char *text)
{
	assert_status(q_service_reply(w, q, reason, text, strlen(text)), Q_OK);
}

/* A request there and back, by this worker. */
static void serve(BrokerClient *c, const char *op, BrokerClient *w, const char *text)
{
	const uint64_t id = submit(c, op, "x");
	BrokerRequest q = take_one(w);

	answer(w, &q, Q_REASON_OK, text);
	await_end(c, id, Q_OK, text);
}

/* ---- draining -------------------------------------------------------------------------------- */

static void a_service_that_drains_finishes_what_it_has_and_gets_nothing_new(void **state)
{
	BrokerClient *a, *b, *c;
	BrokerRequest q;
	uint64_t id;

	(void)state;
	begin();
	a = worker("a", "op=job");
	c = client();
	id = submit(c, "job", "first");
	q = take_one(a);
	order(c, Q_ORDER_DRAIN, "a");
	assert_string_equal(services_look(c, "a").state, "draining");
	/* Nobody else does it: who asks is told, and need not wait. */
	assert_true(await_end(c, submit(c, "job", "x"), Q_ERR_FULL, NULL).may_retry);
	assert_status(q_service_heartbeat(a, NULL), Q_OK); /* it lives, and drains on */
	assert_string_equal(services_look(c, "a").state, "draining");
	answer(a, &q, Q_REASON_OK, "done");
	await_end(c, id, Q_OK, "done");
	b = worker("b", "op=job");
	for (int i = 0; i < 5; i++)
		serve(c, "job", b, "by b");
	order(c, Q_ORDER_RESUME, "a");
	assert_string_equal(services_look(c, "a").state, "ready");
	order(c, Q_ORDER_DRAIN, "b");
	serve(c, "job", a, "by a");
	order(c, Q_ORDER_RESUME, "b");
	/* Who registers anew does not drain. */
	order(c, Q_ORDER_DRAIN, "b");
	q_broker_close(b);
	order(c, Q_ORDER_DRAIN, "a");
	for (unsigned i = 0;; i++) { /* gpuqd has yet to see that b is gone */
		const BrokerService s = { .name = "b", .capability = "op=job" };

		b = client();
		if (q_service_register(b, &s) == Q_OK)
			break;
		assert_true(i < LONG_MS);
		q_broker_close(b);
		nap_ms(1);
	}
	assert_status(q_service_heartbeat(b, NULL), Q_OK);
	serve(c, "job", b, "again");
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	daemon_tear_down(&d);
}

/* Where a request of a session goes: 0 or 1. */
static int home_of(BrokerClient *c, BrokerClient *const w[2], const char *session)
{
	const BrokerCall call = { .service = "sit",
				  .session = session,
				  .session_bytes = strlen(session),
				  .timeout_ms = LONG_MS };
	const uint64_t id = submit_call(c, &call);

	for (unsigned i = 0;; i++) {
		BrokerRequest q;

		if (q_service_recv(w[i % 2], &q, 0) == Q_OK) {
			answer(w[i % 2], &q, Q_REASON_OK, "");
			await_end(c, id, Q_OK, "");
			return (int)(i % 2);
		}
		assert_true(i < 2 * LONG_MS);
		if (i % 2 == 1)
			nap_ms(1);
	}
}

static void st_4_sessions_of_a_service_that_drains_may_go_on(void **state)
{
	BrokerClient *w[2], *c;
	static const char *const names[2] = { "a", "b" };
	BrokerOrder drain;
	int home;

	(void)state;
	begin();
	w[0] = worker("a", "op=sit");
	w[1] = worker("b", "op=sit");
	c = client();
	home = home_of(c, w, "s");
	drain = named(Q_ORDER_DRAIN, names[home]);
	drain.timeout_ms = LONG_MS;
	assert_status(q_broker_order(c, &drain), Q_OK);
	for (int i = 0; i < 5; i++) {
		char other[2] = { (char)('0' + i), 0 };

		assert_int_equal(home_of(c, w, "s"), home);
		assert_int_equal(home_of(c, w, other), 1 - home); /* new ones go elsewhere */
	}
	drain.timeout_ms = 0;
	assert_status(q_broker_order(c, &drain), Q_OK);
	assert_int_equal(home_of(c, w, "s"), 1 - home);
	order(c, Q_ORDER_RESUME, names[home]);
	assert_int_equal(home_of(c, w, "s"), 1 - home); /* that is its home now */
	q_broker_close(w[0]);
	q_broker_close(w[1]);
	q_broker_close(c);
	daemon_tear_down(&d);
}

static void st_4_a_session_waits_for_the_service_that_drains(void **state)
{
	const BrokerCall call = {
		.service = "sit", .session = "s", .session_bytes = 1, .timeout_ms = LONG_MS
	};
	const BrokerService one = { .name = "a", .capability = "op=sit", .capacity = 1 };
	BrokerOrder drain = named(Q_ORDER_DRAIN, "a");
	BrokerClient *w, *c;
	uint64_t id[3];
	BrokerRequest q;

	(void)state;
	begin();
	c = client();
	w = connect_worker(d.broker, &one);
	assert_status(q_service_heartbeat(w, NULL), Q_OK);
	id[0] = submit_call(c, &call);
	q = take_one(w);
	drain.timeout_ms = LONG_MS;
	assert_status(q_broker_order(c, &drain), Q_OK);
	id[1] = submit_call(c, &call); /* it is full, and nobody else does it */
	id[2] = submit_call(c, &call);
	for (int i = 0; i < 3; i++) {
		if (i != 0)
			q = take_one(w);
		answer(w, &q, Q_REASON_OK, "");
	}
	for (int i = 0; i < 3; i++)
		await_end(c, id[i], Q_OK, "");
	/* Who has no session there does not wait. */
	await_end(c, submit(c, "sit", "x"), Q_ERR_FULL, NULL);
	q_broker_close(w);
	q_broker_close(c);
	daemon_tear_down(&d);
}

static uint64_t submit_numbered(BrokerClient *c, uint32_t number)
{
	const BrokerCall call = { .service = "sit",
				  .session = "s",
				  .session_bytes = 1,
				  .payload = &number,
				  .bytes = sizeof(number),
				  .timeout_ms = LONG_MS };

	return submit_call(c, &call);
}

static uint32_t number_of(const BrokerRequest *q)
{
	uint32_t number;

	assert_int_equal(q->bytes, sizeof(number));
	memcpy(&number, q->payload, sizeof(number));
	return number;
}

/* The first that waits, one in the middle, and the last two of those that wait together. */
static bool is_cancelled(uint32_t number)
{
	return number == 1 || number == 3 || number == 6 || number == 7;
}

/* They wait for their home, which is full. Their entries in the table are in the reverse order, and
 * others come when it gets room; some are cancelled meanwhile. */
static void requests_of_a_session_that_wait_do_not_overtake_each_other(void **state)
{
	enum { TOGETHER = 8, ALL = 64 };
	const BrokerService many = { .name = "b", .capability = "op=other", .capacity = TOGETHER },
			    one = { .name = "a", .capability = "op=sit", .capacity = 1 };
	BrokerOrder drain = named(Q_ORDER_DRAIN, "a");
	BrokerRequest q[TOGETHER];
	BrokerClient *w, *b, *c;
	uint64_t id[ALL];
	uint32_t came;

	(void)state;
	begin();
	c = client();
	b = connect_worker(d.broker, &many);
	assert_status(q_service_heartbeat(b, NULL), Q_OK);
	for (int i = 0; i < TOGETHER; i++)
		id[i] = submit(c, "other", "x");
	for (int i = 0; i < TOGETHER; i++)
		q[i] = take_one(b);
	for (int i = 0; i < TOGETHER; i++) { /* the entry that is free last is taken first */
		answer(b, &q[i], Q_REASON_OK, "");
		await_end(c, id[i], Q_OK, "");
	}
	w = connect_worker(d.broker, &one);
	assert_status(q_service_heartbeat(w, NULL), Q_OK);
	id[0] = submit_numbered(c, 0);
	q[0] = take_one(w);
	drain.timeout_ms = 10 * LONG_MS;
	assert_status(q_broker_order(c, &drain), Q_OK);
	for (came = 1; came < TOGETHER; came++)
		id[came] = submit_numbered(c, came);
	serve(c, "other", b, ""); /* by now they wait */
	for (uint32_t i = 1; i < TOGETHER; i++)
		if (is_cancelled(i))
			assert_status(q_broker_cancel(c, id[i]), Q_OK);
	for (uint32_t i = 0; i < ALL; i++) {
		if (is_cancelled(i))
			continue;
		if (i != 0)
			q[0] = take_one(w);
		assert_int_equal(number_of(&q[0]), i);
		answer(w, &q[0], Q_REASON_OK, "");
		if (came < ALL) {
			id[came] = submit_numbered(c, came);
			came++;
		}
	}
	for (uint32_t i = 0; i < ALL; i++)
		await_end(c, id[i], is_cancelled(i) ? Q_ERR_CANCELLED : Q_OK, "");
	q_broker_close(w);
	q_broker_close(b);
	q_broker_close(c);
	daemon_tear_down(&d);
}

static void st_4_a_session_need_not_wait_for_a_full_service_that_is_not_its_own(void **state)
{
	const BrokerCall call = {
		.service = "sit", .session = "s", .session_bytes = 1, .timeout_ms = LONG_MS
	};
	const BrokerService one = { .name = "a", .capability = "op=sit", .capacity = 1 },
			    two = { .name = "b", .capability = "op=sit", .capacity = 1 };
	BrokerOrder drain = named(Q_ORDER_DRAIN, "a");
	BrokerClient *a, *b, *c;
	uint64_t held, waits, own;
	BrokerRequest q, other;

	(void)state;
	begin();
	c = client();
	a = connect_worker(d.broker, &one);
	assert_status(q_service_heartbeat(a, NULL), Q_OK);
	own = submit_call(c, &call);
	q = take_one(a);
	answer(a, &q, Q_REASON_OK, "");
	await_end(c, own, Q_OK, "");
	drain.timeout_ms = LONG_MS;
	assert_status(q_broker_order(c, &drain), Q_OK);
	b = connect_worker(d.broker, &two);
	assert_status(q_service_heartbeat(b, NULL), Q_OK);
	held = submit(c, "sit", "x");
	other = take_one(b); /* full */
	waits = submit(c, "sit", "y");
	own = submit_call(c, &call);
	q = take_one(a);
	answer(a, &q, Q_REASON_OK, "");
	await_end(c, own, Q_OK, "");
	answer(b, &other, Q_REASON_OK, "");
	await_end(c, held, Q_OK, "");
	other = take_one(b); /* it has waited for b, and a has not got it */
	answer(b, &other, Q_REASON_OK, "");
	await_end(c, waits, Q_OK, "");
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	daemon_tear_down(&d);
}

/* ---- breakers -------------------------------------------------------------------------------- */

static void fail_one(BrokerClient *c, BrokerClient *w)
{
	const uint64_t id = submit(c, "job", "x");
	BrokerRequest q = take_one(w);

	answer(w, &q, Q_REASON_INTERNAL, "");
	await_end(c, id, Q_ERR_FAILED, NULL);
}

static void cb_a_breaker_is_opened_closed_and_reset(void **state)
{
	BrokerClient *w, *c;

	(void)state;
	begin();
	w = worker("w", "op=job");
	c = client();
	order(c, Q_ORDER_BREAKER_OPEN, "w");
	assert_string_equal(services_look(c, "w").breaker, "forced_open");
	assert_true(await_end(c, submit(c, "job", "x"), Q_ERR_NOT_READY, NULL).retry_after_ms != 0);
	order(c, Q_ORDER_BREAKER_CLOSE, "w");
	for (int i = 0; i < 12; i++) /* five in a row would open it */
		fail_one(c, w);
	assert_string_equal(services_look(c, "w").breaker, "disabled");
	order(c, Q_ORDER_BREAKER_RESET, "w");
	assert_string_equal(services_look(c, "w").breaker, "closed");
	for (int i = 0; i < 4; i++)
		fail_one(c, w);
	order(c, Q_ORDER_BREAKER_RESET, "w"); /* as new: four are forgotten */
	for (int i = 0; i < 5; i++)
		fail_one(c, w);
	assert_string_equal(services_look(c, "w").breaker, "open");
	await_end(c, submit(c, "job", "x"), Q_ERR_NOT_READY, NULL);
	order(c, Q_ORDER_BREAKER_RESET, "w");
	serve(c, "job", w, "well");
	q_broker_close(w);
	q_broker_close(c);
	daemon_tear_down(&d);
}

/* Registers the name again, when gpuqd has seen that its worker is gone. */
static BrokerClient *again(const char *name, const char *can)
{
	const BrokerService s = { .name = name, .capability = can, .heartbeat_ms = 20 };

	for (unsigned i = 0;; i++) {
		BrokerClient *w = client();

		if (q_service_register(w, &s) == Q_OK) {
			assert_status(q_service_heartbeat(w, NULL), Q_OK);
			return w;
		}
		assert_true(i < LONG_MS);
		q_broker_close(w);
		nap_ms(1);
	}
}

static void cb_a_worker_that_comes_again_has_the_breaker_it_was_ordered(void **state)
{
	const BrokerOrder reset = named(Q_ORDER_BREAKER_RESET, "w");
	BrokerClient *w, *c;

	(void)state;
	begin();
	w = worker("w", "op=job");
	c = client();
	order(c, Q_ORDER_BREAKER_OPEN, "w");
	q_broker_close(w);
	w = again("w", "op=job");
	assert_string_equal(services_look(c, "w").breaker, "forced_open");
	await_end(c, submit(c, "job", "x"), Q_ERR_NOT_READY, NULL);
	order(c, Q_ORDER_BREAKER_CLOSE, "w");
	q_broker_close(w);
	w = again("w", "op=job");
	assert_string_equal(services_look(c, "w").breaker, "disabled");
	order(c, Q_ORDER_BREAKER_OPEN, "w");
	order(c, Q_ORDER_BREAKER_RESET, "w");
	q_broker_close(w);
	w = again("w", "op=job");
	assert_string_equal(services_look(c, "w").breaker, "closed");
	/* Also of a service that is gone. */
	order(c, Q_ORDER_BREAKER_OPEN, "w");
	q_broker_close(w);
	for (unsigned i = 0; q_broker_order(c, &reset) != Q_ERR_NOT_FOUND; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	w = again("w", "op=job");
	assert_string_equal(services_look(c, "w").breaker, "closed");
	serve(c, "job", w, "well");
	q_broker_close(w);
	q_broker_close(c);
	daemon_tear_down(&d);
}

/* ---- the cache ------------------------------------------------------------------------------- */

static void expect_cached(BrokerClient *c, const char *op, const char *text, const char *reply)
{
	assert_true(await_end(c, submit(c, op, text), Q_OK, reply).reused);
}

/* It runs, and is answered so. */
static void expect_run(BrokerClient *c, const char *op, const char *text, BrokerClient *w,
		       const char *reply)
{
	const uint64_t id = submit(c, op, text);
	BrokerRequest q = take_one(w);

	answer(w, &q, Q_REASON_OK, reply);
	assert_false(await_end(c, id, Q_OK, reply).reused);
}

static void ca_answers_are_forgotten_one_an_op_s_or_all(void **state)
{
	BrokerClient *w, *c;
	BrokerOrder one = { .kind = Q_ORDER_FORGET, .name = "pure", .payload = "x", .bytes = 1 };

	(void)state;
	begin();
	w = worker("w", "op=pure op=open");
	c = client();
	one.uid = (uint32_t)geteuid();
	expect_run(c, "pure", "x", w, "1");
	expect_run(c, "pure", "y", w, "2");
	expect_run(c, "open", "x", w, "3");
	one.uid++;
	assert_status(q_broker_order(c, &one), Q_ERR_NOT_FOUND); /* another's */
	one.uid--;
	one.bytes = 0;
	one.payload = NULL;
	assert_status(q_broker_order(c, &one), Q_ERR_NOT_FOUND); /* to another request */
	expect_cached(c, "pure", "x", "1");
	one.payload = "x";
	one.bytes = 1;
	assert_status(q_broker_order(c, &one), Q_OK);
	assert_status(q_broker_order(c, &one), Q_ERR_NOT_FOUND); /* it has gone */
	expect_run(c, "pure", "x", w, "4");
	expect_cached(c, "pure", "y", "2");
	one.name = "open";
	one.uid++; /* is not looked at */
	assert_status(q_broker_order(c, &one), Q_OK);
	expect_run(c, "open", "x", w, "5");
	order(c, Q_ORDER_FORGET_OP, "pure");
	expect_run(c, "pure", "x", w, "6");
	expect_run(c, "pure", "y", w, "7");
	expect_cached(c, "open", "x", "5");
	order(c, Q_ORDER_FORGET_ALL, NULL);
	expect_run(c, "open", "x", w, "8");
	expect_run(c, "pure", "y", w, "9");
	q_broker_close(w);
	q_broker_close(c);
	daemon_tear_down(&d);
}

static void ca_what_runs_when_its_answer_is_forgotten_is_not_kept(void **state)
{
	const BrokerOrder one = {
		.kind = Q_ORDER_FORGET, .name = "open", .payload = "x", .bytes = 1
	};
	BrokerClient *w, *c;
	BrokerRequest old, new;
	uint64_t id[2];

	(void)state;
	begin();
	w = worker("w", "op=pure op=open");
	c = client();
	id[0] = submit(c, "open", "x");
	old = take_one(w);
	assert_status(q_broker_order(c, &one), Q_OK);
	expect_run(c, "open", "x", w, "beside it"); /* who asks afterwards does not wait for it */
	answer(w, &old, Q_REASON_OK, "old");
	await_end(c, id[0], Q_OK, "old");
	expect_run(c, "open", "x", w, "new");
	expect_cached(c, "open", "x", "new");
	/* Who asks after all have been forgotten does not wait for one of before. */
	id[0] = submit(c, "pure", "x");
	old = take_one(w);
	order(c, Q_ORDER_FORGET_OP, "pure");
	id[1] = submit(c, "pure", "x");
	new = take_one(w);
	answer(w, &new, Q_REASON_OK, "new");
	answer(w, &old, Q_REASON_OK, "old");
	await_end(c, id[1], Q_OK, "new");
	await_end(c, id[0], Q_OK, "old");
	expect_cached(c, "pure", "x", "new");
	q_broker_close(w);
	q_broker_close(c);
	daemon_tear_down(&d);
}

/* ---- who, and what --------------------------------------------------------------------------- */

/* As a stranger. @return by how it ends: 0: it is denied, and said why */
static int ask_as_stranger(void)
{
	const BrokerOrder o = { .kind = Q_ORDER_FORGET_ALL };
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS };
	BrokerClient *c;

	if (setuid(65534) != 0)
		return 77;
	c = q_broker_connect(&cfg);
	if (c == NULL)
		return 1;
	if (q_broker_order(c, &o) != Q_ERR_POLICY)
		return 2;
	return strstr(q_last_error(), "gpuqd's own user and root") != NULL ? 0 : 3;
}

static void se_2_orders_are_taken_from_gpuqd_s_user_and_root(void **state)
{
	BrokerClient *c;
	int status = 0;
	pid_t pid;

	(void)state;
	begin();
	assert_int_equal(chmod(d.folder, 0755), 0);
	c = client();
	order(c, Q_ORDER_FORGET_ALL, NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(ask_as_stranger());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (geteuid() == 0 || (WIFEXITED(status) && WEXITSTATUS(status) != 77))
		assert_int_equal(status, 0);
	q_broker_close(c);
	daemon_tear_down(&d);
}

static void an_order_that_makes_no_sense_is_refused(void **state)
{
	static const struct {
		BrokerOrder order;
		QueueStatus status;
		const char *why;
	} orders[] = {
		{ { .kind = 0 }, Q_ERR_INVALID_ARG, "kind is 0; allowed: 1 to 8" },
		{ { .kind = 9 }, Q_ERR_INVALID_ARG, "kind is 9; allowed: 1 to 8" },
		{ { .kind = Q_ORDER_DRAIN }, Q_ERR_INVALID_ARG, "name is ''" },
		{ { .kind = Q_ORDER_DRAIN, .name = "a b" }, Q_ERR_INVALID_ARG, "name is 'a b'" },
		{ { .kind = Q_ORDER_DRAIN, .name = "no" }, Q_ERR_NOT_FOUND, "no such service" },
		{ { .kind = Q_ORDER_RESUME, .name = "no", .timeout_ms = 1 },
		  Q_ERR_INVALID_ARG,
		  "timeout_ms is 1" },
		{ { .kind = Q_ORDER_FORGET_ALL, .name = "x" }, Q_ERR_INVALID_ARG, "has no name" },
		{ { .kind = Q_ORDER_FORGET_OP, .name = "no" }, Q_ERR_NOT_FOUND, "no section" },
		{ { .kind = Q_ORDER_FORGET, .name = "pure", .payload = "x", .bytes = 1 },
		  Q_ERR_NOT_FOUND,
		  "nobody does this op" },
		{ { .kind = Q_ORDER_FORGET_OP, .name = "pure", .payload = "x", .bytes = 1 },
		  Q_ERR_INVALID_ARG,
		  "are of Q_ORDER_FORGET" },
		{ { .kind = Q_ORDER_FORGET, .name = "pure", .payload = "x", .bytes = 100000 },
		  Q_ERR_INVALID_ARG,
		  "bytes is 100000; allowed: 0 to 61440" },
	};
	BrokerClient *c;

	(void)state;
	begin();
	c = client();
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		assert_status(q_broker_order(c, &orders[i].order), orders[i].status);
		if (strstr(q_last_error(), orders[i].why) == NULL)
			fail_msg("'%s' does not say '%s'", q_last_error(), orders[i].why);
	}
	assert_status(q_broker_order(c, NULL), Q_ERR_INVALID_ARG);
	q_broker_close(c);
	daemon_tear_down(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_service_that_drains_finishes_what_it_has_and_gets_nothing_new),
		cmocka_unit_test(st_4_sessions_of_a_service_that_drains_may_go_on),
		cmocka_unit_test(st_4_a_session_waits_for_the_service_that_drains),
		cmocka_unit_test(requests_of_a_session_that_wait_do_not_overtake_each_other),
		cmocka_unit_test(
			st_4_a_session_need_not_wait_for_a_full_service_that_is_not_its_own),
		cmocka_unit_test(cb_a_breaker_is_opened_closed_and_reset),
		cmocka_unit_test(cb_a_worker_that_comes_again_has_the_breaker_it_was_ordered),
		cmocka_unit_test(ca_answers_are_forgotten_one_an_op_s_or_all),
		cmocka_unit_test(ca_what_runs_when_its_answer_is_forgotten_is_not_kept),
		cmocka_unit_test(se_2_orders_are_taken_from_gpuqd_s_user_and_root),
		cmocka_unit_test(an_order_that_makes_no_sense_is_refused),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("service_order", tests, NULL, NULL);
}
