/* SPDX-License-Identifier: Apache-2.0 */
/* input.h - the FILE arguments, one after another: opens them, reads them, knows their sizes. */
#ifndef GPUQ_CLI_INPUT_H
#define GPUQ_CLI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
	char *const *names;
	size_t count;
	size_t current;      /* the open file; when none is open: the last one that was */
	size_t next;         /* the next to open */
	int fd;              /* -1: none is open */
	bool waits;          /* reading may block: poll first */
	uint64_t file_bytes; /* size of the open file when it is a regular one, else 0 */
	uint64_t offset;     /* bytes read of the open file */
	uint64_t bytes_read; /* of all files */
};

enum input_step {
	INPUT_BYTES, /* *out_bytes were read */
	INPUT_END,   /* the file has ended */
	INPUT_AGAIN, /* nothing there yet, or a signal came: look around, then try again */
	INPUT_ERROR, /* errno says why */
};

/** `names` are `count` arguments; "-" is the standard input. */
void input_init(struct input *in, char *const *names, size_t count);

static inline bool input_is_open(const struct input *in)
{
	return in->fd >= 0;
}

static inline bool input_is_exhausted(const struct input *in)
{
	return in->fd < 0 && in->next == in->count;
}

/** Open the next file. False: it cannot be opened, errno says why; it is `current` all the same. */
bool input_open_next(struct input *in);

/** Read once, at most `room` bytes, from the open file. */
enum input_step input_read(struct input *in, void *to, size_t room, size_t *out_bytes);

/** Close the open file, if there is one. */
void input_close(struct input *in);

/** Somebody types part of it on a terminal. */
bool input_is_typed(const struct input *in);

/** Bytes in all files together; false when one is not a regular file, so that nobody knows. */
bool input_total(const struct input *in, uint64_t *out_bytes);

#endif /* GPUQ_CLI_INPUT_H */
