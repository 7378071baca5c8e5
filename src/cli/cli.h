/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the parts of the command share: exit codes and subcommands. */
#ifndef GPUQ_CLI_H
#define GPUQ_CLI_H

#include "program/program.h"

#include <stdbool.h>
#include <stdint.h>

/* Documented in `gpuq help run` and gpuq(1). An interrupted run ends with 128 + the signal. */
enum {
	CLI_OK = 0,
	CLI_MESSAGES_FAILED = 1,   /* also: a file could not be read */
	CLI_USAGE = PROGRAM_USAGE, /* also: a file is too long for the processor */
	CLI_OUTPUT_FAILED = PROGRAM_OUTPUT_FAILED,
	CLI_NO_QUEUE = 4,
	CLI_QUEUE_FAILED = 5,
	CLI_READER_GONE = PROGRAM_READER_GONE,
};

/* The subcommands: argv[0] is the subcommand's own name; the result is the exit code. */
int cmd_bench(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_pipe(int argc, char **argv);
int cmd_processors(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_redis(int argc, char **argv);
int cmd_services(int argc, char **argv);
int cmd_token(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_errors(int argc, char **argv);
int cmd_reload(int argc, char **argv);

/* Their help texts, as `gpuq help` prints them. */
extern const char bench_help[];
extern const char info_help[];
extern const char pipe_help[];
extern const char processors_help[];
extern const char run_help[];
extern const char redis_help[];
extern const char services_help[];
extern const char token_help[];
extern const char status_help[];
extern const char top_help[];
extern const char errors_help[];
extern const char reload_help[];

#endif /* GPUQ_CLI_H */
