/* SPDX-License-Identifier: Apache-2.0 */
/* reap.c - reaping: completions become the states of messages, and the finished list. */
#include "host/queue/reap.h"

#include "host/base/error.h"
#include "host/queue/finished.h"
#include "host/queue/wake.h"
#include "host/region/region.h"
#include "host/trace/trace.h"
#include "host/wait/wait.h"

void gq__free_slot(GpuQueue *q, uint64_t id)
{
	gq_word_ring_put_one(&q->pool, id & q->slot_mask); /* [pool.return] */
	if (!gq_event_armed(&q->room))                     /* [wake.look] */
		return;
	gq__event_wake(&q->room, 1);
	if (gq_closed(q)) /* which made `room` sticky: q_wait_any() may wait for the last slot */
		gq_event_broadcast(&q->any);
}

/* The message needs its region no more. This comes before its state says that it has finished, so a
 * thread that finds it finished finds the region released. */
static void drop_region(GpuQueue *q, const struct gq_host_slot *host)
{
	struct gq_error before;

	gq__error_keep(&before); /* a damaged table is no failure of the reaper's call */
	gq__region_drop(q->regions, &host->descriptor);
	gq__error_put_back(&before);
	gq_fetch_add_seq_cst_u64(&q->described, 0 - UINT64_C(1)); /* [table.leave] */
}

/* Under the reap lock. */
static void finish(GpuQueue *q, uint32_t index, uint32_t outcome)
{
	const struct gq_slot *slot = gq_slot_at(&q->ch, index);
	const uint64_t id = slot->msg_id;
	struct gq_host_slot *host = &q->host_slots[index];
	uint32_t few = 2;

#define COUNT(what) gq_store_relaxed_u64(&q->reaped.what, q->reaped.what + 1)
	COUNT(finished);
	if (gq_outcome_is_failure(outcome))
		COUNT(failed);
	else if (outcome == GQ_OUTCOME_EXPIRED)
		COUNT(expired);
	else if (outcome == GQ_OUTCOME_CANCELLED)
		COUNT(cancelled);
	if (__builtin_expect((slot->flags & GQ_SLOT_DESCRIBED) != 0, 0))
		drop_region(q, host);
	if ((slot->flags & GQ_SLOT_DISCARD) != 0) {
		COUNT(discarded);
		gq_store_release_u64(&host->state, gq_state(q, id, GQ_FREE)); /* [state.write] */
		gq__free_slot(q, id);
		return;
	}
#undef COUNT
	gq_first_unpolled(q, &few); /* a list that nobody polls stays short */
	gq_list(q, index);
	/* [state.write] release, these too: a reader that sees the tag or outcome of a later
	 * message must then see that the state has moved on. */
	gq_store_release_u64(&host->tag, slot->tag);
	gq_store_release_u64(&host->outcome, outcome);
	/* [state.write] release: the result (through [message.reap]), tag, outcome, and the place
	 * in the list, as a thread that finds the message finished must find it listed. Pairs with
	 * [state.read]. */
	gq_store_release_u64(&host->state, gq_state(q, id, GQ_DONE));
}

static void reap_one(GpuQueue *q, uint32_t slot, uint32_t outcome)
{
	if (__builtin_expect(q->trace != NULL, 0))
		gq__trace_finish(q, slot, outcome, false);
	finish(q, slot, outcome);
}

enum { REAP_CHUNK = 256 }; /* completions reaped in one go, to bound the time under the lock */

/* Under the reap lock. */
static uint32_t reap_some(GpuQueue *q, uint32_t most)
{
	uint32_t slot, outcome, n = 0;

	if (q->given_up) /* a message that a dead device still completes has ended FAILED */
		return 0;
	while (n < most && gq_reap(&q->ch, &slot, &outcome)) {
		reap_one(q, slot, outcome);
		n++;
	}
	return n;
}

static uint32_t lock_and_reap(GpuQueue *q)
{
	uint32_t n;

	pthread_mutex_lock(&q->reap_lock);
	n = reap_some(q, REAP_CHUNK);
	pthread_mutex_unlock(&q->reap_lock);
	return n;
}

