/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_completion.c - what a processor has written, anywhere, is there for who has seen the message
 * finished, and for a message that is sent then, on whichever unit it runs.
 *
 *   test_completion [result-only GRANULARITY LENGTH]
 *
 * ThreadSanitizer sees it where what is posted is relaxed (standin_table.cc). `result-only` does
 * the same with a processor that says Q_RESULT_ONLY, which is not true of it: through the stand-in
 * driver, under ThreadSanitizer, that is a data race, and the test for it is that it is reported.
 */
#include "completion/table.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_BYTES = 2048, CAPACITY = 64, ROUNDS = 4 };

void table_process(const MsgView *in, ResultView *out);
/* standin_table.cc, table.cu; those for GPUs are NULL without nvcc */
extern const struct standin_image standin_table_0, standin_table_1, standin_table_2,
	standin_result_only_0, standin_result_only_1, standin_result_only_2;
extern const void *const gpu_table_0, *const gpu_table_1, *const gpu_table_2;

static struct table_data data;
static bool result_only;

static void make_table(void)
{
	if (on_gpu()) { /* support.c has begun with it */
		data.device = gpu_device_memory(CELLS * sizeof(*data.device));
		data.pinned = gpu_pinned_memory(CELLS * sizeof(*data.pinned));
		data.gate = gpu_pinned_memory(GATES * sizeof(*data.gate));
		data.inside = gpu_pinned_memory(GATES * sizeof(*data.inside));
		return;
	}
	data.device = calloc(CELLS, sizeof(*data.device));
	data.pinned = calloc(CELLS, sizeof(*data.pinned));
	data.gate = calloc(GATES, sizeof(*data.gate));
	data.inside = calloc(GATES, sizeof(*data.inside));
}

static void register_images(void)
{
	static const char *const names[] = { "table_0", "table_1", "table_2" };
	static QProcessorImage image[3];
	const void *const standin[] = { &standin_table_0, &standin_table_1, &standin_table_2 };
	const void *const only[] = { &standin_result_only_0, &standin_result_only_1,
				     &standin_result_only_2 };
	const void *const gpu[] = { gpu_table_0, gpu_table_1, gpu_table_2 };

	for (uint32_t i = 0; i < 3; i++) {
		image[i] = (QProcessorImage){ .magic = Q_PROCESSOR_MAGIC,
					      .protocol_version = Q_PROTOCOL_VERSION,
					      .granularity = i,
					      .name = names[i],
					      .cpu = table_process,
					      .device_image = !on_standin() ? gpu[i]
							      : result_only ? only[i]
									    : standin[i] };
		q_register_processor(&image[i]);
	}
}

static GpuQueue *open_table(uint32_t granularity)
{
	char name[] = "table_?";
	QueueConfig cfg = { .capacity = CAPACITY,
			    .slot_bytes = SLOT_BYTES,
			    .consumers = 2,
			    .device = on_cuda() ? Q_DEVICE_CUDA : Q_DEVICE_CPU,
			    .granularity = granularity,
			    .idle_park_ms = UINT32_MAX,
			    .processor = name,
			    .processor_data = &data,
			    .processor_data_bytes = sizeof(data) };

	name[6] = (char)('0' + granularity);
	return make_queue_from(&cfg);
}

static void send_one(GpuQueue *q, uint32_t opcode, uint64_t tag, size_t len)
{
	static const uint8_t payload[SLOT_BYTES];

	send_op(q, opcode, tag, payload, len);
}

/* The one message that finishes next; its result is not looked at. */
static void await_done(GpuQueue *q)
{
	Completion done;
	size_t count = 0;

	for (uint32_t i = 0; count == 0; i++) {
		assert_true(i < LONG_MS);
		assert_status(q_poll_results(q, &done, 1, &count), Q_OK);
		if (count == 0)
			nap_ms(1);
	}
	assert_status(done.status, Q_OK);
	q_release(q, done.msg_id);
}

static void send_into_gate(GpuQueue *q, uint32_t gate)
{
	send_one(q, OP_HOLD, gate, 0);
	for (uint32_t i = 0; gq_load_relaxed_u64(&data.inside[gate]) == 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* Of two units one is held while the other writes, then the other, while the first one checks. */
static void write_here_check_there(GpuQueue *q, uint64_t tag, size_t len)
{
	for (uint32_t i = 0; i < GATES; i++) {
		gq_store_relaxed_u64(&data.gate[i], 0);
		gq_store_relaxed_u64(&data.inside[i], 0);
	}
	send_into_gate(q, 0);
	send_one(q, OP_WRITE, tag, len);
	await_done(q);
	send_into_gate(q, 1);
	gq_store_relaxed_u64(&data.gate[0], 1);
	await_done(q);
	send_one(q, OP_CHECK, tag, len);
	await_done(q);
	for (uint32_t i = 0; i < CELLS; i++)
		assert_int_equal(data.pinned[i], CELL(tag, i));
	if (on_gpu()) { /* a copy */
		static uint32_t cells[CELLS];

		gpu_read(cells, data.device, sizeof(cells));
		for (uint32_t i = 0; i < CELLS; i++)
			assert_int_equal(cells[i], CELL(tag, i));
	}
	gq_store_relaxed_u64(&data.gate[1], 1);
	await_done(q);
}

static void check(uint32_t granularity, size_t len)
{
	static uint64_t tag;
	GpuQueue *q;

	leave_out_if(on_gpu() && !on_standin() && gpu_table_0 == NULL, "on a GPU",
		     "the processor has no image: built without nvcc");
	q = open_table(granularity);
	for (int i = 0; i < ROUNDS; i++)
		write_here_check_there(q, ++tag, len);
	q_shutdown(q);
}

/* No result; one that is sealed, of one piece and of many; one that is not. */
static void check_all(uint32_t granularity)
{
	static const size_t lengths[] = { 0, 1, 1000, SLOT_BYTES };

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		check(granularity, lengths[i]);
}

static void of_a_thread(void **state)
{
	(void)state;
	check_all(Q_PER_THREAD);
}

static void of_a_warp(void **state)
{
	(void)state;
	check_all(Q_PER_WARP);
}

static void of_a_block(void **state)
{
	(void)state;
	check_all(Q_PER_BLOCK);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_a_thread),
		cmocka_unit_test(of_a_warp),
		cmocka_unit_test(of_a_block),
	};

	result_only = argc == 4 && strcmp(argv[1], "result-only") == 0;
	make_table();
	register_images();
	if (result_only) {
		check((uint32_t)strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
		return 0;
	}
	return cmocka_run_group_tests_name("completion", tests, NULL, NULL);
}
