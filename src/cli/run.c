/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - `gpuq run`: the loop that keeps the queue full and the results coming out. */
#define _GNU_SOURCE
#include "run.h"

#include "cli.h"
#include "input.h"
#include "progress.h"
#include "signals.h"
#include "window.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH 128 /* messages handed over, and results taken, by one call */

/* How long a wait for the queue may last before signals, output and progress are looked after. */
#define WAIT_MS 50

/* Results do not lie in the output buffer for longer while something else goes on. */
#define FLUSH_NS 50000000u

enum failure { FAILURE_NONE, FAILURE_TOO_LONG, FAILURE_UNREADABLE };

struct origin {
	uint32_t file;
	uint64_t number;
};

/*
 * One thread runs this. Messages are cut from the input and gathered into a batch, which the queue
 * copies; what is under way is listed in the window; results are taken as they finish and written
 * from where they lie, in input order or at once. Nothing grows with the input: the window is
 * bounded by the slots, the splitter's buffer by the longest message.
 */
struct run {
	const struct run_options *options;
	GpuQueue *queue;
	QueueInfo info;
	struct input input;
	struct split split;
	struct window window;
	struct output output;
	struct progress progress;
	struct run_counts counts;
	size_t in_slots; /* messages that hold a slot: accepted and not yet released */

	/* the batch: pieces of the splitter's buffer; items before `accepted` are in the queue */
	EnqueueItem items[BATCH];
	struct origin origins[BATCH];
	size_t gathered;
	size_t accepted;
	/* what went wrong behind the last item of the batch; it takes its turn after them */
	enum failure failure;
	struct origin failure_origin;
	uint64_t failure_bytes; /* too long: of how many */
	int failure_errno;      /* unreadable: why */
	bool opening;           /* unreadable: already when it was opened */

	uint64_t to_release[BATCH];
	size_t release_count;
	bool need_input;  /* the splitter can go on only with more bytes */
	bool input_done;  /* nothing more will be gathered */
	bool queue_broke; /* a call failed that cannot; it has been reported */
	bool trace_lost;  /* the trace could not be written; it has been reported */
	int interrupted;  /* the signal */
	int poll_fd;      /* q_completion_fd(), -1 when not asked for */
};

/* ---- messages on stderr ---------------------------------------------------------------------- */

