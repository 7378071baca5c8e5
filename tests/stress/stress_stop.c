/* SPDX-License-Identifier: Apache-2.0 */
/* stress_stop.c - stop and shutdown: nothing accepted is lost, nobody who waits is forgotten. */
#include "stress.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- a processor that hangs ------------------------------------------------------------------ */

static void expect_cancelled(GpuQueue *q, const uint64_t *ids, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		QueueStatus how;

		must_be(Q_OK, q_peek_result(q, ids[i], NULL, NULL, &how));
		must(how == Q_ERR_CANCELLED, "a message that had not started ended %s",
		     q_status_string(how));
	}
}

static void a_stop_times_out_on_a_hung_processor_and_cancels_what_has_not_started(void **state)
{
	static const uint32_t capacities[] = { 1, 2, 4, 64 };
	const uint32_t rounds = stress_scaled(100);
	struct rng r = rng_of(11);

	(void)state;
	for (uint32_t n = 0; n < rounds; n++) {
		const uint32_t capacity = capacities[n % 4];
		uint32_t hung = 1 + rng_below(&r, capacity < 3 ? capacity : 3);
		uint32_t others = capacity - hung == 0 ? 0 : rng_below(&r, capacity - hung);
		const bool reserve = hung + others < capacity;
		uint64_t ids[64], reserved = 0;
		struct ledger l;
		QueueStats stats;
		QueueStatus how;
		GpuQueue *q;
		void *payload;

		ledger_begin(&l, capacity, 64, 64);
		q = ledger_queue(&l, capacity, hung, 0 - UINT64_C(3), 0);
		stress_phase(q,
			     "round %" PRIu32 ": capacity %" PRIu32 ", %" PRIu32 " hang, %" PRIu32
			     " wait behind them",
			     n, capacity, hung, others);
		for (uint32_t i = 0; i < hung; i++)
			ids[i] = ledger_send(&l, q, i, OP_GATED, 0);
		must_come(ledger_gated(&l) == hung, "the first messages do not start");
		for (uint32_t i = hung; i < hung + others; i++)
			ids[i] = ledger_send(&l, q, i, OP_NORMAL, 0);
		if (reserve)
			must_be(Q_OK, q_reserve(q, 16, NULL, &payload, &reserved, 0));

		must_be(Q_ERR_TIMEOUT, q_stop(q, rng_below(&r, 3)));
		for (uint32_t i = 0; i < hung; i++)
			must_be(Q_ERR_NOT_READY, q_peek_result(q, ids[i], NULL, NULL, &how));
		/* On the CUDA device only a consumer can cancel, and here all of them hang. */
		if (stress_device() == Q_DEVICE_CPU)
			expect_cancelled(q, ids + hung, others);
		if (reserve) {
			must_be(Q_ERR_SHUTDOWN, q_wait(q, reserved, UINT32_MAX));
			must_be(Q_ERR_SHUTDOWN, q_commit(q, reserved));
			must_be(Q_OK, q_abort(q, reserved));
		}
		must_be(Q_ERR_TIMEOUT, q_drain(q, 0));
		must_be(Q_ERR_TIMEOUT, q_stop(q, 0));
		ledger_open(&l, UINT32_MAX);
		must_be(Q_OK, q_stop(q, UINT32_MAX));
		expect_cancelled(q, ids + hung, others);
		for (uint32_t i = 0; i < hung; i++) {
			uint8_t result[64];
			size_t len = sizeof(result);

			must_be(Q_OK, q_try_dequeue_result(q, ids[i], result, &len));
			must(ledger_read(&l, result, len) == i, "result of another message");
		}
		must_be(Q_OK, q_stats(q, &stats));
		must(stats.enq_count == hung + others && stats.finished == hung + others &&
			     stats.cancelled == others && stats.deq_count == hung &&
			     stats.queue_depth == others && stats.reserved_now == 0,
		     "accepted %" PRIu64 ", finished %" PRIu64 ", cancelled %" PRIu64
		     ", taken %" PRIu64,
		     stats.enq_count, stats.finished, stats.cancelled, stats.deq_count);
		q_shutdown(q);
		ledger_end(&l);
	}
}

/* Nobody is told when an abandoned consumer has ended, so what it uses is never freed. */
static struct outlived {
	struct outlived *next;
	struct ledger ledger;
} * outlived;

