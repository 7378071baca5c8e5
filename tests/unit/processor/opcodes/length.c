/* SPDX-License-Identifier: Apache-2.0 */
/* length.c - one of a processor's several sources: answers with the length of the message. */
#include <gpuq/processor.h>

void process_message(const MsgView *in, ResultView *out)
{
	out->out[0] = (uint8_t)in->len;
	*out->out_len = 1;
}
