/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_transport.c - what every transport to gpuqd's services does alike: each case below
 * runs over each of them. gpuqd's router is a thread of this process, with a door of each
 * transport.
 */
/* First: its GQ_CLASSES is another than that of queues. */
#include "broker/policy/token.h"

/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "daemon.h"
#include "support.h"

#include "broker/policy/crc32c.h"
#include "broker/service/service.h"
#include "host/base/clock.h"
#include "host/base/netlink.h"
#include "host/service/transport.h"

#include <gpuq/broker.h>

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a router with a door of each transport -------------------------------------------------- */

struct house {
	struct router *router;
	struct router_config cfg;
	char folder[40];
};

/* Whether this machine can have them: only then are they among the transports. */
static bool has_netlink, has_chardev;
/* A node in /dev in place of a file that is mounted: $GPUQ_TEST_CUSE. */
static bool by_cuse;

static struct house usual;

/* One that no other test has. */
static uint32_t next_port(void)
{
	static uint32_t n;

	return 0x40000000u + ((uint32_t)getpid() << 6) + n++ % 64;
}

/* Where the device is to be, for the configuration; one that no other test has. */
static void name_chardev(struct house *h)
{
	static unsigned n;

	if (by_cuse)
		snprintf(h->cfg.chardev, sizeof(h->cfg.chardev), "cuse:gpuq-test-%d-%u",
			 (int)getpid(), n++);
	else
		snprintf(h->cfg.chardev, sizeof(h->cfg.chardev), "%s/c", h->folder);
}