bool gq__reap(GpuQueue *q, bool force)
{
	uint32_t n = 0;

	if (!force && !gq_done_waits(&q->ch))
		return false;
	while (n < GQ_MOST_AT_ONCE) {
		if (lock_and_reap(q) < REAP_CHUNK)
			return false;
		n += REAP_CHUNK;
	}
	return true;
}

void gq__reap_all(GpuQueue *q)
{
	while (gq__reap(q, true))
		;
}

/* Whether the queue holds a message that frees its slot when it is reaped. */
static bool may_free_slots(const GpuQueue *q)
{
	return gq_load_relaxed_u64(&q->count.discards) != gq_load_relaxed_u64(&q->reaped.discarded);
}

uint32_t gq__pop_reaped(GpuQueue *q, uint64_t *ids, uint32_t max, bool *closed)
{
	uint32_t n, reaped, total = 0;

	do {
		pthread_mutex_lock(&q->reap_lock);
		reaped = reap_some(q, REAP_CHUNK);
		n = gq_pool_pop(&q->pool, ids, max, closed);
		pthread_mutex_unlock(&q->reap_lock);
		total += reaped;
	} while (n == 0 && !*closed && reaped == REAP_CHUNK &&
		 (total < GQ_MOST_AT_ONCE || may_free_slots(q)));
	return n;
}

void gq__fail_all(GpuQueue *q)
{
	uint64_t pos;

	pthread_mutex_lock(&q->reap_lock);
	pos = gq_load_relaxed_u64(q->ch.done.head);
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		uint32_t slot, outcome;

		if (gq_look_at_done(&q->ch, pos + i, &slot, &outcome) == GQ_WHOLE)
			reap_one(q, slot, outcome);
	}
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		/* [state.read] */
		if (gq_phase_of(gq_load_seq_cst_u64(&q->host_slots[i].state)) != GQ_QUEUED)
			continue;
		if (q->trace != NULL)
			gq__trace_finish(q, i, GQ_OUTCOME_FAILED, true);
		finish(q, i, GQ_OUTCOME_FAILED);
	}
	q->given_up = true;
	pthread_mutex_unlock(&q->reap_lock);
	gq__wake_everybody(q);
	for (uint32_t i = 0; i < q->cfg.capacity; i++)
		gq_wake_slot(q, i);
}

uint64_t gq__torn_ns(GpuQueue *q, uint64_t now_ns, uint64_t *id)
{
	uint32_t slot, outcome;
	uint64_t pos, ns = 0;

	pthread_mutex_lock(&q->reap_lock);
	pos = gq_load_relaxed_u64(q->ch.done.head);
	if (q->given_up || gq_look_at_done(&q->ch, pos, &slot, &outcome) != GQ_TORN) {
		q->torn_since_ns = 0;
	} else {
		if (q->torn_since_ns == 0 || q->torn_pos != pos)
			q->torn_since_ns = now_ns;
		q->torn_pos = pos;
		ns = now_ns > q->torn_since_ns ? now_ns - q->torn_since_ns : 0;
		*id = gq_slot_at(&q->ch, slot)->msg_id;
	}
	pthread_mutex_unlock(&q->reap_lock);
	return ns;
}

enum gq_found gq__find_unpolled(GpuQueue *q, uint32_t *left)
{
	for (;;) {
		const uint64_t discarded = q->reaped.discarded;
		enum gq_found found = gq_first_unpolled(q, left);
		uint64_t passed;

		if (found != GQ_FOUND_NOTHING)
			return found;
		if (*left == 0)
			return gq_done_waits(&q->ch) ? GQ_FOUND_UNDECIDED : GQ_FOUND_NOTHING;
		if (reap_some(q, *left < REAP_CHUNK ? *left : REAP_CHUNK) == 0)
			return GQ_FOUND_NOTHING;
		passed = q->reaped.discarded - discarded;
		*left -= (uint32_t)passed;
	}
}
