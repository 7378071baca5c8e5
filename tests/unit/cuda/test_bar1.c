/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bar1.c - transport BAR1 through the stand-in driver: hints that come at once, late, in
 * pieces or not at all; what is refused; orders, parking and priorities beside it.
 * unit.X.standin.bar1 and stress.X.standin.bar1 run the other tests over it.
 */
#include "device/cuda/driver/driver_api.h"
#include "host/base/fault.h"
#include "standin.h"
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct standin_control *standin;

static QueueConfig bar1_config(uint32_t capacity, uint32_t slot_bytes)
{
	QueueConfig cfg = config(capacity, slot_bytes);

	cfg.device = Q_DEVICE_CUDA;
	cfg.transport = Q_TRANSPORT_BAR1;
	cfg.consumers = 3;
	return cfg;
}

static void echoes(GpuQueue *q, size_t len, uint32_t number)
{
	uint8_t *sent = malloc(len + 1), *back = malloc(len + 1);
	size_t room = len;

	for (size_t i = 0; i < len; i++)
		sent[i] = (uint8_t)(number * 31 + i + i / 251 + len);
	assert_status(take(q, send(q, sent, len), back, &room), Q_OK);
	assert_int_equal(room, len);
	assert_memory_equal(back, sent, len);
	free(sent);
	free(back);
}

static void refused(const QueueConfig *cfg, const char *words)
{
	const unsigned files = files_now();

	expect_no_queue(cfg, words);
	assert_int_equal(standin->live(), 0);
	assert_int_equal(files_now(), files);
}

static void refused_with(int attribute, int value, const char *words)
{
	const QueueConfig cfg = bar1_config(8, 64);

	standin->set(attribute, value);
	refused(&cfg, words);
	standin->set(attribute, attribute == STANDIN_BAR1 ? STANDIN_BAR1_AT_ONCE : 1);
}

static void what_it_cannot_do_is_said(void **state)
{
	QueueConfig cfg = bar1_config(8, 64);

	(void)state;
	if (!GQ_HAS_BAR1) {
		refused(&cfg, "transport is 3 (bar1); allowed: 0 (auto), 1 (pull), 2 (copy): this "
			      "libgpuq was built without GPUQ_BAR1");
		cfg.transport = Q_TRANSPORT_AUTO;
		setenv("GPUQ_TRANSPORT", "bar1", 1);
		refused(&cfg, "was built without GPUQ_BAR1");
		unsetenv("GPUQ_TRANSPORT");
		return;
	}
	refused_with(GQ_CU_DMA_BUF_SUPPORTED, 0, "has no dma-buf support");
	refused_with(STANDIN_BAR1, STANDIN_BAR1_NO_FILE, "the driver gives no dma-buf");
	refused_with(STANDIN_BAR1, STANDIN_BAR1_NO_MAPPING,
		     "cannot be mapped for the CPU (mmap of a dma-buf");
	refused_with(STANDIN_BAR1, STANDIN_BAR1_LOST,
		     "the running grid does not see what the CPU writes into device memory (line 1 "
		     "of 256)");
	cfg.bounded_messages = 4;
	refused(&cfg, "with bounded_messages no grid is resident");
}

/* A queue has this transport only if it asks for it. */
static void it_is_chosen_only_by_name(void **state)
{
	QueueConfig cfg = bar1_config(8, 64);
	QueueInfo info;
	GpuQueue *q;

	(void)state;
	cfg.transport = Q_TRANSPORT_AUTO;
	q = make_queue_from(&cfg);
	assert_status(q_info(q, &info), Q_OK);
	assert_null(strstr(info.transport, "bar1"));
	q_shutdown(q);
	if (!GQ_HAS_BAR1)
		skip();
	setenv("GPUQ_TRANSPORT", "bar1", 1);
	q = make_queue_from(&cfg);
	unsetenv("GPUQ_TRANSPORT");
	assert_status(q_info(q, &info), Q_OK);
	assert_string_equal(info.transport, "bar1 to 64 B, else pull");
	assert_true(info.copy_from == UINT64_MAX);
	echoes(q, 64, 1);
	q_shutdown(q);
	assert_int_equal(standin->live(), 0);
}

