/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe_time.c - how many bytes a second each of 1, 4 and 16 readers gets of one writer's stream.
 *
 *     pipe_time [--smoke]
 *
 * A writer in the main thread writes blocks of 4 KiB; readers, threads or processes, read up to 64
 * KiB at a time and add up every 64th byte. Ways:
 *
 * - pipe+tee: a pipe of the kernel, 1 MiB; a thread tee()s it on to one pipe a reader, and the last
 *   reader gets it by splice(): each byte is copied in once, and out once a reader.
 * - wait: a pipe of libgpuq with Q_PIPE_WAIT, 1 MiB: the same back-pressure.
 * - fail: with Q_PIPE_FAIL, room for all of it: nothing waits.
 * - drop: with Q_PIPE_DROP_HISTORY, room for all of it: the other way to copy.
 * - shared, shared drop: as fail and drop, with readers in processes.
 *
 * Five rounds, the ways in turns. A line of JSON a way and round: MB/s per reader, from the first
 * write until the last reader has come to the end.
 */
#include <gpuq/pipe.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, READ = 65536, KERNEL_PIPE = 1 << 20, MOST = 16 };

static uint64_t total = 64 << 20; /* bytes of a stream */
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

/* ---- all of it ------------------------------------------------------------------------------- */

static void report(const char *way, int readers, int round, uint64_t ns)
{
	printf("{\"case\":\"pipe\",\"variant\":\"%s\",\"readers\":%d,\"round\":%d,"
	       "\"metric\":\"per reader\",\"unit\":\"MB/s\",\"value\":%.0f}\n",
	       way, readers, round, (double)total * 1000.0 / (double)ns);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const int counts[] = { 1, 4, 16 };
	int rounds = 5;

	if (argc == 2 && strcmp(argv[1], "--smoke") == 0) {
		total = 1 << 20;
		rounds = 1;
	} else if (argc != 1) {
		fprintf(stderr, "usage: pipe_time [--smoke]\n");
		return 2;
	}
	memset(block, 'x', sizeof(block));
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < 3; i++) {
			const int n = counts[i];

			report("pipe+tee", n, round, time_kernel(n));
			report("wait", n, round, time_gpuq(n, Q_PIPE_WAIT, false));
			report("fail", n, round, time_gpuq(n, Q_PIPE_FAIL, false));
			report("drop", n, round, time_gpuq(n, Q_PIPE_DROP_HISTORY, false));
			report("shared", n, round, time_gpuq(n, Q_PIPE_FAIL, true));
			report("shared drop", n, round, time_gpuq(n, Q_PIPE_DROP_HISTORY, true));
		}
	return 0;
}
