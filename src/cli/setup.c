/* SPDX-License-Identifier: Apache-2.0 */
/* setup.c - `gpuq run` before the first message: output, sizes, queue, progress bar. */
#define _GNU_SOURCE
#include "cli.h"
#include "processors.h"
#include "program/load.h"
#include "program/signals.h"
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files that are written to --------------------------------------------------------------- */

/* What is read beside the inputs: the path, or NULL, and what it stands for. */
struct read_file {
	const char *option;
	const char *path;
};

static bool look_at(const struct read_file *f, struct stat *out)
{
	const bool standard = strcmp(f->option, "--files0-from") == 0 && strcmp(f->path, "-") == 0;

	return (standard ? fstat(STDIN_FILENO, out) : stat(f->path, out)) == 0;
}

/* What is written at `path` would be the end of an input, or of what is read beside them. */
static bool spares_the_input(const struct run *r, const char *option, const char *path)
{
	const struct run_options *o = r->options;
	const struct read_file others[] = {
		{ "--data", o->data_path },
		{ "--files0-from", o->list_path },
		/* it is mapped while it runs */
		{ "--processor", find_processor(o->processor) ? NULL : o->processor },
	};
	struct stat st;
	struct stat its;
	const char *name;

	if (stat(path, &st) != 0)
		return true; /* it is not there yet */
	name = input_find(&r->input, &st);
	if (name) {
		warn_line("%s is '%s', which is the input '%s'", option, path, name);
		return false;
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (others[i].path && look_at(&others[i], &its) && input_same_file(&st, &its)) {
			warn_line("%s is '%s', which is the file of %s", option, path,
				  others[i].option);
			return false;
		}
	}
	return true;
}

/* The file at `path` would be written twice, the one over the other. */
static bool spares_the_output(const char *option, const char *path, int fd)
{
	struct stat st;
	struct stat output;

	if (!path || stat(path, &st) != 0 || fstat(fd, &output) != 0 ||
	    !input_same_file(&st, &output))
		return true;
	warn_line("%s is '%s', which is where the results go", option, path);
	return false;
}

static int open_tee(struct run *r)
{
	const struct run_options *o = r->options;
	const int code = tee_open(&o->tee, &r->tee);

	for (size_t i = 0; code == CLI_OK && i < o->tee.count; i++) {
		if (!spares_the_output("--tee", o->tee.paths[i], r->output.fd) ||
		    !spares_the_output("--trace", o->trace_path, tee_fd(r->tee, i)))
			return CLI_USAGE;
		for (size_t before = 0; before < i; before++)
			if (!spares_the_output("--tee", o->tee.paths[i], tee_fd(r->tee, before)))
				return CLI_USAGE;
		input_add_sink(&r->input, tee_fd(r->tee, i));
	}
	return code;
}

/* The trace is written when all is over: whether it can be is better known before. To open a FIFO
 * would wait for its reader, and then end that one's input. */
static bool can_write_trace(const char *path)
{
	struct stat st;
	bool created;
	int fd;

	if (!path || (stat(path, &st) == 0 && S_ISFIFO(st.st_mode)))
		return true;
	fd = output_open(path, &created);
	if (fd < 0) {
		warn_line("--trace %s: cannot open: %s", path, strerror(errno));
		return false;
	}
	if (created)
		output_take_back(path, fd);
	close(fd);
	return true;
}

/* Nothing of an old file is lost before there is a queue: see start_output(). */
static int open_output(struct run *r)
{
	const struct run_options *o = r->options;
	int fd = STDOUT_FILENO;
	bool created = false;

	if (o->trace_path && !spares_the_input(r, "--trace", o->trace_path))
		return CLI_USAGE;
	if (o->output_path) {
		if (!spares_the_input(r, "--output", o->output_path))
			return CLI_USAGE;
		fd = output_open(o->output_path, &created);
		if (fd < 0) {
			warn_line("--output %s: cannot open: %s", o->output_path, strerror(errno));
			return CLI_OUTPUT_FAILED;
		}
		r->created_fd = created ? fd : -1;
	}
	if (!spares_the_output("--trace", o->trace_path, fd))
		return CLI_USAGE;
	if (!can_write_trace(o->trace_path))
		return CLI_OUTPUT_FAILED;
	for (size_t i = 0; i < o->tee.count; i++)
		if (!spares_the_input(r, "--tee", o->tee.paths[i]))
			return CLI_USAGE;
	if (!output_init(&r->output, fd, o->format)) {
		warn_line("no memory for the output");
		return CLI_NO_QUEUE;
	}
	r->output.separator = o->split == SPLIT_NUL ? '\0' : '\n';
	/* messages on stderr that come back as input never end either */
	input_add_sink(&r->input, fd);
	input_add_sink(&r->input, STDERR_FILENO);
	return open_tee(r);
}

