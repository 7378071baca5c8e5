/* SPDX-License-Identifier: Apache-2.0 */
/* cut.c - `gpuq run` with lines, records or pieces: gathers them into batches for the queue. */
#include "cli.h"
#include "run.h"

#include <errno.h>

bool cutter_init(struct run *r)
{
	const struct run_options *o = r->options;

	r->cutter.file.fd = -1;
	return split_init(&r->cutter.split, o->split, o->piece_bytes, r->plan.slot_bytes);
}

void cutter_free(struct run *r)
{
	input_close(&r->cutter.file);
	split_free(&r->cutter.split);
}

void cutter_stop(struct run *r)
{
	struct cutter *c = &r->cutter;

	c->gathered = 0;
	c->accepted = 0;
	c->trouble.kind = FAILURE_NONE;
	c->need_input = false;
	input_close(&c->file);
}

static void gather_unreadable(struct cutter *c, enum input_open open, int error)
{
	c->trouble = (struct trouble){
		.kind = FAILURE_UNREADABLE,
		.at = { .file = c->file.index, .number = c->file.offset },
		.open = open,
		.error = error,
	};
	input_close(&c->file);
}

static void gather_message(struct run *r, const struct split_piece *piece)
{
	struct cutter *c = &r->cutter;

	if (piece->bytes == 0 && r->options->skip_empty)
		return;
	c->items[c->gathered] = (EnqueueItem){ .data = piece->data, .len = (size_t)piece->bytes };
	c->origins[c->gathered] = (struct origin){ c->file.index, piece->number };
	c->gathered++;
}

/* Go over to the next file. False: there is none, or it is in trouble. */
static bool open_next(struct run *r)
{
	struct cutter *c = &r->cutter;
	enum input_open open;

	if (input_is_exhausted(&r->input)) {
		r->input_done = true;
		return false;
	}
	open = input_open_next(&r->input, &c->file);
	if (open != INPUT_OPENED) {
		gather_unreadable(c, open, errno);
		return false;
	}
	split_begin(&c->split);
	return true;
}

/*
 * Fill the batch from what is in the splitter's buffer. Going over to the next file is part of it:
 * that moves nothing in the buffer, so that the items stay valid.
 */
static void gather(struct run *r)
{
	struct cutter *c = &r->cutter;
	const size_t room = window_room(&r->window);

	/* one entry is left for a failure */
	while (c->gathered < BATCH && c->gathered + 1 < room && c->trouble.kind == FAILURE_NONE) {
		struct split_piece piece;

		if (c->file.fd < 0 && !open_next(r))
			return;
		switch (split_next(&c->split, &piece)) {
		case SPLIT_MESSAGE:
			gather_message(r, &piece);
			break;
		case SPLIT_TOO_LONG:
			c->trouble = (struct trouble){
				.kind = FAILURE_TOO_LONG,
				.at = { c->file.index, piece.number },
				.bytes = piece.bytes,
			};
			break;
		case SPLIT_MORE:
			c->need_input = true;
			return;
		case SPLIT_DONE:
			input_close(&c->file);
			break;
		}
	}
}

/* The batch is empty: its items would not survive. */
void cutter_read(struct run *r)
{
	struct cutter *c = &r->cutter;
	size_t got;
	size_t room;
	uint8_t *to;

	if (c->file.waits && !wait_for_input(r, &c->file))
		return;
	to = split_room(&c->split, &room);
	switch (input_read(&r->input, &c->file, to, room, &got)) {
	case INPUT_BYTES:
		split_filled(&c->split, got);
		break;
	case INPUT_END:
		split_end(&c->split);
		break;
	case INPUT_AGAIN:
		return;
	case INPUT_ERROR:
		gather_unreadable(c, INPUT_OPENED, errno); /* what was unfinished goes with it */
		break;
	}
	c->need_input = false;
}

/* The trouble behind the batch has its turn: say what it was and give it its place. */
static void submit_trouble(struct run *r)
{
	struct trouble *t = &r->cutter.trouble;

	report_trouble(r, t);
	/* A file that cannot be read is no message and has no line. */
	if (t->kind == FAILURE_TOO_LONG)
		results_settle(r, window_add_failed(&r->window, t->at.file, t->at.number),
			       clock_ns());
	t->kind = FAILURE_NONE;
}

/* Hand over as much of the batch as there are free slots. True: there was something to do. */
static bool submit(struct run *r)
{
	struct cutter *c = &r->cutter;
	uint64_t ids[BATCH];
	const uint64_t now_ns = clock_ns();
	size_t want = c->gathered - c->accepted;
	size_t took = 0;
	QueueStatus status = Q_OK;

	if (want > r->plan.slots - r->in_slots)
		want = r->plan.slots - r->in_slots;
	if (want > 0)
		status = q_enqueue_batch(r->queue, c->items + c->accepted, want, ids, &took, 0);
	if (status != Q_OK && status != Q_ERR_FULL)
		report_broken_queue(r, "q_enqueue_batch", status);
	for (size_t i = 0; i < took; i++) {
		const size_t item = c->accepted + i;

		window_add(&r->window, ids[i], now_ns, c->origins[item].file,
			   c->origins[item].number);
		r->counts.input_bytes += c->items[item].len;
	}
	r->in_slots += took;
	c->accepted += took;
	if (c->accepted < c->gathered)
		return took > 0;
	c->gathered = 0;
	c->accepted = 0;
	if (c->trouble.kind == FAILURE_NONE)
		return took > 0;
	submit_trouble(r);
	return true;
}

bool cutter_step(struct run *r)
{
	struct cutter *c = &r->cutter;

	if (c->gathered == 0 && c->trouble.kind == FAILURE_NONE && !r->input_done && !c->need_input)
		gather(r);
	return submit(r);
}

bool cutter_wants_input(const struct run *r)
{
	return r->cutter.gathered == 0 && r->cutter.need_input;
}
