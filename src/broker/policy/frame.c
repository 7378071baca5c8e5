/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c - decodes and encodes frames; see wire.h for the bytes. */
#include "frame.h"

#include "crc32c.h"

#include <string.h>

#define BIT(name) (UINT64_C(1) << GQ_TLV_##name)

/* Who may get a message, and when. */
enum {
	TO_DAEMON_NEW = 1,
	TO_DAEMON = 2,
	TO_PEER_NEW = 4,
	TO_PEER = 8,
	TO_BOTH = TO_DAEMON | TO_PEER,
};

/* What a message may and must carry. */
struct rule {
	uint32_t type;
	uint32_t legal;
	uint64_t needs;
	uint64_t takes;
};

#define OF_A_REQUEST                                                                               \
	(BIT(REGION) | BIT(TIMEOUT) | BIT(PRIORITY) | BIT(SESSION) | BIT(IDEMPOTENCY) |            \
	 BIT(FRAGMENT) | BIT(TRACE) | BIT(PARAMETERS) | BIT(OP_VERSION) | BIT(TARGET) |            \
	 BIT(FILTER) | BIT(BATCH))
#define OF_AN_ANSWER (BIT(STATUS) | BIT(TEXT) | BIT(TARGET) | BIT(CREDITS) | BIT(TRACE))

static const struct rule rules_by_type[] = {
	{ GQ_MESSAGE_REGISTER, TO_DAEMON, BIT(NAME) | BIT(CAPABILITY),
	  BIT(TOKEN) | BIT(PRIORITY) | BIT(LOAD) | BIT(RINGS) },
	{ GQ_MESSAGE_UNREGISTER, TO_DAEMON, BIT(NAME) | BIT(GENERATION), 0 },
	{ GQ_MESSAGE_HEARTBEAT, TO_DAEMON, BIT(NAME) | BIT(GENERATION), BIT(LOAD) | BIT(HEALTH) },
	{ GQ_MESSAGE_DISCOVERY, TO_BOTH, 0,
	  BIT(FILTER) | BIT(REPORT) | BIT(REVISION) | OF_AN_ANSWER },
	{ GQ_MESSAGE_REQUEST, TO_BOTH, BIT(NAME), BIT(PAYLOAD) | OF_A_REQUEST },
	{ GQ_MESSAGE_RESPONSE, TO_BOTH, BIT(STATUS),
	  BIT(PAYLOAD) | BIT(REGION) | BIT(FRAGMENT) | BIT(GENERATION) | OF_AN_ANSWER },
	{ GQ_MESSAGE_BATCH_REQUEST, TO_BOTH, BIT(NAME) | BIT(ITEMS) | BIT(PAYLOAD), OF_A_REQUEST },
	{ GQ_MESSAGE_BATCH_RESPONSE, TO_BOTH, BIT(ITEMS) | BIT(PAYLOAD),
	  BIT(GENERATION) | BIT(REGION) | OF_AN_ANSWER },
	{ GQ_MESSAGE_STATUS_REQUEST, TO_BOTH, 0, BIT(NAME) },
	{ GQ_MESSAGE_STATUS_RESPONSE, TO_BOTH, 0,
	  BIT(NAME) | BIT(HEALTH) | BIT(LOAD) | BIT(GENERATION) | BIT(REPORT) | OF_AN_ANSWER },
	{ GQ_MESSAGE_HEALTH_CHECK, TO_BOTH, 0, BIT(NAME) },
	{ GQ_MESSAGE_HEALTH_RESPONSE, TO_BOTH, BIT(HEALTH),
	  BIT(NAME) | BIT(GENERATION) | OF_AN_ANSWER },
	{ GQ_MESSAGE_ERROR, TO_BOTH | TO_PEER_NEW, BIT(STATUS), BIT(MISMATCH) | OF_AN_ANSWER },
	{ GQ_MESSAGE_ACK, TO_BOTH, BIT(TARGET),
	  BIT(GENERATION) | BIT(REVISION) | BIT(REGION) | OF_AN_ANSWER },
	{ GQ_MESSAGE_NACK, TO_BOTH | TO_PEER_NEW, BIT(STATUS), BIT(MISMATCH) | OF_AN_ANSWER },
	{ GQ_MESSAGE_HELLO, TO_DAEMON_NEW | TO_PEER_NEW, BIT(VERSIONS),
	  BIT(FEATURES) | BIT(CLIENT) | BIT(RINGS) | BIT(RESUME) | BIT(EPOCH) | BIT(LIMITS) |
		  BIT(CREDITS) | BIT(TOKEN) | BIT(NAME) },
	{ GQ_MESSAGE_REGION, TO_BOTH, BIT(ACTION), BIT(REGION) | BIT(SIZE) | OF_AN_ANSWER },
	{ GQ_MESSAGE_RING, TO_BOTH, BIT(RINGS), BIT(SIZE) | OF_AN_ANSWER },
	{ GQ_MESSAGE_CANCEL, TO_BOTH, BIT(TARGET), 0 },
	{ GQ_MESSAGE_CREDIT, TO_BOTH, BIT(CREDITS), 0 },
	{ GQ_MESSAGE_WATCH, TO_BOTH, 0,
	  BIT(NAME) | BIT(FILTER) | BIT(REVISION) | BIT(EVENT) | BIT(GENERATION) | BIT(HEALTH) |
		  BIT(CAPABILITY) | BIT(ACTION) | BIT(REPORT) | OF_AN_ANSWER },
	{ GQ_MESSAGE_DRAIN, TO_BOTH, 0, BIT(NAME) | BIT(TIMEOUT) | OF_AN_ANSWER },
	{ GQ_MESSAGE_STATS, TO_BOTH, 0, BIT(NAME) | BIT(REPORT) | OF_AN_ANSWER },
	{ GQ_MESSAGE_ORDER, TO_DAEMON, BIT(ORDER),
	  BIT(NAME) | BIT(TIMEOUT) | BIT(PAYLOAD) | BIT(PARAMETERS) | BIT(OP_VERSION) | BIT(UID) },
};

