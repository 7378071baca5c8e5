/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_roles.h - the processes of stress_kill, and the board that they share with it. A process may
 * be killed at any instruction; what it has written on the board stays.
 */
#ifndef GPUQ_STRESS_KILL_ROLES_H
#define GPUQ_STRESS_KILL_ROLES_H

#include <stdint.h>
#include <sys/types.h>

enum role { ROLE_CLIENT, ROLE_OWN, ROLE_CALLER, ROLE_WORKER, ROLE_HOSTILE, ROLES };

enum { BOARD_REQUESTS = 1 << 22, BOARD_TEXT = 400, BOARD_CHILDREN = 64, BOARD_ENDS = 8 };

/* What became of what was accepted, as those know who asked for it. */
enum end { END_OK, END_FAILED, END_EXPIRED, END_CANCELLED, END_LOST, ENDS };

struct board_child {
	uint64_t accepted, ended[ENDS];
	uint32_t connects; /* how often it has found a gpuqd */
};

struct board {
	uint32_t stop; /* all end by themselves, and count what they have */
	uint32_t next; /* number of the next request */
	uint32_t wrong_set;
	char wrong[BOARD_TEXT]; /* the first thing that was not so */
	struct board_child child[BOARD_CHILDREN];
	/* By the number of a request to a service, modulo their number. */
	uint8_t ran[BOARD_REQUESTS];    /* how often a worker has run it */
	uint8_t once[BOARD_REQUESTS];   /* 1: it is not idempotent */
	uint8_t unseen[BOARD_REQUESTS]; /* 1: its caller was told that no worker has seen it */
};

struct role_args {
	struct board *board;
	enum role role;
	uint32_t index; /* of its board_child, for this process alone while it lives */
	uint64_t seed;
	const char *endpoint, *broker, *socket, *services;
};

/* Runs until the board says stop, then counts. @return the exit code: 0, or 1 with board->wrong */
int role_run(const struct role_args *a);

#endif /* GPUQ_STRESS_KILL_ROLES_H */
