/* SPDX-License-Identifier: Apache-2.0 */
/* support.c - what the unit tests share: a processor of many behaviours, and short calls. */
#include "support.h"

#include "standin.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_STARTED 4096

extern const struct standin_image standin_test_image; /* standin_test.cc */
QProcessorFn standin_called;

static uint32_t gate_open, waiters, n_started, misaligned;
static uint64_t started_tags[MAX_STARTED];

#define get(x)    __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define set(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)

void test_processor(const MsgView *in, ResultView *out)
{
	uint32_t i = __atomic_fetch_add(&n_started, 1, __ATOMIC_ACQ_REL);

	if (i < MAX_STARTED)
		set(started_tags[i], in->tag);
	if (((uintptr_t)in->payload | (uintptr_t)out->out) % 16 != 0)
		set(misaligned, 1);
	switch (in->opcode) {
	case OP_GATE:
		__atomic_fetch_add(&waiters, 1, __ATOMIC_ACQ_REL);
		while (get(gate_open) == 0)
			nap_ms(1);
		__atomic_fetch_sub(&waiters, 1, __ATOMIC_ACQ_REL);
		break;
	case OP_FAIL:
		*out->status = 7;
		break;
	case OP_TOO_LONG:
		*out->out_len = out->cap + 1;
		return;
	case OP_FILL:
		memset(out->out, (int)in->tag, out->cap);
		*out->out_len = out->cap;
		return;
	default:
		break;
	}
	*out->out_len = in->len;
	for (uint32_t k = 0; k < in->len && k < out->cap; k++)
		out->out[k] = in->payload[k] ^ (in->opcode == OP_XOR ? 0x5a : 0);
}

static const QProcessorImage test_image = { .magic = Q_PROCESSOR_MAGIC,
					    .protocol_version = Q_PROTOCOL_VERSION,
					    .granularity = Q_PER_WARP,
					    .name = "test",
					    .cpu = test_processor,
					    .device_image = &standin_test_image,
					    .device_image_bytes = sizeof(standin_test_image) };

bool on_cuda(void)
{
	const char *device = getenv("GPUQ_TEST_DEVICE");

	return device != NULL && strcmp(device, "cuda") == 0;
}

__attribute__((constructor)) static void announce(void)
{
	q_register_processor(&test_image);
}

QueueConfig config(uint32_t capacity, uint32_t slot_bytes)
{
	return (QueueConfig){ .capacity = capacity,
			      .slot_bytes = slot_bytes,
			      .device = on_cuda() ? Q_DEVICE_CUDA : Q_DEVICE_CPU,
			      .consumers = 1,
			      .processor = "test" };
}

GpuQueue *make_queue_from(const QueueConfig *cfg)
{
	GpuQueue *q = q_init(cfg);

	if (q == NULL)
		fail_msg("q_init: %s", q_last_error());
	return q;
}

GpuQueue *make_queue(uint32_t capacity, uint32_t slot_bytes)
{
	QueueConfig cfg = config(capacity, slot_bytes);

	return make_queue_from(&cfg);
}

void forget_started(void)
{
	set(n_started, 0);
}

void close_gate(void)
{
	set(gate_open, 0);
	forget_started();
}

void open_gate(void)
{
	set(gate_open, 1);
}

uint32_t gate_waiters(void)
{
	return get(waiters);
}

void await_gate_waiters(uint32_t n)
{
	for (unsigned i = 0; gate_waiters() != n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

uint32_t started(void)
{
	return get(n_started);
}

uint64_t started_tag(uint32_t i)
{
	assert_true(i < MAX_STARTED);
	return get(started_tags[i]);
}

bool payloads_aligned(void)
{
	return get(misaligned) == 0;
}

uint64_t send_with(GpuQueue *q, const EnqueueOptions *options, const void *data, size_t len)
{
	uint64_t id = 0;

	assert_status(q_enqueue_ex(q, data, len, options, &id, LONG_MS), Q_OK);
	return id;
}

uint64_t send(GpuQueue *q, const void *data, size_t len)
{
	return send_with(q, NULL, data, len);
}

uint64_t send_op(GpuQueue *q, uint32_t opcode, uint64_t tag, const void *data, size_t len)
{
	EnqueueOptions options = { .opcode = opcode, .tag = tag };

	return send_with(q, &options, data, len);
}

QueueStatus take(GpuQueue *q, uint64_t id, void *buf, size_t *len)
{
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	return q_try_dequeue_result(q, id, buf, len);
}

void expect_echo(GpuQueue *q, uint64_t id, const void *data, size_t len)
{
	char buf[4096];
	size_t room = sizeof(buf);

	assert_status(take(q, id, buf, &room), Q_OK);
	assert_int_equal(room, len);
	if (len != 0)
		assert_memory_equal(buf, data, len);
}

QueueStats stats_of(GpuQueue *q)
{
	QueueStats stats;

	assert_status(q_stats(q, &stats), Q_OK);
	return stats;
}

static unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

unsigned threads_now(void)
{
	return count_entries("/proc/self/task") - 2;
}

unsigned files_now(void)
{
	return count_entries("/proc/self/fd") - 3; /* ., .. and the directory itself */
}

void nap_ms(unsigned ms)
{
	struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}
