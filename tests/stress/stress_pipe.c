/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_pipe.c - random writes, up to 64 readers in threads and in processes, random reads, early
 * and late, under every policy; readers and writers that are killed. Each byte of the stream is
 * made from its offset, so every byte that a reader gets is checked, also behind a gap.
 */
#include "child.h"
#include "stress.h"

#include <gpuq/pipe.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_READERS = 64, MOST_PROCESSES = 12, BUFFER = 5000 };

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(mix64(offset / 8 + 1) >> offset % 8 * 8);
}

/* ---- writing --------------------------------------------------------------------------------- */

struct load {
	Pipe *pipe;
	uint64_t bytes; /* in all */
	uint32_t policy;
	uint64_t stream; /* of random numbers */
};

/* Sizes of all orders of magnitude, more small than large ones. */
static size_t random_size(struct rng *r, size_t most)
{
	const size_t n = 1 + rng_below(r, 1u << rng_below(r, 13));

	return n < most ? n : most;
}

static void write_stream(const struct load *l)
{
	struct rng r = rng_of(l->stream);
	uint8_t text[BUFFER];
	uint64_t at = 0;

	while (at < l->bytes) {
		const uint64_t left = l->bytes - at;
		const size_t n = random_size(&r, left < BUFFER ? (size_t)left : BUFFER);
		const size_t cut = rng_below(&r, (uint32_t)n + 1);
		const struct iovec pieces[] = { { text, cut }, { text + cut, n - cut } };
		size_t written;

		for (size_t i = 0; i < n; i++)
			text[i] = byte_at(at + i);
		if (rng_one_in(&r, 50))
			must_be(Q_OK, q_pipe_write(l->pipe, NULL, 0, NULL, 0));
		must_be(Q_OK, q_pipe_writev(l->pipe, pieces, 2, &written, UINT32_MAX));
		must(written == n, "%zu of %zu", written, n);
		at += n;
	}
	must_be(Q_OK, q_pipe_close(l->pipe));
}

