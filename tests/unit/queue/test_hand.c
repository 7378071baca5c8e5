/* SPDX-License-Identifier: Apache-2.0 */
/* test_hand.c - consumers that claim several messages at once: what they hold waits for nobody, and
 * comes in no other order. */
#include "support.h"

#include "device/protocol/hand.h"

enum { MESSAGES = 32 };

/* ---- the hand -------------------------------------------------------------------------------- */

static void what_is_held_comes_back_once_and_in_order(void **state)
{
	static struct gq_hand hand; /* aligned */
	const uint32_t slots[] = { 5, 3, 9, 1, 0, 2, 4 };

	(void)state;
	for (uint32_t batch = 0; batch < 300; batch++) {
		const uint32_t n = 1 + batch % GQ_HAND_SLOTS;

		assert_true(gq_hand_word_is_empty(gq_hand_look(&hand)));
		assert_int_equal(gq_hand_take(&hand), GQ_NONE);
		gq_hand_fill(&hand, batch % GQ_CLASSES, slots, n);
		assert_int_equal(gq_hand_class(gq_hand_look(&hand)), batch % GQ_CLASSES);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(gq_hand_take(&hand), slots[i]);
	}
}

static struct gq_word_ring ring_of(uint64_t *words, uint64_t start)
{
	struct gq_word_ring r = gq_word_ring_of(words, &words[64], &words[65], 6, 26, 6);

	for (uint64_t i = 0; i < 64; i++)
		*gq_word_ring_entry(&r, start - 64 + i) = gq_word_ring_tag(&r, start - 64 + i);
	*r.head = *r.tail = start;
	return r;
}

static void a_share_leaves_as_much_for_each_other_consumer(void **state)
{
	static const struct {
		uint32_t waiting, consumers, share;
	} cases[] = { { 0, 2, 1 },  { 1, 2, 1 },  { 3, 2, 1 },  { 4, 2, 2 },   { 7, 2, 2 },
		      { 8, 2, 4 },  { 15, 2, 4 }, { 16, 2, 8 }, { 64, 2, 8 },  { 31, 4, 4 },
		      { 32, 4, 8 }, { 64, 8, 8 }, { 64, 9, 4 }, { 64, 33, 1 }, { 64, 1024, 1 } };
	static uint64_t words[66];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gq_word_ring r = ring_of(words, UINT64_MAX - 10);

		for (uint32_t k = 0; k < cases[i].waiting; k++)
			gq_word_ring_put_one(&r, k);
		assert_int_equal(gq_share(&r, cases[i].consumers), cases[i].share);
	}
}

static void many_are_claimed_in_order_and_no_more_than_there_are(void **state)
{
	static uint64_t words[66];
	const uint64_t starts[] = { 64, UINT32_MAX - 20, UINT64_MAX - 20 };

	(void)state;
	for (size_t s = 0; s < 3; s++) {
		struct gq_word_ring r = ring_of(words, starts[s]);
		uint32_t slots[8], next = 0;

		assert_int_equal(gq_claim_many(&r, 63, 8, slots), 0);
		for (uint32_t k = 0; k < 60; k++)
			gq_word_ring_put_one(&r, k);
		while (next < 60) {
			const uint32_t n = gq_claim_many(&r, 63, 1 + next % 8, slots);

			assert_in_range(n, 1, 1 + next % 8);
			for (uint32_t k = 0; k < n; k++)
				assert_int_equal(slots[k], next++);
		}
		assert_int_equal(gq_claim_many(&r, 63, 8, slots), 0);
	}
}

/* ---- consumers ------------------------------------------------------------------------------- */

static GpuQueue *make_paused(uint32_t capacity, uint32_t consumers)
{
	QueueConfig cfg = config(capacity, 64);
	GpuQueue *q;

	cfg.consumers = consumers;
	q = make_queue_from(&cfg);
	assert_status(q_pause(q, LONG_MS), Q_OK);
	close_gate();
	return q;
}

/* `n` messages with tags from 0 on; those at multiples of `gate_every` wait for the gate. */
static void send_all(GpuQueue *q, uint32_t n, uint32_t gate_every)
{
	for (uint32_t i = 0; i < n; i++)
		send_op(q, i % gate_every == 0 ? OP_GATE : OP_ECHO, i, &i, sizeof(i));
}

