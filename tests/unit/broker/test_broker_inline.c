/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broker_inline.c - messages that a dispatcher runs itself, and what becomes of it when they
 * do not end: the other thread of the pair takes its place.
 */
#include "own_socket.h"
#include "support.h"

#include "broker/dispatch.h"
#include "broker/session.h"

#include "host/base/clock.h"
#include "host/base/memory.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Holds the message "hold" until the test lets it go, "H" until it does so for the second
 * time, "S" as "hold", but spinning; "m" takes a moment; "d" ends when the deadline of the message
 * behind it has passed, "L" when the thread that stands by has looked; at "t" another client sends
 * a message, of tag 2; "T" is "t", then "L". Copies all. */
static uint32_t holding, let_go;
static uint64_t until_ns;  /* that deadline; 0: it is not known yet */
static GpuQueue *triggers; /* this and the next one are read by a dispatcher's thread */
static const struct pair *looks_at;

/* The tags of messages as they run, after record_runs(). */
static uint32_t recorded;
static uint64_t tag_run[4096];

static void record_runs(void)
{
	gq_exchange_seq_cst_u32(&recorded, 0);
}

static uint32_t runs_of(uint64_t tag, uint32_t until)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < until; i++)
		n += tag_run[i] == tag;
	return n;
}

/* How many had run when the last of these did. */
static uint32_t runs_until_last_of(uint64_t tag)
{
	uint32_t n = gq_load_seq_cst_u32(&recorded);

	while (n != 0 && tag_run[n - 1] != tag)
		n--;
	return n;
}

static uint64_t looks(void)
{
	const struct pair *p = __atomic_load_n(&looks_at, __ATOMIC_ACQUIRE);

	return gq_load_relaxed_u64(&p->member[0].looks) + gq_load_relaxed_u64(&p->member[1].looks);
}

/* For longer than a client's turn, and until the thread that stands by has looked; it takes the
 * lead at its next look. */
static void run_until_looked_at(void)
{
	const uint64_t before = looks(), since_ns = gq__now_ns();

	while (looks() == before || gq__now_ns() < since_ns + 200000)
		gq_cpu_relax();
}

static void hold(const MsgView *in, ResultView *out)
{
	const uint32_t len = in->len < out->cap ? in->len : out->cap;
	const char first = in->len == 1 || (in->len == 4 && memcmp(in->payload, "hold", 4) == 0)
				   ? (char)in->payload[0]
				   : 0;

	if (first == 'h' || first == 'H') {
		gq_exchange_seq_cst_u32(&holding, 1);
		while (gq_load_seq_cst_u32(&let_go) < (first == 'h' ? 1u : 2u))
			nap_ms(1);
		gq_exchange_seq_cst_u32(&holding, 0);
	}
	if (first == 'S') {
		gq_exchange_seq_cst_u32(&holding, 1);
		while (gq_load_seq_cst_u32(&let_go) == 0)
			gq_cpu_relax();
		gq_exchange_seq_cst_u32(&holding, 0);
	}
	if (first == 'm')
		usleep(300);
	while (first == 'd' && (gq_load_seq_cst_u64(&until_ns) == 0 ||
				gq__now_ns() < gq_load_seq_cst_u64(&until_ns)))
		gq_cpu_relax();
	if (first == 't' || first == 'T') {
		const EnqueueOptions options = { .tag = 2 };

		send_with(__atomic_load_n(&triggers, __ATOMIC_ACQUIRE), &options, "x", 1);
	}
	if (first == 'L' || first == 'T')
		run_until_looked_at();
	tag_run[gq_load_seq_cst_u32(&recorded) % 4096] = in->tag;
	gq_exchange_seq_cst_u32(&recorded, gq_load_seq_cst_u32(&recorded) + 1);
	memcpy(out->out, in->payload, len);
	*out->out_len = in->len;
}

static const QProcessorImage holder = { .magic = Q_PROCESSOR_MAGIC,
					.protocol_version = Q_PROTOCOL_VERSION,
					.granularity = Q_PER_WARP,
					.name = "hold_h",
					.cpu = hold };

static struct broker *start_broker(uint32_t inline_us, bool per_client)
{
	char error[BROKER_ERROR_ROOM];
	struct broker_config cfg;
	struct broker *b;

