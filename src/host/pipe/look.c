/* SPDX-License-Identifier: Apache-2.0 */
/* look.c - what a read finds, without reading it; and how a thread waits until that changes. */
#include "host/pipe/pipe.h"

#include <errno.h>

enum { NAP_NS = 200000000 }; /* between two looks whether the writer lives */

/* What is known to have gone wrong with the stream, which the writer cannot say. */
static enum gq_pipe_sight fail(PipeReader *r, int failure)
{
	gq_store_relaxed_u64(&r->failure, (uint64_t)failure);
	return GQ_SEES_ERROR;
}

/*
 * Nothing that comes from the memory is used before it is checked: another process may have written
 * it. `end` is read before `begin`: so a `begin` that allows `position` is at most `capacity`
 * before that `end`, if the writer is honest.
 */
static enum gq_pipe_sight look_once(PipeReader *r, struct gq_pipe_view *v)
{
	const struct gq_pipe_head *head = r->source.head;
	const uint64_t flags = gq_load_relaxed_u64(&r->flags);
	uint64_t word, end;

	/* acquire: then `end` cannot be older than what the reading thread has seen of it */
	v->position = gq_load_acquire_u64(&r->position); /* [pipe.room] */
	if (gq_load_seq_cst_u64(&r->own_error) != 0)     /* [sleep.look] */
		return GQ_SEES_OWN_ERROR;
	word = gq_load_seq_cst_u64(&head->end); /* [pipe.read] acquire, [sleep.look] */
	v->begin = gq_load_relaxed_u64(&head->begin);
	if ((flags & GQ_READER_CUT) != 0)
		return GQ_SEES_CUT;
	if ((flags & GQ_READER_LATE) != 0 || v->position < v->begin)
		return GQ_SEES_LAG;
	end = gq_pipe_offset(word);
	if (end < v->position || end - v->position > r->source.capacity)
		return fail(r, EPROTO);
	v->bytes = end - v->position;
	if (v->bytes != 0)
		return GQ_SEES_DATA;
	if ((word & GQ_PIPE_ERROR) != 0)
		return GQ_SEES_ERROR;
	if ((word & GQ_PIPE_CLOSED) != 0)
		return GQ_SEES_END;
	return gq_load_relaxed_u64(&r->failure) != 0 ? GQ_SEES_ERROR : GQ_SEES_NOTHING;
}

enum gq_pipe_sight gq__pipe_look(PipeReader *r, struct gq_pipe_view *v)
{
	enum gq_pipe_sight found = look_once(r, v);

	if (found != GQ_SEES_NOTHING || r->pipe != NULL || !gq__pipe_author_is_dead(&r->author))
		return found;
	found = look_once(r, v); /* what it did last */
	return found == GQ_SEES_NOTHING ? fail(r, EOWNERDEAD) : found;
}

void gq__pipe_wait_begin(PipeReader *r, struct gq_wait *wait, uint64_t *asleep,
			 uint64_t deadline_ns)
{
	if (r->pipe != NULL) {
		gq__wait_begin(wait, &r->pipe->data, deadline_ns, GQ_SPIN_NS);
		return;
	}
	gq_fetch_add_seq_cst_u64(asleep, 1); /* [sleep.look] */
	gq__wait_begin_watch(wait, &r->source.head->changes, deadline_ns, NAP_NS);
}

void gq__pipe_wait_end(PipeReader *r, struct gq_wait *wait, uint64_t *asleep)
{
	gq__wait_end(wait);
	if (r->pipe == NULL)
		gq_fetch_add_seq_cst_u64(asleep, 1);
}

/*
 * A thread that sleeps on `changes` has no word of this process's to sleep on, so whoever wants it
 * to look at a word of this process's wakes it again and again until it has looked: it may be on
 * its way to sleep. It is awake once `asleep` has changed; then it has returned, or another wait
 * has begun, which looks first. So that look has to find something, or this never ends.
 */
void gq__pipe_rouse(PipeReader *r, const uint64_t *asleep, const uint64_t *word, uint64_t value)
{
	const uint64_t seen = gq_load_seq_cst_u64(asleep); /* [wake.look] */

	if (seen % 2 == 0)
		return;
	for (uint32_t step = 0;
	     gq_load_seq_cst_u64(asleep) == seen && gq_load_seq_cst_u64(word) == value; step++) {
		gq__watch_rouse(&r->source.head->changes);
		gq__await_step(step);
	}
}
