/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.c - finding the page of a gpuqd, and looking at it. */
#define _GNU_SOURCE
#include "daemon.h"

#include "cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LATE_NS UINT64_C(1000000000)

/* The path in "unix:PATH" or "unix:PATH#QUEUE"; false: it is none. */
static bool endpoint_path(const char *text, char path[DAEMON_PATH])
{
	size_t n;

	if (!text || strncmp(text, "unix:", 5) != 0)
		return false;
	n = strcspn(text + 5, "#");
	if (n == 0 || n >= DAEMON_PATH)
		return false;
	memcpy(path, text + 5, n);
	path[n] = '\0';
	return true;
}

/* As the library does without an endpoint. */
static void default_path(char path[DAEMON_PATH])
{
	const char *folder = getenv("XDG_RUNTIME_DIR");

	if (geteuid() != 0 && folder && folder[0] == '/')
		snprintf(path, DAEMON_PATH, "%s/gpuqd.sock", folder);
	else
		snprintf(path, DAEMON_PATH, "/run/gpuq/gpuqd.sock");
}

int daemon_find(const char *command, const char *where, char path[DAEMON_PATH])
{
	char socket[DAEMON_PATH];
	struct stat st;

	if (where && strlen(where) >= DAEMON_PATH - 8)
		return usage_error(command, "'%.40s...' is too long a path", where);
	if (where && !endpoint_path(where, socket))
		snprintf(socket, sizeof(socket), "%s", where);
	else if (!where && !endpoint_path(getenv("GPUQ_DEVICE"), socket) &&
		 !endpoint_path(getenv("GPUQ_BROKER"), socket))
		default_path(socket);
	if (stat(socket, &st) == 0 && S_ISREG(st.st_mode)) /* the page itself */
		snprintf(path, DAEMON_PATH, "%s", socket);
	else if (!page_path_of(socket, path, DAEMON_PATH))
		return usage_error(command, "'%.40s...' is too long a path", socket);
	return CLI_OK;
}

int daemon_look(const char *path, struct look *out)
{
	char error[PAGE_ERROR];
	struct page *p = page_open(path, error);
	bool read, owned;

	if (!p) {
		warn_line("%s: is there a gpuqd? The argument, GPUQ_DEVICE or GPUQ_BROKER says "
			  "at which socket",
			  error);
		return CLI_NO_QUEUE;
	}
	read = page_view(p, &out->v);
	out->dead = !page_is_kept(p);
	owned = page_owner(p, &out->owner);
	page_close(p);
	if (!owned) {
		warn_line("%s: it cannot be known whose file it is", path);
		return CLI_NO_QUEUE;
	}
	if (!read) {
		warn_line("%s: gpuqd has not written anything yet", path);
		return CLI_NO_QUEUE;
	}
	out->at_ns = clock_ns();
	out->age_ns =
		out->at_ns > out->v.daemon.turned_ns ? out->at_ns - out->v.daemon.turned_ns : 0;
	out->stale = !out->dead && out->age_ns > 3 * out->v.daemon.interval_ns + LATE_NS;
	return CLI_OK;
}

int daemon_look_once(const char *command, const char *help, int argc, char **argv, struct look *out,
		     bool *json)
{
	static const struct option long_options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	char path[DAEMON_PATH];
	int option, code;

	*json = false;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":jh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return CLI_OK;
		}
		if (option != 'j')
			return option_error(command, option, argv);
		*json = true;
	}
	if (argc - optind > 1)
		return usage_error(command, "'%s' is one argument too many", argv[optind + 1]);
	code = daemon_find(command, argv[optind], path);
	if (code == CLI_OK)
		code = daemon_look(path, out);
	return code == CLI_OK ? -1 : code;
}

const char *daemon_state(const struct look *l)
{
	if (l->dead)
		return "dead";
	return l->stale ? "stale" : page_state_names[l->v.daemon.state];
}

bool daemon_hangs(const struct look *l, uint64_t turned_ns, uint64_t ended)
{
	return ended == 0 && l->v.daemon.turned_ns > turned_ns &&
	       l->v.daemon.turned_ns - turned_ns > 3 * l->v.daemon.interval_ns + LATE_NS;
}
