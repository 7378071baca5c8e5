/* SPDX-License-Identifier: Apache-2.0 */
/* test_trace.c - the trace: every message once, its times in order, percentiles, file, failures. */
#include "host/base/fault.h"
#include "standin.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[128];

static QueueConfig traced(uint32_t capacity)
{
	QueueConfig cfg = config(capacity, 64);

	cfg.flags = Q_TRACE;
	return cfg;
}

static GpuQueue *make_traced(uint32_t capacity)
{
	QueueConfig cfg = traced(capacity);

	return make_queue_from(&cfg);
}

static TraceSummary summary_of(GpuQueue *q)
{
	TraceSummary s;

	if (q_trace_summary(q, &s) != Q_OK)
		fail_msg("q_trace_summary: %s", q_last_error());
	return s;
}

/* The file passes for a trace of so many messages. Without Python this is not looked at. */
static void check_file(const char *file, unsigned messages)
{
	char command[512];
	int rc;

	snprintf(command, sizeof(command), "python3 '%s' '%s' %u", GPUQ_CHECK_TRACE, file,
		 messages);
	fflush(NULL);
	rc = system(command); /* NOLINT(cert-env33-c) */
	if (WIFEXITED(rc) && WEXITSTATUS(rc) == 127)
		print_message("no python3: %s is not checked\n", file);
	else
		assert_int_equal(rc, 0);
}

static void write_and_check(GpuQueue *q, unsigned messages)
{
	if (q_trace_write(q, path) != Q_OK)
		fail_msg("q_trace_write: %s", q_last_error());
	check_file(path, messages);
}

static const struct gq_trace_record *record_of(const GpuQueue *q, uint64_t id)
{
	const struct gq_trace_record *found = NULL;

	for (uint64_t i = 0; i < q->trace->used; i++) {
		if (q->trace->record[i].msg_id != id)
			continue;
		assert_null(found);
		found = &q->trace->record[i];
	}
	assert_non_null(found);
	return found;
}

/* As recorded, before anything is moved. */
static void expect_order(GpuQueue *q, const struct gq_trace_record *r)
{
	const uint64_t error_ns = summary_of(q).clock_error_ns;

	assert_int_equal(on_cuda(), error_ns != 0);
	assert_true(r->enqueued_ns != 0 && r->enqueued_ns <= r->visible_ns);
	assert_true(r->visible_ns <= r->claimed_ns + error_ns);
	assert_true(r->claimed_ns <= r->done_ns);
	assert_true(r->done_ns <= r->seen_ns + error_ns);
	assert_true(r->visible_ns <= r->seen_ns);
}

static void without_a_trace_there_is_none(void **state)
{
	QueueConfig cfg = config(16, 64);
	size_t before = gq__alloc_live_bytes(), without;
	TraceSummary s;
	GpuQueue *q;

	(void)state;
	q = make_queue_from(&cfg);
	without = gq__alloc_live_bytes() - before;
	assert_null(q->trace);
	assert_null(q->ch.stamps);
	expect_echo(q, send(q, "x", 1), "x", 1);
	assert_status(q_trace_write(q, path), Q_ERR_UNSUPPORTED);
	assert_non_null(strstr(q_last_error(), "made without Q_TRACE"));
	assert_status(q_trace_summary(q, &s), Q_ERR_UNSUPPORTED);
	q_shutdown(q);
	assert_int_equal(gq__alloc_live_bytes(), before);
	q = make_traced(16);
	assert_true(gq__alloc_live_bytes() - before >=
		    without + Q_DEFAULT_TRACE_RECORDS * sizeof(struct gq_trace_record));
	q_shutdown(q);
	assert_int_equal(gq__alloc_live_bytes(), before);
}