static bool look_for_netlink(void)
{
	const int fd = gq__netlink_open();

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* How often somebody connects is of one case alone. */
static struct router_config unhurried(void)
{
	struct router_config cfg = ROUTER_DEFAULTS;

	cfg.uid_connect_rate = 0;
	return cfg;
}

static void open_house(struct house *h, const struct router_config *cfg)
{
	char error[ROUTER_ERROR_ROOM];

	h->cfg = *cfg;
	snprintf(h->folder, sizeof(h->folder), "/tmp/gpuq-transport-XXXXXX");
	assert_non_null(mkdtemp(h->folder));
	snprintf(h->cfg.socket, sizeof(h->cfg.socket), "%s/s", h->folder);
	if (has_chardev)
		name_chardev(h);
	h->cfg.in_process = true;
	h->cfg.netlink = has_netlink ? next_port() : 0;
	h->cfg.uid_regions = 8;
	h->router = router_start(&h->cfg, error);
	if (h->router == NULL)
		fail_msg("%s", error);
}

static void close_house(struct house *h)
{
	char path[64];

	if (h->router != NULL)
		router_stop(h->router);
	h->router = NULL;
	snprintf(path, sizeof(path), "%s/s.lock", h->folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/c.lock", h->folder);
	unlink(path);
	assert_int_equal(rmdir(h->folder), 0);
}

/* ---- the transports -------------------------------------------------------------------------- */

struct way {
	const char *name;
	void (*endpoint)(const struct house *h, char to[160]);
	bool of_this_process; /* no other process can use it */
	bool passes_regions;
	const bool *is_there; /* NULL: always */
};

static void unix_endpoint(const struct house *h, char to[160])
{
	snprintf(to, 160, "unix:%s", h->cfg.socket);
}

static void in_process_endpoint(const struct house *h, char to[160])
{
	const int fd = router_connect(h->router);

	if (fd < 0)
		fail_msg("%s", strerror(errno));
	snprintf(to, 160, "fd:%d", fd);
}

static void netlink_endpoint(const struct house *h, char to[160])
{
	snprintf(to, 160, "netlink:%u", h->cfg.netlink);
}

static void chardev_endpoint(const struct house *h, char to[160])
{
	if (by_cuse)
		snprintf(to, 160, "chardev:/dev/%s", h->cfg.chardev + strlen("cuse:"));
	else
		snprintf(to, 160, "chardev:%s", h->cfg.chardev);
}

static const struct way ways[] = {
	{ "unix", unix_endpoint, false, true, NULL },
	{ "in_process", in_process_endpoint, true, true, NULL },
	{ "netlink", netlink_endpoint, false, false, &has_netlink },
	{ "chardev", chardev_endpoint, false, false, &has_chardev },
};

/* ---- clients --------------------------------------------------------------------------------- */

static BrokerClient *try_client(const struct house *h, const struct way *w, const char *token)
{
	char endpoint[160];
	const BrokerConfig cfg = {
		.endpoint = endpoint, .name = "client", .timeout_ms = LONG_MS, .token = token
	};

	w->endpoint(h, endpoint);
	return q_broker_connect(&cfg);
}

static BrokerClient *client(void **state)
{
	BrokerClient *c = try_client(&usual, *state, NULL);

	if (c == NULL)
		fail_msg("%s", q_last_error());
	return c;
}

static BrokerClient *worker(void **state, const char *name, const char *can, uint32_t capacity)
{
	const BrokerService s = {
		.name = name, .capability = can, .capacity = capacity, .heartbeat_ms = 20
	};
	BrokerClient *c = client(state);

	if (q_service_register(c, &s) != Q_OK)
		fail_msg("%s", q_last_error());
	return c;
}

static uint64_t count(void **state, const char *name)
{
	BrokerClient *c = client(state);
	const size_t m = strlen(name);
	char text[4096];
	size_t n = sizeof(text);

	assert_int_equal(q_broker_stats(c, text, &n), Q_OK);
	q_broker_close(c);
	for (const char *line = text; line != NULL && *line != '\0';) {
		if (strncmp(line, name, m) == 0 && line[m] == '\t')
			return strtoull(line + m, NULL, 10);
		line = strchr(line, '\n');
		line += line != NULL;
	}
	fail_msg("there is no count '%s'", name);
	return 0;
}

static void await_count(void **state, const char *name, uint64_t value)
{
	for (unsigned i = 0; count(state, name) != value; i++) {
		if (i == LONG_MS)
			fail_msg("%s does not become %u", name, (unsigned)value);
		nap_ms(1);
	}
}

/* What a test has left has gone, and everything that was accepted has ended once. */
static void expect_quiet(void **state)
{
	await_count(state, "services", 0);
	await_count(state, "inside", 0);
	assert_int_equal(count(state, "accepted"),
			 count(state, "ok") + count(state, "failed") + count(state, "expired") +
				 count(state, "cancelled") + count(state, "lost"));
}

static uint64_t submit(BrokerClient *c, const char *service, const void *payload, size_t bytes)
{
	const BrokerCall call = {
		.service = service, .payload = payload, .bytes = bytes, .timeout_ms = LONG_MS
	};
	uint64_t id = 0;

	if (q_broker_submit(c, &call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

static void take_one(BrokerClient *w, BrokerRequest *q)
{
	if (q_service_recv(w, q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
}

static void answer(BrokerClient *w, BrokerRequest *q, uint32_t reason)
{
	if (q_service_reply(w, q, reason, q->payload, q->bytes) != Q_OK)
		fail_msg("%s", q_last_error());
}

static void echo_one(BrokerClient *w)
{
	BrokerRequest q;

	take_one(w, &q);
	answer(w, &q, Q_REASON_OK);
}

static void expect_reply(BrokerClient *c, uint64_t id, const void *data, size_t bytes)
{
	static char reply[Q_BROKER_MAX_BYTES];
	size_t n = sizeof(reply);

	if (q_broker_wait(c, id, reply, &n, NULL, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	assert_int_equal(n, bytes);
	assert_memory_equal(reply, data, bytes);
}

static BrokerReply expect_end(BrokerClient *c, uint64_t id, QueueStatus status)
{
	BrokerReply r = { 0 };

	assert_status(q_broker_wait(c, id, NULL, &(size_t){ 0 }, &r, LONG_MS), status);
	assert_int_equal(r.id, id);
	return r;
}

/* ---- frames, by hand ------------------------------------------------------------------------- */

static BrokerClient *raw(void **state)
{
	const struct way *w = *state;
	char endpoint[160];
	BrokerClient *c;

	w->endpoint(&usual, endpoint);
	c = gq__broker_open(endpoint, LONG_MS);
	if (c == NULL)
		fail_msg("%s", q_last_error());
	return c;
}

/* Any bytes. @return whether they went: the connection may have ended */
static bool throw(BrokerClient * c, const void *bytes, size_t n)
{
	for (unsigned i = 0; i < LONG_MS; i++) {
		if (c->transport->send(c, bytes, n) == (long)n)
			return true;
		if (errno != EAGAIN && errno != ENOBUFS)
			return false;
		nap_ms(1);
	}
	fail_msg("gpuqd takes nothing");
	return false;
}

static size_t encode(struct gq_frame *f, uint8_t *to)
{
	size_t n = 0;

	f->flags |= GQ_FLAG_CHECKSUM;
	assert_int_equal(gq__frame_encode(f, to, GQ_WIRE_FRAME_MAX, &n), GQ_FRAME_OK);
	return n;
}

static void throw_frame(BrokerClient *c, struct gq_frame *f)
{
	static uint8_t out[GQ_WIRE_FRAME_MAX];
	const size_t n = encode(f, out);

	assert_true(throw(c, out, n));
}

/* The next frame, to be freed; NULL: the connection has ended. */
static struct heard *next(BrokerClient *c)
{
	for (;;) {
		struct heard *h = gq__broker_take(&c->others, 0);

		h = h != NULL ? h : gq__broker_take(&c->answers, 0);
		h = h != NULL ? h : gq__broker_take(&c->requests, 0);
		if (h != NULL)
			return h;
		if (gq__broker_hear(c, gq__deadline_ns(LONG_MS)) == Q_ERR_LOST)
			return NULL;
	}
}

/* A NACK with this status, for this correlation. */
static void expect_nack(BrokerClient *c, uint64_t correlation, uint32_t status)
{
	struct heard *h = next(c);

	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_NACK);
	assert_int_equal(h->frame.correlation, correlation);
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0), status);
	gq__broker_free(h);
}

static void expect_closed(BrokerClient *c)
{
	struct heard *h = next(c);

	assert_null(h);
	q_broker_close(c);
}

static void say_hello(BrokerClient *c, uint32_t low, uint32_t high)
{
	const uint32_t versions[2] = { low, high };
	struct gq_frame f = { .type = GQ_MESSAGE_HELLO, .correlation = 1 };

	gq__frame_set(&f, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	throw_frame(c, &f);
}

static struct heard *expect_hello(BrokerClient *c)
{
	struct heard *h = next(c);

	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_HELLO);
	assert_true((h->frame.flags & GQ_FLAG_REPLY) != 0);
	c->rules.state = GQ_FRAME_AFTER_HELLO;
	return h;
}

/* One that has said hello. */
static BrokerClient *greeted(void **state)
{
	BrokerClient *c = raw(state);

	say_hello(c, 1, 1);
	gq__broker_free(expect_hello(c));
	return c;
}

static void expect_it_serves(BrokerClient *c, uint64_t correlation)
{
	struct gq_frame f = { .type = GQ_MESSAGE_STATS, .correlation = correlation };
	struct heard *h;

	throw_frame(c, &f);
	h = next(c);
	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_STATS);
	assert_int_equal(h->frame.correlation, correlation);
	gq__broker_free(h);
}

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
		BrokerClient *more = try_client(&h, *state, NULL);

		if (more == NULL && strstr(q_last_error(), "uid_connect_rate") == NULL)
			fail_msg("%s", q_last_error());
		refused += more == NULL;
		q_broker_close(more);
	}
	expect_it_serves(c, 77);
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

/* It does not read while more changes than gpuqd remembers. */
static void t_1_watch_that_lags_is_told_and_begins_anew(void **state)
{
	BrokerClient *watch = client(state), *w = client(state);
	bool lagged = false, last = false;
	BrokerServiceInfo info;

	assert_status(q_broker_watch(watch, &info, 0), Q_ERR_TIMEOUT);
	for (int i = 0; i < 2500; i++) {
		const BrokerService s = { .name = "churn", .capability = "op=a" };

		assert_status(q_service_register(w, &s), Q_OK);
		assert_status(q_service_unregister(w), Q_OK);
	}
	q_broker_close(w);
	w = worker(state, "last", "op=a", 0);
	while (!last) {
		const QueueStatus status = q_broker_watch(watch, &info, LONG_MS);

		lagged = lagged || status == Q_ERR_LAGGED;
		assert_true(status == Q_OK || status == Q_ERR_LAGGED);
		last = status == Q_OK && strcmp(info.name, "last") == 0;
	}
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

/* ---- who goes, who dies ---------------------------------------------------------------------- */

static void t_1_death_a_caller_that_goes_takes_its_requests_along(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 1), *c = client(state);
	const uint64_t cancelled = count(state, "cancelled");
	BrokerRequest q;

	submit(c, "slow", "1", 1);
	submit(c, "slow", "2", 1);
	take_one(w, &q);
	q_broker_close(c);
	await_count(state, "cancelled", cancelled + 2);
	answer(w, &q, Q_REASON_OK);
	c = client(state);
	submit(c, "slow", "3", 1); /* the worker's place is free again */
	echo_one(w);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_death_a_worker_that_goes_loses_what_it_has_seen(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 1), *c = client(state);
	const uint64_t id = submit(c, "slow", "1", 1);
	BrokerRequest q;

	take_one(w, &q);
	q_broker_close(w);
	free(q.frame);
	assert_true(expect_end(c, id, Q_ERR_LOST).may_have_run);
	q_broker_close(c);
	expect_quiet(state);
}

static void t_1_death_an_idempotent_request_goes_to_another_worker(void **state)
{
	const BrokerCall call = { .service = "slow", .timeout_ms = LONG_MS, .idempotent = true };
	BrokerClient *a = worker(state, "a", "op=slow", 1), *c = client(state), *b;
	BrokerRequest q;
	uint64_t id;

	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	take_one(a, &q);
	b = worker(state, "b", "op=slow", 1);
	q_broker_close(a);
	free(q.frame);
	echo_one(b);
	expect_reply(c, id, "", 0);
	q_broker_close(b);
	q_broker_close(c);
	expect_quiet(state);
}

/* What a child does until it is killed. It calls nothing of cmocka's. */
static pid_t watch_a_worker_die(void **state, const char *name)
{
	const pid_t parent = getpid();
	char endpoint[160], byte;
	int told[2];
	pid_t pid;

	((const struct way *)*state)->endpoint(&usual, endpoint);
	assert_int_equal(pipe(told), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
		const BrokerService s = { .name = name, .capability = "op=die", .capacity = 2 };
		BrokerClient *c;
		BrokerRequest q;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c = getppid() == parent ? q_broker_connect(&cfg) : NULL;
		if (c == NULL || q_service_register(c, &s) != Q_OK || write(told[1], "x", 1) != 1 ||
		    q_service_recv(c, &q, LONG_MS) != Q_OK || write(told[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(told[1]);
	assert_int_equal(read(told[0], &byte, 1), 1); /* it is registered */
	{
		BrokerClient *c = client(state);
		const uint64_t id = submit(c, "die", "1", 1);

		assert_int_equal(read(told[0], &byte, 1), 1); /* it has the request */
		close(told[0]);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_true(expect_end(c, id, Q_ERR_LOST).may_have_run);
		q_broker_close(c);
	}
	return pid;
}

static void t_1_death_a_killed_process_is_seen(void **state)
{
	int status;
	pid_t pid;

	if (((const struct way *)*state)->of_this_process) {
		print_message("left out: both ends are in this process\n");
		skip();
	}
	pid = watch_a_worker_die(state, "mortal");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	expect_quiet(state);
}

/* It has one by fork(), and goes on. */
static void t_1_death_a_child_s_copy_of_a_connection_keeps_nothing(void **state)
{
	BrokerClient *w = worker(state, "w", "op=x", 1);
	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	q_broker_close(w);
	expect_quiet(state);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- what a process says just before it dies ---- */

static _Atomic pid_t watched;
static int go[2];

/* The router's: when there is nothing of this process it answers, and dies, before the router sees
 * that. */
ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	const ssize_t n = syscall(SYS_recvmsg, fd, m, flags);
	const int error = errno;
	struct ucred who = { 0 };
	socklen_t room = sizeof(who);
	siginfo_t end;

	if (n < 0 && error == EAGAIN && watched != 0 &&
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &room) == 0 && who.pid == watched) {
		(void)!write(go[1], "x", 1);
		(void)waitid(P_PID, (id_t)watched, &end, WEXITED | WNOWAIT);
		watched = 0;
	}
	errno = error;
	return n;
}

/* A child, which calls nothing of cmocka's. */
static void answer_and_die(const char *endpoint, int told)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	const BrokerService s = { .name = "w", .capability = "op=last", .heartbeat_ms = 20 };
	struct pollfd now = { .fd = go[0], .events = POLLIN };
	BrokerClient *c = q_broker_connect(&cfg);
	BrokerRequest q, none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (c == NULL || q_service_register(c, &s) != Q_OK || write(told, "x", 1) != 1 ||
	    q_service_recv(c, &q, LONG_MS) != Q_OK || write(told, "x", 1) != 1)
		_exit(1);
	while (poll(&now, 1, 0) == 0)
		(void)q_service_recv(c, &none, 10); /* it says that it lives */
	_exit(q_service_reply(c, &q, Q_REASON_OK, "done", 4) == Q_OK ? 0 : 1);
}

static void t_1_death_the_last_answer_of_a_process_counts(void **state)
{
	char endpoint[160], byte;
	BrokerClient *c;
	uint64_t id;
	int told[2], status;
	pid_t pid;

	(void)state;
	unix_endpoint(&usual, endpoint);
	assert_int_equal(pipe(told) + pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		answer_and_die(endpoint, told[1]);
	close(told[1]);
	assert_int_equal(read(told[0], &byte, 1), 1);
	c = try_client(&usual, &ways[0], NULL);
	assert_non_null(c);
	id = submit(c, "last", "x", 1);
	assert_int_equal(read(told[0], &byte, 1), 1);
	watched = pid;
	expect_reply(c, id, "done", 4);
	while (watched != 0) /* the router uses go[1] */
		nap_ms(1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(told[0]);
	close(go[0]);
	close(go[1]);
	q_broker_close(c);
	expect_quiet((void *[]){ (void *)(uintptr_t)&ways[0] });
}

static void t_1_death_of_the_router_ends_every_call(void **state)
{
	struct router_config cfg = unhurried();
	const BrokerService s = { .name = "w", .capability = "op=x" };
	static struct house h;
	BrokerClient *w, *c, *watch;
	BrokerServiceInfo info;
	BrokerRequest q;

	open_house(&h, &cfg);
	w = try_client(&h, *state, NULL);
	c = try_client(&h, *state, NULL);
	watch = try_client(&h, *state, NULL);
	assert_true(w != NULL && c != NULL && watch != NULL);
	assert_status(q_service_register(w, &s), Q_OK);
	while (q_broker_watch(watch, &info, 0) == Q_OK)
		;
	router_stop(h.router);
	h.router = NULL;
	assert_status(q_service_recv(w, &q, LONG_MS), Q_ERR_LOST);
	assert_status(q_broker_stats(c, NULL, &(size_t){ 0 }), Q_ERR_LOST);
	while (q_broker_watch(watch, &info, LONG_MS) == Q_OK) /* w has gone */
		;
	assert_status(q_broker_watch(watch, &info, LONG_MS), Q_ERR_LOST);
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(watch);
	close_house(&h);
}

/* Also the regions whose descriptors somebody has not read: one that is there, and one that has
 * gone. */
static void a_router_that_ends_has_closed_all_that_it_had(void **state)
{
	const uint32_t action = 1;
	const uint64_t size = 4096;
	struct router_config cfg = unhurried();
	const unsigned before = files_now();
	static struct house h;
	BrokerClient *silent[2], *c;
	char endpoint[160], text[4096];
	size_t n;

	(void)state;
	open_house(&h, &cfg);
	unix_endpoint(&h, endpoint);
	for (unsigned i = 0; i < 2; i++) {
		struct gq_frame f = { .type = GQ_MESSAGE_REGION, .correlation = 2 };

		silent[i] = gq__broker_open(endpoint, LONG_MS);
		assert_non_null(silent[i]);
		say_hello(silent[i], GQ_WIRE_VERSION, GQ_WIRE_VERSION);
		gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
		gq__frame_set(&f, GQ_TLV_SIZE, false, &size, sizeof(size));
		throw_frame(silent[i], &f);
	}
	assert_int_equal(shutdown(silent[0]->socket, SHUT_WR), 0);
	c = try_client(&h, &ways[0], NULL);
	assert_non_null(c);
	for (text[0] = '\0'; strstr(text, "regions\t2\n") == NULL; nap_ms(1)) {
		n = sizeof(text);
		assert_status(q_broker_stats(c, text, &n), Q_OK);
	}
	q_broker_close(c);
	close_house(&h);
	assert_int_equal(files_now(), before + 2);
	q_broker_close(silent[0]);
	q_broker_close(silent[1]);
}

/* ---- who does not read ----------------------------------------------------------------------- */

/* It asks, and never reads: at some time nothing more is taken from it. */
static BrokerClient *deaf(void **state)
{
	struct gq_frame f = { .type = GQ_MESSAGE_STATS };
	static uint8_t out[256];
	BrokerClient *c = greeted(state);
	unsigned refused = 0;

	for (f.correlation = 1; refused < 50;) {
		const size_t n = encode(&f, out);

		assert_true(f.correlation < 1000000);
		if (c->transport->send(c, out, n) == (long)n) {
			refused = 0;
			f.correlation++;
			continue;
		}
		assert_true(errno == EAGAIN || errno == ENOBUFS);
		refused++;
		nap_ms(1);
	}
	return c;
}

static void t_1_slow_reader_harms_nobody_else(void **state)
{
	BrokerClient *never = deaf(state);
	BrokerClient *w = worker(state, "w", "op=echo", 1), *c = client(state);

	for (unsigned i = 0; i < 20; i++) {
		const uint64_t id = submit(c, "echo", "well", 4);

		echo_one(w);
		expect_reply(c, id, "well", 4);
	}
	q_broker_close(never);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_slow_reader_costs_a_bounded_number_of_bytes(void **state)
{
	enum { MOST = 4 << 20 }; /* three queues of 512 answers */
	const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	BrokerClient *c[3] = { deaf(state), deaf(state), deaf(state) };

	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd < before + MOST);
	for (unsigned i = 0; i < 3; i++)
		q_broker_close(c[i]);
}

static void t_1_slow_reader_that_reads_again_gets_all(void **state)
{
	BrokerClient *c = deaf(state);
	uint64_t last = 0;

	for (unsigned i = 0; i < 300; i++) {
		struct heard *h = next(c);

		assert_non_null(h);
		assert_int_equal(h->frame.type, GQ_MESSAGE_STATS);
		assert_int_equal(h->frame.correlation, ++last);
		gq__broker_free(h);
	}
	q_broker_close(c);
}

static void t_1_slow_worker_s_requests_wait_at_the_daemon(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 2), *c = client(state);
	uint64_t id[8];
	BrokerRequest q[2];

	for (unsigned i = 0; i < 8; i++)
		id[i] = submit(c, "slow", "x", 1);
	take_one(w, &q[0]);
	take_one(w, &q[1]);
	assert_status(q_service_recv(w, &(BrokerRequest){ 0 }, 5), Q_ERR_TIMEOUT);
	answer(w, &q[0], Q_REASON_OK);
	answer(w, &q[1], Q_REASON_OK);
	for (unsigned i = 2; i < 8; i++)
		echo_one(w);
	for (unsigned i = 0; i < 8; i++)
		expect_reply(c, id[i], "x", 1);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* ---- bytes that are no frames ---------------------------------------------------------------- */

/* A frame with all that a request has. */
static size_t good(uint8_t *to, uint64_t correlation)
{
	const uint64_t timeout_us = 1000000;
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .correlation = correlation };

	gq__frame_set(&f, GQ_TLV_NAME, false, "nobody", 6);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "payload", 7);
	gq__frame_set(&f, GQ_TLV_TIMEOUT, false, &timeout_us, sizeof(timeout_us));
	return encode(&f, to);
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

/* As gpuqd will compute it. */
static void seal(uint8_t *frame, size_t bytes)
{
	put32(frame + GQ_WIRE_AT_CHECKSUM, 0);
	put32(frame + GQ_WIRE_AT_CHECKSUM, gq__crc32c(0, frame, bytes));
}

enum { AT_TLVS = GQ_WIRE_HEADER_BYTES };

static size_t spoil_magic(uint8_t *f, size_t n)
{
	f[GQ_WIRE_AT_MAGIC] ^= 1;
	return n;
}

static size_t spoil_version(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_VERSION, 2);
	return n;
}

static size_t spoil_length_low(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_LENGTH, 32);
	return n;
}

static size_t spoil_length_high(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_LENGTH, (uint32_t)n + 8);
	return n;
}

static size_t spoil_length_huge(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_LENGTH, UINT32_MAX);
	return n;
}

static size_t spoil_short(uint8_t *f, size_t n)
{
	(void)f;
	(void)n;
	return 16;
}

static size_t spoil_cut(uint8_t *f, size_t n)
{
	(void)f;
	return n - 8;
}

static size_t spoil_flags(uint8_t *f, size_t n)
{
	f[GQ_WIRE_AT_FLAGS + 3] |= 0x80;
	seal(f, n);
	return n;
}

static size_t spoil_checksum(uint8_t *f, size_t n)
{
	f[GQ_WIRE_AT_CHECKSUM] ^= 1;
	return n;
}

static size_t spoil_body(uint8_t *f, size_t n)
{
	f[n - 1] ^= 0x10;
	return n;
}

static size_t spoil_type(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_TYPE, 0x7f01);
	seal(f, n);
	return n;
}

static size_t spoil_side(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_TYPE, GQ_MESSAGE_HELLO);
	seal(f, n);
	return n;
}

static size_t spoil_tlv_length(uint8_t *f, size_t n)
{
	put32(f + AT_TLVS + 4, UINT32_MAX - 7);
	seal(f, n);
	return n;
}

static size_t spoil_tlv_flags(uint8_t *f, size_t n)
{
	f[AT_TLVS + 2] |= 0x80;
	seal(f, n);
	return n;
}

static size_t spoil_tlv_must(uint8_t *f, size_t n)
{
	f[AT_TLVS] = 0xee; /* no such TLV */
	f[AT_TLVS + 2] |= GQ_TLV_MUST;
	seal(f, n);
	return n;
}

static size_t spoil_tlv_padding(uint8_t *f, size_t n)
{
	f[AT_TLVS + 8 + 7] = 1; /* behind six bytes of name */
	seal(f, n);
	return n;
}

static size_t spoil_tlv_twice(uint8_t *f, size_t n)
{
	memcpy(f + n, f + AT_TLVS, 16);
	put32(f + GQ_WIRE_AT_LENGTH, (uint32_t)n + 16);
	seal(f, n + 16);
	return n + 16;
}

static size_t spoil_name(uint8_t *f, size_t n)
{
	f[AT_TLVS + 8] = '/';
	seal(f, n);
	return n;
}

static size_t spoil_no_name(uint8_t *f, size_t n)
{
	memmove(f + AT_TLVS, f + AT_TLVS + 16, n - AT_TLVS - 16);
	put32(f + GQ_WIRE_AT_LENGTH, (uint32_t)n - 16);
	seal(f, n - 16);
	return n - 16;
}

static const struct spoilt {
	const char *name;
	size_t (*spoil)(uint8_t *frame, size_t bytes);
	bool closes;
	uint32_t status;
} spoilt[] = {
	{ "magic", spoil_magic, true, GQ_WIRE_INVALID },
	{ "version", spoil_version, true, GQ_WIRE_UNSUPPORTED },
	{ "length_below_a_header", spoil_length_low, true, GQ_WIRE_INVALID },
	{ "length_above_what_came", spoil_length_high, true, GQ_WIRE_INVALID },
	{ "length_huge", spoil_length_huge, true, GQ_WIRE_INVALID },
	{ "shorter_than_a_header", spoil_short, true, GQ_WIRE_INVALID },
	{ "cut", spoil_cut, true, GQ_WIRE_INVALID },
	{ "reserved_flag", spoil_flags, false, GQ_WIRE_INVALID },
	{ "checksum", spoil_checksum, false, GQ_WIRE_CHECKSUM },
	{ "a_bit_of_the_body", spoil_body, false, GQ_WIRE_CHECKSUM },
	{ "unknown_type", spoil_type, false, GQ_WIRE_UNSUPPORTED },
	{ "type_of_another_state", spoil_side, false, GQ_WIRE_INVALID },
	{ "tlv_longer_than_the_frame", spoil_tlv_length, false, GQ_WIRE_INVALID },
	{ "tlv_reserved_flag", spoil_tlv_flags, false, GQ_WIRE_INVALID },
	{ "tlv_unknown_and_needed", spoil_tlv_must, false, GQ_WIRE_UNSUPPORTED },
	{ "tlv_padding", spoil_tlv_padding, false, GQ_WIRE_INVALID },
	{ "tlv_twice", spoil_tlv_twice, false, GQ_WIRE_INVALID },
	{ "name_with_a_slash", spoil_name, false, GQ_WIRE_INVALID },
	{ "without_a_name", spoil_no_name, false, GQ_WIRE_INVALID },
};

/* A case of the table: one that is no frame ends the connection after one answer, one that is wrong
 * does not, and neither disturbs another. */
struct bad_frame {
	const struct way *way;
	const struct spoilt *what;
};

static void t_1_bad_frame(void **state)
{
	const struct bad_frame *b = *state;
	void *way = (void *)(uintptr_t)b->way;
	const uint64_t before = count(&way, "bad_frames");
	BrokerClient *c = greeted(&way), *other = greeted(&way);
	uint8_t frame[512];
	struct heard *h;
	size_t n;

	n = good(frame, 7);
	n = b->what->spoil(frame, n);
	assert_true(throw(c, frame, n));
	h = next(c);
	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_NACK);
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0), b->what->status);
	gq__broker_free(h);
	if (b->what->closes) {
		expect_closed(c);
	} else {
		n = good(frame, 8);
		assert_true(throw(c, frame, n));
		h = next(c);
		assert_non_null(h);
		assert_int_equal(h->frame.correlation, 8);
		gq__broker_free(h);
		q_broker_close(c);
	}
	expect_it_serves(other, 9);
	q_broker_close(other);
	assert_int_equal(count(&way, "bad_frames"), before + 1);
}