	broker_config_defaults(&cfg);
	broker_queue_defaults(&cfg.queue[0], "default");
	cfg.queues = 1;
	cfg.drain_ms = 0;
	cfg.queue[0].device = Q_DEVICE_CPU;
	cfg.queue[0].consumers = 1;
	cfg.queue[0].inline_us = inline_us;
	cfg.queue[0].per_client = per_client;
	snprintf(cfg.queue[0].processor, sizeof(cfg.queue[0].processor), "hold_h");
	snprintf(cfg.socket, sizeof(cfg.socket), "%s", own_socket);
	b = broker_start(&cfg, error);
	if (b == NULL)
		fail_msg("%s", error);
	return b;
}

static GpuQueue *connect_one(uint32_t result_bytes)
{
	const QueueConfig c = { .capacity = 1024,
				.slot_bytes = 64,
				.result_bytes = result_bytes,
				.shutdown_timeout_ms = 1,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };

	return make_queue_from(&c);
}

static void await_word(const uint32_t *word, uint32_t value)
{
	for (unsigned i = 0; gq_load_seq_cst_u32(word) != value; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

static void send_and_expect(GpuQueue *q, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
}

/* Messages that have gone through gpuqd's own queue. */
static uint64_t queued(const struct broker *b)
{
	return stats_of(b->dispatcher[0]->q).enq_count;
}

/* Whether the dispatcher does what it is told. */
static void expect_turning(const struct broker *b)
{
	dispatcher_show(b->dispatcher[0], NULL, 0);
	await_word(&b->dispatcher[0]->asked, 0);
}

/* After it messages go through the queue. Once may not be enough: on a busy machine a thread that
 * naps may want a CPU, and get none, just when it is looked at. */
static void fail_a_run(const struct broker *b, GpuQueue *q)
{
	uint32_t rest;

	do {
		uint64_t id;

		gq_exchange_seq_cst_u32(&let_go, 0);
		id = send(q, "hold", 4);
		await_word(&holding, 1);
		expect_turning(b); /* another thread leads */
		gq_exchange_seq_cst_u32(&let_go, 1);
		expect_echo(q, id, "hold", 4);
		expect_turning(b);
		rest = b->dispatcher[0]->brevity.rest;
		expect_turning(b); /* what it writes next comes after this look */
	} while (rest == 0);
}

static void await_queued(const struct broker *b, uint64_t n)
{
	for (unsigned i = 0; queued(b) != n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* Then the queue's consumer is held, and these messages wait for it, and more, `n` in all. */
static uint64_t fill_queue(const struct broker *b, GpuQueue *q, const char *what, uint32_t n)
{
	const EnqueueOptions low = { .priority = Q_PRIORITY_LOW, .tag = 1 };
	const size_t len = strlen(what);
	const uint64_t before = queued(b);
	uint64_t id;

	gq_exchange_seq_cst_u32(&let_go, 0);
	id = send(q, "hold", 4);
	await_word(&holding, 1);
	for (uint32_t i = 0; i < n; i++)
		send_with(q, &low, i < len ? what + i : "m", 1);
	await_queued(b, before + 1 + n);
	return id;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void short_messages_are_run_by_the_dispatcher_and_others_in_its_queue(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64);

	(void)state;
	send_and_expect(q, 100);
	assert_true(queued(b) < 100); /* on a busy machine some may look long */
	q_shutdown(q);
	broker_stop(b);
	b = start_broker(0, false);
	q = connect_one(64);
	send_and_expect(q, 100);
	assert_int_equal(queued(b), 100);
	q_shutdown(q);
	broker_stop(b);
}

static void what_is_run_ends_as_it_does_in_a_queue(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(8);
	EnqueueOptions late = { .deadline_ns = 1 };
	size_t len = 0;

	(void)state;
	/* More than this client has room for, though not more than gpuqd. */
	assert_status(take(q, send(q, "nine char", 9), NULL, &len), Q_ERR_FAILED);
	assert_status(take(q, send_with(q, &late, "x", 1), NULL, &len), Q_ERR_EXPIRED);
	expect_echo(q, send(q, "12345678", 8), "12345678", 8);
	expect_echo(q, send(q, "", 0), "", 0);
	q_shutdown(q);
	broker_stop(b);
}

/* The clock is read for several very short messages together; and one of them may be long. Where
 * the lead is taken meanwhile, or the first one goes through the queue, it is read for that: so
 * this is done more than once. */
static void a_deadline_that_passes_while_another_message_runs_has_passed(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64);

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		EnqueueOptions late = { .tag = 1 };
		uint64_t first, second;
		size_t len = 0;

		send_and_expect(q, 2 * GQ_BREVITY_REST);
		gq_exchange_seq_cst_u64(&until_ns, 0);
		first = send(q, "d", 1);
		late.deadline_ns = gq__now_ns() + 500000;
		second = send_with(q, &late, "x", 1);
		gq_exchange_seq_cst_u64(&until_ns, late.deadline_ns);
		expect_echo(q, first, "d", 1);
		assert_status(take(q, second, NULL, &len), Q_ERR_EXPIRED);
	}
	q_shutdown(q);
	broker_stop(b);
}

/* As many as the clock is read for together. While the first one runs another client sends one. On
 * a busy machine the lead may be taken, and then messages go through the queue, in its order. */
static void very_short_messages_that_become_long_end_their_clients_turn(void **state)
{
	struct broker *b = start_broker(20000, false);
	GpuQueue *q = connect_one(64), *other = connect_one(64);
	const EnqueueOptions of_long = { .tag = 1 };

	(void)state;
	__atomic_store_n(&looks_at, b->dispatcher[0]->pair, __ATOMIC_RELEASE);
	__atomic_store_n(&triggers, other, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t before, ids[8];

		send_and_expect(q, 2 * GQ_BREVITY_REST);
		before = queued(b);
		record_runs();
		for (unsigned k = 0; k < 8; k++)
			ids[k] = send_with(q, &of_long, k == 0 ? "T" : "L", 1);
		for (unsigned k = 0; k < 8; k++)
			expect_echo(q, ids[k], k == 0 ? "T" : "L", 1);
		await_word(&recorded, 9);
		if (queued(b) == before)
			assert_in_range(runs_of(1, runs_until_last_of(2)), 1, 4);
	}
	q_shutdown(other);
	q_shutdown(q);
	broker_stop(b);
}

static void a_message_that_does_not_end_keeps_nothing_but_messages(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64), *other;
	uint64_t held, waits, cancelled;

	(void)state;
	gq_exchange_seq_cst_u32(&let_go, 0);
	send_and_expect(q, 10);
	held = send(q, "hold", 4);
	await_word(&holding, 1);
	expect_turning(b); /* another thread leads */
	other = connect_one(64);
	waits = send(other, "waits", 5);
	cancelled = send(other, "never", 5);
	assert_status(q_cancel(other, cancelled), Q_OK);
	assert_status(q_cancel(q, held), Q_OK);                 /* too late */
	assert_status(q_wait(other, waits, 20), Q_ERR_TIMEOUT); /* the queue has one consumer */
	gq_exchange_seq_cst_u32(&let_go, 1);
	expect_echo(q, held, "hold", 4);
	expect_echo(other, waits, "waits", 5);
	assert_status(take(other, cancelled, NULL, &(size_t){ 0 }), Q_ERR_CANCELLED);
	/* And on, with the threads in each other's place; a hundred have to go through the queue
	 * before one is run again. */
	send_and_expect(other, 300);
	send_and_expect(q, 300);
	q_shutdown(other);
	q_shutdown(q);
	broker_stop(b);
}

static int calls_left(const struct broker *b)
{
	int n = -1;

	assert_int_equal(sem_getvalue(&b->dispatcher[0]->pair->call, &n), 0);
	return n;
}

/* Calls make the looks of the one who stands by many, in less time than it waits before it takes
 * the lead. It must not sleep for that. */
static void call_until_the_lead_is_taken(const struct broker *b)
{
	struct pair *p = b->dispatcher[0]->pair;

	while (gq_load_seq_cst_u64(&p->turn) % 2 != 0 && gq_load_seq_cst_u32(&p->dozing) == 0)
		if (calls_left(b) == 0)
			sem_post(&p->call);
}

/* Either thread can be kept, again and again, whatever the other is called for meanwhile. */
static void keep_one_and_then_the_other(const struct broker *b, GpuQueue *q)
{
	for (unsigned i = 0; i < 4; i++) {
		uint64_t id;

		gq_exchange_seq_cst_u32(&let_go, 0);
		id = send(q, "hold", 4);
		await_word(&holding, 1);
		call_until_the_lead_is_taken(b);
		expect_turning(b);
		gq_exchange_seq_cst_u32(&let_go, 1);
		expect_echo(q, id, "hold", 4);
		send_and_expect(q,
				(unsigned)GQ_BREVITY_REST << i); /* then messages are run again */
	}
}

static void whichever_thread_is_kept_the_other_goes_on(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64);

	(void)state;
	keep_one_and_then_the_other(b, q);
	q_shutdown(q);
	broker_stop(b);
}

