/* SPDX-License-Identifier: Apache-2.0 */
/* test_pipe_pool.c - pipes by name: whichever side comes first. */
#include "child.h"
#include "support.h"

#include <gpuq/pipe.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

static PipePool *make(void)
{
	PipePool *pool;

	assert_status(q_pipe_pool_create(&pool), Q_OK);
	return pool;
}

static Pipe *writer(PipePool *pool, const char *name)
{
	Pipe *p;

	assert_status(q_pipe_pool_writer(pool, name, NULL, &p), Q_OK);
	return p;
}

static void expect(PipeReader *r, const char *text)
{
	char buf[64];
	size_t len;

	assert_status(q_pipe_read(r, buf, sizeof(buf), &len, LONG_MS), Q_OK);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(buf, text, len);
}

static void opening_twice_gives_the_same_pipe_and_names_keep_apart(void **state)
{
	const PipeConfig other = { .max_bytes = 1 };
	PipePool *pool = make();
	Pipe *a = writer(pool, "a"), *p;
	PipeReader *r;
	char name[300];

	(void)state;
	assert_status(q_pipe_pool_writer(pool, "a", &other, &p), Q_OK);
	assert_ptr_equal(p, a); /* and the configuration counts once */
	assert_status(q_pipe_write(p, "ab", 2, NULL, 0), Q_OK);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_status(q_pipe_pool_writer(pool, name, NULL, &p), Q_OK);
		assert_status(q_pipe_write(p, name, strlen(name), NULL, 0), Q_OK);
	}
	assert_status(q_pipe_pool_reader(pool, "777", 0, 0, &r), Q_OK);
	expect(r, "777");
	q_pipe_reader_close(r);
	memset(name, 'n', 256);
	name[256] = '\0';
	assert_status(q_pipe_pool_writer(pool, name, NULL, &p), Q_ERR_INVALID_ARG);
	assert_says("must have 1 to 255");
	name[255] = '\0';
	assert_status(q_pipe_pool_writer(pool, name, NULL, &p), Q_OK);
	assert_status(q_pipe_pool_writer(pool, "", NULL, &p), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_pool_writer(pool, NULL, NULL, &p), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_pool_reader(pool, "a", 2, 0, &r), Q_ERR_INVALID_ARG);
	assert_says("flags is 0x2");
	assert_status(q_pipe_pool_writer(pool, "new", &(PipeConfig){ .policy = 9 }, &p),
		      Q_ERR_INVALID_ARG);
	assert_status(q_pipe_pool_reader(pool, "new", Q_PIPE_POOL_EXISTING, 0, &r),
		      Q_ERR_NOT_FOUND);
	assert_status(q_pipe_pool_create(NULL), Q_ERR_INVALID_ARG);
	assert_status(q_pipe_pool_close(NULL), Q_ERR_INVALID_ARG);
	q_pipe_pool_destroy(NULL);
	q_pipe_pool_destroy(pool);
}

static void a_reader_that_does_not_wait_is_told_why(void **state)
{
	PipePool *pool = make();
	PipeReader *r = NULL;

	(void)state;
	assert_status(q_pipe_pool_reader(pool, "none", 0, 0, &r), Q_ERR_EMPTY);
	assert_says("nobody writes a pipe 'none' yet");
	assert_status(q_pipe_pool_reader(pool, "none", 0, 3, &r), Q_ERR_TIMEOUT);
	assert_status(q_pipe_pool_reader(pool, "none", Q_PIPE_POOL_EXISTING, LONG_MS, &r),
		      Q_ERR_NOT_FOUND);
	assert_null(r);
	q_pipe_pool_destroy(pool);
}

struct opener {
	PipePool *pool;
	const char *name;
	PipeReader *reader;
	QueueStatus status;
	pthread_t thread;
};

static void *open_by_name(void *arg)
{
	struct opener *o = arg;

	o->status = q_pipe_pool_reader(o->pool, o->name, 0, LONG_MS, &o->reader);
	return NULL;
}

static void start(struct opener *o, PipePool *pool, const char *name)
{
	*o = (struct opener){ .pool = pool, .name = name };
	assert_int_equal(pthread_create(&o->thread, NULL, open_by_name, o), 0);
}

static void readers_that_came_first_all_meet_their_writer(void **state)
{
	enum { OPENERS = 5 };
	PipePool *pool = make();
	struct opener o[OPENERS], other;
	Pipe *p;

	(void)state;
	start(&other, pool, "never");
	for (int i = 0; i < OPENERS; i++)
		start(&o[i], pool, "late");
	nap_ms(20); /* some of them sleep by now */
	p = writer(pool, "late");
	assert_status(q_pipe_write(p, "for all", 7, NULL, 0), Q_OK);
	for (int i = 0; i < OPENERS; i++) {
		pthread_join(o[i].thread, NULL);
		assert_status(o[i].status, Q_OK);
		expect(o[i].reader, "for all");
	}
	assert_status(q_pipe_pool_close(pool), Q_OK);
	pthread_join(other.thread, NULL);
	assert_status(other.status, Q_ERR_SHUTDOWN); /* a writer that never comes */
	assert_null(other.reader);
	q_pipe_close(p);
	for (int i = 0; i < OPENERS; i++) {
		expect(o[i].reader, "");
		q_pipe_reader_close(o[i].reader);
	}
	q_pipe_pool_destroy(pool);
}

