/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the command gpuq: finds the subcommand, prints help and version. */
#include "cli.h"

#include <gpuq/gpuq.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char program_name[] = "gpuq";

struct command {
	const char *name;
	const char *summary;
	const char *help;
	int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
	{ "run", "stream files through a processor, one result per message", run_help, cmd_run },
	{ "pipe", "show a pipe at work: one writer, many readers", pipe_help, cmd_pipe },
	{ "info", "show version, build, devices and how a queue is set up", info_help, cmd_info },
	{ "processors", "list the named processors", processors_help, cmd_processors },
	{ "redis", "take messages from Redis: runs the program gpuq-redis", redis_help, cmd_redis },
};

static const size_t command_count = sizeof(commands) / sizeof(commands[0]);

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < command_count; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static void print_overview(FILE *to)
{
	fputs("Usage: gpuq COMMAND [ARGUMENT...]\n"
	      "\n"
	      "Queue messages to a processor that runs on the GPU, or on CPU threads.\n"
	      "\n"
	      "Commands:\n",
	      to);
	for (size_t i = 0; i < command_count; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "  %-12s %s\n", "help", "show this text, or the help of one command");
	fputs("\n"
	      "Options:\n"
	      "  -h, --help     show this text\n"
	      "  -V, --version  show the version\n"
	      "\n"
	      "Exit codes:\n"
	      "  0    everything was done\n"
	      "  1    some messages failed, or a file could not be read\n"
	      "  2    wrong usage\n"
	      "  3    the output could not be written\n"
	      "  4    the queue could not be created\n"
	      "  5    the queue failed while running\n"
	      "  129, 130, 143  interrupted by SIGHUP, SIGINT, SIGTERM\n"
	      "  141  the reader of the output has gone\n"
	      "\n"
	      "'gpuq help COMMAND' describes a command and its exit codes.\n"
	      "Manual pages: gpuq(1), gpuq-run(1), gpuq-pipe(1).\n",
	      to);
}

static int unknown_command(const char *name)
{
	warn_line("unknown command '%s'", name);
	fputs("Try 'gpuq help' for the list of commands.\n", stderr);
	return CLI_USAGE;
}

static int print_help(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2 || strcmp(argv[1], "help") == 0) {
		print_overview(stdout);
		return CLI_OK;
	}
	if (argc > 2)
		return usage_error("help", "one command at a time, not '%s'", argv[2]);
	command = find_command(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	fputs(command->help, stdout);
	return CLI_OK;
}

static int dispatch(int argc, char **argv)
{
	const struct command *command;
	const char *first;

	if (argc < 2) {
		print_overview(stderr);
		return CLI_USAGE;
	}
	first = argv[1];
	if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) {
		print_overview(stdout);
		return CLI_OK;
	}
	if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
		printf("gpuq %s\n", q_version());
		return CLI_OK;
	}
	if (strcmp(first, "help") == 0)
		return print_help(argc - 1, argv + 1);
	if (first[0] == '-') {
		warn_line("unknown option '%s'", first);
		fputs("Try 'gpuq --help'.\n", stderr);
		return CLI_USAGE;
	}
	command = find_command(first);
	if (!command)
		return unknown_command(first);
	return command->run(argc - 1, argv + 1);
}

/*
 * A standard descriptor that came closed would be handed out again by the next open(): results
 * could then end up in a file or an eventfd of the library. The gap is filled with a descriptor
 * that fails in the direction it is used for, so that the error is still reported.
 */
static bool fill_standard_fds(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		const int flags = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;

		if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", flags) != fd)
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	int code;

	if (!fill_standard_fds())
		return CLI_QUEUE_FAILED;
	code = dispatch(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		if (errno == EPIPE) /* SIGPIPE is ignored, else we had not come here */
			return CLI_READER_GONE;
		warn_line("cannot write to standard output: %s", strerror(errno));
		if (code == CLI_OK)
			code = CLI_OUTPUT_FAILED;
	}
	return code;
}
