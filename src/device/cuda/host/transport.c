/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.c - how messages get to the grid.
 *
 * All messages are written into pinned slots. Short ones are sealed: a unit that waits for the next
 * message reads its slot along with the ring entry, and needs no second round trip if the seal is
 * right. A unit pulls longer ones once it has claimed them. Messages of `copy_from` bytes and more
 * the copy engine brings into device memory: such a message says which batch of copies it is in,
 * and the unit waits until the copy stream has written that number. With transport BAR1 the CPU
 * also writes entries and short messages into device memory: see bar1.c. docs/design/cuda.md has
 * the argument.
 */
#include "device/cuda/host/transport.h"

#include "device/cuda/host/bar1.h"
#include "device/cuda/host/call.h"
#include "device/cuda/host/fail.h"
#include "device/cuda/host/ping.h"
#include "device/cuda/host/quiet.h"
#include "host/base/nvtx.h"
#include "host/base/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
	AHEAD_BYTES = 1024,  /* of a slot that a warp reads ahead: two pieces a lane */
	SEALED_BYTES = 1024, /* the longest result that carries a seal: likewise */
	COPY_WORTH = 2048,   /* no message shorter than this is copied unless asked for */
	MEASURED_BYTES = GQ_PULL_BYTES,
	ROUNDS = 3,
};
#define PATIENCE_NS     UINT64_C(200000000) /* for an answer that takes microseconds */
#define COPY_TIMEOUT_NS UINT64_C(5000000000)

static uint64_t draw_key(void)
{
	uint64_t key = 0;

	if (getrandom(&key, sizeof(key), GRND_NONBLOCK) != (ssize_t)sizeof(key))
		key = gq__now_ns() * UINT64_C(0x9e3779b97f4a7c15) ^ (uintptr_t)&key;
	return key;
}

void gq__transport_plan(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	const uint32_t slot = GQ_PAYLOAD_OFFSET + gq_pieces(q->cfg.slot_bytes) * GQ_PIECE;

	q->ch.seal_key = draw_key();
	q->ch.ahead_bytes = slot < AHEAD_BYTES ? slot : AHEAD_BYTES;
	if (c->tune.ahead == 0 && q->cfg.transport != Q_TRANSPORT_BAR1)
		q->ch.ahead_bytes = 0;
	/* A trace's stamps are plain memory, which every completion has to release. */
	q->ch.sealed_bytes = q->ch.stamps != NULL || c->tune.seal == 0 ? 0 : SEALED_BYTES;
}

/* Where slot `index` is in the copy engine's destination. */
static CUdeviceptr copied_at(const struct gq_cuda *c, uint32_t index)
{
	return c->copied + index * c->q->ch.slot_stride + GQ_PAYLOAD_OFFSET;
}

static bool may_copy(const GpuQueue *q)
{
	return q->cfg.transport == Q_TRANSPORT_COPY ||
	       (q->cfg.transport == Q_TRANSPORT_AUTO && q->cfg.slot_bytes >= COPY_WORTH &&
		q->cfg.bounded_messages == 0);
}

/* A stream's first copy, and the first value that it writes, may set something up in the driver.
 * That must not happen beside a resident grid. The slots are free; nobody looks at what arrives. */
static bool warm_copies(struct gq_cuda *c)
{
	return CU(c, cuMemcpyHtoDAsync, copied_at(c, 0), gq_payload_at(&c->q->ch, 0), GQ_PIECE,
		  c->copy_stream) &&
	       CU(c, cuStreamWriteValue64, c->copy_stream,
		  c->counters + offsetof(struct gq_counters, arrived), 0, 0) &&
	       CU(c, cuStreamSynchronize, c->copy_stream);
}

