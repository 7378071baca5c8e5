/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_quiet.c - grids that are kept away for a moment, through the stand-in driver: what the
 * application loads meanwhile, what other threads may do, and what it must wait for.
 */
#include "device/cuda/driver/driver_api.h"
#include "device/cuda/host/state.h"
#include "standin.h"
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct standin_control *standin;

static QueueConfig cuda_config(void)
{
	QueueConfig cfg = config(8, 64);

	cfg.device = Q_DEVICE_CUDA;
	cfg.consumers = 0;
	return cfg;
}

/* ---- what the application loads -------------------------------------------------------------- */

struct loading {
	const struct gq_cuda *c;
	unsigned loads;
	int results; /* of the calls, or-ed */
};

/* All of this ends the process if a grid is there, or if no context is current. */
static void load_all(void *user)
{
	struct loading *l = user;
	const struct gq_cu *cu = l->c->cu;
	CUdeviceptr memory = 0;
	CUmodule module;

	l->loads++;
	l->results |= cu->cuModuleLoadDataEx(&module, l->c->q->processor.device[1], 0, NULL, NULL);
	l->results |= cu->cuMemAlloc(&memory, 64);
	l->results |= cu->cuMemFree(memory);
	l->results |= cu->cuModuleUnload(module);
	assert_int_equal(standin->resident(), 0);
}

static void the_application_loads_while_no_grid_is_there(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *q = make_queue_from(&cfg), *other = make_queue_from(&cfg);
	struct loading l = { .c = q->device_state };
	const uint32_t launches = standin->launches();
	uint64_t id;

	(void)state;
	expect_echo(q, send(q, "x", 1), "x", 1);
	expect_echo(other, send(other, "y", 1), "y", 1);
	assert_status(q_preload(q, load_all, &l), Q_OK);
	assert_int_equal(l.loads, 1);
	assert_int_equal(l.results, 0);
	assert_int_equal(standin->depth(), 0);
	assert_int_equal(standin->launches(), launches + 2); /* both are back */
	expect_echo(q, send(q, "x", 1), "x", 1);
	expect_echo(other, send(other, "y", 1), "y", 1);

	close_gate();
	id = send_op(other, OP_GATE, 0, "h", 1);
	await_gate_waiters(1);
	assert_status(q_preload(q, load_all, &l), Q_ERR_TIMEOUT);
	assert_non_null(strstr(q_last_error(), "and loading would wait for it"));
	assert_int_equal(l.loads, 1);
	open_gate();
	expect_echo(other, id, "h", 1);
	expect_echo(q, send(q, "x", 1), "x", 1);

	standin->break_context(700);
	assert_status(q_preload(q, load_all, &l), Q_ERR_CUDA);
	assert_int_equal(l.loads, 1);
	q_shutdown(q);
	q_shutdown(other);
	while (standin->resident() != 0)
		nap_ms(1);
	standin->break_context(0);
	assert_int_equal(standin->live(), 0);
}

/* What a thread may do while `load` runs: calls of queues that are idle, parked, bounded, never
 * launched. If one of them waits for `load`, which waits for the thread, the test hangs. If one
 * asks the driver, which may be busy with what `load` does, the stand-in ends the process. */
struct meanwhile {
	GpuQueue *idle, *parked, *bounded, *stopped, *busy, *ended;
	uint64_t id[3], lost;
	QueueStatus enqueued[3], waited, lone, paused, stopped_empty, stopped_late;
	uint32_t resident; /* grids, at the end */
};

