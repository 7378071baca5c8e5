/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - what is on the wire between a client, a worker and the daemon: numbers and limits. All
 * numbers are little-endian. frame.h reads and writes them.
 */
#ifndef GPUQ_BROKER_POLICY_WIRE_H
#define GPUQ_BROKER_POLICY_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GQ_WIRE_MAGIC   0x56455849u
#define GQ_WIRE_VERSION 1u

enum {
	GQ_WIRE_HEADER_BYTES = 40,
	GQ_WIRE_TLV_HEADER_BYTES = 8, /* u16 type, u16 flags, u32 bytes of the value */
	GQ_WIRE_ALIGN = 8,            /* a value is padded with zeros to a multiple of this */
	GQ_WIRE_FRAME_MAX = 64 * 1024,
	GQ_WIRE_MESSAGE_MAX = 16 * 1024 * 1024, /* in fragments, or in a region; of a region */
	GQ_WIRE_TLVS_MAX = 32,                  /* in one frame; there is no nesting */
	GQ_WIRE_NAME_MAX = 64,                  /* [A-Za-z0-9._-] */
	GQ_WIRE_CAPABILITY_MAX = 256,
	GQ_WIRE_BATCH_MAX = 1000,
};

/* A frame's header, in bytes from its start. */
enum {
	GQ_WIRE_AT_MAGIC = 0,
	GQ_WIRE_AT_VERSION = 4,
	GQ_WIRE_AT_TYPE = 8,
	GQ_WIRE_AT_LENGTH = 12,      /* header included */
	GQ_WIRE_AT_CORRELATION = 16, /* u64 */
	GQ_WIRE_AT_TIMESTAMP = 24,   /* u64, ms of the wall clock; decides nothing */
	GQ_WIRE_AT_FLAGS = 32,
	GQ_WIRE_AT_CHECKSUM = 36,
};

/* Flags of a frame. All others are 0. */
enum {
	GQ_FLAG_CHECKSUM = 1u << 0,   /* the field is the CRC-32C of the frame with the field 0 */
	GQ_FLAG_REPLY = 1u << 1,      /* answers a frame of the same type: a hello, a watch, ... */
	GQ_FLAG_PRESSURE = 1u << 2,   /* to a client: submit less, the daemon fills up */
	GQ_FLAG_CACHE = 1u << 3,      /* of a request: an answer from the cache is welcome */
	GQ_FLAG_IDEMPOTENT = 1u << 4, /* of a request: running twice does no harm */
	GQ_FLAG_ALL_OR_NOTHING = 1u << 5, /* of a batch: admit all items or none */
	GQ_FLAGS = (1u << 6) - 1,
};

/* Bits of FEATURES. Others say nothing. */
#define GQ_FEATURE_REGIONS (UINT64_C(1) << 0) /* takes requests whose payload lies in a region */
#define GQ_FEATURE_CHECKS  (UINT64_C(1) << 1) /* as a worker: it answers HEALTH_CHECK */

/* Flags of a TLV. All others are 0. */
enum { GQ_TLV_MUST = 1u << 0 /* a receiver that does not know it refuses the frame */ };

/* Types of frames. X(NAME, number) */
#define GQ_MESSAGE_LIST(X)                                                                         \
	X(REGISTER, 0x0001)                                                                        \
	X(UNREGISTER, 0x0002)                                                                      \
	X(HEARTBEAT, 0x0003)                                                                       \
	X(DISCOVERY, 0x0004)                                                                       \
	X(REQUEST, 0x0100)                                                                         \
	X(RESPONSE, 0x0101)                                                                        \
	X(BATCH_REQUEST, 0x0102)                                                                   \
	X(BATCH_RESPONSE, 0x0103)                                                                  \
	X(STATUS_REQUEST, 0x0200)                                                                  \
	X(STATUS_RESPONSE, 0x0201)                                                                 \
	X(HEALTH_CHECK, 0x0202)                                                                    \
	X(HEALTH_RESPONSE, 0x0203)                                                                 \
	X(ERROR, 0x0300)                                                                           \
	X(ACK, 0x0301)                                                                             \
	X(NACK, 0x0302)                                                                            \
	X(HELLO, 0x0400)                                                                           \
	X(REGION, 0x0401)                                                                          \
	X(RING, 0x0402)                                                                            \
	X(CANCEL, 0x0403)                                                                          \
	X(CREDIT, 0x0404)                                                                          \
	X(WATCH, 0x0405)                                                                           \
	X(DRAIN, 0x0406)                                                                           \
	X(STATS, 0x0407)                                                                           \
	X(ORDER, 0x0408)

