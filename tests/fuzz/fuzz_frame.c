/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_frame.c - a peer that sends whatever it likes: nothing is read beyond the frame, what is
 * taken lies within it, and what is taken can be sent again and is the same.
 */
#include "fuzz.h"

#include "broker/policy/crc32c.h"
#include "broker/policy/frame.h"

#include <stdlib.h>
#include <string.h>

static volatile uint8_t sink; /* so that what is read counts */

static void use(const struct gq_frame *frame, const uint8_t *data, size_t size)
{
	static uint8_t again[GQ_WIRE_FRAME_MAX];
	struct gq_frame_rules rules = { .state = GQ_FRAME_AFTER_HELLO };
	struct gq_frame second;
	size_t bytes = 0;

	for (uint32_t type = 0; type < GQ_TLV_END; type++) {
		const struct gq_view *value = &frame->tlv[type];

		if (!gq_frame_has(frame, (enum gq_tlv_type)type))
			continue;
		if (value->data < data || value->data + value->bytes > data + size)
			abort();
		for (uint32_t i = 0; i < value->bytes; i++)
			sink ^= value->data[i];
	}
	for (uint32_t i = 0; i < gq__frame_items(frame); i++) {
		const struct gq_item item = gq__frame_item(frame, i);

		if (item.offset + (uint64_t)item.bytes > frame->tlv[GQ_TLV_PAYLOAD].bytes)
			abort();
	}
	if (gq__frame_u64(frame, GQ_TLV_REGION, 1) >
	    UINT64_MAX - gq__frame_u64(frame, GQ_TLV_REGION, 2))
		abort();
	if (gq_frame_has(frame, GQ_TLV_BATCH) &&
	    gq__frame_u32(frame, GQ_TLV_BATCH, 0) >= gq__frame_u32(frame, GQ_TLV_BATCH, 1))
		abort();
	if (gq_frame_has(frame, GQ_TLV_ACTION) && gq__frame_u32(frame, GQ_TLV_ACTION, 0) - 1u > 1u)
		abort();
	if (gq__frame_encode(frame, again, sizeof(again), &bytes) != GQ_FRAME_OK || bytes > size)
		abort();
	for (int i = 0; i < 4; i++) {
		enum gq_frame_status status;

		rules.receiver = i & 1 ? GQ_FRAME_AT_PEER : GQ_FRAME_AT_DAEMON;
		rules.state = i & 2 ? GQ_FRAME_BEFORE_HELLO : GQ_FRAME_AFTER_HELLO;
		status = gq__frame_decode(again, bytes, &rules, &second);
		if (status == GQ_FRAME_OK && second.present != frame->present)
			abort();
		if (status != GQ_FRAME_OK && status != GQ_FRAME_STATE)
			abort();
	}
}

static void take(const uint8_t *data, size_t size)
{
	struct gq_frame frame;
	uint32_t length;

	for (int i = 0; i < 4; i++) {
		const struct gq_frame_rules rules = {
			.receiver = i & 1 ? GQ_FRAME_AT_PEER : GQ_FRAME_AT_DAEMON,
			.state = i & 2 ? GQ_FRAME_BEFORE_HELLO : GQ_FRAME_AFTER_HELLO,
		};

		if (gq__frame_decode(data, size, &rules, &frame) == GQ_FRAME_OK)
			use(&frame, data, size);
		if (gq__frame_length(data, size, &rules, &length) == GQ_FRAME_OK && length > 65536)
			abort();
	}
}

/* The liar knows how to compute a checksum: what is behind it is looked for as well. */
void fuzz_one(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (!copy)
		return;
	memcpy(copy, data, size);
	take(copy, size);
	if (size >= GQ_WIRE_HEADER_BYTES && size <= GQ_WIRE_FRAME_MAX) {
		const uint32_t length = (uint32_t)size;
		uint32_t sum = 0;

		memcpy(copy + GQ_WIRE_AT_LENGTH, &length, sizeof(length));
		memcpy(copy + GQ_WIRE_AT_CHECKSUM, &sum, sizeof(sum));
		if ((copy[GQ_WIRE_AT_FLAGS] & GQ_FLAG_CHECKSUM) != 0) {
			sum = gq__crc32c(0, copy, size);
			sum = sum != 0 ? sum : UINT32_MAX;
			memcpy(copy + GQ_WIRE_AT_CHECKSUM, &sum, sizeof(sum));
		}
		take(copy, size);
	}
	free(copy);
}
