/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_client.c - the library's side of gpuqd's services, beside a gpuqd that is slow, that
 * does not answer, or that says what no gpuqd says. It is a thread of the test.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "support.h"

#include "broker/policy/frame.h"
#include "host/service/state.h"

#include <gpuq/broker.h>

#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

enum { WINDOW = 64 };

static char folder[] = "/tmp/gpuq-client-XXXXXX", socket_path[64], endpoint[80];
static int listener, go[2]; /* go: a byte lets the thread go on */

/* What the thread has found wrong; NULL: nothing. It calls nothing of cmocka's. */
static const char *wrong;

/* ---- frames ---------------------------------------------------------------------------------- */

static uint8_t in[GQ_WIRE_FRAME_MAX + 8];

static bool hear(int fd, enum gq_frame_state state, struct gq_frame *f)
{
	const struct gq_frame_rules rules = { .state = state };
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	const ssize_t n = poll(&ready, 1, (int)LONG_MS) == 1 ? recv(fd, in, sizeof(in), 0) : -1;

	if (n > 0 && gq__frame_decode(in, (size_t)n, &rules, f) == GQ_FRAME_OK)
		return true;
	wrong = n > 0 ? "a frame that is none" : "no frame";
	return false;
}

/* Whether gpuqd is of a later version: each frame has a TLV more, which nobody needs to understand.
 */
static bool says_more;

static void say(int fd, struct gq_frame *f)
{
	static uint8_t out[GQ_WIRE_FRAME_MAX];
	const uint16_t unknown = 1000;
	uint32_t length;
	size_t n = 0;

	f->flags |= says_more ? 0 : GQ_FLAG_CHECKSUM;
	if (gq__frame_encode(f, out, sizeof(out) - 8, &n) != GQ_FRAME_OK)
		wrong = "it cannot be encoded";
	if (says_more) {
		memset(out + n, 0, 8);
		memcpy(out + n, &unknown, sizeof(unknown)); /* of no bytes */
		n += 8;
		length = (uint32_t)n;
		memcpy(out + GQ_WIRE_AT_LENGTH, &length, sizeof(length));
	}
	if (sendto(fd, out, n, MSG_NOSIGNAL, NULL, 0) != (ssize_t)n)
		wrong = "it cannot be said";
}

static void say_status(int fd, uint64_t correlation, uint32_t status, const char *payload)
{
	const uint32_t words[4] = { status, 0, 0, 0 };
	struct gq_frame f = { .type = GQ_MESSAGE_RESPONSE, .correlation = correlation };

	gq__frame_set(&f, GQ_TLV_STATUS, false, words, sizeof(words));
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, payload, strlen(payload));
	say(fd, &f);
}

/* @return the connection, after its hello; -1 */
static int greet(void)
{
	const uint32_t versions[2] = { 1, 1 };
	const uint64_t limits[3] = { GQ_WIRE_FRAME_MAX, GQ_WIRE_FRAME_MAX, 1 };
	const uint64_t credits[2] = { WINDOW, WINDOW * UINT64_C(65536) }, epoch = 7;
	struct gq_frame f, hello = { .type = GQ_MESSAGE_HELLO, .flags = GQ_FLAG_REPLY };
	const int fd = accept(listener, NULL, NULL);

	if (fd < 0 || !hear(fd, GQ_FRAME_BEFORE_HELLO, &f))
		return -1;
	hello.correlation = f.correlation;
	gq__frame_set(&hello, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	gq__frame_set(&hello, GQ_TLV_EPOCH, false, &epoch, sizeof(epoch));
	gq__frame_set(&hello, GQ_TLV_LIMITS, false, limits, sizeof(limits));
	gq__frame_set(&hello, GQ_TLV_CREDITS, false, credits, sizeof(credits));
	say(fd, &hello);
	return fd;
}

static void take_registration(int fd)
{
	const uint64_t generation = 1;
	struct gq_frame f, ack = { .type = GQ_MESSAGE_ACK };

	if (!hear(fd, GQ_FRAME_AFTER_HELLO, &f) || f.type != GQ_MESSAGE_REGISTER)
		return;
	ack.correlation = f.correlation;
	gq__frame_set(&ack, GQ_TLV_TARGET, false, &f.correlation, sizeof(f.correlation));
	gq__frame_set(&ack, GQ_TLV_GENERATION, false, &generation, sizeof(generation));
	say(fd, &ack);
	(void)hear(fd, GQ_FRAME_AFTER_HELLO, &f); /* the first heartbeat */
}

static void ask_for(int fd, uint64_t serial)
{
	const uint64_t timeout_us = 1000000;
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .correlation = serial };

	gq__frame_set(&f, GQ_TLV_NAME, false, "work", 4);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "x", 1);
	gq__frame_set(&f, GQ_TLV_TIMEOUT, false, &timeout_us, sizeof(timeout_us));
	say(fd, &f);
}

