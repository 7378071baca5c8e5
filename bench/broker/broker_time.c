/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker_time.c - a message there and back between processes, and beside it within one.
 *
 *     broker_time [--gpuqd unix:PATH] [--redis PATH] [--pin] [--smoke]
 *
 * Each way echoes 64 bytes: a queue of this process (a consumer thread), a queue of a gpuqd that
 * runs already (its dispatcher and its consumer), a Unix SEQPACKET socket to a process that sends
 * back what it gets, and ECHO of a redis-server at a Unix socket. One message at a time: the
 * median of a round trip. 32 at a time (one call, or one write, where there is such a thing): how
 * many a second. Rounds go through all ways in turns, so that what the machine does meanwhile meets
 * all. With --pin this thread is on CPU 0, and what answers on CPU 1 (gpuqd and redis-server are
 * whoever starts them to pin). The queues are waited for by q_wait_any(), the sockets by a blocking
 * read.
 */
#define _GNU_SOURCE
#include <gpuq/gpuq.h>

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 64, BATCH = 32, ROUNDS = 7 };

static bool pinned;
static unsigned trips = 20000, batches = 5000;

struct way {
	const char *peer, *variant;
	bool (*exchange)(struct way *w, unsigned n); /* n messages there, and all back */
	GpuQueue *q;
	int fd;
	double p50[ROUNDS], per_s[ROUNDS];
};

static char payload[BATCH][BYTES];

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "broker_time: %s\n", what);
	exit(1);
}

/* This thread, and those that it starts from now on. */
static void pin_to(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (pinned && sched_setaffinity(0, sizeof(set), &set) != 0)
		die("sched_setaffinity");
}

/* ---- queues ---------------------------------------------------------------------------------- */

static bool through_queue(struct way *w, unsigned n)
{
	EnqueueItem items[BATCH] = { { NULL, 0 } };
	size_t sent = 0;

	for (unsigned i = 0; i < n; i++)
		items[i] = (EnqueueItem){ payload[i], BYTES };
	if (q_enqueue_batch(w->q, items, n, NULL, &sent, UINT32_MAX) != Q_OK)
		return false;
	for (unsigned back = 0; back < n;) {
		Completion done[BATCH];
		uint64_t ids[BATCH];
		size_t got = 0;

		if (q_wait_any(w->q, UINT32_MAX) != Q_OK ||
		    q_poll_results(w->q, done, BATCH, &got) != Q_OK)
			return false;
		for (size_t i = 0; i < got; i++) {
			if (done[i].status != Q_OK || done[i].result_len != BYTES)
				return false;
			ids[i] = done[i].msg_id;
		}
		q_release_batch(w->q, ids, got);
		back += (unsigned)got;
	}
	return true;
}

static void open_queue(struct way *w, const char *endpoint)
{
	const QueueConfig cfg = { .capacity = 256,
				  .slot_bytes = BYTES,
				  .consumers = endpoint == NULL ? 1 : 0,
				  .processor = "echo",
				  .device = endpoint == NULL ? Q_DEVICE_CPU : Q_DEVICE_REMOTE,
				  .flags = Q_ONE_PRODUCER,
				  .endpoint = endpoint };

	*w = (struct way){ .peer = "gpuq",
			   .variant = endpoint == NULL ? "in-process" : "remote",
			   .exchange = through_queue,
			   .q = q_init(&cfg) };
	if (w->q == NULL)
		die(q_last_error());
}

/* ---- a socket to a process that sends back what it gets -------------------------------------- */

static void set_up_messages(struct mmsghdr m[BATCH], struct iovec io[BATCH],
			    char bytes[BATCH][BYTES])
{
	memset(m, 0, BATCH * sizeof(*m));
	for (int i = 0; i < BATCH; i++) {
		io[i] = (struct iovec){ bytes[i], BYTES };
		m[i].msg_hdr.msg_iov = &io[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
}

static void echo_for_ever(int fd)
{
	struct mmsghdr m[BATCH];
	struct iovec io[BATCH];
	char bytes[BATCH][BYTES];

	set_up_messages(m, io, bytes);
	for (;;) {
		const int n = recvmmsg(fd, m, BATCH, MSG_WAITFORONE, NULL);

		if (n <= 0 || m[0].msg_len == 0)
			_exit(0);
		for (int sent = 0; sent < n;) {
			const int some = sendmmsg(fd, m + sent, (unsigned)(n - sent), MSG_NOSIGNAL);

			if (some <= 0)
				_exit(0);
			sent += some;
		}
	}
}

static bool through_socket(struct way *w, unsigned n)
{
	struct mmsghdr m[BATCH];
	struct iovec io[BATCH];
	char bytes[BATCH][BYTES];

	set_up_messages(m, io, payload);
	for (unsigned sent = 0; sent < n;) {
		const int some = sendmmsg(w->fd, m + sent, n - sent, MSG_NOSIGNAL);

		if (some <= 0)
			return false;
		sent += (unsigned)some;
	}
	set_up_messages(m, io, bytes);
	for (unsigned back = 0; back < n;) {
		const int some = recvmmsg(w->fd, m, n - back, MSG_WAITFORONE, NULL);

		if (some <= 0)
			return false;
		back += (unsigned)some;
	}
	return true;
}

static void open_socket(struct way *w)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		die("socketpair");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		pin_to(1);
		echo_for_ever(pair[1]);
	}
	close(pair[1]);
	*w = (struct way){ .peer = "unix_socket",
			   .variant = "seqpacket",
			   .exchange = through_socket,
			   .fd = pair[0] };
}

