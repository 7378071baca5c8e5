/* SPDX-License-Identifier: Apache-2.0 */
/* pace.c - see pace.h. */
#include "host/pipe/pace.h"

enum {
	DOZE_NS = 200000,      /* the longest that a doze lasts */
	STREAM_GAP_NS = 20000, /* about one wake-up: a writer that is back sooner streams, if ... */
	STREAM_BYTES_A_US = 100, /* ... it brings as much as that */
	WORTH_A_DOZE = 8192,     /* bytes; a doze that brings less is the last one for now */
	BEAT_BYTES = 256 * 1024, /* from beat to beat, but at most a quarter of the pipe */
	SMALLEST_PIPE = 65536,   /* in smaller ones nobody dozes */
};

static bool streams(const struct gq_pipe_source *s)
{
	return gq_load_relaxed_u64(&s->head->streams) != 0;
}

static void beat(Pipe *p, uint64_t end)
{
	p->beaten = end;
	gq__watch_wake(&p->source.head->beats);
}

/* ---- the writer's side ----------------------------------------------------------------------- */

/* Readers that slept have to be woken, at `now`: is that because the writer streams? */
static void note_wake(Pipe *p, uint64_t end, uint64_t now)
{
	const uint64_t gap = now - p->woke_ns, bytes = end - p->woke_end;
	const bool fast = gap < STREAM_GAP_NS && bytes * 1000 > gap * STREAM_BYTES_A_US &&
			  p->source.capacity >= SMALLEST_PIPE;

	if (fast != streams(&p->source))
		gq_store_relaxed_u64(&p->source.head->streams, fast);
	p->woke_end = end;
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
	const uint64_t most = p->source.capacity / 4;

	if (shared || gq_event_armed(&p->data)) { /* [wake.look] */
		const uint64_t now = gq__now_ns();

		if (wake_sleepers(p, shared)) {
			note_wake(p, end, now);
			p->woke_ns = gq__now_ns();
		}
	}
	if (streams(&p->source) && end - p->beaten >= (most < BEAT_BYTES ? most : BEAT_BYTES))
		beat(p, end);
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
	const uint64_t position = gq_load_relaxed_u64(&r->position);

	if (!streams(&r->source))
		return false;
	if (position - r->dozed_at < WORTH_A_DOZE) {
		r->dozed_at = position - WORTH_A_DOZE; /* the next time it may */
		return false;
	}
	r->dozed_at = position;
	gq__wait_begin_watch(wait, &r->source.head->beats, deadline_ns, DOZE_NS);
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
