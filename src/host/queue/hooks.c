/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks.c - functions of the application that are called for completions.
 *
 * The journal is a ring with one putter (the reaper, under the reap lock) and one taker, the hooks'
 * thread. An entry names the hooks that want it by their places in the table. A place that has
 * another hook by then does not count: each hook knows at which position of the journal it came.
 */
#include "host/queue/hooks.h"

#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/base/thread.h"
#include "host/queue/handle.h"

#include <inttypes.h>
#include <string.h>

#define SLOW_NS UINT64_C(100000000)
enum { FEWEST_ENTRIES = 4096, MOST_ENTRIES = 65536 };

struct gq_hooks {
	GpuQueue *q;
	pthread_t thread;
	pthread_mutex_t lock; /* of the table; never held while a hook runs */
	struct gq_hook hook[Q_MAX_HOOKS];
	uint64_t numbered;    /* hooks so far */
	uint64_t running;     /* the number of the hook that runs; written under the lock */
	struct gq_event more; /* the thread sleeps on this */
	struct gq_event ran;  /* q_remove_hook() does */
	uint32_t quit;
};

/* ---- the thread ------------------------------------------------------------------------------ */

/* Copy the hook at a place that is to see the entry at `pos`, and say that it runs. */
static bool begin(struct gq_hooks *h, unsigned i, uint64_t pos, struct gq_hook *out)
{
	bool is_there;

	pthread_mutex_lock(&h->lock);
	*out = h->hook[i];
	/* Positions are near each other, so their difference has a sign. */
	is_there = out->number != 0 && (int64_t)(pos - out->since) >= 0;
	if (is_there)
		gq_store_relaxed_u64(&h->running, out->number);
	pthread_mutex_unlock(&h->lock);
	return is_there;
}

static void call(struct gq_hooks *h, const struct gq_hook *hook, const Completion *completion)
{
	const Completion own = *completion;
	const uint64_t began_ns = gq__now_ns();
	uint64_t ns;

	hook->fn(&own, hook->user);
	ns = gq__now_ns() - began_ns;
	/* [hook.write] release: the hook has returned. [wake.look] */
	gq_exchange_seq_cst_u64(&h->running, 0);
	gq_event_broadcast(&h->ran);
	if (ns >= SLOW_NS)
		gq__log(Q_LOG_WARNING,
			"hook %" PRIu64 " (function at %p) took %" PRIu64 " ms for message %" PRIu64
			"; the queue's other hooks have waited",
			hook->number, *(void *const *)(const void *)&hook->fn, ns / 1000000,
			completion->msg_id);
}

static void show(struct gq_hooks *h, const struct gq_journal_entry *entry, uint64_t pos)
{
	for (uint64_t left = entry->hooks; left != 0; left &= left - 1) {
		struct gq_hook hook;

		if (begin(h, (unsigned)__builtin_ctzll(left), pos, &hook))
			call(h, &hook, &entry->completion);
	}
}

/* Completions that hooks have missed since this was last said. */
static void log_lost(struct gq_hooks *h)
{
	uint64_t lost[Q_MAX_HOOKS], numbers[Q_MAX_HOOKS];

	pthread_mutex_lock(&h->lock);
	pthread_mutex_lock(&h->q->reap_lock);
	for (unsigned i = 0; i < Q_MAX_HOOKS; i++) {
		lost[i] = h->q->teller->filter[i].lost;
		h->q->teller->filter[i].lost = 0;
		numbers[i] = h->hook[i].number;
	}
	pthread_mutex_unlock(&h->q->reap_lock);
	pthread_mutex_unlock(&h->lock);
	for (unsigned i = 0; i < Q_MAX_HOOKS; i++)
		if (lost[i] != 0 && numbers[i] != 0)
			gq__log(Q_LOG_WARNING,
				"hook %" PRIu64 " has missed %" PRIu64
				" completions: the hooks of this queue are too slow for it",
				numbers[i], lost[i]);
}