static void every_message_is_there_once_with_its_times_in_order(void **state)
{
	GpuQueue *q = make_traced(16);
	uint64_t id[100];

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		const EnqueueOptions o = { .opcode = i % 10 == 9 ? OP_FAIL : OP_XOR,
					   .priority = i % 5 };
		char buf[64];
		size_t len = sizeof(buf);

		id[i] = send_with(q, &o, "0123456789", i % 11);
		if (i % 4 == 3)
			for (uint32_t k = i - 3; k <= i; k++, len = sizeof(buf))
				assert_status(take(q, id[k], buf, &len),
					      k % 10 == 9 ? Q_ERR_FAILED : Q_OK);
	}
	assert_int_equal(summary_of(q).recorded, 100);
	for (uint32_t i = 0; i < 100; i++) {
		const struct gq_trace_record *r = record_of(q, id[i]);

		expect_order(q, r);
		assert_int_equal(r->len, i % 11);
		assert_int_equal(r->opcode, i % 10 == 9 ? OP_FAIL : OP_XOR);
		assert_int_equal(r->priority, i % 5 == 0 ? 1 : i % 5 - 1);
		assert_int_equal(r->outcome, i % 10 == 9 ? GQ_OUTCOME_REPORTED + 7 : i % 11);
		assert_true(r->consumer < 64);
	}
	write_and_check(q, 100);
	assert_int_equal(stats_of(q).finished, 100);
	q_shutdown(q);
}