static void t_1_oversize_frame_is_refused(void **state)
{
	static uint8_t frame[GQ_WIRE_FRAME_MAX + 8];
	BrokerClient *c = greeted(state), *other = greeted(state);

	(void)good(frame, 7);
	put32(frame + GQ_WIRE_AT_LENGTH, sizeof(frame));
	if (throw(c, frame, sizeof(frame)))
		expect_nack(c, 7, GQ_WIRE_INVALID);
	else
		assert_int_equal(errno, EMSGSIZE); /* the transport itself does not take it */
	q_broker_close(c);
	expect_it_serves(other, 9);
	q_broker_close(other);
}

static void t_1_oversize_call_is_refused_by_the_library(void **state)
{
	static char payload[Q_BROKER_MAX_BYTES + 1];
	const BrokerCall call = { .service = "x", .payload = payload, .bytes = sizeof(payload) };
	BrokerClient *c = client(state);
	uint64_t id;

	assert_status(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	expect_it_serves(c, 9);
	q_broker_close(c);
}

static void t_1_oversize_largest_frame_is_read(void **state)
{
	static uint8_t payload[GQ_WIRE_FRAME_MAX];
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .correlation = 7 };
	BrokerClient *c = greeted(state);
	struct heard *h;

	gq__frame_set(&f, GQ_TLV_NAME, false, "nobody", 6);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, payload,
		      GQ_WIRE_FRAME_MAX - GQ_WIRE_HEADER_BYTES - 16 - 8);
	throw_frame(c, &f);
	h = next(c);
	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_RESPONSE);
	assert_int_equal(h->frame.correlation, 7); /* it was read, and has too large a payload */
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0), GQ_WIRE_INVALID);
	gq__broker_free(h);
	expect_it_serves(c, 8);
	q_broker_close(c);
}

