/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cuda.c - what is the CUDA device's own, through the stand-in driver: finding the driver,
 * every driver call failing in turn, a dead context, parking, leaving for a pause, several queues.
 * The rest of its contract is every other test, run with GPUQ_TEST_DEVICE=cuda.
 */
#include "device/cuda/driver/driver_api.h"
#include "device/cuda/host/state.h"
#include "host/base/sanitize.h"
#include "standin.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct standin_control *standin;

static QueueConfig cuda_config(void)
{
	QueueConfig cfg = config(8, 64);

	cfg.device = Q_DEVICE_CUDA;
	return cfg;
}

static void expect_refusal(const QueueConfig *cfg, const char *words)
{
	expect_no_queue(cfg, words);
	assert_int_equal(standin->live(), 0);
	assert_int_equal(standin->depth(), 0);
}

/* ---- finding the driver: first in this program, as a driver that was found stays ------------ */

static void what_is_wrong_with_the_driver_is_said(void **state)
{
	char *path = strdup(getenv("GPUQ_LIBCUDA"));
	QueueConfig cfg = cuda_config();
	QueueInfo info;
	GpuQueue *q;

	(void)state;
	setenv("GPUQ_LIBCUDA", "/nonexistent/libcuda.so.1", 1);
	expect_refusal(&cfg, "no driver: cannot load '/nonexistent/libcuda.so.1'");
	setenv("GPUQ_LIBCUDA", "libpthread.so.0", 1);
	expect_refusal(&cfg, "too old: it has no cuGetProcAddress_v2");
	setenv("GPUQ_LIBCUDA", path, 1);
	standin->set(STANDIN_VERSION, 11080);
	expect_refusal(&cfg, "is of CUDA 11.8; allowed: 12.0 or newer");
	standin->set(STANDIN_VERSION, 12000);
	standin->set(STANDIN_DEVICES, 0);
	expect_refusal(&cfg, "finds no device");
	cfg.device = Q_DEVICE_AUTO; /* falls back, and says why */
	q = make_queue_from(&cfg);
	assert_status(q_info(q, &info), Q_OK);
	assert_int_equal(info.device, Q_DEVICE_CPU);
	assert_non_null(strstr(info.reason, "finds no device"));
	q_shutdown(q);
	standin->set(STANDIN_DEVICES, 1);
	free(path);
}

static void what_is_wrong_with_the_device_is_said(void **state)
{
	QueueConfig cfg = cuda_config();

	(void)state;
	cfg.ordinal = 1;
	expect_refusal(&cfg, "ordinal is 1; allowed: 0 to 0");
	cfg.ordinal = 0;
	cfg.reserve_sms = 9;
	expect_refusal(&cfg, "reserve_sms is 9; allowed: 0 to 8");
	cfg.reserve_sms = 1;
	cfg.consumers = 17;
	expect_refusal(&cfg, "consumers is 17; allowed: 0 (at most 16) to 16");
	cfg = cuda_config();
	cfg.granularity = Q_PER_BLOCK;
	expect_refusal(&cfg, "granularity is 2 (block); allowed: what processor 'test' was built "
			     "for: 1 (warp)");
	cfg = cuda_config();
	standin->set(GQ_CU_KERNEL_EXEC_TIMEOUT, 1);
	expect_refusal(&cfg, "has a run-time limit for kernels");
	standin->set(GQ_CU_KERNEL_EXEC_TIMEOUT, 0);
	standin->set(GQ_CU_UNIFIED_ADDRESSING, 0);
	expect_refusal(&cfg, "no unified addressing");
	standin->set(GQ_CU_UNIFIED_ADDRESSING, 1);
	standin->set(GQ_CU_COOPERATIVE_LAUNCH, 0);
	expect_refusal(&cfg, "no cooperative launch");
	standin->set(GQ_CU_COOPERATIVE_LAUNCH, 1);
	setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
	expect_refusal(&cfg, "CUDA_LAUNCH_BLOCKING is '1'");
	unsetenv("CUDA_LAUNCH_BLOCKING");
}

