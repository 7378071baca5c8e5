/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - results on standard output: formats them, buffers them, reports what goes wrong. */
#define _GNU_SOURCE
#include "output.h"

#include "program/write_out.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)256 * 1024)

int output_open(const char *path, bool *out_created)
{
	const int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY;
	int fd = open(path, flags);

	*out_created = false;
	if (fd >= 0 || errno != ENOENT)
		return fd;
	fd = open(path, flags | O_CREAT | O_EXCL, 0666);
	*out_created = fd >= 0;
	if (fd >= 0 || errno != EEXIST)
		return fd;
	return open(path, flags | O_CREAT, 0666); /* a link that leads nowhere yet */
}

/*
 * Whether no other descriptor of the file is open, of this process or another: only then is there a
 * lease for writing. Nor is there one where the file system knows no leases.
 */
static bool is_ours_alone(int fd)
{
	/* It comes to who has a lease when somebody opens the file, and would end this process. */
	void (*const before)(int) = signal(SIGIO, SIG_IGN);
	const bool is = fcntl(fd, F_SETLEASE, F_WRLCK) == 0;

	if (is)
		(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	(void)signal(SIGIO, before);
	return is;
}

void output_take_back(const char *path, int fd)
{
	struct stat ours;
	struct stat there;

	if (fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	    ours.st_ino == there.st_ino && ours.st_size == 0 && is_ours_alone(fd))
		(void)unlink(path);
}

bool output_init(struct output *o, int fd, enum output_format format)
{
	*o = (struct output){ .fd = fd, .format = format, .separator = '\n' };
	o->at_line_start = true;
	o->buffer = malloc(BUFFER_BYTES);
	return o->buffer != NULL;
}

void output_free(struct output *o)
{
	free(o->buffer);
	o->buffer = NULL;
}

bool output_flush(struct output *o)
{
	if (o->error != 0)
		return false;
	if (o->used == 0)
		return true;
	if (o->before_write)
		o->before_write(o->user);
	if (o->send) {
		o->error = o->send(o->send_to, o->buffer, o->used);
	} else {
		o->error = write_out(o->fd, o->buffer, o->used);
		if (o->error != 0)
			return false;
	}
	o->at_line_start = o->buffer[o->used - 1] == '\n';
	o->used = 0;
	return o->error == 0;
}

/* Room for at least one byte; *out_room says how much. */
static bool make_room(struct output *o, uint64_t now_ns, size_t *out_room)
{
	if (o->used == BUFFER_BYTES && !output_flush(o))
		return false;
	if (o->used == 0)
		o->oldest_ns = now_ns;
	*out_room = BUFFER_BYTES - o->used;
	return o->error == 0;
}

static bool put_bytes(struct output *o, const uint8_t *from, size_t bytes, uint64_t now_ns)
{
	while (bytes > 0) {
		size_t room;

		if (!make_room(o, now_ns, &room))
			return false;
		if (room > bytes)
			room = bytes;
		memcpy(o->buffer + o->used, from, room);
		o->used += room;
		from += room;
		bytes -= room;
	}
	return true;
}

static bool put_hex(struct output *o, const uint8_t *from, size_t bytes, uint64_t now_ns)
{
	static const char digits[] = "0123456789abcdef";

	while (bytes > 0) {
		size_t room;

		/* digits come in pairs: never leave an odd byte of room behind */
		if (BUFFER_BYTES - o->used < 2 && !output_flush(o))
			return false;
		if (!make_room(o, now_ns, &room))
			return false;
		room /= 2;
		if (room > bytes)
			room = bytes;
		for (size_t i = 0; i < room; i++) {
			o->buffer[o->used++] = (uint8_t)digits[from[i] >> 4];
			o->buffer[o->used++] = (uint8_t)digits[from[i] & 15];
		}
		from += room;
		bytes -= room;
	}
	return true;
}

static bool put_char(struct output *o, char c, uint64_t now_ns)
{
	return put_bytes(o, (const uint8_t *)&c, 1, now_ns);
}

static char end_of(const struct output *o)
{
	if (o->format == OUTPUT_TEXT)
		return o->separator;
	return '\n';
}

bool output_result(struct output *o, const void *result, size_t bytes,
		   const struct output_label *label, uint64_t now_ns)
{
	if (o->format == OUTPUT_RAW)
		return put_bytes(o, result, bytes, now_ns);
	if (label && label->escaped && !put_char(o, '\\', now_ns))
		return false;
	if (!(o->format == OUTPUT_HEX ? put_hex : put_bytes)(o, result, bytes, now_ns))
		return false;
	if (label && (!put_bytes(o, (const uint8_t *)"  ", 2, now_ns) ||
		      !put_bytes(o, (const uint8_t *)label->text, strlen(label->text), now_ns)))
		return false;
	return put_char(o, end_of(o), now_ns);
}

bool output_failed(struct output *o, uint64_t now_ns)
{
	if (o->format == OUTPUT_RAW)
		return o->error == 0;
	return put_char(o, end_of(o), now_ns);
}
