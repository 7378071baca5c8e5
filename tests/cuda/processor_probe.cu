/* SPDX-License-Identifier: Apache-2.0 */
/*
 * processor_probe.cu - a processor inside a kernel, as a consumer loop would call it.
 *
 * Compiled with KERNEL_SOURCE and Q_GRANULARITY. The messages' addresses come out of memory, as a
 * ring's do, and the loop processes each slot again and again: a compiler that may keep a load of
 * the payload across messages shows it here.
 */
#include KERNEL_SOURCE

struct Probe {
	const uint8_t *payload;
	uint8_t *out;
	const void *user;
	uint64_t user_bytes;
	uint32_t *words; /* length, room, result's length, status; then `stop` */
};

extern "C" __global__ void processor_probe(const Probe *probe)
{
	volatile uint32_t *stop = probe->words + 4;

	while (*stop == 0) {
		const MsgView in = { probe->payload, probe->words[0],  1, 0, 0,
				     probe->user,    probe->user_bytes };
		ResultView out = { probe->out, probe->words[1], probe->words + 2,
				   probe->words + 3 };

		process_message(in, &out);
		q_sync();
	}
}