/* Show what is in the journal. @return whether there was anything. */
static bool show_all(struct gq_hooks *h)
{
	struct gq_teller *t = h->q->teller;
	uint64_t head = t->journal_head, tail;
	bool any = false;

	for (;;) {
		tail = gq_load_seq_cst_u64(&t->journal_tail); /* [journal.get], [sleep.look] */
		if (tail == head)
			break;
		any = true;
		for (; head != tail; head++) {
			const struct gq_journal_entry entry = t->journal[head & t->journal_mask];

			/* [journal.give] release: the entry has been read. */
			gq_store_release_u64(&t->journal_head, head + 1);
			show(h, &entry, head);
		}
	}
	if (any)
		log_lost(h);
	return any;
}

static void *run_hooks(void *arg)
{
	struct gq_hooks *h = arg;
	struct gq_wait wait;

	GQ_NO_CANCEL(); /* hooks are the application's code */
	gq__name_this_thread("gpuq-hooks");
	for (;;) {
		bool quit;

		gq__wait_begin(&wait, &h->more, GQ_FOR_EVER, 0);
		do
			quit = gq_load_seq_cst_u32(&h->quit) != 0; /* [sleep.look] */
		while (!show_all(h) && !quit && gq__wait_next(&wait));
		gq__wait_end(&wait);
		if (quit && !show_all(h))
			return NULL;
	}
}

void gq__wake_hooks(struct gq_hooks *hooks)
{
	gq_event_broadcast(&hooks->more); /* [wake.look] */
}

bool gq__is_hook_thread(GpuQueue *q)
{
	struct gq_hooks *h;

	pthread_mutex_lock(&q->reap_lock);
	h = q->teller != NULL ? q->teller->hooks : NULL;
	pthread_mutex_unlock(&q->reap_lock);
	return h != NULL && pthread_equal(h->thread, pthread_self());
}

/* ---- its life -------------------------------------------------------------------------------- */

static uint64_t journal_bytes(const struct gq_teller *t)
{
	return (t->journal_mask + 1) * sizeof(struct gq_journal_entry);
}

static struct gq_journal_entry *make_journal(const GpuQueue *q, uint64_t *mask)
{
	uint64_t n = (uint64_t)q->cfg.capacity * 4;

	n = n < FEWEST_ENTRIES ? FEWEST_ENTRIES : n > MOST_ENTRIES ? MOST_ENTRIES : n;
	*mask = n - 1;
	return gq__alloc(n * sizeof(struct gq_journal_entry), "the hooks' journal");
}

struct gq_hooks *gq__hooks_of(GpuQueue *q, struct gq_teller *t, QueueStatus *status)
{
	struct gq_journal_entry *journal;
	struct gq_hooks *h = t->hooks;
	uint64_t mask;
	int rc;

	if (h != NULL)
		return h;
	*status = Q_ERR_NO_MEMORY;
	h = gq__alloc(sizeof(*h), "the hooks");
	if (h == NULL)
		return NULL;
	journal = make_journal(q, &mask);
	if (journal == NULL) {
		gq__free(h, sizeof(*h));
		return NULL;
	}
	h->q = q;
	pthread_mutex_init(&h->lock, NULL);
	pthread_mutex_lock(&q->reap_lock); /* no reaper reads these: there is no hook yet */
	t->journal = journal;
	t->journal_mask = mask;
	pthread_mutex_unlock(&q->reap_lock);
	rc = gq__start_thread(&h->thread, run_hooks, h, "gpuq-hooks");
	if (rc == 0) {
		pthread_mutex_lock(&q->reap_lock);
		t->hooks = h;
		pthread_mutex_unlock(&q->reap_lock);
		return h;
	}
	gq__free(journal, journal_bytes(t));
	t->journal = NULL;
	pthread_mutex_destroy(&h->lock);
	gq__free(h, sizeof(*h));
	*status = gq__failf(Q_ERR_LIMIT, "thread for hooks: %s", strerror(rc));
	return NULL;
}

