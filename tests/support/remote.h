/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.h - with GPUQ_TEST_DEVICE=remote the tests run on the remote device. A gpuqd inside of
 * this process has a queue on the CPU device for each client, so the tests' processors and what
 * they share with them are where they are on the CPU device; socket, memory and threads are gpuqd's
 * own.
 */
#ifndef GPUQ_TEST_REMOTE_H
#define GPUQ_TEST_REMOTE_H

#include <stdbool.h>

bool on_remote(void);

/* First of all, where on_remote(): starts gpuqd, and lets GPUQ_DEVICE name it. */
void remote_begin(void);

#endif /* GPUQ_TEST_REMOTE_H */
