/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_netlink.c - what is netlink's own among the transports to gpuqd's services (T-2 to
 * T-4): who is believed, and that either side's end is noticed though nobody tells of it. gpuqd's
 * router is a thread of this process; what it and the client call is watched, and held up.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "callers.h"
#include "child.h"
#include "daemon.h"
#include "support.h"

#include "broker/service/service.h"
#include "host/base/clock.h"
#include "host/base/netlink.h"
#include "host/service/transport.h"

#include <gpuq/broker.h>

#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534, OTHER = 65533, TALK = 3, LEFT_OUT = 77 };

/* ---- what is called -------------------------------------------------------------------------- */

static pthread_t main_thread;

/* Whoever looks whether this port is somebody's calls `on_look` first, once. `held`: it is told
 * that it is, without a look. */
static _Atomic uint32_t watched_port;
static void (*_Atomic on_look)(void);
static atomic_bool held;

/* How often somebody has looked whether these ports are somebody's. */
static _Atomic uint32_t counted_port[2];
static atomic_uint looks[2];

/* Of the router's thread: messages read of one socket in one turn, at most; times of the last tries
 * to send that found no room. */
static atomic_uint most_reads, tries;
static _Atomic uint64_t last_try_ns, least_gap_ns;

static unsigned reads;
static int read_of = -1;

static long kernel(long number, long a, long b, long c, long d, long e, long f)
{
	static long (*_Atomic real)(long, ...);

	if (real == NULL)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return real(number, a, b, c, d, e, f);
}

static bool is_router(void)
{
	return !pthread_equal(pthread_self(), main_thread);
}

static void note_read(int fd)
{
	reads = fd == read_of ? reads + 1 : 1;
	read_of = fd;
	if (reads > most_reads)
		most_reads = reads;
}

static void note_full(void)
{
	const uint64_t now_ns = gq__now_ns(), gap_ns = now_ns - last_try_ns;

	last_try_ns = now_ns;
	if (++tries > 8 && gap_ns < least_gap_ns) /* by then they are as rare as they become */
		least_gap_ns = gap_ns;
}

/* More arguments are read than some calls have. */
#if defined(__clang__) || defined(__SANITIZE_ADDRESS__)
__attribute__((no_sanitize("address")))
#endif
long syscall(long number, ...)
{
	long a[6], result;
	va_list ap;

	va_start(ap, number);
	for (unsigned i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	result = kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == SYS_recvmsg && result >= 0 && is_router())
		note_read((int)a[0]);
	if (number == SYS_sendmsg && result < 0 && errno == EAGAIN && is_router())
		note_full();
	return result;
}

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t bytes)
{
	struct sockaddr_nl at = { 0 };

	memcpy(&at, (const struct sockaddr *)address.__sockaddr__,
	       bytes < sizeof(at) ? bytes : sizeof(at));
	for (unsigned i = 0; i < 2; i++)
		if (at.nl_family == AF_NETLINK && at.nl_pid != 0 && at.nl_pid == counted_port[i])
			looks[i]++;
	if (at.nl_family == AF_NETLINK && at.nl_pid != 0 && at.nl_pid == watched_port) {
		void (*call)(void) = atomic_exchange(&on_look, NULL);

		if (call != NULL)
			call();
		if (held) {
			errno = EADDRINUSE;
			return -1;
		}
	}
	return (int)kernel(SYS_bind, fd, (long)address.__sockaddr__, (long)bytes, 0, 0, 0);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int ms)
{
	read_of = -1;
	return (int)kernel(SYS_epoll_pwait, epoll, (long)events, most, ms, 0, 0);
}

/* ---- a router -------------------------------------------------------------------------------- */

struct house {
	struct router *router;
	struct router_config cfg;
	char folder[40], endpoint[40], path[64];
};

static struct house house;

static uint32_t next_port(void)
{
	static uint32_t n;

	return 0x40000000u + ((uint32_t)getpid() << 6) + n++ % 64;
}

static struct router_config usual(void)
{
	struct router_config cfg = ROUTER_DEFAULTS;

	cfg.uid_connect_rate = 0;
	cfg.netlink = next_port();
	return cfg;
}