static void a_shutdown_that_times_out_leaves_the_memory_to_the_last_consumer(void **state)
{
	const uint32_t rounds = stress_scaled(60);
	struct rng r = rng_of(12);

	(void)state;
	for (uint32_t n = 0; n < rounds; n++) {
		const uint32_t hung = 1 + rng_below(&r, 3);
		struct outlived *o = calloc(1, sizeof(*o));
		struct ledger *l = &o->ledger;
		QueueConfig config = { .capacity = 8,
				       .slot_bytes = 64,
				       .device = stress_device(),
				       .consumers = 3,
				       .shutdown_timeout_ms = 1,
				       .processor = "ledger",
				       .processor_data = &l->data,
				       .processor_data_bytes = sizeof(l->data) };
		GpuQueue *q;

		stress_phase(NULL, "round %" PRIu32 ": %" PRIu32 " of 3 consumers hang", n, hung);
		o->next = outlived;
		outlived = o;
		ledger_begin(l, 8, 64, 64);
		q = q_init(&config);
		must(q != NULL, "%s", q_last_error());
		if (n % 2 == 0)
			must(q_completion_fd(q) >= 0, "%s", q_last_error());
		for (uint32_t i = 0; i < hung; i++)
			ledger_send(l, q, i, OP_GATED, 0);
		must_come(ledger_gated(l) == hung, "the messages do not start");
		q_shutdown(q);
		must(gq__alloc_live_bytes() != 0, "the memory is gone while processors use it");
		ledger_open(l, UINT32_MAX);
		must_come(gq__alloc_live_bytes() == 0, "%zu bytes are left",
			  gq__alloc_live_bytes());
	}
}

/* ---- who waits ------------------------------------------------------------------------------- */

enum wait_kind {
	WAIT_ENQUEUE,
	WAIT_BATCH,
	WAIT_RESERVE,
	WAIT_RESERVATION,
	WAIT_PUBLISHED,
	WAIT_ANY,
	WAIT_POLL_ANY,
	WAIT_KINDS
};

struct sleeper {
	GpuQueue *q;
	uint64_t reserved;
	enum wait_kind kind;
	uint32_t started; /* atomic */
};

static void *sleep_until_stop(void *arg)
{
	struct sleeper *s = arg;
	EnqueueItem items[2] = { { NULL, 0 }, { NULL, 0 } };
	void *payload;
	uint64_t id;
	size_t n;

	put(s->started, 1);
	switch (s->kind) {
	case WAIT_ENQUEUE:
		must_be(Q_ERR_SHUTDOWN, q_enqueue(s->q, NULL, 0, NULL, UINT32_MAX));
		break;
	case WAIT_BATCH:
		must_be(Q_ERR_SHUTDOWN, q_enqueue_batch(s->q, items, 2, NULL, &n, UINT32_MAX));
		must(n == 0, "%zu accepted", n);
		break;
	case WAIT_RESERVE:
		must_be(Q_ERR_SHUTDOWN, q_reserve(s->q, 0, NULL, &payload, &id, UINT32_MAX));
		break;
	case WAIT_RESERVATION:
		must_be(Q_ERR_SHUTDOWN, q_wait(s->q, s->reserved, UINT32_MAX));
		break;
	case WAIT_PUBLISHED:
		must_be(Q_ERR_SHUTDOWN, q_wait_enqueue(s->q, s->reserved, UINT32_MAX));
		break;
	default:
		must_be(Q_ERR_SHUTDOWN, q_wait_any(s->q, UINT32_MAX));
	}
	return NULL;
}

static void *stop_for_ever(void *arg)
{
	must_be(Q_OK, q_stop(arg, UINT32_MAX));
	return NULL;
}

/* A full queue with an open reservation and nothing left to poll: everything waits for ever. */
static void a_stop_wakes_everybody_who_can_not_succeed_any_more(void **state)
{
	static const uint32_t capacities[] = { 1, 2, 4, 64 };
	const uint32_t rounds = stress_scaled(800);
	struct rng r = rng_of(13);

	(void)state;
	for (uint32_t n = 0; n < rounds; n++) {
		const uint32_t capacity = capacities[n % 4], stoppers = 1 + rng_below(&r, 3);
		struct sleeper s[WAIT_KINDS];
		pthread_t thread[WAIT_KINDS], stopper[3];
		uint64_t ids[64], reserved;
		struct ledger l;
		void *payload;
		size_t polled;
		GpuQueue *q;

		ledger_begin(&l, capacity, 16, 16);
		q = ledger_queue(&l, capacity, 2, 1, 0);
		stress_phase(q,
			     "round %" PRIu32 " of %" PRIu32 ": capacity %" PRIu32 ", %" PRIu32
			     " stoppers",
			     n, rounds, capacity, stoppers);
		for (uint32_t i = 0; i < capacity - 1; i++)
			ledger_send(&l, q, i, OP_NORMAL, 0);
		must_be(Q_OK, q_drain(q, UINT32_MAX));
		for (uint32_t sum = 0; sum < capacity - 1; sum += (uint32_t)polled)
			must_be(Q_OK, q_poll_completions(q, ids, 64, &polled));
		must_be(Q_OK, q_reserve(q, 16, NULL, &payload, &reserved, 0));
		for (uint32_t i = 0; i < WAIT_KINDS; i++) {
			s[i] = (struct sleeper){ .q = q, .reserved = reserved, .kind = i };
			thread[i] = stress_thread(sleep_until_stop, &s[i]);
		}
		for (uint32_t i = 0; i < WAIT_KINDS; i++)
			must_come(get(s[i].started) != 0, "threads do not start");
		stress_nap_us(rng_below(&r, 400));
		for (uint32_t i = 0; i < stoppers; i++)
			stopper[i] = stress_thread(stop_for_ever, q);
		for (uint32_t i = 0; i < stoppers; i++)
			stress_join(stopper[i]);
		for (uint32_t i = 0; i < WAIT_KINDS; i++)
			stress_join(thread[i]); /* the watchdog says who does not come */
		must_be(Q_OK, q_abort(q, reserved));
		q_shutdown(q);
		ledger_end(&l);
	}
}

