/* SPDX-License-Identifier: Apache-2.0 */
/* test_wait.c - q_wait, q_wait_any, the completion descriptor, parked consumers, forks. */
#include "host/base/sanitize.h"
#include "support.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static void wait_returns_when_the_message_has_finished(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t id;

	(void)state;
	close_gate();
	id = send_op(q, OP_GATE, 0, "g", 1);
	assert_status(q_wait(q, id, 0), Q_ERR_TIMEOUT);
	assert_status(q_wait(q, id, 10), Q_ERR_TIMEOUT);
	assert_status(q_wait_enqueue(q, id, 0), Q_OK);
	assert_status(q_wait_any(q, 10), Q_ERR_TIMEOUT);
	open_gate();
	assert_status(q_wait(q, id, UINT32_MAX), Q_OK);
	assert_status(q_wait_any(q, UINT32_MAX), Q_OK);
	assert_status(q_wait(q, id, 0), Q_OK);
	assert_status(q_wait_enqueue(q, id, 0), Q_OK);
	expect_echo(q, id, "g", 1);
	assert_status(q_wait(q, id, UINT32_MAX), Q_ERR_NOT_FOUND);
	assert_status(q_wait_any(q, 0), Q_ERR_TIMEOUT); /* taken by id: nothing to poll */
	q_shutdown(q);
}

struct waiter {
	GpuQueue *q;
	uint64_t id;
	QueueStatus status;
	pthread_t thread;
};

static void *wait_for_id(void *arg)
{
	struct waiter *w = arg;

	w->status = q_wait(w->q, w->id, UINT32_MAX);
	return NULL;
}

static void every_waiter_wakes_also_several_for_one_message(void **state)
{
	GpuQueue *q = make_queue(16, 16);
	struct waiter w[20];

	(void)state;
	close_gate();
	for (int i = 0; i < 20; i++) {
		w[i] = (struct waiter){ .q = q };
		w[i].id = i < 10 ? send_op(q, OP_GATE, 0, &i, sizeof(i)) : w[i - 10].id;
		assert_int_equal(pthread_create(&w[i].thread, NULL, wait_for_id, &w[i]), 0);
	}
	nap_ms(20);
	open_gate();
	for (int i = 0; i < 20; i++) {
		pthread_join(w[i].thread, NULL);
		assert_status(w[i].status, Q_OK);
	}
	q_shutdown(q);
}

static void the_descriptor_is_readable_while_polling_returns_something(void **state)
{
	GpuQueue *q = make_queue(8, 16);
	uint64_t ids[8];
	int fd = q_completion_fd(q);
	size_t n;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(q_completion_fd(q), fd);
	assert_false(readable(fd, 0));
	for (int lap = 0; lap < 50; lap++) {
		for (int i = 0; i < 3; i++)
			send(q, &i, sizeof(i));
		assert_status(q_drain(q, LONG_MS), Q_OK);
		assert_true(readable(fd, (int)LONG_MS));
		assert_status(q_poll_completions(q, ids, 2, &n), Q_OK);
		assert_int_equal(n, 2);
		assert_true(readable(fd, (int)LONG_MS)); /* level-triggered: one is left */
		assert_status(q_poll_completions(q, ids + 2, 8, &n), Q_OK);
		assert_int_equal(n, 1);
		assert_false(readable(fd, 0));
		assert_status(q_release_batch(q, ids, 3), Q_OK);
	}
	q_shutdown(q);
}

static void results_taken_by_id_make_the_descriptor_unreadable_too(void **state)
{
	GpuQueue *q = make_queue(8, 16);
	int fd = q_completion_fd(q);

	(void)state;
	for (int lap = 0; lap < 50; lap++) {
		uint64_t id = send(q, "x", 1);

		assert_true(readable(fd, (int)LONG_MS));
		expect_echo(q, id, "x", 1);
		assert_false(readable(fd, 0));
	}
	q_shutdown(q);
}

