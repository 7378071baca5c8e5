/* SPDX-License-Identifier: Apache-2.0 */
/* top_screen.c - `gpuq top` on a whole terminal, by ncurses. */
#define _GNU_SOURCE
#include "cli.h"
#include "daemon.h"

#if defined(GPUQ_HAVE_NCURSES)

#include "program/signals.h"

#include <curses.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static void draw_line(void *user, const char *line, bool heading)
{
	int *row = user;

	if (*row >= LINES - 1)
		return;
	if (heading)
		attron(A_REVERSE);
	mvaddnstr((*row)++, 0, line, COLS);
	if (heading)
		attroff(A_REVERSE);
}

static void draw(struct top_view *t)
{
	static const char *const sorts[TOP_SORTS] = { "rate", "name", "inside" };
	char keys[100];
	int row = 0;

	erase();
	top_lines(t, draw_line, &row);
	snprintf(keys, sizeof(keys), "q quit  s sorted by %s  c %s", sorts[t->sort],
		 t->clients ? "queues" : "clients");
	mvaddnstr(LINES - 1, 0, keys, COLS);
	refresh();
}

/* @return false: that was enough */
static bool obey_key(struct top_view *t, int key)
{
	switch (key) {
	case 'q':
		return false;
	case 's':
		t->sort = (enum top_sort)((t->sort + 1) % TOP_SORTS);
		return true;
	case 'c':
		t->clients = !t->clients;
		return true;
	default:
		return true; /* KEY_RESIZE among them: all is drawn anew */
	}
}

/* Until the next look is due. @return false: that was enough */
static bool listen_to_keys(struct top_view *t, uint64_t until_ns)
{
	struct pollfd what[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
				  { .fd = signals_fd(), .events = POLLIN } };

	for (;;) {
		const uint64_t now_ns = clock_ns();
		int key;

		if (now_ns >= until_ns)
			return true;
		(void)poll(what, 2, (int)((until_ns - now_ns) / 1000000 + 1));
		if (signals_caught() != 0 || (what[0].revents & (POLLHUP | POLLERR)) != 0)
			return false;
		while ((key = getch()) != ERR) {
			if (!obey_key(t, key))
				return false;
			draw(t);
		}
	}
}

int top_screen(struct top_view *t, const char *path, uint32_t interval_ms, uint64_t count)
{
	int code = daemon_look(path, &t->now);
	SCREEN *screen;
	FILE *terminal;

	if (code != CLI_OK)
		return code;
	if (!signals_init())
		return -1;
	terminal = fdopen(STDOUT_FILENO, "w"); /* stdout has none: see standard_descriptors() */
	screen = terminal ? newterm(NULL, terminal, stdin) : NULL;
	if (!screen)
		return -1;
	cbreak();
	noecho();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	curs_set(0);
	for (uint64_t i = 1;; i++) {
		draw(t);
		if ((count != 0 && i >= count) ||
		    !listen_to_keys(t, clock_ns() + interval_ms * UINT64_C(1000000)))
			break;
		t->before = t->now;
		code = daemon_look(path, &t->now); /* a line on stderr is drawn over: it is gone */
		if (code != CLI_OK)
			break;
	}
	endwin();
	delscreen(screen);
	return signals_caught() != 0 ? 128 + signals_caught() : code;
}

#else

int top_screen(struct top_view *t, const char *path, uint32_t interval_ms, uint64_t count)
{
	(void)t;
	(void)path;
	(void)interval_ms;
	(void)count;
	return -1;
}

#endif
