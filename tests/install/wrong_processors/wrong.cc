/* SPDX-License-Identifier: Apache-2.0 */
/* wrong.cc - C's parameters in C++, which is another function there. */
#include <gpuq/processor.h>

__device__ void process_message(const MsgView *in, ResultView *out)
{
	*out->out_len = in->len;
}
