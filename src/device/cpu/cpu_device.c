/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_device.c - the CPU device: consumers are threads, messages are read where they lie. */
#include "device/device.h"
#include "device/protocol/batch.h"
#include "device/protocol/claim.h"

#include "host/base/copy.h"
#include "host/base/sys.h"
#include "host/base/thread.h"
#include "host/queue/queue.h"
#include "host/region/region.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* A consumer: a thread. */
struct gq_consumer {
	/* the control word that it last stood still for ([ack.write], [ack.read]) */
	GQ_ALIGNED(GQ_LINE) uint64_t ack;
	GpuQueue *q;
	pthread_t thread;
	struct gq_claimer claims;
	uint64_t done_pos; /* where its last completion went */
	uint32_t index;
	bool idle;  /* it has begun to wait for a message */
	bool slept; /* since its last message it has slept, or was about to */
};

/* All of the queue's, q->cfg.consumers; NULL until start() has made them. */
static struct gq_consumer *consumers_of(const GpuQueue *q)
{
	return q->device_state;
}

/* How many this thread may run on, and so the consumers, which inherit that. 1: nobody says. */
static uint32_t allowed_cpus(void)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return 1;
	return (uint32_t)CPU_COUNT(&allowed);
}

/* One CPU is left to the producers. */
static uint32_t default_consumers(void)
{
	const uint32_t n = allowed_cpus() - 1;

	return n < 1 ? 1 : n > Q_MAX_CONSUMERS ? Q_MAX_CONSUMERS : n;
}

static bool open_cpus(GpuQueue *q)
{
	if (q->cfg.ordinal != 0) {
		gq__failf(Q_ERR_INVALID_ARG, "ordinal is %" PRIu32 "; allowed: 0 on the CPU device",
			  q->cfg.ordinal);
		return false;
	}
	if (q->cfg.reserve_sms != 0) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "reserve_sms is %" PRIu32 "; allowed: 0 on the CPU device",
			  q->cfg.reserve_sms);
		return false;
	}
	if (q->processor.image.cpu == NULL) {
		gq__failf(Q_ERR_UNSUPPORTED, "processor: '%s' %s", q->processor.name,
			  q->processor.is_source
				  ? "is CUDA source, which the CPU device does not compile; build "
				    "it into the program with gpuq_add_processor()"
				  : "was not compiled for the CPU device");
		return false;
	}
	if (q->cfg.consumers == 0)
		q->cfg.consumers = default_consumers();
	q->wakes_at_most = allowed_cpus();
	snprintf(q->device_name, sizeof(q->device_name), "CPU threads");
	snprintf(q->transport, sizeof(q->transport), "shared memory");
	return true;
}

static void close_cpus(GpuQueue *q)
{
	gq__free(q->device_state, q->cfg.consumers * sizeof(struct gq_consumer));
}

static void *alloc(GpuQueue *q, size_t bytes, const char *what)
{
	(void)q;
	return gq__alloc(bytes, what);
}

static void free_memory(GpuQueue *q, void *memory, size_t bytes)
{
	(void)q;
	gq__free(memory, bytes);
}

static uint64_t spin_ns(const GpuQueue *q)
{
	if (q->cfg.idle_park_ms == 0)
		return GQ_SPIN_NS;
	return q->cfg.idle_park_ms == UINT32_MAX ? GQ_FOR_EVER
						 : (uint64_t)q->cfg.idle_park_ms * 1000000u;
}

enum { TOUCH_AT_MOST = 256 }; /* bytes of a payload */

/*
 * Hand on the lines that this consumer has read to the threads that write them next. Those of the
 * message to the producer that fills the slot next (gq_touch()): the message is this consumer's
 * until it is completed. A long one has many lines, which are asked for together when it is copied,
 * so they stay as they are. And the class's entry before its head, if that ends a line: it has been
 * taken, by whomever.
 *
 * Not of a message that the consumer has waited for: somebody waits for its result, and the next
 * one is not at hand.
 */
static void hand_on(const struct gq_channel *ch, uint32_t index, uint32_t class)
{
	struct gq_slot *slot = gq_slot_at(ch, index);

	GQ_WINDOW(); /* the class may be laps further on */
	gq_word_ring_touch(&ch->ready[class],
			   gq_load_relaxed_device_u64(ch->ready[class].head) - 1);
	slot->reserved0 = 0; /* nobody else's, and never read */
	if (slot->len <= TOUCH_AT_MOST && (slot->flags & GQ_SLOT_DESCRIBED) == 0)
		gq_touch(gq_payload_at(ch, index), slot->len);
}

