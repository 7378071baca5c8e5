/* SPDX-License-Identifier: Apache-2.0 */
/* reload.c - `gpuq reload`: has a gpuqd read its configuration anew, and says what came of it. */
#define _GNU_SOURCE
#include "cli.h"
#include "daemon.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char reload_help[] =
	"Usage: gpuq reload [OPTION] [SOCKET]\n"
	"\n"
	"Have a gpuqd read its configuration file anew, and wait for what comes of it. All of the\n"
	"file is taken over, or nothing: then the reason is shown. man gpuqd says what may "
	"change.\n"
	"\n" DAEMON_HELP "\n"
	"  -h, --help  show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  the configuration has been taken over\n"
	"  1  it has not, and all is as it was\n"
	"  2  wrong usage\n"
	"  4  there is no gpuqd, it hangs, or it may not be signalled\n";

#define PATIENCE_NS UINT64_C(10000000000)

static const struct option long_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int ask(const struct look *before)
{
	if (before->dead) {
		warn_line("the gpuqd that was there has died");
		return CLI_NO_QUEUE;
	}
	if (before->v.daemon.config[0] == '\0') {
		warn_line("this gpuqd was started without a configuration file");
		return CLI_MESSAGES_FAILED;
	}
	if (kill((pid_t)before->v.daemon.pid, SIGHUP) == 0)
		return CLI_OK;
	warn_line("process %" PRIu64 ": %s", before->v.daemon.pid, strerror(errno));
	return CLI_NO_QUEUE;
}

static int await(const char *path, const struct look *before)
{
	static struct look l; /* large */
	const uint64_t until_ns = clock_ns() + PATIENCE_NS;
	const struct timespec nap = { .tv_nsec = 20000000 };

	for (;;) {
		const int code = daemon_look(path, &l);

		if (code != CLI_OK)
			return code;
		if (l.v.daemon.reloads_failed != before->v.daemon.reloads_failed) {
			warn_line("%s", l.v.daemon.reload_error);
			return CLI_MESSAGES_FAILED;
		}
		if (l.v.daemon.reloads != before->v.daemon.reloads)
			return CLI_OK;
		if (l.dead || clock_ns() >= until_ns) {
			warn_line("gpuqd has %s", l.dead ? "died" : "not answered within 10 s");
			return CLI_NO_QUEUE;
		}
		nanosleep(&nap, NULL);
	}
}

int cmd_reload(int argc, char **argv)
{
	static struct look before; /* large */
	char path[DAEMON_PATH];
	int option, code;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		if (option != 'h')
			return option_error("reload", option, argv);
		fputs(reload_help, stdout);
		return CLI_OK;
	}
	if (argc - optind > 1)
		return usage_error("reload", "'%s' is one argument too many", argv[optind + 1]);
	code = daemon_find("reload", argv[optind], path);
	if (code == CLI_OK)
		code = daemon_look(path, &before);
	if (code == CLI_OK)
		code = ask(&before);
	return code == CLI_OK ? await(path, &before) : code;
}
