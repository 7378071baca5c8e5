/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_batch.c - batches of requests to services: each item ends by itself. gpuqd is a
 * process of its own; caller and worker are connections of this one thread.
 */
/* The tests have names of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "callers.h"
#include "daemon.h"
#include "support.h"

#include "broker/policy/frame.h"
#include "host/service/state.h"

#include <gpuq/broker.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { MANY = 1000 };

static struct daemon d;
static BrokerItem items[MANY + 1];
static char texts[MANY][8];

static void begin(const char *words)
{
	char keys[256];

	snprintf(keys, sizeof(keys), "window = 1024\nattempts = 1\n%s[op pure]\ncache = user\n",
		 words);
	daemon_set_up(&d, "", keys);
	for (int i = 0; i < MANY; i++) {
		snprintf(texts[i], sizeof(texts[i]), "%d", i);
		items[i] = (BrokerItem){ texts[i], strlen(texts[i]) };
	}
}

static BrokerClient *client(void)
{
	return connect_to_services(d.broker);
}

static BrokerClient *worker(const char *can)
{
	const BrokerService s = { .name = "w", .capability = can, .capacity = 64 };

	return connect_worker(d.broker, &s);
}

static uint64_t submit(BrokerClient *c, const BrokerCall *call, size_t count)
{
	uint64_t id = 0;

	if (q_broker_submit_batch(c, call, items, count, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

/* Takes a request and answers it with its own bytes, but "3", which is wrong. */
static void serve_one(BrokerClient *w)
{
	BrokerRequest q;
	bool wrong;

	if (q_service_recv(w, &q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	wrong = q.bytes == 1 && *(const char *)q.payload == '3';
	assert_int_equal(q_service_reply(w, &q, wrong ? Q_REASON_INVALID : Q_REASON_OK, q.payload,
					 wrong ? 0 : q.bytes),
			 Q_OK);
}

static BrokerReply take_reply(BrokerClient *c, uint64_t id, const char *text)
{
	BrokerReply r = { 0 };
	char reply[64];
	size_t n = sizeof(reply);

	(void)q_broker_wait(c, id, reply, &n, &r, LONG_MS);
	assert_int_equal(r.id, id);
	if (r.status == Q_OK) {
		assert_int_equal(n, strlen(text));
		assert_memory_equal(reply, text, n);
	}
	return r;
}

static void counts(BrokerClient *c, const char *name, uint64_t value)
{
	char text[4096], line[64];
	size_t n = sizeof(text);

	snprintf(line, sizeof(line), "%s\t%llu\n", name, (unsigned long long)value);
	assert_int_equal(q_broker_stats(c, text, &n), Q_OK);
	if (strstr(text, line) == NULL)
		fail_msg("there is no '%s %llu' in\n%s", name, (unsigned long long)value, text);
}

static void ca_6_a_batch_with_a_bad_item_is_999_ok_and_one_error_in_order(void **state)
{
	const BrokerCall call = { .service = "echo", .timeout_ms = LONG_MS };
	BrokerClient *c, *w;
	uint64_t id;

	(void)state;
	begin("");
	c = client();
	w = worker("op=echo");
	id = submit(c, &call, MANY);
	assert_int_equal(q_broker_submit_batch(c, &call, items, 25, &id), Q_ERR_LIMIT);
	for (int i = 0; i < MANY; i++)
		serve_one(w);
	for (int i = 0; i < MANY; i++) {
		const BrokerReply r = take_reply(c, id + (unsigned)i, texts[i]);

		assert_int_equal(r.reason, i == 3 ? Q_REASON_INVALID : Q_REASON_OK);
		assert_int_equal(r.bytes, i == 3 ? 0 : strlen(texts[i]));
	}
	counts(c, "accepted", MANY);
	counts(c, "ok", MANY - 1);
	counts(c, "failed", 1);
	counts(c, "inside", 0);
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

static void each_item_ends_by_itself(void **state)
{
	BrokerCall call = { .service = "echo", .timeout_ms = LONG_MS };
	BrokerClient *c, *w;
	BrokerRequest q[3];
	uint64_t id;

	(void)state;
	begin("");
	c = client();
	w = worker("op=echo");
	id = submit(c, &call, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(q_service_recv(w, &q[i], LONG_MS), Q_OK);
	assert_int_equal(q_broker_cancel(c, id + 1), Q_OK);
	assert_int_equal(take_reply(c, id + 1, "").reason, Q_REASON_CANCELLED);
	for (int i = 2; i >= 0; i--) /* in another order */
		assert_int_equal(q_service_reply(w, &q[i], Q_REASON_OK, q[i].payload, q[i].bytes),
				 Q_OK);
	assert_int_equal(take_reply(c, id, "0").status, Q_OK);
	assert_int_equal(take_reply(c, id + 2, "2").status, Q_OK);
	call.timeout_ms = 10;
	id = submit(c, &call, 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(take_reply(c, id + (unsigned)i, "").reason, Q_REASON_TIMEOUT);
	call.service = "nobody";
	id = submit(c, &call, 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(take_reply(c, id + (unsigned)i, "").reason, Q_REASON_NOT_FOUND);
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

static void identical_items_run_once_if_the_op_is_cached(void **state)
{
	const BrokerCall call = { .service = "pure", .timeout_ms = LONG_MS, .cache = true };
	BrokerClient *c, *w;
	unsigned reused = 0;
	uint64_t id;

	(void)state;
	begin("");
	for (int i = 1; i < 10; i++)
		items[i] = items[0];
	c = client();
	w = worker("op=pure");
	id = submit(c, &call, 10);
	serve_one(w);
	for (unsigned i = 0; i < 10; i++)
		reused += take_reply(c, id + i, "0").reused;
	assert_int_equal(reused, 9);
	id = submit(c, &call, 10);
	for (unsigned i = 0; i < 10; i++)
		assert_true(take_reply(c, id + i, "0").reused);
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

/* One small frame may ask for the same large answer a thousand times. */
static void what_a_batch_gets_from_the_cache_at_once_is_bounded(void **state)
{
	enum { LARGE = 60000, AT_ONCE = (2 << 20) + 2 * Q_BROKER_MAX_BYTES };
	const BrokerCall call = { .service = "pure", .timeout_ms = LONG_MS, .cache = true };
	static char large[LARGE];
	unsigned ok = 0, refused = 0;
	BrokerClient *c, *w;
	BrokerRequest q;
	size_t n = LARGE;
	uint64_t id;

	(void)state;
	begin("");
	for (int i = 1; i < MANY; i++)
		items[i] = items[0];
	c = client();
	w = worker("op=pure");
	id = submit(c, &call, 1);
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, large, LARGE), Q_OK);
	assert_int_equal(q_broker_wait(c, id, large, &n, NULL, LONG_MS), Q_OK);
	id = submit(c, &call, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		BrokerReply r = { 0 };

		n = LARGE;
		(void)q_broker_wait(c, id + i, large, &n, &r, LONG_MS);
		ok += r.reason == Q_REASON_OK;
		refused += r.reason == Q_REASON_OVERLOADED && r.may_retry;
	}
	assert_int_equal(ok + refused, MANY);
	assert_in_range(ok, 1, AT_ONCE / LARGE);
	counts(c, "inside", 0);
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

static void without_room_for_all_some_run_or_none_as_was_asked(void **state)
{
	BrokerCall call = { .service = "echo", .timeout_ms = LONG_MS };
	unsigned full = 0, ok = 0;
	BrokerClient *c, *w;
	BrokerRequest q;
	uint64_t id;

	(void)state;
	begin("queued = 16\n");
	c = client();
	w = worker("op=echo");
	call.all_or_nothing = true;
	id = submit(c, &call, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(take_reply(c, id + i, "").reason, Q_REASON_OVERLOADED);
	assert_int_equal(q_service_recv(w, &q, 0), Q_ERR_TIMEOUT);
	id = submit(c, &call, 2);
	for (unsigned i = 0; i < 2; i++)
		serve_one(w);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(take_reply(c, id + i, texts[i]).status, Q_OK);
	call.all_or_nothing = false;
	id = submit(c, &call, 20);
	while (q_service_recv(w, &q, 0) != Q_OK)
		nap_ms(1);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes), Q_OK);
	for (unsigned i = 0; i < 20; i++) {
		BrokerReply r = { 0 };

		while (q_broker_wait(c, id + i, NULL, &(size_t){ 0 }, &r, 0) == Q_ERR_TIMEOUT)
			if (q_service_recv(w, &q, 1) == Q_OK)
				assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0),
						 Q_OK);
		full += r.reason == Q_REASON_OVERLOADED;
		ok += r.reason == Q_REASON_OK;
	}
	assert_int_equal(full + ok, 20);
	assert_true(full > 0 && ok > 0);
	counts(c, "inside", 0);
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

static void large_items_come_back_whole(void **state)
{
	const BrokerCall call = { .service = "echo", .timeout_ms = LONG_MS };
	static char large[4][15000], reply[Q_BROKER_MAX_BYTES];
	BrokerClient *c, *w;
	BrokerRequest q[4];
	uint64_t id;

	(void)state;
	begin("");
	for (int i = 0; i < 4; i++) {
		memset(large[i], 'a' + i, sizeof(large[i]));
		items[i] = (BrokerItem){ large[i], sizeof(large[i]) };
	}
	c = client();
	w = worker("op=echo");
	id = submit(c, &call, 4);
	memset(reply, 'z', sizeof(reply));
	for (int i = 0; i < 4; i++)
		assert_int_equal(q_service_recv(w, &q[i], LONG_MS), Q_OK);
	/* The first reply is as large as any may be: it goes by itself. */
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			i == 0 ? q_service_reply(w, &q[i], Q_REASON_OK, reply, sizeof(reply))
			       : q_service_reply(w, &q[i], Q_REASON_OK, q[i].payload, q[i].bytes),
			Q_OK);
	for (unsigned i = 0; i < 4; i++) {
		size_t n = sizeof(reply);

		memset(reply, 0, sizeof(reply));
		assert_int_equal(q_broker_wait(c, id + i, reply, &n, NULL, LONG_MS), Q_OK);
		assert_int_equal(n, i == 0 ? sizeof(reply) : sizeof(large[i]));
		assert_int_equal(reply[n - 1], i == 0 ? 'z' : 'a' + (int)i);
		assert_int_equal(reply[0], reply[n - 1]);
	}
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

static void wrong_batches_are_refused(void **state)
{
	BrokerCall call = { .service = "echo" };
	static char large[Q_BROKER_MAX_BYTES];
	BrokerClient *c;
	uint64_t id;

	(void)state;
	begin("");
	c = client();
	assert_int_equal(q_broker_submit_batch(c, &call, items, 0, &id), Q_ERR_INVALID_ARG);
	assert_int_equal(q_broker_submit_batch(c, &call, items, 1001, &id), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "count is 1001; allowed: 1 to 1000"));
	assert_int_equal(q_broker_submit_batch(c, &call, NULL, 1, &id), Q_ERR_INVALID_ARG);
	assert_int_equal(q_broker_submit_batch(c, NULL, items, 1, &id), Q_ERR_INVALID_ARG);
	items[1] = (BrokerItem){ large, sizeof(large) - 32 }; /* one byte more than there is room */
	assert_int_equal(q_broker_submit_batch(c, &call, items, 2, &id), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "items[1].bytes is"));
	items[1].bytes--;
	assert_int_equal(q_broker_submit_batch(c, &call, items, 2, &id), Q_OK);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(take_reply(c, id + i, "").reason, Q_REASON_NOT_FOUND);
	items[1] = (BrokerItem){ NULL, 1 };
	assert_int_equal(q_broker_submit_batch(c, &call, items, 2, &id), Q_ERR_INVALID_ARG);
	call.payload = "x";
	assert_int_equal(q_broker_submit_batch(c, &call, items, 1, &id), Q_ERR_INVALID_ARG);
	call = (BrokerCall){ .service = "echo", .key = "k", .key_bytes = 1 };
	assert_int_equal(q_broker_submit_batch(c, &call, items, 1, &id), Q_ERR_INVALID_ARG);
	call = (BrokerCall){ .service = "no name" };
	assert_int_equal(q_broker_submit_batch(c, &call, items, 1, &id), Q_ERR_INVALID_ARG);
	q_broker_close(c);
	daemon_tear_down(&d);
}

/* What a peer that does not use the library may send. @return the status of the answer */
static uint32_t exchange(int socket, struct gq_frame *f, struct gq_frame *out)
{
	static uint8_t bytes[GQ_WIRE_FRAME_MAX];
	const struct gq_frame_rules rules = { .receiver = GQ_FRAME_AT_PEER,
					      .state = f->type == GQ_MESSAGE_HELLO
							       ? GQ_FRAME_BEFORE_HELLO
							       : GQ_FRAME_AFTER_HELLO };
	struct pollfd in = { .fd = socket, .events = POLLIN };
	struct gq_frame answer;
	size_t n;
	ssize_t got;

	f->flags |= GQ_FLAG_CHECKSUM;
	assert_int_equal(gq__frame_encode(f, bytes, sizeof(bytes), &n), GQ_FRAME_OK);
	assert_int_equal(write(socket, bytes, n), n);
	assert_int_equal(poll(&in, 1, LONG_MS), 1);
	got = read(socket, bytes, sizeof(bytes));
	assert_true(got > 0);
	assert_int_equal(gq__frame_decode(bytes, (size_t)got, &rules, &answer), GQ_FRAME_OK);
	if (out != NULL)
		*out = answer;
	return gq__frame_u32(&answer, GQ_TLV_STATUS, 0);
}

static int greet(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const uint32_t versions[2] = { GQ_WIRE_VERSION, GQ_WIRE_VERSION };
	struct gq_frame hello = { .type = GQ_MESSAGE_HELLO, .correlation = 1 };
	const int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", d.services);
	assert_int_equal(connect(s, (const struct sockaddr *)&address, sizeof(address)), 0);
	gq__frame_set(&hello, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	assert_int_equal(exchange(s, &hello, NULL), 0);
	return s;
}

static void answers_that_come_together_travel_in_one_frame(void **state)
{
	const BrokerCall call = { .service = "pure", .timeout_ms = LONG_MS, .cache = true };
	struct gq_frame f = { .type = GQ_MESSAGE_BATCH_REQUEST,
			      .flags = GQ_FLAG_CACHE,
			      .correlation = 100 },
			answer;
	struct gq_item table[10] = { 0 };
	BrokerClient *c, *w;
	int s;

	(void)state;
	begin("");
	c = client();
	w = worker("op=pure");
	(void)submit(c, &call, 1);
	serve_one(w); /* "0" is in the cache */
	assert_int_equal(q_broker_wait(c, 0, NULL, NULL, NULL, LONG_MS), Q_ERR_BUFFER_TOO_SMALL);
	s = greet();
	for (uint32_t i = 0; i < 10; i++) {
		table[i].offset = i;
		table[i].bytes = 1;
	}
	gq__frame_set(&f, GQ_TLV_NAME, false, "pure", 4);
	gq__frame_set(&f, GQ_TLV_ITEMS, false, table, sizeof(table));
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "0000000000", 10);
	(void)exchange(s, &f, &answer);
	assert_int_equal(answer.type, GQ_MESSAGE_BATCH_RESPONSE);
	assert_int_equal(answer.correlation, 100);
	assert_int_equal(gq__frame_items(&answer), 10);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(gq__frame_item(&answer, i).bytes, 1);
	close(s);
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

static bool take_traced(BrokerClient *w, BrokerRequest *q)
{
	assert_int_equal(q_service_recv(w, q, LONG_MS), Q_OK);
	return gq_frame_has(&((const struct heard *)q->frame)->frame, GQ_TLV_TRACE);
}

/* Who joins, and has to run after all, runs with the bytes of the one before it, which may be a
 * stranger's. */
static void a_trace_is_of_no_request_but_its_own(void **state)
{
	const BrokerCall call = { .service = "pure", .timeout_ms = LONG_MS, .cache = true };
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST,
			      .flags = GQ_FLAG_CACHE,
			      .correlation = 100 };
	static uint8_t bytes[1024];
	BrokerRequest first, second;
	BrokerClient *c, *w;
	uint64_t id;
	size_t n;
	int s;

	(void)state;
	begin("");
	c = client();
	w = worker("op=pure");
	s = greet();
	gq__frame_set(&f, GQ_TLV_NAME, false, "pure", 4);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "0", 1);
	gq__frame_set(&f, GQ_TLV_TRACE, false, "mine", 4);
	assert_int_equal(gq__frame_encode(&f, bytes, sizeof(bytes), &n), GQ_FRAME_OK);
	assert_int_equal(write(s, bytes, n), n);
	assert_true(take_traced(w, &first));
	id = submit(c, &call, 1);
	counts(c, "cache_joined", 1);
	close(s); /* so the one that joined runs */
	assert_false(take_traced(w, &second));
	assert_int_equal(q_service_reply(w, &first, Q_REASON_OK, NULL, 0), Q_OK);
	assert_int_equal(q_service_reply(w, &second, Q_REASON_OK, "0", 1), Q_OK);
	assert_int_equal(take_reply(c, id, "0").status, Q_OK);
	q_broker_close(c);
	q_broker_close(w);
	daemon_tear_down(&d);
}

/* Which place a request has in a batch for a worker gpuqd alone says: it would wait for the others.
 */
static void a_caller_makes_no_batch_for_a_worker(void **state)
{
	const uint32_t first_of_five[2] = { 0, 5 };
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .correlation = 100 };
	static uint8_t bytes[1024];
	BrokerRequest got[2];
	BrokerClient *w;
	size_t n;
	int s;

	(void)state;
	begin("");
	w = worker("op=pure");
	s = greet();
	gq__frame_set(&f, GQ_TLV_NAME, false, "pure", 4);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "0", 1);
	gq__frame_set(&f, GQ_TLV_BATCH, true, first_of_five, sizeof(first_of_five));
	assert_int_equal(gq__frame_encode(&f, bytes, sizeof(bytes), &n), GQ_FRAME_OK);
	assert_int_equal(write(s, bytes, n), n);
	assert_int_equal(q_service_recv_batch(w, got, 2, &n, LONG_MS), Q_OK);
	assert_int_equal(n, 1);
	assert_false(gq_frame_has(&((const struct heard *)got[0].frame)->frame, GQ_TLV_BATCH));
	assert_int_equal(q_service_reply(w, &got[0], Q_REASON_OK, NULL, 0), Q_OK);
	close(s);
	q_broker_close(w);
	daemon_tear_down(&d);
}

