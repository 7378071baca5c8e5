/* SPDX-License-Identifier: Apache-2.0 */
/* first.c - one of a processor's several sources: answers with the first byte of the message. */
#include <gpuq/processor.h>

void process_message(const MsgView *in, ResultView *out)
{
	out->out[0] = in->payload[0];
	*out->out_len = 1;
}
