/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - the text of a page of metrics: Prometheus's format, version 0.0.4. */
#define _GNU_SOURCE
#include "metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double metrics_seconds[METRICS_SECONDS] = {
	0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
	0.1,     0.25,   0.5,     1,      2.5,   5,      10,    25,   30,
};

const double metrics_items[METRICS_ITEMS] = { 1,   2,    4,    8,    16,   32,    64,    128,  256,
					      512, 1024, 2048, 4096, 8192, 16384, 32768, 65536 };

static void add(struct metrics_page *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void add(struct metrics_page *p, const char *format, ...)
{
	char line[512];
	va_list args;
	int len;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has been started */
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof(line) || p->failed) {
		p->failed = true;
		return;
	}
	if (p->used + (size_t)len + 1 > p->room) {
		const size_t room = p->room == 0 ? 8192 : 2 * p->room;
		char *larger = realloc(p->text, room);

		if (!larger) {
			p->failed = true;
			return;
		}
		p->text = larger;
		p->room = room;
	}
	memcpy(p->text + p->used, line, (size_t)len + 1);
	p->used += (size_t)len;
}

/* Backslash, quote and newline would end the text. */
static void escape(const char *text, char *to, size_t room)
{
	size_t used = 0;

	for (; *text != '\0' && used + 3 < room; text++) {
		if (*text == '\\' || *text == '"' || *text == '\n')
			to[used++] = '\\';
		to[used++] = (char)(*text == '\n' ? 'n' : *text);
	}
	to[used] = '\0';
}

void metrics_add(struct metrics_histogram *h, double value)
{
	uint32_t i = 0;

	while (i < h->count && value > h->bounds[i])
		i++;
	h->buckets[i]++;
	h->sum += value;
}

void metrics_begin(struct metrics_page *p, const char *name, const char *type, const char *help)
{
	add(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_value(struct metrics_page *p, const char *name, const char *label, const char *text,
		   double value)
{
	char escaped[256];

	if (label) {
		escape(text, escaped, sizeof(escaped));
		add(p, "%s{%s=\"%s\"} ", name, label, escaped);
	} else {
		add(p, "%s ", name);
	}
	if (isnan(value))
		add(p, "NaN\n");
	else
		add(p, "%.17g\n", value);
}

void metrics_label(struct metrics_labels *l, const char *label, const char *text)
{
	char escaped[256];
	int n;

	escape(text, escaped, sizeof(escaped));
	n = snprintf(l->text + l->used, sizeof(l->text) - l->used, "%s%s=\"%s\"",
		     l->used != 0 ? "," : "", label, escaped);
	l->used = n > 0 && (size_t)n < sizeof(l->text) - l->used ? l->used + (size_t)n
								 : sizeof(l->text);
}

void metrics_labelled(struct metrics_page *p, const char *name, const struct metrics_labels *l,
		      double value)
{
	if (l->used >= sizeof(l->text))
		p->failed = true;
	else if (isnan(value))
		add(p, "%s{%s} NaN\n", name, l->text);
	else
		add(p, "%s{%s} %.17g\n", name, l->text, value);
}

void metrics_log_linear(struct metrics_page *p, const char *name, const struct metrics_labels *l,
			const uint64_t buckets[HISTOGRAM_BUCKETS], double sum_ns)
{
	const char *comma = l->used != 0 ? "," : "";
	uint64_t sum = 0;
	uint32_t at = 0;

	if (l->used >= sizeof(l->text))
		p->failed = true;
	for (uint32_t i = 0; i < METRICS_SECONDS; i++) {
		const uint64_t bound_ns = (uint64_t)(metrics_seconds[i] * 1e9 + 0.5);

		for (; at < HISTOGRAM_BUCKETS && histogram_bound(at) <= bound_ns; at++)
			sum += buckets[at];
		add(p, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, l->text, comma, metrics_seconds[i],
		    (unsigned long long)sum);
	}
	for (; at < HISTOGRAM_BUCKETS; at++)
		sum += buckets[at];
	add(p, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, l->text, comma, (unsigned long long)sum);
	add(p, "%s_sum{%s} %.17g\n%s_count{%s} %llu\n", name, l->text, sum_ns * 1e-9, name, l->text,
	    (unsigned long long)sum);
}

/* Whether a line is "# TYPE NAME_total counter", or the HELP of such a name: then where _total is.
 */
static const char *total_of(const char *line)
{
	const char *name, *end;

	if (strncmp(line, "# HELP ", 7) != 0 && strncmp(line, "# TYPE ", 7) != 0)
		return NULL;
	name = line + 7;
	end = name + strcspn(name, " \n");
	return end - name > 6 && strncmp(end - 6, "_total", 6) == 0 ? end - 6 : NULL;
}

char *metrics_openmetrics(const char *page)
{
	static const char eof[] = "# EOF\n";
	char *text = malloc(strlen(page) + sizeof(eof)), *to = text;

	while (text && *page != '\0') {
		const char *total = total_of(page);
		const char *end = strchr(page, '\n');
		const size_t len = end ? (size_t)(end + 1 - page) : strlen(page);
		const size_t head = total ? (size_t)(total - page) : len;

		memcpy(to, page, head);
		to += head;
		if (total) {
			memcpy(to, total + 6, len - head - 6);
			to += len - head - 6;
		}
		page += len;
	}
	if (text)
		memcpy(to, eof, sizeof(eof));
	return text;
}

void metrics_buckets(struct metrics_page *p, const char *name, const struct metrics_histogram *h)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < h->count; i++) {
		sum += h->buckets[i];
		add(p, "%s_bucket{le=\"%g\"} %llu\n", name, h->bounds[i], (unsigned long long)sum);
	}
	sum += h->buckets[h->count];
	add(p, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.17g\n%s_count %llu\n", name,
	    (unsigned long long)sum, name, h->sum, name, (unsigned long long)sum);
}

void metrics_free(struct metrics_page *p)
{
	free(p->text);
	*p = (struct metrics_page){ .used = 0 };
}