static const struct {
	uint32_t least;
	uint32_t most;
} sizes[GQ_TLV_END] = {
#define GQ_AS_SIZE(name, number, least, most) [number] = { (least), (most) },
	GQ_TLV_LIST(GQ_AS_SIZE)
#undef GQ_AS_SIZE
};

static const struct rule *rule_of(uint32_t type)
{
	for (size_t i = 0; i < sizeof(rules_by_type) / sizeof(rules_by_type[0]); i++) {
		if (rules_by_type[i].type == type)
			return &rules_by_type[i];
	}
	return NULL;
}

static uint16_t get16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/*
 * The checksum is never 0, so that a frame with a checksum whose flag has been lost is seen:
 * without the flag the field must be 0.
 */
static uint32_t checksum_of(const uint8_t *frame, size_t bytes)
{
	static const uint8_t zero[4];
	uint32_t crc = gq__crc32c(0, frame, GQ_WIRE_AT_CHECKSUM);

	crc = gq__crc32c(crc, zero, sizeof(zero));
	crc = gq__crc32c(crc, frame + GQ_WIRE_HEADER_BYTES, bytes - GQ_WIRE_HEADER_BYTES);
	return crc != 0 ? crc : UINT32_MAX;
}

static uint32_t limit_of(const struct gq_frame_rules *rules)
{
	const uint32_t bytes = rules->frame_bytes;

	return bytes == 0 || bytes > GQ_WIRE_FRAME_MAX ? GQ_WIRE_FRAME_MAX : bytes;
}

enum gq_frame_status gq__frame_length(const void *data, size_t bytes,
				      const struct gq_frame_rules *rules, uint32_t *out)
{
	const uint8_t *at = data;
	uint32_t length;

	if (bytes < GQ_WIRE_HEADER_BYTES)
		return GQ_FRAME_SHORT;
	if (get32(at + GQ_WIRE_AT_MAGIC) != GQ_WIRE_MAGIC)
		return GQ_FRAME_MAGIC;
	if (get32(at + GQ_WIRE_AT_VERSION) != GQ_WIRE_VERSION)
		return GQ_FRAME_VERSION;
	length = get32(at + GQ_WIRE_AT_LENGTH);
	if (length < GQ_WIRE_HEADER_BYTES || length > limit_of(rules) ||
	    length % GQ_WIRE_ALIGN != 0)
		return GQ_FRAME_LENGTH;
	*out = length;
	return GQ_FRAME_OK;
}

