/* SPDX-License-Identifier: Apache-2.0 */
/* stress_order.c - what one thread enqueues in one class starts in that order; classes are ordered
 * strictly but for the documented guard. */
#include "stress.h"

#include <inttypes.h>
#include <stdlib.h>

enum { PRODUCERS = 4 };

struct producer {
	GpuQueue *q;
	struct ledger *l;
	uint32_t first, count;
	uint64_t stream;
};

static void *produce_in_order(void *arg)
{
	struct producer *p = arg;
	struct rng r = rng_of(p->stream);
	uint8_t buffer[32];

	for (uint32_t n = 0; n < p->count;) {
		const uint32_t number = p->first + n;
		EnqueueOptions o = { .opcode = OP_ORDER,
				     .priority = number % 5,
				     .tag = number + UINT64_C(1),
				     .flags = Q_ENQUEUE_DISCARD };
		uint32_t len = ledger_length(p->l, number);
		void *payload;
		uint64_t id;

		if (rng_one_in(&r, 4)) {
			must_be(Q_OK, q_reserve(p->q, len, &o, &payload, &id, UINT32_MAX));
			ledger_write(p->l, number, payload, len);
			must_be(Q_OK, q_commit(p->q, id));
		} else {
			ledger_write(p->l, number, buffer, len);
			must_be(Q_OK, q_enqueue_ex(p->q, buffer, len, &o, NULL, UINT32_MAX));
		}
		n++;
	}
	return NULL;
}

static uint32_t class_of(uint32_t number)
{
	return number % 5 == 0 ? 2 : number % 5;
}

static void each_producers_messages_start_in_order_within_a_class(void **state)
{
	static const uint32_t capacities[] = { 1, 2, 4, 64 };
	static const uint64_t starts[] = { 1, (UINT64_C(1) << 32) - 3, 0 - UINT64_C(3) };
	const uint32_t count = stress_scaled(10000);

	(void)state;
	for (uint32_t n = 0; n < 12; n++) {
		const uint32_t total = PRODUCERS * count;
		uint64_t last[PRODUCERS][5] = { { 0 } };
		struct producer p[PRODUCERS];
		pthread_t thread[PRODUCERS];
		struct ledger l;
		GpuQueue *q;

		ledger_begin(&l, total, 32, 16);
		/* One consumer: the order of starting is the order of claiming. */
		q = ledger_queue(&l, capacities[n % 4], 1, starts[n / 4], 0);
		stress_phase(q, "capacity %" PRIu32 ", start %#" PRIx64, capacities[n % 4],
			     starts[n / 4]);
		for (uint32_t i = 0; i < PRODUCERS; i++) {
			p[i] = (struct producer){ q, &l, i * count, count, n * PRODUCERS + i };
			thread[i] = stress_thread(produce_in_order, &p[i]);
		}
		for (uint32_t i = 0; i < PRODUCERS; i++)
			stress_join(thread[i]);
		must_be(Q_OK, q_stop(q, UINT32_MAX));
		ledger_settle(&l);
		must(l.n_order == total, "%" PRIu32 " of %" PRIu32 " messages started", l.n_order,
		     total);
		for (uint32_t i = 0; i < total; i++) {
			const uint32_t number = (uint32_t)(l.order[i] - 1);
			uint64_t *before = &last[number / count][class_of(number)];

			must(*before < l.order[i],
			     "message %" PRIu32 " started after %" PRIu64
			     ", which the same thread enqueued later in the same class",
			     number, *before - 1);
			*before = l.order[i];
		}
		q_shutdown(q);
		ledger_end(&l);
	}
}

/* With everything waiting already, one consumer passes a lower class over GQ_PASS_LIMIT times. */
static void a_waiting_class_is_passed_over_a_bounded_number_of_times(void **state)
{
	enum { EACH = 1000, TOTAL = 4 * EACH };
	uint32_t passed = 0, low = 0;
	struct ledger l;
	GpuQueue *q;

	(void)state;
	ledger_begin(&l, TOTAL, 32, 16);
	q = ledger_queue(&l, 4096, 1, 1, 0);
	stress_phase(q, "%d messages of each class", EACH);
	must_be(Q_OK, q_pause(q, UINT32_MAX));
	for (uint32_t i = 0; i < TOTAL; i++) {
		uint8_t buffer[32];
		EnqueueOptions o = { .opcode = OP_ORDER,
				     .priority = 1 + i / EACH,
				     .tag = i + UINT64_C(1),
				     .flags = Q_ENQUEUE_DISCARD };

		ledger_write(&l, i, buffer, ledger_length(&l, i));
		must_be(Q_OK, q_enqueue_ex(q, buffer, ledger_length(&l, i), &o, NULL, 0));
	}
	must_be(Q_OK, q_resume(q));
	must_be(Q_OK, q_drain(q, UINT32_MAX));
	ledger_settle(&l);
	for (uint32_t i = 0; i < TOTAL; i++) {
		if (l.order[i] <= EACH) {
			low++;
			passed = 0;
		} else if (low < EACH) {
			must(++passed <= GQ_PASS_LIMIT + GQ_CLASSES,
			     "the low class was passed over %" PRIu32 " times", passed);
		}
	}
	must(low == EACH, "%" PRIu32 " of the low class started", low);
	q_shutdown(q);
	ledger_end(&l);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_producers_messages_start_in_order_within_a_class),
		cmocka_unit_test(a_waiting_class_is_passed_over_a_bounded_number_of_times),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.order", tests, NULL, NULL);
}
