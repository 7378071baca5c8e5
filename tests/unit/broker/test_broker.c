/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broker.c - gpuqd as a process of its own, and its clients: what is refused, several at once,
 * who dies, who lies. What a queue does is in the tests of queues, which run on the remote device,
 * too.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "hostile.h"
#include "support.h"

#include "broker/broker.h"
#include "device/remote/remote.h"
#include "host/base/clock.h"

#include "../../../kernels/vecdot.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a gpuqd ----------------------------------------------------------------------------- */

static char folder[] = "/tmp/gpuq-broker-XXXXXX", socket_path[64], config_path[64], endpoint[80];
static pid_t daemon_pid;

static const char *program(const char *below)
{
	static char path[PATH_MAX];
	const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	char *slash;

	assert_true(n > 0);
	path[n] = '\0';
	slash = strrchr(path, '/');
	assert_non_null(slash);
	snprintf(slash, (size_t)(path + sizeof(path) - slash), "%s", below);
	return path;
}

/* What it has when no client is there. */
static unsigned idle_descriptors;

static unsigned entries(const char *what)
{
	char path[64];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)daemon_pid, what);
	d = opendir(path);
	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void write_config(void)
{
	FILE *f = fopen(config_path, "w");

	assert_non_null(f);
	fprintf(f,
		"[gpuqd]\nsocket = %s\nuid_connect_rate = 0\nuid_connections = 40\nuid_slots = "
		"4096\nuid_bytes = "
		"2560KiB\n"
		"drain_ms = 20000\n"
		"[queue default]\nprocessor = echo\ndevice = cpu\nconsumers = 1\nslot_bytes = 256\n"
		"result_bytes = 256\nwindow = 32\n"
		"[queue own]\nper_client = yes\ndevice = cpu\n"
		"[queue narrow]\nprocessor = sha256\ndevice = cpu\nconsumers = 1\n"
		"capacity = 4\nslot_bytes = 64KiB\nresult_bytes = 64\n",
		socket_path);
	assert_int_equal(fclose(f), 0);
}

static void start_daemon(void)
{
	int out[2];
	char line[128];

	assert_int_equal(pipe(out), 0);
	write_config();
	daemon_pid = fork();
	assert_true(daemon_pid >= 0);
	if (daemon_pid == 0) {
		struct rlimit files;

		getrlimit(RLIMIT_NOFILE, &files);
		files.rlim_cur = 64; /* it may have more, and takes it */
		setrlimit(RLIMIT_NOFILE, &files);
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execl(program("/../../bin/gpuqd"), "gpuqd", "--config", config_path, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	assert_true(read(out[0], line, sizeof(line)) > 0); /* it listens */
	close(out[0]);
	idle_descriptors = entries("fd");
}

static int end_daemon(int how)
{
	int status = 0;

	assert_int_equal(kill(daemon_pid, how), 0);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	daemon_pid = 0;
	return status;
}

/* Until it has stopped: a signal takes its time to reach all threads. */
static void stop_daemon(void)
{
	int status;

	assert_int_equal(kill(daemon_pid, SIGSTOP), 0);
	assert_int_equal(waitpid(daemon_pid, &status, WUNTRACED), daemon_pid);
	assert_true(WIFSTOPPED(status));
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

static int tear_down(void **state)
{
	static const char *const left[] = { "s", "s.lock", "c" };
	char path[80];

	(void)state;
	assert_int_equal(end_daemon(SIGTERM), 0);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, left[i]);
		unlink(path);
	}
	return rmdir(folder);
}

/* Mappings of clients' memory in gpuqd. */
static unsigned mappings(void)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)daemon_pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, "gpuqd-client") != NULL;
	fclose(f);
	return n;
}