/* "gpuq: FILE:LINE: text", "gpuq: FILE: offset N: text" or "gpuq: FILE: text". */
static void report(struct run *r, const struct origin *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void report(struct run *r, const struct origin *at, const char *format, ...)
{
	const char *name = r->options->files[at->file];
	const unsigned long long number = at->number;
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	progress_clear(&r->progress);
	switch (r->options->split) {
	case SPLIT_LINES:
		fprintf(stderr, "gpuq: %s:%llu: %s\n", name, number, text);
		break;
	case SPLIT_BYTES:
		fprintf(stderr, "gpuq: %s: offset %llu: %s\n", name, number, text);
		break;
	case SPLIT_FILES:
		fprintf(stderr, "gpuq: %s: %s\n", name, text);
		break;
	}
}

static void report_file(struct run *r, uint32_t file, const char *what, int error)
{
	progress_clear(&r->progress);
	fprintf(stderr, "gpuq: %s: %s: %s\n", r->options->files[file], what, strerror(error));
}

static void report_broken_queue(struct run *r, const char *call, QueueStatus status)
{
	const char *why = q_last_error();

	if (r->queue_broke)
		return;
	r->queue_broke = true;
	progress_clear(&r->progress);
	warn_line("%s failed: %s", call, why[0] != '\0' ? why : q_status_string(status));
}

/* ---- input: gather a batch ------------------------------------------------------------------- */

static void gather_message(struct run *r, const struct split_piece *piece)
{
	r->items[r->gathered] = (EnqueueItem){ .data = piece->data, .len = (size_t)piece->bytes };
	r->origins[r->gathered].file = (uint32_t)r->input.current;
	r->origins[r->gathered].number = piece->number;
	r->gathered++;
}

static void gather_too_long(struct run *r, const struct split_piece *piece)
{
	r->failure = FAILURE_TOO_LONG;
	r->failure_origin.file = (uint32_t)r->input.current;
	r->failure_origin.number = piece->number;
	r->failure_bytes = piece->bytes;
	if (r->options->split != SPLIT_FILES)
		return;
	/* There is nothing else in this file; reading on would only tell how long it is. */
	if (r->failure_bytes < r->input.file_bytes)
		r->failure_bytes = r->input.file_bytes;
	input_close(&r->input);
}

static void gather_unreadable(struct run *r, bool opening, int error)
{
	r->failure = FAILURE_UNREADABLE;
	r->failure_origin.file = (uint32_t)r->input.current;
	r->failure_origin.number = r->input.offset;
	r->failure_errno = error;
	r->opening = opening;
	input_close(&r->input);
}

/*
 * Fill the batch from what is in the splitter's buffer. Going over to the next file is part of it:
 * that moves nothing in the buffer, so that the items stay valid.
 */
static void gather(struct run *r)
{
	const size_t room = window_room(&r->window);

	/* one entry is left for a failure */
	while (r->gathered < BATCH && r->gathered + 1 < room && r->failure == FAILURE_NONE) {
		struct split_piece piece;

		if (!input_is_open(&r->input)) {
			if (input_is_exhausted(&r->input)) {
				r->input_done = true;
				return;
			}
			if (!input_open_next(&r->input)) {
				gather_unreadable(r, true, errno);
				return;
			}
			split_begin(&r->split);
		}
		switch (split_next(&r->split, &piece)) {
		case SPLIT_MESSAGE:
			gather_message(r, &piece);
			break;
		case SPLIT_TOO_LONG:
			gather_too_long(r, &piece);
			break;
		case SPLIT_MORE:
			r->need_input = true;
			return;
		case SPLIT_DONE:
			input_close(&r->input);
			break;
		}
	}
}

/*
 * Sleep until there is input, a result, a signal, or nobody left to write to. True: there is input.
 * What has been printed so far is shown before we sleep: the user may be waiting for it.
 */
static bool wait_for_input(struct run *r)
{
	struct pollfd fds[4] = {
		{ .fd = r->input.fd, .events = POLLIN },
		{ .fd = signals_fd(), .events = POLLIN },
		{ .fd = r->output.fd, .events = 0 }, /* POLLERR: the pipe's reader has gone */
		{ .fd = -1, .events = POLLIN },
	};
	int timeout_ms = -1;

	if (poll(fds, 1, 0) > 0)
		return true;
	if (!output_flush(&r->output))
		return false;
	if (r->progress.enabled)
		timeout_ms = (int)(PROGRESS_INTERVAL_NS / 1000000);
	if (r->window.pending > 0) {
		if (r->poll_fd < 0) {
			r->poll_fd = q_completion_fd(r->queue);
		}
		fds[3].fd = r->poll_fd;
		if (r->poll_fd < 0)
			timeout_ms = 10;
	}
	if (poll(fds, 4, timeout_ms) < 0)
		return false; /* EINTR */
	if (fds[2].revents & POLLERR)
		r->output.error = EPIPE;
	return fds[0].revents != 0;
}

/* Read once. The batch is empty: its items would not survive. */
static void read_input(struct run *r)
{
	size_t got;
	size_t room;
	uint8_t *to;

	if (r->input.waits && !wait_for_input(r))
		return;
	to = split_room(&r->split, &room);
	switch (input_read(&r->input, to, room, &got)) {
	case INPUT_BYTES:
		split_filled(&r->split, got);
		break;
	case INPUT_END:
		split_end(&r->split);
		break;
	case INPUT_AGAIN:
		return;
	case INPUT_ERROR:
		gather_unreadable(r, false, errno); /* and what was unfinished goes with it */
		break;
	}
	r->need_input = false;
}

/* ---- output: take results -------------------------------------------------------------------- */

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

static void count_failure(struct run *r, const struct entry *e)
{
	const struct origin at = { .file = e->file, .number = e->number };
	struct run_failures *failures = &r->counts.failures;

	if (!e->queued)
		return; /* was counted and reported when it was met */
	if (e->status == Q_ERR_FAILED)
		report(r, &at,
		       "the processor reported failure, or a result above the %u of --result-bytes",
		       r->options->result_bytes);
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

/* Print what became of a finished message and let go of it. */
static void print_entry(struct run *r, struct entry *e, uint64_t now_ns)
{
	bool written;

	if (e->status == Q_OK) {
		written = output_result(&r->output, e->result, e->result_bytes, now_ns);
		r->counts.result_bytes += e->result_bytes;
	} else {
		count_failure(r, e);
		written = output_failed(&r->output, now_ns);
	}
	if (!written)
		return; /* it stays in the window as one whose result was not delivered */
	r->counts.messages++;
	if (e->queued) {
		if (r->release_count == BATCH)
			release_taken(r);
		r->to_release[r->release_count++] = e->msg_id;
	}
	window_drop(&r->window, e);
}

/* In input order: everything up to the first message that has not finished. */
static void print_in_order(struct run *r, uint64_t now_ns)
{
	struct entry *e = window_oldest(&r->window);

	while (e && e->state == ENTRY_FINISHED && r->output.error == 0) {
		print_entry(r, e, now_ns);
		e = window_oldest(&r->window);
	}
}

/* Take every result there is. True: there was at least one. */
static bool collect(struct run *r)
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
		for (size_t i = 0; i < count; i++) {
			struct entry *e = window_find(&r->window, done[i].msg_id);

			if (!e) {
				report_broken_queue(r, "finding a finished message",
						    Q_ERR_NOT_FOUND);
				break;
			}
			histogram_add(&r->counts.latency, now_ns - e->enqueued_ns);
			window_finish(&r->window, e, &done[i]);
			if (r->options->order == ORDER_COMPLETION && r->output.error == 0)
				print_entry(r, e, now_ns);
		}
		if (r->options->order == ORDER_INPUT)
			print_in_order(r, now_ns);
	}
	release_taken(r);
	return any;
}

