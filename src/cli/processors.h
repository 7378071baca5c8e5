/* SPDX-License-Identifier: Apache-2.0 */
/* processors.h - what the command knows about the named processors. */
#ifndef GPUQ_CLI_PROCESSORS_H
#define GPUQ_CLI_PROCESSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct named_processor {
	const char *name;
	const char *description;
	/* Takes a message in pieces (kernels/pieces.h): bytes of a state, 0: does not. */
	uint32_t state_bytes;
	uint32_t piece_multiple; /* all pieces but the last are so many bytes, or twice, ... */
	/* Does without no data. NULL: these will do; else what is wrong. */
	const char *(*check_data)(const void *data, size_t bytes);
};

/** The named one, or NULL: a path, or nothing the command knows. */
const struct named_processor *find_processor(const char *name);

#endif /* GPUQ_CLI_PROCESSORS_H */
