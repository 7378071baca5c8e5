/* SPDX-License-Identifier: Apache-2.0 */
/* reap.c - reaping: completions become the states of messages, and the finished list. */
#include "host/queue/reap.h"

#include "device/protocol/batch.h"
#include "host/base/error.h"
#include "host/base/memory.h"
#include "host/queue/finished.h"
#include "host/queue/outcome.h"
#include "host/queue/tell.h"
#include "host/queue/wake.h"
#include "host/region/region.h"
#include "host/trace/trace.h"
#include "host/wait/wait.h"

void gq__free_slots(GpuQueue *q, const uint64_t *ids, uint32_t n)
{
	gq_pool_return(&q->pool, ids, n); /* [pool.return] */
	if (!gq_event_armed(&q->room))    /* [wake.look] */
		return;
	gq__event_wake(&q->room, n);
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

/* Under the reap lock, before the states of these messages say so. */
static void count_finished(GpuQueue *q, uint32_t n)
{
	gq_store_relaxed_u64(&q->reaped.finished, q->reaped.finished + n);
}

/* Under the reap lock: a message has ended. @return false: it is to be discarded, so its slot is
 * the caller's to return. */
static bool note_end(GpuQueue *q, uint32_t index, uint32_t outcome)
{
	struct gq_host_slot *host = &q->host_slots[index];

#define COUNT(what) gq_store_relaxed_u64(&q->reaped.what, q->reaped.what + 1)
	if (__builtin_expect(outcome > GQ_OUTCOME_MAX_LEN, 0)) {
		if (gq_outcome_is_failure(outcome))
			COUNT(failed);
		else if (outcome == GQ_OUTCOME_EXPIRED)
			COUNT(expired);
		else if (outcome == GQ_OUTCOME_CANCELLED)
			COUNT(cancelled);
		else if (outcome == GQ_OUTCOME_LOST)
			COUNT(lost);
	}
	if (__builtin_expect((host->flags & GQ_SLOT_DESCRIBED) != 0, 0))
		drop_region(q, host);
	if (__builtin_expect((host->flags & GQ_SLOT_DISCARD) != 0, 0)) {
		COUNT(discarded);
		return false;
	}
#undef COUNT
	/* [state.write] release, this too: a reader that sees the outcome of a later message must
	 * then see that the state has moved on. */
	gq_store_release_u64(&host->outcome, outcome);
	return true;
}

/* Under the reap lock: from QUEUED to `phase`, which no other thread does. */
static uint64_t leave_queued(GpuQueue *q, uint32_t index, enum gq_phase phase)
{
	struct gq_host_slot *host = &q->host_slots[index];
	const uint64_t id = (gq_load_relaxed_u64(&host->state) & ~q->slot_mask) | index;

	/* [state.write] release: the result (through [message.reap]), outcome, and the place in the
	 * list, as a thread that finds the message finished must find it listed. Pairs with
	 * [state.read]. */
	gq_store_release_u64(&host->state, gq_state(q, id, phase));
	return id;
}

/* The same of a message that is not discarded: subscriptions and hooks are told. */
static uint64_t end_queued(GpuQueue *q, uint32_t index, enum gq_phase phase)
{
	const uint32_t outcome = (uint32_t)gq_load_relaxed_u64(&q->host_slots[index].outcome);
	struct gq_telling telling;
	uint64_t id;

	if (__builtin_expect(q->teller == NULL, 1))
		return leave_queued(q, index, phase);
	telling = gq__tell_begin(q, index, outcome);
	id = leave_queued(q, index, phase);
	gq__tell(q, &telling); /* now, so that whoever is told finds the message finished */
	return id;
}

/* Under the reap lock: to the end of the finished list, for whoever polls next. */
static void finish_listed(GpuQueue *q, uint32_t index)
{
	uint32_t few = 2;

	gq_first_unpolled(q, &few); /* a list that nobody polls stays short */
	gq_list(q, index);
	end_queued(q, index, GQ_DONE);
}

/* Completions that are decoded, then finished, in one go; and the slots of those to discard. */
enum { PASS = 64 };

struct pass {
	struct gq_arrived arrived[PASS];
	uint64_t freed[PASS];
	uint32_t n, n_freed;
};

/* A function of its own, as a poll of one message seldom needs it. */
static __attribute__((noinline)) void touch_reaped(const GpuQueue *q, uint64_t first, uint32_t n)
{
	if (q->device->kind != Q_DEVICE_CPU)
		return;
	for (uint64_t pos = first | (GQ_WORDS_TOUCHED - 1); pos - first < n;
	     pos += GQ_WORDS_TOUCHED)
		gq_word_ring_touch(&q->ch.done, pos);
}

/* Of a pass that has come to a sealed result. */
static __attribute__((noinline)) void reap_sealed(const GpuQueue *q, struct pass *p, uint32_t most)
{
	while (p->n < most && gq_reap(&q->ch, &p->arrived[p->n].slot, &p->arrived[p->n].outcome))
		p->n++;
}

/* Under the reap lock: take completions off the ring; the lines that finishing them needs are on
 * their way meanwhile. */
static void begin_pass(GpuQueue *q, struct pass *p, uint32_t most)
{
	uint64_t first;
	bool sealed;

	p->n_freed = 0;
	p->n = 0;
	if (q->given_up) /* a message that a dead device still completes has ended FAILED */
		return;
	first = gq_load_relaxed_u64(q->ch.done.head);
	most = most < PASS ? most : PASS;
	p->n = gq_reap_plain(&q->ch, p->arrived, most, &sealed);
	if (__builtin_expect(sealed, 0))
		reap_sealed(q, p, most);
	/* To the end of a line. Not for a message that comes alone: somebody waits for it. */
	if (p->n > 1 && first % GQ_WORDS_TOUCHED + p->n >= GQ_WORDS_TOUCHED)
		touch_reaped(q, first, p->n);
	for (uint32_t i = 0; i < p->n; i++)
		__builtin_prefetch(&q->host_slots[p->arrived[i].slot], 1);
	count_finished(q, p->n);
}

/*
 * Under the reap lock: the id of a completed message. [state.read] acquire: what its producer
 * wrote, to be read now. [message.publish] and [message.complete] say as much, but through the
 * consumer, which may be a hostile process, and is none that ThreadSanitizer could see.
 */
static inline uint64_t id_of_arrived(const GpuQueue *q, uint32_t slot)
{
	return (gq_load_acquire_u64(&q->host_slots[slot].state) & ~q->slot_mask) | slot;
}

/* @return whether the message is there to be listed or handed out */
static bool finish(GpuQueue *q, struct pass *p, uint32_t index, uint32_t outcome)
{
	(void)id_of_arrived(q, index);
	if (__builtin_expect(q->trace != NULL, 0))
		gq__trace_finish(q, index, outcome, outcome == GQ_OUTCOME_LOST);
	if (note_end(q, index, outcome))
		return true;
	p->freed[p->n_freed++] = leave_queued(q, index, GQ_FREE);
	return false;
}

static void end_pass(GpuQueue *q, const struct pass *p)
{
	if (p->n_freed != 0)
		gq__free_slots(q, p->freed, p->n_freed);
}

enum { REAP_CHUNK = 256 }; /* completions reaped in one go, to bound the time under the lock */

/* Under the reap lock. */
static uint32_t reap_some(GpuQueue *q, uint32_t most)
{
	struct pass p;
	uint32_t total = 0, asked;

	do {
		asked = most - total < PASS ? most - total : PASS;
		begin_pass(q, &p, asked);
		for (uint32_t i = 0; i < p.n; i++)
			if (finish(q, &p, p.arrived[i].slot, p.arrived[i].outcome))
				finish_listed(q, p.arrived[i].slot);
		end_pass(q, &p);
		total += p.n;
	} while (p.n == asked && total < most);
	return total;
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

/* Of a device that has failed. `lost`: its consumer has said nothing. */
static void end_one(GpuQueue *q, uint32_t index, uint32_t outcome, bool lost)
{
	uint64_t id;

	if (q->trace != NULL)
		gq__trace_finish(q, index, outcome, lost);
	count_finished(q, 1);
	if (note_end(q, index, outcome)) {
		finish_listed(q, index);
		return;
	}
	id = leave_queued(q, index, GQ_FREE);
	gq__free_slots(q, &id, 1);
}

void gq__fail_all(GpuQueue *q)
{
	uint64_t pos;

	pthread_mutex_lock(&q->reap_lock);
	pos = gq_load_relaxed_u64(q->ch.done.head);
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		uint32_t slot, outcome;

		if (gq_look_at_done(&q->ch, pos + i, &slot, &outcome) == GQ_WHOLE)
			end_one(q, slot, outcome, false);
	}
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		/* [state.read] */
		if (gq_phase_of(gq_load_seq_cst_u64(&q->host_slots[i].state)) != GQ_QUEUED)
			continue;
		end_one(q, i, GQ_OUTCOME_FAILED, true);
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

/* ---- harvests -------------------------------------------------------------------------------- */

static inline bool fits(struct gq_harvest *h, uint32_t outcome)
{
	if (!h->take || outcome > GQ_OUTCOME_MAX_LEN || outcome <= h->room)
		return true;
	h->full = true;
	h->next_len = outcome;
	return false;
}

/* Into the caller's next place, before the state says that the message is the caller's: from then
 * on others may release the slot, and the next producer writes over its tag. */
static inline void prepare(const GpuQueue *q, const struct gq_harvest *h, uint64_t id,
			   uint32_t outcome)
{
	if (h->ids != NULL)
		h->ids[h->n] = id;
	if (h->out != NULL)
		h->out[h->n] = gq_completion_with(q, id, outcome);
}

static inline void use_room(struct gq_harvest *h, uint32_t result_len)
{
	const size_t step = gq_round_up(result_len, GQ_RESULT_STEP);

	h->room -= step < h->room ? step : h->room;
}

/* What is in that place counts. */
static inline void hand_out(struct gq_harvest *h, uint32_t outcome)
{
	if (h->take && outcome <= GQ_OUTCOME_MAX_LEN)
		use_room(h, outcome);
	h->n++;
}

/* @return whether the list is empty, so that the completion ring comes next */
static bool harvest_listed(GpuQueue *q, struct gq_harvest *h)
{
	const enum gq_phase phase = h->take ? GQ_FREE : GQ_POLLED;

	while (h->n < h->max && gq_first_unpolled(q, &h->left) == GQ_FOUND_SOMETHING) {
		const uint32_t slot = (uint32_t)q->finished_first - 1;
		/* [state.read] */
		const uint64_t state = gq_load_seq_cst_u64(&q->host_slots[slot].state);
		const uint64_t id = (state & ~q->slot_mask) | slot;
		const uint32_t outcome = gq_outcome_in(q, id);

		/* Not if it was taken by id since: then the next look passes over it. */
		if (gq_phase_of(state) != GQ_DONE)
			continue;
		prepare(q, h, id, outcome);
		if (!fits(h, outcome)) {
			/* Unless it has been taken by id since. [state.read] */
			if (gq_load_seq_cst_u64(&q->host_slots[slot].state) == state)
				return false;
			h->full = false;
			continue;
		}
		gq_unlist(q, slot);
		GQ_WINDOW();
		/* A thread that takes it by id swaps the same word, so one of the two gets it. If
		 * this one does, what was read before was the message's. */
		if (gq_cas_seq_cst_u64(&q->host_slots[slot].state, state, gq_state(q, id, phase)))
			hand_out(h, outcome);
	}
	return q->finished_first == 0;
}

static void hand_out_arrived(GpuQueue *q, struct gq_harvest *h, uint32_t slot, uint32_t outcome)
{
	prepare(q, h, id_of_arrived(q, slot), outcome);
	end_queued(q, slot, h->take ? GQ_FREE : GQ_POLLED);
	GQ_WINDOW();
	hand_out(h, outcome);
}

/*
 * The messages of a pass one after the other, as far as nothing stands in the way of the shortest
 * steps: the message has a result, which fits, and names no region.
 * @param take  h->take. @param whole  h->out, and not h->ids, is to be filled
 * @return how many; the next one needs more
 */
static inline __attribute__((always_inline)) uint32_t
hand_out_run(GpuQueue *q, struct gq_harvest *h, const struct pass *p, bool take, bool whole)
{
	const enum gq_phase phase = take ? GQ_FREE : GQ_POLLED;
	/* At hand: stores below could be of these, as far as a compiler knows. */
	struct gq_host_slot *const host_slots = q->host_slots;
	uint8_t *const results = gq_result_at(&q->ch, 0);
	const uint64_t slot_mask = q->slot_mask, stride = q->ch.result_stride;
	uint64_t *const ids = whole ? NULL : h->ids + h->n;
	Completion *const out = whole ? h->out + h->n : NULL;
	const uint32_t n = p->n;
	uint32_t i = 0;

	for (; i < n; i++) {
		const uint32_t slot = p->arrived[i].slot, outcome = p->arrived[i].outcome;
		struct gq_host_slot *host = &host_slots[slot];
		/* [state.read] acquire: see id_of_arrived() */
		const uint64_t place = gq_load_acquire_u64(&host->state) & ~slot_mask;

		if (outcome > GQ_OUTCOME_MAX_LEN ||
		    (host->flags & (GQ_SLOT_DESCRIBED | GQ_SLOT_DISCARD)) != 0 ||
		    (take && !fits(h, outcome)))
			break;
		gq_store_release_u64(&host->outcome, outcome); /* [state.write], as note_end() */
		/* Into the caller's place before the state says so: see prepare(). */
		if (whole)
			out[i] = (Completion){ .msg_id = place | slot,
					       .tag = gq_load_relaxed_u64(&host->tag),
					       .status = Q_OK,
					       .result_len = outcome,
					       .result = results + slot * stride };
		else
			ids[i] = place | slot;
		gq_store_release_u64(&host->state, place | phase); /* [state.write] */
		GQ_WINDOW();
		if (take)
			use_room(h, outcome);
	}
	h->n += i;
	return i;
}

/* The same where nobody is told, and nothing is traced. */
static inline uint32_t hand_out_plain(GpuQueue *q, struct gq_harvest *h, const struct pass *p)
{
	if (q->trace != NULL || q->teller != NULL)
		return 0;
	if (h->take)
		return hand_out_run(q, h, p, true, true);
	return h->out != NULL ? hand_out_run(q, h, p, false, true)
			      : hand_out_run(q, h, p, false, false);
}

static void harvest_arrived(GpuQueue *q, struct gq_harvest *h)
{
	struct pass p;
	uint32_t most;

	do {
		most = h->max - h->n < PASS ? (uint32_t)(h->max - h->n) : PASS;
		most = most < h->left ? most : h->left;
		begin_pass(q, &p, most);
		for (uint32_t i = hand_out_plain(q, h, &p); i < p.n; i++) {
			const uint32_t slot = p.arrived[i].slot, outcome = p.arrived[i].outcome;

			if (!finish(q, &p, slot, outcome))
				h->left--;
			else if (h->full || !fits(h, outcome))
				finish_listed(q, slot);
			else
				hand_out_arrived(q, h, slot, outcome);
		}
		end_pass(q, &p);
	} while (p.n == most && most != 0 && !h->full && h->n < h->max);
}

void gq__harvest(GpuQueue *q, struct gq_harvest *h)
{
	if (harvest_listed(q, h) && h->n < h->max)
		harvest_arrived(q, h);
}
