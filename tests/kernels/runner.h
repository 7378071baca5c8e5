/* SPDX-License-Identifier: Apache-2.0 */
/* runner.h - gives a kernel one message and looks at what it left; for the tests' main threads. */
#ifndef GPUQ_TEST_RUNNER_H
#define GPUQ_TEST_RUNNER_H

#include "kernels.h"
#include "pieces.h"

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
static struct answer ask_with(const struct unit *unit, uint32_t opcode, const void *payload,
			      uint32_t len, const void *user, size_t user_bytes, uint32_t cap)
{
	struct answer answer;
	ResultView out = result_view(&answer, cap);
	uint8_t *copy = aligned_bytes(len);
	const MsgView in = { copy, len, 1, opcode, 0, user, user_bytes };

	if (len > 0)
		memcpy(copy, payload, len);
	assert_true(unit->run(&in, &out, 1));
	/* `out` pointed into our `answer`, whose copy the caller gets. */
	assert_canary_lives(answer.out + cap, CANARY_BYTES);
	assert_true(len == 0 || memcmp(copy, payload, len) == 0);
	free(copy);
	return answer;
}

static inline struct answer ask_opcode(const struct unit *unit, uint32_t opcode,
				       const void *payload, uint32_t len, const void *user,
				       uint32_t cap)
{
	return ask_with(unit, opcode, payload, len, user, 0, cap);
}

static inline struct answer ask(const struct unit *unit, const void *payload, uint32_t len,
				const void *user, uint32_t cap)
{
	return ask_with(unit, 0, payload, len, user, 0, cap);
}

static void answer_free(struct answer *answer)
{
	free(answer->out);
}

/*
 * `len` bytes in pieces that end at cuts[0..count), the rest last. Every answer but the last must
 * be a state of `state_bytes`, which goes in front of the next piece.
 */
static inline struct answer ask_in_pieces(const struct unit *unit, const uint8_t *data,
					  uint32_t len, const uint32_t *cuts, size_t count,
					  uint32_t state_bytes, uint32_t cap)
{
	uint8_t *payload = aligned_bytes((size_t)len + state_bytes);
	uint32_t at = 0;

	for (size_t i = 0; i < count; i++) {
		const uint32_t skip = i > 0 ? state_bytes : 0;
		struct answer state;

		if (cuts[i] > at)
			memcpy(payload + skip, data + at, cuts[i] - at);
		state = ask_opcode(unit, i > 0 ? PIECE_MIDDLE : PIECE_FIRST, payload,
				   skip + cuts[i] - at, NULL, state_bytes);
		assert_int_equal(state.status, 0);
		assert_int_equal(state.len, state_bytes);
		memcpy(payload, state.out, state_bytes);
		answer_free(&state);
		at = cuts[i];
	}
	if (len > at)
		memcpy(payload + state_bytes, data + at, len - at);
	struct answer answer =
		ask_opcode(unit, PIECE_LAST, payload, state_bytes + len - at, NULL, cap);

	free(payload);
	return answer;
}

#endif /* GPUQ_TEST_RUNNER_H */
