/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - what a client and gpuqd agree on: the messages of the handshake, and the layout of the
 * memory that they share afterwards. docs/design/broker.md has the argument.
 */
#ifndef GPUQ_REMOTE_WIRE_H
#define GPUQ_REMOTE_WIRE_H

#include "device/protocol/protocol.h"
#include "host/base/hex.h"
#include "host/base/memory.h"

#include <gpuq/gpuq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the handshake: one message a datagram of a Unix SEQPACKET socket ------------------------ */

#define GQ_WIRE_MAGIC   UINT32_C(0x64717067) /* "gpqd" */
#define GQ_WIRE_VERSION UINT32_C(1)

enum gq_wire_type {
	GQ_WIRE_HELLO = 1, /* client: what queue it wants, and of what size */
	GQ_WIRE_WELCOME,   /* gpuqd: here is your memory; with a memfd and an eventfd */
	GQ_WIRE_START,     /* client: mapped, and filled in */
	GQ_WIRE_STARTED,   /* gpuqd: the queue consumes from now on */
	GQ_WIRE_REFUSED,   /* gpuqd: no, and why; it closes the connection */
	GQ_WIRE_BELL,      /* gpuqd: something has completed, and a thread of yours sleeps */
	GQ_WIRE_TOKEN,     /* client, before HELLO: what it may do. Not looked at by a queue that
			    * needs none */
};

struct gq_wire_head {
	uint32_t magic, version, type, bytes; /* `bytes`: of all of the message */
};

enum { GQ_WIRE_NAME = 64, GQ_WIRE_PROCESSOR = 1024, GQ_WIRE_TEXT = 400 };

/* Names end with a zero byte and are padded with zero bytes. */
struct gq_wire_hello {
	struct gq_wire_head head;
	uint32_t capacity, slot_bytes, result_bytes;
	uint32_t traced; /* 1: the client wants each message's times */
	uint64_t start_pos;
	uint64_t data_bytes; /* of processor_data */
	uint32_t consumers, reserved;
	char queue[GQ_WIRE_NAME];
	char processor[GQ_WIRE_PROCESSOR]; /* name or path; "": whichever the queue runs */
};

struct gq_wire_welcome {
	struct gq_wire_head head;
	uint64_t bytes; /* of the memfd */
};

struct gq_wire_start {
	struct gq_wire_head head;
};

struct gq_wire_started {
	struct gq_wire_head head;
	uint32_t consumers, granularity;
	char processor[GQ_WIRE_NAME];
	char device[GQ_WIRE_NAME];
};

struct gq_wire_refused {
	struct gq_wire_head head;
	int32_t status; /* QueueStatus */
	uint32_t reserved;
	char text[GQ_WIRE_TEXT];
};

struct gq_wire_bell {
	struct gq_wire_head head;
};

/* Is cut behind the token. */
struct gq_wire_token {
	struct gq_wire_head head;
	uint8_t token[GQ_TOKEN_BYTES];
};

union gq_wire {
	struct gq_wire_head head;
	struct gq_wire_hello hello;
	struct gq_wire_welcome welcome;
	struct gq_wire_start start;
	struct gq_wire_started started;
	struct gq_wire_refused refused;
	struct gq_wire_bell bell;
	struct gq_wire_token token;
};

static inline struct gq_wire_head gq_wire_head_of(uint32_t type, size_t bytes)
{
	return (struct gq_wire_head){ .magic = GQ_WIRE_MAGIC,
				      .version = GQ_WIRE_VERSION,
				      .type = type,
				      .bytes = (uint32_t)bytes };
}

/* ---- the memory ------------------------------------------------------------------------------ */

/*
 * The first page: each word on a line of its own, with one writer, but for the last.
 */
