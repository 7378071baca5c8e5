/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo.cu - a processor that sends every message back unchanged.
 *
 * A message longer than the result area ends FAILED, which is what the library makes of an
 * *out_len above cap; nothing is written then.
 */
#define Q_RESULT_ONLY
#include <gpuq/processor.h>

#if !defined(__CUDACC__)
#include <string.h>
#endif

/* Copies len bytes between 16-byte aligned places, all threads of the unit together. */
static Q_DEVICE void copy_message(uint8_t *to, const uint8_t *from, uint32_t len)
{
#if defined(__CUDACC__)
	uint4 *to_wide = reinterpret_cast<uint4 *>(to);
	const uint4 *from_wide = reinterpret_cast<const uint4 *>(from);
	const uint32_t wide = len / 16;
	const uint32_t step = q_size();
	uint32_t i = q_rank();

	/* Four loads before the first store: the compiler may not reorder them itself. */
	for (; i + 3 * step < wide; i += 4 * step) {
		const uint4 a = from_wide[i];
		const uint4 b = from_wide[i + step];
		const uint4 c = from_wide[i + 2 * step];
		const uint4 d = from_wide[i + 3 * step];

		to_wide[i] = a;
		to_wide[i + step] = b;
		to_wide[i + 2 * step] = c;
		to_wide[i + 3 * step] = d;
	}
	for (; i < wide; i += step)
		to_wide[i] = from_wide[i];
	for (i = wide * 16 + q_rank(); i < len; i += step)
		to[i] = from[i];
#else
	memcpy(to, from, len);
#endif
}

__device__ void process_message(const MsgView &in, ResultView *out)
{
	if (in.len <= out->cap)
		copy_message(out->out, in.payload, in.len);
	if (q_rank() == 0) {
		*out->out_len = in.len;
		*out->status = 0;
	}
}
