/* SPDX-License-Identifier: Apache-2.0 */
/* test_bad_calls.c - a table of wrong calls: the exact status, a message that names the cause, and
 * nothing changed by any of them. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

/* ---- configurations ------------------------------------------------------------------------- */

struct bad_config {
	const char *what; /* of QueueConfig: the assignment tried */
	void (*spoil)(QueueConfig *cfg);
	const char *names; /* q_last_error() must contain it */
};

/* clang-format off */
#define SPOIL(name, statement) static void name(QueueConfig *c) { statement; }
SPOIL(capacity_0, c->capacity = 0)
SPOIL(capacity_3, c->capacity = 3)
SPOIL(capacity_1023, c->capacity = 1023)
SPOIL(capacity_2_21, c->capacity = 1u << 21)
SPOIL(capacity_max, c->capacity = UINT32_MAX)
SPOIL(slot_bytes_0, c->slot_bytes = 0)
SPOIL(slot_bytes_over, c->slot_bytes = (1u << 24) + 1)
SPOIL(slot_bytes_max, c->slot_bytes = UINT32_MAX)
SPOIL(result_bytes_over, c->result_bytes = (1u << 24) + 1)
SPOIL(device_4, c->device = 4)
SPOIL(device_cuda, c->device = Q_DEVICE_CUDA)
SPOIL(ordinal_1, c->ordinal = 1)
SPOIL(granularity_3, c->granularity = 3)
SPOIL(consumers_1025, c->consumers = 1025)
SPOIL(reserve_sms_1, c->reserve_sms = 1)
SPOIL(flags_4, c->flags = 4)
SPOIL(flags_high, c->flags = UINT64_C(1) << 63)
SPOIL(processor_unknown, c->processor = "nosuch")
SPOIL(processor_missing, c->processor = "/nonexistent/processor.so")
SPOIL(processor_so, c->processor = "nosuch.so")
SPOIL(processor_no_object, c->processor = "/etc/passwd")
SPOIL(data_without_size, c->processor_data_bytes = 0)
SPOIL(size_without_data, c->processor_data = NULL; c->processor_data_bytes = 1)
SPOIL(data_size_max, c->processor_data_bytes = SIZE_MAX)
SPOIL(reserved_0, c->reserved[0] = 1)
SPOIL(reserved_7, c->reserved[7] = UINT64_MAX)
SPOIL(endpoint_without_remote, c->endpoint = "unix:/x")
SPOIL(transport_4, c->transport = 4)
SPOIL(copy_from_only, c->copy_from = 4096)
SPOIL(bounded_over, c->bounded_messages = (1u << 20) + 1)
SPOIL(bounded_ms_only, c->bounded_ms = 5)
SPOIL(too_large, c->capacity = 1u << 20; c->slot_bytes = 1u << 24)

