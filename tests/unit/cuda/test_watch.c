/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_watch.c - what the host of a CUDA queue notices while nobody asks, through the stand-in
 * driver: messages that take long, times in which the grid stood still, results that do not arrive;
 * and what becomes of these when the device fails; that the clocks stay aligned.
 */
#include "device/cuda/host/journal.h"
#include "device/cuda/host/ping.h"
#include "device/cuda/host/watch.h"
#include "standin.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)

static const struct standin_control *standin;

/* ---- messages that take long ----------------------------------------------------------------- */

static char logged[1024]; /* lines of the log that say `kept`, by this thread's calls */
static unsigned lines;
static const char *kept;

static void keep(int level, const char *text, void *user)
{
	const size_t used = strlen(logged);

	(void)level, (void)user;
	if (strstr(text, kept) == NULL)
		return;
	snprintf(logged + used, sizeof(logged) - used, "%s\n", text);
	lines++;
}

static void listen_for(const char *words)
{
	kept = words;
	logged[0] = '\0';
	lines = 0;
	q_set_log(keep, NULL);
}

static void await_lines(GpuQueue *q, uint64_t hung_id, unsigned n)
{
	for (unsigned i = 0; lines < n; i++) {
		assert_true(i < LONG_MS / 100);
		assert_status(q_wait(q, hung_id, 100), Q_ERR_TIMEOUT);
	}
}

/* A message that stays inside, and has been there for so long by the device's clock. */
static uint64_t hang_since(GpuQueue *q, uint64_t ns)
{
	const uint32_t others = gate_waiters();
	uint64_t id;

	standin->stop_clock(gq__now_ns() - ns);
	id = send_op(q, OP_GATE, 0, "h", 1);
	await_gate_waiters(others + 1);
	standin->stop_clock(0);
	return id;
}

static void messages_that_hang_are_counted_and_each_is_reported_once(void **state)
{
	QueueConfig cfg = config(8, 64);
	uint64_t first, second;
	char named[80];
	QueueInfo info;
	struct gq_cuda *c;
	GpuQueue *q;

	(void)state;
	cfg.consumers = 2;
	q = make_queue_from(&cfg);
	c = q->device_state;
	listen_for("has been processed for");
	close_gate();
	first = hang_since(q, 4 * SECOND);
	info = queue_info(q);
	assert_int_equal(info.hung_ns, 0); /* not for long */
	assert_int_equal(info.hung, 0);
	await_lines(q, first, 1);
	snprintf(named, sizeof(named), "CUDA: message %llu has been processed for",
		 (unsigned long long)first);
	assert_non_null(strstr(logged, named));
	assert_null(strstr(logged, "longest"));
	info = queue_info(q);
	assert_int_equal(info.hung, 1);
	assert_int_equal(info.hung_msg_id, first);
	assert_true(info.hung_ns >= 5 * SECOND);
	/* By a thread that has asked for the time, and was held up. */
	pthread_mutex_lock(&c->lock);
	gq__watch(c, gq__now_ns() - 3 * SECOND);
	gq__watch(c, gq__now_ns());
	pthread_mutex_unlock(&c->lock);
	assert_int_equal(lines, 1);
	second = hang_since(q, 4 * SECOND); /* behind the first, which stays the longest */
	await_lines(q, first, 2);
	assert_non_null(strstr(logged, "s, the longest of 2: msg_id "));
	snprintf(named, sizeof(named), "%llu, %llu\n", (unsigned long long)first,
		 (unsigned long long)second);
	if (strstr(logged, named) == NULL) {
		snprintf(named, sizeof(named), "%llu, %llu\n", (unsigned long long)second,
			 (unsigned long long)first);
		assert_non_null(strstr(logged, named));
	}
	info = queue_info(q);
	assert_int_equal(info.hung, 2);
	assert_int_equal(info.hung_msg_id, first);
	assert_status(q_wait(q, first, 2500), Q_ERR_TIMEOUT); /* looked at again, nothing new */
	assert_int_equal(lines, 2);
	q_set_log(NULL, NULL);
	open_gate();
	expect_echo(q, first, "h", 1);
	expect_echo(q, second, "h", 1);
	assert_int_equal(queue_info(q).hung, 0);
	assert_int_equal(queue_info(q).hung_ns, 0);
	q_shutdown(q);
}

/* ---- the grid stood still -------------------------------------------------------------------- */

/* Until the grid's first unit, which has nothing to do, has looked twice. */
static void let_it_look(struct gq_cuda *c)
{
	bool answered = true;
	uint64_t measured;

	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < 2 && answered; i++)
		answered = gq__ping_ask(c, GQ_PING_CLOCK, LONG_MS * UINT64_C(1000000), &measured);
	pthread_mutex_unlock(&c->lock);
	assert_true(answered);
}

/* A message that stays inside another unit than the grid's first. */
static uint64_t occupy_the_second_unit(GpuQueue *q)
{
	const struct gq_cuda *c = q->device_state;

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t id;

		close_gate();
		id = send_op(q, OP_GATE, 0, "g", 1);
		await_gate_waiters(1);
		if (gq_load_relaxed_u64(&c->journal[0].noted) == 0)
			return id;
		open_gate();
		expect_echo(q, id, "g", 1);
	}
	fail_msg("the second unit never takes a message");
	return 0;
}

