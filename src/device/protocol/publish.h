/* SPDX-License-Identifier: Apache-2.0 */
/* publish.h - the producer's last step: publish slots that it has filled. Host only. */
#ifndef GPUQ_PROTOCOL_PUBLISH_H
#define GPUQ_PROTOCOL_PUBLISH_H

#include "device/protocol/channel.h"

/* Hand `n` filled slots of one class over, in order. */
GQ_FN void gq_publish(const struct gq_channel *ch, uint32_t priority, const uint64_t *ids,
		      uint32_t n)
{
	const struct gq_word_ring r = ch->ready[priority]; /* a copy: stays in registers */
	const bool hinted = GQ_HAS_BAR1 && ch->hints != NULL;
	/* [tail.read] acquire: pairs with [tail.raise] */
	uint64_t pos = gq_load_acquire_u64(r.tail);

	for (uint32_t i = 0; i < n; i++) {
		gq_word_ring_put(&r, &pos, ids[i] & r.value_mask);
		if (__builtin_expect(hinted, 0)) {
			GQ_WINDOW(); /* the next lap's may come first: then that one is overwritten
				      */
			/* [hint.write] release: what the slot's producer has seen. */
			gq_store_release_u64(gq_hint_at(ch, priority, pos - 1),
					     gq_word_ring_tag(&r, pos - 1) |
						     (ids[i] & r.value_mask));
		}
	}
	if (hinted)
		gq_push_stores();
	GQ_WINDOW();
	gq_word_ring_raise_tail(&r, pos);
}

#endif /* GPUQ_PROTOCOL_PUBLISH_H */
