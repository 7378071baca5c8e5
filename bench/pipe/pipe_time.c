/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe_time.c - what each of 1, 4 and 16 readers gets of one writer's stream, and how soon it is
 * woken.
 *
 *     pipe_time [--smoke] [WAY...]        ways: those below; default: all
 *
 * A writer in the main thread writes blocks of 4 KiB; readers, threads or processes, read up to 64
 * KiB at a time and add up every 64th byte. Ways:
 *
 * - tee: a pipe of the kernel, 1 MiB; a thread tee()s it on to one pipe a reader, and the last
 *   reader gets it by splice(): each byte is copied in once, and out once a reader.
 * - wait: a pipe of libgpuq with Q_PIPE_WAIT, 1 MiB: the same back-pressure.
 * - fail: with Q_PIPE_FAIL, room for all of it: nothing waits.
 * - drop: with Q_PIPE_DROP_HISTORY, room for all of it: the other way to copy.
 * - shared, shared_drop: as fail and drop, with readers in processes.
 * - wake: no stream. One byte is written while all readers sleep: from before the write until the
 *   last of them has it. Of a pipe of the kernel for one reader, of WAIT, FAIL and DROP_HISTORY for
 *   1 and 16.
 *
 * Five rounds, the ways in turns. A line of JSON a way and round, as bench/README.md has them: MB/s
 * per reader, from the first write until the last reader has come to the end; or p50 and p99.
 */
#include <gpuq/pipe.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, READ = 65536, KERNEL_PIPE = 1 << 20, MOST = 16, ROUNDS = 5, WAKES = 100 };

static uint64_t total = 32 << 20; /* bytes of a stream */
static bool smoke;
static char block[BLOCK];

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s failed: %s\n", what, q_last_error());
		exit(1);
	}
}

static unsigned add_up(const unsigned char *bytes, size_t n)
{
	unsigned sum = 0;

	for (size_t i = 0; i < n; i += 64)
		sum += bytes[i];
	return sum;
}

/* ---- the kernel's ---------------------------------------------------------------------------- */

struct reader {
	PipeReader *pipe;
	int fd;
	pthread_t thread;
};

/* What has been added up is used, for all that the compiler knows. */
static void keep(unsigned sum)
{
	__asm__ volatile("" : : "r"(sum));
}

static void *read_fd(void *arg)
{
	struct reader *r = arg;
	static _Thread_local unsigned char bytes[READ];
	unsigned sum = 0;
	uint64_t got = 0;
	ssize_t n;

	while ((n = read(r->fd, bytes, sizeof(bytes))) > 0) {
		sum += add_up(bytes, (size_t)n);
		got += (uint64_t)n;
	}
	must(got == total, "read");
	keep(sum);
	close(r->fd);
	return NULL;
}

/* One step of a chain: what comes goes to a reader, and on to the next step. */
struct teeing {
	int from, reader, next;
	pthread_t thread;
};

static void *tee_on(void *arg)
{
	const struct teeing *t = arg;
	ssize_t n, k;

	while ((n = tee(t->from, t->reader, KERNEL_PIPE, 0)) > 0)
		for (; n > 0; n -= k) {
			k = splice(t->from, NULL, t->next, NULL, (size_t)n, 0);
			must(k > 0, "splice");
		}
	must(n == 0, "tee");
	close(t->from);
	close(t->reader);
	close(t->next);
	return NULL;
}

