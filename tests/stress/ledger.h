/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h - what the processor "ledger" shares with the stress tests: contents made from numbers,
 * and what it writes down. C, C++ and CUDA. */
#ifndef GPUQ_STRESS_LEDGER_H
#define GPUQ_STRESS_LEDGER_H

#include "device/protocol/atomics.h"

#define LEDGER_GATE_LIMIT_NS UINT64_C(30000000000) /* on a GPU: no kernel is left spinning */

enum { MESSAGE_MIN = 16 }; /* bytes: number and check */

enum opcode {
	OP_NORMAL = 0,
	OP_FAIL,     /* report failure */
	OP_TOO_LONG, /* a result one byte longer than its area */
	OP_SLOW,     /* let others run in the middle */
	OP_GATED,    /* do not end before the gate is above the tag */
	OP_ORDER,    /* write the tag down */
};

/* Written by processors, read by the tests: device memory on a GPU, where nothing else would be
 * atomic. `runs` of every message stand behind it, then `order`. */
struct ledger_counts {
	uint64_t running; /* processors inside a message now */
	uint64_t gated;   /* OP_GATED messages that have started */
	uint64_t n_order;
	uint64_t broken; /* on a GPU: line of ledger.cu << 32 | number, of what was wrong; 0:
			    nothing */
};

/* cfg.processor_data. */
struct ledger_data {
	const uint64_t *gate; /* the host's: OP_GATED messages with a lower tag may end */
	struct ledger_counts *counts;
	uint64_t *runs, *order; /* [max]; `order`: tags as messages started */
	uint64_t seed;
	uint32_t max; /* numbers are below this */
	uint32_t slot_bytes, result_bytes;
	uint32_t reserved;
};

enum { PAYLOAD = 1, RESULT = 2 };

GQ_FN uint64_t ledger_mix(uint64_t x) /* the finisher of SplitMix64 (Steele, Lea, Flood 2014) */
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* A message or result is its number, this check, then words that follow from the check. */
GQ_FN uint64_t ledger_check(uint64_t seed, uint64_t number, uint32_t kind)
{
	return ledger_mix(seed ^ number << 2 ^ kind);
}

GQ_FN uint64_t ledger_word(uint64_t number, uint64_t check, uint32_t at)
{
	return at == 0 ? number : at == 8 ? check : ledger_mix(check + at);
}

GQ_FN uint32_t ledger_length_of(uint64_t seed, uint64_t number, uint32_t kind, uint32_t room)
{
	uint64_t dice = ledger_mix(ledger_check(seed, number, kind) + 1);

	/* The largest and the smallest more often. */
	return dice % 8 == 0 ? room
			     : MESSAGE_MIN + (uint32_t)((dice >> 8) % (room - MESSAGE_MIN + 1));
}

#endif /* GPUQ_STRESS_LEDGER_H */
