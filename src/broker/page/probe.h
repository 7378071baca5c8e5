/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - places where a tracer (bpftrace, perf, SystemTap) can look into a gpuqd that runs: a
 * `nop` each, and a note in the program that says where it is and which values it has. Nothing is
 * called and nothing tested while nobody looks. docs/guide/broker.md lists them.
 *
 * Without <sys/sdt.h> (GPUQ_USDT) there are none.
 */
#ifndef GPUQ_BROKER_PAGE_PROBE_H
#define GPUQ_BROKER_PAGE_PROBE_H

#ifdef GPUQ_HAVE_SDT
#include <sys/sdt.h>
#define PROBE2(name, a, b)       DTRACE_PROBE2(gpuqd, name, a, b)
#define PROBE3(name, a, b, c)    DTRACE_PROBE3(gpuqd, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(gpuqd, name, a, b, c, d)
#else
#define PROBE2(name, a, b)       ((void)(a), (void)(b))
#define PROBE3(name, a, b, c)    ((void)(a), (void)(b), (void)(c))
#define PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

#endif /* GPUQ_BROKER_PAGE_PROBE_H */
