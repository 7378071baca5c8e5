/* SPDX-License-Identifier: Apache-2.0 */
/* summary.c - the summary that `gpuq run` ends with. */
#include "progress.h"
#include "run.h"

#include <stdio.h>

uint64_t run_failed_messages(const struct run_counts *counts)
{
	const struct run_failures *f = &counts->failures;

	return f->too_long + f->unreadable + f->failed + f->expired + f->cancelled + f->other;
}

static void print_latency(const struct histogram *h)
{
	static const struct {
		const char *name;
		uint32_t numerator;
		uint32_t denominator;
	} quantiles[] = {
		{ "p50", 50, 100 }, { "p90", 90, 100 }, { "p99", 99, 100 }, { "p99.9", 999, 1000 }
	};
	char text[16];

	fputs("  latency   ", stderr);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		const uint64_t ns =
			histogram_quantile(h, quantiles[i].numerator, quantiles[i].denominator);

		fprintf(stderr, "%s %s, ", quantiles[i].name,
			format_duration(text, sizeof(text), ns));
	}
	fprintf(stderr, "max %s (enqueue to result seen)\n",
		format_duration(text, sizeof(text), h->max));
}

static void print_failures(const struct run_counts *counts)
{
	const struct run_failures *f = &counts->failures;
	const struct {
		uint64_t count;
		const char *what;
	} kinds[] = {
		{ f->too_long, "too long" },
		{ f->unreadable, "unreadable" },
		{ f->failed, "failed by the processor" },
		{ f->expired, "expired" },
		{ f->cancelled, "cancelled" },
		{ f->other, "lost with the device" },
	};
	const char *separator = " (";

	fprintf(stderr, "  failures  %llu", (unsigned long long)run_failed_messages(counts));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].count == 0)
			continue;
		fprintf(stderr, "%s%llu %s", separator, (unsigned long long)kinds[i].count,
			kinds[i].what);
		separator = ", ";
	}
	fputs(run_failed_messages(counts) > 0 ? ")\n" : "\n", stderr);
	if (counts->bad_files > 0)
		fprintf(stderr, "  bad files %llu\n", (unsigned long long)counts->bad_files);
}

void run_print_summary(const struct run_counts *counts, const QueueInfo *info, uint64_t elapsed_ns,
		       int interrupted, bool reader_gone)
{
	const double seconds = elapsed_ns > 0 ? (double)elapsed_ns * 1e-9 : 1e-9;
	char amount[16];
	char elapsed[16];

	if (interrupted != 0)
		fprintf(stderr, "gpuq: interrupted after %llu messages\n",
			(unsigned long long)counts->messages);
	else if (reader_gone)
		fprintf(stderr, "gpuq: the output was closed after %llu messages\n",
			(unsigned long long)counts->messages);
	fprintf(stderr, "gpuq: %s on %s, %u consumer%s, %u slots of %u bytes\n", info->processor,
		info->device_name, info->consumers, info->consumers == 1 ? "" : "s", info->capacity,
		info->slot_bytes);
	fprintf(stderr, "  messages  %llu\n", (unsigned long long)counts->messages);
	fprintf(stderr, "  input     %llu bytes (%s)\n", (unsigned long long)counts->input_bytes,
		format_bytes(amount, sizeof(amount), (double)counts->input_bytes));
	fprintf(stderr, "  results   %llu bytes (%s)\n", (unsigned long long)counts->result_bytes,
		format_bytes(amount, sizeof(amount), (double)counts->result_bytes));
	fprintf(stderr, "  rate      %.0f messages/s, %.1f MB/s, in %s\n",
		(double)counts->messages / seconds, (double)counts->input_bytes / seconds * 1e-6,
		format_duration(elapsed, sizeof(elapsed), elapsed_ns));
	if (counts->latency.count > 0)
		print_latency(&counts->latency);
	print_failures(counts);
}

void run_print_trace(const TraceSummary *trace, const char *path)
{
	static const char *const names[] = { "enqueue", "wait", "process", "notice", "total" };
	char p50[16], p90[16], p99[16], p999[16], max[16];

	fprintf(stderr, "  trace     %llu messages in %s", (unsigned long long)trace->recorded,
		path);
	if (trace->dropped > 0)
		fprintf(stderr, ", %llu more left out", (unsigned long long)trace->dropped);
	fputc('\n', stderr);
	for (int i = 0; i < Q_STAGES; i++) {
		const TraceStage *stage = &trace->stage[i];

		fprintf(stderr, "    %-7s p50 %s, p90 %s, p99 %s, p99.9 %s, max %s\n", names[i],
			format_duration(p50, sizeof(p50), stage->p50_ns),
			format_duration(p90, sizeof(p90), stage->p90_ns),
			format_duration(p99, sizeof(p99), stage->p99_ns),
			format_duration(p999, sizeof(p999), stage->p999_ns),
			format_duration(max, sizeof(max), stage->max_ns));
	}
}
