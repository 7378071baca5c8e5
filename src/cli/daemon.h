/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - a gpuqd as its page of counts shows it, for `gpuq status`, `gpuq top`, `gpuq reload`.
 */
#ifndef GPUQ_CLI_DAEMON_H
#define GPUQ_CLI_DAEMON_H

#include "broker/page/page.h"

/* Options of the commands that look at a gpuqd. */
#define DAEMON_HELP                                                                                \
	"SOCKET is where gpuqd listens, for clients or for services, or its file of counts, "      \
	"which\n"                                                                                  \
	"lies beside the socket as SOCKET.stats. Without it: that of GPUQ_DEVICE, of "             \
	"GPUQ_BROKER, or\n"                                                                        \
	"gpuqd's own default.\n"

enum { DAEMON_PATH = 300 };

/* What a look at a page has found. */
struct look {
	struct page_view v;
	uint64_t at_ns;  /* when */
	uint64_t age_ns; /* since gpuqd has written last */
	uint32_t owner;  /* the user whose file the page is */
	bool dead;       /* the gpuqd that made the page is gone */
	bool stale;      /* it is there, and has not written for too long */
};

/* Where the page is, by what the command line says (NULL: nothing). Returns an exit code. */
int daemon_find(const char *command, const char *where, char path[DAEMON_PATH]);

/* Opens it, looks once, closes it: a gpuqd that has been started anew has another page. Returns an
 * exit code, and has said why. */
int daemon_look(const char *path, struct look *out);

/* All of a command that looks once and shows it: its words ([-j] [-h] [SOCKET]), the page, the
 * look. Returns -1: *out is to be shown, as JSON if *json; else the command's exit code. */
int daemon_look_once(const char *command, const char *help, int argc, char **argv, struct look *out,
		     bool *json);

/* "serving", "draining", "stale", "dead", ... */
const char *daemon_state(const struct look *l);

/* Whether a thread hangs that wrote a section then. @param ended  whether it has ended since, as
 * gpuqd drains: page_daemon's queues_ended, services_ended */
bool daemon_hangs(const struct look *l, uint64_t turned_ns, uint64_t ended);

/* ---- status.c: what there is to see, as text and as a line of JSON ---- */

void status_head(const struct look *l, char *line, size_t room);
void status_text(const struct look *l);
void status_json(const struct look *l);
/* "name":"text" */
void status_json_text(const char *name, const char *text);

/* ---- top_lines.c ---- */

enum top_sort { TOP_BY_RATE, TOP_BY_NAME, TOP_BY_INSIDE, TOP_SORTS };

struct top_view {
	enum top_sort sort;
	bool clients; /* in place of queues */
	struct look now, before;
	bool has_before; /* of the same gpuqd */
};

/* A line of the table; `heading`: of its first ones. */
typedef void top_line_fn(void *user, const char *line, bool heading);
void top_lines(struct top_view *t, top_line_fn *emit, void *user);

/* ---- top_screen.c ---- */

/* On the whole terminal, until somebody has had enough. Returns an exit code; -1: this terminal, or
 * this build, has no screen. */
int top_screen(struct top_view *t, const char *path, uint32_t interval_ms, uint64_t count);

#endif /* GPUQ_CLI_DAEMON_H */
