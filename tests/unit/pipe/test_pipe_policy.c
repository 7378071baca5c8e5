/* SPDX-License-Identifier: Apache-2.0 */
/* test_pipe_policy.c - a pipe at its cap, byte by byte, under each policy. */
#include "child.h"
#include "support.h"

#include "host/base/fault.h"
#include "host/pipe/pace.h"
#include "host/pipe/pipe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static Pipe *make(uint64_t max_bytes, uint32_t policy)
{
	const PipeConfig cfg = { .max_bytes = max_bytes, .policy = policy };
	Pipe *p;

	assert_status(q_pipe_create(&cfg, &p), Q_OK);
	return p;
}

static PipeReader *reader(Pipe *p)
{
	PipeReader *r;

	assert_status(q_pipe_reader_open(p, &r), Q_OK);
	return r;
}

static QueueStatus put(Pipe *p, const char *text, size_t *written)
{
	return q_pipe_write(p, text, strlen(text), written, 0);
}

static void put_all(Pipe *p, const char *text)
{
	size_t n;

	assert_status(put(p, text, &n), Q_OK);
	assert_int_equal(n, strlen(text));
}

static void expect(PipeReader *r, const char *text)
{
	size_t have = 0, len;
	char buf[256];

	while (have < strlen(text)) {
		assert_status(q_pipe_read(r, buf + have, strlen(text) - have, &len, 0), Q_OK);
		assert_true(len != 0);
		have += len;
	}
	assert_memory_equal(buf, text, have);
}

static void expect_status(PipeReader *r, QueueStatus wanted)
{
	char buf[256];
	size_t len;

	assert_status(q_pipe_read(r, buf, sizeof(buf), &len, 0), wanted);
	assert_int_equal(len, 0);
}

static uint64_t offset_of(PipeReader *r)
{
	uint64_t offset;

	assert_status(q_pipe_reader_offset(r, &offset), Q_OK);
	return offset;
}

static PipeStats stats(Pipe *p)
{
	PipeStats s;

	assert_status(q_pipe_stats(p, &s), Q_OK);
	return s;
}

static void fail_takes_exactly_max_bytes_ever_and_says_how_many_it_took(void **state)
{
	static const char text[] = "0123456789abcdef0123456789abcdef";

	(void)state;
	for (uint64_t cap = 1; cap <= 17; cap++)
		for (size_t first = 0; first <= 20; first++) {
			Pipe *p = make(cap, Q_PIPE_FAIL);
			PipeReader *r = reader(p);
			const size_t taken = first < cap ? first : (size_t)cap;
			size_t n;

			assert_status(q_pipe_write(p, text, first, &n, 1000),
				      first <= cap ? Q_OK : Q_ERR_FULL);
			assert_int_equal(n, taken);
			assert_status(q_pipe_write(p, text + taken, 20, &n, 0), Q_ERR_FULL);
			assert_int_equal(n, cap - taken);
			assert_says("no room");
			for (uint64_t i = 0; i < cap; i++) {
				char c;

				assert_status(q_pipe_read(r, &c, 1, &n, 0), Q_OK);
				assert_int_equal(c, text[i]);
			}
			/* What was read is kept for late readers, so there is still no room. */
			assert_status(put(p, "x", &n), Q_ERR_FULL);
			assert_int_equal(n, 0);
			assert_int_equal(stats(p).kept, cap);
			q_pipe_reader_close(r);
			q_pipe_destroy(p);
		}
}

static void wait_has_room_again_for_exactly_what_all_readers_have_read(void **state)
{
	Pipe *p = make(8, Q_PIPE_WAIT);
	PipeReader *fast = reader(p), *slow = reader(p);
	size_t n;

	(void)state;
	put_all(p, "01234567");
	assert_status(put(p, "8", &n), Q_ERR_FULL);
	expect(fast, "01234567");
	assert_status(put(p, "8", &n), Q_ERR_FULL); /* the slowest counts */
	expect(slow, "012");
	assert_status(put(p, "89abc", &n), Q_ERR_FULL);
	assert_int_equal(n, 3);
	assert_int_equal(stats(p).slowest, 3);
	assert_int_equal(stats(p).forgotten, 3);
	expect(slow, "3456789a");
	expect(fast, "89a");
	assert_status(q_pipe_write(p, "b", 1, &n, 1000), Q_OK);
	expect(slow, "b");
	q_pipe_reader_close(slow);
	q_pipe_reader_close(fast);
	q_pipe_destroy(p);
}

