/* SPDX-License-Identifier: Apache-2.0 */
/* line.c - a line at the bottom of a terminal. */
#define _GNU_SOURCE
#include "line.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

size_t line_room(void)
{
	struct winsize window;
	size_t columns = 80;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
		columns = window.ws_col;
	if (columns > LINE_COLUMNS_MOST)
		columns = LINE_COLUMNS_MOST;
	return columns - 1; /* the last column would wrap on some terminals */
}

void line_draw(struct line *l, const char *text, uint64_t now_ns)
{
	const size_t room = line_room();
	size_t length = strlen(text);

	if (length > room)
		length = room;
	/* Spaces wipe what a longer line left behind: every terminal knows them. */
	fprintf(stderr, "\r%.*s%*s", (int)length, text,
		l->columns > length ? (int)(l->columns - length) : 0, "");
	fflush(stderr);
	l->columns = length > l->columns ? length : l->columns;
	l->drawn_ns = now_ns;
}

void line_clear(struct line *l)
{
	if (l->columns == 0)
		return;
	fprintf(stderr, "\r%*s\r", (int)l->columns, "");
	fflush(stderr);
	l->columns = 0;
}