static void t_1_bad_frames_sixteen_end_the_connection(void **state)
{
	BrokerClient *c = greeted(state);
	uint8_t frame[512];
	size_t n = good(frame, 7);

	n = spoil_checksum(frame, n);
	for (unsigned i = 0; i < 16; i++) {
		assert_true(throw(c, frame, n));
		expect_nack(c, 7, GQ_WIRE_CHECKSUM);
	}
	expect_closed(c);
}

/* Every prefix of a good frame: a connection each, of which none gets more than an answer. */
static void t_1_bad_frame_every_prefix_is_refused(void **state)
{
	uint8_t frame[512];
	const size_t n = good(frame, 7);

	for (size_t i = 1; i < n; i += 7) {
		BrokerClient *c = greeted(state);

		assert_true(throw(c, frame, i));
		gq__broker_free(next(c));
		expect_closed(c);
	}
}

static void t_1_noise_harms_nobody_else(void **state)
{
	BrokerClient *w = worker(state, "w", "op=echo", 1), *c = client(state);
	uint8_t noise[600];
	uint32_t seed = 12345;

	for (unsigned i = 0; i < 30; i++) {
		BrokerClient *liar = i % 2 == 0 ? raw(state) : greeted(state);
		const uint64_t id = submit(c, "echo", "well", 4);

		for (unsigned k = 0; k < 10; k++) {
			size_t n;

			for (size_t j = 0; j < sizeof(noise); j++)
				noise[j] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
			n = k % 2 == 0 ? good(noise, 7) : seed % sizeof(noise) + 1;
			noise[seed % n] ^= (uint8_t)(seed >> 16 | 1);
			if (!throw(liar, noise, n))
				break;
		}
		q_broker_close(liar);
		echo_one(w);
		expect_reply(c, id, "well", 4);
	}
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
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

/* ---- gpuqd itself ---------------------------------------------------------------------------- */

/* As a process of its own, with the keys of the configuration. */
static void t_4_a_killed_daemon_ends_every_call(void **state)
{
	const BrokerService s = { .name = "w", .capability = "op=slow" };
	const struct way *way = *state;
	struct house h = { .cfg = { .netlink = next_port() } };
	BrokerClient *w, *c, *idle, *hasty;
	char keys[160] = "", path[128];
	BrokerServiceInfo info;
	struct daemon d;
	BrokerRequest q;
	uint64_t id;

	if (way->of_this_process) {
		print_message("left out: both ends are in this process\n");
		skip();
	}
	snprintf(h.folder, sizeof(h.folder), "/tmp/gpuq-transport-XXXXXX");
	assert_non_null(mkdtemp(h.folder));
	name_chardev(&h);
	if (has_netlink)
		snprintf(keys, sizeof(keys), "netlink = %u\n", h.cfg.netlink);
	if (has_chardev)
		snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), "chardev = %s\n",
			 h.cfg.chardev);
	daemon_set_up(&d, "", keys);
	snprintf(h.cfg.socket, sizeof(h.cfg.socket), "%s", d.services);
	w = try_client(&h, way, NULL);
	c = try_client(&h, way, NULL);
	idle = try_client(&h, way, NULL);
	hasty = try_client(&h, way, NULL);
	assert_true(w != NULL && c != NULL && idle != NULL && hasty != NULL);
	assert_status(q_service_register(w, &s), Q_OK);
	id = submit(c, "slow", "x", 1);
	take_one(w, &q);
	(void)daemon_end(&d, SIGKILL);
	assert_status(q_broker_wait(c, id, NULL, &(size_t){ 0 }, NULL, LONG_MS), Q_ERR_LOST);
	assert_status(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_ERR_LOST);
	id = 0;
	while (q_broker_watch(hasty, &info, 1) != Q_ERR_LOST) /* and who never waits for long */
		assert_true(id++ < LONG_MS);
	for (QueueStatus status = Q_OK; status != Q_ERR_LOST;) { /* who waits elsewhere, too */
		struct pollfd at = { .fd = q_broker_fd(idle), .events = POLLIN };

		assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
		do
			status = q_broker_watch(idle, &info, 0);
		while (status == Q_OK);
		assert_true(status == Q_ERR_TIMEOUT || status == Q_ERR_LOST);
	}
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(idle);
	q_broker_close(hasty);
	daemon_start(&d); /* what the killed one has left is in nobody's way */
	c = try_client(&h, way, NULL);
	assert_non_null(c);
	q_broker_close(c);
	daemon_tear_down(&d);
	snprintf(path, sizeof(path), "%s/c.lock", h.folder);
	unlink(path);
	assert_int_equal(rmdir(h.folder), 0);
}