/* Messages one by one to an idle grid until some have been found without a read across PCIe. */
static void some_take_none(GpuQueue *q)
{
	const uint64_t before = standin->hints(), some = getenv("GPUQ_TEST_SHORT") != NULL ? 3 : 10;

	for (uint32_t i = 0; standin->hints() - before < some; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1); /* for a unit to look at the mirror */
		echoes(q, i % 65, i);
	}
}

static void a_message_to_an_idle_grid_takes_no_read(void **state)
{
	static const enum standin_bar1 how[] = { STANDIN_BAR1_AT_ONCE, STANDIN_BAR1_OLD_DRIVER,
						 STANDIN_BAR1_LATE, STANDIN_BAR1_LOSSY };
	static const uint64_t starts[] = { 1, (UINT64_C(1) << 32) - 50, (UINT64_C(1) << 63) - 50,
					   0 - UINT64_C(50) };

	(void)state;
	if (!GQ_HAS_BAR1)
		skip();
	for (unsigned i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		QueueConfig cfg = bar1_config(8, 64);
		GpuQueue *q;

		standin->set(STANDIN_BAR1, (int)how[i]);
		gq__start_pos = starts[i];
		cfg.consumers = i % 2 == 0 ? 3 : 1; /* the first unit, too, looks there */
		q = make_queue_from(&cfg);
		for (uint32_t k = 0; k < 60; k++) /* past the wrap */
			echoes(q, k % 65, k);
		some_take_none(q);
		q_shutdown(q);
	}
	gq__start_pos = 1;
	standin->set(STANDIN_BAR1, STANDIN_BAR1_AT_ONCE);
}

/* Around what is mirrored (1024 bytes with the header), lines and pieces, whatever arrives. */
static void every_length_comes_whole(void **state)
{
	static const uint32_t slots[] = { 1, 17, 64, 100, 960, 961, 3000 };
	static const enum standin_bar1 how[] = { STANDIN_BAR1_LATE, STANDIN_BAR1_LOSSY,
						 STANDIN_BAR1_LOST };

	(void)state;
	if (!GQ_HAS_BAR1)
		skip();
	for (unsigned s = 0; s < sizeof(slots) / sizeof(slots[0]); s++) {
		const QueueConfig cfg = bar1_config(4, slots[s]);
		GpuQueue *q;

		standin->set(STANDIN_BAR1, s == 3 ? STANDIN_BAR1_LATE : STANDIN_BAR1_AT_ONCE);
		q = make_queue_from(&cfg);
		for (uint32_t len = 0, n = 0; len <= slots[s];
		     n++, len += len < 40 || slots[s] - len < 40 ? 1 : 37) {
			if (s == 3)
				standin->set(STANDIN_BAR1, (int)how[n / 8 % 3]);
			if (n % 8 == 0)
				nap_ms(1);
			echoes(q, len, len);
		}
		q_shutdown(q);
	}
	standin->set(STANDIN_BAR1, STANDIN_BAR1_AT_ONCE);
}

static void orders_are_seen_and_parks_wake(void **state)
{
	QueueConfig cfg = bar1_config(8, 64);
	uint32_t launches;
	GpuQueue *q;

	(void)state;
	if (!GQ_HAS_BAR1)
		skip();
	cfg.idle_park_ms = 2;
	standin->set(STANDIN_BAR1, STANDIN_BAR1_LOSSY);
	q = make_queue_from(&cfg);
	launches = standin->launches();
	for (uint32_t i = 0; i < 100; i++) {
		const uint64_t id = send(q, &i, sizeof(i));

		if (i % 8 == 0) {
			assert_status(q_pause(q, LONG_MS), Q_OK);
			assert_int_equal(standin->resident(), 0);
			assert_status(q_resume(q), Q_OK);
		}
		expect_echo(q, id, &i, sizeof(i));
		if (i % 4 == 0)
			nap_ms(i % 7);
	}
	assert_true(standin->launches() - launches > 13); /* by resumes and by messages */
	send(q, "last", 4);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_int_equal(standin->resident(), 0);
	q_shutdown(q);
	standin->set(STANDIN_BAR1, STANDIN_BAR1_AT_ONCE);
	assert_int_equal(standin->live(), 0);
}