static void await_descriptors(unsigned n)
{
	for (unsigned i = 0; entries("fd") != n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* The clients of the test before may not have gone yet. */
static unsigned await_idle(void)
{
	await_descriptors(idle_descriptors);
	return idle_descriptors;
}

static QueueConfig remote_config(void)
{
	return (QueueConfig){
		.capacity = 64, .slot_bytes = 256, .device = Q_DEVICE_REMOTE, .endpoint = endpoint
	};
}

static GpuQueue *remote_queue(void)
{
	const QueueConfig cfg = remote_config();

	return make_queue_from(&cfg);
}

/* ---- what is refused --------------------------------------------------------------------- */

static void a_refusal_names_what_is_wrong_and_what_is_allowed(void **state)
{
	QueueConfig cfg = remote_config();
	char other[120];

	(void)state;
	cfg.endpoint = "tcp:here";
	expect_no_queue(&cfg, "endpoint is 'tcp:here'; allowed: unix:PATH");
	cfg.endpoint = "unix:/nowhere/at/all";
	expect_no_queue(&cfg, "there is no such socket: is gpuqd running?");
	snprintf(other, sizeof(other), "%s#another", endpoint);
	cfg.endpoint = other;
	expect_no_queue(&cfg, "there is no queue 'another'; there is default, own");
	cfg = remote_config();
	cfg.slot_bytes = 257;
	expect_no_queue(&cfg, "slot_bytes is 257; allowed on queue 'default': 1 to 256");
	cfg = remote_config();
	cfg.processor = "crc32c";
	expect_no_queue(&cfg, "runs the processor 'echo', and the client asks for 'crc32c'");
	cfg = remote_config();
	cfg.capacity = 8192;
	cfg.slot_bytes = 16;
	expect_no_queue(&cfg, "8192 slots; allowed: 4096 (uid_slots)");
	cfg.capacity = 4096;
	cfg.slot_bytes = 256;
	cfg.result_bytes = 256;
	expect_no_queue(&cfg, "of shared memory; allowed: 2621440 (uid_bytes)");
	snprintf(other, sizeof(other), "%s#own", endpoint);
	cfg = remote_config();
	cfg.endpoint = other;
	cfg.processor = "/tmp/x.so";
	expect_no_queue(&cfg, "allowed: the name of one that is built into gpuqd");
	cfg.processor = "nobody";
	expect_no_queue(&cfg, "nobody");
	snprintf(other, sizeof(other), "%s#\x1b[2J\nb", endpoint);
	cfg.endpoint = other;
	expect_no_queue(&cfg, "there is no queue '?[2J?b'");
}

static void expect_bad_config(const char *text, size_t bytes, const char *sentence)
{
	static struct broker_config cfg;
	char error[BROKER_ERROR_ROOM], path[80];
	FILE *f;

	snprintf(path, sizeof(path), "%s/bad", folder);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, bytes, f), bytes);
	fclose(f);
	assert_false(broker_config_read(path, &cfg, error));
	unlink(path);
	if (strstr(error, sentence) == NULL)
		fail_msg("'%s' and not '%s'", error, sentence);
}

static void a_configuration_is_not_read_beyond_what_it_says(void **state)
{
	static const char window[] = "[queue a]\nprocessor = echo\ncapacity = 64\nwindow = 65\n";
	static const char nul[] = "[queue a]\nprocessor = echo\0capacity\nwindow = 64\n";
	static const char nul_at_end[] = "[queue a]\nprocessor = echo\0x";
	static const char narrow[] = "[queue a]\nprocessor = echo\ncapacity = 64\n";
	static struct broker_config cfg;
	char error[BROKER_ERROR_ROOM];
	FILE *f = fopen(config_path, "w");

	(void)state;
	expect_bad_config(window, sizeof(window) - 1, "window 65; allowed: 1 to 64, its capacity");
	expect_bad_config(nul, sizeof(nul) - 1, ":2: the line has a NUL byte");
	expect_bad_config(nul_at_end, sizeof(nul_at_end) - 1, "the line has a NUL byte");
	assert_non_null(f);
	fputs(narrow, f);
	fclose(f);
	assert_true(broker_config_read(config_path, &cfg, error));
	assert_int_equal(cfg.queue[0].window, 64);
}

static void what_is_no_socket_is_left_where_it_is(void **state)
{
	char path[80];
	struct stat old;
	int status;
	pid_t pid;
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/precious", folder);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execl(program("/../../bin/gpuqd"), "gpuqd", "-p", "echo", "-s", path, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_int_equal(stat(path, &old), 0);
	assert_true(S_ISREG(old.st_mode));
	unlink(path);
	snprintf(path, sizeof(path), "%s/precious.lock", folder);
	unlink(path);
}

static void a_client_takes_three_descriptors_and_gpuqd_all_it_may_have(void **state)
{
	const unsigned before = await_idle();
	struct rlimit files;
	GpuQueue *q = remote_queue();

	(void)state;
	assert_int_equal(entries("fd"), before + 3);
	q_shutdown(q);
	await_descriptors(before);
	assert_int_equal(prlimit(daemon_pid, RLIMIT_NOFILE, NULL, &files), 0);
	assert_true(files.rlim_cur == files.rlim_max);
}

