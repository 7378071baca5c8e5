/* SPDX-License-Identifier: Apache-2.0 */
/* stress_wait.c - whoever waits is woken, and what a wait has said holds for the next call. */
#include "stress.h"

#include <inttypes.h>
#include <poll.h>
#include <sched.h>

/* ---- q_wait() and slots that are used again -------------------------------------------------- */

enum { WAITERS = 4 };

struct waiter {
	GpuQueue *q;
	uint64_t id;       /* atomic: wait for this one; 0: nothing to do */
	uint32_t answered; /* atomic */
	uint32_t stall;    /* atomic: stand still before going to sleep */
	uint32_t quit;     /* atomic */
	pthread_t thread;
};

static void *wait_when_told(void *arg)
{
	struct waiter *w = arg;

	while (get(w->quit) == 0) {
		uint64_t id = __atomic_load_n(&w->id, __ATOMIC_ACQUIRE);
		QueueStatus status;

		if (id == 0) {
			sched_yield();
			continue;
		}
		if (get(w->stall) != 0)
			stress_stall_self(1);
		status = q_wait(w->q, id, UINT32_MAX);
		stress_stall_self(0);
		must(status == Q_OK || status == Q_ERR_NOT_FOUND, "q_wait gave %s",
		     q_status_string(status));
		put(w->stall, 0);
		put(w->id, 0);
		__atomic_store_n(&w->answered, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void ask(struct waiter *w, uint64_t id)
{
	put(w->answered, 0);
	__atomic_store_n(&w->id, id, __ATOMIC_RELEASE);
}

static void take_by_id(GpuQueue *q, uint64_t id)
{
	QueueStatus status;

	must_come((status = q_release(q, id)) != Q_ERR_NOT_READY, "id %" PRIu64 " does not finish",
		  id);
	must(status == Q_OK, "q_release gave %s", q_status_string(status));
}

/*
 * A waits for a message; it finishes and is taken; the next message gets the slot and B waits for
 * it. However long that one takes, A has to come back.
 */
static void a_waiter_returns_although_its_slot_is_used_again(void **state)
{
	const uint32_t rounds = stress_scaled(1500);
	struct waiter a[WAITERS] = { 0 }, b = { 0 };
	struct ledger l;
	GpuQueue *q;
	struct rng r = rng_of(1);

	(void)state;
	ledger_begin(&l, 2 * rounds, 64, 64);
	q = ledger_queue(&l, 1, 1, 1, 0);
	b.q = q;
	b.thread = stress_thread(wait_when_told, &b);
	for (uint32_t i = 0; i < WAITERS; i++) {
		a[i].q = q;
		a[i].thread = stress_thread(wait_when_told, &a[i]);
	}
	for (uint32_t n = 0; n < rounds; n++) {
		const bool stall = stress_can_stall() && n % 16 == 0;
		uint64_t id;

		stress_phase(q, "round %" PRIu32 " of %" PRIu32 "%s", n, rounds,
			     stall ? ", a waiter stands still before it sleeps" : "");
		id = ledger_send(&l, q, 2 * n, OP_GATED, 0);
		put(a[0].stall, stall);
		for (uint32_t i = 0; i < WAITERS; i++)
			ask(&a[i], id);
		if (stall)
			must_come(stress_stalled() == 1, "no waiter got as far as to its sleep");
		else
			stress_nap_us(rng_below(&r, 250));
		ledger_open(&l, 2 * n + 2); /* tags are numbers plus one */
		take_by_id(q, id);
		id = ledger_send(&l, q, 2 * n + 1, OP_GATED, 0);
		ask(&b, id);
		if (stall) {
			must_come(get(gq_slot_at(&q->ch, 0)->armed) != 0, "B does not get armed");
			stress_stall_end();
		}
		for (uint32_t i = 0; i < WAITERS; i++)
			must_come(__atomic_load_n(&a[i].answered, __ATOMIC_ACQUIRE) != 0,
				  "waiter %" PRIu32 " sleeps on, though its message has finished "
				  "and been taken; another message has the slot now",
				  i);
		ledger_open(&l, 2 * n + 3);
		must_come(__atomic_load_n(&b.answered, __ATOMIC_ACQUIRE) != 0, "B sleeps on");
		take_by_id(q, id);
	}
	for (uint32_t i = 0; i < WAITERS; i++)
		put(a[i].quit, 1);
	put(b.quit, 1);
	for (uint32_t i = 0; i < WAITERS; i++)
		stress_join(a[i].thread);
	stress_join(b.thread);
	q_shutdown(q);
	ledger_end(&l);
}

/* All of them fall asleep at about the moment when the message finishes; nobody takes it before
 * all are back. */
static void all_who_wait_for_one_message_are_woken(void **state)
{
	const uint32_t rounds = stress_scaled(6000);
	struct waiter a[WAITERS] = { 0 };
	struct ledger l;
	GpuQueue *q;
	struct rng r = rng_of(2);

	(void)state;
	ledger_begin(&l, rounds, 64, 64);
	q = ledger_queue(&l, 1, 1, 1, 0);
	for (uint32_t i = 0; i < WAITERS; i++) {
		a[i].q = q;
		a[i].thread = stress_thread(wait_when_told, &a[i]);
	}
	for (uint32_t n = 0; n < rounds; n++) {
		uint64_t id = ledger_send(&l, q, n, OP_GATED, 0);

		if (n % 64 == 0)
			stress_phase(q, "round %" PRIu32 " of %" PRIu32, n, rounds);
		for (uint32_t i = 0; i < WAITERS; i++)
			ask(&a[i], id);
		stress_nap_us(rng_below(&r, 200));
		ledger_open(&l, n + 2);
		for (uint32_t i = 0; i < WAITERS; i++)
			must_come(__atomic_load_n(&a[i].answered, __ATOMIC_ACQUIRE) != 0,
				  "waiter %" PRIu32 " of %d sleeps on, though the message has "
				  "finished and is there",
				  i, WAITERS);
		take_by_id(q, id);
	}
	for (uint32_t i = 0; i < WAITERS; i++)
		put(a[i].quit, 1);
	for (uint32_t i = 0; i < WAITERS; i++)
		stress_join(a[i].thread);
	q_shutdown(q);
	ledger_end(&l);
}

/* ---- waiting, then polling ------------------------------------------------------------------- */

struct reaper {
	GpuQueue *q;
	uint32_t quit; /* atomic */
};

/* Reaps all the time, and polls nothing. */
static void *reap_for_others(void *arg)
{
	struct reaper *r = arg;

	while (get(r->quit) == 0) {
		QueueStatus status = q_wait_any(r->q, 0);

		must(status == Q_OK || status == Q_ERR_TIMEOUT || status == Q_ERR_SHUTDOWN,
		     "q_wait_any gave %s", q_status_string(status));
	}
	return NULL;
}

/* The only poller: whatever a wait has called finished must be there. */
static uint32_t poll_all(GpuQueue *q)
{
	uint64_t ids[64];
	uint32_t sum = 0;
	size_t n;

	for (;;) {
		must_be(Q_OK, q_poll_completions(q, ids, 64, &n));
		if (n == 0)
			return sum;
		must_be(Q_OK, q_release_batch(q, ids, n));
		sum += (uint32_t)n;
	}
}

enum until { UNTIL_WAIT, UNTIL_DRAIN, UNTIL_STOP };

static void what_has_been_waited_for_can_be_polled(enum until until, uint32_t rounds,
						   uint32_t batch)
{
	struct reaper reaper = { 0 };
	struct ledger l;
	pthread_t thread = 0;
	GpuQueue *q = NULL;
	uint32_t polled;

	ledger_begin(&l, rounds * batch, 64, 64);
	for (uint32_t n = 0; n < rounds; n++) {
		uint64_t id = 0;

		if (q == NULL) {
			q = ledger_queue(&l, 64, 2, 1, UINT32_MAX);
			if (n % 2 == 0)
				must(q_completion_fd(q) >= 0, "%s", q_last_error());
			reaper = (struct reaper){ .q = q };
			thread = stress_thread(reap_for_others, &reaper);
		}
		if (n % 1024 == 0 || until == UNTIL_STOP)
			stress_phase(q, "round %" PRIu32 " of %" PRIu32, n, rounds);
		for (uint32_t i = 0; i < batch; i++)
			id = ledger_send(&l, q, n * batch + i, OP_NORMAL, 0);
		if (until == UNTIL_WAIT)
			must_be(Q_OK, q_wait(q, id, UINT32_MAX));
		else if (until == UNTIL_DRAIN)
			must_be(Q_OK, q_drain(q, UINT32_MAX));
		else
			must_be(Q_OK, q_stop(q, UINT32_MAX));
		polled = poll_all(q);
		must(polled == batch,
		     "%" PRIu32 " of %" PRIu32
		     " finished messages could be polled in round %" PRIu32,
		     polled, batch, n);
		if (until == UNTIL_STOP || n == rounds - 1) {
			put(reaper.quit, 1);
			stress_join(thread);
			q_shutdown(q);
			q = NULL;
		}
	}
	ledger_end(&l);
}

static void what_q_wait_has_seen_finished_can_be_polled(void **state)
{
	(void)state;
	what_has_been_waited_for_can_be_polled(UNTIL_WAIT, stress_scaled(150000), 1);
}

static void what_q_drain_has_seen_finished_can_be_polled(void **state)
{
	(void)state;
	what_has_been_waited_for_can_be_polled(UNTIL_DRAIN, stress_scaled(8000), 16);
}

static void what_q_stop_has_seen_finished_can_be_polled(void **state)
{
	(void)state;
	what_has_been_waited_for_can_be_polled(UNTIL_STOP, stress_scaled(300), 8);
}

/* ---- the descriptor -------------------------------------------------------------------------- */

static void the_descriptor_announces_a_result_behind_many_discarded_ones(void **state)
{
	enum { DISCARDED = 1500 };
	const uint32_t rounds = stress_scaled(60);
	struct ledger l;
	GpuQueue *q;
	int fd;

	(void)state;
	ledger_begin(&l, rounds * (DISCARDED + 1), 16, 16);
	q = ledger_queue(&l, 2048, 1, 1, 0);
	fd = q_completion_fd(q);
	must(fd >= 0, "%s", q_last_error());
	for (uint32_t n = 0; n < rounds; n++) {
		struct pollfd watched = { .fd = fd, .events = POLLIN };
		uint64_t id;

		stress_phase(q, "round %" PRIu32 " of %" PRIu32, n, rounds);
		must_be(Q_OK, q_pause(q, UINT32_MAX));
		for (uint32_t i = 0; i < DISCARDED; i++)
			ledger_send(&l, q, n * (DISCARDED + 1) + i, OP_NORMAL, Q_ENQUEUE_DISCARD);
		id = ledger_send(&l, q, n * (DISCARDED + 1) + DISCARDED, OP_NORMAL, 0);
		must_be(Q_OK, q_resume(q));
		must(poll(&watched, 1, 20000) == 1,
		     "a result waits, and the descriptor is not readable");
		must(poll_all(q) == 1, "readable, and nothing to poll");
		must_be(Q_ERR_NOT_FOUND, q_release(q, id));
		must(poll(&watched, 1, 0) == 0, "nothing to poll, and still readable");
	}
	q_shutdown(q);
	ledger_end(&l);
}

struct server {
	GpuQueue *q;
	struct ledger *l;
	uint32_t messages;
};

static void *send_slowly(void *arg)
{
	struct server *s = arg;
	struct rng r = rng_of(77);

	for (uint32_t n = 0; n < s->messages; n++) {
		ledger_send(s->l, s->q, n, OP_NORMAL, 0);
		if (rng_one_in(&r, 8))
			stress_nap_us(rng_below(&r, 200));
	}
	return NULL;
}

/* No time-out hides a lost announcement: the loop sleeps until the descriptor is readable. */
static void an_event_loop_that_only_sleeps_on_the_descriptor_gets_every_result(void **state)
{
	struct server s = { .messages = stress_scaled(20000) };
	struct ledger l;
	pthread_t sender;
	uint32_t got = 0;
	int fd;

	(void)state;
	ledger_begin(&l, s.messages, 64, 64);
	s.l = &l;
	s.q = ledger_queue(&l, 16, 2, 0 - UINT64_C(3), 0);
	fd = q_completion_fd(s.q);
	must(fd >= 0, "%s", q_last_error());
	stress_phase(s.q, "%" PRIu32 " messages to an event loop", s.messages);
	sender = stress_thread(send_slowly, &s);
	while (got < s.messages) {
		struct pollfd watched = { .fd = fd, .events = POLLIN };

		must(poll(&watched, 1, 20000) == 1, "%" PRIu32 " of %" PRIu32 " results came", got,
		     s.messages);
		got += poll_all(s.q);
	}
	stress_join(sender);
	q_shutdown(s.q);
	ledger_end(&l);
}

/* ---- park and wake --------------------------------------------------------------------------- */

/* Every message finds the consumers asleep, or just falling asleep. */
static void a_message_wakes_consumers_that_sleep(void **state)
{
	const uint32_t rounds = stress_scaled(4000);
	struct rng r = rng_of(3);

	(void)state;
	for (uint32_t consumers = 1; consumers <= 3; consumers++) {
		struct ledger l;
		QueueStats stats;
		GpuQueue *q;

		ledger_begin(&l, rounds, 64, 64);
		q = ledger_queue(&l, 4, consumers, 1, 0);
		for (uint32_t n = 0; n < rounds; n++) {
			uint64_t id;

			if (n % 256 == 0)
				stress_phase(q, "message %" PRIu32 " to %" PRIu32 " sleepers", n,
					     consumers);
			/* Consumers spin for 50 us before they sleep: be there at that moment. */
			stress_nap_us(rng_below(&r, 120));
			id = ledger_send(&l, q, n, OP_NORMAL, 0);
			must_be(Q_OK, q_wait(q, id, 30000));
			must_be(Q_OK, q_release(q, id));
		}
		must_be(Q_OK, q_stats(q, &stats));
		must((stats.wakeups > 0 || stress_device() == Q_DEVICE_CUDA) &&
			     stats.wakeups <= rounds,
		     "%" PRIu64 " wake-ups for %" PRIu32 " messages", stats.wakeups, rounds);
		q_shutdown(q);
		ledger_end(&l);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_waiter_returns_although_its_slot_is_used_again),
		cmocka_unit_test(all_who_wait_for_one_message_are_woken),
		cmocka_unit_test(what_q_wait_has_seen_finished_can_be_polled),
		cmocka_unit_test(what_q_drain_has_seen_finished_can_be_polled),
		cmocka_unit_test(what_q_stop_has_seen_finished_can_be_polled),
		cmocka_unit_test(the_descriptor_announces_a_result_behind_many_discarded_ones),
		cmocka_unit_test(
			an_event_loop_that_only_sleeps_on_the_descriptor_gets_every_result),
		cmocka_unit_test(a_message_wakes_consumers_that_sleep),
	};

	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.wait", tests, NULL, NULL);
}
