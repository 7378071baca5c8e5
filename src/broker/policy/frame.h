/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - the frame codec: bytes of a peer to a checked frame, and back. Pure: no I/O, no
 * allocation, no copies. Every byte that a peer sends is taken for hostile.
 *
 * A decoded frame is a view of the bytes that it was decoded from: they must stay, unchanged, as
 * long as it is used. Bytes that a peer can still write, in shared memory, are copied first.
 */
#ifndef GPUQ_BROKER_POLICY_FRAME_H
#define GPUQ_BROKER_POLICY_FRAME_H

#include "wire.h"

/* What is wrong with a frame, in the order in which it is looked for. X(NAME, text) */
#define GQ_FRAME_STATUS_LIST(X)                                                                    \
	X(OK, "the frame is good")                                                                 \
	X(SHORT, "fewer bytes than a header has")                                                  \
	X(MAGIC, "the magic number is wrong")                                                      \
	X(VERSION, "another version of the protocol")                                              \
	X(LENGTH, "the length is below a header's, above the limit, not a multiple of 8, or not "  \
		  "what came")                                                                     \
	X(FLAGS, "a reserved flag is set")                                                         \
	X(NO_CHECKSUM, "this transport needs a checksum, and there is none")                       \
	X(CHECKSUM, "the checksum is wrong, or is there without its flag")                         \
	X(TYPE, "an unknown message type")                                                         \
	X(STATE, "this message may not come now, or not from this side")                           \
	X(TLV_MANY, "more than 32 TLVs")                                                           \
	X(TLV_CUT, "a TLV is longer than what is left of the frame")                               \
	X(TLV_FLAGS, "a reserved flag of a TLV is set")                                            \
	X(TLV_PADDING, "a TLV's padding is not zero")                                              \
	X(TLV_UNKNOWN, "an unknown TLV that must be understood")                                   \
	X(TLV_TWICE, "the same TLV twice")                                                         \
	X(TLV_SIZE, "a TLV's value has the wrong size")                                            \
	X(TLV_VALUE, "a TLV's value is out of its range")                                          \
	X(TLV_MISSING, "a TLV that this message needs is missing")                                 \
	X(ROOM, "no room to encode into")

#define GQ_AS_FRAME_STATUS(name, text) GQ_FRAME_##name,
enum gq_frame_status { GQ_FRAME_STATUS_LIST(GQ_AS_FRAME_STATUS) GQ_FRAME_STATUS_END };
#undef GQ_AS_FRAME_STATUS

/* Where a connection stands. */
enum gq_frame_state {
	GQ_FRAME_BEFORE_HELLO, /* a hello is legal, and an answer that says why there is none */
	GQ_FRAME_AFTER_HELLO,  /* everything but a hello is legal */
};

/* Who receives. */
enum gq_frame_receiver { GQ_FRAME_AT_DAEMON, GQ_FRAME_AT_PEER };

/* What a receiver takes. Zero is: at the daemon, before the hello, every limit at its default. */
struct gq_frame_rules {
	uint32_t frame_bytes; /* the longest frame; 0: 64 KiB. At most that */
	enum gq_frame_receiver receiver;
	enum gq_frame_state state;
	bool need_checksum; /* on transports that do not keep bytes by themselves */
	/* TLVs to take for unknown, a bit each: what an older peer does not know. 0 but in tests */
	uint64_t unknown_tlvs;
};

/* A value in the frame. */
struct gq_view {
	const uint8_t *data;
	uint32_t bytes;
};

/* A frame that has been decoded, or is to be encoded. */
struct gq_frame {
	uint32_t version; /* encoding: of no account */
	uint32_t type;    /* enum gq_message_type */
	uint32_t length;  /* bytes, header included; encoding: of no account */
	uint32_t flags;
	uint64_t correlation;
	uint64_t timestamp_ms;
	uint64_t present;               /* a bit for each TLV that is there: 1 << GQ_TLV_X */
	uint64_t must;                  /* of these, those that must be understood */
	struct gq_view tlv[GQ_TLV_END]; /* valid where the bit of `present` is set */
};

/**
 * Checks a whole frame and finds its TLVs, in this order: size, magic, version, length, flags,
 * checksum, type and state, TLVs. Linear in the bytes, which are read twice at most (the checksum
 * and the TLVs).
 * @param bytes  of the datagram, or those that gq__frame_length() has said: exactly one frame
 * @param out    on success all of it; after GQ_FRAME_SHORT nothing; after any other error the
 * header fields, for the answer: `correlation` names the frame, `version` what the peer speaks
 * @return GQ_FRAME_OK, or the first thing that is wrong; see gq__frame_closes() and
 *         gq__frame_answer() for what to do about it
 * Threads: any, on frames of their own.
 */
enum gq_frame_status gq__frame_decode(const void *data, size_t bytes,
				      const struct gq_frame_rules *rules, struct gq_frame *out);

/**
 * For streams: how long the frame is that begins with these bytes.
 * @param out  the frame's bytes, header included, at most the rules' limit; written on success
 * @return GQ_FRAME_OK; GQ_FRAME_SHORT: fewer than 40 bytes are here, read on; GQ_FRAME_MAGIC,
 *         GQ_FRAME_VERSION, GQ_FRAME_LENGTH: close
 */
enum gq_frame_status gq__frame_length(const void *data, size_t bytes,
				      const struct gq_frame_rules *rules, uint32_t *out);

/** Whether a TLV is there. Types that do not exist are not there. */
static inline bool gq_frame_has(const struct gq_frame *frame, enum gq_tlv_type type)
{
	return (unsigned int)type < GQ_TLV_END && (frame->present >> type & 1) != 0;
}

/** A number of a TLV that is there: `index` counts fields of the size that is read. 0: not there.
 */
uint64_t gq__frame_u64(const struct gq_frame *frame, enum gq_tlv_type type, uint32_t index);
uint32_t gq__frame_u32(const struct gq_frame *frame, enum gq_tlv_type type, uint32_t index);
uint8_t gq__frame_u8(const struct gq_frame *frame, enum gq_tlv_type type);

/** How many items a batch has, 0 without ITEMS. */
uint32_t gq__frame_items(const struct gq_frame *frame);

/** An item of a batch, 0 <= index < gq__frame_items(); its bytes lie within PAYLOAD. */
struct gq_item gq__frame_item(const struct gq_frame *frame, uint32_t index);

/** Put a value into a frame that is to be encoded. The bytes stay the caller's, and stay. */
void gq__frame_set(struct gq_frame *frame, enum gq_tlv_type type, bool must, const void *data,
		   size_t bytes);

/**
 * Writes a frame: the header, then TLVs by ascending type. The checksum is written if
 * GQ_FLAG_CHECKSUM is among the flags.
 * @param out_bytes  the frame's length; written on success
 * @return GQ_FRAME_OK; GQ_FRAME_ROOM: it has more than `room` or 64 KiB; or what a decoder would
 *         say to it: GQ_FRAME_FLAGS, GQ_FRAME_TYPE, GQ_FRAME_TLV_*
 */
enum gq_frame_status gq__frame_encode(const struct gq_frame *frame, void *data, size_t room,
				      size_t *out_bytes);

/** Whether the framing is lost: one GQ_MESSAGE_NACK, then close. After others go on. */
bool gq__frame_closes(enum gq_frame_status status);

/** The status for the answer to a frame that was not taken. */
enum gq_wire_status gq__frame_answer(enum gq_frame_status status);

/** What is wrong, in words. */
const char *gq__frame_status_text(enum gq_frame_status status);

#endif /* GPUQ_BROKER_POLICY_FRAME_H */
