/* SPDX-License-Identifier: Apache-2.0 */
/* input.c - the FILE arguments, one after another: opens them, reads them, knows their sizes. */
#define _GNU_SOURCE
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void input_init(struct input *in, char *const *names, size_t count)
{
	*in = (struct input){ .names = names, .count = count, .fd = -1 };
}

static bool is_standard_input(const char *name)
{
	return strcmp(name, "-") == 0;
}

/* What is left to read: standard input may be a file that somebody else has read half of. */
static uint64_t remaining(int fd, const struct stat *st)
{
	const off_t at = fd == STDIN_FILENO ? lseek(fd, 0, SEEK_CUR) : 0;

	return at >= 0 && at < st->st_size ? (uint64_t)(st->st_size - at) : 0;
}

bool input_open_next(struct input *in)
{
	struct stat st;

	in->current = in->next++;
	in->offset = 0;
	in->file_bytes = 0;
	/*
	 * O_NONBLOCK: opening a FIFO must not wait for its writer, results are to come out
	 * meanwhile. poll() then does the waiting. It changes nothing for regular files.
	 */
	if (is_standard_input(in->names[in->current]))
		in->fd = STDIN_FILENO;
	else
		in->fd = open(in->names[in->current], O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (in->fd < 0)
		return false;
	in->waits = true;
	if (fstat(in->fd, &st) == 0 &&
	    (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode))) {
		in->waits = false;
		if (S_ISREG(st.st_mode))
			in->file_bytes = remaining(in->fd, &st);
	}
	return true;
}

enum input_step input_read(struct input *in, void *to, size_t room, size_t *out_bytes)
{
	const ssize_t got = read(in->fd, to, room);

	*out_bytes = 0;
	if (got < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			return INPUT_AGAIN;
		return INPUT_ERROR;
	}
	if (got == 0)
		return INPUT_END;
	*out_bytes = (size_t)got;
	in->offset += (uint64_t)got;
	in->bytes_read += (uint64_t)got;
	return INPUT_BYTES;
}

void input_close(struct input *in)
{
	if (in->fd > STDIN_FILENO)
		close(in->fd);
	in->fd = -1;
}

bool input_is_typed(const struct input *in)
{
	for (size_t i = 0; i < in->count; i++) {
		if (is_standard_input(in->names[i]))
			return isatty(STDIN_FILENO) != 0;
	}
	return false;
}

bool input_total(const struct input *in, uint64_t *out_bytes)
{
	uint64_t total = 0;

	for (size_t i = 0; i < in->count; i++) {
		const bool standard = is_standard_input(in->names[i]);
		struct stat st;

		if ((standard ? fstat(STDIN_FILENO, &st) : stat(in->names[i], &st)) != 0)
			continue; /* it will not be read either */
		if (S_ISREG(st.st_mode))
			total += remaining(standard ? STDIN_FILENO : -1, &st);
		else if (!S_ISDIR(st.st_mode))
			return false;
	}
	*out_bytes = total;
	return true;
}
