/* SPDX-License-Identifier: Apache-2.0 */
/* ways.c - see ways.h. */
#if defined(GPUQ_TEST_BROKER)
#include "ways.h"

#include "host/base/clock.h"
#include "host/base/netlink.h"
#include "host/service/transport.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

/* ---- a router with a door of each transport -------------------------------------------------- */

bool has_netlink, has_chardev;
static bool by_cuse;

struct house usual;

uint32_t next_port(void)
{
	static uint32_t n;

	return 0x40000000u + ((uint32_t)getpid() << 6) + n++ % 64;
}

void name_chardev(struct house *h)
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

struct router_config unhurried(void)
{
	struct router_config cfg = ROUTER_DEFAULTS;

	cfg.uid_connect_rate = 0;
	return cfg;
}

void open_house(struct house *h, const struct router_config *cfg)
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

void close_house(struct house *h)
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

void unix_endpoint(const struct house *h, char to[160])
{
	snprintf(to, 160, "unix:%s", h->cfg.socket);
}

void in_process_endpoint(const struct house *h, char to[160])
{
	const int fd = router_connect(h->router);

	if (fd < 0)
		fail_msg("%s", strerror(errno));
	snprintf(to, 160, "fd:%d", fd);
}

void netlink_endpoint(const struct house *h, char to[160])
{
	snprintf(to, 160, "netlink:%u", h->cfg.netlink);
}

void chardev_endpoint(const struct house *h, char to[160])
{
	if (by_cuse)
		snprintf(to, 160, "chardev:/dev/%s", h->cfg.chardev + strlen("cuse:"));
	else
		snprintf(to, 160, "chardev:%s", h->cfg.chardev);
}

const struct way ways[WAYS] = {
	{ "unix", unix_endpoint, false, true, NULL },
	{ "in_process", in_process_endpoint, true, true, NULL },
	{ "netlink", netlink_endpoint, false, false, &has_netlink },
	{ "chardev", chardev_endpoint, false, false, &has_chardev },
};

/* ---- clients --------------------------------------------------------------------------------- */

BrokerClient *try_client(const struct house *h, const struct way *w, const char *token)
{
	char endpoint[160];
	const BrokerConfig cfg = {
		.endpoint = endpoint, .name = "client", .timeout_ms = LONG_MS, .token = token
	};

	w->endpoint(h, endpoint);
	return q_broker_connect(&cfg);
}

BrokerClient *client(void **state)
{
	BrokerClient *c = try_client(&usual, *state, NULL);

	if (c == NULL)
		fail_msg("%s", q_last_error());
	return c;
}

BrokerClient *worker(void **state, const char *name, const char *can, uint32_t capacity)
{
	const BrokerService s = {
		.name = name, .capability = can, .capacity = capacity, .heartbeat_ms = 20
	};
	BrokerClient *c = client(state);

	if (q_service_register(c, &s) != Q_OK)
		fail_msg("%s", q_last_error());
	return c;
}

uint64_t count(void **state, const char *name)
{
	BrokerClient *c = client(state);
	const uint64_t n = services_count_on(c, name);

	q_broker_close(c);
	return n;
}

void await_count(void **state, const char *name, uint64_t value)
{
	for (unsigned i = 0; count(state, name) != value; i++) {
		if (i == LONG_MS)
			fail_msg("%s does not become %u", name, (unsigned)value);
		nap_ms(1);
	}
}

void expect_quiet(void **state)
{
	await_count(state, "services", 0);
	await_count(state, "inside", 0);
	assert_int_equal(count(state, "accepted"),
			 count(state, "ok") + count(state, "failed") + count(state, "expired") +
				 count(state, "cancelled") + count(state, "lost"));
}