static void begin(const struct router_config *cfg)
{
	struct house *h = &house;
	char error[ROUTER_ERROR_ROOM];

	h->cfg = *cfg;
	snprintf(h->folder, sizeof(h->folder), "/tmp/gpuq-netlink-XXXXXX");
	assert_non_null(mkdtemp(h->folder));
	snprintf(h->cfg.socket, sizeof(h->cfg.socket), "%.39s/s", h->folder);
	snprintf(h->endpoint, sizeof(h->endpoint), "netlink:%u", cfg->netlink);
	snprintf(h->path, sizeof(h->path), "unix:%.39s/s", h->folder);
	h->router = router_start(&h->cfg, error);
	if (h->router == NULL)
		fail_msg("%s", error);
}

static void stop_router(void)
{
	router_stop(house.router);
	house.router = NULL;
}

static void end(void)
{
	char path[64];

	if (house.router != NULL)
		stop_router();
	snprintf(path, sizeof(path), "%.39s/s.lock", house.folder);
	unlink(path);
	assert_int_equal(rmdir(house.folder), 0);
	watched_port = 0;
	held = false;
}

/* On a connection that is there. */
static void await_count_by(BrokerClient *c, const char *name, uint64_t value)
{
	for (unsigned i = 0; services_count_on(c, name) != value; i++) {
		if (i == LONG_MS)
			fail_msg("%s is %u", name, (unsigned)services_count_on(c, name));
		nap_ms(1);
	}
}

static BrokerClient *worker(const char *endpoint, const char *name, const char *can)
{
	const BrokerService s = { .name = name, .capability = can, .heartbeat_ms = 60000 };

	return connect_worker(endpoint, &s);
}

