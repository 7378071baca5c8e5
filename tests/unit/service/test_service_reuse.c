/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_reuse.c - requests to services that need not run: the cache, identical requests that
 * run at the same time, and keys of idempotency. gpuqd is a process of its own; callers and workers
 * are connections of this one thread, so a test decides what has happened when.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <gpuq/broker.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct daemon d;

#define OPS                                                                                        \
	"[op pure]\ncache = user\n[op open]\ncache = public\n"                                     \
	"[op strict]\ncache = user\ncache_errors = yes\n"

static void begin(const char *words)
{
	char keys[1024];

	snprintf(keys, sizeof(keys), "heartbeat_ms = 1000\nwindow = 1024\nattempts = 1\n%s%s",
		 words, OPS);
	daemon_set_up(&d, "", keys);
}

static BrokerClient *client(void)
{
	return connect_to_services(d.broker);
}

static BrokerClient *worker(const char *name, const char *can)
{
	const BrokerService s = {
		.name = name, .capability = can, .capacity = 64, .heartbeat_ms = 20
	};

	return connect_worker(d.broker, &s);
}

static uint64_t count(const char *name)
{
	return services_count(d.broker, name);
}

static void await_count(const char *name, uint64_t value)
{
	services_await_count(d.broker, name, value);
}

static void end(void)
{
	await_count("inside", 0);
	assert_int_equal(count("accepted"), count("ok") + count("failed") + count("expired") +
						    count("cancelled") + count("lost"));
	daemon_tear_down(&d);
}

static BrokerCall call_of(const char *service, const char *text)
{
	return (BrokerCall){ .service = service,
			     .payload = text,
			     .bytes = strlen(text),
			     .timeout_ms = LONG_MS,
			     .cache = true };
}

static BrokerCall keyed(const char *service, const char *text, const char *key)
{
	BrokerCall call = call_of(service, text);

	call.cache = false;
	call.key = key;
	call.key_bytes = strlen(key);
	return call;
}