static void await_finished(GpuQueue *q, uint64_t n)
{
	for (uint32_t i = 0; stats_of(q).finished < n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

static void what_a_stuck_consumer_holds_is_run_by_another(void **state)
{
	GpuQueue *q;

	(void)state;
	cpu_device_only("it is of the CPU device's consumers");
	for (uint32_t consumers = 2; consumers <= 4; consumers++) {
		q = make_paused(MESSAGES, consumers);
		send_all(q, MESSAGES, MESSAGES); /* the first one sticks */
		assert_status(q_resume(q), Q_OK);
		await_finished(q, MESSAGES - 1);
		assert_int_equal(gate_waiters(), 1);
		open_gate();
		await_finished(q, MESSAGES);
		q_shutdown(q);
	}
}

static void a_stop_that_gives_up_cancels_what_is_held(void **state)
{
	GpuQueue *q;

	(void)state;
	cpu_device_only("it is of the CPU device's consumers");
	q = make_paused(MESSAGES, 2);
	send_all(q, MESSAGES, 8); /* both stick, each with its hand full, as every eighth does */
	assert_status(q_resume(q), Q_OK);
	await_gate_waiters(2);
	assert_status(q_stop(q, 1), Q_ERR_TIMEOUT);
	await_finished(q, MESSAGES - 2);
	assert_int_equal(stats_of(q).cancelled + started(), MESSAGES);
	assert_true(stats_of(q).cancelled >= MESSAGES / 2);
	open_gate();
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_int_equal(stats_of(q).finished, MESSAGES);
	q_shutdown(q);
}

static void a_held_message_can_be_cancelled_and_expires(void **state)
{
	EnqueueOptions soon = { .tag = 1, .deadline_ns = gq__now_ns() + 1 };
	GpuQueue *q;
	uint64_t id, late;

	(void)state;
	cpu_device_only("it is of the CPU device's consumers");
	q = make_paused(MESSAGES, 2);
	send_op(q, OP_GATE, 0, NULL, 0);
	late = send_with(q, &soon, "x", 1);
	id = send_op(q, OP_ECHO, 2, NULL, 0);
	for (uint32_t i = 3; i < 8; i++)
		send_op(q, OP_GATE, i, NULL, 0);
	for (uint32_t i = 8; i < MESSAGES; i++)
		send_op(q, OP_GATE, i, NULL, 0);
	assert_status(q_resume(q), Q_OK);
	await_gate_waiters(2); /* with one at the first, 1 and 2 are held, or have been taken */
	q_cancel(q, id);
	open_gate();
	assert_status(q_wait(q, late, LONG_MS), Q_OK);
	await_finished(q, MESSAGES);
	assert_int_equal(stats_of(q).expired, 1);
	q_shutdown(q);
}

static uint32_t when_started(uint64_t tag)
{
	uint32_t i = 0;

	while (i < started() && started_tag(i) != tag)
		i++;
	assert_true(i < started());
	return i;
}

static void classes_are_strict_although_messages_are_held(void **state)
{
	const EnqueueOptions urgent = { .tag = 1000, .priority = Q_PRIORITY_URGENT };
	const EnqueueOptions low = { .tag = 2000, .priority = Q_PRIORITY_LOW };
	GpuQueue *q;

	(void)state;
	cpu_device_only("it is of the CPU device's consumers");
	q = make_paused(2 * MESSAGES, 2);
	for (uint32_t i = 0; i < MESSAGES; i++)
		send_op(q, i % 8 == 0 && i < 16 ? OP_GATE : OP_ECHO, i, NULL, 0);
	assert_status(q_resume(q), Q_OK);
	await_gate_waiters(2);
	send_with(q, &low, NULL, 0);
	send_with(q, &urgent, NULL, 0);
	open_gate();
	await_finished(q, MESSAGES + 2);
	/* Two consumers: the other may have started one message between this one's claim and its
	 * start. */
	assert_in_range(when_started(1000), 2, 4);
	assert_in_range(when_started(2000), MESSAGES, MESSAGES + 1);
	q_shutdown(q);
}

/*
 * One of four consumers is stuck with its hand full, and the others never run out of work. Each of
 * them takes a held message after 256 claims, so the seventh of those held has started before
 * 6 * 257 + 3 * 256 others have.
 */
static void what_is_held_is_passed_over_for_a_bounded_number_of_others(void **state)
{
	enum { MANY = 4096, BOUND = 6 * 260 + 3 * 260 };
	GpuQueue *q;

	(void)state;
	cpu_device_only("it is of the CPU device's consumers");
	q = make_paused(MANY, 4);
	send_all(q, MANY, MANY);
	assert_status(q_resume(q), Q_OK);
	await_finished(q, MANY - 1);
	for (uint64_t tag = 1; tag < MANY - BOUND - 100; tag++)
		assert_in_range(when_started(tag), 0, tag + BOUND);
	open_gate();
	await_finished(q, MANY);
	q_shutdown(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_held_comes_back_once_and_in_order),
		cmocka_unit_test(a_share_leaves_as_much_for_each_other_consumer),
		cmocka_unit_test(many_are_claimed_in_order_and_no_more_than_there_are),
		cmocka_unit_test(what_a_stuck_consumer_holds_is_run_by_another),
		cmocka_unit_test(a_stop_that_gives_up_cancels_what_is_held),
		cmocka_unit_test(a_held_message_can_be_cancelled_and_expires),
		cmocka_unit_test(classes_are_strict_although_messages_are_held),
		cmocka_unit_test(what_is_held_is_passed_over_for_a_bounded_number_of_others),
	};

	return cmocka_run_group_tests_name("hand", tests, NULL, NULL);
}
