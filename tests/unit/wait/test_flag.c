/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flag.c - who sleeps on a flag and who wakes: wakers that stand still, sleepers that die,
 * keys that wrap. syscall() is this file's own, so that a thread can be stopped right before or
 * after it wakes.
 */
#include "support.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- stopping a waker --------------------------------------------------------------------------
 */

enum stop { NOWHERE, BEFORE_WAKING, AFTER_WAKING };

static struct {
	sem_t reached, go_on;
} stopped;
static uint32_t sleeping; /* threads that have called to sleep */
static uint32_t wake_calls;
static _Thread_local enum stop stop_at;
static _Thread_local const void *stop_on; /* NULL: on any word */

static void stand_still(void)
{
	stop_at = NOWHERE;
	sem_post(&stopped.reached);
	sem_wait(&stopped.go_on);
}

long syscall(long number, ...)
{
	static long (*real)(long number, ...);
	enum stop stop = NOWHERE;
	long arg[6], rc;
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (__atomic_load_n(&real, __ATOMIC_RELAXED) == NULL) {
		long (*found)(long number, ...);

		*(void **)&found = dlsym(RTLD_NEXT, "syscall");
		__atomic_store_n(&real, found, __ATOMIC_RELAXED);
	}
	if (number == SYS_futex && (arg[1] & FUTEX_CMD_MASK) == FUTEX_WAKE) {
		__atomic_fetch_add(&wake_calls, 1, __ATOMIC_RELAXED);
		if (stop_on == NULL || stop_on == (const void *)arg[0]) // NOLINT: a word's address
			stop = stop_at;
	}
	if (number == SYS_futex && (arg[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET)
		__atomic_fetch_add(&sleeping, 1, __ATOMIC_RELAXED);
	if (stop == BEFORE_WAKING)
		stand_still();
	rc = real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (stop == AFTER_WAKING)
		stand_still();
	return rc;
}

static void await(const uint32_t *word, uint32_t value)
{
	for (uint32_t ms = 0; __atomic_load_n(word, __ATOMIC_RELAXED) < value; ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
}

/* They have called; give them the time to be asleep. Where they are not, the test shows less. */
static void await_asleep(uint32_t n)
{
	await(&sleeping, n);
	nap_ms(20);
}

/* ---- sleepers and wakers ------------------------------------------------------------------------
 */

/* Sleeps on the flag until `what` is `wanted` or more; several times, if it is asked for. */
struct sleeper {
	uint32_t *flag;
	uint64_t *what;
	uint64_t wanted;
	uint32_t timeout_ms;
	bool shared, has;
	pthread_t thread;
};

static bool sleep_until(const struct sleeper *s, uint64_t wanted)
{
	const uint64_t deadline_ns =
		gq__deadline_ns(s->timeout_ms != 0 ? s->timeout_ms : LONG_MS / 3);
	struct gq_wait wait;
	bool has;

	if (s->shared)
		gq__wait_begin_shared(&wait, s->flag, deadline_ns, GQ_FOR_EVER);
	else
		gq__wait_begin_flag(&wait, s->flag, deadline_ns);
	do
		has = gq_load_seq_cst_u64(s->what) >= wanted;
	while (!has && gq__wait_next(&wait));
	gq__wait_end(&wait);
	return has;
}

static void *sleep_for_each(void *arg)
{
	struct sleeper *s = arg;

	s->has = true;
	for (uint64_t i = 1; i <= s->wanted; i++)
		s->has = s->has && sleep_until(s, i);
	return NULL;
}

static void start(struct sleeper *s)
{
	assert_int_equal(pthread_create(&s->thread, NULL, sleep_for_each, s), 0);
}

static void join(struct sleeper *s)
{
	pthread_join(s->thread, NULL);
	assert_true(s->has);
}

/* Publishes and wakes, standing still on the way. */
struct waker {
	uint32_t *flag;
	uint64_t *what;
	enum stop stop;
	pthread_t thread;
};

static void publish(uint64_t *what)
{
	gq_fetch_add_seq_cst_u64(what, 1);
}

static void *publish_and_wake(void *arg)
{
	struct waker *w = arg;

	stop_at = w->stop;
	publish(w->what);
	gq__flag_wake(w->flag);
	return NULL;
}

static void start_and_let_it_stop(struct waker *w)
{
	assert_int_equal(pthread_create(&w->thread, NULL, publish_and_wake, w), 0);
	assert_int_equal(sem_wait(&stopped.reached), 0);
}

static void let_it_go(struct waker *w)
{
	sem_post(&stopped.go_on);
	pthread_join(w->thread, NULL);
}

static int begin(void **state)
{
	(void)state;
	__atomic_store_n(&sleeping, 0, __ATOMIC_RELAXED);
	alarm(120); /* where a sleeper is not woken, or a waker not let go */
	return 0;
}

static bool is_odd(uint32_t *flag)
{
	return gq_load_seq_cst_u32(flag) % 2 != 0;
}

/* ---- tests
 * --------------------------------------------------------------------------------------- */

static void all_sleepers_wake_at_once_and_the_flag_is_down_afterwards(void **state)
{
	/* Also where its count wraps. */
	static const uint32_t from[] = {
		0, 1, 2, 3, UINT32_MAX - 3, UINT32_MAX - 2, UINT32_MAX - 1, UINT32_MAX
	};

	(void)state;
	for (size_t k = 0; k < sizeof(from) / sizeof(from[0]); k++) {
		uint32_t flag = from[k];
		uint64_t what = 0;
		struct sleeper s[8];

		__atomic_store_n(&sleeping, 0, __ATOMIC_RELAXED);
		for (int i = 0; i < 8; i++) {
			s[i] = (struct sleeper){ .flag = &flag, .what = &what, .wanted = 1 };
			start(&s[i]);
		}
		await_asleep(8);
		assert_true(is_odd(&flag));
		publish(&what);
		gq__flag_wake(&flag);
		for (int i = 0; i < 8; i++)
			join(&s[i]);
		assert_false(is_odd(&flag));
	}
}

static void a_flag_that_is_down_costs_no_call(void **state)
{
	uint32_t flag = 4 * 77, calls = __atomic_load_n(&wake_calls, __ATOMIC_RELAXED);

	(void)state;
	gq__flag_wake(&flag);
	gq__flag_wake_shared(&flag);
	assert_int_equal(__atomic_load_n(&wake_calls, __ATOMIC_RELAXED), calls);
	assert_int_equal(flag, 4 * 77);
}

static void a_waker_that_stalls_before_it_wakes_keeps_nobody_asleep(void **state)
{
	uint32_t flag = 0;
	uint64_t one = 0, other = 0;
	struct sleeper s[2] = { { .flag = &flag, .what = &one, .wanted = 1 },
				{ .flag = &flag, .what = &other, .wanted = 1 } };
	struct waker stalled = { .flag = &flag, .what = &one, .stop = BEFORE_WAKING };

	(void)state;
	start(&s[0]);
	start(&s[1]);
	await_asleep(2);
	start_and_let_it_stop(&stalled);
	publish(&other);
	gq__flag_wake(&flag);
	join(&s[0]);
	join(&s[1]);
	assert_false(is_odd(&flag));
	let_it_go(&stalled);
	assert_false(is_odd(&flag));
}

static void
a_waker_that_stalls_after_it_has_woken_does_not_take_down_what_was_armed_since(void **state)
{
	for (int shared_key = 0; shared_key < 2; shared_key++) {
		uint32_t flag = 0;
		uint64_t what = 0, other = 0;
		struct sleeper s = { .flag = &flag, .what = &what, .wanted = 2 };
		struct sleeper beside = { .flag = &flag, .what = &other, .wanted = 1 };
		struct waker stalled = { .flag = &flag, .what = &what, .stop = AFTER_WAKING };

		(void)state;
		__atomic_store_n(&sleeping, 0, __ATOMIC_RELAXED);
		if (shared_key != 0)
			start(&beside); /* woken as well, it arms beside the other */
		start(&s);
		await_asleep(1 + (uint32_t)shared_key);
		start_and_let_it_stop(&stalled);
		await_asleep(2 + 2 * (uint32_t)shared_key); /* armed again, for the second */
		let_it_go(&stalled);
		assert_true(is_odd(&flag));
		publish(&what);
		publish(&other);
		gq__flag_wake(&flag);
		join(&s);
		if (shared_key != 0)
			join(&beside);
		assert_false(is_odd(&flag));
	}
}

/* Each of them must not leave the flag up for the others to call in vain. */
static void wakers_that_overlap_leave_the_flag_down(void **state)
{
	uint32_t flag = 0, calls;
	uint64_t what = 0;
	struct sleeper s = { .flag = &flag, .what = &what, .wanted = 1 };
	struct waker w[3];

	(void)state;
	start(&s);
	await_asleep(1);
	for (int i = 0; i < 3; i++) {
		w[i] = (struct waker){ .flag = &flag, .what = &what, .stop = BEFORE_WAKING };
		start_and_let_it_stop(&w[i]);
	}
	calls = __atomic_load_n(&wake_calls, __ATOMIC_RELAXED);
	sem_post(&stopped.go_on); /* one of them */
	join(&s);
	for (uint32_t ms = 0; is_odd(&flag); ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
	publish(&what);
	gq__flag_wake(&flag);
	assert_int_equal(__atomic_load_n(&wake_calls, __ATOMIC_RELAXED), calls);
	sem_post(&stopped.go_on);
	sem_post(&stopped.go_on);
	for (int i = 0; i < 3; i++)
		pthread_join(w[i].thread, NULL);
	assert_false(is_odd(&flag));
}

struct shared {
	uint64_t what;
	uint32_t flag, asleep;
};

static struct shared *share(void)
{
	struct shared *m =
		mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(m, MAP_FAILED);
	return m;
}

static void
a_sleeper_of_another_process_that_is_killed_leaves_the_flag_of_use_to_the_others(void **state)
{
	struct shared *m = share();
	struct sleeper s = { .flag = &m->flag, .what = &m->what, .wanted = 1, .shared = true };
	pid_t killed = fork(), lives;
	int status;

	(void)state;
	if (killed == 0) {
		sleep_until(&s, 1);
		_exit(1);
	}
	assert_true(killed > 0);
	await(&m->flag, 1);
	nap_ms(20);
	assert_int_equal(kill(killed, SIGKILL), 0);
	assert_int_equal(waitpid(killed, NULL, 0), killed);
	assert_true(is_odd(&m->flag));

	lives = fork();
	if (lives == 0) {
		__atomic_store_n(&m->asleep, 1, __ATOMIC_RELAXED);
		_exit(sleep_until(&s, 1) ? 0 : 1);
	}
	start(&s);
	await_asleep(1);
	await(&m->asleep, 1);
	nap_ms(20);
	publish(&m->what);
	gq__flag_wake_shared(&m->flag);
	join(&s);
	assert_int_equal(waitpid(lives, &status, 0), lives);
	assert_int_equal(status, 0);
	assert_false(is_odd(&m->flag));
	munmap(m, sizeof(*m));
}

static void a_waker_of_another_process_that_is_killed_hides_nobody(void **state)
{
	struct shared *m = share();
	struct sleeper s = { .flag = &m->flag, .what = &m->what, .wanted = 2, .shared = true };
	pid_t waker;

	(void)state;
	start(&s);
	await_asleep(1);
	waker = fork();
	if (waker == 0) {
		/* As far as publish_and_wake() gets: published, begun, not woken. */
		publish(&m->what);
		gq_fetch_or_seq_cst_u32(&m->flag, GQ_FLAG_WAKING);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(waker, NULL, 0), waker);
	publish(&m->what);
	gq__flag_wake_shared(&m->flag);
	join(&s);
	assert_false(is_odd(&m->flag));
	munmap(m, sizeof(*m));
}

static uint32_t lying;

static void *change_all_the_time(void *arg)
{
	uint32_t *flag = arg;

	for (uint32_t value = 0; __atomic_load_n(&lying, __ATOMIC_RELAXED) != 0; value += 7)
		__atomic_store_n(flag, value, __ATOMIC_RELAXED);
	return NULL;
}

static void a_shared_flag_that_changes_all_the_time_holds_up_neither_side(void **state)
{
	struct shared *m = share();
	struct sleeper s = {
		.flag = &m->flag, .what = &m->what, .wanted = 1, .timeout_ms = 50, .shared = true
	};
	pthread_t liar;

	(void)state;
	__atomic_store_n(&lying, 1, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&liar, NULL, change_all_the_time, &m->flag), 0);
	for (int i = 0; i < 5; i++)
		assert_false(sleep_until(&s, 1));
	for (int i = 0; i < 1000; i++)
		gq__flag_wake_shared(&m->flag);
	__atomic_store_n(&lying, 0, __ATOMIC_RELAXED);
	pthread_join(liar, NULL);
	munmap(m, sizeof(*m));
}

/* ---- through the API
 * ------------------------------------------------------------------------------ */

struct call {
	GpuQueue *q;
	uint64_t id;
	uint32_t *armed;
	QueueStatus status;
	pthread_t thread;
};

static void *wait_for_it(void *arg)
{
	struct call *c = arg;

	c->status = q_wait(c->q, c->id, LONG_MS);
	return NULL;
}

static void *commit_it(void *arg)
{
	struct call *c = arg;

	stop_at = BEFORE_WAKING;
	stop_on = c->armed;
	c->status = q_commit(c->q, c->id);
	return NULL;
}

static void who_waits_for_a_message_does_not_wait_for_a_committer_that_stalls(void **state)
{
	const EnqueueOptions gate = { .opcode = OP_GATE };
	QueueConfig cfg = config(4, 16);
	struct call waiter, committer;
	void *payload;
	GpuQueue *q;

	(void)state;
	cfg.device = Q_DEVICE_CPU;
	cfg.idle_park_ms = UINT32_MAX; /* the consumer needs no wake-up */
	q = make_queue_from(&cfg);
	close_gate(); /* so that the committer comes first */
	waiter = (struct call){ .q = q };
	assert_status(q_reserve(q, 1, &gate, &payload, &waiter.id, 0), Q_OK);
	waiter.armed = &gq_slot_at(&q->ch, (uint32_t)(waiter.id & q->slot_mask))->armed;
	committer = waiter;
	assert_int_equal(pthread_create(&waiter.thread, NULL, wait_for_it, &waiter), 0);
	for (uint32_t ms = 0; !is_odd(waiter.armed); ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
	nap_ms(20);
	assert_int_equal(pthread_create(&committer.thread, NULL, commit_it, &committer), 0);
	assert_int_equal(sem_wait(&stopped.reached), 0);
	open_gate();
	pthread_join(waiter.thread, NULL); /* the committer stands still */
	assert_status(waiter.status, Q_OK);
	sem_post(&stopped.go_on);
	pthread_join(committer.thread, NULL);
	assert_status(committer.status, Q_OK);
	q_shutdown(q);
}

#define timed(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		timed(all_sleepers_wake_at_once_and_the_flag_is_down_afterwards),
		timed(a_flag_that_is_down_costs_no_call),
		timed(a_waker_that_stalls_before_it_wakes_keeps_nobody_asleep),
		timed(a_waker_that_stalls_after_it_has_woken_does_not_take_down_what_was_armed_since),
		timed(wakers_that_overlap_leave_the_flag_down),
		timed(a_sleeper_of_another_process_that_is_killed_leaves_the_flag_of_use_to_the_others),
		timed(a_waker_of_another_process_that_is_killed_hides_nobody),
		timed(a_shared_flag_that_changes_all_the_time_holds_up_neither_side),
		timed(who_waits_for_a_message_does_not_wait_for_a_committer_that_stalls),
	};

	sem_init(&stopped.reached, 0, 0);
	sem_init(&stopped.go_on, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
