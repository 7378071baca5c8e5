/* SPDX-License-Identifier: Apache-2.0 */
/* test_processors.c - linked, named and loaded processors; what a processor is given. */
#include "support.h"

#include <stdio.h>
#include <string.h>

static GpuQueue *queue_of(const char *processor)
{
	QueueConfig cfg = config(4, 64);

	cfg.processor = processor;
	return q_init(&cfg);
}

/* Runs first: only "test" is linked. */
static void the_only_linked_processor_is_the_default(void **state)
{
	GpuQueue *q = queue_of(NULL);
	QueueInfo info;

	(void)state;
	assert_non_null(q);
	assert_status(q_info(q, &info), Q_OK);
	assert_string_equal(info.processor, "test");
	q_shutdown(q);
	q = queue_of(""); /* empty means unset */
	assert_non_null(q);
	q_shutdown(q);
}

static void null_is_no_processor_and_is_ignored(void **state)
{
	GpuQueue *q;

	(void)state;
	q_unregister_processor(NULL);
	q_register_processor(NULL);
	assert_null(queue_of("nosuch")); /* the message lists all names */
	assert_non_null(strstr(q_last_error(), "no processor is called 'nosuch'"));
	q = queue_of(NULL); /* "test" is still the only one */
	assert_non_null(q);
	q_shutdown(q);
}

static void the_shipped_processors_go_by_name(void **state)
{
	static const struct {
		const char *name;
		unsigned char first[4];
		size_t len;
	} shipped[] = { { "echo", "1234", 9 },
			{ "crc32c", { 0x83, 0x92, 0x06, 0xe3 }, 4 },
			{ "sha256", { 0x15, 0xe2, 0xb0, 0xd3 }, 32 } };

	(void)state;
	not_on_the_standin("the shipped images are for GPUs");
	for (int i = 0; i < 3; i++) {
		GpuQueue *q = queue_of(shipped[i].name);
		unsigned char result[64];
		size_t len = sizeof(result);

		assert_non_null(q);
		assert_status(take(q, send(q, "123456789", 9), result, &len), Q_OK);
		assert_int_equal(len, shipped[i].len);
		assert_memory_equal(result, shipped[i].first, 4);
		q_shutdown(q);
	}
	q_shutdown(queue_of("vecdot")); /* needs its data only when a message comes */
}

static void a_shared_object_is_loaded_by_path(void **state)
{
	GpuQueue *q, *second;
	char result[4];
	size_t len = sizeof(result);

	(void)state;
	cpu_device_only("the module has no image for a GPU");
	q = queue_of(module_path("good.so"));
	assert_non_null(q);
	second = queue_of(module_path("good.so"));
	q_shutdown(q);
	assert_status(take(second, send(second, "12345", 5), result, &len), Q_OK);
	assert_int_equal(len, 1);
	assert_int_equal(result[0], 5);
	q_shutdown(second);
}

static void a_source_that_asks_for_the_tile_does_without_on_the_cpu(void **state)
{
	uint32_t sum = 0;
	size_t len = sizeof(sum);
	GpuQueue *q;

	(void)state;
	cpu_device_only("the module has no image for the stand-in driver");
	q = queue_of(module_path("tile.so"));
	assert_non_null(q);
	assert_status(take(q, send(q, "12345", 5), &sum, &len), Q_OK);
	assert_int_equal(len, sizeof(sum));
	assert_int_equal(sum, 5 * '3');
	q_shutdown(q);
}

static void an_opcode_chooses_among_the_sources_of_a_processor(void **state)
{
	static const struct {
		const char *processor;
		uint32_t opcode;
		unsigned char first[4];
		size_t len;
	} wanted[] = {
		{ "by_opcode.so", 0, "1234", 9 },
		{ "by_opcode.so", 1, { 0x83, 0x92, 0x06, 0xe3 }, 4 },
		{ "by_opcode.so", 2, "1234", 9 },
		{ "by_opcode.so", 8, { 0x15, 0xe2, 0xb0, 0xd3 }, 32 },
		{ "by_opcode.so", 9, "1234", 9 },
		{ "by_opcode.so", UINT32_MAX, { 0x15, 0xe2, 0xb0, 0xd3 }, 32 },
		{ "by_opcode_c.so", 0, { 9 }, 1 },
		{ "by_opcode_c.so", 1, "1", 1 },
		{ "by_opcode_c.so", 2, "9", 1 },
		{ "by_opcode_c.so", 3, { 9 }, 1 },
	};

	(void)state;
	not_on_the_standin("the modules have no image for the stand-in driver");
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		unsigned char result[64];
		size_t len = sizeof(result);
		GpuQueue *q;

		if (on_gpu() && strstr(wanted[i].processor, "_c.so") != NULL)
			continue; /* of C sources there is no image */
		q = queue_of(module_path(wanted[i].processor));
		assert_non_null(q);
		assert_status(
			take(q, send_op(q, wanted[i].opcode, 0, "123456789", 9), result, &len),
			Q_OK);
		assert_int_equal(len, wanted[i].len);
		assert_memory_equal(result, wanted[i].first, len < 4 ? len : 4);
		q_shutdown(q);
	}
}

