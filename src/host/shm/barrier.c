/* SPDX-License-Identifier: Apache-2.0 */
/* barrier.c - a fence in every registered process, by membarrier. */
#include "host/shm/barrier.h"

#include "host/base/fault.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

bool gq__barrier_register(void)
{
	return !gq__fault() &&
	       syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool gq__barrier(void)
{
	return !gq__fault() && syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}
