/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_bad_calls.c - a table of wrong calls of gpuq/broker.h: each is refused with the
 * status and the words that name what is wrong, and nothing reaches gpuqd.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct daemon d;

static const BrokerCall good = { .service = "job", .payload = "x", .bytes = 1 };
static const BrokerService worker_of = { .name = "w", .capability = "op=job" };

/* ---- connecting ------------------------------------------------------------------------------ */

static void expect_no_client(const BrokerConfig *cfg, const char *words)
{
	if (q_broker_connect(cfg) != NULL)
		fail_msg("there is a connection; wanted: %s", words);
	if (strstr(q_last_error(), words) == NULL)
		fail_msg("'%s' does not say '%s'", q_last_error(), words);
}

static void every_wrong_configuration_of_a_client_is_refused_by_name(void **state)
{
	static char long_name[80];

	(void)state;
	memset(long_name, 'n', sizeof(long_name) - 1);
	expect_no_client(NULL, "endpoint is NULL, and GPUQ_BROKER is not set; allowed");
	expect_no_client(&(BrokerConfig){ .endpoint = "" }, "endpoint is ''");
	expect_no_client(&(BrokerConfig){ .endpoint = "unix:" }, "");
	expect_no_client(&(BrokerConfig){ .endpoint = "tcp:1" }, "endpoint is 'tcp:1'; allowed");
	expect_no_client(&(BrokerConfig){ .endpoint = "fd:-1" }, "-1");
	expect_no_client(&(BrokerConfig){ .endpoint = "unix:/nonexistent/s" }, "/nonexistent/s");
	expect_no_client(&(BrokerConfig){ .endpoint = d.broker, .name = "a b" }, "name is 'a b'");
	expect_no_client(&(BrokerConfig){ .endpoint = d.broker, .name = long_name }, "name is 'n");
	expect_no_client(&(BrokerConfig){ .endpoint = d.broker, .token = "" },
			 "token has 0 characters; allowed");
	expect_no_client(&(BrokerConfig){ .endpoint = d.broker, .token = "abc" },
			 "token has 3 characters; allowed");
	expect_no_client(&(BrokerConfig){ .endpoint = d.broker, .reserved32 = 7 },
			 "reserved32 is 7; allowed: 0");
	expect_no_client(&(BrokerConfig){ .endpoint = d.broker, .reserved = { 0, 9 } },
			 "reserved[1] is 9; allowed: 0");
}

