/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - results on standard output: formats them, buffers them, reports what goes wrong. */
#ifndef GPUQ_CLI_OUTPUT_H
#define GPUQ_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum output_format { OUTPUT_HEX, OUTPUT_RAW, OUTPUT_TEXT };

struct output {
	int fd;
	enum output_format format;
	char separator; /* behind a text; a newline unless it is set */
	uint8_t *buffer;
	size_t used;
	uint64_t oldest_ns; /* when the first byte in the buffer came */
	bool at_line_start; /* as far as it has been written */
	int error;          /* errno of the write that failed; then nothing is written any more */
	/* Called before something is written: a progress bar has to leave the terminal first. */
	void (*before_write)(void *user);
	void *user;
	/* Not NULL: in place of writing to fd. Returns 0 or an errno value. */
	int (*send)(void *to, const void *bytes, size_t n);
	void *send_to;
};

/**
 * Open a file for results, without changing what is in it.
 * @param out_created  whether it was not there before: then output_take_back() removes it
 * @return a descriptor, or -1: errno
 */
int output_open(const char *path, bool *out_created);

/**
 * What output_open() has created at `path` and nothing was written to: away with it. It stays if
 * somebody else has it open, be it this process by another descriptor: results may be meant for it.
 */
void output_take_back(const char *path, int fd);

/** False: no memory. output_free() is allowed on one that failed, or is zeroed. */
bool output_init(struct output *o, int fd, enum output_format format);
void output_free(struct output *o);

/* Which message a result belongs to, see label.h. */
struct output_label {
	const char *text;
	bool escaped;
};

/**
 * A message's result. Hex ends in a newline, text in the separator; a label comes between, after
 * two spaces, and if it is escaped the line begins with a backslash. Raw has the bytes only.
 * @param label  may be NULL
 * @return false: o->error
 */
bool output_result(struct output *o, const void *result, size_t bytes,
		   const struct output_label *label, uint64_t now_ns);

/** In place of the result of a message that failed: an empty line, raw has nothing. */
bool output_failed(struct output *o, uint64_t now_ns);

/** Write what is buffered. False: o->error. */
bool output_flush(struct output *o);

#endif /* GPUQ_CLI_OUTPUT_H */
