/* SPDX-License-Identifier: Apache-2.0 */
/* harness.c - see harness.h */
#include "harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

bool bench_smoke;
int bench_runs = BENCH_RUNS;
unsigned bench_pings = BENCH_PINGS;
unsigned bench_run_ms = 25;

static double near_ns = 120;
static uint64_t patience_ns; /* to wait for near cores, over the whole program */
static int far_runs;
static double before_ns;              /* the flag's round trip before a run */
static double floor_ns[BENCH_FLOORS]; /* of the latest runs that were kept: the slower of before and
					 after */
static unsigned floors;               /* how many have been noted */
static const char *const *groups;     /* asked for; none: all */
static int cpus[CPU_SETSIZE], cpu_count;

void bench_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("bench: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

uint64_t bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

double bench_ns_per_tick(void)
{
	static double cached;

	if (cached == 0.0) {
		const uint64_t begin = bench_now_ns(), ticks = bench_ticks();
		uint64_t now;

		do
			now = bench_now_ns();
		while (now - begin < 20000000u);
		cached = (double)(now - begin) / (double)(bench_ticks() - ticks);
	}
	return cached;
}

int bench_cpus(void)
{
	return cpu_count;
}

int bench_cpu(int n)
{
	return cpus[n % cpu_count];
}

void bench_pin(int n)
{
	const int cpu = bench_cpu(n);
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
		bench_die("cannot pin to CPU %d", cpu);
}

static double positive(const char *name, double fallback)
{
	const char *text = getenv(name);
	const double value = text != NULL ? atof(text) : fallback;

	if (!(value > 0 && value <= 1e6))
		bench_die("%s must be a positive number", name);
	return value;
}

void bench_begin(int argc, char **argv)
{
	const char *program = strrchr(argv[0], '/');
	cpu_set_t allowed;

	(void)argc;
	groups = (const char *const *)argv + 1;
	if (*groups != NULL && strcmp(*groups, "--smoke") == 0) {
		groups++;
		bench_smoke = true;
		bench_runs = 1;
		bench_pings = 50;
	}
	near_ns = positive("BENCH_NEAR_NS", near_ns);
	bench_run_ms = (unsigned)positive("BENCH_RUN_MS", bench_run_ms);
	patience_ns = (uint64_t)(positive("BENCH_PATIENCE_S", 10) * 1e9);
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		bench_die("sched_getaffinity");
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET((size_t)i, &allowed))
			cpus[cpu_count++] = i;
	if (cpu_count < 2 && !bench_smoke) {
		fputs("bench: two CPUs are needed\n", stderr);
		exit(BENCH_SKIPPED);
	}
	bench_pin(0);
	bench_settle();
	printf("{\"program\":\"%s\",\"compiler\":\"" COMPILER
	       "\",\"flags\":\"%s\",\"line_rtt_ns\":%.4g}\n",
	       program != NULL ? program + 1 : argv[0], BENCH_FLAGS,
	       bench_flag_bounce(NULL, bench_smoke ? 10 : 2000));
	fflush(stdout);
}

bool bench_wants(const char *group)
{
	for (const char *const *g = groups; *g != NULL; g++)
		if (strcmp(*g, group) == 0)
			return true;
	return *groups == NULL;
}

/* ---- the bare flag ------------------------------------------------------------------------- */

enum { FLAG_SKIP = 5 }; /* one round trip in so many comes before the clock starts */

static struct {
	_Alignas(BENCH_LINE) uint32_t word;
	_Alignas(BENCH_LINE) unsigned rounds;
} flag;

static void await(uint32_t value, bool yield)
{
	while (__atomic_load_n(&flag.word, __ATOMIC_ACQUIRE) != value)
		if (yield)
			sched_yield();
}

static void *flag_echo(void *arg)
{
	const bool yield = bench_smoke;

	bench_pin(1);
	for (uint32_t i = 0; i < flag.rounds; i++) {
		await(2 * i + 1, yield);
		__atomic_store_n(&flag.word, 2 * i + 2, __ATOMIC_RELEASE);
	}
	return arg;
}

double bench_flag_bounce(uint32_t *ticks, unsigned rounds)
{
	const bool yield = bench_smoke;
	const unsigned skip = rounds / FLAG_SKIP;
	uint64_t begin = 0, end;
	pthread_t tid;

	bench_pin(0);
	flag.word = 0;
	flag.rounds = rounds;
	if (pthread_create(&tid, NULL, flag_echo, NULL) != 0)
		bench_die("pthread_create");
	for (uint32_t i = 0; i < rounds; i++) {
		const uint64_t sent = ticks != NULL ? bench_ticks() : 0;

		if (i == skip)
			begin = bench_now_ns();
		__atomic_store_n(&flag.word, 2 * i + 1, __ATOMIC_RELEASE);
		await(2 * i + 2, yield);
		if (ticks != NULL)
			ticks[i] = (uint32_t)(bench_ticks() - sent);
	}
	end = bench_now_ns();
	pthread_join(tid, NULL);
	return (double)(end - begin) / (double)(rounds - skip);
}

