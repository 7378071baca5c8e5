/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the command gpuq: its subcommands. */
#include "cli.h"
#include "program/command.h"

#include <gpuq/gpuq.h>

const char program_name[] = "gpuq";

static const struct command commands[] = {
	{ "run", "stream files through a processor, one result per message", run_help, cmd_run },
	{ "pipe", "show a pipe at work: one writer, many readers", pipe_help, cmd_pipe },
	{ "info", "show version, build, devices and how a queue is set up", info_help, cmd_info },
	{ "processors", "list the named processors", processors_help, cmd_processors },
	{ "redis", "take messages from Redis: runs the program gpuq-redis", redis_help, cmd_redis },
	{ "services", "list the services behind a gpuqd, or give it orders", services_help,
	  cmd_services },
	{ "token", "make, narrow or show tokens for gpuqd", token_help, cmd_token },
	{ "bench", "load a queue, and show how long messages take", bench_help, cmd_bench },
	{ "status", "show how a gpuqd stands, also one that hangs", status_help, cmd_status },
	{ "top", "show what a gpuqd does, second by second", top_help, cmd_top },
	{ "errors", "show what has gone wrong in a gpuqd", errors_help, cmd_errors },
	{ "reload", "have a gpuqd read its configuration anew", reload_help, cmd_reload },
};

static const struct command_set set = {
	.commands = commands,
	.count = sizeof(commands) / sizeof(commands[0]),
	.version = q_version,
	.about = "Queue messages to a processor that runs on the GPU, or on CPU threads.\n",
	.ending =
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
		"Manual pages: gpuq(1), gpuq-run(1), gpuq-pipe(1), gpuq-status(1), gpuq-redis(1),\n"
		"gpuqd(1); gpuq(7) for programmers.\n",
};

int main(int argc, char **argv)
{
	if (!standard_descriptors())
		return CLI_QUEUE_FAILED;
	return end_output(command_dispatch(&set, argc, argv));
}
