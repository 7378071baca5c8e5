/* SPDX-License-Identifier: Apache-2.0 */
/* noexcept.cc - noexcept, and an overload of its own: right. */
#include <gpuq/processor.h>

static __device__ void process_message(uint32_t len, ResultView *out)
{
	*out->out_len = len;
}

__device__ void process_message(const MsgView &in, ResultView *out) noexcept
{
	process_message(in.len, out);
}
