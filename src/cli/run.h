/* SPDX-License-Identifier: Apache-2.0 */
/* run.h - `gpuq run`: what was asked for, and what came of it. */
#ifndef GPUQ_CLI_RUN_H
#define GPUQ_CLI_RUN_H

#include "histogram.h"
#include "output.h"
#include "split.h"

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum run_order { ORDER_INPUT, ORDER_COMPLETION };
enum run_progress { PROGRESS_AUTO, PROGRESS_ALWAYS, PROGRESS_NEVER };

struct run_options {
	const char *processor;
	const char *data_path;  /* NULL: no processor data */
	const char *trace_path; /* NULL: no trace */
	enum split_mode split;
	uint32_t piece_bytes; /* SPLIT_BYTES */
	uint32_t device;      /* Q_DEVICE_* */
	uint32_t slots;
	uint32_t slot_bytes;
	uint32_t result_bytes;
	uint32_t consumers; /* 0: the library's default */
	enum run_order order;
	enum output_format format;
	enum run_progress progress;
	bool quiet;
	bool help;
	char *const *files;
	size_t file_count;
};

/** Returns CLI_OK, or CLI_USAGE after having said what is wrong. With `help` set nothing else is.
 */
int run_parse(int argc, char **argv, struct run_options *out);

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
	uint64_t messages;    /* whose line has been printed: succeeded and failed */
	uint64_t input_bytes; /* of the messages that were queued */
	uint64_t result_bytes;
	uint64_t bad_files; /* could not be opened, or read to the end */
	struct run_failures failures;
	struct histogram latency; /* ns from enqueue to result seen */
};

uint64_t run_failed_messages(const struct run_counts *counts);

/** The summary on stderr. `interrupted` is a signal number or 0. */
void run_print_summary(const struct run_counts *counts, const QueueInfo *info, uint64_t elapsed_ns,
		       int interrupted, bool reader_gone);

/** What a trace says of the stages of a message's way, on stderr. */
void run_print_trace(const TraceSummary *trace, const char *path);

#endif /* GPUQ_CLI_RUN_H */