static const struct bad_config bad_configs[] = {
	{ "capacity = 0", capacity_0, "capacity is 0; allowed: a power of two, 1 to 1048576" },
	{ "capacity = 3", capacity_3, "capacity is 3; allowed" },
	{ "capacity = 1023", capacity_1023, "capacity is 1023; allowed" },
	{ "capacity = 2^21", capacity_2_21, "capacity is 2097152; allowed" },
	{ "capacity = UINT32_MAX", capacity_max, "capacity is 4294967295; allowed" },
	{ "slot_bytes = 0", slot_bytes_0, "slot_bytes is 0; allowed: 1 to 16777216" },
	{ "slot_bytes = 2^24 + 1", slot_bytes_over, "slot_bytes is 16777217; allowed" },
	{ "slot_bytes = UINT32_MAX", slot_bytes_max, "slot_bytes is 4294967295; allowed" },
	{ "result_bytes = 2^24 + 1", result_bytes_over, "result_bytes is 16777217; allowed" },
	{ "device = 4", device_4, "device is 4; allowed" },
	{ "device = CUDA", device_cuda, "CUDA: " },
	{ "ordinal = 1", ordinal_1, "ordinal is 1; allowed: 0" },
	{ "granularity = 3", granularity_3, "granularity is 3; allowed" },
	{ "consumers = 1025", consumers_1025, "consumers is 1025; allowed" },
	{ "reserve_sms = 1", reserve_sms_1, "reserve_sms is 1; allowed: 0" },
	{ "flags = 4", flags_4, "flags is 4; allowed: 0, Q_TRACE (1), Q_ONE_PRODUCER (2)" },
	{ "flags = 2^63", flags_high, "flags is 9223372036854775808; allowed: 0" },
	{ "processor = nosuch", processor_unknown, "no processor is called 'nosuch'" },
	{ "processor = missing path", processor_missing, "/nonexistent/processor.so" },
	{ "processor = nosuch.so", processor_so, "nosuch.so" },
	{ "processor = no object", processor_no_object, "/etc/passwd" },
	{ "processor_data without bytes", data_without_size, "processor_data_bytes is 0; allowed" },
	{ "bytes without processor_data", size_without_data, "processor_data_bytes is 1; allowed" },
	{ "processor_data_bytes = SIZE_MAX", data_size_max, "out of memory: 1844674407370955161" },
	{ "reserved[0] = 1", reserved_0, "reserved[0] is 1; allowed: 0" },
	{ "reserved[7] = max", reserved_7, "reserved[7] is 18446744073709551615; allowed: 0" },
	{ "endpoint without device 3", endpoint_without_remote, "endpoint is 'unix:/x'; allowed: NULL" },
	{ "transport = 4", transport_4,
	  "transport is 4; allowed: 0 (auto), 1 (pull), 2 (copy), 3 (bar1)" },
	{ "copy_from alone", copy_from_only, "copy_from is 4096; allowed: 0 unless transport" },
	{ "bounded_messages = 2^20 + 1", bounded_over, "bounded_messages is 1048577; allowed" },
	{ "bounded_ms alone", bounded_ms_only, "bounded_ms is 5; allowed: 0 unless" },
};
/* clang-format on */

static void every_wrong_configuration_is_refused_by_name(void **state)
{
	size_t memory = gq__alloc_live_bytes();
	unsigned threads, files;

	(void)state;
	q_shutdown(make_queue(4, 16)); /* a process's first thread starts the sanitizer's own */
	threads = threads_now();
	files = files_now();
	for (size_t i = 0; i < sizeof(bad_configs) / sizeof(bad_configs[0]); i++) {
		QueueConfig cfg = config(4, 16);
		GpuQueue *q;

		if (on_cuda() &&
		    (bad_configs[i].spoil == device_cuda || bad_configs[i].spoil == reserve_sms_1))
			continue; /* nothing is wrong with these there */
		bad_configs[i].spoil(&cfg);
		q = q_init(&cfg);
		if (q != NULL)
			fail_msg("%s was accepted", bad_configs[i].what);
		if (strstr(q_last_error(), bad_configs[i].names) == NULL)
			fail_msg("%s: '%s' does not say '%s'", bad_configs[i].what, q_last_error(),
				 bad_configs[i].names);
	}
	assert_null(q_init(NULL));
	assert_non_null(strstr(q_last_error(), "cfg is NULL"));
	assert_int_equal(gq__alloc_live_bytes(), memory);
	assert_int_equal(threads_now(), threads);
	assert_int_equal(files_now(), files);
}

static void more_memory_than_there_is_is_refused_with_the_size(void **state)
{
	QueueConfig cfg = config(4, 16);
	size_t memory = gq__alloc_live_bytes();

	(void)state;
	too_large(&cfg);
	assert_null(q_init(&cfg)); /* 16 TiB of slots; overcommit refuses it, or the sanitizer */
	assert_non_null(strstr(q_last_error(), "out of memory"));
	assert_int_equal(gq__alloc_live_bytes(), memory);
}