static void batches_reservations_and_discarded_messages_are_there_too(void **state)
{
	const EnqueueItem items[3] = { { "a", 1 }, { "b", 1 }, { "c", 1 } };
	const EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	GpuQueue *q = make_traced(16);
	uint64_t ids[3], reserved, aborted;
	const struct gq_trace_record *r;
	void *at;

	(void)state;
	assert_status(q_enqueue_batch(q, items, 3, ids, NULL, 0), Q_OK);
	assert_status(q_reserve(q, 4, NULL, &at, &aborted, 0), Q_OK);
	assert_status(q_reserve(q, 4, NULL, &at, &reserved, 0), Q_OK);
	memset(at, 0, 4);
	nap_ms(50);
	assert_status(q_commit(q, reserved), Q_OK);
	assert_status(q_abort(q, aborted), Q_OK);
	send_with(q, &discard, "d", 1);
	send_with(q, &discard, "e", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_int_equal(summary_of(q).recorded, 6);
	for (int i = 0; i < 3; i++)
		expect_order(q, record_of(q, ids[i]));
	assert_int_equal(record_of(q, ids[0])->enqueued_ns, record_of(q, ids[2])->enqueued_ns);
	r = record_of(q, reserved); /* what the caller did between the two is not the queue's */
	expect_order(q, r);
	assert_true(r->enqueued_ns > record_of(q, ids[2])->seen_ns ||
		    r->enqueued_ns - record_of(q, ids[2])->enqueued_ns >= 50000000);
	write_and_check(q, 6);
	q_shutdown(q);
}

static void messages_that_do_not_run_say_so(void **state)
{
	GpuQueue *q = make_traced(16);
	EnqueueOptions late = { .deadline_ns = 1 };
	uint64_t gate, cancelled, expired, ok;
	TraceSummary s;

	(void)state;
	close_gate();
	gate = send_op(q, OP_GATE, 0, "g", 1);
	await_gate_waiters(1);
	cancelled = send(q, "c", 1);
	assert_status(q_cancel(q, cancelled), Q_OK);
	expired = send_with(q, &late, "e", 1);
	ok = send(q, "o", 1);
	nap_ms(20);
	open_gate();
	assert_status(q_drain(q, LONG_MS), Q_OK);
	s = summary_of(q);
	assert_int_equal(s.recorded, 4);
	assert_int_equal(record_of(q, cancelled)->outcome, GQ_OUTCOME_CANCELLED);
	assert_int_equal(record_of(q, expired)->outcome, GQ_OUTCOME_EXPIRED);
	expect_order(q, record_of(q, cancelled));
	expect_order(q, record_of(q, expired));
	expect_order(q, record_of(q, ok));
	assert_int_equal(s.stage[Q_STAGE_ENQUEUE].count, 4);
	assert_int_equal(s.stage[Q_STAGE_WAIT].count, 4);
	assert_int_equal(s.stage[Q_STAGE_PROCESS].count, 2);
	assert_int_equal(s.stage[Q_STAGE_NOTICE].count, 4);
	assert_int_equal(s.stage[Q_STAGE_TOTAL].count, 4);
	assert_true(s.stage[Q_STAGE_PROCESS].max_ns >= 20000000); /* behind the gate */
	assert_true(s.stage[Q_STAGE_TOTAL].max_ns >= s.stage[Q_STAGE_PROCESS].max_ns);
	assert_true(record_of(q, gate)->done_ns - record_of(q, gate)->claimed_ns >= 20000000);
	write_and_check(q, 4);
	q_shutdown(q);
}

static void what_a_stop_cancels_is_there(void **state)
{
	GpuQueue *q = make_traced(16);
	unsigned by_host = 0;

	(void)state;
	close_gate();
	send_op(q, OP_GATE, 0, "g", 1);
	await_gate_waiters(1);
	for (int i = 0; i < 5; i++)
		send(q, "c", 1);
	assert_status(q_stop(q, 0), Q_ERR_TIMEOUT);
	open_gate();
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_int_equal(summary_of(q).recorded, 6);
	assert_int_equal(stats_of(q).cancelled, 5);
	for (uint64_t i = 0; i < 6; i++) {
		expect_order(q, &q->trace->record[i]);
		by_host += q->trace->record[i].consumer == GQ_NONE;
	}
	/* There the host claims, here only the units can. */
	assert_int_equal(by_host, on_cuda() || on_remote() ? 0 : 5);
	write_and_check(q, 6);
	q_shutdown(q);
}

static void what_there_is_no_room_for_is_counted(void **state)
{
	QueueConfig cfg = traced(4);
	GpuQueue *q;
	TraceSummary s;

	(void)state;
	cfg.trace_records = 10;
	q = make_queue_from(&cfg);
	for (uint64_t i = 0; i < 30; i++)
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	s = summary_of(q);
	assert_int_equal(s.recorded, 10);
	assert_int_equal(s.dropped, 20);
	assert_int_equal(s.stage[Q_STAGE_TOTAL].count, 10);
	write_and_check(q, 10);
	q_shutdown(q);
}

static uint64_t rank(const uint64_t *sorted, unsigned n, double quantile)
{
	unsigned i = 0;

	while ((double)(i + 1) < quantile * n)
		i++;
	return sorted[i];
}

static void percentiles_are_those_of_the_records(void **state)
{
	enum { N = 250 };
	GpuQueue *q = make_traced(4);
	uint64_t total[N];
	const TraceStage *t;
	TraceSummary s;

	(void)state;
	s = summary_of(q);
	assert_int_equal(s.stage[Q_STAGE_TOTAL].count, 0);
	assert_int_equal(s.stage[Q_STAGE_TOTAL].max_ns, 0);
	for (uint64_t i = 0; i < N; i++)
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	s = summary_of(q);
	t = &s.stage[Q_STAGE_TOTAL];
	for (int i = 0; i < N; i++) {
		const struct gq_trace_record *r = &q->trace->record[i];
		int at = i;

		for (; at > 0 && total[at - 1] > r->seen_ns - r->enqueued_ns; at--)
			total[at] = total[at - 1];
		total[at] = r->seen_ns - r->enqueued_ns;
	}
	assert_int_equal(t->count, N);
	assert_int_equal(t->p50_ns, rank(total, N, 0.5));
	assert_int_equal(t->p90_ns, rank(total, N, 0.9));
	assert_int_equal(t->p99_ns, rank(total, N, 0.99));
	assert_int_equal(t->p999_ns, rank(total, N, 0.999));
	assert_int_equal(t->max_ns, total[N - 1]);
	assert_true(t->p50_ns <= t->p90_ns && t->p90_ns < t->max_ns + 1);
	q_shutdown(q);
}

/* As seen with a device's clock that was 24 us behind: the first was claimed before it was visible,
 * and so has its place in the middle of the second. */
static void what_was_moved_into_the_next_message_stays_before_it(void **state)
{
	static const struct gq_trace_record records[] = {
		{ .msg_id = 1,
		  .enqueued_ns = 844139,
		  .visible_ns = 844329,
		  .claimed_ns = 834739,
		  .done_ns = 835050,
		  .seen_ns = 896101 },
		{ .msg_id = 2,
		  .enqueued_ns = 810538,
		  .visible_ns = 810829,
		  .claimed_ns = 835430,
		  .done_ns = 9000000,
		  .seen_ns = 9000100 },
	};
	GpuQueue *q = make_traced(4);

	(void)state;
	memcpy(q->trace->record, records, sizeof(records));
	q->trace->used = 2;
	q->trace->clock_error_ns = 30000;
	assert_int_equal(summary_of(q).adjusted, 1);
	assert_int_equal(summary_of(q).stage[Q_STAGE_WAIT].max_ns, 835430 - 810829);
	assert_int_equal(summary_of(q).stage[Q_STAGE_PROCESS].p50_ns, 835050 - 834739);
	write_and_check(q, 2);
	q_shutdown(q);
}

/* Behind, ahead, and longer than there was time for, as by a clock that is no use at all. */
static void a_clock_that_is_off_changes_no_time_in_the_processor(void **state)
{
	static const struct {
		uint64_t claimed_ns, done_ns, process_ns, wait_ns, notice_ns;
	} cases[] = {
		{ 1100, 1900, 800, 100, 100 }, /* as it was */
		{ 900, 1700, 800, 0, 200 },    { 100, 900, 800, 0, 200 },
		{ 1300, 2100, 800, 200, 0 },   { 2500, 3300, 800, 200, 0 },
		{ 900, 2100, 1000, 0, 0 },     { 1000, 2000, 1000, 0, 0 },
	};
	GpuQueue *q = make_traced(4);

	(void)state;
	q->trace->clock_error_ns = 2000;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const bool off = cases[i].claimed_ns < 1000 || cases[i].done_ns > 2000;
		TraceSummary s;

		q->trace->record[0] = (struct gq_trace_record){ .msg_id = 1,
								.enqueued_ns = 1000,
								.visible_ns = 1000,
								.claimed_ns = cases[i].claimed_ns,
								.done_ns = cases[i].done_ns,
								.seen_ns = 2000 };
		q->trace->used = 1;
		s = summary_of(q);
		assert_int_equal(s.adjusted, off);
		assert_int_equal(s.stage[Q_STAGE_PROCESS].max_ns, cases[i].process_ns);
		assert_int_equal(s.stage[Q_STAGE_WAIT].max_ns, cases[i].wait_ns);
		assert_int_equal(s.stage[Q_STAGE_NOTICE].max_ns, cases[i].notice_ns);
		write_and_check(q, 1);
	}
	q_shutdown(q);
}