static void se_5_batches_that_lie_are_refused_and_the_connection_serves_on(void **state)
{
	const struct gq_item item = { 0, 1, 0, 0 };
	struct gq_frame f = { .type = GQ_MESSAGE_BATCH_REQUEST };
	int s;

	(void)state;
	begin("");
	s = greet();
	gq__frame_set(&f, GQ_TLV_NAME, false, "echo", 4);
	gq__frame_set(&f, GQ_TLV_ITEMS, false, &item, sizeof(item));
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "x", 1);
	assert_int_equal(exchange(s, &f, NULL), GQ_WIRE_INVALID); /* correlation 0 */
	f.correlation = UINT64_MAX;
	assert_int_equal(exchange(s, &f, NULL), GQ_WIRE_INVALID);
	f.correlation = 2;
	gq__frame_set(&f, GQ_TLV_IDEMPOTENCY, false, "k", 1);
	assert_int_equal(exchange(s, &f, NULL), GQ_WIRE_INVALID);
	f.present &= ~(UINT64_C(1) << GQ_TLV_IDEMPOTENCY);
	assert_int_equal(exchange(s, &f, NULL), GQ_WIRE_NOT_FOUND); /* good: but nobody does it */
	close(s);
	daemon_tear_down(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ca_6_a_batch_with_a_bad_item_is_999_ok_and_one_error_in_order),
		cmocka_unit_test(each_item_ends_by_itself),
		cmocka_unit_test(identical_items_run_once_if_the_op_is_cached),
		cmocka_unit_test(what_a_batch_gets_from_the_cache_at_once_is_bounded),
		cmocka_unit_test(without_room_for_all_some_run_or_none_as_was_asked),
		cmocka_unit_test(large_items_come_back_whole),
		cmocka_unit_test(answers_that_come_together_travel_in_one_frame),
		cmocka_unit_test(wrong_batches_are_refused),
		cmocka_unit_test(a_trace_is_of_no_request_but_its_own),
		cmocka_unit_test(a_caller_makes_no_batch_for_a_worker),
		cmocka_unit_test(se_5_batches_that_lie_are_refused_and_the_connection_serves_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
