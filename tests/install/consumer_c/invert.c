/* SPDX-License-Identifier: Apache-2.0 */
#include <gpuq/processor.h>

void process_message(const MsgView *in, ResultView *out)
{
	for (uint32_t i = 0; i < in->len && i < out->cap; i++)
		out->out[i] = (uint8_t)(in->payload[i] ^ 0xffu);
	*out->out_len = in->len;
}
