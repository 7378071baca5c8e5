/* SPDX-License-Identifier: Apache-2.0 */
/* test_queue.c - life cycle, enqueue, batch, results: the promises of the original API. */
#include "support.h"

#include "host/base/fault.h"

#include <stdlib.h>
#include <string.h>

/* ---- life cycle (G-F01..G-F06, T01) -------------------------------------------------------- */

static void init_starts_an_empty_running_queue(void **state)
{
	GpuQueue *q = make_queue(256, 512);
	QueueStats stats = stats_of(q);
	QueueInfo info;

	(void)state;
	assert_int_equal(stats.enq_count, 0);
	assert_int_equal(stats.queue_depth, 0);
	assert_status(q_info(q, &info), Q_OK);
	assert_int_equal(info.state, Q_STATE_RUNNING);
	assert_int_equal(info.capacity, 256);
	assert_int_equal(info.device, on_cuda()     ? Q_DEVICE_CUDA
				      : on_remote() ? Q_DEVICE_REMOTE
						    : Q_DEVICE_CPU);
	assert_string_equal(info.processor, "test");
	q_shutdown(q);
	q_shutdown(NULL);
}

static void the_configuration_may_change_after_init(void **state)
{
	char name[] = "test";
	QueueConfig cfg = config(4, 64);
	GpuQueue *q;

	(void)state;
	cfg.processor = name;
	q = make_queue_from(&cfg);
	memset(name, 'x', 4);
	memset(&cfg, 0xff, sizeof(cfg));
	expect_echo(q, send(q, "still", 5), "still", 5);
	q_shutdown(q);
}

static void fifteen_accepted_at_shutdown_are_fifteen_processed(void **state)
{
	GpuQueue *q = make_queue(16, 64);

	(void)state;
	forget_started();
	for (uint64_t i = 0; i < 15; i++)
		send_op(q, OP_ECHO, i, &i, sizeof(i));
	q_shutdown(q);
	assert_int_equal(started(), 15);
}

static void queues_are_independent(void **state)
{
	GpuQueue *a = make_queue(4, 64), *b = make_queue(8, 32);
	uint64_t id = send(a, "a", 1);

	(void)state;
	assert_status(q_stop(b, LONG_MS), Q_OK);
	expect_echo(a, id, "a", 1);
	q_shutdown(b);
	q_shutdown(a);
}

/* ---- enqueue (G-F07..G-F11, T02..T05) -------------------------------------------------------- */

static void one_message_comes_back_whole(void **state)
{
	const char text[] = "eighteen bytes ok";
	GpuQueue *q = make_queue(256, 512);
	uint64_t id = send(q, text, sizeof(text));

	(void)state;
	assert_true(id != 0);
	expect_echo(q, id, text, sizeof(text));
	assert_int_equal(stats_of(q).enq_count, 1);
	assert_int_equal(stats_of(q).deq_count, 1);
	q_shutdown(q);
}

static void enqueue_has_copied_when_it_returns(void **state)
{
	char data[64];
	GpuQueue *q = make_queue(8, 64);
	uint64_t id;

	(void)state;
	assert_status(q_pause(q, LONG_MS), Q_OK);
	memset(data, 'a', sizeof(data));
	assert_status(q_enqueue_async(q, data, sizeof(data), &id), Q_OK);
	memset(data, 'b', sizeof(data));
	assert_status(q_resume(q), Q_OK);
	memset(data, 'a', sizeof(data));
	expect_echo(q, id, data, sizeof(data));
	q_shutdown(q);
}

static void empty_and_full_size_messages_pass(void **state)
{
	unsigned char data[100], zeros[100] = { 0 };
	GpuQueue *q = make_queue(4, 100); /* a size that is no multiple of 16 (G-D12) */

	(void)state;
	memset(data, 0xee, sizeof(data));
	for (int i = 0; i < 10; i++) {
		expect_echo(q, send(q, NULL, 0), "", 0);
		expect_echo(q, send(q, data, 0), "", 0);
		expect_echo(q, send(q, data, 100), data, 100);
		expect_echo(q, send(q, zeros, 100), zeros, 100); /* no payload means "empty" */
	}
	assert_true(payloads_aligned());
	q_shutdown(q);
}

static void ids_increase_in_order_of_allocation(void **state)
{
	GpuQueue *q = make_queue(4, 8);
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t id = send(q, &i, sizeof(i));

		assert_true(id > last);
		last = id;
		expect_echo(q, id, &i, sizeof(i));
	}
	q_shutdown(q);
}

