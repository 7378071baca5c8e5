/* SPDX-License-Identifier: Apache-2.0 */
/* results.c - what comes out of the queue: finds its place, prints it, gives the slot back. */
#include "cli.h"
#include "label.h"
#include "run.h"

#include <stdio.h>

static void release_taken(struct run *r)
{
	QueueStatus status;

	if (r->release_count == 0)
		return;
	status = q_release_batch(r->queue, r->to_release, r->release_count);
	if (status != Q_OK)
		report_broken_queue(r, "q_release_batch", status);
	r->in_slots -= r->release_count;
	r->release_count = 0;
}

void results_release(struct run *r, uint64_t msg_id)
{
	if (r->release_count == BATCH)
		release_taken(r);
	r->to_release[r->release_count++] = msg_id;
}

static void count_failure(struct run *r, const struct entry *e)
{
	const struct origin at = { .file = e->file, .number = e->number };
	struct run_failures *failures = &r->counts.failures;

	if (!e->queued)
		return; /* was counted and reported when it was met */
	if (e->status == Q_ERR_FAILED)
		report(r, &at,
		       "the processor reported failure, or a result above the %u of --result-bytes",
		       r->plan.result_bytes);
	else
		report(r, &at, "%s", q_status_string((QueueStatus)e->status));
	switch ((QueueStatus)e->status) {
	case Q_ERR_FAILED:
		failures->failed++;
		break;
	case Q_ERR_EXPIRED:
		failures->expired++;
		break;
	case Q_ERR_CANCELLED:
		failures->cancelled++;
		break;
	default:
		failures->other++;
		break;
	}
}

static bool print_result(struct run *r, const struct entry *e, uint64_t now_ns)
{
	const struct run_options *o = r->options;
	char text[LABEL_BYTES];
	char suffix[32] = "";
	struct output_label label = { .text = text };

	if (!o->names)
		return output_result(&r->output, e->result, e->result_bytes, NULL, now_ns);
	if (o->split != SPLIT_FILES)
		snprintf(suffix, sizeof(suffix), ":%llu", (unsigned long long)e->number);
	label.escaped = label_write(text, o->files[e->file], suffix);
	return output_result(&r->output, e->result, e->result_bytes, &label, now_ns);
}

/* Print what became of a finished message and let go of it. */
static void print_entry(struct run *r, struct entry *e, uint64_t now_ns)
{
	bool written;

	if (e->status == Q_OK) {
		written = print_result(r, e, now_ns);
		r->counts.result_bytes += e->result_bytes;
	} else {
		count_failure(r, e);
		/* with names nobody needs to count lines */
		written = r->options->names || output_failed(&r->output, now_ns);
	}
	if (!written)
		return; /* it stays in the window as one whose result was not delivered */
	r->counts.messages++;
	if (e->queued)
		results_release(r, e->msg_id);
	window_drop(&r->window, e);
}

void results_print_in_order(struct run *r, uint64_t now_ns)
{
	struct entry *e = window_oldest(&r->window);

	while (e && e->state == ENTRY_FINISHED && r->output.error == 0) {
		if (e->cut_off) {
			r->cut_off = true;
			return;
		}
		print_entry(r, e, now_ns);
		e = window_oldest(&r->window);
	}
}

void results_settle(struct run *r, struct entry *e, uint64_t now_ns)
{
	if (r->options->order == ORDER_INPUT)
		results_print_in_order(r, now_ns);
	else if (e->cut_off)
		window_drop(&r->window, e);
	else if (r->output.error == 0)
		print_entry(r, e, now_ns);
}

/* One completion: the end of a message, or of a piece of it. */
static void take(struct run *r, const Completion *done, uint64_t now_ns)
{
	const bool files = r->options->split == SPLIT_FILES;
	struct entry *e = window_find(&r->window, files ? done->tag : done->msg_id);

	if (!e) {
		report_broken_queue(r, "finding a finished message", Q_ERR_NOT_FOUND);
		return;
	}
	if (e->stream != NO_STREAM && done->status == Q_OK) {
		streams_answer(r, e, done);
		return;
	}
	if (e->stream != NO_STREAM)
		streams_give_up(r, e);
	window_finish(&r->window, e, done);
	if (e->cut_off) {
		results_release(r, done->msg_id);
		e->queued = false;
	} else {
		histogram_add(&r->counts.latency, now_ns - e->enqueued_ns);
	}
	if (r->options->order == ORDER_COMPLETION)
		results_settle(r, e, now_ns);
}

bool results_collect(struct run *r)
{
	bool any = false;
	size_t count = BATCH;

	while (count == BATCH && r->output.error == 0 && !r->queue_broke) {
		Completion done[BATCH];
		const QueueStatus status = q_poll_results(r->queue, done, BATCH, &count);
		uint64_t now_ns;

		if (status != Q_OK)
			report_broken_queue(r, "q_poll_results", status);
		if (count == 0)
			break;
		any = true;
		now_ns = clock_ns();
		for (size_t i = 0; i < count && !r->queue_broke; i++)
			take(r, &done[i], now_ns);
		if (r->options->order == ORDER_INPUT)
			results_print_in_order(r, now_ns);
	}
	release_taken(r);
	return any;
}
