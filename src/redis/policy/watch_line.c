/* SPDX-License-Identifier: Apache-2.0 */
/* watch_line.c - the line that a worker shows on a terminal. Pure. */
#include "watch_line.h"

#include "program/amounts.h"

#include <math.h>
#include <stdio.h>

static const char *known(char *to, size_t size, double count)
{
	if (isnan(count)) {
		snprintf(to, size, "?");
		return to;
	}
	return format_count(to, size, count);
}

/* What has no room is left out, the least important first. */
void watch_compose(const struct watch_line *l, char *to, size_t size, size_t columns)
{
	char rate[16];
	char done[16];
	char pending[16];
	char lag[16];
	char batch[16];
	char again[16];
	int used;

	format_count(rate, sizeof(rate), l->rate);
	format_count(done, sizeof(done), l->done);
	known(pending, sizeof(pending), l->pending);
	known(lag, sizeof(lag), l->lag);
	format_count(batch, sizeof(batch), l->batch);
	format_count(again, sizeof(again), l->redelivered);
	used = snprintf(to, size, "%s/s  %s done  %s pending  %s behind  batch %s  %s redelivered",
			rate, done, pending, lag, batch, again);
	if ((size_t)used > columns)
		used = snprintf(to, size, "%s/s pend %s lag %s batch %s re %s", rate, pending, lag,
				batch, again);
	if ((size_t)used > columns)
		used = snprintf(to, size, "%s/s p%s l%s b%s r%s", rate, pending, lag, batch, again);
	if ((size_t)used > columns)
		snprintf(to, size, "%s/s lag %s", rate, lag);
}
