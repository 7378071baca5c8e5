/* SPDX-License-Identifier: Apache-2.0 */
/* count.h - what the programs share whose paths check_counts counts. */
#ifndef GPUQ_COUNT_H
#define GPUQ_COUNT_H

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* A path: callgrind collects in a function of such a name, and in what it calls. */
#define PATH(name)                                                                                 \
	__attribute__((noinline, noclone)) void path_##name(void);                                 \
	__attribute__((noinline, noclone)) void path_##name(void)

static inline void must(bool held, const char *what)
{
	if (held)
		return;
	fprintf(stderr, "%s: %s\n", what, q_last_error());
	exit(1);
}

enum { SIMULATED_BYTES = 32768, LINE_BYTES = 64 }; /* of check_counts' cache */

/* Fill that cache with other lines: a path then brings in every line that it touches, as if another
 * core had had it meanwhile. */
static inline void forget_lines(void)
{
	static char others[2 * SIMULATED_BYTES];

	for (size_t i = 0; i < sizeof(others); i += LINE_BYTES)
		(void)*(volatile char *)&others[i];
}

#endif /* GPUQ_COUNT_H */
