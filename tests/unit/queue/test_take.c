/* SPDX-License-Identifier: Apache-2.0 */
/* test_take.c - polling and taking in one call, and what is handed out without having been listed.
 */
#include "support.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Take until `wanted` messages have come. */
static size_t take_all(GpuQueue *q, Completion *out, size_t wanted, void *buffer, size_t bytes)
{
	size_t n = 0;

	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_take_results(q, out, wanted, buffer, bytes, &n), Q_OK);
	return n;
}

static void results_are_copied_in_order_and_their_slots_are_free(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	GQ_ALIGNED(16) char buffer[8 * 64];
	Completion done[8];

	(void)state;
	for (uint64_t lap = 0; lap < 3; lap++) {
		for (uint64_t i = 0; i < 8; i++)
			send_op(q, OP_ECHO, lap * 8 + i, "0123456789abcdefghij", 10 + i);
		memset(buffer, 0, sizeof(buffer));
		assert_int_equal(take_all(q, done, 8, buffer, sizeof(buffer)), 8);
		for (uint64_t i = 0; i < 8; i++) {
			assert_int_equal(done[i].tag, lap * 8 + i);
			assert_status(done[i].status, Q_OK);
			assert_int_equal(done[i].result_len, 10 + i);
			assert_memory_equal(done[i].result, "0123456789abcdefghij", 10 + i);
			assert_int_equal(((uintptr_t)done[i].result - (uintptr_t)buffer) % 16, 0);
			assert_status(q_release(q, done[i].msg_id), Q_ERR_NOT_FOUND);
		}
	}
	assert_int_equal(stats_of(q).deq_count, 24);
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

static void a_result_without_room_stays_and_comes_first_next_time(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	GQ_ALIGNED(16) char buffer[64];
	Completion done[8];
	size_t n = 9;

	(void)state;
	send(q, "abc", 3);
	send(q, "01234567890123456789", 20);
	send(q, "x", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_take_results(q, done, 8, buffer, 2, &n), Q_ERR_BUFFER_TOO_SMALL);
	assert_int_equal(n, 0);
	assert_non_null(strstr(q_last_error(), "buffer_bytes is 2; the next result has 3"));
	assert_int_equal(stats_of(q).deq_count, 0);
	assert_status(q_take_results(q, done, 8, buffer, 35, &n), Q_OK); /* 16, then 20 */
	assert_int_equal(n, 1);
	assert_memory_equal(done[0].result, "abc", 3);
	assert_status(q_take_results(q, done, 8, buffer, 64, &n), Q_OK);
	assert_int_equal(n, 2);
	assert_memory_equal(done[0].result, "01234567890123456789", 20);
	assert_memory_equal(done[1].result, "x", 1);
	assert_status(q_take_results(q, done, 8, buffer, 64, &n), Q_OK);
	assert_int_equal(n, 0);
	q_shutdown(q);
}

static void a_message_that_failed_is_taken_without_room(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	Completion done[4];
	char buffer[1];

	(void)state;
	send_op(q, OP_FAIL, 1, "x", 1);
	send_op(q, OP_ECHO, 2, NULL, 0);
	assert_int_equal(take_all(q, done, 4, buffer, 0), 2);
	assert_status(done[0].status, Q_ERR_FAILED);
	assert_int_equal(done[0].result_len, 0);
	assert_status(done[1].status, Q_OK);
	assert_int_equal(stats_of(q).deq_count, 2);
	q_shutdown(q);
}

static void without_a_buffer_results_stay_in_place(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	Completion done[4];
	uint64_t ids[2];

	(void)state;
	send(q, "one", 3);
	send(q, "two", 3);
	assert_int_equal(take_all(q, done, 4, NULL, 0), 2);
	assert_memory_equal(done[1].result, "two", 3);
	assert_int_equal(stats_of(q).deq_count, 0);
	ids[0] = done[0].msg_id;
	ids[1] = done[1].msg_id;
	assert_status(q_release_batch(q, ids, 2), Q_OK);
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

/* Of what is listed, of what is only in the completion ring, and past discarded messages. */
static void what_was_noticed_before_is_taken_before_what_was_not(void **state)
{
	const EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	GpuQueue *q = make_queue(16, 64);
	GQ_ALIGNED(16) char buffer[16 * 64];
	Completion done[16];
	uint64_t first;
	size_t n, len = 64;

	(void)state;
	first = send_op(q, OP_ECHO, 0, "x", 1);
	for (uint64_t i = 1; i < 4; i++)
		send_op(q, OP_ECHO, i, "x", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK); /* these are listed now */
	assert_status(q_try_dequeue_result(q, first, buffer, &len), Q_OK);
	close_gate();
	send_with(q, &discard, "x", 1);
	send_op(q, OP_ECHO, 4, "x", 1);
	send_with(q, &discard, "x", 1);
	send_op(q, OP_ECHO, 5, "x", 1);
	send_op(q, OP_GATE, 6, "x", 1);
	await_gate_waiters(1); /* those before it are in the ring, and nobody has looked */
	assert_status(q_take_results(q, done, 16, buffer, sizeof(buffer), &n), Q_OK);
	assert_int_equal(n, 5);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(done[i].tag, i + 1);
	open_gate();
	assert_int_equal(take_all(q, done, 16, buffer, sizeof(buffer)), 1);
	assert_int_equal(done[0].tag, 6);
	assert_int_equal(stats_of(q).discarded, 2);
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

/* More than one chunk of everything. */
static void a_thousand_are_taken_and_released_in_one_call(void **state)
{
	enum { N = 1024 };
	GpuQueue *q = make_queue(N, 16);
	static GQ_ALIGNED(16) char buffer[N * 16];
	static Completion done[N];
	static uint64_t ids[N];
	size_t n;

	(void)state;
	for (uint64_t lap = 0; lap < 2; lap++) {
		for (uint64_t i = 0; i < N; i++)
			ids[i] = send_op(q, OP_ECHO, i, &i, sizeof(i));
		if (lap == 0) {
			assert_int_equal(take_all(q, done, N, buffer, sizeof(buffer)), N);
		} else {
			assert_status(q_drain(q, LONG_MS), Q_OK);
			assert_status(q_poll_results(q, done, N, &n), Q_OK);
			assert_int_equal(n, N);
		}
		for (uint64_t i = 0; i < N; i++) {
			assert_int_equal(done[i].msg_id, ids[i]);
			assert_memory_equal(done[i].result, &i, sizeof(i));
		}
	}
	ids[N / 2] += 1; /* one failing does not stop the others */
	assert_status(q_release_batch(q, ids, N), Q_ERR_NOT_FOUND);
	assert_non_null(strstr(q_last_error(), "ids[512] is"));
	assert_int_equal(stats_of(q).queue_depth, 1);
	ids[N / 2] -= 1;
	assert_status(q_release_batch(q, ids + N / 2, 1), Q_OK);
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

static bool is_readable(int fd)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };

	return poll(&one, 1, 0) == 1;
}

static void the_descriptor_stays_readable_while_more_is_there(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	struct pollfd fd = { .fd = q_completion_fd(q), .events = POLLIN };
	GQ_ALIGNED(16) char buffer[64];
	Completion done;
	size_t n;

	(void)state;
	for (int i = 0; i < 4; i++)
		send(q, "x", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(poll(&fd, 1, (int)LONG_MS), 1);
		assert_status(q_take_results(q, &done, 1, buffer, sizeof(buffer), &n), Q_OK);
		assert_int_equal(n, 1);
		if (i < 3)
			assert_true(is_readable(fd.fd));
	}
	assert_false(is_readable(fd.fd));
	q_shutdown(q);
}

static void a_wait_by_id_ends_when_another_caller_has_taken_it(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	GQ_ALIGNED(16) char buffer[64];
	Completion done;
	uint64_t id;

	(void)state;
	id = send(q, "x", 1);
	assert_int_equal(take_all(q, &done, 1, buffer, sizeof(buffer)), 1);
	assert_status(q_wait(q, id, LONG_MS), Q_ERR_NOT_FOUND);
	assert_status(q_peek_result(q, id, NULL, NULL, NULL), Q_ERR_NOT_FOUND);
	q_shutdown(q);
}

/* A producer that finds no room leaves completions to the taker, which takes them by shorter steps
 * than what another thread has listed; where a message frees its slot itself, it reaps. */
static void a_full_queue_is_reaped_by_a_producer_only_for_messages_to_discard(void **state)
{
	const EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	GpuQueue *q = make_queue(4, 16);
	GQ_ALIGNED(16) char buffer[4 * 16];
	Completion done[4];
	size_t n;

	(void)state;
	for (int i = 0; i < 4; i++)
		send(q, "x", 1);
	/* The last has arrived, and no call has noticed any. */
	for (uint32_t step = 0;; step++) {
		uint32_t slot, outcome;

		if (gq_look_at_done(&q->ch, q->start_pos + 3, &slot, &outcome) == GQ_WHOLE)
			break;
		gq__await_step(step);
	}
	assert_status(q_enqueue(q, "y", 1, NULL, 0), Q_ERR_FULL);
	assert_true(gq_load_relaxed_u64(&q->reaped.finished) == 0);
	assert_status(q_take_results(q, done, 4, buffer, sizeof(buffer), &n), Q_OK);
	assert_int_equal(n, 4);
	for (int i = 0; i < 4; i++)
		assert_status(q_enqueue_ex(q, "z", 1, &discard, NULL, 0), Q_OK);
	assert_status(q_enqueue(q, "y", 1, NULL, LONG_MS), Q_OK);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_status(q_take_results(q, done, 4, buffer, sizeof(buffer), &n), Q_OK);
	assert_int_equal(n, 1);
	q_shutdown(q);
}

static void what_is_left_after_a_stop_is_taken_then_nothing_comes(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	GQ_ALIGNED(16) char buffer[4 * 64];
	Completion done[4];
	size_t n;

	(void)state;
	for (int i = 0; i < 3; i++)
		send(q, "x", 1);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_status(q_wait_any(q, LONG_MS), Q_OK);
	assert_status(q_take_results(q, done, 4, buffer, sizeof(buffer), &n), Q_OK);
	assert_int_equal(n, 3);
	assert_status(q_wait_any(q, LONG_MS), Q_ERR_SHUTDOWN);
	q_shutdown(q);
}

/* ---- releasing what others release, and ids that lie in a result -------------------------------
 */

enum { IDS = 64 };

struct releaser {
	GpuQueue *q;
	uint64_t ids[IDS];
	uint64_t round, done; /* told and answered by these words, so that both begin at once */
};

static void await_round(const uint64_t *word, uint64_t round)
{
	for (unsigned i = 0; gq_load_acquire_u64(word) != round; i++)
		if (i % 1000 == 999)
			sched_yield();
}

static void *release_with_others(void *arg)
{
	struct releaser *r = arg;

	for (uint64_t n = 1;; n++) {
		await_round(&r->round, n);
		if (r->ids[0] == 0)
			return NULL;
		(void)q_release_batch(r->q, r->ids, IDS); /* some are the other's by then */
		gq_store_release_u64(&r->done, n);
	}
}

/* Each slot comes back once: then just so many can be held, all of different slots. */
static void what_two_threads_release_comes_back_once(void **state)
{
	const uint32_t rounds = getenv("GPUQ_TEST_SHORT") != NULL ? 50 : 3000;
	struct releaser r = { .q = make_queue(IDS, 16) };
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, release_with_others, &r), 0);
	for (uint32_t n = 1; n <= rounds; n++) {
		uint64_t slots = 0;

		for (unsigned i = 0; i < IDS; i++) {
			r.ids[i] = send(r.q, "x", 1);
			slots |= UINT64_C(1) << (r.ids[i] & (IDS - 1));
		}
		assert_int_equal(slots, UINT64_MAX);
		assert_status(q_enqueue_async(r.q, "x", 1, NULL), Q_ERR_FULL);
		for (unsigned i = 0; i < IDS; i++)
			assert_status(q_wait(r.q, r.ids[i], LONG_MS), Q_OK);
		gq_store_release_u64(&r.round, n);
		(void)q_release_batch(r.q, r.ids, IDS);
		await_round(&r.done, n);
		assert_int_equal(stats_of(r.q).queue_depth, 0);
	}
	r.ids[0] = 0;
	gq_store_release_u64(&r.round, rounds + 1);
	pthread_join(thread, NULL);
	q_shutdown(r.q);
}