static void the_descriptor_works_with_epoll(void **state)
{
	GpuQueue *q = make_queue(64, 16);
	struct epoll_event event = { .events = EPOLLIN };
	int ep = epoll_create1(0), fd = q_completion_fd(q);
	uint64_t ids[16];
	unsigned seen = 0;

	(void)state;
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event), 0);
	for (int i = 0; i < 64; i++)
		send(q, &i, sizeof(i));
	while (seen < 64) {
		size_t n = 0, spurious = 0;

		assert_int_equal(epoll_wait(ep, &event, 1, (int)LONG_MS), 1);
		assert_status(q_poll_completions(q, ids, 16, &n), Q_OK);
		assert_true(n != 0 || spurious++ == 0);
		assert_status(q_release_batch(q, ids, n), Q_OK);
		seen += (unsigned)n;
	}
	assert_false(readable(fd, 0));
	close(ep);
	q_shutdown(q);
}

static uint64_t cpu_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

static void an_idle_queue_uses_no_cpu_and_wakes_for_the_next_message(void **state)
{
	QueueConfig cfg = config(4, 16);
	GpuQueue *q;
	uint64_t before;

	(void)state;
	cfg.consumers = 4;
	cfg.idle_park_ms = on_cuda() ? 2 : 0; /* there the default is a second */
	q = make_queue_from(&cfg);
	for (int i = 0; i < 20; i++) {
		nap_ms(5); /* everybody sleeps by now, or soon */
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	}
	nap_ms(50);
	before = cpu_ns();
	nap_ms(400);
	assert_true(cpu_ns() - before < 200000000); /* spinning would take all of it, four times */
	assert_true(stats_of(q).wakeups > 0);
	q_shutdown(q);
}

static void a_queue_that_never_parks_still_works(void **state)
{
	QueueConfig cfg = config(4, 16);
	GpuQueue *q;

	(void)state;
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	nap_ms(5);
	expect_echo(q, send(q, "x", 1), "x", 1);
	assert_status(q_pause(q, LONG_MS), Q_OK);
	assert_status(q_resume(q), Q_OK);
	if (on_cuda()) /* a thread naps on a busy CPU, and may be woken from that: see test_yield.c
			*/
		assert_int_equal(stats_of(q).wakeups, 0);
	q_shutdown(q);
}

/* ---- fork ------------------------------------------------------------------------------------ */

/* In the child; no cmocka there. @return the number of the first call that did not refuse, or 0. */
static int refusals(GpuQueue *q, uint64_t id)
{
	EnqueueItem item = { "x", 1 };
	Completion done;
	QueueStats stats;
	QueueInfo info;
	const void *result;
	void *payload;
	uint64_t ids[2];
	size_t n = 7;
	int call = 0;

#define REFUSED(expression)                                                                        \
	do {                                                                                       \
		call++;                                                                            \
		if ((expression) != Q_ERR_UNSUPPORTED || strstr(q_last_error(), "fork") == NULL)   \
			return call;                                                               \
	} while (0)
	REFUSED(q_enqueue(q, "x", 1, ids, 0));
	REFUSED(q_enqueue_ex(q, "x", 1, NULL, ids, 0));
	REFUSED(q_enqueue_async(q, "x", 1, ids));
	REFUSED(q_wait_enqueue(q, id, 0));
	REFUSED(q_enqueue_batch(q, &item, 1, ids, &n, 0));
	REFUSED(q_enqueue_batch_ex(q, &item, 1, NULL, ids, &n, 0));
	REFUSED(q_reserve(q, 1, NULL, &payload, ids, 0));
	REFUSED(q_commit(q, id));
	REFUSED(q_abort(q, id));
	REFUSED(q_cancel(q, id));
	REFUSED(q_try_dequeue_result(q, id, &payload, &n));
	REFUSED(q_poll_completions(q, ids, 2, &n));
	REFUSED(q_poll_results(q, &done, 1, &n));
	REFUSED(q_peek_result(q, id, &result, &n, NULL));
	REFUSED(q_release(q, id));
	REFUSED(q_release_batch(q, &id, 1));
	REFUSED(q_wait(q, id, UINT32_MAX));
	REFUSED(q_wait_any(q, UINT32_MAX));
	REFUSED(q_drain(q, UINT32_MAX));
	REFUSED(q_stop(q, UINT32_MAX));
	REFUSED(q_pause(q, UINT32_MAX));
	REFUSED(q_resume(q));
	REFUSED(q_stats(q, &stats));
	REFUSED(q_info(q, &info));
#undef REFUSED
	if (q_completion_fd(q) != -1)
		return 100;
	q_shutdown(q); /* does nothing */
	return 0;
}

