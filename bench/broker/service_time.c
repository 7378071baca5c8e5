/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service_time.c - how soon whoever waits at gpuqd's services hears of it, by each transport.
 *
 *     service_time BUILD [--smoke | CASE]
 *
 * It starts gpuqds of its own. Each case has an aim of shared/reference/serving.md; one that is
 * not met in the worst sample is said on standard error.
 *
 *     worker_killed  from kill -9 of a worker until a watcher hears that it is gone (100 ms)
 *     request_lost   ... until the caller of its request hears that that is lost (100 ms)
 *     daemon_killed  from kill -9 of gpuqd until a caller hears that its request is lost (100 ms,
 *                    by netlink 1 s)
 *     deadline       how late a request ends whose worker hangs (5 ms)
 *     breaker_open   a call that an open breaker refuses (1 ms)
 *     refused        a call that is refused because too many wait, beside one who sends as fast as
 *                    gpuqd refuses (5 ms)
 *     beside_deaf    p99 of a small call there and back, beside a client that never reads 64
 *                    replies of 60000 bytes: of that without it, by rounds in turns (1.2); and by
 *                    how much gpuqd's memory has grown meanwhile
 *     beside_user    p50 and p99 of a call of 10 ms, of 32 at a time, beside another user's process
 *                    that has as much waiting as it may and asks again as soon as it is allowed to:
 *                    of that without it, by rounds in turns (1.1); and how often it is refused a
 *                    second. For an op of which a user may have all that the worker takes, and for
 *                    one of which it may have 75 percent. By a socket, as root: it takes two users
 *     launches       requests a second of a worker that spends 100 us whenever it begins, however
 *                    many requests it then has, with 24 outstanding, by a socket: as they come, and
 *                    of an op whose requests gpuqd hands out in batches of 12; by rounds in turns
 */
#define _GNU_SOURCE
#include <gpuq/broker.h>

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	LONG_MS = 60000,
	MOST = 2000, /* samples */
	LARGE = 60000,
	DEADLINE_MS = 20,
	ROUNDS = 7,
	TRIPS = 2000,
	WAYS = 3,
	OUTSTANDING = 24,
	LAUNCH_US = 100,
	ROUND_MS = 300,
	PLACES = 32,
	WORK_NS = 10000000,
	STRANGER = 65534,
	CALLS = 200
};

static bool smoke;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double ms_since(uint64_t then_ns)
{
	return (double)(now_ns() - then_ns) * 1e-6;
}

static void nap_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = (long)ms * 1000000 }, NULL);
}

/* ---- a gpuqd --------------------------------------------------------------------------------- */

static struct {
	pid_t pid;
	char program[512], folder[40], config[48], socket[48], device[48];
	char endpoint[WAYS][64]; /* empty: this machine has no such transport */
} d;
static const char *const way_name[WAYS] = { "unix", "netlink", "chardev" };

static void end_gpuqd(int how)
{
	if (d.pid > 0) {
		kill(d.pid, how);
		waitpid(d.pid, NULL, 0);
	}
	d.pid = 0;
}

