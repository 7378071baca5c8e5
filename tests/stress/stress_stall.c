/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_stall.c - a thread that stands still, wherever in the protocol it is, delays nobody else.
 *
 * The first tests drive the rings alone and run in every build; those on a whole queue need the
 * windows of a library built with GPUQ_CHAOS.
 */
#if !defined(GPUQ_CHAOS)
#define GPUQ_CHAOS
#endif
#define gq__chaos ring_window /* this file's own copy of the protocol */
#include "stress.h"
#undef gq__chaos

#include <inttypes.h>
#include <sched.h>

/* ---- rings alone ----------------------------------------------------------------------------- */

static _Thread_local uint32_t windows_left;
static uint32_t still, go_on; /* atomic */

void ring_window(void)
{
	if (windows_left == 0 || --windows_left != 0)
		return;
	bump(still, 1);
	while (get(go_on) == 0)
		stress_nap_us(50);
}

struct putter {
	const struct gq_word_ring *ring;
	uint64_t value;
	uint32_t window; /* stand still in this one; 0: in none */
	uint32_t done;   /* atomic */
};

static void *put_one(void *arg)
{
	struct putter *p = arg;

	windows_left = p->window;
	gq_word_ring_put_one(p->ring, p->value);
	windows_left = 0;
	__atomic_store_n(&p->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* In gq_word_ring_put_one() the first window is before the swap, the second before the tail. */
enum { BEFORE_SWAP = 1, BEFORE_TAIL = 2, MAX_PUTTERS = 16 };

/*
 * A ring of 2^order entries whose taker keeps up. `stalled` putters stand still in `window`, one
 * after the other; the next ones have to get through, a whole lap of them.
 */
static void putters_get_past(uint32_t order, uint64_t start, uint32_t window, uint32_t stalled)
{
	const uint32_t n = stalled + (1u << order) + 1;
	uint64_t entry[8], head = start, tail = start;
	const struct gq_word_ring ring = gq_word_ring_of(entry, &head, &tail, order, 4, 0);
	struct putter p[MAX_PUTTERS];
	pthread_t thread[MAX_PUTTERS];
	bool seen[MAX_PUTTERS] = { false };

	stress_phase(NULL,
		     "a ring of %u from %#" PRIx64 ", %" PRIu32 " putters still in window %" PRIu32,
		     1u << order, start, stalled, window);
	must(n <= MAX_PUTTERS, "too many");
	for (uint64_t i = 0; i < 1u << order; i++)
		entry[(start - (1u << order) + i) & ((1u << order) - 1)] =
			gq_word_ring_tag(&ring, start - (1u << order) + i);
	put(still, 0);
	put(go_on, 0);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot;

		p[i] = (struct putter){ &ring, i, i < stalled ? window : 0, 0 };
		thread[i] = stress_thread(put_one, &p[i]);
		if (i < stalled)
			must_come(get(still) == i + 1,
				  "putter %" PRIu32 " waits for those before it", i);
		else
			must_come(__atomic_load_n(&p[i].done, __ATOMIC_ACQUIRE) != 0,
				  "putter %" PRIu32 " waits for the %" PRIu32
				  " that stand still; tail %" PRIu64,
				  i, stalled, get(tail) - start);
		while ((slot = gq_claim_from(&ring, UINT32_MAX)) != GQ_NONE)
			seen[slot] = true;
		must(seen[i] || (i < stalled && window == BEFORE_SWAP), "value %" PRIu32 " is lost",
		     i);
	}
	put(go_on, 1);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot;

		stress_join(thread[i]);
		while ((slot = gq_claim_from(&ring, UINT32_MAX)) != GQ_NONE)
			seen[slot] = true;
	}
	for (uint32_t i = 0; i < n; i++)
		must(seen[i], "value %" PRIu32 " is lost", i);
	must(tail - start == n, "the tail came to %" PRIu64 " of %" PRIu32, tail - start, n);
}

static const uint64_t starts[] = { 1, (UINT64_C(1) << 32) - 3, 0 - UINT64_C(3) };

