/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile_client.c - does what a hostile client can, until it is killed; or only computes.
 *
 *     hostile_client KIND SOCKET SERVICES
 *     hostile_client compute BURST_US PAUSE_US
 *
 * KIND is rings, memory, flood, deaf or services (tests/support/hostile.h). The second form knows
 * no gpuqd: it uses BURST_US of CPU time, sleeps for PAUSE_US, and so on; with 0 it never sleeps.
 * That is what any program beside the others costs them.
 */
#include "hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static _Noreturn void compute(uint64_t burst_ns, uint64_t pause_ns)
{
	const struct timespec pause = { .tv_sec = (time_t)(pause_ns / 1000000000),
					.tv_nsec = (long)(pause_ns % 1000000000) };
	uint64_t until_ns = cpu_ns();

	prctl(PR_SET_TIMERSLACK, 1);
	for (;;) {
		for (until_ns += burst_ns; cpu_ns() < until_ns;)
			;
		if (pause_ns != 0)
			nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	struct hostile h = {
		.queue = "default", .op = "echo", .random = 88172645463325252u, .steps = UINT32_MAX
	};
	int kind = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: hostile_client KIND SOCKET SERVICES\n"
				"       hostile_client compute BURST_US PAUSE_US\n");
		return 2;
	}
	if (strcmp(argv[1], "compute") == 0)
		compute(strtoull(argv[2], NULL, 10) * 1000, strtoull(argv[3], NULL, 10) * 1000);
	h.socket = argv[2];
	h.services = argv[3];
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