static void a_full_queue_says_full_at_once_and_counts_it(void **state)
{
	GpuQueue *q = make_queue(64, 16);
	uint64_t ids[64], id = 12345;

	(void)state;
	for (int i = 0; i < 64; i++)
		ids[i] = send(q, &i, sizeof(i));
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_enqueue(q, "x", 1, &id, 0), Q_ERR_FULL);
	assert_int_equal(id, 12345); /* outputs on success only */
	assert_status(q_enqueue(q, "x", 1, &id, 20), Q_ERR_TIMEOUT);
	assert_int_equal(stats_of(q).dropped_full, 1);
	assert_int_equal(stats_of(q).timed_out, 1); /* counted apart (G-D15) */
	assert_true(stats_of(q).retries > 0);
	for (int i = 0; i < 64; i++)
		expect_echo(q, ids[i], &i, sizeof(i));
	expect_echo(q, send(q, "x", 1), "x", 1); /* and goes on after a drain (T20) */
	q_shutdown(q);
}

static void *wait_for_room(void *q)
{
	return (void *)(intptr_t)q_enqueue(q, "w", 1, NULL, LONG_MS);
}

static void a_waiting_producer_gets_the_next_free_slot_and_blocks_nobody(void **state)
{
	GpuQueue *q = make_queue(1, 16);
	uint64_t first = send(q, "f", 1);
	pthread_t thread;
	void *status;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, wait_for_room, q), 0);
	nap_ms(20);                                               /* it sleeps by now, or soon */
	assert_status(q_enqueue(q, "x", 1, NULL, 0), Q_ERR_FULL); /* at once (G-D14) */
	expect_echo(q, first, "f", 1);
	pthread_join(thread, &status);
	assert_int_equal((intptr_t)status, Q_OK);
	assert_int_equal(stats_of(q).enq_count, 2);
	q_shutdown(q);
}

static void a_thousand_messages_pass_with_retries_on_full(void **state)
{
	GpuQueue *q = make_queue(64, 256);
	unsigned char data[256];
	uint64_t ids[1000], got = 0;

	(void)state;
	for (unsigned i = 0; i < 1000;) {
		QueueStatus status;

		memset(data, (int)i, sizeof(data));
		status = q_enqueue(q, data, sizeof(data), &ids[i], 0);
		if (status == Q_OK) {
			i++;
			continue;
		}
		assert_status(status, Q_ERR_FULL);
		memset(data, (int)got, sizeof(data));
		expect_echo(q, ids[got], data, sizeof(data));
		got++;
	}
	for (; got < 1000; got++) {
		memset(data, (int)got, sizeof(data));
		expect_echo(q, ids[got], data, sizeof(data));
	}
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

/* ---- batch (G-F12) --------------------------------------------------------------------------- */

static void a_batch_is_accepted_in_order(void **state)
{
	GpuQueue *q = make_queue(256, 8);
	EnqueueItem items[200];
	uint64_t values[200], ids[200];
	size_t n = 99;

	(void)state;
	for (uint64_t i = 0; i < 200; i++) {
		values[i] = i * 7;
		items[i] = (EnqueueItem){ &values[i], i % 9 };
	}
	assert_status(q_enqueue_batch(q, items, 200, ids, &n, LONG_MS), Q_OK);
	assert_int_equal(n, 200);
	for (int i = 0; i < 200; i++)
		expect_echo(q, ids[i], &values[i], items[i].len);
	assert_status(q_enqueue_batch(q, NULL, 0, NULL, &n, 0), Q_OK);
	assert_int_equal(n, 0);
	q_shutdown(q);
}

static void a_batch_without_room_is_accepted_in_part(void **state)
{
	GpuQueue *q = make_queue(8, 8);
	EnqueueItem items[12];
	uint64_t ids[12];
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 12; i++)
		items[i] = (EnqueueItem){ "abcdefgh", 8 };
	assert_status(q_enqueue_batch(q, items, 12, ids, &n, 0), Q_ERR_FULL);
	assert_int_equal(n, 8);
	assert_int_equal(stats_of(q).dropped_full, 4);
	assert_status(q_enqueue_batch(q, items + 8, 4, ids + 8, &n, 10), Q_ERR_TIMEOUT);
	assert_int_equal(n, 0);
	for (int i = 0; i < 8; i++)
		expect_echo(q, ids[i], "abcdefgh", 8);
	assert_status(q_enqueue_batch(q, items + 8, 4, ids + 8, &n, 0), Q_OK); /* retry the rest */
	assert_int_equal(n, 4);
	q_shutdown(q);
}