/* ---- all of them ----------------------------------------------------------------------------- */

#define CASE(f)                                                                                    \
	{                                                                                          \
#f, f                                                                              \
	}

static const struct {
	const char *name;
	CMUnitTestFunction function;
} cases[] = {
	CASE(t_1_hello_says_version_epoch_limits_and_credits),
	CASE(t_1_hello_agrees_on_a_version_that_both_speak),
	CASE(t_1_hello_with_another_version_is_told_both_and_closed),
	CASE(t_1_hello_comes_once),
	CASE(t_1_hello_comes_first),
	CASE(t_1_auth_one_user_has_so_many_connections),
	CASE(t_1_auth_one_user_connects_so_often),
	CASE(t_1_auth_without_a_token_or_with_a_false_one_nobody_gets_in),
	CASE(t_1_auth_a_token_is_held_against_the_user_that_the_kernel_names),
	CASE(t_1_auth_a_token_allows_what_it_says),
	CASE(t_1_submit_nothing),
	CASE(t_1_submit_one_byte),
	CASE(t_1_submit_a_page_and_a_byte),
	CASE(t_1_submit_what_just_fits),
	CASE(t_1_submit_keeps_order_and_bytes_apart),
	CASE(t_1_submit_to_nobody_is_not_found),
	CASE(t_1_submit_that_fails_says_why),
	CASE(t_1_submit_ends_when_its_time_is_over),
	CASE(t_1_submit_more_than_the_window_is_refused),
	CASE(t_1_submit_from_many_connections_at_once),
	CASE(t_1_submit_with_a_key_runs_once),
	CASE(t_1_batch_of_one),
	CASE(t_1_batch_of_a_window),
	CASE(t_1_batch_of_nothing_each),
	CASE(t_1_batch_that_just_fits),
	CASE(t_1_batch_ends_each_for_itself),
	CASE(t_1_batch_all_or_nothing_is_refused_whole),
	CASE(t_1_a_region_passes_or_is_refused),
	CASE(t_1_cancel_one_that_waits),
	CASE(t_1_cancel_one_that_runs),
	CASE(t_1_cancel_one_that_has_ended_changes_nothing),
	CASE(t_1_watch_tells_what_is_there_and_what_changes),
	CASE(t_1_watch_that_lags_is_told_and_begins_anew),
	CASE(t_1_discover_finds_by_what_they_can),
	CASE(t_1_unregister_keeps_what_has_come),
	CASE(t_1_drain_finishes_what_is_inside_and_refuses_what_comes),
	CASE(t_1_drain_that_takes_too_long_ends_what_is_inside),
	CASE(t_1_death_a_caller_that_goes_takes_its_requests_along),
	CASE(t_1_death_a_worker_that_goes_loses_what_it_has_seen),
	CASE(t_1_death_an_idempotent_request_goes_to_another_worker),
	CASE(t_1_death_a_killed_process_is_seen),
	CASE(t_1_death_a_child_s_copy_of_a_connection_keeps_nothing),
	CASE(t_1_death_of_the_router_ends_every_call),
	CASE(t_4_a_killed_daemon_ends_every_call),
	CASE(t_1_slow_reader_harms_nobody_else),
	CASE(t_1_slow_reader_costs_a_bounded_number_of_bytes),
	CASE(t_1_slow_reader_that_reads_again_gets_all),
	CASE(t_1_slow_worker_s_requests_wait_at_the_daemon),
	CASE(t_1_oversize_frame_is_refused),
	CASE(t_1_oversize_call_is_refused_by_the_library),
	CASE(t_1_oversize_largest_frame_is_read),
	CASE(t_1_bad_frames_sixteen_end_the_connection),
	CASE(t_1_bad_frame_every_prefix_is_refused),
	CASE(t_1_noise_harms_nobody_else),
};