static void every_wrong_environment_variable_is_refused_by_name(void **state)
{
	static const char *const bad[][2] = {
		{ "GPUQ_DEVICE", "gpu" },        { "GPUQ_DEVICE", "CPU" },
		{ "GPUQ_DEVICE", "cuda" },       { "GPUQ_CONSUMERS", "0" },
		{ "GPUQ_CONSUMERS", "-1" },      { "GPUQ_CONSUMERS", "1025" },
		{ "GPUQ_CONSUMERS", "2x" },      { "GPUQ_IDLE_PARK_MS", "4294967296" },
		{ "GPUQ_IDLE_PARK_MS", "soon" }, { "GPUQ_LOG", "loud" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		QueueConfig cfg = config(4, 16);

		if (on_cuda() && strcmp(bad[i][1], "cuda") == 0)
			continue;
		cfg.device = Q_DEVICE_AUTO;
		cfg.consumers = 0;
		setenv(bad[i][0], bad[i][1], 1);
		if (q_init(&cfg) != NULL)
			fail_msg("%s=%s was accepted", bad[i][0], bad[i][1]);
		if (strcmp(bad[i][1], "cuda") != 0)
			assert_non_null(strstr(q_last_error(), bad[i][0]));
		if (strcmp(bad[i][1], "gpu") == 0)
			assert_non_null(
				strstr(q_last_error(), "auto, cpu, cuda, unix:PATH[#QUEUE]"));
		unsetenv(bad[i][0]);
	}
}

static void the_environment_overrides_defaults_but_nothing_explicit(void **state)
{
	QueueConfig cfg = config(4, 16);
	QueueInfo info;
	GpuQueue *q;

	(void)state;
	setenv("GPUQ_DEVICE", on_cuda() ? "cpu" : "cuda", 1);
	setenv("GPUQ_CONSUMERS", "3", 1);
	setenv("GPUQ_IDLE_PARK_MS", "7", 1);
	q = make_queue_from(&cfg); /* device and consumers are explicit */
	assert_status(q_info(q, &info), Q_OK);
	assert_int_equal(info.consumers, 1);
	assert_int_equal(info.idle_park_ms, 7);
	q_shutdown(q);
	setenv("GPUQ_DEVICE", "", 1); /* empty means unset */
	cfg.consumers = 0;
	cfg.device = Q_DEVICE_AUTO;
	q = make_queue_from(&cfg);
	assert_status(q_info(q, &info), Q_OK);
	assert_int_equal(info.consumers, 3);
	assert_int_equal(info.device, on_cuda() ? Q_DEVICE_CUDA : Q_DEVICE_CPU);
	assert_non_null(
		strstr(info.reason, on_cuda() ? "are there" : "device cannot be used: CUDA: "));
	q_shutdown(q);
	unsetenv("GPUQ_DEVICE");
	unsetenv("GPUQ_CONSUMERS");
	unsetenv("GPUQ_IDLE_PARK_MS");
}

/* ---- calls ----------------------------------------------------------------------------------- */

static GpuQueue *q, *stopped;
static uint64_t live, taken, aborted, reserved, revoked; /* ids; `live` is finished */
static uint32_t value;
static uint64_t id_out, ids_out[4];
static size_t count_out, len_io;
static void *payload_out;
static char buf[64];
static const char long_text[] = "more than the thirty-two bytes that fit";
static EnqueueItem items[2] = { { "a", 1 }, { "b", 1 } };
static EnqueueItem item_too_long[2] = { { "a", 1 }, { long_text, 33 } };
static EnqueueItem item_null[1] = { { NULL, 1 } };
static Completion completions[2];

static EnqueueOptions options(uint32_t priority, uint64_t flags, uint64_t reserved_word)
{
	return (EnqueueOptions){ .priority = priority,
				 .flags = flags,
				 .reserved = { 0, 0, 0, reserved_word } };
}

static size_t *length(size_t n)
{
	len_io = n;
	return &len_io;
}

/* One wrong call a line: what it returns and what its message must name. */
#define WRONG_CALLS(X)                                                                             \
	X(q_enqueue(NULL, "x", 1, NULL, 0), Q_ERR_INVALID_ARG, "queue is NULL")                    \
	X(q_enqueue(q, NULL, 1, NULL, 0), Q_ERR_INVALID_ARG, "data is NULL with len 1")            \
	X(q_enqueue(q, "x", 33, NULL, 0), Q_ERR_INVALID_ARG, "len is 33; allowed: 0 to 32")        \
	X(q_enqueue(q, "x", SIZE_MAX, NULL, UINT32_MAX), Q_ERR_INVALID_ARG,                        \
	  "len is 18446744073709551615")                                                           \
	X(q_enqueue(q, NULL, SIZE_MAX, NULL, 0), Q_ERR_INVALID_ARG, "len is")                      \
	X(q_enqueue_async(NULL, "x", 1, NULL), Q_ERR_INVALID_ARG, "queue is NULL")                 \
	X(q_enqueue_async(q, "x", 33, NULL), Q_ERR_INVALID_ARG, "len is 33")                       \
	X(q_enqueue_async(q, NULL, 2, NULL), Q_ERR_INVALID_ARG, "data is NULL")                    \
	X(q_enqueue_ex(NULL, "x", 1, NULL, NULL, 0), Q_ERR_INVALID_ARG, "queue is NULL")           \
	X(q_enqueue_ex(q, "x", 1, &bad_priority, NULL, 0), Q_ERR_INVALID_ARG, "priority is 5")     \
	X(q_enqueue_ex(q, "x", 1, &bad_flags, NULL, 0), Q_ERR_INVALID_ARG, "flags is 0x2")         \
	X(q_enqueue_ex(q, "x", 1, &bad_reserved, NULL, 0), Q_ERR_INVALID_ARG, "reserved[3] is 1")  \
	X(q_enqueue_ex(q, NULL, 3, NULL, NULL, UINT32_MAX), Q_ERR_INVALID_ARG, "data is NULL")     \
	X(q_enqueue_batch(NULL, items, 2, NULL, &count_out, 0), Q_ERR_INVALID_ARG,                 \
	  "queue is NULL")                                                                         \
	X(q_enqueue_batch(q, NULL, 2, NULL, &count_out, 0), Q_ERR_INVALID_ARG,                     \
	  "items is NULL with count 2")                                                            \
	X(q_enqueue_batch(q, items, SIZE_MAX, NULL, &count_out, 0), Q_ERR_INVALID_ARG, "count is") \
	X(q_enqueue_batch(q, NULL, SIZE_MAX, NULL, NULL, 0), Q_ERR_INVALID_ARG, "items is NULL")   \
	X(q_enqueue_batch(q, item_too_long, 2, ids_out, &count_out, 0), Q_ERR_INVALID_ARG,         \
	  "items[1].len is 33")                                                                    \
	X(q_enqueue_batch(q, item_null, 1, ids_out, &count_out, 0), Q_ERR_INVALID_ARG,             \
	  "items[0].data is NULL")                                                                 \
	X(q_enqueue_batch_ex(NULL, items, 2, NULL, NULL, &count_out, 0), Q_ERR_INVALID_ARG,        \
	  "queue is NULL")                                                                         \
	X(q_enqueue_batch_ex(q, items, 2, &bad_priority, NULL, &count_out, 0), Q_ERR_INVALID_ARG,  \
	  "priority is 5")                                                                         \
	X(q_enqueue_batch_ex(q, items, 2, &bad_flags, NULL, &count_out, 0), Q_ERR_INVALID_ARG,     \
	  "flags is 0x2")                                                                          \
	X(q_enqueue_batch_ex(q, items, 2, &bad_reserved, NULL, &count_out, 0), Q_ERR_INVALID_ARG,  \
	  "reserved[3]")                                                                           \
	X(q_reserve(NULL, 1, NULL, &payload_out, &id_out, 0), Q_ERR_INVALID_ARG, "queue is NULL")  \
	X(q_reserve(q, 33, NULL, &payload_out, &id_out, 0), Q_ERR_INVALID_ARG, "len is 33")        \
	X(q_reserve(q, 1, NULL, NULL, &id_out, 0), Q_ERR_INVALID_ARG, "out_payload is NULL")       \
	X(q_reserve(q, 1, NULL, &payload_out, NULL, 0), Q_ERR_INVALID_ARG, "out_msg_id is NULL")   \
	X(q_reserve(q, 1, &bad_flags, &payload_out, &id_out, 0), Q_ERR_INVALID_ARG,                \
	  "flags is 0x2")                                                                          \
	X(q_commit(NULL, 1), Q_ERR_INVALID_ARG, "queue is NULL")                                   \
	X(q_commit(q, 0), Q_ERR_NOT_FOUND, "msg_id 0 ")                                            \
	X(q_commit(q, live), Q_ERR_NOT_FOUND, "not an open reservation")                           \
	X(q_commit(q, taken), Q_ERR_NOT_FOUND, "not an open reservation")                          \
	X(q_commit(q, aborted), Q_ERR_NOT_FOUND, "not an open reservation")                        \
	X(q_commit(q, UINT64_MAX), Q_ERR_NOT_FOUND, "not an open reservation")                     \
	X(q_commit(stopped, revoked), Q_ERR_SHUTDOWN, "revoked")                                   \
	X(q_abort(NULL, 1), Q_ERR_INVALID_ARG, "queue is NULL")                                    \
	X(q_abort(q, live), Q_ERR_NOT_FOUND, "not an open reservation")                            \
	X(q_abort(q, aborted), Q_ERR_NOT_FOUND, "not an open reservation")                         \
	X(q_abort(q, 0), Q_ERR_NOT_FOUND, "not an open reservation")                               \
	X(q_cancel(NULL, 1), Q_ERR_INVALID_ARG, "queue is NULL")                                   \
	X(q_cancel(q, 0), Q_ERR_NOT_FOUND, "msg_id 0 ")                                            \
	X(q_cancel(q, taken), Q_ERR_NOT_FOUND, "taken")                                            \
	X(q_cancel(q, reserved + 1), Q_ERR_NOT_FOUND, "never issued")                              \
	X(q_try_dequeue_result(NULL, live, buf, length(8)), Q_ERR_INVALID_ARG, "queue is NULL")    \
	X(q_try_dequeue_result(q, live, buf, NULL), Q_ERR_INVALID_ARG, "inout_len is NULL")        \
	X(q_try_dequeue_result(q, live, NULL, length(8)), Q_ERR_INVALID_ARG, "out_buf is NULL")    \
	X(q_try_dequeue_result(q, live, buf, length(2)), Q_ERR_BUFFER_TOO_SMALL,                   \
	  "room for 2 bytes; the result has 4")                                                    \
	X(q_try_dequeue_result(q, live, NULL, length(0)), Q_ERR_BUFFER_TOO_SMALL, "room for 0")    \
	X(q_try_dequeue_result(q, 0, buf, length(8)), Q_ERR_NOT_FOUND, "never issued")             \
	X(q_try_dequeue_result(q, UINT64_MAX, buf, length(8)), Q_ERR_NOT_FOUND, "never issued")    \
	X(q_try_dequeue_result(q, taken, buf, length(8)), Q_ERR_NOT_FOUND, "taken")                \
	X(q_try_dequeue_result(q, aborted, buf, length(8)), Q_ERR_NOT_FOUND, "aborted")            \
	X(q_try_dequeue_result(q, reserved, buf, length(8)), Q_ERR_NOT_READY, "not finished")      \
	X(q_try_dequeue_result(q, live ^ 8, buf, length(8)), Q_ERR_NOT_FOUND, "never issued")      \
	X(q_try_dequeue_result(q, live + 16, buf, length(8)), Q_ERR_NOT_FOUND, "never issued")     \
	X(q_try_dequeue_result(q, live | UINT64_C(1) << 63, buf, length(8)), Q_ERR_NOT_FOUND,      \
	  "never issued")                                                                          \
	X(q_poll_completions(NULL, ids_out, 4, &count_out), Q_ERR_INVALID_ARG, "queue is NULL")    \
	X(q_poll_completions(q, NULL, 4, &count_out), Q_ERR_INVALID_ARG, "output array is NULL")   \
	X(q_poll_completions(q, NULL, SIZE_MAX, &count_out), Q_ERR_INVALID_ARG,                    \
	  "max_count 18446744073709551615")                                                        \
	X(q_poll_completions(q, ids_out, 4, NULL), Q_ERR_INVALID_ARG, "out_count is NULL")         \
	X(q_poll_results(NULL, completions, 2, &count_out), Q_ERR_INVALID_ARG, "queue is NULL")    \
	X(q_poll_results(q, NULL, 2, &count_out), Q_ERR_INVALID_ARG, "output array is NULL")       \
	X(q_poll_results(q, completions, 2, NULL), Q_ERR_INVALID_ARG, "out_count is NULL")         \
	X(q_take_results(NULL, completions, 2, buf, 8, &count_out), Q_ERR_INVALID_ARG,             \
	  "queue is NULL")                                                                         \
	X(q_take_results(q, NULL, 2, buf, 8, &count_out), Q_ERR_INVALID_ARG,                       \
	  "output array is NULL")                                                                  \
	X(q_take_results(q, completions, 2, NULL, 8, &count_out), Q_ERR_INVALID_ARG,               \
	  "buffer is NULL with buffer_bytes 8")                                                    \
	X(q_take_results(q, completions, 2, buf, 8, NULL), Q_ERR_INVALID_ARG, "out_count is NULL") \
	X(q_peek_result(NULL, live, NULL, NULL, NULL), Q_ERR_INVALID_ARG, "queue is NULL")         \
	X(q_peek_result(q, taken, NULL, NULL, NULL), Q_ERR_NOT_FOUND, "taken")                     \
	X(q_peek_result(q, reserved, NULL, NULL, NULL), Q_ERR_NOT_READY, "not finished")           \
	X(q_processor_status(NULL, live, &value), Q_ERR_INVALID_ARG, "queue is NULL")              \
	X(q_processor_status(q, live, NULL), Q_ERR_INVALID_ARG, "out_value is NULL")               \
	X(q_processor_status(q, taken, &value), Q_ERR_NOT_FOUND, "taken")                          \
	X(q_processor_status(q, reserved, &value), Q_ERR_NOT_READY, "not finished")                \
	X(q_release(NULL, live), Q_ERR_INVALID_ARG, "queue is NULL")                               \
	X(q_release(q, taken), Q_ERR_NOT_FOUND, "taken")                                           \
	X(q_release(q, reserved), Q_ERR_NOT_READY, "not finished")                                 \
	X(q_release(q, UINT64_MAX), Q_ERR_NOT_FOUND, "never issued")                               \
	X(q_release_batch(NULL, ids_out, 1), Q_ERR_INVALID_ARG, "queue is NULL")                   \
	X(q_release_batch(q, NULL, 3), Q_ERR_INVALID_ARG, "ids is NULL with count 3")              \
	X(q_release_batch(q, &taken, 1), Q_ERR_NOT_FOUND, "ids[0] is")                             \
	X(q_wait(NULL, live, 0), Q_ERR_INVALID_ARG, "queue is NULL")                               \
	X(q_wait(q, taken, UINT32_MAX), Q_ERR_NOT_FOUND, "taken")                                  \
	X(q_wait(q, 0, UINT32_MAX), Q_ERR_NOT_FOUND, "never issued")                               \
	X(q_wait(q, reserved, 0), Q_ERR_TIMEOUT, "timeout_ms")                                     \
	X(q_wait(q, reserved, 1), Q_ERR_TIMEOUT, "timeout_ms")                                     \
	X(q_wait(stopped, revoked, UINT32_MAX), Q_ERR_SHUTDOWN, "revoked")                         \
	X(q_wait_enqueue(NULL, live, 0), Q_ERR_INVALID_ARG, "queue is NULL")                       \
	X(q_wait_enqueue(q, aborted, UINT32_MAX), Q_ERR_NOT_FOUND, "aborted")                      \
	X(q_wait_enqueue(q, reserved, 1), Q_ERR_TIMEOUT, "timeout_ms")                             \
	X(q_wait_any(NULL, 0), Q_ERR_INVALID_ARG, "queue is NULL")                                 \
	X(q_wait_any(stopped, UINT32_MAX), Q_ERR_SHUTDOWN, "stopped")                              \
	X(q_drain(NULL, 0), Q_ERR_INVALID_ARG, "queue is NULL")                                    \
	X(q_stop(NULL, 0), Q_ERR_INVALID_ARG, "queue is NULL")                                     \
	X(q_pause(NULL, 0), Q_ERR_INVALID_ARG, "queue is NULL")                                    \
	X(q_pause(stopped, UINT32_MAX), Q_ERR_SHUTDOWN, "stopped")                                 \
	X(q_resume(NULL), Q_ERR_INVALID_ARG, "queue is NULL")                                      \
	X(q_resume(stopped), Q_ERR_SHUTDOWN, "stopped")                                            \
	X(q_enqueue(stopped, "x", 1, NULL, 0), Q_ERR_SHUTDOWN, "stopped")                          \
	X(q_enqueue(stopped, "x", 1, NULL, UINT32_MAX), Q_ERR_SHUTDOWN, "stopped")                 \
	X(q_enqueue_async(stopped, "x", 1, NULL), Q_ERR_SHUTDOWN, "stopped")                       \
	X(q_enqueue_batch(stopped, items, 2, NULL, &count_out, 1), Q_ERR_SHUTDOWN, "stopped")      \
	X(q_reserve(stopped, 1, NULL, &payload_out, &id_out, 1), Q_ERR_SHUTDOWN, "stopped")        \
	X(q_stats(NULL, NULL), Q_ERR_INVALID_ARG, "queue is NULL")                                 \
	X(q_stats(q, NULL), Q_ERR_INVALID_ARG, "out is NULL")                                      \
	X(q_info(NULL, NULL), Q_ERR_INVALID_ARG, "queue is NULL")                                  \
	X(q_info(q, NULL), Q_ERR_INVALID_ARG, "out is NULL")

static void set_up_calls(void)
{
	q = make_queue(8, 32);
	stopped = make_queue(8, 32);
	taken = send(q, "take", 4);
	expect_echo(q, taken, "take", 4);
	live = send(q, "live", 4);
	assert_status(q_wait(q, live, LONG_MS), Q_OK);
	assert_status(q_reserve(q, 1, NULL, &payload_out, &aborted, 0), Q_OK);
	assert_status(q_abort(q, aborted), Q_OK);
	assert_status(q_reserve(q, 1, NULL, &payload_out, &reserved, 0), Q_OK);
	assert_status(q_reserve(stopped, 1, NULL, &payload_out, &revoked, 0), Q_OK);
	assert_status(q_stop(stopped, LONG_MS), Q_OK);
}

static void every_wrong_call_is_refused_by_name_and_changes_nothing(void **state)
{
	const EnqueueOptions bad_priority = options(5, 0, 0), bad_flags = options(0, 2, 0),
			     bad_reserved = options(0, 0, 1);
	void *payload_before;
	unsigned calls = 0;
	QueueStats before, stopped_before;

	(void)state;
	set_up_calls();
	payload_before = payload_out;
	before = stats_of(q);
	stopped_before = stats_of(stopped);
#define CHECK(call, wanted, names)                                                                 \
	{                                                                                          \
		QueueStatus status;                                                                \
		QueueStats after;                                                                  \
		id_out = 4711;                                                                     \
		count_out = 4711;                                                                  \
		status = call;                                                                     \
		if (status != (wanted))                                                            \
			fail_msg("%s: %s, wanted %s", #call, q_status_string(status),              \
				 q_status_string(wanted));                                         \
		if (strstr(q_last_error(), names) == NULL)                                         \
			fail_msg("%s: '%s' does not say '%s'", #call, q_last_error(), names);      \
		after = stats_of(q);                                                               \
		assert_memory_equal(&before, &after, sizeof(before));                              \
		after = stats_of(stopped);                                                         \
		assert_memory_equal(&stopped_before, &after, sizeof(after));                       \
		assert_int_equal(id_out, 4711);                                                    \
		assert_true(count_out == 4711 || count_out == 0);                                  \
		assert_ptr_equal(payload_out, payload_before);                                     \
		calls++;                                                                           \
	}
	WRONG_CALLS(CHECK)
#undef CHECK
	assert_int_equal(q_completion_fd(NULL), -1);
	assert_non_null(strstr(q_last_error(), "queue is NULL"));
	assert_true(calls >= 90);
	/* And all is as it was. */
	expect_echo(q, live, "live", 4);
	assert_status(q_abort(q, reserved), Q_OK);
	expect_echo(q, send(q, "on", 2), "on", 2);
	q_shutdown(q);
	q_shutdown(stopped);
}

static void counts_are_written_whatever_the_status(void **state)
{
	GpuQueue *one = make_queue(1, 8);

	(void)state;
	count_out = 9;
	q_enqueue_batch(one, NULL, 2, NULL, &count_out, 0);
	assert_int_equal(count_out, 0);
	count_out = 9;
	q_poll_completions(NULL, ids_out, 1, &count_out);
	assert_int_equal(count_out, 0);
	count_out = 9;
	q_poll_results(one, NULL, 1, &count_out);
	assert_int_equal(count_out, 0);
	q_try_dequeue_result(one, 1, buf, length(9));
	assert_int_equal(len_io, 0);
	q_shutdown(one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_wrong_configuration_is_refused_by_name),
		cmocka_unit_test(more_memory_than_there_is_is_refused_with_the_size),
		cmocka_unit_test(every_wrong_environment_variable_is_refused_by_name),
		cmocka_unit_test(the_environment_overrides_defaults_but_nothing_explicit),
		cmocka_unit_test(every_wrong_call_is_refused_by_name_and_changes_nothing),
		cmocka_unit_test(counts_are_written_whatever_the_status),
	};

	return cmocka_run_group_tests_name("bad calls", tests, NULL, NULL);
}
