/* SPDX-License-Identifier: Apache-2.0 */
/* fork.h - a handle made before fork() cannot be used in the child: each knows its generation. */
#ifndef GPUQ_BASE_FORK_H
#define GPUQ_BASE_FORK_H

#include <stdint.h>

/* Counts the forks between this process and its first ancestor that made a handle. A handle keeps
 * the value it was made at, and is its own process's if the two are equal. */
extern uint64_t gq__generation;

/* Make gq__generation count; every call that makes a handle calls it. */
void gq__watch_forks(void);

#endif /* GPUQ_BASE_FORK_H */
