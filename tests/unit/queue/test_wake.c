/* SPDX-License-Identifier: Apache-2.0 */
/* test_wake.c - how many sleeping consumers a publication wakes, and who wakes the others. */
#include "host/queue/produce.h"
#include "support.h"

#include <sched.h>

enum { CONSUMERS = 8 };

/* A queue with more consumers than CPUs: all of them on one. */
static GpuQueue *make_crowded_queue(void)
{
	QueueConfig cfg = config(CONSUMERS, 16);
	cpu_set_t before, one;
	GpuQueue *q;

	cfg.device = Q_DEVICE_CPU;
	cfg.consumers = CONSUMERS;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &before))
			CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	q = make_queue_from(&cfg);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	return q;
}

/* Until all consumers sleep, or are about to. */
static void await_sleepers(GpuQueue *q)
{
	while (gq_event_sleepers(gq_load_seq_cst_u64(&q->work.word)) != CONSUMERS)
		nap_ms(1);
}

static void a_publication_wakes_no_more_consumers_than_there_are_cpus_for(void **state)
{
	GpuQueue *q = make_crowded_queue();

	(void)state;
	for (int i = 0; i < 20; i++) {
		uint64_t before;

		await_sleepers(q);
		before = stats_of(q).wakeups;
		gq__wake_consumers(q, CONSUMERS); /* there is no message, so nobody wakes another */
		assert_in_range(stats_of(q).wakeups - before, 0, 1);
	}
	q_shutdown(q);
}

static void consumers_wake_one_another_while_messages_wait(void **state)
{
	GpuQueue *q = make_crowded_queue();
	EnqueueItem items[CONSUMERS];
	const EnqueueOptions gate = { .opcode = OP_GATE, .flags = Q_ENQUEUE_DISCARD };

	(void)state;
	for (int i = 0; i < CONSUMERS; i++)
		items[i] = (EnqueueItem){ "g", 1 };
	for (int i = 0; i < 20; i++) {
		size_t n = 0;

		await_sleepers(q);
		close_gate();
		assert_status(q_enqueue_batch_ex(q, items, CONSUMERS, &gate, NULL, &n, LONG_MS),
			      Q_OK);
		assert_int_equal(n, CONSUMERS);
		await_gate_waiters(CONSUMERS); /* none of them ends before the last has begun */
		open_gate();
		assert_status(q_drain(q, LONG_MS), Q_OK);
	}
	q_shutdown(q);
}

static void where_each_consumer_has_a_cpu_a_publication_wakes_one_for_a_message(void **state)
{
	const EnqueueOptions gate = { .opcode = OP_GATE, .flags = Q_ENQUEUE_DISCARD };
	enum { MESSAGES = CONSUMERS / 2 };
	GpuQueue *q = make_crowded_queue();
	EnqueueItem items[MESSAGES];

	(void)state;
	await_sleepers(q);
	q->wakes_at_most = CONSUMERS; /* as on a machine with so many CPUs; all sleep */
	for (int i = 0; i < MESSAGES; i++)
		items[i] = (EnqueueItem){ "g", 1 };
	for (int i = 0; i < 20; i++) {
		size_t n = 0;
		uint64_t before;

		await_sleepers(q);
		before = stats_of(q).wakeups;
		close_gate();
		assert_status(q_enqueue_batch_ex(q, items, MESSAGES, &gate, NULL, &n, LONG_MS),
			      Q_OK);
		await_gate_waiters(MESSAGES);
		open_gate();
		assert_status(q_drain(q, LONG_MS), Q_OK);
		await_sleepers(q);
		assert_in_range(stats_of(q).wakeups - before, 0, MESSAGES);
	}
	q_shutdown(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_publication_wakes_no_more_consumers_than_there_are_cpus_for),
		cmocka_unit_test(consumers_wake_one_another_while_messages_wait),
		cmocka_unit_test(
			where_each_consumer_has_a_cpu_a_publication_wakes_one_for_a_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
