/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.c - `gpuq run --split files`: each file is a message, a long one goes in pieces.
 *
 * Files are opened in their order, and the next one not before the first message of the one before
 * is in the queue. A file that fits into one message is done with then. One that does not keeps its
 * stream: the answer to a piece is a state that goes in front of the next piece, so a file has one
 * piece in the queue at a time, while the next is read, and several files keep the consumers busy.
 *
 * A stream that has begun keeps a slot to itself, also while none of its pieces is in the queue:
 * results that wait for their turn behind this file could else take all slots, and it would never
 * end.
 */
#include "../../kernels/pieces.h"
#include "cli.h"
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MOST_STREAMS 256u

static bool in_pieces(const struct run *r)
{
	return r->plan.piece_bytes != 0;
}

/* Enough for each consumer to find the next piece when it is done with one. */
static size_t stream_count(const struct run *r)
{
	uint64_t count = 2 * (uint64_t)r->info.consumers + 2;
	struct rlimit files;

	if (!in_pieces(r))
		return 1; /* one file is read at a time */
	if (count > MOST_STREAMS)
		count = MOST_STREAMS;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && count > files.rlim_cur / 4)
		count = files.rlim_cur / 4;
	if (count > r->plan.slots)
		count = r->plan.slots;
	return count > 0 ? (size_t)count : 1;
}

bool streams_init(struct run *r)
{
	struct streams *all = &r->streams;

	/* One byte more than a message may have tells a file that is too long. */
	all->room = in_pieces(r) ? r->plan.piece_bytes : (size_t)r->plan.slot_bytes + 1;
	all->streams = calloc(stream_count(r), sizeof(all->streams[0]));
	if (!all->streams)
		return false;
	all->count = stream_count(r);
	for (size_t i = 0; i < all->count; i++) {
		all->streams[i].file.fd = -1;
		all->streams[i].buffer = malloc(r->plan.state_bytes + all->room);
		if (!all->streams[i].buffer)
			return false;
	}
	return true;
}

void streams_free(struct run *r)
{
	struct streams *all = &r->streams;

	for (size_t i = 0; i < all->count; i++) {
		input_close(&all->streams[i].file);
		free(all->streams[i].buffer);
	}
	free(all->streams);
	*all = (struct streams){ 0 };
}

const struct input_file *streams_waiting(const struct run *r)
{
	return r->streams.waiting ? &r->streams.waiting->file : NULL;
}

/* Nothing more will come of this file. */
static void leave(struct run *r, struct stream *s)
{
	struct streams *all = &r->streams;

	input_close(&s->file);
	if (s->begun) {
		all->begun--;
		if (!s->in_queue)
			all->resting--;
	}
	if (all->current == s)
		all->current = NULL;
	if (all->waiting == s)
		all->waiting = NULL;
	s->used = false;
}

/* No piece of it is in the queue. */
static void fail(struct run *r, struct stream *s, struct trouble *t)
{
	struct entry *e = window_get(&r->window, s->key);

	t->at = (struct origin){ s->file.index, s->file.offset };
	report_trouble(r, t);
	leave(r, s);
	window_fail(e);
	results_settle(r, e, clock_ns());
}

static struct stream *free_stream(struct streams *all)
{
	for (size_t i = 0; i < all->count; i++) {
		/* another file must not be opened while this one's position is shared with it */
		if (all->streams[i].used && all->streams[i].file.shared && !all->streams[i].ended)
			return NULL;
	}
	for (size_t i = 0; i < all->count; i++) {
		if (!all->streams[i].used)
			return &all->streams[i];
	}
	return NULL;
}

/* Make the next file the current one. False: that has to wait, or there is none. */
static bool open_next(struct run *r)
{
	struct stream *s = free_stream(&r->streams);
	enum input_open open;

	if (!s || input_is_exhausted(&r->input) || window_room(&r->window) == 0)
		return false;
	open = input_open_next(&r->input, &s->file);
	s->key = window_open(&r->window, s->file.index);
	s->filled = 0;
	s->used = true;
	s->begun = false;
	s->in_queue = false;
	s->ended = false;
	r->streams.current = s;
	if (open != INPUT_OPENED) {
		struct trouble t = { .kind = FAILURE_UNREADABLE, .open = open, .error = errno };

		fail(r, s, &t);
	}
	return true;
}

/* Read until the buffer is full or the file ends, as far as that goes without waiting. */
static void fill(struct run *r, struct stream *s)
{
	struct trouble t = { .kind = FAILURE_UNREADABLE, .open = INPUT_OPENED };

	while (!s->ended && s->filled < r->streams.room) {
		uint8_t *to = s->buffer + r->plan.state_bytes + s->filled;
		enum input_step step = INPUT_AGAIN;
		size_t got = 0;

		if (!s->file.waits || input_is_ready(&s->file))
			step = input_read(&r->input, &s->file, to, r->streams.room - s->filled,
					  &got);
		if (step == INPUT_END) {
			s->ended = true;
			input_close(&s->file);
		} else if (step == INPUT_BYTES) {
			s->filled += got;
		} else if (step == INPUT_AGAIN) {
			if (s->file.waits)
				r->streams.waiting = s;
			return;
		} else if (s->in_queue) {
			return; /* it fails again when its piece has come back */
		} else {
			t.error = errno;
			fail(r, s, &t);
			return;
		}
	}
}

