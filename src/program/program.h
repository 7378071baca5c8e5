/* SPDX-License-Identifier: Apache-2.0 */
/* program.h - what the programs share: words on stderr, numbers of a command line, the clock. */
#ifndef GPUQ_PROGRAM_H
#define GPUQ_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

/* Exit codes of every program. */
enum {
	PROGRAM_USAGE = 2,
	PROGRAM_OUTPUT_FAILED = 3,
	PROGRAM_READER_GONE = 141, /* what a shell shows for a program that died of SIGPIPE */
};

/* Defined by each program: what its messages begin with. */
extern const char program_name[];

/* Called before each line on stderr, unless it is NULL: takes what is drawn there out of the way.
 */
extern void (*program_before_line)(void);

/**
 * Before anything else in main(). A standard descriptor that came closed would be handed out again
 * by the next open() or socket(): what is printed could then end up in a file, a connection or an
 * eventfd of the library. Each gap is filled with a descriptor that fails in the direction it is
 * used for, so that the error is still reported. From here on `stdout` is a stream that notes why a
 * write failed when it does, for flush_output(); it has no fileno().
 * @return false: a gap could not be filled, or there is no memory
 */
bool standard_descriptors(void);

/**
 * "PROGRAM: " and the text on stderr, as one line: a newline in it, as a name may have, is written
 * as "\n", another control character but a tab as "\x1b", also those of Unicode (U+0080 to U+009F).
 */
void warn_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A text of several lines, such as a compiler's: each by warn_line(), with `before` ahead of the
 * first. */
void warn_lines(const char *before, const char *lines);

/** What was wrong with the command line, likewise, and where to find help. `command` may be "".
 * Returns PROGRAM_USAGE. */
int usage_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The usage error for what getopt_long() has just refused with '?' or ':'. */
int option_error(const char *command, int result, char **argv);

/* The options of a command. */
struct option_set {
	const char *command;        /* for messages */
	const char *help;           /* what -h and --help print */
	const char *shorts;         /* for getopt_long(), a ':' in front */
	const struct option *longs; /* the same; "help" is 'h' */
	/* Is given each option but help, its argument, and `to` of options_read(). @return an exit
	 * code; 0: go on. NULL: there is no other */
	int (*take)(int option, char *text, void *to);
};

/**
 * Reads the options of a command line.
 * @return true: all are taken, and optind says where the arguments begin; false: *code is the exit
 * code, 0 if help was wanted
 */
bool options_read(const struct option_set *set, int argc, char **argv, void *to, int *code);

/**
 * A number in decimal with an optional suffix: K, M, G or KiB, MiB, GiB (1024, 1024^2, 1024^3), or
 * KB, MB, GB (1000, 1000^2, 1000^3). The first letter may be a small one.
 * Returns false for anything else, an empty text and values above UINT64_MAX included.
 */
bool parse_size(const char *text, uint64_t *out_value);

/**
 * Write out what has been printed on the standard output. From any thread.
 * @return 0, or the errno of the first time that it could not be written, from then on always
 */
int flush_output(void);

/**
 * At the end of main(): the exit code. It is `code`, unless the standard output could not be
 * written; why is said, but not where its reader has gone.
 */
int end_output(int code);

/** CPUs that this process may use, at least 1. */
uint32_t cpus_available(void);

/** CLOCK_MONOTONIC, ns. */
uint64_t clock_ns(void);

#endif /* GPUQ_PROGRAM_H */