/* A unit leaves its last note behind; the slot may have another message by then. */
static void a_note_of_the_slots_message_before_is_of_none(void **state)
{
	QueueConfig cfg = config(8, 64);
	char ids[160], one[24], both[64];
	struct gq_journal *j;
	GpuQueue *q;
	uint64_t busy;

	(void)state;
	cfg.consumers = 2;
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	busy = occupy_the_second_unit(q);
	snprintf(one, sizeof(one), "%llu", (unsigned long long)busy);
	snprintf(both, sizeof(both), "%s, %s", one, one);
	/* The idle unit's place: it writes there when it takes a message. */
	j = &((struct gq_cuda *)q->device_state)->journal[0];
	gq_store_relaxed_u64(&j->since_ns, 1);
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t ids_of[] = { busy - q->slot_mask - 1, busy + q->slot_mask + 1,
					    busy };

		gq_store_relaxed_u64(&j->noted, GQ_NOTED | (uint32_t)ids_of[i]);
		assert_int_equal(gq__journal_list(q->device_state, UINT64_MAX, ids, sizeof(ids)),
				 i < 2 ? 1 : 2);
		assert_string_equal(ids, i < 2 ? one : both);
	}
	gq_store_relaxed_u64(&j->noted, 0);
	open_gate();
	expect_echo(q, busy, "g", 1);
	q_shutdown(q);
}

static void *pause_until_resumed(void *arg)
{
	return (void *)(intptr_t)q_pause(arg, LONG_MS);
}