/* ---- every driver call fails in turn --------------------------------------------------------- */

/* Calls whose failure changes nothing: what they give back is gone anyway. */
static bool gives_back(const char *call)
{
	return strncmp(call, "cuMemFree", 9) == 0 || strcmp(call, "cuModuleUnload") == 0 ||
	       strcmp(call, "cuDevicePrimaryCtxRelease") == 0 ||
	       strcmp(call, "cuStreamDestroy") == 0;
}

/* A queue's life; stops at the first failure. @return its status. */
static QueueStatus live(GpuQueue *q)
{
	char buf[64];
	QueueStatus status = Q_OK;
	uint64_t id;

	for (int i = 0; i < 3 && status == Q_OK; i++) {
		size_t len = sizeof(buf);

		nap_ms(8); /* parked by now */
		status = q_enqueue(q, "life", 4, &id, LONG_MS);
		if (status == Q_OK)
			status = q_wait(q, id, LONG_MS);
		if (status == Q_OK)
			status = q_try_dequeue_result(q, id, buf, &len);
	}
	if (status == Q_OK)
		status = q_pause(q, LONG_MS);
	if (status == Q_OK)
		status = q_resume(q);
	if (status == Q_OK)
		status = q_enqueue(q, "more", 4, &id, LONG_MS);
	if (status == Q_OK)
		status = q_wait(q, id, LONG_MS);
	if (status == Q_OK)
		status = q_stop(q, LONG_MS);
	return status;
}

static void every_driver_call_fails_in_turn(void **state)
{
	enum { NO_MEMORY = 0, UNKNOWN = 1 };
	static const int errors[] = { GQ_CU_OUT_OF_MEMORY, GQ_CU_UNKNOWN };
	const size_t memory = gq__alloc_live_bytes();
	/* Sanitizers: every third call, of each transport another third. */
	const unsigned step = getenv("GPUQ_TEST_SHORT") != NULL ? 3 : 1;
	unsigned at_init = 0, at_work = 0;

	(void)state;
	/* The third: with the copy engine; the fourth: with device memory that the CPU writes. */
	for (int e = NO_MEMORY; e <= (GQ_HAS_BAR1 ? UNKNOWN + 2 : UNKNOWN + 1); e++) {
		for (unsigned n = 1 + (unsigned)e % step;; n += step) {
			QueueConfig cfg = cuda_config();
			const char *call;
			GpuQueue *q;

			assert_true(n < 100000);
			cfg.idle_park_ms = 2;
			cfg.flags = Q_TRACE;
			cfg.transport = e > UNKNOWN + 1 ? Q_TRANSPORT_BAR1
					: e > UNKNOWN   ? Q_TRANSPORT_COPY
							: Q_TRANSPORT_AUTO;
			standin->fail_nth(n, errors[e > UNKNOWN ? UNKNOWN : e]);
			q = q_init(&cfg);
			call = standin->failed_call();
			if (q == NULL) {
				at_init++;
				assert_non_null(call);
				if (strstr(q_last_error(), call) == NULL)
					fail_msg("%s failed: '%s'", call, q_last_error());
			} else {
				QueueStatus status = live(q);

				call = standin->failed_call();
				if (status != Q_OK) {
					at_work++;
					assert_non_null(call);
					assert_status(status, Q_ERR_CUDA);
					if (strstr(q_last_error(), call) == NULL &&
					    strstr(q_last_error(), "cuStreamQuery") == NULL)
						fail_msg("%s failed: '%s'", call, q_last_error());
					assert_status(q_enqueue(q, "x", 1, NULL, 0), Q_ERR_CUDA);
				}
				q_shutdown(q);
				call = standin->failed_call();
			}
			standin->fail_nth(0, 0);
			if (standin->live() != 0 || gq__alloc_live_bytes() != memory)
				fail_msg("%s failed: %u of the driver's and %zu bytes leak",
					 call != NULL ? call : "nothing", standin->live(),
					 gq__alloc_live_bytes() - memory);
			assert_int_equal(standin->depth(), 0);
			if (call == NULL)
				break;
			if (q != NULL && !gives_back(call) && at_work == 0)
				fail_msg("%s failed and nobody noticed", call);
			q = make_queue_from(&cfg); /* a second one works */
			expect_echo(q, send(q, "x", 1), "x", 1);
			q_shutdown(q);
		}
	}
	assert_true(at_init > 40 / step && at_work > 4 / step);
}

