/* SPDX-License-Identifier: Apache-2.0 */
/* tell.c - the reaper notes a completion for subscriptions and hooks. */
#include "host/queue/tell.h"

#include "host/queue/outcome.h"
#include "host/queue/reap.h"

static bool passes(const CompletionFilter *f, const Completion *c, uint32_t priority)
{
	if ((f->flags & Q_FILTER_TAGS) != 0 && (c->tag < f->tag_min || c->tag > f->tag_max))
		return false;
	return (f->priorities & Q_FILTER_PRIORITY(priority)) != 0 &&
	       (f->statuses & Q_FILTER_STATUS(c->status)) != 0;
}

static void forget(struct gq_teller *t, uint32_t i)
{
	t->told[i] = t->told[--t->n_told];
}

void gq__tell_purge(struct gq_teller *t)
{
	uint32_t i = 0;

	while (i < t->n_told)
		if (gq_notify_is_open(gq_notify_place_of(t->nq, t->told[i].handle),
				      t->told[i].handle))
			i++;
		else
			forget(t, i);
}

static void tell_subscriptions(struct gq_teller *t, const Completion *c, uint32_t priority)
{
	uint32_t i = 0;

	while (i < t->n_told) {
		struct gq_told *told = &t->told[i];
		struct gq_noted noted;

		if (!passes(&told->filter, c, priority)) {
			i++;
		} else if (gq__notify_note(t->nq, told->handle, (int64_t)c->msg_id, &noted)) {
			told->noted = noted;
			told->is_fresh = true;
			gq_store_relaxed_u64(&t->has_fresh, 1);
			i++;
		} else { /* its owner has left; another has its place now */
			forget(t, i);
		}
	}
}

/* What finds the journal full is lost to the hooks that wanted it. */
static void lose(struct gq_teller *t, uint64_t hooks)
{
	for (; hooks != 0; hooks &= hooks - 1)
		t->filter[__builtin_ctzll(hooks)].lost++;
}

static void tell_hooks(struct gq_teller *t, const Completion *c, uint32_t priority)
{
	const uint64_t tail = t->journal_tail;
	uint64_t hooks = 0;

	for (uint64_t left = t->hook_bits; left != 0; left &= left - 1) {
		const unsigned i = (unsigned)__builtin_ctzll(left);

		if (passes(&t->filter[i].filter, c, priority))
			hooks |= UINT64_C(1) << i;
	}
	if (hooks == 0)
		return;
	/* [journal.free] acquire: the hooks' thread has read the entry that is written over. */
	if (tail - gq_load_acquire_u64(&t->journal_head) > t->journal_mask) {
		lose(t, hooks);
		return;
	}
	t->journal[tail & t->journal_mask] = (struct gq_journal_entry){ *c, hooks };
	/* [journal.put] release: the entry. [wake.look]: the teller's thread then looks whether the
	 * hooks' thread sleeps. */
	gq_store_seq_cst_u64(&t->journal_tail, tail + 1);
	gq_store_relaxed_u64(&t->has_fresh, 1);
}

struct gq_telling gq__tell_begin(GpuQueue *q, uint32_t index, uint32_t outcome)
{
	const struct gq_slot *slot = gq_slot_at(&q->ch, index);
	const QueueStatus status = gq_status_of(outcome);

	return (struct gq_telling){
		.completion = { .msg_id = slot->msg_id,
				.tag = slot->tag,
				.status = status,
				.result_len = status == Q_OK ? outcome : 0,
				.result = gq_result_at(&q->ch, index) },
		.priority = slot->priority + 1, /* of a class, the QueuePriority */
	};
}

void gq__tell(GpuQueue *q, const struct gq_telling *what)
{
	tell_subscriptions(q->teller, &what->completion, what->priority);
	if (q->teller->hook_bits != 0)
		tell_hooks(q->teller, &what->completion, what->priority);
}
