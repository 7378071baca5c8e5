/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile_client.c - does what a hostile client can, until it is killed.
 *
 *     hostile_client KIND SOCKET SERVICES
 *
 * KIND is rings, memory, flood, deaf or services (tests/support/hostile.h); or busy, which knows no
 * gpuqd and only computes: what any program beside the others costs them.
 */
#include "hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	while (strcmp(argv[1], "busy") == 0) {
		h.random ^= h.random << 13;
		h.random ^= h.random >> 7;
		__asm__ volatile("" ::"r"(h.random));
	}
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
