/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - what `gpuq run` says on the standard error while it runs. */
#define _GNU_SOURCE
#include "cli.h"
#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void report(struct run *r, const struct origin *at, const char *format, ...)
{
	const char *name = r->options->files[at->file];
	const unsigned long long number = at->number;
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	progress_clear(&r->progress);
	switch (r->options->split) {
	case SPLIT_LINES:
	case SPLIT_NUL:
		warn_line("%s:%llu: %s", name, number, text);
		break;
	case SPLIT_BYTES:
		warn_line("%s: offset %llu: %s", name, number, text);
		break;
	case SPLIT_FILES:
		warn_line("%s: %s", name, text);
		break;
	}
}

static void report_file(struct run *r, uint32_t file, const char *what)
{
	progress_clear(&r->progress);
	warn_line("%s: %s", r->options->files[file], what);
}

static void report_too_long(struct run *r, const struct trouble *t)
{
	const bool file = r->options->split == SPLIT_FILES;
	const char *what = file ? "file" : r->options->split == SPLIT_NUL ? "message" : "line";

	report(r, &t->at, "%s of %s%llu bytes is longer than the %u of --slot-bytes", what,
	       t->at_least ? "at least " : "", (unsigned long long)t->bytes, r->plan.slot_bytes);
}

static void report_unreadable(struct run *r, const struct trouble *t)
{
	char what[160];

	if (t->open == INPUT_IS_SINK)
		snprintf(what, sizeof(what), "input file is output file");
	else if (t->open == INPUT_UNOPENED)
		snprintf(what, sizeof(what), "cannot open: %s", strerror(t->error));
	else if (t->at.number > 0)
		snprintf(what, sizeof(what), "cannot read on from offset %llu: %s",
			 (unsigned long long)t->at.number, strerror(t->error));
	else
		snprintf(what, sizeof(what), "cannot read: %s", strerror(t->error));
	report_file(r, t->at.file, what);
}

void report_trouble(struct run *r, const struct trouble *t)
{
	if (t->kind == FAILURE_TOO_LONG) {
		report_too_long(r, t);
		r->counts.failures.too_long++;
		return;
	}
	report_unreadable(r, t);
	r->counts.bad_files++;
	if (r->options->split == SPLIT_FILES)
		r->counts.failures.unreadable++;
}

void report_broken_queue(struct run *r, const char *call, QueueStatus status)
{
	const char *why = q_last_error();

	if (r->queue_broke)
		return;
	r->queue_broke = true;
	progress_clear(&r->progress);
	warn_line("%s failed: %s", call, why[0] != '\0' ? why : q_status_string(status));
}