/* The result: this message's id, 62 that are nobody's, and the one that the payload names. */
static void list_ids(const MsgView *in, ResultView *out)
{
	uint64_t *ids = (uint64_t *)out->out;

	for (unsigned i = 1; i < IDS - 1; i++)
		ids[i] = 5;
	ids[0] = in->msg_id;
	memcpy(&ids[IDS - 1], in->payload, sizeof(*ids));
	*out->out_len = IDS * sizeof(*ids);
}

static const QProcessorImage lister = { .magic = Q_PROCESSOR_MAGIC,
					.protocol_version = Q_PROTOCOL_VERSION,
					.granularity = Q_PER_WARP,
					.name = "list_ids",
					.cpu = list_ids };

struct heir {
	GpuQueue *q;
	uint64_t *result, id;
	uint64_t waits;
};

/* As soon as there is a slot, it is the next message's, and so is its result. */
static void *inherit(void *arg)
{
	struct heir *h = arg;
	const uint64_t none = 5;

	gq_store_release_u64(&h->waits, 1);
	while (q_enqueue_async(h->q, &none, sizeof(none), &h->id) == Q_ERR_FULL)
		;
	h->result[IDS - 1] = none; /* as its processor might have */
	return NULL;
}

static void ids_may_lie_in_a_result_that_is_released_with_them(void **state)
{
	const unsigned rounds = getenv("GPUQ_TEST_SHORT") != NULL ? 20 : 200;
	QueueConfig c = config(2, 16);
	GpuQueue *q;

	(void)state;
	c.device = Q_DEVICE_CPU;
	c.result_bytes = IDS * sizeof(uint64_t);
	c.processor = "list_ids";
	q_register_processor(&lister);
	q = make_queue_from(&c);
	for (unsigned n = 0; n < rounds; n++) {
		const uint64_t none = 5, last = send(q, &none, sizeof(none)),
			       first = send(q, &last, sizeof(last));
		struct heir h = { .q = q };
		pthread_t thread;
		const void *ids;
		size_t len;

		assert_status(q_wait(q, first, LONG_MS), Q_OK);
		assert_status(q_wait(q, last, LONG_MS), Q_OK);
		assert_status(q_pause(q, LONG_MS), Q_OK);
		assert_status(q_peek_result(q, first, &ids, &len, NULL), Q_OK);
		h.result = (uint64_t *)(uintptr_t)ids;
		assert_int_equal(pthread_create(&thread, NULL, inherit, &h), 0);
		await_round(&h.waits, 1);
		assert_status(q_release_batch(q, ids, IDS), Q_ERR_NOT_FOUND);
		assert_status(q_release(q, last), Q_ERR_NOT_FOUND); /* it has been */
		pthread_join(thread, NULL);
		assert_status(q_resume(q), Q_OK);
		assert_status(q_wait(q, h.id, LONG_MS), Q_OK);
		assert_status(q_release(q, h.id), Q_OK);
	}
	q_shutdown(q);
	q_unregister_processor(&lister);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(results_are_copied_in_order_and_their_slots_are_free),
		cmocka_unit_test(a_result_without_room_stays_and_comes_first_next_time),
		cmocka_unit_test(a_message_that_failed_is_taken_without_room),
		cmocka_unit_test(without_a_buffer_results_stay_in_place),
		cmocka_unit_test(what_was_noticed_before_is_taken_before_what_was_not),
		cmocka_unit_test(a_thousand_are_taken_and_released_in_one_call),
		cmocka_unit_test(the_descriptor_stays_readable_while_more_is_there),
		cmocka_unit_test(a_wait_by_id_ends_when_another_caller_has_taken_it),
		cmocka_unit_test(a_full_queue_is_reaped_by_a_producer_only_for_messages_to_discard),
		cmocka_unit_test(what_is_left_after_a_stop_is_taken_then_nothing_comes),
		cmocka_unit_test(what_two_threads_release_comes_back_once),
		cmocka_unit_test(ids_may_lie_in_a_result_that_is_released_with_them),
	};

	return cmocka_run_group_tests_name("take", tests, NULL, NULL);
}