static void a_batch_with_one_bad_item_enqueues_nothing(void **state)
{
	GpuQueue *q = make_queue(8, 8);
	EnqueueItem items[3] = { { "a", 1 }, { "b", 1 }, { "toolongitem", 9 } };
	size_t n = 5;

	(void)state;
	assert_status(q_enqueue_batch(q, items, 3, NULL, &n, 0), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	assert_int_equal(stats_of(q).enq_count, 0);
	assert_non_null(strstr(q_last_error(), "items[2].len is 9"));
	q_shutdown(q);
}

/* ---- results (G-F14..G-F18, G-D03..G-D06) ---------------------------------------------------- */

static void out_of_order_dequeues_overwrite_nothing(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t ids[5];

	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		ids[i] = send(q, &i, sizeof(i));
	expect_echo(q, ids[2], &(uint64_t){ 2 }, sizeof(uint64_t));
	ids[4] = send(q, &(uint64_t){ 4 }, sizeof(uint64_t));
	for (uint64_t i = 0; i < 5; i++)
		if (i != 2)
			expect_echo(q, ids[i], &i, sizeof(i));
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

static void ten_laps_of_out_of_order_dequeues(void **state)
{
	static const int order[] = { 5, 0, 7, 2, 6, 1, 3, 4 };
	GpuQueue *q = make_queue(8, 16);

	(void)state;
	for (uint64_t lap = 0; lap < 10; lap++) {
		uint64_t ids[8];

		for (uint64_t i = 0; i < 8; i++) {
			uint64_t value = lap * 8 + i;

			ids[i] = send(q, &value, sizeof(value));
		}
		for (int k = 0; k < 8; k++) {
			uint64_t value = lap * 8 + (uint64_t)order[k];

			expect_echo(q, ids[order[k]], &value, sizeof(value));
		}
	}
	q_shutdown(q);
}

static void one_result_never_taken_costs_one_slot(void **state)
{
	const unsigned total = getenv("GPUQ_TEST_SHORT") != NULL ? 5000 : 1000000;
	GpuQueue *q = make_queue(64, 16);
	uint64_t kept = send(q, "kept", 4), ids[32];
	EnqueueItem items[32];

	(void)state;
	for (int i = 0; i < 32; i++)
		items[i] = (EnqueueItem){ "passing", 7 };
	for (unsigned done = 0; done < total; done += 32) {
		size_t n;

		assert_status(q_enqueue_batch(q, items, 32, ids, &n, LONG_MS), Q_OK);
		for (int i = 0; i < 32; i++)
			assert_status(q_wait(q, ids[i], LONG_MS), Q_OK);
		assert_status(q_release_batch(q, ids, 32), Q_OK);
	}
	expect_echo(q, kept, "kept", 4);
	q_shutdown(q);
}

static void unknown_taken_and_unfinished_ids_are_told_apart(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	char buf[16];
	size_t len = sizeof(buf);
	uint64_t id;

	(void)state;
	assert_status(q_pause(q, LONG_MS), Q_OK);
	id = send(q, "x", 1);
	assert_status(q_try_dequeue_result(q, id, buf, &len), Q_ERR_NOT_READY);
	assert_int_equal(len, 0); /* written whatever the status */
	assert_status(q_resume(q), Q_OK);
	expect_echo(q, id, "x", 1);
	len = sizeof(buf);
	assert_status(q_try_dequeue_result(q, id, buf, &len), Q_ERR_NOT_FOUND); /* taken */
	for (uint64_t wrong = id + 1; wrong < id + 40; wrong++) {               /* never issued */
		len = sizeof(buf);
		assert_status(q_try_dequeue_result(q, wrong, buf, &len), Q_ERR_NOT_FOUND);
	}
	q_shutdown(q);
}

static void a_result_too_long_for_the_buffer_stays(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	uint64_t id = send(q, "0123456789", 10);
	char buf[10];
	size_t len = 9;

	(void)state;
	assert_status(take(q, id, buf, &len), Q_ERR_BUFFER_TOO_SMALL);
	assert_int_equal(len, 10);
	len = 0;
	assert_status(q_try_dequeue_result(q, id, NULL, &len), Q_ERR_BUFFER_TOO_SMALL);
	assert_int_equal(len, 10);
	assert_status(q_try_dequeue_result(q, id, buf, &len), Q_OK);
	assert_memory_equal(buf, "0123456789", 10);
	q_shutdown(q);
}

static void polling_returns_each_id_once_in_completion_order(void **state)
{
	GpuQueue *q = make_queue(16, 16);
	uint64_t ids[10], polled[16];
	size_t n = 0, total = 0;

	(void)state;
	for (int i = 0; i < 10; i++)
		ids[i] = send(q, &i, sizeof(i));
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_poll_completions(q, polled, 3, &n), Q_OK);
	assert_int_equal(n, 3);
	for (total = n; total < 10; total += n)
		assert_status(q_poll_completions(q, polled + total, 16 - total, &n), Q_OK);
	assert_memory_equal(polled, ids, sizeof(ids)); /* one consumer: in order */
	assert_status(q_poll_completions(q, polled, 16, &n), Q_OK);
	assert_int_equal(n, 0);
	for (int i = 0; i < 10; i++) /* polling has freed nothing */
		expect_echo(q, ids[i], &i, sizeof(i));
	q_shutdown(q);
}

static void an_id_taken_before_it_was_polled_is_not_polled(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t ids[2], polled[4];
	size_t n;

	(void)state;
	for (int lap = 0; lap < 100; lap++) { /* stale ids in the list never add up */
		ids[0] = send(q, "a", 1);
		ids[1] = send(q, "b", 1);
		expect_echo(q, ids[0], "a", 1);
		if (lap % 10 != 9) {
			expect_echo(q, ids[1], "b", 1);
			continue;
		}
		assert_status(q_wait(q, ids[1], LONG_MS), Q_OK);
		assert_status(q_poll_completions(q, polled, 4, &n), Q_OK);
		assert_int_equal(n, 1);
		assert_int_equal(polled[0], ids[1]);
		expect_echo(q, ids[1], "b", 1);
	}
	q_shutdown(q);
}

static void poll_results_shows_outcome_tag_and_result_in_place(void **state)
{
	GpuQueue *q = make_queue(8, 16);
	Completion done[4];
	size_t n;

	(void)state;
	send_op(q, OP_XOR, 77, "\x5a\x5b", 2);
	send_op(q, OP_FAIL, 78, "x", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_poll_results(q, done, 4, &n), Q_OK);
	assert_int_equal(n, 2);
	assert_int_equal(done[0].tag, 77);
	assert_int_equal(done[0].status, Q_OK);
	assert_int_equal(done[0].result_len, 2);
	assert_memory_equal(done[0].result, "\0\1", 2);
	assert_int_equal((uintptr_t)done[0].result % 16, 0);
	if (!on_cuda() &&
	    !on_remote()) /* there a result and what the consumer reads share no line */
		assert_int_equal((uintptr_t)done[0].result % 64, 0);
	assert_int_equal(done[1].tag, 78);
	assert_int_equal(done[1].status, Q_ERR_FAILED);
	assert_int_equal(done[1].result_len, 0);
	assert_status(q_release_batch(q, (uint64_t[]){ done[0].msg_id, done[1].msg_id }, 2), Q_OK);
	assert_status(q_release_batch(q, (uint64_t[]){ done[0].msg_id, done[1].msg_id }, 2),
		      Q_ERR_NOT_FOUND);
	assert_int_equal(stats_of(q).deq_count, 2);
	q_shutdown(q);
}

static void peek_shows_the_result_until_release(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t id = send(q, "peek", 4);
	const void *result;
	QueueStatus how;
	size_t len;

	(void)state;
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	for (int i = 0; i < 3; i++) {
		assert_status(q_peek_result(q, id, &result, &len, &how), Q_OK);
		assert_int_equal(len, 4);
		assert_memory_equal(result, "peek", 4);
		assert_status(how, Q_OK);
	}
	assert_status(q_peek_result(q, id, NULL, NULL, NULL), Q_OK);
	assert_status(q_release(q, id), Q_OK);
	assert_status(q_release(q, id), Q_ERR_NOT_FOUND);
	assert_status(q_peek_result(q, id, &result, &len, &how), Q_ERR_NOT_FOUND);
	q_shutdown(q);
}

static void a_failed_message_says_so_once_and_frees_its_slot(void **state)
{
	GpuQueue *q = make_queue(1, 16);
	char buf[16];

	(void)state;
	for (int i = 0; i < 3; i++) {
		size_t len = sizeof(buf);
		uint64_t id = send_op(q, OP_FAIL, 0, "x", 1);

		assert_status(take(q, id, buf, &len), Q_ERR_FAILED);
		assert_int_equal(len, 0);
		assert_status(q_try_dequeue_result(q, id, buf, &len), Q_ERR_NOT_FOUND);
	}
	assert_int_equal(stats_of(q).failed, 3);
	q_shutdown(q);
}

static void the_processors_own_status_reaches_who_asks_and_the_last_error(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	uint64_t failed = send_op(q, OP_FAIL, 0, "x", 1), done = send(q, "y", 1);
	uint64_t too_long = send_op(q, OP_TOO_LONG, 0, "z", 1);
	uint32_t value = 99;
	char buf[16];
	size_t len = sizeof(buf);

	(void)state;
	assert_status(q_wait(q, failed, LONG_MS), Q_OK);
	assert_status(q_wait(q, done, LONG_MS), Q_OK);
	assert_status(q_wait(q, too_long, LONG_MS), Q_OK);
	assert_status(q_processor_status(q, failed, &value), Q_OK);
	assert_int_equal(value, 7); /* what OP_FAIL stores */
	assert_status(q_processor_status(q, done, &value), Q_OK);
	assert_int_equal(value, 0);
	value = 99;
	assert_status(q_processor_status(q, too_long, &value), Q_OK);
	assert_int_equal(value, 0); /* failed, but not by the processor's word */
	assert_status(q_try_dequeue_result(q, failed, buf, &len), Q_ERR_FAILED);
	assert_non_null(strstr(q_last_error(), "its status is 7"));
	value = 99;
	assert_status(q_processor_status(q, failed, &value), Q_ERR_NOT_FOUND);
	assert_int_equal(value, 99);
	len = sizeof(buf);
	assert_status(q_try_dequeue_result(q, too_long, buf, &len), Q_ERR_FAILED);
	assert_non_null(strstr(q_last_error(), "result_bytes"));
	q_shutdown(q);
}

static void a_result_longer_than_its_area_fails_and_is_not_cut(void **state)
{
	QueueConfig cfg = config(4, 64);
	GpuQueue *q;
	char buf[64];
	size_t len = sizeof(buf);

	(void)state;
	cfg.result_bytes = 8;
	q = make_queue_from(&cfg);
	assert_status(take(q, send_op(q, OP_TOO_LONG, 0, "x", 1), buf, &len), Q_ERR_FAILED);
	assert_non_null(strstr(q_last_error(), "result is longer than result_bytes"));
	len = sizeof(buf); /* an echo of 9 bytes into 8 */
	assert_status(take(q, send(q, "123456789", 9), buf, &len), Q_ERR_FAILED);
	expect_echo(q, send(q, "12345678", 8), "12345678", 8);
	q_shutdown(q);
}

static void a_result_may_be_longer_than_its_message(void **state)
{
	QueueConfig cfg = config(4, 8);
	GpuQueue *q;
	char buf[1000];
	size_t len = sizeof(buf);

	(void)state;
	cfg.result_bytes = 1000;
	q = make_queue_from(&cfg);
	assert_status(take(q, send_op(q, OP_FILL, 'r', "x", 1), buf, &len), Q_OK);
	assert_int_equal(len, 1000);
	assert_int_equal(buf[999], 'r');
	q_shutdown(q);
}

static void a_discarded_message_frees_its_slot_and_is_never_polled(void **state)
{
	EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	GpuQueue *q = make_queue(2, 16);
	uint64_t ids[4];
	size_t n;

	(void)state;
	for (int i = 0; i < 100; i++)
		send_with(q, &discard, "gone", 4);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_poll_completions(q, ids, 4, &n), Q_OK);
	assert_int_equal(n, 0);
	assert_int_equal(stats_of(q).discarded, 100);
	assert_int_equal(stats_of(q).deq_count, 0);
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

static void a_sent_discard_is_waited_for_like_any_other(void **state)
{
	EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD, .opcode = OP_GATE };
	GpuQueue *q = make_queue(2, 16);
	uint64_t id;

	(void)state;
	close_gate();
	id = send_with(q, &discard, "g", 1);
	assert_status(q_wait(q, id, 10), Q_ERR_TIMEOUT);
	open_gate();
	assert_true(q_wait(q, id, LONG_MS) == Q_OK || q_wait(q, id, 0) == Q_ERR_NOT_FOUND);
	q_shutdown(q);
}