static void a_closed_pool_takes_no_names_and_keeps_those_it_has(void **state)
{
	PipePool *pool = make();
	Pipe *p = writer(pool, "there"), *q;
	PipeReader *r;

	(void)state;
	assert_status(q_pipe_write(p, "kept", 4, NULL, 0), Q_OK);
	for (int i = 0; i < 2; i++)
		assert_status(q_pipe_pool_close(pool), Q_OK);
	assert_status(q_pipe_pool_writer(pool, "new", NULL, &q), Q_ERR_SHUTDOWN);
	assert_status(q_pipe_pool_reader(pool, "new", 0, LONG_MS, &r), Q_ERR_SHUTDOWN);
	assert_status(q_pipe_pool_writer(pool, "there", NULL, &q), Q_OK);
	assert_ptr_equal(p, q);
	assert_status(q_pipe_write(q, "!", 1, NULL, 0), Q_OK);
	q_pipe_destroy(q); /* of a pool's pipe: closes it */
	assert_status(q_pipe_pool_reader(pool, "there", 0, 0, &r), Q_OK);
	expect(r, "kept!");
	expect(r, "");
	q_pipe_pool_destroy(pool);
	expect(r, "");
	q_pipe_reader_close(r);
}

static void what_nobody_closed_is_not_complete_when_the_pool_goes(void **state)
{
	PipePool *pool = make();
	Pipe *p = writer(pool, "open");
	PipeReader *r;
	char c;
	size_t n;
	int error;

	(void)state;
	assert_status(q_pipe_write(p, "half", 4, NULL, 0), Q_OK);
	assert_status(q_pipe_pool_reader(pool, "open", 0, 0, &r), Q_OK);
	q_pipe_pool_destroy(pool);
	expect(r, "half");
	assert_status(q_pipe_read(r, &c, 1, &n, LONG_MS), Q_ERR_FAILED);
	assert_status(q_pipe_reader_error(r, &error), Q_OK);
	assert_int_equal(error, ECANCELED);
	q_pipe_reader_close(r);
}

/* Both sides of many names at once, and a close in the middle: nobody stays behind. */
struct racer {
	PipePool *pool;
	uint32_t me, wrong;
	pthread_t thread;
};

enum { NAMES = 50, RACERS = 10 };

static void *race(void *arg)
{
	struct racer *racer = arg;
	char name[16];

	for (int i = 0; i < NAMES; i++) {
		QueueStatus status;
		PipeReader *r;
		Pipe *p;

		snprintf(name, sizeof(name), "%d", i);
		if (racer->me % 2 == 0)
			status = q_pipe_pool_writer(racer->pool, name, NULL, &p);
		else
			status = q_pipe_pool_reader(racer->pool, name, 0, LONG_MS, &r);
		if (racer->me % 2 != 0 && status == Q_OK)
			q_pipe_reader_close(r);
		if (status != Q_OK && status != Q_ERR_SHUTDOWN)
			racer->wrong++;
	}
	return NULL;
}

static void openers_on_both_sides_and_a_close_leave_nobody_waiting(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < 30; round++) {
		PipePool *pool = make();
		struct racer racers[RACERS];

		for (uint32_t i = 0; i < RACERS; i++) {
			racers[i] = (struct racer){ .pool = pool, .me = i };
			assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]),
					 0);
		}
		if (round % 3 != 0)
			nap_ms(round % 3 - 1);
		assert_status(q_pipe_pool_close(pool), Q_OK);
		for (uint32_t i = 0; i < RACERS; i++) {
			pthread_join(racers[i].thread, NULL);
			assert_int_equal(racers[i].wrong, 0);
		}
		q_pipe_pool_destroy(pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening_twice_gives_the_same_pipe_and_names_keep_apart),
		cmocka_unit_test(a_reader_that_does_not_wait_is_told_why),
		cmocka_unit_test(readers_that_came_first_all_meet_their_writer),
		cmocka_unit_test(a_closed_pool_takes_no_names_and_keeps_those_it_has),
		cmocka_unit_test(what_nobody_closed_is_not_complete_when_the_pool_goes),
		cmocka_unit_test(openers_on_both_sides_and_a_close_leave_nobody_waiting),
	};

	return cmocka_run_group_tests_name("pipe_pool", tests, NULL, NULL);
}