static void wait_keeps_history_as_long_as_there_is_room(void **state)
{
	Pipe *p = make(8, Q_PIPE_WAIT);
	PipeReader *r = reader(p), *late;

	(void)state;
	put_all(p, "012345");
	expect(r, "012345");
	put_all(p, "678");
	late = reader(p); /* byte 0 was forgotten, for byte 8 */
	expect_status(late, Q_ERR_LAGGED);
	assert_says("reading goes on at offset 1");
	assert_int_equal(offset_of(late), 1);
	expect(late, "12345678");
	expect(r, "678");
	q_pipe_reader_close(late);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void wait_without_a_reader_forgets_nothing(void **state)
{
	Pipe *p = make(4, Q_PIPE_WAIT);
	PipeReader *r;
	size_t n;

	(void)state;
	assert_status(q_pipe_write(p, "0123456", 7, &n, 5), Q_ERR_TIMEOUT);
	assert_int_equal(n, 4);
	assert_says("timed out");
	r = reader(p);
	expect(r, "0123");
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* A thread that writes once, for long. */
struct writing {
	Pipe *pipe;
	const char *text;
	uint32_t timeout_ms;
	QueueStatus status;
	size_t written;
	pthread_t thread;
};

static void *write_text(void *arg)
{
	struct writing *w = arg;

	w->status = q_pipe_write(w->pipe, w->text, strlen(w->text), &w->written, w->timeout_ms);
	return NULL;
}

static void start(struct writing *w, Pipe *p, const char *text)
{
	*w = (struct writing){ .pipe = p, .text = text, .timeout_ms = LONG_MS };
	assert_int_equal(pthread_create(&w->thread, NULL, write_text, w), 0);
}

static void await_sleeper(struct gq_event *e)
{
	for (uint32_t ms = 0; gq_event_sleepers(gq_load_seq_cst_u64(&e->word)) == 0; ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
}

static void join(struct writing *w, QueueStatus status, size_t written)
{
	pthread_join(w->thread, NULL);
	assert_status(w->status, status);
	assert_int_equal(w->written, written);
}

static void a_writer_that_waits_goes_on_for_reads_closed_readers_close_and_errors(void **state)
{
	Pipe *p = make(4, Q_PIPE_WAIT);
	PipeReader *r = reader(p), *slow = reader(p);
	struct writing w;
	size_t n;

	(void)state;
	start(&w, p, "0123456789");
	await_sleeper(&p->room);
	/* Others are told in time that there is no room. */
	assert_status(put(p, "x", &n), Q_ERR_FULL);
	assert_status(q_pipe_write(p, "x", 1, &n, 5), Q_ERR_TIMEOUT);
	expect(r, "0123");
	nap_ms(5);
	await_sleeper(&p->room);
	q_pipe_reader_close(slow); /* which held it up */
	for (size_t have = 4; have < 10; have += n) {
		char buf[4];

		assert_status(q_pipe_read(r, buf, sizeof(buf), &n, LONG_MS), Q_OK);
		assert_memory_equal(buf, &"0123456789"[have], n);
	}
	join(&w, Q_OK, 10);
	put_all(p, "ab");
	start(&w, p, "cdefgh");
	await_sleeper(&p->room);
	assert_status(q_pipe_set_error(p, 5), Q_OK);
	join(&w, Q_ERR_FAILED, 2);
	assert_status(q_pipe_set_error(p, 0), Q_OK);
	start(&w, p, "efgh");
	await_sleeper(&p->room);
	q_pipe_reader_close(r);
	join(&w, Q_ERR_BROKEN, 0);
	r = reader(p);
	start(&w, p, "efgh");
	await_sleeper(&p->room);
	assert_status(q_pipe_close(p), Q_OK);
	join(&w, Q_ERR_SHUTDOWN, 0);
	expect_status(r, Q_ERR_LAGGED); /* 0 to 7 were forgotten */
	expect(r, "abcd");
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* Until the writer has slept for a good part of the pipe in vain, and sleeps for a single byte. */
static void await_patient_writer(Pipe *p)
{
	for (uint32_t ms = 0;
	     gq_load_seq_cst_u64(&p->wanted) != gq_load_relaxed_u64(&p->source.head->begin) + 1;
	     ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
	await_sleeper(&p->room);
}

static void drain(PipeReader *r, size_t bytes)
{
	static char buf[1 << 17];
	size_t len;

	for (size_t have = 0; have < bytes; have += len)
		assert_status(q_pipe_read(r, buf, bytes - have, &len, LONG_MS), Q_OK);
}

static void only_the_read_that_makes_room_wakes_the_writer(void **state)
{
	enum { CAP = 1 << 16 };
	static char text[CAP + 3];
	Pipe *p = make(CAP, Q_PIPE_WAIT);
	PipeReader *fast = reader(p), *slow = reader(p);
	struct writing w;
	uint64_t wakes;

	(void)state;
	memset(text, 'x', CAP + 2);
	start(&w, p, text);
	await_patient_writer(p);
	wakes = (uint32_t)gq_load_seq_cst_u64(&p->room.word);
	for (int i = 0; i < 100; i++)
		drain(fast, 1);
	drain(fast, CAP - 100);
	assert_int_equal((uint32_t)gq_load_seq_cst_u64(&p->room.word), wakes);
	assert_int_equal(gq_event_sleepers(gq_load_seq_cst_u64(&p->room.word)), 1);
	drain(slow, 1);
	drain(fast, 1); /* the writer has written it */
	await_patient_writer(p);
	drain(slow, 1);
	join(&w, Q_OK, CAP + 2);
	/* One that closes does so, too. */
	drain(slow, CAP);
	start(&w, p, text);
	await_patient_writer(p);
	drain(slow, CAP - 1);
	q_pipe_reader_close(fast);
	join(&w, Q_OK, CAP + 2);
	q_pipe_reader_close(slow);
	q_pipe_destroy(p);
}

/* Such a writer once slept on for what all readers had passed. */
static void a_writer_that_finds_some_room_while_it_registers_waits_for_more_anew(void **state)
{
	Pipe *p = make(8, Q_PIPE_WAIT);
	PipeReader *r = reader(p);
	struct gq_wait wait;

	(void)state;
	put_all(p, "01234567");
	gq__pipe_room_begin(p, &wait, gq__deadline_ns(1000));
	wait.spin_ns = 0;
	assert_true(gq__pipe_room_next(p, &wait));
	assert_true(wait.registered);
	expect(r, "012");
	put_all(p, "89a"); /* what its look does */
	assert_true(gq__pipe_room_next(p, &wait));
	assert_true(wait.registered);   /* it has not slept, */
	assert_int_equal(p->wanted, 4); /* and this read wakes it */
	gq__wait_end(&wait);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void a_reader_with_an_error_of_its_own_holds_its_place(void **state)
{
	Pipe *p = make(4, Q_PIPE_WAIT);
	PipeReader *r = reader(p);
	size_t n;

	(void)state;
	put_all(p, "0123");
	assert_status(q_pipe_reader_set_error(r, 1), Q_OK);
	expect_status(r, Q_ERR_FAILED);
	assert_status(put(p, "4", &n), Q_ERR_FULL);
	assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
	expect(r, "0123");
	put_all(p, "4");
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void drop_history_keeps_exactly_the_newest_and_says_so_once(void **state)
{
	static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";

	(void)state;
	for (uint64_t cap = 1; cap <= 17; cap++)
		for (size_t more = 0; more <= 30 && cap + more < sizeof(text); more++) {
			Pipe *p = make(cap, Q_PIPE_DROP_HISTORY);
			PipeReader *r = reader(p), *late;
			char wanted[64] = { 0 };
			size_t n;

			assert_status(q_pipe_write(p, text, (size_t)cap, &n, 0), Q_OK);
			assert_status(q_pipe_write(p, text + cap, more, &n, 0), Q_OK);
			assert_int_equal(n, more);
			late = reader(p);
			memcpy(wanted, text + more, (size_t)cap);
			if (more != 0) {
				expect_status(r, Q_ERR_LAGGED);
				assert_int_equal(offset_of(r), more);
				expect_status(late, Q_ERR_LAGGED);
			}
			expect(r, wanted);
			expect_status(r, Q_ERR_EMPTY);
			expect(late, wanted);
			assert_int_equal(stats(p).forgotten, more);
			assert_int_equal(stats(p).lagged, more != 0 ? 2 : 0);
			q_pipe_reader_close(late);
			q_pipe_reader_close(r);
			q_pipe_destroy(p);
		}
}

static void a_reader_that_keeps_up_never_lags(void **state)
{
	Pipe *p = make(5, Q_PIPE_DROP_HISTORY);
	PipeReader *r = reader(p);

	(void)state;
	for (int i = 0; i < 100; i++) {
		put_all(p, i % 2 != 0 ? "abc" : "de");
		expect(r, i % 2 != 0 ? "abc" : "de");
	}
	assert_int_equal(stats(p).lagged, 0);
	assert_int_equal(stats(p).forgotten, 245);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void evict_cuts_off_those_that_needed_it_for_good_and_no_other(void **state)
{
	Pipe *p = make(8, Q_PIPE_EVICT);
	PipeReader *slow = reader(p), *slower = reader(p), *fast = reader(p), *late;
	int error;

	(void)state;
	put_all(p, "01234567");
	expect(fast, "0123");
	expect(slow, "01");
	put_all(p, "89"); /* forgets 0 and 1 */
	expect(slow, "2");
	expect_status(slower, Q_ERR_LAGGED);
	assert_says("cut off");
	put_all(p, "abc"); /* forgets 2 to 4: both */
	for (int i = 0; i < 3; i++) {
		expect_status(slow, Q_ERR_LAGGED);
		expect_status(slower, Q_ERR_LAGGED);
		expect_status(fast, Q_ERR_LAGGED); /* at 4 */
	}
	assert_int_equal(offset_of(slow), 3); /* the first that it missed */
	assert_int_equal(stats(p).evicted, 3);
	late = reader(p); /* came late, which is told once */
	expect_status(late, Q_ERR_LAGGED);
	expect(late, "56789abc");
	put_all(p, "def");
	expect(late, "def");
	/* A cut reader's own error still comes first. */
	assert_status(q_pipe_reader_set_error(slow, 6), Q_OK);
	expect_status(slow, Q_ERR_FAILED);
	assert_status(q_pipe_reader_error(slow, &error), Q_OK);
	assert_int_equal(error, 6);
	assert_status(q_pipe_reader_set_error(slow, 0), Q_OK);
	assert_status(q_pipe_close(p), Q_OK);
	expect_status(slow, Q_ERR_LAGGED);
	q_pipe_reader_close(slow);
	assert_int_equal(stats(p).evicted, 2);
	q_pipe_reader_close(slower);
	q_pipe_reader_close(fast);
	q_pipe_reader_close(late);
	q_pipe_destroy(p);
}

/* A write longer than the pipe, and positions about 2^32. */
static void a_long_write_leaves_its_end_and_offsets_may_pass_2_to_the_32(void **state)
{
	static const uint64_t starts[] = { 0, (UINT64_C(1) << 32) - 300, (UINT64_C(1) << 61) - 3 };
	char *text = malloc(1000000), got[100];
	size_t n;

	(void)state;
	assert_non_null(text);
	for (uint32_t i = 0; i < 1000000; i++)
		text[i] = (char)(i * 2654435761u >> 24);
	for (int s = 0; s < 3; s++)
		for (uint32_t policy = Q_PIPE_DROP_HISTORY; policy <= Q_PIPE_EVICT; policy++) {
			Pipe *p = make(100, policy);
			PipeReader *late;

			p->source.head->begin = starts[s];
			p->source.head->end = starts[s];
			assert_status(q_pipe_write(p, text, 1000000, &n, 0), Q_OK);
			assert_int_equal(n, 1000000);
			late = reader(p);
			expect_status(late, Q_ERR_LAGGED);
			assert_int_equal(offset_of(late), starts[s] + 999900);
			assert_status(q_pipe_read(late, got, sizeof(got), &n, 0), Q_OK);
			assert_int_equal(n, 100);
			assert_memory_equal(got, text + 999900, 100);
			q_pipe_reader_close(late);
			q_pipe_destroy(p);
		}
	free(text);
}

/* The original's buffer grew without bound, as nothing was ever given back. */
static void memory_stays_within_the_cap_however_long_the_stream_is(void **state)
{
	Pipe *p = make(1 << 16, Q_PIPE_DROP_HISTORY);
	static char text[4096];
	size_t n;

	(void)state;
	for (int i = 0; i < 25600; i++)
		assert_status(q_pipe_write(p, text, sizeof(text), &n, 0), Q_OK);
	assert_int_equal(stats(p).written, 25600 * 4096);
	assert_int_equal(stats(p).kept, 1 << 16);
	assert_in_range(p->source.mapped, 1 << 16, (1 << 16) + 65536 + 4096);
	q_pipe_destroy(p);
}

#if defined(GPUQ_CHAOS)
static Pipe *torn;

/* The writer comes between a reader's look and its copy, each time. */
static void overwrite(void)
{
	gq__in_window = NULL;
	put_all(torn, "ABCDEFGH");
}
#endif

static void a_reader_that_is_overtaken_in_the_middle_gets_no_torn_bytes(void **state)
{
#if defined(GPUQ_CHAOS)
	for (uint32_t policy = Q_PIPE_DROP_HISTORY; policy <= Q_PIPE_EVICT; policy++) {
		PipeReader *r;

		torn = make(8, policy);
		r = reader(torn);
		put_all(torn, "01234567");
		gq__in_window = overwrite;
		expect_status(r, Q_ERR_LAGGED);
		gq__in_window = NULL;
		if (policy == Q_PIPE_DROP_HISTORY)
			expect(r, "ABCDEFGH");
		else
			expect_status(r, Q_ERR_LAGGED);
		q_pipe_reader_close(r);
		q_pipe_destroy(torn);
	}
	(void)state;
#else
	(void)state;
	print_message("left out: this build has no windows (GPUQ_CHAOS)\n");
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fail_takes_exactly_max_bytes_ever_and_says_how_many_it_took),
		cmocka_unit_test(wait_has_room_again_for_exactly_what_all_readers_have_read),
		cmocka_unit_test(wait_keeps_history_as_long_as_there_is_room),
		cmocka_unit_test(wait_without_a_reader_forgets_nothing),
		cmocka_unit_test(
			a_writer_that_waits_goes_on_for_reads_closed_readers_close_and_errors),
		cmocka_unit_test(only_the_read_that_makes_room_wakes_the_writer),
		cmocka_unit_test(
			a_writer_that_finds_some_room_while_it_registers_waits_for_more_anew),
		cmocka_unit_test(a_reader_with_an_error_of_its_own_holds_its_place),
		cmocka_unit_test(drop_history_keeps_exactly_the_newest_and_says_so_once),
		cmocka_unit_test(a_reader_that_keeps_up_never_lags),
		cmocka_unit_test(evict_cuts_off_those_that_needed_it_for_good_and_no_other),
		cmocka_unit_test(a_long_write_leaves_its_end_and_offsets_may_pass_2_to_the_32),
		cmocka_unit_test(memory_stays_within_the_cap_however_long_the_stream_is),
		cmocka_unit_test(a_reader_that_is_overtaken_in_the_middle_gets_no_torn_bytes),
	};

	return cmocka_run_group_tests_name("pipe_policy", tests, NULL, NULL);
}