static int start_output(struct run *r)
{
	struct stat st;

	if (r->options->output_path && fstat(r->output.fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    ftruncate(r->output.fd, 0)) {
		warn_line("--output %s: cannot be emptied: %s", r->options->output_path,
			  strerror(errno));
		return CLI_OUTPUT_FAILED;
	}
	return r->tee ? tee_start(r->tee, &r->output) : CLI_OK;
}

/* ---- the queue ------------------------------------------------------------------------------- */

static int load_data(const struct run_options *o, QueueConfig *config, uint8_t **out_data)
{
	const struct named_processor *p = find_processor(o->processor);
	const char *wrong = NULL;
	size_t bytes = 0;

	*out_data = NULL;
	if (!o->data_path) {
		if (!p || !p->check_data)
			return CLI_OK;
		return usage_error("run", "--processor %s needs --data FILE: see gpuq(1)",
				   o->processor);
	}
	*out_data = load_file("--data", o->data_path, false, &bytes);
	if (!*out_data)
		return CLI_NO_QUEUE;
	if (p && p->check_data)
		wrong = p->check_data(*out_data, bytes);
	if (wrong) {
		warn_line("--data %s: cannot be used by %s: it %s", o->data_path, o->processor,
			  wrong);
		return CLI_NO_QUEUE;
	}
	if (bytes > 0) {
		config->processor_data = *out_data;
		config->processor_data_bytes = bytes;
	}
	return CLI_OK;
}

static GpuQueue *init_queue(const struct run *r, QueueConfig *config)
{
	config->capacity = r->plan.slots;
	config->slot_bytes = r->plan.slot_bytes;
	config->result_bytes = r->plan.result_bytes;
	config->consumers = r->plan.consumers;
	return q_init(config);
}

static bool same_plan(const struct plan *a, const struct plan *b)
{
	return a->slots == b->slots && a->slot_bytes == b->slot_bytes &&
	       a->result_bytes == b->result_bytes && a->consumers == b->consumers;
}

/* What the queue is to be like is known only when its device is. */
static int open_queue(struct run *r, QueueConfig *config)
{
	const struct run_options *o = r->options;
	const uint32_t cpus = cpus_available();
	struct plan for_cpus;
	int code = plan_make(o, &r->input, o->device == Q_DEVICE_CPU ? cpus : 0, &r->plan);

	if (code != CLI_OK)
		return code;
	r->queue = init_queue(r, config);
	if (r->queue && q_info(r->queue, &r->info) == Q_OK && r->info.device == Q_DEVICE_CPU &&
	    plan_make(o, &r->input, cpus, &for_cpus) == CLI_OK && !same_plan(&r->plan, &for_cpus)) {
		q_shutdown(r->queue);
		r->plan = for_cpus;
		config->device = Q_DEVICE_CPU;
		r->queue = init_queue(r, config);
	}
	if (!r->queue) {
		warn_lines("cannot create the queue: ", q_last_error());
		return CLI_NO_QUEUE;
	}
	if (q_info(r->queue, &r->info) != Q_OK) {
		warn_line("q_info failed: %s", q_last_error());
		return CLI_NO_QUEUE;
	}
	return CLI_OK;
}

static int make_queue(struct run *r)
{
	const struct run_options *o = r->options;
	QueueConfig config = {
		.device = o->device,
		.flags = o->trace_path ? Q_TRACE : 0,
		.processor = o->processor,
	};
	uint8_t *data;
	int code = load_data(o, &config, &data);

	if (code == CLI_OK)
		code = open_queue(r, &config);
	free(data); /* the library has a copy */
	return code;
}

/* ---- progress -------------------------------------------------------------------------------- */

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
	/* Bar and results share the terminal: the bar leaves before a result is written. With
	 * --tee it is another thread that writes. */
	if (isatty(r->output.fd) && r->tee) {
		p->enabled = false;
	} else if (isatty(r->output.fd)) {
		r->output.before_write = clear_progress;
		r->output.user = p;
	}
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int set_up_all(struct run *r)
{
	const struct run_options *o = r->options;
	int code;

	r->poll_fd = -1;
	r->created_fd = -1;
	input_init(&r->input, o->files, o->file_count);
	code = open_output(r);
	if (code == CLI_OK)
		code = make_queue(r);
	if (code == CLI_OK)
		code = start_output(r);
	if (code != CLI_OK)
		return code;
	if (!signals_init() || !window_init(&r->window, r->plan.slots) ||
	    !(o->split == SPLIT_FILES ? streams_init : cutter_init)(r)) {
		warn_line("cannot set up: %s", strerror(errno));
		return CLI_NO_QUEUE;
	}
	set_up_progress(r);
	return CLI_OK;
}

int set_up(struct run *r)
{
	const int code = set_up_all(r);

	if (code != CLI_OK && r->tee)
		tee_take_back(r->tee); /* first: it may have another descriptor of the output */
	if (code != CLI_OK && r->created_fd >= 0)
		output_take_back(r->options->output_path, r->created_fd);
	return code;
}

void tear_down(struct run *r)
{
	q_shutdown(r->queue);
	cutter_free(r);
	streams_free(r);
	window_free(&r->window);
	tee_free(r->tee);
	output_free(&r->output);
}
