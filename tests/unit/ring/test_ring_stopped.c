/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ring_stopped.c - rings whose users are stopped or killed in the middle of a call: close,
 * repair, and what the others do meanwhile.
 *
 * A user is stopped inside its copy by a page that it may not read, or, as a traced process, after
 * any number of instructions.
 */
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sanitize.h"
#include "host/ring/extent.h"
#include "host/ring/repair.h"
#include "host/ring/ring.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SANITIZED (GQ_ASAN || GQ_TSAN)
/* ThreadSanitizer makes hundreds of instructions of one. */
#define TOO_MANY_STEPS GQ_TSAN

enum { PAGE = 4096 };

struct shared {
	RingConfig cfg;
	void *memory;
	size_t bytes;
	RingQueue *r;
};

static struct shared share(uint32_t size, uint32_t max, uint32_t flags)
{
	struct shared s = { .cfg = { .ring_size = size, .max_msg_size = max, .flags = flags } };

	s.bytes = q_ring_required_memory(&s.cfg);
	s.memory = mmap(NULL, s.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s.memory, MAP_FAILED);
	assert_status(q_ring_create(&s.cfg, s.memory, s.bytes, &s.r), Q_OK);
	return s;
}

static RingQueue *attach(const struct shared *s)
{
	RingQueue *r = NULL;

	if (q_ring_attach(s->memory, s->bytes, &r) != Q_OK)
		abort();
	return r;
}

static void unshare_ring(struct shared *s)
{
	q_ring_destroy(s->r);
	munmap(s->memory, s->bytes);
}

static QueueStatus receive(RingQueue *r, char *first)
{
	static char buf[4 * PAGE];
	size_t len = sizeof(buf);
	QueueStatus status = q_ring_recv(r, buf, &len);

	if (status == Q_OK && first != NULL)
		*first = buf[0];
	return status;
}

/* ---- stopped inside the copy ----------------------------------------------------------------- */

/* A thread that stands still when it reads its page, until it is let go on. */
struct stopped {
	RingQueue *r;
	QueuePriority priority;
	size_t before; /* of a batch: messages in front of the one that it stands still at */
	size_t len;
	char *page;
	int at[2], go[2];
	pthread_t thread;
	QueueStatus status;
	size_t sent;
};

static struct stopped *stops; /* whose page it is; NULL: who touches it dies */

static void on_fault(int signal, siginfo_t *info, void *context)
{
	char c = 0;

	(void)signal;
	(void)context;
	if (stops == NULL || (char *)info->si_addr < stops->page ||
	    (char *)info->si_addr >= stops->page + 4 * PAGE) {
		kill(getpid(), SIGKILL);
		return;
	}
	if (write(stops->at[1], &c, 1) != 1 || read(stops->go[0], &c, 1) != 1)
		abort();
	mprotect(stops->page, 4 * PAGE, PROT_READ | PROT_WRITE);
}

static char *page_that_stops(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	char *page = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	sigaction(SIGSEGV, &action, NULL);
	return page;
}

static void *send_and_stop(void *arg)
{
	struct stopped *s = arg;
	EnqueueItem items[64];

	for (size_t i = 0; i < s->before; i++)
		items[i] = (EnqueueItem){ "before", 6 };
	items[s->before] = (EnqueueItem){ s->page, s->len };
	if (s->before == 0)
		s->status = q_ring_send(s->r, s->page, s->len, s->priority);
	else
		s->status = q_ring_send_batch(s->r, items, s->before + 1, s->priority, &s->sent);
	return NULL;
}

static void stop_inside(struct stopped *s)
{
	char c;

	s->page = page_that_stops();
	if (s->len == 0)
		s->len = 32;
	stops = s;
	assert_int_equal(pipe(s->at) | pipe(s->go), 0);
	pthread_create(&s->thread, NULL, send_and_stop, s);
	assert_int_equal(read(s->at[0], &c, 1), 1);
}

static void go_on(struct stopped *s)
{
	char c = 0;

	assert_int_equal(write(s->go[1], &c, 1), 1);
	pthread_join(s->thread, NULL);
	stops = NULL;
	munmap(s->page, 4 * PAGE);
	for (int i = 0; i < 2; i++) {
		close(s->at[i]);
		close(s->go[i]);
	}
}

