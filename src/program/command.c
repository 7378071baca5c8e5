/* SPDX-License-Identifier: Apache-2.0 */
/* command.c - finds the command that is meant, prints help and version. */
#include "command.h"

#include "program.h"

#include <stdio.h>
#include <string.h>

static const struct command *find(const struct command_set *set, const char *name)
{
	for (size_t i = 0; i < set->count; i++) {
		if (strcmp(set->commands[i].name, name) == 0)
			return &set->commands[i];
	}
	return NULL;
}

static void print_overview(const struct command_set *set, FILE *to)
{
	int width = (int)strlen("help");

	for (size_t i = 0; i < set->count; i++) {
		const int len = (int)strlen(set->commands[i].name);

		width = len > width ? len : width;
	}
	fprintf(to, "Usage: %s COMMAND [ARGUMENT...]\n\n%s\nCommands:\n", program_name, set->about);
	for (size_t i = 0; i < set->count; i++)
		fprintf(to, "  %-*s  %s\n", width, set->commands[i].name, set->commands[i].summary);
	fprintf(to, "  %-*s  show this text, or the help of one command\n", width, "help");
	fprintf(to,
		"\nOptions:\n"
		"  -h, --help     show this text\n"
		"  -V, --version  show the version\n"
		"\n%s",
		set->ending);
}

static int unknown(const char *name)
{
	warn_line("unknown command '%s'", name);
	fprintf(stderr, "Try '%s help' for the list of commands.\n", program_name);
	return PROGRAM_USAGE;
}

static int print_help(const struct command_set *set, int argc, char **argv)
{
	const struct command *command;

	if (argc < 2 || strcmp(argv[1], "help") == 0) {
		print_overview(set, stdout);
		return 0;
	}
	if (argc > 2)
		return usage_error("help", "one command at a time, not '%s'", argv[2]);
	command = find(set, argv[1]);
	if (!command)
		return unknown(argv[1]);
	fputs(command->help, stdout);
	return 0;
}

int command_dispatch(const struct command_set *set, int argc, char **argv)
{
	const struct command *command;
	const char *first;

	if (argc < 2) {
		print_overview(set, stderr);
		return PROGRAM_USAGE;
	}
	first = argv[1];
	if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) {
		print_overview(set, stdout);
		return 0;
	}
	if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
		printf("%s %s\n", program_name, set->version());
		return 0;
	}
	if (strcmp(first, "help") == 0)
		return print_help(set, argc - 1, argv + 1);
	if (first[0] == '-') {
		warn_line("unknown option '%s'", first);
		fprintf(stderr, "Try '%s --help'.\n", program_name);
		return PROGRAM_USAGE;
	}
	command = find(set, first);
	if (!command)
		return unknown(first);
	return command->run(argc - 1, argv + 1);
}