static void the_balance_holds_when_quiet(void **state)
{
	EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	GpuQueue *q = make_queue(32, 16);
	uint64_t id, reserved;
	QueueStats s;
	void *payload;

	(void)state;
	for (int i = 0; i < 10; i++)
		send_with(q, &discard, "d", 1);
	for (int i = 0; i < 5; i++)
		id = send(q, "k", 1);
	assert_status(q_reserve(q, 1, NULL, &payload, &reserved, 0), Q_OK);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_release(q, id), Q_OK);
	s = stats_of(q);
	assert_int_equal(s.enq_count, 15);
	assert_int_equal(s.deq_count, 1);
	assert_int_equal(s.discarded, 10);
	assert_int_equal(s.queue_depth, 4);
	assert_int_equal(s.finished, 15);
	assert_int_equal(s.reserved_now, 1);
	assert_status(q_abort(q, reserved), Q_OK);
	s = stats_of(q);
	assert_int_equal(s.reserved_now, 0);
	assert_int_equal(s.aborted, 1);
	assert_int_equal(s.deq_count, 1);
	q_shutdown(q);
}

static void positions_may_wrap_anywhere(void **state)
{
	static const uint64_t starts[] = { (UINT64_C(1) << 32) - 3, (UINT64_C(1) << 63) - 3,
					   0 - UINT64_C(3), 0 - UINT64_C(1) };

	(void)state;
	for (unsigned s = 0; s < 4; s++)
		for (uint32_t capacity = 1; capacity <= 64; capacity *= 2) {
			GpuQueue *q;

			gq__start_pos = starts[s];
			q = make_queue(capacity, 16);
			for (uint64_t i = 0; i < 5 * capacity + 20; i++) {
				uint64_t id = send(q, &i, sizeof(i));

				expect_echo(q, id, &i, sizeof(i));
			}
			assert_int_equal(stats_of(q).deq_count, 5 * capacity + 20);
			q_shutdown(q);
		}
	gq__start_pos = 1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init_starts_an_empty_running_queue),
		cmocka_unit_test(the_configuration_may_change_after_init),
		cmocka_unit_test(fifteen_accepted_at_shutdown_are_fifteen_processed),
		cmocka_unit_test(queues_are_independent),
		cmocka_unit_test(one_message_comes_back_whole),
		cmocka_unit_test(enqueue_has_copied_when_it_returns),
		cmocka_unit_test(empty_and_full_size_messages_pass),
		cmocka_unit_test(ids_increase_in_order_of_allocation),
		cmocka_unit_test(a_full_queue_says_full_at_once_and_counts_it),
		cmocka_unit_test(a_waiting_producer_gets_the_next_free_slot_and_blocks_nobody),
		cmocka_unit_test(a_thousand_messages_pass_with_retries_on_full),
		cmocka_unit_test(a_batch_is_accepted_in_order),
		cmocka_unit_test(a_batch_without_room_is_accepted_in_part),
		cmocka_unit_test(a_batch_with_one_bad_item_enqueues_nothing),
		cmocka_unit_test(out_of_order_dequeues_overwrite_nothing),
		cmocka_unit_test(ten_laps_of_out_of_order_dequeues),
		cmocka_unit_test(one_result_never_taken_costs_one_slot),
		cmocka_unit_test(unknown_taken_and_unfinished_ids_are_told_apart),
		cmocka_unit_test(a_result_too_long_for_the_buffer_stays),
		cmocka_unit_test(polling_returns_each_id_once_in_completion_order),
		cmocka_unit_test(an_id_taken_before_it_was_polled_is_not_polled),
		cmocka_unit_test(poll_results_shows_outcome_tag_and_result_in_place),
		cmocka_unit_test(peek_shows_the_result_until_release),
		cmocka_unit_test(a_failed_message_says_so_once_and_frees_its_slot),
		cmocka_unit_test(the_processors_own_status_reaches_who_asks_and_the_last_error),
		cmocka_unit_test(a_result_longer_than_its_area_fails_and_is_not_cut),
		cmocka_unit_test(a_result_may_be_longer_than_its_message),
		cmocka_unit_test(a_discarded_message_frees_its_slot_and_is_never_polled),
		cmocka_unit_test(a_sent_discard_is_waited_for_like_any_other),
		cmocka_unit_test(the_balance_holds_when_quiet),
		cmocka_unit_test(positions_may_wrap_anywhere),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