static void make_pipe(int ends[2])
{
	must(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
	(void)fcntl(ends[1], F_SETPIPE_SZ, KERNEL_PIPE);
}

static uint64_t time_kernel(int readers)
{
	struct reader r[MOST];
	struct teeing t[MOST];
	uint64_t begin;
	int in[2], ends[2], next[2];

	make_pipe(in);
	next[0] = in[0];
	for (int i = 0; i + 1 < readers; i++) {
		t[i].from = next[0];
		make_pipe(ends);
		make_pipe(next);
		r[i].fd = ends[0];
		t[i].reader = ends[1];
		t[i].next = next[1];
		must(pthread_create(&t[i].thread, NULL, tee_on, &t[i]) == 0, "pthread_create");
	}
	r[readers - 1].fd = next[0];
	for (int i = 0; i < readers; i++)
		must(pthread_create(&r[i].thread, NULL, read_fd, &r[i]) == 0, "pthread_create");
	begin = now_ns();
	for (uint64_t at = 0; at < total; at += BLOCK)
		must(write(in[1], block, BLOCK) == BLOCK, "write");
	close(in[1]);
	for (int i = 0; i < readers; i++)
		pthread_join(r[i].thread, NULL);
	begin = now_ns() - begin;
	for (int i = 0; i + 1 < readers; i++)
		pthread_join(t[i].thread, NULL);
	return begin;
}

/* ---- libgpuq's ------------------------------------------------------------------------------- */

static void read_all(PipeReader *reader)
{
	static _Thread_local unsigned char bytes[READ];
	unsigned sum = 0;
	uint64_t got = 0;
	size_t n = 1;

	while (n != 0) {
		must(q_pipe_read(reader, bytes, sizeof(bytes), &n, UINT32_MAX) == Q_OK,
		     "q_pipe_read");
		sum += add_up(bytes, n);
		got += n;
	}
	must(got == total, "q_pipe_read");
	keep(sum);
	q_pipe_reader_close(reader);
}

static void *read_pipe(void *arg)
{
	read_all(((struct reader *)arg)->pipe);
	return NULL;
}

static void start_process(int fd)
{
	const pid_t child = fork();
	PipeReader *reader;

	must(child >= 0, "fork");
	if (child != 0)
		return;
	must(q_pipe_attach(fd, &reader) == Q_OK, "q_pipe_attach");
	read_all(reader);
	_exit(0);
}

static uint64_t time_gpuq(int readers, uint32_t policy, bool shared)
{
	const PipeConfig cfg = { .policy = policy,
				 .max_bytes = policy == Q_PIPE_WAIT ? KERNEL_PIPE : total };
	struct reader r[MOST];
	int fd = -1, status;
	uint64_t begin;
	Pipe *p;

	must(q_pipe_create(&cfg, &p) == Q_OK, "q_pipe_create");
	if (shared) {
		fd = q_pipe_share(p);
		must(fd >= 0, "q_pipe_share");
	}
	for (int i = 0; i < readers; i++) {
		if (shared) {
			start_process(fd);
			continue;
		}
		must(q_pipe_reader_open(p, &r[i].pipe) == Q_OK, "q_pipe_reader_open");
		must(pthread_create(&r[i].thread, NULL, read_pipe, &r[i]) == 0, "pthread_create");
	}
	begin = now_ns();
	for (uint64_t at = 0; at < total; at += BLOCK)
		must(q_pipe_write(p, block, BLOCK, NULL, UINT32_MAX) == Q_OK, "q_pipe_write");
	q_pipe_close(p);
	for (int i = 0; i < readers; i++) {
		if (shared)
			must(wait(&status) > 0 && status == 0, "a reader's process");
		else
			pthread_join(r[i].thread, NULL);
	}
	begin = now_ns() - begin;
	if (fd >= 0)
		close(fd);
	q_pipe_destroy(p);
	return begin;
}

/* ---- waking ---------------------------------------------------------------------------------- */

static uint64_t woken; /* atomic: how many readers have got the byte */

static void *read_byte_by_byte(void *arg)
{
	struct reader *r = arg;
	size_t n = 1;
	char byte;

	while (n != 0) {
		if (r->pipe != NULL)
			must(q_pipe_read(r->pipe, &byte, 1, &n, UINT32_MAX) == Q_OK, "q_pipe_read");
		else
			n = read(r->fd, &byte, 1) == 1;
		__atomic_fetch_add(&woken, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* p: NULL for a pipe of the kernel, whose end is `fd`. */
static void wake_each(Pipe *p, int fd, int readers, uint64_t *ns, int n)
{
	const struct timespec nap = { .tv_nsec = 400000 }; /* they look for 50 us, then sleep */

	for (int i = 0; i < n; i++) {
		nanosleep(&nap, NULL);
		__atomic_store_n(&woken, 0, __ATOMIC_RELEASE);
		ns[i] = now_ns();
		must(p == NULL ? write(fd, "x", 1) == 1
			       : q_pipe_write(p, "x", 1, NULL, UINT32_MAX) == Q_OK,
		     "write");
		while (__atomic_load_n(&woken, __ATOMIC_ACQUIRE) != (uint64_t)readers)
			sched_yield();
		ns[i] = now_ns() - ns[i];
	}
	qsort(ns, (size_t)n, sizeof(*ns), by_size);
}

static void report_wake(const char *peer, const char *variant, int readers, bool kernel,
			uint32_t policy)
{
	const PipeConfig cfg = { .policy = policy, .max_bytes = KERNEL_PIPE };
	const int n = smoke ? 2 : WAKES;
	uint64_t ns[WAKES];
	struct reader r[MOST] = { 0 };
	Pipe *p = NULL;
	int ends[2] = { -1, -1 };

	if (kernel)
		make_pipe(ends);
	else
		must(q_pipe_create(&cfg, &p) == Q_OK, "q_pipe_create");
	for (int i = 0; i < readers; i++) {
		r[i].fd = ends[0];
		must(kernel || q_pipe_reader_open(p, &r[i].pipe) == Q_OK, "q_pipe_reader_open");
		must(pthread_create(&r[i].thread, NULL, read_byte_by_byte, &r[i]) == 0,
		     "pthread_create");
	}
	wake_each(p, ends[1], readers, ns, n);
	if (kernel)
		close(ends[1]);
	else
		q_pipe_close(p);
	for (int i = 0; i < readers; i++) {
		pthread_join(r[i].thread, NULL);
		q_pipe_reader_close(r[i].pipe);
	}
	if (kernel)
		close(ends[0]);
	q_pipe_destroy(p);
	for (int i = 0; i < 2; i++)
		printf("{\"case\":\"pipe_wake\",\"peer\":\"%s\",\"variant\":\"%s\",\"readers\":%d,"
		       "\"metric\":\"%s\",\"unit\":\"ns\",\"samples\":[%llu]}\n",
		       peer, variant, readers, i == 0 ? "p50" : "p99",
		       (unsigned long long)ns[i == 0 ? n / 2 : n * 99 / 100]);
	fflush(stdout);
}

static void wake(void)
{
	report_wake("pipe", "", 1, true, 0);
	for (int readers = 1; readers <= MOST; readers += MOST - 1) {
		report_wake("gpuq", "wait", readers, false, Q_PIPE_WAIT);
		report_wake("gpuq", "fail", readers, false, Q_PIPE_FAIL);
		report_wake("gpuq", "drop", readers, false, Q_PIPE_DROP_HISTORY);
	}
}

/* ---- all of it ------------------------------------------------------------------------------- */

static const struct way {
	const char *name;
	uint32_t policy;
	bool kernel, shared;
} ways[] = {
	{ "tee", 0, true, false },
	{ "wait", Q_PIPE_WAIT, false, false },
	{ "fail", Q_PIPE_FAIL, false, false },
	{ "drop", Q_PIPE_DROP_HISTORY, false, false },
	{ "shared", Q_PIPE_FAIL, false, true },
	{ "shared_drop", Q_PIPE_DROP_HISTORY, false, true },
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static bool is_wanted(const char *name, int count, char **names)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return count == 0;
}

static void check_names(int count, char **names)
{
	for (int i = 0; i < count; i++) {
		bool is_there = strcmp(names[i], "wake") == 0;

		for (int w = 0; w < WAYS; w++)
			is_there |= strcmp(names[i], ways[w].name) == 0;
		if (!is_there) {
			fprintf(stderr, "usage: pipe_time [--smoke] [WAY...]\n");
			exit(2);
		}
	}
}

static void report(const struct way *w, int readers)
{
	const uint64_t ns =
		w->kernel ? time_kernel(readers) : time_gpuq(readers, w->policy, w->shared);

	printf("{\"case\":\"pipe\",\"peer\":\"%s\",\"variant\":\"%s\",\"readers\":%d,"
	       "\"metric\":\"per reader\",\"unit\":\"MB/s\",\"samples\":[%.0f]}\n",
	       w->kernel ? "tee" : "gpuq", w->kernel ? "" : w->name, readers,
	       (double)total * 1000.0 / (double)ns);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const int counts[] = { 1, 4, 16 };
	char **names = argv + 1;
	int count = argc - 1;

	/* scripts/bench gives it last, whoever tries it gives it first */
	if (count > 0 &&
	    (strcmp(names[0], "--smoke") == 0 || strcmp(names[count - 1], "--smoke") == 0)) {
		names += strcmp(names[0], "--smoke") == 0;
		count--;
		smoke = true;
		total = 1 << 20;
	}
	check_names(count, names);
	memset(block, 'x', sizeof(block));
	for (int round = 0; round < (smoke ? 1 : ROUNDS); round++) {
		for (int i = 0; i < 3; i++)
			for (int w = 0; w < WAYS; w++)
				if (is_wanted(ways[w].name, count, names))
					report(&ways[w], counts[i]);
		if (is_wanted("wake", count, names))
			wake();
	}
	return 0;
}
