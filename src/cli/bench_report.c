/* SPDX-License-Identifier: Apache-2.0 */
/* bench_report.c - what `gpuq bench` prints: a table for people, CSV, JSON, a plot. */
#define _GNU_SOURCE
#include "bench.h"

#include "program/amounts.h"
#include "program/program.h"

#include <inttypes.h>

static const struct {
	const char *name;
	uint32_t numerator, denominator;
} quantiles[] = {
	{ "p50", 50, 100 }, { "p90", 90, 100 }, { "p99", 99, 100 }, { "p999", 999, 1000 }
};
enum { QUANTILES = sizeof(quantiles) / sizeof(quantiles[0]) };

static bool first_row, has_loop[2]; /* closed, open */

static const char *arrivals_of(const struct bench_plan *plan)
{
	return plan->arrivals == BENCH_POISSON ? "poisson" : "constant";
}

/* Names of devices and processors come from elsewhere: no sign of theirs ends a string. */
static void print_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == '"' || *text == '\\')
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	}
	putchar('"');
}

/* ---- a plot: the figures, and then how they are drawn -----------------------------------------
 */

/* Between single quotes there is no sign for anything but itself. */
static void print_title(const char *text)
{
	for (; *text != '\0'; text++)
		putchar((unsigned char)*text < ' ' || *text == '\'' ? '?' : *text);
}

static void print_plot_row(const struct bench_row *row)
{
	has_loop[row->load.concurrency != 0 ? 0 : 1] = true;
	/* 1 and messages outstanding, or 2 and messages offered a second */
	if (row->load.concurrency != 0)
		printf("1 %" PRIu32, row->load.concurrency);
	else
		printf("2 %.17g", row->load.rate);
	printf(" %.6g", row->per_second);
	for (int i = 0; i < QUANTILES; i++)
		printf(" %.6g", (double)histogram_quantile(&row->latency, quantiles[i].numerator,
							   quantiles[i].denominator) /
					1e3);
	printf(" %.6g\n", (double)row->latency.max / 1e3);
}

static void print_plot(void)
{
	static const char *const loop[] = { "closed", "open" };
	bool first = true;

	printf("EOD\n"
	       "set terminal svg size 900,540 dynamic background rgb 'white'\n"
	       "set logscale xy\n"
	       "set xlabel 'messages ended a second'\n"
	       "set ylabel 'latency, us'\n"
	       "set key left top\n"
	       "set grid\n"
	       "plot ");
	for (int k = 0; k < 2; k++) {
		for (int i = 0; has_loop[k] && i < QUANTILES; i++) {
			printf("%s$load using ($1 == %d ? $3 : NaN):%d with linespoints dashtype "
			       "%d title '%s loop, %s'",
			       first ? "" : ", \\\n  ", k + 1, 4 + i, k + 1, loop[k],
			       quantiles[i].name);
			first = false;
		}
	}
	printf("\n");
}

/* ---- all of them ---------------------------------------------------------------------------- */

void bench_report_begin(enum bench_format format, GpuQueue *q, const struct bench_plan *plan)
{
	QueueInfo info = { 0 };

	(void)q_info(q, &info);
	first_row = true;
	switch (format) {
	case BENCH_TABLE:
		printf("processor %s on %s, %" PRIu32 " bytes a message, %" PRIu32
		       " a call; open loops: %s arrivals\n\n"
		       "%12s %12s %10s %8s %8s %8s %8s %8s %7s  %s\n",
		       info.processor, info.device_name, plan->bytes, plan->batch,
		       arrivals_of(plan), "outstanding", "offered/s", "ended/s", "p50", "p90",
		       "p99", "p99.9", "most", "failed", "windows");
		break;
	case BENCH_CSV:
		printf("concurrency,offered_per_s,arrivals,bytes,batch,per_s,p50_ns,p90_ns,p99_ns,"
		       "p999_ns,max_ns,messages,failed,windows,stable,kept_up\n");
		break;
	case BENCH_GNUPLOT:
		printf("set title '");
		print_title(info.processor);
		printf(" on ");
		print_title(info.device_name);
		printf(", %" PRIu32 " bytes a message, %" PRIu32
		       " a call; open loops: %s arrivals' noenhanced\n"
		       "# loop, outstanding or offered/s, ended/s, p50, p90, p99, p99.9, most: us\n"
		       "$load << EOD\n",
		       plan->bytes, plan->batch, arrivals_of(plan));
		break;
	case BENCH_JSON:
		printf("{\"processor\":");
		print_string(info.processor);
		printf(",\"device\":");
		print_string(info.device_name);
		printf(",\"bytes\":%" PRIu32 ",\"batch\":%" PRIu32
		       ",\"arrivals\":\"%s\",\"loads\":[",
		       plan->bytes, plan->batch, arrivals_of(plan));
		break;
	}
	(void)flush_output();
}