static void a_program_that_is_no_gpuqd_is_told_apart(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	QueueConfig cfg = remote_config();
	char other[120];
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/other", folder);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	snprintf(other, sizeof(other), "unix:%s/other", folder);
	cfg.endpoint = other;
	expect_no_queue(&cfg, "a program that is no gpuqd");
	close(fd);
	expect_no_queue(&cfg, "nobody listens there");
	unlink(address.sun_path);
}

static void regions_are_refused_with_a_sentence(void **state)
{
	GpuQueue *q = remote_queue();
	RegionTable *table = NULL;

	(void)state;
	assert_status(q_region_table_create(4, &table), Q_OK);
	assert_status(q_bind_regions(q, table), Q_ERR_UNSUPPORTED);
	assert_non_null(strstr(q_last_error(), "copy messages in"));
	q_shutdown(q);
	q_region_table_destroy(table);
}

static void a_user_has_so_many_connections_and_no_more(void **state)
{
	QueueConfig cfg = remote_config();
	const unsigned before = await_idle();
	GpuQueue *q[40];

	(void)state;
	cfg.capacity = 1;
	for (int i = 0; i < 40; i++)
		q[i] = make_queue_from(&cfg);
	expect_no_queue(&cfg, "too many connections (uid_connections)");
	expect_echo(q[39], send(q[39], "x", 1), "x", 1);
	for (int i = 0; i < 40; i++)
		q_shutdown(q[i]);
	await_descriptors(before);
	assert_int_equal(mappings(), 0);
}

/* ---- several at once --------------------------------------------------------------------- */

enum { CLIENTS = 4, MESSAGES = 3000 };

/* @return NULL, or what was wrong */
static void *use(void *arg)
{
	const QueueConfig cfg = remote_config();
	const uint32_t number = *(const uint32_t *)arg;
	GpuQueue *q = q_init(&cfg);
	uint32_t sent = 0, taken = 0;

	if (q == NULL)
		return (void *)"no queue";
	while (taken < MESSAGES) {
		Completion done[32];
		size_t n = 0;

		while (sent < MESSAGES && sent - taken < 48) {
			const uint32_t words[2] = { number, sent };
			const EnqueueOptions o = { .tag = sent };

			if (q_enqueue_ex(q, words, sizeof(words), &o, NULL, LONG_MS) != Q_OK)
				return (void *)"not accepted";
			sent++;
		}
		if (q_wait_any(q, LONG_MS) != Q_OK)
			return (void *)"nothing came";
		q_poll_results(q, done, 32, &n);
		for (size_t i = 0; i < n; i++) {
			const uint32_t words[2] = { number, (uint32_t)done[i].tag };

			if (done[i].status != Q_OK || done[i].result_len != sizeof(words) ||
			    memcmp(done[i].result, words, sizeof(words)) != 0)
				return (void *)"a wrong result";
			q_release(q, done[i].msg_id);
			taken++;
		}
	}
	q_shutdown(q);
	return NULL;
}

static void clients_at_once_each_get_their_own_results(void **state)
{
	pthread_t thread[CLIENTS];
	uint32_t number[CLIENTS];

	(void)state;
	for (uint32_t i = 0; i < CLIENTS; i++) {
		number[i] = i;
		assert_int_equal(pthread_create(&thread[i], NULL, use, &number[i]), 0);
	}
	for (uint32_t i = 0; i < CLIENTS; i++) {
		void *wrong;

		pthread_join(thread[i], &wrong);
		if (wrong != NULL)
			fail_msg("client %u: %s", i, (const char *)wrong);
	}
}

static char kilobytes[65536];

static void *flood(void *arg)
{
	const EnqueueOptions o = { .flags = Q_ENQUEUE_DISCARD };
	const uint32_t *stop = ((void **)arg)[1];
	GpuQueue *q = ((void **)arg)[0];

	while (gq_load_seq_cst_u32(stop) == 0)
		q_enqueue_ex(q, kilobytes, sizeof(kilobytes), &o, NULL, 10);
	return NULL;
}

