/* SPDX-License-Identifier: Apache-2.0 */
/* watch_line.h - the line that a worker shows on a terminal. Pure. */
#ifndef GPUQ_REDIS_WATCH_LINE_H
#define GPUQ_REDIS_WATCH_LINE_H

#include <stddef.h>

/* What the line shows. */
struct watch_line {
	double rate;
	double done;
	double pending; /* NAN: not known */
	double lag;     /* NAN: not known */
	double batch;   /* the mean of them all */
	double redelivered;
};

/** Pure: the line, at most `columns` long where that is 20 or more. `size` of 200 is enough. */
void watch_compose(const struct watch_line *l, char *to, size_t size, size_t columns);

#endif /* GPUQ_REDIS_WATCH_LINE_H */
