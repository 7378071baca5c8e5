/* SPDX-License-Identifier: Apache-2.0 */
/* run_options.h - the command line of `gpuq run`: what was asked for. */
#ifndef GPUQ_CLI_RUN_OPTIONS_H
#define GPUQ_CLI_RUN_OPTIONS_H

#include "output.h"
#include "split.h"
#include "tee.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum run_order { ORDER_INPUT, ORDER_COMPLETION };
enum run_progress { PROGRESS_AUTO, PROGRESS_ALWAYS, PROGRESS_NEVER };

struct run_options {
	const char *processor;
	const char *data_path;   /* NULL: no processor data */
	const char *trace_path;  /* NULL: no trace */
	const char *output_path; /* NULL: the standard output */
	struct tee_options tee;
	const char *tee_how;   /* an option that says how; NULL: none was given */
	const char *list_path; /* NULL: the files are arguments */
	enum split_mode split;
	const char *split_text; /* of --split; NULL: not given */
	uint32_t piece_bytes;   /* SPLIT_BYTES */
	uint32_t device;        /* Q_DEVICE_* */
	uint32_t slots;         /* 0: see plan.h, as the next two */
	uint32_t slot_bytes;    /* largest message */
	uint32_t result_bytes;  /* largest result */
	uint32_t consumers;     /* 0: all CPUs, or the GPU's default */
	enum run_order order;
	enum output_format format;
	enum run_progress progress;
	bool null; /* --null */
	bool names;
	bool skip_empty;
	bool quiet;
	bool summary; /* asked for, whatever stderr is */
	bool json;
	bool help;
	char *const *files; /* as many as given, "-" where none was */
	size_t file_count;
};

/** Returns CLI_OK, or CLI_USAGE after having said what is wrong. With `help` set nothing else is.
 */
int run_parse(int argc, char **argv, struct run_options *out);

#endif /* GPUQ_CLI_RUN_OPTIONS_H */