static void a_pause_that_is_withdrawn_is_no_stall(void **state)
{
	QueueConfig cfg = config(8, 64);
	uint64_t busy, before, now;
	const struct gq_cuda *c;
	pthread_t pauser;
	void *status;
	GpuQueue *q;

	(void)state;
	cfg.consumers = 2;
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	c = q->device_state;
	busy = occupy_the_second_unit(q);
	now = gq__now_ns();
	standin->stop_clock(now); /* the only stalls are the test's */
	let_it_look(q->device_state);
	assert_int_equal(pthread_create(&pauser, NULL, pause_until_resumed, q), 0);
	for (unsigned i = 0; (gq_load_seq_cst_u64(&c->ack[0]) & GQ_CONTROL_PAUSE) == 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	before = queue_info(q).stalls;
	now += SECOND;
	standin->stop_clock(now);
	assert_status(q_resume(q), Q_OK);
	pthread_join(pauser, &status);
	assert_status((QueueStatus)(intptr_t)status, Q_ERR_CANCELLED);
	let_it_look(q->device_state);
	assert_int_equal(queue_info(q).stalls, before);
	for (unsigned i = 0; queue_info(q).stalls == before; i++) { /* while it runs, one is */
		assert_true(i < LONG_MS);
		now += SECOND;
		standin->stop_clock(now);
		let_it_look(q->device_state);
	}
	standin->stop_clock(0);
	open_gate();
	expect_echo(q, busy, "g", 1);
	q_shutdown(q);
}

/* ---- results that do not arrive -------------------------------------------------------------- */

/* Until the device has completed messages, n of them, that nobody has reaped. */
static void await_completed(const GpuQueue *q, uint32_t n)
{
	uint32_t slot, outcome;

	for (uint32_t i = 0; i < n; i++)
		for (unsigned turns = 0;
		     gq_look_at_done(&q->ch, q->done_pos.head + i, &slot, &outcome) != GQ_WHOLE;
		     turns++) {
			assert_true(turns < LONG_MS);
			nap_ms(1);
		}
}

/* The message's first result word as its consumer would not have written it, or as it was. */
static void meddle(const GpuQueue *q, uint64_t id)
{
	uint64_t *word = (uint64_t *)(void *)gq_result_at(&q->ch, (uint32_t)(id & q->slot_mask));

	gq_store_relaxed_u64(word, ~gq_load_relaxed_u64(word));
}

static void a_result_that_others_have_written_to_is_reported(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	uint64_t first = send(q, "1", 1), second = send(q, "2", 1);
	char named[64];
	QueueInfo info;
	size_t n;

	(void)state;
	await_completed(q, 2);
	meddle(q, first);
	assert_int_equal(queue_info(q).hung, 0); /* not for long: it may be on its way */
	pthread_mutex_lock(&q->reap_lock);
	q->torn_since_ns -= 6 * SECOND;
	pthread_mutex_unlock(&q->reap_lock);
	info = queue_info(q);
	assert_int_equal(info.hung, 1);
	assert_int_equal(info.hung_msg_id, first);
	assert_true(info.hung_ns >= 6 * SECOND);
	assert_status(q_poll_completions(q, &(uint64_t){ 0 }, 1, &n), Q_OK);
	assert_int_equal(n, 0); /* the order of completions stands */
	listen_for("has not been whole for");
	await_lines(q, second, 1);
	snprintf(named, sizeof(named), "the result of message %llu ", (unsigned long long)first);
	assert_non_null(strstr(logged, named));
	assert_status(q_wait(q, second, 2500), Q_ERR_TIMEOUT);
	assert_int_equal(lines, 1);
	q_set_log(NULL, NULL);
	meddle(q, first);
	expect_echo(q, first, "1", 1);
	expect_echo(q, second, "2", 1);
	assert_int_equal(queue_info(q).hung, 0);
	q_shutdown(q);
}

static void what_is_whole_behind_what_is_not_outlives_the_device(void **state)
{
	enum { TORN, MISSING, WAYS };

	(void)state;
	for (int way = TORN; way < WAYS; way++) {
		QueueConfig cfg = config(8, 64);
		GpuQueue *q = make_queue_from(&cfg);
		uint64_t id[4], *entry;
		QueueStats stats;

		for (int i = 0; i < 3; i++) {
			id[i] = send(q, "x", 1);
			await_completed(q, (uint32_t)i + 1);
		}
		close_gate();
		id[3] = send_op(q, OP_GATE, 0, "g", 1);
		await_gate_waiters(1);
		entry = gq_word_ring_entry(&q->ch.done, q->done_pos.head);
		if (way == TORN)
			meddle(q, id[0]);
		else
			gq_store_relaxed_u64(entry, ~gq_load_relaxed_u64(entry));
		standin->break_context(700);
		assert_status(q_wait(q, id[3], LONG_MS), Q_ERR_CUDA);
		stats = stats_of(q);
		assert_int_equal(stats.enq_count, 4);
		assert_int_equal(stats.finished, 4);
		assert_int_equal(stats.failed, 2); /* the one and the one inside */
		open_gate();
		q_shutdown(q);
		while (standin->resident() != 0)
			nap_ms(1);
		standin->break_context(0);
		assert_int_equal(standin->live(), 0);
	}
}

/* ---- clocks ---------------------------------------------------------------------------------- */

/* Its first unit is inside a message, so nobody answers. Each question is waited for under the lock
 * that publishers may want. */
static void a_grid_that_does_not_answer_is_asked_once_a_second(void **state)
{
	QueueConfig cfg = config(8, 64);
	uint64_t id, before, asked;
	struct gq_cuda *c;
	GpuQueue *q;

	(void)state;
	cfg.device = Q_DEVICE_CUDA;
	cfg.consumers = 1;
	q = make_queue_from(&cfg);
	c = q->device_state;
	close_gate();
	id = send_op(q, OP_GATE, 0, "h", 1);
	await_gate_waiters(1);
	nap_ms(1100);
	before = c->link->orders.ping >> GQ_PING_BITS;
	for (unsigned i = 0; i < 20; i++) /* a look each millisecond or so */
		assert_status(q_wait(q, id, 10), Q_ERR_TIMEOUT);
	asked = (c->link->orders.ping >> GQ_PING_BITS) - before;
	if (asked < 1 || asked > 3) /* a busy machine may take seconds */
		fail_msg("asked %u times", (unsigned)asked);
	open_gate();
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	q_shutdown(q);
}

static void one_lucky_trip_does_not_end_the_alignment_of_clocks(void **state)
{
	const uint64_t patience_ns = LONG_MS * UINT64_C(1000000);
	QueueConfig cfg = config(8, 64);
	uint64_t before, error;
	const uint64_t *ahead;
	struct gq_cuda *c;
	GpuQueue *q;
	bool answered;
	unsigned asked = 1;

	(void)state;
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	c = q->device_state;
	ahead = &c->link->orders.ahead_ns;
	pthread_mutex_lock(&c->lock);
	c->trip_ns = 1;
	before = gq_load_relaxed_u64(ahead);
	standin->stop_clock(gq__now_ns() - 3600 * SECOND); /* the device's drifts off */
	answered = gq__ping_clock(c, patience_ns);
	error = gq_load_relaxed_u64(ahead) - before; /* a trip so much longer is not used */
	while (answered && asked < 1000 && gq_load_relaxed_u64(ahead) == before) {
		answered = gq__ping_clock(c, patience_ns);
		asked++;
	}
	pthread_mutex_unlock(&c->lock);
	assert_true(answered);
	assert_int_equal(error, 0);
	assert_true(asked > 2 && asked < 1000);
	assert_true(gq_load_relaxed_u64(ahead) - before > 3599 * SECOND);
	standin->stop_clock(0);
	q_shutdown(q);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_that_hang_are_counted_and_each_is_reported_once),
		cmocka_unit_test(a_note_of_the_slots_message_before_is_of_none),
		cmocka_unit_test(a_pause_that_is_withdrawn_is_no_stall),
		cmocka_unit_test(a_result_that_others_have_written_to_is_reported),
		cmocka_unit_test(what_is_whole_behind_what_is_not_outlives_the_device),
		cmocka_unit_test(a_grid_that_does_not_answer_is_asked_once_a_second),
		cmocka_unit_test(one_lucky_trip_does_not_end_the_alignment_of_clocks),
	};

	standin = begin_on_standin(argc, argv);
	if (standin == NULL)
		return 77;
	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
