/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify_time.c - what notifications cost, beside an eventfd, a futex and a condition variable.
 *
 *     notify_time [--smoke]
 *
 * Four cases, in nanoseconds. Kinds take turns, so that what else the machine does meets all of
 * them. A line of JSON a figure, as bench/README.md has them; --smoke: a moment each, which
 * measures nothing.
 *
 * - wake_nobody: a wake-up that nobody waits for
 * - wake_one: a thread that sleeps is woken, from before the call that wakes until the call that
 *   waits has returned
 * - post_to: a post to 1, 10 and 100 that drop (subscriptions) or sleep (waiters), and until the
 *   last of those that sleep has returned (last waiter back)
 * - never_read: a post to a subscription that is never read, by policy, beside one that is read
 */
#include <gpuq/notify.h>

#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TURNS = 7, FAN_OUT = 100 };

static bool smoke;
static NotifyQueue *nq;
static NotifyHandle handle;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "notify_time: %s failed: %s\n", what, q_last_error());
		exit(1);
	}
}

static void nap_us(unsigned us)
{
	const struct timespec t = { 0, (long)us * 1000 };

	nanosleep(&t, NULL);
}

static int by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(double *values, size_t n, double p)
{
	qsort(values, n, sizeof(*values), by_size);
	return values[(size_t)((double)(n - 1) * p)];
}

/* n: how many a post reaches; 0: that is no parameter of the case. */
static void print(const char *name, const char *peer, const char *variant, int n,
		  const char *metric, const double *ns, size_t count)
{
	printf("{\"case\":\"%s\",\"peer\":\"%s\",\"variant\":\"%s\",", name, peer, variant);
	if (n != 0)
		printf("\"n\":%d,", n);
	printf("\"metric\":\"%s\",\"unit\":\"ns\",\"samples\":[", metric);
	for (size_t i = 0; i < count; i++)
		printf("%s%.1f", i > 0 ? "," : "", ns[i]);
	printf("]}\n");
	fflush(stdout);
}

/* ---- waking: one kind a way ------------------------------------------------------------------ */

static int event_fd, sub_fd;
static NotifySubscription *sub;
static uint32_t futex_word;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static uint64_t turn; /* under `lock` */

static void post(void)
{
	q_notify_post(nq, handle, 1, NULL);
}

static void write_event(void)
{
	const uint64_t one = 1;

	must(write(event_fd, &one, sizeof(one)) == sizeof(one), "write");
}

