/* SPDX-License-Identifier: Apache-2.0 */
/* split.c - cuts a stream of bytes into messages: lines, records, pieces of one size. */
#include "split.h"

#include <stdlib.h>
#include <string.h>

/* Large enough that one read() feeds many messages; small enough to stay in the cache. */
#define MIN_BUFFER_BYTES ((size_t)256 * 1024)

bool split_init(struct split *s, enum split_mode mode, size_t piece_bytes, size_t limit_bytes)
{
	*s = (struct split){ .mode = mode, .piece_bytes = piece_bytes, .limit = limit_bytes };
	s->separator = mode == SPLIT_NUL ? '\0' : '\n';
	/* Two messages and some: an unfinished one is moved at most once per buffer read. */
	s->size = 2 * limit_bytes + MIN_BUFFER_BYTES / 4;
	if (s->size < MIN_BUFFER_BYTES)
		s->size = MIN_BUFFER_BYTES;
	s->buffer = malloc(s->size);
	return s->buffer != NULL;
}

void split_free(struct split *s)
{
	free(s->buffer);
	s->buffer = NULL;
}

void split_begin(struct split *s)
{
	s->start = s->end;
	s->scanned = s->end;
	s->dropped = 0;
	s->number = s->mode == SPLIT_BYTES ? 0 : 1;
	s->ended = false;
}

uint8_t *split_room(struct split *s, size_t *out_bytes)
{
	if (s->start > 0) {
		memmove(s->buffer, s->buffer + s->start, s->end - s->start);
		s->scanned -= s->start;
		s->end -= s->start;
		s->start = 0;
	}
	*out_bytes = s->size - s->end;
	return s->buffer + s->end;
}

void split_filled(struct split *s, size_t bytes)
{
	s->end += bytes;
}

void split_end(struct split *s)
{
	s->ended = true;
}

static void drop_buffered(struct split *s)
{
	s->dropped += s->end - s->start;
	s->start = s->end;
	s->scanned = s->end;
}

static enum split_step next_line(struct split *s, struct split_piece *out)
{
	const uint8_t *found = NULL;
	size_t stop = s->end;

	if (s->scanned < s->end)
		found = memchr(s->buffer + s->scanned, s->separator, s->end - s->scanned);
	if (found) {
		stop = (size_t)(found - s->buffer);
	} else if (!s->ended) {
		s->scanned = s->end;
		if (s->end - s->start > s->limit)
			drop_buffered(s);
		return SPLIT_MORE;
	} else if (s->start == s->end && s->dropped == 0) {
		return SPLIT_DONE;
	}
	out->data = s->buffer + s->start;
	out->bytes = s->dropped + (stop - s->start);
	out->number = s->number++;
	s->dropped = 0;
	s->start = found ? stop + 1 : stop;
	s->scanned = s->start;
	return out->bytes > s->limit ? SPLIT_TOO_LONG : SPLIT_MESSAGE;
}

static enum split_step next_piece(struct split *s, struct split_piece *out)
{
	size_t bytes = s->end - s->start;

	if (bytes >= s->piece_bytes)
		bytes = s->piece_bytes;
	else if (!s->ended)
		return SPLIT_MORE;
	else if (bytes == 0)
		return SPLIT_DONE;
	out->data = s->buffer + s->start;
	out->bytes = bytes;
	out->number = s->number;
	s->number += bytes;
	s->start += bytes;
	return SPLIT_MESSAGE;
}

enum split_step split_next(struct split *s, struct split_piece *out)
{
	return s->mode == SPLIT_BYTES ? next_piece(s, out) : next_line(s, out);
}
