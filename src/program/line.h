/* SPDX-License-Identifier: Apache-2.0 */
/* line.h - a line at the bottom of a terminal, on stderr, that is drawn again and again. */
#ifndef GPUQ_PROGRAM_LINE_H
#define GPUQ_PROGRAM_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_COLUMNS_MOST 200

struct line {
	uint64_t drawn_ns; /* last time; 0: never */
	size_t columns;    /* what is on the screen now; 0: nothing */
};

/** Columns that a line may take; 79 where nobody knows. */
size_t line_room(void);

/** Draw it in place of the one before: what has no room is cut off. */
void line_draw(struct line *l, const char *text, uint64_t now_ns);

/** Take it off the screen, so that something else can be printed. */
void line_clear(struct line *l);

#endif /* GPUQ_PROGRAM_LINE_H */
