/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harness.h - arguments, clock, pinning, statistics and JSON lines of the ring benchmarks.
 *
 * Valid as C11 and as C++17, so that each peer is compiled in its own language but runs exactly the
 * same workload.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
	BENCH_SLOTS = 1024,  /* ring capacity asked of every peer, in messages */
	BENCH_RUNS = 5,      /* measured runs a case; the median is reported */
	BENCH_LINE = 64,     /* cache line, bytes */
	BENCH_PINGS = 40000, /* round trips a run */
	BENCH_SKIPPED = 77,  /* exit status: cannot run on this machine */
	BENCH_MAX_FAR = 6,   /* runs of one sample thrown away before one is kept */
	BENCH_FLOORS = 8,    /* at least BENCH_RUNS */
};

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Hint to the core that the caller spins; never blocks, never yields. */
ALWAYS_INLINE void bench_pause(void)
{
#if defined(__x86_64__)
	_mm_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

uint64_t bench_now_ns(void); /* CLOCK_MONOTONIC */

/* Raw time stamp, in ticks. Convert with bench_ns_per_tick(). */
ALWAYS_INLINE uint64_t bench_ticks(void)
{
#if defined(__x86_64__)
	unsigned aux;

	return __rdtscp(&aux);
#else
	return bench_now_ns();
#endif
}

double bench_ns_per_tick(void); /* calibrated once */
int bench_cpus(void);           /* how many CPUs this process may use */
int bench_cpu(int n);           /* the n-th of them, round again */
void bench_pin(int n);          /* the calling thread to that CPU */
void bench_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/*
 * PROGRAM [--smoke] [GROUP...]: no group means all. --smoke: a few messages a case, one run, waits
 * that yield, and nobody looks at the clock, so that it passes on a busy machine and on one core.
 * BENCH_RUN_MS: length of a throughput run, 25 by default; longer ones show convoys.
 * BENCH_NEAR_NS: see bench_is_far(), 120 by default. BENCH_PATIENCE_S: see there too, 10 by
 * default. Prints the context line. Exits with BENCH_SKIPPED where there is only one CPU to measure
 * on.
 */
void bench_begin(int argc, char **argv);
bool bench_wants(const char *group);

/* Fixed by bench_begin(). */
extern bool bench_smoke;
extern int bench_runs;       /* BENCH_RUNS; smoke: 1 */
extern unsigned bench_pings; /* BENCH_PINGS; smoke: a few */
extern unsigned bench_run_ms;

/*
 * The bare flag: a word bounced between CPU 0 and CPU 1 and back, `rounds` times. The mean, ns;
 * with `ticks` also each round trip, whose time stamps then are in the mean.
 */
double bench_flag_bounce(uint32_t *ticks, unsigned rounds);

/*
 * The host of a virtual machine may move a virtual CPU to another core complex for a while; a cache
 * line then takes several times longer between CPU 0 and CPU 1. The bare flag is therefore read
 * before and after every run, and a run that ends above BENCH_NEAR_NS is repeated. How often that
 * happened is part of the output ("far_runs"). A program that has waited for near cores for
 * BENCH_PATIENCE_S waits and repeats no more: such a machine is measured as it is. The flag's round
 * trip of each sample is part of the output ("floors"), so that whoever reads can compare samples
 * of one state of the machine only.
 */
void bench_settle(void);      /* wait, a second at most, until the cores are near */
bool bench_is_far(int tries); /* count a far run; false when near, or out of tries or patience */

#define BENCH_NEAR(statement)                                                                      \
	do {                                                                                       \
		int tries_ = 0;                                                                    \
		do {                                                                               \
			bench_settle();                                                            \
			statement;                                                                 \
		} while (bench_is_far(++tries_));                                                  \
	} while (0)

/* One line of output. Strings are plain ASCII without quotes. */
struct bench_case {
	const char *peer;      /* "rte_ring" */
	const char *variant;   /* "mt", "hts", or "" when there is only one */
	const char *name;      /* "spsc", "mpsc", "pingpong", ... */
	const char *wait;      /* "spin", "spin64+yield" */
	const char *placement; /* "p0|c1": who runs on which CPU */
	unsigned size;         /* bytes a message */
	unsigned batch;        /* messages a call */
};

/* Median, extremes and spread, (max - min) / median, of bench_runs samples, and the samples as they
 * came. The unit says which way is better: "Mmsg/s" or "ns". bench/README.md has the form of a
 * line. */
void bench_emit(const struct bench_case *c, const char *metric, const char *unit,
		const double *samples);

/* The same of something else than a bench_case; `about` is members of a JSON object. */
void bench_emit_about(const char *about, const char *metric, const char *unit,
		      const double *samples);

void bench_sort(double *samples, size_t n);

/* Percentiles of single round trips; one value of each is a run. */
struct bench_latency {
	double p50[BENCH_RUNS], p99[BENCH_RUNS], p999[BENCH_RUNS];
};
void bench_note_latency(struct bench_latency *l, int run, uint32_t *ticks, size_t n);
void bench_emit_latency(const struct bench_case *c, struct bench_latency *l);
void bench_emit_latency_about(const char *about, struct bench_latency *l);

#ifdef __cplusplus
}
#endif
#endif /* BENCH_HARNESS_H */