static void the_client_that_came_first_gets_its_share_of_a_full_queue(void **state)
{
	enum { FLOODERS = 4, MOST = 4000 };
	QueueConfig cfg = remote_config();
	void *args[FLOODERS][2];
	pthread_t thread[FLOODERS];
	GpuQueue *first, *flooder[FLOODERS];
	uint64_t others, id;
	QueueStatus status;
	char narrow[120];
	uint32_t stop = 0;

	(void)state;
	snprintf(narrow, sizeof(narrow), "%s#narrow", endpoint);
	cfg.endpoint = narrow;
	cfg.slot_bytes = sizeof(kilobytes);
	cfg.result_bytes = 64;
	cfg.capacity = 2;
	first = make_queue_from(&cfg);
	cfg.capacity = 8;
	for (int i = 0; i < FLOODERS; i++) {
		flooder[i] = make_queue_from(&cfg);
		args[i][0] = flooder[i];
		args[i][1] = &stop;
		assert_int_equal(pthread_create(&thread[i], NULL, flood, args[i]), 0);
	}
	for (int i = 0; i < FLOODERS; i++)
		while (stats_of(flooder[i]).finished < 20)
			nap_ms(1);
	id = send(first, kilobytes, sizeof(kilobytes));
	do {
		others = 0;
		for (int i = 0; i < FLOODERS; i++)
			others += stats_of(flooder[i]).finished;
		status = q_wait(first, id, 5);
	} while (status == Q_ERR_TIMEOUT && others < MOST);
	gq_exchange_seq_cst_u32(&stop, 1);
	for (int i = 0; i < FLOODERS; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < FLOODERS; i++)
		q_shutdown(flooder[i]);
	assert_status(status, Q_OK); /* before thousands of theirs */
	q_shutdown(first);
}

static void a_client_of_a_queue_of_its_own_names_the_processor(void **state)
{
	QueueConfig cfg = remote_config();
	char own[120], buf[16];
	size_t len = sizeof(buf);
	GpuQueue *q;

	(void)state;
	snprintf(own, sizeof(own), "%s#own", endpoint);
	cfg.endpoint = own;
	cfg.processor = "crc32c";
	q = make_queue_from(&cfg);
	assert_string_equal(queue_info(q).processor, "crc32c");
	assert_int_equal(queue_info(q).device, Q_DEVICE_REMOTE);
	assert_status(take(q, send(q, "123456789", 9), buf, &len), Q_OK);
	assert_int_equal(len, 4);
	q_shutdown(q);
}

/* ---- who dies ---------------------------------------------------------------------------- */

/* A client that is killed in the middle: sends without end, takes what comes. */
static int be_a_client(const char *where)
{
	QueueConfig cfg = remote_config();
	GpuQueue *q;

	cfg.endpoint = where;
	q = q_init(&cfg);
	if (q == NULL)
		return 1;
	puts("ready");
	fflush(stdout);
	for (;;) {
		uint64_t ids[32];
		size_t n = 0;

		q_enqueue(q, "0123456789", 10, NULL, 10);
		q_poll_completions(q, ids, 32, &n);
		q_release_batch(q, ids, n);
	}
}

static pid_t start_client(void)
{
	int out[2];
	char line[32];
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execl("/proc/self/exe", "test_broker", "client", endpoint, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	assert_true(read(out[0], line, sizeof(line)) > 0);
	close(out[0]);
	return pid;
}

static void killed_clients_leave_nothing_behind_and_harm_nobody(void **state)
{
	GpuQueue *q;
	unsigned before, threads;

	(void)state;
	await_idle();
	q = remote_queue();
	before = entries("fd");
	threads = entries("task");
	for (int i = 0; i < 12; i++) {
		const pid_t pid = start_client();

		nap_ms((unsigned)(i % 4) * 3);
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	}
	await_descriptors(before);
	assert_int_equal(entries("task"), threads);
	assert_int_equal(mappings(), 1);
	q_shutdown(q);
}

/* All that was accepted has ended, once. @return how many ended OK */
static uint64_t settle(GpuQueue *q, uint64_t accepted)
{
	uint64_t ok = 0, cancelled = 0, lost = 0;

	while (ok + cancelled + lost < accepted) {
		Completion done[32];
		size_t n = 0;

		assert_status(q_wait_any(q, LONG_MS), Q_OK);
		q_poll_results(q, done, 32, &n);
		for (size_t i = 0; i < n; i++) {
			ok += done[i].status == Q_OK;
			cancelled += done[i].status == Q_ERR_CANCELLED;
			lost += done[i].status == Q_ERR_LOST;
			if (done[i].status == Q_OK)
				assert_memory_equal(done[i].result, &done[i].tag, 8);
			q_release(q, done[i].msg_id);
		}
	}
	assert_int_equal(ok + cancelled + lost, accepted);
	assert_int_equal(stats_of(q).enq_count, accepted);
	assert_int_equal(stats_of(q).lost, lost);
	assert_int_equal(stats_of(q).queue_depth, 0);
	return ok;
}

struct sending {
	GpuQueue *q;
	uint64_t accepted;
	QueueStatus status;
};

static void *send_until_refused(void *arg)
{
	struct sending *s = arg;

	do {
		const EnqueueOptions o = { .tag = s->accepted };

		s->status = q_enqueue_ex(s->q, &o.tag, sizeof(o.tag), &o, NULL, LONG_MS);
		s->accepted += s->status == Q_OK;
		if (s->accepted % 16 == 0) { /* leave room for more */
			uint64_t ids[32];
			size_t n = 0;

			q_poll_completions(s->q, ids, 32, &n);
			q_release_batch(s->q, ids, n);
		}
	} while (s->status == Q_OK);
	return NULL;
}

static void a_killed_daemon_ends_every_accepted_message_and_hangs_nobody(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct sending s = { .q = remote_queue() };
		const unsigned files = files_now(), threads = threads_now();
		pthread_t thread;
		QueueStats stats;

		assert_int_equal(pthread_create(&thread, NULL, send_until_refused, &s), 0);
		nap_ms(5 + (unsigned)i * 10);
		end_daemon(SIGKILL);
		pthread_join(thread, NULL);
		assert_status(s.status, Q_ERR_LOST);
		assert_status(q_drain(s.q, LONG_MS), Q_OK);
		stats = stats_of(s.q);
		assert_int_equal(stats.enq_count, s.accepted);
		assert_int_equal(stats.finished, s.accepted);
		assert_status(q_enqueue(s.q, "x", 1, NULL, 0), Q_ERR_LOST);
		assert_non_null(strstr(q_last_error(), "gpuqd has ended"));
		assert_status(q_stop(s.q, LONG_MS), Q_OK);
		q_shutdown(s.q);
		assert_true(files_now() < files);
		assert_true(threads_now() < threads);
		start_daemon(); /* its socket is left behind, and no hindrance */
	}
}