static void a_putter_that_stands_still_before_its_swap_delays_nobody(void **state)
{
	(void)state;
	for (uint32_t order = 0; order < 3; order++)
		for (uint32_t s = 0; s < 3; s++) /* fewer than the ring has entries: conservation */
			for (uint32_t stalled = 1; stalled <= 1u << order; stalled++)
				putters_get_past(order, starts[s], BEFORE_SWAP, stalled);
}

static void putters_that_stand_still_before_the_tail_delay_nobody(void **state)
{
	(void)state;
	for (uint32_t order = 0; order < 3; order++)
		for (uint32_t s = 0; s < 3; s++)
			for (uint32_t stalled = 1; stalled <= (1u << order) + 2; stalled++)
				putters_get_past(order, starts[s], BEFORE_TAIL, stalled);
}

/* ---- a whole queue --------------------------------------------------------------------------- */

enum call {
	CALL_ENQUEUE,
	CALL_BATCH,
	CALL_RESERVE,
	CALL_COMMIT,
	CALL_ABORT,
	CALL_RELEASE,
	CALL_WAIT,
	CALLS
};

struct victim {
	GpuQueue *q;
	struct ledger *l;
	enum call call;
	uint32_t window, number;
	uint32_t done;  /* atomic */
	uint32_t stood; /* the window came */
};

