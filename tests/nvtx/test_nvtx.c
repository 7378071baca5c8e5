/* SPDX-License-Identifier: Apache-2.0 */
/* test_nvtx.c - what a profiler is told: one domain, balanced ranges, names. */
#include "profiler.h"
#include "support.h"

#include <gpuq/ring.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static const struct nvtx_seen *seen;

static const struct seen_name *range(const char *name)
{
	for (unsigned i = 0; i < seen->ranges; i++)
		if (strcmp(seen->range[i].text, name) == 0)
			return &seen->range[i];
	fail_msg("no range is called %s", name);
	return NULL;
}

static bool is_among(const char (*names)[32], unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void load_nothing(void *user)
{
	*(uint64_t *)user = range("q_preload")->popped;
}

/* Every call that has a range; some of them fail. */
static void call_everything(void)
{
	const EnqueueItem items[3] = { { "a", 1 }, { "b", 1 }, { "c", 1 } };
	MessageDescriptor nowhere = { .length = 16 };
	GpuQueue *q = make_queue(8, 64);
	Completion done[8];
	uint64_t id, ids[3];
	size_t n, len = 64;
	char buf[64];
	void *at;

	assert_status(q_enqueue(q, "x", 1, &id, 0), Q_OK);
	assert_status(q_wait_enqueue(q, id, LONG_MS), Q_OK);
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	assert_status(q_try_dequeue_result(q, id, buf, &len), Q_OK);
	assert_status(q_enqueue_batch(q, items, 3, ids, &n, 0), Q_OK);
	assert_int_equal(range("q_enqueue_batch")->payload, 3);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_wait_any(q, LONG_MS), Q_OK);
	assert_status(q_poll_results(q, done, 8, &n), Q_OK);
	assert_int_equal(n, 3);
	assert_status(q_release_batch(q, ids, 3), Q_OK);
	assert_status(q_reserve(q, 5, NULL, &at, &id, 0), Q_OK);
	assert_int_equal(range("q_reserve")->payload, 5);
	memcpy(at, "hello", 5);
	assert_status(q_commit(q, id), Q_OK);
	assert_int_equal(range("q_commit")->payload, id);
	expect_echo(q, id, "hello", 5);
	assert_status(q_commit(q, id), Q_ERR_NOT_FOUND);
	assert_status(q_enqueue_descriptor(q, &nowhere, NULL, NULL, 0), Q_ERR_UNSUPPORTED);
	assert_status(q_enqueue(q, "", 65, NULL, 0), Q_ERR_INVALID_ARG);
	assert_status(q_pause(q, LONG_MS), Q_OK);
	assert_status(q_resume(q), Q_OK);
	assert_status(q_preload(q, load_nothing, &id), Q_OK);
	assert_int_equal(id + 1, range("q_preload")->popped); /* what is loaded is inside it */
	assert_status(q_preload(q, NULL, NULL), Q_ERR_INVALID_ARG);
	assert_true(q_completion_fd(q) >= 0);
	q_shutdown(q); /* also q_stop */
}

static void every_range_is_there_and_ends(void **state)
{
	(void)state;
	q_shutdown(make_queue(8, 64)); /* the first loads it */
	seen = dlsym(dlopen(getenv("NVTX_INJECTION64_PATH"), RTLD_NOW | RTLD_NOLOAD), "nvtx_seen");
	assert_non_null(seen);
	call_everything();
	call_everything();
	assert_int_equal(seen->wrong, 0);
	assert_int_equal(seen->domains, 1);
	assert_string_equal(seen->domain[0], "gpuq");
	assert_int_equal(seen->ranges, GQ_RANGES);
	for (unsigned i = 0; i < seen->ranges; i++) {
		const struct seen_name *name = &seen->range[i];

		if (name->pushed < 2 || name->pushed != name->popped)
			fail_msg("%s: %u begun, %u ended", name->text, (unsigned)name->pushed,
				 (unsigned)name->popped);
	}
	assert_int_equal(range("q_enqueue")->pushed, 4);
	assert_int_equal(range("q_stop")->pushed, 3);
}

static void threads_and_streams_have_names(void **state)
{
	(void)state;
	assert_true(is_among(seen->thread, seen->threads, "gpuq-fd"));
	if (on_cuda()) {
		assert_true(is_among(seen->stream, seen->streams, "gpuq grid"));
		assert_true(is_among(seen->stream, seen->streams, "gpuq canary"));
	} else {
		assert_true(is_among(seen->thread, seen->threads, "gpuq-cpu-0"));
		assert_int_equal(seen->streams, 0);
	}
}

/* The flag that tells whether there is a profiler is constant only for who has a handle. */
static void a_bad_handle_has_no_range(void **state)
{
	const uint64_t before = range("q_enqueue")->pushed;

	(void)state;
	assert_status(q_enqueue(NULL, "x", 1, NULL, 0), Q_ERR_INVALID_ARG);
	assert_int_equal(range("q_enqueue")->pushed, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_range_is_there_and_ends),
		cmocka_unit_test(threads_and_streams_have_names),
		cmocka_unit_test(a_bad_handle_has_no_range),
	};

	return cmocka_run_group_tests_name("nvtx", tests, NULL, NULL);
}