bool gq__transport_prepare(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	int able = 0;

	if (q->cfg.transport == Q_TRANSPORT_BAR1)
		return gq__bar1_prepare(c);
	if (!may_copy(q))
		return true;
	if (!CU(c, cuDeviceGetAttribute, &able, GQ_CU_64_BIT_STREAM_MEM_OPS, c->device))
		return false;
	if (able == 0 && q->cfg.transport == Q_TRANSPORT_COPY)
		return gq__failf(Q_ERR_UNSUPPORTED,
				 "transport is 2 (copy); allowed: 0 (auto), 1 (pull) on %s, whose "
				 "streams cannot write a value",
				 q->device_name) == Q_OK;
	if (able == 0)
		return true;
	if (!gq__cuda_allocate(c, &c->copied, q->slots_bytes, "messages that are copied"))
		return q->cfg.transport == Q_TRANSPORT_AUTO; /* then they are pulled */
	if (!CU(c, cuStreamCreate, &c->copy_stream, GQ_CU_STREAM_NON_BLOCKING)) {
		c->copy_stream = NULL;
		return false;
	}
	gq__name_stream(c->copy_stream, "gpuq copies");
	return warm_copies(c);
}

/* The copy of a message that was not processed may still be under way. Memory has to be given back
 * now or never, so a failing call is tried a second time. */
void gq__transport_settle(struct gq_cuda *c)
{
	if (c->copy_stream != NULL && c->cu->cuStreamSynchronize(c->copy_stream) != GQ_CU_SUCCESS)
		c->cu->cuStreamSynchronize(c->copy_stream);
}

void gq__transport_free(struct gq_cuda *c)
{
	gq__transport_settle(c);
	if (c->copy_stream != NULL)
		c->cu->cuStreamDestroy(c->copy_stream);
	c->copy_stream = NULL;
	if (c->copied != 0) {
		c->cu->cuMemFree(c->copied);
		c->device_bytes -= c->q->slots_bytes;
	}
	c->copied = 0;
	gq__bar1_free(c);
}

/* ---- handing over ---------------------------------------------------------------------------- */

/* A run of slots that lie one behind the other. What lies between their payloads is copied too. */
struct run {
	uint32_t first, last;
	size_t bytes; /* from the first one's payload on */
};

static int copy_run(const struct gq_cuda *c, const struct run *run)
{
	return c->cu->cuMemcpyHtoDAsync(copied_at(c, run->first),
					gq_payload_at(&c->q->ch, run->first), run->bytes,
					c->copy_stream);
}

/* Make the slot part of the run, if it is the next one and little is copied in between.
 * @return whether it was */
static bool join_run(const struct gq_cuda *c, struct run *run, uint32_t index, uint32_t len)
{
	const size_t bytes = (index - run->first) * c->q->ch.slot_stride;

	if (run->bytes == 0 || index != run->last + 1 || bytes - run->bytes > run->bytes / 8)
		return false;
	run->last = index;
	run->bytes = bytes + len;
	return true;
}

/* Bring those of the `n` messages over that are COPIED. @return the driver's error, and its call */
static int copy_all(const struct gq_cuda *c, const uint64_t *ids, uint32_t n, const char **call)
{
	struct run run = { 0 };
	int result = GQ_CU_SUCCESS;

	*call = "cuMemcpyHtoDAsync";
	for (uint32_t i = 0; i < n && result == GQ_CU_SUCCESS; i++) {
		const uint32_t index = (uint32_t)(ids[i] & c->q->slot_mask);
		struct gq_slot *slot = gq_slot_at(&c->q->ch, index);

		if ((slot->flags & GQ_SLOT_COPIED) == 0)
			continue;
		slot->arrival = c->copies;
		if (join_run(c, &run, index, slot->len))
			continue;
		if (run.bytes != 0)
			result = copy_run(c, &run);
		run = (struct run){ index, index, slot->len };
	}
	if (result == GQ_CU_SUCCESS)
		result = copy_run(c, &run);
	if (result != GQ_CU_SUCCESS)
		return result;
	*call = "cuStreamWriteValue64";
	/* [copy.arrive] release: the driver's, of all that the stream has copied. */
	return c->cu->cuStreamWriteValue64(
		c->copy_stream, c->counters + offsetof(struct gq_counters, arrived), c->copies, 0);
}

