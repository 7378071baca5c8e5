/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.cc - one kernel for one kind of unit, under the name the tests call it by.
 *
 * Compiled with KERNEL_SOURCE, KERNEL_FUNCTION, process_message as a name of its own and, for the
 * GPU's code, Q_GRANULARITY and SIMT_THREADS, the size of the unit.
 */
#if defined(SIMT_THREADS)
#include "simt.h"
#endif

#include "kernels.h"

#include KERNEL_SOURCE

struct Work {
	const MsgView *in;
	ResultView *out;
	uint32_t count;
};

/* As a consumer loop does, with as little between two messages as there may be. */
static void work_off(void *argument)
{
	const Work *work = static_cast<const Work *>(argument);

	for (uint32_t i = 0; i < work->count; i++)
		process_message(work->in[i], &work->out[i]);
}

extern "C" bool KERNEL_FUNCTION(const MsgView *in, ResultView *out, uint32_t count)
{
	Work work = { in, out, count };

#if defined(SIMT_THREADS)
	return simt_launch(SIMT_THREADS, work_off, &work);
#else
	work_off(&work);
	return true;
#endif
}
