/* SPDX-License-Identifier: Apache-2.0 */
/* test_yield.c - when a wait yields: sched_yield() and the clock are this file's own. */
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <gpuq/ring.h>

enum {
	FAST_NS = 1000,
	SLOW_NS = 5000000,
	/* What yield.c says: after the first slow yield so many refusals, four times as many after
	 * the next, at most so many; and so many times what it took, at most 2 s. */
	FIRST = 16,
	MOST = 1024,
};

static uint64_t fake_now; /* 0: the real clock */
static uint64_t yield_ns; /* what a yield takes */
static uint64_t yields;
/* What this thread's yields took. Were it one sum for all threads, a thread that lost its CPU
 * within a yield would find there what the others' yields took meanwhile, and call its own slow. */
static _Thread_local uint64_t yielded_ns;

static uint64_t real_ns(void)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
	uint64_t now = __atomic_load_n(&fake_now, __ATOMIC_RELAXED);

	if (clock != CLOCK_MONOTONIC || now == 0)
		return (int)syscall(SYS_clock_gettime, clock, out);
	now += yielded_ns;
	out->tv_sec = (time_t)(now / 1000000000u);
	out->tv_nsec = (long)(now % 1000000000u);
	return 0;
}

int sched_yield(void)
{
	__atomic_fetch_add(&yields, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&fake_now, __ATOMIC_RELAXED) != 0) {
		yielded_ns += yield_ns;
	} else {
		const struct timespec nap = { 0, (long)yield_ns };

		nanosleep(&nap, NULL);
	}
	return 0;
}

static uint64_t yields_since(uint64_t *before)
{
	const uint64_t now = __atomic_load_n(&yields, __ATOMIC_RELAXED), n = now - *before;

	*before = now;
	return n;
}

/* Of a wait until it would sleep. */
static uint64_t yields_of_a_wait(void)
{
	struct gq_event event = { 0 };
	struct gq_wait wait;
	uint64_t before = yields;

	gq__wait_begin(&wait, &event, GQ_FOR_EVER, GQ_SPIN_NS);
	while (!wait.registered)
		assert_true(gq__wait_next(&wait));
	gq__wait_end(&wait);
	return yields_since(&before);
}

static uint64_t yields_of_waits(unsigned n)
{
	uint64_t sum = 0;

	while (n-- > 0)
		sum += yields_of_a_wait();
	return sum;
}

static cpu_set_t allowed;

static void stay_on_cpu(int n)
{
	cpu_set_t one;

	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || n-- != 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	}
}

/* On one CPU, whose past is forgotten: many fast yields, long after all that the last test did. */
static int begin_calm(void **state)
{
	static uint64_t latest;

	(void)state;
	if (latest < real_ns())
		latest = real_ns();
	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (int i = CPU_COUNT(&allowed) > 1; i >= 0; i--) {
		stay_on_cpu(i);
		latest += UINT64_C(1000000000000);
		fake_now = latest;
		yield_ns = FAST_NS;
		yields_of_waits(MOST + 100);
		if (yields_of_a_wait() != GQ_SPIN_NS / FAST_NS)
			return -1;
	}
	return 0;
}

static int end_calm(void **state)
{
	(void)state;
	fake_now = 0;
	sched_setaffinity(0, sizeof(allowed), &allowed);
	return 0;
}

static void a_wait_yields_for_its_spin_time_where_yields_are_fast(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(yields_of_a_wait(), GQ_SPIN_NS / FAST_NS);
}

static void after_a_slow_yield_no_wait_yields_until_the_back_off_has_passed(void **state)
{
	(void)state;
	yield_ns = SLOW_NS;
	assert_int_equal(yields_of_a_wait(), 1);
	fake_now += UINT64_C(10000000000); /* time alone does not do */
	assert_int_equal(yields_of_waits(FIRST), 0);
	assert_int_equal(yields_of_a_wait(), 1);

	assert_int_equal(yields_of_waits(1000), 0); /* nor do refusals alone */
	fake_now += 4 * FIRST * (uint64_t)SLOW_NS - 1;
	assert_int_equal(yields_of_a_wait(), 0);
	fake_now += 1;
	assert_int_equal(yields_of_a_wait(), 1);
}