static enum gq_frame_status check_header(const uint8_t *at, size_t bytes,
					 const struct gq_frame_rules *rules,
					 const struct gq_frame *frame)
{
	uint32_t length;
	const enum gq_frame_status status = gq__frame_length(at, bytes, rules, &length);
	const uint32_t sum = get32(at + GQ_WIRE_AT_CHECKSUM);

	if (status != GQ_FRAME_OK)
		return status;
	if (length != bytes)
		return GQ_FRAME_LENGTH;
	if ((frame->flags & ~(uint32_t)GQ_FLAGS) != 0)
		return GQ_FRAME_FLAGS;
	if ((frame->flags & GQ_FLAG_CHECKSUM) != 0)
		return sum == checksum_of(at, bytes) ? GQ_FRAME_OK : GQ_FRAME_CHECKSUM;
	if (sum != 0)
		return GQ_FRAME_CHECKSUM;
	return rules->need_checksum ? GQ_FRAME_NO_CHECKSUM : GQ_FRAME_OK;
}

static bool is_legal(const struct rule *rule, const struct gq_frame_rules *rules)
{
	const bool after = rules->state == GQ_FRAME_AFTER_HELLO;

	if (rules->receiver == GQ_FRAME_AT_DAEMON)
		return (rule->legal & (after ? TO_DAEMON : TO_DAEMON_NEW)) != 0;
	return (rule->legal & (after ? TO_PEER : TO_PEER_NEW)) != 0;
}

static bool items_fit(const struct gq_frame *frame)
{
	const struct gq_view *payload = &frame->tlv[GQ_TLV_PAYLOAD];
	const uint32_t room = gq_frame_has(frame, GQ_TLV_PAYLOAD) ? payload->bytes : 0;
	uint32_t end = 0;

	for (uint32_t i = 0; i < gq__frame_items(frame); i++) {
		const struct gq_item item = gq__frame_item(frame, i);

		if (item.offset != end || item.bytes > room - end ||
		    item.status >= GQ_WIRE_STATUS_END)
			return false;
		end += item.bytes;
	}
	return true;
}

static bool fragment_fits(const struct gq_frame *frame)
{
	const uint64_t offset = gq__frame_u64(frame, GQ_TLV_FRAGMENT, 0);
	const uint64_t total = gq__frame_u64(frame, GQ_TLV_FRAGMENT, 1);
	const bool payload = gq_frame_has(frame, GQ_TLV_PAYLOAD);

	return payload && total <= GQ_WIRE_MESSAGE_MAX && offset <= total &&
	       frame->tlv[GQ_TLV_PAYLOAD].bytes <= total - offset;
}

static bool region_fits(const struct gq_frame *frame)
{
	const uint64_t offset = gq__frame_u64(frame, GQ_TLV_REGION, 1);
	const uint64_t length = gq__frame_u64(frame, GQ_TLV_REGION, 2);

	return length <= UINT64_MAX - offset;
}

static bool name_is_valid(const struct gq_frame *frame, enum gq_tlv_type type)
{
	return !gq_frame_has(frame, type) ||
	       gq__name_valid(frame->tlv[type].data, frame->tlv[type].bytes);
}