static void cancel(int fd, uint64_t serial)
{
	struct gq_frame f = { .type = GQ_MESSAGE_CANCEL, .correlation = serial };

	gq__frame_set(&f, GQ_TLV_TARGET, false, &serial, sizeof(serial));
	say(fd, &f);
}

/* Until the client has read all that was said to it. */
static void await_read(int fd)
{
	int left = 1;

	for (unsigned i = 0; i < LONG_MS && ioctl(fd, SIOCOUTQ, &left) == 0 && left != 0; i++)
		nap_ms(1);
	if (left != 0)
		wrong = "the client does not read";
}

static void await_go(void)
{
	char byte;

	(void)!read(go[0], &byte, 1);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static int set_up(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(socket_path, sizeof(socket_path), "%s/s", folder);
	snprintf(endpoint, sizeof(endpoint), "unix:%s", socket_path);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 1), 0);
	return pipe(go);
}

static int tear_down(void **state)
{
	(void)state;
	close(go[0]);
	close(go[1]);
	close(listener);
	unlink(socket_path);
	return rmdir(folder);
}

static pthread_t start(void *(*gpuqd)(void *))
{
	pthread_t thread;

	wrong = NULL;
	assert_int_equal(pthread_create(&thread, NULL, gpuqd, NULL), 0);
	return thread;
}

static void finish(pthread_t thread)
{
	assert_int_equal(pthread_join(thread, NULL), 0);
	if (wrong != NULL)
		fail_msg("%s", wrong);
}

static void let_go(void)
{
	assert_int_equal(write(go[1], "x", 1), 1);
}

/* The time-out is not that of connecting: gpuqd's thread may come late. */
static BrokerClient *client(uint32_t timeout_ms)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	BrokerClient *c = q_broker_connect(&cfg);

	if (c == NULL)
		fail_msg("%s", q_last_error());
	c->timeout_ms = timeout_ms;
	return c;
}

/* ---- a full socket --------------------------------------------------------------------------- */

static uint8_t payload[Q_BROKER_MAX_BYTES];

/* A request of the client's, whole: its bytes are all its number. */
static void expect_whole(const struct gq_frame *f, unsigned number)
{
	const struct gq_view *v = &f->tlv[GQ_TLV_PAYLOAD];

	if (f->type != GQ_MESSAGE_REQUEST || v->bytes != sizeof(payload) || v->data[0] != number ||
	    v->data[sizeof(payload) - 1] != number)
		wrong = "another frame than the client has sent";
}