/* The kernel has just begun to refuse it. */
static void where_membarrier_is_refused_the_lead_is_taken_as_well(void **state)
{
	struct broker *b = start_broker(1000, false);
	struct pair *p = b->dispatcher[0]->pair;
	GpuQueue *q = connect_one(64);

	(void)state;
	gq_store_relaxed_u64(&p->fenced_since_ns, gq__now_ns());
	gq_exchange_seq_cst_u32(&p->fenced, 1);
	keep_one_and_then_the_other(b, q);
	q_shutdown(q);
	broker_stop(b);
}

/* A leader that sleeps while the queue has work calls; the other may be waiting in the queue. */
static void no_call_is_left_over(void **state)
{
	struct broker *b = start_broker(1000, false);
	struct pair *p = b->dispatcher[0]->pair;
	GpuQueue *q = connect_one(64);
	uint64_t id;

	(void)state;
	fail_a_run(b, q);
	id = fill_queue(b, q, "", 0);
	await_word(&p->armed, 1);
	for (unsigned i = 0; i < 3; i++)
		sem_post(&p->call);
	for (unsigned i = 0; calls_left(b) != 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	gq_exchange_seq_cst_u32(&let_go, 1);
	expect_echo(q, id, "hold", 4);
	q_shutdown(q);
	broker_stop(b);
}

static sem_t sleepers_end;
static pid_t sleeper_tid;

static void *sleep_until_the_end(void *joined)
{
	sleeper_tid = (pid_t)syscall(SYS_gettid);
	sem_post(joined);
	while (sem_wait(&sleepers_end) != 0)
		;
	return NULL;
}

static pthread_t start_sleeper(void)
{
	pthread_t thread;
	sem_t joined;

	sem_init(&joined, 0, 0);
	sem_init(&sleepers_end, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, sleep_until_the_end, &joined), 0);
	while (sem_wait(&joined) != 0)
		;
	sem_destroy(&joined);
	return thread;
}