static void *use_queues(void *arg)
{
	struct meanwhile *m = arg;

	m->enqueued[0] = q_enqueue(m->idle, "a", 1, &m->id[0], 0);
	m->enqueued[1] = q_enqueue(m->parked, "b", 1, &m->id[1], 0);
	m->enqueued[2] = q_enqueue(m->bounded, "c", 1, &m->id[2], 0);
	m->waited = q_wait(m->bounded, m->id[2], 20);
	m->paused = q_pause(m->parked, 1);
	q_resume(m->parked);
	m->stopped_empty = q_stop(m->stopped, LONG_MS);
	m->lone = q_enqueue(m->busy, "e", 1, &m->lost, 0);
	m->stopped_late = q_stop(m->busy, 1);
	/* What waits keeps it from stopping in time, so a thread of its own waits for its grid. */
	q_enqueue(m->ended, "f", 1, NULL, 0);
	q_shutdown(m->ended);
	nap_ms(30); /* that thread looks each 5 ms */
	return NULL;
}

static void use_queues_meanwhile(void *user)
{
	struct meanwhile *m = user;
	pthread_t thread;

	standin->set(STANDIN_BUSY, 1);
	if (pthread_create(&thread, NULL, use_queues, m) == 0)
		pthread_join(thread, NULL);
	standin->set(STANDIN_BUSY, 0);
	m->resident = standin->resident();
}

static void await_park(GpuQueue *q)
{
	const struct gq_cuda *c = q->device_state;

	while (gq_load_acquire_u64(&c->link->report.park) !=
	       (gq_load_relaxed_u64(&c->launch) << GQ_PARK_BITS | GQ_PARK_GONE))
		nap_ms(1);
}

static void calls_of_queues_do_not_wait_for_what_is_loaded(void **state)
{
	QueueConfig cfg = cuda_config(), parks = cfg, bounded = cfg, ends_soon = cfg;
	struct meanwhile m = { .paused = Q_ERR_TIMEOUT };
	size_t len = 0;

	(void)state;
	cfg.idle_park_ms = UINT32_MAX;
	parks.idle_park_ms = 1;
	bounded.bounded_messages = 1;
	ends_soon.shutdown_timeout_ms = 1;
	m.idle = make_queue_from(&cfg);
	m.bounded = make_queue_from(&bounded);
	m.ended = make_queue_from(&ends_soon);
	m.stopped = make_queue_from(&cfg);
	m.busy = make_queue_from(&cfg);
	m.parked = make_queue_from(&parks);
	expect_echo(m.parked, send(m.parked, "x", 1), "x", 1);
	await_park(m.parked);
	assert_status(q_preload(m.idle, use_queues_meanwhile, &m), Q_OK);
	for (unsigned i = 0; i < 3; i++)
		assert_status(m.enqueued[i], Q_OK);
	assert_status(m.waited, Q_ERR_TIMEOUT);
	assert_status(m.paused, Q_OK);
	assert_status(m.stopped_empty, Q_OK);
	assert_status(m.lone, Q_OK);
	assert_status(m.stopped_late, Q_ERR_TIMEOUT);
	assert_int_equal(m.resident, 0);
	expect_echo(m.idle, m.id[0], "a", 1);
	expect_echo(m.parked, m.id[1], "b", 1);
	expect_echo(m.bounded, m.id[2], "c", 1);
	assert_status(take(m.busy, m.lost, NULL, &len), Q_ERR_CANCELLED);
	q_shutdown(m.idle);
	q_shutdown(m.parked);
	q_shutdown(m.bounded);
	q_shutdown(m.stopped);
	q_shutdown(m.busy);
	while (standin->live() != 0) /* the thread that waited frees it */
		nap_ms(1);
}

static void publish_meanwhile(void *user)
{
	struct meanwhile *m = user;

	m->enqueued[0] = q_enqueue(m->bounded, "x", 1, &m->id[0], 0);
	m->resident = standin->resident();
}