/* ---- hand the batch over --------------------------------------------------------------------- */

/* The failure behind the batch has its turn: say what it was and give it its place. */
static void submit_failure(struct run *r)
{
	const struct origin *at = &r->failure_origin;
	struct entry *e;

	if (r->failure == FAILURE_TOO_LONG) {
		const char *what = r->options->split == SPLIT_LINES ? "line" : "file";
		const bool exact = r->options->split == SPLIT_LINES || r->input.file_bytes > 0;

		report(r, at, "%s of %s%llu bytes is longer than the %u of --slot-bytes", what,
		       exact ? "" : "at least ", (unsigned long long)r->failure_bytes,
		       r->options->slot_bytes);
		r->counts.failures.too_long++;
	} else {
		if (r->opening) {
			report_file(r, at->file, "cannot open", r->failure_errno);
		} else {
			char what[64] = "cannot read";

			if (at->number > 0)
				snprintf(what, sizeof(what), "cannot read on from offset %llu",
					 (unsigned long long)at->number);
			report_file(r, at->file, what, r->failure_errno);
		}
		r->counts.bad_files++;
		if (r->options->split == SPLIT_FILES)
			r->counts.failures.unreadable++;
	}
	/* In lines and pieces a file that cannot be read is no message and has no line. */
	if (r->failure == FAILURE_TOO_LONG || r->options->split == SPLIT_FILES) {
		e = window_add_failed(&r->window, at->file, at->number);
		if (r->options->order == ORDER_COMPLETION)
			print_entry(r, e, clock_ns());
		else
			print_in_order(r, clock_ns());
	}
	r->failure = FAILURE_NONE;
}