/* Makes one call and stands still in its n-th window, if it has so many. */
static void *make_one_call(void *arg)
{
	struct victim *v = arg;
	uint8_t payload[2][64];
	EnqueueItem items[2];
	uint64_t ids[2] = { 0, 0 };
	void *place = NULL;
	size_t n;

	for (uint32_t i = 0; i < 2; i++) {
		items[i] = (EnqueueItem){ payload[i], ledger_length(v->l, v->number + i) };
		ledger_write(v->l, v->number + i, payload[i], (uint32_t)items[i].len);
	}
	if (v->call == CALL_COMMIT || v->call == CALL_ABORT) {
		must_be(Q_OK, q_reserve(v->q, items[0].len, NULL, &place, &ids[0], UINT32_MAX));
		ledger_write(v->l, v->number, place, (uint32_t)items[0].len);
	}
	if (v->call == CALL_RELEASE || v->call == CALL_WAIT)
		ids[0] = ledger_send(v->l, v->q, v->number, OP_NORMAL, 0);
	if (v->call == CALL_RELEASE)
		must_be(Q_OK, q_wait(v->q, ids[0], UINT32_MAX));

	stress_stall_self(v->window);
	switch (v->call) {
	case CALL_ENQUEUE:
		must_be(Q_OK, q_enqueue(v->q, payload[0], items[0].len, &ids[0], UINT32_MAX));
		break;
	case CALL_BATCH:
		must_be(Q_OK, q_enqueue_batch(v->q, items, 2, ids, &n, UINT32_MAX));
		break;
	case CALL_RESERVE:
		must_be(Q_OK, q_reserve(v->q, 16, NULL, &place, &ids[0], UINT32_MAX));
		break;
	case CALL_COMMIT:
		must_be(Q_OK, q_commit(v->q, ids[0]));
		break;
	case CALL_ABORT:
		must_be(Q_OK, q_abort(v->q, ids[0]));
		break;
	case CALL_RELEASE:
		must_be(Q_OK, q_release(v->q, ids[0]));
		break;
	default:
		must_be(Q_OK, q_wait(v->q, ids[0], UINT32_MAX));
	}
	stress_stall_self(0);

	if (v->call == CALL_RESERVE)
		must_be(Q_OK, q_abort(v->q, ids[0]));
	else if (v->call != CALL_ABORT && v->call != CALL_RELEASE)
		for (uint32_t i = 0; i < (v->call == CALL_BATCH ? 2 : 1); i++) {
			must_be(Q_OK, q_wait(v->q, ids[i], UINT32_MAX));
			must_be(Q_OK, q_release(v->q, ids[i]));
		}
	__atomic_store_n(&v->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

enum { ROUND_TRIPS = 40 };

static void round_trips(struct ledger *l, GpuQueue *q, uint32_t number)
{
	for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
		uint64_t id = ledger_send(l, q, number + i, OP_NORMAL, 0);

		must_be(Q_OK, q_wait(q, id, 30000));
		must_be(Q_OK, q_release(q, id));
	}
}

static void stall_one_caller(enum call call, uint32_t capacity, uint32_t idle_park_ms, bool *more,
			     uint32_t window)
{
	struct ledger l;
	struct victim v;
	pthread_t thread;
	GpuQueue *q;

	ledger_begin(&l, 2 + ROUND_TRIPS, 64, 64);
	stress_phase(NULL, "capacity %" PRIu32 ", idle_park_ms %" PRIu32, capacity, idle_park_ms);
	q = ledger_queue(&l, capacity, 2, 0 - UINT64_C(3), idle_park_ms);
	if (idle_park_ms == 0)
		must_come(get(q->work.word) >> 32 == 2, "the consumers do not park");
	else if (idle_park_ms != UINT32_MAX)
		stress_nap_us(idle_park_ms * 3000); /* a grid leaves; it tells nobody here */
	stress_phase(q, "capacity %" PRIu32 ", call %d stands still in window %" PRIu32, capacity,
		     (int)call, window);
	v = (struct victim){ .q = q, .l = &l, .call = call, .window = window };
	thread = stress_thread(make_one_call, &v);
	must_come(stress_stalled() == 1 || __atomic_load_n(&v.done, __ATOMIC_ACQUIRE) != 0,
		  "the call does not end");
	*more = stress_stalled() == 1;
	round_trips(&l, q, 2);
	stress_stall_end();
	stress_join(thread);
	q_shutdown(q);
	ledger_end(&l);
}

static void stall_every_caller(uint32_t idle_park_ms)
{
	for (uint32_t call = 0; call < CALLS; call++) {
		/* A batch of two holds two slots, others need one more. */
		for (uint32_t capacity = call == CALL_BATCH ? 4 : 2; capacity <= 8; capacity *= 2) {
			bool more = true;

			for (uint32_t window = 1; more && window < 20; window++)
				stall_one_caller((enum call)call, capacity, idle_park_ms, &more,
						 window);
		}
	}
}

static void a_caller_that_stands_still_in_the_protocol_delays_nobody_else(void **state)
{
	(void)state;
	if (!stress_can_stall())
		skip();
	stall_every_caller(UINT32_MAX);
}

static void a_caller_that_stands_still_while_consumers_sleep_delays_nobody_else(void **state)
{
	(void)state;
	if (!stress_can_stall())
		skip();
	stall_every_caller(stress_device() == Q_DEVICE_CPU ? 0 : 1);
}

static void a_consumer_that_stands_still_costs_its_own_message_only(void **state)
{
	(void)state;
	if (!stress_can_stall())
		skip();
	for (uint32_t window = 1; window <= 40; window++) {
		struct ledger l;
		GpuQueue *q;

		ledger_begin(&l, 200 + ROUND_TRIPS, 64, 64);
		q = ledger_queue(&l, 4, 2, 0 - UINT64_C(3), 0);
		stress_phase(q, "a consumer stands still in window %" PRIu32, window);
		stress_stall_named("gpuq-cpu-0", window);
		/* Some message makes it stand still; that one, if it has one, is left to it. */
		for (uint32_t i = 0; i < 200 && stress_stalled() == 0; i++) {
			uint64_t id = ledger_send(&l, q, i, OP_NORMAL, 0);
			QueueStatus status;

			while ((status = q_wait(q, id, 10)) == Q_ERR_TIMEOUT &&
			       stress_stalled() == 0)
				;
			if (status == Q_OK)
				must_be(Q_OK, q_release(q, id));
		}
		/* None is on its way now: whoever stands still from here on holds no message. */
		stress_stall_named("", 0);
		round_trips(&l, q, 200);
		stress_stall_end();
		q_shutdown(q);
		ledger_end(&l);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_putter_that_stands_still_before_its_swap_delays_nobody),
		cmocka_unit_test(putters_that_stand_still_before_the_tail_delay_nobody),
		cmocka_unit_test(a_caller_that_stands_still_in_the_protocol_delays_nobody_else),
		cmocka_unit_test(
			a_caller_that_stands_still_while_consumers_sleep_delays_nobody_else),
		cmocka_unit_test(a_consumer_that_stands_still_costs_its_own_message_only),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.stall", tests, NULL, NULL);
}