/* What the sizes do not say. */
static bool values_are_valid(const struct gq_frame *frame)
{
	if (!name_is_valid(frame, GQ_TLV_NAME) || !name_is_valid(frame, GQ_TLV_CLIENT))
		return false;
	if (gq_frame_has(frame, GQ_TLV_ITEMS) &&
	    (frame->tlv[GQ_TLV_ITEMS].bytes % sizeof(struct gq_item) != 0 || !items_fit(frame)))
		return false;
	if (gq_frame_has(frame, GQ_TLV_FRAGMENT) && !fragment_fits(frame))
		return false;
	if (gq_frame_has(frame, GQ_TLV_REGION) && !region_fits(frame))
		return false;
	if (gq_frame_has(frame, GQ_TLV_STATUS) &&
	    (gq__frame_u32(frame, GQ_TLV_STATUS, 0) >= GQ_WIRE_STATUS_END ||
	     gq__frame_u32(frame, GQ_TLV_STATUS, 1) > GQ_RETRY_IDEMPOTENT ||
	     gq__frame_u32(frame, GQ_TLV_STATUS, 3) > 1))
		return false;
	if (gq_frame_has(frame, GQ_TLV_TIMEOUT) && gq__frame_u64(frame, GQ_TLV_TIMEOUT, 0) == 0)
		return false;
	if (gq_frame_has(frame, GQ_TLV_BATCH) &&
	    gq__frame_u32(frame, GQ_TLV_BATCH, 0) >= gq__frame_u32(frame, GQ_TLV_BATCH, 1))
		return false;
	return !gq_frame_has(frame, GQ_TLV_ACTION) ||
	       gq__frame_u32(frame, GQ_TLV_ACTION, 0) - 1u <= 1u;
}

/* One TLV of `value` bytes at `at`, within the frame. */
static enum gq_frame_status take_tlv(struct gq_frame *frame, const uint8_t *at, uint32_t value,
				     uint64_t known)
{
	const uint32_t type = get16(at);
	const uint32_t flags = get16(at + 2);
	const uint8_t *data = at + GQ_WIRE_TLV_HEADER_BYTES;

	if ((flags & ~(uint32_t)GQ_TLV_MUST) != 0)
		return GQ_FRAME_TLV_FLAGS;
	for (uint32_t i = value; i % GQ_WIRE_ALIGN != 0; i++) {
		if (data[i] != 0)
			return GQ_FRAME_TLV_PADDING;
	}
	if (type >= GQ_TLV_END || (known >> type & 1) == 0)
		return (flags & GQ_TLV_MUST) != 0 ? GQ_FRAME_TLV_UNKNOWN : GQ_FRAME_OK;
	if ((frame->present >> type & 1) != 0)
		return GQ_FRAME_TLV_TWICE;
	if (value < sizes[type].least || value > sizes[type].most)
		return GQ_FRAME_TLV_SIZE;
	frame->present |= UINT64_C(1) << type;
	frame->must |= (uint64_t)(flags & GQ_TLV_MUST) << type;
	frame->tlv[type] = (struct gq_view){ data, value };
	return GQ_FRAME_OK;
}

static enum gq_frame_status take_tlvs(struct gq_frame *frame, const uint8_t *at, uint32_t left,
				      uint64_t known)
{
	/* Both lengths are multiples of 8, so a header always fits into what is left. */
	for (uint32_t count = 0; left > 0; count++) {
		uint32_t value;
		uint32_t padded;
		enum gq_frame_status status;

		if (count == GQ_WIRE_TLVS_MAX)
			return GQ_FRAME_TLV_MANY;
		value = get32(at + 4);
		left -= GQ_WIRE_TLV_HEADER_BYTES;
		if (value > left)
			return GQ_FRAME_TLV_CUT;
		padded = (value + GQ_WIRE_ALIGN - 1) & ~(uint32_t)(GQ_WIRE_ALIGN - 1);
		status = take_tlv(frame, at, value, known);
		if (status != GQ_FRAME_OK)
			return status;
		at += GQ_WIRE_TLV_HEADER_BYTES + padded;
		left -= padded;
	}
	return GQ_FRAME_OK;
}

static void read_header(const uint8_t *at, struct gq_frame *out)
{
	out->version = get32(at + GQ_WIRE_AT_VERSION);
	out->type = get32(at + GQ_WIRE_AT_TYPE);
	out->length = get32(at + GQ_WIRE_AT_LENGTH);
	out->flags = get32(at + GQ_WIRE_AT_FLAGS);
	out->correlation = get64(at + GQ_WIRE_AT_CORRELATION);
	out->timestamp_ms = get64(at + GQ_WIRE_AT_TIMESTAMP);
	out->present = 0;
	out->must = 0;
}