/* Hand over as much of the batch as there are free slots. True: there was something to do. */
static bool submit(struct run *r)
{
	uint64_t ids[BATCH];
	const uint64_t now_ns = clock_ns();
	size_t want = r->gathered - r->accepted;
	size_t took = 0;
	QueueStatus status = Q_OK;

	if (want > r->options->slots - r->in_slots)
		want = r->options->slots - r->in_slots;
	if (want > 0)
		status = q_enqueue_batch(r->queue, r->items + r->accepted, want, ids, &took, 0);
	if (status != Q_OK && status != Q_ERR_FULL)
		report_broken_queue(r, "q_enqueue_batch", status);
	for (size_t i = 0; i < took; i++) {
		const size_t item = r->accepted + i;

		window_add(&r->window, ids[i], now_ns, r->origins[item].file,
			   r->origins[item].number);
		r->counts.input_bytes += r->items[item].len;
	}
	r->in_slots += took;
	r->accepted += took;
	if (r->accepted < r->gathered)
		return took > 0;
	r->gathered = 0;
	r->accepted = 0;
	if (r->failure == FAILURE_NONE)
		return took > 0;
	submit_failure(r);
	return true;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void interrupt(struct run *r, int number)
{
	r->interrupted = number;
	/* What the queue has not accepted yet counts as not read. */
	r->gathered = 0;
	r->accepted = 0;
	r->failure = FAILURE_NONE;
	input_close(&r->input);
	r->input_done = true;
	r->need_input = false;
	if (!r->options->quiet && r->window.pending > 0) {
		progress_clear(&r->progress);
		warn_line("interrupted: finishing %zu messages; once more quits at once",
			  r->window.pending);
	}
}

static void wait_for_results(struct run *r)
{
	const struct entry *e = window_quarter(&r->window);
	QueueStatus status;

	if (!e)
		return;
	status = q_wait(r->queue, e->msg_id, WAIT_MS);
	if (status != Q_OK && status != Q_ERR_TIMEOUT)
		report_broken_queue(r, "q_wait", status);
}

static void look_after_output(struct run *r)
{
	const uint64_t now_ns = clock_ns();

	if (r->output.used > 0 && now_ns - r->output.oldest_ns >= FLUSH_NS)
		(void)output_flush(&r->output); /* an error stays noted */
	/* On the results' own terminal the bar only goes where a line would begin. */
	if (!r->output.before_write || r->output.at_line_start)
		progress_update(&r->progress, r->input.bytes_read, r->counts.messages, now_ns);
}

static void run_loop(struct run *r)
{
	while (r->output.error == 0 && !r->queue_broke) {
		const int number = signals_caught();
		bool moved;

		if (number != 0 && r->interrupted == 0)
			interrupt(r, number);
		if (r->gathered == 0 && r->failure == FAILURE_NONE && !r->input_done &&
		    !r->need_input)
			gather(r);
		moved = submit(r);
		if (collect(r))
			moved = true;
		if (r->output.error != 0 || r->queue_broke)
			return;
		look_after_output(r);
		if (r->gathered == 0 && r->need_input)
			read_input(r);
		else if (r->gathered == 0 && r->input_done && r->window.used == 0)
			break;
		else if (!moved)
			wait_for_results(r);
	}
	(void)output_flush(&r->output);
}

/* ---- setting up ------------------------------------------------------------------------------ */

/* The whole of a file, with its size; NULL: it has been said why. */
static uint8_t *read_whole_file(const char *path, size_t *out_bytes)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t *data = NULL;
	size_t size = 0;
	size_t used = 0;
	struct stat st;
	int error = 0;

	if (fd < 0) {
		warn_line("--data %s: cannot open: %s", path, strerror(errno));
		return NULL;
	}
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		size = (size_t)st.st_size;
	for (;;) {
		ssize_t got;

		/* one byte more than is expected, to meet the end without growing */
		if (!data || used == size + 1) {
			uint8_t *larger;

			if (data)
				size *= 2;
			else if (size < 65536)
				size = 65536;
			larger = realloc(data, size + 1);
			if (!larger) {
				error = ENOMEM;
				break;
			}
			data = larger;
		}
		got = read(fd, data + used, size + 1 - used);
		if (got == 0)
			break;
		if (got > 0) {
			used += (size_t)got;
		} else if (errno != EINTR) {
			error = errno;
			break;
		}
	}
	close(fd);
	if (error != 0) {
		warn_line("--data %s: cannot read: %s", path, strerror(error));
		free(data);
		return NULL;
	}
	*out_bytes = used;
	return data;
}

static bool open_queue(struct run *r)
{
	const struct run_options *o = r->options;
	QueueConfig config = {
		.capacity = o->slots,
		.slot_bytes = o->slot_bytes,
		.result_bytes = o->result_bytes,
		.device = o->device,
		.consumers = o->consumers,
		.flags = o->trace_path ? Q_TRACE : 0,
		.processor = o->processor,
	};
	uint8_t *data = NULL;
	size_t data_bytes = 0;

	if (o->data_path) {
		data = read_whole_file(o->data_path, &data_bytes);
		if (!data)
			return false;
		if (data_bytes > 0) {
			config.processor_data = data;
			config.processor_data_bytes = data_bytes;
		}
	}
	r->queue = q_init(&config);
	free(data); /* the library has a copy */
	if (!r->queue) {
		warn_line("cannot create the queue: %s", q_last_error());
		return false;
	}
	if (q_info(r->queue, &r->info) != Q_OK) {
		warn_line("q_info failed: %s", q_last_error());
		return false;
	}
	return true;
}