/* Its kernel has never been launched, so no grid of it is brought back. */
static void what_comes_while_something_is_loaded_gets_its_first_launch(void **state)
{
	QueueConfig cfg = cuda_config();
	struct meanwhile m = { 0 };
	uint32_t launches;

	(void)state;
	cfg.bounded_messages = 1;
	m.bounded = make_queue_from(&cfg);
	launches = standin->launches();
	assert_status(q_preload(m.bounded, publish_meanwhile, &m), Q_OK);
	assert_status(m.enqueued[0], Q_OK);
	assert_int_equal(m.resident, 0);
	assert_int_equal(standin->launches(), launches + 1); /* and nobody waits for it yet */
	expect_echo(m.bounded, m.id[0], "x", 1);
	q_shutdown(m.bounded);
}

/* ---- what has to be waited for --------------------------------------------------------------- */

struct starting {
	QueueConfig cfg;
	GpuQueue *q;
};

static void *start(void *arg)
{
	struct starting *s = arg;

	s->q = q_init(&s->cfg);
	return NULL;
}

struct preloading {
	GpuQueue *q;
	QueueStatus status;
	uint64_t thread; /* its number, once it is about to call */
};

static void load_nothing(void *user)
{
	(void)user;
}

static void *preload_nothing(void *arg)
{
	struct preloading *p = arg;

	gq_store_release_u64(&p->thread, (uint64_t)gettid());
	p->status = q_preload(p->q, load_nothing, NULL);
	return NULL;
}

/* Until the thread sleeps in the kernel, as one does that waits for a lock. */
static void await_sleep(uint64_t thread)
{
	for (unsigned asleep = 0; asleep < 10; nap_ms(1)) {
		char path[64], line[256] = "";
		const char *name_end;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%u/stat", (unsigned)thread);
		f = fopen(path, "r");
		assert_non_null(f);
		assert_non_null(fgets(line, sizeof(line), f));
		fclose(f);
		name_end = strrchr(line, ')');
		assert_non_null(name_end);
		asleep = name_end[2] == 'S' ? asleep + 1 : 0;
	}
}

/* A queue that starts has its lock for as long as the GPU lets it wait. */
static void queues_serve_while_a_grid_cannot_be_kept_away_yet(void **state)
{
	QueueConfig cfg = cuda_config();
	struct starting second = { .cfg = cfg };
	struct preloading third = { 0 };
	QueueStatus sent, came = Q_ERR_TIMEOUT;
	pthread_t starts, loads;
	struct gq_cuda *c;
	bool kept_away;
	GpuQueue *q;
	uint64_t id;

	(void)state;
	second.cfg.idle_park_ms = cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	c = q->device_state;
	third.q = q;
	standin->set(STANDIN_CANARY_HELD, 1);
	assert_int_equal(pthread_create(&starts, NULL, start, &second), 0);
	while (standin->held() == 0)
		nap_ms(1);
	assert_int_equal(pthread_create(&loads, NULL, preload_nothing, &third), 0);
	while (gq_load_acquire_u64(&third.thread) == 0)
		nap_ms(1);
	await_sleep(third.thread);
	pthread_mutex_lock(&c->lock);
	kept_away = c->kept_away;
	pthread_mutex_unlock(&c->lock);
	sent = q_enqueue(q, "x", 1, &id, 0);
	if (!kept_away && sent == Q_OK)
		came = q_wait(q, id, LONG_MS);
	standin->set(STANDIN_CANARY_HELD, 0);
	pthread_join(starts, NULL);
	pthread_join(loads, NULL);
	assert_false(kept_away);
	assert_status(came, Q_OK);
	assert_status(third.status, Q_OK);
	assert_non_null(second.q);
	expect_echo(q, id, "x", 1);
	q_shutdown(q);
	q_shutdown(second.q);
	assert_int_equal(standin->live(), 0);
}

/* Its second launch was refused, and the first is inside a message. The stand-in ends the process
 * if anything is allocated before that has left. */