static void a_file_that_cannot_be_written_has_a_reason(void **state)
{
	GpuQueue *q = make_traced(4);
	char nowhere[160];

	(void)state;
	expect_echo(q, send(q, "x", 1), "x", 1);
	snprintf(nowhere, sizeof(nowhere), "%s/none/trace.json", folder);
	assert_status(q_trace_write(q, nowhere), Q_ERR_IO);
	assert_non_null(strstr(q_last_error(), nowhere));
	assert_non_null(strstr(q_last_error(), strerror(ENOENT)));
	assert_status(q_trace_write(q, "/dev/full"), Q_ERR_IO);
	assert_non_null(strstr(q_last_error(), strerror(ENOSPC)));
	assert_status(q_trace_write(q, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_trace_write(q, ""), Q_ERR_INVALID_ARG);
	assert_status(q_trace_summary(q, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_trace_summary(NULL, NULL), Q_ERR_INVALID_ARG);
	write_and_check(q, 1);
	q_shutdown(q);
}

static void every_failing_resource_is_survived(void **state)
{
	size_t memory = gq__alloc_live_bytes(), queue;
	unsigned files = files_now(), n;
	QueueStatus status = Q_ERR_NO_MEMORY;
	GpuQueue *q = NULL;
	TraceSummary s;

	(void)state;
	not_on_remote("gpuqd is in this process, so its resources would fail, too");
	for (n = 1; q == NULL; n++) {
		QueueConfig cfg = traced(4);

		assert_true(n < 100);
		gq__fault_set(n);
		q = q_init(&cfg);
		gq__fault_set(0);
		if (q == NULL) {
			assert_non_null(strstr(q_last_error(), on_cuda() ? "" : "o"));
			assert_int_equal(gq__alloc_live_bytes(), memory);
		}
	}
	assert_true(n > (on_cuda() ? 5 : 9)); /* the trace's are among them */
	expect_echo(q, send(q, "x", 1), "x", 1);
	queue = gq__alloc_live_bytes();
	gq__fault_set(1);
	assert_status(q_trace_summary(q, &s), Q_ERR_NO_MEMORY);
	gq__fault_set(0);
	for (n = 1; status != Q_OK; n++) {
		assert_true(n < 10);
		gq__fault_set(n);
		status = q_trace_write(q, path);
		gq__fault_set(0);
		assert_int_equal(gq__alloc_live_bytes(), queue);
		if (status != Q_OK)
			assert_status(status, n < 4 ? Q_ERR_NO_MEMORY : Q_ERR_IO);
	}
	assert_int_equal(n, 6); /* slices, tracks, buffer, file, then it works */
	check_file(path, 1);
	q_shutdown(q);
	assert_int_equal(gq__alloc_live_bytes(), memory);
	assert_int_equal(files_now(), files);
}

static void bad_configurations_are_refused(void **state)
{
	QueueConfig cfg = config(4, 16);

	(void)state;
	cfg.trace_records = 1;
	assert_null(q_init(&cfg));
	assert_non_null(strstr(q_last_error(), "trace_records is 1; allowed: 0 without Q_TRACE"));
	cfg.flags = Q_TRACE;
	cfg.trace_records = Q_MAX_TRACE_RECORDS + 1;
	assert_null(q_init(&cfg));
	assert_non_null(strstr(q_last_error(), "trace_records is 16777217"));
	cfg.trace_records = 0;
	setenv("GPUQ_TRACE_RECORDS", "0", 1);
	assert_null(q_init(&cfg));
	assert_non_null(strstr(q_last_error(), "GPUQ_TRACE_RECORDS is '0'"));
	unsetenv("GPUQ_TRACE_RECORDS");
}

static char logged[1024];

static void keep_errors(int level, const char *text, void *user)
{
	(void)user;
	if (level == Q_LOG_ERROR)
		snprintf(logged, sizeof(logged), "%s", text);
}

/* An ordinary program, told to from outside. */
static void the_environment_asks_for_it(void **state)
{
	QueueConfig cfg = config(4, 16);
	char pattern[128], file[160], second[164], too_long[GQ_TRACE_PATH_BYTES + 8];
	struct stat st;
	GpuQueue *q;

	(void)state;
	snprintf(pattern, sizeof(pattern), "%s/env-%%p.json", folder);
	setenv("GPUQ_TRACE", pattern, 1);
	setenv("GPUQ_TRACE_RECORDS", "3", 1);
	for (int i = 0; i < 2; i++) {
		q = make_queue_from(&cfg);
		for (uint32_t k = 0; k < 5; k++)
			expect_echo(q, send(q, &k, sizeof(k)), &k, sizeof(k));
		assert_int_equal(summary_of(q).dropped, 2);
		q_shutdown(q);
	}
	snprintf(file, sizeof(file), "%s/env-%ld.json", folder, (long)getpid());
	check_file(file, 3);
	unlink(file);
	snprintf(second, sizeof(second), "%s.2", file);
	check_file(second, 3);
	unlink(second);

	snprintf(pattern, sizeof(pattern), "%s/none/trace.json", folder);
	setenv("GPUQ_TRACE", pattern, 1);
	q_set_log(keep_errors, NULL);
	q_shutdown(make_queue_from(&cfg));
	q_set_log(NULL, NULL);
	assert_non_null(strstr(logged, "GPUQ_TRACE: the trace: cannot open '"));
	assert_non_null(strstr(logged, strerror(ENOENT)));

	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	setenv("GPUQ_TRACE", too_long, 1);
	assert_null(q_init(&cfg));
	assert_non_null(strstr(q_last_error(), "GPUQ_TRACE gives a path that is too long"));

	setenv("GPUQ_TRACE", "", 1);
	unsetenv("GPUQ_TRACE_RECORDS");
	q = make_queue_from(&cfg);
	assert_null(q->trace);
	q_shutdown(q);
	assert_int_equal(stat(file, &st), -1);
}

static void a_dead_device_leaves_a_trace(void **state)
{
	const struct standin_control *standin = find_standin("GPUQ_LIBCUDA", "standin");
	QueueConfig cfg = traced(16);
	uint64_t done, lost;
	GpuQueue *q;

	(void)state;
	if (!on_cuda() || standin == NULL)
		skip();
	q = make_queue_from(&cfg);
	done = send(q, "x", 1);
	assert_status(q_wait(q, done, LONG_MS), Q_OK);
	close_gate();
	lost = send_op(q, OP_GATE, 0, "g", 1);
	await_gate_waiters(1);
	send(q, "y", 1);
	standin->break_context(700);
	assert_status(q_wait(q, lost, LONG_MS), Q_ERR_CUDA);
	open_gate();
	assert_int_equal(summary_of(q).recorded, 3);
	assert_true(record_of(q, done)->claimed_ns != 0);
	assert_int_equal(record_of(q, lost)->claimed_ns, 0);
	assert_int_equal(record_of(q, lost)->outcome, GQ_OUTCOME_FAILED);
	assert_int_equal(summary_of(q).stage[Q_STAGE_WAIT].count, 1);
	assert_int_equal(summary_of(q).stage[Q_STAGE_TOTAL].count, 3);
	write_and_check(q, 3);
	q_shutdown(q);
	standin->break_context(0);
}

struct producer {
	GpuQueue *q;
	pthread_t thread;
	bool ok;
};

enum { PRODUCERS = 3, EACH = 400, ALL = PRODUCERS * EACH };

static void *produce(void *arg)
{
	struct producer *p = arg;
	EnqueueOptions o = { 0 };

	p->ok = true;
	for (uint32_t i = 0; i < EACH && p->ok; i++) {
		uint64_t id;
		char buf[64];
		size_t len = sizeof(buf);

		o.flags = i % 3 == 0 ? Q_ENQUEUE_DISCARD : 0;
		o.priority = i % 5;
		p->ok = q_enqueue_ex(p->q, &i, sizeof(i), &o, &id, LONG_MS) == Q_OK;
		if (p->ok && i % 3 != 0)
			p->ok = q_wait(p->q, id, LONG_MS) == Q_OK &&
				q_try_dequeue_result(p->q, id, buf, &len) == Q_OK;
	}
	return NULL;
}

static void many_threads_and_a_writer_meanwhile(void **state)
{
	QueueConfig cfg = traced(32);
	struct producer p[PRODUCERS];
	GpuQueue *q;

	(void)state;
	cfg.consumers = 2;
	q = make_queue_from(&cfg);
	for (int i = 0; i < PRODUCERS; i++) {
		p[i] = (struct producer){ .q = q };
		assert_int_equal(pthread_create(&p[i].thread, NULL, produce, &p[i]), 0);
	}
	for (int i = 0; i < 5; i++) {
		assert_status(q_trace_write(q, path), Q_OK);
		assert_true(summary_of(q).recorded <= ALL);
		nap_ms(2);
	}
	for (int i = 0; i < PRODUCERS; i++) {
		pthread_join(p[i].thread, NULL);
		assert_true(p[i].ok);
	}
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_int_equal(summary_of(q).recorded, ALL);
	for (uint64_t i = 0; i < ALL; i++)
		expect_order(q, &q->trace->record[i]);
	write_and_check(q, ALL);
	q_shutdown(q);
}

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/gpuq-trace-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/trace.json", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_trace_there_is_none),
		cmocka_unit_test(every_message_is_there_once_with_its_times_in_order),
		cmocka_unit_test(batches_reservations_and_discarded_messages_are_there_too),
		cmocka_unit_test(messages_that_do_not_run_say_so),
		cmocka_unit_test(what_a_stop_cancels_is_there),
		cmocka_unit_test(what_there_is_no_room_for_is_counted),
		cmocka_unit_test(percentiles_are_those_of_the_records),
		cmocka_unit_test(what_was_moved_into_the_next_message_stays_before_it),
		cmocka_unit_test(a_clock_that_is_off_changes_no_time_in_the_processor),
		cmocka_unit_test(a_file_that_cannot_be_written_has_a_reason),
		cmocka_unit_test(every_failing_resource_is_survived),
		cmocka_unit_test(bad_configurations_are_refused),
		cmocka_unit_test(the_environment_asks_for_it),
		cmocka_unit_test(a_dead_device_leaves_a_trace),
		cmocka_unit_test(many_threads_and_a_writer_meanwhile),
	};

	return cmocka_run_group_tests_name("trace", tests, make_folder, remove_folder);
}