/* What frames carry. X(NAME, number, fewest bytes, most bytes). Numbers are below 64. */
#define GQ_TLV_LIST(X)                                                                             \
	X(NAME, 1, 1, GQ_WIRE_NAME_MAX)   /* of an op or a service */                              \
	X(CLIENT, 2, 1, GQ_WIRE_NAME_MAX) /* the client's own name */                              \
	X(VERSIONS, 3, 8, 8)              /* u32 lowest, u32 highest that the sender speaks */     \
	X(FEATURES, 4, 8, 8)              /* u64, a bit each */                                    \
	X(RINGS, 5, 16, 16)               /* u32 submissions, u32 completions, u64 bytes */        \
	X(RESUME, 6, 16, 64)              /* what a reconnecting client proves itself with */      \
	X(EPOCH, 7, 8, 8)                 /* u64, random for each start of the daemon */           \
	X(LIMITS, 8, 24, 24)              /* u64 frame, u64 message in bytes, u64 batch items */   \
	X(CREDITS, 9, 16, 16)             /* u64 requests, u64 bytes */                            \
	X(STATUS, 10, 16, 16) /* u32 status, retry kind, retry after ms, seen (0, 1) */            \
	X(TEXT, 11, 0, 1024)  /* for people */                                                     \
	X(PAYLOAD, 12, 0, GQ_WIRE_FRAME_MAX)                                                       \
	X(REGION, 13, 24, 24)     /* u64 id, u64 offset, u64 length */                             \
	X(TIMEOUT, 14, 8, 8)      /* u64 us from receipt */                                        \
	X(PRIORITY, 15, 1, 1)     /* u8 */                                                         \
	X(SESSION, 16, 1, 64)     /* requests with the same bytes go to the same service */        \
	X(IDEMPOTENCY, 17, 1, 64) /* requests with the same bytes run once */                      \
	X(ITEMS, 18, 16, 16 * GQ_WIRE_BATCH_MAX) /* struct gq_item each; their bytes: PAYLOAD */   \
	X(FRAGMENT, 19, 16, 16) /* u64 offset of PAYLOAD in a message of so many bytes: u64 */     \
	X(TOKEN, 20, 1, 4096)   /* a capability token */                                           \
	X(CAPABILITY, 21, 1, 64 * GQ_WIRE_CAPABILITY_MAX)                                          \
	X(LOAD, 22, 16, 16)        /* u32 cpu, u32 memory in 1/1000, u32 depth, u32 capacity */    \
	X(HEALTH, 23, 8, 8)        /* u32 state, u32 health */                                     \
	X(GENERATION, 24, 8, 8)    /* u64, of a service */                                         \
	X(FILTER, 25, 1, 4096)     /* what a discovery looks for, or a request needs */            \
	X(REVISION, 26, 8, 8)      /* u64, of the registry */                                      \
	X(EVENT, 27, 8, 8)         /* u32 kind, u32 0 */                                           \
	X(TARGET, 28, 8, 8)        /* u64 correlation of the frame that is meant */                \
	X(TRACE, 29, 1, 64)        /* a W3C traceparent */                                         \
	X(MISMATCH, 30, 8, 8)      /* u32 version expected, u32 found */                           \
	X(PARAMETERS, 31, 0, 4096) /* of an op */                                                  \
	X(REPORT, 32, 0, GQ_WIRE_FRAME_MAX)                                                        \
	X(ACTION, 33, 4, 4)     /* u32: 1 begin, 2 end */                                          \
	X(SIZE, 34, 8, 8)       /* u64 bytes of a region */                                        \
	X(OP_VERSION, 35, 4, 4) /* u32 */                                                          \
	X(ORDER, 36, 4, 4)      /* u32: enum gq_order */                                           \
	X(UID, 37, 4, 4)        /* u32: of an order that is about one user's answers */            \
	X(BATCH, 38, 8, 8)      /* u32 the request's place in its batch, u32 how many it has */

/* What whoever runs the daemon may order. Those before FORGET are about the service NAME, FORGET
 * and FORGET_OP about the op NAME. X(NAME, number, text) */