static void die_inside(const struct shared *s)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		stops = NULL;
		q_ring_send(attach(s), page_that_stops(), 32, 0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static const uint32_t many_modes[] = { 0, Q_RING_LARGE, Q_RING_AGEING };

static void a_closed_ring_says_shutdown_at_once_though_a_sender_stands_inside(void **state)
{
	const uint64_t start = gq__start_pos;
	static const uint64_t starts[] = { 0, (UINT64_C(1) << 32) - 1, (UINT64_C(1) << 63) - 1,
					   0 - UINT64_C(1) };

	(void)state;
	for (uint32_t n = 0; n < 3 * 4 * 4; n++) {
		const uint32_t size = 1u << n % 4;
		struct stopped s = { .priority = (QueuePriority)(1 + n % 4) };
		struct shared ring;
		RingMessage m;
		uint32_t queued = 0;

		gq__start_pos = starts[n / 4 % 4];
		ring = share(size, 64, many_modes[n % 3]);
		gq__start_pos = start;
		s.r = ring.r;
		/* Another lap, so that the entries are used ones. */
		for (uint32_t i = 0; i < n % 7; i++) {
			assert_status(q_ring_send(s.r, "lap", 3, (QueuePriority)(i % 5)), Q_OK);
			assert_status(receive(s.r, NULL), Q_OK);
		}
		stop_inside(&s);
		while (q_ring_send(s.r, "queued", 6, (QueuePriority)(queued % 5)) == Q_OK)
			queued++;
		assert_int_equal(queued, size - 1);
		assert_status(q_ring_close(s.r), Q_OK);
		assert_status(q_ring_send(s.r, "late", 4, 0), Q_ERR_SHUTDOWN);
		for (; queued > 0; queued--)
			assert_status(receive(s.r, NULL), Q_OK);
		assert_status(receive(s.r, NULL), Q_ERR_SHUTDOWN);
		assert_status(q_ring_peek(s.r, &m), Q_ERR_SHUTDOWN);
		go_on(&s);
		assert_status(s.status, Q_ERR_SHUTDOWN);
		assert_status(receive(s.r, NULL), Q_ERR_SHUTDOWN);
		assert_int_equal(q_ring_available(s.r), size);
		unshare_ring(&ring);
	}
}

static void a_long_message_that_close_overtakes_gives_all_its_entries_back(void **state)
{
	struct shared ring = share(8, 64, Q_RING_LARGE);
	struct stopped s = { .r = ring.r, .len = 300 };

	(void)state;
	stop_inside(&s);
	assert_int_equal(q_ring_available(s.r), 3);
	assert_status(q_ring_close(s.r), Q_OK);
	assert_status(receive(s.r, NULL), Q_ERR_SHUTDOWN);
	go_on(&s);
	assert_status(s.status, Q_ERR_SHUTDOWN);
	assert_int_equal(q_ring_available(s.r), 8);
	unshare_ring(&ring);
}

static void a_batch_that_close_interrupts_says_how_many_were_accepted(void **state)
{
	struct shared ring = share(64, 64, 0);
	struct stopped s = { .r = ring.r, .before = 40 };
	char first;

	(void)state;
	stop_inside(&s); /* in its second step */
	assert_status(q_ring_close(s.r), Q_OK);
	for (int i = 0; i < 32; i++) {
		assert_status(receive(s.r, &first), Q_OK);
		assert_int_equal(first, 'b');
	}
	assert_status(receive(s.r, NULL), Q_ERR_SHUTDOWN);
	go_on(&s);
	assert_status(s.status, Q_ERR_SHUTDOWN);
	assert_int_equal(s.sent, 32);
	assert_status(receive(s.r, NULL), Q_ERR_SHUTDOWN);
	unshare_ring(&ring);
}

static void in_single_mode_shutdown_comes_when_the_sender_goes_on(void **state)
{
	struct shared ring = share(4, 64, Q_RING_SINGLE);
	struct stopped s = { .r = ring.r };

	(void)state;
	stop_inside(&s);
	assert_status(q_ring_close(s.r), Q_OK);
	assert_status(receive(s.r, NULL), Q_ERR_EMPTY); /* not known, and no wait for it */
	go_on(&s);
	assert_status(s.status, Q_OK);
	assert_status(receive(s.r, NULL), Q_OK);
	assert_status(receive(s.r, NULL), Q_ERR_SHUTDOWN);
	unshare_ring(&ring);
}

static void in_single_mode_shutdown_comes_when_the_sender_has_died(void **state)
{
	struct shared ring = share(4, 64, Q_RING_SINGLE);
	char buf[64];
	size_t len = sizeof(buf);

	(void)state;
	die_inside(&ring);
	assert_status(q_ring_close(ring.r), Q_OK);
	assert_status(q_ring_recv_timeout(ring.r, buf, &len, LONG_MS), Q_ERR_SHUTDOWN);
	unshare_ring(&ring);
}

static void close_does_not_touch_completions(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 2; n++) {
		struct shared ring = share(2, 64, n == 0 ? 0 : Q_RING_SINGLE);
		RingCompletion done[2];
		size_t count;

		assert_status(q_ring_complete(ring.r, 7, Q_OK, NULL, 0), Q_OK);
		assert_status(q_ring_close(ring.r), Q_OK);
		for (uint64_t i = 0; i < 10; i++) {
			assert_status(q_ring_complete(ring.r, 8 + i, Q_OK, NULL, 0), Q_OK);
			assert_status(q_ring_complete(ring.r, 0, Q_OK, NULL, 0), Q_ERR_FULL);
			assert_status(q_ring_poll_completions(ring.r, done, 1, &count), Q_OK);
			assert_int_equal(count, 1);
			assert_int_equal(done[0].sequence, 7 + i);
		}
		unshare_ring(&ring);
	}
}

/* As q_ring_close() leaves it if it dies after so many of its steps. */
static void close_in_part(RingQueue *r, uint32_t steps)
{
	r->head->signals.state = GQ_RING_CLOSED;
	for (uint32_t c = 0; c < GQ_CLASSES && c + 1 < steps; c++) {
		uint64_t pos = *r->messages.ready[c].tail;

		while (!gq_extent_try_bar(&r->messages.ready[c], &pos, GQ_CLOSED))
			;
	}
}

