/* SPDX-License-Identifier: Apache-2.0 */
/*
 * produce.h - the steps that every way into a queue is made of: check, take a slot, fill it,
 * publish it.
 *
 * They are inline so that q_enqueue() is one function; what is rare among them is in produce.c.
 */
#ifndef GPUQ_QUEUE_PRODUCE_H
#define GPUQ_QUEUE_PRODUCE_H

#include "device/protocol/batch.h"
#include "host/base/copy.h"
#include "host/queue/handle.h"
#include "host/wait/wait.h"

/* ---- checks: all of them before anything changes --------------------------------------------- */

/* Q_OK; Q_ERR_POLICY: with Q_ONE_PRODUCER, another thread is the producer. */
QueueStatus gq__check_producer(GpuQueue *q);

/* What a call that produces begins with. */
static inline QueueStatus gq_enter_to_produce(GpuQueue *q)
{
	const QueueStatus status = gq_enter(q);

	if (__builtin_expect(status == Q_OK && q->one_producer, 0))
		return gq__check_producer(q);
	return status;
}

/* The options that NULL means. */
extern const EnqueueOptions gq__default_options;

QueueStatus gq__check_options(const EnqueueOptions *o);
/* Q_ERR_INVALID_ARG, with the length as the last error. */
QueueStatus gq__refuse_length(const GpuQueue *q, size_t len);
QueueStatus gq__refuse_null_data(size_t len);
/* Q_ERR_SHUTDOWN; Q_ERR_LOST: because gpuqd has gone. */
QueueStatus gq__closed_error(const GpuQueue *q);

static inline QueueStatus gq_check_length(const GpuQueue *q, size_t len)
{
	if (__builtin_expect(len > q->cfg.slot_bytes, 0))
		return gq__refuse_length(q, len);
	return Q_OK;
}