uint64_t submit(BrokerClient *c, const char *service, const void *payload, size_t bytes)
{
	const BrokerCall call = {
		.service = service, .payload = payload, .bytes = bytes, .timeout_ms = LONG_MS
	};
	uint64_t id = 0;

	if (q_broker_submit(c, &call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

void take_one(BrokerClient *w, BrokerRequest *q)
{
	if (q_service_recv(w, q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
}

void answer(BrokerClient *w, BrokerRequest *q, uint32_t reason)
{
	if (q_service_reply(w, q, reason, q->payload, q->bytes) != Q_OK)
		fail_msg("%s", q_last_error());
}

void echo_one(BrokerClient *w)
{
	BrokerRequest q;

	take_one(w, &q);
	answer(w, &q, Q_REASON_OK);
}

void expect_reply(BrokerClient *c, uint64_t id, const void *data, size_t bytes)
{
	static char reply[Q_BROKER_MAX_BYTES];
	size_t n = sizeof(reply);

	if (q_broker_wait(c, id, reply, &n, NULL, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	assert_int_equal(n, bytes);
	assert_memory_equal(reply, data, bytes);
}

BrokerReply expect_end(BrokerClient *c, uint64_t id, QueueStatus status)
{
	BrokerReply r = { 0 };

	assert_status(q_broker_wait(c, id, NULL, &(size_t){ 0 }, &r, LONG_MS), status);
	assert_int_equal(r.id, id);
	return r;
}

/* ---- frames, by hand ------------------------------------------------------------------------- */

BrokerClient *raw(void **state)
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

bool throw_bytes(BrokerClient *c, const void *bytes, size_t n)
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

size_t encode(struct gq_frame *f, uint8_t *to)
{
	size_t n = 0;

	f->flags |= GQ_FLAG_CHECKSUM;
	assert_int_equal(gq__frame_encode(f, to, GQ_WIRE_FRAME_MAX, &n), GQ_FRAME_OK);
	return n;
}

void throw_frame(BrokerClient *c, struct gq_frame *f)
{
	static uint8_t out[GQ_WIRE_FRAME_MAX];
	const size_t n = encode(f, out);

	assert_true(throw_bytes(c, out, n));
}

struct heard *next(BrokerClient *c)
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

void expect_nack(BrokerClient *c, uint64_t correlation, uint32_t status)
{
	struct heard *h = next(c);

	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_NACK);
	assert_int_equal(h->frame.correlation, correlation);
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0), status);
	gq__broker_free(h);
}

void expect_closed(BrokerClient *c)
{
	struct heard *h = next(c);

	assert_null(h);
	q_broker_close(c);
}

void say_hello(BrokerClient *c, uint32_t low, uint32_t high)
{
	const uint32_t versions[2] = { low, high };
	struct gq_frame f = { .type = GQ_MESSAGE_HELLO, .correlation = 1 };

	gq__frame_set(&f, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	throw_frame(c, &f);
}

struct heard *expect_hello(BrokerClient *c)
{
	struct heard *h = next(c);

	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_HELLO);
	assert_true((h->frame.flags & GQ_FLAG_REPLY) != 0);
	c->rules.state = GQ_FRAME_AFTER_HELLO;
	return h;
}

BrokerClient *greeted(void **state)
{
	BrokerClient *c = raw(state);

	say_hello(c, 1, 1);
	gq__broker_free(expect_hello(c));
	return c;
}

void expect_it_serves(BrokerClient *c, uint64_t correlation)
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

/* ---- all of them ----------------------------------------------------------------------------- */

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

static sem_t guarded;

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
	sem_post(&guarded);
	for (;;)
		pause();
	return NULL;
}

static void start_guard(void)
{
	pthread_t thread;

	if (sem_init(&guarded, 0, 0) != 0 || pthread_create(&thread, NULL, guard, NULL) != 0)
		abort();
	pthread_detach(thread);
	/* libfuse forks, too, and its child allocates: it must not inherit AddressSanitizer's lock
	 * from a thread that is just being made. */
	while (sem_wait(&guarded) != 0)
		;
}

bool ways_look(void)
{
	by_cuse = getenv("GPUQ_TEST_CUSE") != NULL;
	if (by_cuse && access("/dev/cuse", R_OK | W_OK) != 0) {
		fprintf(stderr, "left out, all of it: /dev/cuse: %s\n", strerror(errno));
		return false;
	}
	has_netlink = look_for_netlink();
	has_chardev = probe_chardev();
	for (unsigned w = 0; w < WAYS; w++)
		if (!way_is_there(&ways[w]))
			fprintf(stderr, "left out: %s, which this machine has not\n", ways[w].name);
	if (has_chardev)
		start_guard();
	return true;
}

bool way_is_there(const struct way *w)
{
	return w->is_there == NULL || *w->is_there;
}

unsigned ways_add(struct CMUnitTest *to, const struct CMUnitTest *cases, unsigned count)
{
	unsigned n = 0;

	for (unsigned w = 0; w < WAYS; w++) {
		for (unsigned i = 0; i < count && way_is_there(&ways[w]); i++) {
			to[n] = cases[i];
			to[n].name = way_name(cases[i].name, &ways[w]);
			to[n++].initial_state = (void *)(uintptr_t)&ways[w];
		}
	}
	return n;
}

const char *way_name(const char *test, const struct way *w)
{
	static char names[512][128];
	static unsigned n;

	if (n == 512)
		abort();
	snprintf(names[n], sizeof(names[n]), "%s over %s", test, w->name);
	return names[n++];
}

int ways_run(const char *group, const struct CMUnitTest *tests, unsigned n, int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	else if (by_cuse)
		cmocka_set_test_filter("*over chardev*");
	signal(SIGPIPE, SIG_IGN);
	unsetenv("GPUQ_TOKEN");
	return _cmocka_run_group_tests(group, tests, n, set_up, tear_down);
}
#else
typedef int ways_is_no_empty_file;
#endif