static void wake_futex(void)
{
	__atomic_fetch_add(&futex_word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void signal_cond(void)
{
	pthread_mutex_lock(&lock);
	turn++;
	pthread_mutex_unlock(&lock);
	pthread_cond_broadcast(&cond);
}

static void wait_notify(uint64_t n)
{
	must(q_notify_wait(nq, handle, n, NULL, UINT32_MAX) == Q_OK, "q_notify_wait");
}

static void receive(uint64_t n)
{
	(void)n;
	must(q_notify_recv(sub, NULL, UINT32_MAX) == Q_OK, "q_notify_recv");
}

static void poll_and_receive(uint64_t n)
{
	struct pollfd fd = { .fd = sub_fd, .events = POLLIN };

	(void)n;
	do
		poll(&fd, 1, -1);
	while (q_notify_recv(sub, NULL, 0) != Q_OK);
}

static void read_event(uint64_t n)
{
	uint64_t value;

	(void)n;
	must(read(event_fd, &value, sizeof(value)) == sizeof(value), "read");
}

static void wait_futex(uint64_t n)
{
	while (__atomic_load_n(&futex_word, __ATOMIC_SEQ_CST) == (uint32_t)n)
		syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, (uint32_t)n, NULL, NULL, 0);
}

static void wait_cond(uint64_t n)
{
	pthread_mutex_lock(&lock);
	while (turn == n)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

static const struct kind {
	const char *peer, *variant;
	void (*wake)(void);
	void (*wait)(uint64_t n);
	bool subscribes, has_fd;
} kinds[] = {
	{ "gpuq", "wait", post, wait_notify, false, false },
	{ "gpuq", "recv", post, receive, true, false },
	{ "gpuq", "poll, recv", post, poll_and_receive, true, true },
	{ "eventfd", "", write_event, read_event, false, false },
	{ "futex", "", wake_futex, wait_futex, false, false },
	{ "condition variable", "", signal_cond, wait_cond, false, false },
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void begin(const struct kind *k)
{
	must(q_notify_register(nq, k->peer, &handle) == Q_OK, "q_notify_register");
	if (k->subscribes)
		must(q_notify_subscribe(nq, handle, 64, Q_NOTIFY_DROP_OLDEST, &sub) == Q_OK,
		     "q_notify_subscribe");
	if (k->has_fd)
		sub_fd = q_notify_fd(sub);
	__atomic_store_n(&futex_word, 0, __ATOMIC_SEQ_CST);
	turn = 0;
}

static void end(const struct kind *k)
{
	q_notify_unregister(nq, handle);
	if (k->subscribes)
		q_notify_unsubscribe(sub);
}

/* ---- a post that nobody waits for ------------------------------------------------------------ */

static double one_call(void (*wake)(void), unsigned n)
{
	const uint64_t began = now_ns();

	for (unsigned i = 0; i < n; i++)
		wake();
	return (double)(now_ns() - began) / n;
}

static void nobody_waits(void)
{
	static const unsigned which[] = { 0, 3, 4, 5 };
	double ns[4][TURNS];

	for (int t = 0; t < (smoke ? 1 : TURNS); t++)
		for (int i = 0; i < 4; i++) {
			const struct kind *k = &kinds[which[i]];
			uint64_t value;

			begin(k);
			ns[i][t] = one_call(k->wake, smoke ? 10 : 200000);
			if (k->wake == write_event)
				must(read(event_fd, &value, sizeof(value)) > 0, "read");
			end(k);
		}
	for (int i = 0; i < 4; i++)
		print("wake_nobody", kinds[which[i]].peer, "", 0, "cost", ns[i], smoke ? 1 : TURNS);
}

/* ---- a thread that sleeps -------------------------------------------------------------------- */

static uint64_t woken_ns; /* when the waiter has returned; atomic */
static uint64_t waits;    /* how many the waiter is to make */

static void *wait_each(void *arg)
{
	const struct kind *k = arg;

	for (uint64_t i = 0; i < waits; i++) {
		k->wait(i);
		__atomic_store_n(&woken_ns, now_ns(), __ATOMIC_RELEASE);
	}
	return NULL;
}

static void wake_each(const struct kind *k, double *ns, unsigned n)
{
	pthread_t thread;

	begin(k);
	waits = n;
	must(pthread_create(&thread, NULL, wait_each, (void *)(uintptr_t)k) == 0, "pthread_create");
	for (unsigned i = 0; i < n; i++) {
		uint64_t began, woken;

		nap_us(300); /* it spins for 50 us, then sleeps */
		__atomic_store_n(&woken_ns, 0, __ATOMIC_RELEASE);
		began = now_ns();
		k->wake();
		while ((woken = __atomic_load_n(&woken_ns, __ATOMIC_ACQUIRE)) == 0)
			sched_yield();
		ns[i] = (double)(woken - began);
	}
	pthread_join(thread, NULL);
	end(k);
}

static void somebody_sleeps(void)
{
	enum { WAKES = 200 };
	static double ns[WAKES], p50[KINDS][TURNS], p99[KINDS][TURNS];
	const unsigned n = smoke ? 2 : WAKES;
	const size_t turns = smoke ? 1 : TURNS;

	for (size_t t = 0; t < turns; t++)
		for (int i = 0; i < KINDS; i++) {
			wake_each(&kinds[i], ns, n);
			p50[i][t] = percentile(ns, n, 0.5);
			p99[i][t] = percentile(ns, n, 0.99);
		}
	for (int i = 0; i < KINDS; i++) {
		print("wake_one", kinds[i].peer, kinds[i].variant, 0, "p50", p50[i], turns);
		print("wake_one", kinds[i].peer, kinds[i].variant, 0, "p99", p99[i], turns);
	}
}

/* ---- many ------------------------------------------------------------------------------------ */

static uint32_t back; /* atomic: waiters that have returned */

static void *wait_once(void *arg)
{
	wait_notify(0);
	__atomic_fetch_add(&back, 1, __ATOMIC_RELEASE);
	return arg;
}

/* @return from before the post until the last of `n` sleeping threads has returned. */
static double last_of(int n, double *call_ns)
{
	pthread_t thread[FAN_OUT];
	NotifyStats stats;
	uint64_t began, ended;

	begin(&kinds[0]);
	__atomic_store_n(&back, 0, __ATOMIC_RELEASE);
	for (int i = 0; i < n; i++)
		must(pthread_create(&thread[i], NULL, wait_once, NULL) == 0, "pthread_create");
	do {
		nap_us(500);
		q_notify_stats(nq, &stats);
	} while (stats.waiters != (uint64_t)n);
	nap_us(2000);
	began = now_ns();
	post();
	*call_ns = (double)(now_ns() - began);
	while (__atomic_load_n(&back, __ATOMIC_ACQUIRE) != (uint32_t)n)
		sched_yield();
	ended = now_ns();
	for (int i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	end(&kinds[0]);
	return (double)(ended - began);
}

static double to_subscriptions(int n)
{
	NotifySubscription *subs[FAN_OUT];
	double ns;

	begin(&kinds[0]);
	for (int i = 0; i < n; i++)
		must(q_notify_subscribe(nq, handle, 64, Q_NOTIFY_DROP_OLDEST, &subs[i]) == Q_OK,
		     "q_notify_subscribe");
	ns = one_call(post, smoke ? 10 : 20000);
	for (int i = 0; i < n; i++)
		q_notify_unsubscribe(subs[i]);
	end(&kinds[0]);
	return ns;
}

static void fan_out(void)
{
	static const int many[] = { 1, 10, FAN_OUT };
	double subs[3][TURNS], call[3][TURNS], last[3][TURNS];
	const size_t n = smoke ? 1 : TURNS;

	for (size_t t = 0; t < n; t++)
		for (int i = 0; i < 3; i++) {
			subs[i][t] = to_subscriptions(many[i]);
			last[i][t] = last_of(many[i], &call[i][t]);
		}
	for (int i = 0; i < 3; i++) {
		print("post_to", "gpuq", "subscriptions", many[i], "cost", subs[i], n);
		print("post_to", "gpuq", "waiters", many[i], "cost", call[i], n);
		print("post_to", "gpuq", "last waiter back", many[i], "cost", last[i], n);
	}
}

/* ---- a subscription that is never read ------------------------------------------------------- */

/* The same number of posts, by the capacity at a time; in between, unless it is never read, the
 * subscription is emptied, which is not measured. */
static double with_subscription(NotifyPolicy policy, bool is_read)
{
	enum { CAPACITY = 1024 };
	const int batches = smoke ? 2 : 100;
	double ns = 0;

	begin(&kinds[0]);
	must(q_notify_subscribe(nq, handle, CAPACITY, policy, &sub) == Q_OK, "q_notify_subscribe");
	one_call(post, CAPACITY);
	for (int i = 0; i < batches; i++) {
		while (is_read && q_notify_recv(sub, NULL, 0) == Q_OK)
			;
		ns += one_call(post, CAPACITY);
	}
	q_notify_unsubscribe(sub);
	end(&kinds[0]);
	return ns / batches;
}

static void never_read(void)
{
	static const struct {
		const char *name;
		NotifyPolicy policy;
		bool is_read;
	} rows[] = {
		{ "read in time", Q_NOTIFY_DROP_OLDEST, true },
		{ "DROP_OLDEST", Q_NOTIFY_DROP_OLDEST, false },
		{ "DROP_NEWEST", Q_NOTIFY_DROP_NEWEST, false },
		{ "COALESCE", Q_NOTIFY_COALESCE, false },
		{ "CLOSE", Q_NOTIFY_CLOSE, false },
	};
	enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
	double ns[ROWS][TURNS];
	const size_t n = smoke ? 1 : TURNS;

	for (size_t t = 0; t < n; t++)
		for (int i = 0; i < ROWS; i++)
			ns[i][t] = with_subscription(rows[i].policy, rows[i].is_read);
	for (int i = 0; i < ROWS; i++)
		print("never_read", "gpuq", rows[i].name, 0, "cost", ns[i], n);
}

int main(int argc, char **argv)
{
	smoke = argc == 2 && strcmp(argv[1], "--smoke") == 0;
	if (argc > 1 && !smoke) {
		fprintf(stderr, "usage: notify_time [--smoke]\n");
		return 2;
	}
	must(q_notify_create(NULL, &nq) == Q_OK, "q_notify_create");
	event_fd = eventfd(0, EFD_CLOEXEC);
	must(event_fd >= 0, "eventfd");
	nobody_waits();
	somebody_sleeps();
	fan_out();
	never_read();
	close(event_fd);
	q_notify_destroy(nq);
	return 0;
}
