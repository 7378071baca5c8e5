/* SPDX-License-Identifier: Apache-2.0 */
/* last.c - one of a processor's several sources: answers with the last byte of the message. */
#include <gpuq/processor.h>

void process_message(const MsgView *in, ResultView *out)
{
	out->out[0] = in->payload[in->len - 1];
	*out->out_len = 1;
}