static void whoever_comes_by_completes_a_close_whose_caller_has_died(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 6 * 4; n++) {
		struct shared ring = share(1u << n / 6 % 2, 64, 0);
		char buf[64];
		size_t len = sizeof(buf);

		assert_status(q_ring_send(ring.r, "message", 7, 1), Q_OK);
		close_in_part(ring.r, n % 6);
		if (n / 6 % 2 == 0) {
			assert_status(q_ring_send(ring.r, "x", 1, 0), Q_ERR_SHUTDOWN);
			assert_int_equal(ring.r->head->signals.state, GQ_RING_SETTLED);
		} else if (n / 6 == 3) {
			assert_status(q_ring_close(ring.r), Q_OK);
			assert_int_equal(ring.r->head->signals.state, GQ_RING_SETTLED);
		}
		assert_status(receive(ring.r, NULL), Q_OK);
		assert_status(q_ring_recv_timeout(ring.r, buf, &len, LONG_MS), Q_ERR_SHUTDOWN);
		assert_status(q_ring_send(ring.r, "x", 1, 0), Q_ERR_SHUTDOWN);
		unshare_ring(&ring);
	}
}

static void a_liar_that_bars_an_open_ring_harms_its_messages_only(void **state)
{
	struct shared ring = share(4, 64, 0);

	(void)state;
	close_in_part(ring.r, 5);
	ring.r->head->signals.state = GQ_RING_OPEN;
	assert_status(q_ring_send(ring.r, "x", 1, 0), Q_ERR_FAILED);
	assert_int_equal(q_ring_available(ring.r), 4);
	assert_status(receive(ring.r, NULL), Q_ERR_EMPTY);
	unshare_ring(&ring);
}

/* ---- after any number of instructions -------------------------------------------------------- */

/* Runs a call in a child that is traced from its beginning. @return its process, stopped before it.
 * The child's exit status is minus the call's. */
static pid_t trace(const struct shared *s, void (*prepare)(RingQueue *r),
		   QueueStatus (*call)(RingQueue *r))
{
	pid_t pid;
	int status;

	if (TOO_MANY_STEPS)
		return 0;
	pid = fork();
	if (pid == 0) {
		RingQueue *r = attach(s), *other;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* The dynamic linker's steps come first. */
		if (q_ring_create(&s->cfg, NULL, 0, &other) != Q_OK)
			_exit(77);
		call(other);
		syscall(SYS_gettid);
		receive(r, NULL); /* binds */
		if (prepare != NULL)
			prepare(r);
		r->next_watch_ns = UINT64_MAX; /* looks after no others on its way */
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(77);
		raise(SIGSTOP);
		syscall(SYS_exit_group, -call(r));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSTOPPED(status))
		return 0;
	return pid;
}

/* Lets it make so many instructions. @return false: it has ended, with *ended. */
static bool make_steps(pid_t pid, uint32_t n, int *ended)
{
	for (uint32_t i = 0; i < n; i++) {
		int status;

		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status)) {
			*ended = WEXITSTATUS(status);
			return false;
		}
		assert_true(WIFSTOPPED(status));
	}
	return true;
}

