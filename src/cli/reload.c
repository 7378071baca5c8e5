/* SPDX-License-Identifier: Apache-2.0 */
/* reload.c - `gpuq reload`: has a gpuqd read its configuration anew, and says what came of it. */
#define _GNU_SOURCE
#include "cli.h"
#include "daemon.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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
	"  4  there is no gpuqd, it hangs, it may not be signalled, or another has taken\n"
	"     its place meanwhile\n";

#define PATIENCE_NS UINT64_C(10000000000)

static const struct option long_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/*
 * A page is a file: whoever wrote it chose the process that it names. Somebody else's must not have
 * us signal what its owner could not signal itself, nor a number that is no process (-1: all).
 */
static bool may_signal(const struct look *l, pid_t *pid)
{
	char path[40];
	struct stat st;

	if (l->v.daemon.pid < 2 || l->v.daemon.pid > INT_MAX) {
		warn_line("the page names the process %" PRIu64 "; allowed: 2 to %d",
			  l->v.daemon.pid, INT_MAX);
		return false;
	}
	*pid = (pid_t)l->v.daemon.pid;
	if (l->owner == 0 || l->owner == geteuid())
		return true;
	snprintf(path, sizeof(path), "/proc/%d", (int)*pid);
	if (stat(path, &st) == 0 && st.st_uid == l->owner)
		return true;
	warn_line("the page is a file of user %" PRIu32 ", and process %d, which it names, is not "
		  "of that user",
		  l->owner, (int)*pid);
	return false;
}

static int ask(const struct look *before)
{
	pid_t pid;

	if (before->dead) {
		warn_line("the gpuqd that was there has died");
		return CLI_NO_QUEUE;
	}
	if (before->v.daemon.config[0] == '\0') {
		warn_line("this gpuqd was started without a configuration file");
		return CLI_MESSAGES_FAILED;
	}
	if (!may_signal(before, &pid))
		return CLI_NO_QUEUE;
	if (kill(pid, SIGHUP) == 0)
		return CLI_OK;
	warn_line("process %d: %s", (int)pid, strerror(errno));
	return CLI_NO_QUEUE;
}

static bool is_another(const struct page_daemon *now, const struct page_daemon *before)
{
	return now->pid != before->pid || now->started_ns != before->started_ns;
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
		if (is_another(&l.v.daemon, &before->v.daemon)) {
			warn_line("another gpuqd has taken the place of the one that was asked");
			return CLI_NO_QUEUE;
		}
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
	static const struct option_set set = {
		.command = "reload", .help = reload_help, .shorts = ":h", .longs = long_options
	};
	static struct look before; /* large */
	char path[DAEMON_PATH];
	int code;

	if (!options_read(&set, argc, argv, NULL, &code))
		return code;
	if (argc - optind > 1)
		return usage_error("reload", "'%s' is one argument too many", argv[optind + 1]);
	code = daemon_find("reload", argv[optind], path);
	if (code == CLI_OK)
		code = daemon_look(path, &before);
	if (code == CLI_OK)
		code = ask(&before);
	return code == CLI_OK ? await(path, &before) : code;
}