static void end_sleeper(pthread_t thread)
{
	sem_post(&sleepers_end);
	pthread_join(thread, NULL);
	sem_destroy(&sleepers_end);
}

/* The lead is taken from a thread that spins in a message, and whose CPU time is by this clock.
 * @return how many messages are handed on after that */
static uint32_t rest_after_a_run(clockid_t cpu)
{
	struct broker *b = start_broker(100, false);
	struct dispatcher *d = b->dispatcher[0];
	GpuQueue *q = connect_one(64);
	uint32_t rest;
	uint64_t id;

	expect_turning(b); /* the leader has written what its clock is; nobody has read it */
	d->pair->member[0].cpu = cpu;
	expect_turning(b);
	gq_exchange_seq_cst_u32(&let_go, 0);
	id = send(q, "S", 1);
	await_word(&holding, 1);
	for (unsigned i = 0; gq_load_seq_cst_u64(&d->pair->turn) % 2 != 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	gq_exchange_seq_cst_u32(&let_go, 1);
	expect_echo(q, id, "S", 1);
	expect_turning(b);
	rest = d->brevity.rest;
	q_shutdown(q);
	broker_stop(b);
	return rest;
}

static void a_leader_that_lost_its_cpu_is_not_a_long_message(void **state)
{
	const pthread_t sleeper = start_sleeper();
	clockid_t still;

	(void)state;
	assert_int_equal(pthread_getcpuclockid(sleeper, &still), 0);
	assert_int_equal(rest_after_a_run(still), 0);
	assert_int_equal(rest_after_a_run(CLOCK_MONOTONIC), GQ_BREVITY_REST);
	end_sleeper(sleeper);
}

static void who_wants_a_cpu_is_told_from_who_waits_for_something_else(void **state)
{
	const pthread_t sleeper = start_sleeper();

	(void)state;
	assert_true(pair_is_runnable((pid_t)syscall(SYS_gettid)));
	for (unsigned i = 0; pair_is_runnable(sleeper_tid); i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	assert_false(pair_is_runnable(INT_MAX)); /* there is none */
	end_sleeper(sleeper);
}

static void nobody_waits_until_the_queue_is_empty(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64), *other = connect_one(64);
	const EnqueueOptions urgent = { .priority = Q_PRIORITY_URGENT, .tag = 2 };
	uint64_t id, before;

	(void)state;
	fail_a_run(b, q);
	fill_queue(b, q, "xxH", GQ_BREVITY_REST - 1);
	before = queued(b);
	record_runs();
	id = send_with(other, &urgent, "u", 1);
	gq_exchange_seq_cst_u32(&let_go, 1); /* three end, and then the queue is held again */
	await_queued(b, before + 1);
	gq_exchange_seq_cst_u32(&let_go, 2);
	expect_echo(other, id, "u", 1);
	assert_in_range(runs_of(1, runs_until_last_of(2)), 0, GQ_BREVITY_REST / 2);
	q_shutdown(other);
	q_shutdown(q);
	broker_stop(b);
}

static void classes_are_in_order_among_clients(void **state)
{
	enum { N = 600 };
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64), *low = connect_one(64), *high = connect_one(64);
	const EnqueueOptions of_low = { .priority = Q_PRIORITY_LOW, .tag = 1 };
	const EnqueueOptions of_high = { .priority = Q_PRIORITY_URGENT, .tag = 2 };
	uint64_t last = 0, last_low = 0;

	(void)state;
	gq_exchange_seq_cst_u32(&let_go, 0);
	send(q, "hold", 4);
	await_word(&holding, 1);
	for (unsigned i = 0; i < N; i++) {
		last_low = send_with(low, &of_low, "l", 1);
		last = send_with(high, &of_high, "u", 1);
	}
	record_runs();
	gq_exchange_seq_cst_u32(&let_go, 1);
	assert_status(q_wait(high, last, LONG_MS), Q_OK);
	/* What goes through the queue before messages are run again, and what ages. Where threads
	 * lose their CPUs messages go through the queue more than once; without an order it is all
	 * N. */
	assert_in_range(runs_of(1, runs_until_last_of(2)), 1, N - N / 4);
	assert_status(q_wait(low, last_low, LONG_MS), Q_OK);
	q_shutdown(low);
	q_shutdown(high);
	q_shutdown(q);
	broker_stop(b);
}

