/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_transport.c - what every transport to gpuqd's services does alike: each case below
 * runs over each of them. Who dies, does not read, or lies is in test_service_peers.c.
 */
/* First: its GQ_CLASSES is another than that of queues. */
#include "broker/policy/token.h"

/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "ways.h"

#include "broker/policy/tarpit.h"
#include "host/base/clock.h"
#include "host/base/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- hello ----------------------------------------------------------------------------------- */

static void t_1_hello_says_version_epoch_limits_and_credits(void **state)
{
	BrokerClient *a = raw(state), *b = raw(state);
	struct heard *h, *g;

	say_hello(a, 1, 1);
	say_hello(b, 1, 1);
	h = expect_hello(a);
	g = expect_hello(b);
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_VERSIONS, 0), 1);
	assert_int_equal(gq__frame_u64(&h->frame, GQ_TLV_LIMITS, 0), GQ_WIRE_FRAME_MAX);
	assert_int_equal(gq__frame_u64(&h->frame, GQ_TLV_LIMITS, 2), GQ_WIRE_BATCH_MAX);
	assert_int_equal(gq__frame_u64(&h->frame, GQ_TLV_CREDITS, 0), usual.cfg.window);
	assert_true(gq__frame_u64(&h->frame, GQ_TLV_EPOCH, 0) ==
		    gq__frame_u64(&g->frame, GQ_TLV_EPOCH, 0));
	gq__broker_free(h);
	gq__broker_free(g);
	q_broker_close(a);
	q_broker_close(b);
}

static void t_1_hello_agrees_on_a_version_that_both_speak(void **state)
{
	BrokerClient *c = raw(state);

	say_hello(c, 1, 9);
	gq__broker_free(expect_hello(c));
	expect_it_serves(c, 2);
	q_broker_close(c);
}

static void t_1_hello_with_another_version_is_told_both_and_closed(void **state)
{
	BrokerClient *c = raw(state);
	struct heard *h;

	say_hello(c, 2, 3);
	h = next(c);
	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_NACK);
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_MISMATCH, 0), 1);
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_MISMATCH, 1), 3);
	gq__broker_free(h);
	expect_closed(c);
}

static void t_1_hello_comes_once(void **state)
{
	BrokerClient *c = greeted(state);

	say_hello(c, 1, 1);
	expect_nack(c, 1, GQ_WIRE_INVALID);
	expect_it_serves(c, 2);
	q_broker_close(c);
}

static void t_1_hello_comes_first(void **state)
{
	struct gq_frame f = { .type = GQ_MESSAGE_STATS, .correlation = 3 };
	BrokerClient *c = raw(state);

	throw_frame(c, &f);
	expect_nack(c, 3, GQ_WIRE_INVALID);
	say_hello(c, 1, 1);
	gq__broker_free(expect_hello(c));
	q_broker_close(c);
}

/* ---- who it is ------------------------------------------------------------------------------- */

static void t_1_auth_one_user_has_so_many_connections(void **state)
{
	enum { MOST = 4 };
	struct router_config cfg = unhurried();
	static struct house h;
	BrokerClient *c[MOST];

	cfg.uid_connections = MOST;
	open_house(&h, &cfg);
	for (unsigned i = 0; i < MOST; i++) {
		c[i] = try_client(&h, *state, NULL);
		assert_non_null(c[i]);
	}
	assert_null(try_client(&h, *state, NULL));
	if (strstr(q_last_error(), "uid_connections") == NULL)
		fail_msg("%s", q_last_error());
	expect_it_serves(c[0], 77);
	q_broker_close(c[0]);
	while ((c[0] = try_client(&h, *state, NULL)) == NULL) /* it has not gone yet */
		nap_ms(1);
	for (unsigned i = 0; i < MOST; i++)
		q_broker_close(c[i]);
	close_house(&h);
}

static void t_1_auth_one_user_connects_so_often(void **state)
{
	struct router_config cfg = ROUTER_DEFAULTS;
	static struct house h;
	BrokerClient *c;

	cfg.uid_connect_rate = 1;
	cfg.uid_connect_burst = 1;
	open_house(&h, &cfg);
	c = try_client(&h, *state, NULL);
	assert_non_null(c);
	for (unsigned refused = 0; refused < 10;) { /* the others may come after a second */
		const uint64_t before_ns = gq__now_ns();
		BrokerClient *more = try_client(&h, *state, NULL);

		if (more == NULL && strstr(q_last_error(), "uid_connect_rate") == NULL)
			fail_msg("%s", q_last_error());
		if (more == NULL) /* first it has to wait */
			assert_true(gq__now_ns() >= before_ns + GQ_TARPIT_NS);
		refused += more == NULL;
		q_broker_close(more);
	}
	expect_it_serves(c, 77);
	q_broker_close(c);
	close_house(&h);
}