static int let_end(pid_t pid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void let_die(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

/* A call makes `n` steps and is killed. @return false: it ended before */
static bool is_killed_after(pid_t pid, uint32_t n)
{
	int ended;

	if (!make_steps(pid, n, &ended)) {
		assert_true(n > 1);
		return false;
	}
	let_die(pid);
	return true;
}

static QueueStatus send_a_few(RingQueue *r)
{
	const EnqueueItem items[3] = { { "a", 1 }, { "b", 1 }, { "c", 1 } };
	size_t sent;

	q_ring_send_batch(r, items, 3, 0, &sent);
	return -(QueueStatus)sent;
}

/* From one instruction at which a process is stopped to the next: a few of those that matter lie
 * between. Sanitizers have many more. */
static uint32_t stride(void)
{
	return SANITIZED ? 401 : getenv("GPUQ_TEST_SHORT") != NULL ? 29 : 5;
}

static void a_sender_stopped_at_any_instruction_hides_no_shutdown(uint32_t size, uint32_t flags)
{
	for (uint32_t n = 1;; n += stride()) {
		struct shared ring = share(size, 64, flags);
		uint32_t received = 0;
		QueueStatus status;
		int sent;
		pid_t pid = trace(&ring, NULL, send_a_few);

		if (pid == 0)
			skip();
		if (!make_steps(pid, n, &sent)) {
			assert_true(n > 1);
			unshare_ring(&ring);
			return;
		}
		assert_status(q_ring_close(ring.r), Q_OK);
		while ((status = receive(ring.r, NULL)) == Q_OK)
			received++;
		if ((flags & Q_RING_SINGLE) == 0)
			assert_status(status, Q_ERR_SHUTDOWN);
		sent = let_end(pid);
		while ((status = receive(ring.r, NULL)) == Q_OK)
			received++;
		assert_status(status, Q_ERR_SHUTDOWN);
		assert_int_equal(received, sent);
		assert_int_equal(q_ring_available(ring.r), size);
		unshare_ring(&ring);
	}
}

static void a_sender_stopped_at_any_instruction_loses_and_doubles_nothing_at_close(void **state)
{
	(void)state;
	a_sender_stopped_at_any_instruction_hides_no_shutdown(1, 0);
	a_sender_stopped_at_any_instruction_hides_no_shutdown(2, 0);
	a_sender_stopped_at_any_instruction_hides_no_shutdown(4, Q_RING_LARGE);
	a_sender_stopped_at_any_instruction_hides_no_shutdown(2, Q_RING_SINGLE);
}

static void a_closer_may_be_killed_at_any_instruction(void **state)
{
	(void)state;
	for (uint32_t n = 1;; n += stride()) {
		struct shared ring = share(2, 64, 0);
		char buf[64];
		size_t len = sizeof(buf);
		bool closed;
		pid_t pid;
		int ended;

		pid = trace(&ring, NULL, q_ring_close);
		if (pid == 0)
			skip();
		if (!make_steps(pid, n, &ended)) {
			assert_int_equal(ended, 0);
			unshare_ring(&ring);
			return;
		}
		let_die(pid);
		closed = ring.r->head->signals.state != GQ_RING_OPEN;
		assert_status(q_ring_send(ring.r, "x", 1, 0), closed ? Q_ERR_SHUTDOWN : Q_OK);
		if (!closed) {
			assert_status(q_ring_close(ring.r), Q_OK);
			assert_status(receive(ring.r, NULL), Q_OK);
		}
		assert_status(q_ring_recv_timeout(ring.r, buf, &len, LONG_MS), Q_ERR_SHUTDOWN);
		assert_int_equal(q_ring_available(ring.r), 2);
		unshare_ring(&ring);
	}
}

static QueueStatus repair(RingQueue *r)
{
	gq__ring_repair(r);
	return Q_OK;
}

/* All is found out, nothing is done. */
static void find_out(RingQueue *r)
{
	r->head->repair.holder = r->head->peer[0].identity.owner; /* the parent's, who lives */
	gq__ring_repair(r);
	r->head->repair.holder = 0;
}

static QueueStatus conclude(RingQueue *r)
{
	r->next_watch_ns = 0;
	r->next_scan_ns = UINT64_MAX;
	gq__ring_watch(r);
	return Q_OK;
}

static void a_repairer_may_be_killed_at_any_instruction(void **state)
{
	(void)state;
	for (uint32_t n = 1, mode = 0; mode < 4;) {
		const bool whole = mode < 2; /* which is mostly looks at 256 peers */
		struct shared ring = share(2, 64, mode % 2 == 0 ? 0 : Q_RING_SINGLE);
		pid_t pid;
		int ended;

		assert_status(receive(ring.r, NULL), Q_ERR_EMPTY); /* the first peer */
		die_inside(&ring);
		pid = trace(&ring, whole ? NULL : find_out, whole ? repair : conclude);
		if (pid == 0)
			skip();
		if (make_steps(pid, n, &ended)) {
			let_die(pid);
			n += (whole ? 4001u : 19u) * (SANITIZED ? 31u : stride() / 5);
		} else {
			n = 1;
			mode++;
		}
		for (int i = 0; i < 4; i++) /* a lock to break, a repair to begin again */
			gq__ring_repair(ring.r);
		assert_int_equal(q_ring_available(ring.r), 2);
		for (int i = 0; i < 4; i++) {
			assert_status(q_ring_send(ring.r, "x", 1, 0), Q_OK);
			assert_status(q_ring_send(ring.r, "y", 1, 0), Q_OK);
			assert_status(q_ring_send(ring.r, "z", 1, 0), Q_ERR_FULL);
			assert_status(receive(ring.r, NULL), Q_OK);
			assert_status(receive(ring.r, NULL), Q_OK);
		}
		unshare_ring(&ring);
	}
}

/* ---- single mode: either side dies ----------------------------------------------------------- */

static const EnqueueItem letters[] = { { "a", 1 }, { "b", 1 }, { "c", 1 }, { "d", 1 },
				       { "e", 1 }, { "f", 1 }, { "g", 1 }, { "h", 1 } };

static QueueStatus send_long(RingQueue *r)
{
	static const char data[3 * 64] = "long";

	return q_ring_send(r, data, sizeof(data), 0);
}

static QueueStatus receive_a_few(RingQueue *r)
{
	RingMessage m[4];
	char buf[256];
	size_t n = 0;

	q_ring_recv_batch(r, buf, sizeof(buf), m, 4, &n);
	return -(QueueStatus)n;
}

/* The front of an extent has been received, and cells of it are what the next messages get. */
static struct shared share_half_received(uint32_t flags)
{
	struct shared ring = share(8, 64, flags);
	size_t sent;

	assert_status(q_ring_send_batch(ring.r, letters, 7, 0, &sent), Q_OK);
	for (int i = 0; i < 3; i++)
		assert_status(receive(ring.r, NULL), Q_OK);
	return ring;
}

static void receive_letters(RingQueue *r, const char *letters_)
{
	for (; *letters_ != '\0'; letters_++) {
		char first;

		assert_status(receive(r, &first), Q_OK);
		assert_int_equal(first, *letters_);
	}
}

/* Every cell is there once. */
static void expect_whole(RingQueue *r)
{
	size_t sent;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(q_ring_available(r), 8);
		assert_status(q_ring_send_batch(r, letters, 8, (QueuePriority)(1 + i), &sent),
			      Q_OK);
		assert_status(q_ring_send(r, "x", 1, 0), Q_ERR_FULL);
		receive_letters(r, "abcdefgh");
		assert_status(receive(r, NULL), Q_ERR_EMPTY);
	}
}

static void a_single_sender_may_be_killed_at_any_instruction(void **state)
{
	QueueStatus (*const calls[])(RingQueue *) = { send_a_few, send_long };
	uint32_t whole = 0, none = 0;

	(void)state;
	for (uint32_t n = 1, mode = 0; mode < 2;) {
		struct shared ring =
			share_half_received(Q_RING_SINGLE | (mode == 0 ? 0 : Q_RING_LARGE));
		uint32_t got;
		pid_t pid = trace(&ring, NULL, calls[mode]);

		/* trace() receives one, to bind. */
		if (pid == 0)
			skip();
		if (is_killed_after(pid, n)) {
			n += stride();
		} else {
			n = 1;
			mode++;
		}
		gq__ring_repair(ring.r);
		got = q_ring_len(ring.r) - 3;
		assert_true(got == 0 || got == (mode == 0 ? 3u : 1u) || n == 1);
		assert_int_equal(q_ring_available(ring.r), got == 0 ? 2 + 3 : 2);
		receive_letters(ring.r, "efg");
		if (got == 3)
			receive_letters(ring.r, "abc");
		else if (got == 1)
			receive_letters(ring.r, "l");
		whole += got != 0;
		none += got == 0;
		expect_whole(ring.r);
		unshare_ring(&ring);
	}
	assert_true(whole > 2 && none > 2);
}

static void a_single_receiver_may_be_killed_at_any_instruction_and_loses_nothing(void **state)
{
	uint32_t again = 0;

	(void)state;
	for (uint32_t n = 1; n != 0;) {
		struct shared ring = share_half_received(Q_RING_SINGLE);
		uint32_t left;
		pid_t pid = trace(&ring, NULL, receive_a_few);

		if (pid == 0)
			skip();
		n = is_killed_after(pid, n) ? n + stride() : 0;
		left = q_ring_len(ring.r);
		assert_true(left == 3 || left == 0);
		assert_int_equal(q_ring_available(ring.r), 8 - left);
		receive_letters(ring.r, left == 3 ? "efg" : ""); /* takes the side over */
		again += left == 3;
		expect_whole(ring.r);
		unshare_ring(&ring);
	}
	assert_true(again > 2);
}

static QueueStatus complete_one(RingQueue *r)
{
	return q_ring_complete(r, 7, Q_OK, NULL, 0);
}

static QueueStatus complete_a_few(RingQueue *r)
{
	const RingCompletion few[3] = { { .sequence = 7 }, { .sequence = 8 }, { .sequence = 9 } };

	return q_ring_complete_batch(r, few, 3, NULL);
}

/* What a call that was killed has completed is all there or not at all, and no cell is lost. */
static void whoever_completes_may_be_killed_at_any_instruction(void **state)
{
	uint32_t whole = 0, none = 0;

	(void)state;
	for (uint32_t n = 1, mode = 0; mode < 4;) {
		struct shared ring = share(4, 64, mode % 2 == 0 ? 0 : Q_RING_SINGLE);
		const size_t all = mode < 2 ? 1 : 3;
		pid_t pid = trace(&ring, NULL, mode < 2 ? complete_one : complete_a_few);
		RingCompletion done[4];
		size_t got;

		if (pid == 0)
			skip();
		if (is_killed_after(pid, n)) {
			n += stride();
		} else {
			n = 1;
			mode++;
		}
		gq__ring_repair(ring.r);
		assert_status(q_ring_poll_completions(ring.r, done, 4, &got), Q_OK);
		assert_true(got == all || (got == 0 && n != 1));
		for (size_t i = 0; i < got; i++)
			assert_int_equal(done[i].sequence, 7 + i);
		whole += got != 0 && n != 1;
		none += got == 0;
		for (uint64_t lap = 0; lap < 3; lap++) {
			for (uint64_t i = 0; i < 4; i++)
				assert_status(q_ring_complete(ring.r, 4 * lap + i, Q_OK, NULL, 0),
					      Q_OK);
			assert_status(complete_one(ring.r), Q_ERR_FULL);
			assert_status(q_ring_poll_completions(ring.r, done, 4, &got), Q_OK);
			assert_int_equal(got, 4);
			for (uint64_t i = 0; i < 4; i++)
				assert_int_equal(done[i].sequence, 4 * lap + i);
		}
		unshare_ring(&ring);
	}
	/* There is little left to do once a completion is published. */
	assert_true(none > 2 && (whole > 2 || stride() > 5));
}

static bool somebody_is_inside(RingQueue *r)
{
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if (gq_ring_is_inside(gq_ring_op_of(&r->head->peer[i])))
			return true;
	return false;
}

/* Two threads that send at once are a fault of the application. The one that lives goes on. */
static void a_repair_takes_nothing_from_the_one_that_has_the_side_by_now(void **state)
{
	struct shared ring = share_half_received(Q_RING_SINGLE);
	const struct gq_word_ring *pool = &ring.r->messages.pool;
	const uint64_t own = gq_load_relaxed_u64(ring.r->messages.send_role);
	pid_t pid = trace(&ring, NULL, send_a_few);
	uint64_t tail;
	int ended;

	(void)state;
	if (pid == 0)
		skip();
	while (!somebody_is_inside(ring.r))
		assert_true(make_steps(pid, 1, &ended));
	gq_store_release_u64(ring.r->messages.send_role, own);
	assert_status(q_ring_send(ring.r, "x", 1, 0), Q_OK);
	tail = gq_load_relaxed_u64(pool->tail);
	let_die(pid);
	gq__ring_repair(ring.r);
	assert_false(somebody_is_inside(ring.r));
	assert_int_equal(gq_load_relaxed_u64(pool->tail), tail);
	receive_letters(ring.r, "efgx");
	expect_whole(ring.r);
	unshare_ring(&ring);
}

/* ---- repair ---------------------------------------------------------------------------------- */

static uint64_t reclaimed(RingQueue *r)
{
	RingStats stats;

	assert_status(q_ring_stats(r, &stats), Q_OK);
	return stats.reclaimed;
}

/* A filter: what it finds among the system calls ends the process, or fails with EPERM. */
static bool forbid(const int *calls, size_t n, uint32_t action)
{
	struct sock_filter code[16];
	size_t at = 0;
	struct sock_fprog program = { .filter = code };

	code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						  offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < n; i++) {
		code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							  (uint32_t)calls[i], 0, 1);
		code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
	}
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = (unsigned short)at;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void calls_without_a_time_out_never_wait_beside_a_stopped_peer(void **state)
{
	/* Not ppoll(): whether a process has ended is asked by one with a time-out of 0. */
	static const int waits[] = { SYS_sched_yield, SYS_nanosleep, SYS_clock_nanosleep, SYS_futex,
				     SYS_poll };
	struct shared ring = share(2, 64, 0);
	struct stopped s = { .r = ring.r };
	pid_t pid;
	int status;

	(void)state;
	if (SANITIZED)
		skip(); /* its run time makes such calls */
	die_inside(&ring);
	stop_inside(&s);
	pid = fork();
	if (pid == 0) {
		RingQueue *r = attach(&ring);
		const uint64_t until = gq__now_ns() + 500000000u;
		QueueStatus sent = Q_ERR_FULL, got = Q_ERR_EMPTY;

		if (!forbid(waits, 5, SECCOMP_RET_KILL_PROCESS))
			_exit(77);
		while (gq__now_ns() < until && sent == Q_ERR_FULL && got == Q_ERR_EMPTY) {
			sent = q_ring_send(r, "x", 1, 0);
			got = receive(r, NULL);
		}
		_exit(sent == Q_ERR_FULL && got == Q_ERR_EMPTY && r->inquest != NULL ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(reclaimed(ring.r), 0); /* it might be in the stopped one's hands */
	go_on(&s);
	assert_status(s.status, Q_OK);
	assert_status(receive(s.r, NULL), Q_OK);
	assert_status(q_ring_send(s.r, "x", 1, 0), Q_OK);
	assert_status(q_ring_send_timeout(s.r, "x", 1, 0, LONG_MS), Q_OK);
	assert_int_equal(reclaimed(ring.r), 1);
	unshare_ring(&ring);
}

static void a_stopped_poller_does_not_keep_messages_cells_from_being_found(void **state)
{
	struct shared ring = share(1, 64, 0);
	struct gq_ring_peer *peer = &ring.r->head->peer[200];

	(void)state;
	die_inside(&ring);
	peer->identity.owner = 1; /* a thread that stands inside a poll, as everybody sees it */
	peer->op = GQ_OP_POLL;
	assert_status(q_ring_send_timeout(ring.r, "x", 1, 0, LONG_MS), Q_OK);
	assert_int_equal(reclaimed(ring.r), 1);
	unshare_ring(&ring);
}

/* Judges; and plays what may happen while a repairer asks the kernel. */
static struct {
	uint64_t dead, unknown;
	void (*meanwhile)(struct gq_ring_peer *peer);
} judgement;

static enum gq_life judge(struct gq_peer_identity *identity, uint64_t owner)
{
	if (judgement.meanwhile != NULL && owner == judgement.dead)
		judgement.meanwhile(
			(struct gq_ring_peer *)(void *)((uint8_t *)identity -
							offsetof(struct gq_ring_peer, identity)));
	return owner == judgement.dead      ? GQ_LIFE_DEAD
	       : owner == judgement.unknown ? GQ_LIFE_UNKNOWN
					    : GQ_LIFE_ALIVE;
}

static void ends_its_call(struct gq_ring_peer *peer)
{
	peer->op = (peer->op & ~GQ_OP_MASK) + GQ_OP_NEXT;
}

static void ends_and_another_begins(struct gq_ring_peer *peer)
{
	peer->op += GQ_OP_NEXT;
	peer->identity.owner = 4711;
}

static void a_verdict_counts_only_for_the_call_that_it_was_on(void **state)
{
	static void (*const meanwhile[])(struct gq_ring_peer *) = { ends_its_call,
								    ends_and_another_begins };

	(void)state;
	for (int n = 0; n < 2; n++) {
		struct shared ring = share(2, 64, 0);
		struct stopped s = { .r = ring.r };
		struct gq_ring_peer *peer = NULL;
		uint64_t owner, op;

		stop_inside(&s);
		for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
			if (ring.r->head->peer[i].op % GQ_OP_NEXT == GQ_OP_SEND)
				peer = &ring.r->head->peer[i];
		assert_non_null(peer);
		op = peer->op;
		owner = judgement.dead = peer->identity.owner;
		judgement.meanwhile = meanwhile[n];
		gq__ring_repair_by(ring.r, judge);
		judgement.meanwhile = NULL;
		assert_int_equal(reclaimed(ring.r), 0);
		assert_int_equal(peer->identity.owner, n == 0 ? owner : 4711);
		assert_null(ring.r->inquest);
		peer->op = op; /* as it is */
		peer->identity.owner = owner;
		go_on(&s);
		assert_status(s.status, Q_OK);
		judgement.dead = 0;
		unshare_ring(&ring);
	}
}

static void who_may_be_alive_is_waited_for(void **state)
{
	struct shared ring = share(2, 64, 0);
	struct stopped s = { .r = ring.r };
	uint64_t alive = 0;

	(void)state;
	stop_inside(&s);
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if (ring.r->head->peer[i].op % GQ_OP_NEXT == GQ_OP_SEND)
			alive = ring.r->head->peer[i].identity.owner;
	die_inside(&ring);
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		if (ring.r->head->peer[i].op % GQ_OP_NEXT == GQ_OP_SEND &&
		    ring.r->head->peer[i].identity.owner != alive)
			judgement.dead = ring.r->head->peer[i].identity.owner;
	judgement.unknown = alive;
	for (int i = 0; i < 100; i++)
		assert_false(gq__ring_repair_by(ring.r, judge));
	assert_int_equal(reclaimed(ring.r), 0);
	go_on(&s);
	assert_true(gq__ring_repair_by(ring.r, judge));
	assert_int_equal(reclaimed(ring.r), 1);
	judgement.dead = judgement.unknown = 0;
	unshare_ring(&ring);
}

static void two_handles_that_have_found_out_the_same_put_it_back_once(void **state)
{
	struct shared ring = share(2, 64, 0);
	RingQueue *other = attach(&ring);

	(void)state;
	assert_status(receive(ring.r, NULL), Q_ERR_EMPTY);
	die_inside(&ring);
	ring.r->head->repair.holder = ring.r->head->peer[0].identity.owner; /* lives */
	gq__ring_repair(ring.r);
	gq__ring_repair(other);
	assert_non_null(ring.r->inquest);
	assert_non_null(other->inquest);
	ring.r->head->repair.holder = 0;
	gq__ring_repair(ring.r);
	assert_int_equal(reclaimed(ring.r), 1);
	gq__ring_repair(other);
	assert_null(other->inquest);
	assert_int_equal(reclaimed(ring.r), 1);
	assert_int_equal(q_ring_available(ring.r), 2);
	q_ring_destroy(other);
	unshare_ring(&ring);
}

static void a_handle_may_be_destroyed_in_the_middle_of_a_repair(void **state)
{
	struct shared ring = share(2, 64, 0);
	const size_t live = gq__alloc_live_bytes();
	RingQueue *other = attach(&ring);
	struct stopped s = { .r = ring.r };

	(void)state;
	die_inside(&ring);
	stop_inside(&s);
	gq__ring_repair(other);
	assert_non_null(other->inquest);
	q_ring_destroy(other);
	assert_int_equal(gq__alloc_live_bytes(), live);
	go_on(&s);
	assert_status(q_ring_send_timeout(ring.r, "x", 1, 0, LONG_MS), Q_OK);
	assert_int_equal(reclaimed(ring.r), 1);
	unshare_ring(&ring);
}

static void without_memory_there_is_no_verdict_this_time(void **state)
{
	struct shared ring = share(2, 64, 0);

	(void)state;
	assert_status(receive(ring.r, NULL), Q_ERR_EMPTY);
	die_inside(&ring);
	assert_status(q_ring_send(NULL, "x", 1, 0), Q_ERR_INVALID_ARG);
	assert_string_equal(q_last_error(), "ring is NULL");
	gq__fault_set(1);
	gq__ring_repair(ring.r);
	gq__fault_set(0);
	assert_null(ring.r->inquest);
	assert_string_equal(q_last_error(),
			    "ring is NULL"); /* a repair is no call that could fail */
	assert_int_equal(reclaimed(ring.r), 0);
	gq__ring_repair(ring.r);
	assert_int_equal(reclaimed(ring.r), 1);
	unshare_ring(&ring);
}

static void *repair_and_be_gone(void *arg)
{
	struct shared *ring = arg;

	receive(ring->r, NULL);         /* binds */
	pthread_cancel(pthread_self()); /* from the next cancellation point on */
	gq__ring_repair(ring->r);
	pthread_testcancel();
	return NULL;
}

static void a_thread_that_is_cancelled_in_a_repair_keeps_nobody_from_the_next(void **state)
{
	struct shared ring = share(2, 64, 0);
	pthread_t thread;
	void *ended;

	(void)state;
	die_inside(&ring);
	pthread_create(&thread, NULL, repair_and_be_gone, &ring);
	pthread_join(thread, &ended);
	assert_ptr_equal(ended, PTHREAD_CANCELED);
	assert_int_equal(ring.r->watching, 0);
	assert_int_equal(ring.r->head->repair.holder, 0);
	assert_int_equal(reclaimed(ring.r), 1);
	die_inside(&ring);
	assert_status(q_ring_send_timeout(ring.r, "x", 1, 0, LONG_MS), Q_OK);
	assert_status(q_ring_send_timeout(ring.r, "x", 1, 0, LONG_MS), Q_OK);
	assert_int_equal(reclaimed(ring.r), 2);
	unshare_ring(&ring);
}

/* ---- membarrier, refused when all goes on already -------------------------------------------- */

static void *answer(void *arg)
{
	char buf[64];
	size_t len = sizeof(buf);

	while (q_ring_recv_timeout(arg, buf, &len, UINT32_MAX) == Q_OK)
		len = sizeof(buf);
	return NULL;
}

static int without_membarrier(const struct shared *s)
{
	static const int membarrier[] = { SYS_membarrier };
	char buf[64];
	size_t len = sizeof(buf);
	pthread_t thread;
	RingQueue *r = attach(s);

	if (!forbid(membarrier, 1, SECCOMP_RET_ERRNO | EPERM))
		return 77;
	if (s->r->head->signals.fenced != 0)
		return 77; /* it was refused before */
	pthread_create(&thread, NULL, answer, r);
	for (int i = 0; i < 200; i++) {
		if (q_ring_send_timeout(r, "x", 1, 0, LONG_MS) != Q_OK)
			return 1;
		if (i % 50 == 0)
			nap_ms(5);
	}
	if (q_ring_close(r) != Q_OK)
		return 2;
	pthread_join(thread, NULL);
	if (q_ring_recv_timeout(r, buf, &len, LONG_MS) != Q_ERR_SHUTDOWN)
		return 3;
	return 0;
}

static void a_membarrier_refused_later_delays_nobody_for_good(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 3; n++) {
		struct shared ring = share(2, 64, n == 0 ? Q_RING_SINGLE : 0);
		pid_t pid;
		int status;

		if (n == 2)
			die_inside(&ring); /* and 200 messages through what is left of the ring */
		pid = fork();
		if (pid == 0)
			_exit(without_membarrier(&ring));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			skip();
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		if (n == 0)
			assert_int_equal(ring.r->head->signals.fenced, 1);
		unshare_ring(&ring);
	}
}

static void a_membarrier_refused_once_delays_a_repair_by_milliseconds(void **state)
{
	struct shared ring = share(2, 64, 0);

	(void)state;
	assert_status(receive(ring.r, NULL), Q_ERR_EMPTY);
	die_inside(&ring);
	gq__fault_set(2); /* after the memory */
	gq__ring_repair(ring.r);
	gq__fault_set(0);
	assert_int_equal(ring.r->head->signals.fenced, 1);
	assert_int_equal(reclaimed(ring.r), 0);
	gq__ring_repair(ring.r);
	assert_int_equal(reclaimed(ring.r), 1);
	unshare_ring(&ring);
}

/* ---- sequences ------------------------------------------------------------------------------- */

static void the_next_messages_sequence_is_what_q_ring_sequence_says_also_after_deaths(void **state)
{
	static const uint32_t modes[] = { 0, Q_RING_SINGLE, Q_RING_LARGE,
					  Q_RING_LARGE | Q_RING_SINGLE };

	(void)state;
	for (int n = 0; n < 4; n++) {
		struct shared ring = share(8, 64, modes[n]);
		uint64_t last = 0;
		RingStats stats;
		char buf[64];

		for (uint64_t i = 0; i < 30; i++) {
			const uint64_t next = q_ring_sequence(ring.r);
			RingMessage m;

			if (i % 10 == 5) {
				die_inside(&ring);
				gq__ring_repair(ring.r);
				gq__ring_repair(ring.r);
				continue;
			}
			assert_status(q_ring_send(ring.r, "x", 1, 0), Q_OK);
			assert_status(q_ring_recv_typed(ring.r, buf, sizeof(buf), &m), Q_OK);
			assert_int_equal(m.sequence, next);
			assert_true(i == 0 || m.sequence > last);
			last = m.sequence;
			assert_int_equal(q_ring_sequence(ring.r), next + 1);
		}
		assert_status(q_ring_stats(ring.r, &stats), Q_OK);
		assert_int_equal(stats.sent, 27); /* accepted; the dead's are not */
		assert_int_equal(q_ring_available(ring.r), 8);
		unshare_ring(&ring);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_closed_ring_says_shutdown_at_once_though_a_sender_stands_inside),
		cmocka_unit_test(a_long_message_that_close_overtakes_gives_all_its_entries_back),
		cmocka_unit_test(a_batch_that_close_interrupts_says_how_many_were_accepted),
		cmocka_unit_test(in_single_mode_shutdown_comes_when_the_sender_goes_on),
		cmocka_unit_test(in_single_mode_shutdown_comes_when_the_sender_has_died),
		cmocka_unit_test(close_does_not_touch_completions),
		cmocka_unit_test(whoever_comes_by_completes_a_close_whose_caller_has_died),
		cmocka_unit_test(a_liar_that_bars_an_open_ring_harms_its_messages_only),
		cmocka_unit_test(
			a_sender_stopped_at_any_instruction_loses_and_doubles_nothing_at_close),
		cmocka_unit_test(a_closer_may_be_killed_at_any_instruction),
		cmocka_unit_test(a_repairer_may_be_killed_at_any_instruction),
		cmocka_unit_test(a_single_sender_may_be_killed_at_any_instruction),
		cmocka_unit_test(
			a_single_receiver_may_be_killed_at_any_instruction_and_loses_nothing),
		cmocka_unit_test(whoever_completes_may_be_killed_at_any_instruction),
		cmocka_unit_test(a_repair_takes_nothing_from_the_one_that_has_the_side_by_now),
		cmocka_unit_test(calls_without_a_time_out_never_wait_beside_a_stopped_peer),
		cmocka_unit_test(a_stopped_poller_does_not_keep_messages_cells_from_being_found),
		cmocka_unit_test(a_verdict_counts_only_for_the_call_that_it_was_on),
		cmocka_unit_test(who_may_be_alive_is_waited_for),
		cmocka_unit_test(two_handles_that_have_found_out_the_same_put_it_back_once),
		cmocka_unit_test(a_handle_may_be_destroyed_in_the_middle_of_a_repair),
		cmocka_unit_test(without_memory_there_is_no_verdict_this_time),
		cmocka_unit_test(a_thread_that_is_cancelled_in_a_repair_keeps_nobody_from_the_next),
		cmocka_unit_test(a_membarrier_refused_later_delays_nobody_for_good),
		cmocka_unit_test(a_membarrier_refused_once_delays_a_repair_by_milliseconds),
		cmocka_unit_test(
			the_next_messages_sequence_is_what_q_ring_sequence_says_also_after_deaths),
	};

	return cmocka_run_group_tests_name("ring_stopped", tests, NULL, NULL);
}