static bool one_pauses(const struct broker *b)
{
	for (const struct session *s = b->sessions; s != NULL; s = s->next)
		if ((gq_load_seq_cst_u64(&s->client.page->control) & GQ_CONTROL_PAUSE) != 0)
			return true;
	return false;
}

/* When what is in the queue has been recalled. */
static void *let_go_of_paused(void *arg)
{
	const struct broker *b = arg;

	while (!one_pauses(b))
		nap_ms(1);
	expect_turning(b);
	expect_turning(b); /* that one saw the pause */
	gq_exchange_seq_cst_u32(&let_go, 1);
	return NULL;
}

/* What a pause has brought back from the queue is run in turns with other clients' messages. */
static void what_was_held_takes_turns(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64), *other = connect_one(64);
	const uint32_t n = 2 * GQ_BREVITY_REST - 1;
	pthread_t thread;

	(void)state;
	fail_a_run(b, q);
	send_and_expect(q, GQ_BREVITY_REST);
	fail_a_run(b, q);
	__atomic_store_n(&triggers, other, __ATOMIC_RELEASE);
	fill_queue(b, q, "t", n);
	assert_int_equal(pthread_create(&thread, NULL, let_go_of_paused, b), 0);
	assert_status(q_pause(q, LONG_MS), Q_OK);
	pthread_join(thread, NULL);
	record_runs();
	assert_status(q_resume(q), Q_OK);
	await_word(&recorded, n + 1);
	assert_in_range(runs_of(1, runs_until_last_of(2)), 1, GQ_BREVITY_REST);
	q_shutdown(other);
	q_shutdown(q);
	broker_stop(b);
}

/* While a message does not end, a stop whose time is over ends those that it has not run. */
static void what_is_cancelled_needs_no_room(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64), *other = connect_one(64);
	uint64_t held, waits;

	(void)state;
	gq_exchange_seq_cst_u32(&let_go, 0);
	held = send(q, "hold", 4);
	await_word(&holding, 1);
	expect_turning(b);
	waits = send(other, "waits", 5);
	assert_status(q_stop(other, 20), Q_ERR_TIMEOUT);
	assert_status(q_wait(other, waits, LONG_MS), Q_OK);
	assert_int_equal(gq_load_seq_cst_u32(&holding), 1);
	assert_status(take(other, waits, NULL, &(size_t){ 0 }), Q_ERR_CANCELLED);
	gq_exchange_seq_cst_u32(&let_go, 1);
	expect_echo(q, held, "hold", 4);
	q_shutdown(other);
	q_shutdown(q);
	broker_stop(b);
}