/* @param in_row  it came right after another: see hand_on() */
static void run(struct gq_consumer *c, uint32_t index, uint32_t class, uint64_t control,
		bool in_row)
{
	const struct gq_channel *ch = &c->q->ch;
	const struct gq_slot *slot = gq_slot_at(ch, index);
	const bool traced = __builtin_expect(ch->stamps != NULL, 0);
	const uint64_t claimed_ns = traced ? gq__now_ns() : 0;
	uint32_t outcome = gq_decide(slot, control, slot->deadline_ns != 0 ? gq__now_ns() : 0);

	if (outcome == 0) {
		uint32_t out_len = 0, status = 0;
		const bool described = (slot->flags & GQ_SLOT_DESCRIBED) != 0;
		MsgView in = { .payload = described ? slot->described : gq_payload_at(ch, index),
			       .len = slot->len,
			       .msg_id = slot->msg_id,
			       .opcode = slot->opcode,
			       .tag = slot->tag,
			       .user = ch->user,
			       .user_bytes = ch->user_bytes };
		ResultView out = { .out = gq_result_at(ch, index),
				   .cap = ch->result_bytes,
				   .out_len = &out_len,
				   .status = &status };

		c->q->processor.image.cpu(&in, &out);
		outcome = gq_outcome_of(status, out_len, ch->result_bytes);
	}
	if (traced)
		gq_note_times(ch, index, claimed_ns, gq__now_ns(), c->index);
	if (in_row)
		hand_on(ch, index, class);
	gq__completed(c->q, &c->done_pos, index, outcome);
}

/* Acknowledge the control word, then stand still until it changes. */
static void stand_still(struct gq_consumer *c, uint64_t control)
{
	GpuQueue *q = c->q;
	struct gq_wait wait;

	/* [ack.write] release: pairs with [ack.read]; [wake.look] */
	gq_exchange_seq_cst_u64(&c->ack, control);
	gq_event_broadcast(&q->answered);
	gq__wait_begin(&wait, &q->resumed, GQ_FOR_EVER, GQ_SPIN_NS);
	/* [control.read], [sleep.look] */
	while (gq_load_seq_cst_u64(&q->control) == control && gq__wait_next(&wait))
		;
	gq__wait_end(&wait);
}

static void name_of(uint32_t index, char (*name)[16])
{
	snprintf(*name, sizeof(*name), "gpuq-cpu-%u", (unsigned)(uint16_t)index);
}

/* Wait for a message, having found none. @param idle  begun by the first such call in a row */
static void wait_for_work(struct gq_consumer *c, struct gq_wait *idle, uint64_t control)
{
	GpuQueue *q = c->q;

	if (!c->idle) {
		c->idle = true;
		gq_complete_rest(&q->ch, c->done_pos);
		gq__wait_begin(idle, &q->work, GQ_FOR_EVER, spin_ns(q));
	}
	if (idle->registered)
		c->slept = true;
	if (idle->registered &&
	    (gq_work_waits(&q->ch) || gq_load_seq_cst_u64(&q->control) != control))
		gq__wait_end(idle); /* [sleep.look]: the second look found something */
	else
		gq__wait_next(idle);
}

static void end_idle(struct gq_consumer *c, struct gq_wait *idle)
{
	if (!c->idle)
		return;
	c->idle = false;
	gq__wait_end(idle);
}

/*
 * Fetch a message that a lone consumer will claim soon, if it is published: some places behind the
 * one that it has just claimed. A message lies in two lines that another core has written. Their
 * ways here overlap with the work on the messages before it; the locked operations of claim and
 * completion would else keep the core from starting with them. Relaxed: nothing is read but where
 * the message is, and a wrong place costs time only.
 */
static void fetch_ahead(const struct gq_channel *ch, uint32_t class)
{
	enum { PLACES = 4 };
	const struct gq_word_ring *r = &ch->ready[class];
	const uint64_t pos = gq_load_relaxed_device_u64(r->head) + PLACES - 1;
	const uint64_t word = gq_load_relaxed_u64(gq_word_ring_entry(r, pos));
	uint32_t slot;

	if (!gq_word_ring_is_at(r, word, pos))
		return;
	slot = (uint32_t)(gq_word_ring_value(r, word) & ch->slot_mask);
	__builtin_prefetch(gq_slot_at(ch, slot));
	__builtin_prefetch(gq_payload_at(ch, slot));
}

/* The next message, claimed; GQ_NONE: there is none. */
static uint32_t next_of(struct gq_consumer *c, uint32_t *class)
{
	const uint32_t slot = gq_claim_of(&c->q->ch, &c->claims, class);

	if (slot != GQ_NONE && c->q->cfg.consumers == 1)
		fetch_ahead(&c->q->ch, *class);
	return slot;
}

