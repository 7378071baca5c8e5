/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_beside.c - the grid beside the application's kernels, and its settings, through the stand-in
 * driver: how many blocks, how they are launched, what is tried beside them, what GPUQ_TUNE says,
 * what the grid counts.
 */
#include "device/cuda/driver/driver_api.h"
#include "device/cuda/host/state.h"
#include "device/cuda/host/tally.h"
#include "standin.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>

static const struct standin_control *standin;

static QueueConfig cuda_config(void)
{
	QueueConfig cfg = config(8, 64);

	cfg.device = Q_DEVICE_CUDA;
	cfg.consumers = 0;
	return cfg;
}

static QueueInfo info_of(GpuQueue *q)
{
	QueueInfo info;

	assert_status(q_info(q, &info), Q_OK);
	return info;
}

/* ---- how many blocks, and how they are launched ---------------------------------------------- */

static void by_default_most_multiprocessors_are_left_to_the_application(void **state)
{
	static const struct {
		int sms;
		uint32_t reserve, blocks;
	} cases[] = {
		{ 132, 0, 16 }, { 132, 130, 2 }, { 40, 0, 16 }, { 20, 0, 9 },
		{ 9, 0, 4 },    { 3, 0, 1 },     { 2, 0, 1 },   { 1, 0, 1 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		QueueConfig cfg = cuda_config();
		GpuQueue *q;

		standin->set(GQ_CU_MULTIPROCESSOR_COUNT, cases[i].sms);
		cfg.reserve_sms = cases[i].reserve;
		q = make_queue_from(&cfg);
		assert_int_equal(info_of(q).consumers, cases[i].blocks);
		expect_echo(q, send(q, "x", 1), "x", 1);
		q_shutdown(q);
	}
	standin->set(GQ_CU_MULTIPROCESSOR_COUNT, 9);
}

static uint32_t launch_of(const char *tune)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *q;

	setenv("GPUQ_TUNE", tune, 1);
	q = make_queue_from(&cfg);
	unsetenv("GPUQ_TUNE");
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
	return standin->how_launched();
}

static void the_grid_has_a_domain_of_its_own_and_comes_first(void **state)
{
	const int all = STANDIN_COOPERATIVE | STANDIN_REMOTE | STANDIN_FIRST;

	(void)state;
	assert_int_equal(launch_of(""), all);
	assert_int_equal(launch_of("domain:0"), all & ~STANDIN_REMOTE);
	assert_int_equal(launch_of("priority:0"), all & ~STANDIN_FIRST);
	assert_int_equal(launch_of("cooperative:0"), all & ~STANDIN_COOPERATIVE);
	standin->set(GQ_CU_MEM_SYNC_DOMAIN_COUNT, 1); /* GPUs before Hopper */
	assert_int_equal(launch_of(""), all & ~STANDIN_REMOTE);
	standin->set(GQ_CU_MEM_SYNC_DOMAIN_COUNT, 4);
}

static void a_kernel_that_fills_a_multiprocessor_is_tried(void **state)
{
	QueueConfig cfg = cuda_config();
	GpuQueue *q = make_queue_from(&cfg);
	const struct gq_cuda *c = q->device_state;

	(void)state;
	assert_true(c->measured.canary_full > 0 && c->measured.canary_full != UINT64_MAX);
	assert_non_null(strstr(info_of(q).reason, "one that fills a multiprocessor "));
	assert_null(strstr(info_of(q).reason, "waits"));
	q_shutdown(q);

	cfg.consumers = 9; /* a block on each */
	q = make_queue_from(&cfg);
	assert_non_null(strstr(info_of(q).reason, "one that fills a multiprocessor waits"));
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);

	standin->set(GQ_CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 1 << 20); /* more than it lets one */
	cfg.consumers = 0;
	q = make_queue_from(&cfg);
	assert_null(strstr(info_of(q).reason, "fills"));
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
	standin->set(GQ_CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448);
	assert_int_equal(standin->live(), 0);
}

/* ---- GPUQ_TUNE ------------------------------------------------------------------------------- */