/* A client's bell, not the thread that waits in the queue, may wake the leader. */
static void who_stands_by_rests_when_the_leader_does(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64);

	(void)state;
	/* As the leader does on its way to sleep. It may be awake just now: so it is woken until it
	 * has slept in between. */
	pair_arm(b->dispatcher[0]->pair);
	for (unsigned i = 0; gq_load_seq_cst_u32(&b->dispatcher[0]->pair->armed) != 0; i++) {
		assert_true(i < LONG_MS);
		send_and_expect(q, 1);
		nap_ms(1);
	}
	await_word(&b->dispatcher[0]->pair->dozing, 1);
	send_and_expect(q, 1);
	q_shutdown(q);
	broker_stop(b);
}

static void a_client_may_leave_while_its_message_does_not_end(void **state)
{
	struct broker *b = start_broker(1000, false);
	GpuQueue *q = connect_one(64), *other = connect_one(64);
	uint64_t id;

	(void)state;
	gq_exchange_seq_cst_u32(&let_go, 0);
	send(q, "hold", 4);
	await_word(&holding, 1);
	q_shutdown(q);
	id = send(other, "waits", 5);
	assert_status(q_wait(other, id, 20), Q_ERR_TIMEOUT);
	gq_exchange_seq_cst_u32(&let_go, 1);
	expect_echo(other, id, "waits", 5);
	q_shutdown(other);
	broker_stop(b);
}

static void expect_end_while_one_is_kept(bool per_client)
{
	const size_t before = gq__alloc_live_bytes();
	const unsigned threads = threads_now();
	struct broker *b = start_broker(1000, per_client);
	GpuQueue *q = connect_one(64);
	struct dispatcher *d = per_client ? b->sessions->dispatcher : b->dispatcher[0];

	gq_exchange_seq_cst_u32(&let_go, 0);
	send(q, "hold", 4);
	await_word(&holding, 1);
	d->q->cfg.shutdown_timeout_ms = 20;
	broker_stop(b);
	q_shutdown(q);
	assert_int_equal(threads_now(), threads + 1);
	assert_true(gq__alloc_live_bytes() > before); /* what it works on is still there */
	gq_exchange_seq_cst_u32(&let_go, 1);
	for (unsigned i = 0; threads_now() != threads || gq__alloc_live_bytes() != before; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

static void it_ends_while_a_message_does_not(void **state)
{
	(void)state;
	q_set_log(NULL, NULL);
	expect_end_while_one_is_kept(false);
	expect_end_while_one_is_kept(true);
}

static int set_up(void **state)
{
	q_register_processor(&holder);
	return own_socket_set_up(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_messages_are_run_by_the_dispatcher_and_others_in_its_queue),
		cmocka_unit_test(what_is_run_ends_as_it_does_in_a_queue),
		cmocka_unit_test(a_deadline_that_passes_while_another_message_runs_has_passed),
		cmocka_unit_test(very_short_messages_that_become_long_end_their_clients_turn),
		cmocka_unit_test(a_message_that_does_not_end_keeps_nothing_but_messages),
		cmocka_unit_test(whichever_thread_is_kept_the_other_goes_on),
		cmocka_unit_test(where_membarrier_is_refused_the_lead_is_taken_as_well),
		cmocka_unit_test(no_call_is_left_over),
		cmocka_unit_test(a_leader_that_lost_its_cpu_is_not_a_long_message),
		cmocka_unit_test(who_wants_a_cpu_is_told_from_who_waits_for_something_else),
		cmocka_unit_test(nobody_waits_until_the_queue_is_empty),
		cmocka_unit_test(classes_are_in_order_among_clients),
		cmocka_unit_test(what_was_held_takes_turns),
		cmocka_unit_test(what_is_cancelled_needs_no_room),
		cmocka_unit_test(who_stands_by_rests_when_the_leader_does),
		cmocka_unit_test(a_client_may_leave_while_its_message_does_not_end),
		cmocka_unit_test(it_ends_while_a_message_does_not),
	};

	return cmocka_run_group_tests_name("broker_inline", tests, set_up, own_socket_tear_down);
}
