/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ring.c - a peer that writes whatever it likes over the memory of a ring and of a region
 * table, while this side works: whatever comes of the messages, no call may touch memory that is
 * not its own, read more than it was told, or never come back.
 *
 * The input is a program: a configuration, then calls and writes. Every call that returns a length
 * or a count is held to it.
 */
#include "fuzz.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/ring/extent.h"
#include "host/ring/repair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct input {
	const uint8_t *at, *end;
};

/* Little-endian, and zero beyond the end. */
static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		value |= (uint64_t)*in->at++ << 8 * i;
	return value;
}

static void check(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz_ring: %s\n", what);
		abort();
	}
}

#define CHECK(condition) check(condition, #condition)

/* Write 1 to 8 bytes somewhere: what the input says, or a small change of what is there. */
static void scribble(struct input *in, uint8_t *memory, size_t bytes)
{
	const size_t at = take(in, 3) % bytes;
	const uint8_t how = (uint8_t)take(in, 1);
	const size_t wanted = 1u + how % 8, n = wanted > bytes - at ? bytes - at : wanted;
	uint64_t value = take(in, how >= 128 ? (unsigned)n : 1), old = 0;

	memcpy(&old, memory + at, n);
	if (how < 64)
		value = old + value - 128;
	else if (how < 128)
		value = old ^ value << (how % 57);
	memcpy(memory + at, &value, n);
}

/*
 * A peer that is ahead: publishes at the tail of a ring of entries and behind it, and says of some
 * that they are taken. In builds with windows (GPUQ_CHAOS) also between the steps of our calls,
 * and there the steps are counted.
 */
static struct {
	const struct gq_word_ring *ring;
	bool is_pool;
	uint8_t what;
	uint64_t windows;
} liar;

static void be_ahead(void)
{
	uint64_t next;

	if (liar.ring == NULL)
		return;
	next = gq_load_relaxed_u64(liar.ring->tail) + liar.what % 3;
	gq_store_relaxed_u64(gq_word_ring_entry(liar.ring, next),
			     gq_word_ring_tag(liar.ring, next) | (liar.what >> 6));
	if (liar.what % 8 >= 4)
		gq_store_relaxed_u64(liar.ring->head, gq_head_of(next));
	if (liar.what % 16 >= 8)
		gq_store_relaxed_u64(liar.ring->tail, next + 1);
}

#if defined(GPUQ_CHAOS)
static void in_window(void)
{
	liar.windows++;
	be_ahead();
}
#endif

/* A call moves at most 4 messages here, each to a ring of at most 16 entries and back. */
#define MOST_WINDOWS (16u * (65536u + 64u))

enum { BUF = 600, TABLE_REGIONS = 4, REGION_BYTES = 256 };

struct world {
	uint8_t *ring_memory, *table_memory;
	size_t ring_bytes, table_bytes;
	RingQueue *ring;
	RegionTable *table;
	RegionHandle region[2];
	uint8_t *bytes; /* of the regions */
	uint8_t buf[BUF];
};

/* Reads every byte. */
static void sum_of(const uint8_t *bytes, size_t n)
{
	static volatile uint8_t sum;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + bytes[i]);
}

static void received(const struct world *w, const RingMessage *m, size_t room)
{
	const void *bytes = NULL;

	if (m->kind == Q_MESSAGE_INLINE) {
		CHECK(m->offset <= room && m->length <= room - m->offset);
		return;
	}
	CHECK(m->kind == Q_MESSAGE_DESCRIPTOR);
	if (q_region_resolve(w->table, &m->descriptor, &bytes) == Q_OK) {
		const uint8_t *first = bytes;

		/* In one of the two regions; and ASan sees to it that all of it can be read. */
		CHECK(first >= w->bytes &&
		      first + m->descriptor.length <= w->bytes + 2 * REGION_BYTES);
		sum_of(first, m->descriptor.length);
	}
	q_region_release(w->table, &m->descriptor);
}

