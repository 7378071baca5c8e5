/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the parts of the command share: exit codes, subcommands, messages on stderr. */
#ifndef GPUQ_CLI_H
#define GPUQ_CLI_H

#include <stdbool.h>
#include <stdint.h>

/* Documented in `gpuq help run` and gpuq(1). An interrupted run ends with 128 + the signal. */
enum {
	CLI_OK = 0,
	CLI_MESSAGES_FAILED = 1, /* also: a file could not be read */
	CLI_USAGE = 2,           /* also: a file is too long for the processor */
	CLI_OUTPUT_FAILED = 3,
	CLI_NO_QUEUE = 4,
	CLI_QUEUE_FAILED = 5,
	CLI_READER_GONE = 141, /* what a shell shows for a program that died of SIGPIPE */
};

/* The subcommands: argv[0] is the subcommand's own name; the result is the exit code. */
int cmd_info(int argc, char **argv);
int cmd_processors(int argc, char **argv);
int cmd_run(int argc, char **argv);

/* Their help texts, as `gpuq help` prints them. */
extern const char info_help[];
extern const char processors_help[];
extern const char run_help[];

/** "gpuq: " and the text on stderr, as one line. */
void warn_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** What was wrong with the command line, and where to find help. Returns CLI_USAGE. */
int usage_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The usage error for what getopt_long() has just refused with '?' or ':'. */
int option_error(const char *command, int result, char **argv);

/**
 * A number in decimal with an optional suffix: K, M, G or KiB, MiB, GiB (1024, 1024^2, 1024^3), or
 * KB, MB, GB (1000, 1000^2, 1000^3). The first letter may be a small one.
 * Returns false for anything else, an empty text and values above UINT64_MAX included.
 */
bool parse_size(const char *text, uint64_t *out_value);

/** CPUs that this process may use, at least 1. */
uint32_t cpus_available(void);

/** CLOCK_MONOTONIC, ns. */
uint64_t clock_ns(void);

#endif /* GPUQ_CLI_H */
