/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - `gpuq run`: the loop that keeps the queue full and the results coming out. */
#define _GNU_SOURCE
#include "run.h"

#include "cli.h"
#include "name_list.h"
#include "program/signals.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Results do not lie in the output buffer for longer while something else goes on. */
#define FLUSH_NS 50000000u

static bool is_files(const struct run *r)
{
	return r->options->split == SPLIT_FILES;
}

static void interrupt(struct run *r, int number)
{
	r->interrupted = number;
	r->input_done = true;
	if (is_files(r))
		streams_stop(r);
	else
		cutter_stop(r);
	if (!r->options->quiet && r->window.pending > 0) {
		progress_clear(&r->progress);
		warn_line("interrupted: finishing %zu messages; once more quits at once",
			  r->window.pending);
	}
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

/* Hand over what there is. True: something has been done. */
static bool step(struct run *r)
{
	if (!is_files(r))
		return cutter_step(r);
	return !r->input_done && streams_step(r);
}

/* With nothing else to do: read, or sleep until there is something. False: all has been done. */
static bool go_on(struct run *r, bool moved)
{
	if (!is_files(r) && cutter_wants_input(r))
		cutter_read(r);
	else if (r->input_done && r->cutter.gathered == 0 && r->window.used == 0)
		return false;
	else if (moved)
		return true;
	else if (is_files(r) && streams_waiting(r))
		(void)wait_for_input(r, streams_waiting(r));
	else
		wait_for_results(r);
	return true;
}

static bool is_over(const struct run *r)
{
	return r->output.error != 0 || r->queue_broke || r->cut_off;
}

static void run_loop(struct run *r)
{
	while (!is_over(r)) {
		const int number = signals_caught();
		bool moved;

		if (number != 0 && r->interrupted == 0)
			interrupt(r, number);
		moved = step(r);
		if (results_collect(r))
			moved = true;
		if (is_over(r))
			break;
		look_after_output(r);
		if (!go_on(r, moved))
			break;
	}
	if (!r->queue_broke)
		(void)output_flush(&r->output);
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

static bool wants_summary(const struct run *r)
{
	const struct run_options *o = r->options;

	if (o->summary || o->json)
		return true;
	/* `gpuq run ... | head` is no reason for a word */
	return !o->quiet && r->output.error != EPIPE && isatty(STDERR_FILENO);
}

static void write_trace(struct run *r)
{
	const char *path = r->options->trace_path;
	const bool say = wants_summary(r) && !r->options->json;
	TraceSummary trace;

	if (q_trace_write(r->queue, path) != Q_OK ||
	    (say && q_trace_summary(r->queue, &trace) != Q_OK)) {
		warn_line("--trace: %s", q_last_error());
		r->trace_lost = true;
	} else if (say) {
		run_print_trace(&trace, path);
	}
}

static int exit_code(const struct run *r)
{
	const bool reader_gone = r->output.error == EPIPE;

	if (r->queue_broke)
		return CLI_QUEUE_FAILED;
	if ((r->output.error != 0 && !reader_gone) || r->tee_lost || r->trace_lost)
		return CLI_OUTPUT_FAILED;
	if (r->interrupted != 0)
		return 128 + r->interrupted;
	if (reader_gone)
		return CLI_READER_GONE;
	if (run_failed_messages(&r->counts) > 0 || r->counts.bad_files > 0)
		return CLI_MESSAGES_FAILED;
	return CLI_OK;
}

/* A file that cannot take the last bytes may say so only when it is closed (NFS, quotas). */
static void close_output(struct run *r)
{
	if (r->tee)
		r->tee_lost = !tee_finish(r->tee, &r->output);
	if (r->options->output_path && close(r->output.fd) != 0 && r->output.error == 0)
		r->output.error = errno;
	if (r->output.error == 0 || r->output.error == EPIPE)
		return;
	if (r->options->output_path)
		warn_line("cannot write to '%s': %s", r->options->output_path,
			  strerror(r->output.error));
	else
		warn_line("cannot write to standard output: %s", strerror(r->output.error));
}

static int finish(struct run *r)
{
	struct run_end end = {
		.elapsed_ns = clock_ns() - r->progress.start_ns,
		.interrupted = r->interrupted,
	};

	progress_clear(&r->progress);
	if (r->window.pending > 0)
		cancel_rest(r);
	close_output(r);
	end.reader_gone = r->output.error == EPIPE;
	if (r->interrupted != 0 && !r->options->quiet)
		warn_line("interrupted after %llu messages",
			  (unsigned long long)r->counts.messages);
	if (wants_summary(r) && !r->options->json)
		run_print_summary(&r->counts, &r->info, &end);
	if (r->options->trace_path)
		write_trace(r);
	end.exit_code = exit_code(r);
	if (r->options->json)
		run_print_json(&r->counts, &r->info, &end);
	return end.exit_code;
}

static int run_all(struct run_options *options)
{
	static struct run run; /* zeroed, and too large for a stack */
	struct run *r = &run;
	int code;

	r->options = options;
	code = set_up(r);
	if (code == CLI_OK) {
		run_loop(r);
		code = finish(r);
	}
	tear_down(r);
	return code;
}

int cmd_run(int argc, char **argv)
{
	struct name_list list = { 0 };
	struct run_options options;
	int code = run_parse(argc, argv, &options);

	if (code != CLI_OK)
		return code;
	if (options.help) {
		fputs(run_help, stdout);
		return CLI_OK;
	}
	if (options.list_path) {
		if (!name_list_read(&list, options.list_path)) {
			name_list_free(&list);
			return CLI_USAGE;
		}
		options.files = list.names;
		options.file_count = list.count;
	}
	code = run_all(&options);
	name_list_free(&list);
	return code;
}