static void clean_up(void)
{
	static const char *const left[] = { "c", "s", "s.lock", "d.lock", "s.page" };
	char path[64];

	end_gpuqd(SIGTERM);
	for (size_t i = 0; d.folder[0] != '\0' && i < sizeof(left) / sizeof(left[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", d.folder, left[i]);
		unlink(path);
	}
	rmdir(d.folder);
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "service_time: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	clean_up();
	exit(1);
}

static void must(QueueStatus status)
{
	if (status != Q_OK)
		die("%s: %s", q_status_string(status), q_last_error());
}

/* @return false: it has ended, as where a transport is missing */
static bool start_gpuqd(void)
{
	char line[256];
	int out[2];
	ssize_t n;

	if (pipe(out) != 0)
		die("pipe");
	d.pid = fork();
	if (d.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		execl(d.program, "gpuqd", "--config", d.config, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	n = read(out[0], line, sizeof(line) - 1);
	close(out[0]);
	line[n > 0 ? n : 0] = '\0';
	if (strstr(line, "services") != NULL && strstr(line, "cannot") == NULL)
		return true;
	end_gpuqd(SIGKILL);
	return false;
}

static void configure(bool netlink, bool device)
{
	FILE *f = fopen(d.config, "w");

	if (f == NULL)
		die("%s cannot be written", d.config);
	fprintf(f,
		"[services]\nsocket = %s\nsocket_mode = 0666\nuid_connect_rate = 0\nqueued = "
		"80\nwindow = 256\nbreaker_open_ms = 60s\n",
		d.socket);
	snprintf(d.endpoint[0], sizeof(d.endpoint[0]), "unix:%s", d.socket);
	d.endpoint[1][0] = d.endpoint[2][0] = '\0';
	if (netlink) {
		const unsigned port = 0x50000000u + (unsigned)getpid();

		fprintf(f, "netlink = %u\n", port);
		snprintf(d.endpoint[1], sizeof(d.endpoint[1]), "netlink:%u", port);
	}
	if (device) {
		fprintf(f, "chardev = %s\n", d.device);
		snprintf(d.endpoint[2], sizeof(d.endpoint[2]), "chardev:%s", d.device);
	}
	fprintf(f, "[op together]\nbatch = 12\nbatch_delay_us = 500\n");
	fprintf(f, "[op kept]\nuser_percent = 75\n");
	fclose(f);
}

/* With all transports that there are. */
static void begin(const char *build)
{
	snprintf(d.program, sizeof(d.program), "%s/bin/gpuqd", build);
	if (access(d.program, X_OK) != 0) {
		fprintf(stderr, "service_time: %s has no gpuqd\n", build);
		exit(77);
	}
	snprintf(d.folder, sizeof(d.folder), "/tmp/gpuq-service-time-XXXXXX");
	if (mkdtemp(d.folder) == NULL)
		die("no folder in /tmp");
	snprintf(d.config, sizeof(d.config), "%s/c", d.folder);
	snprintf(d.socket, sizeof(d.socket), "%s/s", d.folder);
	snprintf(d.device, sizeof(d.device), "%s/d", d.folder);
	for (unsigned less = 0; less < 4; less++) {
		configure((less & 2) == 0, (less & 1) == 0);
		if (start_gpuqd())
			return;
	}
	die("gpuqd does not start");
}

static BrokerClient *to(unsigned way)
{
	const BrokerConfig cfg = { .endpoint = d.endpoint[way], .timeout_ms = LONG_MS };
	BrokerClient *c = q_broker_connect(&cfg);

	if (c == NULL)
		die("%s", q_last_error());
	return c;
}

static BrokerClient *worker(unsigned way, const char *name, const char *can, uint32_t capacity)
{
	const BrokerService s = { .name = name, .capability = can, .capacity = capacity };
	BrokerClient *c = to(way);

	must(q_service_register(c, &s));
	return c;
}

/* ---- children -------------------------------------------------------------------------------- */

enum work { WORK_NEVER, WORK_AT_ONCE, WORK_MS, WORK_LAUNCH, WORK_SIDE_BY_SIDE };

/* Each request takes WORK_NS, a tenth more or less, whatever else is there. */
static void work_side_by_side(BrokerClient *c)
{
	struct pollfd at = { .fd = q_broker_fd(c), .events = POLLIN };
	static BrokerRequest q[PLACES];
	static uint64_t due_ns[PLACES];
	uint32_t random = 1;
	unsigned n = 0;

	for (;;) {
		const uint64_t now = now_ns();
		struct timespec left;
		QueueStatus status;
		unsigned first = 0;

		for (unsigned i = 1; i < n; i++)
			first = due_ns[i] < due_ns[first] ? i : first;
		if (n != 0 && now >= due_ns[first]) {
			must(q_service_reply(c, &q[first], Q_REASON_OK, NULL, 0));
			q[first] = q[--n];
			due_ns[first] = due_ns[n];
			continue;
		}
		status = n == PLACES ? Q_ERR_TIMEOUT
				     : q_service_recv(c, &q[n], n != 0 ? 0 : UINT32_MAX);
		if (status == Q_OK) {
			random = random * 1664525 + 1013904223;
			due_ns[n++] = now_ns() + WORK_NS / 10 * 9 + random / 4096 * 2;
			continue;
		}
		if (status != Q_ERR_TIMEOUT)
			return;
		left = (struct timespec){ .tv_nsec = (long)(due_ns[first] - now) };
		(void)ppoll(&at, 1, &left, NULL); /* exact, where recv() counts milliseconds */
	}
}

/* As many requests as it gets at once, each time for the same price. */
static void launch_for_ever(BrokerClient *c)
{
	static BrokerRequest q[256];
	size_t n;

	while (q_service_recv_batch(c, q, 256, &n, UINT32_MAX) == Q_OK) {
		const uint64_t then_ns = now_ns();

		while (now_ns() - then_ns < LAUNCH_US * UINT64_C(1000))
			;
		for (size_t i = 0; i < n; i++)
			must(q_service_reply(c, &q[i], Q_REASON_OK, NULL, 0));
	}
}

static void work_for_ever(unsigned way, const char *can, uint32_t capacity, enum work how, int told)
{
	char name[16];
	BrokerClient *c;
	BrokerRequest q;

	/* Of its own: by netlink gpuqd may not know yet that the one before it has gone. */
	snprintf(name, sizeof(name), "child-%d", (int)getpid());
	c = worker(way, name, can, capacity);

	(void)!write(told, "x", 1);
	if (how == WORK_LAUNCH)
		launch_for_ever(c);
	if (how == WORK_SIDE_BY_SIDE)
		work_side_by_side(c);
	while (q_service_recv(c, &q, UINT32_MAX) == Q_OK) {
		if (how == WORK_NEVER)
			continue;
		if (how == WORK_MS)
			nap_ms(1);
		if (q_service_reply(c, &q, Q_REASON_OK, q.payload, q.bytes) != Q_OK)
			break;
	}
}

/* Its requests are refused, most of them, and it sends the next ones. */
static void flood_for_ever(const char *op)
{
	const BrokerCall call = { .service = op, .timeout_ms = LONG_MS };
	BrokerClient *c = to(0);
	uint64_t id;

	for (;;) {
		while (q_broker_submit(c, &call, &id) == Q_OK)
			;
		(void)q_broker_wait(c, 0, NULL, &(size_t){ 0 }, NULL, LONG_MS);
	}
}

static pid_t fork_child(void)
{
	const pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		d.pid = 0; /* not this process's to end */
		d.folder[0] = '\0';
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static pid_t start_worker(unsigned way, const char *can, uint32_t capacity, enum work how)
{
	int told[2];
	char byte;
	pid_t pid;

	if (pipe(told) != 0)
		die("pipe");
	pid = fork_child();
	if (pid == 0) {
		work_for_ever(way, can, capacity, how, told[1]);
		_exit(0);
	}
	close(told[1]);
	if (read(told[0], &byte, 1) != 1)
		die("a worker does not come");
	close(told[0]);
	return pid;
}

static void kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ---- figures --------------------------------------------------------------------------------- */

static double sample[MOST];
static unsigned samples;

static void add(double value)
{
	if (samples < MOST)
		sample[samples++] = value;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile_of(double *of, unsigned n, double q)
{
	qsort(of, n, sizeof(*of), compare);
	return of[(unsigned)(q * (n - 1))];
}

static double quantile(double q)
{
	return quantile_of(sample, samples, q);
}

static void line(const char *name, unsigned way, const char *metric, const char *unit,
		 const double *of, unsigned n)
{
	printf("{\"case\":\"%s\",\"peer\":\"gpuq\",\"variant\":\"%s\",\"metric\":\"%s\",\"unit\":"
	       "\"%s\","
	       "\"samples\":[",
	       name, way_name[way], metric, unit);
	for (unsigned i = 0; i < n; i++)
		printf("%s%.4g", i == 0 ? "" : ",", of[i]);
	printf("]}\n");
	fflush(stdout);
}

/* Median and most of the samples so far, which are in ms: of fifths of them, as they came; for
 * people of all. */
static void say(const char *name, unsigned way, double aim)
{
	const unsigned parts = samples < 10 ? 1 : 5;
	double p50[5], most[5];

	for (unsigned i = 0; i < parts; i++) {
		const unsigned from = samples * i / parts, n = samples * (i + 1) / parts - from;

		p50[i] = quantile_of(sample + from, n, 0.5);
		most[i] = quantile_of(sample + from, n, 1);
	}
	line(name, way, "p50", "ms", p50, parts);
	line(name, way, "most", "ms", most, parts);
	if (!smoke)
		fprintf(stderr, "%s, %s: p50 %.3g, p99 %.3g, most %.3g ms of %u; aim %g ms: %s\n",
			name, way_name[way], quantile(0.5), quantile(0.99), quantile(1), samples,
			aim, quantile(1) < aim ? "met" : "NOT MET");
	samples = 0;
}

/* ---- who dies -------------------------------------------------------------------------------- */

static void await_state(BrokerClient *watch, pid_t pid, const char *state)
{
	BrokerServiceInfo info = { .state = "" };
	char name[Q_BROKER_NAME_BYTES];

	snprintf(name, sizeof(name), "child-%d", (int)pid);
	while (strcmp(info.name, name) != 0 || strcmp(info.state, state) != 0)
		must(q_broker_watch(watch, &info, LONG_MS));
}

/* Until the only service of that op has that many requests. */
static void await_active(BrokerClient *c, const char *op, uint32_t active)
{
	BrokerServiceInfo info = { .active = UINT32_MAX };

	for (size_t n = 0; n != 1 || info.active != active;)
		must(q_broker_discover(c, op, &info, 1, &n));
}

static void worker_killed(unsigned way, unsigned times)
{
	BrokerClient *watch = to(way);

	for (unsigned i = 0; i < times; i++) {
		const pid_t pid = start_worker(way, "op=die", 1, WORK_NEVER);
		uint64_t then_ns;

		await_state(watch, pid, "ready");
		nap_ms(i * 37 % 500); /* at any time between two looks of gpuqd's */
		then_ns = now_ns();
		kill(pid, SIGKILL);
		await_state(watch, pid, "gone");
		add(ms_since(then_ns));
		waitpid(pid, NULL, 0);
	}
	say("worker_killed", way, 100);
	q_broker_close(watch);
}

static void request_lost(unsigned way, unsigned times)
{
	const BrokerCall call = { .service = "die", .timeout_ms = LONG_MS };
	BrokerClient *c = to(way);

	for (unsigned i = 0; i < times; i++) {
		const pid_t pid = start_worker(way, "op=die", 1, WORK_NEVER);
		uint64_t id, then_ns;
		BrokerReply r;

		must(q_broker_submit(c, &call, &id));
		await_active(c, "op=die", 1);
		nap_ms(i * 37 % 500);
		then_ns = now_ns();
		kill(pid, SIGKILL);
		if (q_broker_wait(c, id, NULL, &(size_t){ 0 }, &r, LONG_MS) != Q_ERR_LOST)
			die("a request of a killed worker's is not lost: %s", q_last_error());
		add(ms_since(then_ns));
		waitpid(pid, NULL, 0);
	}
	say("request_lost", way, 100);
	q_broker_close(c);
}

static void daemon_killed(unsigned way, unsigned times)
{
	const BrokerCall call = { .service = "hang", .timeout_ms = LONG_MS };

	for (unsigned i = 0; i < times; i++) {
		BrokerClient *w = worker(way, "w", "op=hang", 1), *c = to(way);
		uint64_t id, then_ns;
		BrokerRequest q;

		must(q_broker_submit(c, &call, &id));
		must(q_service_recv(w, &q, LONG_MS));
		nap_ms(i * 37 % 500);
		then_ns = now_ns();
		kill(d.pid, SIGKILL);
		if (q_broker_wait(c, id, NULL, &(size_t){ 0 }, NULL, LONG_MS) != Q_ERR_LOST)
			die("gpuqd is dead, and a request is not lost: %s", q_last_error());
		add(ms_since(then_ns));
		end_gpuqd(SIGKILL);
		(void)q_service_reply(w, &q, Q_REASON_OK, NULL, 0); /* its memory is free */
		q_broker_close(w);
		q_broker_close(c);
		if (!start_gpuqd())
			die("gpuqd does not start again");
	}
	say("daemon_killed", way, way == 1 ? 1000 : 100);
}

/* ---- who is told no -------------------------------------------------------------------------- */

static void deadline(unsigned way, unsigned times)
{
	const BrokerCall call = { .service = "late", .timeout_ms = DEADLINE_MS };
	BrokerClient *w = worker(way, "w", "op=late", 1), *c = to(way);

	for (unsigned i = 0; i < times; i++) {
		uint64_t id, then_ns = now_ns();
		BrokerRequest q;

		must(q_broker_submit(c, &call, &id));
		must(q_service_recv(w, &q, LONG_MS));
		if (q_broker_wait(c, id, NULL, &(size_t){ 0 }, NULL, LONG_MS) != Q_ERR_EXPIRED)
			die("it does not expire: %s", q_last_error());
		add(ms_since(then_ns) - DEADLINE_MS);
		must(q_service_reply(w, &q, Q_REASON_OK, NULL, 0));
	}
	say("deadline", way, 5);
	q_broker_close(w);
	q_broker_close(c);
}

static void breaker_open(unsigned way, unsigned times)
{
	const BrokerCall call = { .service = "bad", .timeout_ms = LONG_MS };
	BrokerClient *w = worker(way, "w", "op=bad", 1), *c = to(way);

	for (unsigned i = 0; i < 5; i++) {
		BrokerRequest q;
		uint64_t id;

		must(q_broker_submit(c, &call, &id));
		must(q_service_recv(w, &q, LONG_MS));
		must(q_service_reply(w, &q, Q_REASON_INTERNAL, NULL, 0));
		(void)q_broker_wait(c, id, NULL, &(size_t){ 0 }, NULL, LONG_MS);
	}
	for (unsigned i = 0; i < times; i++) {
		const uint64_t then_ns = now_ns();
		BrokerReply r = { 0 };

		(void)q_broker_call(c, &call, NULL, &(size_t){ 0 }, &r);
		add(ms_since(then_ns));
		if (r.reason != Q_REASON_BREAKER || r.retry_after_ms == 0)
			die("the breaker is not open: %s", q_last_error());
	}
	say("breaker_open", way, 1);
	q_broker_close(w);
	q_broker_close(c);
}

static void refused(unsigned way, unsigned times)
{
	const BrokerCall call = { .service = "slow", .timeout_ms = LONG_MS };
	const pid_t slow = start_worker(way, "op=slow", 1, WORK_MS), flood = fork_child();
	BrokerClient *c;

	if (flood == 0)
		flood_for_ever("slow");
	c = to(way);
	for (unsigned tries = 0; samples < times && tries < 100 * MOST; tries++) {
		const uint64_t then_ns = now_ns();
		BrokerReply r = { 0 };

		(void)q_broker_call(c, &call, NULL, &(size_t){ 0 }, &r);
		if (r.reason == Q_REASON_OVERLOADED)
			add(ms_since(then_ns));
	}
	if (samples == 0)
		die("nothing is refused");
	say("refused", way, 5);
	kill_child(flood);
	kill_child(slow);
	q_broker_close(c);
}

/* ---- who does not read ----------------------------------------------------------------------- */

static double resident_kib(void)
{
	unsigned long pages = 0;
	char path[40];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)d.pid);
	f = fopen(path, "r");
	if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1)
		die("%s cannot be read", path);
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
}

static BrokerClient *deaf(unsigned way)
{
	static const char large[LARGE];
	const BrokerCall call = {
		.service = "echo", .payload = large, .bytes = LARGE, .timeout_ms = LONG_MS
	};
	BrokerClient *c = to(way);

	for (unsigned i = 0; i < 64; i++) {
		uint64_t id;

		/* By netlink there may be no room for a moment. */
		while (q_broker_submit(c, &call, &id) == Q_ERR_FULL)
			nap_ms(1);
	}
	return c;
}

/* @return p99 of a call there and back, in ms */
static double trips(BrokerClient *c)
{
	const BrokerCall call = {
		.service = "echo", .payload = "well", .bytes = 4, .timeout_ms = LONG_MS
	};
	double p99;

	for (unsigned i = 0; i < (smoke ? 10 : TRIPS); i++) {
		const uint64_t then_ns = now_ns();
		char reply[8];
		size_t n = sizeof(reply);

		must(q_broker_call(c, &call, reply, &n, NULL));
		add(ms_since(then_ns));
	}
	p99 = quantile(0.99);
	samples = 0;
	return p99;
}

static void beside_deaf(unsigned way)
{
	const pid_t pid = start_worker(way, "op=echo", 64, WORK_AT_ONCE);
	double alone[ROUNDS], beside[ROUNDS], ratio[ROUNDS], grown[ROUNDS];
	const unsigned rounds = smoke ? 1 : ROUNDS;
	BrokerClient *c = to(way);

	(void)trips(c);
	for (unsigned i = 0; i < rounds; i++) {
		BrokerClient *never;
		double before;

		if (i % 2 == 0)
			alone[i] = trips(c);
		never = deaf(way);
		await_active(c, "op=echo", 0); /* all its replies have come to gpuqd */
		before = resident_kib();
		beside[i] = trips(c);
		grown[i] = resident_kib() - before;
		q_broker_close(never);
		if (i % 2 != 0)
			alone[i] = trips(c);
		ratio[i] = beside[i] / alone[i];
	}
	line("beside_deaf", way, "p99_alone", "ms", alone, rounds);
	line("beside_deaf", way, "p99", "ms", beside, rounds);
	line("beside_deaf", way, "p99_ratio", "1", ratio, rounds);
	line("beside_deaf", way, "grown", "KiB", grown, rounds);
	if (!smoke) {
		for (unsigned i = 0; i < rounds; i++)
			add(ratio[i]);
		fprintf(stderr,
			"beside_deaf, %s: p99 of that without it, median %.3g (%.3g, %.3g); ",
			way_name[way], quantile(0.5), quantile(0), quantile(1));
		fprintf(stderr, "aim 1.2: %s\n", quantile(0.5) < 1.2 ? "met" : "NOT MET");
		samples = 0;
	}
	kill_child(pid);
	q_broker_close(c);
}

/* ---- another user ---------------------------------------------------------------------------- */

/* Of the other user's process. */
static struct flood {
	_Atomic unsigned asked, refused;
} * flood;

/* Always somewhat more than it may have, as soon as it may; but it takes no more of a CPU than that
 * needs: whoever does makes others wait for the CPU, whatever it does with it. */
static void use_up(const char *op)
{
	enum { ASKED = PLACES + 60 + 2 }; /* three quarters of `queued` may wait */
	const BrokerCall call = { .service = op, .timeout_ms = LONG_MS };
	uint64_t not_before_ns = 0, id;
	unsigned inside = 0;
	BrokerClient *c;

	if (setuid(STRANGER) != 0)
		_exit(1);
	c = to(0);
	for (;;) {
		BrokerReply r = { 0 };

		if (inside < ASKED && now_ns() >= not_before_ns &&
		    q_broker_submit(c, &call, &id) == Q_OK) {
			flood->asked++;
			inside++;
			continue;
		}
		if (inside == 0) { /* nothing to wait for */
			nap_ms(1);
			continue;
		}
		(void)q_broker_wait(c, 0, NULL, &(size_t){ 0 }, &r, 1);
		inside -= r.id != 0;
		if (r.id == 0 || r.status == Q_OK)
			continue;
		if (r.reason != Q_REASON_OVERLOADED)
			_exit(1);
		flood->refused++;
		not_before_ns = now_ns() + r.retry_after_ms * UINT64_C(1000000);
	}
}

static pid_t start_using_up(const char *op)
{
	const unsigned before = flood->refused;
	const pid_t pid = fork_child();

	if (pid == 0)
		use_up(op);
	for (unsigned i = 0; flood->refused == before; i++) {
		if (i >= LONG_MS || waitpid(pid, NULL, WNOHANG) != 0)
			die("the other user is not refused");
		nap_ms(1);
	}
	return pid;
}

/* Ours, one at a time. */
static void calls_of(BrokerClient *c, const char *op, double *p50, double *p99)
{
	const BrokerCall call = { .service = op, .timeout_ms = LONG_MS };

	samples = 0;
	for (unsigned i = 0; i < (smoke ? 5 : CALLS); i++) {
		const uint64_t then_ns = now_ns();

		must(q_broker_call(c, &call, NULL, &(size_t){ 0 }, NULL));
		add(ms_since(then_ns));
		/* Not in step with the others' ends. */
		nanosleep(&(struct timespec){ .tv_nsec = (long)(i * 377 % 1000) * 1000 }, NULL);
	}
	*p50 = quantile(0.5);
	*p99 = quantile(0.99);
	samples = 0;
}

static void say_ratio(const char *op, const char *name, const double *of, unsigned n)
{
	double ratio[ROUNDS], median;

	memcpy(ratio, of, n * sizeof(*of));
	median = quantile_of(ratio, n, 0.5); /* sorts them */
	fprintf(stderr, "beside_user, op %s, %s of that without it: median %.3g (%.3g, %.3g); ", op,
		name, median, ratio[0], ratio[n - 1]);
	fprintf(stderr, "aim 1.1: %s\n", median <= 1.1 ? "met" : "NOT MET");
}

/* By op, the first of them also without the other user. */
enum { SIDE, KEPT, ALONE, ARMS };

struct beside_user {
	double p50[ROUNDS], p99[ROUNDS], of50[ROUNDS], of99[ROUNDS], refusals[ROUNDS];
};

static void measure_beside(BrokerClient *c, unsigned arm, struct beside_user *to, unsigned round)
{
	static const char *const ops[ARMS] = { "side", "kept", "side" };
	const pid_t pid = arm != ALONE ? start_using_up(ops[arm]) : 0;
	const unsigned before = flood->refused;
	const uint64_t then_ns = now_ns();

	calls_of(c, ops[arm], &to->p50[round], &to->p99[round]);
	to->refusals[round] = (flood->refused - before) / (ms_since(then_ns) * 1e-3);
	if (arm == ALONE)
		return;
	kill_child(pid);
	await_active(c, "op=side", 0);
}

static void say_beside(const char *op, struct beside_user *b, const struct beside_user *alone,
		       unsigned rounds)
{
	static const char *const names[2][6] = {
		{ "p50", "p50_ratio", "p99", "p99_ratio", "refused" },
		{ "p50_kept", "p50_kept_ratio", "p99_kept", "p99_kept_ratio", "refused_kept" },
	};
	const char *const *name = names[strcmp(op, "kept") == 0];

	for (unsigned i = 0; i < rounds; i++) {
		b->of50[i] = b->p50[i] / alone->p50[i];
		b->of99[i] = b->p99[i] / alone->p99[i];
	}
	if (!smoke) {
		say_ratio(op, "p50", b->of50, rounds);
		say_ratio(op, "p99", b->of99, rounds);
	}
	line("beside_user", 0, name[0], "ms", b->p50, rounds);
	line("beside_user", 0, name[1], "1", b->of50, rounds);
	line("beside_user", 0, name[2], "ms", b->p99, rounds);
	line("beside_user", 0, name[3], "1", b->of99, rounds);
	line("beside_user", 0, name[4], "1/s", b->refusals, rounds);
}

static void beside_user(void)
{
	static struct beside_user found[ARMS];
	const unsigned rounds = smoke ? 1 : ROUNDS;
	BrokerClient *c;
	pid_t worker_pid;

	if (geteuid() != 0) {
		fprintf(stderr,
			"service_time: it takes root for two users: beside_user is left out\n");
		return;
	}
	flood = mmap(NULL, sizeof(*flood), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (flood == MAP_FAILED || chmod(d.folder, 0755) != 0)
		die("beside_user: no memory, or no right to the folder");
	worker_pid = start_worker(0, "op=side op=kept", PLACES, WORK_SIDE_BY_SIDE);
	c = to(0);
	measure_beside(c, ALONE, &found[ALONE], 0); /* so that all is warm */
	for (unsigned i = 0; i < rounds; i++)
		for (unsigned k = 0; k < ARMS; k++)
			measure_beside(c, (i + k) % ARMS, &found[(i + k) % ARMS], i);
	say_beside("side", &found[SIDE], &found[ALONE], rounds);
	say_beside("kept", &found[KEPT], &found[ALONE], rounds);
	line("beside_user", 0, "p50_alone", "ms", found[ALONE].p50, rounds);
	line("beside_user", 0, "p99_alone", "ms", found[ALONE].p99, rounds);
	kill_child(worker_pid);
	q_broker_close(c);
}

/* @return requests a second */
static double rate_of(BrokerClient *c, const char *op)
{
	const BrokerCall call = {
		.service = op, .payload = "x", .bytes = 1, .timeout_ms = LONG_MS
	};
	const uint64_t begin_ns = now_ns();
	const uint64_t until_ns = begin_ns + (smoke ? 1 : ROUND_MS) * UINT64_C(1000000);
	unsigned done = 0;
	uint64_t id;

	for (unsigned i = 0; i < OUTSTANDING; i++)
		must(q_broker_submit(c, &call, &id));
	for (; done == 0 || now_ns() < until_ns; done++) {
		must(q_broker_wait(c, 0, NULL, NULL, NULL, LONG_MS));
		must(q_broker_submit(c, &call, &id));
	}
	for (unsigned i = 0; i < OUTSTANDING; i++, done++)
		must(q_broker_wait(c, 0, NULL, NULL, NULL, LONG_MS));
	return done / (ms_since(begin_ns) * 1e-3);
}

static void launches(void)
{
	const pid_t pid = start_worker(0, "op=alone op=together", OUTSTANDING, WORK_LAUNCH);
	const unsigned rounds = smoke ? 1 : ROUNDS;
	double alone[ROUNDS], together[ROUNDS];
	BrokerClient *c = to(0);

	for (unsigned i = 0; i < 2 * rounds; i++)
		if ((i & 1) == (i >> 1 & 1))
			alone[i / 2] = rate_of(c, "alone");
		else
			together[i / 2] = rate_of(c, "together");
	line("launches", 0, "as they come", "msg/s", alone, rounds);
	line("launches", 0, "in batches", "msg/s", together, rounds);
	kill_child(pid);
	q_broker_close(c);
}

/* NULL: all */
static const char *only;

static bool wanted(const char *name)
{
	return only == NULL || strcmp(only, name) == 0;
}

static void over(unsigned way)
{
	if (d.endpoint[way][0] == '\0') {
		fprintf(stderr, "service_time: there is no %s here: left out\n", way_name[way]);
		return;
	}
	if (wanted("worker_killed"))
		worker_killed(way, smoke ? 1 : 20);
	if (wanted("request_lost"))
		request_lost(way, smoke ? 1 : 20);
	if (wanted("deadline"))
		deadline(way, smoke ? 1 : 100);
	if (wanted("breaker_open"))
		breaker_open(way, smoke ? 5 : 1000);
	if (wanted("refused"))
		refused(way, smoke ? 5 : 1000);
	if (wanted("beside_deaf"))
		beside_deaf(way);
	if (wanted("daemon_killed"))
		daemon_killed(way, smoke ? 1 : 10);
}

int main(int argc, char **argv)
{
	smoke = argc == 3 && strcmp(argv[2], "--smoke") == 0;
	only = argc == 3 && !smoke ? argv[2] : NULL;
	if (argc < 2 || argc > 3 || (only != NULL && only[0] == '-')) {
		fprintf(stderr, "usage: service_time BUILD [--smoke | CASE]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	begin(argv[1]);
	for (unsigned way = 0; way < WAYS; way++)
		over(way);
	if (wanted("beside_user"))
		beside_user();
	if (wanted("launches"))
		launches();
	clean_up();
	return 0;
}