static void copy_over(struct gq_cuda *c, const uint64_t *ids, uint32_t n)
{
	const char *call = "cuCtxPushCurrent";
	int result;

	GQ_NO_CANCEL();
	/* The lock keeps the batches' numbers in the order of the stream. */
	pthread_mutex_lock(&c->copy_lock);
	c->copies++;
	result = c->cu->cuCtxPushCurrent(c->context);
	if (result == GQ_CU_SUCCESS) {
		result = copy_all(c, ids, n, &call);
		gq_context_leave(c);
	}
	pthread_mutex_unlock(&c->copy_lock);
	if (result != GQ_CU_SUCCESS)
		gq__cuda_fail(c, call, result);
}

void gq__transport_hand_over(GpuQueue *q, const uint64_t *ids, uint32_t n)
{
	bool copied = false;

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t index = (uint32_t)(ids[i] & q->slot_mask);
		struct gq_slot *slot = gq_slot_at(&q->ch, index);

		if ((slot->flags & GQ_SLOT_COPIED) != 0) {
			copied = true;
		} else if ((slot->flags & GQ_SLOT_DESCRIBED) == 0 &&
			   gq_is_readable_ahead(&q->ch, slot->len)) {
			slot->seal = gq_seal_of_message(&q->ch, slot);
			if (GQ_HAS_BAR1 && q->ch.mirror != NULL)
				gq__bar1_write(&q->ch, index);
		}
	}
	if (copied)
		copy_over(q->device_state, ids, n);
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* 0 stands for no measurement. */
static void keep_least(uint64_t *least, uint64_t value)
{
	if (value != 0 && (*least == 0 || value < *least))
		*least = value;
}

/*
 * Measure how long the copy engine takes to bring `bytes` to a waiting unit: from the call on, less
 * the way of the answer. Slot 0, which is free, is copied. If its bytes do not arrive, the engine
 * is of no use.
 *
 * @return false: the driver has failed. *ns is 0 if nothing, or something else, arrived.
 */
static bool time_copy(struct gq_cuda *c, size_t bytes, uint64_t *ns)
{
	uint64_t *payload = (uint64_t *)(void *)gq_payload_at(&c->q->ch, 0);
	uint64_t begun, ping;

	payload[0] = gq__now_ns();
	payload[1] = ~payload[0];
	c->copies++;
	gq_store_relaxed_u64(&c->link->orders.ping_arrival, c->copies);
	ping = gq__ping_post(c, GQ_PING_ARRIVAL);
	begun = gq__now_ns();
	/* [copy.arrive] */
	if (!CU(c, cuMemcpyHtoDAsync, copied_at(c, 0), payload, bytes, c->copy_stream) ||
	    !CU(c, cuStreamWriteValue64, c->copy_stream,
		c->counters + offsetof(struct gq_counters, arrived), c->copies, 0))
		return false;
	if (!gq__ping_await(c, ping, PATIENCE_NS) ||
	    gq_load_relaxed_u64(&c->link->report.measured_ns) !=
		    gq_seal_piece(c->q->ch.seal_key, 0, payload[0], payload[1])) {
		*ns = 0;
	} else {
		const uint64_t whole = gq__now_ns() - begun, back = c->measured.flag / 2;

		*ns = whole > back ? whole - back : 1;
	}
	return true;
}

/* One round of the measurements that the choice needs. */
static bool measure(struct gq_cuda *c, size_t bytes)
{
	struct gq_primitives *m = &c->measured;
	uint64_t ns;

	if (gq__ping_ask(c, GQ_PING_READ, PATIENCE_NS, &ns))
		keep_least(&m->read, ns);
	if (gq__ping_ask(c, GQ_PING_RELEASE, PATIENCE_NS, &ns))
		keep_least(&m->release, ns);
	if (c->copy_stream == NULL)
		return true;
	if (gq__ping_ask(c, GQ_PING_PULL, PATIENCE_NS, &ns))
		keep_least(&m->pull, ns);
	if (!time_copy(c, GQ_PIECE, &ns))
		return false;
	keep_least(&m->copy_small, ns);
	if (!time_copy(c, bytes, &ns))
		return false;
	keep_least(&m->copy, ns);
	return true;
}