static void what_is_wrong_with_the_settings_is_said(void **state)
{
	static const struct {
		const char *tune, *words;
	} cases[] = {
		{ "scout:4", "GPUQ_TUNE names 'scout'; allowed: NAME:VALUE with commas between "
			     "them, of scouts, batch, feed" },
		{ "scouts", "GPUQ_TUNE: scouts is ''; allowed: 1 to 4096" },
		{ "scouts:", "GPUQ_TUNE: scouts is ''; allowed: 1 to 4096" },
		{ "scouts:0", "GPUQ_TUNE: scouts is '0'; allowed: 1 to 4096" },
		{ "scouts:-1", "GPUQ_TUNE: scouts is '-1'" },
		{ "scouts: 1", "GPUQ_TUNE: scouts is ' 1'" },
		{ "scouts:4x", "GPUQ_TUNE: scouts is '4x'" },
		{ "nap:1000001", "GPUQ_TUNE: nap is '1000001'; allowed: 32 to 1000000" },
		{ "nap:18446744073709551716", "GPUQ_TUNE: nap is '18446744073709551716'" },
		{ "batch:4,feed:417", "GPUQ_TUNE: feed is '417'; allowed: 0 to 416" },
		{ "batch:4,", "GPUQ_TUNE names ''" },
		{ ",batch:4", "GPUQ_TUNE names ''" },
		{ "journal:2", "GPUQ_TUNE: journal is '2'; allowed: 0 to 1" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		QueueConfig cfg = cuda_config();

		setenv("GPUQ_TUNE", cases[i].tune, 1);
		expect_no_queue(&cfg, cases[i].words);
		assert_int_equal(standin->live(), 0);
	}
	unsetenv("GPUQ_TUNE");
}

static void the_settings_reach_the_grid(void **state)
{
	QueueConfig cfg = cuda_config();
	const struct gq_cuda *c;
	GpuQueue *q;

	(void)state;
	q = make_queue_from(&cfg);
	c = q->device_state;
	assert_int_equal(c->grid.scouts, 16);
	assert_int_equal(c->grid.feeders, 1);
	assert_int_equal(c->grid.nap_ns, 1000);
	assert_int_equal(c->grid.feed, 2 * (c->units - 1));
	assert_non_null(c->grid.journal);
	assert_true(c->grid.ch.ahead_bytes != 0 && c->grid.ch.sealed_bytes != 0);
	q_shutdown(q);

	setenv("GPUQ_TUNE", "scouts:2,feeders:3,nap:500,feed:5,journal:0,seal:0,ahead:0,batch:8",
	       1);
	q = make_queue_from(&cfg);
	unsetenv("GPUQ_TUNE");
	c = q->device_state;
	assert_int_equal(c->grid.scouts, 2);
	assert_int_equal(c->grid.feeders, 3);
	assert_int_equal(c->grid.nap_ns, 500);
	assert_int_equal(c->grid.feed, 5);
	assert_int_equal(c->grid.batch, 1); /* a warp has one message here */
	assert_null(c->grid.journal);
	assert_int_equal(c->grid.ch.ahead_bytes, 0);
	assert_int_equal(c->grid.ch.sealed_bytes, 0);
	for (int i = 0; i < 100; i++)
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	q_shutdown(q);
}

/* ---- counting -------------------------------------------------------------------------------- */

static void the_grid_counts_what_it_does(void **state)
{
	enum { N = 500 };
	QueueConfig cfg = cuda_config();
	GpuQueue *q = make_queue_from(&cfg);
	struct gq_tally t;

	(void)state;
	for (int i = 0; i < N; i++)
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	assert_status(q_pause(q, LONG_MS), Q_OK); /* the grid leaves, and its units add up */
	assert_true(gq__tally_read(q->device_state, &t));
	assert_int_equal(t.messages, N);
	assert_true(t.looks >= t.found && t.found != 0);
	assert_true(t.claims > t.failed && t.singles >= t.wholes);
	assert_true(t.takes >= t.missed && t.run_cycles != 0 && t.idle_cycles != 0);
	assert_true(t.singles + t.takes - t.missed >= N); /* a message is claimed or taken */
	assert_status(q_resume(q), Q_OK);
	expect_echo(q, send(q, "x", 1), "x", 1);
	assert_status(q_pause(q, LONG_MS), Q_OK);
	assert_true(gq__tally_read(q->device_state, &t));
	assert_int_equal(t.messages, N + 1); /* of all launches */
	q_shutdown(q);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_default_most_multiprocessors_are_left_to_the_application),
		cmocka_unit_test(the_grid_has_a_domain_of_its_own_and_comes_first),
		cmocka_unit_test(a_kernel_that_fills_a_multiprocessor_is_tried),
		cmocka_unit_test(what_is_wrong_with_the_settings_is_said),
		cmocka_unit_test(the_settings_reach_the_grid),
		cmocka_unit_test(the_grid_counts_what_it_does),
	};

	standin = begin_on_standin(argc, argv);
	if (standin == NULL)
		return 77;
	return cmocka_run_group_tests_name("beside", tests, NULL, NULL);
}