enum gq_frame_status gq__frame_decode(const void *data, size_t bytes,
				      const struct gq_frame_rules *rules, struct gq_frame *out)
{
	const uint8_t *at = data;
	const struct rule *rule;
	enum gq_frame_status status;

	if (bytes < GQ_WIRE_HEADER_BYTES)
		return GQ_FRAME_SHORT;
	read_header(at, out);
	status = check_header(at, bytes, rules, out);
	if (status != GQ_FRAME_OK)
		return status;
	rule = rule_of(out->type);
	if (!rule)
		return GQ_FRAME_TYPE;
	if (!is_legal(rule, rules))
		return GQ_FRAME_STATE;
	status = take_tlvs(out, at + GQ_WIRE_HEADER_BYTES, out->length - GQ_WIRE_HEADER_BYTES,
			   (rule->needs | rule->takes) & ~rules->unknown_tlvs);
	if (status != GQ_FRAME_OK)
		return status;
	if (!values_are_valid(out))
		return GQ_FRAME_TLV_VALUE;
	return (rule->needs & ~out->present) == 0 ? GQ_FRAME_OK : GQ_FRAME_TLV_MISSING;
}

uint64_t gq__frame_u64(const struct gq_frame *frame, enum gq_tlv_type type, uint32_t index)
{
	if (!gq_frame_has(frame, type) || index >= frame->tlv[type].bytes / sizeof(uint64_t))
		return 0;
	return get64(frame->tlv[type].data + index * sizeof(uint64_t));
}

uint32_t gq__frame_u32(const struct gq_frame *frame, enum gq_tlv_type type, uint32_t index)
{
	if (!gq_frame_has(frame, type) || index >= frame->tlv[type].bytes / sizeof(uint32_t))
		return 0;
	return get32(frame->tlv[type].data + index * sizeof(uint32_t));
}

uint8_t gq__frame_u8(const struct gq_frame *frame, enum gq_tlv_type type)
{
	return gq_frame_has(frame, type) && frame->tlv[type].bytes > 0 ? frame->tlv[type].data[0]
								       : 0;
}

uint32_t gq__frame_items(const struct gq_frame *frame)
{
	if (!gq_frame_has(frame, GQ_TLV_ITEMS))
		return 0;
	return frame->tlv[GQ_TLV_ITEMS].bytes / (uint32_t)sizeof(struct gq_item);
}

struct gq_item gq__frame_item(const struct gq_frame *frame, uint32_t index)
{
	struct gq_item item = { 0 };

	if (index < gq__frame_items(frame))
		memcpy(&item, frame->tlv[GQ_TLV_ITEMS].data + index * sizeof(item), sizeof(item));
	return item;
}

