/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_token.c - capability tokens at a gpuqd with services: who may connect, ask and
 * register, how often, and what a reload takes away.
 */
/* First, for the queue has a macro of the name of one of its constants. */
#include "broker/policy/token.h"

#include "daemon.h"
#include "support.h"

#include "broker/service/service.h"
#include "host/base/clock.h"

#include <gpuq/broker.h>

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct daemon d;
static char keys_path[64];
static const struct gq_token_key key = { .number = 1, .key = { 1, 2, 3 } },
				 newer = { .number = 2, .key = { 4, 5, 6 } },
				 foreign = { .number = 1, .key = { 7, 8, 9 } };

/* ---- a gpuqd with keys ----------------------------------------------------------------------- */

static void put_key(FILE *f, const struct gq_token_key *k)
{
	char hex[2 * GQ_TOKEN_KEY + 1];

	fprintf(f, "key %u %s\n", k->number,
		sodium_bin2hex(hex, sizeof(hex), k->key, GQ_TOKEN_KEY));
}

/* `deny`: a token, as text, that is not taken any more; NULL: none */
static void write_keys(const struct gq_token_key *first, const struct gq_token_key *second,
		       const char *deny)
{
	FILE *f = fopen(keys_path, "w");

	assert_non_null(f);
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	fprintf(f, "# keys\n\n");
	put_key(f, first);
	if (second != NULL)
		put_key(f, second);
	if (deny != NULL) /* its id is in bytes 8 to 23 */
		fprintf(f, "deny %.32s\n", deny + 16);
	assert_int_equal(fclose(f), 0);
}

static void begin(void)
{
	char words[160];

	assert_int_not_equal(sodium_init(), -1);
	snprintf(keys_path, sizeof(keys_path), "/tmp/gpuq-keys-%d", (int)getpid());
	write_keys(&key, NULL, NULL);
	snprintf(words, sizeof(words), "tokens = %s\n", keys_path);
	daemon_set_up(&d, "", words);
}

static void end(void)
{
	daemon_tear_down(&d);
	assert_int_equal(unlink(keys_path), 0);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static const char *issue_by(const struct gq_token_key *by, const struct gq_claims *claims)
{
	static char text[8][2 * GQ_TOKEN_MOST + 1];
	static int at;
	uint8_t id[GQ_TOKEN_ID], token[GQ_TOKEN_MOST];
	size_t n;

	randombytes_buf(id, sizeof(id));
	assert_int_equal(gq__token_issue(by, id, claims, token, sizeof(token), &n), GQ_TOKEN_IS_OK);
	at = (at + 1) % 8;
	return sodium_bin2hex(text[at], sizeof(text[at]), token, n);
}

static const char *issue(const struct gq_claims *claims)
{
	return issue_by(&key, claims);
}

static const char *narrow(const char *text, const struct gq_claims *claims)
{
	static char out[2 * GQ_TOKEN_MOST + 1];
	uint8_t token[GQ_TOKEN_MOST], less[GQ_TOKEN_MOST];
	size_t n;

	assert_int_equal(sodium_hex2bin(token, sizeof(token), text, strlen(text), NULL, &n, NULL),
			 0);
	assert_int_equal(gq__token_narrow(token, n, claims, less, sizeof(less), &n),
			 GQ_TOKEN_IS_OK);
	return sodium_bin2hex(out, sizeof(out), less, n);
}

static const struct gq_claims everything = { .rights = GQ_RIGHTS, .all_ops = true };

static BrokerClient *try_connect(const char *token)
{
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS, .token = token };

	return q_broker_connect(&cfg);
}

static BrokerClient *connected(const char *token)
{
	BrokerClient *c = try_connect(token);

	if (c == NULL)
		fail_msg("%s", q_last_error());
	return c;
}

static void expect_refusal(const char *token, const char *why)
{
	assert_null(try_connect(token));
	if (strstr(q_last_error(), why) == NULL)
		fail_msg("'%s' does not say '%s'", q_last_error(), why);
}

static BrokerReply ask(BrokerClient *c, const char *op, uint8_t priority)
{
	const BrokerCall call = { .service = op, .priority = priority, .timeout_ms = LONG_MS };
	BrokerReply r = { 0 };
	uint64_t id;

	assert_int_equal(q_broker_submit(c, &call, &id), Q_OK);
	(void)q_broker_wait(c, id, NULL, NULL, &r, LONG_MS);
	return r;
}