enum {
	WAYS = sizeof(ways) / sizeof(ways[0]),
	CASES = sizeof(cases) / sizeof(cases[0]),
	SPOILT = sizeof(spoilt) / sizeof(spoilt[0]),
	ALONE = 5,
};

static unsigned files_before;

static int set_up(void **state)
{
	struct router_config cfg = unhurried();

	(void)state;
	cfg.heartbeat_ms = 1000;
	files_before = files_now();
	open_house(&usual, &cfg);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close_house(&usual);
	return files_now() == files_before ? 0 : -1;
}

/* With mounts of its own, so that none is left behind, however this ends. */
static bool probe_chardev(void)
{
#ifdef GPUQ_HAVE_FUSE
	if (access("/dev/fuse", R_OK | W_OK) != 0)
		return false;
	return geteuid() == 0 ? unshare(CLONE_NEWNS) == 0 &&
					mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
			      : access("/usr/bin/fusermount3", X_OK) == 0 &&
					access("/etc/mtab", R_OK) == 0;
#else
	return false;
#endif
}

/*
 * This process serves the device and uses it. Were it to die while one of its threads waits for the
 * other, that one would wait for ever: the kernel ends a request that is being worked on when the
 * last descriptor of /dev/fuse is closed, and that is this process's. So another process ends the
 * mounts once this one's threads die.
 */