void gq__frame_set(struct gq_frame *frame, enum gq_tlv_type type, bool must, const void *data,
		   size_t bytes)
{
	const uint64_t bit = UINT64_C(1) << type;

	frame->present |= bit;
	frame->must = must ? frame->must | bit : frame->must & ~bit;
	frame->tlv[type].data = data;
	frame->tlv[type].bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

/* Says what a decoder would say, and how long the frame is. */
static enum gq_frame_status check_to_encode(const struct gq_frame *frame, size_t *out_bytes)
{
	const struct rule *rule = rule_of(frame->type);
	size_t bytes = GQ_WIRE_HEADER_BYTES;
	uint32_t count = 0;

	if (!rule)
		return GQ_FRAME_TYPE;
	if ((frame->flags & ~(uint32_t)GQ_FLAGS) != 0)
		return GQ_FRAME_FLAGS;
	if ((frame->present & ~(rule->needs | rule->takes)) != 0)
		return GQ_FRAME_TLV_UNKNOWN;
	for (uint32_t type = 0; type < GQ_TLV_END; type++) {
		const uint32_t value = frame->tlv[type].bytes;

		if ((frame->present >> type & 1) == 0)
			continue;
		if (value < sizes[type].least || value > sizes[type].most)
			return GQ_FRAME_TLV_SIZE;
		bytes += GQ_WIRE_TLV_HEADER_BYTES;
		bytes += (value + GQ_WIRE_ALIGN - 1) & ~(size_t)(GQ_WIRE_ALIGN - 1);
		count++;
	}
	if (count > GQ_WIRE_TLVS_MAX)
		return GQ_FRAME_TLV_MANY;
	if (!values_are_valid(frame))
		return GQ_FRAME_TLV_VALUE;
	*out_bytes = bytes;
	return (rule->needs & ~frame->present) == 0 ? GQ_FRAME_OK : GQ_FRAME_TLV_MISSING;
}

static uint8_t *put_tlv(uint8_t *at, uint32_t type, bool must, const struct gq_view *value)
{
	const uint16_t type16 = (uint16_t)type;
	const uint16_t flags = must ? GQ_TLV_MUST : 0;
	const size_t padding = (GQ_WIRE_ALIGN - value->bytes % GQ_WIRE_ALIGN) % GQ_WIRE_ALIGN;

	memcpy(at, &type16, sizeof(type16));
	memcpy(at + 2, &flags, sizeof(flags));
	memcpy(at + 4, &value->bytes, sizeof(value->bytes));
	at += GQ_WIRE_TLV_HEADER_BYTES;
	if (value->bytes > 0)
		memcpy(at, value->data, value->bytes);
	memset(at + value->bytes, 0, padding);
	return at + value->bytes + padding;
}

enum gq_frame_status gq__frame_encode(const struct gq_frame *frame, void *data, size_t room,
				      size_t *out_bytes)
{
	size_t bytes;
	const enum gq_frame_status status = check_to_encode(frame, &bytes);
	uint8_t *const start = data;
	uint8_t *at = start + GQ_WIRE_HEADER_BYTES;
	uint32_t header[] = { GQ_WIRE_MAGIC, GQ_WIRE_VERSION, frame->type, 0 };
	const uint32_t tail[] = { frame->flags, 0 };

	if (status != GQ_FRAME_OK)
		return status;
	if (bytes > room || bytes > GQ_WIRE_FRAME_MAX)
		return GQ_FRAME_ROOM;
	header[3] = (uint32_t)bytes;
	memcpy(start, header, sizeof(header));
	memcpy(start + GQ_WIRE_AT_CORRELATION, &frame->correlation, sizeof(frame->correlation));
	memcpy(start + GQ_WIRE_AT_TIMESTAMP, &frame->timestamp_ms, sizeof(frame->timestamp_ms));
	memcpy(start + GQ_WIRE_AT_FLAGS, tail, sizeof(tail));
	for (uint32_t type = 0; type < GQ_TLV_END; type++) {
		if ((frame->present >> type & 1) != 0)
			at = put_tlv(at, type, (frame->must >> type & 1) != 0, &frame->tlv[type]);
	}
	if ((frame->flags & GQ_FLAG_CHECKSUM) != 0) {
		const uint32_t sum = checksum_of(start, bytes);

		memcpy(start + GQ_WIRE_AT_CHECKSUM, &sum, sizeof(sum));
	}
	*out_bytes = bytes;
	return GQ_FRAME_OK;
}

bool gq__frame_closes(enum gq_frame_status status)
{
	return status >= GQ_FRAME_SHORT && status <= GQ_FRAME_LENGTH;
}

enum gq_wire_status gq__frame_answer(enum gq_frame_status status)
{
	switch (status) {
	case GQ_FRAME_OK:
		return GQ_WIRE_SUCCESS;
	case GQ_FRAME_VERSION:
	case GQ_FRAME_TYPE:
	case GQ_FRAME_TLV_UNKNOWN:
		return GQ_WIRE_UNSUPPORTED;
	case GQ_FRAME_CHECKSUM:
	case GQ_FRAME_NO_CHECKSUM:
		return GQ_WIRE_CHECKSUM;
	default:
		return GQ_WIRE_INVALID;
	}
}

const char *gq__frame_status_text(enum gq_frame_status status)
{
	static const char *const texts[GQ_FRAME_STATUS_END] = {
#define GQ_AS_TEXT(name, text) [GQ_FRAME_##name] = (text),
		GQ_FRAME_STATUS_LIST(GQ_AS_TEXT)
#undef GQ_AS_TEXT
	};

	return (unsigned int)status < GQ_FRAME_STATUS_END ? texts[status] : "no such status";
}
