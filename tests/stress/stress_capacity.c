/* SPDX-License-Identifier: Apache-2.0 */
/* stress_capacity.c - exactly `capacity` messages, whoever holds them and for how long. */
#include "stress.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>

/* ---- a released slot is free ----------------------------------------------------------------- */

struct holder {
	GpuQueue *q;
	struct ledger *l;
	uint32_t number, turns;
	uint64_t stream;
};

/* Holds one slot at a time, and so never finds the queue full. */
static void *hold_one_slot_at_a_time(void *arg)
{
	struct holder *h = arg;
	struct rng r = rng_of(h->stream);
	uint8_t buffer[64];

	for (uint32_t n = 0; n < h->turns; n++) {
		const uint32_t number = h->number + n;
		const uint32_t len = ledger_length(h->l, number);
		EnqueueOptions o = { .priority = rng_below(&r, 5), .tag = number + UINT64_C(1) };
		uint32_t how = rng_below(&r, 6);
		QueueStatus status;
		uint64_t id = 0;
		void *payload;

		ledger_write(h->l, number, buffer, len);
		if (how == 0) {
			status = q_reserve(h->q, len, &o, &payload, &id, 0);
			must(status == Q_OK, "a thread that holds no slot got %s from q_reserve",
			     q_status_string(status));
			must_be(Q_OK, q_abort(h->q, id));
			continue;
		}
		o.flags = how == 1 ? Q_ENQUEUE_DISCARD : 0;
		status = q_enqueue_ex(h->q, buffer, len, &o, &id, 0);
		must(status == Q_OK, "a thread that holds no slot got %s from q_enqueue_ex",
		     q_status_string(status));
		if (how == 1) {
			/* Finished, so its slot is free: not only soon. */
			status = q_wait(h->q, id, UINT32_MAX);
			must(status == Q_OK || status == Q_ERR_NOT_FOUND, "q_wait gave %s",
			     q_status_string(status));
			continue;
		}
		if (how == 2)
			while ((status = q_release(h->q, id)) == Q_ERR_NOT_READY)
				sched_yield();
		else if ((status = q_wait(h->q, id, UINT32_MAX)) == Q_OK)
			status = q_release(h->q, id);
		must(status == Q_OK, "taking it gave %s", q_status_string(status));
	}
	return NULL;
}

static void a_thread_that_holds_no_slot_never_finds_the_queue_full(void **state)
{
	static const uint64_t starts[] = { 1, (UINT64_C(1) << 32) - 3, 0 - UINT64_C(3) };
	const uint32_t turns = stress_scaled(20000);

	(void)state;
	for (uint32_t capacity = 1; capacity <= 8; capacity *= 2) {
		for (uint32_t s = 0; s < 3; s++) {
			struct holder h[8];
			pthread_t thread[8];
			struct ledger l;
			GpuQueue *q;

			ledger_begin(&l, capacity * turns, 64, 64);
			q = ledger_queue(&l, capacity, 1 + s, starts[s], 0);
			stress_phase(q, "capacity %" PRIu32 ", start %#" PRIx64, capacity,
				     starts[s]);
			for (uint32_t i = 0; i < capacity; i++) {
				h[i] = (struct holder){ q, &l, i * turns, turns, 8 * s + i };
				thread[i] = stress_thread(hold_one_slot_at_a_time, &h[i]);
			}
			for (uint32_t i = 0; i < capacity; i++)
				stress_join(thread[i]);
			q_shutdown(q);
			ledger_end(&l);
		}
	}
}

/* ---- a result that nobody takes -------------------------------------------------------------- */

static void a_million_others_pass_a_result_that_is_never_taken(void **state)
{
	enum { CAPACITY = 64, BATCH = 32 };
	const uint32_t total = stress_scaled(1000000);
	uint64_t kept, ids[BATCH];
	Completion done[CAPACITY];
	EnqueueItem items[BATCH];
	struct ledger l;
	uint32_t sent = 0, got = 0;
	uint8_t result[64];
	size_t len = sizeof(result);
	uint8_t payload[BATCH][16];
	GpuQueue *q;

	(void)state;
	ledger_begin(&l, total + BATCH + 1, 16, 16);
	q = ledger_queue(&l, CAPACITY, 1, (UINT64_C(1) << 32) - 3, 0);
	kept = ledger_send(&l, q, total + BATCH, OP_NORMAL, 0);
	must_be(Q_OK, q_wait(q, kept, UINT32_MAX));
	while (got < total) {
		size_t n, accepted;

		if (got % 65536 < BATCH)
			stress_phase(q, "%" PRIu32 " of %" PRIu32 " have passed", got, total);
		for (uint32_t i = 0; i < BATCH && sent + i < total; i++) {
			ledger_write(&l, sent + i, payload[i], 16);
			items[i] = (EnqueueItem){ payload[i], 16 };
		}
		if (sent < total) {
			QueueStatus status = q_enqueue_batch(
				q, items, total - sent < BATCH ? total - sent : BATCH, ids,
				&accepted, 0);

			must(status == Q_OK || status == Q_ERR_FULL, "a batch gave %s",
			     q_status_string(status));
			sent += (uint32_t)accepted;
		}
		must_be(Q_OK, q_wait_any(q, UINT32_MAX));
		must_be(Q_OK, q_poll_results(q, done, CAPACITY, &n));
		for (size_t i = 0; i < n; i++) {
			ids[0] = done[i].msg_id;
			must(done[i].status == Q_OK, "a message ended %s",
			     q_status_string(done[i].status));
			ledger_read(&l, done[i].result, done[i].result_len);
			if (ids[0] == kept)
				continue;
			must_be(Q_OK, q_release(q, ids[0]));
			got++;
		}
	}
	must(got == total, "%" PRIu32 " results of %" PRIu32, got, total);
	must_be(Q_OK, q_try_dequeue_result(q, kept, result, &len));
	must(ledger_read(&l, result, len) == total + BATCH, "the kept result is another's");
	ledger_settle(&l);
	for (uint32_t i = 0; i < total; i++)
		must(l.runs[i] == 1, "message %" PRIu32 " ran %" PRIu32 " times", i, l.runs[i]);
	q_shutdown(q);
	ledger_end(&l);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_that_holds_no_slot_never_finds_the_queue_full),
		cmocka_unit_test(a_million_others_pass_a_result_that_is_never_taken),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.capacity", tests, NULL, NULL);
}