/* The request was let in: nobody does it, but the token is no reason. */
static void expect_let_in(BrokerClient *c, const char *op, uint8_t priority)
{
	assert_int_equal(ask(c, op, priority).reason, Q_REASON_NOT_FOUND);
}

static void expect_denied(BrokerClient *c, const char *op, uint8_t priority)
{
	const BrokerReply r = ask(c, op, priority);

	assert_int_equal(r.reason, Q_REASON_DENIED);
	assert_int_equal(r.status, Q_ERR_POLICY);
	assert_false(r.may_retry);
}

static QueueStatus registers(BrokerClient *c, const char *name, const char *can)
{
	const BrokerService s = { .name = name, .capability = can };

	return q_service_register(c, &s);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void se_1_only_a_good_token_connects(void **state)
{
	struct gq_claims claims = everything;
	char changed[2 * GQ_TOKEN_MOST + 1];
	size_t n;

	(void)state;
	begin();
	expect_refusal(NULL, "a token is needed");
	expect_refusal("abc", "token has 3 characters; allowed: an even number");
	expect_refusal("0g", "hexadecimal");
	expect_refusal("00", "not a token");
	expect_refusal(issue_by(&foreign, &claims), "the signature is wrong");
	expect_refusal(issue_by(&newer, &claims), "a key that is not active");
	claims.has_uid = true;
	claims.uid = geteuid() + 1;
	expect_refusal(issue(&claims), "another user's");
	claims.uid = geteuid();
	q_broker_close(connected(issue(&claims)));
	claims.expires_s = 1;
	expect_refusal(issue(&claims), "expired");
	claims.expires_s = 0;
	claims.not_before_s = (uint64_t)time(NULL) + 1000;
	expect_refusal(issue(&claims), "not valid yet");
	snprintf(changed, sizeof(changed), "%s", issue(&everything));
	n = strlen(changed);
	for (size_t i = 0; i < n; i += 7) { /* every seventh digit is another one */
		const char before = changed[i];

		changed[i] = before == '0' ? '1' : '0';
		assert_null(try_connect(changed));
		changed[i] = before;
	}
	q_broker_close(connected(changed));
	assert_int_equal(setenv("GPUQ_TOKEN", changed, 1), 0);
	q_broker_close(connected(NULL));
	assert_int_equal(unsetenv("GPUQ_TOKEN"), 0);
	end();
}

static void se_2_each_right_is_needed_for_what_it_gives_and_nothing_else(void **state)
{
	struct gq_claims claims = { .rights = GQ_RIGHT_SUBMIT, .all_ops = true };
	size_t found = 1;
	BrokerClient *c;
	BrokerRegion g;

	(void)state;
	begin();
	c = connected(issue(&claims)); /* to submit */
	assert_int_equal(q_broker_region_create(c, 1, &g), Q_OK);
	expect_let_in(c, "a", 128);
	expect_let_in(c, "a", 254);
	expect_denied(c, "a", 255);
	assert_int_equal(registers(c, "w", "op=a"), Q_ERR_POLICY);
	assert_non_null(strstr(q_last_error(), "no right to register"));
	assert_int_equal(q_broker_discover(c, NULL, NULL, 0, &found), Q_OK);
	assert_int_equal(found, 0);
	q_broker_close(c);
	claims.rights = GQ_RIGHT_SUBMIT | GQ_RIGHT_CRITICAL;
	c = connected(issue(&claims));
	expect_let_in(c, "a", 255);
	q_broker_close(c);
	claims.best_class = GQ_CLASS_NORMAL; /* no better than normal */
	c = connected(issue(&claims));
	expect_denied(c, "a", 255);
	expect_denied(c, "a", 192);
	expect_let_in(c, "a", 191);
	expect_let_in(c, "a", 1);
	q_broker_close(c);
	claims = (struct gq_claims){ .rights = GQ_RIGHT_REGISTER, .all_ops = true };
	c = connected(issue(&claims));
	expect_denied(c, "a", 128);
	assert_int_equal(q_broker_region_create(c, 1, &g), Q_ERR_POLICY); /* to name in requests */
	assert_non_null(strstr(q_last_error(), "no right to submit"));
	assert_int_equal(registers(c, "w", "op=a"), Q_OK);
	q_broker_close(c);
	claims = (struct gq_claims){ .rights = GQ_RIGHTS,
				     .op_count = 2,
				     .ops = { { "a" }, { "own" } } };
	c = connected(issue(&claims));
	expect_let_in(c, "own", 128);
	expect_denied(c, "b", 128);
	assert_int_equal(registers(c, "w", "op=a op=b"), Q_ERR_POLICY);
	assert_int_equal(registers(c, "other", NULL), Q_ERR_POLICY);
	assert_int_equal(registers(c, "own", NULL), Q_OK);
	q_broker_close(c);
	end();
}

static void expect_order(const struct gq_claims *claims, const BrokerOrder *o, QueueStatus status)
{
	BrokerClient *c = connected(issue(claims));

	if (q_broker_order(c, o) != status)
		fail_msg("it is not %s: %s", q_status_string(status), q_last_error());
	q_broker_close(c);
}

static void se_2_orders_need_the_right_to_give_them(void **state)
{
	const BrokerOrder drain = { .kind = Q_ORDER_DRAIN, .name = "w" },
			  all = { .kind = Q_ORDER_FORGET_ALL };
	struct gq_claims claims = { .rights = GQ_RIGHTS & ~(unsigned)GQ_RIGHT_ADMIN,
				    .all_ops = true };
	BrokerClient *w;

	(void)state;
	begin();
	w = connected(issue(&everything));
	assert_int_equal(registers(w, "w", "op=a op=b"), Q_OK);
	expect_order(&claims, &drain, Q_ERR_POLICY);
	expect_order(&claims, &all, Q_ERR_POLICY);
	claims.rights = GQ_RIGHT_ADMIN;
	expect_order(&claims, &drain, Q_OK);
	expect_order(&claims, &all, Q_OK);
	/* For all ops of the service, and all there may be. */
	claims = (struct gq_claims){ .rights = GQ_RIGHT_ADMIN, .op_count = 1, .ops = { { "a" } } };
	expect_order(&claims, &drain, Q_ERR_POLICY);
	expect_order(&claims, &all, Q_ERR_POLICY);
	claims = (struct gq_claims){ .rights = GQ_RIGHT_ADMIN,
				     .op_count = 2,
				     .ops = { { "a" }, { "b" } } };
	expect_order(&claims, &drain, Q_OK);
	q_broker_close(w);
	end();
}

static void se_3_who_holds_a_token_makes_one_that_may_do_less(void **state)
{
	const struct gq_claims only_a = { .rights = GQ_RIGHTS, .op_count = 1, .ops = { { "a" } } },
			       only_b = { .rights = GQ_RIGHTS, .op_count = 1, .ops = { { "b" } } };
	const char *less;
	BrokerClient *c;

	(void)state;
	begin();
	less = narrow(issue(&everything), &only_a);
	c = connected(less);
	expect_let_in(c, "a", 255);
	expect_denied(c, "b", 128);
	q_broker_close(c);
	c = connected(narrow(less, &only_b)); /* for both, which is none */
	expect_denied(c, "a", 128);
	expect_denied(c, "b", 128);
	q_broker_close(c);
	end();
}

/* Of this many requests at once those within the rate pass, whoever has narrowed the token how
 * often, and however often its holder connects anew. */
static void se_4_a_token_s_rate_is_one_for_all_that_come_from_it(void **state)
{
	struct gq_claims claims = { .rights = GQ_RIGHTS, .all_ops = true, .rate = 3 };
	const struct gq_claims same = everything;
	const char *token;
	unsigned let_in = 0;
	BrokerReply r = { 0 };
	uint64_t begun_ns;
	BrokerClient *c;

	(void)state;
	begin();
	token = issue(&claims);
	begun_ns = gq__now_ns();
	for (int i = 0; i < 8; i++) {
		c = connected(i % 2 == 0 ? token : narrow(token, &same));
		r = ask(c, "a", 128);
		let_in += r.reason != Q_REASON_RATE;
		q_broker_close(c);
	}
	assert_in_range(let_in, 3, 3 + (gq__now_ns() - begun_ns) * 3 / 1000000000 + 1);
	c = connected(token);
	while (ask(c, "a", 128).reason != Q_REASON_RATE)
		;
	r = ask(c, "a", 128);
	if (r.reason == Q_REASON_RATE) { /* it may have been a third of a second */
		assert_int_equal(r.status, Q_ERR_LIMIT);
		assert_true(r.may_retry);
		assert_in_range(r.retry_after_ms, 1, 334);
		nap_ms(r.retry_after_ms);
		expect_let_in(c, "a", 128); /* as was said */
	}
	q_broker_close(c);
	c = connected(issue(&everything)); /* another token has its own */
	for (int i = 0; i < 8; i++)
		expect_let_in(c, "a", 128);
	q_broker_close(c);
	end();
}

static void reload(void)
{
	assert_int_equal(kill(d.pid, SIGHUP), 0);
}

/* Until a request says so, for the reload takes its time. */
static void await_refusal(BrokerClient *c, const char *why)
{
	for (unsigned i = 0;; i++) {
		const BrokerReply r = ask(c, "a", 128);

		assert_true(i < LONG_MS);
		if (r.reason == Q_REASON_UNKNOWN_PEER && strstr(r.text, why) != NULL)
			return;
		assert_int_equal(r.reason, Q_REASON_NOT_FOUND);
		nap_ms(1);
	}
}

/* A request of c's that w has, and has not answered. @return its id */
static uint64_t begin_slow(BrokerClient *w, BrokerClient *c, BrokerRequest *q)
{
	const BrokerCall call = { .service = "slow", .timeout_ms = LONG_MS };
	uint64_t id;

	assert_int_equal(registers(w, "w", "op=slow"), Q_OK);
	assert_int_equal(q_broker_submit(c, &call, &id), Q_OK);
	assert_int_equal(q_service_recv(w, q, LONG_MS), Q_OK);
	return id;
}

static void end_slow(BrokerClient *w, BrokerClient *c, BrokerRequest *q, uint64_t id)
{
	size_t n = 0;

	assert_int_equal(q_service_reply(w, q, Q_REASON_OK, NULL, 0), Q_OK);
	assert_int_equal(q_broker_wait(c, id, NULL, &n, NULL, LONG_MS), Q_OK);
}

static void se_2_a_reload_takes_tokens_away_and_what_runs_goes_on(void **state)
{
	BrokerClient *c, *w, *other;
	const char *token;
	BrokerRequest q;
	uint64_t id;

	(void)state;
	begin();
	token = issue(&everything);
	c = connected(token);
	other = connected(issue(&everything));
	w = connected(issue(&everything));
	id = begin_slow(w, c, &q);
	write_keys(&key, &newer, token); /* one is revoked, and keys begin to change */
	reload();
	await_refusal(c, "revoked");
	end_slow(w, c, &q, id);
	expect_refusal(token, "revoked");
	expect_let_in(other, "a", 128);
	q_broker_close(connected(issue_by(&newer, &everything)));
	write_keys(&newer, NULL, NULL); /* and have changed */
	reload();
	await_refusal(other, "not active");
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(other);
	end();
}

/* Until gpuqd has forgotten the services. */
static void await_no_service(BrokerClient *c)
{
	size_t found = 1;

	for (unsigned i = 0;; i++) {
		assert_int_equal(q_broker_discover(c, NULL, NULL, 0, &found), Q_OK);
		if (found == 0)
			return;
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* Else a stolen token could go on reading what others ask. */
static void se_2_a_worker_whose_token_is_revoked_gets_nothing_more(void **state)
{
	BrokerClient *c, *w;
	const char *token;
	BrokerRequest q;
	uint64_t id;

	(void)state;
	begin();
	token = issue(&everything);
	c = connected(issue(&everything));
	w = connected(token);
	id = begin_slow(w, c, &q);
	write_keys(&key, NULL, token);
	reload();
	await_no_service(c);
	assert_int_equal(ask(c, "slow", 128).reason, Q_REASON_NOT_FOUND);
	end_slow(w, c, &q, id);                               /* it has had it */
	assert_int_equal(q_service_heartbeat(w, NULL), Q_OK); /* it is sent; the answer comes: */
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_ERR_STALE);
	assert_int_equal(q_service_unregister(w), Q_ERR_STALE);
	assert_int_equal(registers(w, "w", "op=slow"), Q_ERR_POLICY);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void se_2_the_first_keys_end_nothing_that_runs(void **state)
{
	BrokerClient *c, *w;
	BrokerRequest q;
	uint64_t id;
	FILE *f;

	(void)state;
	assert_int_not_equal(sodium_init(), -1);
	daemon_set_up(&d, "", "");
	c = connected(NULL);
	w = connected(NULL);
	id = begin_slow(w, c, &q);
	snprintf(keys_path, sizeof(keys_path), "/tmp/gpuq-keys-%d", (int)getpid());
	write_keys(&key, NULL, NULL);
	f = fopen(d.config, "a");
	assert_non_null(f);
	fprintf(f, "tokens = %s\n", keys_path);
	assert_int_equal(fclose(f), 0);
	reload();
	await_refusal(c, "a token is needed");
	await_no_service(c);
	end_slow(w, c, &q, id);
	expect_refusal(NULL, "a token is needed");
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void se_2_a_token_expires_while_its_holder_is_connected(void **state)
{
	struct gq_claims claims = everything;
	BrokerClient *c = NULL;

	(void)state;
	begin();
	for (int i = 0; c == NULL; i++) { /* a minute of leeway, less what connecting takes */
		assert_true(i < 60);
		claims.expires_s = (uint64_t)time(NULL) - GQ_TOKEN_LEEWAY_S + 2;
		c = try_connect(issue(&claims));
	}
	assert_int_equal(registers(c, "w", "op=slow"), Q_OK);
	await_refusal(c, "expired");
	await_no_service(c);
	q_broker_close(c);
	end();
}

static void wrong_files_are_refused_by_their_lines(void **state)
{
	static const char good[] = "0102030405060708090a0b0c0d0e0f10"
				   "1112131415161718191a1b1c1d1e1f20";
	static const struct {
		const char *format, *why;
	} files[] = {
		{ "", ": there is no key in it" },
		{ "key 1 %s\nkey 1 %s\n", ":2: key 1 is there already" },
		{ "key 1 %s\nkey 2 %s\nkey 3 %s\n", ":3: one key too many; allowed: 2" },
		{ "key 256 %s\n", ":1: a key is: key NUMBER HEX" },
		{ "key 1 %.63s\n", ":1: key 1 is not of 64 hexadecimal digits" },
		{ "key 1 %s\ndeny 12\n", ":2: deny names a token" },
		{ "# a comment\nlock 1 %s\n", ":2: 'lock' is no line of tokens" },
		{ "key 1 %s more\n", ":1: 'key' is no line" },
	};
	struct router_tokens tokens;
	char error[ROUTER_ERROR_ROOM];

	(void)state;
	snprintf(keys_path, sizeof(keys_path), "/tmp/gpuq-keys-%d", (int)getpid());
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		FILE *f = fopen(keys_path, "w");

		assert_non_null(f);
		assert_int_equal(fchmod(fileno(f), 0600), 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		fprintf(f, files[i].format, good, good, good);
#pragma GCC diagnostic pop
		assert_int_equal(fclose(f), 0);
		assert_false(router_tokens_read(keys_path, &tokens, error));
		if (strstr(error, files[i].why) == NULL)
			fail_msg("'%s' does not say '%s'", error, files[i].why);
	}
	write_keys(&key, &newer, NULL);
	assert_true(router_tokens_read(keys_path, &tokens, error));
	assert_int_equal(tokens.keys, 2);
	assert_int_equal(chmod(keys_path, 0640), 0);
	assert_false(router_tokens_read(keys_path, &tokens, error));
	assert_non_null(strstr(error, "others may read it (mode 640); allowed: 0600 or 0400"));
	if (geteuid() == 0) { /* it takes two users */
		assert_int_equal(chmod(keys_path, 0600), 0);
		assert_int_equal(chown(keys_path, 65534, 65534), 0);
		assert_false(router_tokens_read(keys_path, &tokens, error));
		assert_non_null(strstr(error, "it is user 65534's; allowed: this user's, 0, or"));
	}
	assert_false(router_tokens_read("/tmp", &tokens, error));
	assert_false(router_tokens_read("/nothing/there", &tokens, error));
	assert_int_equal(unlink(keys_path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(se_1_only_a_good_token_connects),
		cmocka_unit_test(se_2_each_right_is_needed_for_what_it_gives_and_nothing_else),
		cmocka_unit_test(se_2_orders_need_the_right_to_give_them),
		cmocka_unit_test(se_3_who_holds_a_token_makes_one_that_may_do_less),
		cmocka_unit_test(se_4_a_token_s_rate_is_one_for_all_that_come_from_it),
		cmocka_unit_test(se_2_a_reload_takes_tokens_away_and_what_runs_goes_on),
		cmocka_unit_test(se_2_a_worker_whose_token_is_revoked_gets_nothing_more),
		cmocka_unit_test(se_2_the_first_keys_end_nothing_that_runs),
		cmocka_unit_test(se_2_a_token_expires_while_its_holder_is_connected),
		cmocka_unit_test(wrong_files_are_refused_by_their_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