static void *write_in_thread(void *arg)
{
	write_stream(arg);
	return NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct seen {
	uint64_t read, end; /* bytes read; the offset of the end */
	uint64_t lagged;
	bool cut, failed;
};

/* To the end of the stream, the death of its writer, or its being cut off. */
static struct seen read_stream(PipeReader *reader, uint64_t stream)
{
	struct rng r = rng_of(stream);
	struct seen s = { 0 };
	uint8_t text[BUFFER];
	uint64_t at;

	must_be(Q_OK, q_pipe_reader_offset(reader, &at));
	for (;;) {
		size_t len = 0;
		const QueueStatus status = q_pipe_read(reader, text, random_size(&r, BUFFER), &len,
						       rng_one_in(&r, 4) ? 0 : UINT32_MAX);
		const uint64_t before = at;

		if (status == Q_ERR_EMPTY)
			continue;
		if (status == Q_ERR_LAGGED) {
			must_be(Q_OK, q_pipe_reader_offset(reader, &at));
			s.lagged++;
			if (at == before && s.lagged > 1) {
				s.cut = true;
				break;
			}
			continue;
		}
		s.failed = status == Q_ERR_FAILED;
		must(status == Q_OK || s.failed, "%s: %s", q_status_string(status), q_last_error());
		for (size_t i = 0; i < len; i++)
			must(text[i] == byte_at(at + i), "byte %" PRIu64, at + i);
		at += len;
		s.read += len;
		if (len == 0)
			break;
	}
	s.end = at;
	return s;
}

struct reading {
	Pipe *pipe;
	uint64_t stream;
	uint32_t wait_us; /* before it joins */
	struct seen seen;
	pthread_t thread;
};

static void *read_in_thread(void *arg)
{
	struct reading *a = arg;
	PipeReader *reader;

	stress_nap_us(a->wait_us);
	must_be(Q_OK, q_pipe_reader_open(a->pipe, &reader));
	a->seen = read_stream(reader, a->stream);
	q_pipe_reader_close(reader);
	return NULL;
}

static void check(const struct seen *s, const struct load *l)
{
	if (l->policy == Q_PIPE_FAIL)
		must(s->read == l->bytes && s->lagged == 0, "%" PRIu64 " bytes of %" PRIu64,
		     s->read, l->bytes);
	if (!s->cut)
		must(s->end == l->bytes && !s->failed, "it ends at %" PRIu64 " of %" PRIu64, s->end,
		     l->bytes);
	must(!s->cut || l->policy == Q_PIPE_EVICT, "cut off");
}

static void every_reader_gets_every_byte_that_the_policy_lets_it_get(void **state)
{
	const uint32_t rounds = stress_scaled(60);
	static struct reading readers[MOST_READERS];
	struct rng r = rng_of(1);

	(void)state;
	for (uint32_t round = 0; round < rounds; round++) {
		struct load l = { .policy = round % 4,
				  .bytes = 1 + rng_below(&r, 200000),
				  .stream = round + 1000 };
		PipeConfig cfg = { .policy = l.policy,
				   .max_bytes = 1 + rng_below(&r, 1u << rng_below(&r, 16)) };
		const uint32_t n = 1 + rng_below(&r, rng_one_in(&r, 4) ? MOST_READERS : 8);
		PipeReader *first;
		pthread_t writer;

		if (l.policy == Q_PIPE_FAIL)
			cfg.max_bytes = l.bytes;
		else if (l.policy == Q_PIPE_WAIT && cfg.max_bytes < 64)
			l.bytes %= 2000; /* a wake-up each few bytes */
		stress_phase(NULL,
			     "round %" PRIu32 ": policy %" PRIu32 ", %" PRIu64
			     " bytes through %" PRIu64 ", %" PRIu32 " readers",
			     round, l.policy, l.bytes, cfg.max_bytes, n);
		must_be(Q_OK, q_pipe_create(&cfg, &l.pipe));
		/* One that is there all the time: so the pipe is never broken. */
		must_be(Q_OK, q_pipe_reader_open(l.pipe, &first));
		for (uint32_t i = 0; i < n; i++) {
			readers[i] = (struct reading){ .pipe = l.pipe,
						       .stream = round * 100 + i,
						       .wait_us = rng_below(&r, 2) *
								  rng_below(&r, 3000) };
			readers[i].thread = stress_thread(read_in_thread, &readers[i]);
		}
		writer = stress_thread(write_in_thread, &l);
		{
			const struct seen s = read_stream(first, round);

			check(&s, &l);
			must(l.policy != Q_PIPE_WAIT || s.read == l.bytes, "one that was there "
									   "missed some");
		}
		/* Until the others have joined it, a reader that has read all holds nobody up. */
		stress_join(writer);
		for (uint32_t i = 0; i < n; i++) {
			stress_join(readers[i].thread);
			check(&readers[i].seen, &l);
		}
		q_pipe_reader_close(first);
		q_pipe_destroy(l.pipe);
	}
}

static void await_readers(Pipe *p, uint32_t n)
{
	PipeStats stats;

	do {
		stress_nap_us(100);
		must_be(Q_OK, q_pipe_stats(p, &stats));
	} while (stats.readers != n);
}

/*
 * A writer that never pauses, and readers that read faster than it writes: so they doze, and so
 * does the writer. Every byte comes, and nobody sleeps on.
 */
static void a_stream_without_a_pause_reaches_all_whoever_dozes(void **state)
{
	enum { BLOCK = 4096, READERS = 6 };
	static struct reading readers[READERS];

	(void)state;
	for (uint32_t policy = Q_PIPE_FAIL; policy <= Q_PIPE_DROP_HISTORY; policy++) {
		struct load l = { .policy = policy, .bytes = (uint64_t)BLOCK * stress_scaled(300) };
		const PipeConfig cfg = { .policy = policy,
					 .max_bytes = policy == Q_PIPE_WAIT ? 1 << 17 : l.bytes };
		uint8_t text[BLOCK];

		stress_phase(NULL, "policy %" PRIu32 ", %" PRIu64 " bytes", policy, l.bytes);
		must_be(Q_OK, q_pipe_create(&cfg, &l.pipe));
		for (uint32_t i = 0; i < READERS; i++) {
			readers[i] = (struct reading){ .pipe = l.pipe, .stream = i };
			readers[i].thread = stress_thread(read_in_thread, &readers[i]);
		}
		await_readers(l.pipe, READERS);
		for (uint64_t at = 0; at < l.bytes; at += BLOCK) {
			for (size_t i = 0; i < BLOCK; i++)
				text[i] = byte_at(at + i);
			must_be(Q_OK, q_pipe_write(l.pipe, text, BLOCK, NULL, UINT32_MAX));
		}
		must_be(Q_OK, q_pipe_close(l.pipe));
		for (uint32_t i = 0; i < READERS; i++) {
			stress_join(readers[i].thread);
			check(&readers[i].seen, &l);
			must(readers[i].seen.read == l.bytes, "policy %" PRIu32, policy);
		}
		q_pipe_destroy(l.pipe);
	}
}

/* ---- processes ------------------------------------------------------------------------------- */

static pid_t start_reader(int fd, uint64_t stream, const struct load *l, uint32_t wait_us)
{
	const pid_t child = fork_child();
	PipeReader *reader;
	struct seen s;

	must(child >= 0, "fork");
	if (child != 0)
		return child;
	stress_nap_us(wait_us);
	must_be(Q_OK, q_pipe_attach(fd, &reader));
	s = read_stream(reader, stream);
	check(&s, l);
	q_pipe_reader_close(reader);
	_exit(0);
}

static void readers_in_processes_get_the_same_and_killed_ones_disturb_nobody(void **state)
{
	const uint32_t rounds = stress_scaled(16);
	struct rng r = rng_of(2);

	(void)state;
	for (uint32_t round = 0; round < rounds; round++) {
		struct load l = { .policy = round % 2 * Q_PIPE_DROP_HISTORY,
				  .bytes = 1 + rng_below(&r, 300000),
				  .stream = round + 2000 };
		const PipeConfig cfg = { .policy = l.policy,
					 .max_bytes = l.policy == Q_PIPE_FAIL
							      ? l.bytes
							      : 1 + rng_below(&r, 50000) };
		const uint32_t n = 1 + rng_below(&r, MOST_PROCESSES);
		pid_t child[MOST_PROCESSES];
		bool killed[MOST_PROCESSES] = { false };
		int fd, status;

		stress_phase(NULL,
			     "round %" PRIu32 ": policy %" PRIu32 ", %" PRIu64 " bytes, %" PRIu32
			     " processes",
			     round, l.policy, l.bytes, n);
		must_be(Q_OK, q_pipe_create(&cfg, &l.pipe));
		fd = q_pipe_share(l.pipe);
		must(fd >= 0, "%s", q_last_error());
		for (uint32_t i = 0; i < n; i++)
			child[i] = start_reader(fd, round * 100 + i, &l,
						rng_below(&r, 2) * rng_below(&r, 3000));
		for (uint32_t i = 0; i < n / 4; i++) {
			killed[i] = true;
			stress_nap_us(rng_below(&r, 1000));
			kill(child[i], SIGKILL);
		}
		write_stream(&l);
		for (uint32_t i = 0; i < n; i++) {
			must(waitpid(child[i], &status, 0) == child[i], "waitpid");
			must(status == 0 || killed[i], "a reader ended with %#x", (unsigned)status);
		}
		close(fd);
		q_pipe_destroy(l.pipe);
	}
}

/* The descriptor of a pipe that a child has made. */
static int receive_descriptor(pid_t child, int from)
{
	char path[64];
	int number, fd;

	must(read(from, &number, sizeof(number)) == sizeof(number), "the child said nothing");
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0, "%s", path);
	return fd;
}