/* Without a word. */
static void come_and_give_up(const struct house *h, const struct way *w)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = -1;

	if (w->endpoint == unix_endpoint) {
		memcpy(at.sun_path, h->cfg.socket, sizeof(at.sun_path));
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	} else if (w->endpoint == in_process_endpoint) {
		fd = router_connect(h->router);
	} else if (w->endpoint == netlink_endpoint) {
		fd = gq__netlink_open_somewhere();
		assert_true(gq__netlink_send(fd, h->cfg.netlink, GQ_NETLINK_KNOCK, 1, NULL, 0));
	} else {
		char endpoint[160];

		w->endpoint(h, endpoint);
		fd = open(endpoint + strlen("chardev:"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
		nap_ms(1); /* it waits by then, mostly */
	}
	assert_true(fd >= 0);
	close(fd);
}

/* Those that were let in, and those that were told that they come too often. */
static uint64_t arrivals(BrokerClient *c)
{
	return services_count_on(c, "connections") + services_count_on(c, "connections_too_often");
}

static void t_1_auth_who_gives_up_while_it_waits_takes_nothing_from_the_others(void **state)
{
	enum { GIVE_UP = 40 };
	struct router_config cfg = ROUTER_DEFAULTS;
	static struct house h;
	BrokerClient *c, *more;
	uint64_t before, tries = 0;

	cfg.uid_connect_rate = 1;
	cfg.uid_connect_burst = 1;
	open_house(&h, &cfg);
	c = try_client(&h, *state, NULL);
	assert_non_null(c);
	before = arrivals(c);
	for (int i = 0; i < GIVE_UP; i++)
		come_and_give_up(&h, *state);
	/* They wait in the order in which they came: those before this one have been looked at. */
	for (; (more = try_client(&h, *state, NULL)) != NULL; tries++)
		q_broker_close(more);
	/* Some may have been let in before they gave up, where this is slow. */
	assert_true(arrivals(c) < before + GIVE_UP + tries + 1);
	q_broker_close(c);
	close_house(&h);
}

static const struct gq_token_key token_key = { .number = 1,
					       .key = "0123456789abcdef0123456789abcde" };

static const char *issue(uint32_t rights, uint32_t uid)
{
	struct gq_claims claims = { .rights = rights, .all_ops = true };
	static char text[2 * GQ_TOKEN_MOST + 1];
	uint8_t id[GQ_TOKEN_ID] = { 1 }, token[GQ_TOKEN_MOST];
	size_t n;

	claims.has_uid = uid != UINT32_MAX;
	claims.uid = uid;
	assert_int_equal(gq__token_issue(&token_key, id, &claims, token, sizeof(token), &n),
			 GQ_TOKEN_IS_OK);
	return sodium_bin2hex(text, sizeof(text), token, n);
}

/* A router that wants tokens. */
static void open_locked_house(struct house *h)
{
	struct router_config cfg = unhurried();

	cfg.token.keys = 1;
	cfg.token.key[0].number = token_key.number;
	memcpy(cfg.token.key[0].key, token_key.key, sizeof(cfg.token.key[0].key));
	open_house(h, &cfg);
}

static void t_1_auth_without_a_token_or_with_a_false_one_nobody_gets_in(void **state)
{
	static const char *const wrong[] = { NULL, "00", "not one" };
	static char other[2 * GQ_TOKEN_MOST + 1];
	static struct house h;
	BrokerClient *c;

	open_locked_house(&h);
	for (unsigned i = 0; i < 3; i++) {
		assert_null(try_client(&h, *state, wrong[i]));
		assert_non_null(strstr(q_last_error(), "token"));
	}
	snprintf(other, sizeof(other), "%s", issue(GQ_RIGHTS, UINT32_MAX));
	other[strlen(other) - 1] ^= 1;
	assert_null(try_client(&h, *state, other));
	c = try_client(&h, *state, issue(GQ_RIGHTS, UINT32_MAX));
	assert_non_null(c);
	q_broker_close(c);
	close_house(&h);
}

static void t_1_auth_a_token_is_held_against_the_user_that_the_kernel_names(void **state)
{
	static struct house h;
	BrokerClient *c;

	open_locked_house(&h);
	assert_null(try_client(&h, *state, issue(GQ_RIGHTS, getuid() + 1)));
	assert_non_null(strstr(q_last_error(), "another user's"));
	c = try_client(&h, *state, issue(GQ_RIGHTS, getuid()));
	assert_non_null(c);
	q_broker_close(c);
	close_house(&h);
}

static void t_1_auth_a_token_allows_what_it_says(void **state)
{
	const BrokerService s = { .name = "w", .capability = "op=x" };
	static struct house h;
	BrokerClient *c;

	open_locked_house(&h);
	c = try_client(&h, *state, issue(GQ_RIGHT_SUBMIT, UINT32_MAX));
	assert_non_null(c);
	assert_status(q_service_register(c, &s), Q_ERR_POLICY);
	expect_end(c, submit(c, "x", "", 0), Q_ERR_NOT_FOUND);
	q_broker_close(c);
	c = try_client(&h, *state, issue(GQ_RIGHT_REGISTER, UINT32_MAX));
	assert_non_null(c);
	assert_status(q_service_register(c, &s), Q_OK);
	assert_int_equal(expect_end(c, submit(c, "x", "", 0), Q_ERR_POLICY).reason,
			 Q_REASON_DENIED);
	q_broker_close(c);
	close_house(&h);
}

/* ---- submit ---------------------------------------------------------------------------------- */

static void there_and_back(void **state, size_t bytes)
{
	BrokerClient *w = worker(state, "w", "op=echo", 0), *c = client(state);
	uint8_t *payload = malloc(bytes + 1);
	uint64_t id;

	assert_non_null(payload);
	for (size_t i = 0; i < bytes; i++)
		payload[i] = (uint8_t)(i * 31 + i / 256);
	id = submit(c, "echo", payload, bytes);
	echo_one(w);
	expect_reply(c, id, payload, bytes);
	free(payload);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_submit_nothing(void **state)
{
	there_and_back(state, 0);
}

static void t_1_submit_one_byte(void **state)
{
	there_and_back(state, 1);
}

static void t_1_submit_a_page_and_a_byte(void **state)
{
	there_and_back(state, 4097);
}

static void t_1_submit_what_just_fits(void **state)
{
	there_and_back(state, Q_BROKER_MAX_BYTES);
}

static void t_1_submit_keeps_order_and_bytes_apart(void **state)
{
	enum { MANY = 60 };
	BrokerClient *w = worker(state, "w", "op=echo", 64), *c = client(state);
	static char payload[MANY][1000];
	uint64_t id[MANY];
	BrokerRequest q;

	for (unsigned i = 0; i < MANY; i++) {
		memset(payload[i], 'a' + (int)i % 26, sizeof(payload[i]));
		id[i] = submit(c, "echo", payload[i], 10 * i);
	}
	for (unsigned i = 0; i < MANY; i++) {
		take_one(w, &q);
		assert_int_equal(q.bytes, 10 * i);
		answer(w, &q, Q_REASON_OK);
	}
	for (unsigned i = 0; i < MANY; i++)
		expect_reply(c, id[i], payload[i], 10 * i);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_submit_to_nobody_is_not_found(void **state)
{
	BrokerClient *c = client(state);

	expect_end(c, submit(c, "nobody", "x", 1), Q_ERR_NOT_FOUND);
	q_broker_close(c);
}

static void t_1_submit_that_fails_says_why(void **state)
{
	static const struct {
		uint32_t reason;
		QueueStatus status;
	} ends[] = { { Q_REASON_ERROR, Q_ERR_FAILED }, { Q_REASON_INVALID, Q_ERR_INVALID_ARG } };
	BrokerClient *w = worker(state, "w", "op=fail", 0), *c = client(state);

	for (unsigned i = 0; i < 2; i++) {
		const uint64_t id = submit(c, "fail", "x", 1);
		BrokerRequest q;

		take_one(w, &q);
		answer(w, &q, ends[i].reason);
		assert_int_equal(expect_end(c, id, ends[i].status).reason, ends[i].reason);
	}
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_submit_ends_when_its_time_is_over(void **state)
{
	const BrokerCall call = { .service = "slow", .timeout_ms = 1 };
	BrokerClient *w = worker(state, "w", "op=slow", 1), *c = client(state);
	uint64_t id;

	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	expect_end(c, id, Q_ERR_EXPIRED);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_submit_more_than_the_window_is_refused(void **state)
{
	BrokerClient *w = worker(state, "w", "op=full", 1), *c = client(state);
	const BrokerCall call = { .service = "full", .timeout_ms = LONG_MS };
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST };
	BrokerClient *r = greeted(state);
	uint64_t id;

	for (unsigned i = 0; i < usual.cfg.window; i++)
		submit(c, "full", "", 0);
	assert_status(q_broker_submit(c, &call, &id), Q_ERR_LIMIT); /* the library's own limit */
	gq__frame_set(&f, GQ_TLV_NAME, false, "full", 4);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "", 0);
	for (f.correlation = 1; f.correlation <= usual.cfg.window + 1; f.correlation++)
		throw_frame(r, &f);
	for (;;) { /* and gpuqd's, for whoever does not keep to it */
		struct heard *h = next(r);
		const bool last = h->frame.correlation == usual.cfg.window + 1;

		if (last)
			assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0),
					 GQ_WIRE_OVERLOADED);
		gq__broker_free(h);
		if (last)
			break;
	}
	q_broker_close(r);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_submit_from_many_connections_at_once(void **state)
{
	enum { MANY = 16 };
	BrokerClient *w = worker(state, "w", "op=echo", 32), *c[MANY];
	uint64_t id[MANY];
	char text[8];

	for (unsigned i = 0; i < MANY; i++) {
		c[i] = client(state);
		snprintf(text, sizeof(text), "%u", i);
		id[i] = submit(c[i], "echo", text, strlen(text));
	}
	for (unsigned i = 0; i < MANY; i++)
		echo_one(w);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "%u", i);
		expect_reply(c[i], id[i], text, strlen(text));
		q_broker_close(c[i]);
	}
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_submit_with_a_key_runs_once(void **state)
{
	char key[16];
	const BrokerCall call = {
		.service = "once", .timeout_ms = LONG_MS, .key = key, .key_bytes = sizeof(key)
	};
	BrokerClient *w = worker(state, "w", "op=once", 0), *c = client(state);
	uint64_t id;

	snprintf(key, sizeof(key), "%s", ((const struct way *)*state)->name);
	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	echo_one(w);
	expect_reply(c, id, "", 0);
	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	assert_true(expect_end(c, id, Q_OK).reused);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void batch_of(void **state, uint32_t many, size_t bytes)
{
	const BrokerCall call = { .service = "each", .timeout_ms = LONG_MS };
	BrokerClient *w = worker(state, "w", "op=each", 64), *c = client(state);
	static uint8_t payload[Q_BROKER_MAX_BYTES];
	BrokerItem items[64];
	uint64_t id;

	for (uint32_t i = 0; i < many; i++) {
		memset(payload + i * bytes, (int)i + 1, bytes);
		items[i] = (BrokerItem){ .payload = payload + i * bytes, .bytes = bytes };
	}
	if (q_broker_submit_batch(c, &call, items, many, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	for (uint32_t i = 0; i < many; i++)
		echo_one(w);
	for (uint32_t i = 0; i < many; i++)
		expect_reply(c, id + i, payload + i * bytes, bytes);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_batch_of_one(void **state)
{
	batch_of(state, 1, 100);
}

static void t_1_batch_of_a_window(void **state)
{
	batch_of(state, 64, 10);
}

static void t_1_batch_of_nothing_each(void **state)
{
	batch_of(state, 8, 0);
}

static void t_1_batch_that_just_fits(void **state)
{
	batch_of(state, 15, 4000);
}

static void t_1_batch_ends_each_for_itself(void **state)
{
	const BrokerCall call = { .service = "each", .timeout_ms = LONG_MS };
	const BrokerItem items[3] = { { "a", 1 }, { "b", 1 }, { "c", 1 } };
	BrokerClient *w = worker(state, "w", "op=each", 64), *c = client(state);
	BrokerRequest q;
	uint64_t id;

	assert_status(q_broker_submit_batch(c, &call, items, 3, &id), Q_OK);
	for (unsigned i = 0; i < 3; i++) {
		take_one(w, &q);
		answer(w, &q, i == 1 ? Q_REASON_ERROR : Q_REASON_OK);
	}
	expect_reply(c, id, "a", 1);
	expect_end(c, id + 1, Q_ERR_FAILED);
	expect_reply(c, id + 2, "c", 1);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_batch_all_or_nothing_is_refused_whole(void **state)
{
	const BrokerCall call = { .service = "nobody",
				  .timeout_ms = LONG_MS,
				  .all_or_nothing = true };
	const BrokerItem items[2] = { { "a", 1 }, { "b", 1 } };
	BrokerClient *c = client(state);
	uint64_t id;

	assert_status(q_broker_submit_batch(c, &call, items, 2, &id), Q_OK);
	expect_end(c, id, Q_ERR_NOT_FOUND);
	expect_end(c, id + 1, Q_ERR_NOT_FOUND);
	q_broker_close(c);
	expect_quiet(state);
}

/* ---- regions --------------------------------------------------------------------------------- */

static void t_1_a_region_passes_or_is_refused(void **state)
{
	BrokerClient *w = worker(state, "w", "op=read", 1), *c = client(state);
	BrokerRegion g;
	BrokerRequest q;

	if (((const struct way *)*state)->passes_regions) {
		BrokerExtent at = { .offset = 1000 };
		const BrokerCall call = {
			.service = "read", .extent = &at, .bytes = 3096, .timeout_ms = LONG_MS
		};
		uint64_t id;

		assert_status(q_broker_region_create(c, 4096, &g), Q_OK);
		memset(g.memory, 'r', g.bytes);
		assert_status(q_broker_region_seal(c, g.id), Q_OK);
		at.region = g.id;
		assert_status(q_broker_submit(c, &call, &id), Q_OK);
		take_one(w, &q);
		assert_int_equal(q.bytes, 3096);
		assert_memory_equal(q.payload, (char *)g.memory + 1000, 3096);
		assert_status(q_service_reply(w, &q, Q_REASON_OK, "seen", 4), Q_OK);
		expect_reply(c, id, "seen", 4);
		assert_status(q_broker_region_end(c, g.id), Q_OK);
	} else {
		assert_status(q_broker_region_create(c, 4096, &g), Q_ERR_UNSUPPORTED);
		expect_it_serves(c, 9);
	}
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* ---- cancel ---------------------------------------------------------------------------------- */

static void t_1_cancel_one_that_waits(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 1), *c = client(state);
	const uint64_t runs = submit(c, "slow", "1", 1);
	BrokerRequest q;
	uint64_t waits;

	take_one(w, &q);
	waits = submit(c, "slow", "2", 1);
	assert_status(q_broker_cancel(c, waits), Q_OK);
	expect_end(c, waits, Q_ERR_CANCELLED);
	answer(w, &q, Q_REASON_OK);
	expect_reply(c, runs, "1", 1);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_cancel_one_that_runs(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 1), *c = client(state);
	const uint64_t id = submit(c, "slow", "1", 1);
	const uint64_t late = count(state, "late");
	BrokerRequest q;

	take_one(w, &q);
	assert_status(q_broker_cancel(c, id), Q_OK);
	assert_true(expect_end(c, id, Q_ERR_CANCELLED).may_have_run);
	answer(w, &q, Q_REASON_OK);
	await_count(state, "late", late + 1);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_cancel_one_that_has_ended_changes_nothing(void **state)
{
	BrokerClient *w = worker(state, "w", "op=echo", 1), *c = client(state);
	const uint64_t id = submit(c, "echo", "1", 1);

	echo_one(w);
	assert_status(q_broker_cancel(c, id), Q_OK); /* its answer may be on the way */
	(void)q_broker_wait(c, id, (char[8]){ 0 }, &(size_t){ 8 }, NULL, LONG_MS);
	assert_status(q_broker_cancel(c, id), Q_ERR_NOT_FOUND);
	expect_it_serves(c, 99);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* ---- looking --------------------------------------------------------------------------------- */

static void t_1_watch_tells_what_is_there_and_what_changes(void **state)
{
	BrokerClient *w = worker(state, "w1", "op=seen", 0), *c = client(state), *other;
	BrokerServiceInfo info;
	QueueStatus status;

	assert_status(q_broker_watch(c, &info, LONG_MS), Q_OK);
	assert_string_equal(info.name, "w1");
	other = worker(state, "w2", "op=seen", 0);
	do
		status = q_broker_watch(c, &info, LONG_MS);
	while (status == Q_OK &&
	       (strcmp(info.name, "w2") != 0 || strcmp(info.state, "ready") != 0));
	assert_status(status, Q_OK);
	q_broker_close(other);
	do
		status = q_broker_watch(c, &info, LONG_MS);
	while (status == Q_OK && (strcmp(info.name, "w2") != 0 || strcmp(info.state, "gone") != 0));
	assert_status(status, Q_OK);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* One change that it sees, or none yet. @return whether some were missed */
static bool look_at_a_change(BrokerClient *watch, BrokerServiceInfo *info, uint32_t timeout_ms)
{
	const QueueStatus status = q_broker_watch(watch, info, timeout_ms);

	info->name[0] = status == Q_OK ? info->name[0] : '\0';
	if (status != Q_OK && status != Q_ERR_LAGGED &&
	    (status != Q_ERR_TIMEOUT || timeout_ms != 0))
		fail_msg("q_broker_watch: %d, %s", (int)status, q_last_error());
	return status == Q_ERR_LAGGED;
}

/* It reads a change in a while, so that it is not ended as one that never reads, while more come
 * than gpuqd remembers. */
static void t_1_watch_that_lags_is_told_and_begins_anew(void **state)
{
	BrokerClient *watch = client(state), *w = client(state);
	BrokerServiceInfo info;
	bool lagged;

	assert_status(q_broker_watch(watch, &info, 0), Q_ERR_TIMEOUT);
	lagged = false;
	for (int i = 0; i < 2500; i++) {
		const BrokerService s = { .name = "churn", .capability = "op=a" };

		assert_status(q_service_register(w, &s), Q_OK);
		assert_status(q_service_unregister(w), Q_OK);
		if (i % 64 == 0)
			lagged = look_at_a_change(watch, &info, 0) || lagged;
	}
	q_broker_close(w);
	w = worker(state, "last", "op=a", 0);
	do
		lagged = look_at_a_change(watch, &info, LONG_MS) || lagged;
	while (strcmp(info.name, "last") != 0);
	assert_true(lagged);
	q_broker_close(watch);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_discover_finds_by_what_they_can(void **state)
{
	BrokerClient *a = worker(state, "small", "op=embed dims=128..512", 0);
	BrokerClient *b = worker(state, "large", "op=embed dims=128..4096", 0), *c = client(state);
	BrokerServiceInfo info[4];
	size_t n;

	assert_status(q_broker_discover(c, NULL, info, 4, &n), Q_OK);
	assert_int_equal(n, 2);
	assert_status(q_broker_discover(c, "dims=1024", info, 4, &n), Q_OK);
	assert_int_equal(n, 1);
	assert_string_equal(info[0].name, "large");
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	expect_quiet(state);
}

static void t_1_unregister_keeps_what_has_come(void **state)
{
	BrokerClient *w = worker(state, "w", "op=x", 1), *c = client(state);
	const uint64_t id = submit(c, "x", "1", 1);
	BrokerRequest q;

	take_one(w, &q);
	assert_status(q_service_unregister(w), Q_OK);
	expect_end(c, submit(c, "x", "2", 1), Q_ERR_NOT_FOUND);
	answer(w, &q, Q_REASON_OK);
	expect_reply(c, id, "1", 1);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* ---- drain ----------------------------------------------------------------------------------- */

static void t_1_drain_finishes_what_is_inside_and_refuses_what_comes(void **state)
{
	struct router_config cfg = unhurried();
	const BrokerService s = { .name = "w", .capability = "op=end" };
	static struct house h;
	BrokerClient *w, *c;
	BrokerRequest q;
	BrokerReply r = { .reason = 0 };
	uint64_t id;

	open_house(&h, &cfg);
	w = try_client(&h, *state, NULL);
	c = try_client(&h, *state, NULL);
	assert_true(w != NULL && c != NULL);
	assert_status(q_service_register(w, &s), Q_OK);
	id = submit(c, "end", "1", 1);
	take_one(w, &q);
	router_begin_stop(h.router);
	while (r.reason != Q_REASON_SHUTDOWN) /* it does not know yet: cancelled */
	{
		const uint64_t more = submit(c, "end", "2", 1);

		assert_status(q_broker_cancel(c, more), Q_OK);
		(void)q_broker_wait(c, more, NULL, &(size_t){ 0 }, &r, LONG_MS);
	}
	assert_false(router_has_ended(h.router));
	answer(w, &q, Q_REASON_OK);
	expect_reply(c, id, "1", 1);
	while (q_service_recv(w, &q, LONG_MS) == Q_OK) /* those that crossed */
		(void)q_service_reply(w, &q, Q_REASON_OK, NULL, 0);
	assert_status(q_broker_stats(c, NULL, &(size_t){ 0 }), Q_ERR_LOST);
	q_broker_close(c);
	q_broker_close(w);
	close_house(&h);
}

static void t_1_drain_that_takes_too_long_ends_what_is_inside(void **state)
{
	struct router_config cfg = unhurried();
	const BrokerService s = { .name = "w", .capability = "op=end" };
	static struct house h;
	BrokerClient *w, *c;
	BrokerRequest q;
	uint64_t id;

	cfg.drain_ms = 10;
	open_house(&h, &cfg);
	w = try_client(&h, *state, NULL);
	c = try_client(&h, *state, NULL);
	assert_true(w != NULL && c != NULL);
	assert_status(q_service_register(w, &s), Q_OK);
	id = submit(c, "end", "1", 1);
	take_one(w, &q);
	router_begin_stop(h.router);
	expect_end(c, id, Q_ERR_SHUTDOWN);
	(void)q_service_reply(w, &q, Q_REASON_OK, NULL, 0); /* too late, or lost */
	assert_status(q_service_recv(w, &q, LONG_MS), Q_ERR_LOST);
	q_broker_close(c);
	q_broker_close(w);
	close_house(&h);
}

/* ---- in one process only --------------------------------------------------------------------- */

static void t_1_a_router_that_ends_takes_nobody_in(void **state)
{
	struct router_config cfg = unhurried();
	static struct house h;
	BrokerClient *c, *w;
	BrokerRequest q;
	const BrokerService s = { .name = "w", .capability = "op=x" };
	int fd;

	(void)state;
	open_house(&h, &cfg);
	c = try_client(&h, &ways[1], NULL);
	w = try_client(&h, &ways[1], NULL);
	assert_true(c != NULL && w != NULL);
	assert_status(q_service_register(w, &s), Q_OK);
	submit(c, "x", "", 0);
	take_one(w, &q); /* so that it does not end yet */
	router_begin_stop(h.router);
	while ((fd = router_connect(h.router)) >= 0) /* it has not seen that yet */
		close(fd);
	assert_int_equal(errno, ECONNREFUSED);
	answer(w, &q, Q_REASON_OK);
	q_broker_close(c);
	q_broker_close(w);
	close_house(&h);
}

static void t_1_a_router_without_that_door_says_so(void **state)
{
	struct router_config cfg = unhurried();
	char error[ROUTER_ERROR_ROOM], folder[] = "/tmp/gpuq-transport-XXXXXX", lock[64];
	struct router *r;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(cfg.socket, sizeof(cfg.socket), "%s/s", folder);
	r = router_start(&cfg, error);
	assert_non_null(r);
	assert_int_equal(router_connect(r), -1);
	assert_int_equal(errno, EOPNOTSUPP);
	router_stop(r);
	snprintf(lock, sizeof(lock), "%s/s.lock", folder);
	unlink(lock);
	assert_int_equal(rmdir(folder), 0);
}

static void t_1_endpoints_that_are_none_are_told(void **state)
{
	static const char *const wrong[] = { "",
					     "unix:",
					     "unix",
					     "fd:",
					     "fd:x",
					     "fd:-1",
					     "fd:99",
					     "fd:1x",
					     "fd:99999999999",
					     "tcp:1",
					     "UNIX:/x",
					     "netlink:",
					     "netlink:7",
					     "netlink:4194304",
					     "netlink:2147483648",
					     "netlink:5000000@",
					     "netlink:5000000@x",
					     "netlink:x",
					     "netlink:5000000@4294967295",
					     "netlink:5000000@65534",
					     "chardev:" };
	char file[32];

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const BrokerConfig cfg = { .endpoint = wrong[i] };

		assert_null(q_broker_connect(&cfg));
		if (strstr(q_last_error(), "allowed: ") == NULL)
			fail_msg("'%s': %s", wrong[i], q_last_error());
	}
	{ /* a descriptor that is no such socket is left open */
		const int fd = dup(STDERR_FILENO);
		const BrokerConfig cfg = { .endpoint = file };

		snprintf(file, sizeof(file), "fd:%d", fd);
		assert_null(q_broker_connect(&cfg));
		assert_int_equal(close(fd), 0);
	}
}

/* ---- all of them ----------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(t_1_hello_says_version_epoch_limits_and_credits),
		cmocka_unit_test(t_1_hello_agrees_on_a_version_that_both_speak),
		cmocka_unit_test(t_1_hello_with_another_version_is_told_both_and_closed),
		cmocka_unit_test(t_1_hello_comes_once),
		cmocka_unit_test(t_1_hello_comes_first),
		cmocka_unit_test(t_1_auth_one_user_has_so_many_connections),
		cmocka_unit_test(t_1_auth_one_user_connects_so_often),
		cmocka_unit_test(t_1_auth_who_gives_up_while_it_waits_takes_nothing_from_the_others),
		cmocka_unit_test(t_1_auth_without_a_token_or_with_a_false_one_nobody_gets_in),
		cmocka_unit_test(t_1_auth_a_token_is_held_against_the_user_that_the_kernel_names),
		cmocka_unit_test(t_1_auth_a_token_allows_what_it_says),
		cmocka_unit_test(t_1_submit_nothing),
		cmocka_unit_test(t_1_submit_one_byte),
		cmocka_unit_test(t_1_submit_a_page_and_a_byte),
		cmocka_unit_test(t_1_submit_what_just_fits),
		cmocka_unit_test(t_1_submit_keeps_order_and_bytes_apart),
		cmocka_unit_test(t_1_submit_to_nobody_is_not_found),
		cmocka_unit_test(t_1_submit_that_fails_says_why),
		cmocka_unit_test(t_1_submit_ends_when_its_time_is_over),
		cmocka_unit_test(t_1_submit_more_than_the_window_is_refused),
		cmocka_unit_test(t_1_submit_from_many_connections_at_once),
		cmocka_unit_test(t_1_submit_with_a_key_runs_once),
		cmocka_unit_test(t_1_batch_of_one),
		cmocka_unit_test(t_1_batch_of_a_window),
		cmocka_unit_test(t_1_batch_of_nothing_each),
		cmocka_unit_test(t_1_batch_that_just_fits),
		cmocka_unit_test(t_1_batch_ends_each_for_itself),
		cmocka_unit_test(t_1_batch_all_or_nothing_is_refused_whole),
		cmocka_unit_test(t_1_a_region_passes_or_is_refused),
		cmocka_unit_test(t_1_cancel_one_that_waits),
		cmocka_unit_test(t_1_cancel_one_that_runs),
		cmocka_unit_test(t_1_cancel_one_that_has_ended_changes_nothing),
		cmocka_unit_test(t_1_watch_tells_what_is_there_and_what_changes),
		cmocka_unit_test(t_1_watch_that_lags_is_told_and_begins_anew),
		cmocka_unit_test(t_1_discover_finds_by_what_they_can),
		cmocka_unit_test(t_1_unregister_keeps_what_has_come),
		cmocka_unit_test(t_1_drain_finishes_what_is_inside_and_refuses_what_comes),
		cmocka_unit_test(t_1_drain_that_takes_too_long_ends_what_is_inside),
	}, alone[] = {
		cmocka_unit_test(t_1_a_router_that_ends_takes_nobody_in),
		cmocka_unit_test(t_1_a_router_without_that_door_says_so),
		cmocka_unit_test(t_1_endpoints_that_are_none_are_told),
	};
	enum { CASES = sizeof(cases) / sizeof(cases[0]) };
	static struct CMUnitTest tests[WAYS * CASES + sizeof(alone) / sizeof(alone[0])];
	unsigned n;

	if (!ways_look())
		return 77;
	n = ways_add(tests, cases, CASES);
	memcpy(tests + n, alone, sizeof(alone));
	n += sizeof(alone) / sizeof(alone[0]);
	return ways_run("service_transport", tests, n, argc, argv);
}
