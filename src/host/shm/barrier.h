/* SPDX-License-Identifier: Apache-2.0 */
/*
 * barrier.h - the expensive half of an asymmetric fence; private to the library.
 *
 * The cheap half stands in the calls that move messages and only keeps the compiler from
 * reordering: the thread that seldom needs the fence pays for both sides.
 */
#ifndef GPUQ_SHM_BARRIER_H
#define GPUQ_SHM_BARRIER_H

#include <stdbool.h>

/* Let gq__barrier() of other processes reach the threads of this one. @return false: the kernel
 * refuses, and nothing reaches them. */
bool gq__barrier_register(void);

/*
 * Make every thread of every process that has registered execute a full fence between the begin and
 * the end of this call. @return false: the kernel refuses, and there was no fence. It may begin to
 * refuse at any time (a seccomp filter).
 */
bool gq__barrier(void);

#endif /* GPUQ_SHM_BARRIER_H */