static void what_has_not_been_claimed_is_told_from_what_may_have_run(void **state)
{
	GpuQueue *q = remote_queue();
	uint64_t tag;

	(void)state;
	/* gpuqd stands still: nothing of this is claimed. */
	stop_daemon();
	for (tag = 0; tag < 40; tag++)
		send_op(q, 0, tag, &tag, sizeof(tag));
	end_daemon(SIGKILL);
	assert_int_equal(settle(q, 40), 0);
	assert_int_equal(stats_of(q).cancelled, 40);
	q_shutdown(q);
	start_daemon();
}

static void a_daemon_told_to_end_finishes_what_it_has(void **state)
{
	GpuQueue *q = remote_queue();
	uint64_t tag;

	(void)state;
	for (tag = 0; tag < 50; tag++)
		send_op(q, 0, tag, &tag, sizeof(tag));
	assert_int_equal(end_daemon(SIGTERM), 0);
	settle(q, 50);
	assert_int_equal(stats_of(q).lost, 0);
	assert_int_equal(access(socket_path, F_OK), -1);
	q_shutdown(q);
	start_daemon();
}

static void a_stop_ends_in_its_time_while_gpuqd_stands_still(void **state)
{
	QueueConfig cfg = remote_config();
	GpuQueue *q = remote_queue(), *dropped;

	(void)state;
	cfg.shutdown_timeout_ms = 20;
	dropped = make_queue_from(&cfg);
	expect_echo(q, send(q, "x", 1), "x", 1);
	stop_daemon();
	assert_status(q_stop(q, 20), Q_ERR_TIMEOUT);
	assert_non_null(strstr(q_last_error(), "gpuqd has not answered"));
	q_shutdown(dropped);
	assert_int_equal(kill(daemon_pid, SIGCONT), 0);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	q_shutdown(q);
}

static void ask_for_own(struct gq_remote *r, const char *processor)
{
	char own[120];

	memset(r, 0, sizeof(*r));
	r->socket = r->bell = -1;
	snprintf(own, sizeof(own), "%s#own", endpoint);
	assert_true(gq__remote_parse(own, r));
	r->hello = (struct gq_wire_hello){ .head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(r->hello)),
					   .capacity = 64,
					   .slot_bytes = 64,
					   .result_bytes = 64,
					   .start_pos = 64,
					   .queue = "own" };
	snprintf(r->hello.processor, sizeof(r->hello.processor), "%s", processor);
	r->layout = gq_remote_lay_out(&r->hello);
	if (!gq__remote_connect(r))
		fail_msg("%s", q_last_error());
}