static void call(struct world *w, struct input *in)
{
	RingMessage m[4] = { 0 };
	RingCompletion done[4];
	const uint8_t what = (uint8_t)take(in, 1);
	size_t len = take(in, 2) % (BUF + 1), n = 0;
	EnqueueItem items[3] = { { w->buf, len / 3 }, { w->buf, len / 5 }, { w->buf, len / 7 } };
	MessageDescriptor d = { .region = w->region[len % 2],
				.offset = take(in, 1),
				.length = (uint32_t)take(in, 1) };
	RegionInfo region;
	RingStats stats;

	switch (what % 20) {
	case 0:
	case 1:
		q_ring_send(w->ring, w->buf, len, (QueuePriority)(what / 20 % 5));
		break;
	case 2:
		q_ring_send_batch(w->ring, items, 3, (QueuePriority)(what / 20 % 5), &n);
		CHECK(n <= 3);
		break;
	case 3:
		q_ring_send_descriptor(w->ring, &d, 0);
		break;
	case 4:
	case 5:
		n = len;
		if (q_ring_recv(w->ring, w->buf, &n) == Q_OK)
			CHECK(n <= len);
		break;
	case 6:
	case 7:
		if (q_ring_recv_typed(w->ring, w->buf, len, m) == Q_OK)
			received(w, m, len);
		break;
	case 8:
	case 9:
		q_ring_recv_batch(w->ring, w->buf, len, m, 4, &n);
		CHECK(n <= 4);
		for (size_t i = 0; i < n; i++)
			received(w, &m[i], len);
		break;
	case 10:
		q_ring_peek(w->ring, m);
		break;
	case 11:
		q_ring_discard(w->ring);
		break;
	case 12:
		if (len % 2 == 0) {
			q_ring_complete(w->ring, len, Q_OK, w->buf, len % 17);
			break;
		}
		for (size_t i = 0; i < 4; i++)
			done[i] = (RingCompletion){ .sequence = len, .length = (uint32_t)i };
		q_ring_complete_batch(w->ring, done, len % 5, &n);
		CHECK(n <= len % 5);
		break;
	case 13:
		q_ring_poll_completions(w->ring, done, 4, &n);
		CHECK(n <= 4);
		for (size_t i = 0; i < n; i++)
			CHECK(done[i].length <= Q_RING_INLINE_BYTES);
		break;
	case 14:
		CHECK(q_ring_len(w->ring) <= 16 && q_ring_available(w->ring) <= 16);
		q_ring_stats(w->ring, &stats);
		break;
	case 15:
		q_region_append(w->table, w->region[1], w->buf, len % 64, &(uint64_t){ 0 });
		break;
	case 16:
		q_region_info(w->table, w->region[len % 2], &region);
		break;
	case 17:
		gq__ring_repair(w->ring);
		break;
	case 18:
		if (len % 8 == 0)
			q_ring_close(w->ring);
		break;
	default:
		if (len % 8 == 0)
			q_region_retire(w->table, w->region[len / 8 % 2]);
		else
			q_region_release(w->table, &d);
		break;
	}
}

void fuzz_one(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	const uint64_t shape = take(&in, 2);
	RingConfig cfg = { .ring_size = 1u << shape % 5,
			   .max_msg_size = 1 + (uint32_t)(shape >> 3) % 200,
			   .flags = (uint32_t)(shape >> 11) & 7 };
	struct world w = { 0 };
	RingQueue *second = NULL;

	liar.ring = NULL;
	w.ring_bytes = q_ring_required_memory(&cfg);
	w.table_bytes = q_region_table_required_memory(TABLE_REGIONS);
	w.ring_memory = aligned_alloc(128, (w.ring_bytes + 127) / 128 * 128);
	w.table_memory = aligned_alloc(128, (w.table_bytes + 127) / 128 * 128);
	w.bytes = calloc(2, REGION_BYTES);
	CHECK(w.ring_memory != NULL && w.table_memory != NULL && w.bytes != NULL);
	CHECK(q_ring_create(&cfg, w.ring_memory, w.ring_bytes, &w.ring) == Q_OK);
	CHECK(q_region_table_create_in(TABLE_REGIONS, w.table_memory, w.table_bytes, &w.table) ==
	      Q_OK);
	CHECK(q_region_register(w.table, w.bytes, REGION_BYTES, Q_REGION_IMMUTABLE, &w.region[0]) ==
	      Q_OK);
	CHECK(q_region_register(w.table, w.bytes + REGION_BYTES, REGION_BYTES, Q_REGION_APPEND_ONLY,
				&w.region[1]) == Q_OK);
	CHECK(q_ring_bind_regions(w.ring, w.table) == Q_OK);
	while (in.at < in.end) {
		uint64_t op = take(&in, 1);

		if (op % 4 == 0) {
			scribble(&in, w.ring_memory, w.ring_bytes);
		} else if (op % 16 == 1) {
			scribble(&in, w.table_memory, w.table_bytes);
		} else if (op % 64 == 2) {
			/* Whatever is in the memory now: attach or be told why not. */
			if (q_ring_attach(w.ring_memory, w.ring_bytes, &second) == Q_OK) {
				size_t len = sizeof(w.buf);

				q_ring_recv(second, w.buf, &len);
				q_ring_destroy(second);
			}
		} else if (op % 64 == 6) {
			liar.what = (uint8_t)take(&in, 1);
			liar.is_pool = liar.what % 5 == 4;
			liar.ring = liar.is_pool ? &w.ring->messages.pool
						 : &w.ring->messages.ready[liar.what % 5];
			be_ahead();
		} else {
			liar.windows = 0;
#if defined(GPUQ_CHAOS)
			gq__in_window = in_window;
#endif
			call(&w, &in);
#if defined(GPUQ_CHAOS)
			gq__in_window = NULL;
#endif
			CHECK(liar.windows <= MOST_WINDOWS);
			if (liar.windows > 1000) /* it has had its say, and calls may be many */
				liar.ring = NULL;
		}
	}
	q_ring_destroy(w.ring);
	q_region_table_destroy(w.table);
	free(w.bytes);
	free(w.table_memory);
	free(w.ring_memory);
}