static void end_mounts(void)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[512], path[256];

	while (mounts != NULL && fgets(line, sizeof(line), mounts) != NULL)
		if (strstr(line, " - fuse gpuqd ") != NULL &&
		    sscanf(line, "%*s %*s %*s %*s %255s", path) == 1)
			umount2(path, MNT_FORCE);
	if (by_cuse)
		(void)!system("for a in /sys/class/cuse/gpuq-test-*/abort; do echo 1 >$a; done");
	_exit(0);
}

static void *guard(void *arg)
{
	const pid_t pid = fork();

	(void)arg;
	if (pid == 0) {
		const pid_t parent = getppid();
		sigset_t set;
		int ended;

		sigfillset(&set);
		sigprocmask(SIG_BLOCK, &set, NULL);
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* of the thread that has forked */
		while (parent == getppid() && sigwait(&set, &ended) == 0 && ended != SIGTERM)
			;
		end_mounts();
	}
	for (;;)
		pause();
	return NULL;
}

static void start_guard(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, guard, NULL) != 0)
		abort();
	pthread_detach(thread);
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[WAYS * (CASES + SPOILT) + ALONE];
	static struct bad_frame bad[WAYS][SPOILT];
	static char names[WAYS * (CASES + SPOILT)][120];
	unsigned n = 0;

	by_cuse = getenv("GPUQ_TEST_CUSE") != NULL;
	if (by_cuse && access("/dev/cuse", R_OK | W_OK) != 0) {
		fprintf(stderr, "left out, all of it: /dev/cuse: %s\n", strerror(errno));
		return 77;
	}
	has_netlink = look_for_netlink();
	has_chardev = probe_chardev();
	if (has_chardev)
		start_guard();
	for (unsigned w = 0; w < WAYS; w++) {
		if (ways[w].is_there != NULL && !*ways[w].is_there) {
			fprintf(stderr, "left out: %s, which this machine has not\n", ways[w].name);
			continue;
		}
		for (unsigned i = 0; i < CASES; i++, n++) {
			snprintf(names[n], sizeof(names[n]), "%s over %s", cases[i].name,
				 ways[w].name);
			tests[n] = (struct CMUnitTest){ names[n], cases[i].function, NULL, NULL,
							(void *)(uintptr_t)&ways[w] };
		}
		for (unsigned i = 0; i < SPOILT; i++, n++) {
			bad[w][i] = (struct bad_frame){ &ways[w], &spoilt[i] };
			snprintf(names[n], sizeof(names[n]), "t_1_bad_frame %s over %s",
				 spoilt[i].name, ways[w].name);
			tests[n] = (struct CMUnitTest){ names[n], t_1_bad_frame, NULL, NULL,
							&bad[w][i] };
		}
	}
	tests[n++] =
		(struct CMUnitTest)cmocka_unit_test(t_1_death_the_last_answer_of_a_process_counts);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(t_1_a_router_that_ends_takes_nobody_in);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(t_1_a_router_without_that_door_says_so);
	tests[n++] =
		(struct CMUnitTest)cmocka_unit_test(a_router_that_ends_has_closed_all_that_it_had);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(t_1_endpoints_that_are_none_are_told);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	else if (by_cuse)
		cmocka_set_test_filter("*over chardev*");
	signal(SIGPIPE, SIG_IGN);
	unsetenv("GPUQ_TOKEN");
	return _cmocka_run_group_tests("service_transport", tests, n, set_up, tear_down);
}
