/* SPDX-License-Identifier: Apache-2.0 */
/* stress_cancel.c - a cancel that was accepted in time is honoured, whoever cancels beside it. */
#include "stress.h"

#include <inttypes.h>
#include <sched.h>

enum { CANCELLERS = 4 };

struct late {
	GpuQueue *q;
	uint64_t id;   /* atomic: the message to cancel, again and again */
	uint32_t quit; /* atomic */
};

/* Cancels what is alive now; by the time it is written down another may have the slot. */
static void *cancel_all_the_time(void *arg)
{
	struct late *late = arg;

	while (get(late->quit) == 0) {
		QueueStatus status = q_cancel(late->q, get(late->id));

		must(status == Q_OK || status == Q_ERR_NOT_FOUND, "q_cancel gave %s",
		     q_status_string(status));
	}
	return NULL;
}

static void an_accepted_cancel_is_not_undone_by_one_for_an_older_message(void **state)
{
	const uint32_t rounds = stress_scaled(300);
	struct late late = { 0 };
	pthread_t thread[CANCELLERS];
	struct rng r = rng_of(5);
	struct ledger l;

	(void)state;
	ledger_begin(&l, 2 * rounds, 16, 16);
	late.q = ledger_queue(&l, 1, 1, 1, UINT32_MAX);
	for (uint32_t i = 0; i < CANCELLERS; i++)
		thread[i] = stress_thread(cancel_all_the_time, &late);
	for (uint32_t n = 0; n < rounds; n++) {
		QueueStatus status;
		size_t len = 0;
		uint64_t id = ledger_send(&l, late.q, 2 * n, OP_NORMAL, 0);

		if (n % 16 == 0)
			stress_phase(late.q, "round %" PRIu32 " of %" PRIu32, n, rounds);
		put(late.id, id);
		if (rng_one_in(&r, 2))
			sched_yield();
		must_be(Q_OK, q_wait(late.q, id, UINT32_MAX));
		must_be(Q_OK, q_pause(late.q, UINT32_MAX)); /* before the next one starts */
		must_be(Q_OK, q_release(late.q, id));

		id = ledger_send(&l, late.q, 2 * n + 1, OP_NORMAL, 0);
		must_be(Q_OK, q_cancel(late.q, id));
		for (uint32_t i = rng_below(&r, 4); i > 0; i--)
			sched_yield();
		must_be(Q_OK, q_resume(late.q));
		must_be(Q_OK, q_wait(late.q, id, UINT32_MAX));
		status = q_try_dequeue_result(late.q, id, NULL, &len);
		must(status == Q_ERR_CANCELLED && ledger_runs(&l, 2 * n + 1) == 0,
		     "cancelled before it started, the message ended with %s after %" PRIu32
		     " runs",
		     q_status_string(status), ledger_runs(&l, 2 * n + 1));
	}
	put(late.quit, 1);
	for (uint32_t i = 0; i < CANCELLERS; i++)
		stress_join(thread[i]);
	q_shutdown(late.q);
	ledger_end(&l);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_accepted_cancel_is_not_undone_by_one_for_an_older_message),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.cancel", tests, NULL, NULL);
}