static void *cancels_while_the_socket_is_full(void *arg)
{
	const int fd = greet();
	unsigned requests = 0, cancelled = 0;
	struct gq_frame f;

	take_registration(fd);
	ask_for(fd, 5);
	cancel(fd, 5);
	await_read(fd); /* by a client that waits for room, and does nothing else */
	while (requests + cancelled < WINDOW + 1 && hear(fd, GQ_FRAME_AFTER_HELLO, &f)) {
		if (f.type != GQ_MESSAGE_RESPONSE) {
			expect_whole(&f, requests++);
			continue;
		}
		if (f.correlation != 5 || gq__frame_u32(&f, GQ_TLV_STATUS, 0) != GQ_WIRE_CANCELLED)
			wrong = "another answer than 'cancelled'";
		cancelled++;
	}
	if (wrong == NULL)
		await_go();
	close(fd);
	return arg;
}

static void what_is_cancelled_while_a_frame_waits_for_room_does_not_change_it(void **state)
{
	const pthread_t thread = start(cancels_while_the_socket_is_full);
	const BrokerService s = { .name = "w", .heartbeat_ms = 3600000 };
	const BrokerCall call = { .service = "x", .payload = payload, .bytes = sizeof(payload) };
	BrokerClient *c = client(LONG_MS);
	BrokerRequest q;
	uint64_t id;

	(void)state;
	assert_int_equal(q_service_register(c, &s), Q_OK);
	for (unsigned i = 0; i < WINDOW; i++) {
		memset(payload, (int)i, sizeof(payload));
		assert_int_equal(q_broker_submit(c, &call, &id), Q_OK);
	}
	assert_int_equal(q_service_recv(c, &q, 0), Q_ERR_TIMEOUT);
	let_go();
	finish(thread);
	q_broker_close(c);
}

static unsigned sent; /* by the client, and taken by its socket */

static void *reads_late(void *arg)
{
	const int fd = greet();
	struct gq_frame f;
	unsigned n = 0;
	char byte;

	await_go();
	while (recv(fd, &byte, 1, MSG_PEEK) > 0 && hear(fd, GQ_FRAME_AFTER_HELLO, &f))
		expect_whole(&f, n++);
	if (n != sent)
		wrong = "not as many frames as the client has sent";
	close(fd);
	return arg;
}

static void a_gpuqd_that_takes_nothing_does_not_hold_the_client(void **state)
{
	const pthread_t thread = start(reads_late);
	const BrokerCall call = { .service = "x", .payload = payload, .bytes = sizeof(payload) };
	BrokerClient *c = client(50);
	QueueStatus status = Q_OK;
	uint64_t id;

	(void)state;
	for (sent = 0; status == Q_OK; sent += status == Q_OK) {
		memset(payload, (int)sent, sizeof(payload));
		status = q_broker_submit(c, &call, &id);
	}
	assert_int_equal(status, Q_ERR_TIMEOUT);
	sent++;
	let_go();
	do /* nothing of it was sent: it can be sent again */
		status = q_broker_submit(c, &call, &id);
	while (status == Q_ERR_TIMEOUT);
	assert_int_equal(status, Q_OK);
	q_broker_close(c);
	finish(thread);
}

static void *fails_with_a_reply(void *arg)
{
	const int fd = greet();
	struct gq_frame f;

	for (int i = 0; i < 3 && hear(fd, GQ_FRAME_AFTER_HELLO, &f); i++)
		say_status(fd, f.correlation, GQ_WIRE_ERROR, "why");
	close(fd);
	return arg;
}

static void a_request_that_failed_may_have_a_reply(void **state)
{
	const pthread_t thread = start(fails_with_a_reply);
	const BrokerCall call = { .service = "x" };
	BrokerClient *c = client(LONG_MS);
	char reply[8] = "........";
	size_t n = sizeof(reply);
	BrokerReply r;

	(void)state;
	assert_int_equal(q_broker_call(c, &call, reply, &n, &r), Q_ERR_FAILED);
	assert_int_equal(n, 3);
	assert_memory_equal(reply, "why.", 4);
	n = 2;
	assert_int_equal(q_broker_call(c, &call, reply, &n, &r), Q_ERR_FAILED);
	assert_int_equal(n, 0); /* it had no room, and nothing was written */
	assert_int_equal(r.bytes, 3);
	assert_memory_equal(reply, "why.", 4);
	n = 0;
	assert_int_equal(q_broker_call(c, &call, NULL, &n, NULL), Q_ERR_FAILED);
	assert_int_equal(n, 0);
	finish(thread);
	q_broker_close(c);
}

