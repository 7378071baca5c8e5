/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tile.cu - answers with the sum of the message's bytes, added up by q_tile() where there is one.
 *
 * Loaded on the CPU device; compiled into a grid at every granularity by cuda.tile.
 */
#define Q_WITH_TILE
#include <gpuq/processor.h>

#if defined(Q_HAS_TILE)
#include <cooperative_groups/reduce.h>

namespace cg = cooperative_groups;

static __device__ uint32_t sum_of_unit(uint32_t sum)
{
#if Q_GRANULARITY == 2
	__shared__ uint32_t sums[32];
	const cg::thread_block block = q_tile();
	const auto warp = cg::tiled_partition<32>(block);

	sum = cg::reduce(warp, sum, cg::plus<uint32_t>());
	if (warp.thread_rank() == 0)
		sums[warp.meta_group_rank()] = sum;
	block.sync();
	sum = warp.thread_rank() < warp.meta_group_size() ? sums[warp.thread_rank()] : 0;
	return cg::reduce(warp, sum, cg::plus<uint32_t>());
#else
	static_assert(QTile::size() == (Q_GRANULARITY == 1 ? 32 : 1), "the unit");
	return cg::reduce(q_tile(), sum, cg::plus<uint32_t>());
#endif
}
#else
#if defined(__CUDACC__)
#error "nvcc has the header, and the source has asked for it"
#endif
static uint32_t sum_of_unit(uint32_t sum)
{
	return sum;
}
#endif

__device__ void process_message(const MsgView &in, ResultView *out)
{
	uint32_t sum = 0;

	if (out->cap < 4) {
		if (q_rank() == 0)
			*out->status = 1;
		return;
	}
	for (uint32_t i = q_rank(); i < in.len; i += q_size())
		sum += in.payload[i];
	sum = sum_of_unit(sum);
	if (q_rank() == 0) {
		*reinterpret_cast<uint32_t *>(out->out) = sum;
		*out->out_len = 4;
	}
}
