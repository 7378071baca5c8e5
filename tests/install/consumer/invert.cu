/* SPDX-License-Identifier: Apache-2.0 */
/* invert.cu - sends every byte back inverted. */
#include <gpuq/processor.h>

#include "mask.h" /* of the source's own folder */

__device__ void process_message(const MsgView &in, ResultView *out)
{
	if (in.len > out->cap) {
		if (q_rank() == 0)
			*out->status = 1;
		return;
	}
	for (uint32_t i = q_rank(); i < in.len; i += q_size())
		out->out[i] = (uint8_t)(in.payload[i] ^ INVERT_MASK);
	q_sync();
	if (q_rank() == 0)
		*out->out_len = in.len;
}
