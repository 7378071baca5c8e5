/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program gpuq-redis: its subcommands. */
#include "program/command.h"
#include "redis/server/redis.h"
#include "redis/worker/suspects.h"

#include <gpuq/gpuq.h>

#include <stdlib.h>
#include <string.h>

const char program_name[] = "gpuq-redis";
char **program_arguments; /* as they came, for the worker that starts itself anew */

static const struct command commands[] = {
	{ "worker", "take messages from a stream, process them, write results", worker_help,
	  cmd_worker },
	{ "send", "put files, or parts of them, into a stream", send_help, cmd_send },
	{ "results", "show results as they come", results_help, cmd_results },
	{ "dlq", "list, show, replay and purge dead letters", dlq_help, cmd_dlq },
	{ "status", "show stream, group, consumers and dead letters", status_help, cmd_status },
	{ "doctor", "look for what endangers messages", doctor_help, cmd_doctor },
	{ "bench", "measure the worker beside a loop that only speaks to Redis", bench_help,
	  cmd_bench },
};

static const struct command_set set = {
	.commands = commands,
	.count = sizeof(commands) / sizeof(commands[0]),
	.version = q_version,
	.about = "Messages lie in Redis; workers on any number of hosts take them from there to a "
		 "GPU,\n"
		 "or to CPU threads.\n",
	.ending =
		"Exit codes:\n"
		"  0  done\n"
		"  1  doctor found something; dlq found no such letter; a file could not be read\n"
		"  2  wrong usage\n"
		"  3  the output could not be written\n"
		"  4  the queue could not be created\n"
		"  5  the queue failed while running\n"
		"  6  Redis is out of reach, or refuses\n"
		"  141  the reader of the output has gone\n"
		"\n"
		"'gpuq-redis help COMMAND' describes a command. Manual page: gpuq-redis(1).\n",
};

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
	if (!standard_descriptors())
		return EXIT_OUTPUT;
	suspects_unblock();
	if (!keep_arguments(argc, argv)) {
		warn_line("no memory");
		return EXIT_NO_QUEUE;
	}
	return end_output(command_dispatch(&set, argc, argv));
}
