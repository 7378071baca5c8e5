/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - when a batch closes. */
#include "batch.h"

#define MOST 1000u

void gq__batch_begin(struct gq_batch *b)
{
	*b = (struct gq_batch){ .oldest_ns = UINT64_MAX, .deadline_ns = UINT64_MAX };
}

static uint32_t most_of(const struct gq_batch_config *config)
{
	return config->most != 0 && config->most < MOST ? config->most : MOST;
}

bool gq__batch_add(struct gq_batch *b, const struct gq_batch_config *config, uint64_t bytes,
		   uint64_t came_ns, uint64_t deadline_ns)
{
	const uint64_t room = config->bytes_most > b->bytes ? config->bytes_most - b->bytes : 0;

	if (b->full)
		return false;
	if (b->count > 0 && config->bytes_most != 0 && bytes > room) {
		b->full = true;
		return false;
	}
	b->count++;
	b->bytes += bytes;
	b->oldest_ns = came_ns < b->oldest_ns ? came_ns : b->oldest_ns;
	b->deadline_ns = deadline_ns < b->deadline_ns ? deadline_ns : b->deadline_ns;
	b->full = b->count >= most_of(config) ||
		  (config->bytes_most != 0 && b->bytes >= config->bytes_most);
	return true;
}

/* The largest preferred size that is there, 0: none. */
static uint32_t preferred(const struct gq_batch *b, const struct gq_batch_config *config)
{
	uint32_t best = 0;

	for (int i = 0; i < GQ_BATCH_PREFERRED; i++) {
		if (config->preferred[i] <= b->count && config->preferred[i] > best)
			best = config->preferred[i];
	}
	return best;
}

uint32_t gq__batch_due(const struct gq_batch *b, const struct gq_batch_config *config,
		       uint64_t run_ns, uint64_t now_ns, uint64_t *out_when)
{
	const uint32_t size = preferred(b, config);
	uint64_t when = UINT64_MAX;

	*out_when = UINT64_MAX;
	if (b->count == 0)
		return 0;
	if (size > 0 && (!b->full || size == b->count))
		return size;
	if (b->full)
		return b->count;
	if (config->delay_ns < UINT64_MAX - b->oldest_ns)
		when = b->oldest_ns + config->delay_ns;
	if (b->deadline_ns != UINT64_MAX) {
		const uint64_t last = b->deadline_ns > run_ns ? b->deadline_ns - run_ns : 0;

		when = last < when ? last : when;
	}
	if (now_ns >= when)
		return b->count;
	*out_when = when;
	return 0;
}