/* gpuqd is told to end before it has heard that the client's queue could not be made. */
static void a_queue_that_fails_while_gpuqd_ends_holds_nothing_up(void **state)
{
	const struct gq_wire_start start = { gq_wire_head_of(GQ_WIRE_START, sizeof(start)) };

	(void)state;
	for (int i = 0; i < 8; i++) {
		struct gq_remote r;

		ask_for_own(&r, "nonesuch");
		stop_daemon();
		assert_int_equal(write(r.socket, &start, sizeof(start)), sizeof(start));
		assert_int_equal(kill(daemon_pid, SIGTERM), 0);
		assert_int_equal(kill(daemon_pid, SIGCONT), 0);
		end_daemon(SIGTERM);
		gq__remote_disconnect(&r);
		start_daemon();
	}
}

/* ---- who lies ---------------------------------------------------------------------------- */

/* A connection without the host's half of a queue: the memory is there to be written to. */
static void open_raw(struct gq_remote *r, uint32_t capacity)
{
	struct gq_wire_started started;

	memset(r, 0, sizeof(*r));
	r->socket = r->bell = -1;
	assert_true(gq__remote_parse(endpoint, r));
	r->hello = (struct gq_wire_hello){ .head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(r->hello)),
					   .capacity = capacity,
					   .slot_bytes = 64,
					   .result_bytes = 64,
					   /* so that zeros are entries of the lap before */
					   .start_pos = capacity,
					   .queue = "default" };
	r->layout = gq_remote_lay_out(&r->hello);
	if (!gq__remote_connect(r) || !gq__remote_begin(r, &started))
		fail_msg("%s", q_last_error());
}

