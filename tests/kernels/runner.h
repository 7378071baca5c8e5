/* SPDX-License-Identifier: Apache-2.0 */
/* runner.h - gives a kernel one message and looks at what it left; for the tests' main threads. */
#ifndef GPUQ_TEST_RUNNER_H
#define GPUQ_TEST_RUNNER_H

#include "kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct unit {
	const char *name;
	kernel_fn run;
	bool slow; /* its threads are this machine's: fewer cases, please */
};

#define UNITS_OF(kernel)                                                                           \
	static const struct unit unit_cpu = { "cpu", kernel_##kernel##_cpu, false };               \
	static const struct unit unit_thread = { "thread", kernel_##kernel##_thread, true };       \
	static const struct unit unit_warp = { "warp", kernel_##kernel##_warp, true };             \
	static const struct unit unit_block = { "block", kernel_##kernel##_block, true }

/* One cmocka test for each kind of unit, which is its state. */
#define ON_UNIT_(test, unit)                                                                       \
	{                                                                                          \
#test "[" #unit "]", test, NULL, NULL, (void *)(uintptr_t)&unit_##unit             \
	}
#define ON_EACH_UNIT(test)                                                                         \
	ON_UNIT_(test, cpu), ON_UNIT_(test, thread), ON_UNIT_(test, warp), ON_UNIT_(test, block)

struct answer {
	uint32_t len, status;
	uint8_t *out; /* cap bytes; answer_free() */
	uint32_t cap;
};

enum { CANARY = 0xa5, CANARY_BYTES = 64 };

static void *aligned_bytes(size_t bytes)
{
	void *memory = NULL;

	assert_int_equal(posix_memalign(&memory, 16, bytes > 0 ? bytes : 1), 0);
	return memory;
}

/* Room for a result, with a canary behind it. Both words are as the library starts them: 0. */
static ResultView result_view(struct answer *answer, uint32_t cap)
{
	const ResultView view = { aligned_bytes((size_t)cap + CANARY_BYTES), cap, &answer->len,
				  &answer->status };

	memset(view.out, CANARY, (size_t)cap + CANARY_BYTES);
	*answer = (struct answer){ 0, 0, view.out, cap };
	return view;
}

static void assert_canary_lives(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(bytes[i], CANARY);
}

/* The payload is copied into memory of exactly its size, so that a sanitizer sees a read beyond. */
static struct answer ask(const struct unit *unit, const void *payload, uint32_t len,
			 const void *user, uint32_t cap)
{
	struct answer answer;
	ResultView out = result_view(&answer, cap);
	uint8_t *copy = aligned_bytes(len);
	const MsgView in = { copy, len, 1, 0, 0, user };

	if (len > 0)
		memcpy(copy, payload, len);
	assert_true(unit->run(&in, &out, 1));
	/* `out` pointed into our `answer`, whose copy the caller gets. */
	assert_canary_lives(answer.out + cap, CANARY_BYTES);
	assert_true(len == 0 || memcmp(copy, payload, len) == 0);
	free(copy);
	return answer;
}

static void answer_free(struct answer *answer)
{
	free(answer->out);
}

#endif /* GPUQ_TEST_RUNNER_H */
