/* SPDX-License-Identifier: Apache-2.0 */
/* test_control.c - pause, resume, drain, stop, shutdown; reservations, priorities, deadlines,
 * cancel. */
#include "support.h"

#include <string.h>

static void *run_stop(void *q)
{
	return (void *)(intptr_t)q_stop(q, LONG_MS);
}

static QueueStatus join_status(pthread_t thread)
{
	void *status;

	pthread_join(thread, &status);
	return (QueueStatus)(intptr_t)status;
}

static pthread_t start(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run, arg), 0);
	return thread;
}

/* ---- pause, resume, drain ------------------------------------------------------------------- */

static void a_paused_queue_accepts_up_to_capacity_and_processes_after_resume(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t ids[4];
	QueueInfo info;

	(void)state;
	forget_started();
	assert_status(q_pause(q, LONG_MS), Q_OK);
	assert_status(q_pause(q, LONG_MS), Q_OK); /* idempotent */
	assert_status(q_info(q, &info), Q_OK);
	assert_int_equal(info.state, Q_STATE_PAUSED);
	for (int i = 0; i < 4; i++)
		ids[i] = send(q, &i, sizeof(i));
	assert_status(q_enqueue(q, "x", 1, NULL, 0), Q_ERR_FULL);
	assert_status(q_drain(q, 20), Q_ERR_TIMEOUT);
	assert_int_equal(started(), 0);
	assert_status(q_resume(q), Q_OK);
	assert_status(q_resume(q), Q_OK);
	for (int i = 0; i < 4; i++)
		expect_echo(q, ids[i], &i, sizeof(i));
	q_shutdown(q);
}

