/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - recording when each message was where. */
#include "host/trace/trace.h"

#include "host/base/error.h"
#include "host/base/memory.h"
#include "host/queue/state.h"
#include "host/wait/wait.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Not a variable of the call, so that calls without a trace have nothing to carry. */
static _Thread_local uint64_t call_began_ns;

bool gq__call_begin(const GpuQueue *q, enum gq_range what, uint64_t payload)
{
	if ((q->watched & GQ_WATCHED_BY_TRACE) != 0)
		call_began_ns = gq__now_ns();
	if ((q->watched & GQ_WATCHED_BY_TOOL) == 0)
		return false;
	gq__range_push(what, payload);
	return true;
}

/* secure_getenv(): a set-id program writes no file for its caller. */
static const char *wanted_path(void)
{
	const char *path = secure_getenv("GPUQ_TRACE");

	return path != NULL && path[0] != '\0' ? path : NULL;
}

bool gq__trace_from_environment(void)
{
	return wanted_path() != NULL;
}

/* FILE with the process's number for %p, and ".n" for the n-th queue but the first. */
static bool take_path(struct gq_trace *t)
{
	static uint64_t queues;
	const size_t room = sizeof(t->path);
	const char *from = wanted_path();
	uint64_t number;
	size_t used = 0;

	if (from == NULL)
		return true;
	for (; *from != '\0' && used < room; from++) {
		if (from[0] == '%' && from[1] == 'p') {
			used += (size_t)snprintf(t->path + used, room - used, "%ld",
						 (long)getpid());
			from++;
		} else {
			t->path[used++] = *from;
		}
	}
	number = gq_fetch_add_relaxed_u64(&queues, 1) + 1;
	if (number > 1 && used < room)
		used += (size_t)snprintf(t->path + used, room - used, ".%" PRIu64, number);
	if (used >= room) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "environment variable GPUQ_TRACE gives a path that is too long; allowed: "
			  "up to %zu bytes",
			  room - 1);
		return false;
	}
	return true;
}

bool gq__trace_alloc(GpuQueue *q)
{
	const uint64_t slots = q->cfg.capacity;
	struct gq_trace *t;

	if ((q->cfg.flags & Q_TRACE) == 0)
		return true;
	t = gq__alloc(sizeof(*t), "the trace");
	if (t == NULL)
		return false;
	q->trace = t;
	t->room = q->cfg.trace_records;
	t->record_bytes = t->room * sizeof(*t->record);
	t->entry_bytes = slots * sizeof(*t->entry);
	t->stamps_bytes = slots * sizeof(*q->ch.stamps);
	if (!take_path(t))
		return false;
	t->record = gq__alloc(t->record_bytes, "the trace's records");
	if (t->record == NULL)
		return false;
	t->entry = gq__alloc(t->entry_bytes, "the trace's entries");
	if (t->entry == NULL)
		return false;
	q->ch.stamps = q->device->alloc(q, t->stamps_bytes, "the consumers' times");
	return q->ch.stamps != NULL;
}

void gq__trace_started(GpuQueue *q)
{
	if (q->trace != NULL && q->device->clock_error_ns != NULL)
		q->trace->clock_error_ns = q->device->clock_error_ns(q);
}

void gq__trace_free(GpuQueue *q)
{
	struct gq_trace *t = q->trace;

	if (t == NULL)
		return;
	q->device->free(q, q->ch.stamps, t->stamps_bytes);
	gq__free(t->entry, t->entry_bytes);
	gq__free(t->record, t->record_bytes);
	gq__free(t, sizeof(*t));
}

/* The stores are atomic, as gq__fail_all() takes away messages that are just being published. */
void gq__trace_publish(GpuQueue *q, const uint64_t *ids, uint32_t n)
{
	const uint64_t now_ns = gq__now_ns();

	for (uint32_t i = 0; i < n; i++) {
		struct gq_trace_entry *e = &q->trace->entry[ids[i] & q->slot_mask];

		gq_store_relaxed_u64(&e->enqueued_ns, call_began_ns);
		gq_store_relaxed_u64(&e->visible_ns, now_ns);
	}
}

void gq__trace_finish(GpuQueue *q, uint32_t index, uint32_t outcome, bool lost)
{
	struct gq_trace *t = q->trace;
	const struct gq_slot *slot = gq_slot_at(&q->ch, index);
	struct gq_trace_entry *e = &t->entry[index];
	struct gq_trace_record r = { .msg_id = slot->msg_id,
				     .enqueued_ns = gq_load_relaxed_u64(&e->enqueued_ns),
				     .visible_ns = gq_load_relaxed_u64(&e->visible_ns),
				     .seen_ns = gq__now_ns(),
				     .len = slot->len,
				     .opcode = slot->opcode,
				     .outcome = outcome,
				     .consumer = GQ_NONE,
				     .priority = slot->priority,
				     .discarded = (slot->flags & GQ_SLOT_DISCARD) != 0 };

	/* So that the slot's next message reads its own times, or 0. */
	gq_store_relaxed_u64(&e->enqueued_ns, 0);
	gq_store_relaxed_u64(&e->visible_ns, 0);
	if (t->used == t->room) {
		t->dropped++;
		return;
	}
	if (r.visible_ns == 0) /* the device died before it was published */
		r.visible_ns = r.seen_ns;
	if (r.enqueued_ns == 0)
		r.enqueued_ns = r.visible_ns;
	if (!lost) { /* [message.reap]: the consumer wrote these before [message.complete] */
		r.claimed_ns = q->ch.stamps[index].claimed_ns;
		r.done_ns = q->ch.stamps[index].done_ns;
		r.consumer = (uint32_t)q->ch.stamps[index].consumer;
	}
	t->record[t->used++] = r;
}
