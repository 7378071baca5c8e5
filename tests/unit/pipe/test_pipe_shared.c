/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pipe_shared.c - readers in other processes: what they see, what they cannot do to the writer
 * and to each other, and what a writer that lies or dies does to them.
 */
#include "child.h"
#include "support.h"

#include "host/base/sanitize.h"
#include "host/pipe/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- short calls ----------------------------------------------------------------------------- */

static Pipe *make(uint64_t max_bytes, uint32_t policy)
{
	const PipeConfig cfg = { .max_bytes = max_bytes, .policy = policy };
	Pipe *p;

	assert_status(q_pipe_create(&cfg, &p), Q_OK);
	return p;
}

static void put(Pipe *p, const char *text)
{
	size_t n;

	assert_status(q_pipe_write(p, text, strlen(text), &n, 0), Q_OK);
	assert_int_equal(n, strlen(text));
}

static PipeReader *attach(int fd)
{
	PipeReader *r;

	assert_status(q_pipe_attach(fd, &r), Q_OK);
	return r;
}

static int share(Pipe *p)
{
	const int fd = q_pipe_share(p);

	assert_true(fd >= 0);
	return fd;
}

/* A reader of the pipe by descriptor. */
static PipeReader *attach_to(Pipe *p)
{
	const int fd = share(p);
	PipeReader *r = attach(fd);

	close(fd);
	return r;
}

/* Waits for exactly this text. */
static bool reads(PipeReader *r, const char *text)
{
	size_t have = 0, len;
	char buf[256];

	while (have < strlen(text)) {
		if (q_pipe_read(r, buf + have, strlen(text) - have, &len, LONG_MS) != Q_OK ||
		    len == 0)
			return false;
		have += len;
	}
	return memcmp(buf, text, have) == 0;
}

static QueueStatus read_status(PipeReader *r, uint32_t timeout_ms)
{
	char buf[16];
	size_t len;

	return q_pipe_read(r, buf, sizeof(buf), &len, timeout_ms);
}

static bool at_end(PipeReader *r)
{
	size_t len = 1;
	char c;

	return q_pipe_read(r, &c, 1, &len, LONG_MS) == Q_OK && len == 0;
}

static void expect_dead(PipeReader *r)
{
	int error = 0;

	assert_status(read_status(r, LONG_MS), Q_ERR_FAILED);
	assert_says("has ended");
	assert_status(q_pipe_reader_error(r, &error), Q_OK);
	assert_int_equal(error, EOWNERDEAD);
	assert_status(read_status(r, 0), Q_ERR_FAILED); /* it stays so */
}

/* ---- what they see --------------------------------------------------------------------------- */

static void a_child_sees_the_whole_stream_whenever_it_joins_and_whenever_it_was_shared(void **state)
{
	(void)state;
	for (uint32_t policy = Q_PIPE_FAIL; policy <= Q_PIPE_DROP_HISTORY; policy += 2)
		for (int shared_at = 0; shared_at < 3; shared_at++) {
			Pipe *p = make(64, policy);
			PipeReader *here;
			int fd = -1;

			assert_status(q_pipe_reader_open(p, &here), Q_OK);
			for (int step = 0; step < 3; step++) {
				if (step == shared_at)
					fd = share(p);
				if (step == 0)
					put(p, "hello");
				else if (step == 1)
					put(p, "world");
				else
					assert_status(q_pipe_close(p), Q_OK);
				if (fd < 0)
					continue;
				in_child(PipeReader * r; need(q_pipe_attach(fd, &r) == Q_OK);
					 need(reads(r, step == 0 ? "hello" : "helloworld"));
					 if (step < 2) need(read_status(r, 0) == Q_ERR_EMPTY);
					 else need(at_end(r)); q_pipe_reader_close(r););
			}
			/* A reader of this process did not notice. */
			assert_true(reads(here, "helloworld"));
			assert_true(at_end(here));
			q_pipe_reader_close(here);
			close(fd);
			q_pipe_destroy(p);
		}
}

static void a_reader_reads_on_after_the_descriptor_and_the_writers_handle_are_gone(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = attach_to(p);

	(void)state;
	put(p, "what is left");
	q_pipe_destroy(p);
	assert_true(reads(r, "what is left"));
	assert_true(at_end(r));
	q_pipe_reader_close(r);
}