static void a_pause_waits_for_the_running_message_or_is_withdrawn(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t slow, next;

	(void)state;
	close_gate();
	slow = send_op(q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	assert_status(q_pause(q, 0), Q_ERR_TIMEOUT);
	assert_status(q_pause(q, 20), Q_ERR_TIMEOUT);
	next = send(q, "n", 1);
	open_gate();
	expect_echo(q, slow, "s", 1);
	expect_echo(q, next, "n", 1); /* withdrawn: the queue runs on */
	q_shutdown(q);
}

static void *run_pause(void *q)
{
	return (void *)(intptr_t)q_pause(q, LONG_MS);
}

static void a_resume_or_stop_overtakes_a_waiting_pause(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	pthread_t thread;

	(void)state;
	close_gate();
	send_op(q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	thread = start(run_pause, q);
	while ((__atomic_load_n(&q->control, __ATOMIC_ACQUIRE) & GQ_CONTROL_PAUSE) == 0)
		nap_ms(1);
	assert_status(q_resume(q), Q_OK);
	assert_status(join_status(thread), Q_ERR_CANCELLED);
	thread = start(run_pause, q);
	while ((__atomic_load_n(&q->control, __ATOMIC_ACQUIRE) & GQ_CONTROL_PAUSE) == 0)
		nap_ms(1);
	assert_status(q_stop(q, 0), Q_ERR_TIMEOUT);
	assert_status(join_status(thread), Q_ERR_SHUTDOWN);
	open_gate();
	q_shutdown(q);
}

static void drain_waits_for_what_was_accepted_and_ignores_reservations(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t id, reserved;
	void *payload;

	(void)state;
	assert_status(q_drain(q, 0), Q_OK);
	assert_status(q_reserve(q, 1, NULL, &payload, &reserved, 0), Q_OK);
	id = send(q, "x", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_wait(q, id, 0), Q_OK);
	assert_status(q_abort(q, reserved), Q_OK);
	q_shutdown(q);
}

/* ---- stop and shutdown (G-D08, T21) --------------------------------------------------------- */

static void stop_finishes_what_was_accepted_and_results_stay_readable(void **state)
{
	GpuQueue *q = make_queue(64, 16);
	uint64_t ids[50];
	QueueInfo info;

	(void)state;
	for (int i = 0; i < 50; i++)
		ids[i] = send(q, &i, sizeof(i));
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_status(q_stop(q, 0), Q_OK); /* again */
	assert_status(q_info(q, &info), Q_OK);
	assert_int_equal(info.state, Q_STATE_STOPPED);
	assert_status(q_enqueue(q, "x", 1, NULL, 0), Q_ERR_SHUTDOWN);
	assert_status(q_enqueue(q, "x", 1, NULL, UINT32_MAX), Q_ERR_SHUTDOWN);
	assert_status(q_pause(q, 0), Q_ERR_SHUTDOWN);
	assert_status(q_resume(q), Q_ERR_SHUTDOWN);
	assert_status(q_drain(q, 0), Q_OK);
	for (int i = 0; i < 50; i++)
		expect_echo(q, ids[i], &i, sizeof(i));
	assert_status(q_wait_any(q, LONG_MS), Q_ERR_SHUTDOWN);
	q_shutdown(q);
}

static void stop_implies_resume(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t id;

	(void)state;
	assert_status(q_pause(q, LONG_MS), Q_OK);
	id = send(q, "x", 1);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	expect_echo(q, id, "x", 1);
	q_shutdown(q);
}

static void a_stop_that_times_out_cancels_what_was_not_started(void **state)
{
	GpuQueue *q = make_queue(8, 16);
	uint64_t slow, ids[5];
	char buf[16];
	size_t len;

	(void)state;
	close_gate();
	slow = send_op(q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	for (int i = 0; i < 5; i++)
		ids[i] = send(q, &i, sizeof(i));
	assert_status(q_stop(q, 20), Q_ERR_TIMEOUT);
	/* There only a consumer can cancel, and here the only one is busy. */
	const bool late = on_cuda() || on_remote();

	for (int i = 0; i < 5 && !late; i++) {
		len = sizeof(buf);
		assert_status(q_try_dequeue_result(q, ids[i], buf, &len), Q_ERR_CANCELLED);
	}
	assert_status(q_try_dequeue_result(q, slow, buf, &len), Q_ERR_NOT_READY);
	assert_status(q_stop(q, 0), Q_ERR_TIMEOUT);
	open_gate();
	assert_status(q_stop(q, LONG_MS), Q_OK); /* goes on waiting */
	for (int i = 0; i < 5 && late; i++) {
		len = sizeof(buf);
		assert_status(q_try_dequeue_result(q, ids[i], buf, &len), Q_ERR_CANCELLED);
	}
	expect_echo(q, slow, "s", 1);
	assert_int_equal(stats_of(q).cancelled, 5);
	assert_int_equal(started(), 1);
	q_shutdown(q);
}

static void count_loads(void *user)
{
	++*(unsigned *)user;
}

static void what_is_preloaded_runs_once_and_the_queue_goes_on(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	unsigned loads = 0;
	uint64_t waiting;

	(void)state;
	expect_echo(q, send(q, "1", 1), "1", 1);
	assert_status(q_preload(q, count_loads, &loads), Q_OK);
	assert_int_equal(loads, 1);
	expect_echo(q, send(q, "2", 1), "2", 1);
	assert_status(q_pause(q, LONG_MS), Q_OK); /* which stands */
	assert_status(q_preload(q, count_loads, &loads), Q_OK);
	assert_int_equal(loads, 2);
	waiting = send(q, "3", 1);
	assert_status(q_wait(q, waiting, 20), Q_ERR_TIMEOUT);
	assert_status(q_resume(q), Q_OK);
	expect_echo(q, waiting, "3", 1);
	assert_status(q_preload(q, NULL, &loads), Q_ERR_INVALID_ARG);
	assert_string_equal(q_last_error(), "load is NULL; allowed: a function");
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_status(q_preload(q, count_loads, &loads), Q_OK);
	assert_int_equal(loads, 3);
	q_shutdown(q);
}

static void a_pause_that_times_out_keeps_the_order(void **state)
{
	GpuQueue *q = make_queue(8, 16);
	uint64_t ended = 0;

	(void)state;
	if (on_cuda()) { /* where several are under way at once */
		q_shutdown(q);
		return;
	}
	close_gate();
	send_op(q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	for (uint64_t tag = 1; tag < 4; tag++)
		send_op(q, 0, tag, "x", 1);
	assert_status(q_pause(q, 50), Q_ERR_TIMEOUT);
	for (uint64_t tag = 4; tag < 8; tag++)
		send_op(q, 0, tag, "x", 1);
	nap_ms(20); /* gpuqd has the time to take them */
	open_gate();
	while (ended < 8) {
		Completion done[8];
		size_t n = 0;

		assert_status(q_wait_any(q, LONG_MS), Q_OK);
		q_poll_results(q, done, 8, &n);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(done[i].tag, ended++);
			assert_status(done[i].status, Q_OK);
			q_release(q, done[i].msg_id);
		}
	}
	q_shutdown(q);
}

static void several_stops_at_once_all_succeed(void **state)
{
	GpuQueue *q = make_queue(64, 16);
	pthread_t threads[4];

	(void)state;
	for (int i = 0; i < 50; i++)
		send(q, &i, sizeof(i));
	for (int i = 0; i < 4; i++)
		threads[i] = start(run_stop, q);
	for (int i = 0; i < 4; i++)
		assert_status(join_status(threads[i]), Q_OK);
	q_shutdown(q);
}

static void *run_wait_any(void *q)
{
	return (void *)(intptr_t)q_wait_any(q, UINT32_MAX);
}

static void *run_enqueue(void *q)
{
	return (void *)(intptr_t)q_enqueue(q, "w", 1, NULL, UINT32_MAX);
}

struct waited {
	GpuQueue *q;
	uint64_t id;
};

static void *run_wait(void *arg)
{
	struct waited *w = arg;

	return (void *)(intptr_t)q_wait(w->q, w->id, UINT32_MAX);
}

static void waiters_that_can_never_succeed_wake_with_shutdown(void **state)
{
	GpuQueue *q = make_queue(1, 16);
	struct waited w = { .q = q };
	pthread_t any, room, reserved;
	void *payload;

	(void)state;
	assert_status(q_reserve(q, 1, NULL, &payload, &w.id, 0), Q_OK);
	any = start(run_wait_any, q);
	room = start(run_enqueue, q);
	reserved = start(run_wait, &w);
	nap_ms(20);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_status(join_status(any), Q_ERR_SHUTDOWN);
	assert_status(join_status(room), Q_ERR_SHUTDOWN);
	assert_status(join_status(reserved), Q_ERR_SHUTDOWN);
	assert_status(q_commit(q, w.id), Q_ERR_SHUTDOWN);
	assert_status(q_wait_enqueue(q, w.id, 0), Q_ERR_SHUTDOWN);
	assert_status(q_abort(q, w.id), Q_OK);
	assert_status(q_commit(q, w.id), Q_ERR_NOT_FOUND);
	q_shutdown(q);
}

static void a_hung_processor_outlives_shutdown_and_frees_the_memory_itself(void **state)
{
	QueueConfig cfg = config(4, 16);
	size_t before = gq__alloc_live_bytes();
	unsigned threads = threads_now();
	GpuQueue *q;

	(void)state;
	cfg.shutdown_timeout_ms = 20;
	q = make_queue_from(&cfg);
	close_gate();
	send_op(q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	q_shutdown(q);
	assert_true(gq__alloc_live_bytes() > before);
	open_gate();
	for (unsigned i = 0; gq__alloc_live_bytes() != before || threads_now() != threads; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

static void shutdown_leaves_no_memory_thread_or_descriptor(void **state)
{
	size_t before = gq__alloc_live_bytes();
	unsigned threads, files;

	(void)state;
	q_shutdown(make_queue(4, 16)); /* whatever libc keeps for later is there now */
	threads = threads_now();
	files = files_now();
	for (int i = 0; i < 20; i++) {
		GpuQueue *q = make_queue(4, 16);

		send(q, "x", 1);
		assert_true(q_completion_fd(q) >= 0);
		q_shutdown(q);
	}
	assert_int_equal(gq__alloc_live_bytes(), before);
	assert_int_equal(threads_now(), threads);
	assert_int_equal(files_now(), files);
}

/* ---- reservations --------------------------------------------------------------------------- */

static void a_reservation_is_written_in_place_and_ordered_by_its_commit(void **state)
{
	EnqueueOptions options = { .tag = 9, .opcode = OP_XOR };
	GpuQueue *q = make_queue(4, 16);
	uint64_t id, other;
	void *payload;

	(void)state;
	forget_started();
	assert_status(q_reserve(q, 2, &options, &payload, &id, 0), Q_OK);
	assert_int_equal((uintptr_t)payload % 16, 0);
	memcpy(payload, "\x5a\x5b", 2);
	assert_int_equal(stats_of(q).enq_count, 0);
	assert_status(q_wait_enqueue(q, id, 0), Q_ERR_TIMEOUT);
	assert_status(q_try_dequeue_result(q, id, NULL, &(size_t){ 0 }), Q_ERR_NOT_READY);
	other = send_op(q, OP_ECHO, 8, "o", 1);
	expect_echo(q, other, "o", 1); /* it delays nobody */
	assert_status(q_commit(q, id), Q_OK);
	assert_status(q_wait_enqueue(q, id, LONG_MS), Q_OK);
	expect_echo(q, id, "\0\1", 2);
	assert_int_equal(started_tag(0), 8);
	assert_int_equal(started_tag(1), 9);
	assert_status(q_commit(q, id), Q_ERR_NOT_FOUND);
	assert_status(q_abort(q, id), Q_ERR_NOT_FOUND);
	q_shutdown(q);
}

static void an_aborted_reservation_gives_its_slot_back(void **state)
{
	GpuQueue *q = make_queue(1, 16);
	uint64_t id;
	void *payload;

	(void)state;
	for (int i = 0; i < 10; i++) {
		assert_status(q_reserve(q, 16, NULL, &payload, &id, 0), Q_OK);
		assert_status(q_enqueue(q, "x", 1, NULL, 0), Q_ERR_FULL); /* counts to capacity */
		assert_status(q_abort(q, id), Q_OK);
		assert_status(q_abort(q, id), Q_ERR_NOT_FOUND);
		assert_status(q_wait(q, id, 0), Q_ERR_NOT_FOUND);
	}
	assert_status(q_commit(q, send(q, "x", 1)), Q_ERR_NOT_FOUND); /* a message is none */
	q_shutdown(q);
}

/* ---- order ---------------------------------------------------------------------------------- */

static void classes_are_served_urgent_first_and_in_order_within(void **state)
{
	static const uint32_t priorities[] = { Q_PRIORITY_LOW, Q_PRIORITY_URGENT,
					       Q_PRIORITY_DEFAULT, Q_PRIORITY_HIGH,
					       Q_PRIORITY_NORMAL };
	GpuQueue *q = make_queue(256, 16);
	uint64_t last = 0;

	(void)state;
	forget_started();
	assert_status(q_pause(q, LONG_MS), Q_OK);
	for (uint64_t i = 0; i < 200; i++) {
		uint32_t priority = priorities[i % 5];
		uint64_t rank = priority == Q_PRIORITY_DEFAULT ? Q_PRIORITY_NORMAL : priority;
		EnqueueOptions o = { .priority = priority, .tag = (4 - rank) << 32 | i };

		send_with(q, &o, NULL, 0);
	}
	assert_status(q_resume(q), Q_OK);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_int_equal(started(), 200);
	for (uint32_t i = 0; i < 200; i++) { /* tags were made to be ascending */
		assert_true(i == 0 || started_tag(i) > last);
		last = started_tag(i);
	}
	q_shutdown(q);
}

static void a_waiting_low_message_is_passed_over_a_bounded_number_of_times(void **state)
{
	EnqueueOptions low = { .priority = Q_PRIORITY_LOW, .tag = 1 };
	EnqueueOptions urgent = { .priority = Q_PRIORITY_URGENT, .tag = 0 };
	GpuQueue *q = make_queue(1024, 16);
	uint32_t at = 0;

	(void)state;
	forget_started();
	assert_status(q_pause(q, LONG_MS), Q_OK);
	send_with(q, &low, NULL, 0);
	for (int i = 0; i < 1000; i++)
		send_with(q, &urgent, NULL, 0);
	assert_status(q_resume(q), Q_OK);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	while (started_tag(at) != 1)
		at++;
	if (on_remote()) /* gpuqd passes it over, then the consumer of gpuqd's queue does */
		assert_in_range(at, 1, 2 * GQ_PASS_LIMIT + 256);
	else
		assert_int_equal(at, GQ_PASS_LIMIT); /* one consumer: strict until then */
	q_shutdown(q);
}

static void a_message_not_started_by_its_deadline_ends_expired(void **state)
{
	EnqueueOptions past = { .deadline_ns = 1 };
	EnqueueOptions far = { .deadline_ns = UINT64_MAX };
	GpuQueue *q = make_queue(4, 16);
	char buf[16];
	size_t len = sizeof(buf);
	uint64_t id;

	(void)state;
	forget_started();
	assert_status(take(q, send_with(q, &past, "x", 1), buf, &len), Q_ERR_EXPIRED);
	assert_int_equal(len, 0);
	assert_int_equal(started(), 0);
	expect_echo(q, send_with(q, &far, "x", 1), "x", 1);
	assert_status(q_pause(q, LONG_MS), Q_OK); /* one that passes while it waits */
	past.deadline_ns = gq__now_ns() + 1000000;
	id = send_with(q, &past, "x", 1);
	nap_ms(5);
	assert_status(q_resume(q), Q_OK);
	assert_status(take(q, id, buf, &len), Q_ERR_EXPIRED);
	assert_int_equal(stats_of(q).expired, 2);
	q_shutdown(q);
}

static void a_cancelled_message_is_not_started(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t ids[3], reserved;
	void *payload;
	char buf[16];
	size_t len = sizeof(buf);

	(void)state;
	forget_started();
	assert_status(q_pause(q, LONG_MS), Q_OK);
	for (int i = 0; i < 3; i++)
		ids[i] = send(q, &i, sizeof(i));
	assert_status(q_reserve(q, 1, NULL, &payload, &reserved, 0), Q_OK);
	assert_status(q_cancel(q, ids[1]), Q_OK);
	assert_status(q_cancel(q, reserved), Q_OK);
	assert_status(q_commit(q, reserved), Q_OK);
	assert_status(q_resume(q), Q_OK);
	assert_status(take(q, ids[1], buf, &len), Q_ERR_CANCELLED);
	assert_status(take(q, reserved, buf, &len), Q_ERR_CANCELLED);
	assert_int_equal(len, 0);
	expect_echo(q, ids[0], &(int){ 0 }, sizeof(int));
	assert_status(q_wait(q, ids[2], LONG_MS), Q_OK);
	assert_status(q_cancel(q, ids[2]), Q_OK); /* finished: without effect */
	expect_echo(q, ids[2], &(int){ 2 }, sizeof(int));
	assert_status(q_cancel(q, ids[2]), Q_ERR_NOT_FOUND);
	assert_int_equal(started(), 2);
	for (int i = 0; i < 20; i++) /* and hits no later user of its slot */
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	q_shutdown(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_paused_queue_accepts_up_to_capacity_and_processes_after_resume),
		cmocka_unit_test(a_pause_waits_for_the_running_message_or_is_withdrawn),
		cmocka_unit_test(a_resume_or_stop_overtakes_a_waiting_pause),
		cmocka_unit_test(drain_waits_for_what_was_accepted_and_ignores_reservations),
		cmocka_unit_test(stop_finishes_what_was_accepted_and_results_stay_readable),
		cmocka_unit_test(stop_implies_resume),
		cmocka_unit_test(a_stop_that_times_out_cancels_what_was_not_started),
		cmocka_unit_test(what_is_preloaded_runs_once_and_the_queue_goes_on),
		cmocka_unit_test(a_pause_that_times_out_keeps_the_order),
		cmocka_unit_test(several_stops_at_once_all_succeed),
		cmocka_unit_test(waiters_that_can_never_succeed_wake_with_shutdown),
		cmocka_unit_test(a_hung_processor_outlives_shutdown_and_frees_the_memory_itself),
		cmocka_unit_test(shutdown_leaves_no_memory_thread_or_descriptor),
		cmocka_unit_test(a_reservation_is_written_in_place_and_ordered_by_its_commit),
		cmocka_unit_test(an_aborted_reservation_gives_its_slot_back),
		cmocka_unit_test(classes_are_served_urgent_first_and_in_order_within),
		cmocka_unit_test(a_waiting_low_message_is_passed_over_a_bounded_number_of_times),
		cmocka_unit_test(a_message_not_started_by_its_deadline_ends_expired),
		cmocka_unit_test(a_cancelled_message_is_not_started),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