static void
on_a_cpu_that_stays_busy_one_wait_in_a_thousand_yields_and_once_in_two_seconds(void **state)
{
	(void)state;
	yield_ns = SLOW_NS;
	assert_int_equal(yields_of_a_wait(), 1);
	for (unsigned refused = FIRST; refused < MOST; refused *= 4) {
		fake_now += UINT64_C(10000000000);
		assert_int_equal(yields_of_waits(refused), 0);
		assert_int_equal(yields_of_a_wait(), 1);
	}
	for (int i = 0; i < 3; i++) {
		fake_now += UINT64_C(1999999999);
		assert_int_equal(yields_of_waits(MOST + 1), 0);
		fake_now += 1;
		assert_int_equal(yields_of_a_wait(), 1);
	}
}

static void once_yields_are_fast_again_waits_yield_and_the_back_off_starts_anew(void **state)
{
	(void)state;
	yield_ns = SLOW_NS;
	yields_of_a_wait();
	fake_now += UINT64_C(10000000000);
	yields_of_waits(FIRST);
	yields_of_a_wait();
	fake_now += UINT64_C(10000000000);
	yields_of_waits(4 * FIRST);
	yield_ns = FAST_NS;
	for (int i = 0; i < 10; i++)
		assert_int_equal(yields_of_a_wait(), GQ_SPIN_NS / FAST_NS);
	yield_ns = SLOW_NS;
	assert_int_equal(yields_of_a_wait(), 1);
	fake_now += UINT64_C(10000000000);
	assert_int_equal(yields_of_waits(FIRST), 0);
	assert_int_equal(yields_of_a_wait(), 1);
}

static void a_busy_cpu_does_not_keep_waits_on_another_from_yielding(void **state)
{
	(void)state;
	leave_out_if(CPU_COUNT(&allowed) < 2, "here", "one CPU");
	yield_ns = SLOW_NS;
	assert_int_equal(yields_of_a_wait(), 1);
	assert_int_equal(yields_of_a_wait(), 0);
	stay_on_cpu(1);
	yield_ns = FAST_NS;
	assert_int_equal(yields_of_a_wait(), GQ_SPIN_NS / FAST_NS);
}

/* Where it does not hold, the wait sleeps until the alarm. */
static void who_is_to_spin_for_long_looks_every_millisecond_on_a_busy_cpu(void **state)
{
	struct gq_event event = { 0 };
	struct gq_wait wait;
	uint64_t before = yields, looks = 0;

	(void)state;
	fake_now = 0; /* the kernel's sleeps are by the real one */
	yield_ns = SLOW_NS;
	alarm(60);
	gq__wait_begin(&wait, &event, GQ_FOR_EVER, GQ_FOR_EVER);
	while (looks < 10) {
		looks += wait.registered;
		assert_true(gq__wait_next(&wait));
	}
	gq__wait_end(&wait);
	alarm(0);
	/* On a slow machine the back-off ends more often while the looks last. But each back-off is
	 * longer than the one before, so fewer looks yield than there are, unless they last for
	 * 16 s. */
	assert_in_range(yields_since(&before), 1, looks - 1);
}

static void a_loop_for_a_short_step_spins_then_yields_then_naps(void **state)
{
	uint64_t before = yields;

	(void)state;
	for (uint32_t turn = 0; turn < 64; turn++)
		gq__await_step(turn);
	assert_int_equal(yields_since(&before), 0);
	for (uint32_t turn = 64; turn < 64 + 1024; turn++)
		gq__await_step(turn);
	assert_int_equal(yields_since(&before), 1024);
	for (uint32_t turn = 64 + 1024; turn < 64 + 1024 + 20; turn++)
		gq__await_step(turn); /* who waits may be what keeps the other from running */
	assert_int_equal(yields_since(&before), 0);

	yield_ns = SLOW_NS;
	for (uint32_t turn = 64; turn < 64 + FIRST; turn++)
		gq__await_step(turn);
	assert_int_equal(yields_since(&before), 1);
}

