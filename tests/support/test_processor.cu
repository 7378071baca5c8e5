/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_processor.cu - the processor "test": one source for the CPU device, for the stand-in driver
 * (standin_test.cc makes both) and, where nvcc is, for a GPU.
 */
#if defined(__CUDACC__)
#define GQ_BLOCK_THREADS 32 /* a block is one unit: the tests count on one message at a time */
#endif
#include <gpuq/processor.h>

#include "device/protocol/atomics.h"
#include "test_processor.h"

#if defined(__CUDA_ARCH__)
Q_DEVICE static uint64_t now_ns(void)
{
	uint64_t now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}
#else
extern "C" void nap_ms(unsigned ms);
#endif

/* @return whether it was opened. */
Q_DEVICE static bool pass_gate(const uint64_t *gate)
{
#if defined(__CUDA_ARCH__)
	const uint64_t begun = now_ns();

	while (gq_load_relaxed_u64(gate) == 0) {
		if (now_ns() - begun > GATE_LIMIT_NS)
			return false;
		__nanosleep(1000);
	}
#else
	while (gq_load_relaxed_u64(gate) == 0)
		nap_ms(1);
#endif
	return true;
}

Q_DEVICE static void look(const MsgView &in, const struct test_data *data, ResultView *out)
{
	struct test_look *seen = (struct test_look *)out->out;

	if (q_rank() != 0 || out->cap < sizeof(*seen))
		return;
	seen->mark = data->mark;
	seen->msg_id = in.msg_id;
	seen->tag = in.tag;
	seen->opcode = in.opcode;
	seen->cap = out->cap;
	*out->out_len = (uint32_t)sizeof(*seen);
}

__device__ void process_message(const MsgView &in, ResultView *out)
{
	const struct test_data *data = (const struct test_data *)in.user;
	struct test_counts *counts = data->counts;
	const bool first = q_rank() == 0;

	if (first) {
		const uint64_t i = gq_fetch_add_relaxed_device_u64(&counts->started, 1);

		gq_store_relaxed_device_u64(&counts->tags[i % MAX_STARTED], in.tag);
		if (((uintptr_t)in.payload | (uintptr_t)out->out) % 16 != 0)
			gq_store_relaxed_device_u64(&counts->misaligned, 1);
	}
	switch (in.opcode) {
	case OP_GATE:
		if (first) {
			gq_fetch_add_relaxed_device_u64(&counts->entered, 1);
			if (!pass_gate(data->gate))
				*out->status = 9;
			gq_fetch_add_relaxed_device_u64(&counts->left, 1);
		}
		q_sync();
		break;
	case OP_FAIL:
		if (first)
			*out->status = 7;
		break;
	case OP_TOO_LONG:
		if (first)
			*out->out_len = out->cap + 1;
		return;
	case OP_FILL:
		for (uint32_t k = q_rank(); k < out->cap; k += q_size())
			out->out[k] = (uint8_t)in.tag;
		if (first)
			*out->out_len = out->cap;
		return;
	case OP_LOOK:
		look(in, data, out);
		return;
	default:
		break;
	}
	if (first)
		*out->out_len = in.len;
	for (uint32_t k = q_rank(); k < in.len && k < out->cap; k += q_size())
		out->out[k] = in.payload[k] ^ (in.opcode == OP_XOR ? 0x5a : 0);
}
