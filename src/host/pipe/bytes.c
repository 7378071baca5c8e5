/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.c - copying into a pipe's memory and out of it.
 *
 * Where the policy keeps what is not read, nobody writes bytes that a reader may be at, so both
 * sides use memcpy(). Where it overwrites (Q_PIPE_DROP_HISTORY, Q_PIPE_EVICT), a reader may be at
 * bytes that are being written. Then both sides move whole words of 8 bytes, each with an order
 * that makes a reader which meets a new word also see `begin` moved past the old one. The first and
 * last word of a copy may hold other bytes of the stream as well: the writer, who alone writes,
 * stores them as they are.
 */
#include "host/pipe/bytes.h"

#include <string.h>

enum { WORD = 8 };

/* Write k bytes at byte `shift` of a word. */
static void put_part(uint64_t *word, size_t shift, const uint8_t *from, size_t k)
{
	uint64_t value = gq_load_relaxed_u64(word);

	memcpy((uint8_t *)&value + shift, from, k);
	gq_store_release_u64(word, value); /* [pipe.overwrite] */
}

static void get_part(const uint64_t *word, size_t shift, uint8_t *to, size_t k)
{
	const uint64_t value = gq_load_acquire_u64(word); /* [pipe.copy] */

	memcpy(to, (const uint8_t *)&value + shift, k);
}

/* How many of n bytes at `at` stand before the next border of words, if they do not begin at one.
 */
static size_t before_border(uint64_t at, uint64_t n)
{
	const size_t k = (WORD - at % WORD) % WORD;

	return k < n ? k : (size_t)n;
}

static void put_words(uint8_t *data, uint64_t at, const uint8_t *from, uint64_t n)
{
	uint64_t *word = (uint64_t *)(void *)data + at / WORD;
	const size_t first = before_border(at, n);
	uint64_t value;

	if (first != 0) {
		put_part(word++, at % WORD, from, first);
		from += first;
		n -= first;
	}
	for (; n >= WORD; n -= WORD, from += WORD) {
		memcpy(&value, from, WORD);
		gq_store_release_u64(word++, value); /* [pipe.overwrite] */
	}
	if (n != 0)
		put_part(word, 0, from, (size_t)n);
}

static void get_words(const uint8_t *data, uint64_t at, uint8_t *to, uint64_t n)
{
	const uint64_t *word = (const uint64_t *)(const void *)data + at / WORD;
	const size_t first = before_border(at, n);
	uint64_t value;

	if (first != 0) {
		get_part(word++, at % WORD, to, first);
		to += first;
		n -= first;
	}
	for (; n >= WORD; n -= WORD, to += WORD) {
		value = gq_load_acquire_u64(word++); /* [pipe.copy] */
		memcpy(to, &value, WORD);
	}
	if (n != 0)
		get_part(word, 0, to, (size_t)n);
}

void gq__pipe_put(const struct gq_pipe_source *s, uint64_t offset, const uint8_t *from, uint64_t n)
{
	while (n != 0) {
		const uint64_t at = offset % s->capacity;
		const uint64_t k = n < s->capacity - at ? n : s->capacity - at;

		if (gq_pipe_overwrites(s))
			put_words(s->data, at, from, k);
		else
			memcpy(s->data + at, from, k);
		offset += k;
		from += k;
		n -= k;
	}
}

void gq__pipe_get(const struct gq_pipe_source *s, uint64_t offset, uint8_t *to, uint64_t n)
{
	while (n != 0) {
		const uint64_t at = offset % s->capacity;
		const uint64_t k = n < s->capacity - at ? n : s->capacity - at;

		if (gq_pipe_overwrites(s))
			get_words(s->data, at, to, k);
		else
			memcpy(to, s->data + at, k);
		offset += k;
		to += k;
		n -= k;
	}
}
