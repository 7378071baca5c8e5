/* SPDX-License-Identifier: Apache-2.0 */
/* process.cu - a processor that answers with the message in capital letters. */
#define Q_RESULT_ONLY /* it writes nothing else */
#include <gpuq/processor.h>

__device__ void process_message(const MsgView &in, ResultView *out)
{
	/* Thread q_rank() of q_size() takes every q_size()-th byte; on the CPU device 0 of 1. */
	for (uint32_t i = q_rank(); i < in.len && i < out->cap; i += q_size()) {
		const uint8_t c = in.payload[i];

		out->out[i] = c >= 'a' && c <= 'z' ? (uint8_t)(c - 'a' + 'A') : c;
	}
	if (q_rank() == 0)
		*out->out_len = in.len; /* more than out->cap: the message ends FAILED */
}