void gq__stop_hooks(struct gq_teller *t)
{
	struct gq_journal_entry *journal;
	struct gq_hooks *h = t->hooks;

	if (h == NULL)
		return;
	gq_exchange_seq_cst_u32(&h->quit, 1); /* [wake.look] */
	gq_event_broadcast(&h->more);
	pthread_join(h->thread, NULL);
	/* The descriptor's thread may still reap. */
	pthread_mutex_lock(&h->q->reap_lock);
	journal = t->journal;
	t->hook_bits = 0;
	t->journal = NULL;
	t->hooks = NULL;
	pthread_mutex_unlock(&h->q->reap_lock);
	gq__free(journal, journal_bytes(t));
	pthread_mutex_destroy(&h->lock);
	gq__free(h, sizeof(*h));
}

/* ---- the calls ------------------------------------------------------------------------------- */

/* The place of a hook by its number; of 0, a free one. @return Q_MAX_HOOKS: there is none. */
static unsigned find(const struct gq_hooks *h, uint64_t number)
{
	unsigned i = 0;

	while (i < Q_MAX_HOOKS && h->hook[i].number != number)
		i++;
	return i;
}

QueueStatus gq__add_hook(struct gq_hooks *h, const CompletionFilter *filter, struct gq_hook *hook)
{
	struct gq_teller *t = h->q->teller;
	unsigned i;
	bool ended;

	pthread_mutex_lock(&h->lock);
	i = find(h, 0);
	pthread_mutex_lock(&h->q->reap_lock);
	ended = t->ended;
	if (!ended && i < Q_MAX_HOOKS) {
		hook->number = ++h->numbered;
		hook->since = t->journal_tail;
		h->hook[i] = *hook;
		t->filter[i] = (struct gq_hook_filter){ .filter = *filter };
		t->hook_bits |= UINT64_C(1) << i;
	}
	pthread_mutex_unlock(&h->q->reap_lock);
	pthread_mutex_unlock(&h->lock);
	if (ended)
		return gq__fail(Q_ERR_SHUTDOWN, GQ_NOTHING_TO_TELL);
	if (i == Q_MAX_HOOKS)
		return gq__failf(Q_ERR_LIMIT, "the queue has %u hooks; allowed: as many",
				 Q_MAX_HOOKS);
	return Q_OK;
}

/* @return false: there is no such hook. */
static bool take_out(struct gq_hooks *h, uint64_t number)
{
	unsigned i = Q_MAX_HOOKS;

	pthread_mutex_lock(&h->lock);
	if (number != 0)
		i = find(h, number);
	if (i < Q_MAX_HOOKS) {
		h->hook[i] = (struct gq_hook){ .number = 0 };
		pthread_mutex_lock(&h->q->reap_lock);
		h->q->teller->hook_bits &= ~(UINT64_C(1) << i);
		pthread_mutex_unlock(&h->q->reap_lock);
	}
	pthread_mutex_unlock(&h->lock);
	return i < Q_MAX_HOOKS;
}

QueueStatus q_remove_hook(GpuQueue *q, uint64_t hook)
{
	struct gq_hooks *h;
	struct gq_wait wait;
	bool is_there;

	GQ_RETURN_IF_REFUSED(gq_enter_to_look(q));
	pthread_mutex_lock(&q->reap_lock);
	h = q->teller != NULL ? q->teller->hooks : NULL;
	pthread_mutex_unlock(&q->reap_lock);
	is_there = h != NULL && take_out(h, hook);
	/* On the hooks' thread it is the hook itself, or another, which does not run then. One that
	 * has removed itself, or that another thread has removed, may still run. */
	if (h != NULL && hook != 0 && !pthread_equal(h->thread, pthread_self())) {
		gq__wait_begin(&wait, &h->ran, GQ_FOR_EVER, GQ_SPIN_NS);
		/* [hook.read], [sleep.look] */
		while (gq_load_seq_cst_u64(&h->running) == hook && gq__wait_next(&wait))
			;
		gq__wait_end(&wait);
	}
	return is_there ? Q_OK : gq__fail(Q_ERR_NOT_FOUND, "there is no such hook");
}
