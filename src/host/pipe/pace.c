/* SPDX-License-Identifier: Apache-2.0 */
/* pace.c - see pace.h. */
#include "host/pipe/pace.h"

enum {
	DOZE_NS = 200000,        /* the longest that a doze lasts */
	WORTH_A_DOZE = 8192,     /* bytes; after one that brings less comes a sleep */
	STREAM_BYTES_A_US = 100, /* a writer that brings as much as that ... */
	STREAM_GAP_NS = 20000,   /* ... and is back sooner than a wake-up takes ... */
	STREAM_WAKES = 3,        /* ... so often in a row, streams */
	BEAT_BYTES = 256 * 1024, /* from beat to beat, but at most a quarter of the pipe */
	SMALLEST_PIPE = 65536,   /* in smaller ones nobody dozes */
};

static bool streams(const struct gq_pipe_source *s)
{
	return gq_load_relaxed_u64(&s->head->streams) != 0;
}

/* ---- the writer's side ----------------------------------------------------------------------- */

static bool is_slow(uint64_t bytes, uint64_t ns)
{
	return ns > bytes * 1000 / STREAM_BYTES_A_US;
}

/* Wake the readers that doze, and say whether they may doze again. */
static void beat(Pipe *p, uint64_t end, bool goes_on)
{
	struct gq_pipe_head *head = p->source.head;

	if (goes_on != streams(&p->source))
		gq_store_relaxed_u64(&head->streams, goes_on);
	/* Counted behind the store: a reader that would sleep with this count as its key finds
	 * `streams` as it is now. */
	gq__watch_wake(&head->beats);
	p->beaten = end;
	p->beaten_ns = gq__now_ns(); /* what waking takes does not count */
}

/* While the writer streams. A beat is due after so many bytes. If they do not come in time, the
 * writer has stopped streaming: it finds that out when they have come, or when a reader slept. */
static void beat_if_due(Pipe *p, uint64_t end, bool woke)
{
	const uint64_t quarter = p->source.capacity / 4;
	const uint64_t due = quarter < BEAT_BYTES ? quarter : BEAT_BYTES;
	const uint64_t bytes = end - p->beaten;
	bool slow;

	if (bytes < due && !woke)
		return;
	slow = is_slow(bytes > due ? bytes : due, gq__now_ns() - p->beaten_ns);
	if (bytes >= due || slow)
		beat(p, end, !slow);
}

/* Readers that slept had to be woken, at `now`: is that because the writer streams? */
static void note_wake(Pipe *p, uint64_t end, uint64_t now)
{
	const uint64_t gap = now - p->woke_ns;
	const bool fast = gap < STREAM_GAP_NS && !is_slow(end - p->woke_end, gap);

	p->wakes = fast ? p->wakes + 1 : 0;
	if (p->wakes >= STREAM_WAKES && p->source.capacity >= SMALLEST_PIPE && !streams(&p->source))
		beat(p, end, true);
	p->woke_end = end;
	p->woke_ns = gq__now_ns();
}

static bool wake_sleepers(Pipe *p, bool shared)
{
	bool any = false;

	if (gq_event_armed(&p->data)) /* [wake.look] */
		any = gq__event_wake(&p->data, UINT32_MAX) != 0;
	/* Readers of other processes cannot say that they sleep. */
	if (shared)
		any |= gq__watch_wake(&p->source.head->changes) != 0;
	return any;
}

void gq__pipe_published(Pipe *p, uint64_t end)
{
	const uint64_t audience = gq_load_seq_cst_u64(&p->audience);
	const bool shared = (audience & GQ_AUDIENCE_SHARED) != 0;
	bool woke = false;

	if (shared || gq_event_armed(&p->data)) { /* [wake.look] */
		const uint64_t now = gq__now_ns();

		woke = wake_sleepers(p, shared);
		if (woke)
			note_wake(p, end, now);
	}
	if (streams(&p->source))
		beat_if_due(p, end, woke);
}

