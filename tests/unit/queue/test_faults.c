/* SPDX-License-Identifier: Apache-2.0 */
/* test_faults.c - whatever can fail for want of a resource fails once, in turn. */
#include "support.h"

#include "host/base/fault.h"

#include <string.h>

static void q_init_survives_every_failing_resource(void **state)
{
	size_t memory = gq__alloc_live_bytes();
	unsigned threads, files, n;
	GpuQueue *q = NULL;

	(void)state;
	cpu_device_only("test_cuda makes every driver call fail");
	q_shutdown(make_queue(4, 16));
	threads = threads_now();
	files = files_now();
	for (n = 1; q == NULL; n++) {
		QueueConfig cfg = config(4, 16);

		assert_true(n < 100);
		cfg.consumers = 3;
		gq__fault_set(n);
		q = q_init(&cfg);
		gq__fault_set(0);
		if (q != NULL)
			break;
		assert_true(strstr(q_last_error(), "out of memory: ") != NULL ||
			    strstr(q_last_error(), "could not be started") != NULL);
		assert_int_equal(gq__alloc_live_bytes(), memory);
		assert_int_equal(threads_now(), threads);
		assert_int_equal(files_now(), files);
	}
	assert_true(n > 9); /* queue, rings, records, slots, results, consumers, data, 3 threads */
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
	assert_int_equal(gq__alloc_live_bytes(), memory);
}

static void the_completion_descriptor_survives_every_failing_resource(void **state)
{
	GpuQueue *q = make_queue(4, 16);
	unsigned threads = threads_now(), files = files_now();

	(void)state;
	for (unsigned n = 1; n <= 2; n++) {
		gq__fault_set(n);
		assert_int_equal(q_completion_fd(q), -1);
		gq__fault_set(0);
		assert_non_null(strstr(q_last_error(), "q_completion_fd"));
		assert_int_equal(threads_now(), threads);
		assert_int_equal(files_now(), files);
	}
	assert_true(q_completion_fd(q) >= 0);
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
}

static void a_library_that_cannot_be_loaded_leaves_nothing(void **state)
{
	QueueConfig cfg = config(4, 16);
	size_t memory = gq__alloc_live_bytes();
	GpuQueue *q;

	(void)state;
	cpu_device_only("the module has no image for a GPU");
	cfg.processor = module_path("good.so");
	gq__fault_set(2); /* the first is the queue's memory */
	assert_null(q_init(&cfg));
	gq__fault_set(0);
	assert_non_null(strstr(q_last_error(), "good.so"));
	assert_int_equal(gq__alloc_live_bytes(), memory);
	q = make_queue_from(&cfg);
	q_shutdown(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(q_init_survives_every_failing_resource),
		cmocka_unit_test(the_completion_descriptor_survives_every_failing_resource),
		cmocka_unit_test(a_library_that_cannot_be_loaded_leaves_nothing),
	};

	return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
