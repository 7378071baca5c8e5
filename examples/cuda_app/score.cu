/* SPDX-License-Identifier: Apache-2.0 */
/* score.cu - a processor: the dot product of a message of floats with the application's weights. */
#define Q_RESULT_ONLY
#define Q_WITH_TILE
#include <gpuq/processor.h>
#if defined(Q_HAS_TILE)
#include <cooperative_groups/reduce.h>
#endif

struct Weights {         /* QueueConfig.processor_data */
	const float *at; /* device memory of the application; host memory on the CPU device */
	uint32_t count;
};

__device__ void process_message(const MsgView &in, ResultView *out)
{
	const Weights *weights = static_cast<const Weights *>(in.user);
	const float *x = reinterpret_cast<const float *>(in.payload);
	float sum = 0;

	if (weights == nullptr || in.len != weights->count * sizeof(float) ||
	    out->cap < sizeof(float)) {
		if (q_rank() == 0)
			*out->status = 1;
		return;
	}
	for (uint32_t i = q_rank(); i < weights->count; i += q_size())
		sum += x[i] * weights->at[i];
#if defined(Q_HAS_TILE)
	sum = cooperative_groups::reduce(q_tile(), sum, cooperative_groups::plus<float>());
#endif
	if (q_rank() == 0) {
		*reinterpret_cast<float *>(out->out) = sum;
		*out->out_len = sizeof(float);
	}
}
