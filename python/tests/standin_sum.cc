/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standin_sum.cc - the processor "sum", as a shared object for the stand-in driver: it adds the
 * bytes of a message up, and writes the sum where in.tag points to, too, unless that is 0.
 */
#define Q_GRANULARITY            1
#define Q_PROCESSOR_DEVICE_IMAGE &standin_sum_image
#define process_message          sum_process_message
#include <gpuq/processor.h>

__device__ inline void process_message(const MsgView &in, ResultView *out)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < in.len; i++)
		sum += in.payload[i];
	if (q_rank() != 0 || out->cap < sizeof(sum))
		return;
	__builtin_memcpy(out->out, &sum, sizeof(sum));
	if (in.tag != 0)
		__builtin_memcpy((void *)(uintptr_t)in.tag, &sum, sizeof(sum));
	*out->out_len = sizeof(sum);
}

#define STANDIN_IMAGE standin_sum_image
#include "standin_image.h"

Q_PROCESSOR_IMAGE("sum");