/*
 * The size from which copying is faster than pulling, by straight lines through what was measured:
 * pulling costs read + (pull - read) / bytes * size, copying likewise. UINT32_MAX: never.
 */
static uint32_t break_even(const struct gq_primitives *m, uint32_t bytes)
{
	const int64_t pull_slope = gq_pos_diff(m->pull, m->read),
		      copy_slope = gq_pos_diff(m->copy, m->copy_small),
		      head_start = gq_pos_diff(m->copy_small, m->read);
	uint64_t size;

	if (m->copy == 0 || m->pull == 0 || pull_slope <= copy_slope)
		return UINT32_MAX;
	if (head_start <= 0)
		return COPY_WORTH;
	size = (uint64_t)head_start * bytes / (uint64_t)(pull_slope - copy_slope);
	return size < COPY_WORTH   ? (uint32_t)COPY_WORTH
	       : size > UINT32_MAX ? UINT32_MAX
				   : (uint32_t)size;
}

static void describe_choice(struct gq_cuda *c)
{
	GpuQueue *q = c->q;

	if (c->copy_from > q->cfg.slot_bytes)
		c->copy_from = UINT32_MAX;
	if (q->ch.mirror != NULL)
		snprintf(q->transport, sizeof(q->transport), "bar1 to %" PRIu32 " B, else pull",
			 q->ch.ahead_bytes - GQ_PAYLOAD_OFFSET);
	else if (c->copy_from == UINT32_MAX)
		snprintf(q->transport, sizeof(q->transport), "pull");
	else
		snprintf(q->transport, sizeof(q->transport), "pull, copy from %" PRIu32 " B",
			 c->copy_from);
	q->copy_from = c->copy_from == UINT32_MAX ? UINT64_MAX : c->copy_from;
}

void gq__transport_assume(struct gq_cuda *c)
{
	c->copy_from = c->q->cfg.transport == Q_TRANSPORT_COPY ? c->q->cfg.copy_from : UINT32_MAX;
	describe_choice(c);
}

bool gq__transport_choose(struct gq_cuda *c)
{
	const QueueConfig *cfg = &c->q->cfg;
	const uint64_t begun = gq__now_ns();
	const uint32_t bytes = cfg->slot_bytes > MEASURED_BYTES ? (uint32_t)MEASURED_BYTES
			       : cfg->slot_bytes < GQ_PIECE     ? GQ_PIECE /* its slot has room */
								: cfg->slot_bytes;

	/* On a busy machine a copy may come late. Before the transport that was asked for is
	 * refused there are more rounds. */
	for (int i = 0;
	     i < ROUNDS || (cfg->transport == Q_TRANSPORT_COPY && c->measured.copy == 0 &&
			    gq__now_ns() - begun < COPY_TIMEOUT_NS);
	     i++)
		if (!measure(c, bytes))
			return false;
	if (cfg->transport == Q_TRANSPORT_COPY && c->measured.copy == 0) {
		gq__fail(Q_ERR_UNSUPPORTED, "transport is 2 (copy): what the copy engine brings is "
					    "not seen by the running grid");
		return false;
	}
	if (cfg->transport == Q_TRANSPORT_BAR1 && !gq__bar1_test(c))
		return false;
	gq__transport_assume(c);
	if (cfg->transport == Q_TRANSPORT_AUTO) {
		c->copy_from = break_even(&c->measured, bytes);
		describe_choice(c);
	}
	return true;
}

bool gq__transport_trim(struct gq_cuda *c)
{
	QueueStatus status;
	bool back;

	if (c->copied == 0 || c->copy_from != UINT32_MAX)
		return true;
	status = gq__quiet_try(c, GQ_QUIET_GPU, "freeing memory");
	/* If another queue is inside a long message, the memory is kept. */
	if (status == Q_OK && gq_context_enter(c)) {
		gq__transport_free(c);
		gq_context_leave(c);
	}
	gq__quiet_end(c, GQ_QUIET_GPU);
	pthread_mutex_lock(&c->lock);
	back = !gq_has_failed(c);
	pthread_mutex_unlock(&c->lock);
	return back;
}
