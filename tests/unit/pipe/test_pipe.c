/* SPDX-License-Identifier: Apache-2.0 */
/* test_pipe.c - one writer and its readers in one process: what each sees, in which order. */
#include "child.h"
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/pipe/pace.h"
#include "host/pipe/pipe.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- short calls ----------------------------------------------------------------------------- */

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

static void put(Pipe *p, const char *text)
{
	size_t written;

	assert_status(q_pipe_write(p, text, strlen(text), &written, 0), Q_OK);
	assert_int_equal(written, strlen(text));
}

/* Reads at most `cap` bytes, which must be `text`. */
static void expect(PipeReader *r, size_t cap, const char *text)
{
	char buf[256];
	size_t len;

	assert_in_range(cap, 1, sizeof(buf));
	assert_status(q_pipe_read(r, buf, cap, &len, 0), Q_OK);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(buf, text, len);
}

static void expect_end(PipeReader *r)
{
	expect(r, 16, "");
}

static void expect_status(PipeReader *r, QueueStatus wanted)
{
	size_t len = 77;
	char buf[16];

	assert_status(q_pipe_read(r, buf, sizeof(buf), &len, 0), wanted);
	assert_int_equal(len, 0);
}

static void expect_error(PipeReader *r, int wanted)
{
	int error;

	expect_status(r, Q_ERR_FAILED);
	assert_status(q_pipe_reader_error(r, &error), Q_OK);
	assert_int_equal(error, wanted);
}

static PipeStats stats(Pipe *p)
{
	PipeStats s;

	assert_status(q_pipe_stats(p, &s), Q_OK);
	return s;
}

/* A thread that reads once, for long. */
struct waiting {
	PipeReader *reader;
	uint32_t timeout_ms;
	QueueStatus status;
	char buf[64];
	size_t len;
	pthread_t thread;
};

static void *wait_for_bytes(void *arg)
{
	struct waiting *w = arg;

	w->status = q_pipe_read(w->reader, w->buf, sizeof(w->buf), &w->len, w->timeout_ms);
	return NULL;
}

static void start(struct waiting *w, PipeReader *r)
{
	*w = (struct waiting){ .reader = r, .timeout_ms = LONG_MS };
	assert_int_equal(pthread_create(&w->thread, NULL, wait_for_bytes, w), 0);
}

static void join(struct waiting *w, QueueStatus status, const char *text)
{
	pthread_join(w->thread, NULL);
	assert_status(w->status, status);
	assert_int_equal(w->len, strlen(text));
	assert_memory_equal(w->buf, text, w->len);
}

