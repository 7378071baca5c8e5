/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile_client.c - does what a hostile client can, until it is killed.
 *
 *     hostile_client KIND SOCKET SERVICES
 *
 * KIND is rings, memory, flood, deaf or services (tests/support/hostile.h); or a number of percent:
 * a process that knows no gpuqd, and computes for that much of the time, which is what any program
 * beside the others costs them.
 */
#include "hostile.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CYCLE_NS = 20000000 };

static uint64_t ns_on(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* As much CPU time as that, whenever the scheduler gives it. */
static _Noreturn void compute(uint64_t percent)
{
	const uint64_t began_ns = ns_on(CLOCK_MONOTONIC);
	const struct timespec nap = { .tv_nsec = CYCLE_NS / 4 };

	for (;;) {
		const uint64_t passed_ns = ns_on(CLOCK_MONOTONIC) - began_ns;

		while (ns_on(CLOCK_PROCESS_CPUTIME_ID) * 100 < passed_ns * percent + CYCLE_NS)
			;
		if (percent < 100)
			nanosleep(&nap, NULL);
	}
}

int main(int argc, char **argv)
{
	struct hostile h = { .queue = "default", .op = "echo", .random = 88172645463325252u };
	int kind = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: hostile_client KIND SOCKET SERVICES\n");
		return 2;
	}
	h.socket = argv[2];
	h.services = argv[3];
	if (isdigit((unsigned char)argv[1][0]))
		compute((uint64_t)atoi(argv[1]));
	while (kind < HOSTILE_KINDS && strcmp(argv[1], hostile_name[kind]) != 0)
		kind++;
	if (kind == HOSTILE_KINDS) {
		fprintf(stderr, "hostile_client: there is no kind '%s'\n", argv[1]);
		return 2;
	}
	for (;;) {
		const char *bad = hostile_round(&h, (enum hostile_kind)kind);

		if (bad != NULL) {
			fprintf(stderr, "hostile_client: %s\n", bad);
			return 1;
		}
	}
}