/* ---- a dead context -------------------------------------------------------------------------- */

static void *wait_for_ever(void *q)
{
	return (void *)(intptr_t)q_wait_any(q, UINT32_MAX);
}

static void a_dead_context_wakes_everybody_and_names_the_suspect(void **state)
{
	QueueConfig cfg = cuda_config();
	const size_t memory = gq__alloc_live_bytes();
	uint64_t good, bad, id;
	char named[32], buf[64];
	size_t len = sizeof(buf);
	pthread_t waiter;
	QueueStats stats;
	void *status;
	GpuQueue *q;

	(void)state;
	cfg.shutdown_timeout_ms = LONG_MS;
	q = make_queue_from(&cfg);
	good = send(q, "good", 4);
	assert_status(take(q, good, buf, &len), Q_OK);
	close_gate();
	bad = send_op(q, OP_GATE, 0, "bad", 3);
	await_gate_waiters(1);
	for (int i = 0; i < 3; i++)
		send(q, "next", 4);
	assert_int_equal(pthread_create(&waiter, NULL, wait_for_ever, q), 0);
	nap_ms(20);
	standin->break_context(700);
	pthread_join(waiter, &status);
	assert_status((QueueStatus)(intptr_t)status, Q_ERR_CUDA);
	snprintf(named, sizeof(named), "msg_id %llu", (unsigned long long)bad);
	assert_status(q_wait(q, bad, LONG_MS), Q_ERR_CUDA);
	assert_non_null(strstr(q_last_error(), "CUDA_ERROR_ILLEGAL_ADDRESS"));
	assert_non_null(strstr(q_last_error(), named));
	assert_status(q_enqueue(q, "x", 1, &id, 0), Q_ERR_CUDA);
	assert_status(q_try_dequeue_result(q, bad, buf, &len), Q_ERR_CUDA);
	assert_status(q_poll_completions(q, &id, 1, &len), Q_ERR_CUDA);
	assert_status(q_drain(q, LONG_MS), Q_ERR_CUDA);
	assert_status(q_pause(q, LONG_MS), Q_ERR_CUDA);
	assert_status(q_stop(q, LONG_MS), Q_ERR_CUDA);
	assert_status(q_stats(q, &stats), Q_OK); /* these can still be asked */
	assert_int_equal(stats.enq_count, 5);
	assert_int_equal(stats.finished, 5);
	assert_int_equal(stats.failed, 4); /* one taken, four lost, none inside */
	open_gate(); /* on a GPU the kernel is dead; here it has to find out */
	for (unsigned i = 0; standin->resident() != 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	assert_int_equal(stats_of(q).finished, 5);
	q_shutdown(q);
	standin->break_context(0);
	assert_int_equal(standin->live(), 0);
	assert_int_equal(gq__alloc_live_bytes(), memory);
	q = make_queue_from(&cfg);
	expect_echo(q, send(q, "again", 5), "again", 5);
	q_shutdown(q);
}

static void a_context_that_dies_while_the_queue_is_idle_is_noticed(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *q = make_queue_from(&cfg);
	pthread_t waiter;
	void *status;
	size_t n;

	(void)state;
	assert_int_equal(pthread_create(&waiter, NULL, wait_for_ever, q), 0);
	nap_ms(20);
	standin->break_context(700);
	pthread_join(waiter, &status); /* within a nap */
	assert_status((QueueStatus)(intptr_t)status, Q_ERR_CUDA);
	assert_non_null(strstr((q_stop(q, 0), q_last_error()), "no message was being processed"));
	q_shutdown(q);
	while (standin->resident() != 0)
		nap_ms(1);
	standin->break_context(0);

	q = make_queue_from(&cfg); /* and a thread that only polls notices */
	standin->break_context(700);
	for (unsigned i = 0; q_poll_completions(q, NULL, 0, &n) != Q_ERR_CUDA; i++) {
		assert_true(i < 100 * LONG_MS);
		if (i % 64 == 0)
			nap_ms(1);
	}
	q_shutdown(q);
	while (standin->resident() != 0)
		nap_ms(1);
	standin->break_context(0);
	assert_int_equal(standin->live(), 0);
}

/* ---- residence ------------------------------------------------------------------------------- */

static void await_resident(uint32_t n)
{
	for (unsigned i = 0; standin->resident() != n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

static void an_idle_grid_leaves_and_the_next_message_brings_it_back(void **state)
{
	QueueConfig cfg = cuda_config();
	uint32_t launches;
	GpuQueue *q;

	(void)state;
	cfg.idle_park_ms = 2;
	cfg.consumers = 3;
	q = make_queue_from(&cfg);
	launches = standin->launches();
	for (int i = 0; i < 20; i++) {
		await_resident(0);
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	}
	assert_int_equal(standin->launches() - launches, 20);
	assert_int_equal(stats_of(q).wakeups, 20);
	await_resident(0);
	assert_status(q_pause(q, LONG_MS), Q_OK); /* of a parked queue */
	assert_status(q_enqueue(q, "p", 1, NULL, 0), Q_OK);
	nap_ms(5);
	assert_int_equal(standin->resident(), 0); /* nothing wakes it while it is paused */
	assert_status(q_resume(q), Q_OK);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	q_shutdown(q);
}

static void no_message_is_lost_when_it_comes_as_the_grid_leaves(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *q;

	(void)state;
	cfg.idle_park_ms = 1;
	cfg.consumers = 2;
	q = make_queue_from(&cfg);
	for (uint32_t i = 0; i < 400; i++) {
		uint64_t until = gq__now_ns() + 900000 + i % 40 * 10000;

		while (gq__now_ns() < until)
			gq_cpu_relax();
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	}
	q_shutdown(q);
}

static void a_paused_queue_has_no_kernel_resident(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *q;

	(void)state;
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(standin->resident(), 1);
		assert_status(q_pause(q, LONG_MS), Q_OK);
		assert_int_equal(standin->resident(), 0);
		assert_status(q_pause(q, LONG_MS), Q_OK);
		assert_status(q_enqueue(q, "x", 1, NULL, LONG_MS), Q_OK);
		assert_status(q_resume(q), Q_OK);
		assert_status(q_drain(q, LONG_MS), Q_OK);
	}
	assert_status(q_pause(q, LONG_MS), Q_OK);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_int_equal(standin->resident(), 0);
	q_shutdown(q);
}

/* Wherever the host asks whether it may launch, it asks for these states. */
static void a_grid_that_is_given_up_is_never_launched_again(void **state)
{
	(void)state;
	for (enum gq_grid_state from = GQ_GRID_ABANDONED; from <= GQ_GRID_FAILED; from++)
		for (enum gq_grid_state to = GQ_GRID_STARTING; to <= GQ_GRID_AWAY; to++)
			assert_false(gq_grid_may_enter(from, to));
	for (enum gq_grid_state from = GQ_GRID_STARTING; from <= GQ_GRID_FAILED; from++) {
		struct gq_cuda c = { .state = from };

		gq_grid_enter(&c, GQ_GRID_FAILED); /* a driver may report an error at any time */
		assert_true(gq_has_failed(&c));
		gq_grid_enter(&c, GQ_GRID_ABANDONED); /* and q_shutdown() comes after it */
		assert_true(gq_has_failed(&c));
	}
}

/* ---- bounded launches ------------------------------------------------------------------------ */

static uint32_t dozed;

/* A message's tag is for how many milliseconds it takes. */
static void doze(const MsgView *in, ResultView *out)
{
	__atomic_add_fetch(&dozed, 1, __ATOMIC_RELAXED);
	nap_ms((unsigned)in->tag);
	*out->out_len = 0;
}

static GpuQueue *make_bounded_queue(uint32_t messages, uint32_t ms)
{
	static const QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					       .protocol_version = Q_PROTOCOL_VERSION,
					       .name = "doze",
					       .cpu = doze,
					       .granularity = Q_PER_WARP,
					       .device_image = &standin_call_image };
	static bool registered;
	QueueConfig cfg = cuda_config();

	if (!registered)
		q_register_processor(&image);
	registered = true;
	standin_called = doze;
	dozed = 0;
	cfg.processor = "doze";
	cfg.capacity = 64;
	cfg.consumers = 4; /* units */
	cfg.bounded_messages = messages;
	cfg.bounded_ms = ms;
	return make_queue_from(&cfg);
}

static void doze_for(GpuQueue *q, uint64_t ms, unsigned times)
{
	while (times-- != 0)
		send_op(q, 0, ms, NULL, 0);
}

static void await_dozed(unsigned n)
{
	for (unsigned i = 0; __atomic_load_n(&dozed, __ATOMIC_RELAXED) < n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* When all four units are inside a message. */
static void expect_pause_and_drain(GpuQueue *q)
{
	await_dozed(4);
	assert_status(q_pause(q, 20000), Q_OK);
	assert_int_equal(standin->resident(), 0);
	assert_status(q_resume(q), Q_OK);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	q_shutdown(q);
}

/* The launch that stands still is not the last that waits in the stream. */
static void a_pause_sends_every_bounded_launch_away(void **state)
{
	GpuQueue *q = make_bounded_queue(8, 60000);

	(void)state;
	doze_for(q, 50, 24);
	expect_pause_and_drain(q);
}

/* Some of its units stand still, one comes out of a message when the launch's time is over. */
static void a_launch_that_ends_in_a_pause_acknowledges_it(void **state)
{
	GpuQueue *q = make_bounded_queue(16, 200);

	(void)state;
	doze_for(q, 500, 1);
	doze_for(q, 20, 15);
	expect_pause_and_drain(q);
}

/* Enough wait, and nobody looks for them. */
static void what_a_bounded_launch_left_is_launched_for_after_the_pause(void **state)
{
	GpuQueue *q = make_bounded_queue(8, 60000);
	uint32_t launches;

	(void)state;
	doze_for(q, 50, 24);
	await_dozed(4);
	assert_status(q_pause(q, LONG_MS), Q_OK);
	assert_true(dozed <= 16);
	launches = standin->launches();
	assert_status(q_resume(q), Q_OK);
	assert_int_equal(standin->launches(), launches + 1);
	await_dozed(24);
	q_shutdown(q);
}

/* The stand-in ends the process if anything is allocated while a kernel is resident. */
static void a_second_queue_comes_and_goes_beside_the_first(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *first, *second;
	uint64_t slow;

	(void)state;
	cfg.idle_park_ms = UINT32_MAX;
	first = make_queue_from(&cfg);
	for (int i = 0; i < 3; i++) {
		second = make_queue_from(&cfg);
		expect_echo(first, send(first, "1", 1), "1", 1);
		expect_echo(second, send(second, "2", 1), "2", 1);
		assert_int_equal(standin->resident(), 2);
		q_shutdown(second);
		expect_echo(first, send(first, "1", 1), "1", 1);
	}
	close_gate();
	slow = send_op(first, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	assert_null(q_init(&cfg)); /* it would hang on a GPU */
	assert_non_null(strstr(q_last_error(), "another queue of this process"));
	open_gate();
	expect_echo(first, slow, "s", 1);
	q_shutdown(first);
	assert_int_equal(standin->live(), 0);
}

/* It need not wait for a message of the other GPU's queue, nor send that queue's grid away. */
static void a_queue_comes_and_goes_beside_a_message_on_another_gpu(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *first, *second;
	uint32_t launches;
	uint64_t slow;

	(void)state;
	standin->set(STANDIN_DEVICES, 2);
	cfg.idle_park_ms = UINT32_MAX;
	first = make_queue_from(&cfg);
	close_gate();
	slow = send_op(first, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	launches = standin->launches_on(0);
	cfg.ordinal = 1;
	for (uint32_t transport = Q_TRANSPORT_AUTO; transport <= Q_TRANSPORT_COPY; transport++) {
		cfg.transport = transport;
		second = make_queue_from(&cfg);
		expect_echo(second, send(second, "2", 1), "2", 1);
		assert_true(standin->launches_on(1) > 0);
		q_shutdown(second);
	}
	assert_int_equal(standin->launches_on(0), launches);
	open_gate();
	expect_echo(first, slow, "s", 1);
	q_shutdown(first);
	standin->set(STANDIN_DEVICES, 1);
	assert_int_equal(standin->live(), 0);
}

/* Pinned memory is every GPU's. The stand-in ends the process if a kernel is resident on any. */
static void regions_are_bound_and_unbound_while_the_grids_of_all_gpus_are_away(void **state)
{
	static uint8_t bytes[4096];
	QueueConfig cfg = cuda_config();
	RegionHandle region;
	RegionTable *table;
	GpuQueue *q[2];

	(void)state;
	standin->set(STANDIN_DEVICES, 2);
	cfg.idle_park_ms = UINT32_MAX;
	assert_status(q_region_table_create(1, &table), Q_OK);
	assert_status(q_region_register(table, bytes, sizeof(bytes), Q_REGION_IMMUTABLE, &region),
		      Q_OK);
	for (uint32_t i = 0; i < 2; i++) {
		cfg.ordinal = i;
		q[i] = make_queue_from(&cfg);
	}
	for (uint32_t i = 0; i < 2; i++) {
		assert_status(q_bind_regions(q[i], table), Q_OK);
		assert_int_equal(standin->resident(), 2);
	}
	q_shutdown(q[0]); /* which pinned the memory, and leaves it to the other */
	expect_echo(q[1], send(q[1], "1", 1), "1", 1);
	cfg.ordinal = 0;
	q[0] = make_queue_from(&cfg);
	q_shutdown(q[1]); /* beside the other GPU's grid */
	expect_echo(q[0], send(q[0], "0", 1), "0", 1);
	q_shutdown(q[0]);
	q_region_table_destroy(table);
	standin->set(STANDIN_DEVICES, 1);
	assert_int_equal(standin->live(), 0);
}

/* The stand-in ends the process if a kernel is first launched beside another. */
static void a_bounded_queue_works_beside_others(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *bounded[3], *resident;

	(void)state;
	cfg.idle_park_ms = UINT32_MAX;
	bounded[0] = make_bounded_queue(2, 60000);
	doze_for(bounded[0], 0, 1); /* waits for a second one */
	resident = make_queue_from(&cfg);
	for (int i = 1; i < 3; i++)
		bounded[i] = make_bounded_queue(2, 60000);
	for (int i = 0; i < 3; i++)
		doze_for(bounded[i], 0, i == 0 ? 1 : 2);
	await_dozed(6);
	for (int i = 0; i < 3; i++)
		q_shutdown(bounded[i]);
	q_shutdown(resident);
	assert_int_equal(standin->live(), 0);
}

static void *init_in_vain(void *cfg)
{
	assert_null(q_init(cfg));
	return NULL;
}

static void *init_and_shut_down(void *cfg)
{
	q_shutdown(make_queue_from(cfg));
	return NULL;
}

/* Another thread waits while this queue calibrates, and then must not bring the grid back of a
 * queue that has failed. */
static void a_queue_that_fails_to_start_is_left_alone(void **state)
{
	QueueConfig cfg = cuda_config(), copying = cfg;
	const uint32_t launches = standin->launches();
	pthread_t failing, other;

	(void)state;
	copying.transport = Q_TRANSPORT_COPY;
	standin->set(STANDIN_COPIES_HELD, 1);
	assert_int_equal(pthread_create(&failing, NULL, init_in_vain, &copying), 0);
	for (unsigned i = 0; standin->launches() < launches + 2; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	assert_int_equal(pthread_create(&other, NULL, init_and_shut_down, &cfg), 0);
	for (unsigned i = 0; standin->resident() != 0 && standin->launches() == launches + 2; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	standin->set(STANDIN_COPIES_HELD, 0); /* freeing memory waits for them */
	pthread_join(failing, NULL);
	pthread_join(other, NULL);
	assert_int_equal(standin->live(), 0);
}

/* When the time was over, idle units had left already. They must come back. */
static void a_departure_that_times_out_costs_no_unit(void **state)
{
	QueueConfig cfg = cuda_config();
	uint64_t slow, id[4];
	GpuQueue *q;

	(void)state;
	cfg.idle_park_ms = UINT32_MAX;
	cfg.consumers = 4;
	q = make_queue_from(&cfg);
	close_gate();
	slow = send_op(q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	assert_null(q_init(&cfg));
	open_gate();
	expect_echo(q, slow, "s", 1);
	close_gate();
	for (int i = 0; i < 4; i++)
		id[i] = send_op(q, OP_GATE, 0, "g", 1);
	await_gate_waiters(4);
	open_gate();
	for (int i = 0; i < 4; i++)
		expect_echo(q, id[i], "g", 1);
	q_shutdown(q);
	assert_int_equal(standin->live(), 0);
}

/* In the child of a process that uses the GPU; no cmocka there. @return 0, or what went wrong. */
static int use_queues_in_a_child(QueueConfig cfg)
{
	GpuQueue *q;

	alarm(60); /* a child that blocks */
	if (q_init(&cfg) != NULL || strstr(q_last_error(), "before fork()") == NULL)
		return 1;
#if !GQ_TSAN
	/* ThreadSanitizer does not allow threads in the child of a threaded process. */
	cfg.device = Q_DEVICE_AUTO;
	q = q_init(&cfg);
	if (q == NULL || q->cfg.device != Q_DEVICE_CPU)
		return 2;
	q_shutdown(q);
	cfg.device = Q_DEVICE_CPU;
	q = q_init(&cfg);
	if (q == NULL)
		return 3;
	q_shutdown(q);
#else
	(void)q;
#endif
	return 0;
}

/* The other thread holds what q_init() locks for two seconds, and is not there in the child. */
static void a_child_forked_during_an_init_does_not_block(void **state)
{
	QueueConfig cfg = cuda_config();
	pthread_t thread;
	int how = -1;
	GpuQueue *q;
	pid_t child;
	uint64_t id;

	(void)state;
	q = make_queue_from(&cfg);
	close_gate();
	id = send_op(q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	assert_int_equal(pthread_create(&thread, NULL, init_in_vain, &cfg), 0);
	nap_ms(300);
	child = fork();
	if (child == 0)
		_exit(use_queues_in_a_child(cfg));
	assert_int_equal(waitpid(child, &how, 0), child);
	assert_int_equal(how, 0);
	pthread_join(thread, NULL);
	open_gate();
	expect_echo(q, id, "s", 1);
	q_shutdown(q);
	assert_int_equal(standin->live(), 0);
}

/* The child has no thread that serves the descriptor, so it must not wait for one. @return as
 * above. */
static int touch_in_a_child(GpuQueue *q)
{
	QueueStats stats;
	QueueInfo info;

	alarm(60);
	if (q_stats(q, &stats) != Q_ERR_UNSUPPORTED || q_info(q, &info) != Q_ERR_UNSUPPORTED ||
	    q_enqueue(q, NULL, 0, NULL, 0) != Q_ERR_UNSUPPORTED)
		return 1;
	q_shutdown(q);
	return 0;
}

static void a_child_leaves_a_queue_alone_that_has_failed(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *q = make_queue_from(&cfg);
	int how = -1;
	pid_t child;

	(void)state;
	assert_true(q_completion_fd(q) >= 0);
	standin->break_context(700);
	assert_status(q_wait_any(q, LONG_MS), Q_ERR_CUDA);
	child = fork();
	if (child == 0)
		_exit(touch_in_a_child(q));
	assert_int_equal(waitpid(child, &how, 0), child);
	assert_int_equal(how, 0);
	q_shutdown(q);
	while (standin->resident() != 0)
		nap_ms(1);
	standin->break_context(0);
	assert_int_equal(standin->live(), 0);
}

/* A stand-in image is addresses of this process, so a copy of it in a file is one too. */
static void an_image_is_loaded_by_path(void **state)
{
	static const struct {
		const char *path, *refused;
		uint32_t version, granularity;
	} cases[] = {
		{ "cuda_image.fatbin", NULL, Q_PROTOCOL_VERSION, 0 },
		{ "./cuda_image.cubin", NULL, Q_PROTOCOL_VERSION, 1 },
		{ "cuda_image.ptx", "compiled for protocol version 9", 9, 0 },
		{ "cuda_image.ptx", "for, 1", Q_PROTOCOL_VERSION, 2 },
	};
	const size_t memory = gq__alloc_live_bytes();
	QueueConfig cfg = cuda_config();

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct standin_image image = standin_test_image;
		FILE *file = fopen(cases[i].path, "wb");
		QueueInfo info;
		GpuQueue *q;

		image.info.protocol_version = cases[i].version;
		image.info.granularity = 1;
		assert_non_null(file);
		assert_int_equal(fwrite(&image, sizeof(image), 1, file), 1);
		fclose(file);
		cfg.processor = cases[i].path;
		cfg.granularity = cases[i].granularity;
		if (cases[i].refused != NULL) {
			expect_refusal(&cfg, cases[i].refused);
		} else {
			q = make_queue_from(&cfg);
			assert_status(q_info(q, &info), Q_OK);
			assert_string_equal(info.processor, "cuda_image");
			assert_int_equal(info.granularity, 1);
			expect_echo(q, send(q, "x", 1), "x", 1);
			q_shutdown(q);
		}
		remove(cases[i].path);
	}
	cfg.processor = "/nonexistent/image.ptx";
	expect_refusal(&cfg, "cannot load '/nonexistent/image.ptx': No such file");
	cfg.processor = "/dev/null.fatbin";
	expect_refusal(&cfg, "cannot load");
	assert_int_equal(gq__alloc_live_bytes(), memory);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_wrong_with_the_driver_is_said),
		cmocka_unit_test(every_driver_call_fails_in_turn),
		cmocka_unit_test(what_is_wrong_with_the_device_is_said),
		cmocka_unit_test(a_dead_context_wakes_everybody_and_names_the_suspect),
		cmocka_unit_test(a_context_that_dies_while_the_queue_is_idle_is_noticed),
		cmocka_unit_test(an_idle_grid_leaves_and_the_next_message_brings_it_back),
		cmocka_unit_test(no_message_is_lost_when_it_comes_as_the_grid_leaves),
		cmocka_unit_test(a_paused_queue_has_no_kernel_resident),
		cmocka_unit_test(a_grid_that_is_given_up_is_never_launched_again),
		cmocka_unit_test(a_pause_sends_every_bounded_launch_away),
		cmocka_unit_test(a_launch_that_ends_in_a_pause_acknowledges_it),
		cmocka_unit_test(what_a_bounded_launch_left_is_launched_for_after_the_pause),
		cmocka_unit_test(a_second_queue_comes_and_goes_beside_the_first),
		cmocka_unit_test(a_queue_comes_and_goes_beside_a_message_on_another_gpu),
		cmocka_unit_test(
			regions_are_bound_and_unbound_while_the_grids_of_all_gpus_are_away),
		cmocka_unit_test(a_bounded_queue_works_beside_others),
		cmocka_unit_test(a_queue_that_fails_to_start_is_left_alone),
		cmocka_unit_test(a_departure_that_times_out_costs_no_unit),
		cmocka_unit_test(a_child_forked_during_an_init_does_not_block),
		cmocka_unit_test(a_child_leaves_a_queue_alone_that_has_failed),
		cmocka_unit_test(an_image_is_loaded_by_path),
	};

	standin = begin_on_standin(argc, argv);
	if (standin == NULL)
		return 77;
	return cmocka_run_group_tests_name("cuda", tests, NULL, NULL);
}