/* Until a thread sleeps on the pipe's event, or had its time to. */
static void await_sleepers(Pipe *p, uint32_t n)
{
	for (uint32_t ms = 0; gq_event_sleepers(gq_load_seq_cst_u64(&p->data.word)) < n; ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
}

/* ---- the stream ------------------------------------------------------------------------------ */

static void every_reader_sees_the_whole_stream_whenever_it_joins(void **state)
{
	for (uint32_t policy = Q_PIPE_FAIL; policy <= Q_PIPE_EVICT; policy++) {
		Pipe *p = make(64, policy);
		PipeReader *before = reader(p), *during, *after;

		(void)state;
		put(p, "hello");
		during = reader(p);
		put(p, "world");
		assert_status(q_pipe_close(p), Q_OK);
		after = reader(p);
		/* Borders of writes and of reads have nothing to do with each other. */
		expect(before, 4, "hell");
		expect(before, 4, "owor");
		expect(before, 4, "ld");
		expect_end(before);
		expect(during, 64, "helloworld");
		expect_end(during);
		expect(after, 5, "hello");
		expect(after, 6, "world");
		expect_end(after);
		expect_end(after); /* and again */
		q_pipe_reader_close(before);
		q_pipe_reader_close(during);
		q_pipe_reader_close(after);
		q_pipe_destroy(p);
	}
}

static void a_read_takes_what_is_there_and_says_empty_when_there_is_nothing(void **state)
{
	Pipe *p = make(0, 0);
	PipeReader *r = reader(p);
	uint64_t offset;

	(void)state;
	expect_status(r, Q_ERR_EMPTY);
	assert_says("nothing");
	put(p, "hello world");
	expect(r, 5, "hello");
	expect(r, 100, " world");
	assert_status(q_pipe_reader_offset(r, &offset), Q_OK);
	assert_int_equal(offset, 11);
	expect_status(r, Q_ERR_EMPTY);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void writing_needs_no_reader(void **state)
{
	Pipe *p = make(16, 0);
	PipeReader *r;

	(void)state;
	put(p, "sixteen bytes it");
	assert_int_equal(stats(p).readers, 0);
	r = reader(p);
	expect(r, 16, "sixteen bytes it");
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void readers_read_on_after_the_writers_handle_is_gone(void **state)
{
	Pipe *p = make(0, 0);
	PipeReader *r = reader(p), *other = reader(p);

	(void)state;
	put(p, "left behind");
	q_pipe_destroy(p);
	expect(r, 64, "left behind");
	expect_end(r);
	q_pipe_reader_close(r);
	expect(other, 4, "left");
	q_pipe_reader_close(other);
}

static void pieces_are_one_write(void **state)
{
	const struct iovec pieces[] = {
		{ "one ", 4 }, { NULL, 0 }, { "two ", 4 }, { "", 0 }, { "three", 5 }
	};
	Pipe *p = make(16, 0);
	PipeReader *r = reader(p);
	size_t written;

	(void)state;
	assert_status(q_pipe_writev(p, pieces, 5, &written, 0), Q_OK);
	assert_int_equal(written, 13);
	expect(r, 64, "one two three");
	/* In part: what there was room for, in the middle of a piece. */
	assert_status(q_pipe_writev(p, pieces, 5, &written, 0), Q_ERR_FULL);
	assert_int_equal(written, 3);
	expect(r, 64, "one");
	assert_status(q_pipe_writev(p, NULL, 0, &written, 0), Q_OK);
	assert_int_equal(written, 0);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void a_wrong_call_is_refused_by_name_and_changes_nothing(void **state)
{
	const struct iovec bad = { NULL, 3 };
	const struct iovec huge[] = { { "x", SIZE_MAX }, { "y", 1 } };
	PipeConfig cfg = { .max_bytes = Q_MAX_PIPE_BYTES + 1 };
	Pipe *p = make(8, 0), *none = p;
	PipeReader *r = reader(p);
	size_t n = 5;
	char buf[4];

	(void)state;
	assert_status(q_pipe_create(&cfg, &none), Q_ERR_INVALID_ARG);
	assert_says("max_bytes is 1099511627777, must be 1 to 1099511627776");
	cfg = (PipeConfig){ .policy = 4 };
	assert_status(q_pipe_create(&cfg, &none), Q_ERR_INVALID_ARG);
	assert_says("policy is 4, must be 0 to 3");
	cfg = (PipeConfig){ .flags = 8 };
	assert_status(q_pipe_create(&cfg, &none), Q_ERR_INVALID_ARG);
	assert_says("flags is 0x8");
	cfg = (PipeConfig){ .reserved = { 0, 0, 0, 0, 0, 1 } };
	assert_status(q_pipe_create(&cfg, &none), Q_ERR_INVALID_ARG);
	assert_says("reserved[5] is 1");
	assert_ptr_equal(none, p);
	assert_status(q_pipe_create(NULL, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_write(NULL, "x", 1, &n, 0), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	assert_status(q_pipe_write(p, NULL, 1, &n, 0), Q_ERR_INVALID_ARG);
	assert_says("data is NULL but len is 1");
	assert_status(q_pipe_writev(p, &bad, 1, &n, 0), Q_ERR_INVALID_ARG);
	assert_says("piece 0 of 1");
	assert_status(q_pipe_writev(p, &bad, -1, &n, 0), Q_ERR_INVALID_ARG);
	assert_says("count is -1, must be 0 to 1024");
	assert_status(q_pipe_writev(p, NULL, 1, &n, 0), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_writev(p, huge, 2, &n, 0), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_read(r, buf, 4, NULL, 0), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_read(r, NULL, 4, &n, 0), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_read(r, buf, 0, &n, 0), Q_ERR_INVALID_ARG);
	assert_says("cap is 0, must be at least 1");
	assert_status(q_pipe_read(NULL, buf, 4, &n, 0), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_reader_open(p, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_reader_offset(r, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_reader_error(r, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_stats(p, NULL), Q_ERR_INVALID_ARG);
	assert_int_equal(q_pipe_reader_fd(NULL), -1);
	assert_int_equal(q_pipe_share(NULL), -1);
	assert_int_equal(stats(p).written, 0);
	assert_status(q_pipe_write(p, "x", 1, NULL, 0), Q_OK);
	q_pipe_reader_close(r);
	q_pipe_reader_close(NULL);
	q_pipe_destroy(p);
	q_pipe_destroy(NULL);
}

/* ---- ends and errors ------------------------------------------------------------------------- */

static void an_empty_write_succeeds_and_wakes_nobody(void **state)
{
	Pipe *p = make(4, 0);
	PipeReader *r = reader(p);
	struct waiting w;
	uint64_t word;
	size_t n = 1;

	(void)state;
	start(&w, r);
	await_sleepers(p, 1);
	word = gq_load_seq_cst_u64(&p->data.word);
	assert_status(q_pipe_write(p, NULL, 0, &n, 0), Q_OK);
	assert_status(q_pipe_write(p, "x", 0, &n, LONG_MS), Q_OK);
	assert_int_equal(n, 0);
	assert_true(gq_load_seq_cst_u64(&p->data.word) == word); /* no wake-up was counted */
	put(p, "full");
	join(&w, Q_OK, "full");
	assert_status(q_pipe_write(p, "", 0, &n, 0), Q_OK); /* also of a full pipe */
	q_pipe_reader_close(r);
	assert_status(q_pipe_write(p, "", 0, &n, 0), Q_OK); /* and of one that nobody reads */
	assert_status(q_pipe_set_error(p, 5), Q_OK);
	assert_status(q_pipe_write(p, "", 0, &n, 0), Q_ERR_FAILED);
	assert_status(q_pipe_close(p), Q_OK);
	assert_status(q_pipe_write(p, "", 0, &n, 0), Q_ERR_SHUTDOWN);
	q_pipe_destroy(p);
}

static void a_write_after_close_says_shutdown_and_close_is_idempotent(void **state)
{
	Pipe *p = make(8, 0);
	PipeReader *r = reader(p);
	size_t n = 9;

	(void)state;
	put(p, "abc");
	for (int i = 0; i < 3; i++) {
		assert_status(q_pipe_close(p), Q_OK);
		assert_status(q_pipe_write(p, "d", 1, &n, 0), Q_ERR_SHUTDOWN);
		assert_says("closed");
		assert_int_equal(n, 0);
	}
	expect(r, 8, "abc");
	expect_end(r);
	q_pipe_reader_close(r);
	/* Closed comes before broken. */
	assert_status(q_pipe_write(p, "d", 1, &n, 0), Q_ERR_SHUTDOWN);
	assert_int_equal(stats(p).closed, 1);
	q_pipe_destroy(p);
}

static void the_writers_error_comes_after_all_data(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p);
	int error;
	size_t n;

	(void)state;
	put(p, "some data");
	assert_status(q_pipe_set_error(p, 42), Q_OK);
	assert_status(q_pipe_write(p, "more", 4, &n, 0), Q_ERR_FAILED);
	assert_says("42");
	assert_status(q_pipe_reader_error(r, &error), Q_OK);
	assert_int_equal(error, 42); /* known before it is come to */
	expect(r, 4, "some");
	expect(r, 64, " data");
	expect_error(r, 42);
	expect_error(r, 42); /* it stays */
	assert_status(q_pipe_set_error(p, -7), Q_OK);
	expect_error(r, -7);
	assert_int_equal(stats(p).error, -7);
	assert_status(q_pipe_set_error(p, 0), Q_OK); /* taken back: the stream goes on */
	expect_status(r, Q_ERR_EMPTY);
	put(p, "more");
	expect(r, 64, "more");
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void a_readers_own_error_comes_first_is_its_own_and_loses_nothing(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p), *other = reader(p);

	(void)state;
	put(p, "0123456789");
	expect(r, 3, "012");
	assert_status(q_pipe_reader_set_error(r, 100), Q_OK);
	expect_error(r, 100);
	expect(other, 4, "0123");
	assert_status(q_pipe_reader_set_error(other, 200), Q_OK);
	expect_error(other, 200);
	expect_error(r, 100);
	assert_status(q_pipe_set_error(p, 20), Q_OK);
	expect_error(r, 100); /* shadows the writer's */
	assert_status(q_pipe_reader_set_error(r, 123), Q_OK);
	expect_error(r, 123);
	assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
	expect(r, 64, "3456789");
	expect_error(r, 20);
	assert_status(q_pipe_reader_set_error(other, 0), Q_OK);
	expect(other, 64, "456789");
	expect_error(other, 20);
	q_pipe_reader_close(r);
	q_pipe_reader_close(other);
	q_pipe_destroy(p);
}

/*
 * Every order of: data, the writer's error, its being taken back, close, the reader's error and its
 * being taken back; up to five steps, and after each what a read must say by the order of the four.
 */
enum step { WRITE, FAIL, UNFAIL, CLOSE, OWN, UNOWN, READ, STEPS };

static void every_order_of_data_errors_and_close_says_what_the_precedence_says(void **state)
{
	enum { LENGTH = 5 };
	uint32_t sequences = 1;

	(void)state;
	for (int i = 0; i < LENGTH; i++)
		sequences *= STEPS;
	for (uint32_t s = 0; s < sequences; s++) {
		Pipe *p = make(64, s % 4);
		PipeReader *r = reader(p);
		bool failed = false, closed = false, own = false;
		uint32_t data = 0, code = s;

		for (int i = 0; i < LENGTH; i++, code /= STEPS) {
			size_t n = 0;
			char buf[8];

			switch ((enum step)(code % STEPS)) {
			case WRITE:
				assert_status(q_pipe_write(p, "x", 1, &n, 0),
					      closed   ? Q_ERR_SHUTDOWN
					      : failed ? Q_ERR_FAILED
						       : Q_OK);
				data += (uint32_t)n;
				break;
			case FAIL:
			case UNFAIL:
				assert_status(q_pipe_set_error(p, code % STEPS == FAIL ? 9 : 0),
					      closed ? Q_ERR_SHUTDOWN : Q_OK);
				failed = closed ? failed : code % STEPS == FAIL;
				break;
			case CLOSE:
				assert_status(q_pipe_close(p), Q_OK);
				closed = true;
				break;
			case OWN:
			case UNOWN:
				own = code % STEPS == OWN;
				assert_status(q_pipe_reader_set_error(r, own ? 8 : 0), Q_OK);
				break;
			default:
				assert_status(q_pipe_read(r, buf, 1, &n, 0), own ? Q_ERR_FAILED
									     : data != 0 ? Q_OK
									     : failed ? Q_ERR_FAILED
									     : closed
										     ? Q_OK
										     : Q_ERR_EMPTY);
				data -= (uint32_t)n;
				break;
			}
		}
		if (own)
			expect_error(r, 8);
		assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
		if (data != 0)
			expect(r, 64, &"xxxxx"[5 - data]);
		if (failed)
			expect_error(r, 9);
		else if (closed)
			expect_end(r);
		else
			expect_status(r, Q_ERR_EMPTY);
		q_pipe_reader_close(r);
		q_pipe_destroy(p);
	}
}

static void a_write_is_broken_once_there_were_readers_and_all_have_gone(void **state)
{
	for (uint32_t policy = Q_PIPE_FAIL; policy <= Q_PIPE_EVICT; policy++) {
		Pipe *p = make(16, policy);
		PipeReader *a, *b;
		size_t n;

		(void)state;
		put(p, "ab"); /* there was none yet */
		a = reader(p);
		b = reader(p);
		q_pipe_reader_close(a);
		put(p, "cd");
		q_pipe_reader_close(b);
		assert_status(q_pipe_write(p, "ef", 2, &n, 0), Q_ERR_BROKEN);
		assert_int_equal(n, 0);
		assert_says("nobody reads");
		a = reader(p); /* a late one sees what there was, and there is somebody again */
		put(p, "ef");
		expect(a, 16, "abcdef");
		q_pipe_reader_close(a);
		assert_status(q_pipe_write(p, "gh", 2, &n, 0), Q_ERR_BROKEN);
		q_pipe_destroy(p);
	}
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void a_waiting_reader_wakes_for_bytes_an_error_its_own_error_and_the_end(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p), *other = reader(p);
	struct waiting w, v;

	(void)state;
	start(&w, r);
	start(&v, other);
	await_sleepers(p, 2);
	put(p, "data");
	join(&w, Q_OK, "data");
	join(&v, Q_OK, "data");
	start(&w, r);
	await_sleepers(p, 1);
	assert_status(q_pipe_reader_set_error(r, 3), Q_OK);
	join(&w, Q_ERR_FAILED, "");
	assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
	start(&w, r);
	start(&v, other);
	await_sleepers(p, 2);
	assert_status(q_pipe_set_error(p, 4), Q_OK);
	join(&w, Q_ERR_FAILED, "");
	join(&v, Q_ERR_FAILED, "");
	assert_status(q_pipe_set_error(p, 0), Q_OK);
	start(&w, r);
	start(&v, other);
	await_sleepers(p, 2);
	assert_status(q_pipe_close(p), Q_OK);
	join(&w, Q_OK, "");
	join(&v, Q_OK, "");
	q_pipe_reader_close(r);
	q_pipe_reader_close(other);
	q_pipe_destroy(p);
}

/* ---- streams and dozing: src/host/pipe/pace.c ------------------------------------------------ */

static bool streams(Pipe *p)
{
	return gq_load_relaxed_u64(&p->source.head->streams) != 0;
}

static uint64_t beats(Pipe *p)
{
	return gq_load_seq_cst_u64(&p->source.head->beats);
}

/* The time that this thread's library sees; 0: what it is. Linked in the place of gq__now_ns(). */
static _Thread_local uint64_t stopped_ns;
uint64_t __real_gq__now_ns(void);
uint64_t __wrap_gq__now_ns(void);

uint64_t __wrap_gq__now_ns(void)
{
	return stopped_ns != 0 ? stopped_ns : __real_gq__now_ns();
}

/* As if the writer had streamed since just before, or for long but not lately. */
static void let_stream(Pipe *p, uint64_t beaten_ns)
{
	gq_store_relaxed_u64(&p->source.head->streams, 1);
	gq__watch_wake(&p->source.head->beats);
	p->beaten = gq_load_relaxed_u64(&p->source.head->end);
	p->beaten_ns = beaten_ns;
}

enum { PACED = 1 << 17, QUARTER = PACED / 4 };
static char paced_text[PACED];

static Pipe *make_paced(PipeReader **r)
{
	Pipe *p = make(PACED, Q_PIPE_DROP_HISTORY);
	size_t n;

	*r = reader(p);
	assert_status(q_pipe_write(p, paced_text, PACED / 2, NULL, 0), Q_OK);
	assert_status(q_pipe_read(*r, paced_text, PACED / 2, &n, 0), Q_OK);
	assert_int_equal(n, PACED / 2);
	return p;
}

/* A byte for a reader that sleeps: the last was woken just now, or long since. A reader that has
 * said that it sleeps, and does not yet, need not be woken: then the next one is. */
static void wake_with_a_byte(Pipe *p, PipeReader *r, bool at_once)
{
	struct waiting w;
	bool woken;

	do {
		start(&w, r);
		await_sleepers(p, 1);
		stopped_ns = gq__now_ns();
		p->woke_end = 0;
		p->woke_ns = at_once ? stopped_ns - 1 : 0;
		put(p, "x");
		woken = p->woke_ns == stopped_ns;
		stopped_ns = 0;
		join(&w, Q_OK, "x");
	} while (!woken);
}

static void a_writer_streams_once_it_had_to_wake_three_times_in_a_row_at_once(void **state)
{
	enum { IN_A_ROW = 3 };
	PipeReader *r;
	Pipe *p = make_paced(&r);

	(void)state;
	for (uint32_t wakes = 1; wakes < IN_A_ROW; wakes++) {
		wake_with_a_byte(p, r, true);
		assert_int_equal(p->wakes, wakes);
	}
	wake_with_a_byte(p, r, false); /* a pause: they are not in a row */
	assert_int_equal(p->wakes, 0);
	for (uint32_t wakes = 1; wakes <= IN_A_ROW; wakes++) {
		assert_false(streams(p));
		wake_with_a_byte(p, r, true);
		assert_int_equal(p->wakes, wakes);
	}
	assert_true(streams(p));
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* With nobody asleep: only a beat can find it out. It wakes those that doze, as none may follow. */
static void a_stream_ends_with_a_beat_that_comes_late(void **state)
{
	PipeReader *r;
	Pipe *p = make_paced(&r);
	uint64_t before;

	(void)state;
	let_stream(p, 0);
	before = beats(p);
	assert_status(q_pipe_write(p, paced_text, QUARTER - 1, NULL, 0), Q_OK);
	assert_true(streams(p));
	assert_int_equal(beats(p), before);
	put(p, "x");
	assert_false(streams(p));
	assert_int_equal(beats(p), before + 1);
	/* And it lasts as long as they come in time. */
	stopped_ns = gq__now_ns();
	let_stream(p, stopped_ns);
	before = beats(p);
	assert_status(q_pipe_write(p, paced_text, QUARTER, NULL, 0), Q_OK);
	stopped_ns = 0;
	assert_int_equal(beats(p), before + 1);
	assert_true(streams(p));
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* However it had streamed before: the first byte after a pause ends that. */
static void a_byte_after_a_pause_wakes_its_reader_and_ends_the_stream(void **state)
{
	PipeReader *r;
	Pipe *p = make_paced(&r);
	struct waiting w;
	uint64_t before;

	(void)state;
	p->woke_ns = 0;
	do { /* as wake_with_a_byte() */
		let_stream(p, 0);
		before = beats(p);
		r->sleeps_next = false;
		start(&w, r);
		await_sleepers(p, 1);
		assert_true(r->sleeps_next); /* it has dozed, and does not now */
		put(p, "x");
		join(&w, Q_OK, "x");
	} while (p->woke_ns == 0);
	assert_false(streams(p));
	assert_int_equal(beats(p), before + 1); /* others may doze */
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* One doze from its begin to its end, in which the writer writes `bytes` and does not beat. */
static void doze(Pipe *p, PipeReader *r, size_t bytes)
{
	struct gq_wait wait;

	assert_true(gq__pipe_doze_begin(r, &wait, GQ_FOR_EVER));
	wait.spin_ns = 0;
	assert_true(gq__pipe_doze_next(r, &wait));
	assert_true(wait.registered);
	assert_status(q_pipe_write(p, paced_text, bytes, NULL, 0), Q_OK);
	assert_true(gq__pipe_doze_next(r, &wait)); /* it has slept */
	assert_false(gq__pipe_doze_next(r, &wait));
	gq__wait_end(&wait);
}

static bool dozes(PipeReader *r)
{
	struct gq_wait wait;
	const bool may = gq__pipe_doze_begin(r, &wait, GQ_FOR_EVER);

	if (may)
		gq__wait_end(&wait);
	return may;
}

/* The write that ends that sleep judges whether the writer streams. */
static void a_doze_that_brought_little_is_followed_by_a_sleep(void **state)
{
	enum { MUCH = 8192 };
	PipeReader *r, *late;
	Pipe *p = make_paced(&r);
	size_t n;

	(void)state;
	r->sleeps_next = false;
	assert_false(dozes(r)); /* nobody has said that it streams */
	let_stream(p, gq__now_ns());
	doze(p, r, MUCH);
	assert_status(q_pipe_read(r, paced_text, PACED, &n, 0), Q_OK);
	assert_int_equal(n, MUCH);
	doze(p, r, MUCH - 1);
	assert_false(dozes(r));
	assert_true(dozes(r));
	/* So is the opening of a reader: the stream may be over long since. */
	late = reader(p);
	assert_false(dozes(late));
	assert_true(dozes(late));
	q_pipe_reader_close(late);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* Between the look that says so and the sleep: the beat that ends the stream is the last. */
static void a_reader_does_not_doze_on_when_the_stream_has_ended_as_it_lay_down(void **state)
{
	PipeReader *r;
	Pipe *p = make_paced(&r);
	struct gq_wait wait;

	(void)state;
	let_stream(p, 0);
	r->sleeps_next = false;
	assert_true(gq__pipe_doze_begin(r, &wait, GQ_FOR_EVER));
	wait.spin_ns = 0;
	assert_status(q_pipe_write(p, paced_text, QUARTER, NULL, 0), Q_OK);
	assert_false(streams(p));
	assert_true(gq__pipe_doze_next(r, &wait));
	assert_true(wait.registered); /* with that beat's count as its key */
	assert_false(gq__pipe_doze_next(r, &wait));
	gq__wait_end(&wait);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* ---- giving up ------------------------------------------------------------------------------- */

static void a_read_that_times_out_says_so_and_leaves_nothing_behind(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p);
	size_t len;
	char buf[4];

	(void)state;
	for (int i = 0; i < 50; i++) {
		assert_status(q_pipe_read(r, buf, 4, &len, 1), Q_ERR_TIMEOUT);
		assert_says("timed out");
	}
	assert_int_equal(gq_event_sleepers(gq_load_seq_cst_u64(&p->data.word)), 0);
	put(p, "x");
	expect(r, 4, "x");
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void a_cancelled_thread_comes_back_from_its_read_and_takes_nothing_with_it(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p);
	struct waiting w;

	(void)state;
	start(&w, r);
	await_sleepers(p, 1);
	pthread_cancel(w.thread);
	put(p, "it");
	join(&w, Q_OK, "it");
	put(p, "more");
	expect(r, 8, "more");
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void on_alarm(int number)
{
	(void)number;
}

static void a_signal_ends_no_wait(void **state)
{
	struct sigaction action = { .sa_handler = on_alarm }, before;
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p);
	struct waiting w;

	(void)state;
	sigaction(SIGUSR1, &action, &before);
	start(&w, r);
	await_sleepers(p, 1);
	for (int i = 0; i < 20; i++) {
		pthread_kill(w.thread, SIGUSR1);
		nap_ms(1);
	}
	put(p, "x");
	join(&w, Q_OK, "x");
	sigaction(SIGUSR1, &before, NULL);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

static void two_threads_at_one_reader_are_told_so(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p);
	struct waiting w;

	(void)state;
	start(&w, r);
	await_sleepers(p, 1);
	expect_status(r, Q_ERR_POLICY);
	assert_says("another thread reads");
	put(p, "x");
	join(&w, Q_OK, "x");
	expect_status(r, Q_ERR_EMPTY);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* Writes "aaaa...", or another letter, in one call each. */
struct writing {
	Pipe *pipe;
	char letter;
	uint32_t failed;
	pthread_t thread;
};

enum { WRITE_BYTES = 1000, WRITES = 50 };

static void *write_letters(void *arg)
{
	struct writing *w = arg;
	char text[WRITE_BYTES];
	size_t n;

	memset(text, w->letter, sizeof(text));
	for (int i = 0; i < WRITES; i++)
		if (q_pipe_write(w->pipe, text, sizeof(text), &n, LONG_MS) != Q_OK ||
		    n != sizeof(text))
			w->failed++;
	return NULL;
}

static void the_bytes_of_one_write_stand_together(void **state)
{
	/* With Q_PIPE_WAIT a write takes many rounds of room. */
	for (uint32_t policy = Q_PIPE_FAIL; policy <= Q_PIPE_WAIT; policy++) {
		Pipe *p = make(policy == Q_PIPE_WAIT ? 77 : 1 << 20, policy);
		PipeReader *r = reader(p);
		struct writing w[3];
		uint32_t seen[3] = { 0 };
		char text[WRITE_BYTES];

		(void)state;
		for (int i = 0; i < 3; i++) {
			w[i] = (struct writing){ .pipe = p, .letter = (char)('a' + i) };
			assert_int_equal(pthread_create(&w[i].thread, NULL, write_letters, &w[i]),
					 0);
		}
		for (int i = 0; i < 3 * WRITES; i++) {
			size_t have = 0, len;

			while (have < sizeof(text)) {
				assert_status(q_pipe_read(r, text + have, sizeof(text) - have, &len,
							  LONG_MS),
					      Q_OK);
				have += len;
			}
			for (size_t k = 1; k < sizeof(text); k++)
				assert_int_equal(text[k], text[0]);
			seen[text[0] - 'a']++;
		}
		for (int i = 0; i < 3; i++) {
			pthread_join(w[i].thread, NULL);
			assert_int_equal(w[i].failed, 0);
			assert_int_equal(seen[i], WRITES);
		}
		q_pipe_reader_close(r);
		q_pipe_destroy(p);
	}
}

/* ---- the descriptor -------------------------------------------------------------------------- */

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

/* It may be readable for a moment after a read. */
static void await_unreadable(int fd)
{
	for (uint32_t ms = 0; readable(fd, 0); ms++) {
		assert_in_range(ms, 0, LONG_MS);
		nap_ms(1);
	}
}

static void the_descriptor_is_readable_while_a_read_would_find_something(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p);
	int fd = q_pipe_reader_fd(r);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(q_pipe_reader_fd(r), fd);
	for (int round = 0; round < 3; round++) {
		assert_false(readable(fd, round == 0 ? 20 : 0));
		put(p, "ab");
		assert_true(readable(fd, LONG_MS));
		assert_true(readable(fd, 0)); /* level-triggered */
		expect(r, 1, "a");
		assert_true(readable(fd, 0)); /* one byte is left */
		expect(r, 1, "b");
		await_unreadable(fd);
	}
	assert_status(q_pipe_reader_set_error(r, 1), Q_OK);
	assert_true(readable(fd, LONG_MS));
	assert_status(q_pipe_reader_set_error(r, 0), Q_OK);
	await_unreadable(fd);
	assert_status(q_pipe_set_error(p, 1), Q_OK);
	assert_true(readable(fd, LONG_MS));
	expect_error(r, 1);
	assert_true(readable(fd, 0)); /* as long as that is what a read says */
	assert_status(q_pipe_set_error(p, 0), Q_OK);
	expect_status(r, Q_ERR_EMPTY);
	await_unreadable(fd);
	assert_status(q_pipe_close(p), Q_OK);
	assert_true(readable(fd, LONG_MS));
	expect_end(r);
	assert_true(readable(fd, 0));
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* ---- resources ------------------------------------------------------------------------------- */

static void nothing_is_left_behind_whatever_fails(void **state)
{
	const size_t live = gq__alloc_live_bytes();
	const unsigned files = files_now(), threads = threads_now();
	unsigned n = 1;
	bool whole = false;

	(void)state;
	for (; !whole; n++) {
		Pipe *p = NULL;
		PipeReader *r = NULL, *attached = NULL;
		QueueStatus status;
		int fd = -1;

		gq__fault_set(n);
		status = q_pipe_create(NULL, &p);
		if (status == Q_OK)
			status = q_pipe_write(p, "kept", 4, NULL, 0);
		if (status == Q_OK)
			status = q_pipe_reader_open(p, &r);
		if (status == Q_OK && q_pipe_reader_fd(r) < 0)
			status = Q_ERR_LIMIT;
		if (status == Q_OK && (fd = q_pipe_share(p)) < 0)
			status = Q_ERR_NO_MEMORY;
		if (status == Q_OK)
			status = q_pipe_attach(fd, &attached);
		whole = status == Q_OK;
		gq__fault_set(0);
		if (!whole)
			assert_true(status == Q_ERR_NO_MEMORY || status == Q_ERR_LIMIT);
		if (r != NULL) /* whatever failed since: the stream is as it was */
			expect(r, 16, "kept");
		if (attached != NULL)
			expect(attached, 16, "kept");
		if (fd >= 0)
			close(fd);
		q_pipe_reader_close(attached);
		q_pipe_reader_close(r);
		q_pipe_destroy(p);
		assert_int_equal(gq__alloc_live_bytes(), live);
		assert_int_equal(files_now(), files);
	}
	assert_in_range(n, 8, 40);
	assert_int_equal(threads_now(), threads);
}

static void a_forked_child_is_told_that_the_handles_are_its_parents(void **state)
{
	Pipe *p = make(64, 0);
	PipeReader *r = reader(p);
	PipePool *pool;

	(void)state;
	assert_status(q_pipe_pool_create(&pool), Q_OK);
	put(p, "x");
	in_child(size_t n; char buf[4]; Pipe * q; PipeReader * s;
		 need(q_pipe_write(p, "y", 1, &n, 0) == Q_ERR_UNSUPPORTED);
		 need(strstr(q_last_error(), "fork") != NULL);
		 need(q_pipe_read(r, buf, 4, &n, 0) == Q_ERR_UNSUPPORTED);
		 need(q_pipe_close(p) == Q_ERR_UNSUPPORTED); need(q_pipe_share(p) == -1);
		 need(q_pipe_reader_fd(r) == -1);
		 need(q_pipe_pool_writer(pool, "n", NULL, &q) == Q_ERR_UNSUPPORTED);
		 q_pipe_reader_close(r); q_pipe_destroy(p); q_pipe_pool_destroy(pool);
		 /* Its own are as good as any. */
		 need(q_pipe_create(NULL, &q) == Q_OK); need(q_pipe_reader_open(q, &s) == Q_OK);
		 need(q_pipe_write(q, "z", 1, &n, 0) == Q_OK);
		 need(q_pipe_read(s, buf, 4, &n, 0) == Q_OK && n == 1); q_pipe_reader_close(s);
		 q_pipe_destroy(q););
	expect(r, 4, "x");
	q_pipe_pool_destroy(pool);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reader_sees_the_whole_stream_whenever_it_joins),
		cmocka_unit_test(a_read_takes_what_is_there_and_says_empty_when_there_is_nothing),
		cmocka_unit_test(writing_needs_no_reader),
		cmocka_unit_test(readers_read_on_after_the_writers_handle_is_gone),
		cmocka_unit_test(pieces_are_one_write),
		cmocka_unit_test(a_wrong_call_is_refused_by_name_and_changes_nothing),
		cmocka_unit_test(an_empty_write_succeeds_and_wakes_nobody),
		cmocka_unit_test(a_write_after_close_says_shutdown_and_close_is_idempotent),
		cmocka_unit_test(the_writers_error_comes_after_all_data),
		cmocka_unit_test(a_readers_own_error_comes_first_is_its_own_and_loses_nothing),
		cmocka_unit_test(
			every_order_of_data_errors_and_close_says_what_the_precedence_says),
		cmocka_unit_test(a_write_is_broken_once_there_were_readers_and_all_have_gone),
		cmocka_unit_test(
			a_waiting_reader_wakes_for_bytes_an_error_its_own_error_and_the_end),
		cmocka_unit_test(a_writer_streams_once_it_had_to_wake_three_times_in_a_row_at_once),
		cmocka_unit_test(a_stream_ends_with_a_beat_that_comes_late),
		cmocka_unit_test(a_byte_after_a_pause_wakes_its_reader_and_ends_the_stream),
		cmocka_unit_test(a_doze_that_brought_little_is_followed_by_a_sleep),
		cmocka_unit_test(
			a_reader_does_not_doze_on_when_the_stream_has_ended_as_it_lay_down),
		cmocka_unit_test(a_read_that_times_out_says_so_and_leaves_nothing_behind),
		cmocka_unit_test(
			a_cancelled_thread_comes_back_from_its_read_and_takes_nothing_with_it),
		cmocka_unit_test(a_signal_ends_no_wait),
		cmocka_unit_test(two_threads_at_one_reader_are_told_so),
		cmocka_unit_test(the_bytes_of_one_write_stand_together),
		cmocka_unit_test(the_descriptor_is_readable_while_a_read_would_find_something),
		cmocka_unit_test(nothing_is_left_behind_whatever_fails),
		cmocka_unit_test(a_forked_child_is_told_that_the_handles_are_its_parents),
	};

	return cmocka_run_group_tests_name("pipe", tests, NULL, NULL);
}