static inline QueueStatus gq_check_message(const GpuQueue *q, const void *data, size_t len)
{
	const QueueStatus status = gq_check_length(q, len);

	if (__builtin_expect(status != Q_OK, 0))
		return status;
	return __builtin_expect(data == NULL && len != 0, 0) ? gq__refuse_null_data(len) : Q_OK;
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* gq_take_slots() when the pool has been found empty. */
QueueStatus gq__await_slots(GpuQueue *q, uint64_t *ids, uint32_t max, uint32_t timeout_ms,
			    uint64_t *deadline_ns, uint32_t *n_out);

/*
 * Up to `max` free slots, at least one, waiting until the deadline.
 * @param deadline_ns  of the whole call; 0: not read yet
 * @param n_out        how many; 0 unless Q_OK
 * @return Q_OK, Q_ERR_SHUTDOWN, Q_ERR_CUDA, or Q_ERR_FULL: none, in time; see gq__no_room().
 */
static inline QueueStatus gq_take_slots(GpuQueue *q, uint64_t *ids, uint32_t max,
					uint32_t timeout_ms, uint64_t *deadline_ns, uint32_t *n_out)
{
	bool closed;
	const uint32_t n = gq_pool_pop(&q->pool, ids, max, &closed);

	*n_out = n;
	if (__builtin_expect(n != 0, 1))
		return Q_OK;
	return gq__await_slots(q, ids, max, timeout_ms, deadline_ns, n_out);
}

/* How Q_ERR_FULL of gq_take_slots() is called and counted, `refused` items having found no slot. */
QueueStatus gq__no_room(GpuQueue *q, uint32_t timeout_ms, size_t refused);

static inline uint32_t gq_class_of(const EnqueueOptions *o)
{
	return (o->priority == Q_PRIORITY_DEFAULT ? (uint32_t)Q_PRIORITY_NORMAL : o->priority) - 1;
}

/* What the messages of a call have in common, from options that have been checked. */
struct gq_kind {
	uint64_t tag, deadline_ns;
	uint32_t opcode, priority;
	uint32_t flags; /* gq_slot_flags; COPIED apart, which depends on the length */
	uint64_t copy_from;
	/* of the queue, at hand: stores into slots could be of these, as far as a compiler knows */
	uint8_t *slots;
	struct gq_host_slot *host_slots;
	uint64_t slot_stride, slot_mask;
};

static inline struct gq_kind gq_kind_of(const GpuQueue *q, const EnqueueOptions *o)
{
	return (struct gq_kind){ .tag = o->tag,
				 .deadline_ns = o->deadline_ns,
				 .opcode = o->opcode,
				 .priority = gq_class_of(o),
				 .flags = (o->flags & Q_ENQUEUE_DISCARD) != 0 ? GQ_SLOT_DISCARD : 0,
				 .copy_from = q->copy_from,
				 .slots = q->ch.slots,
				 .host_slots = q->host_slots,
				 .slot_stride = q->ch.slot_stride,
				 .slot_mask = q->slot_mask };
}

/* The message `id`, as its header begins. */
static inline struct gq_slot *gq_slot_to_fill(const struct gq_kind *k, uint64_t id)
{
	return (struct gq_slot *)(void *)(k->slots + (id & k->slot_mask) * k->slot_stride);
}

/* Describe the message in its slot and give it its state. */
GQ_FN void gq_fill(GpuQueue *q, uint64_t id, const struct gq_kind *k, size_t len,
		   enum gq_phase phase)
{
	struct gq_slot *slot = gq_slot_to_fill(k, id);
	struct gq_host_slot *host = &k->host_slots[id & k->slot_mask];
	const bool copied = len >= k->copy_from && (k->flags & GQ_SLOT_DESCRIBED) == 0;
	const uint32_t flags = k->flags | (copied ? GQ_SLOT_COPIED : 0);

	slot->msg_id = id;
	slot->tag = k->tag;
	slot->deadline_ns = k->deadline_ns;
	gq_store_relaxed_u64(&slot->cancel, ~id); /* a late q_cancel() may still be writing here */
	slot->len = (uint32_t)len;
	slot->opcode = k->opcode;
	slot->flags = flags;
	slot->priority = k->priority;
	/* Sequentially consistent, before [message.publish]: a producer that finds no room asks
	 * whether there is such a message ([sleep.look]). */
	if (__builtin_expect((k->flags & GQ_SLOT_DISCARD) != 0, 0))
		gq_fetch_add_seq_cst_u64(&q->count.discards, 1);
	GQ_WINDOW();
	host->flags = flags;
	/* [state.write] release: who sees this tag must see that the last message's state has moved
	 * on, to FREE at the least. */
	gq_store_release_u64(&host->tag, k->tag);
	/* [state.write] release: a thread that finds the id alive finds the slot filled. */
	gq_store_release_u64(&host->state, (id & ~k->slot_mask) | phase);
}

/* The same of a message that is copied in, with its bytes. */
GQ_FN void gq_fill_message(GpuQueue *q, uint64_t id, const struct gq_kind *k, const void *data,
			   size_t len)
{
	gq_copy((uint8_t *)gq_slot_to_fill(k, id) + GQ_PAYLOAD_OFFSET, data, len);
	gq_fill(q, id, k, len, GQ_QUEUED);
}

/* ---- publishing ------------------------------------------------------------------------------ */

/* The event of the consumers is armed: one sleeps, the queue's stop has timed out, or they do not
 * sleep here. Wakes no more of them than there are CPUs for; the first wake the others. */
void gq__wake_consumers(GpuQueue *q, uint32_t n);

/* Hand over `n` filled slots of one class. */
static inline void gq_publish_filled(GpuQueue *q, uint32_t priority, const uint64_t *ids,
				     uint32_t n)
{
	if (__builtin_expect(q->trace != NULL, 0))
		gq__trace_publish(q, ids, n);
	if (q->device->hand_over != NULL)
		q->device->hand_over(q, ids, n);
	/* [message.publish] */
	if (__builtin_expect(q->one_producer && q->ch.hints == NULL, 0))
		gq_publish_alone(&q->ch, priority, ids, n, q->device->tend != NULL);
	else
		gq_publish(&q->ch, priority, ids, n);
	if (gq_event_armed(&q->work)) /* [wake.look] */
		gq__wake_consumers(q, n);
}

#endif /* GPUQ_QUEUE_PRODUCE_H */
