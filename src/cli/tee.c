/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tee.c - `gpuq run --tee`: the results go into a pipe of the library, and each output is a reader
 * of it in a thread of its own. So a slow one holds up the others only if the policy says so, and
 * one that fails holds up nobody.
 */
#define _GNU_SOURCE
#include "tee.h"

#include "cli.h"
#include "program/write_out.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 64 * 1024 };

struct tee_file {
	const char *path; /* NULL: the output's own */
	int fd;
	bool created;
	PipeReader *reader;
	pthread_t thread;
	bool started;
	int error;       /* errno of the write that failed */
	uint64_t missed; /* bytes that the policy dropped before they were written */
	bool cut_off;
};

struct tee {
	const struct tee_options *options;
	Pipe *pipe;
	size_t count; /* files, and behind them the output's own descriptor */
	struct tee_file files[TEE_OUTPUTS + 1];
};

/* ---- one output ------------------------------------------------------------------------------ */

/* After Q_ERR_LAGGED. False: the reader is cut off, and gets no further. */
static bool count_missed(struct tee_file *f, uint64_t *position)
{
	uint64_t now = *position;

	(void)q_pipe_reader_offset(f->reader, &now);
	f->missed += now - *position;
	f->cut_off = now == *position;
	*position = now;
	return !f->cut_off;
}

static void *copy(void *arg)
{
	struct tee_file *f = arg;
	char *bytes = malloc(COPY_BYTES);
	uint64_t position = 0;
	bool more = bytes != NULL;

	f->error = bytes ? 0 : ENOMEM;
	while (more) {
		size_t len = 0;
		const QueueStatus status =
			q_pipe_read(f->reader, bytes, COPY_BYTES, &len, UINT32_MAX);

		if (status == Q_ERR_LAGGED) {
			more = count_missed(f, &position);
			continue;
		}
		position += len;
		f->error = write_out(f->fd, bytes, len);
		more = status == Q_OK && len != 0 && f->error == 0;
	}
	free(bytes);
	q_pipe_reader_close(f->reader); /* it holds up nobody any more */
	return NULL;
}

/* Called by the output. Returns 0 or an errno value. */
static int send_all(void *user, const void *bytes, size_t len)
{
	struct tee *t = user;
	const QueueStatus status = q_pipe_write(t->pipe, bytes, len, NULL, UINT32_MAX);

	if (status == Q_OK)
		return 0;
	if (status == Q_ERR_BROKEN) /* why is known when the threads have been joined */
		return EPIPE;
	if (status == Q_ERR_FULL)
		warn_line("--tee-policy fail: there are more results than --tee-bytes");
	else
		warn_line("--tee: %s", q_last_error());
	return ENOSPC;
}

/* ---- all of them ----------------------------------------------------------------------------- */

int tee_open(const struct tee_options *o, struct tee **out)
{
	struct tee *t;

	if (o->count == 0)
		return CLI_OK;
	t = calloc(1, sizeof(*t));
	if (!t || q_pipe_create(&o->pipe, &t->pipe) != Q_OK) {
		warn_line("--tee: %s", t ? q_last_error() : "no memory");
		free(t);
		return CLI_NO_QUEUE;
	}
	t->options = o;
	*out = t;
	for (; t->count < o->count; t->count++) {
		struct tee_file *f = &t->files[t->count];

		f->path = o->paths[t->count];
		f->fd = output_open(f->path, &f->created);
		if (f->fd < 0) {
			warn_line("--tee %s: cannot open: %s", f->path, strerror(errno));
			return CLI_OUTPUT_FAILED;
		}
	}
	return CLI_OK;
}

int tee_fd(const struct tee *t, size_t n)
{
	return t->files[n].fd;
}

static int start_file(struct tee *t, struct tee_file *f)
{
	struct stat st;

	if (f->path && fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(f->fd, 0) != 0) {
		warn_line("--tee %s: cannot be emptied: %s", f->path, strerror(errno));
		return CLI_OUTPUT_FAILED;
	}
	if (q_pipe_reader_open(t->pipe, &f->reader) != Q_OK) {
		warn_line("--tee: %s", q_last_error());
		return CLI_NO_QUEUE;
	}
	if (pthread_create(&f->thread, NULL, copy, f) != 0) {
		warn_line("--tee: cannot start a thread");
		q_pipe_reader_close(f->reader);
		return CLI_NO_QUEUE;
	}
	f->started = true;
	return CLI_OK;
}

int tee_start(struct tee *t, struct output *output)
{
	int code = CLI_OK;

	t->files[t->count++] = (struct tee_file){ .fd = output->fd };
	for (size_t i = 0; i < t->count && code == CLI_OK; i++)
		code = start_file(t, &t->files[i]);
	output->send = send_all;
	output->send_to = t;
	return code;
}

static void join_all(struct tee *t)
{
	(void)q_pipe_close(t->pipe);
	for (size_t i = 0; i < t->count; i++) {
		if (t->files[i].started)
			pthread_join(t->files[i].thread, NULL);
		t->files[i].started = false;
	}
}

/* Say what is wrong with a file. True: nothing is. */
static bool is_complete(const struct tee_file *f)
{
	const char *option = f->path ? "--tee " : "";
	const char *path = f->path ? f->path : "the output";

	if (f->error != 0 && f->path)
		warn_line("--tee %s: cannot write: %s", f->path, strerror(f->error));
	if (f->cut_off)
		warn_line("%s%s: too slow: cut off by --tee-policy evict", option, path);
	if (f->missed > 0)
		warn_line("%s%s: too slow: %" PRIu64 " bytes were dropped", option, path,
			  f->missed);
	return (f->error == 0 || !f->path) && !f->cut_off && f->missed == 0;
}

bool tee_finish(struct tee *t, struct output *output)
{
	const struct tee_file *own = &t->files[t->count - 1];
	bool complete = true;

	join_all(t);
	if (own->error != 0)
		output->error = own->error;
	else if (output->error == EPIPE) /* of the pipe: all have failed or been cut off */
		output->error = 0;
	for (size_t i = 0; i < t->count; i++) {
		struct tee_file *f = &t->files[i];

		/* A file that cannot take the last bytes may say so only when it is closed. */
		if (f->path && close(f->fd) != 0 && f->error == 0)
			f->error = errno;
		f->fd = -1;
		complete = is_complete(f) && complete;
	}
	return complete;
}

void tee_take_back(struct tee *t)
{
	join_all(t); /* those that have started use their descriptors */
	/* First those of files that were there, or that two of them have in common. */
	for (int created = 0; created < 2; created++) {
		for (size_t i = 0; i < t->count; i++) {
			struct tee_file *f = &t->files[i];

			if (!f->path || f->created != (created != 0))
				continue;
			if (f->created)
				output_take_back(f->path, f->fd);
			close(f->fd);
			f->fd = -1;
		}
	}
}

void tee_free(struct tee *t)
{
	if (!t)
		return;
	join_all(t);
	for (size_t i = 0; i < t->count; i++)
		if (t->files[i].path && t->files[i].fd >= 0)
			close(t->files[i].fd);
	q_pipe_destroy(t->pipe);
	free(t);
}
