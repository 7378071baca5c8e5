/* SPDX-License-Identifier: Apache-2.0 */
/* window.c - the messages under way, in input order: what is known of each until it is printed. */
#include "window.h"

#include <stdlib.h>

/* Messages that failed before they were queued also take entries, but hold no slot. */
#define UNQUEUED_ENTRIES 64

bool window_init(struct window *w, size_t slots)
{
	*w = (struct window){ .most = slots + UNQUEUED_ENTRIES };
	w->size = 2 * w->most;
	w->entries = calloc(w->size, sizeof(w->entries[0]));
	return w->entries != NULL;
}

void window_free(struct window *w)
{
	free(w->entries);
	w->entries = NULL;
}

size_t window_room(const struct window *w)
{
	return w->most - w->used;
}

static void close_gaps(struct window *w)
{
	size_t to = 0;

	for (size_t from = w->first; from < w->end; from++) {
		if (w->entries[from].state != ENTRY_GONE)
			w->entries[to++] = w->entries[from];
	}
	w->first = 0;
	w->end = to;
	w->guess = 0;
}

static struct entry *append(struct window *w, const struct entry *e)
{
	if (w->end == w->size)
		close_gaps(w);
	w->entries[w->end] = *e;
	w->used++;
	return &w->entries[w->end++];
}

void window_add(struct window *w, uint64_t msg_id, uint64_t enqueued_ns, uint32_t file,
		uint64_t number)
{
	const struct entry e = {
		.key = msg_id,
		.msg_id = msg_id,
		.enqueued_ns = enqueued_ns,
		.number = number,
		.file = file,
		.stream = NO_STREAM,
		.state = ENTRY_PENDING,
		.queued = true,
	};

	append(w, &e);
	w->last_key = msg_id;
	w->pending++;
}

struct entry *window_add_failed(struct window *w, uint32_t file, uint64_t number)
{
	/*
	 * The key of the message before keeps the array sorted. That message stands before it, and
	 * bisection finds the first of equals.
	 */
	const struct entry e = {
		.key = w->last_key,
		.number = number,
		.file = file,
		.stream = NO_STREAM,
		.status = Q_ERR_INVALID_ARG,
		.state = ENTRY_FINISHED,
	};

	return append(w, &e);
}

uint64_t window_open(struct window *w, uint32_t file)
{
	const struct entry e = {
		.key = ++w->last_key,
		.file = file,
		.stream = NO_STREAM,
		.state = ENTRY_READING,
	};

	append(w, &e);
	return e.key;
}

void window_submit(struct window *w, struct entry *e, uint64_t msg_id, uint64_t now_ns)
{
	if (!e->queued)
		e->enqueued_ns = now_ns;
	e->queued = true;
	e->msg_id = msg_id;
	e->state = ENTRY_PENDING;
	w->pending++;
}

void window_resume(struct window *w, struct entry *e)
{
	e->state = ENTRY_READING;
	w->pending--;
}

void window_fail(struct entry *e)
{
	e->status = Q_ERR_INVALID_ARG;
	e->state = ENTRY_FINISHED;
	e->queued = false; /* its last piece, if there was one, has been released */
	e->stream = NO_STREAM;
}

static bool is_pending(const struct entry *e, uint64_t key)
{
	return e->key == key && e->state == ENTRY_PENDING;
}

/* Where the first entry with this key, or else a later one, stands. */
static size_t bisect(const struct window *w, uint64_t key)
{
	size_t low = w->first;
	size_t high = w->end;
	/* Keys are compared by their distance from the oldest one: they may wrap. */
	const uint64_t base = w->entries[low].key;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (w->entries[middle].key - base < key - base)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct entry *window_get(struct window *w, uint64_t key)
{
	return &w->entries[bisect(w, key)];
}

struct entry *window_find(struct window *w, uint64_t key)
{
	size_t at;

	if (w->first == w->end)
		return NULL;
	if (w->guess >= w->first && w->guess < w->end && is_pending(&w->entries[w->guess], key))
		return &w->entries[w->guess++];
	at = bisect(w, key);
	if (at == w->end || !is_pending(&w->entries[at], key))
		return NULL;
	w->guess = at + 1;
	return &w->entries[at];
}

void window_finish(struct window *w, struct entry *e, const Completion *outcome)
{
	e->status = outcome->status;
	e->result = outcome->result;
	e->result_bytes = outcome->result_len;
	e->state = ENTRY_FINISHED;
	e->stream = NO_STREAM;
	w->pending--;
}

struct entry *window_oldest(struct window *w)
{
	return w->first < w->end ? &w->entries[w->first] : NULL;
}

void window_drop(struct window *w, struct entry *e)
{
	e->state = ENTRY_GONE;
	w->used--;
	while (w->first < w->end && w->entries[w->first].state == ENTRY_GONE)
		w->first++;
	if (w->first == w->end) {
		w->first = 0;
		w->end = 0;
		w->guess = 0;
	}
}

const struct entry *window_quarter(const struct window *w)
{
	const size_t quarter = w->first + (w->end - w->first) / 4;

	for (size_t i = quarter; i < w->end; i++) {
		if (w->entries[i].state == ENTRY_PENDING)
			return &w->entries[i];
	}
	for (size_t i = w->first; i < quarter; i++) {
		if (w->entries[i].state == ENTRY_PENDING)
			return &w->entries[i];
	}
	return NULL;
}
