/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_away.c - descriptors that gpuqd has sent and that nobody takes out of the sockets:
 * how many a user can have there, and that nobody else is short of them. gpuqd is a process of its
 * own, which has RLIMIT_NOFILE for all that are on their way: as any user but root. The attackers
 * are children of another user.
 */
/* The tests have names of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "callers.h"
#include "daemon.h"
#include "support.h"

#include "broker/policy/frame.h"
/* The two protocols have names in common. */
#undef GQ_WIRE_MAGIC
#undef GQ_WIRE_VERSION
#include "device/remote/wire.h"

#include <gpuq/broker.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STRANGER = 65534, ENDS = 100, SIZE = 4096 };

static struct daemon d;

static void begin_with_descriptors(rlim_t most, const char *keys, const char *services)
{
	char words[1024];
	struct rlimit limit, less;

	snprintf(words, sizeof(words), "socket_mode = 0666\nheartbeat_ms = 60s\n%s", services);
	daemon_set_up(&d, keys, words);
	assert_int_equal(chmod(d.folder, 0755), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	less = (struct rlimit){ .rlim_cur = most, .rlim_max = limit.rlim_max };
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &less, NULL), 0);
}

static BrokerClient *client(void)
{
	return connect_to_services(d.broker);
}

static BrokerClient *worker(const char *name, const char *can, uint32_t capacity)
{
	const BrokerService s = { .name = name, .capability = can, .capacity = capacity };

	return connect_worker(d.broker, &s);
}

static uint64_t count(const char *name)
{
	return services_count(d.broker, name);
}

static BrokerRegion sealed(BrokerClient *c)
{
	BrokerRegion g;

	if (q_broker_region_create(c, SIZE, &g) != Q_OK)
		fail_msg("%s", q_last_error());
	memset(g.memory, 5, SIZE);
	assert_status(q_broker_region_seal(c, g.id), Q_OK);
	return g;
}