static void a_forked_child_is_refused_and_the_parent_unharmed(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t id = send(q, "p", 1);
	int status;
	pid_t child;

	(void)state;
	child = fork();
	if (child == 0) {
		QueueConfig cfg = config(4, 16);
		int rc = refusals(q, id);
		size_t len = 16;
		char buf[16];
		uint64_t own;
		GpuQueue *mine;

#if !GQ_TSAN
		/* ThreadSanitizer does not allow threads in the child of a threaded process. */
		mine = rc == 0 ? q_init(&cfg) : NULL;
		if (on_cuda()) /* a driver cannot be used in a child */
			_exit(rc != 0 ? rc : mine == NULL ? 0 : 102);
		if (rc == 0 && (mine == NULL || q_enqueue(mine, "c", 1, &own, 0) != Q_OK ||
				q_wait(mine, own, LONG_MS) != Q_OK ||
				q_try_dequeue_result(mine, own, buf, &len) != Q_OK || len != 1))
			rc = 101;
		q_shutdown(mine);
#else
		(void)cfg, (void)len, (void)buf, (void)own, (void)mine;
#endif
		_exit(rc);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	expect_echo(q, id, "p", 1);
	expect_echo(q, send(q, "q", 1), "q", 1);
	q_shutdown(q);
}

/* What this program does when it is started with the argument EXIT_ALIVE. */
#define EXIT_ALIVE "exit-with-a-live-queue"

static int exit_with_a_live_queue(void)
{
	static GpuQueue *q; /* LeakSanitizer looks here */
	QueueConfig cfg = config(4, 16);
	EnqueueOptions gate = { .opcode = OP_GATE };

	q = q_init(&cfg);
	close_gate();
	if (q == NULL || q_enqueue_ex(q, "x", 1, &gate, NULL, 0) != Q_OK)
		return 1;
	while (gate_waiters() == 0)
		nap_ms(1);
	return 0;
}

static void a_process_that_exits_with_a_live_queue_ends(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		/* On the remote device a thread ends before the process does, and is not joined. */
		setenv("TSAN_OPTIONS", "report_thread_leaks=0", 1);
		execl("/proc/self/exe", "test_wait", EXIT_ALIVE, (char *)NULL);
		_exit(2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], EXIT_ALIVE) == 0)
		return exit_with_a_live_queue();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wait_returns_when_the_message_has_finished),
		cmocka_unit_test(every_waiter_wakes_also_several_for_one_message),
		cmocka_unit_test(the_descriptor_is_readable_while_polling_returns_something),
		cmocka_unit_test(results_taken_by_id_make_the_descriptor_unreadable_too),
		cmocka_unit_test(the_descriptor_works_with_epoll),
		cmocka_unit_test(an_idle_queue_uses_no_cpu_and_wakes_for_the_next_message),
		cmocka_unit_test(a_queue_that_never_parks_still_works),
		cmocka_unit_test(a_forked_child_is_refused_and_the_parent_unharmed),
		cmocka_unit_test(a_process_that_exits_with_a_live_queue_ends),
	};

	return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
