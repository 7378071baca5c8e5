/* SPDX-License-Identifier: Apache-2.0 */
/* good.c - a processor to load by path: counts the bytes of its message. */
#include <gpuq/processor.h>

void process_message(const MsgView *in, ResultView *out)
{
	out->out[0] = (uint8_t)in->len;
	*out->out_len = 1;
}