static void an_object_that_is_no_processor_is_refused_with_the_reason(void **state)
{
	const struct {
		const char *path, *names;
	} wrong[] = {
		{ module_path("missing.so"), "cannot load" },
		{ module_path("no_symbol.so"), "gpuq_processor_image" },
		{ module_path("wrong_magic.so"), "holds no processor image" },
		{ module_path("wrong_version.so"), "protocol version 48" },
		{ module_path("gpu_only.so"),
		  on_cuda() ? "has no image for a GPU" : "not compiled for the CPU device" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_null(queue_of(wrong[i].path));
		if (strstr(q_last_error(), wrong[i].names) == NULL)
			fail_msg("'%s' does not say '%s'", q_last_error(), wrong[i].names);
	}
}

static void a_processor_is_given_data_id_opcode_tag_and_room(void **state)
{
	static QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					 .protocol_version = Q_PROTOCOL_VERSION,
					 .name = "look",
					 .cpu = test_processor,
					 .granularity = Q_PER_WARP };
	QueueConfig cfg = config(4, 64);
	struct test_data data = *test_data();
	struct test_look seen;
	size_t len = sizeof(seen);
	GpuQueue *q;
	uint64_t id;

	(void)state;
	image.device_image = test_device_image();
	q_register_processor(&image);
	data.mark = 0x1122334455667788;
	cfg.processor = "look";
	cfg.processor_data = &data;
	cfg.result_bytes = 33;
	q = make_queue_from(&cfg);
	data.mark = 0; /* copied at init */
	id = send_op(q, OP_LOOK, 1234, NULL, 0);
	assert_status(take(q, id, &seen, &len), Q_OK);
	assert_int_equal(len, sizeof(seen));
	assert_int_equal(seen.mark, 0x1122334455667788);
	assert_int_equal(seen.msg_id, id);
	assert_int_equal(seen.opcode, OP_LOOK);
	assert_int_equal(seen.tag, 1234);
	assert_int_equal(seen.cap, 33);
	q_shutdown(q);
}

/* From here on two are linked. */
static void with_two_linked_processors_one_must_be_named(void **state)
{
	(void)state;
	assert_null(queue_of(NULL));
	assert_non_null(strstr(q_last_error(), "2 are linked"));
	assert_non_null(strstr(q_last_error(), "test"));
	assert_non_null(strstr(q_last_error(), "look"));
	q_shutdown(queue_of("test"));
}

static void two_linked_processors_of_one_name_are_refused(void **state)
{
	static const QProcessorImage again = { .magic = Q_PROCESSOR_MAGIC,
					       .protocol_version = Q_PROTOCOL_VERSION,
					       .name = "look",
					       .cpu = test_processor };
	static const QProcessorImage mine = { .magic = Q_PROCESSOR_MAGIC,
					      .protocol_version = Q_PROTOCOL_VERSION,
					      .name = "echo",
					      .cpu = test_processor };
	GpuQueue *q;

	(void)state;
	q_register_processor(&again);
	assert_null(queue_of("look"));
	assert_non_null(strstr(q_last_error(), "two linked processors"));
	q_register_processor(&mine); /* the program's own comes before ours */
	cpu_device_only("that processor has no image");
	q = queue_of("echo");
	assert_non_null(q);
	assert_ptr_equal(q->processor.image.cpu, test_processor);
	q_shutdown(q);
}

/* ---- status, errors, log ------------------------------------------------------------------- */

static void every_status_has_a_text_and_a_fixed_value(void **state)
{
	(void)state;
#define HAS_TEXT(name, value, text)                                                                \
	assert_int_equal(name, value);                                                             \
	assert_string_equal(q_status_string(name), text);
	Q_STATUS_LIST(HAS_TEXT)
	assert_string_equal(q_status_string((QueueStatus)1), "unknown status");
	assert_string_equal(q_status_string((QueueStatus)-22), "unknown status");
	assert_string_equal(q_version(), "0.1.0");
}

static void *other_thread(void *arg)
{
	bool empty_at_first = q_last_error()[0] == '\0';

	(void)arg;
	q_init(NULL);
	return (void *)(intptr_t)(empty_at_first && q_last_error()[0] != '\0');
}

static void the_last_error_is_each_threads_own(void **state)
{
	pthread_t thread;
	void *ok;

	(void)state;
	q_enqueue(NULL, "x", 1, NULL, 0);
	pthread_create(&thread, NULL, other_thread, NULL);
	pthread_join(thread, &ok);
	assert_true((intptr_t)ok);
	assert_non_null(strstr(q_last_error(), "queue is NULL"));
}

/* Of the lines the one that names the queue; a device may say more. */
static void keep(int level, const char *text, void *user)
{
	char *kept = user;

	if (level == Q_LOG_INFO && strstr(text, "queue of ") != NULL)
		strncpy(kept, text, 199);
}

static void the_log_goes_to_the_sink(void **state)
{
	char kept[200] = "";

	(void)state;
	q_set_log(keep, kept);
	q_shutdown(make_queue(4, 64));
	q_set_log(NULL, NULL);
	assert_non_null(strstr(kept, "queue of 4 x 64 bytes"));
	assert_non_null(strstr(kept, "asked for in the configuration")); /* why this device */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_only_linked_processor_is_the_default),
		cmocka_unit_test(null_is_no_processor_and_is_ignored),
		cmocka_unit_test(the_shipped_processors_go_by_name),
		cmocka_unit_test(a_shared_object_is_loaded_by_path),
		cmocka_unit_test(a_source_that_asks_for_the_tile_does_without_on_the_cpu),
		cmocka_unit_test(an_opcode_chooses_among_the_sources_of_a_processor),
		cmocka_unit_test(an_object_that_is_no_processor_is_refused_with_the_reason),
		cmocka_unit_test(a_processor_is_given_data_id_opcode_tag_and_room),
		cmocka_unit_test(with_two_linked_processors_one_must_be_named),
		cmocka_unit_test(two_linked_processors_of_one_name_are_refused),
		cmocka_unit_test(every_status_has_a_text_and_a_fixed_value),
		cmocka_unit_test(the_last_error_is_each_threads_own),
		cmocka_unit_test(the_log_goes_to_the_sink),
	};

	return cmocka_run_group_tests_name("processors", tests, NULL, NULL);
}
