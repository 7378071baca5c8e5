/* SPDX-License-Identifier: Apache-2.0 */
/* support.h - what the unit tests share: a processor of many behaviours, and short calls. */
#ifndef GPUQ_TEST_SUPPORT_H
#define GPUQ_TEST_SUPPORT_H

#include "gpu.h"
#include "host/queue/queue.h"
#include "remote.h"
#include "test_processor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* Said at once: cmocka 1.1.7 keeps it until the test has ended, and outside of a test for ever. */
#undef fail_msg
#define fail_msg(...)                                                                              \
	do {                                                                                       \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                    \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		fail();                                                                            \
	} while (0)

/* A guard against hangs, not a measurement. */
#define LONG_MS 60000u

/* The rest of the test cannot run here, and why. Which these are is listed in
 * docs/reference/cuda.md. */
#define leave_out_if(here, where, why)                                                             \
	do {                                                                                       \
		if (here) {                                                                        \
			print_message("left out %s: %s\n", where, why);                            \
			skip();                                                                    \
		}                                                                                  \
	} while (0)
#define cpu_device_only(why)                                                                       \
	leave_out_if(on_cuda() || on_remote(), "on another than the CPU device", why)
#define not_on_remote(why)      leave_out_if(on_remote(), "on the remote device", why)
#define not_on_the_standin(why) leave_out_if(on_standin(), "on the stand-in driver", why)

/* The processor "test": its host function and its image for the device that the tests run on, NULL
 * on a GPU where it was built without nvcc. */
void test_processor(const MsgView *in, ResultView *out);
const void *test_device_image(void);
struct standin_image;
struct standin_control;
extern const struct standin_image standin_test_image;
struct test_data *test_data(void); /* what config() passes; constant */
/* A function of the test's own as a processor for the stand-in driver: the image calls what
 * `standin_called` points to. */
extern const struct standin_image standin_call_image;
extern QProcessorFn standin_called;

/* What the stand-in that the environment variable names calls its controls: see standin.h; NULL:
 * none is named. */
const void *find_standin(const char *variable, const char *symbol);
/* For a program whose tests are all of the stand-in driver: its controls, having made argv[1] the
 * names of the tests to run; NULL: exit with 77, the reason has been said. */
const struct standin_control *begin_on_standin(int argc, char **argv);

QueueConfig config(uint32_t capacity, uint32_t slot_bytes); /* processor "test", one consumer */
GpuQueue *make_queue(uint32_t capacity, uint32_t slot_bytes);
GpuQueue *make_queue_from(const QueueConfig *cfg); /* fails the test with q_last_error() */
void expect_no_queue(const QueueConfig *cfg, const char *words); /* which q_last_error() has */

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

/* Of tests/modules or tests/broken_modules, built; one of the last eight paths asked for. */
const char *module_path(const char *name);
QueueStats stats_of(GpuQueue *q);
QueueInfo queue_info(GpuQueue *q);
unsigned threads_now(void); /* of this process */
unsigned files_now(void);   /* open descriptors of this process */
void nap_ms(unsigned ms);

#endif /* GPUQ_TEST_SUPPORT_H */
