/* SPDX-License-Identifier: Apache-2.0 */
/* summary.c - the summary that `gpuq run` ends with. */
#include "summary.h"

#include "program/amounts.h"

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

void run_print_summary(const struct run_counts *counts, const QueueInfo *info,
		       const struct run_end *end)
{
	const double seconds = end->elapsed_ns > 0 ? (double)end->elapsed_ns * 1e-9 : 1e-9;
	char amount[16];
	char elapsed[16];

	if (end->interrupted == 0 && end->reader_gone)
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
		format_duration(elapsed, sizeof(elapsed), end->elapsed_ns));
	if (counts->latency.count > 0)
		print_latency(&counts->latency);
	print_failures(counts);
}

/* A string of JSON. Bytes that are no ASCII go as they are. */
static void print_json_string(const char *text)
{
	fputc('"', stderr);
	for (; *text != '\0'; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(stderr, "\\%c", c);
		else if (c < 0x20)
			fprintf(stderr, "\\u%04x", c);
		else
			fputc(c, stderr);
	}
	fputc('"', stderr);
}

static void print_json_latency(const struct histogram *h)
{
	fprintf(stderr,
		",\"latency_ns\":{\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"p99.9\":%llu,"
		"\"max\":%llu}",
		(unsigned long long)histogram_quantile(h, 50, 100),
		(unsigned long long)histogram_quantile(h, 90, 100),
		(unsigned long long)histogram_quantile(h, 99, 100),
		(unsigned long long)histogram_quantile(h, 999, 1000), (unsigned long long)h->max);
}

void run_print_json(const struct run_counts *counts, const QueueInfo *info,
		    const struct run_end *end)
{
	const struct run_failures *f = &counts->failures;

	fputs("{\"processor\":", stderr);
	print_json_string(info->processor);
	fputs(",\"device\":", stderr);
	print_json_string(info->device_name);
	fprintf(stderr, ",\"consumers\":%u,\"slots\":%u,\"slot_bytes\":%u,\"messages\":%llu",
		info->consumers, info->capacity, info->slot_bytes,
		(unsigned long long)counts->messages);
	fprintf(stderr, ",\"input_bytes\":%llu,\"result_bytes\":%llu,\"seconds\":%.6f",
		(unsigned long long)counts->input_bytes, (unsigned long long)counts->result_bytes,
		(double)end->elapsed_ns * 1e-9);
	print_json_latency(&counts->latency);
	fprintf(stderr,
		",\"failures\":{\"too_long\":%llu,\"unreadable\":%llu,\"failed\":%llu,"
		"\"expired\":%llu,\"cancelled\":%llu,\"other\":%llu}",
		(unsigned long long)f->too_long, (unsigned long long)f->unreadable,
		(unsigned long long)f->failed, (unsigned long long)f->expired,
		(unsigned long long)f->cancelled, (unsigned long long)f->other);
	fprintf(stderr, ",\"bad_files\":%llu,\"interrupted\":%d,\"reader_gone\":%s",
		(unsigned long long)counts->bad_files, end->interrupted,
		end->reader_gone ? "true" : "false");
	fprintf(stderr, ",\"exit_code\":%d}\n", end->exit_code);
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