static pid_t start_writer(const PipeConfig *cfg, uint64_t stream, int to)
{
	struct load l = { .bytes = UINT64_MAX, .stream = stream };
	const pid_t child = fork_child();
	int fd;

	must(child >= 0, "fork");
	if (child != 0)
		return child;
	must_be(Q_OK, q_pipe_create(cfg, &l.pipe));
	fd = q_pipe_share(l.pipe);
	must(fd >= 0 && write(to, &fd, sizeof(fd)) == sizeof(fd), "%s", q_last_error());
	write_stream(&l); /* until it is killed */
	_exit(1);
}

static void a_writer_that_is_killed_anywhere_leaves_whole_bytes_and_is_seen_dead(void **state)
{
	const uint32_t rounds = stress_scaled(8);
	struct rng r = rng_of(3);

	(void)state;
	for (uint32_t round = 0; round < rounds; round++) {
		const PipeConfig cfg = { .policy = Q_PIPE_DROP_HISTORY,
					 .max_bytes = 1 + rng_below(&r, 1u << 20) };
		PipeReader *reader, *late;
		struct seen s, t;
		int ends[2], fd, error, status;
		pid_t child;

		stress_phase(NULL, "round %" PRIu32 ": %" PRIu64 " bytes kept", round,
			     cfg.max_bytes);
		must(pipe(ends) == 0, "pipe");
		child = start_writer(&cfg, round + 3000, ends[1]);
		fd = receive_descriptor(child, ends[0]);
		must_be(Q_OK, q_pipe_attach(fd, &reader));
		stress_nap_us(rng_below(&r, 20000));
		kill(child, SIGKILL);
		s = read_stream(reader, round);
		must(s.failed, "no death was seen");
		must_be(Q_OK, q_pipe_reader_error(reader, &error));
		must(error == EOWNERDEAD, "error %d", error);
		must(waitpid(child, &status, 0) == child, "waitpid");
		must_be(Q_OK, q_pipe_attach(fd, &late));
		t = read_stream(late, round + 1);
		must(t.failed && t.end == s.end, "late: it ends at %" PRIu64 ", not %" PRIu64,
		     t.end, s.end);
		q_pipe_reader_close(late);
		q_pipe_reader_close(reader);
		close(fd);
		close(ends[0]);
		close(ends[1]);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_in_processes_get_the_same_and_killed_ones_disturb_nobody),
		cmocka_unit_test(
			a_writer_that_is_killed_anywhere_leaves_whole_bytes_and_is_seen_dead),
		cmocka_unit_test(every_reader_gets_every_byte_that_the_policy_lets_it_get),
		cmocka_unit_test(a_stream_without_a_pause_reaches_all_whoever_dozes),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.pipe", tests, NULL, NULL);
}