static uint64_t submit(BrokerClient *c, const char *op, const BrokerRegion *g)
{
	const BrokerExtent at = { g != NULL ? g->id : 0, 0 };
	const BrokerCall call = { .service = op,
				  .extent = g != NULL ? &at : NULL,
				  .bytes = g != NULL ? SIZE : 0,
				  .timeout_ms = LONG_MS };
	uint64_t id = 0;

	if (q_broker_submit(c, &call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

static void answer_one(BrokerClient *w)
{
	BrokerRequest q;

	if (q_service_recv(w, &q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	assert_status(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_OK);
}

/* ---- attackers ------------------------------------------------------------------------------- */

/* Two pipes: the child says that it has done its worst, and is told to read what it has got. */
struct attack {
	pid_t pid;
	int done, go_on;
};

/* In the child, in place of an assertion: its exit code must be no count. */
#define NEED(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "attacker, line %d: %s\n", __LINE__, strerror(errno));     \
			_exit(255);                                                                \
		}                                                                                  \
	} while (0)

static int connect_raw(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	NEED(fd >= 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	NEED(connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0);
	return fd;
}

/* A connection that has said hello. Where gpuqd has refused it, nothing comes of it. */
static int greet_raw(void)
{
	const int fd = connect_raw(d.services);
	const uint32_t versions[2] = { 1, 1 };
	const uint64_t features = GQ_FEATURE_REGIONS;
	struct gq_frame hello = { .type = GQ_MESSAGE_HELLO, .correlation = 1 };
	uint8_t out[256];
	size_t n;

	gq__frame_set(&hello, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	gq__frame_set(&hello, GQ_TLV_FEATURES, false, &features, sizeof(features));
	NEED(gq__frame_encode(&hello, out, sizeof(out), &n) == GQ_FRAME_OK);
	(void)sendto(fd, out, n, MSG_NOSIGNAL, NULL, 0);
	return fd;
}

static void ask_for(int fd, uint64_t regions)
{
	const uint32_t action = 1;
	const uint64_t bytes = SIZE;
	struct gq_frame f = { .type = GQ_MESSAGE_REGION };
	uint8_t out[256];
	size_t n;

	gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
	gq__frame_set(&f, GQ_TLV_SIZE, false, &bytes, sizeof(bytes));
	for (uint64_t i = 0; i < regions; i++) {
		f.correlation = i + 2;
		NEED(gq__frame_encode(&f, out, sizeof(out), &n) == GQ_FRAME_OK);
		(void)sendto(fd, out, n, MSG_NOSIGNAL, NULL, 0);
	}
}

/* Sixty-four regions, of which it takes none. */
static int ask_for_regions(void)
{
	const int fd = greet_raw();

	ask_for(fd, 64);
	(void)shutdown(fd, SHUT_WR);
	return fd;
}

/* A client of a queue that takes neither its memory nor its bell. */
static int ask_for_queue(void)
{
	const int fd = connect_raw(d.socket);
	struct gq_wire_hello hello = { .head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(hello)),
				       .capacity = 64,
				       .slot_bytes = 64,
				       .result_bytes = 64,
				       .start_pos = 64,
				       .queue = "default" };
	struct pollfd at = { .fd = fd, .events = POLLIN };

	(void)sendto(fd, &hello, sizeof(hello), MSG_NOSIGNAL, NULL, 0);
	NEED(poll(&at, 1, LONG_MS) == 1);
	(void)shutdown(fd, SHUT_WR);
	return fd;
}

/* One message. @return how many descriptors lay in it; -1: there are no more messages */
static int read_one(int fd)
{
	static uint8_t in[1 << 16];
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec io = { .iov_base = in, .iov_len = sizeof(in) };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	size_t held;
	ssize_t n;

	do
		n = recvmsg(fd, &m, 0);
	while (n < 0 && errno == ECONNRESET); /* gpuqd has closed it with something unread */
	NEED(n >= 0);
	if (n == 0)
		return -1;
	c = CMSG_FIRSTHDR(&m);
	held = c != NULL ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	for (size_t i = 0; i < held; i++) {
		int got;

		memcpy(&got, CMSG_DATA(c) + i * sizeof(got), sizeof(got));
		close(got);
	}
	return (int)held;
}

/* @return how many descriptors lay in it */
static int read_all(int fd)
{
	int held = 0;

	for (int one = read_one(fd); one >= 0; one = read_one(fd))
		held += one;
	return held;
}

static struct attack attack(int (*one)(void), int connections)
{
	int done[2], go_on[2], ends[ENDS], held = 0;
	struct attack a;
	char word;

	assert_true(connections <= ENDS);
	assert_int_equal(pipe(done), 0);
	assert_int_equal(pipe(go_on), 0);
	a = (struct attack){ .pid = fork(), .done = done[0], .go_on = go_on[1] };
	assert_true(a.pid >= 0);
	if (a.pid != 0) {
		close(done[1]);
		close(go_on[0]);
		assert_int_equal(read(a.done, &word, 1), 1);
		return a;
	}
	NEED(setgid(STRANGER) == 0 && setuid(STRANGER) == 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* another user has none of before */
	for (int i = 0; i < connections; i++)
		ends[i] = one();
	NEED(write(done[1], "", 1) == 1);
	NEED(read(go_on[0], &word, 1) == 1);
	for (int i = 0; i < connections; i++)
		held += read_all(ends[i]);
	_exit(held);
}

/* @return how many descriptors lay in its sockets; it has ended */
static int held_by(const struct attack *a)
{
	int status;

	assert_int_equal(write(a->go_on, "", 1), 1);
	assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
	close(a->done);
	close(a->go_on);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 255);
	return WEXITSTATUS(status);
}

static void skip_unless_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("skipped: only root can be two users\n");
	skip();
}

/* ---- everybody else -------------------------------------------------------------------------- */

/* Also one that a reload is about to bring. */
static void expect_queue(const char *name)
{
	char endpoint[96];
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.result_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = endpoint };
	GpuQueue *q;

	snprintf(endpoint, sizeof(endpoint), "%s#%s", d.endpoint, name);
	for (unsigned i = 0; (q = q_init(&c)) == NULL; i++) {
		if (i >= LONG_MS || strstr(q_last_error(), "there is no queue") == NULL)
			fail_msg("%s", q_last_error());
		nap_ms(1);
	}
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
}

static void expect_region(const char *op)
{
	BrokerClient *c = client(), *w;
	const BrokerRegion g = sealed(c);
	char can[32];
	uint64_t id;

	snprintf(can, sizeof(can), "op=%s", op);
	w = worker(op, can, 1);
	id = submit(c, op, &g);
	answer_one(w);
	(void)await_end(c, id, Q_OK, NULL);
	q_broker_close(c);
	q_broker_close(w);
}

static void kill_process(void)
{
	pid_t before, now = 0;

	assert_int_equal(daemon_processes(&d, &before, 1), 1);
	assert_int_equal(kill(before, SIGKILL), 0);
	for (unsigned i = 0; daemon_processes(&d, &now, 1) == 0 || now == before; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* Another queue, in another process. */
static void reload(void)
{
	FILE *f = fopen(d.config, "a");

	assert_non_null(f);
	fprintf(f, "[queue more]\nprocess = two\nprocessor = echo\ndevice = cpu\n");
	assert_int_equal(fclose(f), 0);
	assert_int_equal(kill(d.pid, SIGHUP), 0);
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void se_4_descriptors_that_a_user_does_not_read_are_two_a_connection(void **state)
{
	enum { CONNECTIONS = 100, MOST = 16 };
	struct attack a;
	int held;

	(void)state;
	skip_unless_root();
	begin_with_descriptors(2048, "", /* for all that they ask for, at once */
			       "uid_connections = 16\nuid_regions = 4096\n"
			       "[queue default]\nprocess = one\nprocessor = echo\ndevice = cpu\n");
	a = attack(ask_for_regions, CONNECTIONS);
	/* Its connections are not gone with what it has said: they count, so more do not come in.
	 */
	services_await_count(d.broker, "connections_refused", CONNECTIONS - MOST);
	services_await_count(d.broker, "regions", 2 * MOST);
	expect_region("other");
	expect_queue("default");
	kill_process();
	expect_queue("default");
	reload();
	expect_queue("more");
	services_await_count(d.broker, "regions", 2 * MOST);
	held = held_by(&a);
	assert_int_equal(held, 2 * MOST);
	services_await_count(d.broker, "regions", 0); /* and its connections with them */
	a = attack(ask_for_regions, MOST);
	services_await_count(d.broker, "regions", 2 * MOST);
	assert_int_equal(count("connections_refused"), CONNECTIONS - MOST);
	(void)held_by(&a);
	daemon_tear_down(&d);
}

static void se_4_memory_of_queues_that_a_user_does_not_take_counts_against_it(void **state)
{
	enum { CONNECTIONS = 40, MOST = 4 };
	struct daemon_held idle;
	struct attack a;

	(void)state;
	skip_unless_root();
	begin_with_descriptors(256,
			       "socket_mode = 0666\nuid_connections = 4\nuid_connect_rate = 0\n",
			       "[queue default]\nprocessor = echo\ndevice = cpu\n");
	idle = daemon_held(&d);
	a = attack(ask_for_queue, CONNECTIONS);
	expect_queue("default"); /* of another user */
	assert_int_equal(held_by(&a), 2 * MOST);
	daemon_await_held(&d, &idle); /* whoever has read them, or gone, counts no more */
	a = attack(ask_for_queue, MOST);
	assert_int_equal(held_by(&a), 2 * MOST);
	daemon_await_held(&d, &idle);
	daemon_tear_down(&d);
}

/* What is beyond its user's share of RLIMIT_NOFILE is told so; another user has its own. */
static void se_4_services_have_a_share_of_the_descriptors_and_a_user_half_of_it(void **state)
{
	enum { LIMIT = 64, WORKERS = 10, MOST = LIMIT / 4 / 2 };
	BrokerClient *c, *w[WORKERS];
	uint64_t ids[2 * WORKERS];
	BrokerRegion g;
	char name[8];
	pid_t pid;
	int status;

	(void)state;
	skip_unless_root();
	begin_with_descriptors(LIMIT, "", "attempts = 1\n");
	c = client();
	for (unsigned i = 0; i < WORKERS; i++) {
		snprintf(name, sizeof(name), "w%u", i);
		w[i] = worker(name, "op=read", 2);
	}
	g = sealed(c);
	for (unsigned i = 0; i < 2 * WORKERS; i++)
		ids[i] = submit(c, "read", &g);
	for (unsigned i = 0; i < 2 * WORKERS - MOST; i++) {
		const BrokerReply r = await_end(c, 0, Q_ERR_LIMIT, NULL);

		assert_int_equal(r.reason, Q_REASON_DESCRIPTORS);
		assert_true(r.may_retry);
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		NEED(setuid(STRANGER) == 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		expect_region("other");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		BrokerRequest q;

		while (q_service_recv(w[i], &q, 0) == Q_OK)
			assert_status(q_service_reply(w[i], &q, Q_REASON_OK, NULL, 0), Q_OK);
	}
	while (q_broker_wait(c, 0, NULL, &(size_t){ 0 }, NULL, LONG_MS) != Q_ERR_NOT_FOUND)
		;
	assert_int_equal(count("ok"), MOST + 1);
	ids[0] = submit(c, "read", &g); /* there is room again */
	for (unsigned i = 0; q_broker_wait(c, ids[0], NULL, &(size_t){ 0 }, NULL, 1) != Q_OK; i++) {
		BrokerRequest q;

		assert_true(i < LONG_MS);
		if (q_service_recv(w[i % WORKERS], &q, 0) == Q_OK)
			assert_status(q_service_reply(w[i % WORKERS], &q, Q_REASON_OK, NULL, 0),
				      Q_OK);
	}
	q_broker_close(c);
	for (unsigned i = 0; i < WORKERS; i++)
		q_broker_close(w[i]);
	services_await_count(d.broker, "regions", 0);
	daemon_tear_down(&d);
}

/* At its user's share gpuqd looks at all connections, and so sees that one has read: then what
 * waits for that goes, though that one says nothing more. */
static void what_waits_goes_also_if_another_was_served_first(void **state)
{
	enum { LIMIT = 64, FULL = LIMIT / 4 / 2 / 2 }; /* connections that have two each */
	int reader, other[FULL - 1], last;

	(void)state;
	begin_with_descriptors(LIMIT, "", "");
	reader = greet_raw();
	ask_for(reader, 3);
	for (unsigned i = 0; i < FULL - 1; i++) {
		other[i] = greet_raw();
		ask_for(other[i], 2);
	}
	last = greet_raw();
	assert_int_equal(read_one(last), 0);
	services_await_count(d.broker, "regions", 3 + 2 * (FULL - 1));
	nap_ms(300);                           /* it looks by itself ever more rarely */
	assert_int_equal(read_one(reader), 0); /* hello */
	assert_int_equal(read_one(reader), 1);
	assert_int_equal(read_one(reader), 1);
	ask_for(last, 1);
	assert_int_equal(read_one(last), 1);
	assert_int_equal(read_one(reader), 1);
	close(reader);
	close(last);
	for (unsigned i = 0; i < FULL - 1; i++)
		close(other[i]);
	services_await_count(d.broker, "regions", 0);
	daemon_tear_down(&d);
}

static void a_worker_that_reads_late_gets_all_it_is_to_have(void **state)
{
	enum { MANY = 200 };
	BrokerClient *c, *late, *w;
	uint64_t ids[MANY], id;
	BrokerRegion g;

	(void)state;
	begin_with_descriptors(64, "", "window = 256\nattempts = 1\n");
	c = client();
	late = worker("late", "op=read", MANY);
	w = worker("w", "op=echo", 4);
	g = sealed(c);
	for (unsigned i = 0; i < MANY; i++)
		ids[i] = submit(c, "read", &g);
	id = submit(c, "echo", NULL); /* the others wait at gpuqd, and in nobody's way */
	answer_one(w);
	(void)await_end(c, id, Q_OK, NULL);
	assert_status(q_broker_region_end(c, g.id), Q_OK);
	for (unsigned i = 0; i < MANY; i++)
		answer_one(late);
	for (unsigned i = 0; i < MANY; i++)
		(void)await_end(c, ids[i], Q_OK, NULL);
	services_await_count(d.broker, "regions", 0);
	q_broker_close(c);
	q_broker_close(late);
	q_broker_close(w);
	daemon_tear_down(&d);
}

/* From the bounding set, so that gpuqd gets none by exec(): with these it has no limit. They are
 * gone for all children of this process. */
static int drop_capabilities(void **state)
{
	(void)state;
	(void)prctl(PR_CAPBSET_DROP, 21 /* CAP_SYS_ADMIN */, 0, 0, 0);
	(void)prctl(PR_CAPBSET_DROP, 24 /* CAP_SYS_RESOURCE */, 0, 0, 0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(se_4_descriptors_that_a_user_does_not_read_are_two_a_connection),
		cmocka_unit_test(se_4_memory_of_queues_that_a_user_does_not_take_counts_against_it),
		cmocka_unit_test(
			se_4_services_have_a_share_of_the_descriptors_and_a_user_half_of_it),
		cmocka_unit_test(what_waits_goes_also_if_another_was_served_first),
		cmocka_unit_test(a_worker_that_reads_late_gets_all_it_is_to_have),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("service_away", tests, drop_capabilities, NULL);
}
