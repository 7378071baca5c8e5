/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program gpuq-redis: finds the subcommand, prints help and version. */
#include "redis.h"
#include "suspects.h"

#include <gpuq/gpuq.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char program_name[] = "gpuq-redis";
char **program_arguments; /* as they came, for the worker that starts itself anew */

struct command {
	const char *name;
	const char *summary;
	const char *help;
	int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
	{ "worker", "take messages from a stream, process them, write results", worker_help,
	  cmd_worker },
	{ "send", "put files, or parts of them, into a stream", send_help, cmd_send },
	{ "results", "show results as they come", results_help, cmd_results },
	{ "dlq", "list, show, replay and purge dead letters", dlq_help, cmd_dlq },
	{ "status", "show stream, group, consumers and dead letters", status_help, cmd_status },
	{ "doctor", "look for what endangers messages", doctor_help, cmd_doctor },
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static void print_overview(FILE *to)
{
	fputs("Usage: gpuq-redis COMMAND [ARGUMENT...]\n"
	      "\n"
	      "Messages lie in a Redis stream; workers on any number of hosts take them from "
	      "there\n"
	      "to a GPU, or to CPU threads.\n"
	      "\n"
	      "Commands:\n",
	      to);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fputs("  help     show this text, or the help of one command\n"
	      "\n"
	      "Options:\n"
	      "  -h, --help     show this text\n"
	      "  -V, --version  show the version\n"
	      "\n"
	      "Exit codes:\n"
	      "  0  done\n"
	      "  1  doctor found something; dlq found no such letter; a file could not be read\n"
	      "  2  wrong usage\n"
	      "  3  the output could not be written\n"
	      "  4  the queue could not be created\n"
	      "  5  the queue failed while running\n"
	      "  6  Redis is out of reach, or refuses\n"
	      "\n"
	      "'gpuq-redis help COMMAND' describes a command. Manual page: gpuq-redis(1).\n",
	      to);
}

static int unknown_command(const char *name)
{
	warn_line("unknown command '%s'", name);
	fputs("Try 'gpuq-redis help' for the list of commands.\n", stderr);
	return EXIT_USAGE;
}

static int print_help(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2 || strcmp(argv[1], "help") == 0) {
		print_overview(stdout);
		return EXIT_DONE;
	}
	if (argc > 2)
		return usage_error("help", "one command at a time, not '%s'", argv[2]);
	command = find_command(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	fputs(command->help, stdout);
	return EXIT_DONE;
}

static int dispatch(int argc, char **argv)
{
	const struct command *command;
	const char *first;

	if (argc < 2) {
		print_overview(stderr);
		return EXIT_USAGE;
	}
	first = argv[1];
	if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) {
		print_overview(stdout);
		return EXIT_DONE;
	}
	if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
		printf("%s %s\n", program_name, q_version());
		return EXIT_DONE;
	}
	if (strcmp(first, "help") == 0)
		return print_help(argc - 1, argv + 1);
	if (first[0] == '-') {
		warn_line("unknown option '%s'", first);
		fputs("Try 'gpuq-redis --help'.\n", stderr);
		return EXIT_USAGE;
	}
	command = find_command(first);
	if (!command)
		return unknown_command(first);
	return command->run(argc - 1, argv + 1);
}

/* Copies: those of main() have their passwords taken out. */
static bool keep_arguments(int argc, char **argv)
{
	program_arguments = calloc((size_t)argc + 1, sizeof(program_arguments[0]));
	if (!program_arguments)
		return false;
	for (int i = 0; i < argc; i++) {
		program_arguments[i] = strdup(argv[i]);
		if (!program_arguments[i])
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	int code;

	suspects_unblock();
	if (!keep_arguments(argc, argv)) {
		warn_line("no memory");
		return EXIT_NO_QUEUE;
	}
	code = dispatch(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		warn_line("cannot write to standard output: %s", strerror(errno));
		if (code == EXIT_DONE)
			code = EXIT_OUTPUT;
	}
	return code;
}
