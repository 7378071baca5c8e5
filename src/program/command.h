/* SPDX-License-Identifier: Apache-2.0 */
/* command.h - a program of several commands: which one is meant, help, version. */
#ifndef GPUQ_PROGRAM_COMMAND_H
#define GPUQ_PROGRAM_COMMAND_H

#include <stddef.h>

struct command {
	const char *name;
	const char *summary;
	const char *help;
	/* argv[0] is the command's own name; the result is the exit code */
	int (*run)(int argc, char **argv);
};

struct command_set {
	const struct command *commands;
	size_t count;
	const char *(*version)(void);
	const char *about;  /* what the program is for, between usage and commands */
	const char *ending; /* exit codes and manual pages, at the end */
};

/** What main() was given: runs the command, or shows help or version. Returns the exit code. */
int command_dispatch(const struct command_set *set, int argc, char **argv);

#endif /* GPUQ_PROGRAM_COMMAND_H */