/* What waits behind a busy unit is claimed by class, and a cancel before that is heeded. */
static void what_waits_is_claimed_as_without_it(void **state)
{
	QueueConfig cfg = bar1_config(8, 64);
	GpuQueue *q;

	(void)state;
	if (!GQ_HAS_BAR1)
		skip();
	cfg.consumers = 1;
	q = make_queue_from(&cfg);
	for (uint32_t round = 0; round < 50; round++) {
		uint64_t ids[6];
		size_t room = 0;

		close_gate();
		nap_ms(round % 2);
		ids[0] = send_op(q, OP_GATE, 0, NULL, 0);
		await_gate_waiters(1);
		for (uint32_t k = 1; k < 6; k++) {
			const EnqueueOptions o = { .priority = k > 4 ? 4 : k, .tag = k };

			ids[k] = send_with(q, &o, NULL, 0);
		}
		assert_status(q_cancel(q, ids[2]), Q_OK);
		open_gate();
		assert_status(q_drain(q, LONG_MS), Q_OK);
		assert_int_equal(started(), 5);
		assert_int_equal(started_tag(1), 4);
		assert_int_equal(started_tag(2), 5);
		assert_int_equal(started_tag(3), 3);
		assert_int_equal(started_tag(4), 1);
		for (uint32_t k = 0; k < 6; k++) {
			room = 0;
			assert_status(take(q, ids[k], NULL, &room),
				      k == 2 ? Q_ERR_CANCELLED : Q_OK);
		}
	}
	q_shutdown(q);
}

static void a_queue_that_cannot_be_mapped_leaves_nothing(void **state)
{
	const QueueConfig cfg = bar1_config(8, 64);
	GpuQueue *q = NULL;

	(void)state;
	if (!GQ_HAS_BAR1)
		skip();
	for (unsigned n = 1; q == NULL; n++) {
		const unsigned files = files_now();

		assert_true(n < 100);
		gq__fault_set(n);
		q = q_init(&cfg);
		gq__fault_set(0);
		if (q == NULL) {
			assert_int_equal(standin->live(), 0);
			assert_int_equal(files_now(), files);
		}
	}
	echoes(q, 10, 1);
	q_shutdown(q);
}

static void a_child_does_not_keep_the_memory(void **state)
{
	const QueueConfig cfg = bar1_config(8, 64);
	int how = -1;
	GpuQueue *q;
	pid_t child;

	(void)state;
	if (!GQ_HAS_BAR1)
		skip();
	q = make_queue_from(&cfg);
	child = fork();
	if (child == 0) /* asks whether the page is mapped */
		_exit(msync((uint8_t *)q->ch.hints - GQ_MIRROR_HEAD, 1, MS_ASYNC) == 0 ||
		      errno != ENOMEM);
	assert_int_equal(waitpid(child, &how, 0), child);
	assert_int_equal(how, 0);
	echoes(q, 10, 1);
	q_shutdown(q);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_cannot_do_is_said),
		cmocka_unit_test(it_is_chosen_only_by_name),
		cmocka_unit_test(a_message_to_an_idle_grid_takes_no_read),
		cmocka_unit_test(every_length_comes_whole),
		cmocka_unit_test(orders_are_seen_and_parks_wake),
		cmocka_unit_test(what_waits_is_claimed_as_without_it),
		cmocka_unit_test(a_queue_that_cannot_be_mapped_leaves_nothing),
		cmocka_unit_test(a_child_does_not_keep_the_memory),
	};

	standin = begin_on_standin(argc, argv);
	if (standin == NULL)
		return 77;
	return cmocka_run_group_tests_name("bar1", tests, NULL, NULL);
}
