/* SPDX-License-Identifier: Apache-2.0 */
/* input.c - the FILE arguments, one after another: opens them, reads them, knows their sizes. */
#define _GNU_SOURCE
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

void input_init(struct input *in, char *const *names, size_t count)
{
	*in = (struct input){ .names = names, .count = count };
}

static bool is_standard_input(const char *name)
{
	return strcmp(name, "-") == 0;
}

/* False: it is not there, or cannot be looked at. */
static bool look_at(const struct input *in, size_t index, struct stat *out)
{
	const char *name = in->names[index];

	return (is_standard_input(name) ? fstat(STDIN_FILENO, out) : stat(name, out)) == 0;
}

bool input_same_file(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev; /* a device may have several nodes */
	return S_ISREG(a->st_mode) && S_ISREG(b->st_mode) && a->st_dev == b->st_dev &&
	       a->st_ino == b->st_ino;
}

void input_add_sink(struct input *in, int fd)
{
	struct stat st;

	if (in->sink_count < INPUT_SINKS && fstat(fd, &st) == 0 &&
	    (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		in->sinks[in->sink_count++] = st;
}

const char *input_find(const struct input *in, const struct stat *st)
{
	for (size_t i = 0; i < in->count; i++) {
		struct stat its;

		if (look_at(in, i, &its) && input_same_file(&its, st))
			return in->names[i];
	}
	return NULL;
}

/* What is left to read: standard input may be a file that somebody else has read half of. */
static uint64_t remaining(int fd, const struct stat *st)
{
	const off_t at = fd == STDIN_FILENO ? lseek(fd, 0, SEEK_CUR) : 0;

	return at >= 0 && at < st->st_size ? (uint64_t)(st->st_size - at) : 0;
}

enum input_open input_open_next(struct input *in, struct input_file *out)
{
	const size_t index = in->next++;
	const bool standard = is_standard_input(in->names[index]);
	struct stat st;

	*out = (struct input_file){ .fd = STDIN_FILENO, .index = (uint32_t)index, .waits = true };
	/*
	 * O_NONBLOCK: opening a FIFO must not wait for its writer, results are to come out
	 * meanwhile. poll() then does the waiting. It changes nothing for regular files on a disk.
	 */
	if (!standard)
		out->fd = open(in->names[index], O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (out->fd < 0)
		return INPUT_UNOPENED;
	out->shared = true;
	if (fstat(out->fd, &st) != 0)
		return INPUT_OPENED; /* reading it will tell */
	for (size_t i = 0; i < in->sink_count; i++) {
		if (input_same_file(&st, &in->sinks[i])) {
			input_close(out);
			return INPUT_IS_SINK;
		}
	}
	/*
	 * One that seems empty may be made up by the kernel as it is read, and a few of these wait
	 * for what is to be said next (/proc/kmsg). poll() knows.
	 */
	if (S_ISREG(st.st_mode)) {
		out->bytes = remaining(out->fd, &st);
		out->waits = st.st_size == 0;
	} else if (S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)) {
		out->waits = false;
	}
	out->shared = standard || out->waits;
	return INPUT_OPENED;
}

bool input_is_ready(const struct input_file *file)
{
	struct pollfd readable = { .fd = file->fd, .events = POLLIN };

	return poll(&readable, 1, 0) > 0;
}

enum input_step input_read(struct input *in, struct input_file *file, void *to, size_t room,
			   size_t *out_bytes)
{
	const ssize_t got = read(file->fd, to, room);

	*out_bytes = 0;
	if (got < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			return INPUT_AGAIN;
		return INPUT_ERROR;
	}
	if (got == 0)
		return INPUT_END;
	*out_bytes = (size_t)got;
	file->offset += (uint64_t)got;
	in->bytes_read += (uint64_t)got;
	return INPUT_BYTES;
}

void input_close(struct input_file *file)
{
	if (file->fd > STDIN_FILENO)
		close(file->fd);
	file->fd = -1;
}

bool input_is_typed(const struct input *in)
{
	for (size_t i = 0; i < in->count; i++) {
		if (is_standard_input(in->names[i]))
			return isatty(STDIN_FILENO) != 0;
	}
	return false;
}

uint64_t input_bytes_of(const struct input *in, size_t index)
{
	const bool standard = is_standard_input(in->names[index]);
	struct stat st;

	if (!look_at(in, index, &st) || !S_ISREG(st.st_mode))
		return 0;
	return remaining(standard ? STDIN_FILENO : -1, &st);
}

bool input_total(const struct input *in, uint64_t *out_bytes)
{
	uint64_t total = 0;

	for (size_t i = 0; i < in->count; i++) {
		struct stat st;

		if (!look_at(in, i, &st) || S_ISDIR(st.st_mode))
			continue; /* it will not be read either */
		if (!S_ISREG(st.st_mode))
			return false;
		total += input_bytes_of(in, i);
	}
	*out_bytes = total;
	return true;
}

void input_look(const struct input *in, struct input_survey *out)
{
	*out = (struct input_survey){ 0 };
	for (size_t i = 0; i < in->count; i++) {
		struct stat st;
		uint64_t bytes;

		if (!look_at(in, i, &st) || S_ISDIR(st.st_mode))
			continue;
		bytes = input_bytes_of(in, i);
		if (!S_ISREG(st.st_mode))
			out->has_unknown = true;
		else if (st.st_size == 0)
			out->has_empty = true;
		else if (bytes > out->largest)
			out->largest = bytes;
	}
}