static void a_consumer_that_never_parks_is_never_woken_where_yields_are_fast(void **state)
{
	QueueConfig cfg = config(8, 16);
	GpuQueue *q;

	(void)state;
	cfg.device = Q_DEVICE_CPU;
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	for (int i = 0; i < 20; i++)
		expect_echo(q, send(q, "x", 1), "x", 1);
	assert_int_equal(stats_of(q).wakeups, 0);
	q_shutdown(q);
}

struct pong {
	RingQueue *there, *back;
	QueueStatus status;
};

static void *pong(void *arg)
{
	struct pong *p = arg;
	char byte;

	do {
		size_t len = sizeof(byte);

		p->status = q_ring_recv_timeout(p->there, &byte, &len, LONG_MS);
		if (p->status == Q_OK)
			p->status = q_ring_send_timeout(p->back, &byte, len, Q_PRIORITY_DEFAULT,
							LONG_MS);
	} while (p->status == Q_OK);
	return NULL;
}

/* All threads on one CPU, and every yield costs 5 ms: some hundred waits on either side. */
static void queues_and_rings_hardly_yield_on_a_busy_cpu(void **state)
{
	static const uint32_t park_ms[] = { 0, UINT32_MAX };
	struct pong p = { .status = Q_OK };
	pthread_t thread;
	uint64_t before;

	(void)state;
#if defined(GPUQ_CHAOS)
	leave_out_if(true, "here", "the delays in the protocol's windows yield too");
#endif
	fake_now = 0;
	yield_ns = SLOW_NS;
	before = yields;
	for (int k = 0; k < 2; k++) {
		QueueConfig cfg = config(8, 16);
		GpuQueue *q;

		cfg.device = Q_DEVICE_CPU;
		cfg.idle_park_ms = park_ms[k];
		q = make_queue_from(&cfg);
		for (int i = 0; i < 200; i++)
			expect_echo(q, send(q, "x", 1), "x", 1);
		q_shutdown(q);
	}
	assert_status(q_ring_create(NULL, NULL, 0, &p.there), Q_OK);
	assert_status(q_ring_create(NULL, NULL, 0, &p.back), Q_OK);
	assert_int_equal(pthread_create(&thread, NULL, pong, &p), 0);
	for (int i = 0; i < 200; i++) {
		char byte = 'x';
		size_t len = sizeof(byte);

		assert_status(q_ring_send(p.there, &byte, 1, Q_PRIORITY_DEFAULT), Q_OK);
		assert_status(q_ring_recv_timeout(p.back, &byte, &len, LONG_MS), Q_OK);
	}
	assert_status(q_ring_close(p.there), Q_OK);
	pthread_join(thread, NULL);
	assert_status(p.status, Q_ERR_SHUTDOWN);
	q_ring_destroy(p.there);
	q_ring_destroy(p.back);
	assert_in_range(yields_since(&before), 1, 30); /* of some thousand */
}

#define calm(test) cmocka_unit_test_setup_teardown(test, begin_calm, end_calm)

int main(void)
{
	const struct CMUnitTest tests[] = {
		calm(a_wait_yields_for_its_spin_time_where_yields_are_fast),
		calm(after_a_slow_yield_no_wait_yields_until_the_back_off_has_passed),
		calm(on_a_cpu_that_stays_busy_one_wait_in_a_thousand_yields_and_once_in_two_seconds),
		calm(once_yields_are_fast_again_waits_yield_and_the_back_off_starts_anew),
		calm(a_busy_cpu_does_not_keep_waits_on_another_from_yielding),
		calm(who_is_to_spin_for_long_looks_every_millisecond_on_a_busy_cpu),
		calm(a_consumer_that_never_parks_is_never_woken_where_yields_are_fast),
		calm(a_loop_for_a_short_step_spins_then_yields_then_naps),
		calm(queues_and_rings_hardly_yield_on_a_busy_cpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