/* ---- Redis ----------------------------------------------------------------------------------- */

static bool write_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		const ssize_t some = send(fd, bytes, n, MSG_NOSIGNAL);

		if (some <= 0)
			return false;
		bytes += some;
		n -= (size_t)some;
	}
	return true;
}

static bool through_redis(struct way *w, unsigned n)
{
	static const char head[] = "*2\r\n$4\r\nECHO\r\n$64\r\n";
	char out[BATCH * (sizeof(head) + BYTES + 2)], in[BATCH * (BYTES + 8)];
	size_t bytes = 0, want = n * (sizeof("$64\r\n") - 1 + BYTES + 2);

	for (unsigned i = 0; i < n; i++) {
		memcpy(out + bytes, head, sizeof(head) - 1);
		memcpy(out + bytes + sizeof(head) - 1, payload[i], BYTES);
		memcpy(out + bytes + sizeof(head) - 1 + BYTES, "\r\n", 2);
		bytes += sizeof(head) - 1 + BYTES + 2;
	}
	if (!write_all(w->fd, out, bytes))
		return false;
	while (want > 0) {
		const ssize_t some = read(w->fd, in, sizeof(in));

		if (some <= 0)
			return false;
		want -= (size_t)some < want ? (size_t)some : want;
	}
	return true;
}

static void open_redis(struct way *w, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*w = (struct way){ .peer = "redis",
			   .variant = "echo",
			   .exchange = through_redis,
			   .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(w->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		die("redis-server does not answer");
}

/* ---- measuring ------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void round_of(struct way *w, int round)
{
	uint64_t *took = calloc(trips, sizeof(*took)), began_ns;

	if (took == NULL)
		die("out of memory");
	for (unsigned i = 0; i < trips; i++) {
		const uint64_t before = now_ns();

		if (!w->exchange(w, 1))
			die(w->variant);
		took[i] = now_ns() - before;
	}
	qsort(took, trips, sizeof(*took), compare);
	w->p50[round] = (double)took[trips / 2];
	free(took);
	began_ns = now_ns();
	for (unsigned i = 0; i < batches; i++)
		if (!w->exchange(w, BATCH))
			die(w->variant);
	w->per_s[round] = (double)batches * BATCH * 1e3 / (double)(now_ns() - began_ns);
}

static void print_figure(const struct way *w, const char *name, unsigned batch, const char *metric,
			 const char *unit, const double *samples, int n)
{
	printf("{\"case\":\"%s\",\"peer\":\"%s\",\"variant\":\"%s\",\"size\":%d,\"batch\":%u,"
	       "\"metric\":\"%s\",\"unit\":\"%s\",\"samples\":[",
	       name, w->peer, w->variant, BYTES, batch, metric, unit);
	for (int i = 0; i < n; i++)
		printf("%s%.6g", i == 0 ? "" : ",", samples[i]);
	printf("]}\n");
}

int main(int argc, char **argv)
{
	const char *gpuqd = NULL, *redis = NULL;
	struct way ways[4];
	int n = 0, rounds = ROUNDS;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--gpuqd") == 0 && i + 1 < argc)
			gpuqd = argv[++i];
		else if (strcmp(argv[i], "--redis") == 0 && i + 1 < argc)
			redis = argv[++i];
		else if (strcmp(argv[i], "--pin") == 0)
			pinned = true;
		else if (strcmp(argv[i], "--smoke") == 0)
			trips = batches = 20, rounds = 1;
		else
			die("usage: broker_time [--gpuqd unix:PATH] [--redis PATH] [--pin] "
			    "[--smoke]");
	}
	for (int i = 0; i < BATCH; i++)
		memset(payload[i], 'a' + i % 26, BYTES);
	pin_to(1); /* the consumer */
	open_queue(&ways[n++], NULL);
	pin_to(0);
	if (gpuqd != NULL)
		open_queue(&ways[n++], gpuqd);
	open_socket(&ways[n++]);
	if (redis != NULL)
		open_redis(&ways[n++], redis);
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < n; i++)
			round_of(&ways[i], round);
	for (int i = 0; i < n; i++) {
		print_figure(&ways[i], "round_trip", 1, "p50", "ns", ways[i].p50, rounds);
		print_figure(&ways[i], "throughput", BATCH, "rate", "Mmsg/s", ways[i].per_s,
			     rounds);
		if (ways[i].q != NULL)
			q_shutdown(ways[i].q);
	}
	return 0;
}
