/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service.c - services behind gpuqd, which is a process of its own here: registering, routing,
 * what becomes of requests when somebody dies, and peers that lie. Callers and workers are
 * connections of this one thread, but where one is to be killed or stopped.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "callers.h"
#include "daemon.h"
#include "support.h"

#include "broker/page/page.h"
#include "broker/policy/frame.h"
#include "host/service/state.h"

#include <gpuq/broker.h>

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a gpuqd --------------------------------------------------------------------------------- */

static char folder[] = "/tmp/gpuq-service-XXXXXX", socket_path[64], config_path[64], endpoint[80];
static pid_t daemon_pid;
static unsigned idle_descriptors; /* of a gpuqd without connections */
static const char *more_config = "breaker_open_ms = 200\n";

static unsigned descriptors(void)
{
	char path[64];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)daemon_pid);
	d = opendir(path);
	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void write_config(const char *words)
{
	FILE *f = fopen(config_path, "w");

	assert_non_null(f);
	fprintf(f, "[services]\nsocket = %s\nbalance = round_robin\n%s%s%s", socket_path,
		strstr(words, "heartbeat_ms") == NULL ? "heartbeat_ms = 1000\n" : "",
		strstr(words, "uid_connect_rate") == NULL ? "uid_connect_rate = 0\n" : "", words);
	assert_int_equal(fclose(f), 0);
}

