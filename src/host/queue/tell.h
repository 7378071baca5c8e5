/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tell.h - who is told of completions: subscriptions and hooks, as the reaper sees them.
 *
 * The reaper notes each completion, under the reap lock: in the subscriptions whose filter it
 * passes, and in the journal, if hooks want it. It wakes nobody, because it holds a lock and may be
 * anybody's call. The teller's thread (teller.c) reaps when nobody else does, and wakes. The hooks'
 * thread (hooks.c) reads the journal.
 */
#ifndef GPUQ_QUEUE_TELL_H
#define GPUQ_QUEUE_TELL_H

#include "host/notify/post.h"
#include "host/queue/state.h"

/* A subscription, under the reap lock. */
struct gq_told {
	NotifyHandle handle; /* stale once its owner has unsubscribed */
	CompletionFilter filter;
	struct gq_noted noted;
	bool is_fresh; /* something was noted since the teller's thread has last woken it */
};

/* A completion for hooks, by bits of their numbers in the table. */
struct gq_journal_entry {
	Completion completion;
	uint64_t hooks;
};

/* A hook as the reaper sees it, under the reap lock. */
struct gq_hook_filter {
	CompletionFilter filter;
	uint64_t lost; /* completions that found the journal full */
};

struct gq_hooks; /* hooks.c */

struct gq_teller {
	NotifyQueue *nq;

	/* under the reap lock */
	struct gq_told told[Q_MAX_COMPLETION_SUBSCRIPTIONS];
	uint32_t n_told;
	uint64_t has_fresh; /* of subscriptions or journal; read without the lock as a hint */
	bool ended;         /* nothing completes any more */
	uint64_t hook_bits; /* hooks that are there, by their place in the table */
	struct gq_hook_filter filter[Q_MAX_HOOKS];
	struct gq_journal_entry *journal; /* NULL: there has been no hook yet */
	uint64_t journal_mask;
	GQ_ALIGNED(GQ_LINE) uint64_t journal_tail; /* the reaper's */
	GQ_ALIGNED(GQ_LINE) uint64_t journal_head; /* the hooks' thread's */

	uint32_t quit;
	pthread_t thread;
	struct gq_hooks *hooks; /* under the queue's control lock; NULL: there has been none */
};

/* What there is to tell of a message. */
struct gq_telling {
	Completion completion;
	uint32_t priority;
};

/* Under the reap lock, with a teller, while the slot is still the message's. */
struct gq_telling gq__tell_begin(GpuQueue *q, uint32_t index, uint32_t outcome);
/* The same, the message being finished for everybody: from here on another may have its slot. */
void gq__tell(GpuQueue *q, const struct gq_telling *what);

/* What a call says that comes after the end of all telling. */
#define GQ_NOTHING_TO_TELL "the queue is stopped: no message completes any more"

/* Under the reap lock: take subscriptions out whose owners have left. */
void gq__tell_purge(struct gq_teller *t);

#endif /* GPUQ_QUEUE_TELL_H */