/* As in q_init(): of the environment, not of the configuration. */
static void an_empty_variable_counts_as_unset(void **state)
{
	BrokerClient *c;

	(void)state;
	assert_int_equal(setenv("GPUQ_TOKEN", "", 1), 0);
	c = connect_to_services(d.broker);
	q_broker_close(c);
	assert_int_equal(unsetenv("GPUQ_TOKEN"), 0);
	assert_int_equal(setenv("GPUQ_BROKER", "", 1), 0);
	expect_no_client(NULL, "endpoint is NULL, and GPUQ_BROKER is not set; allowed");
	assert_int_equal(unsetenv("GPUQ_BROKER"), 0);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static BrokerClient *c, *w, *watching;
static BrokerRegion region;
static char reply[16], text_of_64[65], text_of_65[66], text_of_4999[5000];
static uint8_t large[Q_BROKER_MAX_BYTES + 1];
static uint64_t id_out;
static size_t count_out, bytes_io;
static BrokerServiceInfo infos[2];
static BrokerRequest request, answered;

static size_t *room(size_t n)
{
	bytes_io = n;
	return &bytes_io;
}

/* WITH: the good call, and more. */
#define WITH(...)    (&(BrokerCall){ .service = "job", .payload = "x", .bytes = 1, __VA_ARGS__ })
#define CALL(...)    (&(BrokerCall){ __VA_ARGS__ })
#define SERVICE(...) (&(BrokerService){ __VA_ARGS__ })
#define ORDER(...)   (&(BrokerOrder){ __VA_ARGS__ })

static const BrokerExtent extent = { 1, 0 };
static const BrokerItem items[2] = { { "a", 1 }, { "b", 1 } };
static const BrokerItem item_null[2] = { { "a", 1 }, { NULL, 1 } };
static const BrokerItem item_large[1] = { { large, Q_BROKER_MAX_BYTES } };

/* clang-format off */
#define WRONG_CALLS(X)                                                                             \
	X(q_broker_call(NULL, &good, NULL, NULL, NULL), Q_ERR_INVALID_ARG, "client is NULL")       \
	X(q_broker_call(c, NULL, NULL, NULL, NULL), Q_ERR_INVALID_ARG, "call is NULL")             \
	X(q_broker_call(c, &good, NULL, room(4), NULL), Q_ERR_INVALID_ARG, "reply is NULL with *bytes 4") \
	X(q_broker_call(watching, &good, NULL, NULL, NULL), Q_ERR_POLICY, "watches does nothing else") \
	X(q_broker_submit(NULL, &good, &id_out), Q_ERR_INVALID_ARG, "client is NULL")              \
	X(q_broker_submit(c, NULL, &id_out), Q_ERR_INVALID_ARG, "call is NULL")                    \
	X(q_broker_submit(c, &good, NULL), Q_ERR_INVALID_ARG, "out_id is NULL")                    \
	X(q_broker_submit(c, CALL(.payload = "x", .bytes = 1), &id_out), Q_ERR_INVALID_ARG, "service is ''")  \
	X(q_broker_submit(c, CALL(.service = ""), &id_out), Q_ERR_INVALID_ARG, "service is ''")    \
	X(q_broker_submit(c, CALL(.service = "a/b"), &id_out), Q_ERR_INVALID_ARG, "service is 'a/b'; allowed") \
	X(q_broker_submit(c, CALL(.service = text_of_65), &id_out), Q_ERR_INVALID_ARG, "allowed: 1 to 64") \
	X(q_broker_submit(c, CALL(.service = "job", .bytes = 1), &id_out), Q_ERR_INVALID_ARG, "payload is NULL with bytes 1") \
	X(q_broker_submit(c, CALL(.service = "job", .payload = large, .bytes = sizeof(large)), &id_out), Q_ERR_INVALID_ARG, \
	  "bytes is 61441; allowed: 0 to 61440")                                                   \
	X(q_broker_submit(c, CALL(.service = "job", .payload = large, .bytes = SIZE_MAX), &id_out), Q_ERR_INVALID_ARG, "bytes is 18446744073709551615") \
	X(q_broker_submit(c, WITH(.session_bytes = 1), &id_out), Q_ERR_INVALID_ARG, "session is NULL with session_bytes 1") \
	X(q_broker_submit(c, WITH(.session = text_of_65, .session_bytes = 65), &id_out), Q_ERR_INVALID_ARG, \
	  "session_bytes is 65; allowed: 0 to 64")                                                 \
	X(q_broker_submit(c, WITH(.key = "k"), &id_out), Q_ERR_INVALID_ARG, "key_bytes is 0; allowed: 1 to 64 with a key") \
	X(q_broker_submit(c, WITH(.key_bytes = 1), &id_out), Q_ERR_INVALID_ARG, "key_bytes is 1; allowed") \
	X(q_broker_submit(c, WITH(.key = text_of_65, .key_bytes = 65), &id_out), Q_ERR_INVALID_ARG, "key_bytes is 65") \
	X(q_broker_submit(c, WITH(.extent = &extent), &id_out), Q_ERR_INVALID_ARG, "has an extent, and a payload") \
	X(q_broker_submit(c, WITH(.needs = text_of_4999), &id_out), Q_ERR_INVALID_ARG, "needs has 4999 bytes; allowed: 0 to 4096") \
	X(q_broker_submit_batch(NULL, &good, items, 2, &id_out), Q_ERR_INVALID_ARG, "client is NULL") \
	X(q_broker_submit_batch(c, CALL(.service = "job"), NULL, 2, &id_out), Q_ERR_INVALID_ARG, "items is NULL") \
	X(q_broker_submit_batch(c, CALL(.service = "job"), items, 2, NULL), Q_ERR_INVALID_ARG, "out_id is NULL") \
	X(q_broker_submit_batch(c, CALL(.service = "job"), items, 0, &id_out), Q_ERR_INVALID_ARG, \
	  "count is 0; allowed: 1 to 1000")                                                        \
	X(q_broker_submit_batch(c, CALL(.service = "job"), items, SIZE_MAX, &id_out), Q_ERR_INVALID_ARG, \
	  "count is 18446744073709551615; allowed: 1 to 1000")                                     \
	X(q_broker_submit_batch(c, CALL(.service = "job"), item_null, 2, &id_out), Q_ERR_INVALID_ARG, \
	  "items[1].payload is NULL with bytes 1")                                                 \
	X(q_broker_submit_batch(c, CALL(.service = "job"), item_large, 1, &id_out), Q_ERR_INVALID_ARG, \
	  "items[0].bytes is 61440; allowed: 61440 for all items, with 16 for each")               \
	X(q_broker_submit_batch(c, &good, items, 2, &id_out), Q_ERR_INVALID_ARG, "has a payload, a key or an extent") \
	X(q_broker_wait(NULL, 0, NULL, NULL, NULL, 0), Q_ERR_INVALID_ARG, "client is NULL")        \
	X(q_broker_wait(c, 0, NULL, room(4), NULL, 0), Q_ERR_INVALID_ARG, "reply is NULL with *bytes 4") \
	X(q_broker_wait(c, 0, reply, room(4), NULL, UINT32_MAX), Q_ERR_NOT_FOUND, "no such request") \
	X(q_broker_wait(c, 99, reply, room(4), NULL, UINT32_MAX), Q_ERR_NOT_FOUND, "no such request") \
	X(q_broker_cancel(NULL, 1), Q_ERR_INVALID_ARG, "client is NULL")                           \
	X(q_broker_cancel(c, 0), Q_ERR_NOT_FOUND, "no such request")                               \
	X(q_broker_cancel(c, UINT64_MAX), Q_ERR_NOT_FOUND, "no such request")                      \
	X(q_broker_region_create(NULL, 1, &region), Q_ERR_INVALID_ARG, "client is NULL")           \
	X(q_broker_region_create(c, 1, NULL), Q_ERR_INVALID_ARG, "out is NULL")                    \
	X(q_broker_region_create(c, 0, &region), Q_ERR_INVALID_ARG, "bytes is 0; allowed: 1 to 16777216") \
	X(q_broker_region_create(c, SIZE_MAX, &region), Q_ERR_INVALID_ARG, "bytes is 18446744073709551615") \
	X(q_broker_region_seal(NULL, 1), Q_ERR_INVALID_ARG, "client is NULL")                      \
	X(q_broker_region_seal(c, 0), Q_ERR_NOT_FOUND, "no region 0")                              \
	X(q_broker_region_end(NULL, 1), Q_ERR_INVALID_ARG, "client is NULL")                       \
	X(q_broker_region_end(c, 77), Q_ERR_NOT_FOUND, "no region 77")                             \
	X(q_service_register(NULL, &worker_of), Q_ERR_INVALID_ARG, "client is NULL")               \
	X(q_service_register(c, NULL), Q_ERR_INVALID_ARG, "service is NULL")                       \
	X(q_service_register(w, &worker_of), Q_ERR_INVALID_ARG, "has a service already")           \
	X(q_service_register(c, SERVICE(.capacity = 1)), Q_ERR_INVALID_ARG, "name is ''")           \
	X(q_service_register(c, SERVICE(.name = "a\n")), Q_ERR_INVALID_ARG, "name is 'a")          \
	X(q_service_register(c, SERVICE(.name = "v", .capacity = 257)), Q_ERR_INVALID_ARG, "capacity is 257; allowed: 0 to 256") \
	X(q_service_register(c, SERVICE(.name = "v", .token = "")), Q_ERR_INVALID_ARG, "token has 0 bytes; allowed: 1 to 4096") \
	X(q_service_register(c, SERVICE(.name = "v", .reserved8 = { 0, 0, 0, 0, 0, 0, 5 })), Q_ERR_INVALID_ARG, "reserved8[6] is 5") \
	X(q_service_register(c, SERVICE(.name = "v", .reserved = { 0, 4 })), Q_ERR_INVALID_ARG, "reserved[1] is 4") \
	X(q_service_unregister(NULL), Q_ERR_INVALID_ARG, "client is NULL")                         \
	X(q_service_unregister(c), Q_ERR_NOT_FOUND, "no service")                                  \
	X(q_service_heartbeat(NULL, NULL), Q_ERR_INVALID_ARG, "client is NULL")                    \
	X(q_service_heartbeat(c, NULL), Q_ERR_NOT_FOUND, "no service")                             \
	X(q_service_heartbeat(w, &(BrokerLoad){ .cpu = 1001 }), Q_ERR_INVALID_ARG, "cpu is 1001")  \
	X(q_service_set_health(NULL, true), Q_ERR_INVALID_ARG, "client is NULL")                   \
	X(q_service_recv(NULL, &request, 0), Q_ERR_INVALID_ARG, "client is NULL")                  \
	X(q_service_recv(w, NULL, 0), Q_ERR_INVALID_ARG, "out is NULL")                            \
	X(q_service_recv(c, &request, UINT32_MAX), Q_ERR_NOT_FOUND, "no service")                  \
	X(q_service_reply(NULL, &answered, 0, NULL, 0), Q_ERR_INVALID_ARG, "client is NULL")       \
	X(q_service_reply(w, NULL, 0, NULL, 0), Q_ERR_INVALID_ARG, "request is NULL")              \
	X(q_service_reply(w, &answered, 0, NULL, 0), Q_ERR_INVALID_ARG, "has been answered")       \
	X(q_service_reply(w, &request, 18, NULL, 0), Q_ERR_INVALID_ARG, "reason is 18; allowed: 0 to 17") \
	X(q_service_reply(w, &request, 0, NULL, 3), Q_ERR_INVALID_ARG, "payload is NULL with bytes 3") \
	X(q_service_reply(w, &request, 0, large, sizeof(large)), Q_ERR_INVALID_ARG, "bytes is 61441; allowed: 0 to 61440") \
	X(q_broker_discover(NULL, NULL, infos, 2, &count_out), Q_ERR_INVALID_ARG, "client is NULL") \
	X(q_broker_discover(c, NULL, infos, 2, NULL), Q_ERR_INVALID_ARG, "out_count is NULL")      \
	X(q_broker_discover(c, NULL, NULL, 2, &count_out), Q_ERR_INVALID_ARG, "out is NULL with room 2") \
	X(q_broker_discover(c, "op", infos, 2, &count_out), Q_ERR_INVALID_ARG, "")                 \
	X(q_broker_watch(NULL, infos, 0), Q_ERR_INVALID_ARG, "client is NULL")                     \
	X(q_broker_watch(w, infos, 0), Q_ERR_POLICY, "requests or a service")                      \
	X(q_broker_watch(watching, NULL, 0), Q_ERR_INVALID_ARG, "out is NULL")                     \
	X(q_broker_stats(NULL, NULL, room(0)), Q_ERR_INVALID_ARG, "client is NULL")                \
	X(q_broker_stats(c, NULL, NULL), Q_ERR_INVALID_ARG, "bytes is NULL")                       \
	X(q_broker_stats(c, NULL, room(8)), Q_ERR_INVALID_ARG, "text is NULL with *bytes 8")       \
	X(q_broker_order(NULL, ORDER(.kind = Q_ORDER_FORGET_ALL)), Q_ERR_INVALID_ARG, "client is NULL") \
	X(q_broker_order(c, NULL), Q_ERR_INVALID_ARG, "order is NULL")                             \
	X(q_broker_order(c, ORDER(.kind = 0)), Q_ERR_INVALID_ARG, "kind is 0; allowed: 1 to 8")    \
	X(q_broker_order(c, ORDER(.kind = 9)), Q_ERR_INVALID_ARG, "kind is 9")                     \
	X(q_broker_order(c, ORDER(.kind = Q_ORDER_DRAIN)), Q_ERR_INVALID_ARG, "name is ''")        \
	X(q_broker_order(c, ORDER(.kind = Q_ORDER_FORGET_ALL, .reserved32 = 2)), Q_ERR_INVALID_ARG, "reserved32 is 2; allowed: 0") \
	X(q_broker_order(c, ORDER(.kind = Q_ORDER_FORGET_ALL, .reserved = { 0, 0, 0, 6 })), Q_ERR_INVALID_ARG, \
	  "reserved[3] is 6; allowed: 0")
/* clang-format on */

static void set_up_calls(void)
{
	const BrokerCall twice[2] = { good, good };
	uint64_t id[2];

	memset(text_of_64, 's', 64);
	memset(text_of_65, 's', 65);
	memset(text_of_4999, 's', 4999);
	c = connect_to_services(d.broker);
	w = connect_worker(d.broker, &worker_of);
	watching = connect_to_services(d.broker);
	assert_status(q_broker_watch(watching, infos, LONG_MS), Q_OK);
	/* One request that is answered, and one that the worker has. */
	for (int i = 0; i < 2; i++)
		assert_status(q_broker_submit(c, &twice[i], &id[i]), Q_OK);
	assert_status(q_service_recv(w, &answered, LONG_MS), Q_OK);
	assert_status(q_service_reply(w, &answered, Q_REASON_OK, NULL, 0), Q_OK);
	assert_status(q_service_recv(w, &request, LONG_MS), Q_OK);
	await_end(c, id[0], Q_OK, "");
	assert_status(q_broker_cancel(c, id[1]), Q_OK);
	await_end(c, id[1], Q_ERR_CANCELLED, NULL);
}

static void every_wrong_call_is_refused_by_name_and_reaches_nobody(void **state)
{
	uint64_t accepted;
	unsigned calls = 0;

	(void)state;
	set_up_calls();
	accepted = services_count(d.broker, "accepted");
#define CHECK(call, wanted, names)                                                                 \
	{                                                                                          \
		QueueStatus status;                                                                \
                                                                                                   \
		id_out = 4711;                                                                     \
		count_out = 4711;                                                                  \
		status = call;                                                                     \
		if (status != (wanted))                                                            \
			fail_msg("%s: %s, wanted %s", #call, q_status_string(status),              \
				 q_status_string(wanted));                                         \
		if (strstr(q_last_error(), names) == NULL)                                         \
			fail_msg("%s: '%s' does not say '%s'", #call, q_last_error(), names);      \
		assert_int_equal(id_out, 4711);                                                    \
		assert_true(count_out == 4711 || count_out == 0);                                  \
		calls++;                                                                           \
	}
	WRONG_CALLS(CHECK)
#undef CHECK
	assert_true(calls >= 80);
	assert_int_equal(q_broker_fd(NULL), -1);
	q_broker_close(NULL);
	assert_int_equal(services_count(d.broker, "accepted"), accepted);
	/* And all goes on: the request that was refused an answer so often can be answered. */
	assert_status(q_service_reply(w, &request, Q_REASON_OK, "y", 1), Q_OK);
	assert_status(q_broker_discover(c, NULL, infos, 2, &count_out), Q_OK);
	assert_int_equal(count_out, 1);
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(watching);
}

static void counts_are_written_whatever_the_status(void **state)
{
	BrokerClient *one = connect_to_services(d.broker);

	(void)state;
	count_out = 9;
	assert_status(q_broker_discover(NULL, NULL, infos, 2, &count_out), Q_ERR_INVALID_ARG);
	assert_int_equal(count_out, 0);
	count_out = 9;
	assert_status(q_broker_discover(one, NULL, NULL, 2, &count_out), Q_ERR_INVALID_ARG);
	assert_int_equal(count_out, 0);
	q_broker_close(one);
}

/* In the child every call says whose the connection is; the parent's is not ended by it. */
static void a_child_cannot_use_its_parents_connection(void **state)
{
	BrokerClient *one = connect_to_services(d.broker);
	uint64_t id;
	int status;
	pid_t child;

	(void)state;
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		int code = q_broker_submit(one, &good, &id) == Q_ERR_UNSUPPORTED ? 0 : 1;

		if (strstr(q_last_error(), "another process") == NULL)
			code = 2;
		q_broker_close(one);
		_exit(code);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_status(q_broker_discover(one, NULL, infos, 2, &count_out), Q_OK);
	q_broker_close(one);
}

static int set_up(void **state)
{
	(void)state;
	unsetenv("GPUQ_BROKER");
	unsetenv("GPUQ_TOKEN");
	daemon_set_up(&d, "", "heartbeat_ms = 60s\n");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	daemon_tear_down(&d);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_wrong_configuration_of_a_client_is_refused_by_name),
		cmocka_unit_test(an_empty_variable_counts_as_unset),
		cmocka_unit_test(every_wrong_call_is_refused_by_name_and_reaches_nobody),
		cmocka_unit_test(counts_are_written_whatever_the_status),
		cmocka_unit_test(a_child_cannot_use_its_parents_connection),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("service_bad_calls", tests, set_up, tear_down);
}