static bool is_closed(const struct gq_remote *r)
{
	char bytes[64];
	const ssize_t n = recv(r->socket, bytes, sizeof(bytes), MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

static uint64_t roll(uint64_t *dice) /* xorshift (Marsaglia, 2003) */
{
	*dice ^= *dice << 13;
	*dice ^= *dice >> 7;
	*dice ^= *dice << 17;
	return *dice;
}

/* An entry that could be the next of a class, of a slot that may be there. */
static void publish_nonsense(const struct gq_remote *r, uint64_t random)
{
	const uint32_t capacity = r->hello.capacity, order = gq_log2(capacity);
	const uint64_t pos = r->hello.start_pos + (random >> 8) % (2 * (uint64_t)capacity);
	uint64_t *words = (uint64_t *)(void *)(r->memory + r->layout.words);
	const struct gq_word_ring ring =
		gq_word_ring_of(words + (1 + random % GQ_CLASSES) * capacity, NULL, NULL, order,
				gq_id_shift(order) + GQ_USE_BITS, order);

	gq_store_release_u64(gq_word_ring_entry(&ring, pos),
			     gq_word_ring_tag(&ring, pos) | (random >> 40) % (capacity + 1));
}

/* RG-5: random words everywhere, as fast as it goes, and every second one believable. */
static void rg_5_a_client_that_writes_random_bytes_ends_only_its_own_connection(void **state)
{
	GpuQueue *q = remote_queue();
	uint64_t dice = 88172645463325252u;
	unsigned ended = 0;

	(void)state;
	for (int round = 0; round < 40; round++) {
		struct gq_remote r;
		uint64_t *words;
		bool closed = false;

		open_raw(&r, 1u << (round % 7));
		words = (uint64_t *)(void *)r.memory;
		for (int i = 0; i < 200000 && !closed; i++) {
			const uint64_t random = roll(&dice);

			if (i % 2 == 0)
				publish_nonsense(&r, random);
			else
				gq_store_relaxed_u64(
					&words[(random >> 8) % (r.layout.bytes / sizeof(*words))],
					roll(&dice));
			if (i % 1024 != 0)
				continue;
			(void)!write(r.bell, &random, sizeof(random));
			closed = is_closed(&r);
		}
		ended += closed;
		expect_echo(q, send(q, &round, sizeof(round)), &round, sizeof(round));
		gq__remote_disconnect(&r);
	}
	print_message("%u of 40 were disconnected for what they wrote\n", ended);
	assert_int_equal(kill(daemon_pid, 0), 0);
	q_shutdown(q);
}

/* Publish what is wrong in one way each; gpuqd must end the connection, not believe it. */
static void one_lie_is_enough_to_be_disconnected(void **state)
{
	static const struct {
		const char *what;
		uint64_t slot, id;
		uint32_t len, flags;
	} lies[] = {
		{ "a slot that there is not", 9, 9, 1, 0 },
		{ "a length above slot_bytes", 1, 1, 65, 0 },
		{ "another slot's id", 1, 2, 1, 0 },
		{ "a payload elsewhere", 1, 1, 1, GQ_SLOT_DESCRIBED },
		{ "a flag that nobody knows", 1, 1, 1, 1u << 31 },
	};
	const unsigned before = await_idle();

	(void)state;
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct pollfd end = { .events = POLLIN };
		struct gq_word_ring ring;
		struct gq_slot *slot;
		struct gq_remote r;
		const uint64_t one = 1;

		open_raw(&r, 8);
		ring = gq_word_ring_of((uint64_t *)(void *)(r.memory + r.layout.words) +
					       16, /* behind the pool and class 0 */
				       NULL, NULL, 3, 4 + GQ_USE_BITS, 3);
		slot = (struct gq_slot *)(void *)(r.memory + r.layout.slots +
						  (lies[i].slot % 8) * r.layout.slot_stride);
		slot->msg_id = lies[i].id;
		slot->len = lies[i].len;
		slot->flags = lies[i].flags;
		gq_store_seq_cst_u64(gq_word_ring_entry(&ring, 8),
				     gq_word_ring_tag(&ring, 8) | lies[i].slot);
		(void)!write(r.bell, &one, sizeof(one));
		end.fd = r.socket;
		if (poll(&end, 1, (int)LONG_MS) != 1 || !is_closed(&r))
			fail_msg("gpuqd believes in %s", lies[i].what);
		gq__remote_disconnect(&r);
	}
	await_descriptors(before);
}

/* The processor runs in gpuqd's own memory, and the client chooses the data. */
static void data_that_lies_about_its_size_reads_nothing_of_gpuqd(void **state)
{
	const VecdotHeader lies[] = {
		{ Q_VECDOT_MAGIC, Q_VECDOT_VERSION, 64, 1, 64, { 0 } },
		{ Q_VECDOT_MAGIC, Q_VECDOT_VERSION, UINT32_MAX, 1, 1, { 0 } }
	};
	const float one = 1;
	QueueConfig cfg = remote_config();
	char own[120];

	(void)state;
	snprintf(own, sizeof(own), "%s#own", endpoint);
	cfg.endpoint = own;
	cfg.processor = "vecdot";
	cfg.result_bytes = 1024;
	for (unsigned i = 0; i < 3; i++) {
		uint32_t said = 0;
		char hits[1024];
		size_t len = sizeof(hits);
		GpuQueue *q;
		uint64_t id;

		cfg.processor_data = &lies[i % 2];
		cfg.processor_data_bytes = i < 2 ? sizeof(lies[0]) : 20; /* no whole header */
		q = make_queue_from(&cfg);
		id = send(q, &one, sizeof(one));
		assert_status(q_wait(q, id, LONG_MS), Q_OK);
		assert_status(q_processor_status(q, id, &said), Q_OK);
		assert_int_equal(said, Q_VECDOT_BAD_DATA);
		assert_status(take(q, id, hits, &len), Q_ERR_FAILED);
		q_shutdown(q);
	}
}

static void who_never_reads_and_always_sleeps_holds_up_nobody(void **state)
{
	GpuQueue *idle = remote_queue(), *q = remote_queue();

	(void)state;
	/* Its thread that hears bells stands still, so its socket fills. */
	for (int i = 0; i < 2000; i++) {
		gq_store_seq_cst_u64(&gq_remote_of(idle)->page->asleep, 1);
		if (i % 4 == 0) {
			uint64_t id = 0;

			if (q_enqueue(idle, &i, sizeof(i), &id, 0) == Q_OK)
				assert_status(q_wait(idle, id, LONG_MS), Q_OK);
			q_release(idle, id);
		}
		if (i % 100 == 0)
			expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	}
	q_shutdown(q);
	q_shutdown(idle);
}

static void *be_deaf(void *h)
{
	(void)hostile_round(h, HOSTILE_DEAF);
	return NULL;
}

/* It sends as fast as it can. In the end it has a turn of 64 messages for each of its rests, which
 * last an eighth of a second; so it is seen once not to have had more. */
static void who_never_reads_is_served_ever_more_seldom(void **state)
{
	enum { TURN = 64, WINDOW_MS = 500, WINDOWS = 100 };
	struct hostile h = { .socket = socket_path,
			     .services = socket_path,
			     .queue = "default",
			     .random = 1,
			     .steps = UINT32_MAX };
	GpuQueue *q = remote_queue();
	uint64_t served = UINT64_MAX;
	pthread_t deaf;

	(void)state;
	assert_int_equal(pthread_create(&deaf, NULL, be_deaf, &h), 0);
	while (gq_load_relaxed_u64(&h.served) == 0)
		nap_ms(1);
	for (int i = 0; served > TURN * (WINDOW_MS / 128 + 4); i++) {
		const uint64_t before = gq_load_relaxed_u64(&h.served),
			       until_ns = gq__now_ns() + WINDOW_MS * UINT64_C(1000000);

		assert_true(i < WINDOWS);
		while (gq__now_ns() < until_ns) {
			expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
			nap_ms(1);
		}
		served = gq_load_relaxed_u64(&h.served) - before;
	}
	gq_exchange_seq_cst_u32(&h.steps, 1);
	pthread_join(deaf, NULL);
	q_shutdown(q);
}

static void a_client_is_not_ended_because_gpuqd_was_slow(void **state)
{
	const struct gq_wire_start start = { gq_wire_head_of(GQ_WIRE_START, sizeof(start)) };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	const unsigned before = await_idle();
	const struct gq_wire_hello hello = {
		.head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(hello)),
		.capacity = 64,
		.slot_bytes = 64,
		.result_bytes = 64,
		.start_pos = 64,
		.queue = "default",
	};
	union gq_wire w;

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	await_descriptors(before + 2); /* accepted */
	stop_daemon();
	assert_int_equal(write(fd, &hello, sizeof(hello)), sizeof(hello));
	nap_ms(2100);
	assert_int_equal(kill(daemon_pid, SIGCONT), 0);
	assert_true(read(fd, &w, sizeof(w)) > 0);
	assert_int_equal(w.head.type, GQ_WIRE_WELCOME);
	nap_ms(20);
	assert_int_equal(write(fd, &start, sizeof(start)), sizeof(start));
	assert_true(read(fd, &w, sizeof(w)) > 0);
	assert_int_equal(w.head.type, GQ_WIRE_STARTED);
	close(fd);
	await_descriptors(before);
}

