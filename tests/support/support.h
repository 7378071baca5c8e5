/* SPDX-License-Identifier: Apache-2.0 */
/* support.h - what the unit tests share: a processor of many behaviours, and short calls. */
#ifndef GPUQ_TEST_SUPPORT_H
#define GPUQ_TEST_SUPPORT_H

#include "host/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What the processor "test" does with a message, by its opcode. */
enum {
	OP_ECHO,     /* result = payload */
	OP_XOR,      /* each byte ^ 0x5a */
	OP_FAIL,     /* reports failure, after writing a result */
	OP_TOO_LONG, /* claims a result of one byte more than there is room for */
	OP_FILL,     /* a result of all the room there is, bytes = tag */
	OP_GATE,     /* waits for open_gate(), then echoes */
};

/* A guard against hangs, not a measurement. */
#define LONG_MS 60000u

bool on_cuda(void); /* GPUQ_TEST_DEVICE is cuda: queues are made on the CUDA device */
/* The rest of the test is of the CPU device only. */
#define cpu_device_only(why)                                                                       \
	do {                                                                                       \
		if (on_cuda()) {                                                                   \
			print_message("not on the CUDA device: %s\n", why);                        \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

/* A processor of the test's own: `standin_call_image` is an image, for the stand-in driver, that
 * calls `standin_called`. */
struct standin_image;
extern const struct standin_image standin_call_image;
extern QProcessorFn standin_called;

/* What the processor "test" is. */
void test_processor(const MsgView *in, ResultView *out);

QueueConfig config(uint32_t capacity, uint32_t slot_bytes); /* processor "test", one consumer */
GpuQueue *make_queue(uint32_t capacity, uint32_t slot_bytes);
GpuQueue *make_queue_from(const QueueConfig *cfg); /* fails the test with q_last_error() */

void close_gate(void); /* also forgets what started */
void open_gate(void);
uint32_t gate_waiters(void);         /* messages inside OP_GATE now */
void await_gate_waiters(uint32_t n); /* until that many are */
uint32_t started(void);              /* messages run since close_gate() or forget_started() */
uint64_t started_tag(uint32_t i);    /* tag of the i-th */
void forget_started(void);
bool payloads_aligned(void); /* every payload and result area so far was 16-byte aligned */

uint64_t send(GpuQueue *q, const void *data, size_t len); /* waits for room */
uint64_t send_op(GpuQueue *q, uint32_t opcode, uint64_t tag, const void *data, size_t len);
uint64_t send_with(GpuQueue *q, const EnqueueOptions *options, const void *data, size_t len);
/* Waits for the message and takes its result; the status is how it ended. */
QueueStatus take(GpuQueue *q, uint64_t id, void *buf, size_t *len);
void expect_echo(GpuQueue *q, uint64_t id, const void *data, size_t len);

#define assert_status(call, wanted)                                                                \
	assert_string_equal(q_status_string(call), q_status_string(wanted))

QueueStats stats_of(GpuQueue *q);
unsigned threads_now(void); /* of this process */
unsigned files_now(void);   /* open descriptors of this process */
void nap_ms(unsigned ms);

#endif /* GPUQ_TEST_SUPPORT_H */