static void fail_too_long(struct run *r, struct stream *s)
{
	struct trouble t = {
		.kind = FAILURE_TOO_LONG,
		.bytes = s->filled > s->file.bytes ? s->filled : s->file.bytes,
		.at_least = s->file.bytes == 0 && !s->ended,
	};

	/* Reading on would only tell how long it is. */
	fail(r, s, &t);
}

static uint32_t opcode_of(const struct stream *s)
{
	if (s->ended)
		return s->begun ? PIECE_LAST : 0;
	return s->begun ? PIECE_MIDDLE : PIECE_FIRST;
}

/* The queue has taken what was in the buffer. */
static void handed_over(struct run *r, struct stream *s, uint64_t msg_id)
{
	struct streams *all = &r->streams;
	struct entry *e = window_get(&r->window, s->key);

	window_submit(&r->window, e, msg_id, clock_ns());
	r->counts.input_bytes += s->filled;
	r->in_slots++;
	e->stream = s->ended ? NO_STREAM : (uint32_t)(s - all->streams);
	if (s->ended) {
		leave(r, s);
		return;
	}
	if (!s->begun)
		all->begun++;
	else
		all->resting--;
	s->begun = true;
	s->in_queue = true;
	s->filled = 0;
	if (all->current == s)
		all->current = NULL;
}

/* What is in the buffer goes to the queue, if it is enough. True: something has been done. */
static bool hand_over(struct run *r, struct stream *s)
{
	const EnqueueOptions options = { .opcode = opcode_of(s), .tag = s->key };
	const uint32_t skip = s->begun ? r->plan.state_bytes : 0;
	uint64_t msg_id;
	QueueStatus status;

	if (!s->used || s->in_queue || (!s->ended && s->filled < r->streams.room))
		return false;
	if (!in_pieces(r) && s->filled > r->plan.slot_bytes) {
		fail_too_long(r, s);
		return true;
	}
	if (r->options->skip_empty && s->ended && !s->begun && s->filled == 0) {
		window_drop(&r->window, window_get(&r->window, s->key));
		leave(r, s);
		return true;
	}
	if (!s->begun && r->in_slots + r->streams.resting >= r->plan.slots)
		return false;
	status = q_enqueue_ex(r->queue, s->buffer + r->plan.state_bytes - skip, skip + s->filled,
			      &options, &msg_id, 0);
	if (status == Q_OK)
		handed_over(r, s, msg_id);
	else if (status != Q_ERR_FULL)
		report_broken_queue(r, "q_enqueue_ex", status);
	return status == Q_OK;
}

bool streams_step(struct run *r)
{
	struct streams *all = &r->streams;
	bool moved = false;

	all->waiting = NULL;
	for (size_t i = 0; i < all->count; i++) {
		struct stream *s = &all->streams[i];

		if (!s->used || !s->begun)
			continue;
		fill(r, s);
		if (hand_over(r, s))
			moved = true;
	}
	/* not all there are: results want to be looked at, too */
	for (size_t n = 0; n < BATCH && !r->queue_broke && r->output.error == 0; n++) {
		if (!all->current && !open_next(r))
			break;
		if (all->current)
			fill(r, all->current);
		/* without one it has failed: that is something, too */
		if (all->current && !hand_over(r, all->current))
			break;
		moved = true;
	}
	if (input_is_exhausted(&r->input) && !all->current && all->begun == 0)
		r->input_done = true;
	return moved;
}

void streams_answer(struct run *r, struct entry *e, const Completion *done)
{
	struct stream *s = &r->streams.streams[e->stream];

	if (done->result_len != r->plan.state_bytes) {
		report_broken_queue(r, "processing a piece", Q_ERR_FAILED);
		return;
	}
	memcpy(s->buffer, done->result, done->result_len);
	s->in_queue = false;
	r->streams.resting++;
	results_release(r, done->msg_id);
	window_resume(&r->window, e);
}

void streams_give_up(struct run *r, struct entry *e)
{
	leave(r, &r->streams.streams[e->stream]);
}

void streams_stop(struct run *r)
{
	for (size_t i = 0; i < r->streams.count; i++) {
		struct stream *s = &r->streams.streams[i];
		struct entry *e;

		if (!s->used)
			continue;
		e = window_get(&r->window, s->key);
		e->cut_off = true;
		e->stream = NO_STREAM;
		leave(r, s);
		if (e->state != ENTRY_READING)
			continue; /* when its piece comes back */
		window_fail(e);
		if (r->options->order == ORDER_COMPLETION)
			window_drop(&r->window, e);
	}
	if (r->options->order == ORDER_INPUT)
		results_print_in_order(r, clock_ns());
}