static uint64_t submit(BrokerClient *c, const char *op)
{
	const BrokerCall call = {
		.service = op, .payload = "well", .bytes = 4, .timeout_ms = LONG_MS
	};
	uint64_t id;

	if (q_broker_submit(c, &call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

/* ---- messages, by hand ----------------------------------------------------------------------- */

static int somewhere(void)
{
	const int fd = gq__netlink_open_somewhere();

	assert_true(fd >= 0);
	return fd;
}

static uint32_t port_of(int fd)
{
	struct sockaddr_nl at;
	socklen_t n = sizeof(at);

	return getsockname(fd, (struct sockaddr *)&at, &n) == 0 ? at.nl_pid : 0;
}

static bool knock(int fd, uint64_t cookie)
{
	return gq__netlink_send(fd, house.cfg.netlink, GQ_NETLINK_KNOCK, cookie, NULL, 0);
}

static struct gq_netlink_message get(int fd, void *body, size_t room)
{
	struct gq_netlink_message m;
	struct pollfd at = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	assert_true(gq__netlink_receive(fd, &m, body, room));
	return m;
}

/* Until it has no room for one more message. */
static void fill(int fd)
{
	const int one = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &one, sizeof(one)), 0);
	while (gq__netlink_send(fd, port_of(fd), GQ_NETLINK_BYE, 0, NULL, 0))
		;
	assert_int_equal(errno, EAGAIN);
}

/* ---- children -------------------------------------------------------------------------------- */

/* It has nothing of this process but standard output, and a socket to it: TALK. */
static pid_t start_child(int *talk)
{
	int pair[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid = fork_child();
	assert_true(pid >= 0);
	if (pid == 0) {
		need(dup2(pair[1], TALK) == TALK && close_range(TALK + 1, ~0u, 0) == 0);
		return 0;
	}
	close(pair[1]);
	*talk = pair[0];
	return pid;
}

static bool say(int fd)
{
	return write(fd, "x", 1) == 1;
}

static bool hear(int fd)
{
	char byte;

	return read(fd, &byte, 1) == 1;
}

/* @return false: it could not do it here */
static bool has_done(pid_t pid, int talk)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(talk);
	if (WIFEXITED(status) && WEXITSTATUS(status) == LEFT_OUT)
		return false;
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return true;
}

static void become(uid_t uid)
{
	need(setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0);
}

static void needs_root(void)
{
	if (geteuid() != 0) {
		print_message("left out: only root can be another user\n");
		skip();
	}
}

/* ---- T-2 ------------------------------------------------------------------------------------- */

static void t_2_another_user_s_processes_call_and_watch(void **state)
{
	struct router_config cfg = usual();
	int talk;
	pid_t pid;

	(void)state;
	needs_root();
	cfg.socket_mode = 0666;
	begin(&cfg);
	pid = start_child(&talk);
	if (pid == 0) {
		const BrokerConfig at = { .endpoint = house.endpoint, .timeout_ms = LONG_MS };
		const BrokerService s = { .name = "of-other", .capability = "op=seen" };
		const BrokerCall call = { .service = "seen", .payload = "hello", .bytes = 5 };
		BrokerClient *w, *c, *watch;
		BrokerServiceInfo info;
		char reply[8];
		size_t n = sizeof(reply);
		BrokerRequest q;
		uint64_t id;

		become(OTHER);
		need((watch = q_broker_connect(&at)) != NULL);
		need(q_broker_watch(watch, &info, 0) == Q_ERR_TIMEOUT);
		need((w = q_broker_connect(&at)) != NULL && (c = q_broker_connect(&at)) != NULL);
		need(q_service_register(w, &s) == Q_OK);
		need(q_broker_watch(watch, &info, LONG_MS) == Q_OK);
		need(strcmp(info.name, "of-other") == 0);
		need(q_broker_submit(c, &call, &id) == Q_OK);
		need(q_service_recv(w, &q, LONG_MS) == Q_OK);
		need(q_service_reply(w, &q, Q_REASON_OK, q.payload, q.bytes) == Q_OK);
		need(q_broker_wait(c, id, reply, &n, NULL, LONG_MS) == Q_OK);
		need(n == 5 && memcmp(reply, "hello", 5) == 0);
		_exit(0);
	}
	assert_true(has_done(pid, talk));
	end();
}

static void expect_kept_out(uint32_t mode, uid_t uid, const char *why)
{
	struct router_config cfg = usual();
	BrokerClient *c;
	int talk;
	pid_t pid;

	cfg.socket_mode = mode;
	begin(&cfg);
	pid = start_child(&talk);
	if (pid == 0) {
		const BrokerConfig at = { .endpoint = house.endpoint, .timeout_ms = LONG_MS };

		become(uid);
		need(q_broker_connect(&at) == NULL);
		need(strstr(q_last_error(), why) != NULL);
		_exit(0);
	}
	assert_true(has_done(pid, talk));
	c = connect_to_services(house.endpoint);
	assert_int_equal(services_count_on(c, "connections_refused"), 1);
	q_broker_close(c);
	end();
}

static void t_2_a_user_that_socket_mode_keeps_out_is_told_so(void **state)
{
	(void)state;
	needs_root();
	expect_kept_out(0660, OTHER, "socket_mode");
}

/* All users that a user namespace has no number for have the same one. */
static void t_2_nobody_in_particular_is_kept_out(void **state)
{
	(void)state;
	needs_root();
	expect_kept_out(0666, NOBODY, "no number of its own");
}

/* Who has no room for an answer costs nothing, neither above the limit nor below it. */
static void t_2_a_limit_is_one_for_those_that_take_no_answer(void **state)
{
	enum { MANY = 12 };
	struct router_config cfg = usual();
	BrokerClient *c[2];
	int fd[MANY];
	unsigned files;

	(void)state;
	cfg.uid_connections = 2;
	begin(&cfg);
	for (unsigned i = 0; i < MANY; i++) {
		fd[i] = somewhere();
		fill(fd[i]);
	}
	c[0] = connect_to_services(house.endpoint);
	files = files_now();
	for (unsigned i = 0; i < MANY; i++)
		assert_true(knock(fd[i], i));
	c[1] = connect_to_services(house.endpoint); /* it comes after them, and has the place */
	assert_true(files_now() > files);
	files = files_now();
	for (unsigned i = 0; i < MANY; i++)
		assert_true(knock(fd[i], i));
	await_count_by(c[0], "connections_refused", MANY);
	assert_int_equal(files_now(), files);
	for (unsigned i = 0; i < MANY; i++)
		close(fd[i]);
	q_broker_close(c[0]);
	q_broker_close(c[1]);
	end();
}

/* A knock by hand that is turned away. */
static uint32_t why_away(int fd)
{
	const struct gq_frame_rules rules = { .receiver = GQ_FRAME_AT_PEER,
					      .state = GQ_FRAME_BEFORE_HELLO };
	static uint8_t body[GQ_WIRE_FRAME_MAX];
	struct gq_netlink_message m;
	struct gq_frame f;

	m = get(fd, body, sizeof(body));
	assert_int_equal(m.type, GQ_NETLINK_AWAY);
	assert_true(m.cookie == 5);
	assert_int_equal(gq__frame_decode(body, m.bytes, &rules, &f), GQ_FRAME_OK);
	assert_int_equal(f.type, GQ_MESSAGE_NACK);
	return gq__frame_u32(&f, GQ_TLV_STATUS, 0);
}

static void t_2_a_gpuqd_without_descriptors_says_so(void **state)
{
	struct router_config cfg = usual();
	const int fd = somewhere();
	struct rlimit before, none;

	(void)state;
	begin(&cfg);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)dup(fd); /* the lowest that is free */
	close((int)none.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_true(knock(fd, 5));
	assert_int_equal(why_away(fd), GQ_WIRE_FD_EXHAUSTED);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	close(fd);
	end();
}

/* Asks, and never reads, until gpuqd takes nothing more. */
static void make_deaf(BrokerClient *c)
{
	struct gq_frame f = { .type = GQ_MESSAGE_STATS, .flags = GQ_FLAG_CHECKSUM };
	unsigned refused = 0;
	uint8_t out[64];
	size_t n;

	for (f.correlation = 1; refused < 50;) {
		assert_int_equal(gq__frame_encode(&f, out, sizeof(out), &n), GQ_FRAME_OK);
		if (gq__netlink_send(c->socket, 0, GQ_NETLINK_FRAME, c->cookie, out, n)) {
			refused = 0;
			f.correlation++;
			continue;
		}
		assert_int_equal(errno, EAGAIN);
		refused++;
		nap_ms(1);
	}
}

/* Each try copies a frame: they are as rare as 128 ms soon, however much others ask for meanwhile.
 * A busy machine only makes them rarer. So one that does not read costs the others eight copies of
 * a frame in a second. */
static void t_2_tries_for_one_that_does_not_read_become_rare(void **state)
{
	struct router_config cfg = usual();
	BrokerClient *c, *other;

	(void)state;
	begin(&cfg);
	c = connect_to_services(house.endpoint);
	other = connect_to_services(house.endpoint);
	tries = 0;
	least_gap_ns = UINT64_MAX;
	make_deaf(c);
	for (unsigned i = 0; tries < 11; i++) {
		assert_true(i < LONG_MS);
		(void)services_count_on(other, "forged");
		nap_ms(1);
	}
	assert_true(least_gap_ns > 120000000);
	q_broker_close(c);
	q_broker_close(other);
	end();
}

static atomic_bool goes_on;

static void wait_to_go_on(void)
{
	while (!goes_on)
		nap_ms(1);
}

/* What is not to be heard counts as heard, or who floods would have the router for itself. */
static void t_2_who_floods_has_no_more_than_its_turn(void **state)
{
	enum { MANY = 200 };
	struct router_config cfg = usual();
	BrokerClient *c, *other;
	uint64_t forged;

	(void)state;
	begin(&cfg);
	c = connect_to_services(house.endpoint);
	other = connect_to_services(house.path);
	forged = services_count_on(other, "forged");
	goes_on = false;
	watched_port = port_of(c->socket);
	on_look = wait_to_go_on;
	while (on_look != NULL)
		nap_ms(1);
	most_reads = 0;
	for (unsigned i = 0; i < MANY; i++)
		assert_true(gq__netlink_send(c->socket, 0, GQ_NETLINK_FRAME, c->cookie + 1, "", 0));
	goes_on = true;
	await_count_by(other, "forged", forged + MANY);
	assert_in_range(most_reads, 2, 64);
	(void)services_count_on(c, "forged"); /* it is there as before */
	q_broker_close(c);
	q_broker_close(other);
	end();
}

/* ---- in namespaces of their own -------------------------------------------------------------- */

/* Has pid 1 there, which is init's here. */
static void be_contained(unsigned i)
{
	const BrokerConfig at = { .endpoint = house.endpoint, .timeout_ms = LONG_MS };
	char name[8], can[16];
	const BrokerService s = { .name = name, .capability = can, .heartbeat_ms = 60000 };
	BrokerClient *c;
	BrokerRequest q;
	pid_t inner;

	snprintf(name, sizeof(name), "w%u", i);
	snprintf(can, sizeof(can), "op=die%u", i);
	if (unshare(CLONE_NEWPID) != 0)
		_exit(LEFT_OUT);
	inner = fork();
	need(inner >= 0);
	if (inner == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		need(getpid() == 1);
		need((c = q_broker_connect(&at)) != NULL);
		need(q_service_register(c, &s) == Q_OK && say(TALK));
		need(q_service_recv(c, &q, LONG_MS) == Q_OK && say(TALK));
		for (;;)
			pause();
	}
	need(hear(TALK) && kill(inner, SIGKILL) == 0 && waitpid(inner, NULL, 0) == inner);
	_exit(0);
}

static void t_2_in_a_pid_namespace_of_their_own_they_work_and_their_end_is_seen(void **state)
{
	enum { MANY = 3 };
	struct router_config cfg = usual();
	BrokerClient *c, *more[MANY];
	bool done = true;
	uint64_t id;
	int talk[MANY];
	pid_t pid[MANY];

	(void)state;
	cfg.uid_connections = MANY + 1;
	begin(&cfg);
	c = connect_to_services(house.endpoint);
	for (unsigned i = 0; i < MANY; i++) {
		pid[i] = start_child(&talk[i]);
		if (pid[i] == 0)
			be_contained(i);
	}
	for (unsigned i = 0; i < MANY; i++) {
		char op[16];

		if (!hear(talk[i])) {
			done = has_done(pid[i], talk[i]) && done;
			continue;
		}
		snprintf(op, sizeof(op), "die%u", i);
		id = submit(c, op);
		assert_true(hear(talk[i])); /* it has it */
		assert_true(say(talk[i]));
		assert_true(await_end(c, id, Q_ERR_LOST, NULL).may_have_run);
		assert_true(has_done(pid[i], talk[i]));
	}
	for (unsigned i = 0; i < MANY; i++) { /* their places are free */
		const BrokerConfig at = { .endpoint = house.endpoint, .timeout_ms = LONG_MS };

		while ((more[i] = q_broker_connect(&at)) == NULL)
			assert_says("uid_connections");
		q_broker_close(more[i]);
	}
	q_broker_close(c);
	end();
	if (!done) {
		print_message("left out: no namespace of pids can be made here\n");
		skip();
	}
}

static void t_2_in_a_user_namespace_nobody_is_believed(void **state)
{
	struct router_config cfg = usual();
	bool done;
	int talk;
	pid_t pid;

	(void)state;
	begin(&cfg);
	pid = start_child(&talk);
	if (pid == 0) {
		const BrokerConfig at = { .endpoint = house.endpoint, .timeout_ms = LONG_MS };

		if (unshare(CLONE_NEWUSER) != 0)
			_exit(LEFT_OUT);
		need(q_broker_connect(&at) == NULL);
		need(strstr(q_last_error(), "nobody in particular") != NULL);
		_exit(0);
	}
	done = has_done(pid, talk);
	end();
	if (!done) {
		print_message("left out: no namespace of users can be made here\n");
		skip();
	}
}

/* ---- T-3 ------------------------------------------------------------------------------------- */

static void t_3_who_takes_a_client_s_port_is_refused(void **state)
{
	struct router_config cfg = usual();
	BrokerClient *c, *other;
	uint32_t own, theirs;
	uint64_t forged, cookie;
	int talk;
	pid_t pid;

	(void)state;
	needs_root();
	begin(&cfg);
	c = connect_to_services(house.endpoint);
	other = connect_to_services(house.path);
	forged = services_count_on(other, "forged");
	own = port_of(c->socket);
	theirs = c->port;
	cookie = c->cookie;
	watched_port = own;
	held = true; /* gpuqd does not notice first that nobody has it */
	assert_int_equal(close(c->socket), 0);
	c->socket = -1; /* without a word */
	pid = start_child(&talk);
	if (pid == 0) {
		const struct sockaddr_nl me = { .nl_family = AF_NETLINK, .nl_pid = own };
		const int fd = gq__netlink_open();
		struct gq_netlink_message m;
		char byte;

		held = false;
		become(OTHER);
		watched_port = 0;
		need(fd >= 0 && bind(fd, (const struct sockaddr *)&me, sizeof(me)) == 0);
		need(gq__netlink_send(fd, theirs, GQ_NETLINK_FRAME, cookie, NULL, 0));
		while (gq__netlink_send(fd, theirs, GQ_NETLINK_FRAME, cookie, NULL, 0) ||
		       errno == EAGAIN)
			nap_ms(1); /* until gpuqd has ended the connection */
		need(errno == ECONNREFUSED);
		need(!gq__netlink_receive(fd, &m, &byte, 1) && errno == EAGAIN); /* not a word */
		_exit(0);
	}
	assert_true(has_done(pid, talk));
	assert_true(services_count_on(other, "forged") > forged);
	q_broker_close(c);
	q_broker_close(other);
	end();
}

/* Anybody can have the port, and can say what gpuqd says. */
static void t_3_whoever_has_gpuqd_s_port_must_be_gpuqd_s_user(void **state)
{
	const uint32_t port = next_port();
	char endpoint[40];
	const BrokerConfig at = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	int talk;
	pid_t pid;

	(void)state;
	snprintf(endpoint, sizeof(endpoint), "netlink:%u", port);
	assert_null(q_broker_connect(&at));
	assert_says("is gpuqd running?");
	pid = start_child(&talk);
	if (pid == 0) {
		const struct sockaddr_nl me = { .nl_family = AF_NETLINK, .nl_pid = port };
		const int fd = gq__netlink_open();
		struct pollfd knocks = { .fd = fd, .events = POLLIN };
		struct gq_netlink_message m;

		need(fd >= 0 && bind(fd, (const struct sockaddr *)&me, sizeof(me)) == 0);
		if (geteuid() == 0)
			become(OTHER);
		need(say(TALK));
		for (;;) {
			(void)poll(&knocks, 1, -1);
			if (gq__netlink_receive(fd, &m, NULL, 0))
				(void)gq__netlink_send(fd, m.port, GQ_NETLINK_HERE, m.cookie, NULL,
						       0);
		}
	}
	assert_true(hear(talk));
	if (geteuid() == 0) {
		assert_null(q_broker_connect(&at));
		assert_says("allowed: gpuqd as root or as this user");
	}
	snprintf(endpoint, sizeof(endpoint), "netlink:%u@%u", port, OTHER - 1);
	assert_null(q_broker_connect(&at));
	assert_says("allowed: gpuqd as the user of the endpoint");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(talk);
}

/* To the door, just these bytes. */
static void throw_at_door(int fd, const void *bytes, size_t n)
{
	const struct sockaddr_nl door = { .nl_family = AF_NETLINK, .nl_pid = house.cfg.netlink };

	assert_int_equal(sendto(fd, bytes, n, 0, (const struct sockaddr *)&door, sizeof(door)),
			 (ssize_t)n);
}

/* Bytes that a process was made to write there, a line of text, are nothing that it says. */
static void t_3_what_is_not_exactly_a_knock_is_none(void **state)
{
	static const struct gq_netlink_head wrong[] = {
		{ .bytes = 23, .type = GQ_NETLINK_KNOCK },
		{ .bytes = 32, .type = GQ_NETLINK_KNOCK },
		{ .bytes = 24, .type = GQ_NETLINK_KNOCK, .flags = 1 },
		{ .bytes = 24, .type = GQ_NETLINK_KNOCK, .unused = { 1, 0 } },
		{ .bytes = 24, .type = GQ_NETLINK_KNOCK, .unused = { 0, 1 } },
		{ .bytes = 24, .type = GQ_NETLINK_FRAME },
		{ .bytes = 24, .type = GQ_NETLINK_HERE },
	};
	enum { WRONG = sizeof(wrong) / sizeof(wrong[0]) };
	struct router_config cfg = usual();
	struct gq_netlink_message m;
	BrokerClient *c;
	uint8_t large[4096] = { 0 };
	const int fd = somewhere();
	uint64_t forged;

	(void)state;
	begin(&cfg);
	c = connect_to_services(house.endpoint);
	forged = services_count_on(c, "forged");
	for (unsigned i = 0; i < WRONG; i++)
		throw_at_door(fd, &wrong[i], sizeof(wrong[i]));
	throw_at_door(fd, "x", 1);
	throw_at_door(fd, "a line of text that a daemon has logged\n", 40);
	memcpy(large, &(struct gq_netlink_head){ .bytes = sizeof(large), .type = GQ_NETLINK_KNOCK },
	       sizeof(struct gq_netlink_head));
	throw_at_door(fd, large, sizeof(large));
	await_count_by(c, "forged", forged + WRONG + 3);
	assert_false(gq__netlink_receive(fd, &m, large, sizeof(large)));
	assert_int_equal(errno, EAGAIN); /* none is answered */
	assert_false(gq__netlink_send(fd, c->port, GQ_NETLINK_FRAME, c->cookie, NULL, 0));
	assert_int_equal(errno, ECONNREFUSED); /* the kernel's word: it is not for this port */
	close(fd);
	q_broker_close(c);
	end();
}

static void t_3_a_port_belongs_to_one_gpuqd(void **state)
{
	struct router_config cfg = usual(), same;
	char error[ROUTER_ERROR_ROOM];

	(void)state;
	begin(&cfg);
	same = cfg;
	assert_null(router_start(&same, error));
	assert_non_null(strstr(error, "another process of this network namespace has it"));
	end();
}

/* A message that is cut or says another length ends the connection, as a frame that is none. */
static void t_3_a_message_that_is_not_exact_ends_the_connection(void **state)
{
	const struct gq_netlink_head cut = { .bytes = 100, .type = GQ_NETLINK_FRAME };
	struct router_config cfg = usual();
	BrokerClient *c;

	(void)state;
	begin(&cfg);
	c = connect_to_services(house.endpoint);
	assert_int_equal(write(c->socket, &cut, sizeof(cut)), (ssize_t)sizeof(cut));
	assert_status(q_broker_watch(c, &(BrokerServiceInfo){ .name = "" }, LONG_MS), Q_ERR_LOST);
	q_broker_close(c);
	end();
}

/* A knock that comes again is the same one. Another one is of another socket, so what the first one
 * was to get goes nowhere. */
static void t_3_a_port_has_one_connection(void **state)
{
	struct router_config cfg = usual();
	struct gq_netlink_message m;
	struct sockaddr_nl at = { .nl_family = AF_NETLINK };
	int fd = somewhere();
	uint32_t first, second;
	char byte;

	(void)state;
	begin(&cfg);
	at.nl_pid = port_of(fd);
	watched_port = at.nl_pid;
	held = true; /* who looks sees nothing */
	assert_true(knock(fd, 1));
	m = get(fd, &byte, 1);
	assert_int_equal(m.type, GQ_NETLINK_HERE);
	first = m.port;
	assert_true(knock(fd, 1) && knock(fd, 1));
	assert_int_equal(close(fd), 0);
	fd = gq__netlink_open();
	assert_int_equal(kernel(SYS_bind, fd, (long)&at, sizeof(at), 0, 0, 0), 0);
	assert_true(knock(fd, 2));
	m = get(fd, &byte, 1);
	assert_int_equal(m.type, GQ_NETLINK_HERE);
	assert_true(m.cookie == 2);
	second = m.port;
	assert_int_not_equal(second, first);
	while (gq__netlink_send(fd, first, GQ_NETLINK_FRAME, 1, NULL, 0) || errno == EAGAIN)
		nap_ms(1); /* until gpuqd has ended it */
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	end();
}

/* ---- T-4: an end of which nobody tells ------------------------------------------------------- */

static int to_child;
static pid_t child;
static atomic_bool has_answered;

/* In the router, between two looks at what has come. */
static void let_it_answer_and_die(void)
{
	(void)say(to_child);
	(void)waitpid(child, NULL, 0);
	has_answered = true;
}

static void t_4_the_last_answer_of_a_worker_that_dies_counts(void **state)
{
	struct router_config cfg = usual();
	BrokerClient *c;
	uint32_t port = 0;
	uint64_t id;

	(void)state;
	begin(&cfg);
	child = start_child(&to_child);
	if (child == 0) {
		BrokerClient *w = worker(house.endpoint, "w", "op=last");
		BrokerRequest q;

		port = port_of(w->socket);
		need(write(TALK, &port, sizeof(port)) == sizeof(port));
		need(q_service_recv(w, &q, LONG_MS) == Q_OK && say(TALK) && hear(TALK));
		need(q_service_reply(w, &q, Q_REASON_OK, "done", 4) == Q_OK);
		_exit(0);
	}
	assert_int_equal(read(to_child, &port, sizeof(port)), sizeof(port));
	c = connect_to_services(house.endpoint);
	id = submit(c, "last");
	assert_true(hear(to_child));
	watched_port = port;
	has_answered = false;
	on_look = let_it_answer_and_die;
	await_end(c, id, Q_OK, "done");
	assert_true(has_answered);
	close(to_child);
	q_broker_close(c);
	end();
}

/* Callers are looked for twice a second. A worker's death is to be known within a tenth of one, and
 * nobody tells of it: it is looked for ten times as often. Where the router gets no CPU for a while
 * that cannot be seen, so there are several tries. */
static void r_1_workers_are_looked_for_more_often_than_callers(void **state)
{
	struct router_config cfg = usual();
	unsigned tries_left = 40, before;
	BrokerClient *w, *c;

	(void)state;
	begin(&cfg);
	w = worker(house.endpoint, "w", "op=x");
	c = connect_to_services(house.endpoint);
	(void)services_count_on(c, "forged"); /* gpuqd knows of both */
	counted_port[0] = port_of(w->socket);
	counted_port[1] = port_of(c->socket);
	do {
		const unsigned callers = looks[1];

		before = looks[0];
		for (unsigned i = 0; looks[1] == callers; i++) { /* until the next one */
			assert_true(i < LONG_MS);
			nap_ms(1);
		}
		assert_true(tries_left-- != 0);
	} while (looks[0] < before + 5);
	counted_port[0] = counted_port[1] = 0;
	q_broker_close(w);
	q_broker_close(c);
	end();
}

static struct daemon d;
static BrokerClient *caller, *its_worker;
static BrokerRequest its_request;

static void let_gpuqd_answer_and_die(void)
{
	struct pollfd at = { .fd = caller->socket, .events = POLLIN };

	assert_status(q_service_reply(its_worker, &its_request, Q_REASON_OK, "done", 4), Q_OK);
	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	(void)daemon_end(&d, SIGKILL);
}

static void t_4_the_last_answer_of_a_gpuqd_that_dies_counts(void **state)
{
	char keys[64], endpoint[40];
	const uint32_t port = next_port();
	uint64_t id;

	(void)state;
	snprintf(keys, sizeof(keys), "netlink = %u\n", port);
	snprintf(endpoint, sizeof(endpoint), "netlink:%u", port);
	daemon_set_up(&d, "", keys);
	its_worker = worker(d.broker, "w", "op=last");
	caller = connect_to_services(endpoint);
	id = submit(caller, "last");
	assert_status(q_service_recv(its_worker, &its_request, LONG_MS), Q_OK);
	watched_port = caller->port;
	on_look = let_gpuqd_answer_and_die;
	await_end(caller, id, Q_OK, "done");
	assert_status(q_broker_stats(caller, NULL, &(size_t){ 0 }), Q_ERR_LOST);
	q_broker_close(caller);
	q_broker_close(its_worker);
	watched_port = 0;
	daemon_start(&d);
	daemon_tear_down(&d);
}

/* There is no room for gpuqd's last word. */
static void t_4_who_could_not_be_told_finds_out(void **state)
{
	struct router_config cfg = usual();
	BrokerClient *w;
	BrokerRequest q;

	(void)state;
	begin(&cfg);
	w = worker(house.endpoint, "w", "op=x");
	make_deaf(w);
	stop_router();
	assert_status(q_service_recv(w, &q, LONG_MS), Q_ERR_LOST); /* it says nothing itself */
	assert_int_equal(w->transport->send(w, "", 0), -1);        /* nor to its own look */
	q_broker_close(w);
	end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_2_another_user_s_processes_call_and_watch),
		cmocka_unit_test(t_2_a_user_that_socket_mode_keeps_out_is_told_so),
		cmocka_unit_test(t_2_nobody_in_particular_is_kept_out),
		cmocka_unit_test(t_2_a_limit_is_one_for_those_that_take_no_answer),
		cmocka_unit_test(t_2_a_gpuqd_without_descriptors_says_so),
		cmocka_unit_test(t_2_tries_for_one_that_does_not_read_become_rare),
		cmocka_unit_test(t_2_who_floods_has_no_more_than_its_turn),
		cmocka_unit_test(
			t_2_in_a_pid_namespace_of_their_own_they_work_and_their_end_is_seen),
		cmocka_unit_test(t_2_in_a_user_namespace_nobody_is_believed),
		cmocka_unit_test(t_3_who_takes_a_client_s_port_is_refused),
		cmocka_unit_test(t_3_whoever_has_gpuqd_s_port_must_be_gpuqd_s_user),
		cmocka_unit_test(t_3_what_is_not_exactly_a_knock_is_none),
		cmocka_unit_test(t_3_a_port_belongs_to_one_gpuqd),
		cmocka_unit_test(t_3_a_message_that_is_not_exact_ends_the_connection),
		cmocka_unit_test(t_3_a_port_has_one_connection),
		cmocka_unit_test(r_1_workers_are_looked_for_more_often_than_callers),
		cmocka_unit_test(t_4_the_last_answer_of_a_worker_that_dies_counts),
		cmocka_unit_test(t_4_the_last_answer_of_a_gpuqd_that_dies_counts),
		cmocka_unit_test(t_4_who_could_not_be_told_finds_out),
	};
	const int fd = gq__netlink_open();

	main_thread = pthread_self();
	if (fd < 0) {
		printf("left out: this machine has no netlink: %s\n", strerror(errno));
		return 0;
	}
	close(fd);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	unsetenv("GPUQ_TOKEN");
	return cmocka_run_group_tests_name("service_netlink", tests, NULL, NULL);
}