static void *is_of_a_later_version(void *arg)
{
	const int fd = greet();
	struct gq_frame f;

	take_registration(fd);
	ask_for(fd, 5);
	if (!hear(fd, GQ_FRAME_AFTER_HELLO, &f) || f.type != GQ_MESSAGE_RESPONSE ||
	    f.correlation != 5 || gq__frame_u32(&f, GQ_TLV_STATUS, 0) != GQ_WIRE_SUCCESS)
		wrong = "the worker has not answered";
	if (hear(fd, GQ_FRAME_AFTER_HELLO, &f))
		say_status(fd, f.correlation, GQ_WIRE_SUCCESS, "later");
	close(fd);
	return arg;
}

/* The other way round: test_service.c. */
static void p_6_a_gpuqd_that_says_more_than_the_library_knows_is_understood(void **state)
{
	const BrokerService s = { .name = "w", .heartbeat_ms = 3600000 };
	const BrokerCall call = { .service = "x" };
	char reply[8] = "";
	size_t n = sizeof(reply);
	pthread_t thread;
	BrokerRequest q;
	BrokerClient *c;

	(void)state;
	says_more = true;
	thread = start(is_of_a_later_version);
	c = client(LONG_MS);
	assert_int_equal(q_service_register(c, &s), Q_OK);
	assert_int_equal(q_service_recv(c, &q, LONG_MS), Q_OK);
	assert_string_equal(q.op, "work");
	assert_int_equal(q.bytes, 1);
	assert_int_equal(q_service_reply(c, &q, Q_REASON_OK, NULL, 0), Q_OK);
	assert_int_equal(q_broker_call(c, &call, reply, &n, NULL), Q_OK);
	assert_int_equal(n, 5);
	assert_memory_equal(reply, "later", 5);
	finish(thread);
	says_more = false;
	q_broker_close(c);
}

static void *answers_nothing(void *arg)
{
	const int fd = greet();
	struct gq_frame f;

	(void)hear(fd, GQ_FRAME_AFTER_HELLO, &f);
	await_go();
	close(fd);
	return arg;
}

static void a_call_ends_though_gpuqd_is_silent(void **state)
{
	const pthread_t thread = start(answers_nothing);
	const BrokerCall call = { .service = "x", .timeout_ms = 20 };
	BrokerClient *c = client(1000);
	size_t n = 0;

	(void)state;
	assert_int_equal(q_broker_call(c, &call, NULL, &n, NULL), Q_ERR_LOST);
	assert_int_equal(q_broker_call(c, &call, NULL, &n, NULL), Q_ERR_LOST);
	let_go();
	finish(thread);
	q_broker_close(c);
}

static void connecting_ends_though_gpuqd_accepts_nobody(void **state)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = 20 };

	(void)state;
	for (int i = 0; i < 4; i++) /* the backlog is 1, and those before are still in it */
		assert_null(q_broker_connect(&cfg));
	assert_non_null(strstr(q_last_error(), "accepted nobody"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_cancelled_while_a_frame_waits_for_room_does_not_change_it),
		cmocka_unit_test(a_gpuqd_that_takes_nothing_does_not_hold_the_client),
		cmocka_unit_test(a_request_that_failed_may_have_a_reply),
		cmocka_unit_test(p_6_a_gpuqd_that_says_more_than_the_library_knows_is_understood),
		cmocka_unit_test(a_call_ends_though_gpuqd_is_silent),
		cmocka_unit_test(connecting_ends_though_gpuqd_accepts_nobody), /* the last */
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("service_client", tests, set_up, tear_down);
}