static uint64_t submit(BrokerClient *c, const BrokerCall *call)
{
	uint64_t id = 0;

	if (q_broker_submit(c, call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

static BrokerRequest take_one(BrokerClient *w)
{
	BrokerRequest q;

	if (q_service_recv(w, &q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	return q;
}

static void reply(BrokerClient *w, BrokerRequest *q, uint32_t reason, const char *text)
{
	assert_int_equal(q_service_reply(w, q, reason, text, strlen(text)), Q_OK);
}

/* It runs, and is answered. @return whether it was another's answer */
static bool runs(BrokerClient *c, BrokerClient *w, const BrokerCall *call, const char *text)
{
	const uint64_t id = submit(c, call);
	BrokerRequest q = take_one(w);

	reply(w, &q, Q_REASON_OK, text);
	return await_end(c, id, Q_OK, text).reused;
}

/* gpuqd has handled all that `c` has sent. */
static void settle(BrokerClient *c)
{
	char text[4096];
	size_t n = sizeof(text);

	assert_int_equal(q_broker_stats(c, text, &n), Q_OK);
}

static void has_nothing(BrokerClient *c, BrokerClient *w)
{
	BrokerRequest q;

	settle(c);
	assert_int_equal(q_service_recv(w, &q, 0), Q_ERR_TIMEOUT);
}

/* ---- the cache ------------------------------------------------------------------------------- */

static void ca_1_an_identical_request_is_answered_and_does_not_run(void **state)
{
	const BrokerCall call = call_of("pure", "x"), longer = call_of("pure", "xy"),
			 other_op = call_of("plain", "x");
	BrokerCall without = call_of("pure", "x"), session = call_of("pure", "x");
	BrokerClient *c, *w;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=pure op=plain");
	assert_false(runs(c, w, &call, "first"));
	for (int i = 0; i < 5; i++)
		assert_true(await_end(c, submit(c, &call), Q_OK, "first").reused);
	has_nothing(c, w);
	assert_int_equal(count("cache_hits"), 5);
	assert_int_equal(count("ok"), 6);
	/* What asks for something else, does not want it, or may not have it, runs. */
	without.cache = false;
	session.session = "s";
	session.session_bytes = 1;
	assert_false(runs(c, w, &longer, "second"));
	assert_false(runs(c, w, &without, "third"));
	assert_false(runs(c, w, &session, "fourth"));
	assert_false(runs(c, w, &other_op, "fifth"));
	assert_false(runs(c, w, &other_op, "sixth"));
	assert_true(await_end(c, submit(c, &call), Q_OK, "first").reused);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void ca_1_another_version_of_the_op_and_a_reload_run_it_again(void **state)
{
	const BrokerCall call = call_of("pure", "x");
	BrokerClient *c, *w, *newer;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=pure:1");
	runs(c, w, &call, "old");
	newer = worker("n", "op=pure:2");
	q_broker_close(w);
	await_count("services", 1);
	assert_false(runs(c, newer, &call, "new"));
	assert_true(await_end(c, submit(c, &call), Q_OK, "new").reused);
	assert_int_equal(kill(d.pid, SIGHUP), 0);
	await_count("cache_answers", 0);
	assert_false(runs(c, newer, &call, "newer"));
	q_broker_close(c);
	q_broker_close(newer);
	end();
}

/* While two versions serve, either answers; none answers for the other one later. */
static void ca_1_an_answer_is_kept_as_one_of_its_worker_s_version(void **state)
{
	const BrokerService one_at_once = {
		.name = "n", .capability = "op=pure:2", .capacity = 1, .heartbeat_ms = 20
	};
	const BrokerCall call = call_of("pure", "x"), filler = call_of("pure", "filler");
	BrokerClient *c, *old, *newer;
	BrokerRequest q, held;
	uint64_t id[3];

	(void)state;
	begin("");
	c = client();
	newer = client();
	assert_int_equal(q_service_register(newer, &one_at_once), Q_OK);
	id[2] = submit(c, &filler);
	held = take_one(newer); /* so all else goes to the other one */
	old = worker("o", "op=pure:1");
	id[0] = submit(c, &call);
	q = take_one(old);
	id[1] = submit(c, &call);
	settle(c);
	reply(newer, &held, Q_REASON_OK, "");
	await_end(c, id[2], Q_OK, "");
	reply(old, &q, Q_REASON_OK, "old");
	await_end(c, id[0], Q_OK, "old");
	assert_true(await_end(c, id[1], Q_OK, "old").reused); /* it has waited for just that */
	q_broker_close(old);
	await_count("services", 1);
	assert_false(runs(c, newer, &call, "new"));
	assert_true(await_end(c, submit(c, &call), Q_OK, "new").reused);
	/* Back to the old one. */
	old = worker("o", "op=pure:1");
	q_broker_close(newer);
	await_count("services", 1);
	assert_false(runs(c, old, &call, "old again"));
	assert_true(await_end(c, submit(c, &call), Q_OK, "old again").reused);
	q_broker_close(c);
	q_broker_close(old);
	end();
}

static void ca_2_a_thousand_identical_requests_are_one_run(void **state)
{
	const BrokerCall call = call_of("pure", "x");
	static uint64_t ids[1000];
	BrokerClient *c, *w;
	unsigned reused = 0;
	BrokerRequest q;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=pure");
	for (int i = 0; i < 1000; i++)
		ids[i] = submit(c, &call);
	q = take_one(w);
	has_nothing(c, w);
	reply(w, &q, Q_REASON_OK, "one");
	for (int i = 0; i < 1000; i++)
		reused += await_end(c, ids[i], Q_OK, "one").reused;
	assert_int_equal(reused, 999);
	assert_int_equal(count("cache_joined"), 999);
	assert_int_equal(count("ok"), 1000);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void ca_2_a_leader_that_fails_or_leaves_hands_over(void **state)
{
	const BrokerCall call = call_of("pure", "x");
	BrokerCall soon = call_of("pure", "x");
	BrokerClient *c, *w, *leaver;
	BrokerRequest q, again;
	uint64_t id[4];

	(void)state;
	begin("");
	c = client();
	leaver = client();
	w = worker("w", "op=pure");
	soon.timeout_ms = 30;
	(void)submit(leaver, &call); /* its caller dies */
	settle(leaver);
	id[0] = submit(c, &soon); /* then this one's time is over */
	id[1] = submit(c, &call); /* this one is cancelled */
	id[2] = submit(c, &call); /* this one's worker fails */
	id[3] = submit(c, &call); /* and this one gets it */
	q = take_one(w);
	q_broker_close(leaver);
	again = take_one(w);
	await_end(c, id[0], Q_ERR_EXPIRED, NULL);
	reply(w, &q, Q_REASON_OK, "late"); /* nobody's */
	reply(w, &again, Q_REASON_OK, "late, too");
	q = take_one(w);
	assert_int_equal(q_broker_cancel(c, id[1]), Q_OK);
	await_end(c, id[1], Q_ERR_CANCELLED, NULL);
	again = take_one(w);
	reply(w, &again, Q_REASON_ERROR, "no");
	assert_false(await_end(c, id[2], Q_ERR_FAILED, "no").reused);
	again = take_one(w);
	reply(w, &again, Q_REASON_OK, "yes");
	assert_false(await_end(c, id[3], Q_OK, "yes").reused); /* it ran itself, in the end */
	reply(w, &q, Q_REASON_OK, "late");
	has_nothing(c, w);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Those that join are cancelled, expire, and die, by themselves. */
static void ca_2_who_joins_may_leave(void **state)
{
	const BrokerCall call = call_of("pure", "x");
	BrokerCall soon = call_of("pure", "x");
	BrokerClient *c, *w, *leaver;
	uint64_t first, cancelled, expired, last;
	BrokerRequest q;

	(void)state;
	begin("");
	c = client();
	leaver = client();
	w = worker("w", "op=pure");
	soon.timeout_ms = 20;
	first = submit(c, &call);
	settle(c);
	(void)submit(leaver, &call);
	settle(leaver);
	cancelled = submit(c, &call);
	expired = submit(c, &soon);
	last = submit(c, &call);
	q = take_one(w);
	q_broker_close(leaver);
	assert_int_equal(q_broker_cancel(c, cancelled), Q_OK);
	assert_false(await_end(c, cancelled, Q_ERR_CANCELLED, NULL).may_have_run);
	await_end(c, expired, Q_ERR_EXPIRED, NULL);
	await_count("inside", 2);
	reply(w, &q, Q_REASON_OK, "it");
	assert_false(await_end(c, first, Q_OK, "it").reused);
	assert_true(await_end(c, last, Q_OK, "it").reused);
	has_nothing(c, w);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* Else it would wait behind all that is less important than it is. */
static void ca_2_nobody_joins_who_waits_with_less_priority(void **state)
{
	const BrokerService one_at_once = {
		.name = "w", .capability = "op=pure", .capacity = 1, .heartbeat_ms = 20
	};
	BrokerCall filler = call_of("pure", "filler"), low = call_of("pure", "low");
	BrokerCall same_low = call_of("pure", "x"), same_high = call_of("pure", "x");
	BrokerClient *c, *w;
	uint64_t id[5];
	BrokerRequest q;

	(void)state;
	begin("");
	low.priority = same_low.priority = 1;
	same_high.priority = 255;
	c = client();
	w = client();
	assert_int_equal(q_service_register(w, &one_at_once), Q_OK);
	id[0] = submit(c, &filler);
	q = take_one(w);
	id[1] = submit(c, &low);
	id[2] = submit(c, &same_low);
	id[3] = submit(c, &same_high);
	id[4] = submit(c, &same_low); /* as important as who leads: it joins */
	settle(c);
	reply(w, &q, Q_REASON_OK, "");
	q = take_one(w);
	reply(w, &q, Q_REASON_OK, "high");
	await_end(c, id[3], Q_OK, "high");
	q = take_one(w);
	reply(w, &q, Q_REASON_OK, "low");
	await_end(c, id[1], Q_OK, "low");
	q = take_one(w);
	id[3] = submit(c, &same_high); /* now it runs: nobody waits longer for joining it */
	has_nothing(c, w);
	reply(w, &q, Q_REASON_OK, "x");
	await_end(c, id[2], Q_OK, "x");
	assert_true(await_end(c, id[3], Q_OK, "x").reused);
	assert_true(await_end(c, id[4], Q_OK, "x").reused);
	await_end(c, id[0], Q_OK, "");
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void ca_3_answers_have_a_time_and_room(void **state)
{
	BrokerCall call = call_of("pure", "x");
	static char large[5000];
	size_t n = sizeof(large);
	BrokerClient *c, *w;
	BrokerRequest q;
	char text[8];
	uint64_t id;

	(void)state;
	begin("cache_ttl_ms = 100\ncache_entries = 3\ncache_bytes = 64KiB\n");
	c = client();
	w = worker("w", "op=pure");
	runs(c, w, &call, "old");
	await_count("cache_answers", 0); /* by itself */
	assert_false(runs(c, w, &call, "new"));
	for (int i = 0; i < 9; i++) {
		snprintf(text, sizeof(text), "%d", i);
		call = call_of("pure", text);
		runs(c, w, &call, text);
		assert_true(count("cache_answers") <= 3);
	}
	call = call_of("pure", "large"); /* more than a sixteenth of all room */
	id = submit(c, &call);
	q = take_one(w);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, large, sizeof(large)), Q_OK);
	assert_int_equal(q_broker_wait(c, id, large, &n, NULL, LONG_MS), Q_OK);
	assert_false(runs(c, w, &call, "again"));
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* A child of another user asks. @return 0: another's answer; 1: its own; 2: something went wrong */
static int ask_as_another(const char *service)
{
	const BrokerConfig cfg = { .endpoint = d.broker };
	const BrokerCall call = call_of(service, "x");
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		char text[64];
		size_t n = sizeof(text);
		BrokerReply r;
		BrokerClient *c;

		if (setgid(65534) != 0 || setuid(65534) != 0)
			_exit(3);
		c = q_broker_connect(&cfg);
		if (c == NULL || q_broker_call(c, &call, text, &n, &r) != Q_OK)
			_exit(2);
		_exit(!r.reused);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void ca_4_another_user_s_request_runs_unless_the_op_is_public(void **state)
{
	const BrokerCall own = call_of("pure", "x"), all = call_of("open", "x");
	BrokerClient *c, *w;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	begin("socket_mode = 0666\n");
	assert_int_equal(chmod(d.folder, 0755), 0);
	c = client();
	w = worker("w", "op=pure op=open");
	runs(c, w, &own, "mine");
	runs(c, w, &all, "ours");
	pid = fork(); /* who serves while this process waits */
	if (pid == 0) {
		BrokerClient *other = worker("o", "op=pure op=open");
		BrokerRequest q;

		while (q_service_recv(other, &q, LONG_MS) == Q_OK)
			q_service_reply(other, &q, Q_REASON_OK, "theirs", 6);
		_exit(0);
	}
	services_await_ready(d.broker, 2);
	assert_int_equal(q_service_unregister(w), Q_OK); /* the child has its socket, too */
	assert_int_equal(ask_as_another("open"), 0);
	assert_int_equal(ask_as_another("pure"), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	q_broker_close(w);
	q_broker_close(c);
	end();
}

static void ca_answers_that_say_no_are_kept_only_where_that_is_said(void **state)
{
	const BrokerCall plain = call_of("pure", "x"), strict = call_of("strict", "x");
	BrokerClient *c, *w;
	BrokerRequest q;
	uint64_t id;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=pure op=strict");
	for (int i = 0; i < 2; i++) {
		id = submit(c, &plain);
		q = take_one(w);
		reply(w, &q, Q_REASON_ERROR, "no");
		assert_false(await_end(c, id, Q_ERR_FAILED, "no").reused);
	}
	id = submit(c, &strict);
	q = take_one(w);
	reply(w, &q, Q_REASON_ERROR, "never");
	await_end(c, id, Q_ERR_FAILED, "never");
	assert_true(await_end(c, submit(c, &strict), Q_ERR_FAILED, "never").reused);
	has_nothing(c, w);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* ---- keys of idempotency --------------------------------------------------------------------- */

static void rt_5_a_key_runs_once_and_all_get_its_answer(void **state)
{
	const BrokerCall call = keyed("pay", "10", "k"), other = keyed("pay", "20", "k"),
			 elsewhere = keyed("refund", "10", "k"), next = keyed("pay", "10", "l");
	BrokerClient *c, *w;
	BrokerRequest q;
	uint64_t id[2];

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=pay op=refund");
	id[0] = submit(c, &call);
	id[1] = submit(c, &call);
	q = take_one(w);
	assert_int_equal(q.key_bytes, 1);
	assert_memory_equal(q.key, "k", 1);
	has_nothing(c, w);
	await_end(c, submit(c, &other), Q_ERR_INVALID_ARG, NULL);
	await_end(c, submit(c, &elsewhere), Q_ERR_INVALID_ARG, NULL);
	reply(w, &q, Q_REASON_ERROR, "no money"); /* an answer, as good as any */
	assert_false(await_end(c, id[0], Q_ERR_FAILED, "no money").reused);
	assert_true(await_end(c, id[1], Q_ERR_FAILED, "no money").reused);
	assert_true(await_end(c, submit(c, &call), Q_ERR_FAILED, "no money").reused);
	await_end(c, submit(c, &other), Q_ERR_INVALID_ARG, NULL);
	assert_false(runs(c, w, &next, "paid"));
	q_broker_close(w);
	await_count("services", 0);
	assert_true(
		await_end(c, submit(c, &next), Q_OK, "paid").reused); /* though nobody does it */
	assert_int_equal(count("key_conflicts"), 3);
	assert_int_equal(count("key_repeats"), 3);
	q_broker_close(c);
	end();
}

static void rt_5_a_key_s_run_goes_on_though_its_caller_has_left(void **state)
{
	BrokerCall soon = keyed("pay", "10", "k");
	const BrokerCall call = keyed("pay", "10", "k"), left = keyed("pay", "1", "m");
	BrokerClient *c, *w, *leaver;
	BrokerRequest q, r;
	uint64_t id;

	(void)state;
	begin("");
	c = client();
	leaver = client();
	w = worker("w", "op=pay");
	soon.timeout_ms = 20;
	id = submit(c, &soon);
	q = take_one(w);
	(void)submit(leaver, &left);
	r = take_one(w);
	q_broker_close(leaver);
	await_end(c, id, Q_ERR_EXPIRED, NULL);
	id = submit(c, &call); /* joins what the worker still has */
	has_nothing(c, w);
	reply(w, &q, Q_REASON_OK, "paid");
	assert_true(await_end(c, id, Q_OK, "paid").reused);
	reply(w, &r, Q_REASON_OK, "paid 1"); /* nobody waits, but somebody may ask */
	await_count("late", 2);
	assert_true(await_end(c, submit(c, &left), Q_OK, "paid 1").reused);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void rt_5_a_key_that_may_have_run_does_not_run_again(void **state)
{
	const BrokerCall call = keyed("pay", "10", "k"), unseen = keyed("pay", "10", "u");
	BrokerClient *c, *w, *v;
	BrokerRequest q;
	uint64_t id[2];

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=pay");
	id[0] = submit(c, &call);
	id[1] = submit(c, &call);
	q = take_one(w);
	assert_int_equal(q.bytes, 2);
	q_broker_close(w); /* it dies, and nobody knows what it has done */
	await_end(c, id[0], Q_ERR_LOST, NULL);
	await_end(c, id[1], Q_ERR_LOST, NULL);
	await_end(c, submit(c, &unseen), Q_ERR_NOT_FOUND,
		  NULL); /* which says that it has not run */
	v = worker("v", "op=pay");
	assert_true(await_end(c, submit(c, &call), Q_ERR_LOST, NULL).reused);
	has_nothing(c, v);
	/* One that has not run runs: here for whoever waited for it. */
	id[0] = submit(c, &unseen);
	id[1] = submit(c, &unseen);
	q = take_one(v);
	reply(v, &q, Q_REASON_OVERLOADED, "");
	await_end(c, id[0], Q_ERR_FULL, NULL);
	q = take_one(v);
	reply(v, &q, Q_REASON_OK, "paid");
	await_end(c, id[1], Q_OK, "paid");
	q_broker_close(c);
	q_broker_close(v);
	end();
}

/* Who waits for a key that runs must not be told that it has not run: it would take another key. */
static void rt_5_who_joins_a_key_and_leaves_is_told_that_it_may_run(void **state)
{
	const BrokerCall call = keyed("pay", "10", "k");
	BrokerCall soon = keyed("pay", "10", "k");
	BrokerClient *c, *w;
	uint64_t id[4];

	(void)state;
	begin("drain_ms = 1\n");
	c = client();
	w = worker("w", "op=pay");
	soon.timeout_ms = 20;
	id[0] = submit(c, &call);
	(void)take_one(w);
	id[1] = submit(c, &soon);
	id[2] = submit(c, &call);
	id[3] = submit(c, &call);
	assert_int_equal(q_broker_cancel(c, id[2]), Q_OK);
	assert_true(await_end(c, id[1], Q_ERR_EXPIRED, NULL).may_have_run);
	assert_true(await_end(c, id[2], Q_ERR_CANCELLED, NULL).may_have_run);
	await_count("inside", 2);
	assert_int_equal(daemon_end(&d, SIGTERM), 0);
	for (int i = 0; i < 4; i += 3) {
		BrokerReply r = { 0 };

		(void)q_broker_wait(c, id[i], NULL, NULL, &r, LONG_MS);
		assert_int_equal(r.reason, Q_REASON_SHUTDOWN);
		assert_true(r.may_have_run);
		assert_false(r.may_retry);
	}
	q_broker_close(c);
	q_broker_close(w);
	daemon_start(&d);
	end();
}

/* The other side of it: no worker has seen the one that leads, but its key runs for those that
 * wait.
 */
static void rt_5_who_leads_a_key_and_leaves_is_told_that_it_may_run(void **state)
{
	const BrokerService one = {
		.name = "w", .capability = "op=pay", .capacity = 1, .heartbeat_ms = 20
	};
	const BrokerCall busy = call_of("pay", "busy"), alone = keyed("pay", "20", "alone"),
			 call = keyed("pay", "10", "k");
	BrokerClient *c, *w;
	BrokerRequest q;
	BrokerReply r;
	uint64_t id[4];

	(void)state;
	begin("");
	c = client();
	w = client();
	assert_int_equal(q_service_register(w, &one), Q_OK);
	id[0] = submit(c, &busy); /* all that the worker has room for */
	q = take_one(w);
	id[1] = submit(c, &alone);
	assert_int_equal(q_broker_cancel(c, id[1]), Q_OK);
	r = await_end(c, id[1], Q_ERR_CANCELLED, NULL);
	assert_false(r.may_have_run);
	id[2] = submit(c, &call);
	id[3] = submit(c, &call);
	assert_int_equal(q_broker_cancel(c, id[2]), Q_OK);
	r = await_end(c, id[2], Q_ERR_CANCELLED, NULL);
	assert_true(r.may_have_run);
	reply(w, &q, Q_REASON_OK, "done");
	await_end(c, id[0], Q_OK, "done");
	q = take_one(w); /* and so it does */
	reply(w, &q, Q_REASON_OK, "paid");
	await_end(c, id[3], Q_OK, "paid");
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void rt_5_keys_have_room_for_others_and_a_time(void **state)
{
	BrokerClient *c, *w;
	BrokerCall call;
	char key[8];

	(void)state;
	begin("keys = 8\nkey_ttl_ms = 200\n");
	c = client();
	w = worker("w", "op=pay");
	for (int i = 0; i < 6; i++) { /* of one user three quarters */
		snprintf(key, sizeof(key), "%d", i);
		call = keyed("pay", "1", key);
		runs(c, w, &call, key);
	}
	call = keyed("pay", "1", "one more");
	if (count("keys") == 6) { /* else the first ones' time is over already */
		const BrokerReply r = await_end(c, submit(c, &call), Q_ERR_FULL, NULL);

		assert_true(r.may_retry && r.retry_after_ms > 0);
	}
	await_count("keys", 0); /* by itself */
	runs(c, w, &call, "there is room");
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void wrong_keys_are_refused(void **state)
{
	char key[65] = { 0 };
	BrokerCall call = keyed("pay", "1", "k");
	BrokerClient *c;
	uint64_t id;

	(void)state;
	begin("");
	c = client();
	call.key_bytes = 0;
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	call.key = NULL;
	call.key_bytes = 1;
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	call.key = key;
	call.key_bytes = 65;
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "key_bytes is 65; allowed: 1 to 64"));
	call.key_bytes = 64;
	await_end(c, submit(c, &call), Q_ERR_NOT_FOUND, NULL);
	q_broker_close(c);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ca_1_an_identical_request_is_answered_and_does_not_run),
		cmocka_unit_test(ca_1_another_version_of_the_op_and_a_reload_run_it_again),
		cmocka_unit_test(ca_1_an_answer_is_kept_as_one_of_its_worker_s_version),
		cmocka_unit_test(ca_2_a_thousand_identical_requests_are_one_run),
		cmocka_unit_test(ca_2_a_leader_that_fails_or_leaves_hands_over),
		cmocka_unit_test(ca_2_who_joins_may_leave),
		cmocka_unit_test(ca_2_nobody_joins_who_waits_with_less_priority),
		cmocka_unit_test(ca_3_answers_have_a_time_and_room),
		cmocka_unit_test(ca_4_another_user_s_request_runs_unless_the_op_is_public),
		cmocka_unit_test(ca_answers_that_say_no_are_kept_only_where_that_is_said),
		cmocka_unit_test(rt_5_a_key_runs_once_and_all_get_its_answer),
		cmocka_unit_test(rt_5_a_key_s_run_goes_on_though_its_caller_has_left),
		cmocka_unit_test(rt_5_a_key_that_may_have_run_does_not_run_again),
		cmocka_unit_test(rt_5_who_joins_a_key_and_leaves_is_told_that_it_may_run),
		cmocka_unit_test(rt_5_who_leads_a_key_and_leaves_is_told_that_it_may_run),
		cmocka_unit_test(rt_5_keys_have_room_for_others_and_a_time),
		cmocka_unit_test(wrong_keys_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
