/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - the batch builder. */
#include "batch.h"

uint32_t batch_want(const struct batch *b, uint32_t room)
{
	const uint32_t lacks = b->count < b->most ? b->most - b->count : 0;

	return lacks < room ? lacks : room;
}

uint32_t batch_ahead(const struct batch *b, uint32_t room, uint32_t coming)
{
	const uint32_t left = coming < room ? room - coming : 0;

	if (b->delay_us > 0 && b->count + coming < b->most)
		return 0;
	return left < b->most ? left : b->most;
}

void batch_add(struct batch *b, uint32_t count, uint64_t now_us)
{
	if (b->count == 0)
		b->first_us = now_us;
	b->count += count;
}

uint64_t batch_wait_us(const struct batch *b, uint64_t now_us)
{
	const uint64_t waited = now_us > b->first_us ? now_us - b->first_us : 0;

	if (b->count == 0)
		return UINT64_MAX;
	return waited < b->delay_us ? b->delay_us - waited : 0;
}

bool batch_due(const struct batch *b, uint32_t room, uint64_t now_us)
{
	return b->count > 0 && (batch_want(b, room) == 0 || batch_wait_us(b, now_us) == 0);
}

void batch_reset(struct batch *b)
{
	b->count = 0;
}
