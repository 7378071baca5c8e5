/* SPDX-License-Identifier: Apache-2.0 */
/* test_processor.h - what the processor "test" shares with the tests that use it. */
#ifndef GPUQ_TEST_PROCESSOR_H
#define GPUQ_TEST_PROCESSOR_H

#include <stdint.h>

/* What the processor "test" does with a message, by its opcode. */
enum {
	OP_ECHO,     /* result = payload */
	OP_XOR,      /* each byte ^ 0x5a */
	OP_FAIL,     /* reports failure, after writing a result */
	OP_TOO_LONG, /* claims a result of one byte more than there is room for */
	OP_FILL,     /* a result of all the room there is, bytes = tag */
	OP_GATE,     /* waits for open_gate(), then echoes; on a GPU it fails after GATE_LIMIT_NS */
	OP_LOOK,     /* a result of struct test_look: what it was given */
};

#define GATE_LIMIT_NS UINT64_C(30000000000) /* no kernel is left spinning by a failed test */
#define MAX_STARTED   4096

/* Incremented by the processor, read by the tests: device memory on a GPU, where nothing else would
 * be atomic. */
struct test_counts {
	uint64_t started, entered, left; /* messages; the last two of OP_GATE */
	uint64_t misaligned;
	uint64_t tags[MAX_STARTED]; /* of the i-th message started, modulo MAX_STARTED */
};

/* cfg.processor_data. */
struct test_data {
	const uint64_t *gate; /* 1: open; memory of the host's that the device sees */
	struct test_counts *counts;
	uint64_t mark;
};

struct test_look {
	uint64_t mark, msg_id, tag;
	uint32_t opcode, cap;
};

#endif /* GPUQ_TEST_PROCESSOR_H */
