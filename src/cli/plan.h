/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - how large the queue of a run is: what was asked for, and what the files suggest. */
#ifndef GPUQ_CLI_PLAN_H
#define GPUQ_CLI_PLAN_H

#include "input.h"
#include "run_options.h"

#include <stdbool.h>
#include <stdint.h>

struct plan {
	uint32_t slots;
	uint32_t slot_bytes;
	uint32_t result_bytes;
	uint32_t consumers; /* 0: the device's default */
	/* --split files with a processor that takes a file in pieces; else both are 0 */
	uint32_t state_bytes;
	uint32_t piece_bytes; /* of the file, in one message */
};

/**
 * Looks at the files with --split files.
 * @param cpus  0: the plan for a GPU, or for who knows; else for so many CPUs
 * @return CLI_OK; CLI_USAGE: it has been said which files are too long for this processor
 */
int plan_make(const struct run_options *o, const struct input *in, uint32_t cpus, struct plan *out);

#endif /* GPUQ_CLI_PLAN_H */
