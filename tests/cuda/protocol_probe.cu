/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol_probe.cu - the consumer's steps of the protocol, one kernel each.
 *
 * Nothing runs it: check_device_code.py compiles it for every architecture and reads the PTX.
 */
#if !defined(__CUDACC_RTC__)
#include <gpuq/gpuq.h>
#endif
#include <gpuq/processor.h>

#include "device/protocol/protocol.h"

extern "C" __global__ void probe_control(const gq_channel *ch, uint64_t *out)
{
	*out = gq_load_acquire_u64(ch->control);
}

extern "C" __global__ void probe_claim(const gq_channel *ch, gq_claimer *claims, uint32_t *out)
{
	const uint32_t slot = gq_claim(ch, &claims[blockIdx.x * blockDim.x + threadIdx.x]);

	*out = slot;
}

extern "C" __global__ void probe_decide(const gq_channel *ch, uint32_t slot, uint64_t control,
					uint64_t now_ns, uint32_t *out)
{
	*out = gq_decide(gq_slot_at(ch, slot), control, now_ns);
}

extern "C" __global__ void probe_complete(const gq_channel *ch, uint32_t slot, uint32_t status,
					  uint32_t out_len)
{
	gq_complete_posted(ch, slot, gq_outcome_of(status, out_len, ch->result_bytes), false);
}

extern "C" __global__ void probe_idle(const gq_channel *ch, uint64_t control, uint32_t *out)
{
	while (!gq_work_waits(ch) && gq_load_seq_cst_u64(ch->control) == control)
		gq_cpu_relax();
	*out = 1;
}

/* All of it in a loop, one thread a block. Its claims are in shared memory: gq_claim() indexes
 * them.
 */
extern "C" __global__ void probe_loop(const gq_channel *ch)
{
	__shared__ gq_claimer claims;

	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		claims.ageing.passed[c] = 0;
	claims.alone = false;
	for (;;) {
		const uint64_t control = gq_load_acquire_u64(ch->control);
		uint32_t slot, outcome;

		if ((control & GQ_CONTROL_LEAVE) != 0)
			return;
		slot = gq_claim(ch, &claims);
		if (slot == GQ_NONE) {
			gq_cpu_relax();
			continue;
		}

		const gq_slot *message = gq_slot_at(ch, slot);

		outcome = gq_decide(message, control, 0);
		if (outcome == 0) {
			const uint8_t *payload = gq_payload_at(ch, slot);
			uint8_t *result = gq_result_at(ch, slot);

			for (uint32_t i = 0; i < message->len; i++)
				result[i] = payload[i];
			outcome = gq_outcome_of(0, message->len, ch->result_bytes);
		}
		gq_complete_posted(ch, slot, outcome, false);
	}
}
