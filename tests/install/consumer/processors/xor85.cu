/* SPDX-License-Identifier: Apache-2.0 */
#include <gpuq/processor.h>

__device__ void process_message(const MsgView &in, ResultView *out)
{
	for (uint32_t i = q_rank(); i < in.len && i < out->cap; i += q_size())
		out->out[i] = (uint8_t)(in.payload[i] ^ 0x55u);
	if (q_rank() == 0)
		*out->out_len = in.len;
}