static void a_shared_pipe_is_never_broken(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r;

	(void)state;
	assert_status(q_pipe_reader_open(p, &r), Q_OK);
	close(share(p));
	q_pipe_reader_close(r);
	put(p, "somebody may read it");
	q_pipe_destroy(p);
}

static void dropped_history_is_told_once_across_processes(void **state)
{
	Pipe *p = make(8, Q_PIPE_DROP_HISTORY);
	PipeReader *r = attach_to(p), *late;

	(void)state;
	put(p, "01234567");
	assert_true(reads(r, "012"));
	put(p, "89abc"); /* forgets 0 to 4 */
	assert_status(read_status(r, 0), Q_ERR_LAGGED);
	assert_says("offset 5");
	assert_true(reads(r, "56789abc"));
	late = attach_to(p);
	assert_status(read_status(late, 0), Q_ERR_LAGGED);
	assert_true(reads(late, "56789abc"));
	q_pipe_reader_close(late);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* Reads on one pipe and answers on the other. With lost wake-ups each round would take a nap of 200
 * ms, and all of them minutes. */
static void a_reader_in_another_process_is_woken_by_each_write(void **state)
{
	enum { ROUNDS = 1000 };
	Pipe *there = make(ROUNDS, 0), *back;
	int fd = share(there), status;
	PipeReader *r;
	pid_t child;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	child = fork_child();
	if (child == 0) {
		need(q_pipe_attach(fd, &r) == Q_OK);
		need(q_pipe_create(NULL, &back) == Q_OK);
		fd = q_pipe_share(back);
		need(fd >= 0 && write(ends[1], &fd, sizeof(fd)) == sizeof(fd));
		for (int i = 0; i < ROUNDS; i++) {
			need(reads(r, "x"));
			need(q_pipe_write(back, "y", 1, NULL, 0) == Q_OK);
		}
		need(at_end(r));
		q_pipe_reader_close(r);
		q_pipe_destroy(back);
		_exit(0);
	}
	close(fd);
	assert_int_equal(read(ends[0], &fd, sizeof(fd)), sizeof(fd));
	{
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, fd);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
	}
	r = attach(fd);
	for (int i = 0; i < ROUNDS; i++) {
		put(there, "x");
		assert_true(reads(r, "y"));
	}
	q_pipe_destroy(there);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(at_end(r));
	q_pipe_reader_close(r);
	close(fd);
	close(ends[0]);
	close(ends[1]);
}

struct waiting {
	PipeReader *reader;
	QueueStatus status;
	pthread_t thread;
};

static void *wait_for_bytes(void *arg)
{
	struct waiting *w = arg;

	w->status = read_status(w->reader, LONG_MS);
	return NULL;
}