struct gq_remote_page {
	/* the client's */
	GQ_ALIGNED(GQ_LINE) uint64_t control; /* gq_control: [control.write] */
	/* not 0: a thread of the client is about to sleep, or sleeps; gpuqd takes it off and sends
	 * a bell ([sleep.look], [wake.look]) */
	GQ_ALIGNED(GQ_LINE) uint64_t asleep;
	GQ_ALIGNED(GQ_LINE) uint64_t cancels; /* calls of q_cancel(): [cancel.ask] */
	/* gpuqd's */
	GQ_ALIGNED(GQ_LINE) uint64_t claimed[GQ_CLASSES]; /* heads of the classes */
	GQ_ALIGNED(GQ_LINE) uint64_t done_tail;
	GQ_ALIGNED(GQ_LINE) uint64_t ack; /* the control word that it stands still for */
	uint64_t left;                    /* 1: it has done what LEAVE asks for */
	uint64_t cancels_seen;            /* [cancel.done] */
	/* gpuqd sets it before it sleeps, the client takes it off and rings */
	GQ_ALIGNED(GQ_LINE) uint64_t daemon_asleep;
};

/* Where each part begins, in bytes from the beginning of the memfd. */
struct gq_remote_layout {
	uint64_t taken, words, slots, results, stamps, data, bytes;
	uint64_t slot_stride, result_stride, words_bytes, stamps_bytes;
};

enum { GQ_REMOTE_PAGE = 4096 };
GQ_STATIC_ASSERT(sizeof(struct gq_remote_page) <= GQ_REMOTE_PAGE, "the first page is one");

/* Words an entry of each ring takes of gq_remote_layout.words, in this order: the pool (the
 * client's), the classes, the completions, the finished list (the client's). */
#define GQ_REMOTE_WORDS (1u + GQ_CLASSES + 1u + 1u)

/* Of values that gq_remote_fits() has found in range: nothing overflows. */
static inline struct gq_remote_layout gq_remote_lay_out(const struct gq_wire_hello *h)
{
	const uint64_t n = h->capacity;
	struct gq_remote_layout l;

	l.slot_stride = GQ_PAYLOAD_OFFSET + gq_round_up(h->slot_bytes, 64);
	l.result_stride = gq_round_up(GQ_RESULT_OFFSET + h->result_bytes, 64);
	l.words_bytes = n * GQ_REMOTE_WORDS * sizeof(uint64_t);
	l.stamps_bytes = h->traced != 0 ? n * sizeof(struct gq_stamp) : 0;
	l.taken = GQ_REMOTE_PAGE;
	l.words = l.taken + gq_round_up(n * sizeof(uint64_t), GQ_REMOTE_PAGE);
	l.slots = l.words + gq_round_up(l.words_bytes, GQ_REMOTE_PAGE);
	l.results = l.slots + gq_round_up(n * l.slot_stride, GQ_REMOTE_PAGE);
	l.stamps = l.results + gq_round_up(n * l.result_stride, GQ_REMOTE_PAGE);
	l.data = l.stamps + gq_round_up(l.stamps_bytes, GQ_REMOTE_PAGE);
	l.bytes = l.data + gq_round_up(h->data_bytes, GQ_REMOTE_PAGE);
	return l;
}

enum { GQ_REMOTE_MAX_DATA = 1 << 28 };

static inline bool gq_remote_fits(const struct gq_wire_hello *h)
{
	return h->capacity != 0 && h->capacity <= Q_MAX_CAPACITY &&
	       (h->capacity & (h->capacity - 1)) == 0 && h->slot_bytes != 0 &&
	       h->slot_bytes <= Q_MAX_SLOT_BYTES && h->result_bytes != 0 &&
	       h->result_bytes <= Q_MAX_SLOT_BYTES && h->traced <= 1 &&
	       h->consumers <= Q_MAX_CONSUMERS && h->data_bytes <= GQ_REMOTE_MAX_DATA &&
	       memchr(h->queue, 0, sizeof(h->queue)) != NULL &&
	       memchr(h->processor, 0, sizeof(h->processor)) != NULL;
}

/* The socket where neither side names one. @return whether it fits. */
static inline bool gq_remote_default_path(char *path, size_t room)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int n;

	if (geteuid() == 0 || runtime == NULL || runtime[0] != '/')
		n = snprintf(path, room, "/run/gpuq/gpuqd.sock");
	else
		n = snprintf(path, room, "%s/gpuqd.sock", runtime);
	return n > 0 && (size_t)n < room;
}

#endif /* GPUQ_REMOTE_WIRE_H */
