/* SPDX-License-Identifier: Apache-2.0 */
/* summary.h - what came of a run, and how it is told: for people, or as JSON. */
#ifndef GPUQ_CLI_SUMMARY_H
#define GPUQ_CLI_SUMMARY_H

#include "program/histogram.h"

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stdint.h>

/* Failed messages, by what became of them. */
struct run_failures {
	uint64_t too_long;
	uint64_t unreadable; /* --split files: the file was the message */
	uint64_t failed;     /* by the processor */
	uint64_t expired;
	uint64_t cancelled;
	uint64_t other;
};

struct run_counts {
	uint64_t messages;    /* whose outcome has been printed: succeeded and failed */
	uint64_t input_bytes; /* of the messages that were queued */
	uint64_t result_bytes;
	uint64_t bad_files; /* could not be opened, or read to the end */
	struct run_failures failures;
	struct histogram latency; /* ns from enqueue to result seen */
};

struct run_end {
	uint64_t elapsed_ns;
	int interrupted; /* a signal number, or 0 */
	bool reader_gone;
	int exit_code;
};

uint64_t run_failed_messages(const struct run_counts *counts);

/** The summary on stderr, several lines. */
void run_print_summary(const struct run_counts *counts, const QueueInfo *info,
		       const struct run_end *end);

/** The same as one line, an object of JSON. */
void run_print_json(const struct run_counts *counts, const QueueInfo *info,
		    const struct run_end *end);

/** What a trace says of the stages of a message's way, on stderr. */
void run_print_trace(const TraceSummary *trace, const char *path);

#endif /* GPUQ_CLI_SUMMARY_H */
