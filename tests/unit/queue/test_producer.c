/* SPDX-License-Identifier: Apache-2.0 */
/* test_producer.c - queues with one producer, which publishes by plain stores. */
#include "support.h"

#include "host/base/fault.h"

#include <pthread.h>
#include <string.h>

static GpuQueue *make_for_one(uint32_t capacity, uint32_t consumers)
{
	QueueConfig cfg = config(capacity, 16);

	cfg.flags = Q_ONE_PRODUCER;
	cfg.consumers = consumers;
	return make_queue_from(&cfg);
}

/* Batches of every length, over many laps; with one consumer also in order. */
static void send_and_take(uint32_t capacity, uint32_t consumers)
{
	GpuQueue *q = make_for_one(capacity, consumers);
	GQ_ALIGNED(16) char buffer[16 * 16];
	Completion done[16];
	uint64_t numbers[16], sent = 0, taken = 0, sum = 0;
	EnqueueItem items[16];

	while (taken < 300) {
		size_t accepted, n;

		for (uint64_t i = 0; i < 16; i++) {
			numbers[i] = sent + i;
			items[i] = (EnqueueItem){ &numbers[i], sizeof(numbers[i]) };
		}
		q_enqueue_batch(q, items, 1 + sent % 16, NULL, &accepted, 0);
		sent += accepted;
		assert_status(q_take_results(q, done, 16, buffer, sizeof(buffer), &n), Q_OK);
		for (size_t i = 0; i < n; i++) {
			uint64_t number;

			memcpy(&number, done[i].result, sizeof(number));
			if (consumers == 1 && !on_cuda())
				assert_int_equal(number, taken + i);
			sum += number;
		}
		taken += n;
	}
	assert_status(q_drain(q, LONG_MS), Q_OK);
	while (taken < sent) {
		size_t n;

		assert_status(q_take_results(q, done, 1, buffer, sizeof(buffer), &n), Q_OK);
		assert_int_equal(n, 1);
		sum += *(const uint64_t *)done[0].result;
		taken++;
	}
	assert_int_equal(sum, sent * (sent - 1) / 2);
	assert_int_equal(stats_of(q).enq_count, sent);
	assert_int_equal(stats_of(q).queue_depth, 0);
	q_shutdown(q);
}

static void one_producers_messages_come_once_and_in_order(void **state)
{
	static const uint64_t starts[] = { 1, UINT32_MAX - 500, (UINT64_C(1) << 40) - 500 };
	const uint64_t before = gq__start_pos;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		gq__start_pos = starts[i];
		for (uint32_t capacity = 1; capacity <= 64; capacity *= 2)
			send_and_take(capacity, 1);
	}
	gq__start_pos = before;
	send_and_take(2, 2);
	send_and_take(64, 3);
}

static void *try_as_another(void *arg)
{
	GpuQueue *q = arg;
	const EnqueueItem item = { "x", 1 };
	void *payload;
	uint64_t id;
	size_t n;

	assert_status(q_enqueue(q, "x", 1, NULL, 0), Q_ERR_POLICY);
	assert_non_null(strstr(q_last_error(), "Q_ONE_PRODUCER"));
	assert_status(q_enqueue_ex(q, "x", 1, NULL, NULL, 0), Q_ERR_POLICY);
	assert_status(q_enqueue_async(q, "x", 1, NULL), Q_ERR_POLICY);
	assert_status(q_enqueue_batch(q, &item, 1, NULL, &n, 0), Q_ERR_POLICY);
	assert_int_equal(n, 0);
	assert_status(q_reserve(q, 1, NULL, &payload, &id, 0), Q_ERR_POLICY);
	assert_status(q_commit(q, 16), Q_ERR_POLICY);
	assert_status(q_poll_completions(q, &id, 1, &n), Q_OK); /* is anybody's */
	return NULL;
}

static void another_thread_is_refused_by_every_call_that_produces(void **state)
{
	GpuQueue *q = make_for_one(8, 1);
	pthread_t thread;
	void *payload;
	uint64_t id;

	(void)state;
	assert_status(q_reserve(q, 1, NULL, &payload, &id, 0), Q_OK);
	memcpy(payload, "a", 1);
	assert_int_equal(pthread_create(&thread, NULL, try_as_another, q), 0);
	pthread_join(thread, NULL);
	assert_status(q_commit(q, id), Q_OK);
	expect_echo(q, id, "a", 1);
	assert_int_equal(stats_of(q).enq_count, 1);
	assert_int_equal(stats_of(q).reserved_now, 0);
	q_shutdown(q);
}

static void a_sleeping_consumer_wakes_for_each_message(void **state)
{
	QueueConfig cfg = config(8, 16);
	GpuQueue *q;

	(void)state;
	cfg.flags = Q_ONE_PRODUCER;
	q = make_queue_from(&cfg);
	for (int i = 0; i < 20; i++) {
		uint64_t id;

		nap_ms(1); /* it sleeps after 50 us */
		id = send(q, "x", 1);
		expect_echo(q, id, "x", 1);
	}
	q_shutdown(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_producers_messages_come_once_and_in_order),
		cmocka_unit_test(another_thread_is_refused_by_every_call_that_produces),
		cmocka_unit_test(a_sleeping_consumer_wakes_for_each_message),
	};

	return cmocka_run_group_tests_name("producer", tests, NULL, NULL);
}