#define GQ_ORDER_LIST(X)                                                                           \
	X(DRAIN, 1, "drain")                        /* nothing new; sessions go on for TIMEOUT */  \
	X(RESUME, 2, "resume")                      /* drain no more */                            \
	X(BREAKER_OPEN, 3, "open the breaker of")   /* until it is closed, or reset */             \
	X(BREAKER_CLOSE, 4, "close the breaker of") /* and it does not open by itself */           \
	X(BREAKER_RESET, 5, "reset the breaker of") /* closed, and as new */                       \
	X(FORGET, 6, "forget an answer of")         /* to PAYLOAD, of the user UID */              \
	X(FORGET_OP, 7, "forget all answers of")                                                   \
	X(FORGET_ALL, 8, "forget all answers")

/* What an answer says. X(NAME, number, text). Numbers never change. */
#define GQ_WIRE_STATUS_LIST(X)                                                                     \
	X(SUCCESS, 0, "success")                                                                   \
	X(ERROR, 1, "error")                                                                       \
	X(TIMEOUT, 2, "timeout")                                                                   \
	X(OVERLOADED, 3, "overloaded")                                                             \
	X(INVALID, 4, "invalid")                                                                   \
	X(NOT_FOUND, 5, "not found")                                                               \
	X(INTERNAL, 6, "internal error")                                                           \
	X(CANCELLED, 7, "cancelled")                                                               \
	X(RATE_LIMITED, 8, "rate limited")                                                         \
	X(UNAUTHENTICATED, 9, "unauthenticated")                                                   \
	X(DENIED, 10, "denied")                                                                    \
	X(LOST, 11, "lost")                                                                        \
	X(SHUTTING_DOWN, 12, "shutting down")                                                      \
	X(CHECKSUM, 13, "checksum")                                                                \
	X(UNSUPPORTED, 14, "unsupported")                                                          \
	X(BREAKER_OPEN, 15, "breaker open")                                                        \
	X(FD_EXHAUSTED, 16, "no descriptor left")                                                  \
	X(REGION_REVOKED, 17, "region revoked")

#define GQ_AS_MESSAGE(name, number)           GQ_MESSAGE_##name = (number),
#define GQ_AS_TLV(name, number, least, most)  GQ_TLV_##name = (number),
#define GQ_AS_ORDER(name, number, text)       GQ_ORDER_##name = (number),
#define GQ_AS_WIRE_STATUS(name, number, text) GQ_WIRE_##name = (number),
enum gq_message_type { GQ_MESSAGE_LIST(GQ_AS_MESSAGE) };
enum gq_tlv_type { GQ_TLV_LIST(GQ_AS_TLV) GQ_TLV_END };
enum gq_order { GQ_ORDER_LIST(GQ_AS_ORDER) GQ_ORDER_END };
enum gq_wire_status { GQ_WIRE_STATUS_LIST(GQ_AS_WIRE_STATUS) GQ_WIRE_STATUS_END };
#undef GQ_AS_MESSAGE
#undef GQ_AS_TLV
#undef GQ_AS_ORDER
#undef GQ_AS_WIRE_STATUS

/* Whether the same request may be sent again after an answer other than success. */
enum gq_retry_kind {
	GQ_RETRY_NEVER,
	GQ_RETRY_SAFE,       /* no worker has seen it */
	GQ_RETRY_IDEMPOTENT, /* a worker may have run it: only if running twice does no harm */
};

/* One item of a batch. A request's `status` and `latency_us` are 0. */
struct gq_item {
	uint32_t offset; /* in the PAYLOAD of the frame */
	uint32_t bytes;
	uint32_t status; /* enum gq_wire_status */
	uint32_t latency_us;
};

/** The status in words, or NULL if there is no such status. */
const char *gq__wire_status_text(uint32_t status);

/** The message type's name in capitals, or NULL if there is no such type. */
const char *gq__message_name(uint32_t type);

/** An order in words, or NULL if there is no such order. */
const char *gq__order_text(uint32_t order);

/** Whether these bytes are a name: 1 to 64 of [A-Za-z0-9._-]. */
bool gq__name_valid(const void *name, size_t bytes);

/**
 * Which version two peers speak: the highest of both.
 * @param out  written if there is one
 * @return false if there is none, also if low > high
 */
bool gq__wire_negotiate(uint32_t low, uint32_t high, uint32_t *out);

#endif /* GPUQ_BROKER_POLICY_WIRE_H */
