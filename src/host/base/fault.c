/* SPDX-License-Identifier: Apache-2.0 */
/* fault.c - what tests change in the library. */
#include "host/base/fault.h"

#include "device/protocol/atomics.h"
#include "host/base/sys.h"

#include <sched.h>
#include <stddef.h>

uint64_t gq__start_pos = 1; /* so that no message has id 0 */

static uint32_t fault_countdown;

bool gq__fault(void)
{
	uint32_t left = __atomic_load_n(&fault_countdown, __ATOMIC_RELAXED);

	if (left == 0)
		return false;
	__atomic_store_n(&fault_countdown, left - 1, __ATOMIC_RELAXED);
	return left == 1;
}

void gq__fault_set(unsigned n)
{
	__atomic_store_n(&fault_countdown, n, __ATOMIC_RELAXED);
}

#if defined(GPUQ_CHAOS)
/* Now and then let others run, or sleep, in the windows that the protocol must survive. */
_Thread_local void (*gq__in_window)(void);

void gq__chaos(void)
{
	static _Thread_local uint64_t state;

	if (gq__in_window != NULL) {
		gq__in_window();
		return;
	}
	if (state == 0)
		state = (uint64_t)(uintptr_t)&state | 1;
	state ^= state << 13; /* xorshift64, Marsaglia 2003 */
	state ^= state >> 7;
	state ^= state << 17;
	if (state % 64 == 0) {
		sched_yield();
	} else if (state % 4096 == 1) {
		gq_sys_nap((long)(state >> 32) % 50000);
	}
}
#endif