static void a_failed_queue_whose_grid_runs_is_waited_for(void **state)
{
	QueueConfig cfg = cuda_config(), bounded = cuda_config();
	GpuQueue *q, *failed;

	(void)state;
	bounded.bounded_messages = 1;
	failed = make_queue_from(&bounded);
	close_gate();
	send_op(failed, OP_GATE, 0, "g", 1);
	await_gate_waiters(1);
	standin->fail_nth(2, 700); /* cuCtxPushCurrent, cuLaunchKernelEx */
	assert_status(q_enqueue(failed, "x", 1, NULL, 0), Q_OK);
	assert_string_equal(standin->failed_call(), "cuLaunchKernelEx");
	standin->fail_nth(0, 0);
	assert_status(q_wait_any(failed, LONG_MS), Q_ERR_CUDA);
	assert_int_equal(standin->resident(), 1);
	expect_no_queue(&cfg, "inside a message for longer than 2 s");
	open_gate();
	q = make_queue_from(&cfg);
	expect_echo(q, send(q, "y", 1), "y", 1);
	q_shutdown(q);
	q_shutdown(failed);
	assert_int_equal(standin->live(), 0);
}

/* ---- the process ends ------------------------------------------------------------------------ */

/* What this program does when it is started with the argument EXIT_LOADING. */
#define EXIT_LOADING "exit-while-something-is-loaded"

static struct {
	GpuQueue *q, *other; /* on another GPU */
	pthread_t thread;
	uint64_t loads, may_return;
} ends;

static void load_until_told(void *user)
{
	(void)user;
	gq_store_release_u64(&ends.loads, 1);
	while (gq_load_acquire_u64(&ends.may_return) == 0)
		nap_ms(1);
}

static void *preload_until_told(void *arg)
{
	q_preload(ends.q, load_until_told, NULL);
	return arg;
}

/* Runs when the library has done what it does at the end of the process. It waits a moment only
 * until the grids have left, which may not be enough on a busy machine. */
static void say_what_is_left(void)
{
	const uint64_t deadline_ns = gq__now_ns() + UINT64_C(20000000000);
	const uint32_t launches = standin->launches();

	while (standin->resident() != 0) {
		if (gq__now_ns() > deadline_ns)
			_exit(3);
		nap_ms(1);
	}
	gq_store_release_u64(&ends.may_return, 1);
	pthread_join(ends.thread, NULL);
	_exit(standin->launches() != launches ? 4 : 0);
}

static int exit_while_something_is_loaded(void)
{
	QueueConfig cfg = cuda_config();

	atexit(say_what_is_left);
	standin = find_standin("GPUQ_LIBCUDA", "standin");
	standin->set(STANDIN_DEVICES, 2);
	cfg.idle_park_ms = UINT32_MAX;
	ends.q = q_init(&cfg);
	cfg.ordinal = 1;
	ends.other = q_init(&cfg);
	if (ends.q == NULL || ends.other == NULL || standin->resident() != 2 ||
	    pthread_create(&ends.thread, NULL, preload_until_told, NULL) != 0)
		_exit(2);
	while (gq_load_acquire_u64(&ends.loads) == 0)
		nap_ms(1);
	return 0;
}

static void no_grid_stays_or_comes_back_when_the_process_ends(void **state)
{
	const pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		execl("/proc/self/exe", "test_quiet", EXIT_LOADING, (char *)NULL);
		_exit(2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_application_loads_while_no_grid_is_there),
		cmocka_unit_test(calls_of_queues_do_not_wait_for_what_is_loaded),
		cmocka_unit_test(what_comes_while_something_is_loaded_gets_its_first_launch),
		cmocka_unit_test(queues_serve_while_a_grid_cannot_be_kept_away_yet),
		cmocka_unit_test(a_failed_queue_whose_grid_runs_is_waited_for),
		cmocka_unit_test(no_grid_stays_or_comes_back_when_the_process_ends),
	};

	if (argc > 1 && strcmp(argv[1], EXIT_LOADING) == 0)
		return exit_while_something_is_loaded();
	standin = begin_on_standin(argc, argv);
	if (standin == NULL)
		return 77;
	return cmocka_run_group_tests_name("quiet", tests, NULL, NULL);
}