static void *consume(void *arg)
{
	struct gq_consumer *c = arg;
	GpuQueue *q = c->q;
	struct gq_wait idle = { 0 };
	char name[16];

	GQ_NO_CANCEL(); /* the processor is the application's code */
	name_of(c->index, &name);
	gq__name_this_thread(name);
	for (;;) {
		uint64_t control = gq_load_acquire_u64(&q->control); /* [control.read] */
		const bool in_row = !c->idle;
		uint32_t slot, class = 0;

		if ((control & GQ_CONTROL_LEAVE) != 0)
			break;
		if ((control & GQ_CONTROL_PAUSE) != 0) {
			end_idle(c, &idle);
			stand_still(c, control);
			continue;
		}
		slot = next_of(c, &class);
		if (slot == GQ_NONE) {
			wait_for_work(c, &idle, control);
			continue;
		}
		end_idle(c, &idle);
		if (__builtin_expect(c->slept, 0)) {
			c->slept = false;
			gq__wake_next_consumer(q);
		}
		/* Read it again: a stop may have given up since, and a message that is claimed
		 * after that must not start. [control.read], [sleep.look] */
		run(c, slot, class, gq_load_seq_cst_u64(&q->control), in_row);
	}
	end_idle(c, &idle);
	gq__consumer_left(q);
	gq__drop_ref(q);
	return NULL;
}

static void stop_started(GpuQueue *q, uint32_t started)
{
	gq_exchange_seq_cst_u64(&q->control, GQ_CONTROL_LEAVE); /* [control.write] */
	gq_event_broadcast(&q->work);
	for (uint32_t i = 0; i < started; i++)
		pthread_join(consumers_of(q)[i].thread, NULL);
}

static bool start(GpuQueue *q)
{
	q->device_state = gq__alloc(q->cfg.consumers * sizeof(struct gq_consumer), "the consumers");
	if (q->device_state == NULL)
		return false;
	for (uint32_t i = 0; i < q->cfg.consumers; i++) {
		struct gq_consumer *c = &consumers_of(q)[i];
		char name[16];
		int rc;

		c->q = q;
		c->index = i;
		c->done_pos = q->start_pos;
		name_of(i, &name);
		gq_fetch_add_seq_cst_u64(&q->refs, 1);
		gq_fetch_add_seq_cst_u64(&q->live_consumers, 1);
		rc = gq__start_thread(&c->thread, consume, c, name);
		if (rc != 0) {
			gq_fetch_add_seq_cst_u64(&q->refs, 0 - UINT64_C(1));
			gq_fetch_add_seq_cst_u64(&q->live_consumers, 0 - UINT64_C(1));
			stop_started(q, i);
			gq__failf(Q_ERR_LIMIT,
				  "consumers is %" PRIu32 ": thread %" PRIu32
				  " could not be started: %s",
				  q->cfg.consumers, i + 1, strerror(rc));
			return false;
		}
	}
	return true;
}

static void join(GpuQueue *q, bool abandon)
{
	for (uint32_t i = 0; i < q->cfg.consumers; i++) {
		if (abandon)
			pthread_detach(consumers_of(q)[i].thread);
		else
			pthread_join(consumers_of(q)[i].thread, NULL);
	}
}

static bool acknowledged(GpuQueue *q, uint64_t control)
{
	/* [ack.read], [sleep.look] */
	for (uint32_t i = 0; i < q->cfg.consumers; i++)
		if (gq_load_seq_cst_u64(&consumers_of(q)[i].ack) != control)
			return false;
	return true;
}

static bool left(GpuQueue *q)
{
	return gq_load_seq_cst_u64(&q->live_consumers) == 0; /* [ack.read], [sleep.look] */
}

/* Consumers read a region where the host does. */
static QueueStatus bind_nothing(GpuQueue *q, RegionTable *table)
{
	(void)q;
	(void)table;
	return Q_OK;
}

static const void *locate(GpuQueue *q, const MessageDescriptor *d, const void *bytes)
{
	if (!gq__region_is_on_device(q->regions, d))
		return bytes;
	gq__fail(Q_ERR_UNSUPPORTED, "the descriptor's region is memory of a GPU, and this queue's "
				    "consumers are CPU threads");
	return NULL;
}

const struct gq_device gq__cpu_device = {
	.kind = Q_DEVICE_CPU,
	.open = open_cpus,
	.close = close_cpus,
	.alloc = alloc,
	.free = free_memory,
	.start = start,
	.join = join,
	.acknowledged = acknowledged,
	.left = left,
	.cancel_unstarted = gq__cancel_unstarted,
	.bind = bind_nothing,
	.binds_at_once = true,
	.locate = locate,
};
