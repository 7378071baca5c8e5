/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - a progress bar on stderr. */
#include "progress.h"

#include "program/amounts.h"

#include <stdio.h>
#include <string.h>

/* Without a known total: amount, rate, messages, time; what has no room is left out. */
static void compose_open_end(char *line, size_t size, size_t columns, uint64_t done,
			     uint64_t messages, double seconds)
{
	char amount[16];
	char rate[16];
	char clock[16];
	int used;

	format_bytes(amount, sizeof(amount), (double)done);
	format_bytes(rate, sizeof(rate), (double)done / seconds);
	format_clock(clock, sizeof(clock), (uint64_t)seconds);
	used = snprintf(line, size, "%8s  %9s/s  %llu messages  %s", amount, rate,
			(unsigned long long)messages, clock);
	if ((size_t)used > columns)
		used = snprintf(line, size, "%s  %s/s  %s", amount, rate, clock);
	if ((size_t)used > columns)
		snprintf(line, size, "%s  %s", amount, clock);
}

/* " [====>    ]" of `cells` cells between the brackets. Returns its length. */
static size_t draw_bar(char *to, size_t cells, double share)
{
	const size_t filled = (size_t)(share * (double)cells);
	char *at = to;

	*at++ = ' ';
	*at++ = '[';
	memset(at, '=', filled);
	if (filled < cells)
		at[filled] = '>';
	if (filled + 1 < cells)
		memset(at + filled + 1, ' ', cells - filled - 1);
	at += cells;
	*at++ = ']';
	*at = '\0';
	return (size_t)(at - to);
}

/* What stands behind share and bar, as much of it as has room. Returns its length. */
static size_t compose_tail(char *tail, size_t size, size_t room, uint64_t done, uint64_t total,
			   double seconds)
{
	const double rate = (double)done / seconds;
	char amount[16];
	char all[16];
	char speed[16];
	char clock[16] = "--:--";
	int used;

	if (rate > 0 && (double)(total - done) / rate < 1e9)
		format_clock(clock, sizeof(clock), (uint64_t)((double)(total - done) / rate + 0.5));
	format_bytes(amount, sizeof(amount), (double)done);
	format_bytes(all, sizeof(all), (double)total);
	format_bytes(speed, sizeof(speed), rate);
	used = snprintf(tail, size, " %s/%s  %s/s  ETA %s", amount, all, speed, clock);
	if ((size_t)used > room)
		used = snprintf(tail, size, " %s/%s %s/s %s", amount, all, speed, clock);
	if ((size_t)used > room)
		used = snprintf(tail, size, " %s/s ETA %s", speed, clock);
	if ((size_t)used > room)
		used = snprintf(tail, size, " ETA %s", clock);
	return (size_t)used;
}

static void compose_bar(char *line, size_t size, size_t columns, uint64_t done, uint64_t total,
			double seconds)
{
	const double share = total == 0 ? 1.0 : (double)done / (double)total;
	const size_t head = 4; /* "100%" */
	char tail[80];
	const size_t behind = compose_tail(tail, sizeof(tail), columns > head ? columns - head : 0,
					   done, total, seconds);
	size_t used = (size_t)snprintf(line, size, "%3u%%", (unsigned int)(share * 100));

	/* " [" and "]" around the bar; below ten cells it says nothing, so it is left out */
	if (columns >= head + behind + 3 + 10) {
		size_t cells = columns - head - behind - 3;

		if (cells > 40)
			cells = 40;
		used += draw_bar(line + used, cells, share);
	}
	snprintf(line + used, size - used, "%s", tail);
}

void progress_compose(const struct progress *p, char *line, size_t size, size_t columns,
		      uint64_t done_bytes, uint64_t messages, double seconds)
{
	/* A file that grows while it is read makes the total worthless. */
	if (p->has_total && done_bytes <= p->total_bytes)
		compose_bar(line, size, columns, done_bytes, p->total_bytes, seconds);
	else
		compose_open_end(line, size, columns, done_bytes, messages, seconds);
}

void progress_update(struct progress *p, uint64_t done_bytes, uint64_t messages, uint64_t now_ns)
{
	char line[LINE_COLUMNS_MOST + 100];
	double seconds;

	if (!p->enabled ||
	    (p->line.drawn_ns != 0 && now_ns - p->line.drawn_ns < PROGRESS_INTERVAL_NS))
		return;
	seconds = (double)(now_ns - p->start_ns) * 1e-9;
	if (seconds < 1e-3)
		seconds = 1e-3;
	progress_compose(p, line, sizeof(line), line_room(), done_bytes, messages, seconds);
	line_draw(&p->line, line, now_ns);
}

void progress_clear(struct progress *p)
{
	line_clear(&p->line);
}