static void print_table_row(const struct bench_row *row)
{
	char a[16], b[16];

	if (row->load.concurrency != 0)
		printf("%12" PRIu32 " %12s", row->load.concurrency, "-");
	else
		printf("%12s %12s", "-", format_count(a, sizeof(a), row->load.rate));
	printf(" %10s", format_count(b, sizeof(b), row->per_second));
	for (int i = 0; i < QUANTILES; i++)
		printf(" %8s",
		       format_duration(a, sizeof(a),
				       histogram_quantile(&row->latency, quantiles[i].numerator,
							  quantiles[i].denominator)));
	printf(" %8s %7" PRIu64 "  %" PRIu32 "%s%s\n",
	       format_duration(a, sizeof(a), row->latency.max), row->failed, row->windows,
	       row->stable ? "" : ", which do not agree", row->kept_up ? "" : ", falls behind");
	(void)flush_output();
}

static void print_csv_row(const struct bench_plan *plan, const struct bench_row *row)
{
	printf("%" PRIu32 ",%.17g,%s,%" PRIu32 ",%" PRIu32 ",%.6g", row->load.concurrency,
	       row->load.rate, row->load.concurrency != 0 ? "" : arrivals_of(plan), plan->bytes,
	       plan->batch, row->per_second);
	for (int i = 0; i < QUANTILES; i++)
		printf(",%" PRIu64, histogram_quantile(&row->latency, quantiles[i].numerator,
						       quantiles[i].denominator));
	printf(",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%d,%d\n", row->latency.max,
	       row->messages, row->failed, row->windows, row->stable, row->kept_up);
}

static void print_json_row(const struct bench_row *row)
{
	if (row->load.concurrency != 0)
		printf("%s\n{\"concurrency\":%" PRIu32, first_row ? "" : ",",
		       row->load.concurrency);
	else
		printf("%s\n{\"offered_per_s\":%.17g", first_row ? "" : ",", row->load.rate);
	printf(",\"per_s\":%.6g", row->per_second);
	for (int i = 0; i < QUANTILES; i++)
		printf(",\"%s_ns\":%" PRIu64, quantiles[i].name,
		       histogram_quantile(&row->latency, quantiles[i].numerator,
					  quantiles[i].denominator));
	printf(",\"max_ns\":%" PRIu64 ",\"messages\":%" PRIu64 ",\"failed\":%" PRIu64
	       ",\"windows\":%" PRIu32 ",\"stable\":%s,\"kept_up\":%s}",
	       row->latency.max, row->messages, row->failed, row->windows,
	       row->stable ? "true" : "false", row->kept_up ? "true" : "false");
}

void bench_report_row(enum bench_format format, const struct bench_plan *plan,
		      const struct bench_row *row)
{
	if (format == BENCH_TABLE)
		print_table_row(row);
	else if (format == BENCH_CSV)
		print_csv_row(plan, row);
	else if (format == BENCH_GNUPLOT)
		print_plot_row(row);
	else
		print_json_row(row);
	first_row = false;
}

void bench_report_end(enum bench_format format)
{
	if (format == BENCH_JSON)
		printf("]}\n");
	else if (format == BENCH_GNUPLOT)
		print_plot();
}