void bench_settle(void)
{
	const uint64_t begin = bench_now_ns();
	uint64_t waited = 0;

	if (bench_smoke)
		return;
	while ((before_ns = bench_flag_bounce(NULL, 2000)) > near_ns && patience_ns > 0 &&
	       waited < 1000000000u)
		waited = bench_now_ns() - begin;
	patience_ns -= waited < patience_ns ? waited : patience_ns;
}

bool bench_is_far(int tries)
{
	double after_ns;

	if (bench_smoke)
		return false;
	after_ns = bench_flag_bounce(NULL, 2000);
	if (after_ns > near_ns) {
		far_runs++;
		if (tries < BENCH_MAX_FAR && patience_ns > 0)
			return true;
	}
	floor_ns[floors++ % BENCH_FLOORS] = after_ns > before_ns ? after_ns : before_ns;
	return false;
}

/* ---- statistics and output ------------------------------------------------------------------- */

static int by_double(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int by_u32(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void bench_sort(double *samples, size_t n)
{
	qsort(samples, n, sizeof(*samples), by_double);
}

static void print_array(const char *name, const double *values, int n)
{
	printf(",\"%s\":[", name);
	for (int i = 0; i < n; i++)
		printf("%s%.4g", i > 0 ? "," : "", values[i]);
	putchar(']');
}

/* What a figure is about, as members of a JSON object, then the figure. */
static void emit(const char *about, const char *metric, const char *unit, const double *samples)
{
	const int n = bench_runs;
	double sorted[BENCH_RUNS], median;

	memcpy(sorted, samples, (size_t)n * sizeof(*sorted));
	bench_sort(sorted, (size_t)n);
	median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
	printf("{%s,\"runs\":%d,\"metric\":\"%s\",\"unit\":\"%s\",\"median\":%.4g,\"min\":%.4g,"
	       "\"max\":%.4g,\"spread_pct\":%.1f,\"far_runs\":%d",
	       about, n, metric, unit, median, sorted[0], sorted[n - 1],
	       median > 0 ? 100 * (sorted[n - 1] - sorted[0]) / median : 0.0, far_runs);
	print_array("samples", samples, n);
	if (floors >= (unsigned)n) {
		double mine[BENCH_RUNS];

		for (int i = 0; i < n; i++)
			mine[i] = floor_ns[(floors - (unsigned)n + (unsigned)i) % BENCH_FLOORS];
		print_array("floors", mine, n);
	}
	puts("}");
}

static void describe(char *about, size_t size, const struct bench_case *c)
{
	snprintf(about, size,
		 "\"peer\":\"%s\",\"variant\":\"%s\",\"case\":\"%s\",\"size\":%u,\"batch\":%u,"
		 "\"slots\":%d,\"wait\":\"%s\",\"placement\":\"%s\"",
		 c->peer, c->variant, c->name, c->size, c->batch, BENCH_SLOTS, c->wait,
		 c->placement);
}

void bench_emit_about(const char *about, const char *metric, const char *unit,
		      const double *samples)
{
	emit(about, metric, unit, samples);
	fflush(stdout);
	far_runs = 0;
}

void bench_emit(const struct bench_case *c, const char *metric, const char *unit,
		const double *samples)
{
	char about[512];

	describe(about, sizeof(about), c);
	bench_emit_about(about, metric, unit, samples);
}

void bench_note_latency(struct bench_latency *l, int run, uint32_t *ticks, size_t n)
{
	const double ns = bench_ns_per_tick(), last = (double)(n - 1);

	qsort(ticks, n, sizeof(*ticks), by_u32);
	l->p50[run] = ns * ticks[(size_t)(0.50 * last)];
	l->p99[run] = ns * ticks[(size_t)(0.99 * last)];
	l->p999[run] = ns * ticks[(size_t)(0.999 * last)];
}

void bench_emit_latency_about(const char *about, struct bench_latency *l)
{
	emit(about, "p50", "ns", l->p50);
	emit(about, "p99", "ns", l->p99);
	bench_emit_about(about, "p99.9", "ns", l->p999);
}

void bench_emit_latency(const struct bench_case *c, struct bench_latency *l)
{
	char about[512];

	describe(about, sizeof(about), c);
	bench_emit_latency_about(about, l);
}
