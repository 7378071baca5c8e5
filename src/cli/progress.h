/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - a progress bar on stderr. */
#ifndef GPUQ_CLI_PROGRESS_H
#define GPUQ_CLI_PROGRESS_H

#include "program/line.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_INTERVAL_NS 100000000u /* redrawn at most ten times a second */

struct progress {
	bool enabled;
	bool has_total; /* total_bytes is known */
	uint64_t total_bytes;
	uint64_t start_ns;
	struct line line;
};

/** Draw the bar if its time has come. */
void progress_update(struct progress *p, uint64_t done_bytes, uint64_t messages, uint64_t now_ns);

/** The bar as text: at most `columns` long where that is 20 or more. `size` of 300 is enough. */
void progress_compose(const struct progress *p, char *line, size_t size, size_t columns,
		      uint64_t done_bytes, uint64_t messages, double seconds);

/** Take the bar off the screen, so that something else can be printed. */
void progress_clear(struct progress *p);

#endif /* GPUQ_CLI_PROGRESS_H */