static void start_daemon(void)
{
	int out[2];
	char line[128];

	write_config(more_config);
	assert_int_equal(pipe(out), 0);
	daemon_pid = fork();
	assert_true(daemon_pid >= 0);
	if (daemon_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execl(daemon_program(), "gpuqd", "--config", config_path, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	assert_true(read(out[0], line, sizeof(line)) > 0); /* it listens */
	close(out[0]);
	idle_descriptors = descriptors();
}

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(socket_path, sizeof(socket_path), "%s/s", folder);
	snprintf(config_path, sizeof(config_path), "%s/c", folder);
	snprintf(endpoint, sizeof(endpoint), "unix:%s", socket_path);
	start_daemon();
	return 0;
}

static int end_daemon(int how)
{
	int status = 0;

	assert_int_equal(kill(daemon_pid, how), 0);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	return status;
}

/* Another gpuqd, with other words in its configuration; NULL: those of most tests. */
static void restart_daemon(const char *words)
{
	static const char *usual;

	usual = usual != NULL ? usual : more_config;
	assert_int_equal(end_daemon(SIGTERM), 0);
	more_config = words != NULL ? words : usual;
	start_daemon();
}

static BrokerClient *client(void)
{
	return connect_to_services(endpoint);
}

static BrokerClient *worker(const char *name, const char *can, uint32_t capacity)
{
	const BrokerService s = {
		.name = name, .capability = can, .capacity = capacity, .heartbeat_ms = 20
	};

	return connect_worker(endpoint, &s);
}

/* ---- counts ---------------------------------------------------------------------------------- */

static uint64_t count_of(const char *text, const char *name)
{
	const size_t n = strlen(name);

	for (const char *line = text; line != NULL && *line != '\0';) {
		if (strncmp(line, name, n) == 0 && line[n] == '\t')
			return strtoull(line + n, NULL, 10);
		line = strchr(line, '\n');
		line += line != NULL;
	}
	fail_msg("there is no count '%s'", name);
	return 0;
}

static void read_counts(char text[2048])
{
	BrokerClient *c = client();
	size_t n = 2048;

	assert_int_equal(q_broker_stats(c, text, &n), Q_OK);
	q_broker_close(c);
}

static uint64_t count(const char *name)
{
	return services_count(endpoint, name);
}

/* Everything that was accepted has ended once, or is inside. */
static void expect_conservation(void)
{
	char text[2048];

	read_counts(text);
	assert_int_equal(count_of(text, "accepted"),
			 count_of(text, "ok") + count_of(text, "failed") +
				 count_of(text, "expired") + count_of(text, "cancelled") +
				 count_of(text, "lost") + count_of(text, "inside"));
}

static void await_count(const char *name, uint64_t value)
{
	services_await_count(endpoint, name, value);
}

/* Until all that a test has left has gone, every descriptor among it. */
static void await_quiet(void)
{
	await_count("services", 0);
	await_count("inside", 0);
	for (unsigned i = 0; descriptors() != idle_descriptors; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* How often that has gone wrong, as the page of counts says once a second; before the first time
 * there is nothing to read. */
static uint64_t errors_of(const char *text)
{
	static struct page_services s; /* large */
	char path[PAGE_PATH], error[PAGE_ERROR];
	struct page *page;
	bool written;

	assert_true(page_path_of(socket_path, path, sizeof(path)));
	page = page_open(path, error);
	if (page == NULL)
		fail_msg("%s", error);
	written = page_read(page, PAGE_SERVICES_ALL, 0, &s);
	page_close(page);
	for (uint32_t i = 0; written && i < PAGE_ERRORS; i++)
		if (s.errors.error[i].times != 0 && strcmp(s.errors.error[i].text, text) == 0)
			return s.errors.error[i].times;
	return 0;
}

static void await_errors(const char *text, uint64_t times)
{
	for (unsigned i = 0; errors_of(text) < times; i++) {
		if (i >= LONG_MS)
			fail_msg("'%s' has not gone wrong %llu times", text,
				 (unsigned long long)times);
		nap_ms(1);
	}
}

/* ---- calls ----------------------------------------------------------------------------------- */

static uint64_t submit(BrokerClient *c, const char *service, const char *text)
{
	const BrokerCall call = {
		.service = service, .payload = text, .bytes = strlen(text), .timeout_ms = LONG_MS
	};
	uint64_t id = 0;

	if (q_broker_submit(c, &call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

/* Takes a request and answers it with its own bytes, or fails it. */
static void serve_one(BrokerClient *w, uint32_t reason)
{
	BrokerRequest q;

	if (q_service_recv(w, &q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	assert_int_equal(q_service_reply(w, &q, reason, q.payload, 0), Q_OK);
}

static void echo_one(BrokerClient *w)
{
	BrokerRequest q;

	if (q_service_recv(w, &q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes), Q_OK);
}

static void expect_reply(BrokerClient *c, uint64_t id, const char *text)
{
	char reply[256];
	size_t n = sizeof(reply);

	if (q_broker_wait(c, id, reply, &n, NULL, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	assert_int_equal(n, strlen(text));
	assert_memory_equal(reply, text, n);
}

static BrokerReply expect_end(BrokerClient *c, uint64_t id, QueueStatus status)
{
	BrokerReply r = { 0 };

	assert_int_equal(q_broker_wait(c, id, NULL, &(size_t){ 0 }, &r, LONG_MS), status);
	assert_int_equal(r.id, id);
	return r;
}

/* ---- frames by hand ----------------------------------------------------------------------------
 */

static int raw(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static size_t hello(uint8_t out[256], uint32_t low, uint32_t high)
{
	const uint32_t versions[2] = { low, high };
	struct gq_frame f = { .type = GQ_MESSAGE_HELLO,
			      .flags = GQ_FLAG_CHECKSUM,
			      .correlation = 1 };
	size_t n = 0;

	gq__frame_set(&f, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	assert_int_equal(gq__frame_encode(&f, out, 256, &n), GQ_FRAME_OK);
	return n;
}

/* ---- a way there and back -------------------------------------------------------------------- */

static void a_request_goes_to_a_worker_and_its_reply_comes_back(void **state)
{
	BrokerClient *w = worker("w1", "op=echo", 0), *c = client();
	static char large[Q_BROKER_MAX_BYTES], reply[Q_BROKER_MAX_BYTES];
	const BrokerCall call = { .service = "echo", .payload = large, .bytes = sizeof(large) };
	size_t n = sizeof(reply);
	BrokerRequest q;
	uint64_t id;

	(void)state;
	id = submit(c, "echo", "hello");
	echo_one(w);
	expect_reply(c, id, "hello");
	id = submit(c, "echo", "");
	echo_one(w);
	expect_reply(c, id, "");
	memset(large, 'x', sizeof(large));
	assert_int_equal(q_broker_submit(c, &call, &id), Q_OK);
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	assert_int_equal(q.bytes, sizeof(large));
	assert_string_equal(q.op, "echo");
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes), Q_OK);
	assert_int_equal(q_broker_wait(c, 0, reply, &n, NULL, LONG_MS), Q_OK);
	assert_int_equal(n, sizeof(large));
	assert_memory_equal(reply, large, n);
	id = submit(c, "echo", "x");
	serve_one(w, Q_REASON_ERROR);
	assert_int_equal(expect_end(c, id, Q_ERR_FAILED).reason, Q_REASON_ERROR);
	expect_end(c, submit(c, "nobody", "x"), Q_ERR_NOT_FOUND);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

/* The library never does it: a program that speaks the protocol by itself may. */
static void co_4_an_id_that_is_in_use_is_refused(void **state)
{
	BrokerClient *w = worker("w1", "op=echo", 0), *c = client();
	uint64_t id;

	(void)state;
	id = submit(c, "echo", "first");
	c->last = id - 1;
	assert_int_equal(submit(c, "echo", "second"), id);
	assert_string_equal(expect_end(c, id, Q_ERR_INVALID_ARG).text,
			    "a request of this correlation has not ended");
	echo_one(w);
	expect_reply(c, id, "first");
	c->last = id - 1; /* it has ended: the number is free */
	assert_int_equal(submit(c, "echo", "third"), id);
	echo_one(w);
	expect_reply(c, id, "third");
	q_broker_close(c);
	q_broker_close(w);
}

static void lb_1_workers_of_an_op_take_turns(void **state)
{
	BrokerClient *w[3] = { worker("a", "op=turn", 0), worker("b", "op=turn", 0),
			       worker("c", "op=turn", 0) };
	BrokerClient *c = client();

	(void)state;
	for (int round = 0; round < 10; round++) {
		uint64_t id[3];

		for (int i = 0; i < 3; i++)
			id[i] = submit(c, "turn", "x");
		for (int i = 0; i < 3; i++)
			echo_one(w[i]); /* each has got one */
		for (int i = 0; i < 3; i++)
			expect_reply(c, id[i], "x");
	}
	q_broker_close(c);
	for (int i = 0; i < 3; i++)
		q_broker_close(w[i]);
	await_quiet();
}

static void st_1_a_session_stays_with_its_worker(void **state)
{
	BrokerClient *w[2] = { worker("a", "op=sit", 0), worker("b", "op=sit", 0) };
	BrokerClient *c = client();
	int home = -1;

	(void)state;
	for (int i = 0; i < 20; i++) {
		const BrokerCall call = { .service = "sit", .session = "s", .session_bytes = 1 };
		uint64_t id;
		BrokerRequest q;

		assert_int_equal(q_broker_submit(c, &call, &id), Q_OK);
		if (home < 0)
			home = q_service_recv(w[0], &q, 200) == Q_OK ? 0 : 1;
		else
			assert_int_equal(q_service_recv(w[home], &q, LONG_MS), Q_OK);
		if (i == 0 && home == 1)
			assert_int_equal(q_service_recv(w[1], &q, LONG_MS), Q_OK);
		assert_int_equal(q_service_reply(w[home], &q, Q_REASON_OK, NULL, 0), Q_OK);
		expect_reply(c, id, "");
	}
	q_broker_close(c);
	q_broker_close(w[0]);
	q_broker_close(w[1]);
	await_quiet();
}

static uint64_t submit_of_session(BrokerClient *c, const char *service)
{
	const BrokerCall call = {
		.service = service, .session = "s", .session_bytes = 1, .timeout_ms = LONG_MS
	};
	uint64_t id = 0;

	if (q_broker_submit(c, &call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

static void st_a_session_whose_worker_is_full_for_a_while_comes_back_to_it(void **state)
{
	BrokerClient *a = worker("a", "op=sit", 1), *c = client(), *b;
	const uint64_t first = submit_of_session(c, "sit");
	BrokerRequest q;
	uint64_t id;

	(void)state;
	assert_int_equal(q_service_recv(a, &q, LONG_MS), Q_OK);
	b = worker("b", "op=sit", 8);
	id = submit_of_session(c, "sit"); /* its own is full */
	echo_one(b);
	expect_reply(c, id, "");
	assert_int_equal(q_service_reply(a, &q, Q_REASON_OK, NULL, 0), Q_OK);
	expect_reply(c, first, "");
	for (int i = 0; i < 4; i++) {
		id = submit_of_session(c, "sit");
		echo_one(a);
		expect_reply(c, id, "");
	}
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	await_quiet();
}

/* ---- who speaks for a service ---------------------------------------------------------------- */

static void r_3_an_older_generation_can_say_nothing(void **state)
{
	const BrokerService open = { .name = "one", .heartbeat_ms = 20 };
	const BrokerService mine = { .name = "two", .token = "secret", .heartbeat_ms = 20 };
	const BrokerService other = { .name = "two", .token = "guess", .heartbeat_ms = 20 };
	BrokerClient *a = client(), *b = client(), *c = client();
	const uint64_t orphans = count("orphans");
	BrokerRequest q;
	uint64_t id;

	(void)state;
	assert_int_equal(q_service_register(a, &open), Q_OK);
	assert_int_equal(q_service_register(b, &open), Q_ERR_POLICY);
	assert_int_equal(q_service_unregister(a), Q_OK);
	assert_int_equal(q_service_register(a, &mine), Q_OK);
	assert_int_equal(q_service_register(b, &other), Q_ERR_POLICY);
	id = submit(c, "two", "x");
	assert_int_equal(q_service_recv(a, &q, LONG_MS), Q_OK);
	assert_int_equal(q_service_register(b, &mine), Q_OK); /* it takes over */
	expect_end(c, id, Q_ERR_LOST);
	assert_int_equal(q_service_reply(a, &q, Q_REASON_OK, "late", 4), Q_OK);
	assert_int_equal(q_service_recv(a, &q, LONG_MS), Q_ERR_STALE);
	await_count("orphans", orphans + 1);
	id = submit(c, "two", "y");
	echo_one(b);
	expect_reply(c, id, "y");
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	await_quiet();
	expect_conservation();
}

static void r_4_a_watcher_s_table_is_the_daemon_s(void **state)
{
	BrokerClient *watch = client(), *w = client();
	BrokerServiceInfo info;
	unsigned there = 0;
	QueueStatus status;

	(void)state;
	assert_int_equal(q_broker_watch(watch, &info, 0), Q_ERR_TIMEOUT);
	assert_int_equal(q_broker_stats(watch, NULL, &(size_t){ 0 }), Q_ERR_POLICY);
	for (int i = 0; i < 2000; i++) {
		const BrokerService s = { .name = "churn", .capability = "op=a" };

		assert_int_equal(q_service_register(w, &s), Q_OK);
		if (i < 1999)
			assert_int_equal(q_service_unregister(w), Q_OK);
	}
	for (uint64_t generation = 0;;) { /* until it knows of the last, and that this is ready */
		status = q_broker_watch(watch, &info, LONG_MS);
		if (status == Q_ERR_LAGGED)
			continue;
		assert_int_equal(status, Q_OK);
		assert_true(info.generation >= generation);
		generation = info.generation;
		there = strcmp(info.state, "gone") != 0;
		if (strcmp(info.state, "ready") == 0 && count("services") == 1 &&
		    q_broker_watch(watch, &info, 50) == Q_ERR_TIMEOUT)
			break;
	}
	assert_int_equal(there, 1);
	q_broker_close(w);
	assert_int_equal(q_broker_watch(watch, &info, LONG_MS), Q_OK);
	assert_string_equal(info.state, "gone");
	q_broker_close(watch);
	await_quiet();
}

static void r_5_a_filter_finds_those_that_meet_it(void **state)
{
	BrokerClient *a = worker("small", "op=embed:1 dims=128..512", 0);
	BrokerClient *b = worker("large", "op=embed:2 dims=128..4096", 7), *c = client();
	BrokerServiceInfo info[4];
	size_t n;

	(void)state;
	assert_int_equal(q_broker_discover(c, NULL, info, 4, &n), Q_OK);
	assert_int_equal(n, 2);
	assert_int_equal(q_broker_discover(c, "op=embed dims=1024", info, 4, &n), Q_OK);
	assert_int_equal(n, 1);
	assert_string_equal(info[0].name, "large");
	assert_string_equal(info[0].op, "embed");
	assert_int_equal(info[0].capacity, 7);
	assert_int_equal(q_broker_discover(c, "size=3", info, 4, &n), Q_ERR_INVALID_ARG);
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	await_quiet();
}

static void r_who_is_refused_takes_nothing_over(void **state)
{
	enum { OTHERS = 32 };
	const BrokerService mine = { .name = "one", .capability = "op=keep", .token = "t" };
	BrokerService larger = { .name = "one", .capability = "op=new1 op=new2", .token = "t" };
	BrokerClient *a = client(), *b = client(), *c = client(), *other[OTHERS];
	char name[16], can[64];
	QueueStatus status = Q_OK;
	uint64_t id;
	int n = 0;

	(void)state;
	assert_int_equal(q_service_register(a, &mine), Q_OK);
	while (n < OTHERS && status == Q_OK) { /* until there are no more ops, and one less */
		const BrokerService s = { .name = name, .capability = can };

		snprintf(name, sizeof(name), "o%d", n);
		snprintf(can, sizeof(can), "op=a%d op=b%d op=c%d op=d%d", n, n, n, n);
		other[n] = client();
		status = q_service_register(other[n++], &s);
	}
	assert_int_equal(status, Q_ERR_FULL);
	larger.capability = "op=keep op=x1 op=x2 op=x3 op=x4";
	assert_int_equal(q_service_register(b, &larger), Q_ERR_FULL);
	id = submit(c, "keep", "x");
	echo_one(a);
	expect_reply(c, id, "x");
	assert_int_equal(q_service_register(b, &mine), Q_OK);
	while (n > 0)
		q_broker_close(other[--n]);
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	await_quiet();
}

/* ---- who dies -------------------------------------------------------------------------------- */

/* They are killed at the end of the tests, and with them: none outlives a test that has failed. */
static pid_t children[32];

/* @return as fork(); the child calls nothing of cmocka's, whose longjmp() would bring it here */
static pid_t fork_child(void)
{
	const pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
			_exit(1);
		return 0;
	}
	assert_true(pid > 0);
	for (unsigned i = 0; i < 32; i++) {
		if (children[i] == 0) {
			children[i] = pid;
			return pid;
		}
	}
	fail_msg("more children than there are places");
	return pid;
}

/* A process that takes requests and never answers; or, with `answers`, answers all. */
static pid_t start_worker(const char *name, const char *can, bool answers)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork_child();
	if (pid == 0) {
		const BrokerConfig cfg = { .endpoint = endpoint };
		const BrokerService s = {
			.name = name, .capability = can, .capacity = 128, .heartbeat_ms = 20
		};
		BrokerClient *c = q_broker_connect(&cfg);
		BrokerRequest q;

		if (c == NULL || q_service_register(c, &s) != Q_OK)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		while (q_service_recv(c, &q, UINT32_MAX) == Q_OK) {
			char copy[256];
			const size_t n = q.bytes;

			memcpy(copy, q.payload, n);
			if (answers && q_service_reply(c, &q, Q_REASON_OK, copy, n) != Q_OK)
				break;
		}
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void kill_child(pid_t pid)
{
	int status;

	for (unsigned i = 0; i < 32; i++)
		if (children[i] == pid)
			children[i] = 0;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* A hundred: half of them may run twice, and have keys by which one can tell how often they did. */
static void rt_4_what_a_killed_worker_had_goes_elsewhere_or_is_lost(void **state)
{
	enum { HALF = 50 };
	const pid_t pid = start_worker("mortal", "op=work", false);
	BrokerClient *c = client(), *other = client(), *heir;
	unsigned runs[HALF] = { 0 };
	BrokerServiceInfo info;
	uint64_t may[HALF], must[HALF];
	BrokerRequest q;
	char key[4];

	(void)state;
	for (int i = 0; i < HALF; i++) {
		BrokerCall call = { .service = "work", .timeout_ms = LONG_MS };

		assert_int_equal(q_broker_submit(other, &call, &must[i]), Q_OK);
		snprintf(key, sizeof(key), "k%02d", i);
		call.idempotent = true;
		call.key = key;
		call.key_bytes = 3;
		assert_int_equal(q_broker_submit(c, &call, &may[i]), Q_OK);
	}
	for (size_t n = 0; n != 1 || info.active != 2 * HALF;) /* it has them all */
		assert_int_equal(q_broker_discover(c, NULL, &info, 1, &n), Q_OK);
	heir = worker("heir", "op=work", 64);
	services_await_ready(endpoint, 2);
	kill_child(pid);
	for (int i = 0; i < HALF; i++)
		assert_true(expect_end(other, must[i], Q_ERR_LOST).may_have_run);
	for (int i = 0; i < HALF; i++) {
		assert_int_equal(q_service_recv(heir, &q, LONG_MS), Q_OK);
		assert_int_equal(q.key_bytes, 3);
		for (int k = 0; k < HALF; k++) {
			snprintf(key, sizeof(key), "k%02d", k);
			runs[k] += memcmp(q.key, key, 3) == 0;
		}
		assert_int_equal(q_service_reply(heir, &q, Q_REASON_OK, NULL, 0), Q_OK);
	}
	for (int i = 0; i < HALF; i++) {
		expect_end(c, may[i], Q_OK);
		assert_int_equal(runs[i], 1);
	}
	assert_int_equal(q_service_recv(heir, &q, 0), Q_ERR_TIMEOUT);
	q_broker_close(heir);
	q_broker_close(other);
	q_broker_close(c);
	await_quiet();
	expect_conservation();
}

/* The library has one service a connection; a program that speaks the protocol may have more. */
static void rt_4_a_death_is_one_failure_of_all_its_services(void **state)
{
	enum { SERVICES = 6 };
	BrokerClient *c, *w, *heir;
	uint64_t ids[SERVICES];
	BrokerRequest q;

	(void)state;
	restart_daemon("heartbeat_ms = 60000\n");
	c = client();
	w = worker("m0", "op=many", 1);
	for (int i = 1; i < SERVICES; i++) {
		const char name[] = { 'm', (char)('0' + i), '\0' };
		const BrokerService s = { .name = name, .capability = "op=many", .capacity = 1 };

		w->service[0] = '\0';
		assert_int_equal(q_service_register(w, &s), Q_OK);
	}
	for (int i = 0; i < SERVICES; i++) {
		const BrokerCall call = { .service = "many",
					  .timeout_ms = LONG_MS,
					  .idempotent = true };

		assert_int_equal(q_broker_submit(c, &call, &ids[i]), Q_OK);
	}
	for (int i = 0; i < SERVICES; i++)
		assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	heir = worker("heir", "op=many", SERVICES);
	q_broker_close(w);
	for (int i = 0; i < SERVICES; i++)
		echo_one(heir);
	for (int i = 0; i < SERVICES; i++)
		expect_end(c, ids[i], Q_OK);
	q_broker_close(heir);
	q_broker_close(c);
	await_quiet();
	expect_conservation();
	restart_daemon(NULL);
}

static void rt_what_one_worker_saw_may_have_run_whatever_the_next_says(void **state)
{
	const BrokerCall call = { .service = "work", .timeout_ms = LONG_MS, .idempotent = true };
	BrokerClient *c, *heir;
	BrokerServiceInfo info = { .active = 0 };
	BrokerRequest q;
	BrokerReply r;
	uint64_t id;
	pid_t pid;

	(void)state;
	restart_daemon("attempts = 2\n");
	pid = start_worker("mortal", "op=work", false);
	c = client();
	assert_int_equal(q_broker_submit(c, &call, &id), Q_OK);
	for (size_t n = 0; n != 1 || info.active != 1;)
		assert_int_equal(q_broker_discover(c, NULL, &info, 1, &n), Q_OK);
	heir = worker("heir", "op=work", 0);
	kill_child(pid);
	assert_int_equal(q_service_recv(heir, &q, LONG_MS), Q_OK);
	assert_int_equal(q_service_reply(heir, &q, Q_REASON_OVERLOADED, NULL, 0), Q_OK);
	r = expect_end(c, id, Q_ERR_FULL);
	assert_true(r.may_have_run);
	assert_false(r.may_retry);
	q_broker_close(heir);
	q_broker_close(c);
	await_quiet();
	restart_daemon(NULL);
}

static void r_1_a_killed_worker_is_gone_and_watchers_know(void **state)
{
	BrokerClient *watch = client();
	const pid_t pid = start_worker("mortal", NULL, false);
	BrokerServiceInfo info = { 0 };

	(void)state;
	while (strcmp(info.state, "ready") != 0)
		assert_int_equal(q_broker_watch(watch, &info, LONG_MS), Q_OK);
	kill_child(pid);
	while (strcmp(info.state, "gone") != 0)
		assert_int_equal(q_broker_watch(watch, &info, LONG_MS), Q_OK);
	assert_string_equal(info.name, "mortal");
	q_broker_close(watch);
	await_quiet();
}

static void r_2_a_stopped_worker_gets_nothing_until_it_lives_again(void **state)
{
	BrokerClient *watch = client(), *c = client();
	const pid_t pid = start_worker("sleeper", "op=nap", true);
	BrokerServiceInfo info = { 0 };
	BrokerReply r;

	(void)state;
	assert_int_equal(kill(pid, SIGSTOP), 0);
	while (strcmp(info.health, "unhealthy") != 0)
		assert_int_equal(q_broker_watch(watch, &info, LONG_MS), Q_OK);
	r = expect_end(c, submit(c, "nap", "x"), Q_ERR_FULL);
	assert_true(r.may_retry && r.retry_after_ms != 0);
	await_errors("service 'sleeper' is unhealthy: its heartbeats do not come", 1);
	assert_int_equal(kill(pid, SIGCONT), 0);
	while (strcmp(info.health, "healthy") != 0)
		assert_int_equal(q_broker_watch(watch, &info, LONG_MS), Q_OK);
	/* A machine that is busy may keep its heartbeats away once more. */
	while (q_broker_wait(c, submit(c, "nap", ""), NULL, &(size_t){ 0 }, &r, LONG_MS) != Q_OK)
		nap_ms(1);
	q_broker_close(watch);
	q_broker_close(c);
	kill_child(pid);
	await_quiet();
}

/* Until the only service there is has that health; its worker does something meanwhile. */
static void await_health(BrokerClient *c, const char *health, BrokerClient *w,
			 QueueStatus (*turn)(BrokerClient *w))
{
	BrokerServiceInfo info;
	size_t n;

	for (unsigned i = 0;; i++) {
		assert_int_equal(q_broker_discover(c, NULL, &info, 1, &n), Q_OK);
		assert_int_equal(n, 1);
		if (strcmp(info.health, health) == 0)
			return;
		if (i >= LONG_MS)
			fail_msg("it is %s, not %s", info.health, health);
		assert_int_equal(turn(w), Q_OK);
		nap_ms(1);
	}
}

static QueueStatus wait_for_nothing(BrokerClient *w)
{
	BrokerRequest q;

	return q_service_recv(w, &q, 0) == Q_ERR_TIMEOUT ? Q_OK : Q_ERR_FAILED;
}

static QueueStatus say_that_it_lives(BrokerClient *w)
{
	return q_service_heartbeat(w, NULL);
}

static QueueStatus say_nothing(BrokerClient *w)
{
	(void)w;
	return Q_OK;
}

static void r_2_a_worker_is_asked_whether_it_is_well(void **state)
{
	static const char said[] =
		"service 'asked' is unhealthy: it says so, or does not answer checks";
	BrokerClient *w, *c;
	uint64_t id;

	(void)state;
	restart_daemon("check_ms = 20\ncheck_timeout_ms = 60s\n");
	w = worker("asked", "op=ask", 0);
	c = client();
	await_health(c, "healthy", w, wait_for_nothing);
	assert_int_equal(q_service_set_health(w, false), Q_OK);
	await_health(c, "unhealthy", w, wait_for_nothing);
	expect_end(c, submit(c, "ask", "x"), Q_ERR_FULL);
	await_errors(said, 1);
	assert_int_equal(q_service_set_health(w, true), Q_OK);
	await_health(c, "healthy", w, say_that_it_lives);
	id = submit(c, "ask", "x");
	echo_one(w);
	expect_reply(c, id, "x");
	/* Whom nobody asks any more is as well as its heartbeats say. */
	assert_int_equal(q_service_set_health(w, false), Q_OK);
	await_health(c, "unhealthy", w, wait_for_nothing);
	write_config("check_ms = 0\n");
	assert_int_equal(kill(daemon_pid, SIGHUP), 0);
	await_health(c, "healthy", w, say_that_it_lives);
	q_broker_close(w);
	q_broker_close(c);
	/* One that says nothing is not well either, before its heartbeats are missed. */
	restart_daemon("check_ms = 50\ncheck_timeout_ms = 50\n");
	w = worker("asked", "op=ask", 0);
	c = client();
	await_health(c, "healthy", w, wait_for_nothing);
	await_health(c, "unhealthy", w, say_nothing);
	await_errors(said, 1);
	await_health(c, "healthy", w, say_that_it_lives);
	q_broker_close(w);
	q_broker_close(c);
	restart_daemon(NULL);
}

/* A check lies in the socket behind requests. */
static void r_2_a_worker_is_not_ill_because_it_is_busy(void **state)
{
	BrokerServiceInfo info;
	BrokerClient *w, *c;
	BrokerRequest q;
	uint64_t id;
	size_t n;

	(void)state;
	restart_daemon("check_ms = 20\ncheck_timeout_ms = 20\n");
	w = worker("busy", "op=work", 4);
	c = client();
	id = submit(c, "work", "x");
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	await_health(c, "healthy", w, say_nothing);
	for (int i = 0; i < 25; i++) { /* ten times as long as three checks take */
		nap_ms(20);
		assert_int_equal(q_broker_discover(c, NULL, &info, 1, &n), Q_OK);
		assert_string_equal(info.health, "healthy");
	}
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, "x", 1), Q_OK);
	expect_reply(c, id, "x");
	await_health(c, "unhealthy", w, say_nothing); /* it has nothing to do any more */
	await_health(c, "healthy", w, say_that_it_lives);
	q_broker_close(w);
	q_broker_close(c);
	restart_daemon(NULL);
}

/* Whoever attacks must not be able to push what has gone wrong before out of `gpuq errors`. */
static void many_refusals_of_a_kind_are_one_error(void **state)
{
	BrokerClient *c = client(), *w = worker("reads", "op=read", 1);
	BrokerExtent at = { 0 };
	const BrokerCall call = {
		.service = "read", .extent = &at, .bytes = 1, .timeout_ms = LONG_MS
	};
	BrokerRegion g;
	uint64_t id;

	(void)state;
	assert_int_equal(q_broker_region_create(c, 64, &g), Q_OK);
	memset(g.memory, 0, 64);
	assert_int_equal(q_broker_region_seal(c, g.id), Q_OK);
	at.region = g.id;
	for (uint64_t i = 0; i < 40; i++) {
		at.offset = 64 + i;
		assert_int_equal(q_broker_submit(c, &call, &id), Q_OK);
		expect_end(c, id, Q_ERR_INVALID_ARG);
	}
	await_errors("a request was refused: it names bytes outside of its region", 40);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
}

static void a_killed_caller_s_requests_are_cancelled(void **state)
{
	BrokerClient *w = worker("w", "op=slow", 1);
	const uint64_t cancelled = count("cancelled");
	const BrokerConfig cfg = { .endpoint = endpoint };
	const BrokerCall call = { .service = "slow", .timeout_ms = LONG_MS };
	const pid_t pid = fork_child();
	BrokerRequest q;

	(void)state;
	if (pid == 0) {
		BrokerClient *c = q_broker_connect(&cfg);
		uint64_t id;

		for (int i = 0; c != NULL && i < 5; i++)
			(void)q_broker_submit(c, &call, &id);
		for (;;)
			pause();
	}
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	await_count("inside", 5);
	kill_child(pid);
	await_count("inside", 0);
	assert_int_equal(count("cancelled"), cancelled + 5);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_OK); /* to nobody */
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

static void t_4_a_killed_daemon_ends_every_call(void **state)
{
	BrokerClient *w = worker("w", "op=slow", 1), *c = client();
	BrokerRequest q;
	uint64_t id;

	(void)state;
	id = submit(c, "slow", "x");
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	(void)end_daemon(SIGKILL);
	assert_int_equal(q_broker_wait(c, id, NULL, NULL, NULL, LONG_MS), Q_ERR_LOST);
	assert_int_equal(q_service_recv(w, &(BrokerRequest){ 0 }, LONG_MS), Q_ERR_LOST);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_ERR_LOST);
	assert_null(q.frame); /* nobody will ever take its answer, so it is free */
	q_broker_close(c);
	q_broker_close(w);
	start_daemon();
	await_quiet();
}

/* ---- time, cancelling, failing --------------------------------------------------------------- */

static void co_2_a_deadline_fires_while_the_worker_is_busy(void **state)
{
	BrokerClient *w = worker("w", "op=slow", 1), *c = client();
	const BrokerCall call = { .service = "slow", .timeout_ms = 30 };
	const uint64_t late = count("late");
	uint64_t running, waiting;
	BrokerRequest q;

	(void)state;
	assert_int_equal(q_broker_submit(c, &call, &running), Q_OK);
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	assert_int_equal(q_broker_submit(c, &call, &waiting), Q_OK);
	expect_end(c, running, Q_ERR_EXPIRED);
	expect_end(c, waiting, Q_ERR_EXPIRED);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_OK);
	await_count("late", late + 1);
	running = submit(c, "slow", "next"); /* the worker has room again */
	echo_one(w);
	expect_reply(c, running, "next");
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

static void a_request_is_cancelled_whether_it_waits_or_runs(void **state)
{
	BrokerClient *w = worker("w", "op=slow", 1), *c = client();
	uint64_t running, waiting;
	BrokerRequest q;

	(void)state;
	running = submit(c, "slow", "x");
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	waiting = submit(c, "slow", "y");
	assert_int_equal(q_broker_cancel(c, waiting), Q_OK);
	expect_end(c, waiting, Q_ERR_CANCELLED);
	assert_int_equal(q_broker_cancel(c, running), Q_OK);
	expect_end(c, running, Q_ERR_CANCELLED);
	assert_int_equal(q_broker_cancel(c, running), Q_ERR_NOT_FOUND);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_OK);
	running = submit(c, "slow", "z");
	echo_one(w);
	expect_reply(c, running, "z");
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

static void a_worker_that_answers_nothing_gets_no_more_than_one_does(void **state)
{
	enum { MANY = 64 };
	const BrokerService again = { .name = "w", .capability = "op=slow", .capacity = 200 };
	BrokerClient *w = worker("w", "op=slow", 200), *c = client();
	const uint64_t late = count("late");
	BrokerRequest q[MANY];
	uint64_t id[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++)
		id[i] = submit(c, "slow", "x");
	for (int i = 0; i < MANY; i++)
		assert_int_equal(q_service_recv(w, &q[i], LONG_MS), Q_OK);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(q_broker_cancel(c, id[i]), Q_OK);
		expect_end(c, id[i], Q_ERR_CANCELLED);
	}
	assert_int_equal(q_service_unregister(w), Q_OK);
	assert_int_equal(q_service_register(w, &again), Q_ERR_FULL); /* it has 64 */
	for (int i = 0; i < MANY; i++)
		assert_int_equal(q_service_reply(w, &q[i], Q_REASON_OK, NULL, 0), Q_OK);
	await_count("late", late + MANY);
	assert_int_equal(q_service_register(w, &again), Q_OK);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

static void expect_no_connection(const char *why)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };

	assert_null(q_broker_connect(&cfg));
	if (strstr(q_last_error(), why) == NULL)
		fail_msg("'%s' does not say '%s'", q_last_error(), why);
}

/* Until that many have connected, one after the other. @return whether that many could */
static bool come_and_go(unsigned n)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };

	for (unsigned i = 0; i < n; i++) {
		BrokerClient *c = q_broker_connect(&cfg);

		if (c == NULL)
			return false;
		q_broker_close(c);
	}
	return true;
}

static void a_user_that_connects_too_often_is_told_so(void **state)
{
	BrokerClient *c;
	char text[2048];
	size_t n = sizeof(text);

	(void)state;
	restart_daemon("uid_connect_rate = 1\nuid_connect_burst = 5\n");
	c = client();
	assert_true(come_and_go(4));
	assert_false(come_and_go(10000)); /* however slow this is, it is not 10 000 s */
	expect_no_connection("connects too often (uid_connect_rate, uid_connect_burst)");
	/* Who is there does not notice. */
	assert_int_equal(q_broker_stats(c, text, &n), Q_OK);
	assert_true(count_of(text, "connections_too_often") >= 2);
	assert_int_equal(count_of(text, "connections_refused"), 0);
	/* A reload ends it. */
	write_config("uid_connect_rate = 0\nuid_connect_burst = 5\n");
	assert_int_equal(kill(daemon_pid, SIGHUP), 0);
	for (unsigned i = 0; !come_and_go(50); i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	q_broker_close(c);
	restart_daemon(NULL);
}

/* Those that were let in, and those that were told that they come too often. */
static uint64_t arrivals(BrokerClient *c)
{
	char text[2048];
	size_t n = sizeof(text);

	assert_int_equal(q_broker_stats(c, text, &n), Q_OK);
	return count_of(text, "connections") + count_of(text, "connections_too_often");
}

static void who_gives_up_before_it_is_let_in_takes_nothing_from_the_others(void **state)
{
	enum { GIVE_UP = 40 };
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	BrokerClient *c, *more;
	uint64_t before, tries = 0;

	(void)state;
	restart_daemon("uid_connect_rate = 1\nuid_connect_burst = 5\n");
	c = client();
	assert_false(come_and_go(10000));
	before = arrivals(c);
	for (int i = 0; i < GIVE_UP; i++)
		close(raw());
	/* They wait in the order in which they came: those before this one have been looked at. */
	for (; (more = q_broker_connect(&cfg)) != NULL; tries++)
		q_broker_close(more);
	/* Some may have been let in before they gave up, where this is slow. */
	assert_true(arrivals(c) < before + GIVE_UP + tries + 1);
	q_broker_close(c);
	restart_daemon(NULL);
}

static void connections_are_bounded_for_a_user_and_for_all(void **state)
{
	BrokerClient *c[2];
	char text[2048];
	size_t n = sizeof(text);

	(void)state;
	restart_daemon("connections = 4\nuid_connections = 2\n");
	c[0] = client();
	c[1] = client();
	expect_no_connection("this user has too many connections (uid_connections)");
	assert_int_equal(q_broker_stats(c[0], text, &n), Q_OK);
	assert_int_equal(count_of(text, "connections_refused"), 1);
	q_broker_close(c[1]);
	q_broker_close(c[0]);
	restart_daemon("connections = 2\nuid_connections = 4\n");
	c[0] = client();
	c[1] = client();
	expect_no_connection("there are too many connections (connections)");
	q_broker_close(c[1]); /* its place is free once gpuqd has seen that */
	for (unsigned i = 0; !come_and_go(1); i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	q_broker_close(c[0]);
	restart_daemon(NULL);
}

static void a_user_has_its_share_of_what_may_wait(void **state)
{
	BrokerClient *w, *c;
	char text[2048];
	size_t n = sizeof(text);

	(void)state;
	restart_daemon("queued = 40\n");
	w = worker("w", "op=slow", 1);
	c = client();
	for (int i = 0; i < 64; i++) /* one runs, three quarters of 40 wait at most */
		(void)submit(c, "slow", "x");
	assert_int_equal(q_broker_stats(c, text, &n), Q_OK); /* it has heard all before that */
	assert_in_range(count_of(text, "refused"), 64 - 31, 63);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	restart_daemon(NULL);
}

static void cb_6_a_failing_worker_rests_and_comes_back(void **state)
{
	BrokerClient *w = worker("w", "op=bad", 1), *c = client();
	BrokerReply r;

	(void)state;
	for (int i = 0; i < 5; i++) {
		const uint64_t id = submit(c, "bad", "x");

		serve_one(w, Q_REASON_INTERNAL);
		expect_end(c, id, Q_ERR_FAILED);
	}
	r = expect_end(c, submit(c, "bad", "x"), Q_ERR_NOT_READY);
	assert_int_equal(r.reason, Q_REASON_BREAKER);
	assert_true(r.may_retry && r.retry_after_ms != 0);
	for (int good = 0; good < 6;) { /* after its rest a few are let through, and close it */
		const uint64_t id = submit(c, "bad", "x");
		BrokerRequest q;

		if (q_service_recv(w, &q, 20) == Q_OK)
			assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_OK);
		good += q_broker_wait(c, id, NULL, &(size_t){ 0 }, NULL, LONG_MS) == Q_OK;
	}
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

/* Takes and answers what there is, until one says `last`. */
static void serve_until(BrokerClient *w, const char *last)
{
	for (bool found = false; !found;) {
		BrokerRequest q;

		if (q_service_recv(w, &q, LONG_MS) != Q_OK)
			fail_msg("%s", q_last_error());
		found = q.bytes == strlen(last) && memcmp(q.payload, last, q.bytes) == 0;
		assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes), Q_OK);
	}
}

static void what_goes_wrong_is_kept_once_each(void **state)
{
	BrokerClient *w, *c;
	uint8_t out[256];
	size_t n;
	int fd;

	(void)state;
	restart_daemon("breaker_open_ms = 60000\n");
	w = worker("w1", "op=wrong", 0);
	c = client();
	for (int i = 0; i < 4; i++)
		expect_end(c, submit(c, "nobody", "x"), Q_ERR_NOT_FOUND);
	for (int i = 0; i < 5; i++) { /* the breaker opens */
		const uint64_t id = submit(c, "wrong", "x");

		serve_one(w, Q_REASON_INTERNAL);
		expect_end(c, id, Q_ERR_FAILED);
	}
	expect_end(c, submit(c, "wrong", "x"), Q_ERR_NOT_READY);
	fd = raw();
	n = hello(out, 1, 1);
	out[n - 1] ^= 1;
	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
	await_errors("a request was refused: no service of this name, or for this op", 4);
	await_errors("a request for 'wrong' has ended: internal error", 5);
	await_errors("a request for 'wrong' has ended: breaker open", 1);
	await_errors("service 'w1' rests: its requests fail (breaker)", 1);
	await_errors("a frame was refused: the checksum is wrong, or is there without its flag", 1);
	assert_int_equal(errors_of("a request for 'wrong' has ended: internal error"), 5);
	close(fd);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	restart_daemon(NULL);
}

static void cb_requests_without_time_say_nothing_of_a_worker(void **state)
{
	BrokerClient *w = worker("w", "op=fine", 0), *c = client();
	uint64_t id[8];

	(void)state;
	for (int i = 0; i < 8; i++) {
		const BrokerCall call = { .service = "fine", .timeout_ms = i < 4 ? 1 : 30 };

		assert_int_equal(q_broker_submit(c, &call, &id[i]), Q_OK);
	}
	for (int i = 0; i < 8; i++)
		expect_end(c, id[i], Q_ERR_EXPIRED);
	id[0] = submit(c, "fine", "last");
	serve_until(w, "last");
	expect_reply(c, id[0], "last");
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

/* Five requests open the breaker by their expiry, a sixth waits. @return how that ended */
static BrokerReply wait_beside_five_that_expire(unsigned round)
{
	const BrokerCall five = { .service = "hang", .timeout_ms = 1100 };
	const BrokerCall sixth = { .service = "hang", .timeout_ms = 1900 };
	char name[8];
	BrokerClient *w, *c = client();
	BrokerReply r = { 0 };
	uint64_t id[5], waits;

	snprintf(name, sizeof(name), "w%u", round);
	w = worker(name, "op=hang", 5);
	for (int i = 0; i < 5; i++) /* it has each for longer than heartbeat_ms */
		assert_int_equal(q_broker_submit(c, &five, &id[i]), Q_OK);
	assert_int_equal(q_broker_submit(c, &sixth, &waits), Q_OK);
	for (int i = 0; i < 5; i++)
		expect_end(c, id[i], Q_ERR_EXPIRED);
	(void)q_broker_wait(c, waits, NULL, &(size_t){ 0 }, &r, LONG_MS);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	return r;
}

/*
 * By gpuqd's own doing: nothing else wakes it before the sixth's time is over. The worker's second
 * heartbeat is missed after 2000 ms, and nobody says anything meanwhile. A machine that stands
 * still for 800 ms spoils a round.
 */
static void cb_who_waits_for_a_worker_hears_that_its_breaker_has_opened(void **state)
{
	BrokerReply r = { 0 };

	(void)state;
	restart_daemon("breaker_open_ms = 60000\n");
	for (unsigned round = 0; round < 10 && r.status != Q_ERR_NOT_READY; round++)
		r = wait_beside_five_that_expire(round);
	assert_int_equal(r.reason, Q_REASON_BREAKER);
	restart_daemon(NULL);
}

static void rt_a_request_that_a_worker_did_not_take_goes_to_another(void **state)
{
	BrokerClient *a = worker("a", "op=full", 1), *b = worker("b", "op=full", 1), *c = client();
	const uint64_t id = submit(c, "full", "x");
	BrokerRequest q;
	bool by_a = q_service_recv(a, &q, 200) == Q_OK;

	(void)state;
	if (!by_a)
		assert_int_equal(q_service_recv(b, &q, LONG_MS), Q_OK);
	assert_int_equal(q_service_reply(by_a ? a : b, &q, Q_REASON_OVERLOADED, NULL, 0), Q_OK);
	echo_one(by_a ? b : a);
	expect_reply(c, id, "x");
	q_broker_close(a);
	q_broker_close(b);
	q_broker_close(c);
	await_quiet();
}

/* A worker that takes none: what it is asked is at most 1.2 of what callers ask. */
static void rt_3_retries_are_never_the_load(void **state)
{
	enum { OFFERED = 150, AT_ONCE = 50 };
	BrokerClient *w = worker("w", "op=none", AT_ONCE), *c = client();
	const uint64_t retried = count("retried");
	unsigned asked = 0;

	(void)state;
	for (unsigned offered = 0; offered < OFFERED; offered += AT_ONCE) {
		for (unsigned i = 0; i < AT_ONCE; i++)
			(void)submit(c, "none", "x");
		for (unsigned ended = 0; ended < AT_ONCE;) {
			BrokerReply r = { 0 };
			BrokerRequest q;

			if (q_service_recv(w, &q, 1) == Q_OK) {
				assert_int_equal(
					q_service_reply(w, &q, Q_REASON_OVERLOADED, NULL, 0), Q_OK);
				asked++;
			}
			(void)q_broker_wait(c, 0, NULL, &(size_t){ 0 }, &r, 0);
			if (r.id == 0)
				continue;
			assert_int_equal(r.reason, Q_REASON_OVERLOADED);
			ended++;
		}
	}
	assert_in_range(asked, OFFERED + 1, OFFERED / 10 * 12);
	assert_int_equal(count("retried"), retried + asked - OFFERED);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

/* ---- peers that lie -------------------------------------------------------------------------- */

/* The next frame; false: the connection has ended. */
static bool hear(int fd, enum gq_frame_state at, uint8_t bytes[4096], struct gq_frame *f)
{
	const struct gq_frame_rules rules = { .receiver = GQ_FRAME_AT_PEER, .state = at };
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	ssize_t n;

	assert_int_equal(poll(&ready, 1, (int)LONG_MS), 1);
	n = recv(fd, bytes, 4096, 0);
	if (n <= 0)
		return false;
	assert_int_equal(gq__frame_decode(bytes, (size_t)n, &rules, f), GQ_FRAME_OK);
	return true;
}

static void p_5_another_version_and_an_unknown_type_are_told(void **state)
{
	uint8_t out[256], in[4096];
	struct gq_frame f = { 0 };
	size_t n;
	int fd = raw();

	(void)state;
	n = hello(out, 2, 2);
	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
	assert_true(hear(fd, GQ_FRAME_BEFORE_HELLO, in, &f));
	assert_int_equal(f.type, GQ_MESSAGE_NACK);
	assert_int_equal(gq__frame_u32(&f, GQ_TLV_MISMATCH, 0), 1);
	assert_int_equal(gq__frame_u32(&f, GQ_TLV_MISMATCH, 1), 2);
	assert_false(hear(fd, GQ_FRAME_BEFORE_HELLO, in, &f));
	close(fd);
	fd = raw();
	n = hello(out, 1, 7);
	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
	assert_true(hear(fd, GQ_FRAME_BEFORE_HELLO, in, &f));
	assert_int_equal(f.type, GQ_MESSAGE_HELLO);
	f = (struct gq_frame){ .type = GQ_MESSAGE_STATS, .correlation = 9 };
	assert_int_equal(gq__frame_encode(&f, out, 256, &n), GQ_FRAME_OK);
	out[GQ_WIRE_AT_TYPE + 1] = 0x7f; /* no such type */
	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
	assert_true(hear(fd, GQ_FRAME_AFTER_HELLO, in, &f));
	assert_int_equal(f.type, GQ_MESSAGE_NACK);
	assert_int_equal(f.correlation, 9);
	assert_int_equal(gq__frame_u32(&f, GQ_TLV_STATUS, 0), GQ_WIRE_UNSUPPORTED);
	out[GQ_WIRE_AT_TYPE + 1] = GQ_MESSAGE_STATS >> 8;
	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
	assert_true(hear(fd, GQ_FRAME_AFTER_HELLO, in, &f));
	assert_int_equal(f.type, GQ_MESSAGE_STATS);
	close(fd);
}

/* A frame of a connection that has said hello, without a checksum. `more`: a TLV of a later version
 * behind its own, which nobody needs to understand. */
static void throw_frame(int fd, const struct gq_frame *f, bool more)
{
	const uint16_t unknown = 1000;
	uint8_t out[512] = { 0 };
	uint32_t length;
	size_t n;

	assert_int_equal(gq__frame_encode(f, out, 256, &n), GQ_FRAME_OK);
	if (more) {
		memcpy(out + n, &unknown, sizeof(unknown)); /* of no bytes */
		n += 8;
		length = (uint32_t)n;
		memcpy(out + GQ_WIRE_AT_LENGTH, &length, sizeof(length));
	}
	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
}

static int greeted(bool more)
{
	const uint32_t versions[2] = { 1, 1 };
	struct gq_frame f = { .type = GQ_MESSAGE_HELLO, .correlation = 1 };
	uint8_t in[4096];
	const int fd = raw();

	gq__frame_set(&f, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	throw_frame(fd, &f, more);
	assert_true(hear(fd, GQ_FRAME_BEFORE_HELLO, in, &f));
	assert_int_equal(f.type, GQ_MESSAGE_HELLO);
	return fd;
}

static struct gq_frame request_of(const char *op, uint64_t correlation)
{
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .correlation = correlation };

	gq__frame_set(&f, GQ_TLV_NAME, false, op, strlen(op));
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "x", 1);
	return f;
}

/* The end of request 7. */
static void expect_response(int fd, uint32_t status, const char *payload)
{
	struct gq_frame f;
	uint8_t in[4096];

	assert_true(hear(fd, GQ_FRAME_AFTER_HELLO, in, &f));
	assert_int_equal(f.type, GQ_MESSAGE_RESPONSE);
	assert_int_equal(f.correlation, 7);
	assert_int_equal(gq__frame_u32(&f, GQ_TLV_STATUS, 0), status);
	assert_int_equal(gq_frame_has(&f, GQ_TLV_PAYLOAD) ? f.tlv[GQ_TLV_PAYLOAD].bytes : 0,
			 strlen(payload));
	if (payload[0] != '\0')
		assert_memory_equal(f.tlv[GQ_TLV_PAYLOAD].data, payload, strlen(payload));
}

static void p_6_a_peer_that_says_more_than_gpuqd_knows_is_served(void **state)
{
	BrokerClient *w = worker("w", "op=later", 1);
	struct gq_frame f = request_of("later", 7);
	const int fd = greeted(true);

	(void)state;
	throw_frame(fd, &f, true);
	echo_one(w);
	expect_response(fd, GQ_WIRE_SUCCESS, "x");
	close(fd);
	q_broker_close(w);
	await_quiet();
}

/* What one needs is read when all else is well: to read it costs gpuqd more than to refuse. */
static void what_comes_beyond_the_window_is_not_read(void **state)
{
	struct gq_frame f = request_of("full", 7);
	BrokerClient *w;
	BrokerRequest q;
	uint8_t in[4096];
	int fd;

	(void)state;
	restart_daemon("window = 1\n");
	w = worker("w", "op=full", 2);
	fd = greeted(false);
	throw_frame(fd, &f, false);
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	f = request_of("full", 8);
	gq__frame_set(&f, GQ_TLV_FILTER, true, "nonsense", 8);
	throw_frame(fd, &f, false);
	assert_true(hear(fd, GQ_FRAME_AFTER_HELLO, in, &f));
	assert_int_equal(f.correlation, 8);
	assert_int_equal(gq__frame_u32(&f, GQ_TLV_STATUS, 0), GQ_WIRE_OVERLOADED);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, "x", 1), Q_OK);
	expect_response(fd, GQ_WIRE_SUCCESS, "x");
	close(fd);
	q_broker_close(w);
	await_quiet();
	restart_daemon(NULL);
}

static void co_4_a_correlation_that_is_used_again_is_another_request(void **state)
{
	const uint64_t target = 7;
	BrokerClient *w = worker("w", "op=again", 2);
	struct gq_frame f = request_of("again", 7),
			cancel = { .type = GQ_MESSAGE_CANCEL, .correlation = 8 };
	const int fd = greeted(false);
	BrokerRequest first, second;

	(void)state;
	gq__frame_set(&cancel, GQ_TLV_TARGET, false, &target, sizeof(target));
	throw_frame(fd, &f, false);
	assert_int_equal(q_service_recv(w, &first, LONG_MS), Q_OK);
	throw_frame(fd, &f, false); /* while the first has not ended */
	expect_response(fd, GQ_WIRE_INVALID, "");
	throw_frame(fd, &cancel, false);
	expect_response(fd, GQ_WIRE_CANCELLED, "");
	throw_frame(fd, &f, false); /* now there is none of this number */
	assert_int_equal(q_service_recv(w, &second, LONG_MS), Q_OK);
	assert_int_equal(q_service_reply(w, &first, Q_REASON_OK, "old", 3), Q_OK);
	assert_int_equal(q_service_reply(w, &second, Q_REASON_OK, "new", 3), Q_OK);
	expect_response(fd, GQ_WIRE_SUCCESS, "new");
	close(fd);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

enum { LIARS = 100 };

/* Sends it once; who has been disconnected for what it sent comes again. */
static void lie(int *fd, const uint8_t *greeting, size_t bytes, const uint8_t *noise, size_t n)
{
	if (*fd < 0) {
		*fd = raw();
		(void)!sendto(*fd, greeting, bytes, MSG_NOSIGNAL, NULL, 0);
	}
	if (sendto(*fd, noise, n, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0) < 0 && errno == EPIPE) {
		close(*fd);
		*fd = -1;
	}
}

static void se_5_peers_that_send_nonsense_or_never_read_harm_only_themselves(void **state)
{
	struct gq_frame ask = { .type = GQ_MESSAGE_STATS, .correlation = 5 };
	uint8_t out[256], question[256], noise[512];
	int deaf, fd[LIARS];
	BrokerClient *w, *c;
	uint32_t seed = 1;
	size_t n = hello(out, 1, 1), m;

	(void)state;
	restart_daemon("uid_connections = 256\n"); /* they are there at the same time */
	w = worker("w", "op=echo", 0);
	c = client();
	deaf = raw();
	assert_int_equal(gq__frame_encode(&ask, question, 256, &m), GQ_FRAME_OK);
	assert_int_equal(sendto(deaf, out, n, 0, NULL, 0), n);
	/* Until gpuqd does not listen to it any more, or it has asked often enough. */
	for (int i = 0; i < 20000; i++)
		if (sendto(deaf, question, m, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) < 0)
			break;
	memset(fd, 0xff, sizeof(fd));
	for (int k = 0; k < 20; k++) {
		const uint64_t id = submit(c, "echo", "well");

		for (int i = 0; i < LIARS; i++) {
			for (size_t j = 0; j < sizeof(noise); j++)
				noise[j] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
			if ((i + k) % 2 == 0) { /* a header that looks right */
				memcpy(noise, question, GQ_WIRE_HEADER_BYTES);
				noise[GQ_WIRE_AT_LENGTH + 1] = 2;
			}
			lie(&fd[i], out, i % 4 < 2 ? n : 0, noise, sizeof(noise));
		}
		echo_one(w);
		expect_reply(c, id, "well");
	}
	for (int i = 0; i < LIARS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	close(deaf);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	assert_true(count("bad_frames") > LIARS);
	expect_conservation();
	restart_daemon(NULL);
}

/* What gpuqd has used of the processors, in 1/100 s. */
static unsigned long used_ticks(void)
{
	char path[64], line[1024];
	unsigned long user = 0, system = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)daemon_pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	assert_int_equal(sscanf(strrchr(line, ')'),
				") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
				"%lu %lu",
				&user, &system),
			 2);
	return user + system;
}

/* Their time is a microsecond, and gpuqd reads several before it hands out the first. */
static void co_what_has_expired_goes_to_no_worker(void **state)
{
	enum { MANY = 50 };
	const uint64_t microsecond = 1;
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .flags = GQ_FLAG_CHECKSUM };
	BrokerClient *w = worker("w", "op=one", 64), *c = client();
	const uint64_t before = count("accepted");
	const int fd = raw();
	uint8_t out[256];
	size_t n = hello(out, 1, 1);
	unsigned handed_out = 0;
	uint64_t last;
	BrokerRequest q;

	(void)state;
	gq__frame_set(&f, GQ_TLV_NAME, false, "one", 3);
	gq__frame_set(&f, GQ_TLV_TIMEOUT, false, &microsecond, sizeof(microsecond));
	assert_int_equal(sendto(fd, out, n, MSG_NOSIGNAL, NULL, 0), n);
	for (f.correlation = 1; f.correlation <= MANY; f.correlation++) {
		assert_int_equal(gq__frame_encode(&f, out, sizeof(out), &n), GQ_FRAME_OK);
		assert_int_equal(sendto(fd, out, n, MSG_NOSIGNAL, NULL, 0), n);
	}
	await_count("accepted", before + MANY);
	last = submit(c, "one", "last");
	for (;; handed_out++) {
		assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
		if (q.bytes == 4)
			break;
		assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_OK);
	}
	assert_in_range(handed_out, 0, MANY - 1);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes), Q_OK);
	expect_reply(c, last, "last");
	close(fd);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	expect_conservation();
}

/* A peer that gpuqd has given its last words, which it does not read. */
static int refused_and_deaf(const uint8_t *question, size_t bytes)
{
	const uint64_t before = count("bad_frames");
	static const uint8_t nonsense[64];
	uint8_t out[256];
	const size_t n = hello(out, 1, 1);
	const int fd = raw();

	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
	/* More answers than a socket takes, fewer than make gpuqd deaf. */
	for (int i = 0; i < 400; i++)
		assert_int_equal(sendto(fd, question, bytes, MSG_NOSIGNAL, NULL, 0), bytes);
	assert_int_equal(sendto(fd, nonsense, sizeof(nonsense), MSG_NOSIGNAL, NULL, 0),
			 sizeof(nonsense));
	await_count("bad_frames", before + 1);
	return fd;
}

static void se_peers_that_are_not_heard_any_more_cost_no_time(void **state)
{
	struct gq_frame ask = { .type = GQ_MESSAGE_STATS, .correlation = 5 };
	uint8_t out[256], question[256];
	size_t n = hello(out, 1, 1), m;
	const int deaf = raw();
	struct pollfd room = { .fd = deaf, .events = POLLOUT };
	unsigned long before;
	int refused;

	(void)state;
	assert_int_equal(gq__frame_encode(&ask, question, 256, &m), GQ_FRAME_OK);
	refused = refused_and_deaf(question, m);
	assert_int_equal(shutdown(refused, SHUT_WR), 0);
	assert_int_equal(sendto(deaf, out, n, 0, NULL, 0), n);
	/* Until gpuqd does not listen to it: it has not taken anything for a while. */
	while (poll(&room, 1, 500) == 1)
		(void)!sendto(deaf, question, m, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	assert_int_equal(shutdown(deaf, SHUT_WR), 0);
	before = used_ticks();
	nap_ms(500);
	assert_true(used_ticks() - before < 15);
	close(refused);
	close(deaf);
	await_quiet();
}

static void a_path_where_there_is_no_socket_is_left_alone(void **state)
{
	const pid_t pid = fork();
	int status = 0;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		execl(daemon_program(), "gpuqd", "--services", config_path, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_int_equal(access(config_path, F_OK), 0);
}

/* ---- everything at once ---------------------------------------------------------------------- */

static pid_t start_caller(unsigned seed)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	const pid_t pid = fork_child();
	QueueStatus status = Q_OK;
	BrokerClient *c;

	if (pid != 0)
		return pid;
	c = q_broker_connect(&cfg);
	if (c == NULL)
		_exit(1);
	while (status != Q_ERR_LOST) {
		const BrokerCall call = { .service = "chaos",
					  .payload = "x",
					  .bytes = 1,
					  .timeout_ms = 1 + seed % 50,
					  .idempotent = seed % 3 == 0 };
		char reply[8];
		size_t n = sizeof(reply);
		uint64_t id;

		seed = seed * 1664525 + 1013904223;
		status = q_broker_submit(c, &call, &id);
		if (status == Q_OK && seed >> 24 < 20)
			(void)q_broker_cancel(c, id);
		for (BrokerReply r = { .id = 1 }; seed >> 24 > 60 && r.id != 0;) {
			n = sizeof(reply);
			r.reason = 0;
			status = q_broker_wait(c, 0, reply, &n, &r, 1000);
			/* A request that was lost is not a gpuqd that is. */
			if (status == Q_ERR_LOST && r.reason != Q_REASON_LOST)
				_exit(0);
			status = Q_OK;
		}
	}
	_exit(0);
}

static void rg_6_whoever_is_killed_nothing_is_lost_count_of(void **state)
{
	enum { CALLERS = 3, WORKERS = 3, KILLS = 60 };
	pid_t callers[CALLERS], workers[WORKERS];
	char name[8];

	(void)state;
	for (unsigned i = 0; i < WORKERS; i++) {
		snprintf(name, sizeof(name), "w%u", i);
		workers[i] = start_worker(name, "op=chaos", true);
	}
	for (unsigned i = 0; i < CALLERS; i++)
		callers[i] = start_caller(i + 1);
	for (unsigned i = 0; i < KILLS; i++) {
		const unsigned who = i % WORKERS;

		nap_ms(10);
		if (i % 2 == 0) {
			kill_child(callers[who]);
			callers[who] = start_caller(i + 100);
			continue;
		}
		kill_child(workers[who]);
		snprintf(name, sizeof(name), "v%u", i);
		workers[who] = start_worker(name, "op=chaos", i % 5 != 0);
	}
	expect_conservation();
	for (unsigned i = 0; i < CALLERS; i++)
		kill_child(callers[i]);
	for (unsigned i = 0; i < WORKERS; i++)
		kill_child(workers[i]);
	await_quiet();
	expect_conservation();
	assert_true(count("ok") > 0);
}

/* ---- the end of gpuqd, and races ------------------------------------------------------------- */

/* In another thread, as it waits for the request that this one is to answer. */
static void *submit_late(void *arg)
{
	BrokerClient *c = arg;
	const BrokerCall call = { .service = "end", .timeout_ms = LONG_MS };
	static QueueStatus status;
	uint64_t id;

	do {
		size_t n = 0;

		status = q_broker_submit(c, &call, &id);
		if (status == Q_OK)
			status = q_broker_wait(c, id, NULL, &n, NULL, LONG_MS);
	} while (status == Q_OK);
	return &status;
}

/* What it has accepted ends well, waiting or running; what comes then is told so at once. */
static void co_a_gpuqd_told_to_end_finishes_what_it_has_accepted(void **state)
{
	BrokerClient *w = worker("w", "op=end", 1), *c = client(), *late = client();
	const uint64_t accepted = count("accepted");
	BrokerRequest q;
	pthread_t thread;
	void *status;
	uint64_t id[3];
	int how;

	(void)state;
	for (int i = 0; i < 3; i++)
		id[i] = submit(c, "end", "x");
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	await_count("accepted", accepted + 3); /* what it has not read by then is refused */
	assert_int_equal(kill(daemon_pid, SIGTERM), 0);
	/* Until it drains, that thread's requests are accepted; then one is refused. */
	assert_int_equal(pthread_create(&thread, NULL, submit_late, late), 0);
	assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes), Q_OK);
	while (q_service_recv(w, &q, LONG_MS) == Q_OK)
		assert_int_equal(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes), Q_OK);
	for (int i = 0; i < 3; i++)
		expect_reply(c, id[i], "x");
	assert_int_equal(pthread_join(thread, &status), 0);
	assert_true(*(QueueStatus *)status == Q_ERR_SHUTDOWN ||
		    *(QueueStatus *)status == Q_ERR_LOST);
	assert_int_equal(waitpid(daemon_pid, &how, 0), daemon_pid);
	assert_int_equal(how, 0);
	q_broker_close(c);
	q_broker_close(late);
	q_broker_close(w);
	start_daemon();
}

/* A worker that never answers holds the end up for drain_ms and no longer. */
static void co_a_drain_ends_when_its_time_is_over(void **state)
{
	BrokerClient *w, *c;
	BrokerRequest q;
	BrokerReply r;
	uint64_t id;

	(void)state;
	restart_daemon("drain_ms = 50\n");
	w = worker("w", "op=never", 1);
	c = client();
	id = submit(c, "never", "x");
	assert_int_equal(q_service_recv(w, &q, LONG_MS), Q_OK);
	assert_int_equal(end_daemon(SIGTERM), 0);
	/* Too late for anybody, but then the request's memory is free. */
	assert_int_not_equal(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_OK);
	r = expect_end(c, id, Q_ERR_SHUTDOWN);
	assert_int_equal(r.reason, Q_REASON_SHUTDOWN);
	q_broker_close(c);
	q_broker_close(w);
	more_config = "breaker_open_ms = 200\n";
	start_daemon();
}

static uint32_t races_over;

static void *answer_all(void *arg)
{
	BrokerRequest q;

	while (__atomic_load_n(&races_over, __ATOMIC_SEQ_CST) == 0)
		if (q_service_recv(arg, &q, 10) == Q_OK)
			(void)q_service_reply(arg, &q, Q_REASON_OK, NULL, 0);
	return NULL;
}

/* The reply of the worker and the caller's order cross on their way. */
static void co_3_a_cancel_and_a_reply_that_cross_end_a_request_once(void **state)
{
	/* By hand: GPUQ_TEST_CROSSINGS=1000000. */
	const char *many = getenv("GPUQ_TEST_CROSSINGS");
	const unsigned most = many != NULL ? (unsigned)strtoul(many, NULL, 10)
			      : getenv("GPUQ_TEST_SHORT") != NULL ? 1000
								  : 5000;
	uint64_t accepted, ok, cancelled;
	BrokerClient *w, *c;
	pthread_t thread;

	(void)state;
	/* A worker that gets no CPU for three seconds would be unhealthy otherwise. */
	restart_daemon("heartbeat_ms = 60000\n");
	w = worker("w", "op=race", 8);
	c = client();
	accepted = count("accepted");
	ok = count("ok");
	cancelled = count("cancelled");
	races_over = 0;
	assert_int_equal(pthread_create(&thread, NULL, answer_all, w), 0);
	for (unsigned i = 0; i < most; i++) {
		const uint64_t id = submit(c, "race", "x");
		QueueStatus told, status;
		size_t n = 0;

		for (unsigned spin = 0; spin < i % 64 * 100; spin++)
			__asm__ volatile("" ::: "memory");
		told = q_broker_cancel(c, id);
		assert_true(told == Q_OK || told == Q_ERR_NOT_FOUND);
		status = q_broker_wait(c, id, NULL, &n, NULL, LONG_MS);
		if (status != Q_OK && status != Q_ERR_CANCELLED)
			fail_msg("%s: %s", q_status_string(status), q_last_error());
		ok += status == Q_OK;
		cancelled += status == Q_ERR_CANCELLED;
		assert_int_equal(q_broker_wait(c, id, NULL, &n, NULL, 0), Q_ERR_NOT_FOUND);
	}
	__atomic_store_n(&races_over, 1, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_join(thread, NULL), 0);
	q_broker_close(c);
	q_broker_close(w);
	await_quiet();
	assert_int_equal(count("accepted"), accepted + most);
	assert_int_equal(count("ok"), ok); /* what callers were told is what was counted */
	assert_int_equal(count("cancelled"), cancelled);
	expect_conservation();
	restart_daemon(NULL);
}

static int tear_down(void **state)
{
	static const char *const left[] = { "s", "s.lock", "c", "c.lock" };
	char path[80];

	(void)state;
	for (unsigned i = 0; i < 32; i++)
		if (children[i] != 0)
			kill_child(children[i]);
	assert_int_equal(end_daemon(SIGTERM), 0);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, left[i]);
		unlink(path);
	}
	return rmdir(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_goes_to_a_worker_and_its_reply_comes_back),
		cmocka_unit_test(co_4_an_id_that_is_in_use_is_refused),
		cmocka_unit_test(lb_1_workers_of_an_op_take_turns),
		cmocka_unit_test(st_1_a_session_stays_with_its_worker),
		cmocka_unit_test(st_a_session_whose_worker_is_full_for_a_while_comes_back_to_it),
		cmocka_unit_test(r_3_an_older_generation_can_say_nothing),
		cmocka_unit_test(r_4_a_watcher_s_table_is_the_daemon_s),
		cmocka_unit_test(r_5_a_filter_finds_those_that_meet_it),
		cmocka_unit_test(rt_4_what_a_killed_worker_had_goes_elsewhere_or_is_lost),
		cmocka_unit_test(rt_4_a_death_is_one_failure_of_all_its_services),
		cmocka_unit_test(rt_what_one_worker_saw_may_have_run_whatever_the_next_says),
		cmocka_unit_test(r_1_a_killed_worker_is_gone_and_watchers_know),
		cmocka_unit_test(r_2_a_stopped_worker_gets_nothing_until_it_lives_again),
		cmocka_unit_test(r_2_a_worker_is_asked_whether_it_is_well),
		cmocka_unit_test(r_2_a_worker_is_not_ill_because_it_is_busy),
		cmocka_unit_test(many_refusals_of_a_kind_are_one_error),
		cmocka_unit_test(a_killed_caller_s_requests_are_cancelled),
		cmocka_unit_test(t_4_a_killed_daemon_ends_every_call),
		cmocka_unit_test(co_2_a_deadline_fires_while_the_worker_is_busy),
		cmocka_unit_test(co_what_has_expired_goes_to_no_worker),
		cmocka_unit_test(co_3_a_cancel_and_a_reply_that_cross_end_a_request_once),
		cmocka_unit_test(co_a_gpuqd_told_to_end_finishes_what_it_has_accepted),
		cmocka_unit_test(co_a_drain_ends_when_its_time_is_over),
		cmocka_unit_test(a_request_is_cancelled_whether_it_waits_or_runs),
		cmocka_unit_test(r_who_is_refused_takes_nothing_over),
		cmocka_unit_test(a_worker_that_answers_nothing_gets_no_more_than_one_does),
		cmocka_unit_test(a_user_that_connects_too_often_is_told_so),
		cmocka_unit_test(who_gives_up_before_it_is_let_in_takes_nothing_from_the_others),
		cmocka_unit_test(connections_are_bounded_for_a_user_and_for_all),
		cmocka_unit_test(a_user_has_its_share_of_what_may_wait),
		cmocka_unit_test(cb_6_a_failing_worker_rests_and_comes_back),
		cmocka_unit_test(what_goes_wrong_is_kept_once_each),
		cmocka_unit_test(cb_requests_without_time_say_nothing_of_a_worker),
		cmocka_unit_test(cb_who_waits_for_a_worker_hears_that_its_breaker_has_opened),
		cmocka_unit_test(rt_a_request_that_a_worker_did_not_take_goes_to_another),
		cmocka_unit_test(rt_3_retries_are_never_the_load),
		cmocka_unit_test(p_5_another_version_and_an_unknown_type_are_told),
		cmocka_unit_test(p_6_a_peer_that_says_more_than_gpuqd_knows_is_served),
		cmocka_unit_test(co_4_a_correlation_that_is_used_again_is_another_request),
		cmocka_unit_test(what_comes_beyond_the_window_is_not_read),
		cmocka_unit_test(se_5_peers_that_send_nonsense_or_never_read_harm_only_themselves),
		cmocka_unit_test(se_peers_that_are_not_heard_any_more_cost_no_time),
		cmocka_unit_test(a_path_where_there_is_no_socket_is_left_alone),
		cmocka_unit_test(rg_6_whoever_is_killed_nothing_is_lost_count_of),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	mallopt(M_PERTURB, 0xa5); /* what is freed says nothing any more */
	return cmocka_run_group_tests_name("service", tests, set_up, tear_down);
}
