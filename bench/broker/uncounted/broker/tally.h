/* SPDX-License-Identifier: Apache-2.0 */
/* tally.h - in place of gpuqd's: counts nothing. bench/broker/counting has a gpuqd with this. */
#ifndef GPUQ_BROKER_TALLY_H
#define GPUQ_BROKER_TALLY_H

#include "broker/page/page.h"

struct tally { /* as large as gpuqd's: only one file is compiled with this one */
	struct page_queue *counts;
	uint64_t claimed_ns, bytes_out;
	uint32_t class, messages;
};

/* clang-format off */
#define tally_claimed(t, class, len) ((void)(t))
#define tally_settle(t, now_ns) ((void)(t))
#define tally_ended(t, class, outcome, claimed_ns, now_ns) ((void)(t))
#define tally_lost(t, class) ((void)(t))
/* clang-format on */

#endif /* GPUQ_BROKER_TALLY_H */
