/* SPDX-License-Identifier: Apache-2.0 */
/* wrong.c - not const. */
#include <gpuq/processor.h>

void process_message(MsgView *in, ResultView *out)
{
	*out->out_len = in->len;
}