static void await_asleep(const uint64_t *asleep)
{
	for (uint32_t ms = 0; gq_load_seq_cst_u64(asleep) % 2 == 0; ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
}

static void an_attached_reader_wakes_for_its_own_error(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = attach_to(p);
	struct waiting w = { .reader = r };

	(void)state;
	for (int round = 0; round < 50; round++) {
		assert_int_equal(pthread_create(&w.thread, NULL, wait_for_bytes, &w), 0);
		await_asleep(&r->asleep);
		if (round % 2 != 0)
			nap_ms(1);
		assert_status(q_pipe_reader_set_error(r, 7), Q_OK);
		pthread_join(w.thread, NULL);
		assert_status(w.status, Q_ERR_FAILED);
		assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
	}
	assert_status(read_status(r, 1), Q_ERR_TIMEOUT);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* There is nothing to wake it for. */
static void taking_an_error_away_waits_for_no_reader_that_sleeps(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = attach_to(p);
	struct waiting w = { .reader = r };

	(void)state;
	assert_true(q_pipe_reader_fd(r) >= 0); /* its thread sleeps, too */
	assert_int_equal(pthread_create(&w.thread, NULL, wait_for_bytes, &w), 0);
	await_asleep(&r->asleep);
	await_asleep(&r->poll_asleep);
	assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
	put(p, "x");
	pthread_join(w.thread, NULL);
	assert_status(w.status, Q_OK);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static void an_attached_readers_descriptor_is_level_triggered_too(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = attach_to(p);
	const int fd = q_pipe_reader_fd(r);

	(void)state;
	assert_true(fd >= 0);
	for (int round = 0; round < 3; round++) {
		assert_false(readable(fd, round == 0 ? 20 : 0));
		put(p, "ab");
		assert_true(readable(fd, (int)LONG_MS));
		assert_true(reads(r, "a"));
		assert_true(readable(fd, 0));
		assert_true(reads(r, "b"));
		for (uint32_t ms = 0; readable(fd, 0); ms++) {
			assert_in_range(ms, 0, LONG_MS);
			nap_ms(1);
		}
	}
	assert_status(q_pipe_reader_set_error(r, 1), Q_OK);
	assert_true(readable(fd, (int)LONG_MS));
	assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
	assert_status(q_pipe_close(p), Q_OK);
	assert_true(readable(fd, (int)LONG_MS));
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* ---- what a reader cannot do ----------------------------------------------------------------- */

static void try_to_harm(int fd, size_t bytes)
{
	void *mine;

	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(pwrite(fd, "x", 1, 4096), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, (off_t)bytes * 2), -1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	mine = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(mine == MAP_FAILED);
	mine = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(mine != MAP_FAILED);
	assert_int_equal(mprotect(mine, bytes, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(madvise(mine, 4096, MADV_REMOVE), -1);
	munmap(mine, bytes);
}

static void no_descriptor_of_it_can_write_cut_or_punch(void **state)
{
	Pipe *p = make(8192, 0);
	const int fd = share(p);
	PipeReader *r = attach(fd);
	char path[64];
	int again;

	(void)state;
	put(p, "safe");
	try_to_harm(fd, (size_t)p->source.mapped);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC); /* whatever it was opened for */
	if (again >= 0) {
		try_to_harm(again, (size_t)p->source.mapped);
		/* This it may, and it does nothing that anybody sees. */
		(void)!fallocate(again, 0, 0, (off_t)p->source.mapped);
		close(again);
	}
	put(p, " and sound");
	assert_true(reads(r, "safe and sound"));
	q_pipe_reader_close(r);
	close(fd);
	q_pipe_destroy(p);
}

static void policies_that_need_to_know_their_readers_are_not_shared(void **state)
{
	(void)state;
	for (uint32_t policy = Q_PIPE_WAIT; policy <= Q_PIPE_EVICT; policy += 2) {
		Pipe *p = make(64, policy);

		assert_int_equal(q_pipe_share(p), -1);
		assert_says("policy is");
		assert_says("must be 0 or 2");
		q_pipe_destroy(p);
	}
}

static void readers_and_writers_go_on_while_the_pipe_is_shared(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		Pipe *p = make(4 << 20, 0);
		static char text[4096];
		PipeReader *r;
		pid_t child = -1;
		int status, fd;

		assert_status(q_pipe_reader_open(p, &r), Q_OK);
		for (int i = 0; i < 200; i++) {
			memset(text, 'a' + i % 26, sizeof(text));
			assert_status(q_pipe_write(p, text, sizeof(text), NULL, 0), Q_OK);
			if (i != 5 * round)
				continue;
			fd = share(p);
			child = fork_child();
			if (child == 0) {
				need(q_pipe_attach(fd, &r) == Q_OK);
				for (int k = 0; k < 200; k++)
					for (size_t have = 0, n; have < sizeof(text); have += n) {
						need(q_pipe_read(r, text, sizeof(text) - have, &n,
								 LONG_MS) == Q_OK &&
						     n != 0);
						need(text[0] == 'a' + k % 26 &&
						     text[n - 1] == 'a' + k % 26);
					}
				need(at_end(r));
				_exit(0);
			}
			close(fd);
		}
		assert_status(q_pipe_close(p), Q_OK);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		q_pipe_reader_close(r);
		q_pipe_destroy(p);
	}
}

/* ---- writers that lie
 * ---------------------------------------------------------------------------- */

/* A memfd that looks like a pipe's, to be written to. */
static struct gq_pipe_head *lie(int *out_fd, uint64_t capacity, int seals)
{
	const size_t bytes = GQ_PIPE_HEAD_BYTES + 8192;
	struct gq_pipe_head *head;

	*out_fd = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(*out_fd >= 0);
	assert_int_equal(ftruncate(*out_fd, (off_t)bytes), 0);
	head = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *out_fd, 0);
	assert_true(head != MAP_FAILED);
	head->header = (struct gq_header){ GQ_PIPE_MAGIC, GQ_PIPE_MAGIC, bytes };
	head->capacity = capacity;
	if (seals != 0)
		assert_int_equal(fcntl(*out_fd, F_ADD_SEALS, seals), 0);
	return head;
}

static void unlie(struct gq_pipe_head *head, int fd)
{
	munmap(head, GQ_PIPE_HEAD_BYTES + 8192);
	close(fd);
}

static void refuse(int fd, QueueStatus wanted, const char *words)
{
	PipeReader *r = NULL;

	assert_status(q_pipe_attach(fd, &r), wanted);
	assert_says(words);
	assert_null(r);
}

static void what_is_no_pipe_is_refused_in_words(void **state)
{
	struct gq_pipe_head *head;
	FILE *file = tmpfile();
	int fd, huge;

	(void)state;
	assert_non_null(file);
	refuse(-1, Q_ERR_INVALID_ARG, "fd is -1");
	refuse(fileno(file), Q_ERR_POLICY, "not a memfd");
	fclose(file);
	head = lie(&fd, 64, 0);
	refuse(fd, Q_ERR_POLICY, "F_SEAL_SHRINK");
	unlie(head, fd);
	/* A page of such a memfd may be missing when it is touched. */
	huge = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	if (huge >= 0) {
		refuse(huge, Q_ERR_POLICY, "ordinary pages");
		close(huge);
	}
	head = lie(&fd, 64, F_SEAL_SHRINK);
	head->header.ready = 0;
	refuse(fd, Q_ERR_INVALID_ARG, "no pipe");
	head->header.ready = GQ_PIPE_MAGIC;
	head->header.magic = 5;
	refuse(fd, Q_ERR_INVALID_ARG, "no pipe");
	head->header.magic = GQ_PIPE_MAGIC;
	head->capacity = 0;
	refuse(fd, Q_ERR_INVALID_ARG, "keeps 0 bytes");
	head->capacity = UINT64_MAX - 100;
	refuse(fd, Q_ERR_INVALID_ARG, "allowed: 1 to");
	head->capacity = 8193;
	refuse(fd, Q_ERR_INVALID_ARG, "its pipe takes 12289");
	head->capacity = 8192;
	head->policy = Q_PIPE_WAIT;
	refuse(fd, Q_ERR_INVALID_ARG, "policy is 1");
	head->policy = UINT64_C(1) << 32;
	refuse(fd, Q_ERR_INVALID_ARG, "allowed: 0, 2");
	unlie(head, fd);
}

/* Whatever stands in the four words that change, a read returns, with no more bytes than asked for,
 * and touches nothing else. */
static void a_writer_that_lies_harms_nothing_but_its_stream(void **state)
{
	static const uint64_t values[] = {
		0,
		1,
		4096,
		8191,
		8192,
		8193,
		UINT32_MAX,
		(uint64_t)UINT32_MAX + 1,
		GQ_PIPE_OFFSET,
		GQ_PIPE_ERROR,
		UINT64_MAX,
		GQ_PIPE_CLOSED,
		1u << 20,
		GQ_PIPE_CLOSED | 5000,
		GQ_PIPE_ERROR | 100,
	};
	enum { VALUES = sizeof(values) / sizeof(values[0]) };
	uint64_t random = 88172645463325252u;
	struct gq_pipe_head *head;
	uint8_t buf[300];
	PipeReader *r;
	size_t n;
	int fd, error;

	(void)state;
	for (uint32_t policy = 0; policy <= Q_PIPE_DROP_HISTORY; policy += 2) {
		head = lie(&fd, 8192, F_SEAL_SHRINK);
		head->policy = policy;
		r = attach(fd);
		for (uint32_t i = 0; i < 30000; i++) {
			QueueStatus status;

			if (i % 100 == 0) { /* a lie may lead it far away */
				q_pipe_reader_close(r);
				r = attach(fd);
			}
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			gq_store_relaxed_u64(i % 2 != 0 ? &head->end : &head->begin,
					     values[random % VALUES]);
			gq_store_relaxed_u64(&head->error, random);
			gq_store_relaxed_u64(&head->changes, random);
			memset(buf, 0xa5, sizeof(buf));
			status = q_pipe_read(r, buf, 100 + random % 100, &n, 0);
			assert_true(status == Q_OK || status == Q_ERR_EMPTY ||
				    status == Q_ERR_FAILED || status == Q_ERR_LAGGED);
			assert_in_range(n, 0, status == Q_OK ? 100 + random % 100 : 0);
			for (size_t k = n; k < sizeof(buf); k++)
				if (k >= 100 + random % 100)
					assert_int_equal(buf[k], 0xa5);
		}
		q_pipe_reader_close(r);
		r = attach(fd);
		gq_store_relaxed_u64(&head->begin, 0);
		gq_store_relaxed_u64(&head->end, 100000); /* more than it can keep */
		if (read_status(r, 0) == Q_ERR_LAGGED)
			assert_status(read_status(r, 0), Q_ERR_FAILED);
		else
			assert_status(read_status(r, 0), Q_ERR_FAILED);
		assert_status(q_pipe_reader_error(r, &error), Q_OK);
		assert_int_equal(error, EPROTO);
		q_pipe_reader_close(r);
		unlie(head, fd);
	}
}

/* ---- processes that die
 * --------------------------------------------------------------------------- */

/* A child that writes; *out_fd is its pipe. It goes on to `run` once that has been opened: a
 * process whose first thread has ended has no /proc/PID/fd that could be opened, and execve()
 * closes the descriptor. */
static pid_t start_writer(void (*run)(Pipe *p), int *out_fd)
{
	char path[64], go = 0;
	int said[2], told[2], number;
	pid_t child;

	assert_int_equal(pipe(said), 0);
	assert_int_equal(pipe(told), 0);
	child = fork_child();
	if (child == 0) {
		Pipe *p;

		need(q_pipe_create(NULL, &p) == Q_OK);
		need(q_pipe_write(p, "some", 4, NULL, 0) == Q_OK);
		number = q_pipe_share(p);
		need(number >= 0);
		need(write(said[1], &number, sizeof(number)) == sizeof(number));
		need(read(told[0], &go, 1) == 1);
		run(p);
		_exit(0);
	}
	close(said[1]);
	close(told[0]);
	assert_int_equal(read(said[0], &number, sizeof(number)), sizeof(number));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, number);
	*out_fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(*out_fd >= 0);
	assert_int_equal(write(told[1], &go, 1), 1);
	close(said[0]);
	close(told[1]);
	return child;
}

static void stand_still(Pipe *p)
{
	(void)p;
	for (;;)
		pause();
}

static void a_killed_writer_is_seen_after_all_data_before_and_after_it_is_collected(void **state)
{
	PipeReader *waits, *looks, *late;
	struct waiting w;
	siginfo_t info;
	pid_t child;
	int fd, status;

	(void)state;
	child = start_writer(stand_still, &fd);
	waits = attach(fd);
	looks = attach(fd);
	assert_true(reads(waits, "some"));
	w = (struct waiting){ .reader = waits };
	assert_int_equal(pthread_create(&w.thread, NULL, wait_for_bytes, &w), 0);
	await_asleep(&waits->asleep);
	assert_status(read_status(looks, 0), Q_OK);
	assert_status(read_status(looks, 0), Q_ERR_EMPTY); /* it lives */
	assert_int_equal(kill(child, SIGKILL), 0);
	pthread_join(w.thread, NULL);
	assert_status(w.status, Q_ERR_FAILED);
	expect_dead(waits);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	late = attach(fd); /* not collected yet */
	assert_true(reads(late, "some"));
	expect_dead(late);
	q_pipe_reader_close(late);
	assert_int_equal(waitpid(child, &status, 0), child);
	late = attach(fd);
	assert_true(reads(late, "some"));
	expect_dead(late);
	expect_dead(looks);
	q_pipe_reader_close(late);
	q_pipe_reader_close(looks);
	q_pipe_reader_close(waits);
	close(fd);
}

static void become_another_program(Pipe *p)
{
	(void)p;
	execl("/bin/sleep", "sleep", "60", (char *)NULL);
}

static void a_writer_that_runs_another_program_is_gone(void **state)
{
	PipeReader *r;
	pid_t child;
	int fd, status;

	(void)state;
	child = start_writer(become_another_program, &fd);
	r = attach(fd);
	assert_true(reads(r, "some"));
	expect_dead(r);
	q_pipe_reader_close(r);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(fd);
}

static void *write_on(void *arg)
{
	Pipe *p = arg;

	for (int i = 0; i < 6; i++) { /* longer than a nap of the reader's */
		nap_ms(100);
		q_pipe_write(p, "more", 4, NULL, 0);
	}
	q_pipe_close(p);
	_exit(0);
}

static void end_the_first_thread(Pipe *p)
{
	pthread_t thread;

	pthread_create(&thread, NULL, write_on, p);
	pthread_exit(NULL);
}

static void a_writer_whose_first_thread_has_ended_lives(void **state)
{
	PipeReader *r;
	pid_t child;
	int fd, status;

#if GQ_TSAN
	print_message("left out: no threads in children under ThreadSanitizer\n");
	skip();
#endif
	(void)state;
	child = start_writer(end_the_first_thread, &fd);
	r = attach(fd);
	assert_true(reads(r, "somemoremoremoremoremoremore"));
	assert_true(at_end(r));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(at_end(r)); /* closed is closed */
	q_pipe_reader_close(r);
	close(fd);
}

static void killed_readers_disturb_nobody(void **state)
{
	enum { READERS = 8 };
	Pipe *p = make(1 << 20, 0);
	const int fd = share(p);
	PipeReader *r = attach(fd);
	pid_t child[READERS];
	int status;

	(void)state;
	for (int i = 0; i < READERS; i++) {
		child[i] = fork_child();
		if (child[i] == 0) {
			PipeReader *mine;

			need(q_pipe_attach(fd, &mine) == Q_OK);
			for (;;)
				read_status(mine, LONG_MS);
		}
	}
	for (int i = 0; i < 1000; i++) {
		put(p, "0123456789abcdef");
		if (i % 100 == 50 && i / 100 < READERS)
			kill(child[i / 100], SIGKILL);
		assert_true(reads(r, "0123456789abcdef"));
	}
	for (int i = 0; i < READERS; i++)
		assert_int_equal(waitpid(child[i], &status, 0), child[i]);
	put(p, "after");
	assert_true(reads(r, "after"));
	q_pipe_reader_close(r);
	close(fd);
	q_pipe_destroy(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_child_sees_the_whole_stream_whenever_it_joins_and_whenever_it_was_shared),
		cmocka_unit_test(
			a_reader_reads_on_after_the_descriptor_and_the_writers_handle_are_gone),
		cmocka_unit_test(a_shared_pipe_is_never_broken),
		cmocka_unit_test(dropped_history_is_told_once_across_processes),
		cmocka_unit_test(a_reader_in_another_process_is_woken_by_each_write),
		cmocka_unit_test(an_attached_reader_wakes_for_its_own_error),
		cmocka_unit_test(taking_an_error_away_waits_for_no_reader_that_sleeps),
		cmocka_unit_test(an_attached_readers_descriptor_is_level_triggered_too),
		cmocka_unit_test(no_descriptor_of_it_can_write_cut_or_punch),
		cmocka_unit_test(policies_that_need_to_know_their_readers_are_not_shared),
		cmocka_unit_test(readers_and_writers_go_on_while_the_pipe_is_shared),
		cmocka_unit_test(what_is_no_pipe_is_refused_in_words),
		cmocka_unit_test(a_writer_that_lies_harms_nothing_but_its_stream),
		cmocka_unit_test(
			a_killed_writer_is_seen_after_all_data_before_and_after_it_is_collected),
		cmocka_unit_test(a_writer_that_runs_another_program_is_gone),
		cmocka_unit_test(a_writer_whose_first_thread_has_ended_lives),
		cmocka_unit_test(killed_readers_disturb_nobody),
	};

	return cmocka_run_group_tests_name("pipe_shared", tests, NULL, NULL);
}
