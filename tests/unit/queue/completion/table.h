/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - what test_completion.c and its processor share. */
#ifndef GPUQ_TEST_TABLE_H
#define GPUQ_TEST_TABLE_H

#include <stdint.h>

enum { CELLS = 1000, GATES = 2 };
enum { OP_WRITE, OP_CHECK, OP_HOLD }; /* a message's tag: what to write, what to find, which gate */

/* QueueConfig.processor_data. */
struct table_data {
	uint32_t *device, *pinned; /* CELLS words each, plain */
	uint64_t *gate;            /* GATES words: 0 while shut */
	uint64_t *inside;          /* likewise: held by that gate */
};

#define CELL(tag, i) ((uint32_t)(tag)*2654435761u + (uint32_t)(i))

#endif /* GPUQ_TEST_TABLE_H */