static void clear_progress(void *user)
{
	progress_clear(user);
}

static void set_up_progress(struct run *r)
{
	const struct run_options *o = r->options;
	struct progress *p = &r->progress;

	p->start_ns = clock_ns();
	p->enabled = !o->quiet && (o->progress == PROGRESS_ALWAYS ||
				   (o->progress == PROGRESS_AUTO && isatty(STDERR_FILENO) &&
				    !input_is_typed(&r->input)));
	if (!p->enabled)
		return;
	p->has_total = input_total(&r->input, &p->total_bytes);
	/* Bar and results share the terminal: the bar leaves before a result is written. */
	if (isatty(STDOUT_FILENO)) {
		r->output.before_write = clear_progress;
		r->output.user = p;
	}
}

/* Messages that nobody waits for any more need not be processed before the queue can go. */
static void cancel_rest(struct run *r)
{
	for (size_t i = r->window.first; i < r->window.end; i++) {
		const struct entry *e = &r->window.entries[i];

		if (e->state == ENTRY_PENDING)
			(void)q_cancel(r->queue, e->msg_id);
	}
}

static void write_trace(struct run *r)
{
	const char *path = r->options->trace_path;
	TraceSummary trace;

	if (q_trace_write(r->queue, path) != Q_OK ||
	    (!r->options->quiet && q_trace_summary(r->queue, &trace) != Q_OK)) {
		warn_line("--trace: %s", q_last_error());
		r->trace_lost = true;
	} else if (!r->options->quiet) {
		run_print_trace(&trace, path);
	}
}

static int finish(struct run *r)
{
	const uint64_t elapsed_ns = clock_ns() - r->progress.start_ns;
	const bool reader_gone = r->output.error == EPIPE;

	progress_clear(&r->progress);
	if (r->window.pending > 0)
		cancel_rest(r);
	if (r->output.error != 0 && !reader_gone)
		warn_line("cannot write to standard output: %s", strerror(r->output.error));
	if (!r->options->quiet)
		run_print_summary(&r->counts, &r->info, elapsed_ns, r->interrupted, reader_gone);
	if (r->options->trace_path)
		write_trace(r);
	if (r->queue_broke)
		return CLI_QUEUE_FAILED;
	if ((r->output.error != 0 && !reader_gone) || r->trace_lost)
		return CLI_OUTPUT_FAILED;
	if (r->interrupted != 0)
		return 128 + r->interrupted;
	if (reader_gone)
		return CLI_READER_GONE;
	if (run_failed_messages(&r->counts) > 0 || r->counts.bad_files > 0)
		return CLI_MESSAGES_FAILED;
	return CLI_OK;
}

int cmd_run(int argc, char **argv)
{
	static struct run run; /* zeroed, and too large for a stack */
	struct run *r = &run;
	struct run_options options;
	int code = run_parse(argc, argv, &options);

	if (code != CLI_OK)
		return code;
	if (options.help) {
		fputs(run_help, stdout);
		return CLI_OK;
	}
	r->options = &options;
	r->poll_fd = -1;
	input_init(&r->input, options.files, options.file_count);
	if (!signals_init() ||
	    !split_init(&r->split, options.split, options.piece_bytes, options.slot_bytes) ||
	    !window_init(&r->window, options.slots) ||
	    !output_init(&r->output, STDOUT_FILENO, options.format)) {
		warn_line("cannot set up: %s", strerror(errno));
		code = CLI_NO_QUEUE;
	} else if (!open_queue(r)) {
		code = CLI_NO_QUEUE;
	} else {
		set_up_progress(r);
		run_loop(r);
		code = finish(r);
	}
	q_shutdown(r->queue);
	input_close(&r->input);
	output_free(&r->output);
	window_free(&r->window);
	split_free(&r->split);
	return code;
}
