/* SPDX-License-Identifier: Apache-2.0 */
/* redis.c - `gpuq redis`: becomes the program gpuq-redis, which is installed apart. */
#define _GNU_SOURCE
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char redis_help[] =
	"Usage: gpuq redis COMMAND [ARGUMENT...]\n"
	"\n"
	"Take messages from Redis, on any number of hosts. This runs the program gpuq-redis,\n"
	"which has a package of its own: the one beside gpuq, else the one found on PATH.\n"
	"'gpuq redis help' lists its commands, 'man gpuq-redis' describes them.\n"
	"\n"
	"Exit codes:\n"
	"  2  wrong usage, or there is no gpuq-redis; else those of gpuq-redis\n";

/* The path of the program beside this one. */
static bool beside(char *path, size_t room)
{
	const ssize_t len = readlink("/proc/self/exe", path, room - 1);
	char *slash;

	if (len <= 0)
		return false;
	path[len] = '\0';
	slash = strrchr(path, '/');
	if (!slash || (size_t)(slash + 1 - path) + sizeof("gpuq-redis") > room)
		return false;
	memcpy(slash + 1, "gpuq-redis", sizeof("gpuq-redis"));
	return true;
}

int cmd_redis(int argc, char **argv)
{
	char name[] = "gpuq-redis";
	char path[PATH_MAX];

	(void)argc;
	argv[0] = name;
	if (beside(path, sizeof(path)))
		execv(path, argv);
	execvp(name, argv);
	if (errno == ENOENT)
		warn_line("there is no gpuq-redis, neither beside gpuq nor on PATH: it has a "
			  "package of its own");
	else
		warn_line("gpuq-redis cannot be run: %s", strerror(errno));
	return CLI_USAGE;
}
