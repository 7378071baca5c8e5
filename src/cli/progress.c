/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - a progress bar on stderr, and amounts in words for people. */
#define _GNU_SOURCE
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_COLUMNS 200

const char *format_bytes(char *to, size_t size, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	size_t unit = 0;

	while (bytes >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		unit++;
	}
	snprintf(to, size, unit == 0 || bytes >= 99.95 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
	return to;
}

const char *format_duration(char *to, size_t size, uint64_t ns)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	double value = (double)ns;
	size_t unit = 0;

	while (value >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1000;
		unit++;
	}
	snprintf(to, size, unit == 0 || value >= 99.95 ? "%.0f %s" : "%.3g %s", value, units[unit]);
	return to;
}

/* As "0:07", "12:34", "1:02:03". */
static const char *format_clock(char *to, size_t size, uint64_t seconds)
{
	const unsigned int s = (unsigned int)(seconds % 60);
	const unsigned int m = (unsigned int)(seconds / 60 % 60);
	const unsigned long long h = seconds / 3600;

	if (h > 9999)
		snprintf(to, size, "--:--");
	else if (h > 0)
		snprintf(to, size, "%llu:%02u:%02u", h, m, s);
	else
		snprintf(to, size, "%u:%02u", m, s);
	return to;
}

static size_t terminal_columns(void)
{
	struct winsize window;
	size_t columns = 80;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
		columns = window.ws_col;
	if (columns > MAX_COLUMNS)
		columns = MAX_COLUMNS;
	return columns - 1; /* the last column would wrap on some terminals */
}

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
	char line[MAX_COLUMNS + 100];
	double seconds;
	size_t columns;
	size_t length;

	if (!p->enabled || (p->drawn_ns != 0 && now_ns - p->drawn_ns < PROGRESS_INTERVAL_NS))
		return;
	seconds = (double)(now_ns - p->start_ns) * 1e-9;
	if (seconds < 1e-3)
		seconds = 1e-3;
	columns = terminal_columns();
	progress_compose(p, line, sizeof(line), columns, done_bytes, messages, seconds);
	length = strlen(line);
	if (length > columns)
		length = columns;
	/* Spaces wipe what a longer line left behind: every terminal knows them. */
	fprintf(stderr, "\r%.*s%*s", (int)length, line,
		p->columns > length ? (int)(p->columns - length) : 0, "");
	fflush(stderr);
	p->columns = length > p->columns ? length : p->columns;
	p->drawn_ns = now_ns;
}

void progress_clear(struct progress *p)
{
	if (p->columns == 0)
		return;
	fprintf(stderr, "\r%*s\r", (int)p->columns, "");
	fflush(stderr);
	p->columns = 0;
}