void gq__pipe_wake_readers(Pipe *p)
{
	const uint64_t audience = gq_load_seq_cst_u64(&p->audience);

	wake_sleepers(p, (audience & GQ_AUDIENCE_SHARED) != 0);
	gq__watch_wake(&p->source.head->beats);
}

/* ---- the reader's side ----------------------------------------------------------------------- */

bool gq__pipe_doze_begin(PipeReader *r, struct gq_wait *wait, uint64_t deadline_ns)
{
	const bool dozes = streams(&r->source) && !r->sleeps_next;

	r->sleeps_next = false;
	if (dozes)
		gq__wait_begin_watch(wait, &r->source.head->beats, deadline_ns, DOZE_NS);
	return dozes;
}

bool gq__pipe_doze_next(PipeReader *r, struct gq_wait *wait)
{
	uint64_t end;

	if (!wait->registered)
		return gq__wait_next(wait);
	/* If the writer has stopped streaming, no beat may follow; see beat(). */
	if (!streams(&r->source))
		return false;
	(void)gq__wait_next(wait); /* sleeps, */
	wait->expired = true;      /* once */
	end = gq_pipe_offset(gq_load_relaxed_u64(&r->source.head->end));
	r->sleeps_next = end - gq_load_relaxed_u64(&r->position) < WORTH_A_DOZE;
	return true;
}

/* ---- room ------------------------------------------------------------------------------------ */

/*
 * The sleeping writer wants all readers at `wanted` or beyond, and only the reader that brings that
 * about wakes it. It stores `wanted`, registers, looks at all positions, sleeps. A reader stores
 * its position, and then looks whether the writer is registered, at `wanted`, and at all positions.
 * If its look finds room, however little, it begins again, because `wanted` is another then.
 * All of that is sequentially consistent, so a reader that passes `wanted` has been seen by the
 * writer's look, or sees the writer registered; and of those that see it, the last one finds all
 * others beyond. A reader that closes wakes the writer in any case.
 */
void gq__pipe_room_begin(Pipe *p, struct gq_wait *wait, uint64_t deadline_ns)
{
	gq__wait_begin(wait, &p->room, deadline_ns, GQ_SPIN_NS);
	p->waited_at = UINT64_MAX;
}

bool gq__pipe_room_next(Pipe *p, struct gq_wait *wait)
{
	const uint64_t end = gq_pipe_offset(gq_load_relaxed_u64(&p->source.head->end));
	const uint64_t capacity = p->source.capacity;
	uint64_t room = 1;

	/* The look behind the registration has found room and filled it: `wanted` is out of date,
	 * and all readers may have passed it. */
	if (wait->registered && end != p->wanted_at)
		gq__wait_end(wait);
	if (!wait->registered) {
		/* It dozes once, and again after it has written something. */
		wait->nap_ns =
			end != p->waited_at && capacity >= SMALLEST_PIPE ? DOZE_NS : GQ_FOR_EVER;
		if (wait->nap_ns != GQ_FOR_EVER)
			room = capacity / 2;
		p->wanted_at = end;
		gq_store_seq_cst_u64(&p->wanted, end + room - capacity); /* [sleep.look] */
	} else {
		p->waited_at = end;
	}
	return gq__wait_next(wait);
}

void gq__pipe_moved(Pipe *p, uint64_t from, uint64_t to)
{
	uint64_t wanted;

	if (!gq_event_armed(&p->room)) /* [wake.look] */
		return;
	wanted = gq_load_seq_cst_u64(&p->wanted); /* [wake.look] */
	/* One that is still below it holds the writer up; one that was beyond it did not. */
	if (to < wanted || from >= wanted)
		return;
	pthread_mutex_lock(&p->lock); /* for the list */
	for (const PipeReader *r = p->first; r != NULL && to >= wanted; r = r->after)
		to = gq_load_seq_cst_u64(&r->position); /* [pipe.room], [wake.look] */
	pthread_mutex_unlock(&p->lock);
	if (to >= wanted)
		gq_event_broadcast(&p->room);
}