static void connections_that_say_nothing_are_ended(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	GpuQueue *q = remote_queue();
	int fd[20];

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	for (int i = 0; i < 20; i++) {
		fd[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd[i], (const struct sockaddr *)&address, sizeof(address)),
				 0);
		if (i % 2 == 0)
			assert_int_equal(write(fd[i], "GET / HTTP/1.0\r\n\r\n", 18), 18);
	}
	expect_echo(q, send(q, "x", 1), "x", 1);
	for (int i = 0; i < 20; i++) {
		struct pollfd end = { .fd = fd[i], .events = POLLIN };

		assert_int_equal(poll(&end, 1, (int)LONG_MS), 1);
		close(fd[i]);
	}
	q_shutdown(q);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refusal_names_what_is_wrong_and_what_is_allowed),
		cmocka_unit_test(a_configuration_is_not_read_beyond_what_it_says),
		cmocka_unit_test(what_is_no_socket_is_left_where_it_is),
		cmocka_unit_test(a_client_takes_three_descriptors_and_gpuqd_all_it_may_have),
		cmocka_unit_test(a_program_that_is_no_gpuqd_is_told_apart),
		cmocka_unit_test(regions_are_refused_with_a_sentence),
		cmocka_unit_test(a_user_has_so_many_connections_and_no_more),
		cmocka_unit_test(clients_at_once_each_get_their_own_results),
		cmocka_unit_test(the_client_that_came_first_gets_its_share_of_a_full_queue),
		cmocka_unit_test(a_client_of_a_queue_of_its_own_names_the_processor),
		cmocka_unit_test(killed_clients_leave_nothing_behind_and_harm_nobody),
		cmocka_unit_test(a_killed_daemon_ends_every_accepted_message_and_hangs_nobody),
		cmocka_unit_test(what_has_not_been_claimed_is_told_from_what_may_have_run),
		cmocka_unit_test(a_daemon_told_to_end_finishes_what_it_has),
		cmocka_unit_test(a_stop_ends_in_its_time_while_gpuqd_stands_still),
		cmocka_unit_test(a_queue_that_fails_while_gpuqd_ends_holds_nothing_up),
		cmocka_unit_test(
			rg_5_a_client_that_writes_random_bytes_ends_only_its_own_connection),
		cmocka_unit_test(one_lie_is_enough_to_be_disconnected),
		cmocka_unit_test(data_that_lies_about_its_size_reads_nothing_of_gpuqd),
		cmocka_unit_test(who_never_reads_and_always_sleeps_holds_up_nobody),
		cmocka_unit_test(who_never_reads_is_served_ever_more_seldom),
		cmocka_unit_test(a_client_is_not_ended_because_gpuqd_was_slow),
		cmocka_unit_test(connections_that_say_nothing_are_ended),
	};

	if (argc == 3 && strcmp(argv[1], "client") == 0)
		return be_a_client(argv[2]);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("broker", tests, set_up, tear_down);
}