static void *pause_for_ever(void *arg)
{
	must_be(Q_ERR_SHUTDOWN, q_pause(arg, UINT32_MAX));
	return NULL;
}

/* The pause cannot complete, for a message is being processed until the stop has begun. */
static void a_stop_ends_a_pause_that_waits(void **state)
{
	const uint32_t rounds = stress_scaled(400);
	struct rng r = rng_of(14);

	(void)state;
	for (uint32_t n = 0; n < rounds; n++) {
		pthread_t pauser, stopper;
		struct ledger l;
		QueueInfo info;
		GpuQueue *q;

		ledger_begin(&l, 4, 16, 16);
		q = ledger_queue(&l, 4, 2, 1, 0);
		stress_phase(q, "round %" PRIu32 " of %" PRIu32, n, rounds);
		ledger_send(&l, q, 0, OP_GATED, 0);
		must_come(ledger_gated(&l) == 1, "the message does not start");
		ledger_send(&l, q, 1, OP_NORMAL, 0);
		pauser = stress_thread(pause_for_ever, q);
		stress_nap_us(rng_below(&r, 300));
		stopper = stress_thread(stop_for_ever, q);
		do
			must_be(Q_OK, q_info(q, &info));
		while (info.state != Q_STATE_STOPPING);
		stress_join(pauser);
		ledger_open(&l, UINT32_MAX);
		stress_join(stopper);
		ledger_settle(&l);
		must(l.runs[0] == 1 && l.runs[1] == 1, "accepted, and not processed");
		q_shutdown(q);
		ledger_end(&l);
	}
}

/* ---- many queues ----------------------------------------------------------------------------- */

static void a_shutdown_processes_what_was_accepted_and_frees_everything(void **state)
{
	const uint32_t rounds = stress_scaled(1500);
	struct rng r = rng_of(15);

	(void)state;
	for (uint32_t n = 0; n < rounds; n++) {
		const uint32_t capacity = 1u << rng_below(&r, 6);
		uint32_t sent = rng_below(&r, capacity + 1);
		struct ledger l;
		uint64_t id;
		void *payload;
		GpuQueue *q;

		ledger_begin(&l, capacity, 64, 64);
		q = ledger_queue(&l, capacity, 1 + rng_below(&r, 4), rng_next(&r),
				 rng_below(&r, 2));
		stress_phase(q,
			     "queue %" PRIu32 " of %" PRIu32 ": capacity %" PRIu32 ", %" PRIu32
			     " messages",
			     n, rounds, capacity, sent);
		if (rng_one_in(&r, 3))
			must(q_completion_fd(q) >= 0, "%s", q_last_error());
		if (rng_one_in(&r, 3))
			must_be(Q_OK, q_pause(q, UINT32_MAX));
		for (uint32_t i = 0; i < sent; i++)
			ledger_send(&l, q, i, OP_NORMAL, rng_one_in(&r, 3) ? Q_ENQUEUE_DISCARD : 0);
		if (sent < capacity && rng_one_in(&r, 2))
			must_be(Q_OK, q_reserve(q, 16, NULL, &payload, &id, UINT32_MAX));
		if (rng_one_in(&r, 3))
			stress_nap_us(rng_below(&r, 200));
		if (rng_one_in(&r, 3))
			must_be(Q_OK, q_stop(q, UINT32_MAX));
		q_shutdown(q);
		ledger_settle(&l);
		for (uint32_t i = 0; i < sent; i++)
			must(l.runs[i] == 1,
			     "message %" PRIu32 " of %" PRIu32 " ran %" PRIu32 " times", i, sent,
			     l.runs[i]);
		must(gq__alloc_live_bytes() == 0, "%zu bytes are left", gq__alloc_live_bytes());
		ledger_end(&l);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_stop_times_out_on_a_hung_processor_and_cancels_what_has_not_started),
		cmocka_unit_test(a_shutdown_that_times_out_leaves_the_memory_to_the_last_consumer),
		cmocka_unit_test(a_stop_wakes_everybody_who_can_not_succeed_any_more),
		cmocka_unit_test(a_stop_ends_a_pause_that_waits),
		cmocka_unit_test(a_shutdown_processes_what_was_accepted_and_frees_everything),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.stop", tests, NULL, NULL);
}
