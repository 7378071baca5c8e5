/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger.cu - the processor "ledger": one source for the CPU device, for the stand-in driver in
 * every granularity (standin_ledger.cc makes them) and, where nvcc is, for a GPU.
 *
 * What is wrong ends the process, with the test's seed; a GPU writes it down for ledger_end().
 */
#include <gpuq/processor.h>

#if defined(__CUDACC__) && !defined(GQ_BLOCK_THREADS) && Q_GRANULARITY != 2
#define GQ_BLOCK_THREADS 32 /* a block is one unit, as a consumer of the CPU device is */
#endif

#include "ledger.h"

#if defined(__CUDA_ARCH__)

Q_DEVICE static uint64_t ledger_now_ns(void)
{
	uint64_t now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}

#define MUST(condition, what)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			gq_cas_relaxed_device_u64(&d->counts->broken, 0,                           \
						  (uint64_t)__LINE__ << 32 | (uint32_t)number);    \
	} while (0)

#else

extern "C" void ledger_broken(const char *condition, const char *what, uint64_t number);
extern "C" void stress_nap_us(uint32_t us);
extern "C" int sched_yield(void);

#define MUST(condition, what)                                                                      \
	((condition) ? (void)0 : ledger_broken(#condition, what, (uint64_t)(number)))

#endif

Q_DEVICE static void slowly(uint64_t number)
{
#if defined(__CUDA_ARCH__)
	__nanosleep((unsigned)(number % 64) * 1000);
#else
	if (number % 2 == 0)
		sched_yield();
	else
		stress_nap_us((uint32_t)(number % 64));
#endif
}

Q_DEVICE static void wait_for_gate(const struct ledger_data *d, uint64_t number, uint64_t tag)
{
#if defined(__CUDA_ARCH__)
	const uint64_t begun = ledger_now_ns();
	bool open = false;

	while (!open && ledger_now_ns() - begun < LEDGER_GATE_LIMIT_NS) {
		open = gq_load_relaxed_u64(d->gate) > tag;
		if (!open)
			__nanosleep(1000);
	}
	MUST(open, "the gate stays shut");
#else
	(void)number;
	while (gq_load_relaxed_u64(d->gate) <= tag)
		stress_nap_us(20);
#endif
}

/* All threads of the unit: bytes of the stream are there, or are put there. */
Q_DEVICE static void read_message(const struct ledger_data *d, uint64_t number, const uint8_t *from,
				  uint32_t len)
{
	const uint64_t check = ledger_check(d->seed, number, PAYLOAD);

	for (uint32_t at = q_rank() * 8; at < len; at += q_size() * 8) {
		const uint64_t word = ledger_word(number, check, at);

		for (uint32_t i = 0; i < 8 && at + i < len; i++)
			MUST(from[at + i] == (uint8_t)(word >> 8 * i), "a message is damaged");
	}
}

Q_DEVICE static void write_result(const struct ledger_data *d, uint64_t number, uint8_t *to,
				  uint32_t len)
{
	const uint64_t check = ledger_check(d->seed, number, RESULT);

	for (uint32_t at = q_rank() * 8; at < len; at += q_size() * 8) {
		const uint64_t word = ledger_word(number, check, at);

		for (uint32_t i = 0; i < 8 && at + i < len; i++)
			to[at + i] = (uint8_t)(word >> 8 * i);
	}
}

__device__ void process_message(const MsgView &in, ResultView *out)
{
	const struct ledger_data *d = (const struct ledger_data *)in.user;
	struct ledger_counts *counts = d->counts;
	const bool first = q_rank() == 0;
	uint64_t number = 0;

	if (first)
		gq_fetch_add_relaxed_device_u64(&counts->running, 1);
	if (in.len != 0) {
		MUST(in.len >= MESSAGE_MIN, "a message is too short for any");
		for (uint32_t i = 0; i < 8 && i < in.len; i++)
			number |= (uint64_t)in.payload[i] << 8 * i;
		MUST(number < d->max, "a message has a number that there is not");
		MUST(in.len == ledger_length_of(d->seed, number, PAYLOAD, d->slot_bytes),
		     "a message has another length");
		MUST(in.tag == 0 || in.tag == number + 1, "a message has another tag");
		read_message(d, number, in.payload, in.len);
	} else {
		number = in.tag - 1;
		MUST(number < d->max, "an empty message has a tag that there is not");
	}
	MUST(out->cap == d->result_bytes, "a result has another room");
	if (first && number < d->max)
		MUST(gq_fetch_add_relaxed_device_u64(&d->runs[number], 1) == 0,
		     "a message is processed a second time");
	switch (in.opcode) {
	case OP_SLOW:
		if (first)
			slowly(number);
		break;
	case OP_GATED:
		if (first) {
			gq_fetch_add_relaxed_device_u64(&counts->gated, 1);
			wait_for_gate(d, number, in.tag);
		}
		break;
	case OP_ORDER:
		if (first) {
			const uint64_t i = gq_fetch_add_relaxed_device_u64(&counts->n_order, 1);

			MUST(i < d->max, "more messages start than there are");
			if (i < d->max)
				gq_store_relaxed_device_u64(&d->order[i], in.tag);
		}
		break;
	default:
		break;
	}
	q_sync();
	if (in.opcode == OP_FAIL) {
		if (first) {
			*out->status = 1 + (uint32_t)(number % 3);
			*out->out_len = (uint32_t)(number % 5);
		}
	} else if (in.opcode == OP_TOO_LONG) {
		if (first)
			*out->out_len = out->cap + 1;
	} else {
		const uint32_t len = ledger_length_of(d->seed, number, RESULT, d->result_bytes);

		if (first)
			*out->out_len = len;
		write_result(d, number, out->out, len < out->cap ? len : out->cap);
	}
	q_sync(); /* all have written before it counts as over */
	if (first)
		gq_fetch_add_relaxed_device_u64(&counts->running, 0 - UINT64_C(1));
}
