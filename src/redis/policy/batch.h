/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - the batch builder: how much to read, and when what was read goes on. Pure. */
#ifndef GPUQ_REDIS_BATCH_H
#define GPUQ_REDIS_BATCH_H

#include <stdbool.h>
#include <stdint.h>

struct batch {
	uint32_t most;     /* entries of a batch */
	uint64_t delay_us; /* how long the first entry waits for the others */
	uint32_t count;
	uint64_t first_us; /* when the first one came; counts while count > 0 */
};

/** How many entries to ask for: what the batch lacks, at most `room`. */
uint32_t batch_want(const struct batch *b, uint32_t room);

/**
 * The same for the batch behind this one, when `coming` more are about to be added: 0 unless the
 * batch goes on then.
 */
uint32_t batch_ahead(const struct batch *b, uint32_t room, uint32_t coming);

/** So many more have come. */
void batch_add(struct batch *b, uint32_t count, uint64_t now_us);

/** The batch is full, or its first entry has waited long enough, or nothing else will come. */
bool batch_due(const struct batch *b, uint32_t room, uint64_t now_us);

/** How long until it is due, us; UINT64_MAX: it is empty. */
uint64_t batch_wait_us(const struct batch *b, uint64_t now_us);

/** The batch went on. */
void batch_reset(struct batch *b);

#endif /* GPUQ_REDIS_BATCH_H */
