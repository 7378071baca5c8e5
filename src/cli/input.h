/* SPDX-License-Identifier: Apache-2.0 */
/* input.h - the FILE arguments, one after another: opens them, reads them, knows their sizes. */
#ifndef GPUQ_CLI_INPUT_H
#define GPUQ_CLI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* An open file. */
struct input_file {
	int fd;          /* -1: not open */
	uint32_t index;  /* of its name */
	bool waits;      /* reading may block: poll first */
	bool shared;     /* opening it again gives no other position: one reader at a time */
	uint64_t bytes;  /* its size when it is a regular one, else 0 */
	uint64_t offset; /* bytes read of it */
};

#define INPUT_SINKS 67 /* the output, the standard error, the trace, and 64 of --tee */

struct input {
	char *const *names;
	size_t count;
	size_t next;         /* the next to open */
	uint64_t bytes_read; /* of all files */
	/* files that are written to while the input is read, and must not be part of it */
	struct stat sinks[INPUT_SINKS];
	size_t sink_count;
};

enum input_open {
	INPUT_OPENED,
	INPUT_UNOPENED, /* errno says why; out->index is the file */
	INPUT_IS_SINK,  /* it is written to: what is read would never end. out->index as well */
};

enum input_step {
	INPUT_BYTES, /* *out_bytes were read */
	INPUT_END,   /* the file has ended */
	INPUT_AGAIN, /* nothing there yet, or a signal came: look around, then try again */
	INPUT_ERROR, /* errno says why */
};

/** `names` are `count` arguments; "-" is the standard input. */
void input_init(struct input *in, char *const *names, size_t count);

/** What is written to `fd` is not read. Of no effect where no file can be meant (pipe, /dev/null).
 */
void input_add_sink(struct input *in, int fd);

/** The first name that is the file `st` says; NULL: none is. */
const char *input_find(const struct input *in, const struct stat *st);

static inline bool input_is_exhausted(const struct input *in)
{
	return in->next == in->count;
}

/** Open the next file. */
enum input_open input_open_next(struct input *in, struct input_file *out);

/** There is something to read, or the end. */
bool input_is_ready(const struct input_file *file);

/** Read once, at most `room` bytes. */
enum input_step input_read(struct input *in, struct input_file *file, void *to, size_t room,
			   size_t *out_bytes);

/** Close it, if it is open. */
void input_close(struct input_file *file);

/** Whether both are one file: a regular one or a block device, under whatever names. */
bool input_same_file(const struct stat *a, const struct stat *b);

/** Somebody types part of it on a terminal. */
bool input_is_typed(const struct input *in);

/** Bytes in all files together; false when one is not a regular file, so that nobody knows. */
bool input_total(const struct input *in, uint64_t *out_bytes);

/* The files before they are opened. */
struct input_survey {
	uint64_t largest; /* bytes of the largest regular file */
	bool has_empty;   /* one is empty, or does not tell its size, as those of /proc do not */
	bool has_unknown; /* one is no regular file: nobody knows how much will come */
};

void input_look(const struct input *in, struct input_survey *out);

/** Bytes that name `index` has to give; 0 for what is not a regular file. */
uint64_t input_bytes_of(const struct input *in, size_t index);

#endif /* GPUQ_CLI_INPUT_H */
